//! Moving traffic: what was cleared is asked for, read back, and asked for again until it is so. Every attempt is
//! cleared anew.

use std::time::Duration;

use super::{
    advising::Counsel,
    deciding::Asking,
    desk::Desk,
    event::{Effect, ShiftError},
    phase::{Asked, Goal, Phase},
    state::Rollout,
};
use crate::{
    domain::{Exposure, Outcome, RequestId, Severity, Shift, Verdict},
    rails::{self, Cleared},
};

/// Failures beyond the last attempt after which a person is called again: an hour, at twenty seconds each.
const PAGE_EVERY_FAILURES: u32 = 180;
/// The first pause after a failed attempt; it doubles with each, up to the time a reply may take.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

impl Rollout {
    /// Asks for a cleared move.
    pub(super) fn ask_shift(&mut self, goal: Goal, shift: Cleared<Shift>, desk: &mut Desk<'_>) {
        let request = desk.new_request();
        let to = shift.get().to.clone();
        if self.failures == 0 {
            let what = if goal == Goal::Retreat { "taking traffic back" } else { "moving traffic" };
            self.note(desk.now, format!("{what} to {to}"));
        }
        self.phase = Phase::Shifting {
            goal,
            to,
            asked: Asked { request: Some(request), until: desk.now + desk.policy.reply_within },
        };
        desk.effects.push(Effect::Shift { request, shift });
    }

    /// Whether `request` is the shift it waits for.
    pub(super) fn awaits_shift(&self, request: RequestId) -> bool {
        matches!(&self.phase, Phase::Shifting { asked, .. } if Self::answers(Some(*asked), request))
    }

    /// The actuator answered. What it read back must be what was asked for; anything else is a failed attempt.
    pub(super) fn shifted(&mut self, read: Result<Exposure, ShiftError>, desk: &mut Desk<'_>) {
        let Phase::Shifting { goal, to, .. } = self.phase.clone() else { return };
        match read {
            Ok(read) if read == to => {
                self.failures = 0;
                self.exposed(desk.now, read);
                self.arrived(goal, desk);
            }
            Ok(read) => self.attempt_failed(goal, format!("asked for {to}, read back {read}"), false, desk),
            Err(ShiftError::Unavailable(why)) => self.attempt_failed(goal, why.to_string(), false, desk),
            Err(ShiftError::Refused(why)) => self.attempt_failed(goal, why.to_string(), true, desk),
        }
    }

    /// The move is confirmed.
    fn arrived(&mut self, goal: Goal, desk: &mut Desk<'_>) {
        match goal {
            Goal::Enter(stage) => {
                self.stage = Some(stage);
                self.entered.truncate(stage);
                self.entered.push(desk.now);
                self.patience_from = desk.now;
                self.counsel = Counsel::default();
                let requests_per_second = self.requests_per_second();
                self.records.iter_mut().for_each(super::record::Record::stage_began);
                self.dark = Duration::ZERO;
                self.warm_up.stage_began();
                self.balance.stage_began();
                self.choose_baselines(requests_per_second, desk);
                self.hold(desk);
                let everyone = if self.at_last_stage() { ", everyone" } else { "" };
                self.announce(desk, Severity::Info, format!("{} has the new version{everyone}", self.exposure));
            }
            Goal::Restore => self.hold(desk),
            Goal::Retreat => {
                self.phase = Phase::Draining { until: desk.now + desk.policy.drained_within };
                self.note(desk.now, "traffic is at 0%; waiting until the canary's requests end");
                self.measured_through = desk.now;
                self.measure(desk);
            }
        }
    }

    /// Holds the stage that is in force, or waits for the first. Measuring begins anew: a window across two exposures
    /// would compare traffic splits that never were.
    fn hold(&mut self, desk: &mut Desk<'_>) {
        if self.stage.is_none() {
            self.phase = Phase::Ready { since: desk.now };
            self.wait_ready(desk);
            return;
        }
        self.end_blocks(desk.policy);
        self.listening_since.get_or_insert(desk.now);
        self.traffic_since.get_or_insert(desk.now);
        self.phase = Phase::Baking;
        self.measured_through = desk.now;
        self.measure(desk);
    }

