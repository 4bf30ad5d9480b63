//! A canary compared with itself at the stage before, where nothing else is left to compare with.
//!
//! # The argument
//! The same version served a part of the traffic a while ago. If it is worse now, something that came with everybody is
//! why: load, a cache, a tenant who was not in the sample. That is no control: time has passed, and what time brought is in
//! the difference. So it can call a person and hold, and is never proof.
//!
//! The mix of traffic changes when everybody comes. Where segments are known, both stages are weighed by the segments of
//! the traffic *now* (direct standardisation): `r = sum w_h bad_h / n_h`, so that another mix makes no difference. The
//! variance of `r` is `sum w_h^2 bad_h / n_h^2` (Poisson), times the inflation that history taught. The logarithm of the
//! ratio of both rates is close to normal where each has some events; the interval is a tail bound of the normal law,
//! `2 (ln(1/a) + 2 ln(1 + log2(events)))` standard errors squared, so that it may be looked at as the events double.
//!
//! Sources: Breslow and Day, "Statistical Methods in Cancer Research" II (1987), for direct standardisation; Robbins
//! (1970) for boundaries over doublings.
//!
//! # Limits
//! Segments that only one stage saw are left out. The daily course of a metric is in the difference: what is tolerated
//! (`ratio_max`) should exceed it.

use serde::{Deserialize, Serialize};

use super::counts;
use crate::domain::{Check, Counts, Direction, Interval, PARTS_MAX, PartKind, Reading, Sli, Text};

/// Chance that the interval misses at either end.
pub const MISS_AT_EITHER_END: f64 = 0.005;
/// Fewer bad events than this in both stages together say nothing.
const EVENTS_MIN: f64 = 10.0;
/// The segments that both stages saw must make up so much of the traffic now.
const KNOWN_MIN: f64 = 0.8;
/// How much more an estimated tally may vary.
const ESTIMATED: f64 = 1.25;

/// What the canary counted at one stage, by segment as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageCounts {
    whole: Counts,
    /// Sorted by name; at most [`PARTS_MAX`].
    segments: Vec<(Text, Counts)>,
    /// Whether a look had no segments, or there were too many: then they do not make up the whole.
    is_cut: bool,
    is_estimated: bool,
    looks: u32,
}

impl StageCounts {
    /// Adds a look. A tally that counts nothing changes nothing.
    pub fn add(&mut self, check: &Check, look: &Reading, is_estimated: bool) {
        let Some(whole) = counts(check, &look.tally) else { return };
        if whole == Counts::default() {
            return;
        }
        self.whole = self.whole.plus(whole);
        self.is_estimated |= is_estimated;
        self.looks = self.looks.saturating_add(1);
        let mut has_segments = false;
        for part in look.parts_of(PartKind::Segment) {
            let Some(more) = counts(check, &part.tally) else { continue };
            has_segments = true;
            match self.segments.binary_search_by(|(name, _)| name.cmp(&part.name)) {
                Ok(at) => self.segments.iter_mut().skip(at).take(1).for_each(|(_, sum)| *sum = sum.plus(more)),
                Err(at) if self.segments.len() < PARTS_MAX => self.segments.insert(at, (part.name.clone(), more)),
                Err(_) => self.is_cut = true,
            }
        }
        self.is_cut |= !has_segments;
    }

    /// All that was counted.
    pub fn whole(&self) -> Counts {
        self.whole
    }

    /// Bad events of one look, on average: those that may have come together.
    pub fn bad_per_look(&self) -> f64 {
        self.whole.bad as f64 / f64::from(self.looks.max(1))
    }

    /// Whether its segments make up the whole.
    pub fn has_segments(&self) -> bool {
        !self.is_cut && !self.segments.is_empty()
    }
}

/// How a stage compares with the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standardised {
    /// How many times as bad the canary is now.
    pub ratio: f64,
    /// A range for it, which misses at either end with [`MISS_AT_EITHER_END`].
    pub interval: Interval,
    /// Whether it was compared segment by segment.
    pub segments: bool,
}

