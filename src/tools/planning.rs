//! What a planner has at hand: readers of one change and one service, and a draft that grows.
//!
//! Its state is the draft. A check comes into it only after its form was looked up ([`proposal`]) and tried on the past
//! ([`trial`]); what was refused is remembered beside it, so that people see what a model wanted too. The past of an SLI is
//! asked for once.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    Context, Ended, Outcome, Review, Status, TOOLS, Tool, Toolbox,
    closing::{self, Abstain, DropCheck, Submit},
    form::{self, Form},
    known::{self, Nothing, Similar},
    metrics::{self, Profile, Search},
    proposal::{Known, Proposal},
    reading::{self, Hunks, WholeFile},
    reply::{self, Refusal, arguments, round, said, text},
    trial::{self, Kinship, Terms},
};
use crate::{
    domain::{Absence, Check, CheckName, ModelRole, Share, Sli, Split, Text, ToolCall, WayBack, Weight},
    plan::{Draft, Reason, Source, Standing, Touched, Trial, Tried, asked_of, heuristic_draft},
    stats::multiplicity,
    telemetry::{Catalogued, Past, PastAsk},
};

/// How far back the past is looked at: a day and an hour, so that yesterday's hour is in it.
pub const REACH: Duration = Duration::from_secs(25 * 3_600);
/// Longest wait for the past.
pub const PAST_WAIT: Duration = Duration::from_secs(10);
/// Most SLIs whose past is kept for the conversation.
const PASTS_MAX: usize = 32;
/// Most tried checks that are remembered, the newest.
pub const TRIED_MAX: usize = 64;
/// The chance of a false rollback where the policy's is none.
const ALPHA: f64 = 0.001;
/// What is to be known of a check that decides and decides late.
const SLOW: &str = "a version twice as bad is not found before everyone has it, only a worse one is: keep it if the \
                    harm would be that large, else lower largest_ratio, or count what is steadier or happens more often";

/// What a past is of: an SLI, and how it is split.
type PastOf = (Sli, Split);

/// What a planner has at hand.
pub struct Planning {
    context: Context,
    review: Arc<Review>,
    index: Result<Arc<Catalogued>, Absence>,
    draft: Draft,
    /// The operator's checks, which stand in the plan whatever is proposed.
    mandatory: Vec<Check>,
    /// The guards of plain rules, which stand beside what is proposed.
    guards: Vec<Check>,
    pasts: Vec<(PastOf, Arc<Result<Past, Absence>>)>,
    is_over: bool,
}

impl Planning {
    /// With nothing proposed yet.
    pub fn new(context: Context, review: Arc<Review>) -> Self {
        let index = context.telemetry.metrics(&context.service);
        let source = Source::Model { model: Text::default(), is_cached: false };
        let draft = Draft { source, ..Draft::by_rules(Vec::new(), WayBack::Open, Vec::new()) };
        let mandatory = asked_of(&context.bounds, Touched::of(&context.change));
        let mut guards = heuristic_draft(&context.diff, &context.bounds.catalogue).checks;
        guards.retain(|guard| !mandatory.iter().any(|check| is_same(check, guard)));
        guards.truncate(context.bounds.proposed_max);
        Self { context, review, index, draft, mandatory, guards, pasts: Vec::new(), is_over: false }
    }

    /// The draft so far, with what was tried. Its way back is open and its source has no name: both are set by the caller's
    /// rules.
    pub fn finish(self) -> Draft {
        self.draft
    }

