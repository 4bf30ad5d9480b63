//! One series of one process: what it counted since it is known, added up so that it only rises.
//!
//! # Nothing twice, nothing lost
//! A *cumulative* point shows all since its `start_time_unix_nano`, so the later of two points says it all: one that is
//! not later than the last is passed over, and a gain is the difference. A later start is a restart, and the point counts
//! whole; so does one that fell. An earlier start on a later point is another process under the same name, and is refused.
//!
//! A *delta* point shows what was counted between its two times. Which times were counted is remembered, so a point that
//! is sent again is passed over, one that comes late still counts, and one that covers a part of what was counted is
//! refused. Only the newest [`COVERED_MAX`] gaps are remembered; what comes later than that is passed over.

use super::exponential::{self, Exponential, SCALE_MAX};

/// Most stretches of time of one delta series that are remembered as counted, with gaps between.
pub(super) const COVERED_MAX: usize = 16;

const TWO_PROCESSES: &str =
    "a point began to count earlier than one before it: give each process a service.instance.id of its own";
const OVERLAP: &str = "a delta point covers a part of what another one covered";
const CHANGED: &str = "a series changed its temporality, its kind of number or its buckets without starting again";

/// How points in a row hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Each is a level of its own.
    Level,
    /// Each counts all since it started.
    Cumulative,
    /// Each counts what came since the last.
    Delta,
}

/// What one point shows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shown {
    /// A whole number.
    Whole(i64),
    /// Any other.
    Fraction(f64),
    /// Counts by bucket, not cumulative, one more than there are edges.
    Explicit { edges: Vec<f64>, counts: Vec<u64> },
    /// The same on edges that move. So many of its unit are a second.
    Exponential { shown: Exponential, per_second: f64 },
}

/// One point of one series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    /// When it began to count, in nanoseconds of its own clock; 0 where it does not say.
    pub(super) start: u64,
    /// When it was read, by the same clock.
    pub(super) time: u64,
    pub(super) shown: Shown,
}

/// What was counted in all.
#[derive(Clone, Debug, PartialEq)]
enum Total {
    Number(f64),
    Buckets(Vec<u64>),
}

/// One series.
#[derive(Clone, Debug)]
pub(super) struct Series {
    flow: Flow,
    start: u64,
    time: u64,
    last: Shown,
    total: Total,
    /// Of a delta series, the stretches of time that were counted, in order.
    covered: Vec<(u64, u64)>,
}

/// A value that fell, or that cannot be compared.
enum Unlike {
    Fell,
    Changed,
}

impl Series {
    /// From its first point. It counts whole where the series is known to be new; else it is where counting starts.
    pub(super) fn new(flow: Flow, point: Point, is_new: bool) -> Self {
        let whole = whole(&point.shown);
        let counts = is_new || flow == Flow::Delta;
        let total = if counts { whole } else { zero(&whole) };
        let covered = if flow == Flow::Delta { vec![stretch(&point, 0)] } else { Vec::new() };
        Self { flow, start: point.start, time: point.time, last: point.shown, total, covered }
    }

