//! Services that are made up from a seed, what truly happened to them, and what Prometheus stored of it.
//!
//! Requests are drawn first, one after the other, each with its time, its process and its labels. Counters are what
//! processes would show of them when they are scraped; the truth is counted from the requests and never from counters.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng, rngs::StdRng};
use tollgate::domain::{Arm, Counts};

use super::{
    CANARY, EPOCH,
    fake::{Labels, Sample, Store},
    millis,
};

/// Edges of the histogram, in seconds.
pub(crate) const EDGES: [f64; 2] = [0.1, 0.5];
/// How long there is history, in milliseconds; windows begin after the first quarter.
pub(crate) const LENGTH: u64 = 1_600_000;
pub(crate) const LOOKBACK: u64 = 3_600_000;

/// One request.
#[derive(Clone, Copy, Debug)]
struct Request {
    at: u64,
    code: u16,
    route: u8,
    seconds: f64,
}

/// A series of a process: its name and its labels.
type Shown = (String, Vec<(String, String)>);

/// A process of a pod: from one start to the next.
#[derive(Clone, Debug)]
struct Process {
    started: u64,
    requests: Vec<Request>,
}

impl Process {
    /// What it shows at a time: each series and its value.
    fn shows(&self, at: u64) -> BTreeMap<Shown, f64> {
        // Requests that no series tells apart are counted together.
        let mut alike: BTreeMap<(u16, u8, usize), (Request, f64)> = BTreeMap::new();
        for request in self.requests.iter().take_while(|request| request.at <= at) {
            let bucket = EDGES.iter().position(|edge| request.seconds <= *edge).unwrap_or(EDGES.len());
            alike.entry((request.code, request.route, bucket)).or_insert((*request, 0.0)).1 += 1.0;
        }
        let mut shown = BTreeMap::new();
        let mut add = |name: &str, labels: &[(&str, String)], by: f64| {
            let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), value.clone())).collect();
            *shown.entry((name.to_owned(), labels)).or_insert(0.0) += by;
        };
        add("process_start_time_seconds", &[], (EPOCH + self.started) as f64 / 1_000.0);
        for (request, count) in alike.into_values() {
            let route = format!("/{}", request.route);
            add("hits_total", &[("code", request.code.to_string()), ("route", route.clone())], count);
            for edge in EDGES {
                let is_within = if request.seconds <= edge { count } else { 0.0 };
                add("took_seconds_bucket", &[("le", edge.to_string()), ("route", route.clone())], is_within);
            }
            add("took_seconds_bucket", &[("le", "+Inf".into()), ("route", route)], count);
        }
        shown
    }
}

/// One pod, its processes in a row, and its scrapes.
#[derive(Clone, Debug)]
struct Pod {
    arm: Arm,
    name: String,
    processes: Vec<Process>,
    /// When it was scraped, and when the server had it.
    scrapes: Vec<(u64, u64)>,
}

impl Pod {
    fn process(&self, at: u64) -> Option<usize> {
        self.processes.iter().rposition(|process| process.started <= at)
    }
}

/// A generated service.
#[derive(Debug)]
pub(crate) struct World {
    pods: Vec<Pod>,
    /// Whether samples may be stored long after their time.
    pub(crate) is_late: bool,
    /// Whether Tollgate starts again between two windows.
    pub(crate) restarts: bool,
    pub(crate) left_open: bool,
}

/// What truly happened to an arm: counts, by bucket, and by code.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Truth {
    pub(crate) counts: Counts,
    pub(crate) buckets: [u64; 3],
    pub(crate) codes: BTreeMap<String, u64>,
}

impl Truth {
    fn count(&mut self, request: Request) {
        self.counts.total += 1;
        self.counts.bad += u64::from(request.code >= 500);
        let bucket = EDGES.iter().position(|edge| request.seconds <= *edge).unwrap_or(EDGES.len());
        self.buckets[bucket] += 1;
        *self.codes.entry(request.code.to_string()).or_default() += 1;
    }
}

fn requests(rng: &mut StdRng, from: u64, to: u64, every: u64) -> Vec<Request> {
    let mut at = from;
    let mut requests = Vec::new();
    loop {
        at += rng.random_range(1..=2 * every);
        if at >= to {
            return requests;
        }
        let code = if rng.random_bool(0.05) {
            503
        } else if rng.random_bool(0.02) {
            404
        } else {
            200
        };
        let route = if rng.random_bool(0.01) { rng.random_range(1..6) } else { 0 };
        requests.push(Request { at, code, route, seconds: rng.random_range(0.0..0.8) });
    }
}

