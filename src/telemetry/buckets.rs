//! The engine beneath sources that answer numbers in buckets of time: Datadog, CloudWatch, New Relic, InfluxDB, the web.
//!
//! A vendor's file compiles a [`Query`] to its own language, asks, and reads the answer as [`Series`]. All else is here
//! and is the same for every vendor: which buckets are a window, what they add up to, and what an absence means.
//!
//! # Which buckets are a window
//! Buckets begin at whole multiples of the step. A window is whole buckets: it begins at the first that begins at or after
//! the time asked for, for what came before a shift of traffic must not be counted after it, and ends with the last one
//! that ended at least `settle` ago, when late data has come in. The next window begins where this one ends, so that
//! windows in a row count nothing twice and skip nothing. An answer comes as soon as one bucket is settled.
//!
//! # What absence means
//! A source that sums up shows no series where nobody counted anything. No series of `total` is therefore no data; but
//! where `total` has data and `bad` has no series, nothing bad was counted, for a counter of errors is born at its first
//! error. A bucket without a value, between others that have one, is a zero of a counter and nothing of a gauge.
//! A counter that goes quiet looks like telemetry that failed: an arm of a liveness check with nothing is bad only while
//! the other arm shows that telemetry works, and no data where neither does.

mod parts;
mod reader;
mod tally;

pub use parts::{PODS_MAX, SEGMENTS_MAX, TENANTS_MAX};
pub use reader::{QUERIES_MAX, WAIT_MAX};
pub use tally::{CATEGORIES_MAX, SERIES_MAX};

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::BoxFuture;

pub(super) use self::reader::{Reader, from_seconds};
use super::{Error, call};
use crate::domain::{Arm, Match, Matcher, Revision, Selector, ServiceName, Sli, Text, Timestamp};

/// Most buckets of one window; what is beyond is in the next one. New Relic answers at most 366.
pub const BUCKETS_MAX: u64 = 300;
/// Longest bucket.
pub const STEP_MAX: Duration = Duration::from_secs(3_600);
/// Longest time that late data is waited for.
pub const SETTLE_MAX: Duration = Duration::from_secs(3_600);
/// Most services of one source.
pub const SERVICES_MAX: usize = 1_000;
/// Most labels that tell an arm's series.
pub const ARM_LABELS_MAX: usize = 16;

/// What stands for the arm's revision in label values.
const PLACEHOLDER: &str = "{revision}";
/// What it is replaced by for a control that is not known by revision.
const STABLE: &str = "stable";

/// How the arms of one service are told apart. `{revision}` in a value stands for the arm's revision, or for `stable`
/// where control's is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arms {
    /// Labels (tags, dimensions) that the old version's series bear.
    pub control: BTreeMap<String, String>,
    /// Labels that the new version's series bear.
    pub canary: BTreeMap<String, String>,
    /// The label whose values are pods, hosts or tasks, where there is one.
    pub pod_label: Option<String>,
}

/// What every source of buckets is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// Each service.
    pub services: BTreeMap<ServiceName, Arms>,
    /// Length of a bucket, whole seconds, 1 s to [`STEP_MAX`].
    pub step: Duration,
    /// How long after a bucket's end its numbers are taken to be whole, up to [`SETTLE_MAX`].
    pub settle: Duration,
    /// Longest time for one attempt at a query.
    pub timeout: Duration,
    /// Most queries at the same moment, 1 to [`call::CALLS_AT_ONCE_MAX`].
    pub queries_at_once: usize,
}

impl Setting {
    /// Refuses what cannot work, and says what to mend.
    pub fn check(&self) -> Result<(), String> {
        if self.step.subsec_nanos() != 0 || self.step.is_zero() || self.step > STEP_MAX {
            return Err(format!("a bucket is to be whole seconds, 1 to {}", STEP_MAX.as_secs()));
        }
        if self.settle > SETTLE_MAX {
            return Err(format!("late data is waited for at most {} s", SETTLE_MAX.as_secs()));
        }
        call::check_limits(self.timeout, self.queries_at_once)?;
        if self.services.len() > SERVICES_MAX {
            return Err(format!("more than {SERVICES_MAX} services"));
        }
        self.services
            .iter()
            .try_for_each(|(service, arms)| arms.check().map_err(|why| format!("service {service}: {why}")))
    }
}

