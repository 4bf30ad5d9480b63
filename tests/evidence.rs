//! Laws of the statistics, held for every kind of check that a test serves, through the public interface alone: evidence
//! under the null is worth at most what was paid for it, more bad on the canary never lowers it, the arms cannot be
//! mistaken for each other, nothing that arrives makes it infinite, what cannot be compared changes nothing, and a test
//! that was put away and taken up again ends bit for bit where one that was never interrupted does.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Binomial, Distribution, Normal, Poisson};
use tollgate::{
    domain::{
        Aim, Check, CheckName, Counts, Direction, Histogram, Origin, Part, PartKind, Reading, Selector, Sli, Tally,
        Text, Weight,
    },
    stats::{self, Block, Calibration, Running, SequentialTest, Setting},
};

const BOUNDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
const SCRAPE: Duration = Duration::from_secs(15);

fn check(kind: &str, direction: Direction) -> Check {
    let (one, other) = (Selector::metric("one"), Selector::metric("other"));
    let sli = match kind {
        "ratio" => Sli::Ratio { bad: one, total: other },
        "latency" => Sli::Latency { histogram: one, slow_above_seconds: 0.25 },
        "events_per_traffic" => Sli::EventsPerTraffic { events: one, traffic: other },
        "level" => Sli::Level { gauge: one },
        "mix" => Sli::Mix { counter: one, by: "route".into() },
        "liveness" => Sli::Liveness { series: one },
        "probe" => Sli::Probe { probe: "one".into() },
        _ => panic!("{kind} is new: say here what it measures"),
    };
    Check {
        name: CheckName::new("x"),
        sli,
        direction,
        ratio_max: 1.1,
        limit: None,
        aim: Aim::Guard,
        weight: Weight::Critical,
        origin: Origin::Slo,
        rationale: Text::default(),
        lines: Vec::new(),
        split: Default::default(),
    }
}

/// A test under way, with what it must know.
struct Watch {
    check: Check,
    calibration: Calibration,
    test: Running,
}

impl Watch {
    fn new(kind: &str, direction: Direction) -> Self {
        let check = check(kind, direction);
        Self { test: Running::start(&check), calibration: Calibration::untrusted(), check }
    }

    fn observe(&mut self, control: &Reading, canary: &Reading) {
        let setting = Setting {
            check: &self.check,
            calibration: &self.calibration,
            safe_ratio: 2.0,
            pod_incident: stats::POD_INCIDENT,
        };
        self.test.observe(&setting, &Block { control, canary, span: SCRAPE });
    }

    fn values(&self) -> (f64, f64) {
        (self.test.log_e_value(), self.test.log_e_safe())
    }
}

fn poisson(mean: f64, rng: &mut StdRng) -> u64 {
    Poisson::new(mean).map_or(0, |law| law.sample(rng) as u64)
}

/// One scrape of one arm: `requests` on average, `worse` times as bad as usual.
fn drawn(kind: &str, requests: f64, worse: f64, rng: &mut StdRng) -> Tally {
    let total = poisson(requests, rng);
    let bad = |rng: &mut StdRng| Binomial::new(total, (0.02 * worse).min(1.0)).unwrap().sample(rng);
    match kind {
        "latency" => {
            // Log-logistic, with a median of 50 ms: a heavy tail, and drawn bucket by bucket.
            let (mut left, mut below) = (total, 0.0);
            let mut counts: Vec<u64> = Vec::new();
            for bound in BOUNDS {
                let through = 1.0 / (1.0 + (0.05 * worse / bound).powf(1.8));
                counts.push(Binomial::new(left, (through - below) / (1.0 - below)).unwrap().sample(rng));
                left -= counts.last().unwrap();
                below = through;
            }
            counts.push(left);
            Tally::Histogram(Histogram { bounds: BOUNDS.to_vec(), counts })
        }
        "level" => Tally::Samples(vec![50.0 * worse + Normal::new(0.0, 3.0).unwrap().sample(rng)]),
        "mix" => {
            let other = bad(rng);
            let half = Binomial::new(total - other, 0.5).unwrap().sample(rng);
            Tally::Mix(vec![("a".into(), half), ("b".into(), total - other - half), ("other".into(), other)])
        }
        _ => Tally::Counts(Counts { bad: bad(rng), total }),
    }
}

fn whole(kind: &str, requests: f64, worse: f64, rng: &mut StdRng) -> Reading {
    Reading::whole(drawn(kind, requests, worse, rng))
}