impl World {
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let rng = &mut rng;
        let is_late = rng.random_bool(0.5);
        let restarts = !is_late && rng.random_bool(0.5);
        let every = [5_000, 10_000, 15_000, 30_000][rng.random_range(0..4)];
        // All of a service is gone at the same time when its Prometheus is.
        let blackout = rng.random_bool(0.3).then(|| rng.random_range(LENGTH / 3..LENGTH * 2 / 3));
        let mut pods = Vec::new();
        for arm in [Arm::Control, Arm::Canary] {
            for pod in 0..rng.random_range(1..=3) {
                // The first is there from long before, others come later, and some go.
                let from =
                    if pod > 0 && rng.random_bool(0.3) { rng.random_range(LENGTH / 2..LENGTH * 3 / 4) } else { 0 };
                let to = if pod > 0 && rng.random_bool(0.2) { from + LENGTH / 4 } else { LENGTH };
                pods.push(pod_of(rng, arm, pod, (from, to), (every, is_late, blackout)));
            }
        }
        Self { pods, is_late, restarts, left_open: rng.random_bool(0.5) }
    }

    /// What Prometheus stores of it.
    pub(crate) fn store(&self) -> Store {
        let mut store = Store { left_open: self.left_open, ..Store::default() };
        for pod in &self.pods {
            let version = if pod.arm == Arm::Control { "stable" } else { CANARY };
            let target: Labels = [("app", "shop"), ("version", version), ("instance", &pod.name), ("job", "shop")]
                .map(|(label, value)| (label.to_owned(), value.to_owned()))
                .into();
            for (at, stored) in &pod.scrapes {
                let Some(process) = pod.process(*at) else { continue };
                for ((name, labels), value) in pod.processes[process].shows(*at) {
                    let mut all = target.clone();
                    all.extend(labels);
                    store.put(&name, &all, Sample { at: EPOCH + at, stored: EPOCH + stored, value });
                }
            }
        }
        store
    }

    /// What happened to an arm that could be seen between two times. What was stored by `seen` of the time before `after`
    /// is where counting starts.
    pub(crate) fn truth(&self, arm: Arm, (after, through): (u64, u64), seen: u64) -> Truth {
        let mut truth = Truth::default();
        for pod in self.pods.iter().filter(|pod| pod.arm == arm) {
            let is_before = |(at, stored): &&(u64, u64)| *at <= after && *stored <= seen && at + LOOKBACK > after;
            let start = pod.scrapes.iter().rfind(is_before).map(|(at, _)| *at);
            let later = pod.scrapes.iter().filter(|(at, _)| *at <= through && start.is_none_or(|start| *at > start));
            let mut last = start;
            for (at, _) in later {
                let process = &pod.processes[pod.process(*at).unwrap()];
                // A pod that was never seen before counts from its first scrape, unless it is known to be new.
                let since = match last {
                    Some(last) => last.max(process.started),
                    None if pod.processes[0].started + LOOKBACK > after => process.started,
                    None => *at,
                };
                let gained = process.requests.iter().filter(|request| request.at > since && request.at <= *at);
                gained.for_each(|request| truth.count(*request));
                last = Some(*at);
            }
        }
        truth
    }
}

fn pod_of(
    rng: &mut StdRng,
    arm: Arm,
    number: usize,
    (from, to): (u64, u64),
    (every, is_late, blackout): (u64, bool, Option<u64>),
) -> Pod {
    let load = rng.random_range(300..3_000);
    let mut scrapes = Vec::new();
    let (mut at, mut stored) = (from + rng.random_range(1..every), 0);
    let gap = rng.random_bool(0.3).then(|| rng.random_range(from..to));
    while at < to {
        let is_within = |gap: &Option<u64>| gap.is_some_and(|gap| (gap..gap + millis(180)).contains(&at));
        let is_missed = rng.random_bool(0.03) || is_within(&gap) || is_within(&blackout);
        if !is_missed {
            let delay =
                if is_late && rng.random_bool(0.2) { rng.random_range(0..90_000) } else { rng.random_range(0..4_000) };
            stored = (at + delay).max(stored);
            scrapes.push((at, stored));
        }
        // Scrapes are late by a little, and nobody takes them twice.
        at += every;
        at = (at + rng.random_range(0..every / 10)).saturating_sub(rng.random_range(0..every / 10));
    }
    let mut processes = vec![Process { started: from, requests: requests(rng, from, to, load) }];
    for _ in 0..rng.random_range(0..3) {
        let started = rng.random_range(processes.last().unwrap().started + 1..to);
        let again = Process { started, requests: requests(rng, started, to, load) };
        let dies = processes.last_mut().unwrap();
        let before = scrapes.iter().rfind(|(at, _)| *at < started).map(|(at, _)| dies.shows(*at));
        let after = scrapes.iter().find(|(at, _)| *at >= started).map(|(at, _)| again.shows(*at));
        // A restart that nothing shows to be one is none that anybody could count: no series fell.
        let (Some(before), Some(after)) = (before, after) else { continue };
        let falls = |(series, value): (&Shown, &f64)| {
            series.0 != "process_start_time_seconds" && after.get(series).is_none_or(|now| now < value)
        };
        if before.iter().any(falls) {
            dies.requests.retain(|request| request.at < started);
            processes.push(again);
        }
    }
    // Each is started a while before it is first seen, as a process is.
    let name = format!("10.0.{}.{number}:9090", u8::from(arm == Arm::Canary));
    Pod { arm, name, processes, scrapes }
}

impl World {
    pub(crate) fn has_restarts(&self) -> bool {
        self.pods.iter().any(|pod| pod.processes.len() > 1)
    }

    pub(crate) fn has_newcomers(&self) -> bool {
        self.pods.iter().any(|pod| pod.processes[0].started > LENGTH / 4)
    }

    pub(crate) fn has_gaps(&self) -> bool {
        self.pods.iter().any(|pod| pod.scrapes.windows(2).any(|pair| pair[1].0 - pair[0].0 > millis(150)))
    }
}
