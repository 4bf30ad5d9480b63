//! The numbers about plans, checks and models: what was made of diffs, what the model's word came to, and what it cost.
//!
//! They are counted from the events as they become durable, so that they agree with the journal. What an event does not
//! tell (answers that were given back to be mended, refusals, secrets that were masked) the agent counts itself, and is
//! asked at each scrape.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use crate::{
    domain::{Action, Conversation, Exchange, ModelRole, Stamped, Usage},
    plan::{Draft, Fallback, Reason, Source, Standing, Tried},
    rollout::Event,
};

const ROLES: [ModelRole; 3] = [ModelRole::Planner, ModelRole::Advisor, ModelRole::Narrator];
const STANDINGS: [Standing; 3] = [Standing::Admitted, Standing::Demoted, Standing::Rejected];
const REASONS: [Reason; 12] = [
    Reason::Sound,
    Reason::ShortHistory,
    Reason::Noisy,
    Reason::NoData,
    Reason::Blind,
    Reason::Unknown,
    Reason::WrongKind,
    Reason::NotInDiff,
    Reason::Duplicate,
    Reason::OutOfBounds,
    Reason::Full,
    Reason::Improvement,
];
/// Who made a plan: a model just now or for the same change before, rules, rules since the model failed, or nobody.
const MODEL: &str = "model";
const CACHE: &str = "cache";
const RULES: &str = "rules";
const FALLBACK: &str = "fallback";
/// Nothing was made or said.
const NONE: &str = "none";
const ANSWERED: &str = "answered";
const FAILED: &str = "failed";
/// Tokens by kind: what went in anew, what went in from the provider's cache, what came out.
const TOKEN_KINDS: [&str; 3] = ["input", "cached_input", "output"];
/// Upper edges in seconds: a short answer takes one, a thoughtful one a minute and more.
const CALL_SECONDS: [f64; 10] = [0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySource {
    source: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStanding {
    standing: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRole {
    role: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    role: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    role: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByAction {
    action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    result: &'static str,
}

/// What the agent counts itself, since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OwnCounts {
    /// Answers that were given back to be mended.
    pub(super) repairs: u64,
    /// Answers that were a refusal, or were stopped by a provider's filter.
    pub(super) refusals: u64,
    /// Secrets that were masked in diffs before a model saw them.
    pub(super) secrets: u64,
}

/// The numbers about plans, checks and models.
pub(super) struct ModelMetrics {
    plans: Family<BySource, Counter>,
    tried: Family<ByStanding, Counter>,
    tokens: Family<ByKind, Counter>,
    dollars: Family<ByRole, Counter<f64, AtomicU64>>,
    calls: Family<ByResult, Counter>,
    call_seconds: Family<ByRole, Histogram>,
    advice: Family<ByAction, Counter>,
    explanations: Family<ByOutcome, Counter>,
    repairs: Counter,
    refusals: Counter,
    secrets: Counter,
}

impl ModelMetrics {
    /// All at zero and registered. A series that is not there yet cannot be told from one that is lost, so every one is
    /// there from the start.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            plans: Family::default(),
            tried: Family::default(),
            tokens: Family::default(),
            dollars: Family::default(),
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(|| Histogram::new(CALL_SECONDS)),
            advice: Family::default(),
            explanations: Family::default(),
            repairs: Counter::default(),
            refusals: Counter::default(),
            secrets: Counter::default(),
        };
        metrics.register(registry);
        metrics.begin();
        metrics
    }

    fn register(&self, r: &mut Registry) {
        r.register("plans", "Plans made since the start, by who made them and why no model did", self.plans.clone());
        r.register(
            "checks_tried",
            "Proposed checks that were tried on the past since the start, by what they may do and why",
            self.tried.clone(),
        );
        r.register("model_tokens", "Tokens used since the start, by the model's role and by kind", self.tokens.clone());
        r.register(
            "model_cost_dollars",
            "Cost of the model since the start by the configured prices, by its role",
            self.dollars.clone(),
        );
        r.register("model_calls", "Questions to the model since the start, by its role and result", self.calls.clone());
        r.register(
            "model_call_seconds",
            "Time until the model answered or failed to, with all attempts, by its role",
            self.call_seconds.clone(),
        );
        r.register("advice", "Advice asked for since the start, by what was advised", self.advice.clone());
        r.register("explanations", "Explanations asked for since the start, by result", self.explanations.clone());
        r.register(
            "model_repairs",
            "Answers of the model given back to be mended since the start",
            self.repairs.clone(),
        );
        r.register("model_refusals", "Refusals of the model or its provider since the start", self.refusals.clone());
        r.register(
            "secrets_masked",
            "Secrets masked in diffs before a model saw them since the start",
            self.secrets.clone(),
        );
    }

    fn begin(&self) {
        let fallbacks = Fallback::ALL.map(|why| (FALLBACK, why.word()));
        for (source, reason) in [(MODEL, ""), (CACHE, ""), (RULES, ""), (NONE, "")].into_iter().chain(fallbacks) {
            self.plans.get_or_create(&BySource { source, reason }).inc_by(0);
        }
        for standing in STANDINGS {
            for reason in REASONS {
                self.tried
                    .get_or_create(&ByStanding { standing: standing_word(standing), reason: reason.word() })
                    .inc_by(0);
            }
        }
        for role in ROLES.map(ModelRole::word) {
            for kind in TOKEN_KINDS {
                self.tokens.get_or_create(&ByKind { role, kind }).inc_by(0);
            }
            for result in [ANSWERED, FAILED] {
                self.calls.get_or_create(&ByResult { role, result }).inc_by(0);
            }
            self.dollars.get_or_create(&ByRole { role }).inc_by(0.0);
            drop(self.call_seconds.get_or_create(&ByRole { role }));
        }
        for action in Action::ALL.map(Action::word).into_iter().chain([NONE]) {
            self.advice.get_or_create(&ByAction { action }).inc_by(0);
        }
        for result in [ANSWERED, FAILED] {
            self.explanations.get_or_create(&ByOutcome { result }).inc_by(0);
        }
    }

    /// These events were made durable.
    pub(super) fn committed(&self, entries: &[Stamped<Event>]) {
        for entry in entries {
            let conversation = match &entry.event {
                Event::Drafted { draft, conversation, .. } => {
                    self.drafted(draft.as_deref().ok());
                    conversation
                }
                Event::Advised { advice, conversation, .. } => {
                    let action = advice.as_ref().map_or(NONE, |advice| advice.action.word());
                    self.advice.get_or_create(&ByAction { action }).inc();
                    conversation
                }
                Event::Narrated { words, conversation, .. } => {
                    let result = if words.is_ok() { ANSWERED } else { FAILED };
                    self.explanations.get_or_create(&ByOutcome { result }).inc();
                    conversation
                }
                Event::Started { .. }
                | Event::PullRequestMerged { .. }
                | Event::ChangeFetched { .. }
                | Event::RevisionDeployed { .. }
                | Event::Shifted { .. }
                | Event::Expected { .. }
                | Event::Measured { .. }
                | Event::Commanded { .. }
                | Event::KillSwitch { .. }
                | Event::WokeUp => continue,
            };
            if let Some(conversation) = conversation {
                self.spoken(conversation);
            }
        }
    }

    fn drafted(&self, draft: Option<&Draft>) {
        let (source, reason) = match draft.map(|draft| &draft.source) {
            Some(Source::Heuristic) => (RULES, ""),
            Some(Source::Model { is_cached: false, .. }) => (MODEL, ""),
            Some(Source::Model { is_cached: true, .. }) => (CACHE, ""),
            Some(Source::Fallback { why, .. }) => (FALLBACK, why.word()),
            None => (NONE, ""),
        };
        self.plans.get_or_create(&BySource { source, reason }).inc();
        for Tried { standing, reason, .. } in draft.iter().flat_map(|draft| &draft.tried) {
            let (standing, reason) = (standing_word(*standing), reason.word());
            self.tried.get_or_create(&ByStanding { standing, reason }).inc();
        }
    }

    fn spoken(&self, conversation: &Conversation) {
        let role = conversation.role.word();
        for Exchange { failure, usage, millis, .. } in &conversation.exchanges {
            let result = if failure.is_none() { ANSWERED } else { FAILED };
            self.calls.get_or_create(&ByResult { role, result }).inc();
            // Exact for anything shorter than some hundred thousand years.
            self.call_seconds.get_or_create(&ByRole { role }).observe(*millis as f64 / 1_000.0);
            let Usage { input_tokens, cached_tokens, output_tokens, micro_dollars } = *usage;
            let fresh = input_tokens.saturating_sub(cached_tokens);
            for (kind, tokens) in TOKEN_KINDS.into_iter().zip([fresh, cached_tokens, output_tokens]) {
                self.tokens.get_or_create(&ByKind { role, kind }).inc_by(tokens);
            }
            self.dollars.get_or_create(&ByRole { role }).inc_by(micro_dollars.unwrap_or(0) as f64 / 1e6);
        }
    }

    /// What the agent has counted by now.
    pub(super) fn counted(&self, own: OwnCounts) {
        self.repairs.inner().store(own.repairs, Ordering::Relaxed);
        self.refusals.inner().store(own.refusals, Ordering::Relaxed);
        self.secrets.inner().store(own.secrets, Ordering::Relaxed);
    }
}

const fn standing_word(standing: Standing) -> &'static str {
    match standing {
        Standing::Admitted => "admitted",
        Standing::Demoted => "demoted",
        Standing::Rejected => "rejected",
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;
    use crate::{
        domain::{Advice, CheckName, Confidence, Digest, Prose, RequestId, RolloutId, Text, Timestamp, WayBack},
        plan::Trial,
    };

    fn at(event: Event) -> Stamped<Event> {
        Stamped { at: Timestamp::EPOCH, event }
    }

    fn draft(source: Source) -> Draft {
        Draft { source, ..Draft::by_rules(Vec::new(), WayBack::Open, Vec::new()) }
    }

    fn drafted(draft: Result<Draft, Text>, conversation: Option<Conversation>) -> Stamped<Event> {
        let (draft, conversation) = (draft.map(Box::new), conversation.map(Box::new));
        at(Event::Drafted { request: RequestId(1), rollout: RolloutId(1), draft, conversation })
    }

    fn shown(registry: &Registry, series: &str) -> f64 {
        let mut out = String::new();
        text::encode(&mut out, registry).unwrap();
        let line = out.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {series} in\n{out}")).parse().unwrap()
    }

    #[test]
    fn plans_are_counted_by_who_made_them_and_why_no_model_did() {
        let mut registry = Registry::default();
        let metrics = ModelMetrics::new(&mut registry);
        let model = |is_cached| Source::Model { model: Text::new("m"), is_cached };
        let refused = Source::Fallback { why: Fallback::Refused, detail: Text::new("no") };
        let tried = |standing, reason| Tried {
            check: CheckName::new("c"),
            standing,
            reason,
            detail: Text::default(),
            baseline: None,
            trial: Trial::default(),
            power: Vec::new(),
        };
        let by_model = Draft {
            tried: vec![tried(Standing::Admitted, Reason::Sound), tried(Standing::Rejected, Reason::Unknown)],
            ..draft(model(false))
        };
        metrics.committed(&[
            drafted(Ok(by_model), None),
            drafted(Ok(draft(model(true))), None),
            drafted(Ok(draft(refused)), None),
            drafted(Ok(draft(Source::Heuristic)), None),
            drafted(Err(Text::new("no diff")), None),
            at(Event::WokeUp),
        ]);
        for (series, count) in [
            ("plans_total{source=\"model\",reason=\"\"}", 1.0),
            ("plans_total{source=\"cache\",reason=\"\"}", 1.0),
            ("plans_total{source=\"rules\",reason=\"\"}", 1.0),
            ("plans_total{source=\"none\",reason=\"\"}", 1.0),
            ("plans_total{source=\"fallback\",reason=\"refused\"}", 1.0),
            ("plans_total{source=\"fallback\",reason=\"over_budget\"}", 0.0),
            ("checks_tried_total{standing=\"admitted\",reason=\"sound\"}", 1.0),
            ("checks_tried_total{standing=\"rejected\",reason=\"unknown\"}", 1.0),
            ("checks_tried_total{standing=\"demoted\",reason=\"noisy\"}", 0.0),
        ] {
            assert_eq!(shown(&registry, series), count, "{series}");
        }
    }

    #[test]
    fn what_a_conversation_used_is_counted_once_and_by_kind() {
        let mut registry = Registry::default();
        let metrics = ModelMetrics::new(&mut registry);
        let usage =
            |micro_dollars| Usage { input_tokens: 9_000, cached_tokens: 6_000, output_tokens: 120, micro_dollars };
        let exchange = |failure: Option<Text>, micro_dollars| Exchange {
            request: Digest::new("0"),
            question: Digest::new("0"),
            said: 2,
            finish: Text::default(),
            failure,
            attempts: 1,
            usage: usage(micro_dollars),
            millis: 1_500,
        };
        let conversation = Conversation {
            role: ModelRole::Planner,
            model: Text::new("m"),
            prompt: Digest::new("0"),
            messages: Vec::new(),
            exchanges: vec![exchange(None, Some(12_000)), exchange(Some(Text::new("late")), None)],
            end: Text::default(),
        };
        metrics.committed(&[drafted(Ok(draft(Source::Heuristic)), Some(conversation))]);
        let advice =
            Advice { action: Action::Hold, cites: Vec::new(), confidence: Confidence::Low, rationale: Text::default() };
        let (request, rollout) = (RequestId(1), RolloutId(1));
        metrics.committed(&[
            at(Event::Advised { request, rollout, advice: Ok(advice), conversation: None }),
            at(Event::Advised { request, rollout, advice: Err(Text::new("late")), conversation: None }),
            at(Event::Narrated { request, rollout, words: Ok(Prose::new("it held")), conversation: None }),
        ]);
        metrics.counted(OwnCounts { repairs: 3, refusals: 2, secrets: 1 });
        for (series, count) in [
            ("model_tokens_total{role=\"planner\",kind=\"input\"}", 6_000.0),
            ("model_tokens_total{role=\"planner\",kind=\"cached_input\"}", 12_000.0),
            ("model_tokens_total{role=\"planner\",kind=\"output\"}", 240.0),
            ("model_tokens_total{role=\"advisor\",kind=\"output\"}", 0.0),
            ("model_cost_dollars_total{role=\"planner\"}", 0.012),
            ("model_calls_total{role=\"planner\",result=\"answered\"}", 1.0),
            ("model_calls_total{role=\"planner\",result=\"failed\"}", 1.0),
            ("model_call_seconds_sum{role=\"planner\"}", 3.0),
            ("model_call_seconds_count{role=\"narrator\"}", 0.0),
            ("advice_total{action=\"hold\"}", 1.0),
            ("advice_total{action=\"none\"}", 1.0),
            ("advice_total{action=\"expand\"}", 0.0),
            ("explanations_total{result=\"answered\"}", 1.0),
            ("model_repairs_total", 3.0),
            ("model_refusals_total", 2.0),
            ("secrets_masked_total", 1.0),
        ] {
            assert_eq!(shown(&registry, series), count, "{series}");
        }
    }
}
