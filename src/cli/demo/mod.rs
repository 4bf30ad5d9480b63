//! What the demonstration watches: a small real service, and visitors who use it over real connections.

pub mod shop;
pub mod visitors;
