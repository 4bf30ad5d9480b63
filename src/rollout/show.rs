//! The fleet as it may be seen: plain values, computed from the state alone.

use std::time::Duration;

use super::{
    BaselineView, CheckView, Fleet, FleetView, Policy, RolloutView, ServicePolicy, Sight, StageView, TrialView,
    foreseen,
    phase::{Goal, Phase},
    record::{self, Pace, Record, Weighed},
    state::Rollout,
};
use crate::{
    domain::{Check, ChosenBaseline, ControlAge, Origin, RolloutId, Timestamp, WayBack},
    plan::{Standing, Tried},
    stats::planning::{Foreseen, Outlook},
};

impl Fleet {
    /// What may be seen of it: at most `rollouts_max` rollouts, open ones before finished ones, the newest first.
    pub fn view(&self, rollouts_max: usize) -> FleetView {
        let newest_first = || self.rollouts.values().rev();
        let mut shown: Vec<&Rollout> = newest_first().filter(|r| !r.phase.is_done()).take(rollouts_max).collect();
        let room = rollouts_max - shown.len();
        shown.extend(newest_first().filter(|r| r.phase.is_done()).take(room));
        shown.sort_by_key(|rollout| std::cmp::Reverse(rollout.id));
        FleetView {
            at: self.now,
            policy_version: self.policy.as_ref().map_or_else(String::new, |policy| policy.version.to_string()),
            kill_switch: self.kill_switch.is_some(),
            stale_replies: self.stale_replies,
            fetching: self.intake.fetching(),
            rollouts: shown.into_iter().map(|rollout| rollout.view(self.policy.as_deref(), self.now)).collect(),
        }
    }

    /// One rollout as it may be seen, if it is kept.
    pub fn view_of(&self, rollout: RolloutId) -> Option<RolloutView> {
        self.rollouts.get(&rollout).map(|rollout| rollout.view(self.policy.as_deref(), self.now))
    }
}

impl Rollout {
    fn view(&self, policy: Option<&Policy>, now: Timestamp) -> RolloutView {
        let service = policy.and_then(|policy| policy.services.get(&self.service));
        let entering = match &self.phase {
            Phase::Shifting { goal: Goal::Enter(stage), .. } => Some(*stage),
            Phase::Queued
            | Phase::Drafting(_)
            | Phase::AwaitingRevision { .. }
            | Phase::Ready { .. }
            | Phase::Shifting { .. }
            | Phase::Baking
            | Phase::Draining { .. }
            | Phase::Done(_)
            | Phase::Quarantined { .. } => None,
        };
        RolloutView {
            id: self.id,
            service: self.service.clone(),
            repository: self.change.repository.to_string(),
            pull_request: self.change.pull_request,
            title: self.change.title.to_string(),
            author: self.change.author.to_string(),
            revision: self.change.revision.to_string(),
            control_revision: self.control.as_ref().map(ToString::to_string),
            autonomy: service.map(|service| service.autonomy),
            phase: self.phase_word().into(),
            outcome: match &self.phase {
                Phase::Done(outcome) => Some(*outcome),
                _ => None,
            },
            paused: self.paused_since.is_some(),
            next: service.and_then(|service| self.upcoming(service)),
            share: self.exposure.share.basis_points(),
            exposure: self.exposure.to_string(),
            stage: entering.or(self.stage),
            stages: self.stage_views(service.map_or(ControlAge::Running, |service| service.control)),
            opened: self.opened,
            ended: self.ended,
            verdict: self.verdict,
            objections: self.objections.clone(),
            one_way: self.plan.as_ref().and_then(|plan| match plan.way_back() {
                WayBack::Open => None,
                WayBack::OneWay { why, .. } => Some(why.to_string()),
            }),
            checks: service.map_or_else(Vec::new, |service| self.check_views(service)),
            rejections: self.rejections.iter().map(|r| (r.check.to_string(), r.why.to_string())).collect(),
            notes: self.plan.iter().flat_map(|plan| plan.notes()).map(ToString::to_string).collect(),
            exposures: self.exposures.clone(),
            timeline: self.timeline.clone(),
            source: self.plan.as_ref().map(|plan| plan.source().clone()),
            risk: self.plan.as_ref().map(|plan| plan.risk()),
            rejected_trials: self.tried().filter(|t| t.standing == Standing::Rejected).map(trial_view).collect(),
            uncovered: self.plan.iter().flat_map(|plan| plan.uncovered()).map(ToString::to_string).collect(),
            usage: self.usage,
            held_by_advice_until: self.counsel.held_until(now).filter(|_| !self.phase.is_done()),
            warming_up_until: service
                .and_then(|service| self.warm_from(service))
                .filter(|until| *until > now && !self.phase.is_done()),
            cold: self.warm_up.cold,
            shares_off: self.balance.shares_off(self.set_share()),
            concentration: self.balance.concentration(),
            explanation: self.explanation.clone(),
        }
    }

