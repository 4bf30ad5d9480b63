//! Measuring: each check on both arms, window after window, for as long as anyone has the new version.

use std::{sync::Arc, time::Duration};

use super::{
    deciding::Asking,
    desk::Desk,
    event::Effect,
    phase::{Asked, Goal, Phase},
    record::{Look, Pace, Record},
    state::Rollout,
};
use crate::domain::{
    Absence, Aim, Arm, Check, Counts, Measurement, Origin, Outcome, Reading, RequestId, Severity, Text, Timestamp,
};

/// An answer that covers more looks, or blocks, than this covers a silence.
const LOOKS_IN_ONE: u32 = 3;
/// A canary whose requests fall to this part of what they were counts as drained: clients finish what they began.
const DRAINED_PART: u64 = 20;

impl Rollout {
    /// Asks for the next window.
    pub(super) fn measure(&mut self, desk: &mut Desk<'_>) {
        let Some(plan) = &self.plan else { return };
        // Half a look ahead, so that the next reading counts although it comes a moment early.
        let every = desk.policy.look_every;
        let request = desk.new_request();
        let through = (self.measured_through + every / 2).max(desk.now);
        let no_later_than = through + every * 2;
        desk.effects.push(Effect::Measure {
            request,
            rollout: self.id,
            service: self.service.clone(),
            control: self.control.clone(),
            canary: self.change.revision.clone(),
            plan: Arc::clone(plan),
            after: self.measured_through,
            through,
            no_later_than,
        });
        self.measuring = Some(Asked { request: Some(request), until: no_later_than + every });
        self.measure_next_from = desk.now + every / 2;
    }

    /// Whether `request` is the measurement it waits for.
    pub(super) fn awaits_measurement(&self, request: RequestId) -> bool {
        Self::answers(self.measuring, request)
    }

    /// A window came.
    pub(super) fn measured(&mut self, through: Timestamp, measurements: &[Measurement], desk: &mut Desk<'_>) {
        let through = self.measured_through.max(through.min(desk.now));
        let news = self.weigh_arms(measurements, desk.policy);
        self.take_in(measurements, through, desk);
        self.count_dark(through.since(self.measured_through), desk);
        self.measured_through = through;
        self.measuring = None;
        news.into_iter().for_each(|text| self.announce(desk, Severity::Warning, text));
        self.tell_concerns(desk);
        self.tell_warm(desk);
        self.tell_intended(desk);
        self.after_window(desk);
    }

    /// A silence that one answer covers counts as one look of the stage's time, and one in which nothing was heard of the
    /// canary as none: what was counted in it is one block of evidence, however long it lasted, and a stage that was baked
    /// in the dark would be promoted on that alone.
    fn count_dark(&mut self, span: Duration, desk: &Desk<'_>) {
        let one = desk.policy.look_every.max(desk.policy.measure_every);
        let seen = match self.heard == Some(desk.now) {
            true if span <= one * LOOKS_IN_ONE => span,
            true => one,
            false => Duration::ZERO,
        };
        let left_out = self.warm_up.newly_left_out();
        if self.phase == Phase::Baking {
            // Silence upon silence does not keep a stage open for ever.
            let room = desk.policy.patience.saturating_sub(self.dark);
            self.dark = self.dark.saturating_add(span.saturating_sub(seen).saturating_add(left_out).min(room));
        }
    }

    /// What stands out in the data and is no proof against the change is said once.
    fn tell_concerns(&mut self, desk: &mut Desk<'_>) {
        let Some(plan) = self.plan.clone() else { return };
        let new: Vec<String> = plan
            .checks()
            .iter()
            .zip(&mut self.records)
            .filter_map(|(check, record)| record.new_concern(check).map(|concern| format!("{}: {concern}", check.name)))
            .collect();
        for text in new {
            self.announce(desk, Severity::Warning, text);
        }
    }

    /// The warm-up is over: what was left out of the evidence is said, so that nothing is hidden.
    fn tell_warm(&mut self, desk: &Desk<'_>) {
        let Some(until) = self.warm_from(desk.policy) else { return };
        if self.warm_up.is_newly_over(until, self.measured_through) {
            let Counts { bad, total } = self.warm_up.cold;
            self.note(desk.now, format!("warmed up; not held against it: {bad} bad of the first {total} requests"));
        }
    }

    /// What follows a window, or its staying away.
    fn after_window(&mut self, desk: &mut Desk<'_>) {
        match &self.phase {
            Phase::Baking | Phase::Shifting { goal: Goal::Enter(_) | Goal::Restore, .. } => {
                self.decide(Asking::Findings, desk);
            }
            Phase::Draining { .. } if self.is_drained() => {
                self.end(desk, Outcome::RolledBack, Severity::Warning, self.reason.clone());
            }
            Phase::Draining { .. }
            | Phase::Queued
            | Phase::Drafting(_)
            | Phase::AwaitingRevision { .. }
            | Phase::Ready { .. }
            | Phase::Shifting { goal: Goal::Retreat, .. }
            | Phase::Done(_)
            | Phase::Quarantined { .. } => {}
        }
        let listens = matches!(
            self.phase,
            Phase::Baking | Phase::Draining { .. } | Phase::Shifting { goal: Goal::Enter(_) | Goal::Restore, .. }
        );
        if listens && self.stage.is_some() && self.measuring.is_none() {
            if desk.now >= self.measure_next_from {
                self.measure(desk);
            } else {
                self.measuring = Some(Asked { request: None, until: self.measure_next_from });
            }
        }
    }

