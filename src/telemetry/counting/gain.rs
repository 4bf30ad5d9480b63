//! What one SLI gained on one arm between two readings, and how gains become a tally.
//!
//! Gains stay floating-point sums until the end, so that counters with fractional increments are rounded once for a
//! window and not once for a reading.

use std::collections::BTreeMap;

use crate::domain::{Absence, Counts, Histogram, Sli, Tally, Text};

/// Most categories of one mix.
pub const CATEGORIES_MAX: usize = 1_000;

/// Increments by bucket, not cumulative; one more than there are edges.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::telemetry) struct Buckets {
    pub(in crate::telemetry) bounds: Vec<f64>,
    pub(in crate::telemetry) counts: Vec<f64>,
}

/// What one SLI gained. `None` is where no series matched.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::telemetry) enum Gain {
    /// Of a ratio, or of events per traffic.
    Counts { bad: f64, total: Option<f64> },
    /// Of a latency.
    Histogram(Option<Buckets>),
    /// A gauge's reading: the sum over its series, and how many there were.
    Level { sum: f64, series: u32 },
    /// Of a mix; categories that gained nothing are left out.
    Mix(Option<BTreeMap<String, f64>>),
    /// Something that cannot be right: the sum of this and anything else is this.
    Malformed(Text),
}

impl Gain {
    /// What is gained where no page was shown: it adds nothing, and alone it is no data.
    pub(in crate::telemetry) fn nothing(sli: &Sli) -> Self {
        match sli {
            Sli::Ratio { .. } | Sli::EventsPerTraffic { .. } | Sli::Liveness { .. } | Sli::Probe { .. } => {
                Self::Counts { bad: 0.0, total: None }
            }
            Sli::Latency { .. } => Self::Histogram(None),
            Sli::Level { .. } => Self::Level { sum: 0.0, series: 0 },
            Sli::Mix { .. } => Self::Mix(None),
        }
    }

    /// Adds what another process, or a later reading, gained of the same SLI.
    pub(in crate::telemetry) fn add(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Malformed(_), _) => {}
            (_, malformed @ Self::Malformed(_)) => *self = malformed,
            (Self::Counts { bad, total }, Self::Counts { bad: more_bad, total: more }) => {
                *bad += more_bad;
                *total = add_present(*total, more);
            }
            (Self::Level { sum, series }, Self::Level { sum: more, series: more_series }) => {
                *sum += more;
                *series = series.saturating_add(more_series);
            }
            (Self::Histogram(_) | Self::Mix(_), Self::Histogram(None) | Self::Mix(None)) => {}
            (Self::Histogram(mine @ None), Self::Histogram(other)) => *mine = other,
            (Self::Histogram(Some(mine)), Self::Histogram(Some(other))) => {
                if mine.bounds == other.bounds {
                    mine.counts.iter_mut().zip(other.counts).for_each(|(mine, more)| *mine += more);
                } else {
                    *self = Self::Malformed(Text::new("bucket bounds differ between series, or have changed"));
                }
            }
            (Self::Mix(mine @ None), Self::Mix(other)) => *mine = other,
            (Self::Mix(Some(mine)), Self::Mix(Some(other))) => {
                for (category, more) in other {
                    *mine.entry(category).or_insert(0.0) += more;
                }
                if mine.len() > CATEGORIES_MAX {
                    *self = Self::Malformed(Text::new(format!("more than {CATEGORIES_MAX} categories")));
                }
            }
            (Self::Counts { .. } | Self::Histogram(_) | Self::Level { .. } | Self::Mix(_), _) => {
                *self = Self::Malformed(Text::new("readings of two kinds of SLI"));
            }
        }
    }

    /// Whether it adds nothing to a sum.
    pub(in crate::telemetry) fn is_nothing(&self) -> bool {
        match self {
            Self::Counts { bad, total } => *bad == 0.0 && total.is_none_or(|total| total == 0.0),
            Self::Histogram(buckets) => buckets.iter().flat_map(|buckets| &buckets.counts).all(|count| *count == 0.0),
            Self::Level { series, .. } => *series == 0,
            Self::Mix(mix) => mix.iter().flatten().all(|(_, count)| *count == 0.0),
            Self::Malformed(_) => false,
        }
    }

    /// How many requests it stands for, and how many bad ones, as far as there are bad ones.
    pub(in crate::telemetry) fn weight(&self, sli: &Sli) -> (f64, f64) {
        match self {
            Self::Counts { bad, total } => (total.unwrap_or(0.0), *bad),
            Self::Histogram(None) | Self::Mix(None) | Self::Malformed(_) => (0.0, 0.0),
            Self::Histogram(Some(Buckets { bounds, counts })) => {
                let edge =
                    if let Sli::Latency { slow_above_seconds, .. } = sli { *slow_above_seconds } else { f64::MAX };
                let fast = bounds.iter().position(|bound| *bound >= edge).map_or(counts.len(), |at| at + 1);
                (counts.iter().sum(), counts.iter().skip(fast).sum())
            }
            Self::Level { series, .. } => (f64::from(*series), 0.0),
            Self::Mix(Some(mix)) => (mix.values().sum(), 0.0),
        }
    }

    /// How many numbers it holds, roughly: what a bound on memory counts.
    pub(in crate::telemetry) fn cells(&self) -> usize {
        match self {
            Self::Counts { .. } | Self::Level { .. } => 2,
            Self::Histogram(buckets) => 1 + buckets.as_ref().map_or(0, |b| b.bounds.len() + b.counts.len()),
            Self::Mix(mix) => 1 + mix.iter().flatten().map(|(category, _)| 4 + category.len() / 8).sum::<usize>(),
            Self::Malformed(why) => 1 + why.as_str().len() / 8,
        }
    }
}