    /// One attempt failed. A refusal of an advance, or too many failures of one, turns it into a retreat. A retreat is
    /// asked for until it is confirmed, for there is nothing safer to do; one that the actuator refuses is a person's.
    fn attempt_failed(&mut self, goal: Goal, why: String, refused: bool, desk: &mut Desk<'_>) {
        self.failures = self.failures.saturating_add(1);
        let out_of_attempts = self.failures >= desk.policy.attempts_max;
        self.tell_of_failure(&why, refused && self.failures == 1, desk);
        match goal {
            Goal::Enter(_) if refused || out_of_attempts => {
                self.instead_of_advance(Asking::Machine(Verdict::Rollback), desk);
                return;
            }
            Goal::Restore | Goal::Retreat if refused && out_of_attempts => {
                let why = format!("the actuator refuses to move traffic: {why}");
                self.end(desk, Outcome::HandedOver, Severity::Page, why);
                return;
            }
            Goal::Enter(_) | Goal::Restore | Goal::Retreat => {}
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        if let Phase::Shifting { asked, .. } = &mut self.phase {
            *asked = Asked { request: None, until: desk.now + doubled.min(desk.policy.reply_within) };
        }
    }

    /// Says that traffic is not moving: at the first failure, when attempts run out, and now and then from there on.
    fn tell_of_failure(&mut self, why: &str, is_urgent: bool, desk: &mut Desk<'_>) {
        let beyond = self.failures.saturating_sub(desk.policy.attempts_max);
        let out_of_attempts = self.failures >= desk.policy.attempts_max;
        if is_urgent || (out_of_attempts && beyond.is_multiple_of(PAGE_EVERY_FAILURES)) {
            self.announce(desk, Severity::Page, format!("traffic could not be moved: {why}"));
        } else if self.failures == 1 {
            self.announce(desk, Severity::Warning, format!("traffic could not be moved: {why}"));
        }
    }

    /// No confirmation came in time, or the pause after a failed attempt is over.
    pub(super) fn shift_is_due(&mut self, desk: &mut Desk<'_>) {
        let Phase::Shifting { goal, asked, .. } = self.phase.clone() else { return };
        if asked.request.is_some() {
            self.failures = self.failures.saturating_add(1);
            self.tell_of_failure("no confirmation came in time", false, desk);
            if self.failures >= desk.policy.attempts_max && matches!(goal, Goal::Enter(_)) {
                self.instead_of_advance(Asking::Machine(Verdict::Rollback), desk);
                return;
            }
        }
        match goal {
            Goal::Retreat => self.retreat(desk),
            Goal::Restore => self.restore(desk),
            // What was cleared once is not cleared for ever: the rails are asked again, and what they refuse is undone.
            Goal::Enter(_) => self.instead_of_advance(Asking::Findings, desk),
        }
    }

    /// An advance was not confirmed: decides anew, and where nothing else is to be done puts back what was in force.
    fn instead_of_advance(&mut self, asking: Asking, desk: &mut Desk<'_>) {
        if asking == Asking::Findings {
            self.phase = if self.stage.is_some() { Phase::Baking } else { Phase::Ready { since: desk.now } };
        }
        let open_requests = desk.effects.len();
        self.decide(asking, desk);
        let shifts = desk.effects.iter().skip(open_requests).any(|effect| matches!(effect, Effect::Shift { .. }));
        if !shifts && !self.phase.is_done() {
            self.failures = 0;
            self.restore(desk);
        }
    }

    /// Takes the traffic back, whatever it is now.
    pub(super) fn retreat(&mut self, desk: &mut Desk<'_>) {
        if let Some(cleared) = rails::reassert(self.shift_to(Exposure::none())) {
            self.ask_shift(Goal::Retreat, cleared, desk);
        }
    }

    /// Puts back in force what was last confirmed: an attempt may have had its effect without our knowing.
    pub(super) fn restore(&mut self, desk: &mut Desk<'_>) {
        if let Some(cleared) = rails::reassert(self.shift_to(self.exposure.clone())) {
            self.ask_shift(Goal::Restore, cleared, desk);
        }
    }

    /// The canary's traffic did not end in time: the move is made once more, and after that it is a person's.
    pub(super) fn drain_is_late(&mut self, still_busy: bool, desk: &mut Desk<'_>) {
        if !still_busy {
            let why = "the traffic was taken back; telemetry could not show that the canary's requests ended";
            self.end(desk, Outcome::RolledBack, Severity::Warning, why);
            return;
        }
        self.late_drains = self.late_drains.saturating_add(1);
        if self.late_drains >= desk.policy.attempts_max {
            let why = "the traffic was taken back, and the canary still serves requests: someone else sends them";
            self.end(desk, Outcome::HandedOver, Severity::Page, why);
            return;
        }
        if self.late_drains == 1 {
            self.announce(desk, Severity::Page, "the canary still serves requests after its traffic was taken back");
        }
        self.retreat(desk);
    }
}
