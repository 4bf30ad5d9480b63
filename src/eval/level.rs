//! The suite for gauges and amounts: readings around 50, with a deviation of 5 on each pod.
//!
//! A rollout is watched for two hours. Nothing is learnt from history for levels: the test has its wider setting, and
//! blocks of a minute, as in a rollout.

use rand::{SeedableRng, rngs::StdRng};

use super::{
    contender::{ALPHA, Watched, Watcher, check, watch_each},
    noise::SCRAPE_SECONDS,
    noise_level::{LevelFamily, LevelLook, LevelShape, draw},
    peers::KayentaJudge,
    suite::{Case, Method, Suite, Words},
};
use crate::{
    domain::{Check, Part, PartKind, Reading, Selector, Sli, Tally, Text},
    stats::Calibration,
};

/// See the head of the file.
pub const SUITE: Suite = Suite {
    name: "level",
    summary: "a gauge or an amount around 50 on 20 pods, watched for two hours",
    methods,
    words: Words::ROLLBACKS,
    runs: 500,
    power_runs: 40,
    harmless,
    harmful,
    exceptions: &[],
};

/// How long a rollout is watched.
const LOOKS: usize = 480;
const LEVEL: f64 = 50.0;
const DEVIATION: f64 = 5.0;
/// What is tolerated: two points.
const RATIO_MAX: f64 = 1.04;

/// The families and their names, which are constant here.
const FAMILIES: &[(LevelFamily, &str)] = &[
    (LevelFamily::Kept(0.0), "normal, keeps 0"),
    (LevelFamily::Kept(0.5), "normal, keeps 0.5"),
    (LevelFamily::Kept(0.9), "normal, keeps 0.9"),
    (LevelFamily::Kept(0.98), "normal, keeps 0.98"),
    (LevelFamily::HeavyTailed(0.0), "heavy-tailed, keeps 0"),
    (LevelFamily::HeavyTailed(0.5), "heavy-tailed, keeps 0.5"),
    (LevelFamily::HeavyTailed(0.9), "heavy-tailed, keeps 0.9"),
    (LevelFamily::HeavyTailed(0.98), "heavy-tailed, keeps 0.98"),
    (LevelFamily::PodOffsets(0.0), "pod offsets, keeps 0"),
    (LevelFamily::PodOffsets(0.5), "pod offsets, keeps 0.5"),
    (LevelFamily::PodOffsets(0.9), "pod offsets, keeps 0.9"),
    (LevelFamily::PodOffsets(0.98), "pod offsets, keeps 0.98"),
    (LevelFamily::SlowBelowFast, "slow below fast"),
    (LevelFamily::SharedDrift, "shared drift"),
    (LevelFamily::MeanAmounts, "means of amounts"),
    (LevelFamily::Amounts(2.0), "amounts, 2/s"),
    (LevelFamily::Amounts(20.0), "amounts, 20/s"),
    (LevelFamily::Bursts, "bursts"),
    (LevelFamily::PodIncidents, "one bad pod"),
];

fn methods() -> Vec<Method> {
    vec![
        Method::ours("tollgate", "as shipped, with two points tolerated and pods told apart", Some(ALPHA)),
        Method::ours("tollgate, pods unknown", "the same, where pods cannot be told apart", Some(ALPHA)),
        Method::rival("Kayenta, 5 min", "Mann-Whitney on the means of each minute, every 5 minutes"),
    ]
}

fn harmless() -> Vec<Case> {
    cases("harmless", &[("", 0.0)])
}

fn harmful() -> Vec<Case> {
    cases("higher", &[("+6 points", 6.0), ("+15 points", 15.0), ("+30 points", 30.0)])
}

fn cases(table: &'static str, shifts: &[(&str, f64)]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, named) in FAMILIES {
        for canary_pods in [1, 5] {
            for (name, shift) in shifts {
                let (level, deviation) = (LEVEL, DEVIATION);
                let shape = LevelShape {
                    family: *family,
                    canary_pods,
                    level,
                    deviation,
                    shift: *shift,
                    onset: 0,
                    looks: LOOKS,
                };
                let mut setting = vec![("canary pods", canary_pods.to_string())];
                setting.extend((!name.is_empty()).then(|| ("effect", (*name).to_owned())));
                let run = move |seed| roll_out(&shape, seed);
                cases.push(Case { table, family: named, setting, limit_seconds: None, run: Box::new(run) });
            }
        }
    }
    cases
}

