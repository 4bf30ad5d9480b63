//! The suite for latency: whole distributions in the buckets that client libraries have by default.
//!
//! A rollout is watched for two hours. What our test knows of the noise it learnt from the slow requests of an hour of 20
//! stable pods of the same family, drawn afresh for every rollout.

use std::time::Duration;

use rand::{SeedableRng, rngs::StdRng};

use super::{
    contender::{ALPHA, Watched, Watcher, check, watch_each},
    noise::{PODS, SCRAPE_SECONDS},
    noise_latency::{DEFAULT_BOUNDS, Effect, Family, Scrape, Shape, draw},
    peers::{FlaggerChecks, KayentaJudge},
    suite::{Case, Exception, Method, Suite, Words},
};
use crate::{
    domain::{Check, Histogram, Reading, Selector, Sli, Tally},
    stats::{Calibration, History, quantile},
};

/// See the head of the file.
pub const SUITE: Suite = Suite {
    name: "latency",
    summary: "request durations in default buckets, 200 requests/s on 20 pods, watched for two hours",
    methods,
    words: Words::ROLLBACKS,
    runs: 300,
    power_runs: 30,
    harmless,
    harmful,
    exceptions: &[
        Exception { method: BLIND, family: "split by user", reason: OTHER_USERS },
        Exception { method: BLIND, family: "one slow pod", reason: ONE_POD },
        Exception { method: OURS, family: "one slow pod", reason: THE_POD },
        Exception { method: UNTAUGHT, family: "one slow pod", reason: THE_POD },
    ],
};

const OURS: &str = "tollgate";
const BLIND: &str = "tollgate, parts unknown";
const UNTAUGHT: &str = "tollgate, no history";
const OTHER_USERS: &str =
    "the canary's users ask for slower things, which without endpoints cannot be told from a regression";
const ONE_POD: &str = "a slow pod of the canary that is not told apart is as slow as a slow version";
const THE_POD: &str = "where the canary is one pod, in one rollout of twenty it is the slow one, and stays so; with more pods it is \
                       left out";

/// How long a rollout is watched, and the stable period before it.
const SCRAPES: usize = 480;
const LEARNT_SCRAPES: usize = 240;
/// From here on a request is slow, in seconds.
const SLOW_SECONDS: f64 = 0.5;
/// The margin of a check by default.
const RATIO_MAX: f64 = 1.1;
/// What a static bound on the 99th percentile is told: twice the true one, in milliseconds.
const BOUND_MILLISECONDS: f64 = 2_000.0;

fn methods() -> Vec<Method> {
    vec![
        Method::ours(
            OURS,
            "as shipped: 1.1 times as many slow ones are tolerated, pods and endpoints are told apart",
            Some(ALPHA),
        ),
        Method::ours(BLIND, "as shipped, where telemetry cannot tell pods and endpoints apart", Some(ALPHA)),
        Method::ours(UNTAUGHT, "as shipped, where there was nothing to learn from", Some(ALPHA)),
        Method::rival("Kayenta, p50", "Mann-Whitney on the medians of each minute, every 5 minutes"),
        Method::rival("Kayenta, p99", "the same on the 99th percentiles"),
        Method::rival("Flagger, p99", "a check a minute, 5 failed ones in all, bound at twice the true percentile"),
    ]
}

fn harmless() -> Vec<Case> {
    cases("harmless", &[("", Effect::None)])
}

fn harmful() -> Vec<Case> {
    cases(
        "slower",
        &[
            ("+10%", Effect::Slower(1.1)),
            ("+25%", Effect::Slower(1.25)),
            ("+50%", Effect::Slower(1.5)),
            ("1% +2 s", Effect::Delayed(0.01, 2.0)),
        ],
    )
}

fn cases(table: &'static str, effects: &[(&str, Effect)]) -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::ALL {
        for canary_pods in [1, 5] {
            for (name, effect) in effects {
                let shape = Shape {
                    family,
                    bounds: DEFAULT_BOUNDS.to_vec(),
                    median_seconds: 0.1,
                    requests_per_scrape: 200.0 * SCRAPE_SECONDS,
                    canary_pods,
                    effect: *effect,
                    scrapes: SCRAPES,
                };
                let mut setting = vec![("canary pods", canary_pods.to_string())];
                setting.extend((!name.is_empty()).then(|| ("effect", (*name).to_owned())));
                let run = move |seed| roll_out(&shape, seed);
                cases.push(Case { table, family: family.name(), setting, limit_seconds: None, run: Box::new(run) });
            }
        }
    }
    cases
}

/// Both arms of one scrape, as a source would tell them.
struct Look {
    control: Reading,
    canary: Reading,
}

