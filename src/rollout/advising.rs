//! Advice of a model at a stage that the statistics leave open, and how it joins: by caution.
//!
//! It is asked for only in a tie: the bake time is over, the judge holds because a check is inconclusive, and no rail
//! objects but those that wait. It counts only while the tie lasts: once the statistics are clear or a rail fires, what a
//! model says is noted and moves nothing. Nothing ever waits for it.
//!
//! - To hold, or to ask a person: a promotion that comes due within [`HELD_FOR`] waits until then. It ends some looks
//!   before the stage's patience does, so that no advice to wait becomes a rollback of what has turned out well.
//! - To roll back: it counts where a critical check that it cites leans that way, at the service's lesser evidence shared
//!   out among the critical checks. The rails then review it as any other rollback.
//! - To expand: it counts where the service lets a model break ties, each check in doubt has its least samples, and no
//!   rail objects. The rails review it as any other promotion.
//!
//! So in each state of a rollout, what is asked of traffic with advice is never wider than without, but for the tie that
//! a service lets it break. [`super::Fleet::without_advice`] is that other fleet.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    ModelMay, ServicePolicy,
    deciding::Asking,
    desk::Desk,
    event::Effect,
    judge,
    phase::{Asked, Phase},
    record::{self, Pace},
    state::Rollout,
};
use crate::{
    domain::{
        Action, Advice, Autonomy, Brief, CheckId, Finding, Objection, RequestId, Severity, Text, Timestamp, Verdict,
        Weight,
    },
    rails::{self, CheckFacts},
};

/// At one stage advice is asked for again no sooner than this.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(600);
/// Most times that advice is asked for at one stage.
const ASKED_MAX: u32 = 3;
/// How long advice to hold keeps a promotion waiting.
const HELD_FOR: Duration = Duration::from_secs(600);
/// Looks before the end of the stage's patience from which advice holds nothing any more.
const LOOKS_BEFORE_DEADLINE: u32 = 6;
/// Most checks that one piece of advice cites.
const CITED_MAX: usize = 64;
/// Most characters of a model's reasons that are told, and of a list of names.
const WORDS_MAX: usize = 150;

/// What a model was asked at the stage that is held, and what holds of its answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counsel {
    /// The open request, and until when its answer counts.
    asked: Option<Asked>,
    /// How often it was asked at this stage.
    times: u32,
    /// It is asked again no sooner.
    not_before: Timestamp,
    /// A promotion waits until then.
    held_until: Option<Timestamp>,
    /// A person was called at its word, at this stage.
    has_called: bool,
}

impl Counsel {
    /// Until when a promotion waits for it.
    pub(super) fn held_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.held_until.filter(|until| now < *until)
    }

    /// The daemon was down: what was open is lost, and may be asked again.
    pub(super) fn restarted(&mut self, now: Timestamp) {
        if self.asked.take().is_some() {
            self.not_before = now;
        }
    }
}

impl Rollout {
    /// The judge's verdict, joined by what a model has advised.
    pub(super) fn joined(&self, judged: Verdict, desk: &Desk<'_>) -> Verdict {
        let advises = desk.policy.model.as_ref().is_some_and(|model| model.advises);
        if advises && self.counsel.held_until(desk.now).is_some() { judged.max(Verdict::Hold) } else { judged }
    }

    /// Asks for advice, if this is the moment for it.
    pub(super) fn ask_advice(&mut self, desk: &mut Desk<'_>) {
        let Some(model) = desk.policy.model.as_ref().filter(|model| model.advises) else { return };
        if self.counsel.asked.is_some_and(|asked| asked.until < desk.now) {
            self.counsel.asked = None;
            self.note(desk.now, "no advice came in time");
        }
        let Counsel { asked, times, not_before, .. } = &self.counsel;
        if asked.is_some() || *times >= ASKED_MAX || desk.now < *not_before || !self.is_tie(desk) {
            return;
        }
        let Some(brief) = self.brief(self.legal(desk), desk) else { return };
        let request = desk.new_request();
        let no_later_than = desk.now + model.advise_within;
        self.counsel.asked = Some(Asked { request: Some(request), until: no_later_than });
        self.counsel.times += 1;
        self.counsel.not_before = desk.now + ASKED_AGAIN_AFTER;
        let (rollout, service, brief) = (self.id, self.service.clone(), Arc::new(brief));
        desk.effects.push(Effect::Advise { request, rollout, service, brief, no_later_than });
    }

