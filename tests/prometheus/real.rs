//! The real Prometheus, where it is installed: the fake answers as it does, and it is counted to the same end.

use std::{
    fmt::Write,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tollgate::{
    domain::{Arm, MetricKind, ServiceName, Split, Tally},
    telemetry::{PastAsk, Provider, prometheus},
};

use super::{
    EPOCH, Time, arms, ask, asked, config, errors,
    fake::{Fake, Store},
    millis, service, took,
    truth::{LENGTH, World},
};

/// A child that does not outlive its test.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A store as OpenMetrics text, with times.
fn open_metrics(store: &Store) -> String {
    let mut lines: Vec<(String, u64, String)> = Vec::new();
    for (labels, samples) in &store.series {
        let name = &labels["__name__"];
        let of: Vec<String> = labels
            .iter()
            .filter(|(label, _)| *label != "__name__")
            .map(|(l, value)| format!("{l}={value:?}"))
            .collect();
        for sample in samples {
            let seconds = sample.at as f64 / 1_000.0;
            lines.push((name.clone(), sample.at, format!("{name}{{{}}} {} {seconds:.3}", of.join(","), sample.value)));
        }
    }
    let mut text = String::new();
    lines.iter().for_each(|(_, _, line)| writeln!(text, "{line}").unwrap());
    text + "# EOF\n"
}

/// A real Prometheus that keeps what the store keeps; `None` where none is installed. Set `TOLLGATE_REQUIRE_REAL=1` (or
/// `CI=true`) to make its absence a failure.
async fn real(store: &Store, directory: &Path) -> Option<(Child, String)> {
    let text = directory.join("history.om");
    std::fs::write(&text, open_metrics(store)).unwrap();
    let data = directory.join("data");
    let is = |name, value| std::env::var(name).is_ok_and(|set| set == value);
    let is_required = is("TOLLGATE_REQUIRE_REAL", "1") || is("CI", "true");
    let made =
        Command::new("promtool").args(["tsdb", "create-blocks-from", "openmetrics"]).arg(&text).arg(&data).output();
    match made {
        Ok(made) => assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr)),
        Err(error) if is_required => panic!("promtool is required and does not start: {error}"),
        Err(error) => {
            println!("SKIPPED: promtool does not start ({error})");
            return None;
        }
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = directory.join("prometheus.yml");
    std::fs::write(&settings, "global: {}\n").unwrap();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", settings.display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg("--storage.tsdb.retention.time=100y")
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let child = match child {
        Ok(child) => Child(child),
        Err(error) if is_required => panic!("prometheus is required and does not start: {error}"),
        Err(error) => {
            println!("SKIPPED: prometheus does not start ({error})");
            return None;
        }
    };
    let url = format!("http://127.0.0.1:{port}");
    let client = reqwest::Client::new();
    for _ in 0..300 {
        let ready = client.get(format!("{url}/-/ready")).send().await;
        if ready.is_ok_and(|ready| ready.status().is_success()) {
            return Some((child, url));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("prometheus was not ready within 30 s");
}

/// The series of an answer with their samples, in an order that is always the same.
fn sorted(mut data: Value) -> Value {
    let rows = data["result"].as_array_mut().unwrap();
    rows.sort_by_key(|row| row["metric"].to_string());
    data
}

#[tokio::test]
async fn the_fake_answers_range_selectors_as_the_real_one_and_both_are_counted_alike() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let world = World::from_seed(3);
    // The real one here is of the second version, whose ranges are closed.
    let store = Store { left_open: false, ..world.store() };
    let directory = tempfile::tempdir().unwrap();
    let Some((_child, url)) = real(&store, directory.path()).await else { return };
    let end = EPOCH + LENGTH + millis(300);
    let time = Time::at(end);
    let client = reqwest::Client::new();
    let times = [EPOCH + 500_000, EPOCH + 900_123, EPOCH + LENGTH];
    for query in [
        "{__name__=\"hits_total\",version=~\"abcdef0|stable\"}[61500ms]",
        "{__name__=\"took_seconds_bucket\",app=\"shop\"}[300000ms]",
        "{__name__=\"process_start_time_seconds\",app=\"shop\"}[90000ms]",
        "{__name__=\"nothing\"}[90000ms]",
    ] {
        for at in times {
            let asked = reqwest::Url::parse_with_params(
                &format!("{url}/api/v1/query"),
                [("query", query), ("time", &format!("{}.{:03}", at / 1_000, at % 1_000))],
            );
            let real: Value = client.get(asked.unwrap()).send().await.unwrap().json().await.unwrap();
            let fake = store.answer(query, at, end).unwrap();
            assert_eq!(sorted(real["data"].clone()), sorted(fake), "{query} at {at}");
        }
    }
    let fake = Fake::start(Arc::new(Mutex::new(store)), time.clone()).await;
    let mut answers = Vec::new();
    for url in [&url, &fake.url] {
        let hour = Duration::from_secs(3_600);
        let service = prometheus::Service { lookback: hour, stale_after: hour, gone_after: hour, ..service() };
        let wanted = ask(&time, asked(vec![errors(), took()]), EPOCH + 405_000, EPOCH + LENGTH);
        answers.push(prometheus::start(config(url, service), time.clock()).unwrap().measure(wanted).await);
    }
    assert_eq!(answers[0], answers[1]);
    let truth = world.truth(Arm::Canary, (405_000, answers[0].through.as_millis() - EPOCH), LENGTH + millis(300));
    assert_eq!(arms(&answers[0], 0)[1], Ok(Tally::Counts(truth.counts)));
    assert!(answers[0].measurements.iter().all(|measurement| !measurement.estimated));
}

#[tokio::test]
async fn a_metric_with_too_many_series_is_counted_by_the_server_and_marked_as_estimated() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let world = World::from_seed(8);
    let directory = tempfile::tempdir().unwrap();
    let Some((_child, url)) = real(&world.store(), directory.path()).await else { return };
    let time = Time::at(EPOCH + LENGTH + millis(300));
    let hour = Duration::from_secs(3_600);
    let service = prometheus::Service { lookback: hour, stale_after: hour, gone_after: hour, ..service() };
    let few = prometheus::Config { raw_series_max: 3, ..config(&url, service) };
    let wanted = ask(&time, asked(vec![errors(), took()]), EPOCH + 420_000, EPOCH + LENGTH - millis(200));
    let answer = prometheus::start(few, time.clock()).unwrap().measure(wanted).await;
    assert!(answer.measurements.iter().all(|measurement| measurement.estimated));
    for (arm, tally) in [Arm::Control, Arm::Canary].into_iter().zip(arms(&answer, 0)) {
        let truth = world.truth(arm, (420_000, answer.through.as_millis() - EPOCH), LENGTH + millis(300)).counts;
        let Ok(Tally::Counts(counts)) = tally else { panic!("{tally:?}") };
        let ratio = counts.total as f64 / truth.total as f64;
        assert!((0.7..1.3).contains(&ratio), "{arm}: estimated {counts:?}, and truly {truth:?}");
    }
    assert!(arms(&answer, 1).iter().all(|tally| matches!(tally, Ok(Tally::Histogram(_)))));
}

