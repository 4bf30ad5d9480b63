//! JSON endpoints as people write them: numbers of a window, and numbers since the beginning.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tollgate::{
    domain::{Absence, Counts, Histogram, Selector, ServiceName, Sli, Tally},
    telemetry::{
        self, Clock, Provider,
        buckets::Setting,
        web::{self, Metric, Numbers, Slow, Times},
    },
};

use crate::{
    contract::{Asked, BEGIN, NEW, SECRET, STEP, Setup, Vendor, arms, holds},
    server::{Seen, Shows},
};

const SOON: Duration = Duration::from_secs(5);

fn provider(metrics: BTreeMap<String, Metric>, setting: Setting, clock: Clock) -> Arc<dyn Provider> {
    let services = BTreeMap::from([(ServiceName::new("shop"), metrics)]);
    let config = web::Config { services, setting: Setting { services: BTreeMap::new(), ..setting } };
    assert!(!format!("{config:?}").contains(SECRET));
    telemetry::build(telemetry::Config::Web(config), clock).unwrap()
}

fn metric(url: String, path: &str, numbers: Numbers) -> Metric {
    let headers = BTreeMap::from([("x-key".to_owned(), SECRET.into())]);
    Metric { url, headers, path: path.into(), slow: None, numbers, times: Times::Milliseconds }
}

struct Windows;

impl Vendor for Windows {
    fn provider(url: &str, setting: Setting, clock: Clock) -> Arc<dyn Provider> {
        let at = |what: &str| format!("{url}/{{arm}}/{what}?revision={{revision}}&after={{after}}&through={{through}}");
        let metrics = [("requests", "all"), ("errors", "bad")]
            .map(|(name, what)| (name.to_owned(), metric(at(what), "$.data[0]['n']", Numbers::Window)));
        provider(BTreeMap::from(metrics), setting, clock)
    }

    fn sli() -> Sli {
        Sli::Ratio { bad: Selector::metric("errors"), total: Selector::metric("requests") }
    }

    fn asked(seen: &Seen) -> Asked {
        assert_eq!(seen.headers["x-key"], SECRET);
        let (path, parameters) = (seen.uri.path(), seen.parameters());
        let canary = path.starts_with("/canary/");
        assert_eq!(parameters["revision"] == NEW, canary);
        let number = |name: &str| parameters[name].parse().unwrap();
        Asked { bad: path.ends_with("/bad"), canary, from: number("after"), to: number("through") }
    }

    fn data(_: &Asked, buckets: &[(u64, f64)]) -> String {
        assert!(buckets.len() <= 1, "a bucket at a time");
        json!({"data": [{"n": buckets.first().map(|(_, n)| n)}]}).to_string()
    }

    /// An endpoint has no word for it.
    fn partial() -> Vec<String> {
        Vec::new()
    }

    fn wrong_types() -> Vec<String> {
        ["{\"data\":[{\"n\":\"5\"}]}", "{\"data\":[{\"n\":-5}]}", "{\"data\":[]}", "{\"data\":{\"n\":5}}"]
            .map(str::to_owned)
            .to_vec()
    }

    fn expired() -> (u16, String) {
        (401, String::new())
    }
}

holds!(Windows);

struct Since;

impl Vendor for Since {
    fn provider(url: &str, setting: Setting, clock: Clock) -> Arc<dyn Provider> {
        let counts = |path| metric(format!("{url}/{{arm}}"), path, Numbers::Cumulative);
        let slow = Some(Slow { above_seconds: 0.5, path: "$.slow".into() });
        let metrics = BTreeMap::from([
            ("requests".to_owned(), counts("$.all")),
            ("errors".to_owned(), counts("$.bad")),
            ("took".to_owned(), Metric { slow, ..counts("$.all") }),
            ("load".to_owned(), metric(format!("{url}/{{arm}}"), "$.load", Numbers::Now)),
            ("many".to_owned(), counts("$.*")),
        ]);
        provider(metrics, setting, clock)
    }

