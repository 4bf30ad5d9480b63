//! The world of these tests: a model that follows a script, toy tools, a purse, a service and a change.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use serde_json::json;
use tollgate::{
    agent::{
        Agent, Budgets, Drafting, Limits, Made, Toolboxes,
        model::{Asked, CallError, Finish, Model, Question, Reply},
    },
    domain::{
        Action, Advice, Aim, Autonomy, Brief, Catalogue, CatalogueEntry, Change, Check, CheckBrief, CheckId, CheckName,
        Confidence, Counts, Diff, Digest, Direction, FileDiff, FileTouched, Finding, Line, LineKind, Message,
        ModelRole, Origin, Person, Risk, Selector, ServiceName, Share, Sli, Split, Text, Timestamp, ToolCall,
        TouchKind, Usage, Verdict, WayBack, Weight,
    },
    plan::{Bounds, Draft},
    telemetry::{Answer, Ask, Catalogued, Provider},
    tools::{Context, Ended, Envelope, Outcome, Review, Status, Tool, Toolbox},
};

/// What was asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Put {
    pub(crate) messages: Vec<Message>,
    pub(crate) tools: Vec<&'static str>,
    pub(crate) schemas: Vec<serde_json::Value>,
    pub(crate) must_call: bool,
    pub(crate) cache_key: String,
}

impl Put {
    /// Everything in it.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(&self.messages).unwrap()
    }

    /// The text of a message of ours.
    pub(crate) fn words(&self, at: usize) -> &str {
        match &self.messages[at] {
            Message::System(text) | Message::User(text) => text,
            Message::Tool { answer, .. } => answer,
            Message::Assistant { .. } => panic!("message {at} is the model's"),
        }
    }

    /// What the last tool calls were answered.
    pub(crate) fn answers(&self) -> Vec<serde_json::Value> {
        let since = self.messages.iter().rposition(|message| matches!(message, Message::Assistant { .. }));
        let answers = self.messages[since.map_or(0, |at| at + 1)..].iter().filter_map(|message| match message {
            Message::Tool { answer, .. } => Some(serde_json::from_str(answer).unwrap()),
            Message::System(_) | Message::User(_) | Message::Assistant { .. } => None,
        });
        answers.collect()
    }
}

/// A step of a script.
pub(crate) type Step = Result<Reply, CallError>;

/// A model that follows a script; at its end it hangs.
#[derive(Default)]
pub(crate) struct Script {
    steps: Mutex<VecDeque<Step>>,
    put: Mutex<Vec<Put>>,
}

impl Script {
    pub(crate) fn of(steps: impl IntoIterator<Item = Step>) -> Arc<Self> {
        Arc::new(Self { steps: Mutex::new(steps.into_iter().collect()), put: Mutex::default() })
    }

    pub(crate) fn put(&self) -> Vec<Put> {
        self.put.lock().unwrap().clone()
    }
}

