//! From the merge to the first stage: drafting checks, and waiting until the revision is there.

use std::{sync::Arc, time::Duration};

use super::{
    Deployed, RiskBake, ServicePolicy,
    deciding::Asking,
    desk::Desk,
    event::Effect,
    phase::{Asked, Phase},
    record::Record,
    state::Rollout,
};
use crate::{
    domain::{Autonomy, Check, Outcome, RequestId, Revision, Risk, Severity, Text, WayBack},
    plan::{self, Draft},
    stats,
};

/// Most that a risk makes a stage longer, whatever is configured.
const BAKED_TIMES_MAX: f64 = 100.0;

impl Rollout {
    /// Its turn has come: asks for a draft.
    pub(super) fn begin(&mut self, desk: &mut Desk<'_>) {
        let request = desk.new_request();
        let within = desk.policy.draft_within.unwrap_or(desk.policy.reply_within);
        self.phase = Phase::Drafting(Asked { request: Some(request), until: desk.now + within });
        desk.effects.push(Effect::Draft {
            request,
            rollout: self.id,
            service: self.service.clone(),
            change: Arc::clone(&self.change),
            stable: desk.lineage.stable().cloned(),
            past: desk.past.told(),
        });
    }

    /// Whether `request` is the draft it waits for.
    pub(super) fn awaits_draft(&self, request: RequestId) -> bool {
        matches!(&self.phase, Phase::Drafting(asked) if Self::answers(Some(*asked), request))
    }

    /// A draft came, or none could be made: then the mandatory checks are the plan, and the reason is said.
    pub(super) fn drafted(&mut self, draft: Result<Draft, Text>, desk: &mut Desk<'_>) {
        let mut draft = draft.unwrap_or_else(|why| {
            self.announce(desk, Severity::Warning, format!("no checks from the diff: {why}"));
            plan::fallback(&self.change, &why)
        });
        if let (WayBack::Open, Some(why)) = (&draft.way_back, desk.lineage.inherited()) {
            draft.way_back = WayBack::OneWay { why, lines: Vec::new() };
        }
        let touched = plan::Touched::of(&self.change);
        let trial = |check: &Check| desk.memory.trial(check);
        let admission = plan::admit(draft, &desk.policy.bounds, touched, &stats::served(), trial);
        self.records =
            admission.plan.checks().iter().map(|check| Record::start(check, desk.memory.calibration(check))).collect();
        let mandatory = admission.mandatory;
        let proposed = admission.plan.checks().len().saturating_sub(mandatory);
        let refused = admission.rejections.len();
        let baked = self.bake_for(admission.plan.risk(), desk.policy.risk_bake);
        let source = admission.plan.notes().first().cloned().unwrap_or_default();
        self.plan = Some(Arc::new(admission.plan));
        self.rejections = admission.rejections;
        self.failures = 0;
        self.phase = Phase::AwaitingRevision { until: desk.now + desk.policy.deploy_within };
        self.announce(
            desk,
            Severity::Info,
            format!(
                "planned: {mandatory} mandatory checks, {proposed} made from the diff, {refused} refused; {baked}; {source}"
            ),
        );
        if let Some(WayBack::OneWay { why, .. }) = self.plan.as_ref().map(|plan| plan.way_back().clone()) {
            self.announce(desk, Severity::Warning, format!("one-way: {why}; it will be held rather than rolled back"));
        }
        if desk.lineage.is_deployed(&self.change.revision) || desk.policy.deployed == Deployed::OnMerge {
            self.revision_is_there(desk);
        }
    }

    /// Fixes the ladder: a riskier change is baked longer, and has as much more patience. Says so.
    fn bake_for(&mut self, risk: Risk, risk_bake: RiskBake) -> String {
        let times = match risk {
            Risk::Low => 1.0,
            Risk::Medium => risk_bake.medium,
            Risk::High => risk_bake.high,
        };
        // Never shorter than configured, also where the number is none.
        self.baked_times = if times > 1.0 { times.min(BAKED_TIMES_MAX) } else { 1.0 };
        let longer: Vec<Duration> = self.stages.iter().map(|stage| self.baked(stage.bake_time)).collect();
        self.stages.iter_mut().zip(longer).for_each(|(stage, longer)| stage.bake_time = longer);
        if self.baked_times > 1.0 {
            format!("{risk} risk, each stage baked {} times as long", self.baked_times)
        } else {
            format!("{risk} risk")
        }
    }

    /// A configured bake time, as long as the plan's risk asks for; whole milliseconds, as it is kept.
    pub(super) fn baked(&self, configured: Duration) -> Duration {
        let millis = (configured.as_secs_f64() * self.baked_times * 1_000.0).round();
        Duration::from_millis(millis as u64).max(configured)
    }

    /// How long the stage that is held may last: what its bake time is longer than configured, its patience is too.
    pub(super) fn patience(&self, policy: &ServicePolicy) -> Duration {
        let bake_time = self.stage.and_then(|stage| self.stages.get(stage)).map_or(Duration::ZERO, |s| s.bake_time);
        let longer = bake_time.as_secs_f64() * (1.0 - self.baked_times.recip());
        policy.patience.saturating_add(Duration::try_from_secs_f64(longer).unwrap_or_default())
    }

    /// A revision of its service was deployed.
    pub(super) fn deployed(&mut self, revision: &Revision, desk: &mut Desk<'_>) {
        if matches!(self.phase, Phase::AwaitingRevision { .. }) && revision.names_same_commit(&self.change.revision) {
            self.revision_is_there(desk);
        }
    }

    fn revision_is_there(&mut self, desk: &mut Desk<'_>) {
        self.control = desk.lineage.stable().cloned();
        self.patience_from = desk.now;
        self.note(desk.now, format!("revision {} is deployed", self.change.revision.short()));
        self.phase = Phase::Ready { since: desk.now };
        if desk.policy.autonomy == Autonomy::Observe {
            self.observe_only(desk);
        } else {
            self.decide(Asking::Findings, desk);
            self.wait_ready(desk);
        }
    }

    /// While it may not begin, it looks again at the pace of measurements.
    pub(super) fn wait_ready(&mut self, desk: &Desk<'_>) {
        if matches!(self.phase, Phase::Ready { .. }) {
            self.measuring = Some(Asked { request: None, until: desk.now + desk.policy.measure_every });
        }
    }

    /// A service at `observe` has its traffic moved by others: we only watch, as if the first stage were held.
    fn observe_only(&mut self, desk: &mut Desk<'_>) {
        self.stage = Some(0);
        self.entered = vec![desk.now];
        self.listening_since = Some(desk.now);
        self.traffic_since = Some(desk.now);
        self.measured_through = desk.now;
        self.phase = Phase::Baking;
        self.choose_baselines(None, desk);
        self.measure(desk);
    }

    /// The draft did not come in time.
    pub(super) fn draft_is_late(&mut self, desk: &mut Desk<'_>) {
        self.failures += 1;
        if self.failures >= desk.policy.attempts_max {
            self.drafted(Err(Text::new("no draft came in time")), desk);
        } else {
            self.begin(desk);
        }
    }

    /// The revision was not deployed in time.
    pub(super) fn deployment_is_late(&mut self, desk: &mut Desk<'_>) {
        let waited = desk.policy.deploy_within.as_secs();
        self.end(
            desk,
            Outcome::Cancelled,
            Severity::Warning,
            format!("its revision was not deployed within {waited} s"),
        );
    }
}
