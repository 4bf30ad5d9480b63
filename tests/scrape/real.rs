//! The real node exporter, where it is installed.

use std::time::Duration;

use tollgate::{
    domain::{Counts, Match, MetricKind, Selector, ServiceName, Sli, Split, Tally},
    telemetry::{
        PastAsk, Provider,
        scrape::{self, History},
    },
};

use crate::pods::{Asker, SOON, arms, asked, config, counts, errors, targets};

/// A child that does not outlive its test.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The real exporter, where it is installed. Set `TOLLGATE_REQUIRE_REAL=1` (or `CI=true`) to make its absence a failure.
fn real_exporter(port: u16, directory: &std::path::Path) -> Option<Child> {
    let child = std::process::Command::new("prometheus-node-exporter")
        .args(["--collector.disable-defaults", "--collector.textfile", "--collector.loadavg", "--collector.stat"])
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg(format!("--collector.textfile.directory={}", directory.display()))
        .stderr(std::process::Stdio::null())
        .spawn();
    let is = |name, value| std::env::var(name).is_ok_and(|set| set == value);
    match child {
        Ok(child) => Some(Child(child)),
        Err(error) if is("TOLLGATE_REQUIRE_REAL", "1") || is("CI", "true") => {
            panic!("prometheus-node-exporter is required and does not start: {error}")
        }
        Err(error) => {
            println!("SKIPPED: prometheus-node-exporter does not start ({error})");
            None
        }
    }
}

#[tokio::test]
async fn a_real_exporter_is_read_as_it_says() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let directory = tempfile::tempdir().unwrap();
    let write = |good: u64, bad: u64| {
        let staged = directory.path().join("shop.staged");
        std::fs::write(&staged, format!("hits_total{{code=\"200\"}} {good}\nhits_total{{code=\"500\"}} {bad}\n"))
            .unwrap();
        std::fs::rename(&staged, directory.path().join("shop.prom")).unwrap();
    };
    write(1_000_000, 7);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(_child) = real_exporter(port, directory.path()) else { return };
    let url = format!("http://127.0.0.1:{port}/metrics");
    let client = reqwest::Client::new();
    let mut says = String::new();
    for _ in 0..200 {
        if let Ok(response) = client.get(&url).send().await {
            says = response.text().await.unwrap();
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let boot =
        says.lines().find_map(|line| line.strip_prefix("node_boot_time_seconds ")).expect("it says when it booted");
    let boot: f64 = boot.parse().unwrap();

    let level = asked(1, Sli::Level { gauge: Selector::metric("node_boot_time_seconds") });
    let requests = Selector::metric("promhttp_metric_handler_requests_total");
    let served = Sli::Ratio { bad: requests.clone().with("code", Match::Is("500".into())), total: requests };
    let service = config(targets(std::slice::from_ref(&url), std::slice::from_ref(&url)));
    let mut asker = Asker::with(service, vec![errors(), level, asked(2, served)]);
    asker.begin().await;
    write(1_000_023, 9);
    let answer = asker.window(SOON).await;
    assert_eq!(arms(&answer, 0), [counts(2, 25), counts(2, 25)]);
    let [_, level] = arms(&answer, 1);
    assert!(matches!(level, Ok(Tally::Samples(levels)) if levels.iter().all(|level| *level == boot)));
    let [control, canary] = arms(&answer, 2);
    assert_eq!(control, canary, "one endpoint of both arms is read once a round");
    assert!(
        matches!(canary, Ok(Tally::Counts(Counts { bad: 0, total: 1.. }))),
        "it counts our own readings: {canary:?}"
    );
}

#[tokio::test]
async fn a_real_exporter_is_indexed_and_its_past_is_counted() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let directory = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(_child) = real_exporter(port, directory.path()) else { return };
    let url = format!("http://127.0.0.1:{port}/metrics");
    let history = Some(History { every: Duration::from_millis(100), reach: Duration::from_secs(60) });
    let urls = [std::slice::from_ref(&url), &[format!("{url}?canary")]];
    let config = scrape::Config { history, ..config(targets(urls[0], urls[1])) };
    let scrape = Asker::with(config, Vec::new()).scrape;
    let service = ServiceName::new("shop");
    let requests = Selector::metric("promhttp_metric_handler_requests_total");
    let sli = Sli::Ratio { bad: requests.clone().with("code", Match::Is("500".into())), total: requests };
    let mut served = 0;
    for _ in 0..400 {
        tokio::time::sleep(Duration::from_millis(25)).await;
        let reach = Duration::from_secs(60);
        let ask = PastAsk { service: service.clone(), stable: None, sli: sli.clone(), split: Split::default(), reach };
        let Ok(past) = scrape.history(ask).await else { continue };
        served = past
            .blocks
            .iter()
            .flatten()
            .map(|block| match block.tally {
                Tally::Counts(Counts { bad: 0, total }) => total,
                ref other => panic!("{other:?}"),
            })
            .sum();
        if served >= 3 {
            break;
        }
    }
    assert!(served >= 3, "it counts our own readings, one for each block");
    let index = scrape.metrics(&service).unwrap();
    let load = index.find("node_load1").expect("it shows the load");
    assert_eq!((load.kind, load.help.as_str(), load.series), (MetricKind::Gauge, "1m load average.", 1));
    let requests = index.find("promhttp_metric_handler_requests_total").expect("it counts our requests");
    assert_eq!((requests.kind, requests.labels.len()), (MetricKind::Counter, 1));
    assert!(requests.labels[0].name == "code" && requests.labels[0].values.contains(&"200".to_owned()));
    assert!(index.find("node_boot_time_seconds").is_some_and(|metric| metric.kind == MetricKind::Gauge));
    assert!(!index.cut && index.metrics.windows(2).all(|pair| pair[0].name < pair[1].name));
}