fn roll_out(shape: &LevelShape, seed: u64) -> Vec<Option<u32>> {
    let looks = draw(shape, &mut StdRng::seed_from_u64(seed));
    let ours = |has_parts: bool| {
        let mut watched = Watched::start(level_check(), Calibration::untrusted());
        move |look: &LevelLook| {
            watched.look(&reading(&look.control, has_parts), &reading(&look.canary, has_parts));
            watched.has_rolled_back()
        }
    };
    let (mut judge, mut canary, mut control) = (KayentaJudge::start(5), Minute::default(), Minute::default());
    let watchers: Vec<Watcher<'_, LevelLook>> = vec![
        Box::new(ours(true)),
        Box::new(ours(false)),
        Box::new(move |look| {
            if let (Some(canary), Some(control)) = (canary.add(&look.canary), control.add(&look.control)) {
                judge.take(canary.mean(), control.mean());
            }
            judge.is_high()
        }),
    ];
    watch_each(watchers, &looks)
}

/// A check on a level, of which more is worse.
fn level_check() -> Check {
    check(Sli::Level { gauge: Selector::metric("level") }, RATIO_MAX)
}

/// What a look at these pods tells: a gauge is averaged over the pods, single requests are all there.
fn reading(pods: &[Vec<f64>], has_parts: bool) -> Reading {
    let is_gauge = pods.iter().all(|readings| readings.len() == 1);
    let all: Vec<f64> = pods.iter().flatten().copied().collect();
    let whole = if is_gauge && !all.is_empty() { vec![all.iter().sum::<f64>() / all.len() as f64] } else { all };
    let part = |(pod, readings): (usize, &Vec<f64>)| Part {
        kind: PartKind::Pod,
        name: Text::new(format!("pod-{pod:02}")),
        tally: Tally::Samples(readings.clone()),
    };
    let parts = if has_parts { pods.iter().enumerate().map(part).collect() } else { Vec::new() };
    Reading { tally: Tally::Samples(whole), parts }
}

/// Adds looks up to minutes.
#[derive(Default)]
struct Minute {
    sum: f64,
    readings: f64,
    looks: u32,
}

impl Minute {
    /// Takes a look in; every fourth time, the minute that is full.
    fn add(&mut self, pods: &[Vec<f64>]) -> Option<Self> {
        self.sum += pods.iter().flatten().sum::<f64>();
        self.readings += pods.iter().map(Vec::len).sum::<usize>() as f64;
        self.looks += 1;
        (f64::from(self.looks) * SCRAPE_SECONDS >= 60.0).then(|| std::mem::take(self))
    }

    fn mean(&self) -> Option<f64> {
        (self.readings > 0.0).then(|| self.sum / self.readings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_there_under_its_name() {
        let named: Vec<_> = FAMILIES.iter().map(|(family, name)| (*family, (*name).to_owned())).collect();
        let all: Vec<_> = LevelFamily::ALL.iter().map(|family| (*family, family.name())).collect();
        assert_eq!(named, all);
    }

    #[test]
    fn a_level_half_as_high_again_is_found_by_all_and_a_harmless_one_kept_by_ours() {
        let after = |shift| {
            let (family, level, deviation) = (LevelFamily::Kept(0.5), LEVEL, DEVIATION);
            roll_out(&LevelShape { family, canary_pods: 5, level, deviation, shift, onset: 0, looks: 240 }, 1)
        };
        let high = after(25.0);
        assert_eq!(high.len(), methods().len());
        assert!(high.iter().all(Option::is_some), "{high:?}");
        assert!(after(0.0).iter().take(2).all(Option::is_none));
    }

    #[test]
    fn a_gauge_is_averaged_and_amounts_are_all_there() {
        assert_eq!(reading(&[vec![1.0], vec![3.0]], false), Reading::whole(Tally::Samples(vec![2.0])));
        let amounts = reading(&[vec![1.0, 2.0], vec![]], true);
        assert_eq!((amounts.tally, amounts.parts.len()), (Tally::Samples(vec![1.0, 2.0]), 2));
        assert_eq!(reading(&[], true), Reading::whole(Tally::Samples(Vec::new())));
    }
}
