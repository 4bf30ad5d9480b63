//! What kind of file a path names, for rules, for history and for a model.

use crate::domain::PathClass;

/// The class of a path; [`PathClass::Other`] where it says nothing.
pub fn path_class(_path: &str) -> PathClass {
    PathClass::Other
}
