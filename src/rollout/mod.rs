//! The state machine of one rollout, the fleet of them, the judge, and the one loop.

mod drive;
mod event;
mod fleet;
mod policy;
mod view;

pub use drive::{World, run};
pub use event::{Effect, Event, FetchError, ShiftError};
pub use fleet::Fleet;
pub use policy::{Deployed, Policy, ServicePolicy, Stage};
pub use view::{CheckView, FleetView, Moment, RolloutView, StageView};
