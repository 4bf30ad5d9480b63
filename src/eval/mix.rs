//! The suite for mixes of categories: ten routes whose shares fall off geometrically.
//!
//! A rollout is watched for two hours. Nothing is learnt from history for mixes: the test has its wider setting, and
//! blocks of a minute, as in a rollout.

use rand::{SeedableRng, rngs::StdRng};

use super::{
    contender::{ALPHA, Watched, Watcher, check, watch_each},
    noise_mix::{CATEGORIES, MixChange, MixFamily, MixLook, MixShape, draw},
    peers::{ChiSquare, StabilityIndex},
    suite::{Case, Exception, Method, Suite, Words},
};
use crate::{
    domain::{Check, Part, PartKind, Reading, Selector, Sli, Tally, Text},
    stats::Calibration,
};

/// See the head of the file.
pub const SUITE: Suite = Suite {
    name: "mix",
    summary: "requests in ten categories on 20 pods, watched for two hours",
    methods,
    words: Words::ROLLBACKS,
    runs: 1_000,
    power_runs: 50,
    harmless,
    harmful,
    exceptions: &[
        Exception { method: OURS, family: "few heavy users", reason: FEW_USERS },
        Exception { method: BLIND, family: "few heavy users", reason: FEW_USERS },
    ],
};

const OURS: &str = "tollgate";
const BLIND: &str = "tollgate, pods unknown";
const FEW_USERS: &str = "three users who make a third of all requests in a mix of their own and keep their arm; without \
                         tenants as parts that cannot be told from a change";

/// How long a rollout is watched.
const LOOKS: usize = 480;
/// The margin of a check by default.
const RATIO_MAX: f64 = 1.1;

fn methods() -> Vec<Method> {
    vec![
        Method::ours(OURS, "as shipped: shares may differ 1.1 times, pods are told apart", Some(ALPHA)),
        Method::ours(BLIND, "as shipped, where pods cannot be told apart", Some(ALPHA)),
        Method::rival("chi-square, peeking", "homogeneity of all so far, looked at after every scrape, p < 0.001"),
        Method::rival("PSI > 0.25", "the population stability index of each 5 minutes"),
    ]
}

fn harmless() -> Vec<Case> {
    cases("harmless", &[("", MixChange::None)])
}

fn harmful() -> Vec<Case> {
    cases(
        "changed",
        &[
            ("3 points swapped", MixChange::Swap(0.03)),
            ("30% shifted", MixChange::Shift(0.3)),
            ("new mode 10%", MixChange::New(0.1)),
        ],
    )
}

fn cases(table: &'static str, changes: &[(&str, MixChange)]) -> Vec<Case> {
    let mut cases = Vec::new();
    for family in MixFamily::ALL {
        for (rate, canary_pods) in [(2.0, 5), (20.0, 1), (20.0, 5)] {
            for (name, change) in changes {
                let shape = MixShape { family, rate, canary_pods, change: *change, onset: 0, looks: LOOKS };
                let mut setting = vec![("requests/s", format!("{rate}")), ("canary pods", canary_pods.to_string())];
                setting.extend((!name.is_empty()).then(|| ("effect", (*name).to_owned())));
                let run = move |seed| roll_out(&shape, seed);
                cases.push(Case { table, family: family.name(), setting, limit_seconds: None, run: Box::new(run) });
            }
        }
    }
    cases
}

/// What pods counted of each category.
type Pods = Vec<[u64; CATEGORIES + 1]>;

fn roll_out(shape: &MixShape, seed: u64) -> Vec<Option<u32>> {
    let looks = draw(shape, &mut StdRng::seed_from_u64(seed));
    let (mut chi_square, mut index) = (ChiSquare::default(), StabilityIndex::default());
    let watchers: Vec<Watcher<'_, MixLook>> = vec![
        ours(true),
        ours(false),
        Box::new(move |look| {
            chi_square.take(&whole(&look.canary), &whole(&look.control));
            chi_square.is_significant()
        }),
        Box::new(move |look| {
            index.take(&whole(&look.canary), &whole(&look.control));
            index.has_shifted()
        }),
    ];
    watch_each(watchers, &looks)
}

/// Our test. Looks are added up to blocks as numbers: as names it would cost more than the test.
fn ours(has_parts: bool) -> Watcher<'static, MixLook> {
    let mut watched = Watched::start(mix_check(), Calibration::untrusted());
    let (mut canary, mut control, mut gathered) = (Pods::new(), Pods::new(), 0);
    Box::new(move |look| {
        for (sum, pods) in [(&mut canary, &look.canary), (&mut control, &look.control)] {
            sum.resize(pods.len(), [0; CATEGORIES + 1]);
            let (sum, pods) = (sum.iter_mut().flatten(), pods.iter().flatten());
            sum.zip(pods).for_each(|(sum, n)| *sum += n);
        }
        gathered += 1;
        if gathered == watched.scrapes_per_block() {
            watched.judge(&reading(&control, has_parts), &reading(&canary, has_parts));
            (canary, control, gathered) = (Pods::new(), Pods::new(), 0);
        }
        watched.has_rolled_back()
    })
}

/// A check on the mix of routes.
fn mix_check() -> Check {
    check(Sli::Mix { counter: Selector::metric("requests_total"), by: "route".into() }, RATIO_MAX)
}

fn whole(pods: &[[u64; CATEGORIES + 1]]) -> [u64; CATEGORIES + 1] {
    let mut sums = [0; CATEGORIES + 1];
    pods.iter().for_each(|pod| sums.iter_mut().zip(pod).for_each(|(sum, n)| *sum += n));
    sums
}

fn reading(pods: &[[u64; CATEGORIES + 1]], has_parts: bool) -> Reading {
    let part = |(pod, counts): (usize, &[u64; CATEGORIES + 1])| Part {
        kind: PartKind::Pod,
        name: Text::new(format!("pod-{pod:02}")),
        tally: tally(counts),
    };
    let parts = if has_parts { pods.iter().enumerate().map(part).collect() } else { Vec::new() };
    Reading { tally: tally(&whole(pods)), parts }
}

fn tally(counts: &[u64]) -> Tally {
    let seen = counts.iter().enumerate().filter(|(_, n)| **n > 0);
    Tally::Mix(seen.map(|(category, n)| (format!("route-{category:02}"), *n)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reversed_mix_is_found_by_all_and_a_harmless_one_kept_by_ours() {
        let after = |change| {
            let family = MixFamily::Independent;
            roll_out(&MixShape { family, rate: 20.0, canary_pods: 5, change, onset: 0, looks: 240 }, 1)
        };
        let reversed = after(MixChange::Shift(0.8));
        assert_eq!(reversed.len(), methods().len());
        assert!(reversed.iter().all(Option::is_some), "{reversed:?}");
        assert!(after(MixChange::None).iter().take(2).all(Option::is_none));
    }

    #[test]
    fn a_reading_has_the_categories_that_were_seen() {
        let mut pods = vec![[0; CATEGORIES + 1]; 2];
        pods[0][3] = 5;
        pods[1][3] = 2;
        pods[1][10] = 1;
        let seen = |counts: &[(&str, u64)]| Tally::Mix(counts.iter().map(|(name, n)| ((*name).into(), *n)).collect());
        let reading = reading(&pods, true);
        assert_eq!(reading.tally, seen(&[("route-03", 7), ("route-10", 1)]));
        assert_eq!(reading.parts[0].tally, seen(&[("route-03", 5)]));
    }
}
