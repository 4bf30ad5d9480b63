//! Checks from a diff without a model.

use super::Draft;
use crate::domain::{Catalogue, Diff, Text};

/// Reads the diff and proposes checks from the catalogue.
pub fn draft(_diff: &Diff, _catalogue: &Catalogue) -> Draft {
    Draft::empty(Text::new("nothing read"))
}
