//! Strangers' text, made safe to pass on: secrets masked, the invisible made visible, markdown defused.
//!
//! Diffs, titles, paths, labels and a model's own words are written by people who may wish us harm. Nothing here makes
//! them true; it makes them what they look like. Whatever leaves the process towards a model, a forge, a chat or the
//! journal has been through [`masked`]; whatever a model is shown has been through [`visible`] after that; whatever is shown
//! to people as markdown has been through [`markdown`].

mod markdown;
mod secrets;
mod visible;

pub use markdown::{WORDS_BYTES_MAX, markdown};
pub use secrets::{Masked, masked};
pub use visible::{CUT_MARK, hides, visible, visible_line};