#[tokio::test]
async fn metrics_are_indexed_and_the_past_is_counted_from_the_real_server() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let world = World::from_seed(8);
    let directory = tempfile::tempdir().unwrap();
    let Some((_child, url)) = real(&world.store(), directory.path()).await else { return };
    let time = Time::at(EPOCH + LENGTH);
    let hour = Duration::from_secs(3_600);
    let service = prometheus::Service { lookback: hour, stale_after: hour, gone_after: hour, ..service() };
    let provider = prometheus::start(config(&url, service), time.clock()).unwrap();
    let shop = ServiceName::new("shop");
    let index = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            match provider.metrics(&shop) {
                Ok(index) => return index,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    let index = index.await.unwrap();
    let hits = index.find("hits_total").unwrap();
    let labels: Vec<&str> = hits.labels.iter().map(|label| label.name.as_str()).collect();
    assert_eq!(hits.kind, MetricKind::Counter);
    assert!(["code", "instance", "route", "version"].iter().all(|label| labels.contains(label)), "{labels:?}");
    let versions = hits.labels.iter().find(|label| label.name == "version").unwrap();
    assert_eq!(versions.values, ["stable"], "the old version's alone");
    let ask = PastAsk {
        service: shop,
        stable: None,
        sli: errors(),
        split: Split::default(),
        reach: Duration::from_secs(900),
    };
    let past = provider.history(ask).await.unwrap();
    assert_eq!((past.every, past.blocks.len()), (Duration::from_secs(30), 29));
    let counted: u64 = past
        .blocks
        .iter()
        .flatten()
        .map(|block| if let Tally::Counts(counts) = &block.tally { counts.total } else { 0 })
        .sum();
    let end = (EPOCH + LENGTH - 5_000) / 30_000 * 30_000 - EPOCH;
    let truth = world.truth(Arm::Control, (end - 870_000, end), LENGTH).counts;
    assert_eq!(counted, truth.total);
}
