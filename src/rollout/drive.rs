//! The one loop, for every world.

use std::ops::ControlFlow;

use super::{Effect, Event, Fleet};
use crate::domain::{Stamped, Timestamp};

/// Where a fleet lives: the daemon's live world, or the simulator's.
pub trait World {
    /// What happened next, in order, or [`Event::WokeUp`] once `until` has come; several events where several are there.
    /// `None` ends the run.
    fn wait(&mut self, until: Option<Timestamp>) -> Option<Vec<Stamped<Event>>>;

    /// Makes the events durable, all or none, before anything is done about them. `Break` ends the run: what cannot be
    /// recorded is not done.
    fn commit(&mut self, entries: &[Stamped<Event>]) -> ControlFlow<()>;

    /// Starts the effect. Its reply comes back through `wait`.
    fn perform(&mut self, effect: Effect);

    /// Sees the fleet as it stands after each batch: for screens, and for snapshots of the journal.
    fn observe(&mut self, fleet: &Fleet);
}

/// Runs a fleet in a world until the world ends.
pub fn run(fleet: &mut Fleet, world: &mut impl World) {
    while let Some(entries) = world.wait(fleet.next_wakeup()) {
        if world.commit(&entries).is_break() {
            return;
        }
        for entry in &entries {
            for effect in fleet.handle(entry) {
                world.perform(effect);
            }
        }
        world.observe(fleet);
    }
}
