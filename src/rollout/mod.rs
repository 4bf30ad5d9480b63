//! The state machine of one rollout, the fleet of them, the judge, and the one loop.
//!
//! In reading order: what can happen and be asked (`event`), what the operator wants (`policy`), the loop (`drive`), the
//! fleet, one rollout (`state`, and what it does in `planning`, `shifting`, `measuring`, `deciding`, `restarting`), what
//! a model's word counts in it (`advising`, `narrating`; `intended` effects; `past` and `spending` for the next), what
//! stands in where there is no control (`baseline`, `expecting`, `standing_in`), and how it is seen (`view`, `show`).

mod advising;
mod balance;
mod baseline;
mod deciding;
mod desk;
mod drive;
mod event;
mod expecting;
mod fleet;
mod intake;
mod intended;
mod judge;
mod lineage;
mod measuring;
mod memory;
mod narrating;
mod past;
mod phase;
mod placement;
mod planning;
mod policy;
mod record;
mod rehearsal;
mod restarting;
mod shifting;
mod show;
mod spending;
mod standing_in;
mod state;
mod view;
mod warm_up;

pub use baseline::{Learnt, foreseen};
pub use drive::{World, run};
pub use event::{Effect, Event, FetchError, ShiftError};
pub use expecting::{HISTORY_REACH, Switch, expect, has_no_level};
pub use fleet::Fleet;
pub use intended::Intended;
pub use narrating::Explanation;
pub use policy::{Deployed, ModelMay, ModelPolicy, Policy, RiskBake, ServicePolicy, Stage};
pub use spending::{Account, Spent};
pub use view::{BaselineView, CheckView, FleetView, Moment, RolloutView, Sight, StageView, TrialView};