    async fn run(&mut self, call: &ToolCall) -> Result<Outcome, Box<Outcome>> {
        let Some(tool) = self.offered(false).into_iter().find(|tool| tool.name == call.name) else {
            let names: Vec<&str> = self.offered(false).iter().map(|tool| tool.name).collect();
            let detail = format!("there is no tool {}; there is {}", said(&call.name), names.join(", "));
            return Err(Box::new(reply::malformed("unknown_tool", &detail)));
        };
        if self.is_over {
            return Ok(reply::denied("over", "the plan is submitted: nothing more can be done"));
        }
        let schema = self.schema(tool);
        let written = call.arguments.as_str();
        let index = self.index.clone();
        match tool.name {
            "get_diff_hunks" => Ok(reading::hunks(&self.review, &arguments::<Hunks>(&schema, written)?)),
            "get_file" => {
                let asked: WholeFile = arguments(&schema, written)?;
                Ok(reading::file(&self.context, &self.review, &asked).await)
            }
            "search_metrics" => {
                let asked: Search = arguments(&schema, written)?;
                Ok(metrics::search(&self.context, index.as_deref(), &asked))
            }
            "get_metric_profile" => {
                let asked: Profile = arguments(&schema, written)?;
                let sli = metrics::profiled(&self.context, index.as_deref().ok(), &asked);
                match sli {
                    Err(refusal) => Ok(refusal.outcome()),
                    Ok(sli) => Ok(self.profile(&sli).await),
                }
            }
            "list_slos" => {
                arguments::<Nothing>(&schema, written)?;
                Ok(known::slos(&self.context.bounds))
            }
            "get_similar_changes" => {
                let asked: Similar = arguments(&schema, written)?;
                Ok(known::similar(&self.context.past, &asked))
            }
            "add_ratio_check" => self.add::<form::Ratio>(&schema, written).await,
            "add_latency_check" => self.add::<form::Latency>(&schema, written).await,
            "add_events_check" => self.add::<form::Events>(&schema, written).await,
            "add_level_check" => self.add::<form::Level>(&schema, written).await,
            "add_mix_check" => self.add::<form::Mix>(&schema, written).await,
            "add_liveness_check" => self.add::<form::Liveness>(&schema, written).await,
            "add_probe_check" => self.add::<form::Probe>(&schema, written).await,
            "drop_check" => Ok(self.drop_check(&arguments(&schema, written)?)),
            "submit_plan" => Ok(self.submit(&arguments(&schema, written)?)),
            "abstain" => Ok(self.abstain(&arguments(&schema, written)?)),
            // A tool of the list that nothing runs is our mistake; the test of the list finds it.
            _ => Ok(reply::denied("unknown_tool", "this tool does nothing")),
        }
    }

    async fn profile(&mut self, sli: &Sli) -> Outcome {
        match self.past(sli, &Split::default()).await.as_ref() {
            Ok(past) => metrics::profile(past),
            Err(Absence::NoData) => reply::no_data("no_data", "nothing is known of its past"),
            Err(why) => reply::no_data("unavailable", &said(&why.to_string())),
        }
    }

    /// What the service's old version showed of an SLI; asked for once.
    async fn past(&mut self, sli: &Sli, split: &Split) -> Arc<Result<Past, Absence>> {
        let of = (sli.clone(), split.clone());
        if let Some((_, past)) = self.pasts.iter().find(|(known, _)| *known == of) {
            return Arc::clone(past);
        }
        let ask = PastAsk {
            service: self.context.service.clone(),
            stable: self.context.stable.clone(),
            sli: sli.clone(),
            split: split.clone(),
            reach: REACH,
        };
        let waited = tokio::time::timeout(PAST_WAIT, self.context.telemetry.history(ask)).await;
        let past = Arc::new(waited.unwrap_or_else(|_| Err(Absence::Unavailable(Text::new("no answer in time")))));
        if self.pasts.len() >= PASTS_MAX {
            self.pasts.remove(0);
        }
        self.pasts.push((of, Arc::clone(&past)));
        past
    }

    async fn add<F: Form + DeserializeOwned>(
        &mut self,
        schema: &Value,
        written: &str,
    ) -> Result<Outcome, Box<Outcome>> {
        let asked = match arguments::<F>(schema, written)?.asked() {
            Ok(asked) => asked,
            Err(unclear) => return Ok(reply::denied("unclear", &unclear)),
        };
        let name = asked.common.name.clone();
        let known = Known {
            bounds: &self.context.bounds,
            served: &self.context.served,
            touched: Touched::of(&self.context.change),
            review: &self.review,
            index: self.index.as_deref().ok(),
            draft: &self.draft,
        };
        match known.proposal(asked) {
            Ok(proposal) => Ok(self.take(proposal).await),
            Err(refusal) => {
                self.remember(refused(&name, &refusal));
                Ok(refusal.outcome())
            }
        }
    }

