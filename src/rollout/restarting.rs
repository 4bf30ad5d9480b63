//! After the daemon was down: every request that was open is asked again under a new number, and nothing is taken for
//! done that was not confirmed.

use super::{
    advising::Counsel,
    desk::Desk,
    phase::{Goal, Phase},
    state::Rollout,
};
use crate::domain::Autonomy;

impl Rollout {
    /// The daemon started again. Time in which nobody could listen does not count as silence.
    pub(super) fn restarted(&mut self, desk: &mut Desk<'_>) {
        // Nor does it count against the patience of the stage.
        self.wait_longer(desk.now.since(self.measured_through.max(self.patience_from)));
        if self.listening_since.is_some() {
            self.listening_since = Some(desk.now);
        }
        // It is no bake time either: nobody saw the canary meanwhile.
        if self.stage.is_some() && matches!(self.phase, Phase::Baking | Phase::Shifting { goal: Goal::Restore, .. }) {
            self.dark = self.dark.saturating_add(desk.now.since(self.measured_through));
        }
        self.counsel.restarted(desk.now);
        self.ask_history_again(desk);
        match self.phase.clone() {
            Phase::Queued | Phase::AwaitingRevision { .. } | Phase::Done(_) | Phase::Quarantined { .. } => {}
            Phase::Drafting(_) => self.begin(desk),
            Phase::Ready { .. } => {
                // A first stage that was never confirmed must not linger.
                self.restore(desk);
            }
            // A service that was only observed, and now is not, begins at its first stage.
            Phase::Baking if self.exposure.is_none() && desk.policy.autonomy != Autonomy::Observe => {
                (self.stage, self.listening_since, self.traffic_since) = (None, None, None);
                self.entered.clear();
                self.counsel = Counsel::default();
                self.baselines = super::baseline::Baselines::default();
                self.records.iter_mut().for_each(super::record::Record::stage_began);
                self.phase = Phase::Ready { since: desk.now };
                self.restore(desk);
            }
            Phase::Baking if self.exposure.is_none() => {
                self.measured_through = desk.now;
                self.measure(desk);
            }
            Phase::Shifting { goal: Goal::Retreat, .. } => self.retreat(desk),
            Phase::Shifting { goal: Goal::Enter(_) | Goal::Restore, .. } | Phase::Baking => self.restore(desk),
            Phase::Draining { .. } => {
                let failures = self.failures;
                self.retreat(desk);
                self.failures = failures;
            }
        }
    }
}
