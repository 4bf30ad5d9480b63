//! One rollout: its state, and the small things said of it. What it does is beside this file: `planning` until it can
//! begin, `shifting` traffic, `measuring`, `deciding`, and `restarting` after the daemon was down.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Explanation, Moment, ServicePolicy, Stage,
    advising::Counsel,
    balance::Balance,
    baseline::Baselines,
    desk::Desk,
    event::Effect,
    phase::{Asked, Phase},
    record::{self, Pace, Record},
    warm_up::WarmUp,
};
use crate::{
    domain::{
        Aim, Autonomy, Change, Exposure, Notice, Objection, Outcome, RequestId, Revision, RolloutId, ServiceName,
        Severity, Shift, Text, Timestamp, Upcoming, Usage, Verdict, millis,
    },
    plan::{Plan, Rejection},
    rails::CheckFacts,
};

/// Most moments that a timeline keeps; the oldest but the first go.
const TIMELINE_MAX: usize = 60;
/// Most confirmed exposures that are kept to be drawn.
const EXPOSURES_MAX: usize = 60;

/// One delivery of one change to one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rollout {
    pub(super) id: RolloutId,
    pub(super) service: ServiceName,
    pub(super) change: Arc<Change>,
    pub(super) opened: Timestamp,
    pub(super) ended: Option<Timestamp>,
    pub(super) phase: Phase,
    /// What the canary is compared with; known from the first shift on.
    pub(super) control: Option<Revision>,
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) rejections: Vec<Rejection>,
    pub(super) records: Vec<Record>,
    /// The ladder as it was when the rollout began, baked as long as the plan's risk asked for: a new policy does not
    /// move the stages under a running rollout.
    pub(super) stages: Vec<Stage>,
    /// How many times as long as configured its stages are baked.
    pub(super) baked_times: f64,
    /// The stage whose exposure is in force.
    pub(super) stage: Option<usize>,
    /// When each stage was entered.
    pub(super) entered: Vec<Timestamp>,
    /// Who has the new version, as last read back.
    pub(super) exposure: Exposure,
    /// The end of the time that counts against the stage's patience is this plus the patience.
    pub(super) patience_from: Timestamp,
    pub(super) paused_since: Option<Timestamp>,
    pub(super) listening_since: Option<Timestamp>,
    /// When the canary first had traffic; a restart of ours does not make it cold again.
    pub(super) traffic_since: Option<Timestamp>,
    pub(super) heard: Option<Timestamp>,
    /// Everything up to here has been measured.
    pub(super) measured_through: Timestamp,
    pub(super) measuring: Option<Asked>,
    /// The next window is not asked for before, however soon this one is answered.
    pub(super) measure_next_from: Timestamp,
    pub(super) control_stands: Option<bool>,
    /// How much of the stage nobody could see: it is no bake time, and no patience runs out in it.
    #[serde(with = "millis")]
    pub(super) dark: Duration,
    /// How long the arms have been up.
    pub(super) warm_up: WarmUp,
    /// How the requests fall on the arms.
    pub(super) balance: Balance,
    /// Failed attempts at the move that is under way.
    pub(super) failures: u32,
    /// Times that its requests had not ended when they should have, after its traffic was taken back.
    pub(super) late_drains: u32,
    /// A rollback was due and could not be made by ourselves: only a person goes on from here.
    pub(super) is_held_back: bool,
    /// A person has settled what was handed over.
    pub(super) is_kept: bool,
    /// The most requests that the canary had in a window before its traffic was taken back.
    pub(super) busiest: u64,
    /// Why its traffic is being taken back.
    pub(super) reason: String,
    pub(super) verdict: Option<Verdict>,
    pub(super) objections: Vec<Objection>,
    pub(super) exposures: Vec<(Timestamp, u16)>,
    /// The greatest share that ever had it, in basis points.
    pub(super) widest_share: u16,
    pub(super) timeline: Vec<Moment>,
    /// What a model was asked at the stage that is held.
    pub(super) counsel: Counsel,
    /// What the checks are compared with at the stage that is held.
    pub(super) baselines: Baselines,
    /// The open request for an explanation.
    pub(super) narrating: Option<RequestId>,
    pub(super) explanation: Option<Explanation>,
    /// What models have used for it; `None` where none was asked.
    pub(super) usage: Option<Usage>,
}

