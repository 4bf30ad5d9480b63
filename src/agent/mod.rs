//! The loop between prompt, model and tools. It ends in a draft or in advice, within a budget, whatever the model does.
//!
//! Three roles are kept apart. The planner reads the untrusted diff and has readers for tools; the adviser sees numbers
//! only; the narrator writes for people and is never read back. Each has a prompt (`prompts/*.md`) and one typed struct of
//! its variables. Nothing here decides: a draft goes through admission, advice through the judge and the rails.

mod breaker;
mod budget;
mod cache;
mod calls;
mod capabilities;
mod client;
mod client_answers;
mod client_request;
mod config;
mod digest;
mod masking;
pub mod model;
mod parts;
mod prompts;
mod record;
pub mod recording;
mod replay;
mod shown;
mod talk;
mod totals;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use breaker::{FAILURES_MAX, PAUSE_FIRST, PAUSE_MAX};
pub use budget::{Exhausted, Ledger, Limit, Most, PULL_REQUESTS_MAX, Payer, Reservation, Run, Spending};
pub use cache::{AGE_MAX, PLANS_MAX};
pub use capabilities::{Capabilities, Schemas};
pub use client::{ANSWER_BYTES_MAX, Client};
pub use client_request::OutputLimit;
pub use config::{Budgets, Config, Flavour, Limits, Price};
pub use masking::without_secrets;
pub use parts::{Drafting, Toolboxes};
pub use record::{CALLS_EACH_MAX, MESSAGE_BYTES_MAX, RECORD_BYTES_MAX};
pub use replay::{Difference, Replay};
pub use totals::{CallResult, Totals};

use self::{
    cache::Cache,
    digest::sha256,
    model::{CallError, Model},
    parts::{AdvisorPart, NarratorPart, Part, PlannerPart, Real},
    prompts::Prompts,
    talk::{Closed, Rules, Said, Setting, hold},
    totals::Counter,
};
use crate::{
    domain::{
        Advice, Brief, Change, Check, Conversation, Diff, Digest, ModelRole, Origin, PathClass, Prose, Repository,
        Risk, RolloutId, ServiceName, Story, Text, Timestamp, Usage,
    },
    plan::{Draft, Fallback, Source, heuristic_draft, path_class},
    tools::{Context, Ended, Review},
};

/// The clock of the world that the agent lives in.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Most rollouts whose pull requests are remembered for their account.
const PAYERS_MAX: usize = 4_096;
/// The repository of a rollout whose change is not known: its number then stands for the pull request's.
const NOWHERE: &str = "unknown/unknown";

/// What came of asking for a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The model's draft, or why there is none and in which words.
    pub draft: Result<Draft, (Fallback, String)>,
    /// What was said; `None` where nothing was, as for a plan from the cache.
    pub conversation: Option<Conversation>,
}

/// What came of asking for advice.
#[derive(Clone, Debug, PartialEq)]
pub struct Advised {
    /// The advice, or why there is none and in which words.
    pub advice: Result<Advice, (Fallback, String)>,
    /// What was said.
    pub conversation: Option<Conversation>,
}

/// What came of asking for an explanation.
#[derive(Clone, Debug, PartialEq)]
pub struct Narrated {
    /// The words, or why there are none.
    pub words: Result<Prose, (Fallback, String)>,
    /// What was said.
    pub conversation: Option<Conversation>,
}

/// Why there is no agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Its model cannot be reached as configured.
    #[error("{0}")]
    Model(CallError),
    /// Something that is part of the program is wrong, such as a prompt: a test has seen that nothing is.
    #[error("{0}")]
    Program(Text),
}

/// What an agent is made of.
pub struct Made {
    /// The limits of a run.
    pub limits: Limits,
    /// What runs may use together.
    pub budgets: Budgets,
    /// What tokens cost.
    pub price: Option<Price>,
    /// Who answers.
    pub model: Arc<dyn Model>,
    /// Who makes the tools.
    pub toolboxes: Arc<dyn Toolboxes>,
    /// What time it is.
    pub clock: Clock,
}

/// A language model in its three roles. Cheap to clone, and safe to use from many tasks; any of its futures may be dropped
/// at any moment.
#[derive(Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

struct Inner {
    made: Made,
    ledger: Ledger,
    prompts: Prompts,
    planner: Digest,
    advisor: Digest,
    narrator: Digest,
    cache: Cache,
    totals: Counter,
    payers: Mutex<BTreeMap<RolloutId, Payer>>,
    nowhere: Repository,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("model", &self.inner.made.model.name()).finish_non_exhaustive()
    }
}