    /// Takes in one more point. `Err` says why it cannot be counted; what is only repeated or late is no error.
    pub(super) fn take(&mut self, flow: Flow, point: Point) -> Result<(), &'static str> {
        if flow != self.flow {
            return self.begin_anew(flow, point);
        }
        match flow {
            Flow::Level => {
                if point.time >= self.time {
                    (self.start, self.time, self.last) = (point.start, point.time, point.shown);
                }
                Ok(())
            }
            Flow::Cumulative => self.cumulative(point),
            Flow::Delta => self.delta(point),
        }
    }

    fn cumulative(&mut self, point: Point) -> Result<(), &'static str> {
        let both_say = point.start != 0 && self.start != 0;
        if point.time <= self.time && !(both_say && point.start > self.start) {
            return Ok(());
        }
        if both_say && point.start < self.start {
            return Err(TWO_PROCESSES);
        }
        let has_started_again = both_say && point.start > self.start;
        let gain = match since(&point.shown, &self.last) {
            Ok(_) | Err(Unlike::Fell) if has_started_again => whole(&point.shown),
            Ok(gain) => gain,
            Err(Unlike::Fell) => whole(&point.shown),
            Err(Unlike::Changed) => return self.begin_anew(Flow::Cumulative, point),
        };
        self.add(gain);
        (self.start, self.time, self.last) = (point.start, point.time, point.shown);
        Ok(())
    }

    fn delta(&mut self, point: Point) -> Result<(), &'static str> {
        if matches!(since(&point.shown, &self.last), Err(Unlike::Changed)) {
            return self.begin_anew(Flow::Delta, point);
        }
        let newest = self.covered.last().map_or(0, |(_, through)| *through);
        let (from, through) = stretch(&point, newest);
        if from >= through || self.covered.iter().any(|(after, to)| *after <= from && through <= *to) {
            return Ok(());
        }
        if self.covered.iter().any(|(after, to)| from < *to && *after < through) {
            return Err(OVERLAP);
        }
        self.cover(from, through);
        self.add(whole(&point.shown));
        if point.time > self.time {
            (self.start, self.time, self.last) = (point.start, point.time, point.shown);
        }
        Ok(())
    }

    fn cover(&mut self, from: u64, through: u64) {
        let at = self.covered.partition_point(|(after, _)| *after < from);
        self.covered.insert(at, (from, through));
        self.covered.dedup_by(|next, before| {
            let meets = before.1 == next.0;
            if meets {
                before.1 = next.1;
            }
            meets
        });
        if self.covered.len() > COVERED_MAX {
            // The oldest gap is given up: what would fill it is passed over from now on.
            let oldest = self.covered.remove(0);
            if let Some(first) = self.covered.first_mut() {
                first.0 = oldest.0;
            }
        }
    }

    /// Takes in a point that nothing before can be compared with: right for a process that started again, and only then.
    fn begin_anew(&mut self, flow: Flow, point: Point) -> Result<(), &'static str> {
        if point.time <= self.time || point.start < self.time.max(1) {
            return Err(CHANGED);
        }
        let mut anew = Self::new(flow, point, true);
        if alike(&anew.last, &self.last) && self.flow != Flow::Level && flow != Flow::Level {
            let gain = std::mem::replace(&mut anew.total, self.total.clone());
            anew.add(gain);
        }
        *self = anew;
        Ok(())
    }

    fn add(&mut self, gain: Total) {
        match (&mut self.total, gain) {
            (Total::Number(total), Total::Number(gain)) => *total += gain,
            (Total::Buckets(total), Total::Buckets(gain)) => {
                total.iter_mut().zip(gain).for_each(|(total, gain)| *total = total.saturating_add(gain));
            }
            // Only what is alike is added.
            (Total::Number(_), Total::Buckets(_)) | (Total::Buckets(_), Total::Number(_)) => {}
        }
    }

    /// How it goes on.
    pub(super) fn flow(&self) -> Flow {
        self.flow
    }

    /// When it was shown last, by its process' clock.
    pub(super) fn time(&self) -> u64 {
        self.time
    }

    /// Its level, or what it counted.
    pub(super) fn number(&self) -> Option<f64> {
        match (&self.last, &self.total) {
            (Shown::Whole(level), _) if self.flow == Flow::Level => Some(*level as f64),
            (Shown::Fraction(level), _) if self.flow == Flow::Level => Some(*level),
            (_, Total::Number(total)) => Some(*total),
            (_, Total::Buckets(_)) => None,
        }
    }

    /// Its finite edges and its counts, cumulative, the last one of all.
    pub(super) fn buckets(&self) -> Option<(Vec<f64>, Vec<u64>)> {
        let Total::Buckets(counts) = &self.total else { return None };
        let edges = match &self.last {
            Shown::Explicit { edges, .. } => edges.clone(),
            Shown::Exponential { per_second, .. } => exponential::edges(*per_second),
            Shown::Whole(_) | Shown::Fraction(_) => return None,
        };
        let cumulative = counts.iter().scan(0_u64, |sum, count| {
            *sum = sum.saturating_add(*count);
            Some(*sum)
        });
        Some((edges, cumulative.collect()))
    }

    /// Bytes it takes up, roughly.
    pub(super) fn size(&self) -> usize {
        let last = match &self.last {
            Shown::Whole(_) | Shown::Fraction(_) => 0,
            Shown::Explicit { edges, counts } => edges.len() + counts.len(),
            Shown::Exponential { shown, .. } => shown.counts.len(),
        };
        let total = if let Total::Buckets(counts) = &self.total { counts.len() } else { 0 };
        size_of::<Self>() + 8 * (last + total) + 16 * COVERED_MAX
    }
}

/// What a delta point covers; one without a start goes on from the newest that was counted.
fn stretch(point: &Point, newest: u64) -> (u64, u64) {
    let says = point.start != 0 && point.start < point.time;
    let goes_on = if newest == 0 { point.time.saturating_sub(1) } else { newest };
    (if says { point.start } else { goes_on }, point.time)
}