impl Rollout {
    pub(super) fn open(
        id: RolloutId,
        service: ServiceName,
        change: Arc<Change>,
        stages: Vec<Stage>,
        now: Timestamp,
    ) -> Self {
        let opening = format!("{}#{} merged: {}", change.repository, change.pull_request, change.title);
        let mut rollout = Self {
            id,
            service,
            change,
            opened: now,
            ended: None,
            phase: Phase::Queued,
            control: None,
            plan: None,
            rejections: Vec::new(),
            records: Vec::new(),
            stages,
            baked_times: 1.0,
            stage: None,
            entered: Vec::new(),
            exposure: Exposure::none(),
            patience_from: now,
            paused_since: None,
            listening_since: None,
            traffic_since: None,
            heard: None,
            measured_through: now,
            measuring: None,
            measure_next_from: now,
            control_stands: None,
            dark: Duration::ZERO,
            warm_up: WarmUp::default(),
            balance: Balance::default(),
            failures: 0,
            late_drains: 0,
            is_held_back: false,
            is_kept: false,
            busiest: 0,
            reason: String::new(),
            verdict: None,
            objections: Vec::new(),
            exposures: Vec::new(),
            widest_share: 0,
            timeline: Vec::new(),
            counsel: Counsel::default(),
            baselines: Baselines::default(),
            narrating: None,
            explanation: None,
            usage: None,
        };
        rollout.note(now, opening);
        rollout
    }

    /// Writes into the timeline.
    pub(super) fn note(&mut self, at: Timestamp, text: impl AsRef<str>) {
        if self.timeline.len() >= TIMELINE_MAX {
            self.timeline.remove(1);
        }
        self.timeline.push(Moment { at, text: Text::new(text).as_str().to_owned() });
    }

    /// Tells people, and writes into the timeline.
    pub(super) fn announce(&mut self, desk: &mut Desk<'_>, severity: Severity, text: impl AsRef<str>) {
        let next = self.upcoming(desk.policy);
        self.announce_before(next, desk, severity, text);
    }

    /// As [`Self::announce`], where what comes next is not yet what the state says.
    pub(super) fn announce_before(
        &mut self,
        next: Option<Upcoming>,
        desk: &mut Desk<'_>,
        severity: Severity,
        text: impl AsRef<str>,
    ) {
        self.note(desk.now, text.as_ref());
        desk.effects.push(Effect::Announce(Notice {
            at: desk.now,
            rollout: Some(self.id),
            service: Some(self.service.clone()),
            severity,
            text: Text::new(text),
            next,
        }));
    }

    /// Ends it.
    pub(super) fn end(&mut self, desk: &mut Desk<'_>, outcome: Outcome, severity: Severity, why: impl AsRef<str>) {
        self.phase = Phase::Done(outcome);
        self.ended = Some(desk.now);
        self.measuring = None;
        let id = self.id;
        let settle = match outcome {
            Outcome::HandedOver if !self.is_settled() => {
                format!("; settle it with `tollgate rollback {id}`, or `tollgate promote {id}` to keep it")
            }
            Outcome::HandedOver
            | Outcome::Promoted
            | Outcome::RolledBack
            | Outcome::Superseded
            | Outcome::Cancelled => String::new(),
        };
        self.sum_up_intended(desk);
        self.announce(desk, severity, format!("{outcome}: {}{settle}", why.as_ref()));
        self.ask_explanation(outcome, why.as_ref(), desk);
    }

    /// An exposure was read back.
    pub(super) fn exposed(&mut self, now: Timestamp, exposure: Exposure) {
        if self.exposures.len() >= EXPOSURES_MAX {
            self.exposures.remove(1);
        }
        self.exposures.push((now, exposure.share.basis_points()));
        self.widest_share = self.widest_share.max(exposure.share.basis_points());
        self.exposure = exposure;
    }

    /// The move to `to` from what was last confirmed.
    pub(super) fn shift_to(&self, to: Exposure) -> Shift {
        Shift {
            service: self.service.clone(),
            rollout: self.id,
            control: self.control.clone(),
            canary: self.change.revision.clone(),
            from: self.exposure.clone(),
            to,
        }
    }