    /// Whether `request` is the advice it waits for.
    pub(super) fn awaits_advice(&self, request: RequestId, now: Timestamp) -> bool {
        let in_time = self.counsel.asked.is_some_and(|asked| now <= asked.until);
        self.phase == Phase::Baking && in_time && Self::answers(self.counsel.asked, request)
    }

    /// Advice came, or why there is none.
    pub(super) fn advised(&mut self, advice: &Result<Advice, Text>, desk: &mut Desk<'_>) {
        self.counsel.asked = None;
        let advice = match advice {
            Ok(advice) => advice,
            Err(why) => {
                self.note(desk.now, format!("the model gave no advice: {why}"));
                return;
            }
        };
        let refusal = self.refusal(advice, desk);
        let told = self.in_words(advice, refusal.as_deref());
        if refusal.is_some() {
            self.note(desk.now, told);
            return;
        }
        match advice.action {
            Action::Hold => {
                self.note(desk.now, told);
                self.hold_for_advice(desk);
            }
            Action::AskPerson => {
                self.hold_for_advice(desk);
                if std::mem::replace(&mut self.counsel.has_called, true) {
                    self.note(desk.now, told);
                } else {
                    self.announce(desk, Severity::Page, told);
                }
            }
            Action::RollBack => {
                self.note(desk.now, told);
                self.decide(Asking::Advice(Verdict::Rollback), desk);
            }
            Action::Expand => {
                self.note(desk.now, told);
                self.decide(Asking::Advice(Verdict::Promote), desk);
            }
        }
    }

    fn hold_for_advice(&mut self, desk: &Desk<'_>) {
        let Some(deadline) = self.deadline(desk) else { return };
        let ends = deadline - desk.policy.look_every.saturating_mul(LOOKS_BEFORE_DEADLINE);
        self.counsel.held_until = Some((desk.now + HELD_FOR).min(ends));
    }

    /// When the stage's patience ends.
    fn deadline(&self, desk: &Desk<'_>) -> Option<Timestamp> {
        Some(self.held_since(desk.policy)? + self.stage_facts(desk)?.patience)
    }

    /// Whether the statistics leave the stage open, and nothing else decides it.
    fn is_tie(&self, desk: &Desk<'_>) -> bool {
        let stopped = self.paused_since.is_some() || self.is_held_back || desk.kill_switch;
        if stopped || self.phase != Phase::Baking || desk.policy.autonomy == Autonomy::Observe {
            return false;
        }
        let Some(stage) = self.stage_facts(desk).filter(|stage| stage.held >= stage.bake_time) else { return false };
        if stage.held > stage.patience {
            return false;
        }
        let facts = self.facts(desk.policy.alpha);
        let critical = || facts.iter().filter(|facts| facts.check.weight == Weight::Critical);
        let is_blind = |facts: &CheckFacts<'_>| facts.finding == Finding::NoData && !facts.is_quiet();
        let is_open = judge::propose(&facts) == Verdict::Hold
            && critical().any(|facts| facts.finding == Finding::Inconclusive)
            && !critical().any(is_blind);
        let only_waits = |objection: &Objection| {
            objection.at_most == Verdict::Hold && !objection.page && rails::only_waits(&objection.rail)
        };
        is_open && self.reviewed(Verdict::Hold, None, desk).objections.iter().all(only_waits)
    }

    /// What may be recommended in this tie.
    fn legal(&self, desk: &Desk<'_>) -> Vec<Action> {
        let is_legal = |action: &Action| match action {
            Action::Hold | Action::AskPerson => true,
            Action::Expand => self.may_break_tie(desk),
            Action::RollBack => !self.leaning(desk.policy).is_empty(),
        };
        Action::ALL.into_iter().filter(is_legal).collect()
    }