impl Arms {
    fn check(&self) -> Result<(), String> {
        if self.control.len().max(self.canary.len()) > ARM_LABELS_MAX {
            return Err(format!("an arm has more than {ARM_LABELS_MAX} labels"));
        }
        let tells_apart = self.canary.values().any(|value| value.contains(PLACEHOLDER));
        if self.control == self.canary && !tells_apart {
            return Err(format!("control and canary are the same: write {PLACEHOLDER} in a label's value"));
        }
        Ok(())
    }

    /// The conditions that an arm's series meet.
    fn of(&self, arm: Arm, revision: &str) -> impl Iterator<Item = Matcher> {
        let labels = match arm {
            Arm::Control => &self.control,
            Arm::Canary => &self.canary,
        };
        labels.iter().map(move |(label, value)| Matcher {
            label: label.clone(),
            value: Match::Is(value.replace(PLACEHOLDER, revision)),
        })
    }
}

/// The revision as it stands in label values.
fn revision_of(arm: Arm, control: Option<&Revision>, canary: &Revision) -> String {
    match arm {
        Arm::Control => control.map_or(STABLE, Revision::as_str).to_owned(),
        Arm::Canary => canary.as_str().to_owned(),
    }
}

/// Whole buckets: from `start` up to and without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where the first begins.
    pub start: Timestamp,
    /// Where the last ends.
    pub end: Timestamp,
}

/// How time is cut into buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Length of a bucket.
    pub step: Duration,
    /// How long late data is waited for.
    pub settle: Duration,
}

impl Grid {
    fn step_millis(&self) -> u64 {
        u64::try_from(self.step.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Where the first bucket begins that begins at or after `time`.
    fn first_after(&self, time: Timestamp) -> Timestamp {
        Timestamp::from_millis(time.as_millis().div_ceil(self.step_millis()).saturating_mul(self.step_millis()))
    }

    /// When there is something to answer for a window after `after`.
    pub fn ready_at(&self, after: Timestamp) -> Timestamp {
        self.first_after(after) + self.step + self.settle
    }

    /// The settled buckets after `after`, at most `buckets_max`; `None` while there is none.
    pub fn span(&self, after: Timestamp, now: Timestamp, buckets_max: u64) -> Option<Span> {
        if now < self.ready_at(after) {
            return None;
        }
        let step = self.step_millis();
        let start = self.first_after(after);
        let settled = (now - self.settle).as_millis() / step * step;
        let last = start.as_millis().saturating_add(step.saturating_mul(buckets_max));
        let end = Timestamp::from_millis(settled.min(last));
        (end > start).then_some(Span { start, end })
    }
}

/// What is asked of the series of a query, for each bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// How much a counter gained.
    Count,
    /// The mean of a gauge.
    Mean,
    /// How many observations of a distribution there were.
    Observations,
    /// How many of them were above this many seconds.
    Above(f64),
}

/// One question to a vendor.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The service, by its name in the configuration.
    pub service: ServiceName,
    /// Which arm.
    pub arm: Arm,
    /// The arm's revision, or `stable`.
    pub revision: String,
    /// The metric and what its labels must be; the arm's own labels are among them.
    pub selector: Selector,
    /// What is asked of it.
    pub what: What,
    /// The labels by which series are told apart in the answer.
    pub by: Vec<String>,
    /// The time.
    pub span: Span,
    /// Length of a bucket.
    pub step: Duration,
}

/// A series of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// The labels that were asked for, or more.
    pub labels: BTreeMap<String, String>,
    /// Where each bucket begins and what it holds; `None` where nothing was counted. Buckets may be missing.
    pub points: Vec<(Timestamp, Option<f64>)>,
}

/// How a vendor tells how long requests take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latencies {
    /// It counts the observations above any threshold.
    Threshold,
    /// Counters named with `_bucket`, whose label `le` is the upper edge.
    Buckets,
}

/// A vendor: what its file makes.
pub(super) trait Vendor: Send + Sync + 'static {
    /// Its name, as people know it.
    fn name(&self) -> &'static str;

    /// What is common to all.
    fn setting(&self) -> &Setting;

    /// How it tells how long requests take.
    fn latencies(&self) -> Latencies;

    /// Whether its series bear all their labels, whatever is asked for.
    fn bears_all_labels(&self) -> bool {
        false
    }

    /// Most buckets of one window.
    fn buckets_max(&self) -> u64 {
        BUCKETS_MAX
    }

    /// How many requests were made so far.
    fn queries(&self) -> u64;

    /// Asks one query, and answers within the time.
    fn read(&self, query: Query, within: Duration) -> BoxFuture<'_, Result<Vec<Series>, Error>>;
}