    /// The facts of each check that guards, for judge and rails.
    pub(super) fn facts(&self, alpha: f64) -> Vec<CheckFacts<'_>> {
        let Some(plan) = &self.plan else { return Vec::new() };
        let weighed = record::weigh(plan.checks(), &self.records, alpha);
        let checks = plan.checks().iter().zip(&self.records).zip(weighed);
        let guards = checks.filter(|((check, _), _)| check.aim == Aim::Guard);
        guards.map(|((check, record), weighed)| record.facts(check, weighed)).collect()
    }

    /// The statistics take in what was added up so far: the traffic split changes.
    pub(super) fn end_blocks(&mut self, policy: &ServicePolicy) {
        let Some(plan) = &self.plan else { return };
        for (check, record) in plan.checks().iter().zip(&mut self.records) {
            record.end_block(check, Pace::of(policy));
        }
    }

    /// Something in the state that cannot be. The caller quarantines the rollout.
    pub(super) fn broken(&self) -> Option<&'static str> {
        let checks = self.plan.as_ref().map_or(0, |plan| plan.checks().len());
        if self.records.len() != checks {
            return Some("there are not as many records as checks");
        }
        if self.stage.is_some_and(|stage| stage >= self.stages.len() || stage >= self.entered.len()) {
            return Some("the stage is not on the ladder");
        }
        let ended = matches!(self.phase, Phase::Done(Outcome::RolledBack | Outcome::Cancelled | Outcome::Superseded));
        (ended && !self.exposure.is_none()).then_some("it ended without the new version and someone has it")
    }

    /// Whether nothing of it is left to anyone. What was handed over while people have it is a person's to settle, and
    /// until then another rollout of the service would take it from under them.
    pub(super) fn is_settled(&self) -> bool {
        match &self.phase {
            Phase::Done(Outcome::HandedOver) => self.exposure.is_none() || self.is_kept,
            Phase::Done(_) => true,
            _ => false,
        }
    }

    /// When the canary is warm: the time before counts as no bake time.
    pub(super) fn warm_from(&self, policy: &ServicePolicy) -> Option<Timestamp> {
        let began = self.traffic_since.filter(|_| !policy.warm_up.is_zero())?;
        Some(began + policy.warm_up)
    }

    /// From when the stage that is held counts as held; `None` where none is.
    pub(super) fn held_since(&self, policy: &ServicePolicy) -> Option<Timestamp> {
        let entered = *self.entered.get(self.stage?)?;
        Some(self.warm_from(policy).map_or(entered, |warm| warm.max(entered)) + self.dark)
    }

    /// Whether `request` is the one that `asked` waits for.
    pub(super) fn answers(asked: Option<Asked>, request: RequestId) -> bool {
        asked.and_then(|asked| asked.request) == Some(request)
    }

    /// Whether the stage that is held is the last: everyone has the new version.
    pub(super) fn at_last_stage(&self) -> bool {
        self.stage.is_some_and(|stage| stage + 1 == self.stages.len())
    }

    fn what_ready_waits_for(&self, policy: &ServicePolicy) -> &'static str {
        if policy.autonomy < Autonomy::Auto {
            "called off unless a person promotes it"
        } else {
            "called off unless it may begin"
        }
    }

    /// When it wants to be woken, if nothing happens before.
    pub(super) fn next_wakeup(&self) -> Option<Timestamp> {
        let phase = match &self.phase {
            Phase::Queued | Phase::Done(_) | Phase::Quarantined { .. } => return None,
            Phase::Drafting(asked) | Phase::Shifting { asked, .. } => Some(asked.until),
            Phase::AwaitingRevision { until } | Phase::Draining { until } => Some(*until),
            Phase::Ready { .. } | Phase::Baking => None,
        };
        let measuring = self.measuring.map(|asked| asked.until);
        phase.into_iter().chain(measuring).chain(self.baselines.awaited_until()).min()
    }

    /// What happens next if nobody does anything.
    pub(super) fn upcoming(&self, policy: &ServicePolicy) -> Option<Upcoming> {
        let next = |what: String, at| Some(Upcoming { what: Text::new(what), at });
        match &self.phase {
            Phase::Queued | Phase::Done(_) | Phase::Quarantined { .. } => None,
            Phase::Drafting(asked) => next("the plan is drafted, or asked for again".into(), asked.until),
            Phase::AwaitingRevision { until } => next("called off unless its revision is deployed".into(), *until),
            Phase::Ready { since } => next(self.what_ready_waits_for(policy).into(), *since + policy.patience),
            Phase::Shifting { to, asked, .. } => {
                next(format!("traffic is at {to}, or is asked for again"), asked.until)
            }
            Phase::Draining { until } => next("the canary's traffic has ended, or a person is called".into(), *until),
            Phase::Baking => {
                let held_since = self.held_since(policy).unwrap_or(self.opened);
                let out_of_patience = self.patience_from.max(held_since) + self.patience(policy);
                let mut baked = held_since + self.stages.get(self.stage?)?.bake_time;
                if self.at_last_stage() {
                    baked = baked + policy.watch;
                }
                if let Some(since) = self.paused_since {
                    return next("the pause ends".into(), since + policy.pause_max);
                }
                let ahead = self.stages.get(self.stage? + 1);
                let people_promote = policy.autonomy < Autonomy::Auto && ahead.is_some();
                match ahead {
                    _ if people_promote && self.measured_through >= baked => {
                        next("taken back unless a person promotes it".into(), out_of_patience)
                    }
                    Some(stage) if people_promote => {
                        next(format!("a person may promote it to {} if it stays healthy", stage.exposure), baked)
                    }
                    _ if self.measured_through >= baked => {
                        next("taken back unless it comes to a verdict".into(), out_of_patience)
                    }
                    Some(stage) => next(format!("promoted to {} if it stays healthy", stage.exposure), baked),
                    None => next("done if it stays healthy".into(), baked),
                }
            }
        }
    }
}
