//! Weeks of history as services really have it: a metric minute by minute, and sibling metrics that share its causes.
//!
//! A history that is drawn here has a daily and a weekly season, growth, days that are like no other, drifts that all
//! series share and drifts of their own, outages that hit them all or one, and gaps. What a change of version does is
//! put on top with [`shift_level`].

use std::f64::consts::TAU;

use rand::{Rng, rngs::StdRng};

use super::noise::{normal, poisson};

/// Minutes of a day.
pub const DAY: usize = 1440;

/// A history to be drawn. Deviations are of logarithms, memories in minutes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistoryShape {
    /// How many days.
    pub days: usize,
    /// How many sibling series.
    pub siblings: usize,
    /// Events a minute, on average.
    pub level: f64,
    /// Height of the daily season, and of the weekly one.
    pub season: (f64, f64),
    /// Growth in a week.
    pub growth: f64,
    /// Deviation and memory of the drift that all series share, each to its own degree.
    pub shared: (f64, f64),
    /// Deviation and memory of each series' own drift.
    pub own: (f64, f64),
    /// Outages in a week that hit all series, and that hit the metric alone.
    pub outages: (f64, f64),
    /// Chance that a day is like no other.
    pub odd_days: f64,
    /// Chance that a minute is missing, and gaps of half an hour in a week.
    pub gaps: (f64, f64),
}

impl HistoryShape {
    /// A service of some size: three weeks, five siblings.
    pub const USUAL: Self = Self {
        days: 21,
        siblings: 5,
        level: 300.0,
        season: (0.6, 0.2),
        growth: 0.03,
        shared: (0.15, 240.0),
        own: (0.08, 60.0),
        outages: (1.0, 0.2),
        odd_days: 0.05,
        gaps: (0.002, 1.0),
    };
}

/// A drawn history: all series of one length, the first minute first; a gap is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DrawnHistory {
    /// The metric.
    pub target: Vec<Option<f64>>,
    /// The siblings.
    pub siblings: Vec<Vec<Option<f64>>>,
}

/// Draws one history.
pub fn draw_history(shape: &HistoryShape, rng: &mut StdRng) -> DrawnHistory {
    let minutes = shape.days * DAY;
    let common = common_causes(shape, minutes, rng);
    let mut series = Vec::with_capacity(shape.siblings + 1);
    for which in 0..=shape.siblings {
        let (level, loading, season) = if which == 0 {
            (shape.level, 1.0, 1.0)
        } else {
            let level = shape.level * rng.random_range(-1.5_f64..1.5).exp();
            (level, rng.random_range(0.5..1.2), rng.random_range(0.7..1.3))
        };
        let lag = if which == 0 { 0.0 } else { rng.random_range(-0.02..0.02) };
        let own = drift(shape.own, minutes, rng);
        let alone = if which == 0 { episodes(shape.outages.1, minutes, rng) } else { vec![0.0; minutes] };
        let missing = missing(shape.gaps, minutes, rng);
        let drawn = (0..minutes).map(|minute| {
            let day = minute as f64 / DAY as f64 - lag;
            let log = season * (shape.season.0 * daily(day) + shape.season.1 * (TAU * day / 7.0).cos())
                + shape.growth * day / 7.0
                + loading * common.get(minute).copied().unwrap_or(0.0)
                + own.get(minute).copied().unwrap_or(0.0)
                + alone.get(minute).copied().unwrap_or(0.0);
            let count = poisson(level * log.exp(), rng) as f64;
            (!missing.get(minute).copied().unwrap_or(true)).then_some(count)
        });
        series.push(drawn.collect());
    }
    let target = series.remove(0);
    DrawnHistory { target, siblings: series }
}

/// Makes a series `ratio` times as high from a minute on.
pub fn shift_level(series: &mut [Option<f64>], from: usize, ratio: f64) {
    series.iter_mut().skip(from).flatten().for_each(|value| *value *= ratio);
}

