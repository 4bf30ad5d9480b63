//! The live world: a real clock, the inbox, and the dispatch of effects to the wings.

mod handle;

pub use handle::{Closed, Handle, Message};