impl Agent {
    /// An agent that asks the configured model over HTTP. It reaches nothing yet.
    ///
    /// # Errors
    /// A model that cannot be reached as configured.
    pub fn new(config: Config, clock: Clock) -> Result<Self, Error> {
        let model = Arc::new(Client::new(config.clone()).map_err(Error::Model)?);
        Self::with_model(config, model, clock)
    }

    /// An agent that asks this model, within the limits of the configuration.
    ///
    /// # Errors
    /// A prompt that cannot be read.
    pub fn with_model(config: Config, model: Arc<dyn Model>, clock: Clock) -> Result<Self, Error> {
        let Config { price, limits, budgets, .. } = config;
        Self::made_of(Made { limits, budgets, price, model, toolboxes: Arc::new(Real), clock })
    }

    /// An agent of these parts.
    ///
    /// # Errors
    /// A prompt that cannot be read.
    pub fn made_of(made: Made) -> Result<Self, Error> {
        let ledger = Ledger::new(made.limits, made.budgets, made.price, Arc::clone(&made.clock));
        let inner = Inner {
            made,
            ledger,
            prompts: Prompts::new().map_err(|why| Error::Program(Text::new(why)))?,
            planner: Prompts::digest(ModelRole::Planner),
            advisor: Prompts::digest(ModelRole::Advisor),
            narrator: Prompts::digest(ModelRole::Narrator),
            cache: Cache::default(),
            totals: Counter::default(),
            payers: Mutex::default(),
            nowhere: NOWHERE.parse().map_err(|why: String| Error::Program(Text::new(why)))?,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A draft for a change, from the cache where there is one. A change of documents or tests only needs no model.
    pub async fn plan(&self, rollout: RolloutId, context: Context) -> Planned {
        let Inner { made, prompts, cache, totals, planner, .. } = &*self.inner;
        self.remember(rollout, &context.service, &context.change);
        let by_rules = without_secrets(heuristic_draft(&context.diff, &context.bounds.catalogue));
        if needs_no_model(&context.change, &context.diff) {
            totals.with(|totals| totals.not_needed += 1);
            return Planned { draft: Ok(by_rules), conversation: None };
        }
        let key = cache::key(&context, planner, made.model.name(), &made.limits);
        if let Some(draft) = cache.get(&key, (made.clock)()) {
            totals.with(|totals| totals.cache_hits += 1);
            return Planned { draft: Ok(draft), conversation: None };
        }
        let review = Arc::new(Review::of(&context.diff));
        totals.with(|totals| totals.secrets += u64::try_from(review.secrets).unwrap_or(u64::MAX));
        let mut part = PlannerPart {
            context: &context,
            review,
            limits: &made.limits,
            prompts,
            toolboxes: &*made.toolboxes,
            toolbox: None,
            uncovered: Vec::new(),
        };
        let said = self.hold(ModelRole::Planner, None, rollout, &context.service, &mut part).await;
        let PlannerPart { toolbox, uncovered, review, .. } = part;
        let draft = match (said.closed, toolbox) {
            (Ok(Closed::By(Ended::Submitted)), Some(toolbox)) => {
                let draft = bounded_by_rules(toolbox.finish(), by_rules, uncovered, review.hides);
                let draft = without_secrets(draft);
                let model = Text::new(made.model.name());
                let source = |is_cached| Source::Model { model: model.clone(), is_cached };
                cache.put(key, Draft { source: source(true), ..draft.clone() }, (made.clock)());
                Ok(Draft { source: source(false), ..draft })
            }
            (Ok(Closed::By(Ended::Abstained(why))), _) => Err((Fallback::Abstained, why.to_owned())),
            (Ok(Closed::By(Ended::Advised(_) | Ended::Submitted) | Closed::Words(_)), _) => Err(another("a plan")),
            (Err(failed), _) => Err(failed),
        };
        Planned { draft, conversation: Some(said.conversation) }
    }

    /// Advice for a stage, made from the brief alone. Without any, the verdict of the statistics stands, or is held.
    pub async fn advise(
        &self,
        rollout: RolloutId,
        service: &ServiceName,
        brief: Arc<Brief>,
        within: Duration,
    ) -> Advised {
        let Inner { made, prompts, .. } = &*self.inner;
        let mut part = AdvisorPart { brief, prompts, toolboxes: &*made.toolboxes, toolbox: None };
        let said = self.hold(ModelRole::Advisor, Some(within), rollout, service, &mut part).await;
        let advice = match said.closed {
            Ok(Closed::By(Ended::Advised(advice))) => Ok(advice),
            Ok(Closed::By(Ended::Abstained(why))) => Err((Fallback::Abstained, why.to_owned())),
            Ok(Closed::By(Ended::Submitted) | Closed::Words(_)) => Err(another("advice")),
            Err(failed) => Err(failed),
        };
        Advised { advice, conversation: Some(said.conversation) }
    }

    /// Words for people on how a rollout ended. They are shown as a model's, escaped where they are shown, and never read
    /// back.
    pub async fn narrate(&self, rollout: RolloutId, story: Arc<Story>) -> Narrated {
        let service = story.service.clone();
        let mut part = NarratorPart { story, prompts: &self.inner.prompts };
        let said = self.hold(ModelRole::Narrator, None, rollout, &service, &mut part).await;
        let words = match said.closed {
            Ok(Closed::Words(words)) => Ok(Prose::new(words)),
            Ok(Closed::By(_)) => Err(another("an explanation")),
            Err(failed) => Err(failed),
        };
        Narrated { words, conversation: Some(said.conversation) }
    }

    /// Takes what the journal says was used before this process began into the day's budget. To be called once, before
    /// anything is asked.
    pub fn seed_spent(&self, used: &[(Timestamp, Usage)]) {
        self.inner.ledger.seed(used);
    }

    /// Takes what was used for a pull request before this process began into its budget. To be called once for each, before
    /// anything is asked.
    pub fn seed_pull_request(&self, payer: &Payer, usage: &Usage) {
        self.inner.ledger.seed_pull_request(payer, usage);
    }

    /// What is spent and reserved today.
    pub fn today(&self) -> Spending {
        self.inner.ledger.today()
    }

    /// What the model was used for since this process began.
    pub fn counts(&self) -> Totals {
        self.inner.totals.snapshot()
    }

    async fn hold(
        &self,
        role: ModelRole,
        within: Option<Duration>,
        rollout: RolloutId,
        service: &ServiceName,
        part: &mut dyn Part,
    ) -> Said {
        let Inner { made, planner, advisor, narrator, totals, .. } = &*self.inner;
        let prompt = match role {
            ModelRole::Planner => planner,
            ModelRole::Advisor => advisor,
            ModelRole::Narrator => narrator,
        };
        // The same for all changes of a service, so that they share a beginning; at most 64 bytes, as servers want it.
        let short: String = sha256(service.as_str()).as_str().chars().take(16).collect();
        let setting = Setting {
            model: &*made.model,
            run: self.inner.ledger.run(self.payer(rollout, service)),
            price: made.price,
            role,
            rules: Rules::of(role, &made.limits, within),
            prompt: prompt.clone(),
            cache_key: &format!("tollgate-{}-{short}", role.word()),
        };
        let said = hold(setting, part).await;
        totals.run(role, &said);
        said
    }

    /// Says which pull request a rollout delivers, so that all its runs go on one account. Planning says it by itself; a
    /// rollout that was planned before this process began is to be named here. The oldest makes room.
    pub fn remember(&self, rollout: RolloutId, service: &ServiceName, change: &Change) {
        let payer = Payer {
            service: service.clone(),
            repository: change.repository.clone(),
            pull_request: change.pull_request,
        };
        let mut payers = self.inner.payers.lock().unwrap_or_else(PoisonError::into_inner);
        payers.insert(rollout, payer);
        if payers.len() > PAYERS_MAX {
            payers.pop_first();
        }
    }

    fn payer(&self, rollout: RolloutId, service: &ServiceName) -> Payer {
        let payers = self.inner.payers.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown =
            || Payer { service: service.clone(), repository: self.inner.nowhere.clone(), pull_request: rollout.0 };
        payers.get(&rollout).cloned().unwrap_or_else(unknown)
    }
}

/// An agent that plans from the record of a conversation, and the replay, which tells what was not as recorded. What
/// differs is answered as it was then. The limits are the usual ones.
///
/// # Errors
/// A prompt that cannot be read.
pub fn replaying(conversation: Conversation, clock: Clock) -> Result<(Agent, Arc<Replay>), Error> {
    let replay = Arc::new(Replay::new(conversation, Difference::GoOn));
    let agent = Agent::made_of(Made {
        limits: Limits::default(),
        budgets: Budgets::default(),
        price: None,
        model: Arc::clone(&replay) as Arc<dyn Model>,
        toolboxes: Arc::new(Real),
        clock,
    })?;
    Ok((agent, replay))
}

/// A closing tool of another role: no toolbox of ours offers one.
fn another(wanted: &str) -> (Fallback, String) {
    (Fallback::Malformed, format!("the conversation ended in something other than {wanted}"))
}

/// Whether nothing in the change can change what the service does.
fn needs_no_model(change: &Change, diff: &Diff) -> bool {
    let is_harmless = |path: &str| matches!(path_class(path), PathClass::Docs | PathClass::Tests);
    let harmless = |file: &crate::domain::FileDiff| {
        is_harmless(&file.path) && file.previous_path.as_deref().is_none_or(is_harmless)
    };
    !diff.cut && !change.files_cut && diff.files.iter().all(harmless)
}

/// What plain rules say over a model's draft: whether the change can be taken back is theirs alone, since a model that says
/// "it cannot" would keep a bad version from being rolled back. It says so in a note, and in a higher risk. A diff that
/// `hides` characters from whoever reads it is risky whatever the model made of it.
///
/// The rules' guards stand before its checks: a model that is lazy, or that the change itself has talked round, must not
/// leave a plan weaker than no model would. Admission lets a check of the model's take the place of a guard that measures
/// the same no more strictly.
fn bounded_by_rules(draft: Draft, by_rules: Draft, uncovered: Vec<Text>, hides: bool) -> Draft {
    // Nothing of a model's passes for a rule's.
    let of_model = |check: Check| Check { origin: Origin::Model, ..check };
    let checks = by_rules.checks.into_iter().chain(draft.checks.into_iter().map(of_model)).collect();
    let mut draft = Draft { checks, way_back: by_rules.way_back, ..draft };
    draft.notes.extend(by_rules.notes);
    if hides {
        draft.risk = draft.risk.max(Risk::Medium);
        draft.notes.push(Text::new("the diff hides characters from whoever reads it: look at it with them shown"));
    }
    for text in uncovered {
        if !draft.uncovered.contains(&text) {
            draft.uncovered.push(text);
        }
    }
    draft
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Aim, CheckName, Direction, Selector, Sli, Split, WayBack, Weight};

    #[test]
    fn what_hides_is_risky_whatever_the_model_says_and_the_way_back_is_the_rules() {
        let drafted = |way_back| Draft::by_rules(Vec::new(), way_back, Vec::new());
        let one_way = || WayBack::OneWay { why: Text::new("it drops a column"), lines: Vec::new() };
        let shown = bounded_by_rules(drafted(one_way()), drafted(WayBack::Open), Vec::new(), false);
        assert_eq!((shown.risk, shown.way_back, shown.notes.len()), (Risk::Low, WayBack::Open, 0));
        let hidden = bounded_by_rules(drafted(WayBack::Open), drafted(one_way()), Vec::new(), true);
        assert_eq!((hidden.risk, hidden.way_back, hidden.notes.len()), (Risk::Medium, one_way(), 1));
        let high = Draft { risk: Risk::High, ..drafted(WayBack::Open) };
        assert_eq!(bounded_by_rules(high, drafted(WayBack::Open), Vec::new(), true).risk, Risk::High);
    }

    #[test]
    fn the_rules_guards_stand_before_what_a_model_proposes_and_nothing_of_its_passes_for_them() {
        let check = |name: &str, origin| Check {
            name: CheckName::new(name),
            sli: Sli::Liveness { series: Selector::metric(name) },
            direction: Direction::HigherIsWorse,
            ratio_max: 1.5,
            limit: None,
            aim: Aim::Guard,
            weight: Weight::Critical,
            origin,
            rationale: Text::default(),
            lines: Vec::new(),
            split: Split::default(),
        };
        let draft = |checks| Draft::by_rules(checks, WayBack::Open, Vec::new());
        let rules = draft(vec![check("rule", Origin::Heuristic)]);
        let lazy = draft(vec![check("idle", Origin::Heuristic)]);
        let both = bounded_by_rules(lazy, rules, Vec::new(), false).checks;
        assert_eq!(both, [check("rule", Origin::Heuristic), check("idle", Origin::Model)]);
    }
}