/// The shape of a day: a peak in the afternoon, a smaller one in the morning.
fn daily(day: f64) -> f64 {
    -(TAU * (day - 0.1)).cos() - 0.25 * (2.0 * TAU * day).cos()
}

/// What all series feel: the shared drift, outages and odd days.
fn common_causes(shape: &HistoryShape, minutes: usize, rng: &mut StdRng) -> Vec<f64> {
    let mut causes = drift(shape.shared, minutes, rng);
    let outages = episodes(shape.outages.0, minutes, rng);
    causes.iter_mut().zip(outages).for_each(|(cause, outage)| *cause += outage);
    for day in causes.chunks_mut(DAY) {
        if rng.random_bool(shape.odd_days.clamp(0.0, 1.0)) {
            let height = 0.4 * normal(rng);
            let length = day.len() as f64;
            let bump = |minute: usize| height * (TAU * minute as f64 / length / 2.0).sin();
            day.iter_mut().enumerate().for_each(|(minute, cause)| *cause += bump(minute));
        }
    }
    causes
}

/// A stationary autoregressive path.
fn drift((deviation, memory): (f64, f64), minutes: usize, rng: &mut StdRng) -> Vec<f64> {
    let keep = (-1.0 / memory.max(0.1)).exp();
    let step = deviation * (1.0 - keep * keep).sqrt();
    let mut level = deviation * normal(rng);
    (0..minutes)
        .map(|_| {
            level = keep * level + step * normal(rng);
            level
        })
        .collect()
}

/// Outages of 5 to 60 minutes, so many a week, each to another degree, up or down.
fn episodes(a_week: f64, minutes: usize, rng: &mut StdRng) -> Vec<f64> {
    let mut added = vec![0.0; minutes];
    for _ in 0..poisson(a_week * minutes as f64 / (7 * DAY) as f64, rng) {
        let (start, length) = (rng.random_range(0..minutes), rng.random_range(5..60));
        let degree = 0.7 * normal(rng);
        added.iter_mut().skip(start).take(length).for_each(|level| *level += degree);
    }
    added
}

/// Which minutes are missing.
fn missing((chance, a_week): (f64, f64), minutes: usize, rng: &mut StdRng) -> Vec<bool> {
    let mut missing: Vec<bool> = (0..minutes).map(|_| rng.random_bool(chance.clamp(0.0, 1.0))).collect();
    for _ in 0..poisson(a_week * minutes as f64 / (7 * DAY) as f64, rng) {
        let start = rng.random_range(0..minutes);
        missing.iter_mut().skip(start).take(30).for_each(|minute| *minute = true);
    }
    missing
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_history_has_its_season_its_level_and_its_gaps() {
        let drawn = draw_history(&HistoryShape::USUAL, &mut StdRng::seed_from_u64(1));
        assert_eq!((drawn.target.len(), drawn.siblings.len()), (21 * DAY, 5));
        let mean = |from: usize, to: usize| {
            let hours = drawn.target.chunks(DAY).flat_map(|day| &day[from * 60..to * 60]).flatten();
            hours.clone().sum::<f64>() / hours.count() as f64
        };
        assert!(mean(12, 18) > 2.0 * mean(0, 4), "{} {}", mean(12, 18), mean(0, 4));
        let gaps = drawn.target.iter().filter(|minute| minute.is_none()).count();
        assert!(gaps > 20 && gaps < 2000, "{gaps}");
    }

    #[test]
    fn a_seed_is_a_history_and_a_shift_changes_what_comes_after() {
        let drawn =
            |seed| draw_history(&HistoryShape { days: 3, ..HistoryShape::USUAL }, &mut StdRng::seed_from_u64(seed));
        assert_eq!(drawn(1), drawn(1));
        let (before, mut after) = (drawn(1).target, drawn(1).target);
        shift_level(&mut after, 2000, 2.0);
        assert_eq!(before[..2000], after[..2000]);
        assert!(before[2000..].iter().zip(&after[2000..]).all(|(one, other)| one.map(|x| 2.0 * x) == *other));
    }
}
