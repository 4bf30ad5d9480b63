//! The index of metrics and the recent past, over real HTTP.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tollgate::{
    domain::{
        Absence, Counts, MetricKind, PartKind, Reading, Revision, ServiceName, Sli, Split, Tally, Text, Timestamp,
    },
    telemetry::{
        self, Catalogued, Past, PastAsk, Provider,
        counting::READINGS_KEPT_MAX,
        scrape::{self, History, Scrape, ServiceTargets},
    },
};

use crate::pods::{Asker, Pods, SHORT, Shows, config, errors, now, targets};

const EVERY: Duration = Duration::from_millis(20);

fn keeping(targets: ServiceTargets, every: Duration) -> scrape::Config {
    scrape::Config { history: Some(History { every, reach: every * 1_000 }), ..config(targets) }
}

fn start(config: scrape::Config) -> (Scrape, Arc<AtomicU64>) {
    let clock = Arc::new(AtomicU64::new(1_700_000_000_000));
    let reads = Arc::clone(&clock);
    (scrape::start(config, Arc::new(move || now(&reads)), scrape::client().unwrap()), clock)
}

fn shop() -> ServiceName {
    ServiceName::new("shop")
}

fn past_of(sli: Sli, stable: Option<&str>) -> PastAsk {
    let stable = stable.map(|revision| revision.parse::<Revision>().unwrap());
    PastAsk { service: shop(), stable, sli, split: Split::default(), reach: Duration::from_secs(3_600) }
}