fn alike(one: &Shown, other: &Shown) -> bool {
    match (one, other) {
        (Shown::Whole(_) | Shown::Fraction(_), Shown::Whole(_) | Shown::Fraction(_)) => true,
        (Shown::Explicit { edges, .. }, Shown::Explicit { edges: others, .. }) => edges == others,
        (Shown::Exponential { per_second, .. }, Shown::Exponential { per_second: others, .. }) => per_second == others,
        (
            Shown::Whole(_) | Shown::Fraction(_) | Shown::Explicit { .. } | Shown::Exponential { .. },
            Shown::Whole(_) | Shown::Fraction(_) | Shown::Explicit { .. } | Shown::Exponential { .. },
        ) => false,
    }
}

fn whole(shown: &Shown) -> Total {
    match shown {
        Shown::Whole(number) => Total::Number(*number as f64),
        Shown::Fraction(number) => Total::Number(*number),
        Shown::Explicit { counts, .. } => Total::Buckets(counts.clone()),
        Shown::Exponential { shown, per_second } => Total::Buckets(shown.on_grid(*per_second, SCALE_MAX)),
    }
}

fn zero(total: &Total) -> Total {
    match total {
        Total::Number(_) => Total::Number(0.0),
        Total::Buckets(counts) => Total::Buckets(vec![0; counts.len()]),
    }
}

/// What was gained from one point to a later one.
fn since(now: &Shown, last: &Shown) -> Result<Total, Unlike> {
    if !alike(now, last) {
        return Err(Unlike::Changed);
    }
    match (now, last) {
        (Shown::Whole(now), Shown::Whole(last)) => {
            // The difference of two whole numbers is exact however large they are.
            if now < last {
                Err(Unlike::Fell)
            } else {
                Ok(Total::Number((i128::from(*now) - i128::from(*last)) as f64))
            }
        }
        (Shown::Explicit { counts, .. }, Shown::Explicit { counts: before, .. }) => {
            let gains = counts.iter().zip(before).map(|(now, before)| now.checked_sub(*before));
            gains.collect::<Option<Vec<u64>>>().map(Total::Buckets).ok_or(Unlike::Fell)
        }
        (Shown::Exponential { shown, per_second }, Shown::Exponential { shown: before, .. }) => {
            exponential_gain(shown, before, *per_second).map(Total::Buckets).ok_or(Unlike::Fell)
        }
        (now, last) => match (whole(now), whole(last)) {
            (Total::Number(now), Total::Number(last)) if now < last => Err(Unlike::Fell),
            (Total::Number(now), Total::Number(last)) => Ok(Total::Number(now - last)),
            (_, _) => Err(Unlike::Changed),
        },
    }
}

