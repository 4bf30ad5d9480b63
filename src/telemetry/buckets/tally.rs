//! What the buckets of a window add up to. Pure: series in, a tally or an absence out.

use std::collections::{BTreeMap, BTreeSet};

use super::{Grid, Series, Span, What};
use crate::domain::{Absence, Arm, Counts, Histogram, Sli, Tally, Text};

/// Most series of one answer.
pub const SERIES_MAX: usize = 10_000;
/// Most categories of one mix.
pub const CATEGORIES_MAX: usize = 1_000;
/// The label of a bucket's upper edge.
pub(super) const EDGE: &str = "le";
/// The largest count that is exact; beyond it a number is no count of requests.
const COUNT_MAX: f64 = 9_007_199_254_740_992.0;

/// What was answered to one question.
pub(super) type Answered = Result<Vec<Series>, Absence>;

fn malformed(why: impl AsRef<str>) -> Absence {
    Absence::Malformed(Text::new(why))
}

/// The series as far as they are in the span; refuses what is on no bucket, in one twice, or no number of its kind.
pub(super) fn checked(series: Vec<Series>, what: What, span: Span, grid: Grid) -> Answered {
    if series.len() > SERIES_MAX {
        return Err(malformed(format!("answered more than {SERIES_MAX} series")));
    }
    let is_in = |at| (span.start..span.end).contains(&at);
    series
        .into_iter()
        .map(|Series { labels, points }| {
            let mut seen = BTreeSet::new();
            let points: Vec<_> = points.into_iter().filter(|(at, _)| is_in(*at)).collect();
            for (at, value) in &points {
                if at.as_millis() % grid.step_millis() != 0 {
                    return Err(malformed(format!("answered buckets that are not of {} s each", grid.step.as_secs())));
                }
                if !seen.insert(*at) {
                    return Err(malformed("answered the same bucket of a series twice"));
                }
                let is_right = value.is_none_or(|value| match what {
                    What::Mean => value.is_finite(),
                    What::Count | What::Observations | What::Above(_) => (0.0..=COUNT_MAX).contains(&value),
                });
                if !is_right {
                    return Err(malformed("answered a number that this metric cannot have"));
                }
            }
            Ok(Series { labels, points })
        })
        .collect()
}

