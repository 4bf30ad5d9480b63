//! What control's pages showed lately: every value of every series, with hard limits on how much that may be.
//!
//! The values are kept as they were shown, and not as rates, so that an SLI which nobody had thought of before can still
//! be counted over them exactly as rounds count (see `replay`). A series' labels are kept once for all processes that
//! show it.
//!
//! Two hours of 5,000 metrics of 20 processes at one reading in 30 seconds, a tenth of them fractions that never stand
//! still, take some 75 MiB; a test that is left out by default measures it.
//!
//! # When there is too much
//! Whole metrics are left out, those with the most series first: they are the ones that a label with too many values blew
//! up, and half of a metric's series would give wrong sums. What is left out is not taken up again for as long as the
//! past reaches, so that it does not come and go. The source is never asked more often, or less often, for that.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{column::Column, seen::START_METRIC};
use crate::{
    domain::{Text, Timestamp},
    telemetry::{
        Error,
        exposition::{Exposition, Kind, Series},
    },
};

/// Most metrics of one service whose past is kept, each part of a histogram by itself.
pub const METRICS_KEPT_MAX: usize = 20_000;
/// Most series, those of each process by themselves.
pub const SERIES_KEPT_MAX: usize = 200_000;
/// Most values.
pub const SAMPLES_KEPT_MAX: usize = 100_000_000;
/// Most bytes, labels included.
pub const BYTES_KEPT_MAX: usize = 96 * 1024 * 1024;
/// Most bytes of all services together; each may have an equal part of it.
pub const ALL_BYTES_KEPT_MAX: usize = 512 * 1024 * 1024;
/// Most readings of one process.
pub const READINGS_KEPT_MAX: usize = 1_440;
/// Most metrics that are remembered as left out; beyond it no new metric is taken up.
pub const LEFT_OUT_MAX: usize = 20_000;
/// Columns are shortened once in so many rounds: each time costs a look at all of them.
const ROUNDS_BETWEEN_SWEEPS: u32 = 16;
/// Cannot be in a label, for it is in no UTF-8 text.
const BETWEEN: u8 = 0xff;
/// Bytes of a node of a map and its allocation, roughly, for each series and each metric.
const SERIES_OVERHEAD: usize = 64;
const FAMILY_OVERHEAD: usize = 600;

/// How much may be kept.
#[derive(Clone, Copy, Debug)]
pub(in crate::telemetry) struct Limits {
    pub(in crate::telemetry) metrics: usize,
    pub(in crate::telemetry) series: usize,
    pub(in crate::telemetry) samples: usize,
    pub(in crate::telemetry) bytes: usize,
}

