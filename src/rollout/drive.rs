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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{domain::Text, sim::Scenario};

    /// Writes down the order in which the loop calls it; its journal takes two batches and then breaks.
    struct Witness {
        batches: Vec<Vec<Stamped<Event>>>,
        calls: Vec<&'static str>,
    }

    impl World for Witness {
        fn wait(&mut self, _until: Option<Timestamp>) -> Option<Vec<Stamped<Event>>> {
            (!self.batches.is_empty()).then(|| self.batches.remove(0))
        }

        fn commit(&mut self, _entries: &[Stamped<Event>]) -> ControlFlow<()> {
            self.calls.push("commit");
            let commits = self.calls.iter().filter(|call| **call == "commit").count();
            if commits > 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }

        fn perform(&mut self, _effect: Effect) {
            self.calls.push("perform");
        }

        fn observe(&mut self, _fleet: &Fleet) {
            self.calls.push("observe");
        }
    }

    #[test]
    fn nothing_is_done_before_it_is_durable_nor_after_the_journal_breaks() {
        let scenario = Scenario::from_seed(3);
        let at = Timestamp::from_millis(1);
        let merged = |number| Stamped {
            at,
            event: Event::PullRequestMerged {
                delivery: Text::new(format!("d{number}")),
                repository: scenario.policy.services.values().next().unwrap().repository.clone(),
                pull_request: number,
                branch: "main".into(),
                into_default: true,
            },
        };
        let started = Stamped { at, event: Event::Started { policy: Arc::clone(&scenario.policy) } };
        let batches = vec![vec![started], vec![merged(1), merged(2)], vec![merged(3)]];
        let mut witness = Witness { batches, calls: Vec::new() };
        run(&mut Fleet::default(), &mut witness);
        assert_eq!(witness.calls, ["commit", "observe", "commit", "perform", "perform", "observe", "commit"]);
    }
}
