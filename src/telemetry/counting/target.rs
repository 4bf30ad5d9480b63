//! What one process counted between two readings of its endpoint.
//!
//! # Exactness
//! A counter that rose gained the difference. One that fell began again, and gained what it shows. One that was not
//! there at an earlier reading was born since, and gained what it shows; but at the first reading of its metric nobody
//! knows how long it has been counting, so that reading is only where counting starts. A value that no counter can have
//! is not counted, and the next good one is a new start.
//!
//! When `process_start_time_seconds` has moved and some counter fell or vanished, the process started again, and every
//! counter counts from zero, those too that have already passed their old value. Neither sign is enough alone: the start
//! time of some runtimes jitters, and exporters drop single series. A histogram begins again as a whole.
//!
//! Endpoints are to be one process each. Behind a balancer, every reading would look like a restart.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    gain::{Buckets, CATEGORIES_MAX, Gain, add_present},
    parts::{Gained, Parts, Sought},
    rounds::SliId,
    seen::{BySeries, Seen, Wanted},
};
use crate::{
    domain::{Selector, Sli, Text, Timestamp},
    telemetry::exposition::{Exposition, SERIES_MAX, Series},
};

/// Most series remembered of one process, those included that it no longer shows.
pub const REMEMBERED_MAX: usize = 2 * SERIES_MAX;
/// Start times closer than this, in seconds, are the same start: some runtimes compute them anew at each reading.
const START_JITTER_SECONDS: f64 = 1.5;

/// A counter's last value; `None` after one that could not be right.
type Last = Option<f64>;
/// A histogram's edges and cumulative counts as far as they were counted; `None` after what could not be right.
type LastHistogram = Option<Vec<(f64, f64)>>;
/// What each series on one page gained, or shows.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Gains {
    pub(in crate::telemetry) counters: BySeries<f64>,
    pub(in crate::telemetry) gauges: BySeries<f64>,
    pub(in crate::telemetry) histograms: BySeries<Buckets>,
}

/// One process as it was last seen.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Target {
    counters: BTreeMap<Series, Last>,
    histograms: BTreeMap<Series, LastHistogram>,
    /// The metrics that have been read before, whether or not they had series then.
    known: BTreeSet<String>,
    started: Option<f64>,
    /// Before the first reading: a process that started after this has counted all that it shows since then.
    born_after: Option<Timestamp>,
}

impl Target {
    /// A process that was not there at this time. Where its first page says that it started later, all that it shows is
    /// gained; else that page is where counting starts.
    pub(in crate::telemetry) fn born_after(time: Timestamp) -> Self {
        Self { born_after: Some(time), ..Self::default() }
    }

