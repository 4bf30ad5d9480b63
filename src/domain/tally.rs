//! What telemetry said: counts and distributions, never one float, and absence as a value of its own.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{CheckId, Part, Text, Timestamp};

/// A version measured beside the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// The old version.
    Control,
    /// The new version.
    Canary,
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Canary => "canary",
        })
    }
}

/// A span of time, the start excluded and the end included, so that windows in a row count nothing twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its start, excluded.
    pub after: Timestamp,
    /// Its end, included.
    pub through: Timestamp,
}

/// Bad ones among all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The bad ones. May exceed `total` for events per traffic.
    pub bad: u64,
    /// All of them.
    pub total: u64,
}

impl Counts {
    /// Both added up.
    pub fn plus(self, other: Self) -> Self {
        Self { bad: self.bad.saturating_add(other.bad), total: self.total.saturating_add(other.total) }
    }

    /// Bad for each of all; `None` where there was nothing.
    pub fn rate(self) -> Option<f64> {
        (self.total > 0).then(|| self.bad as f64 / self.total as f64)
    }
}

/// How many fell at or below each edge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Upper edges in the metric's unit, rising; a last bucket without an edge takes the rest.
    pub bounds: Vec<f64>,
    /// How many fell into each bucket, one more than there are edges; not cumulative.
    pub counts: Vec<u64>,
}

impl Tally {
    /// Both added up, as far as they are of one shape; `None` otherwise.
    pub fn plus(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Counts(one), Self::Counts(other)) => Some(Self::Counts(one.plus(*other))),
            (Self::Histogram(one), Self::Histogram(other)) if one.bounds == other.bounds => {
                let counts = one.counts.iter().zip(&other.counts).map(|(one, other)| one.saturating_add(*other));
                Some(Self::Histogram(Histogram { bounds: one.bounds.clone(), counts: counts.collect() }))
            }
            (Self::Samples(one), Self::Samples(other)) => {
                Some(Self::Samples(one.iter().chain(other).copied().collect()))
            }
            (Self::Mix(one), Self::Mix(other)) => {
                let mut sum: BTreeMap<&str, u64> = BTreeMap::new();
                for (category, n) in one.iter().chain(other) {
                    let so_far = sum.entry(category).or_default();
                    *so_far = so_far.saturating_add(*n);
                }
                Some(Self::Mix(sum.into_iter().map(|(category, n)| (category.to_owned(), n)).collect()))
            }
            (Self::Counts(_) | Self::Histogram(_) | Self::Samples(_) | Self::Mix(_), _) => None,
        }
    }
}

impl Histogram {
    /// How many are above `edge`, among all; `edge` moves to the next bucket bound at or above it.
    pub fn above(&self, edge: f64) -> Counts {
        let first_bad = self.bounds.iter().position(|bound| *bound >= edge).map_or(self.counts.len(), |i| i + 1);
        let total = self.counts.iter().fold(0_u64, |sum, n| sum.saturating_add(*n));
        let bad = self.counts.iter().skip(first_bad).fold(0_u64, |sum, n| sum.saturating_add(*n));
        Counts { bad, total }
    }
}

/// What was counted of one arm in one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tally {
    /// Bad ones among all.
    Counts(Counts),
    /// A distribution.
    Histogram(Histogram),
    /// Readings of a gauge, oldest first.
    Samples(Vec<f64>),
    /// How many of each category, sorted by name.
    Mix(Vec<(String, u64)>),
}

/// Why there is no tally. Each is judged in its own way; none ever expands a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Absence {
    /// The source answered, and had nothing for this SLI.
    NoData,
    /// The source did not answer.
    Unavailable(Text),
    /// The source answered with something that cannot be right.
    Malformed(Text),
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoData => f.write_str("no data"),
            Self::Unavailable(why) => write!(f, "unavailable: {why}"),
            Self::Malformed(why) => write!(f, "malformed: {why}"),
        }
    }
}

/// What telemetry said of one check, one arm and one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The check in its plan.
    pub check: CheckId,
    /// Which version.
    pub arm: Arm,
    /// The time it covers; never more than was asked for.
    pub window: Window,
    /// The tally, or why there is none.
    pub tally: Result<Tally, Absence>,
    /// Its parts, sorted by kind and name, as far as the source can tell them apart.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// Whether a server estimated the tally (PromQL's `increase` extrapolates), so that it may be more than was counted.
    #[serde(default)]
    pub estimated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_requests_are_counted_from_the_next_edge() {
        let histogram = Histogram { bounds: vec![0.1, 0.5, 1.0], counts: vec![10, 5, 3, 2] };
        assert_eq!(histogram.above(0.5), Counts { bad: 5, total: 20 });
        assert_eq!(histogram.above(0.3), Counts { bad: 5, total: 20 });
        assert_eq!(histogram.above(9.0), Counts { bad: 0, total: 20 });
        assert_eq!(Histogram::default().above(1.0).rate(), None);
    }
}