    /// Tries a proposal, and takes it into the draft unless there is nothing to measure.
    async fn take(&mut self, proposal: Proposal) -> Outcome {
        let Proposal { mut check, found, is_added, is_configured, changed } = proposal;
        let past = self.past(&check.sli, &check.split).await;
        let has = |metric: &str| self.index.as_ref().is_ok_and(|index| index.find(metric).is_some());
        let is_seen = check.sli.selectors().iter().all(|selector| has(&selector.metric));
        let kinship = Kinship { is_added, is_configured, is_seen };
        let context = &self.context;
        let terms = Terms {
            stages: &context.stages,
            alpha: context.alpha,
            log_threshold: self.log_threshold(&check),
            safe_ratio: context.safe_ratio,
            block: context.block,
            pod_incident: context.pod_incident,
        };
        let weight = check.weight;
        let tried = trial::on_past(&check, past.as_ref().as_ref(), kinship, &terms);
        self.remember(tried.clone());
        if tried.standing == Standing::Rejected {
            let data = told(&tried, weight, &self.context.stages, &changed, self.places());
            return reply::outcome(Status::Denied, tried.reason.word(), data, false);
        }
        if tried.standing == Standing::Demoted {
            check.weight = Weight::Advisory;
        }
        for metric in found {
            if !self.draft.found.contains(&metric) {
                self.draft.found.push(metric);
            }
        }
        self.draft.checks.push(check);
        reply::outcome(
            Status::Ok,
            tried.reason.word(),
            told(&tried, weight, &self.context.stages, &changed, self.places()),
            false,
        )
    }

    /// What the check's evidence would have to reach beside the checks so far and those that stand anyway, as a natural
    /// logarithm. A check that measures the same as one of the rules takes its place.
    fn log_threshold(&self, check: &Check) -> f64 {
        let decides = Check { weight: Weight::Critical, ..check.clone() };
        let proposed = || self.draft.checks.iter().chain(std::iter::once(&decides));
        let stands = |guard: &&Check| !proposed().any(|check| is_same(check, guard));
        let guards = self.guards.iter().filter(stands);
        let all: Vec<&Check> = self.mandatory.iter().chain(guards).chain(proposed()).collect();
        let weight = multiplicity::weights(&all).last().copied().unwrap_or(1.0);
        let alpha = self.context.alpha;
        let alpha = if alpha > 0.0 && alpha < 1.0 { alpha } else { ALPHA };
        -(alpha * weight).ln()
    }

    fn places(&self) -> usize {
        self.context.bounds.proposed_max.saturating_sub(self.draft.checks.len())
    }

    /// Keeps what came of a check; the newest of each name.
    fn remember(&mut self, tried: Tried) {
        let is_in_draft = |name: &CheckName| self.draft.checks.iter().any(|check| check.name == *name);
        if tried.standing == Standing::Rejected && is_in_draft(&tried.check) {
            // A second check of a name that stands: what is said of the one that stands stays.
            return;
        }
        self.draft.tried.retain(|earlier| earlier.check != tried.check);
        if self.draft.tried.len() >= TRIED_MAX {
            let refused = self.draft.tried.iter().position(|earlier| earlier.standing == Standing::Rejected);
            self.draft.tried.remove(refused.unwrap_or(0));
        }
        self.draft.tried.push(tried);
    }

    fn drop_check(&mut self, asked: &DropCheck) -> Outcome {
        let Some(at) = self.draft.checks.iter().position(|check| check.name.as_str() == asked.name) else {
            let names: Vec<String> = self.draft.checks.iter().map(|check| said(check.name.as_str())).collect();
            let detail = format!("name: you added no check of this name; you added: {}", names.join(", "));
            return reply::denied("unknown", &detail);
        };
        let dropped = self.draft.checks.remove(at);
        self.draft.tried.retain(|tried| tried.check != dropped.name);
        let used: Vec<&str> = self
            .draft
            .checks
            .iter()
            .flat_map(|check| check.sli.selectors())
            .map(|selector| selector.metric.as_str())
            .collect();
        self.draft.found.retain(|metric| used.contains(&metric.name.as_str()));
        reply::ok(
            json!({ "dropped": said(dropped.name.as_str()), "why": asked.reason(), "places_left": self.places() }),
        )
    }

    fn submit(&mut self, asked: &Submit) -> Outcome {
        if self.draft.checks.is_empty() {
            let detail = "no check was added: add one, or abstain if nothing fits";
            return reply::denied("nothing_proposed", detail);
        }
        let remarks = match asked.remarks(&self.review) {
            Ok(remarks) => remarks,
            Err(refusal) => return refusal.outcome(),
        };
        self.draft.risk = remarks.risk;
        self.draft.notes = remarks.notes;
        self.draft.uncovered = remarks.uncovered;
        let room = closing::UNCOVERED_MAX.saturating_sub(self.draft.uncovered.len());
        self.draft.uncovered.extend(closing::unshown(&self.review).take(room));
        self.is_over = true;
        let checks: Vec<Value> = self
            .draft
            .checks
            .iter()
            .map(|check| json!({ "name": said(check.name.as_str()), "decides": check.weight == Weight::Critical }))
            .collect();
        Outcome { ended: Some(Ended::Submitted), ..reply::ok(json!({ "checks": checks })) }
    }

