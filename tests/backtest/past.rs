//! A service of the past hours: which revisions ran when, how well, and what Prometheus kept of it as OpenMetrics.

use std::fmt::Write as _;

use rand::{Rng, SeedableRng, rngs::StdRng};

/// Seconds between scrapes.
pub(crate) const SCRAPE: u64 = 15;
/// Pods of each revision.
const PODS: u64 = 4;

/// A revision that ran for a while; times are seconds after the beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    pub(crate) revision: &'static str,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Requests of a pod in a second.
    pub(crate) rate: f64,
    /// Shares that fail, and that take long.
    pub(crate) failing: f64,
    pub(crate) slow: f64,
}

impl Ran {
    pub(crate) fn well(revision: &'static str, from: u64, to: u64) -> Self {
        Self { revision, from, to, rate: 6.0, failing: 0.005, slow: 0.02 }
    }
}

/// How many of `n` come true at this chance.
fn of(rng: &mut StdRng, n: u64, chance: f64) -> u64 {
    (0..n).filter(|_| rng.random_bool(chance)).count() as u64
}

/// What was kept of all of them; the beginning is in seconds since the epoch.
pub(crate) fn open_metrics(beginning: u64, all: &[Ran]) -> String {
    let [mut hits, mut took, mut starts] = [String::new(), String::new(), String::new()];
    for (ran, seed) in all.iter().zip(0..) {
        for pod in 0..PODS {
            let mut rng = StdRng::seed_from_u64(seed * PODS + pod);
            let labels = format!(
                "app=\"shop\",version=\"{}\",job=\"shop\",instance=\"{}-{pod}\"",
                ran.revision,
                &ran.revision[..2]
            );
            let (mut good, mut bad, mut quick, mut slow) = (0, 0, 0, 0);
            for at in (ran.from + pod..ran.to).step_by(SCRAPE as usize) {
                let most = (ran.rate * SCRAPE as f64 * 1.2) as u64;
                let requests = of(&mut rng, most, 1.0 / 1.2);
                let (failed, slept) = (of(&mut rng, requests, ran.failing), of(&mut rng, requests, ran.slow));
                (good, bad) = (good + requests - failed, bad + failed);
                (quick, slow) = (quick + requests - slept, slow + slept);
                let time = beginning + at;
                writeln!(hits, "hits_total{{{labels},code=\"200\"}} {good} {time}").unwrap();
                writeln!(hits, "hits_total{{{labels},code=\"500\"}} {bad} {time}").unwrap();
                for (edge, count) in [("0.1", quick / 2), ("0.5", quick), ("+Inf", quick + slow)] {
                    writeln!(took, "took_seconds_bucket{{{labels},le=\"{edge}\"}} {count} {time}").unwrap();
                }
                let started = beginning + ran.from;
                writeln!(starts, "process_start_time_seconds{{{labels}}} {started} {time}").unwrap();
            }
        }
    }
    format!(
        "# TYPE hits counter\n{hits}# TYPE took_seconds_bucket unknown\n{took}\
         # TYPE process_start_time_seconds gauge\n{starts}# EOF\n"
    )
}
