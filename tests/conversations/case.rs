//! A change out of `evals/conversations/`, and its planning: with a model, or from the record of one.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate::{
    agent::{self, Agent, Planned, model::Model, recording},
    config::{self, Config},
    daemon::drafting::{self, Order},
    domain::{Change, Conversation, Diff, FileDiff, FileTouched, Person, RolloutId, ServiceName, Text, Timestamp},
    forge::diff,
    plan::{self, Admission, Trial},
    rollout::ServicePolicy,
    stats, tools,
};

use crate::world::World;

/// The folder of all of them.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("evals/conversations")
}

/// One change, with the service that it is for.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) config: Config,
    pub(crate) change: Change,
    pub(crate) diff: Diff,
    /// The diff as it is written.
    pub(crate) text: String,
}

/// What came of a planning, as far as it decides or is told: what is kept beside a record.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) source: Value,
    pub(crate) risk: Value,
    pub(crate) way_back: Value,
    /// Name, kind, origin, weight, aim and tolerance of each check, the operator's first.
    pub(crate) checks: Vec<Value>,
    /// Name, standing and reason of each that was tried.
    pub(crate) tried: Vec<Value>,
    pub(crate) uncovered: Vec<Value>,
}

impl Case {
    pub(crate) fn read(name: &str) -> Self {
        let read = |file: &str| fs::read_to_string(folder().join(name).join(file)).unwrap();
        let env = |_: &str| Some("a-word-that-stands-for-a-secret".to_owned());
        let config = config::read(&read("tollgate.toml"), "tollgate.toml", &env)
            .unwrap_or_else(|problems| panic!("{name}: {problems:?}"));
        let text = read("change.diff");
        let diff = diff::read(text.as_bytes(), &diff::LIMITS).unwrap();
        let service = config.policy.services.values().next().unwrap();
        let change = change_of(&diff, service, read("title.txt").trim_end());
        Self { name: name.to_owned(), config, change, diff, text }
    }

    pub(crate) fn all() -> Vec<Self> {
        let mut names: Vec<String> = fs::read_dir(folder())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir() && !entry.file_name().to_string_lossy().starts_with('_'))
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names.iter().map(|name| Self::read(name)).collect()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        folder().join(&self.name).join(name)
    }

    pub(crate) fn service(&self) -> (&ServiceName, &ServicePolicy) {
        self.config.policy.services.iter().next().unwrap()
    }

    /// The record, where a model was asked.
    pub(crate) fn recorded(&self) -> Option<Conversation> {
        let file = self.file("conversation.json");
        file.exists().then(|| recording::read(&file).unwrap())
    }

    /// What came of it then.
    pub(crate) fn expected(&self) -> Outcome {
        serde_json::from_str(&fs::read_to_string(self.file("outcome.json")).unwrap()).unwrap()
    }

    /// Plans the change, as the daemon does and `tollgate plan`.
    pub(crate) async fn planned(&self, model: Arc<dyn Model>) -> (Admission, Option<Conversation>) {
        let (name, service) = self.service();
        let page = fs::read_to_string(self.file("metrics.prom")).unwrap();
        let world = World::of(name, &page).await;
        let order = Order {
            rollout: RolloutId(0),
            name: name.clone(),
            change: Arc::new(self.change.clone()),
            stable: None,
            past: Arc::from([]),
        };
        let context: tools::Context = order.context(service, Arc::new(self.diff.clone()), Arc::new(world), None);
        let agent = Agent::with_model(agent_config(""), model, Arc::new(|| Timestamp::EPOCH)).unwrap();
        let Planned { draft, conversation } = agent.plan(RolloutId(0), context).await;
        let by_rules = plan::heuristic_draft(&self.diff, &service.bounds.catalogue);
        let draft = draft.unwrap_or_else(|(why, detail)| drafting::instead(by_rules, why, &detail));
        let touched = plan::Touched::of(&self.change);
        let admission = plan::admit(draft, &service.bounds, touched, &stats::served(), |_| Trial::default());
        (admission, conversation)
    }
}

/// The usual limits; only waiting is longer, for a model that is slow to answer while it is recorded.
pub(crate) fn agent_config(base_url: &str) -> agent::Config {
    agent::Config {
        flavour: agent::Flavour::OpenAi,
        base_url: base_url.to_owned(),
        model: "claude-by-mailbox".to_owned(),
        key: None,
        timeout: Duration::from_secs(600),
        attempts_max: 1,
        price: None,
        limits: agent::Limits { plan_within: Duration::from_secs(1_800), ..agent::Limits::default() },
        budgets: agent::Budgets::default(),
    }
}

impl Outcome {
    pub(crate) fn of(admission: &Admission) -> Self {
        let plan = &admission.plan;
        let json = |value: Result<Value, serde_json::Error>| value.unwrap();
        let check = |check: &tollgate::domain::Check| {
            serde_json::json!({
                "name": check.name, "kind": check.sli.kind(), "measures": check.sli.to_string(), "origin": check.origin,
                "weight": check.weight, "aim": check.aim, "ratio_max": check.ratio_max,
            })
        };
        let tried = |tried: &plan::Tried| serde_json::json!({ "check": tried.check, "standing": tried.standing, "reason": tried.reason });
        Self {
            source: json(serde_json::to_value(plan.source())),
            risk: json(serde_json::to_value(plan.risk())),
            way_back: json(serde_json::to_value(plan.way_back())),
            checks: plan.checks().iter().map(check).collect(),
            tried: plan.tried().iter().map(tried).collect(),
            uncovered: plan.uncovered().iter().map(|part| serde_json::json!(part)).collect(),
        }
    }
}

fn change_of(diff: &Diff, service: &ServicePolicy, title: &str) -> Change {
    let touched = |file: &FileDiff| FileTouched {
        path: file.path.clone(),
        previous_path: file.previous_path.clone(),
        kind: file.kind,
    };
    Change {
        repository: service.repository.clone(),
        pull_request: 0,
        title: Text::new(title),
        author: Person(Text::new("nobody")),
        merged_by: None,
        base: "0000000".parse().unwrap(),
        revision: "0000000".parse().unwrap(),
        files: diff.files.iter().map(touched).collect(),
        files_cut: diff.cut,
    }
}
