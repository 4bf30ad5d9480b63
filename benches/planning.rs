//! What a planning costs beside the model's own time: reading a diff of 2,000 lines, writing the prompts, running tools over
//! 5,000 metrics, and trying each check on two hours of twenty pods. Run with `cargo bench --bench planning`.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up has nothing to say")]

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tollgate::{
    agent::{
        Agent, Budgets, Config, Flavour, Limits,
        model::{Asked, Finish, Model, Question, Reply},
    },
    domain::{
        Absence, Change, Counts, Digest, FileTouched, Histogram, Message, Metric, MetricKind, MetricLabel, Part,
        PartKind, Person, Reading, RolloutId, ServiceName, Share, Sli, Tally, Text, Timestamp, ToolCall, TouchKind,
        Usage,
    },
    forge::diff,
    plan::Bounds,
    sim::scenario,
    telemetry::{Answer, Ask, Catalogued, Past, PastAsk, Provider},
    tools::{Context, served},
};

const METRICS: usize = 5_000;
const FILES: usize = 40;
const LINES_EACH: usize = 50;
const PODS: usize = 20;
const BLOCKS: usize = 240;
const PLANNINGS: usize = 31;
const TARGET: Duration = Duration::from_millis(200);

/// A service that was watched for two hours. What it showed is at hand: reading it back is the source's own time.
struct Watched {
    index: Arc<Catalogued>,
    errors: Past,
    slow: Past,
}

impl Watched {
    fn new() -> Self {
        let rng = &mut StdRng::seed_from_u64(7);
        Self { index: catalogued(), errors: past(counts, rng), slow: past(seconds, rng) }
    }
}

fn counts(rng: &mut StdRng) -> Tally {
    let total = rng.random_range(400..600);
    Tally::Counts(Counts { bad: (0..total).filter(|_| rng.random_bool(0.004)).count() as u64, total })
}

fn seconds(rng: &mut StdRng) -> Tally {
    let bounds = vec![0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
    let counts = [200, 120, 70, 40, 20, 8, 3, 1, 1].map(|most: u64| rng.random_range(0..=most));
    Tally::Histogram(Histogram { bounds, counts: counts.to_vec() })
}

fn reading(one: fn(&mut StdRng) -> Tally, rng: &mut StdRng) -> Reading {
    let part = |pod| Part { kind: PartKind::Pod, name: Text::new(format!("p{pod:02}")), tally: one(rng) };
    let parts: Vec<Part> = (0..PODS).map(part).collect();
    let tally = parts.iter().skip(1).try_fold(parts[0].tally.clone(), |sum, part| sum.plus(&part.tally)).unwrap();
    Reading { tally, parts }
}

fn past(one: fn(&mut StdRng) -> Tally, rng: &mut StdRng) -> Past {
    Past { every: Duration::from_secs(30), blocks: (0..BLOCKS).map(|_| Ok(reading(one, rng))).collect() }
}

impl Provider for Watched {
    fn measure(&self, ask: Ask) -> BoxFuture<'_, Answer> {
        std::future::ready(Answer::absent(&ask, &Absence::NoData)).boxed()
    }

    fn metrics(&self, _: &ServiceName) -> Result<Arc<Catalogued>, Absence> {
        Ok(Arc::clone(&self.index))
    }

    fn history(&self, ask: PastAsk) -> BoxFuture<'_, Result<Past, Absence>> {
        let past = if matches!(ask.sli, Sli::Latency { .. }) { &self.slow } else { &self.errors };
        std::future::ready(Ok(past.clone())).boxed()
    }
}

fn metric(at: usize) -> Metric {
    let (name, kind) = match at % 5 {
        0 => (format!("shop_step_{at:04}_duration_seconds"), MetricKind::Histogram),
        1 => (format!("shop_queue_{at:04}_depth"), MetricKind::Gauge),
        _ => (format!("shop_step_{at:04}_total"), MetricKind::Counter),
    };
    let label = |name: &str| {
        let values = (0..8).map(|value| format!("{name}-{value}")).collect();
        MetricLabel { name: name.into(), values, more: false }
    };
    let labels = ["code", "pod", "route"].map(label).to_vec();
    Metric { name, kind, help: Text::new("What a step of the shop counted, by route and code."), labels, series: 160 }
}

fn catalogued() -> Arc<Catalogued> {
    let mut metrics: Vec<Metric> = (0..METRICS).map(metric).collect();
    metrics.sort_by(|one, other| one.name.cmp(&other.name));
    Arc::new(Catalogued { metrics, seen: scenario::BEGINNING, cut: false })
}

/// A diff of so many lines, half of them added.
fn change_text() -> String {
    let mut text = String::new();
    for file in 0..FILES {
        let path = format!("src/step_{file:02}.rs");
        let half = LINES_EACH / 2;
        writeln!(text, "diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}").unwrap();
        writeln!(text, "@@ -1,{half} +1,{LINES_EACH} @@ pub fn step_{file}(cart: &Cart) -> Result<Total, Error> {{")
            .unwrap();
        for line in 0..half {
            writeln!(text, "     let total_{line} = cart.total(\"step-{file}\", {line})?;").unwrap();
            writeln!(
                text,
                "+    cache.get_or_insert(\"route-{line}\", || price(total_{line}, Duration::from_secs({file})))?;"
            )
            .unwrap();
        }
    }
    text
}

fn call(name: &str, arguments: Value) -> ToolCall {
    ToolCall { id: name.into(), name: name.into(), arguments: arguments.to_string() }
}

