//! What a gauge's past says of the noise between its pods, and so of what a stage could see of it.
//!
//! What is compared is the canary's level with control's, so the noise that counts is that of a difference: of each pod
//! from the others where pods are told apart, and of twice the whole's variance where they are not.

use std::time::Duration;

use super::Terms;
use crate::{
    domain::{Check, Direction, Part, PartKind, Reading, Share, Tally},
    plan::Power,
    stats::planning::{LevelLoad, level_smallest_detectable, level_time_to_detect},
};

/// Pods' lasting deviations that the test tolerates.
const POD_DEVIATIONS: f64 = 3.0;
/// A lasting spread between pods where they are not told apart, as a part of the level.
const POD_SPREAD_UNKNOWN: f64 = 0.06;
/// The part of the noise that is tolerated in any case.
const NOISE_PART: f64 = 0.1;
/// A gauge varies by no less than this part of its level.
const DEVIATION_MIN: f64 = 0.002;
/// Fewer looks than this say nothing of noise.
const LOOKS_MIN: usize = 8;

/// The mean of a tally's readings that are numbers.
fn mean_of(tally: &Tally) -> Option<f64> {
    let Tally::Samples(samples) = tally else { return None };
    average(samples.iter().copied().filter(|sample| sample.is_finite()))
}

fn average(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = numbers.fold((0.0, 0.0), |(sum, count), number| (sum + number, count + 1.0));
    (count > 0.0).then_some(sum / count).filter(|mean: &f64| mean.is_finite())
}

/// The mean level of the past.
pub(super) fn mean(shown: &[Option<Reading>]) -> Option<f64> {
    average(shown.iter().flatten().filter_map(|reading| mean_of(&reading.tally)))
}

/// Differences look after look, each around its own mean, and how far apart those means are.
struct Spread {
    variance: f64,
    autocorrelation: f64,
    lasting: f64,
}

/// What each stage could see. Empty where the level is not above zero, since no ratio says anything of it then, or where
/// too few looks are known.
pub(super) fn power(check: &Check, shown: &[Option<Reading>], terms: &Terms<'_>) -> Vec<Power> {
    let Some(level) = mean(shown).filter(|level| *level > 0.0) else { return Vec::new() };
    let Some(spread) = spread(shown, level) else { return Vec::new() };
    let noise = spread.variance.sqrt().max(DEVIATION_MIN * level);
    // How far the level is from itself at a ratio, in its own unit.
    let off = |ratio: f64| match check.direction {
        Direction::HigherIsWorse => level * (ratio - 1.0),
        Direction::LowerIsWorse => level * (1.0 - 1.0 / ratio),
    };
    let margin = off(check.ratio_max.max(1.0)).max(POD_DEVIATIONS * spread.lasting).max(NOISE_PART * noise) / noise;
    let load = LevelLoad { every: terms.block, autocorrelation: spread.autocorrelation };
    let ratio = |difference: f64| {
        let part = difference * noise / level;
        match check.direction {
            Direction::HigherIsWorse => Some(1.0 + part),
            Direction::LowerIsWorse => (part < 1.0).then(|| 1.0 / (1.0 - part)),
        }
    };
    let of_stage = |(share, bake): &(Share, Duration)| {
        let is_compared = *share > Share::NONE && *share < Share::FULL;
        let smallest = level_smallest_detectable(&load, *bake, margin, terms.log_threshold).value();
        let twice = level_time_to_detect(&load, off(2.0) / noise, margin, terms.log_threshold).value();
        Power {
            share: *share,
            smallest: smallest.and_then(ratio).filter(|_| is_compared),
            twice_seconds: twice.map(|time| time.as_secs_f64()).filter(|_| is_compared),
        }
    };
    terms.stages.iter().map(of_stage).collect()
}

fn spread(shown: &[Option<Reading>], level: f64) -> Option<Spread> {
    let mut names: Vec<&str> =
        shown.iter().flatten().flat_map(|r| r.parts_of(PartKind::Pod)).map(|pod| pod.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let of_pods: Vec<Vec<Option<f64>>> = names.iter().map(|name| differences(shown, name)).collect();
    let of_pods: Vec<_> = of_pods.into_iter().filter(|looks| looks.iter().flatten().count() >= LOOKS_MIN).collect();
    if of_pods.len() > 1 {
        let means: Vec<f64> = of_pods.iter().filter_map(|looks| average(looks.iter().flatten().copied())).collect();
        let lasting = (means.iter().map(|mean| mean * mean).sum::<f64>() / means.len().max(1) as f64).sqrt();
        let (variance, autocorrelation) = moments(&of_pods)?;
        return Some(Spread { variance, autocorrelation, lasting });
    }
    let whole: Vec<Option<f64>> = shown.iter().map(|block| mean_of(&block.as_ref()?.tally)).collect();
    if whole.iter().flatten().count() < LOOKS_MIN {
        return None;
    }
    let (variance, autocorrelation) = moments(&[whole])?;
    Some(Spread { variance: 2.0 * variance, autocorrelation, lasting: POD_SPREAD_UNKNOWN * level })
}

/// One pod's level less the mean of the others', look after look.
fn differences(shown: &[Option<Reading>], name: &str) -> Vec<Option<f64>> {
    let difference = |reading: &Reading| {
        let own = reading.parts_of(PartKind::Pod).find(|pod| pod.name.as_str() == name);
        let others = reading.parts_of(PartKind::Pod).filter(|pod| pod.name.as_str() != name);
        let level = |pod: &Part| mean_of(&pod.tally);
        Some(own.and_then(level)? - average(others.filter_map(level))?)
    };
    shown.iter().map(|block| difference(block.as_ref()?)).collect()
}

/// Variance, and correlation with the look before, over series that each have their own mean.
fn moments(series: &[Vec<Option<f64>>]) -> Option<(f64, f64)> {
    let (mut squares, mut products, mut count, mut pairs) = (0.0, 0.0, 0.0, 0.0);
    for looks in series {
        let Some(mean) = average(looks.iter().flatten().copied()) else { continue };
        for (at, look) in looks.iter().enumerate() {
            let Some(off) = look.map(|look| look - mean) else { continue };
            squares += off * off;
            count += 1.0;
            if let Some(Some(last)) = at.checked_sub(1).and_then(|before| looks.get(before)) {
                products += off * (last - mean);
                pairs += 1.0;
            }
        }
    }
    if count < 2.0 {
        return None;
    }
    let variance: f64 = squares / count;
    let kept = if pairs > 0.0 && variance > 0.0 { products / pairs / variance } else { 0.0 };
    (variance.is_finite() && kept.is_finite()).then_some((variance, kept.clamp(0.0, 0.99)))
}
