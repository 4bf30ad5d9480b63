//! OpenTelemetry's own SDK for Python exports to the receiver; what is tallied is what it was told to count.
//!
//! `tests/otlp/install` installs it. Where it is missing the tests say so and pass, unless `TOLLGATE_REQUIRE_REAL=1`.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use tollgate::{
    domain::{Histogram, MetricKind, Selector, Sli, Tally},
    telemetry::{Answer, Provider},
};

use crate::house::{Asker, NEW, OLD, TOKEN, arms, counts, errors, shop, start};

const EDGES: [f64; 6] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

fn installed() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otlp");
    if folder.join(".venv/.pins").exists() {
        return Some(folder);
    }
    let required = env::var("TOLLGATE_REQUIRE_REAL").is_ok_and(|value| value == "1");
    assert!(!required, "OpenTelemetry's SDK is not installed: run tests/otlp/install");
    println!("SKIPPED: OpenTelemetry's SDK is not installed: run tests/otlp/install");
    None
}

/// A service that counts with the SDK. It ends with the test.
struct Service {
    child: Child,
    tell: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// How the SDK exports.
#[derive(Clone, Copy)]
struct Way {
    protocol: &'static str,
    temporality: &'static str,
    packed: &'static str,
}

impl Service {
    fn start(folder: &Path, way: Way, endpoint: &str, version: &str, instance: &str) -> Self {
        let mut child = Command::new(folder.join(".venv/bin/python"))
            .arg(folder.join("client.py"))
            .args([way.protocol, endpoint, way.temporality, version, instance, TOKEN, way.packed])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, hear) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, tell, hear }
    }

    /// Lets it count, and waits until that is exported.
    fn count(&mut self, what: &Value) {
        writeln!(self.tell, "{what}").unwrap();
        let mut answer = String::new();
        self.hear.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), "done", "the SDK has failed");
    }
}

fn slis() -> Vec<Sli> {
    let latency = |name: &str| Sli::Latency { histogram: Selector::metric(name), slow_above_seconds: 0.5 };
    vec![
        errors(),
        latency("shop_duration_seconds"),
        latency("shop_work_milliseconds"),
        Sli::Level { gauge: Selector::metric("shop_queue") },
        // The same by the name that the SDK knows it by.
        latency("shop.duration"),
    ]
}

/// Numbers that differ from arm to arm and step to step, and lie in many buckets.
fn values(seed: usize, how_many: usize) -> Vec<f64> {
    (0..how_many).map(|at| 0.0013 * 1.173_f64.powi(((seed * 31 + at * 7) % 55) as i32)).collect()
}

fn explicit(values: &[f64]) -> Tally {
    let mut tally = vec![0; EDGES.len() + 1];
    for value in values {
        tally[EDGES.iter().position(|edge| value <= edge).unwrap_or(EDGES.len())] += 1;
    }
    Tally::Histogram(Histogram { bounds: EDGES.into(), counts: tally })
}

fn histogram(answer: &Answer, check: usize, arm: usize) -> Histogram {
    match arms(answer, check)[arm].clone() {
        Ok(Tally::Histogram(histogram)) => histogram,
        other => panic!("{other:?}"),
    }
}

async fn tallies_equal_what_the_sdk_counted(way: Way) {
    let Some(folder) = installed() else { return };
    let otlp = start();
    let address = if way.protocol == "http" { otlp.http_address() } else { otlp.grpc_address() };
    let endpoint = address.unwrap().to_string();
    let mut asker = Asker::of(otlp, &slis());
    let mut services: Vec<Service> = [(OLD, "a"), (NEW, "b"), (NEW, "c")]
        .map(|(version, instance)| Service::start(&folder, way, &endpoint, version, instance))
        .into();
    // What was counted before the test is not counted in it.
    for service in &mut services {
        let before = json!({"requests": [1_000, "200"], "took": [0.02], "work": [3.0], "queue": 1});
        tokio::task::block_in_place(|| service.count(&before));
    }
    for (service, level) in services.iter_mut().zip([7, 8, 10]) {
        tokio::task::block_in_place(|| service.count(&json!({"queue": level})));
    }
    let begun = asker.window().await;
    assert_eq!(arms(&begun, 0), [counts(0, 0), counts(0, 0)], "{begun:?}");
    for step in 0..3_usize {
        let (mut truth, mut took) = ([(0, 0); 2], [Vec::new(), Vec::new()]);
        for (at, service) in services.iter_mut().enumerate() {
            let arm = usize::from(at > 0);
            let (good, bad) = (100 + 17 * at as u64 + step as u64, (3 * at + step) as u64);
            let values = values(at + 5 * step, 40 + at);
            let millis: Vec<f64> = values.iter().map(|seconds| seconds * 1e3).collect();
            tokio::task::block_in_place(|| {
                service.count(&json!({"requests": [good, "200"], "took": values, "work": millis}));
                service.count(&json!({"requests": [bad, "503"]}));
            });
            truth[arm] = (truth[arm].0 + bad, truth[arm].1 + good + bad);
            took[arm].extend(values);
        }
        let answer = asker.window().await;
        assert_eq!(arms(&answer, 0), truth.map(|(bad, total)| counts(bad, total)), "step {step}: {answer:?}");
        for arm in [0, 1] {
            assert_eq!(arms(&answer, 1)[arm], Ok(explicit(&took[arm])), "step {step}");
            assert_eq!(arms(&answer, 4)[arm], Ok(explicit(&took[arm])), "by its own name, step {step}");
            let work = histogram(&answer, 2, arm);
            let mut below = 0;
            for (edge, count) in work.bounds.iter().zip(&work.counts) {
                below += count;
                let truly = took[arm].iter().filter(|value| *value <= edge).count() as u64;
                assert_eq!(below, truly, "at or below {edge} s, arm {arm}, step {step}");
            }
            assert_eq!(work.counts.iter().sum::<u64>(), took[arm].len() as u64);
            let levels = match &arms(&answer, 3)[arm] {
                Ok(Tally::Samples(levels)) => levels.clone(),
                other => panic!("{other:?}"),
            };
            assert!(!levels.is_empty() && levels.iter().all(|level| *level == [7.0, 9.0][arm]), "{levels:?}");
        }
    }
    let catalogued = asker.otlp.metrics(&shop()).unwrap();
    let requests = catalogued.find("shop_requests_total").unwrap();
    assert_eq!(requests.kind, MetricKind::Counter);
    assert_eq!(requests.help.as_str(), "Requests that were served");
    assert!(requests.has_label("http_response_status_code"));
    assert_eq!(catalogued.find("shop_duration_seconds").unwrap().kind, MetricKind::Histogram);
    assert_eq!(catalogued.find("shop_queue").unwrap().kind, MetricKind::Gauge);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_is_counted_exactly_over_http_with_cumulative_temporality() {
    tallies_equal_what_the_sdk_counted(Way { protocol: "http", temporality: "cumulative", packed: "gzip" }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_is_counted_exactly_over_http_with_delta_temporality() {
    tallies_equal_what_the_sdk_counted(Way { protocol: "http", temporality: "delta", packed: "plain" }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_is_counted_exactly_over_grpc_with_cumulative_temporality() {
    tallies_equal_what_the_sdk_counted(Way { protocol: "grpc", temporality: "cumulative", packed: "plain" }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_is_counted_exactly_over_grpc_with_delta_temporality() {
    tallies_equal_what_the_sdk_counted(Way { protocol: "grpc", temporality: "delta", packed: "gzip" }).await;
}