fn roll_out(shape: &Shape, seed: u64) -> Vec<Option<u32>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let learnt = Calibration::learn(&history(shape, &mut rng));
    let look = |scrape: &Scrape| Look { control: scrape.control_reading(), canary: scrape.canary_reading() };
    let looks: Vec<Look> = draw(shape, &mut rng).iter().map(look).collect();
    let ours = |calibration: Calibration| {
        let mut watched = Watched::start(latency_check(), calibration);
        move |look: &Look| {
            watched.look(&look.control, &look.canary);
            watched.has_rolled_back()
        }
    };
    let mut blind = Watched::start(latency_check(), learnt.clone());
    let watchers: Vec<Watcher<'_, Look>> = vec![
        Box::new(ours(learnt)),
        Box::new(move |look| {
            let whole = |reading: &Reading| Reading::whole(reading.tally.clone());
            blind.look(&whole(&look.control), &whole(&look.canary));
            blind.has_rolled_back()
        }),
        Box::new(ours(Calibration::untrusted())),
        kayenta(0.5),
        kayenta(0.99),
        flagger(),
    ];
    watch_each(watchers, &looks)
}

/// A check on slow requests.
fn latency_check() -> Check {
    let histogram = Selector::metric("request_seconds");
    check(Sli::Latency { histogram, slow_above_seconds: SLOW_SECONDS }, RATIO_MAX)
}

/// A stable period of the old version alone, under the same noise.
fn history(shape: &Shape, rng: &mut StdRng) -> History {
    let stable = Shape { canary_pods: 0, effect: Effect::None, scrapes: LEARNT_SCRAPES, ..shape.clone() };
    let mut pods = vec![Vec::new(); PODS];
    for scrape in draw(&stable, rng) {
        pods.iter_mut().zip(scrape.control).for_each(|(pod, histogram)| pod.push(histogram.above(SLOW_SECONDS)));
    }
    History { every: Duration::from_secs_f64(SCRAPE_SECONDS), pods }
}

/// Kayenta on one quantile, against all of control.
fn kayenta(p: f64) -> Watcher<'static, Look> {
    let (mut judge, mut canary, mut control) = (KayentaJudge::start(5), Minute::default(), Minute::default());
    Box::new(move |look| {
        if let (Some(canary), Some(control)) = (canary.add(&look.canary), control.add(&look.control)) {
            judge.take(milliseconds(&canary, p), milliseconds(&control, p));
        }
        judge.is_high()
    })
}

/// Flagger on the 99th percentile of the canary alone.
fn flagger() -> Watcher<'static, Look> {
    let (mut checks, mut canary) = (FlaggerChecks::default(), Minute::default());
    Box::new(move |look| {
        if let Some(canary) = canary.add(&look.canary) {
            checks.take(milliseconds(&canary, 0.99).is_none_or(|slowest| slowest > BOUND_MILLISECONDS));
        }
        checks.has_rolled_back()
    })
}

/// Adds scrapes up to minutes.
#[derive(Default)]
struct Minute {
    sum: Histogram,
    scrapes: u32,
}

impl Minute {
    /// Takes a scrape in; every fourth time, the minute that is full.
    fn add(&mut self, reading: &Reading) -> Option<Histogram> {
        let Tally::Histogram(scrape) = &reading.tally else { return None };
        if self.scrapes == 0 {
            self.sum = scrape.clone();
        } else {
            self.sum.counts.iter_mut().zip(&scrape.counts).for_each(|(sum, n)| *sum += n);
        }
        self.scrapes += 1;
        (f64::from(self.scrapes) * SCRAPE_SECONDS >= 60.0).then(|| std::mem::take(self).sum)
    }
}

/// A quantile in milliseconds; the last bound where it is beyond that, as Prometheus has it. `None` without requests.
fn milliseconds(histogram: &Histogram, p: f64) -> Option<f64> {
    let found = quantile(histogram, p, 0.05)?;
    found.estimate.or(histogram.bounds.last().copied()).map(|seconds| 1_000.0 * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(family: Family, effect: Effect) -> Vec<Option<u32>> {
        let shape = Shape {
            family,
            bounds: DEFAULT_BOUNDS.to_vec(),
            median_seconds: 0.1,
            requests_per_scrape: 3000.0,
            canary_pods: 5,
            effect,
            scrapes: 120,
        };
        roll_out(&shape, 1)
    }

    #[test]
    fn a_version_three_times_as_slow_is_found_by_all_and_a_harmless_one_kept_by_ours() {
        let slow = after(Family::Independent, Effect::Slower(3.0));
        assert_eq!(slow.len(), methods().len());
        assert!(slow.iter().all(Option::is_some), "{slow:?}");
        assert!(after(Family::SharedDrift, Effect::None).iter().take(3).all(Option::is_none));
    }

    #[test]
    fn the_percentile_of_a_minute_is_in_milliseconds() {
        let histogram = |counts: [u64; 3]| Histogram { bounds: vec![0.1, 0.5], counts: counts.to_vec() };
        let reading = |counts| Reading::whole(Tally::Histogram(histogram(counts)));
        let mut minute = Minute::default();
        assert!((0..3).all(|_| minute.add(&reading([9, 1, 0])).is_none()));
        assert_eq!(minute.add(&reading([9, 1, 0])), Some(histogram([36, 4, 0])));
        assert_eq!(milliseconds(&histogram([36, 4, 0]), 0.9), Some(100.0));
        assert_eq!(milliseconds(&histogram([1, 0, 99]), 0.9), Some(500.0), "beyond the last bound");
        assert_eq!(milliseconds(&histogram([0, 0, 0]), 0.9), None);
    }
}