/// A planning as models lead it: it searches, looks closer, proposes six checks and submits.
fn turns() -> Vec<Vec<ToolCall>> {
    let search = |text: &str| call("search_metrics", json!({"text": text, "kind": "any", "limit": 20}));
    let profile = |metric: &str| call("get_metric_profile", json!({"metric": metric, "matchers": []}));
    let said = |name: &str| json!({"name": name, "role": "guard", "largest_ratio": 1.5, "rationale": "The step changed.", "lines": [{"file_id": 0, "line": 2}]});
    let with = |more: Value, name: &str| {
        let mut all = said(name);
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let ratio = |route: usize| {
        let matchers = json!([{"label": "route", "op": "eq", "values": [format!("route-{route}")]}]);
        let more = json!({"sli": "errors", "bad_metric": null, "total_metric": null, "bad_matchers": [], "matchers": matchers, "worse": "higher"});
        call("add_ratio_check", with(more, &format!("errors on route-{route}")))
    };
    let slow = |metric: &str| {
        let more = json!({"sli": null, "histogram_metric": metric, "slow_above_seconds": 0.25, "matchers": []});
        call("add_latency_check", with(more, &format!("slow {metric}")))
    };
    let submit = json!({"risk": "medium", "risk_reasons": ["caching"], "rollback_safety": "safe",
        "rollback_reason": "nothing_stored", "uncovered": [], "assumptions": []});
    vec![
        vec![search("cache step route-3"), search("duration seconds"), call("list_slos", json!({}))],
        vec![profile("shop_step_0005_duration_seconds"), profile("shop_step_0012_total")],
        (1..5)
            .map(ratio)
            .chain(["shop_step_0005_duration_seconds", "shop_step_0010_duration_seconds"].map(slow))
            .collect(),
        vec![call("submit_plan", submit)],
    ]
}

/// A model that takes no time.
struct AtOnce(AtomicUsize, Vec<Vec<ToolCall>>);

impl Model for AtOnce {
    fn name(&self) -> &str {
        "at-once"
    }

    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Asked> {
        // What a client does with a question: it is written out, and its digest is kept.
        let bytes = question.canonical();
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        let calls = self.1.get(turn).cloned().unwrap_or_default();
        let usage = Usage { input_tokens: bytes.len() as u64 / 4, output_tokens: 200, ..Usage::default() };
        let message = Message::Assistant { text: None, refusal: None, calls };
        let reply = Reply { message, finish: Finish::ToolCalls, served_by: Text::new("at-once"), usage };
        let asked = Asked { reply: Ok(reply), request: Digest::new("sent"), attempts: 1, unanswered: 0, millis: 0 };
        std::future::ready(asked).boxed()
    }
}

fn config() -> Config {
    Config {
        base_url: "http://127.0.0.1:1/v1".into(),
        model: "at-once".into(),
        key: None,
        flavour: Flavour::OpenAi,
        timeout: Duration::from_secs(60),
        attempts_max: 1,
        price: None,
        limits: Limits::default(),
        budgets: Budgets::default(),
    }
}

fn context(watched: &Arc<Watched>, text: &str) -> Context {
    let diff = diff::read(text.as_bytes(), &diff::LIMITS).unwrap();
    let touched = |path: &String| FileTouched { path: path.clone(), previous_path: None, kind: TouchKind::Modified };
    let change = Change {
        repository: "acme/shop".parse().unwrap(),
        pull_request: 7,
        title: Text::new("Cache what steps cost"),
        author: Person(Text::new("alice")),
        merged_by: None,
        base: "1".repeat(40).parse().unwrap(),
        revision: "2".repeat(40).parse().unwrap(),
        files: diff.files.iter().map(|file| touched(&file.path)).collect(),
        files_cut: false,
    };
    let stages =
        [1_u16, 5, 25, 50, 100].map(|share| (Share::from_basis_points(share * 100).unwrap(), Duration::from_secs(600)));
    Context {
        service: ServiceName::new("shop"),
        change: Arc::new(change),
        diff: Arc::new(diff),
        bounds: Arc::new(Bounds { beyond_catalogue: true, ..scenario::bounds() }),
        served: served(),
        stages: stages.to_vec(),
        alpha: 0.001,
        safe_ratio: 2.0,
        block: Duration::from_secs(15),
        pod_incident: tollgate::stats::POD_INCIDENT,
        stable: None,
        past: Arc::new([]),
        telemetry: Arc::<Watched>::clone(watched),
        forge: None,
    }
}

fn main() {
    let (watched, text) = (Arc::new(Watched::new()), change_text());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let clock: tollgate::agent::Clock = Arc::new(|| Timestamp::from_millis(1_800_000_000_000));
    let mut took: Vec<Duration> = Vec::new();
    let (mut checks, mut source) = (0, String::new());
    for at in 0..PLANNINGS {
        let model = Arc::new(AtOnce(AtomicUsize::new(0), turns()));
        let agent = Agent::with_model(config(), model, Arc::clone(&clock)).unwrap();
        let began = Instant::now();
        let planned = runtime.block_on(agent.plan(RolloutId(at as u64), context(&watched, &text)));
        took.push(began.elapsed());
        let draft = planned.draft.unwrap();
        (checks, source) = (draft.tried.len(), format!("{:?}", draft.source));
    }
    took.sort();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    let lines = text.lines().filter(|line| line.starts_with(['+', ' '])).count();
    println!(
        "{lines} lines of diff, {METRICS} metrics, {checks} checks tried on {BLOCKS} blocks of {PODS} pods; {source}"
    );
    let verdict = if median < TARGET { "within" } else { "MISSES" };
    println!(
        "planning without the model's time: median {median:.1?}, worst of {PLANNINGS} {worst:.1?} ({verdict} {TARGET:?})"
    );
}