    fn tried(&self) -> impl Iterator<Item = &Tried> {
        self.plan.iter().flat_map(|plan| plan.tried())
    }

    /// The word for its phase; the last stage is watched rather than baked.
    fn phase_word(&self) -> &'static str {
        if self.phase == Phase::Baking && self.at_last_stage() { "watching" } else { self.phase.word() }
    }

    fn stage_views(&self, control: ControlAge) -> Vec<StageView> {
        let view = |(i, stage): (usize, &super::Stage)| StageView {
            exposure: stage.exposure.to_string(),
            share: stage.exposure.share.basis_points(),
            bake_time_ms: u64::try_from(stage.bake_time.as_millis()).unwrap_or(u64::MAX),
            entered: self.entered.get(i).copied(),
            baseline: foreseen(stage, control).into(),
        };
        self.stages.iter().enumerate().map(view).collect()
    }

    fn check_views(&self, policy: &ServicePolicy) -> Vec<CheckView> {
        let Some(plan) = &self.plan else { return Vec::new() };
        let weighed = record::weigh(plan.checks(), &self.records, policy.alpha);
        let bake_time = match self.phase {
            Phase::Baking if !self.at_last_stage() => {
                self.stage.and_then(|stage| self.stages.get(stage)).map(|stage| stage.bake_time)
            }
            _ => None,
        };
        let checks = plan.checks().iter().zip(&self.records).zip(weighed);
        let trial_of = |check: &Check| self.tried().find(|tried| tried.check == check.name).map(trial_view);
        checks
            .enumerate()
            .map(|(place, ((check, record), weighed))| CheckView {
                // An operator's check is not tried; a proposed one may have borne its name.
                trial: trial_of(check).filter(|_| check.origin != Origin::Slo),
                baseline: self.baselines.of(place).map(|chosen| baseline_view(chosen, record)),
                ..check_view(check, record, weighed, Pace::of(policy), bake_time)
            })
            .collect()
    }
}

fn check_view(check: &Check, record: &Record, weighed: Weighed, pace: Pace, bake_time: Option<Duration>) -> CheckView {
    let evidence = record.told(check, weighed.log_threshold, pace);
    let outlook = bake_time.and_then(|lasts| record.outlook(check, weighed.log_threshold, pace, lasts));
    CheckView {
        name: check.name.to_string(),
        sli: check.sli.to_string(),
        kind: check.sli.kind().into(),
        origin: check.origin,
        weight: check.weight,
        ratio_max: check.ratio_max,
        limit: check.limit,
        rationale: check.rationale.to_string(),
        lines: check.lines.iter().map(ToString::to_string).collect(),
        finding: record.finding(check, &evidence, weighed.is_proof),
        concern: record.concern(check),
        absent: record.absent(),
        estimated: record.is_estimated(),
        aim: check.aim,
        intended: record.intended(check),
        trial: None,
        baseline: None,
        control_rate: evidence.control.rate(),
        canary_rate: evidence.canary.rate(),
        interval: evidence.interval,
        outlook: outlook.map(sight),
        evidence,
    }
}

fn baseline_view(chosen: &ChosenBaseline, record: &Record) -> BaselineView {
    let stand_in = record.stand_in();
    BaselineView {
        baseline: chosen.baseline,
        words: chosen.baseline.to_string(),
        why: chosen.why.to_string(),
        says: stand_in.says().map(ToString::to_string),
        is_unusual: stand_in.unusual().is_some(),
    }
}

fn sight(outlook: Outlook) -> Sight {
    let seconds = |foreseen: Foreseen<Duration>| foreseen.value().map(|time| time.as_secs_f64());
    Sight {
        smallest: outlook.smallest.value(),
        twice_seconds: seconds(outlook.twice),
        safe_seconds: seconds(outlook.safe),
        is_blind: outlook.is_blind,
        bake_time_needed_seconds: seconds(outlook.unsafe_ratio),
        share_needed: outlook.share_needed.map(|share| share.basis_points()),
    }
}

fn trial_view(tried: &Tried) -> TrialView {
    TrialView {
        check: tried.check.to_string(),
        standing: tried.standing,
        reason: tried.reason.word().into(),
        detail: tried.detail.to_string(),
        baseline: tried.baseline,
        alarms: tried.trial.alarms,
        rollouts: tried.trial.rollouts,
        power: tried.power.clone(),
    }
}