    /// Takes in one body, and says what each SLI gained since the last. `mine` are labels that the arm's series bear,
    /// `pods` is the label by which one page shows several pods.
    pub(in crate::telemetry) fn read(
        &mut self,
        body: &Exposition,
        wanted: &Wanted,
        mine: &BTreeMap<String, String>,
        pods: Option<&str>,
        slis: &BTreeMap<SliId, Sought>,
    ) -> BTreeMap<SliId, Gained> {
        let seen = Seen::of(body, wanted, mine);
        // What was not looked for meanwhile is not remembered: it may have changed unseen.
        self.counters.retain(|series, _| wanted.counters.contains(&series.name));
        self.histograms.retain(|series, _| wanted.histograms.contains(&series.name));
        if self.has_started_again(&seen) {
            self.counters.clear();
            self.histograms.clear();
        }
        let is_younger = |time: Timestamp| seen.started.is_some_and(|start| start * 1_000.0 > time.as_millis() as f64);
        if self.born_after.take().is_some_and(is_younger) {
            self.knows(wanted);
        }
        self.started = seen.started.or(self.started);
        let mut counters = BySeries::new();
        for (series, value) in seen.counters {
            let known = self.known.contains(&series.name);
            let gained = value.map(|value| counter_gain(self.counters.get(&series), known, value));
            self.counters.insert(series.clone(), gained.as_ref().ok().map(|(_, last)| *last));
            counters.insert(series, gained.map(|(gain, _)| gain));
        }
        let mut histograms = BySeries::new();
        for (series, now) in seen.histograms {
            let known = self.known.contains(&histogram_key(&series.name));
            let gained = now.and_then(|now| histogram_gain(self.histograms.get(&series), known, now));
            self.histograms.insert(series.clone(), gained.as_ref().ok().map(|(_, last)| last.clone()));
            histograms.insert(series, gained.map(|(gain, _)| gain));
        }
        self.knows(wanted);
        let remembered = self.counters.len() + self.histograms.len();
        if remembered > REMEMBERED_MAX {
            *self = Self::default();
            let why =
                Text::new(format!("more than {REMEMBERED_MAX} series came and went: a label holds too many values"));
            let malformed = Gained { whole: Gain::Malformed(why), parts: Parts::default() };
            return slis.keys().map(|id| (*id, malformed.clone())).collect();
        }
        let gains = Gains { counters, gauges: seen.gauges, histograms };
        let gained =
            |sought: &Sought| Gained { whole: gain(&sought.sli, &gains), parts: Parts::of_page(sought, pods, &gains) };
        slis.iter().map(|(id, sought)| (*id, gained(sought))).collect()
    }

    /// From now on a series of these metrics that was not there was born since.
    fn knows(&mut self, wanted: &Wanted) {
        self.known = wanted.counters.clone();
        self.known.extend(wanted.histograms.iter().map(|family| histogram_key(family)));
    }

    /// Whether the process has started again since the last reading, as far as two signs together can tell.
    fn has_started_again(&self, seen: &Seen) -> bool {
        let moved = match (self.started, seen.started) {
            (Some(before), Some(now)) => (now - before).abs() > START_JITTER_SECONDS,
            (_, _) => false,
        };
        let counter_fell = |(series, last): (&Series, &Last)| match (last, seen.counters.get(series)) {
            (_, None) => true,
            (Some(last), Some(Ok(now))) => now < last,
            (_, _) => false,
        };
        let histogram_fell = |(series, last): (&Series, &LastHistogram)| match (last, seen.histograms.get(series)) {
            (_, None) => true,
            (Some(last), Some(Ok(now))) => has_fallen(last, now),
            (_, _) => false,
        };
        moved && (self.counters.iter().any(counter_fell) || self.histograms.iter().any(histogram_fell))
    }
}

/// A histogram and a counter may bear the same name; what is known of one says nothing of the other.
fn histogram_key(family: &str) -> String {
    format!("{family}_bucket")
}

/// What a counter gained, and what to remember of it.
fn counter_gain(last: Option<&Last>, known: bool, now: f64) -> (f64, f64) {
    let gain = match last {
        Some(Some(last)) if now >= *last => now - last,
        // It fell: it began again at zero.
        Some(Some(_)) => now,
        // Its last value could not be right, so this one is where counting starts.
        Some(None) => 0.0,
        None if known => now,
        None => 0.0,
    };
    (gain, now)
}

fn has_fallen(last: &[(f64, f64)], now: &[(f64, f64)]) -> bool {
    last.iter().zip(now).any(|((_, last), (_, now))| now < last)
}