impl Model for Script {
    fn name(&self) -> &str {
        "scripted"
    }

    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Asked> {
        self.put.lock().unwrap().push(Put {
            messages: question.messages.to_vec(),
            tools: question.tools.iter().map(|tool| tool.name).collect(),
            schemas: question.tools.iter().map(|tool| tool.schema.clone()).collect(),
            must_call: question.must_call,
            cache_key: question.cache_key.to_owned(),
        });
        let step = self.steps.lock().unwrap().pop_front();
        async move {
            match step {
                Some(reply) => Asked { reply, request: Digest::new("sent"), attempts: 1, unanswered: 0, millis: 7 },
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}

pub(crate) const USED: Usage =
    Usage { input_tokens: 1_000, cached_tokens: 600, output_tokens: 50, micro_dollars: Some(30) };

fn reply(text: Option<&str>, refusal: Option<&str>, calls: Vec<ToolCall>, finish: Finish) -> Step {
    let message = Message::Assistant { text: text.map(str::to_owned), refusal: refusal.map(str::to_owned), calls };
    Ok(Reply { message, finish, served_by: Text::new("scripted-2026"), usage: USED })
}

/// An answer that makes these calls.
pub(crate) fn calls<'a>(calls: impl IntoIterator<Item = (&'a str, &'a str)>) -> Step {
    let call = |(name, arguments): (&str, &str)| ToolCall {
        id: "theirs".into(),
        name: name.into(),
        arguments: arguments.into(),
    };
    reply(None, None, calls.into_iter().map(call).collect(), Finish::ToolCalls)
}

pub(crate) fn call(name: &str, arguments: &str) -> Step {
    calls([(name, arguments)])
}

pub(crate) fn submit() -> Step {
    call("submit", "{}")
}

pub(crate) fn words(text: &str) -> Step {
    reply(Some(text), None, Vec::new(), Finish::Stop)
}

pub(crate) fn refusal(text: &str) -> Step {
    reply(None, Some(text), Vec::new(), Finish::Stop)
}

pub(crate) fn filtered() -> Step {
    reply(None, None, Vec::new(), Finish::ContentFilter)
}

/// An answer that was cut off in the middle of a call.
pub(crate) fn cut_off() -> Step {
    let call = ToolCall { id: "1".into(), name: "add".into(), arguments: r#"{"n":7"#.into() };
    reply(None, None, vec![call], Finish::Length)
}

fn schema() -> serde_json::Value {
    json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": [], "additionalProperties": false })
}

const fn toy(name: &'static str, is_terminal: bool, role: ModelRole) -> Tool {
    Tool { name, role, is_terminal, sheet: "A toy.", schema }
}

static TOYS: [Tool; 6] = [
    toy("look", false, ModelRole::Planner),
    toy("add", false, ModelRole::Planner),
    toy("submit", true, ModelRole::Planner),
    toy("abstain", true, ModelRole::Planner),
    toy("compare", false, ModelRole::Advisor),
    toy("recommend", true, ModelRole::Advisor),
];

fn outcome(status: Status, reason: &str) -> Outcome {
    let envelope = Envelope { status, reason: reason.into(), data: json!(null) };
    Outcome { envelope, ended: None, is_malformed: false }
}

/// Toy tools: `look` at `n`, `add` the check `n` (above 100 there is nothing of the kind), `submit` or `abstain`.
pub(crate) struct Toys {
    role: ModelRole,
    checks: Vec<Check>,
    answer: String,
    ran: Arc<Mutex<Vec<String>>>,
}

impl Toys {
    fn run(&mut self, call: &ToolCall) -> Outcome {
        self.ran.lock().unwrap().push(format!("{} {}", call.name, call.arguments));
        let malformed = |reason: &str| Outcome { is_malformed: true, ..outcome(Status::Error, reason) };
        let Ok(arguments) = serde_json::from_str::<serde_json::Value>(&call.arguments) else {
            return malformed("arguments: no JSON");
        };
        let n = arguments["n"].as_u64();
        let ended = |ended| Outcome { ended: Some(ended), ..outcome(Status::Ok, "") };
        match (call.name.as_str(), n) {
            ("look" | "compare", Some(_)) => {
                let mut seen = outcome(Status::Ok, "");
                seen.envelope.data = json!(self.answer);
                seen
            }
            ("add", Some(n)) if n > 100 => outcome(Status::Denied, "unknown"),
            ("add", Some(n)) => {
                self.checks.push(check(&format!("check {n}")));
                outcome(Status::Ok, "admitted")
            }
            ("look" | "compare" | "add", None) => malformed("field n: missing"),
            ("submit", _) if self.checks.is_empty() => outcome(Status::Denied, "no_checks"),
            ("submit", _) => ended(Ended::Submitted),
            ("abstain", _) => ended(Ended::Abstained("no_matching_telemetry")),
            ("recommend", _) => ended(Ended::Advised(advice())),
            _ => malformed("no such tool"),
        }
    }
}

impl Toolbox for Toys {
    fn offered(&self, only_terminal: bool) -> Vec<&'static Tool> {
        TOYS.iter().filter(|tool| tool.role == self.role && (tool.is_terminal || !only_terminal)).collect()
    }

    fn call<'a>(&'a mut self, call: &'a ToolCall) -> BoxFuture<'a, Outcome> {
        std::future::ready(self.run(call)).boxed()
    }
}

impl Drafting for Toys {
    fn finish(self: Box<Self>) -> Draft {
        // What no planner may say: the agent's rules have to take it back.
        let way_back = WayBack::OneWay { why: Text::new("the model says so"), lines: Vec::new() };
        Draft { risk: Risk::High, ..Draft::by_rules(self.checks, way_back, vec![Text::new("a note of the model's")]) }
    }
}

/// Makes toys, and keeps what was run.
#[derive(Default)]
pub(crate) struct ToyShop {
    pub(crate) answer: String,
    pub(crate) ran: Arc<Mutex<Vec<String>>>,
}

impl ToyShop {
    fn toys(&self, role: ModelRole) -> Box<Toys> {
        let (answer, ran) = (self.answer.clone(), Arc::clone(&self.ran));
        Box::new(Toys { role, checks: Vec::new(), answer, ran })
    }
}

impl Toolboxes for ToyShop {
    fn planning(&self, _: &Context, _: &Arc<Review>) -> Box<dyn Drafting> {
        self.toys(ModelRole::Planner)
    }

    fn advising(&self, _: &Arc<Brief>) -> Box<dyn Toolbox> {
        self.toys(ModelRole::Advisor)
    }
}

/// An agent of these parts, at this time.
pub(crate) struct House {
    pub(crate) agent: Agent,
    pub(crate) shop: Arc<ToyShop>,
    pub(crate) now: Arc<Mutex<Timestamp>>,
}

impl House {
    pub(crate) fn new(model: Arc<dyn Model>) -> Self {
        Self::with(model, Limits::default(), ToyShop::default(), Budgets::default())
    }

    pub(crate) fn with(model: Arc<dyn Model>, limits: Limits, shop: ToyShop, budgets: Budgets) -> Self {
        let shop = Arc::new(shop);
        let now = Arc::new(Mutex::new(Timestamp::EPOCH));
        let clock = {
            let now = Arc::clone(&now);
            Arc::new(move || *now.lock().unwrap())
        };
        let toolboxes = Arc::clone(&shop) as Arc<dyn Toolboxes>;
        let agent = Agent::made_of(Made { limits, budgets, price: None, model, toolboxes, clock }).unwrap();
        Self { agent, shop, now }
    }

    /// What the toys were asked, call by call.
    pub(crate) fn ran(&self) -> Vec<String> {
        self.shop.ran.lock().unwrap().clone()
    }
}

pub(crate) fn check(name: &str) -> Check {
    Check {
        name: CheckName::new(name),
        sli: ratio(),
        direction: Direction::HigherIsWorse,
        ratio_max: 1.25,
        limit: None,
        aim: Aim::Guard,
        weight: Weight::Critical,
        origin: Origin::Model,
        rationale: Text::new("it would move"),
        lines: Vec::new(),
        split: Split::default(),
    }
}

fn ratio() -> Sli {
    Sli::Ratio { bad: Selector::metric("errors_total"), total: Selector::metric("requests_total") }
}

struct Meter;

impl Provider for Meter {
    fn measure(&self, ask: Ask) -> BoxFuture<'_, Answer> {
        std::future::ready(Answer::absent(&ask, &tollgate::domain::Absence::NoData)).boxed()
    }

    fn metrics(&self, _: &ServiceName) -> Result<Arc<Catalogued>, tollgate::domain::Absence> {
        let metric = |name: &str| tollgate::domain::Metric {
            name: name.into(),
            kind: tollgate::domain::MetricKind::Counter,
            help: Text::new("HELP of a stranger"),
            labels: Vec::new(),
            series: 3,
        };
        let metrics = vec![metric("cache_hits_total"), metric("requests_total")];
        Ok(Arc::new(Catalogued { metrics, seen: Timestamp::EPOCH, cut: false }))
    }
}

pub(crate) fn file(path: &str, lines: &[&str]) -> FileDiff {
    let line = |(at, text): (usize, &&str)| Line {
        kind: LineKind::Added,
        number: u32::try_from(at).unwrap() + 1,
        text: (*text).to_owned(),
    };
    FileDiff {
        path: path.into(),
        previous_path: None,
        kind: TouchKind::Modified,
        binary: false,
        lines: lines.iter().enumerate().map(line).collect(),
    }
}

pub(crate) fn context(title: &str, files: Vec<FileDiff>) -> Context {
    let touched = |file: &FileDiff| FileTouched { path: file.path.clone(), previous_path: None, kind: file.kind };
    let change = Change {
        repository: "acme/shop".parse().unwrap(),
        pull_request: 12,
        title: Text::new(title),
        author: Person(Text::new("ada")),
        merged_by: None,
        base: "aaaaaaa".parse().unwrap(),
        revision: "bbbbbbb".parse().unwrap(),
        files: files.iter().map(touched).collect(),
        files_cut: false,
    };
    let entry = CatalogueEntry {
        name: "errors".into(),
        sli: ratio(),
        route_label: Some("route".into()),
        segment_label: None,
        tenant_label: None,
    };
    let bounds = Bounds {
        catalogue: Catalogue { entries: vec![entry], traffic: None },
        mandatory: vec![check("objective")],
        proposed_max: 6,
        ratio_max: 2.0,
        ..Bounds::default()
    };
    Context {
        service: ServiceName::new("checkout"),
        change: Arc::new(change),
        diff: Arc::new(Diff { files, cut: false }),
        bounds: Arc::new(bounds),
        served: vec!["ratio", "latency"],
        stages: vec![(Share::from_basis_points(500).unwrap(), Duration::from_secs(600)), (Share::FULL, Duration::ZERO)],
        alpha: 0.01,
        safe_ratio: 2.0,
        block: Duration::from_secs(60),
        pod_incident: Duration::from_secs(60),
        stable: None,
        past: Arc::new([]),
        telemetry: Arc::new(Meter),
        forge: None,
    }
}

/// A change that adds a cache.
pub(crate) fn cache_change() -> Context {
    context(
        "Add a cache",
        vec![file("src/cache.rs", &["fn lookup(key: &str) -> Option<Price> {", "    CACHE.get(key)"])],
    )
}

pub(crate) fn advice() -> Advice {
    Advice {
        action: Action::Hold,
        cites: vec![CheckId(0)],
        confidence: Confidence::Medium,
        rationale: Text::new("too few"),
    }
}

pub(crate) fn brief() -> Brief {
    let counts = Counts { bad: 3, total: 400 };
    Brief {
        stage: 1,
        stages: 4,
        share: 500,
        next_share: Some(2_500),
        held_seconds: 600,
        bake_seconds: 600,
        patience_seconds: 1_200,
        autonomy: Autonomy::Auto,
        risk: Risk::Medium,
        verdict: Verdict::Hold,
        legal: vec![Action::Hold, Action::AskPerson],
        checks: vec![CheckBrief {
            check: CheckId(0),
            kind: Text::new("ratio"),
            origin: Origin::Slo,
            weight: Weight::Critical,
            aim: Aim::Guard,
            direction: Direction::HigherIsWorse,
            ratio_max: 1.25,
            finding: Finding::Inconclusive,
            log_e_value: 1.5,
            log_threshold: 4.6,
            log_e_safe: 0.2,
            effect: Some(1.3),
            interval: None,
            more_seconds: Some(900.0),
            control: counts,
            canary: counts,
            this_stage: counts,
            recent: counts,
        }],
    }
}