/// Compares the canary now with the canary at the stage before; `by_segment` as was chosen when the stage began, and
/// `inflation` says how many times the variance of a stage's events is that of independent ones. `None` while too little
/// is known.
pub fn compare(
    check: &Check,
    before: &StageCounts,
    now: &StageCounts,
    by_segment: bool,
    inflation: impl Fn(&StageCounts) -> f64,
) -> Option<Standardised> {
    let pairs: Vec<(Counts, Counts)> = if by_segment {
        let both = now.segments.iter().filter_map(|(name, now)| {
            let at = before.segments.binary_search_by(|(other, _)| other.cmp(name)).ok()?;
            Some((before.segments.get(at)?.1, *now)).filter(|(before, now)| before.total > 0 && now.total > 0)
        });
        both.collect()
    } else {
        Some((before.whole, now.whole)).filter(|(before, now)| before.total > 0 && now.total > 0).into_iter().collect()
    };
    let sum = |of: fn(&(Counts, Counts)) -> u64| pairs.iter().map(|pair| of(pair) as f64).sum::<f64>();
    let traffic = sum(|(_, now)| now.total);
    let (bad_before, bad_now) = (sum(|(before, _)| before.bad), sum(|(_, now)| now.bad));
    if traffic <= 0.0 || traffic < KNOWN_MIN * now.whole.total as f64 || bad_before + bad_now < EVENTS_MIN {
        return None;
    }
    let weighed = |of: fn(&(Counts, Counts)) -> Counts| {
        let (mut rate, mut variance, mut one) = (0.0, 0.0, 0.0);
        for pair in &pairs {
            let (counts, weight) = (of(pair), pair.1.total as f64 / traffic);
            let n = counts.total as f64;
            rate += weight * counts.bad as f64 / n;
            variance += (weight / n).powi(2) * counts.bad as f64;
            one += weight * weight / n;
        }
        // Half an event more, so that none at all is a rate too.
        (rate + 0.5 * one, variance + 0.5 * one * one)
    };
    let (old, new) = (weighed(|(before, _)| *before), weighed(|(_, now)| *now));
    let estimated = if before.is_estimated || now.is_estimated { ESTIMATED } else { 1.0 };
    let inflated = |stage, (rate, variance): (f64, f64)| {
        let inflation = inflation(stage);
        variance / rate.powi(2) * if inflation.is_finite() { inflation.max(1.0) } else { f64::MAX }
    };
    let relative = (inflated(before, old) + inflated(now, new)) * estimated;
    let tail = -MISS_AT_EITHER_END.ln() + 2.0 * (1.0 + (bad_now + 2.0).log2()).ln();
    let radius = (2.0 * tail * relative).sqrt();
    let log = (new.0 / old.0).ln();
    // Where less of the events is worse, the ratio is turned so that more is.
    let is_turned = matches!((&check.sli, check.direction), (Sli::EventsPerTraffic { .. }, Direction::LowerIsWorse));
    let log = if is_turned { -log } else { log };
    let kept = |log: f64| log.exp().min(f64::MAX);
    let standardised = Standardised {
        ratio: kept(log),
        interval: Interval { low: kept(log - radius), high: kept(log + radius) },
        segments: by_segment,
    };
    (log.is_finite() && radius.is_finite()).then_some(standardised)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{
        domain::{Part, Tally},
        sim::scenario,
    };

    fn check() -> Check {
        scenario::bounds().mandatory[0].clone()
    }

    fn stage(segments: &[(&str, u64, u64)]) -> StageCounts {
        let mut stage = StageCounts::default();
        stage.add(&check(), &reading(segments), false);
        stage
    }

    fn reading(segments: &[(&str, u64, u64)]) -> Reading {
        let counts = |(_, bad, total): &(&str, u64, u64)| Counts { bad: *bad, total: *total };
        let sum = segments.iter().fold(Counts::default(), |sum, segment| sum.plus(counts(segment)));
        let part = |segment: &(&str, u64, u64)| Part {
            kind: PartKind::Segment,
            name: Text::new(segment.0),
            tally: Tally::Counts(counts(segment)),
        };
        Reading { tally: Tally::Counts(sum), parts: segments.iter().map(part).collect() }
    }

    #[test]
    fn another_mix_is_no_difference_segment_by_segment_and_is_one_without() {
        // Of /slow 10% are bad and of /fast 1%, at both stages; now everybody asks for /slow.
        let before = stage(&[("/fast", 90, 9_000), ("/slow", 100, 1_000)]);
        let now = stage(&[("/fast", 10, 1_000), ("/slow", 900, 9_000)]);
        assert!(before.has_segments() && now.has_segments());
        let adjusted = compare(&check(), &before, &now, true, |_| 1.0).unwrap();
        assert!((adjusted.ratio - 1.0).abs() < 0.01 && adjusted.interval.low < 1.0, "{adjusted:?}");
        let plain = compare(&check(), &before, &now, false, |_| 1.0).unwrap();
        assert!(plain.interval.low > 3.0, "{plain:?}");
    }

    #[test]
    fn a_doubled_rate_is_seen_and_a_wild_one_needs_more() {
        let (before, now) = (stage(&[("/", 200, 20_000)]), stage(&[("/", 800, 40_000)]));
        let seen = compare(&check(), &before, &now, true, |_| 1.0).unwrap();
        assert!(seen.interval.low > 1.25 && seen.interval.high < 3.0 && (seen.ratio - 2.0).abs() < 0.02, "{seen:?}");
        let wild = compare(&check(), &before, &now, true, |_| 20.0).unwrap();
        assert!(wild.interval.low < 1.0, "{wild:?}");
        let mut estimated = StageCounts::default();
        estimated.add(&check(), &reading(&[("/", 800, 40_000)]), true);
        assert!(compare(&check(), &before, &estimated, true, |_| 1.0).unwrap().interval.low < seen.interval.low);
    }

    #[test]
    fn what_cannot_be_compared_says_nothing() {
        let some = stage(&[("/a", 50, 1_000)]);
        assert_eq!(compare(&check(), &StageCounts::default(), &some, false, |_| 1.0), None);
        assert_eq!(compare(&check(), &some, &stage(&[("/b", 50, 1_000)]), true, |_| 1.0), None, "no segment in both");
        let mostly_new = stage(&[("/a", 50, 1_000), ("/b", 50, 1_000)]);
        assert_eq!(compare(&check(), &some, &mostly_new, true, |_| 1.0), None, "half of the traffic is new");
        let rare = stage(&[("/a", 4, 1_000)]);
        assert_eq!(compare(&check(), &rare, &rare, true, |_| 1.0), None, "eight events");
        let wild = compare(&check(), &some, &some, true, |_| f64::NAN);
        assert!(wild.is_none_or(|seen| seen.interval.low < 1.0));
    }

    #[test]
    fn a_look_without_segments_or_too_many_of_them_leaves_only_the_whole() {
        let mut stage = stage(&[("/a", 5, 100)]);
        stage.add(&check(), &Reading::whole(Tally::Counts(Counts { bad: 1, total: 10 })), false);
        assert!(!stage.has_segments());
        assert_eq!(stage.whole(), Counts { bad: 6, total: 110 });
        let names: Vec<String> = (0..=PARTS_MAX).map(|n| format!("/{n}")).collect();
        let mut many = StageCounts::default();
        for (i, name) in names.iter().enumerate() {
            assert_eq!(many.has_segments(), i > 0, "{i}");
            many.add(&check(), &reading(&[(name, 1, 10)]), false);
        }
        assert!(!many.has_segments());
    }

    /// Watched for a hundred looks of the same rate, the interval rarely says that it rose.
    #[test]
    fn looking_again_and_again_rarely_misses() {
        let (mut rng, mut missed) = (StdRng::seed_from_u64(7), 0);
        for _ in 0..400 {
            let mut draw = |n: u64| (0..n).filter(|_| rng.random_bool(0.02)).count() as u64;
            let before = stage(&[("/", draw(3_000), 3_000)]);
            let mut now = StageCounts::default();
            let is_missed = (0..60).any(|_| {
                now.add(&check(), &reading(&[("/", draw(100), 100)]), false);
                compare(&check(), &before, &now, true, |_| 1.0).is_some_and(|seen| seen.interval.low > 1.0)
            });
            missed += u32::from(is_missed);
        }
        assert!(missed <= 8, "{missed} of 400");
    }
}