/// What a histogram gained by bucket, and what to remember of it: its cumulative counts as far as they were counted.
///
/// Clients raise a histogram's buckets one after the other, and a reading may fall between. What a higher bucket does
/// not show yet is left for the next reading.
fn histogram_gain(
    last: Option<&LastHistogram>,
    known: bool,
    now: Vec<(f64, f64)>,
) -> Result<(Buckets, Vec<(f64, f64)>), Text> {
    let zero = || now.iter().map(|(edge, _)| (*edge, 0.0)).collect::<Vec<_>>();
    let last = match last {
        Some(Some(last)) if !last.iter().map(|(edge, _)| edge).eq(now.iter().map(|(edge, _)| edge)) => {
            return Err(Text::new("the bucket bounds have changed"));
        }
        Some(Some(last)) if has_fallen(last, &now) => zero(),
        Some(Some(last)) => last.clone(),
        None if known => zero(),
        Some(None) | None => now.clone(),
    };
    let mut cumulative: Vec<f64> = last.iter().zip(&now).map(|((_, last), (_, now))| now - last).collect();
    let mut ceiling = f64::INFINITY;
    for gain in cumulative.iter_mut().rev() {
        ceiling = ceiling.min(*gain);
        *gain = ceiling;
    }
    let counted = last.iter().zip(&cumulative).map(|((edge, last), gain)| (*edge, last + gain)).collect();
    let below = std::iter::once(0.0).chain(cumulative.iter().copied());
    let counts = cumulative.iter().zip(below).map(|(gain, below)| gain - below).collect();
    let bounds = now.iter().map(|(edge, _)| *edge).filter(|edge| edge.is_finite()).collect();
    Ok((Buckets { bounds, counts }, counted))
}

/// What one SLI gained, from what each series gained.
fn gain(sli: &Sli, Gains { counters, gauges, histograms }: &Gains) -> Gain {
    let found = match sli {
        Sli::Ratio { bad, total } | Sli::EventsPerTraffic { events: bad, traffic: total } => {
            // A counter of errors is born at the first error: that there is none yet is a zero.
            sum(bad, counters)
                .and_then(|bad| Ok(Gain::Counts { bad: bad.unwrap_or(0.0), total: sum(total, counters)? }))
        }
        Sli::Latency { histogram, .. } => latency(histogram, histograms),
        Sli::Level { gauge } => {
            matching(gauge, gauges).try_fold(Gain::Level { sum: 0.0, series: 0 }, |mut gain, (_, value)| {
                gain.add(Gain::Level { sum: value.clone()?, series: 1 });
                Ok(gain)
            })
        }
        Sli::Mix { counter, by } => mix(by, matching(counter, counters)),
        // The page was read, so that a counter which is not on it, or stands still, is a fact and no absence.
        Sli::Liveness { series } => sum(series, counters).map(|gained| {
            let stands_still = gained.is_none_or(|gained| gained <= 0.0);
            Gain::Counts { bad: f64::from(u8::from(stands_still)), total: Some(1.0) }
        }),
        // No page says anything of a probe.
        Sli::Probe { .. } => Ok(Gain::Counts { bad: 0.0, total: None }),
    };
    found.unwrap_or_else(Gain::Malformed)
}

/// The series that are meant.
pub(in crate::telemetry) fn matching<'a, T>(
    selector: &'a Selector,
    gained: &'a BySeries<T>,
) -> impl Iterator<Item = (&'a Series, &'a Result<T, Text>)> {
    let first = Series { name: selector.metric.clone(), labels: BTreeMap::new() };
    gained
        .range(first..)
        .take_while(|(series, _)| series.name == selector.metric)
        .filter(|(series, _)| selector.accepts(&series.labels))
}

/// The sum over the series; nothing where the metric is not there.
///
/// A page of metrics is complete, so where the metric is there and only no series is meant (a route that nobody asked
/// for yet), the sum is zero. A label that no series of the metric has is another matter: it was renamed or misspelt.
fn sum(selector: &Selector, counters: &BySeries<f64>) -> Result<Option<f64>, Text> {
    let sum = matching(selector, counters)
        .try_fold(None, |sum, (_, gain)| Ok::<_, Text>(add_present(sum, Some(gain.clone()?))))?;
    Ok(sum.or(family(selector, counters)?.map(|_| 0.0)))
}