/// An arm of several pods.
fn pods(kind: &str, arm: &str, pods: usize, requests: f64, worse: f64, rng: &mut StdRng) -> Reading {
    let parts: Vec<Part> = (0..pods)
        .map(|pod| Part {
            kind: PartKind::Pod,
            name: Text::new(format!("{arm}-{pod}")),
            tally: drawn(kind, requests / pods as f64, worse, rng),
        })
        .collect();
    let tally = parts.iter().skip(1).fold(parts[0].tally.clone(), |sum, part| sum.plus(&part.tally).unwrap());
    Reading { tally, parts }
}

/// What each of so many seeds shows.
fn each_seed<T>(runs: u64, run: impl Fn(&mut StdRng) -> T) -> Vec<T> {
    (0..runs).map(|seed| run(&mut StdRng::seed_from_u64(seed))).collect()
}

#[test]
fn under_the_null_evidence_crosses_no_more_often_than_promised() {
    const RUNS: u64 = 300;
    const ALPHA: f64 = 0.05;
    for kind in stats::served() {
        let highest = each_seed(RUNS, |rng| {
            let mut watch = Watch::new(kind, Direction::HigherIsWorse);
            let mut highest = f64::NEG_INFINITY;
            for _ in 0..120 {
                watch.observe(&pods(kind, "old", 4, 300.0, 1.0, rng), &pods(kind, "new", 2, 100.0, 1.0, rng));
                highest = highest.max(watch.values().0);
            }
            highest
        });
        let crossed = highest.iter().filter(|highest| **highest >= -ALPHA.ln()).count();
        // 300 runs at 5% are 15 on average; 27 are more than one in a thousand sets of runs would show at that rate.
        assert!(crossed <= 27, "{kind}: {crossed} of {RUNS} passed 1/{ALPHA}");
    }
}