/// What an exponential histogram gained by bucket of the grid; `None` where it fell.
fn exponential_gain(now: &Exponential, before: &Exponential, per_second: f64) -> Option<Vec<u64>> {
    let gained = now.count().checked_sub(before.count())?;
    // The scale only gets coarser while it counts; both are looked at on the coarser one.
    let (now, before) = (now.on_grid(per_second, before.scale), before.on_grid(per_second, now.scale));
    let (mut sum_now, mut sum_before) = (0_u64, 0_u64);
    let mut cumulative: Vec<u64> = now
        .iter()
        .zip(&before)
        .map(|(now, before)| {
            sum_now = sum_now.saturating_add(*now);
            sum_before = sum_before.saturating_add(*before);
            sum_now.saturating_sub(sum_before)
        })
        .collect();
    // A wider zero bucket moves what was just above it below: gains by bucket are never negative all the same.
    let mut ceiling = gained;
    for below in cumulative.iter_mut().rev() {
        ceiling = ceiling.min(*below);
        *below = ceiling;
    }
    let before = std::iter::once(0).chain(cumulative.iter().copied());
    Some(cumulative.iter().zip(before).map(|(to, from)| to - from).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(start: u64, time: u64, value: i64) -> Point {
        Point { start, time, shown: Shown::Whole(value) }
    }

    fn cumulative(points: &[(u64, u64, i64)]) -> (f64, usize) {
        fed(Flow::Cumulative, points)
    }

    /// The sum after these points, of a series that is known to be new, and how many were refused.
    fn fed(flow: Flow, points: &[(u64, u64, i64)]) -> (f64, usize) {
        let mut points = points.iter().map(|(start, time, value)| point(*start, *time, *value));
        let mut series = Series::new(flow, points.next().unwrap(), true);
        let refused = points.filter(|point| series.take(flow, point.clone()).is_err()).count();
        (series.number().unwrap(), refused)
    }

    #[test]
    fn a_later_start_is_a_restart_even_where_the_value_has_passed_the_old_one() {
        assert_eq!(cumulative(&[(1, 10, 5), (1, 20, 8), (21, 30, 9)]), (17.0, 0));
        assert_eq!(cumulative(&[(1, 10, 5), (1, 20, 3)]), (8.0, 0), "one that fell began again");
        assert_eq!(cumulative(&[(0, 10, 5), (0, 20, 3), (0, 30, 4)]), (9.0, 0), "without a start only a fall tells");
    }

    #[test]
    fn an_earlier_start_on_a_later_point_is_another_process_and_is_refused() {
        assert_eq!(cumulative(&[(5, 10, 5), (1, 20, 100), (5, 30, 6)]), (6.0, 1));
    }

    #[test]
    fn points_of_a_former_life_that_come_late_are_passed_over() {
        assert_eq!(cumulative(&[(1, 10, 5), (21, 30, 2), (1, 20, 7)]), (7.0, 0));
    }

    #[test]
    fn a_first_point_of_a_series_that_is_not_new_is_where_counting_starts() {
        let mut series = Series::new(Flow::Cumulative, point(1, 10, 1_000), false);
        series.take(Flow::Cumulative, point(1, 20, 1_007)).unwrap();
        assert_eq!(series.number(), Some(7.0));
    }

    #[test]
    fn a_delta_point_counts_once_late_or_twice_and_never_in_part() {
        assert_eq!(fed(Flow::Delta, &[(10, 20, 5), (30, 40, 7), (20, 30, 11), (20, 30, 11), (10, 20, 5)]), (23.0, 0));
        assert_eq!(fed(Flow::Delta, &[(10, 20, 5), (15, 25, 7)]), (5.0, 1));
        assert_eq!(fed(Flow::Delta, &[(0, 20, 5), (0, 30, 7), (0, 30, 7), (0, 25, 1)]), (12.0, 0));
    }

    #[test]
    fn whole_numbers_beyond_what_a_fraction_can_hold_still_differ_exactly() {
        let big = 1_i64 << 60;
        let mut series = Series::new(Flow::Cumulative, point(1, 10, big), false);
        series.take(Flow::Cumulative, point(1, 20, big + 3)).unwrap();
        assert_eq!(series.number(), Some(3.0));
    }

    #[test]
    fn a_series_that_changes_its_shape_does_so_only_with_a_new_start() {
        let explicit = |edges: &[f64], counts: &[u64]| Shown::Explicit { edges: edges.into(), counts: counts.into() };
        let mut series =
            Series::new(Flow::Cumulative, Point { start: 1, time: 10, shown: explicit(&[1.0], &[2, 3]) }, true);
        let other = |start, time| Point { start, time, shown: explicit(&[2.0], &[1, 1]) };
        assert_eq!(series.take(Flow::Cumulative, other(1, 20)), Err(CHANGED));
        series.take(Flow::Cumulative, other(15, 20)).unwrap();
        assert_eq!(series.buckets(), Some((vec![2.0], vec![1, 2])));
        let mut series = Series::new(Flow::Cumulative, point(1, 10, 5), true);
        assert_eq!(series.take(Flow::Delta, point(5, 20, 2)), Err(CHANGED));
        series.take(Flow::Delta, point(10, 20, 2)).unwrap();
        assert_eq!(series.number(), Some(7.0));
    }

    #[test]
    fn an_exponential_histogram_that_coarsens_gains_only_what_it_counted() {
        let shown = |scale, offset, counts: &[u64]| Shown::Exponential {
            shown: Exponential { scale, zero: 1, offset, counts: counts.into() },
            per_second: 1.0,
        };
        // Around 1 s at scale 3, then the same and three more at scale 1: indices are halved twice.
        let first = Point { start: 1, time: 10, shown: shown(3, -4, &[1, 2, 3, 4, 5, 6, 7, 8]) };
        let mut series = Series::new(Flow::Cumulative, first, false);
        series.take(Flow::Cumulative, Point { start: 1, time: 20, shown: shown(1, -1, &[10, 26, 3]) }).unwrap();
        let (edges, counts) = series.buckets().unwrap();
        assert_eq!(*counts.last().unwrap(), 3);
        let at = |edge: f64| counts[edges.iter().position(|e| (*e - edge).abs() < 1e-9).unwrap()];
        assert_eq!((at(1.0), at(2.0_f64.sqrt()), at(2.0)), (0, 0, 3));
    }

    /// A counter's true life: per export what was counted since the last, and whether the process began again before.
    fn lives() -> impl Strategy<Value = Vec<(i64, bool)>> {
        proptest::collection::vec((0..1_000_i64, proptest::bool::weighted(0.1)), 1..60)
    }

    proptest! {
        #[test]
        fn a_cumulative_stream_with_restarts_repeats_and_late_points_is_counted_exactly(
            lives in lives(), noise in proptest::collection::vec((0..60_usize, 0..60_usize), 0..40),
        ) {
            let (mut start, mut value, mut truth) = (1_000, 0, 0);
            let mut sent = Vec::new();
            for (at, (gain, restarts)) in lives.iter().enumerate() {
                let time = 2_000 + 1_000 * at as u64;
                if *restarts && at > 0 {
                    (start, value) = (time - 500, 0);
                }
                value += gain;
                truth += gain;
                sent.push((start, time, value));
            }
            // Points that are sent again, some time after they were sent first.
            let mut stream: Vec<(usize, (u64, u64, i64))> = sent.iter().copied().enumerate().collect();
            for (which, later) in noise {
                if let Some(point) = sent.get(which) {
                    stream.push(((which + later).min(sent.len() - 1), *point));
                }
            }
            stream.sort_by_key(|(at, _)| *at);
            let stream: Vec<_> = stream.into_iter().map(|(_, point)| point).collect();
            prop_assert_eq!(cumulative(&stream), (truth as f64, 0));
        }

        #[test]
        fn a_delta_stream_in_any_order_within_reach_is_counted_exactly(
            gains in proptest::collection::vec(0..1_000_i64, 1..60),
            gaps in proptest::collection::vec(proptest::bool::ANY, 60),
            delays in proptest::collection::vec(0..8_usize, 60),
            repeats in proptest::collection::vec((0..60_usize, 0..60_usize), 0..40),
        ) {
            let (mut from, mut points) = (1_000_u64, Vec::new());
            for (gain, gap) in gains.iter().zip(gaps) {
                let through = from + 1_000;
                points.push((from, through, *gain));
                // A process that began again left a gap.
                from = through + if gap { 300 } else { 0 };
            }
            // The first is there first, as long as nothing is known of the series but its own points.
            let mut stream: Vec<(usize, (u64, u64, i64))> = points.iter().copied().enumerate()
                .map(|(at, point)| (if at == 0 { 0 } else { 1 + at + delays[at] }, point)).collect();
            for (which, later) in repeats {
                if let Some(point) = points.get(which) {
                    stream.push((2 + which + 8 + later, *point));
                }
            }
            stream.sort_by_key(|(at, _)| *at);
            let stream: Vec<_> = stream.into_iter().map(|(_, point)| point).collect();
            // Within reach: no point came later than the gaps that are remembered.
            prop_assert_eq!(fed(Flow::Delta, &stream), (gains.iter().sum::<i64>() as f64, 0));
        }

        #[test]
        fn no_points_make_it_panic_or_fall(
            points in proptest::collection::vec((0..9_u64, 0..9_u64, 0..i64::MAX, 0..4_u8), 1..60),
        ) {
            let shown = |value: i64, kind: u8| match kind {
                0 => Shown::Whole(value),
                1 => Shown::Fraction(value as f64),
                2 => Shown::Explicit { edges: vec![1.0], counts: vec![value as u64, u64::MAX] },
                _ => Shown::Exponential {
                    shown: Exponential { scale: (value % 31) as i32 - 10, zero: u64::MAX, offset: value, counts: vec![3; 4] },
                    per_second: 1e3,
                },
            };
            let flow = |value: i64| if value % 2 == 0 { Flow::Cumulative } else { Flow::Delta };
            let mut series: Option<Series> = None;
            for (start, time, value, kind) in points {
                let point = Point { start, time, shown: shown(value, kind) };
                match &mut series {
                    None => series = Some(Series::new(flow(value), point, true)),
                    Some(series) => {
                        let before = series.number();
                        let _ = series.take(flow(value), point);
                        if let (Some(before), Some(now)) = (before, series.number()) {
                            prop_assert!(now >= before);
                        }
                    }
                }
            }
        }
    }
}