/// As [`sum`], for buckets.
fn latency(selector: &Selector, histograms: &BySeries<Buckets>) -> Result<Gain, Text> {
    let gain = matching(selector, histograms).try_fold(Gain::Histogram(None), |mut gain, (_, buckets)| {
        gain.add(Gain::Histogram(Some(buckets.clone()?)));
        Ok::<_, Text>(gain)
    })?;
    match (gain, family(selector, histograms)?) {
        (Gain::Histogram(None), Some(Ok(other))) => {
            let counts = vec![0.0; other.counts.len()];
            Ok(Gain::Histogram(Some(Buckets { bounds: other.bounds.clone(), counts })))
        }
        (gain, _) => Ok(gain),
    }
}

/// Some series of the selector's metric, whatever its labels; an error where none of them has a label that is asked for.
fn family<'a, T>(selector: &Selector, gained: &'a BySeries<T>) -> Result<Option<&'a Result<T, Text>>, Text> {
    let first = Series { name: selector.metric.clone(), labels: BTreeMap::new() };
    let of_metric = || gained.range(first.clone()..).take_while(|(series, _)| series.name == selector.metric);
    let Some((_, some)) = of_metric().next() else { return Ok(None) };
    let unknown = selector.matchers.iter().map(|matcher| &matcher.label);
    let mut unknown = unknown.filter(|label| !of_metric().any(|(series, _)| series.labels.contains_key(*label)));
    match unknown.next() {
        Some(label) => Err(Text::new(format!("no series of {} has the label {label}", selector.metric))),
        None => Ok(Some(some)),
    }
}