/// The sum of counts; nothing where no bucket of no series has a value.
fn sum<'a>(series: impl IntoIterator<Item = &'a Series>) -> Option<f64> {
    let values = series.into_iter().flat_map(|series| &series.points).filter_map(|(_, value)| *value);
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

/// To the nearest whole one, once for a window; what is summed is checked not to be negative.
fn rounded(sum: f64) -> u64 {
    sum.round() as u64
}

/// The tally of one arm from the answers to its questions, in their order. Liveness is told by [`liveness`].
pub(super) fn tally(sli: &Sli, answers: &[&Answered]) -> Result<Tally, Absence> {
    let mut all = Vec::new();
    for answer in answers {
        all.push(answer.as_ref().map_err(Clone::clone)?.as_slice());
    }
    match (sli, all.as_slice()) {
        (Sli::Ratio { .. }, [bad, total]) => counts(bad, total, false).map(Tally::Counts),
        (Sli::EventsPerTraffic { .. }, [bad, total]) => counts(bad, total, true).map(Tally::Counts),
        (Sli::Latency { slow_above_seconds, .. }, [slow, total]) => {
            let Counts { bad, total } = counts(slow, total, false)?;
            Ok(Tally::Histogram(Histogram { bounds: vec![*slow_above_seconds], counts: vec![total - bad, bad] }))
        }
        (Sli::Latency { .. }, [buckets]) => histogram(buckets),
        (Sli::Level { .. }, [gauge]) => level(gauge),
        (Sli::Mix { by, .. }, [counter]) => mix(by, counter),
        (_, _) => Err(malformed("answers to other questions than were asked")),
    }
}

/// Bad ones among all. Where there is traffic and no series of bad ones, nothing bad was counted.
fn counts(bad: &[Series], total: &[Series], may_exceed: bool) -> Result<Counts, Absence> {
    let total = rounded(sum(total).ok_or(Absence::NoData)?);
    let bad = rounded(sum(bad).unwrap_or(0.0));
    if bad > total && !may_exceed {
        return Err(malformed(format!("{bad} bad ones among {total}: is `bad` a part of `total`?")));
    }
    Ok(Counts { bad, total })
}

/// A distribution from counters of what is at or below each edge.
fn histogram(series: &[Series]) -> Result<Tally, Absence> {
    let mut cumulative: Vec<(f64, f64)> = Vec::new();
    for one in series {
        let Some(gained) = sum([one]) else { continue };
        let edge = one.labels.get(EDGE).and_then(|edge| edge.trim_start_matches('+').parse::<f64>().ok());
        let edge = edge.filter(|edge| !edge.is_nan()).ok_or_else(|| malformed("a bucket without an upper edge"))?;
        match cumulative.iter_mut().find(|(known, _)| *known == edge) {
            Some((_, sum)) => *sum += gained,
            None => cumulative.push((edge, gained)),
        }
    }
    cumulative.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    match cumulative.last() {
        None => return Err(Absence::NoData),
        Some((last, _)) if last.is_finite() => return Err(malformed("the bucket of edge +Inf is missing")),
        Some(_) => {}
    }
    let mut counts = Vec::new();
    let mut below = 0;
    for (_, upto) in &cumulative {
        // Points of one histogram are written one after the other, and a bucket may end between.
        let upto = rounded(*upto).max(below);
        counts.push(upto - below);
        below = upto;
    }
    let bounds = cumulative.iter().map(|(edge, _)| *edge).filter(|edge| edge.is_finite()).collect();
    Ok(Tally::Histogram(Histogram { bounds, counts }))
}

/// A gauge's readings, oldest first: one for each bucket, the mean over the series that have one.
fn level(gauge: &[Series]) -> Result<Tally, Absence> {
    let mut readings: BTreeMap<_, (f64, f64)> = BTreeMap::new();
    for (at, value) in gauge.iter().flat_map(|series| &series.points) {
        if let Some(value) = value {
            let (sum, n) = readings.entry(*at).or_default();
            (*sum, *n) = (*sum + value, *n + 1.0);
        }
    }
    if readings.is_empty() {
        return Err(Absence::NoData);
    }
    Ok(Tally::Samples(readings.into_values().map(|(sum, n)| sum / n).collect()))
}

fn mix(by: &str, counter: &[Series]) -> Result<Tally, Absence> {
    let mut categories: BTreeMap<&str, f64> = BTreeMap::new();
    for series in counter {
        if let Some(gained) = sum([series]) {
            *categories.entry(series.labels.get(by).map_or("", String::as_str)).or_default() += gained;
        }
    }
    if categories.is_empty() {
        return Err(Absence::NoData);
    }
    if categories.len() > CATEGORIES_MAX {
        return Err(malformed(format!("{by} has more than {CATEGORIES_MAX} values")));
    }
    let counted = categories.into_iter().map(|(category, n)| (category.to_owned(), rounded(n)));
    Ok(Tally::Mix(counted.filter(|(_, n)| *n > 0).collect()))
}

/// Readings of both arms in which something did not go on. An arm with nothing at all is bad only where the other shows
/// that telemetry works.
pub(super) fn liveness(control: &Answered, canary: &Answered, span: Span, grid: Grid) -> [Result<Tally, Absence>; 2] {
    let has_data = |answered: &Answered| answered.as_ref().is_ok_and(|series| sum(series).is_some());
    let works = has_data(control) || has_data(canary);
    let buckets = span.end.since(span.start).as_millis() / u128::from(grid.step_millis());
    let total = u64::try_from(buckets).unwrap_or(u64::MAX);
    [control, canary].map(|answered| {
        let series = answered.as_ref().map_err(Clone::clone)?;
        if !works {
            return Err(Absence::NoData);
        }
        let points = series.iter().flat_map(|series| &series.points);
        let rose: BTreeSet<_> = points.filter(|(_, value)| value.is_some_and(|v| v > 0.0)).map(|(at, _)| at).collect();
        Ok(Tally::Counts(Counts { bad: total.saturating_sub(rose.len() as u64), total }))
    })
}

/// The series by the values of a label; those without one are left out.
pub(super) fn grouped(series: &[Series], label: &str) -> BTreeMap<Text, Vec<Series>> {
    let mut groups: BTreeMap<Text, Vec<Series>> = BTreeMap::new();
    for one in series {
        let name = one.labels.get(label).map(Text::new).filter(|name| !name.as_str().is_empty());
        if let Some(name) = name {
            groups.entry(name).or_default().push(one.clone());
        }
    }
    groups
}

/// The arms in the order of answers.
pub(super) const ARMS: [Arm; 2] = [Arm::Control, Arm::Canary];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{Selector, Timestamp};

    const GRID: Grid = Grid { step: Duration::from_secs(60), settle: Duration::ZERO };

    fn at(minute: u64) -> Timestamp {
        Timestamp::from_millis(minute * 60_000)
    }

    const SPAN: Span = Span { start: Timestamp::from_millis(60_000), end: Timestamp::from_millis(240_000) };

    fn series(label: &str, value: &str, points: &[Option<f64>]) -> Series {
        let labels = BTreeMap::from([(label.to_owned(), value.to_owned())]);
        Series { labels, points: (1..).map(at).zip(points.iter().copied()).collect() }
    }

    fn one(points: &[Option<f64>]) -> Answered {
        Ok(vec![series("a", "b", points)])
    }

    fn ratio() -> Sli {
        Sli::Ratio { bad: Selector::metric("bad"), total: Selector::metric("all") }
    }

    fn counted(bad: u64, total: u64) -> Result<Tally, Absence> {
        Ok(Tally::Counts(Counts { bad, total }))
    }

    #[test]
    fn counts_are_summed_over_series_and_buckets_and_rounded_once() {
        let total = Ok(vec![series("a", "1", &[Some(0.4), None, Some(0.4)]), series("a", "2", &[Some(1.6)])]);
        assert_eq!(tally(&ratio(), &[&one(&[Some(0.3), Some(0.3)]), &total]), counted(1, 2));
    }

    #[test]
    fn no_traffic_is_no_data_and_no_errors_beside_traffic_is_none() {
        let nothing = Ok(Vec::new());
        assert_eq!(tally(&ratio(), &[&nothing, &nothing]), Err(Absence::NoData));
        assert_eq!(tally(&ratio(), &[&nothing, &one(&[None, None])]), Err(Absence::NoData));
        assert_eq!(tally(&ratio(), &[&nothing, &one(&[Some(5.0)])]), counted(0, 5));
        assert_eq!(tally(&ratio(), &[&one(&[None]), &one(&[Some(0.0)])]), counted(0, 0));
        let more = tally(&ratio(), &[&one(&[Some(6.0)]), &one(&[Some(5.0)])]);
        assert!(matches!(more, Err(Absence::Malformed(_))));
        let events = Sli::EventsPerTraffic { events: Selector::metric("e"), traffic: Selector::metric("t") };
        assert_eq!(tally(&events, &[&one(&[Some(6.0)]), &one(&[Some(5.0)])]), counted(6, 5));
    }

    #[test]
    fn an_absent_answer_is_told_as_it_is() {
        let why = Absence::Unavailable(Text::new("partial"));
        assert_eq!(tally(&ratio(), &[&Err(why.clone()), &one(&[Some(5.0)])]), Err(why));
    }

    #[test]
    fn latencies_are_one_edge_or_many() {
        let sli = Sli::Latency { histogram: Selector::metric("took"), slow_above_seconds: 0.5 };
        let told = tally(&sli, &[&one(&[Some(2.0)]), &one(&[Some(9.0), Some(1.0)])]);
        assert_eq!(told, Ok(Tally::Histogram(Histogram { bounds: vec![0.5], counts: vec![8, 2] })));
        let le = |edge: &str, n: f64| series(EDGE, edge, &[Some(n)]);
        let told = tally(&sli, &[&Ok(vec![le("+Inf", 9.0), le("0.5", 4.0), le("0.1", 4.0), le("0.5", 2.0)])]);
        assert_eq!(told, Ok(Tally::Histogram(Histogram { bounds: vec![0.1, 0.5], counts: vec![4, 2, 3] })));
        for wrong in [vec![le("0.5", 1.0)], vec![le("x", 1.0)], vec![le("NaN", 1.0)]] {
            assert!(matches!(tally(&sli, &[&Ok(wrong)]), Err(Absence::Malformed(_))));
        }
        assert_eq!(tally(&sli, &[&Ok(Vec::new())]), Err(Absence::NoData));
    }

    #[test]
    fn a_level_is_the_mean_over_series_bucket_by_bucket() {
        let sli = Sli::Level { gauge: Selector::metric("load") };
        let gauge = Ok(vec![series("a", "1", &[Some(1.0), None, Some(-4.0)]), series("a", "2", &[Some(3.0)])]);
        assert_eq!(tally(&sli, &[&gauge]), Ok(Tally::Samples(vec![2.0, -4.0])));
        assert_eq!(tally(&sli, &[&one(&[None])]), Err(Absence::NoData));
    }

    #[test]
    fn a_mix_is_by_category_and_bounded() {
        let sli = Sli::Mix { counter: Selector::metric("hits"), by: "code".into() };
        let hits = |code: &str, n: f64| series("code", code, &[Some(n)]);
        let told = tally(&sli, &[&Ok(vec![hits("200", 3.0), hits("500", 0.0), hits("200", 1.0), hits("404", 2.0)])]);
        assert_eq!(told, Ok(Tally::Mix(vec![("200".into(), 4), ("404".into(), 2)])));
        let many = |n: usize| Ok((0..n).map(|i| hits(&i.to_string(), 1.0)).collect());
        assert!(tally(&sli, &[&many(CATEGORIES_MAX)]).is_ok());
        assert!(matches!(tally(&sli, &[&many(CATEGORIES_MAX + 1)]), Err(Absence::Malformed(_))));
    }

    #[test]
    fn silence_is_bad_only_where_telemetry_is_shown_to_work() {
        let told = |control: &Answered, canary: &Answered| liveness(control, canary, SPAN, GRID);
        let (alive, silent) = (one(&[Some(1.0), Some(0.0), Some(2.0)]), Ok(Vec::new()));
        assert_eq!(told(&alive, &silent), [counted(1, 3), counted(3, 3)]);
        assert_eq!(told(&silent, &silent), [Err(Absence::NoData), Err(Absence::NoData)]);
        let why = Absence::Unavailable(Text::new("refused"));
        assert_eq!(told(&Err(why.clone()), &alive), [Err(why), counted(1, 3)]);
    }

    #[test]
    fn what_lies_outside_is_left_and_what_cannot_be_is_refused() {
        let checked = |points: Vec<(Timestamp, Option<f64>)>, what| {
            checked(vec![Series { points, ..Series::default() }], what, SPAN, GRID).map(|series| sum(&series))
        };
        let outside = vec![(at(0), Some(9.0)), (at(1), Some(1.0)), (at(4), Some(9.0))];
        assert_eq!(checked(outside, What::Count), Ok(Some(1.0)));
        let odd = vec![(Timestamp::from_millis(61_000), Some(1.0))];
        assert!(matches!(checked(odd, What::Count), Err(Absence::Malformed(why)) if why.as_str().contains("60 s")));
        assert!(checked(vec![(at(1), Some(1.0)), (at(1), Some(1.0))], What::Count).is_err());
        for wrong in [-1.0, f64::NAN, f64::INFINITY, COUNT_MAX * 2.0] {
            assert!(checked(vec![(at(1), Some(wrong))], What::Above(0.1)).is_err(), "{wrong}");
        }
        assert_eq!(checked(vec![(at(1), Some(COUNT_MAX))], What::Count), Ok(Some(COUNT_MAX)));
        assert!(checked(vec![(at(1), Some(-1.0))], What::Mean).is_ok());
        let many = |n| super::checked(vec![Series::default(); n], What::Count, SPAN, GRID).is_ok();
        assert!(many(SERIES_MAX) && !many(SERIES_MAX + 1));
    }
}