    fn abstain(&mut self, asked: &Abstain) -> Outcome {
        self.is_over = true;
        Outcome { ended: Some(Ended::Abstained(asked.reason())), ..reply::ok(json!({})) }
    }
}

impl Toolbox for Planning {
    fn offered(&self, only_terminal: bool) -> Vec<&'static Tool> {
        let serves = |kind: &str| self.context.served.contains(&kind);
        let is_usable = |tool: &Tool| match tool.name {
            "get_file" => self.context.forge.is_some(),
            "add_ratio_check" => serves("ratio"),
            "add_latency_check" => serves("latency"),
            "add_events_check" => serves("events_per_traffic"),
            "add_level_check" => serves("level"),
            "add_mix_check" => serves("mix"),
            "add_liveness_check" => serves("liveness"),
            "add_probe_check" => serves("probe") && !self.context.bounds.probes.is_empty(),
            _ => true,
        };
        TOOLS
            .iter()
            .filter(|tool| tool.role == ModelRole::Planner && (tool.is_terminal || !only_terminal) && is_usable(tool))
            .collect()
    }

    fn schema(&self, tool: &Tool) -> Value {
        let mut schema = (tool.schema)();
        if tool.name == "add_probe_check"
            && let Some(probe) = schema.pointer_mut("/properties/probe").and_then(Value::as_object_mut)
        {
            probe.insert("enum".into(), json!(self.context.bounds.probes));
        }
        schema
    }

    fn call<'a>(&'a mut self, call: &'a ToolCall) -> BoxFuture<'a, Outcome> {
        async move { self.run(call).await.unwrap_or_else(|outcome| *outcome) }.boxed()
    }
}

/// Whether both measure the same in the same way.
fn is_same(one: &Check, other: &Check) -> bool {
    one.sli == other.sli && one.direction == other.direction && one.aim == other.aim
}

/// A proposal that did not come as far as a trial.
fn refused(name: &str, refusal: &Refusal) -> Tried {
    Tried {
        check: CheckName::new(text(name, super::proposal::NAME_BYTES_MAX).as_str()),
        standing: Standing::Rejected,
        reason: refusal.reason,
        detail: Text::new(&refusal.detail),
        baseline: None,
        trial: Trial::default(),
        power: Vec::new(),
    }
}

/// What a model is told of a trial: measurements rather than praise. A stage of everyone has nothing to compare with, so
/// that there is nothing to say of it.
fn told(tried: &Tried, weight: Weight, stages: &[(Share, Duration)], changed: &[String], places_left: usize) -> Value {
    let compared = || tried.power.iter().filter(|power| power.share.fraction() < 1.0);
    let bake = |share| stages.iter().find(|(of, _)| *of == share).map_or(0.0, |(_, bake)| bake.as_secs_f64());
    let power: Vec<Value> = compared()
        .map(|power| {
            let mut row = json!({
                "share_percent": power.share.fraction() * 100.0,
                "bake_seconds": bake(power.share),
                "seconds_to_see_twice": power.twice_seconds.and_then(round),
            });
            if let (Some(smallest), Some(row)) = (power.smallest.and_then(round), row.as_object_mut()) {
                row.insert("smallest_ratio_seen".into(), json!(smallest));
            }
            row
        })
        .collect();
    let baseline = tried.baseline.map(|baseline| {
        json!({
            "rate": round(baseline.rate),
            "per_second": round(baseline.per_second),
            "empty_share": round(baseline.empty),
            "seconds": baseline.seconds,
            "noise_is_known": baseline.is_calibrated,
        })
    });
    let decides = tried.standing == Standing::Admitted
        && weight == Weight::Critical
        && matches!(tried.reason, Reason::Sound | Reason::ShortHistory);
    // Evidence carries over, so that the parts which the stages give to it add up.
    let seen = compared().filter_map(|power| Some(bake(power.share) / power.twice_seconds?)).sum::<f64>();
    let is_slow = decides && !power.is_empty() && seen < 1.0;
    let mut details: Vec<&str> = changed.iter().map(String::as_str).collect();
    details.extend(Some(tried.detail.as_str()).filter(|detail| !detail.is_empty()));
    details.extend(Some(SLOW).filter(|_| is_slow));
    json!({
        "check": said(tried.check.as_str()),
        "standing": tried.standing,
        "detail": details.join("; "),
        "baseline": baseline,
        "false_alarms": { "alarms": tried.trial.alarms, "rollouts": tried.trial.rollouts },
        "power": power,
        "is_decisive": decides,
        "places_left": places_left,
    })
}