/// The mean of e-values, given their logarithms, and its standard error.
fn mean_of(log_e_values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = log_e_values.clone().count() as f64;
    let mean = log_e_values.clone().map(f64::exp).sum::<f64>() / n;
    let variance = log_e_values.map(|log_e| (log_e.exp() - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}

/// After a few blocks the mean of the e-value is not above 1: of arms that are alike for each kind, and of counts at the
/// very edge of what is refuted, `ratio_max` for evidence of harm and `safe_ratio` for evidence of safety. What history
/// says of the noise is the truth there, so nothing is left to spare.
#[test]
fn under_the_null_the_mean_of_the_e_value_is_at_most_one() {
    const RUNS: u64 = 3000;
    let known = Calibration { is_trusted: true, dispersion: 0.0, pod_log_sd: 0.0, ..Calibration::untrusted() };
    let at_most_one = |what: &str, log_e_values: &[f64]| {
        let (mean, error) = mean_of(log_e_values.iter().copied());
        assert!(mean <= 1.0 + 4.0 * error, "{what}: the mean is {mean}, with a standard error of {error}");
    };
    for kind in stats::served() {
        let after = |worse: f64, blocks: usize, calibration: &Calibration| {
            each_seed(RUNS, |rng| {
                let mut watch = Watch::new(kind, Direction::HigherIsWorse);
                watch.calibration = calibration.clone();
                for _ in 0..blocks {
                    watch.observe(&whole(kind, 120.0, 1.0, rng), &whole(kind, 60.0, worse, rng));
                }
                watch.values()
            })
        };
        // A gauge's noise has to be learnt first.
        let blocks = if kind == "level" { 24 } else { 6 };
        let harm: Vec<f64> = after(1.0, blocks, &known).iter().map(|values| values.0).collect();
        at_most_one(kind, &harm);
        if ["ratio", "events_per_traffic"].contains(&kind) {
            for calibration in [&known, &Calibration::untrusted()] {
                let harm: Vec<f64> = after(1.1, blocks, calibration).iter().map(|values| values.0).collect();
                at_most_one(&format!("{kind}, {calibration:?}, at what is tolerated"), &harm);
                let safe: Vec<f64> = after(2.0, blocks, calibration).iter().map(|values| values.1).collect();
                at_most_one(&format!("{kind}, {calibration:?}, at the safe ratio"), &safe);
            }
            // The law has teeth: a canary beyond the edge breaks it.
            let (harm, error) = mean_of(after(2.0, blocks, &known).iter().map(|values| values.0));
            let (safe, safe_error) = mean_of(after(1.0, blocks, &known).iter().map(|values| values.1));
            assert!(harm > 1.0 + 4.0 * error && safe > 1.0 + 4.0 * safe_error, "{kind}: {harm} {safe}");
        }
    }
}

#[test]
fn a_regression_is_proven_and_the_arms_are_not_mistaken_for_each_other() {
    let proof = 1000.0_f64.ln();
    for kind in stats::served() {
        let rng = &mut StdRng::seed_from_u64(1);
        let (mut bad, mut swapped) =
            (Watch::new(kind, Direction::HigherIsWorse), Watch::new(kind, Direction::HigherIsWorse));
        for _ in 0..160 {
            let (old, new) = (whole(kind, 300.0, 1.0, rng), whole(kind, 300.0, 4.0, rng));
            bad.observe(&old, &new);
            swapped.observe(&new, &old);
        }
        assert!(bad.values().0 >= proof, "{kind}: four times as bad is not proven: {:?}", bad.values());
        // A mix that differs differs either way; of everything else a better canary is no regression.
        if kind != "mix" {
            assert!(swapped.values().0 < 0.0, "{kind}: a better canary looks worse: {:?}", swapped.values());
        }
    }
}

#[test]
fn where_less_is_worse_less_is_found() {
    let proof = 1000.0_f64.ln();
    // Fewer slow requests, failed probes or readings without life are never worse, and a mix has no less.
    let never = ["latency", "mix", "liveness", "probe"];
    for kind in stats::served().into_iter().filter(|kind| !never.contains(kind)) {
        let rng = &mut StdRng::seed_from_u64(2);
        let (mut less, mut more) =
            (Watch::new(kind, Direction::LowerIsWorse), Watch::new(kind, Direction::LowerIsWorse));
        let arm = |worse: f64, rng: &mut StdRng| match kind {
            // Of a ratio that should be high, such as hits, 90% against 60%.
            "ratio" => {
                let total = poisson(300.0, rng);
                let hits = Binomial::new(total, if worse > 1.0 { 0.6 } else { 0.9 }).unwrap().sample(rng);
                Reading::whole(Tally::Counts(Counts { bad: hits, total }))
            }
            _ => whole(kind, 300.0, 1.0 / worse, rng),
        };
        for _ in 0..240 {
            let (good, bad) = (arm(1.0, rng), arm(4.0, rng));
            less.observe(&good, &bad);
            more.observe(&bad, &good);
        }
        assert!(less.values().0 >= proof, "{kind}: {:?}", less.values());
        assert!(more.values().0 < 0.0, "{kind}: {:?}", more.values());
    }
}

#[test]
fn a_test_that_was_put_away_ends_bit_for_bit_like_one_that_was_not() {
    for kind in stats::served() {
        let rng = &mut StdRng::seed_from_u64(3);
        let (mut steady, mut resumed) =
            (Watch::new(kind, Direction::HigherIsWorse), Watch::new(kind, Direction::HigherIsWorse));
        for block in 0..60 {
            let (old, new) = (pods(kind, "old", 4, 300.0, 1.0, rng), pods(kind, "new", 3, 60.0, 1.3, rng));
            steady.observe(&old, &new);
            resumed.observe(&old, &new);
            if block % 7 == 0 {
                resumed.test = postcard::from_bytes(&postcard::to_stdvec(&resumed.test).unwrap()).unwrap();
                let written = serde_json::to_string(&resumed.test).unwrap();
                resumed.test = serde_json::from_str(&written).unwrap();
            }
        }
        assert_eq!(steady.test, resumed.test, "{kind}");
        let bits = |watch: &Watch| (watch.values().0.to_bits(), watch.values().1.to_bits());
        assert_eq!(bits(&steady), bits(&resumed), "{kind}");
    }
}

#[test]
fn what_one_arm_lacks_or_has_in_another_shape_changes_nothing() {
    for kind in stats::served() {
        let rng = &mut StdRng::seed_from_u64(4);
        let mut watch = Watch::new(kind, Direction::HigherIsWorse);
        for _ in 0..20 {
            watch.observe(&whole(kind, 300.0, 1.0, rng), &whole(kind, 100.0, 2.0, rng));
        }
        let before = watch.test.clone();
        let nothing = match kind {
            "latency" => Tally::Histogram(Histogram { bounds: BOUNDS.to_vec(), counts: vec![0; BOUNDS.len() + 1] }),
            "level" => Tally::Samples(Vec::new()),
            "mix" => Tally::Mix(Vec::new()),
            _ => Tally::Counts(Counts::default()),
        };
        let other = if kind == "level" { Tally::Mix(Vec::new()) } else { Tally::Samples(vec![1.0]) };
        let full = whole(kind, 300.0, 1.0, rng);
        for lacking in [nothing, other] {
            watch.observe(&Reading::whole(lacking.clone()), &full);
            watch.observe(&full, &Reading::whole(lacking));
        }
        assert_eq!(watch.test.log_e_value().to_bits(), before.log_e_value().to_bits(), "{kind}");
        assert_eq!(watch.test.log_e_safe().to_bits(), before.log_e_safe().to_bits(), "{kind}");
    }
}

#[test]
fn the_state_of_a_check_is_at_most_a_kibibyte() {
    for kind in stats::served() {
        let rng = &mut StdRng::seed_from_u64(5);
        let mut watch = Watch::new(kind, Direction::HigherIsWorse);
        for _ in 0..60 {
            watch.observe(&pods(kind, "old", 20, 3000.0, 1.0, rng), &pods(kind, "new", 8, 600.0, 1.5, rng));
        }
        let bytes = postcard::to_stdvec(&watch.test).unwrap().len();
        assert!(bytes <= 1024, "{kind}: {bytes} bytes");
    }
}

fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(u64::MAX), 0..1000_u64, any::<u64>()]
}

fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(-0.0), Just(f64::MAX), Just(f64::MIN_POSITIVE), -1e3..1e3_f64, any::<f64>()]
}

fn any_tally() -> impl Strategy<Value = Tally> {
    let histogram = (prop::collection::vec(any_float(), 0..24), prop::collection::vec(any_number(), 0..25));
    prop_oneof![
        (any_number(), any_number()).prop_map(|(bad, total)| Tally::Counts(Counts { bad, total })),
        prop::collection::vec(any_number(), 11)
            .prop_map(|counts| Tally::Histogram(Histogram { bounds: BOUNDS.to_vec(), counts })),
        histogram.prop_map(|(bounds, counts)| Tally::Histogram(Histogram { bounds, counts })),
        prop::collection::vec(any_float(), 0..6).prop_map(Tally::Samples),
        prop::collection::vec(("[a-c]{0,2}", any_number()), 0..6).prop_map(Tally::Mix),
    ]
}

fn any_reading() -> impl Strategy<Value = Reading> {
    let kind = prop_oneof![Just(PartKind::Pod), Just(PartKind::Tenant), Just(PartKind::Segment)];
    let part = (kind, "[a-d]", any_tally()).prop_map(|(kind, name, tally)| Part { kind, name: Text::new(name), tally });
    (any_tally(), prop::collection::vec(part, 0..6)).prop_map(|(tally, parts)| Reading { tally, parts })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn nothing_that_arrives_makes_evidence_infinite(
        blocks in prop::collection::vec((any_reading(), any_reading(), 0..100_000_u64), 1..12),
        direction in prop_oneof![Just(Direction::HigherIsWorse), Just(Direction::LowerIsWorse)],
    ) {
        for kind in stats::served() {
            let mut watch = Watch::new(kind, direction);
            for (control, canary, span) in &blocks {
                let setting = Setting { check: &watch.check, calibration: &watch.calibration, safe_ratio: 2.0, pod_incident: stats::POD_INCIDENT };
                watch.test.observe(&setting, &Block { control, canary, span: Duration::from_millis(*span) });
                let (worse, safe) = watch.values();
                prop_assert!(worse.is_finite() && safe.is_finite(), "{kind}: {worse} {safe}");
                if let Some((estimate, interval)) = watch.test.effect() {
                    prop_assert!(estimate.is_finite() && interval.low.is_finite() && interval.high.is_finite(), "{kind}: {estimate} {interval:?}");
                    prop_assert!(interval.low <= interval.high, "{kind}: {interval:?}");
                }
            }
            // A number that is not finite would be written as null, and not be read back.
            let written = serde_json::to_string(&watch.test).unwrap();
            let read: Option<Running> = serde_json::from_str(&written).ok();
            prop_assert_eq!(read.as_ref(), Some(&watch.test), "{}", kind);
        }
    }

    /// Of counts: whatever came before, one more bad event on the canary in place of control's never lowers the evidence
    /// that a block brings. (What control showed in the past sets how later blocks are judged, either way.)
    #[test]
    fn more_bad_on_the_canary_never_lowers_the_evidence(
        blocks in prop::collection::vec((0..30_u64, 1..30_u64, 30..300_u64, 30..3000_u64), 1..40),
    ) {
        for kind in ["ratio", "events_per_traffic"] {
            let run = |moved: Option<usize>| {
                let mut watch = Watch::new(kind, Direction::HigherIsWorse);
                for (i, (new, old, new_total, old_total)) in blocks.iter().enumerate() {
                    let one = u64::from(moved == Some(i));
                    let canary = Reading::whole(Tally::Counts(Counts { bad: new + one, total: *new_total }));
                    let control = Reading::whole(Tally::Counts(Counts { bad: old - one, total: *old_total }));
                    watch.observe(&control, &canary);
                }
                watch.values()
            };
            let (plain, moved) = (run(None), run(Some(blocks.len() - 1)));
            // Cells are kept as single precision: the last digit may differ.
            prop_assert!(moved.0 >= plain.0 - 1e-4, "{kind}: {plain:?} {moved:?}");
            prop_assert!(moved.1 <= plain.1 + 1e-4, "{kind}: {plain:?} {moved:?}");
        }
    }
}