/// What is to be asked for one SLI: metrics, what of them, and by which label.
fn questions(sli: &Sli, latencies: Latencies) -> Result<Vec<(Selector, What, Option<String>)>, Error> {
    let count = |selector: &Selector| (selector.clone(), What::Count, None);
    Ok(match sli {
        Sli::Ratio { bad, total } | Sli::EventsPerTraffic { events: bad, traffic: total } => {
            vec![count(bad), count(total)]
        }
        Sli::Latency { histogram, slow_above_seconds } => match latencies {
            Latencies::Threshold => vec![
                (histogram.clone(), What::Above(*slow_above_seconds), None),
                (histogram.clone(), What::Observations, None),
            ],
            Latencies::Buckets => {
                let buckets =
                    Selector { metric: format!("{}_bucket", histogram.metric), matchers: histogram.matchers.clone() };
                vec![(buckets, What::Count, Some(tally::EDGE.to_owned()))]
            }
        },
        Sli::Level { gauge } => vec![(gauge.clone(), What::Mean, None)],
        Sli::Mix { counter, by } => vec![(counter.clone(), What::Count, Some(by.clone()))],
        Sli::Liveness { series } => vec![count(series)],
        Sli::Probe { .. } => {
            return Err(Error::Unavailable(Text::new("a probe is made by Tollgate and not read from a source")));
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    const GRID: Grid = Grid { step: Duration::from_secs(60), settle: Duration::from_secs(30) };

    #[test]
    fn a_window_is_whole_settled_buckets() {
        let span = |after, now| GRID.span(at(after), at(now), 5).map(|s| (s.start.as_millis(), s.end.as_millis()));
        assert_eq!(span(1, 149_999), None, "the first whole bucket has not settled");
        assert_eq!(span(1, 150_000), Some((60_000, 120_000)));
        assert_eq!(span(60_000, 150_000), Some((60_000, 120_000)), "a bucket that begins with the window is in it");
        assert_eq!(span(120_000, 150_000), None, "it was counted");
        assert_eq!(span(0, 1_000_000), Some((0, 300_000)), "no more than may be answered at once");
        assert_eq!(GRID.ready_at(at(1)), at(150_000));
        assert_eq!(GRID.span(at(u64::MAX), at(u64::MAX), 5), None);
    }

    proptest! {
        #[test]
        fn windows_in_a_row_skip_nothing_and_count_nothing_twice(
            begin in 0..10_000_000_u64, pauses in prop::collection::vec(0..400_000_u64, 1..30), most in 1..6_u64,
        ) {
            let (mut after, mut now) = (at(begin), at(begin));
            let mut end = GRID.first_after(after);
            for pause in pauses {
                now = now + Duration::from_millis(pause);
                if let Some(span) = GRID.span(after, now, most) {
                    prop_assert_eq!(span.start, end);
                    prop_assert!(span.end > span.start && span.end + GRID.settle <= now);
                    prop_assert_eq!(span.end.as_millis() % 60_000, 0);
                    (after, end) = (span.end, span.end);
                } else {
                    prop_assert!(now < GRID.ready_at(after));
                }
            }
        }
    }

    #[test]
    fn a_setting_that_cannot_work_is_refused() {
        let arms = |value: &str| Arms {
            control: BTreeMap::from([("version".into(), "old".into())]),
            canary: BTreeMap::from([("version".into(), value.into())]),
            pod_label: None,
        };
        let setting = |arms: Arms| Setting {
            services: BTreeMap::from([(ServiceName::new("shop"), arms)]),
            step: Duration::from_secs(60),
            settle: SETTLE_MAX,
            timeout: Duration::from_secs(5),
            queries_at_once: 4,
        };
        assert_eq!(setting(arms("{revision}")).check(), Ok(()));
        assert!(setting(arms("old")).check().unwrap_err().contains("service shop: control and canary are the same"));
        for step in [Duration::ZERO, Duration::from_millis(1_500), STEP_MAX + Duration::from_secs(1)] {
            assert!(Setting { step, ..setting(arms("x")) }.check().is_err(), "{step:?}");
        }
        let settle = SETTLE_MAX + Duration::from_millis(1);
        assert!(Setting { settle, ..setting(arms("x")) }.check().is_err());
        assert!(Setting { queries_at_once: 0, ..setting(arms("x")) }.check().is_err());
        let many: BTreeMap<String, String> = (0..=ARM_LABELS_MAX).map(|n| (n.to_string(), "x".into())).collect();
        assert!(setting(Arms { canary: many, ..arms("x") }).check().is_err());
    }
}
