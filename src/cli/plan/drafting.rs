//! Who drafts: a model as the daemon would ask it, the record of a conversation, or plain rules.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;

use crate::{
    agent::{self, Agent, Difference, Planned, Replay, model::Model as _},
    cli::assemble,
    config::Config,
    daemon::{Clock, drafting},
    domain::{Change, Conversation, Diff, Revision, RolloutId, ServiceName, Text},
    forge::GitHub,
    plan::{self, Draft},
    rollout::ServicePolicy,
    telemetry::{self, Provider},
};

/// How long the service's own pages are waited for, so that proposed checks can name what they show.
const INDEX_WITHIN: Duration = Duration::from_secs(5);
const INDEX_EVERY: Duration = Duration::from_millis(50);
/// The number of a rollout that there is not.
const NO_ROLLOUT: RolloutId = RolloutId(0);

/// A draft, and how it came about.
pub(super) struct Drafted {
    pub(super) draft: Draft,
    pub(super) conversation: Option<Conversation>,
    /// How a replay differed from its record.
    pub(super) differences: Vec<Text>,
}

impl Drafted {
    /// A draft by plain rules.
    pub(super) fn by_rules(diff: &Diff, service: &ServicePolicy) -> Self {
        let draft = agent::without_secrets(plan::heuristic_draft(diff, &service.bounds.catalogue));
        Self { draft, conversation: None, differences: Vec::new() }
    }
}

/// All that a draft is made from, besides the change.
pub(super) struct Planner<'a> {
    pub(super) config: &'a Config,
    pub(super) name: &'a ServiceName,
    pub(super) service: &'a ServicePolicy,
    pub(super) forge: Option<GitHub>,
    pub(super) stable: Option<Revision>,
}

impl Planner<'_> {
    /// A draft as the daemon would have it made.
    pub(super) async fn drafted(self, change: Change, diff: Diff) -> anyhow::Result<Drafted> {
        let is_planned_by_model = self.config.planned_by_model.contains(self.name);
        let Some(model) = self.config.model.as_ref().filter(|_| is_planned_by_model) else {
            return Ok(Drafted::by_rules(&diff, self.service));
        };
        let agent = Agent::new(assemble::model_config(model), clock())?;
        self.asked(&agent, change, diff).await
    }

    /// A draft that a recorded conversation makes. Where the telemetry or the prompts are not those of the record, what
    /// was answered then is answered all the same, and the difference is told.
    pub(super) async fn replayed(self, record: &Path, change: Change, diff: Diff) -> anyhow::Result<Drafted> {
        let replay = Arc::new(Replay::new(agent::recording::read(record)?, Difference::GoOn));
        let model = self.config.model.as_ref().map(assemble::model_config);
        let config = model.unwrap_or_else(|| unreached(replay.name()));
        let agent = Agent::with_model(config, Arc::<Replay>::clone(&replay), clock())?;
        let drafted = self.asked(&agent, change, diff).await?;
        Ok(Drafted { differences: replay.differences(), ..drafted })
    }

    async fn asked(self, agent: &Agent, change: Change, diff: Diff) -> anyhow::Result<Drafted> {
        let telemetry = assemble::telemetry(self.config, clock())?;
        self.await_index(&*telemetry).await;
        let by_rules = agent::without_secrets(plan::heuristic_draft(&diff, &self.service.bounds.catalogue));
        let order = drafting::Order {
            rollout: NO_ROLLOUT,
            name: self.name.clone(),
            change: Arc::new(change),
            stable: self.stable,
            past: Arc::from([]),
        };
        let context = order.context(self.service, Arc::new(diff), telemetry, self.forge.map(Arc::new));
        let Planned { draft, conversation } = agent.plan(NO_ROLLOUT, context).await;
        let draft = draft.unwrap_or_else(|(why, detail)| drafting::instead(by_rules, why, &detail));
        Ok(Drafted { draft, conversation, differences: Vec::new() })
    }

    /// Waits a little until the service's pages were read once. Where they cannot be, nothing beyond the configured SLIs
    /// can be named.
    async fn await_index(&self, telemetry: &dyn Provider) {
        if let Some(stable) = &self.stable {
            assemble::begin_history(telemetry, self.name, stable).await;
        }
        let seen = async {
            while telemetry.metrics(self.name).is_err() {
                tokio::time::sleep(INDEX_EVERY).await;
            }
        };
        if tokio::time::timeout(INDEX_WITHIN, seen).await.is_err() {
            eprintln!(
                "plan: no page of {}'s old version could be read, so no proposed check is tried on its past",
                self.name
            );
        }
    }
}

/// Writes a conversation to a file.
pub(super) fn write(file: &Path, conversation: Option<&Conversation>, service: &ServiceName) -> anyhow::Result<()> {
    let conversation = conversation.with_context(|| {
        format!("there is no conversation to record: no model was asked about this change to {service}; see [model] and services.{service}.model.plans")
    })?;
    Ok(agent::recording::write(file, conversation)?)
}

/// The limits of a model that nobody reaches.
fn unreached(name: &str) -> agent::Config {
    agent::Config {
        flavour: agent::Flavour::OpenAi,
        base_url: String::new(),
        model: name.to_owned(),
        key: None,
        timeout: Duration::ZERO,
        attempts_max: 1,
        price: None,
        limits: agent::Limits::default(),
        budgets: agent::Budgets::default(),
    }
}

fn clock() -> telemetry::Clock {
    let clock = Clock::default();
    Arc::new(move || clock.now())
}