async fn until<T>(mut there_is: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..2_000 {
        if let Some(found) = there_is().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come in ten seconds");
}

async fn index(scrape: &Scrape) -> Arc<Catalogued> {
    until(async || scrape.metrics(&shop()).ok()).await
}

/// All that the blocks counted, and how many blocks had nothing.
fn sum(past: &Past) -> (Counts, usize) {
    let mut all = Counts::default();
    for block in past.blocks.iter().flatten() {
        match block {
            Reading { tally: Tally::Counts(counts), .. } => all = all.plus(*counts),
            other => panic!("{other:?}"),
        }
    }
    (all, past.blocks.iter().filter(|block| block.is_err()).count())
}

/// The past once it counts so many requests.
async fn counted(scrape: &Scrape, stable: Option<&str>, total: u64) -> Past {
    until(async || {
        let past = scrape.history(past_of(errors().sli, stable)).await.ok()?;
        (sum(&past).0.total == total).then_some(past)
    })
    .await
}

#[tokio::test]
async fn what_control_shows_is_indexed_and_counted_without_any_ask_for_a_rollout() {
    let pods = Pods::start().await;
    let body = |good: u64, bad: u64| {
        format!(
            "# HELP hits_total Requests served.\n# TYPE hits_total counter\nhits_total{{code=\"200\",route=\"/a\"}} {good}\n\
             hits_total{{code=\"500\",route=\"/b\"}} {bad}"
        )
    };
    pods.metrics("a", body(10, 1));
    pods.metrics("b", body(20, 2));
    let config = keeping(targets(&[pods.url("a"), pods.url("b")], &[pods.url("new")]), EVERY);
    let (scrape, clock) = start(config);
    let found = index(&scrape).await;
    let [hits] = found.metrics.as_slice() else { panic!("{found:?}") };
    assert_eq!(
        (hits.name.as_str(), hits.kind, &hits.help),
        ("hits_total", MetricKind::Counter, &Text::new("Requests served."))
    );
    assert_eq!((hits.series, hits.labels.len(), found.cut), (4, 2, false));
    assert_eq!(hits.labels[1].values, ["/a", "/b"]);

    counted(&scrape, None, 0).await;
    // One serves, the other starts again and cannot be read for a while.
    pods.metrics("a", body(15, 3));
    counted(&scrape, None, 7).await;
    pods.show("b", Shows::Other { status: 503, kind: "text/plain", body: String::new() });
    pods.some_rounds().await;
    pods.metrics("b", body(4, 0));
    let past = counted(&scrape, None, 7 + 4).await;
    let (all, gaps) = sum(&past);
    assert_eq!((all.bad, past.every), (2, EVERY));
    assert!(gaps > 0, "what could not be read is an absence: {:?}", past.blocks);
    let why = past.blocks.iter().find_map(|block| block.as_ref().err()).unwrap();
    assert!(why.to_string().contains("/b/metrics: answered status 503"), "{why}");
    let of_pods = past.blocks.iter().flatten().map(|block| block.parts_of(PartKind::Pod).count());
    assert!(of_pods.max() == Some(2), "each address is a pod");

    clock.fetch_add(60_000, Ordering::SeqCst);
    let later =
        until(async || Some(index(&scrape).await).filter(|index| index.seen > found.seen + EVERY * 1_000)).await;
    assert_eq!(later.metrics, found.metrics, "the index says when it was seen last");
}

#[tokio::test]
async fn the_source_is_asked_at_the_keepers_pace_however_often_the_past_is() {
    let pods = Pods::start().await;
    pods.metrics("old", "hits_total 1");
    let every = Duration::from_millis(300);
    let begun = tokio::time::Instant::now();
    let (scrape, _) = start(keeping(targets(&[pods.url("old")], &[pods.url("new")]), every));
    index(&scrape).await;
    for _ in 0..60 {
        scrape.metrics(&shop()).unwrap();
        scrape.history(past_of(errors().sli, None)).await.ok();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let asked = pods.asked.load(Ordering::SeqCst);
    let most = 1 + begun.elapsed().as_millis() / every.as_millis();
    assert!((2..=most).contains(&u128::from(asked)), "{asked} of {most}");
    drop(scrape);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let dropped = pods.asked.load(Ordering::SeqCst);
    tokio::time::sleep(every * 2).await;
    assert_eq!(pods.asked.load(Ordering::SeqCst), dropped, "dropping it ends all reading");
}

#[tokio::test]
async fn a_control_that_is_named_by_revision_is_read_once_that_is_known_and_another_one_begins_anew() {
    let pods = Pods::start().await;
    for (pod, metric) in [("shop-aaaaaaa1", "one_total 1"), ("shop-bbbbbbb2", "two_total 1")] {
        pods.metrics(pod, metric);
    }
    let urls = [pods.url("shop-{revision}")];
    let (scrape, _) = start(keeping(targets(&urls, &urls), EVERY));
    tokio::time::sleep(EVERY * 5).await;
    assert_eq!(scrape.metrics(&shop()), Err(Absence::NoData));
    assert_eq!(scrape.history(past_of(errors().sli, None)).await, Err(Absence::NoData));
    assert_eq!(pods.asked.load(Ordering::SeqCst), 0, "nobody knows where to look");
    for (revision, metric) in [("aaaaaaa1", "one_total"), ("bbbbbbb2", "two_total")] {
        assert_eq!(scrape.history(past_of(errors().sli, Some(revision))).await, Err(Absence::NoData));
        let found = until(async || scrape.metrics(&shop()).ok().filter(|index| index.find(metric).is_some())).await;
        assert_eq!(found.metrics.len(), 1, "what another revision showed is not its past");
    }
}

#[tokio::test]
async fn an_ask_for_a_rollout_says_which_revision_control_is() {
    let pods = Pods::start().await;
    pods.metrics("shop-aaaaaaa1", "hits_total{code=\"200\"} 1");
    let urls = [pods.url("shop-{revision}")];
    let mut asker = Asker::with(keeping(targets(&urls, &urls), EVERY), vec![errors()]);
    asker.window(SHORT).await;
    assert!(asker.scrape.metrics(&shop()).is_err(), "that ask did not know it");
    let ask = telemetry::Ask { control: Some("aaaaaaa1".parse().unwrap()), ..asker.ask(SHORT) };
    asker.scrape.measure(ask).await;
    assert!(index(&asker.scrape).await.find("hits_total").is_some());
}

#[tokio::test]
async fn where_nothing_is_kept_there_is_no_data_and_an_unknown_service_is_said() {
    let pods = Pods::start().await;
    let (scrape, _) = start(config(targets(&[pods.url("old")], &[pods.url("new")])));
    assert_eq!(scrape.metrics(&shop()), Err(Absence::NoData));
    assert_eq!(scrape.history(past_of(errors().sli, None)).await, Err(Absence::NoData));
    let unknown = scrape.metrics(&ServiceName::new("other")).unwrap_err();
    assert!(unknown.to_string().contains("service other has no targets"));
    assert_eq!(pods.asked.load(Ordering::SeqCst), 0);
}

#[test]
fn a_history_that_cannot_be_kept_is_refused_with_what_to_mend() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let build = |every, reach| {
        let history = Some(History { every, reach });
        let config = scrape::Config { history, ..scrape::Config::default() };
        let built = telemetry::build(telemetry::Config::Scrape(config), Arc::new(|| Timestamp::EPOCH));
        built.map(|_| ()).map_err(|error| error.to_string())
    };
    let second = Duration::from_secs(1);
    let most = u32::try_from(READINGS_KEPT_MAX).unwrap();
    assert_eq!(History::default(), History { every: second * 30, reach: second * 7_200 });
    for reach in [second * 2, second * most] {
        assert_eq!(build(second, reach), Ok(()));
    }
    for reach in [second, second * (most + 1)] {
        assert!(build(second, reach).unwrap_err().contains("2 to 1440 readings"));
    }
    assert!(build(Duration::from_millis(9), second).unwrap_err().contains("no more often than every 10 ms"));
}
