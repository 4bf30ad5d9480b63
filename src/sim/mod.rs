//! The virtual world: a jumping clock, a generated service and seeded faults around the same loop and the same fleet as
//! the daemon's.
//!
//! A run is a seed: [`run`] makes a world from it ([`scenario`]), lets it fail in every way it knows until its faults
//! stop, and then waits for it to come to rest. [`watch`] is an oracle that shares no code with the rails: it sees
//! what was measured and what is asked of traffic, and says when something was done that must never be done.

pub mod scenario;
pub mod watch;

mod history;
mod model;
mod service;
mod traffic;
mod world;

pub use scenario::{Faults, Scenario};
pub use world::{Ended, run, run_cut};