impl Limits {
    /// For one of so many services.
    pub(in crate::telemetry) fn of_one_among(services: usize) -> Self {
        Self { bytes: BYTES_KEPT_MAX.min(ALL_BYTES_KEPT_MAX / services.max(1)), ..Self::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { metrics: METRICS_KEPT_MAX, series: SERIES_KEPT_MAX, samples: SAMPLES_KEPT_MAX, bytes: BYTES_KEPT_MAX }
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::telemetry) struct Held {
    pub(in crate::telemetry) series: usize,
    pub(in crate::telemetry) samples: usize,
    pub(in crate::telemetry) bytes: usize,
}

/// One metric by the name it is exposed by.
#[derive(Clone, Debug)]
pub(in crate::telemetry) struct Family {
    pub(in crate::telemetry) kind: Kind,
    pub(in crate::telemetry) help: Text,
    /// By packed labels: the processes that show the series, and what each showed.
    pub(in crate::telemetry) series: BTreeMap<Box<[u8]>, Vec<(u16, Column)>>,
}

impl Family {
    fn held(&self) -> Held {
        let mut held = Held { bytes: FAMILY_OVERHEAD + self.help.as_str().len(), ..Held::default() };
        for (labels, columns) in &self.series {
            held.series += columns.len();
            held.samples += columns.iter().map(|(_, column)| column.len()).sum::<usize>();
            let columns = columns.iter().map(|(_, column)| column.size() + size_of::<usize>()).sum::<usize>();
            held.bytes += SERIES_OVERHEAD + labels.len() + columns;
        }
        held
    }
}

/// One process.
#[derive(Clone, Debug)]
pub(in crate::telemetry) struct Process {
    pub(in crate::telemetry) url: String,
    /// For each round that is kept: the number of its reading, or why there was none.
    pub(in crate::telemetry) rounds: VecDeque<Result<u32, Error>>,
    readings: u32,
}

impl Process {
    /// The oldest reading that is kept, or the next where none is.
    fn oldest(&self) -> u32 {
        self.rounds.iter().flatten().next().copied().unwrap_or(self.readings)
    }
}

/// What one service's control showed.
#[derive(Clone, Debug)]
pub(in crate::telemetry) struct Ring {
    labels: BTreeMap<String, String>,
    /// What each process is called where it is a pod of its own.
    names: BTreeMap<String, Text>,
    limits: Limits,
    reach: Duration,
    pub(in crate::telemetry) rounds: VecDeque<Timestamp>,
    pub(in crate::telemetry) processes: Vec<Process>,
    pub(in crate::telemetry) families: BTreeMap<String, Family>,
    left_out: BTreeMap<String, Timestamp>,
    series: usize,
    since_sweep: u32,
    /// Whether the newest round is not over.
    is_open: bool,
    /// Whether what the index says of metrics may have changed.
    pub(in crate::telemetry) has_changed: bool,
}

impl Ring {
    /// For the pages at `urls`, of which series with these labels are control's.
    pub(in crate::telemetry) fn new(
        urls: Vec<String>,
        labels: BTreeMap<String, String>,
        reach: Duration,
        limits: Limits,
    ) -> Self {
        let process = |url| Process { url, rounds: VecDeque::new(), readings: 0 };
        Self {
            labels,
            names: BTreeMap::new(),
            limits,
            reach,
            rounds: VecDeque::new(),
            processes: urls.into_iter().map(process).collect(),
            families: BTreeMap::new(),
            left_out: BTreeMap::new(),
            series: 0,
            since_sweep: 0,
            is_open: false,
            has_changed: false,
        }
    }

    /// The same, with each process a pod of this name.
    pub(in crate::telemetry) fn named(self, names: BTreeMap<String, Text>) -> Self {
        Self { names, ..self }
    }

    /// What each process is called where it is a pod of its own.
    pub(in crate::telemetry) fn names(&self) -> &BTreeMap<String, Text> {
        &self.names
    }

    /// The labels that control's series bear.
    pub(in crate::telemetry) fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Begins a round; its time is later than every one before, though the clock be set back.
    pub(in crate::telemetry) fn begin(&mut self, now: Timestamp) -> Timestamp {
        let time = self.rounds.back().map_or(now, |newest| now.max(*newest + Duration::from_millis(1)));
        self.rounds.push_back(time);
        self.is_open = true;
        time
    }

    /// Takes in what one page showed in the round that was begun; each page is told once a round.
    pub(in crate::telemetry) fn take_in(&mut self, url: &str, page: Result<&Exposition, &Error>) {
        let Some(at) = self.processes.iter().position(|process| process.url == url) else { return };
        let Some(process) = self.processes.get_mut(at) else { return };
        let body = match page {
            Ok(body) => body,
            Err(error) => return process.rounds.push_back(Err(error.clone())),
        };
        let reading = process.readings;
        process.readings = process.readings.saturating_add(1);
        process.rounds.push_back(Ok(reading));
        let (at, mut packed) = (u16::try_from(at).unwrap_or(u16::MAX), Vec::new());
        let mut twice = Vec::new();
        for (series, value) in &body.samples {
            let kind = body.kind(&series.name);
            if is_worth_keeping(&series.name, kind) && self.is_mine(series) {
                pack(series, &mut packed);
                if !self.put(series, kind, body.help(&series.name), &packed, (at, reading, *value)) {
                    twice.push(series.name.clone());
                }
            }
        }
        twice.into_iter().for_each(|name| self.leave_out(name));
        if self.series > self.limits.series || self.families.len() > self.limits.metrics {
            self.hold_limits();
        }
    }

    /// The process is the same whichever arm's series it shows, so its start bears no label of an arm.
    fn is_mine(&self, series: &Series) -> bool {
        let bears = |(label, value): (&String, &String)| series.labels.get(label).map_or("", String::as_str) == value;
        series.name == START_METRIC || self.labels.iter().all(bears)
    }

    /// Puts one value; `false` where the series is there twice.
    fn put(
        &mut self,
        series: &Series,
        kind: Kind,
        help: Option<&Text>,
        packed: &[u8],
        (process, reading, value): (u16, u32, f64),
    ) -> bool {
        if !self.families.contains_key(&series.name) {
            if self.left_out.contains_key(&series.name) || self.left_out.len() >= LEFT_OUT_MAX {
                return true;
            }
            let family = Family { kind, help: help.cloned().unwrap_or_default(), series: BTreeMap::new() };
            self.families.insert(series.name.clone(), family);
        }
        let Some(family) = self.families.get_mut(&series.name) else { return true };
        self.has_changed |= family.kind != kind;
        family.kind = kind;
        if !family.series.contains_key(packed) {
            family.series.insert(packed.into(), Vec::with_capacity(1));
        }
        let Some(columns) = family.series.get_mut(packed) else { return true };
        let at = match columns.binary_search_by_key(&process, |(of, _)| *of) {
            Ok(at) => at,
            Err(at) => {
                columns.reserve_exact(1);
                // What was not there at the readings before is told by where it begins.
                columns.insert(at, (process, Column::starting_at(reading)));
                self.series += 1;
                self.has_changed = true;
                at
            }
        };
        match columns.get_mut(at) {
            Some((_, column)) if column.next() <= reading => column.put(reading, value),
            Some(_) => return false,
            None => {}
        }
        true
    }

    fn leave_out(&mut self, name: String) {
        if let Some(family) = self.families.remove(&name) {
            self.series = self.series.saturating_sub(family.series.values().map(Vec::len).sum());
            self.has_changed = true;
            let now = self.rounds.back().copied().unwrap_or_default();
            self.left_out.insert(name, now);
        }
    }

    /// Ends a round: forgets what is older than the reach, and keeps to the limits.
    pub(in crate::telemetry) fn end(&mut self) {
        let Some(now) = self.rounds.back().copied() else { return };
        self.is_open = false;
        let rounds = self.rounds.len();
        for process in &mut self.processes {
            if process.rounds.len() < rounds {
                process.rounds.push_back(Err(Error::Unavailable(Text::new("the page was not read"))));
            }
        }
        while self.rounds.len() > READINGS_KEPT_MAX || self.rounds.front().is_some_and(|time| *time < now - self.reach)
        {
            self.rounds.pop_front();
            self.processes.iter_mut().for_each(|process| drop(process.rounds.pop_front()));
        }
        self.since_sweep += 1;
        if self.since_sweep >= ROUNDS_BETWEEN_SWEEPS {
            self.since_sweep = 0;
            self.sweep(now);
        }
        self.hold_limits();
    }

    /// Shortens the columns to what is kept, and forgets series that are not in it.
    fn sweep(&mut self, now: Timestamp) {
        let oldest: Vec<u32> = self.processes.iter().map(Process::oldest).collect();
        let before = (self.series, self.families.len());
        for family in self.families.values_mut() {
            family.series.retain(|_, columns| {
                columns.retain_mut(|(process, column)| {
                    column.forget_before(oldest.get(usize::from(*process)).copied().unwrap_or_default());
                    !column.is_empty()
                });
                !columns.is_empty()
            });
        }
        self.families.retain(|_, family| !family.series.is_empty());
        self.series = self.families.values().flat_map(|family| family.series.values()).map(Vec::len).sum();
        let reach = self.reach;
        self.left_out.retain(|_, since| now.since(*since) <= reach);
        self.has_changed |= before != (self.series, self.families.len());
    }

    fn hold_limits(&mut self) {
        let mut held = self.held();
        let is_within = |held: &Held, metrics: usize, limits: &Limits| {
            metrics <= limits.metrics
                && held.series <= limits.series
                && held.samples <= limits.samples
                && held.bytes <= limits.bytes
        };
        if is_within(&held, self.families.len(), &self.limits) {
            return;
        }
        let mut largest: Vec<(Held, String)> =
            self.families.iter().map(|(name, family)| (family.held(), name.clone())).collect();
        // The last one goes first: the one with the most series, of equal ones the one with the most bytes.
        largest.sort_by(|(one, name), (other, other_name)| {
            (one.series, one.bytes, name).cmp(&(other.series, other.bytes, other_name))
        });
        while !is_within(&held, self.families.len(), &self.limits) {
            let Some((of, name)) = largest.pop() else { return };
            tracing::warn!(metric = %Text::new(&name), series = of.series, "too much is shown to keep the past of all: left out");
            held.series -= of.series;
            held.samples -= of.samples;
            held.bytes -= of.bytes;
            self.leave_out(name);
        }
    }

    /// How many rounds are over, the oldest first.
    pub(in crate::telemetry) fn rounds_done(&self) -> usize {
        self.rounds.len().saturating_sub(usize::from(self.is_open))
    }

    /// How much is kept.
    pub(in crate::telemetry) fn held(&self) -> Held {
        self.families.values().map(Family::held).fold(Held::default(), |sum, of| Held {
            series: sum.series + of.series,
            samples: sum.samples + of.samples,
            bytes: sum.bytes + of.bytes,
        })
    }

    /// Whether some metric is left out.
    pub(in crate::telemetry) fn is_cut(&self) -> bool {
        !self.left_out.is_empty()
    }

    /// Whether a metric is left out whose name is meant.
    pub(in crate::telemetry) fn leaves_out(&self, is_meant: impl Fn(&str) -> bool) -> bool {
        self.left_out.keys().any(|name| is_meant(name))
    }
}

/// Whether some SLI could ask for it: sums and quantiles are neither counts nor levels.
fn is_worth_keeping(name: &str, kind: Kind) -> bool {
    match kind {
        Kind::Counter | Kind::Gauge | Kind::Untyped => true,
        Kind::Histogram => name.ends_with("_bucket") || name.ends_with("_count"),
        Kind::Summary => name.ends_with("_count"),
    }
}

/// Labels as one piece of bytes: names and values in turn.
fn pack(series: &Series, into: &mut Vec<u8>) {
    into.clear();
    for (label, value) in &series.labels {
        for word in [label, value] {
            into.extend_from_slice(word.as_bytes());
            into.push(BETWEEN);
        }
    }
}

/// The labels that were packed: name and value.
pub(in crate::telemetry) fn unpack(packed: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let mut words = packed.split(|byte| *byte == BETWEEN).map(|word| std::str::from_utf8(word).unwrap_or_default());
    std::iter::from_fn(move || Some((words.next()?, words.next()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Match, Selector, Sli, Split},
        telemetry::{counting::replay::Extract, exposition::parse},
    };

    const REACH: Duration = Duration::from_secs(3_600);
    const URL: &str = "http://a:1/metrics";

    fn ring(limits: Limits) -> Ring {
        Ring::new(vec![URL.into()], BTreeMap::new(), REACH, limits)
    }

    fn show(ring: &mut Ring, seconds: u64, body: &str) {
        ring.begin(Timestamp::from_millis(seconds * 1_000));
        ring.take_in(URL, Ok(&parse(body.as_bytes(), |_| true).unwrap()));
        ring.end();
    }

    fn names(ring: &Ring) -> Vec<&str> {
        ring.families.keys().map(String::as_str).collect()
    }

    #[test]
    fn sums_and_quantiles_are_not_kept_and_labels_come_back() {
        let mut ring = ring(Limits::default());
        let body = "# TYPE t histogram\nt_bucket{le=\"+Inf\",r=\"/a\\n\"} 1\nt_sum 2\nt_count 1\n# TYPE s summary\n\
                    s{quantile=\"0.5\"} 1\ns_sum 1\ns_count 1\n# TYPE g gauge\ng 1\nu 1\n";
        show(&mut ring, 1, body);
        assert_eq!(names(&ring), ["g", "s_count", "t_bucket", "t_count", "u"]);
        let packed = ring.families["t_bucket"].series.keys().next().unwrap();
        assert_eq!(unpack(packed).collect::<Vec<_>>(), [("le", "+Inf"), ("r", "/a\n")]);
        assert_eq!(unpack(&[]).count(), 0);
    }

    #[test]
    fn only_series_with_the_arms_labels_are_kept_and_the_start_of_the_process() {
        let mine = BTreeMap::from([("v".to_owned(), "old".to_owned())]);
        let mut ring = Ring::new(vec![URL.into()], mine, REACH, Limits::default());
        show(&mut ring, 1, "a{v=\"old\"} 1\nb{v=\"new\"} 1\nc 1\nprocess_start_time_seconds 5\n");
        assert_eq!(names(&ring), ["a", "process_start_time_seconds"]);
    }

    const TWO: &str = "a 1\nb{x=\"1\"} 1\nb{x=\"2\"} 1\n";

    #[test]
    fn each_limit_holds_at_its_edge_and_the_metric_with_most_series_goes_first() {
        let mut free = ring(Limits::default());
        show(&mut free, 1, TWO);
        let held = free.held();
        assert_eq!((held.series, held.samples), (3, 3));
        let all = Limits { metrics: 2, series: 3, samples: 3, bytes: held.bytes };
        for (limits, kept) in [
            (all, vec!["a", "b"]),
            (Limits { metrics: 1, ..all }, vec!["a"]),
            (Limits { series: 2, ..all }, vec!["a"]),
            (Limits { samples: 2, ..all }, vec!["a"]),
            (Limits { bytes: held.bytes - 1, ..all }, vec!["a"]),
        ] {
            let mut ring = ring(limits);
            show(&mut ring, 1, TWO);
            assert_eq!((names(&ring), ring.is_cut()), (kept.clone(), kept.len() == 1), "{limits:?}");
            assert_eq!(ring.leaves_out(|name| name == "b"), kept.len() == 1);
        }
    }

    #[test]
    fn services_share_what_all_of_them_may_keep() {
        let bytes = |services| Limits::of_one_among(services).bytes;
        assert_eq!((bytes(0), bytes(1), bytes(5)), (BYTES_KEPT_MAX, BYTES_KEPT_MAX, BYTES_KEPT_MAX));
        assert_eq!(bytes(64), ALL_BYTES_KEPT_MAX / 64);
    }

    #[test]
    fn what_is_left_out_stays_out_for_as_long_as_the_past_reaches() {
        let mut ring = ring(Limits { series: 2, ..Limits::default() });
        show(&mut ring, 0, TWO);
        for minute in 1..=60 {
            show(&mut ring, minute * 60, "a 1\nb{x=\"1\"} 1\n");
            assert_eq!(names(&ring), ["a"], "minute {minute}");
        }
        for minute in 61..=80 {
            show(&mut ring, minute * 60, "a 1\nb{x=\"1\"} 1\n");
        }
        assert_eq!((names(&ring), ring.is_cut()), (vec!["a", "b"], false));
    }

    #[test]
    fn no_new_metric_is_taken_up_when_too_many_are_left_out() {
        let mut ring = ring(Limits::default());
        for n in 0..LEFT_OUT_MAX {
            ring.left_out.insert(format!("m{n}"), Timestamp::EPOCH);
            if n + 2 == LEFT_OUT_MAX {
                show(&mut ring, 1, "a 1\n");
            }
        }
        show(&mut ring, 2, "a 1\nb 1\n");
        assert_eq!(names(&ring), ["a"]);
    }

    #[test]
    fn a_series_that_is_there_twice_leaves_its_metric_out() {
        let mut ring = ring(Limits::default());
        show(&mut ring, 1, "a 1\na 2\nb 1\n");
        assert_eq!((names(&ring), ring.is_cut(), ring.held().series), (vec!["b"], true, 1));
    }

    #[test]
    fn what_is_older_than_the_reach_is_forgotten_with_the_series_that_are_not_shown_any_more() {
        let mut ring = ring(Limits::default());
        show(&mut ring, 0, "a 1\nb 1\n");
        for minute in 1..=200 {
            show(&mut ring, minute * 60, "a 1\n");
        }
        assert_eq!(names(&ring), ["a"]);
        assert_eq!(ring.rounds.len(), 61);
        let column = &ring.families["a"].series.values().next().unwrap()[0].1;
        assert!((61..=61 + ROUNDS_BETWEEN_SWEEPS as usize).contains(&column.len()), "{}", column.len());
    }

    #[test]
    fn the_number_of_readings_has_a_limit() {
        let mut ring = ring(Limits::default());
        for seconds in 0..=READINGS_KEPT_MAX as u64 {
            assert_eq!(ring.rounds.len() as u64, seconds);
            show(&mut ring, seconds, "a 1\n");
        }
        assert_eq!(ring.rounds.len(), READINGS_KEPT_MAX);
        assert_eq!(ring.processes[0].rounds.len(), READINGS_KEPT_MAX);
    }

    /// Memory goes by the series, so that a part of the metrics tells what all of them take.
    #[test]
    fn two_hours_of_5000_metrics_of_20_processes_fit() {
        const METRICS: u64 = 5_000 / PART;
        const PART: u64 = 100;
        let urls: Vec<String> = (0..20).map(|n| format!("http://10.0.0.{n}:9100/metrics")).collect();
        let mut ring = Ring::new(urls.clone(), BTreeMap::new(), 2 * REACH, Limits::default());
        for round in 0..=240_u64 {
            ring.begin(Timestamp::from_millis(round * 30_000));
            for (pod, url) in (0_u64..).zip(&urls) {
                let samples = (0..METRICS).map(|n| {
                    let series = Series {
                        name: format!("shop_subsystem_metric_{n:0>4}_total"),
                        labels: BTreeMap::from([("code".to_owned(), "200".to_owned())]),
                    };
                    let value = match n % 10 {
                        // Most stand still, some rise by a little, some by much, and some are fractions.
                        0..6 => n as f64,
                        6 | 7 => (round * (1 + (n + pod) % 90)) as f64,
                        8 => (round * (1_000 + n * pod)) as f64,
                        _ => (round as f64 * 1.37 + n as f64 * pod as f64).sin() * 1_000.0,
                    };
                    (series, value)
                });
                ring.take_in(url, Ok(&Exposition::of(samples.collect(), BTreeMap::new())));
            }
            ring.end();
        }
        let held = ring.held();
        println!("{} series, {} samples, {} bytes", held.series, held.samples, held.bytes);
        let total = Selector::metric("shop_subsystem_metric_0007_total");
        let sli = Sli::Ratio { bad: total.clone().with("code", Match::Is("500".into())), total };
        let past =
            Extract::of(&ring, (sli, Split::default()), None, 2 * REACH).unwrap().replay(Duration::from_secs(30));
        assert!(past.unwrap().blocks.len() >= 239);
        assert!(!ring.is_cut() && held.series == 20 * METRICS as usize);
        assert!(held.bytes * PART as usize <= BYTES_KEPT_MAX, "{} bytes", held.bytes);
    }
}