/// The sum of what is there; nothing where neither is.
pub(in crate::telemetry) fn add_present(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one + other),
        (one, other) => one.or(other),
    }
}

/// The tally of a window from the gains in it, oldest first.
pub(in crate::telemetry) fn tally<'a>(sli: &Sli, gains: impl Iterator<Item = &'a Gain>) -> Result<Tally, Absence> {
    let mut readings = Vec::new();
    let mut whole: Option<Gain> = None;
    for gain in gains {
        match (sli, gain) {
            (_, Gain::Malformed(why)) => return Err(Absence::Malformed(why.clone())),
            (Sli::Level { .. }, Gain::Level { sum, series }) => {
                readings.extend((*series > 0).then(|| sum / f64::from(*series)));
            }
            (_, gain) => match &mut whole {
                Some(whole) => whole.add(gain.clone()),
                None => whole = Some(gain.clone()),
            },
        }
    }
    match whole {
        Some(Gain::Counts { bad, total: Some(total) }) => {
            Ok(Tally::Counts(Counts { bad: rounded(bad), total: rounded(total) }))
        }
        Some(Gain::Histogram(Some(Buckets { bounds, counts }))) => {
            Ok(Tally::Histogram(Histogram { bounds, counts: counts.into_iter().map(rounded).collect() }))
        }
        Some(Gain::Mix(Some(mix))) => Ok(Tally::Mix(
            mix.into_iter().map(|(category, n)| (category, rounded(n))).filter(|(_, n)| *n > 0).collect(),
        )),
        Some(Gain::Malformed(why)) => Err(Absence::Malformed(why)),
        None if !readings.is_empty() => Ok(Tally::Samples(readings)),
        Some(Gain::Counts { total: None, .. } | Gain::Histogram(None) | Gain::Mix(None) | Gain::Level { .. })
        | None => Err(Absence::NoData),
    }
}

/// To the nearest whole one; gains are never negative, and what no counter can hold is the largest.
fn rounded(gain: f64) -> u64 {
    gain.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Selector;

    fn ratio() -> Sli {
        Sli::Ratio { bad: Selector::metric("bad"), total: Selector::metric("all") }
    }

    #[test]
    fn fractions_are_rounded_once_for_a_window() {
        let gains = [Gain::Counts { bad: 0.4, total: Some(1.4) }, Gain::Counts { bad: 0.4, total: Some(1.4) }];
        assert_eq!(tally(&ratio(), gains.iter()), Ok(Tally::Counts(Counts { bad: 1, total: 3 })));
    }

    #[test]
    fn traffic_that_was_never_seen_is_no_data_and_not_zero() {
        let unseen = Gain::Counts { bad: 0.0, total: None };
        assert_eq!(tally(&ratio(), [unseen.clone()].iter()), Err(Absence::NoData));
        let silent = Gain::Counts { bad: 0.0, total: Some(0.0) };
        assert_eq!(tally(&ratio(), [unseen, silent].iter()), Ok(Tally::Counts(Counts::default())));
    }

    #[test]
    fn one_malformed_reading_makes_its_window_malformed() {
        let why = Text::new("a negative count");
        let gains = [Gain::Counts { bad: 0.0, total: Some(5.0) }, Gain::Malformed(why.clone())];
        assert_eq!(tally(&ratio(), gains.iter()), Err(Absence::Malformed(why)));
    }

    #[test]
    fn histograms_of_other_bounds_are_not_added() {
        let of = |bounds: &[f64]| Gain::Histogram(Some(Buckets { bounds: bounds.to_vec(), counts: vec![1.0, 2.0] }));
        let mut same = of(&[0.5]);
        same.add(of(&[0.5]));
        assert_eq!(same, Gain::Histogram(Some(Buckets { bounds: vec![0.5], counts: vec![2.0, 4.0] })));
        same.add(of(&[0.25]));
        assert!(matches!(same, Gain::Malformed(_)));
    }

    #[test]
    fn a_mix_has_a_limit_on_its_categories() {
        let of = |range: std::ops::Range<usize>| Gain::Mix(Some(range.map(|n| (n.to_string(), 1.0)).collect()));
        let mut full = of(0..CATEGORIES_MAX);
        full.add(of(0..CATEGORIES_MAX));
        assert!(matches!(&full, Gain::Mix(Some(mix)) if mix.len() == CATEGORIES_MAX && mix["7"] == 2.0));
        full.add(of(CATEGORIES_MAX..CATEGORIES_MAX + 1));
        assert!(matches!(full, Gain::Malformed(_)));
    }
}