    /// No window came in time, or the pause before the next is over.
    pub(super) fn measurement_is_due(&mut self, desk: &mut Desk<'_>) {
        let was_asked = self.measuring.take().is_some_and(|asked| asked.request.is_some());
        if let Phase::Ready { since } = self.phase {
            self.end_long_pause(desk);
            let waits = self.paused_since.is_some() || desk.kill_switch;
            if !waits && desk.now.since(since) > desk.policy.patience {
                self.end(
                    desk,
                    Outcome::Cancelled,
                    Severity::Warning,
                    "it was not let begin within the stage's patience",
                );
                return;
            }
            self.decide(Asking::Findings, desk);
            self.wait_ready(desk);
        } else if was_asked {
            self.records.iter_mut().for_each(Record::missed);
            self.after_window(desk);
        } else {
            self.measure(desk);
        }
    }

    fn take_in(&mut self, measurements: &[Measurement], through: Timestamp, desk: &mut Desk<'_>) {
        let (now, pace) = (desk.now, Pace::of(desk.policy));
        let whole = through.since(self.measured_through);
        let Some(plan) = &self.plan else { return };
        let mut windows: Vec<[Option<&Measurement>; 2]> = vec![[None; 2]; plan.checks().len()];
        for measurement in measurements {
            if let Some(arms) = windows.get_mut(usize::from(measurement.check.0)) {
                let arm = match measurement.arm {
                    Arm::Control => &mut arms[0],
                    Arm::Canary => &mut arms[1],
                };
                *arm = Some(measurement);
            }
        }
        let measured_through = self.measured_through;
        let reading = |measurement: Option<&Measurement>| match measurement {
            None => Err(Absence::Unavailable(Text::new("no answer for this check"))),
            Some(m) if m.window.after < measured_through => {
                Err(Absence::Malformed(Text::new("a window that was counted before")))
            }
            Some(m) => m.tally.clone().map(|tally| Reading { tally, parts: m.parts.clone() }),
        };
        let began = self.traffic_since;
        let cold = self.warm_up.look(measurements, began, (measured_through, whole), desk.policy.warm_up);
        let (mut left_out, is_compared) = (None, self.baselines.no_control.is_none());
        let mut heard = false;
        let mut control_answers = Vec::new();
        // Whether telemetry is alive is told by what the operator asks for: a probe, or a counter of a proposer's choice,
        // goes on when the service's own metrics are gone.
        let has_objectives = plan.checks().iter().any(|check| check.origin == Origin::Slo);
        for ((check, record), [control, canary]) in plan.checks().iter().zip(&mut self.records).zip(windows) {
            let estimated = [control, canary].into_iter().flatten().any(|arm| arm.estimated && arm.tally.is_ok());
            // What is told over a time of its own counts for that time.
            let own = |told: &&Measurement| told.tally.is_ok().then(|| told.window.through.since(told.window.after));
            let span = [canary, control].iter().flatten().find_map(own).unwrap_or(whole);
            let (control, canary) = (reading(control), reading(canary));
            let guards = check.aim == Aim::Guard;
            if guards && (check.origin == Origin::Slo || !has_objectives) {
                heard |= canary.is_ok();
                control_answers.push(!matches!(control, Err(Absence::Unavailable(_))));
            }
            // One look teaches once, though a guard and an intended effect measure the same.
            let is_taught = !guards && plan.checks().iter().any(|other| teaches_the_same(other, check));
            let teaches =
                !is_taught && control.as_ref().is_ok_and(|control| desk.memory.learn(check, control, span, now));
            if let Some(warm) = canary.as_ref().ok().and_then(|canary| cold.warm(Arm::Canary, canary)) {
                record.look_alone(check, &warm, through, estimated);
            }
            let look = Look { span, is_estimated: estimated, is_compared };
            let out = record.measured(check, [control, canary], &cold, look, pace);
            if check.origin == Origin::Slo && check.sli.counts_requests() {
                left_out.get_or_insert(out);
            }
            if teaches || is_taught {
                record.recalibrate(|| desk.memory.calibration(check));
            }
        }
        self.warm_up.cold = self.warm_up.cold.plus(left_out.unwrap_or_default());
        if heard {
            self.heard = Some(now);
        }
        if self.phase == Phase::Baking {
            self.busiest = self.newest_canary_total().unwrap_or(self.busiest);
        }
        if !control_answers.is_empty() {
            self.control_stands = Some(control_answers.contains(&true));
        }
    }

    /// The most requests that any check counted on the canary in the newest window; `None` when none could be counted.
    /// Where an objective counts requests, only objectives are asked: a proposed check may count what never ends.
    pub(super) fn newest_canary_total(&self) -> Option<u64> {
        let counting = || self.guards().filter(|(check, _)| check.sli.counts_requests());
        let is_objective = |check: &Check| check.origin == Origin::Slo;
        let has_objective = counting().any(|(check, _)| is_objective(check));
        let asked = counting().filter(|(check, _)| is_objective(check) || !has_objective);
        asked.filter_map(|(_, record)| record.newest()).map(|Counts { total, .. }| total).max()
    }

    fn is_drained(&self) -> bool {
        self.newest_canary_total().is_some_and(|total| total.saturating_mul(DRAINED_PART) <= self.busiest)
    }

    /// Its time to drain is over.
    pub(super) fn drain_is_due(&mut self, desk: &mut Desk<'_>) {
        let still_busy = self.newest_canary_total().is_some() && !self.is_drained();
        self.drain_is_late(still_busy, desk);
    }
}

/// Whether a guard's looks teach the noise that an intended effect is judged by.
fn teaches_the_same(guard: &Check, intended: &Check) -> bool {
    guard.aim == Aim::Guard && guard.sli == intended.sli && guard.direction == intended.direction
}
