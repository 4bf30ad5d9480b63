//! Prometheus and its kin over real HTTP: against a fake that answers range selectors as Prometheus does, against the
//! real Prometheus where it is installed, and against servers that misbehave.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

#[path = "prometheus/absences.rs"]
mod absences;
#[path = "prometheus/exact.rs"]
mod exact;
#[path = "prometheus/fake.rs"]
mod fake;
#[path = "prometheus/past.rs"]
mod past;
#[path = "prometheus/real.rs"]
mod real;
#[path = "prometheus/truth.rs"]
mod truth;
#[path = "prometheus/windows.rs"]
mod windows;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tollgate::{
    domain::{Absence, Arm, Counts, Match, Selector, ServiceName, Sli, Split, Tally, Timestamp},
    telemetry::{Answer, Ask, AskedCheck, Provider, prometheus},
};

/// A time that every test may begin at; a multiple of a minute.
const EPOCH: u64 = 1_700_000_040_000;
const CANARY: &str = "abcdef0";

fn millis(seconds: u64) -> u64 {
    seconds * 1_000
}

/// A clock that a test sets.
#[derive(Clone)]
struct Time(Arc<AtomicU64>);

impl Time {
    fn at(millis: u64) -> Self {
        Self(Arc::new(AtomicU64::new(millis)))
    }

    fn set(&self, millis: u64) {
        self.0.store(millis, Ordering::SeqCst);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn clock(&self) -> tollgate::telemetry::Clock {
        let time = self.clone();
        Arc::new(move || Timestamp::from_millis(time.now()))
    }
}

fn labels(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect()
}

/// The service of all tests: arms are told by the label `version`.
fn service() -> prometheus::Service {
    prometheus::Service {
        control: labels(&[("app", "shop"), ("version", "stable")]),
        canary: labels(&[("app", "shop"), ("version", "{revision}")]),
        ..prometheus::Service::default()
    }
}

fn config(url: &str, service: prometheus::Service) -> prometheus::Config {
    prometheus::Config {
        url: url.to_owned(),
        timeout: Duration::from_secs(5),
        follows_server_clock: false,
        services: BTreeMap::from([(ServiceName::new("shop"), service)]),
        ..prometheus::Config::default()
    }
}

fn errors() -> Sli {
    let total = Selector::metric("hits_total");
    Sli::Ratio { bad: total.clone().with("code", Match::StartsWith("5".into())), total }
}

fn took() -> Sli {
    Sli::Latency { histogram: Selector::metric("took_seconds"), slow_above_seconds: 0.5 }
}

fn asked(slis: Vec<Sli>) -> Vec<AskedCheck> {
    let one = |(sli, check)| AskedCheck { check: tollgate::domain::CheckId(check), sli, split: Split::default() };
    slis.into_iter().zip(0..).map(one).collect()
}

/// An ask for a window; there is a minute to answer it in.
fn ask(time: &Time, checks: Vec<AskedCheck>, after: u64, through: u64) -> Ask {
    Ask {
        service: ServiceName::new("shop"),
        control: None,
        canary: CANARY.parse().unwrap(),
        checks,
        after: Timestamp::from_millis(after),
        through: Timestamp::from_millis(through),
        no_later_than: Timestamp::from_millis(time.now() + 60_000),
    }
}

/// What is said of one check, of control and of the canary.
fn arms(answer: &Answer, check: u16) -> [Result<Tally, Absence>; 2] {
    [Arm::Control, Arm::Canary].map(|arm| {
        let of = |m: &&tollgate::domain::Measurement| m.arm == arm && m.check == tollgate::domain::CheckId(check);
        answer.measurements.iter().find(of).unwrap().tally.clone()
    })
}

fn counts(bad: u64, total: u64) -> Result<Tally, Absence> {
    Ok(Tally::Counts(Counts { bad, total }))
}

/// Asks once, with a clock that stands still unless the test moves it.
async fn measure(config: prometheus::Config, time: &Time, ask: Ask) -> Answer {
    prometheus::start(config, time.clock()).unwrap().measure(ask).await
}