    fn sli() -> Sli {
        Windows::sli()
    }

    fn asked(_: &Seen) -> Asked {
        Asked { bad: false, canary: false, from: 0, to: 0 }
    }

    fn data(_: &Asked, _: &[(u64, f64)]) -> String {
        String::new()
    }

    fn partial() -> Vec<String> {
        Vec::new()
    }

    fn wrong_types() -> Vec<String> {
        Vec::new()
    }

    fn expired() -> (u16, String) {
        (401, String::new())
    }
}

#[tokio::test]
async fn cumulative_numbers_are_counted_from_reading_to_reading() {
    let setup = Setup::of::<Since>().await;
    let served = Arc::new(AtomicU64::new(100));
    let shown = Arc::clone(&served);
    setup.server.shows(move |_| {
        let all = shown.load(Ordering::SeqCst);
        Shows::Body(json!({"all": all, "bad": all / 10, "slow": all / 5, "load": 0.5}).to_string())
    });
    let window = async |sli: Sli, minute: u64| {
        let (after, now) = (BEGIN + minute * STEP, BEGIN + (minute + 2) * STEP);
        let answer = setup.answer(&sli, after, now, SOON).await;
        assert_eq!(answer.through.as_millis(), after + STEP);
        arms(&answer)[1].clone()
    };
    let counts = |bad, total| Ok(Tally::Counts(Counts { bad, total }));
    assert_eq!(window(Since::sli(), 0).await, Err(Absence::NoData), "the first reading is where counting starts");
    served.store(150, Ordering::SeqCst);
    assert_eq!(window(Since::sli(), 1).await, counts(5, 50));
    served.store(170, Ordering::SeqCst);
    assert_eq!(window(Since::sli(), 1).await, counts(5, 50), "an answer that was not read uses nothing up");
    assert_eq!(window(Since::sli(), 2).await, counts(2, 20));
    served.store(40, Ordering::SeqCst);
    assert_eq!(window(Since::sli(), 3).await, counts(4, 40), "it began again");
    let took = |edge| Sli::Latency { histogram: Selector::metric("took"), slow_above_seconds: edge };
    window(took(0.5), 4).await.unwrap_err();
    served.store(50, Ordering::SeqCst);
    let slow = Tally::Histogram(Histogram { bounds: vec![0.5], counts: vec![8, 2] });
    assert_eq!(window(took(0.5), 5).await, Ok(slow));
    assert_eq!(window(Sli::Level { gauge: Selector::metric("load") }, 6).await, Ok(Tally::Samples(vec![0.5])));
}

#[tokio::test]
async fn what_an_endpoint_cannot_tell_says_what_to_configure() {
    let setup = Setup::of::<Since>().await;
    setup.server.shows(|_| Shows::Body(json!({"all": 1, "bad": 1, "slow": 1}).to_string()));
    let metric = Selector::metric;
    let narrowed = Windows::sli().narrowed("route", &tollgate::domain::Match::Is("/pay".into()));
    for (sli, why) in [
        (Sli::Latency { histogram: metric("took"), slow_above_seconds: 0.3 }, "slower than 0.5 s"),
        (Sli::Latency { histogram: metric("requests"), slow_above_seconds: 0.3 }, "configure `slow`"),
        (Sli::Mix { counter: metric("requests"), by: "code".into() }, "has no labels"),
        (narrowed, "has no labels"),
        (Sli::Level { gauge: metric("requests") }, "of another kind"),
        (Sli::Liveness { series: metric("unknown") }, "no endpoint is configured for the metric `unknown`"),
        (Sli::Liveness { series: metric("many") }, "more than one value"),
    ] {
        let answer = setup.answer(&sli, BEGIN, BEGIN + 2 * STEP, SOON).await;
        let told = arms(&answer)[1].clone().unwrap_err();
        assert!(matches!(&told, Absence::Malformed(told) if told.as_str().contains(why)), "{told}");
    }
}