    /// Whether a model may lift this tie to a promotion.
    fn may_break_tie(&self, desk: &Desk<'_>) -> bool {
        let may = desk.policy.model.as_ref().is_some_and(|model| model.may == ModelMay::BreakTies);
        let least = desk.policy.samples_min.max(1);
        let facts = self.facts(desk.policy.alpha);
        let mut in_doubt = facts
            .iter()
            .filter(|facts| facts.check.weight == Weight::Critical && facts.finding == Finding::Inconclusive);
        // A gauge is read as often as it is looked at, and not as often as it is used.
        let is_seen = |facts: &CheckFacts<'_>| {
            facts.this_stage.total >= if facts.check.sli.counts_requests() { least } else { 1 }
        };
        may && self.advance().is_some()
            && in_doubt.all(is_seen)
            && self.reviewed(Verdict::Promote, None, desk).verdict == Verdict::Promote
    }

    /// The guards that lean against the canary at the service's lesser evidence. Only those that may decide: what was let
    /// advise only is noisy or untried. Each critical check is one more chance to lean by chance, so the service's chance
    /// is shared out among them.
    fn leaning(&self, policy: &ServicePolicy) -> Vec<CheckId> {
        let Some(alpha) = policy.model.as_ref().map(|model| model.lean_alpha) else { return Vec::new() };
        if !(alpha > 0.0 && alpha < 1.0) {
            return Vec::new();
        }
        let checks = || self.plan.iter().flat_map(|plan| plan.checks()).zip(&self.records).enumerate();
        let critical = || checks().filter(|(_, (check, _))| check.weight == Weight::Critical);
        let log_threshold = (critical().count().max(1) as f64 / alpha).ln();
        critical()
            .filter(|(_, (check, record))| record.leans(check, log_threshold))
            .map(|(place, _)| check_id(place))
            .collect()
    }

    /// Why advice does not count, if it does not.
    fn refusal(&self, advice: &Advice, desk: &Desk<'_>) -> Option<String> {
        let checks = self.plan.as_ref().map_or(0, |plan| plan.checks().len());
        if advice.cites.is_empty() || advice.cites.len() > CITED_MAX {
            return Some(format!("advice cites 1 to {CITED_MAX} checks"));
        }
        if let Some(unknown) = advice.cites.iter().find(|cited| usize::from(cited.0) >= checks) {
            return Some(format!("the plan has no check {}", unknown.0));
        }
        if !self.is_tie(desk) {
            return Some("the stage is not open any more".into());
        }
        if !self.legal(desk).contains(&advice.action) {
            return Some("it may not be advised here".into());
        }
        let leaning = self.leaning(desk.policy);
        let rests_on_evidence = advice.action != Action::RollBack || advice.cites.iter().any(|c| leaning.contains(c));
        (!rests_on_evidence).then(|| "no check that it cites leans against the new version".into())
    }

    fn in_words(&self, Advice { action, cites, rationale, .. }: &Advice, refusal: Option<&str>) -> String {
        let plan = self.plan.as_ref();
        let name = |id: &CheckId| plan.and_then(|plan| plan.check(*id)).map(|check| check.name.as_str());
        let names: Vec<&str> = cites.iter().take(CITED_MAX).filter_map(name).collect();
        let named = if names.is_empty() { String::new() } else { format!(", citing {}", short(&names.join(", "))) };
        let counts = refusal.map(|why| format!("; it does not count: {why}")).unwrap_or_default();
        let (action, words) = (action.word().replace('_', " "), rationale.as_str().replace('"', "'"));
        format!("the model advises: {action}{named}{counts}; in the model's words: \"{}\"", short(&words))
    }

    /// All that a model is told of the stage that is held; `None` where none is.
    pub(super) fn brief(&self, legal: Vec<Action>, desk: &Desk<'_>) -> Option<Brief> {
        let (stage, plan, policy) = (self.stage?, self.plan.as_ref()?, desk.policy);
        let facts = self.stage_facts(desk)?;
        let number = |place: usize| u16::try_from(place).unwrap_or(u16::MAX);
        let weighed = record::weigh(plan.checks(), &self.records, policy.alpha);
        let checks = plan.checks().iter().zip(&self.records).zip(weighed).enumerate();
        Some(Brief {
            stage: number(stage),
            stages: number(self.stages.len()),
            share: self.exposure.share.basis_points(),
            next_share: self.stages.get(stage + 1).map(|next| next.exposure.share.basis_points()),
            held_seconds: facts.held.as_secs(),
            bake_seconds: facts.bake_time.as_secs(),
            patience_seconds: facts.patience.saturating_sub(facts.held).as_secs(),
            autonomy: policy.autonomy,
            risk: plan.risk(),
            verdict: self.verdict.unwrap_or(Verdict::Hold),
            legal,
            checks: checks
                .map(|(place, ((check, record), weighed))| {
                    record.brief(check, check_id(place), weighed, Pace::of(policy))
                })
                .collect(),
        })
    }
}

fn check_id(place: usize) -> CheckId {
    CheckId(u16::try_from(place).unwrap_or(u16::MAX))
}

/// The beginning of some words, so that what follows them in a line is not cut off.
fn short(words: &str) -> String {
    let cut = words.chars().nth(WORDS_MAX).is_some();
    let kept: String = words.chars().take(WORDS_MAX).collect();
    if cut { format!("{kept}…") } else { kept }
}