/// How much each category gained, from what these series gained.
pub(in crate::telemetry) fn mix<'a>(
    by: &str,
    gains: impl Iterator<Item = (&'a Series, &'a Result<f64, Text>)>,
) -> Result<Gain, Text> {
    let mut mix: Option<BTreeMap<String, f64>> = None;
    for (series, gain) in gains {
        let gain = gain.clone()?;
        let mix = mix.get_or_insert_default();
        if gain > 0.0 {
            *mix.entry(series.labels.get(by).cloned().unwrap_or_default()).or_insert(0.0) += gain;
        }
        if mix.len() > CATEGORIES_MAX {
            return Err(Text::new(format!("{by} has more than {CATEGORIES_MAX} values")));
        }
    }
    Ok(Gain::Mix(mix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_nobody_asked_for_is_zero_and_a_label_nobody_has_is_wrong() {
        let series = |labels: &[(&str, &str)]| Series {
            name: "requests".into(),
            labels: labels.iter().map(|(label, value)| ((*label).into(), (*value).into())).collect(),
        };
        let counters = BySeries::from([(series(&[("route", "/browse")]), Ok(3.0))]);
        let on = |label: &str, value: &str| {
            sum(&Selector::metric("requests").with(label, Match::Is(value.into())), &counters)
        };
        assert_eq!(on("route", "/browse"), Ok(Some(3.0)));
        assert_eq!(on("route", "/checkout"), Ok(Some(0.0)));
        assert!(on("path", "/checkout").unwrap_err().as_str().contains("label path"));
        assert_eq!(sum(&Selector::metric("other"), &counters), Ok(None));
    }
    use crate::{
        domain::{Match, Split},
        telemetry::{counting::BUCKETS_MAX, exposition::parse},
    };

    const ID: SliId = SliId(0);

    /// One process, one SLI, and the bodies it shows one after the other.
    struct Process {
        target: Target,
        sli: Sli,
    }

    impl Process {
        fn of(sli: Sli) -> Self {
            Self { target: Target::default(), sli }
        }

        fn ratio() -> Self {
            let total = Selector::metric("hits");
            Self::of(Sli::Ratio { bad: total.clone().with("code", Match::StartsWith("5".into())), total })
        }

        fn latency() -> Self {
            Self::of(Sli::Latency { histogram: Selector::metric("took"), slow_above_seconds: 0.5 })
        }

        fn shows(&mut self, body: &str) -> Gain {
            let wanted = Wanted::of([&self.sli].into_iter());
            let body = parse(format!("{body}\n").as_bytes(), |name| wanted.takes(name)).unwrap();
            let slis = BTreeMap::from([(ID, Sought { sli: self.sli.clone(), split: Split::default() })]);
            self.target.read(&body, &wanted, &BTreeMap::new(), None, &slis).remove(&ID).unwrap().whole
        }
    }

    fn counts(bad: f64, total: f64) -> Gain {
        Gain::Counts { bad, total: Some(total) }
    }

    fn buckets(bounds: &[f64], counts: &[f64]) -> Gain {
        Gain::Histogram(Some(Buckets { bounds: bounds.to_vec(), counts: counts.to_vec() }))
    }

    fn is_malformed(gain: &Gain, what: &str) -> bool {
        matches!(gain, Gain::Malformed(why) if why.as_str().contains(what))
    }

    #[test]
    fn the_first_reading_is_where_counting_starts_and_what_is_born_later_counts_whole() {
        let mut process = Process::ratio();
        assert_eq!(process.shows("hits{code=\"200\"} 100"), counts(0.0, 0.0));
        assert_eq!(process.shows("hits{code=\"200\"} 110\nhits{code=\"500\"} 3"), counts(3.0, 13.0));
        assert_eq!(process.shows("hits{code=\"200\"} 110\nhits{code=\"500\"} 3"), counts(0.0, 0.0));
    }

    #[test]
    fn a_metric_that_was_not_there_at_the_first_reading_is_born_too() {
        let mut process = Process::ratio();
        assert_eq!(process.shows("other 1"), Gain::Counts { bad: 0.0, total: None });
        assert_eq!(process.shows("hits{code=\"500\"} 4"), counts(4.0, 4.0));
    }

    #[test]
    fn a_counter_that_fell_gained_what_it_shows() {
        let mut process = Process::ratio();
        process.shows("hits{code=\"200\"} 100\nhits{code=\"500\"} 10");
        assert_eq!(process.shows("hits{code=\"200\"} 7\nhits{code=\"500\"} 12"), counts(2.0, 9.0));
    }

    #[test]
    fn a_process_that_started_again_counts_from_zero_in_every_series() {
        let mut process = Process::ratio();
        process.shows("process_start_time_seconds 1000\nhits{code=\"200\"} 100\nhits{code=\"500\"} 10");
        let again = process.shows("process_start_time_seconds 2000\nhits{code=\"200\"} 7\nhits{code=\"500\"} 12");
        assert_eq!(again, counts(12.0, 19.0));
        let vanished = process.shows("process_start_time_seconds 3000\nhits{code=\"200\"} 8");
        assert_eq!(vanished, counts(0.0, 8.0));
        assert_eq!(process.shows("hits{code=\"200\"} 8\nhits{code=\"500\"} 13"), counts(13.0, 13.0));
    }

    #[test]
    fn a_start_time_that_moves_alone_is_no_restart() {
        let mut process = Process::ratio();
        process.shows("process_start_time_seconds 1000\nhits{code=\"200\"} 100");
        assert_eq!(process.shows("process_start_time_seconds 1009\nhits{code=\"200\"} 101"), counts(0.0, 1.0));
        assert_eq!(process.shows("process_start_time_seconds 1010\nhits{code=\"200\"} 5"), counts(0.0, 5.0));
    }

    #[test]
    fn a_series_that_is_left_out_once_is_not_counted_whole_again() {
        let mut process = Process::ratio();
        process.shows("hits{code=\"200\"} 100\nhits{code=\"500\"} 10");
        assert_eq!(process.shows("hits{code=\"500\"} 10"), counts(0.0, 0.0));
        assert_eq!(process.shows("hits{code=\"200\"} 103\nhits{code=\"500\"} 10"), counts(0.0, 3.0));
    }

    #[test]
    fn what_no_counter_can_show_is_malformed_and_the_next_good_value_is_a_new_start() {
        for bad in ["NaN", "-1", "+Inf", "-Inf"] {
            let mut process = Process::ratio();
            process.shows("hits{code=\"200\"} 100");
            assert!(is_malformed(&process.shows(&format!("hits{{code=\"200\"}} {bad}")), "which is no count"), "{bad}");
            assert_eq!(process.shows("hits{code=\"200\"} 150"), counts(0.0, 0.0));
            assert_eq!(process.shows("hits{code=\"200\"} 151"), counts(0.0, 1.0));
        }
        assert!(is_malformed(&Process::ratio().shows("hits{code=\"200\"} 1\nhits{code=\"200\"} 2"), "is there twice"));
        assert!(is_malformed(&Process::ratio().shows("# TYPE hits gauge\nhits{code=\"200\"} 1"), "declared a gauge"));
    }

    #[test]
    fn a_bad_series_that_no_check_reads_does_no_harm() {
        let mut process = Process::ratio();
        process.sli = process.sli.narrowed("route", &Match::Is("/pay".into()));
        process.shows("hits{route=\"/pay\",code=\"200\"} 1\nhits{route=\"/x\"} NaN");
        assert_eq!(process.shows("hits{route=\"/pay\",code=\"200\"} 3\nhits{route=\"/x\"} -1"), counts(0.0, 2.0));
    }

    fn histogram(fast: f64, slow: f64, all: f64) -> String {
        format!("took_bucket{{le=\"0.5\"}} {fast}\ntook_bucket{{le=\"1\"}} {slow}\ntook_bucket{{le=\"+Inf\"}} {all}")
    }

    #[test]
    fn buckets_are_taken_apart_and_a_histogram_begins_again_as_a_whole() {
        let mut process = Process::latency();
        assert_eq!(process.shows(&histogram(2.0, 10.0, 100.0)), buckets(&[0.5, 1.0], &[0.0, 0.0, 0.0]));
        assert_eq!(process.shows(&histogram(5.0, 14.0, 110.0)), buckets(&[0.5, 1.0], &[3.0, 1.0, 6.0]));
        let again = process.shows(&histogram(20.0, 20.0, 21.0));
        assert_eq!(
            again,
            buckets(&[0.5, 1.0], &[20.0, 0.0, 1.0]),
            "the first bucket did not fall, and is new all the same"
        );
    }

    #[test]
    fn a_reading_in_the_middle_of_an_observation_is_made_good_by_the_next() {
        let mut process = Process::latency();
        process.shows(&histogram(5.0, 6.0, 6.0));
        let middle = process.shows(&histogram(6.0, 6.0, 6.0));
        assert_eq!(middle, buckets(&[0.5, 1.0], &[0.0, 0.0, 0.0]));
        assert_eq!(process.shows(&histogram(6.0, 7.0, 7.0)), buckets(&[0.5, 1.0], &[1.0, 0.0, 0.0]));
    }

    #[test]
    fn histograms_of_several_series_are_added_when_their_bounds_agree() {
        let mut process = Process::latency();
        process.shows("nothing 1");
        let two = "took_bucket{r=\"a\",le=\"1\"} 1\ntook_bucket{r=\"a\",le=\"+Inf\"} 2\n\
                   took_bucket{r=\"b\",le=\"1.0\"} 4\ntook_count{r=\"b\"} 4";
        assert_eq!(process.shows(two), buckets(&[1.0], &[5.0, 1.0]), "a count stands for a missing +Inf");
        let other = two.replace("1.0", "2.0");
        assert!(is_malformed(&process.shows(&other), "bounds have changed"));
        assert!(is_malformed(&process.shows(&other), "bounds differ"));
    }

    #[test]
    fn a_histogram_that_cannot_be_right_is_malformed() {
        for (body, what) in [
            (histogram(5.0, 4.0, 6.0), "more at or below 0.5"),
            (histogram(1.0, 2.0, f64::NAN), "NaN in a bucket"),
            ("took_bucket{le=\"1\"} 1".into(), "neither a +Inf bucket nor a count"),
            ("took_bucket{le=\"1\"} 1\ntook_bucket{le=\"1.0\"} 1\ntook_count 2".into(), "two buckets for 1"),
            ("took_bucket{le=\"x\"} 1\ntook_count 2".into(), "without a bound"),
            ("took_bucket 1\ntook_count 2".into(), "without a bound"),
            ("took_bucket{le=\"NaN\"} 1\ntook_count 2".into(), "without a bound"),
        ] {
            assert!(is_malformed(&Process::latency().shows(&body), what), "{body}");
        }
        assert_eq!(Process::latency().shows("took_sum 3\ntook_count 2"), Gain::Histogram(None));
    }

    #[test]
    fn the_number_of_buckets_has_a_limit() {
        let body = |n: usize| {
            let finite: String = (1..n).map(|i| format!("took_bucket{{le=\"{i}\"}} 1\n")).collect();
            format!("{finite}took_bucket{{le=\"+Inf\"}} 1")
        };
        assert!(matches!(Process::latency().shows(&body(BUCKETS_MAX)), Gain::Histogram(Some(_))));
        assert!(is_malformed(&Process::latency().shows(&body(BUCKETS_MAX + 1)), "more than 256 buckets"));
    }

    #[test]
    fn a_label_that_never_stops_changing_does_not_fill_the_memory() {
        let mut process = Process::ratio();
        let body = |from: usize, n: usize| {
            (from..from + n).map(|i| format!("hits{{id=\"{i}\",code=\"200\"}} 1\n")).collect::<String>()
        };
        process.shows(&body(0, SERIES_MAX));
        assert_eq!(process.shows(&body(SERIES_MAX, SERIES_MAX)), counts(0.0, SERIES_MAX as f64));
        assert!(is_malformed(&process.shows(&body(2 * SERIES_MAX, 1)), "came and went"));
        assert_eq!(process.shows("hits{code=\"200\"} 5"), counts(0.0, 0.0), "counting starts anew");
    }

    #[test]
    fn a_mix_counts_by_category_and_a_level_is_a_sum_over_series() {
        let mut mix = Process::of(Sli::Mix { counter: Selector::metric("hits"), by: "code".into() });
        mix.shows("hits{code=\"200\",r=\"a\"} 1\nhits{code=\"200\",r=\"b\"} 1\nhits 5");
        let gained =
            mix.shows("hits{code=\"200\",r=\"a\"} 3\nhits{code=\"200\",r=\"b\"} 2\nhits{code=\"404\"} 1\nhits 5");
        assert_eq!(gained, Gain::Mix(Some(BTreeMap::from([("200".into(), 3.0), ("404".into(), 1.0)]))));
        let mut level = Process::of(Sli::Level { gauge: Selector::metric("load") });
        assert_eq!(level.shows("load{cpu=\"0\"} 0.5\nload{cpu=\"1\"} -0.25"), Gain::Level { sum: 0.25, series: 2 });
        assert!(is_malformed(&level.shows("load NaN"), "which is no level"));
        assert!(is_malformed(&level.shows("# TYPE load counter\nload 1"), "declared a counter"));
    }

    #[test]
    fn an_arm_sees_only_the_series_that_bear_its_labels() {
        let sli = Process::ratio().sli;
        let (wanted, slis) = (
            Wanted::of([&sli].into_iter()),
            BTreeMap::from([(ID, Sought { sli: sli.clone(), split: Split::default() })]),
        );
        let mine = BTreeMap::from([("version".to_owned(), "new".to_owned())]);
        let mut target = Target::default();
        let mut shows =
            |body: &[u8]| target.read(&parse(body, |_| true).unwrap(), &wanted, &mine, None, &slis)[&ID].whole.clone();
        shows(b"hits{version=\"new\",code=\"200\"} 1\nhits{version=\"old\"} 1\nhits 7\n");
        assert_eq!(
            shows(b"hits{version=\"new\",code=\"200\"} 3\nhits{version=\"old\"} 100\nhits 900\n"),
            counts(0.0, 2.0)
        );
    }
}
