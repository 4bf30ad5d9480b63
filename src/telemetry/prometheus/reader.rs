//! Reads one pair of arms, round after round on the grid, as far as it is asked for.
//!
//! What it remembers can be read again: an ask for a window that begins before what was read, or for an SLI that was not
//! looked for, begins anew `lookback` before that window. Nothing is taken in before all that a stretch of rounds needs
//! has been answered, so reading may be broken off at any moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::try_join_all;

use super::{
    Service,
    pages::{Arm, Pages},
    query::{Form, Selection, compile},
    reply::{Row, malformed, unavailable},
    server::Server,
};
use crate::{
    domain::{Absence, Sli, Text, Timestamp},
    telemetry::{
        Answer, Ask, AskedCheck,
        counting::{
            arm::{ArmState, Leaving},
            pair::Pair,
            parts::Sought,
            rounds::{Patience, ROUNDS_MAX, SliId},
            seen::{START_METRIC, Wanted},
        },
    },
};

/// Most rounds that are read at once.
const SPAN_ROUNDS: u32 = 120;
/// How long rounds are kept, and an SLI is looked for after it was last asked for.
const KEEP: Duration = Duration::from_secs(24 * 3_600);
/// Least time between two values that the server counts.
const ESTIMATE_STEP_MIN: Duration = Duration::from_secs(60);
/// Least samples in a step that the server counts.
const ESTIMATE_SAMPLES_MIN: u32 = 4;

/// The last grid point at or before a time.
pub(super) fn grid_before(time: Timestamp, interval: Duration) -> Timestamp {
    let step = step(interval);
    Timestamp::from_millis(time.as_millis() / step * step)
}

/// The first grid point at or after a time.
pub(super) fn grid_after(time: Timestamp, interval: Duration) -> Timestamp {
    let step = step(interval);
    Timestamp::from_millis(time.as_millis().div_ceil(step) * step)
}

fn step(interval: Duration) -> u64 {
    u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The series of a metric that are of one of these arms, which bear the same labels.
pub(super) fn selection(metric: Option<&str>, arms: &[BTreeMap<String, String>]) -> Selection {
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (label, value) in arms.iter().flatten() {
        labels.entry(label.clone()).or_default().insert(value.clone());
    }
    Selection { metric: metric.map(str::to_owned), labels }
}

/// How one metric is read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Metric {
    /// The name that its series bear.
    name: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    /// The buckets of a classic histogram; where there are none, there may be a native one.
    Buckets,
    /// When processes started.
    Start,
}

/// By how much the series of one metric rose so far, as the server counted it.
type Risen = BTreeMap<Labels, f64>;

/// The labels of one series.
type Labels = BTreeMap<String, String>;

/// What was counted.
struct Counted {
    pair: Pair,
    sought: Vec<(Sought, Timestamp)>,
    /// Windows that begin no earlier than this can be told.
    tells_from: Timestamp,
    begun: Timestamp,
    through: Timestamp,
    skew: i64,
    risen: BTreeMap<String, Risen>,
    /// What was read beyond `through` and is not taken in yet; nothing where time has not gone on from there.
    ahead: Option<Ahead>,
}

/// Samples of both arms that were read up to a time.
struct Ahead {
    control: Pages,
    canary: Pages,
    end: Timestamp,
}

impl Counted {
    /// Takes in the rounds up to `through`, and keeps what was read beyond.
    fn take_in(&mut self, mut ahead: Ahead, through: Timestamp, interval: Duration) {
        while self.through < ahead.end.min(through) {
            let time = self.through + interval;
            let due = self.pair.due(time);
            self.pair.feed(&due, &ahead.control.through(time), &ahead.canary.through(time), KEEP);
            self.through = time;
        }
        self.ahead = (ahead.end > self.through).then_some(ahead);
    }
}

/// Why reading did not get on.
enum Stop {
    Absent(Absence),
    /// A metric has too many series to be read raw.
    TooMany(String),
}

impl From<Absence> for Stop {
    fn from(why: Absence) -> Self {
        Self::Absent(why)
    }
}

/// Reads one pair of arms.
pub(super) struct Reader {
    server: Arc<Server>,
    service: Service,
    arms: [BTreeMap<String, String>; 2],
    /// Metrics that the server counts, as they have too many series.
    estimated: BTreeSet<String>,
    counted: Option<Counted>,
    /// Why the last look failed, or is not over.
    failed: Option<Absence>,
}

impl Reader {
    pub(super) fn new(server: Arc<Server>, service: Service, arms: [BTreeMap<String, String>; 2]) -> Self {
        Self { server, service, arms, estimated: BTreeSet::new(), counted: None, failed: None }
    }

    /// Reads the rounds through this point of the grid, so that the ask can be answered.
    pub(super) async fn advance(&mut self, ask: &Ask, through: Timestamp) -> Result<(), Absence> {
        self.advance_within(ask, through, through).await
    }

    /// As [`Self::advance`], of a past that is settled up to `settled`, a point of the grid: as much of it as makes one
    /// answer may be asked for at once, though no more of it is taken in than up to `through`.
    pub(super) async fn advance_within(
        &mut self,
        ask: &Ask,
        through: Timestamp,
        settled: Timestamp,
    ) -> Result<(), Absence> {
        // What is said where this is broken off.
        self.failed.get_or_insert_with(|| unavailable("the server did not answer in time".into()));
        let result = self.try_advance(ask, through, settled).await;
        self.failed = result.as_ref().err().cloned();
        result
    }

    async fn try_advance(&mut self, ask: &Ask, through: Timestamp, settled: Timestamp) -> Result<(), Absence> {
        loop {
            let skew = self.server.skew().await?;
            if !self.tells(ask, skew) {
                self.begin(ask, skew);
            }
            self.ids(ask)?;
            match self.read(through, settled).await {
                Ok(()) => return Ok(()),
                Err(Stop::Absent(why)) => return Err(why),
                Err(Stop::TooMany(metric)) => {
                    tracing::warn!(metric = %Text::new(&metric), "too many series to read them raw: the server counts them");
                    self.estimated.insert(metric);
                    self.counted = None;
                }
            }
        }
    }

    /// The answer, once there is one.
    pub(super) fn answer(&mut self, ask: &Ask) -> Option<Answer> {
        self.told(ask, Patience::Left)
    }

    /// The answer when there is no time for another look, of which the last one may have failed.
    pub(super) fn last_word(&mut self, ask: &Ask, failed: Option<Absence>) -> Answer {
        let answer = self.told(ask, Patience::Over);
        match (answer, failed) {
            (Some(answer), None) => answer,
            (Some(answer), Some(_)) if answer.through > ask.after => answer,
            (_, Some(why)) => Answer::absent(ask, &why),
            (None, None) => Answer::absent(ask, &unavailable("the server did not answer in time".into())),
        }
    }

    /// The answer when the deadline came, perhaps while the server was being read.
    pub(super) fn cut_off(&mut self, ask: &Ask) -> Answer {
        self.last_word(ask, self.failed.clone())
    }

    fn told(&mut self, ask: &Ask, patience: Patience) -> Option<Answer> {
        let skew = self.counted.as_ref()?.skew;
        if !self.tells(ask, skew) {
            return None;
        }
        let ids = self.ids(ask).ok()?;
        let mut answer = self.counted.as_ref()?.pair.answer(ask, &ids, patience)?;
        for measurement in &mut answer.measurements {
            let asked = ask.checks.iter().find(|asked| asked.check == measurement.check);
            measurement.estimated = asked.is_some_and(|asked| self.is_estimated(&asked.sli));
        }
        Some(answer)
    }

    fn is_estimated(&self, sli: &Sli) -> bool {
        metrics([sli].into_iter()).iter().any(|metric| self.estimated.contains(&metric.name))
    }

    /// Whether what was read goes back far enough, and holds what is asked for.
    fn tells(&self, ask: &Ask, skew: i64) -> bool {
        let Some(counted) = &self.counted else { return false };
        let is_same = |sought: &Sought, asked: &AskedCheck| sought.sli == asked.sli && sought.split == asked.split;
        let holds = |asked: &AskedCheck| counted.sought.iter().any(|(sought, _)| is_same(sought, asked));
        // A pair is read for so many rounds from where it began, and then begins anew: beyond them nothing is read.
        let most = most(self.service.interval);
        let has_room = ask.through < counted.begun + most && counted.through.since(ask.after) < most;
        has_room && ask.after >= counted.tells_from && skew == counted.skew && ask.checks.iter().all(holds)
    }

    /// Begins anew, `lookback` before the window.
    fn begin(&mut self, ask: &Ask, skew: i64) {
        let Service { lookback, stale_after, gone_after, interval, .. } = self.service;
        let before = self.counted.take().map(|counted| counted.sought).unwrap_or_default();
        let is_asked =
            |sought: &Sought| ask.checks.iter().any(|asked| asked.sli == sought.sli && asked.split == sought.split);
        let kept = before.into_iter().filter(|(sought, at)| ask.through.since(*at) < KEEP && !is_asked(sought));
        let room = super::super::counting::SLIS_MAX.saturating_sub(ask.checks.len());
        let mut sought: Vec<(Sought, Timestamp)> = kept.take(room).collect();
        for AskedCheck { sli, split, .. } in &ask.checks {
            let one = Sought { sli: sli.clone(), split: split.clone() };
            if !sought.iter().any(|(other, _)| *other == one) {
                sought.push((one, ask.through));
            }
        }
        let leaving = Leaving { missed_after: stale_after, gone_after };
        let [control, canary] = self.arms.clone().map(|labels| ArmState::open(labels, leaving));
        let begun = grid_before(ask.after - lookback, interval);
        let pair = Pair::new(control, canary);
        // What was asked for before is counted on, so that two who ask in turn do not begin anew each time.
        let checks = sought.iter().zip(0..).map(|((one, _), at)| AskedCheck {
            check: crate::domain::CheckId(at),
            sli: one.sli.clone(),
            split: one.split.clone(),
        });
        // More than are looked for at once is told when the ask's own are looked for.
        let _ = pair.look_for(&checks.collect::<Vec<_>>(), begun, Timestamp::from_millis(u64::MAX));
        self.counted = Some(Counted {
            pair,
            sought,
            tells_from: ask.after,
            begun,
            through: begun,
            skew,
            risen: BTreeMap::new(),
            ahead: None,
        });
    }

    /// The numbers of the ask's SLIs.
    fn ids(&mut self, ask: &Ask) -> Result<Vec<SliId>, Absence> {
        let Some(counted) = &mut self.counted else { return Err(Absence::NoData) };
        for (sought, at) in &mut counted.sought {
            if ask.checks.iter().any(|asked| asked.sli == sought.sli && asked.split == sought.split) {
                *at = (*at).max(ask.through);
            }
        }
        let forever = Timestamp::from_millis(u64::MAX);
        counted.pair.look_for(&ask.checks, counted.begun, forever).map_err(Absence::from)
    }

    /// Reads all rounds up to this one that were not read yet, some at a time.
    async fn read(&mut self, through: Timestamp, settled: Timestamp) -> Result<(), Stop> {
        let interval = self.service.interval;
        let Some(counted) = &self.counted else { return Ok(()) };
        let through = through.min(counted.begun + most(interval));
        // What came late is looked for as far back as some pod has shown nothing since.
        let pages = counted.pair.last_pages();
        let silent_since = pages.values().min().copied().unwrap_or(counted.begun);
        let floor = counted.begun.max(counted.through - self.service.gone_after);
        let mut from = silent_since.min(counted.through).max(floor);
        loop {
            let Some(counted) = &mut self.counted else { return Ok(()) };
            if counted.through >= through {
                return Ok(());
            }
            if let Some(ahead) = counted.ahead.take_if(|ahead| ahead.end > counted.through) {
                counted.take_in(ahead, through, interval);
                from = counted.through;
                continue;
            }
            let end = (counted.through + interval.saturating_mul(SPAN_ROUNDS)).min(through.max(settled));
            let ahead = self.read_span(from, end).await?;
            if let Some(counted) = &mut self.counted {
                counted.take_in(ahead, through, interval);
                from = counted.through;
            }
        }
    }

    /// Reads the samples later than `from` and up to `end`.
    async fn read_span(&mut self, from: Timestamp, end: Timestamp) -> Result<Ahead, Stop> {
        let [mut control, mut canary] = [Pages::default(), Pages::default()];
        let Some(counted) = &self.counted else { return Ok(Ahead { control, canary, end }) };
        let wanted = metrics(counted.sought.iter().map(|(sought, _)| &sought.sli));
        let (skew, this) = (counted.skew, &*self);
        let fetches = wanted.iter().map(|metric| async move {
            if this.estimated.contains(&metric.name) {
                this.increases(metric, end).await.map(|(rows, risen)| (rows, Some((metric.name.clone(), risen))))
            } else {
                this.samples(metric, (from, end), skew).await.map(|rows| (rows, None))
            }
        });
        let fetched = try_join_all(fetches).await?;
        // From here on nothing waits.
        for (rows, _) in &fetched {
            for (pages, labels) in [(&mut control, &self.arms[0]), (&mut canary, &self.arms[1])] {
                let arm = Arm { labels, pod_label: &self.service.pod_label };
                pages.take_in(arm, rows, (from, end), skew);
            }
        }
        control.close();
        canary.close();
        if let Some(counted) = &mut self.counted {
            counted.risen.extend(fetched.into_iter().filter_map(|(_, risen)| risen));
        }
        Ok(Ahead { control, canary, end })
    }

    /// The selections that hold a metric of both arms: one where the arms' series bear the same labels.
    fn selections(&self, metric: &str) -> Vec<Selection> {
        let [control, canary] = &self.arms;
        if control.keys().eq(canary.keys()) {
            return vec![selection(Some(metric), &self.arms)];
        }
        self.arms.iter().map(|arm| selection(Some(metric), std::slice::from_ref(arm))).collect()
    }

    /// The raw samples that an SLI needs.
    pub(super) async fn raw_samples(
        &self,
        sli: &Sli,
        span: (Timestamp, Timestamp),
        skew: i64,
    ) -> Result<Vec<Row>, Absence> {
        let wanted = metrics([sli].into_iter());
        let fetched = try_join_all(wanted.iter().map(|metric| self.samples(metric, span, skew))).await;
        fetched.map(|rows| rows.into_iter().flatten().collect()).map_err(|stop| match stop {
            Stop::Absent(why) => why,
            Stop::TooMany(metric) => unavailable(format!("{metric} has too many series to look back at them all")),
        })
    }

    /// The raw samples of a metric.
    async fn samples(&self, metric: &Metric, (from, end): (Timestamp, Timestamp), skew: i64) -> Result<Vec<Row>, Stop> {
        let rows = self.raw(&metric.name, (from, end), skew).await?;
        let rows = match (metric.kind, metric.name.strip_suffix("_bucket")) {
            (Kind::Buckets, Some(family)) if rows.is_empty() => self.raw(family, (from, end), skew).await?,
            (Kind::Counter | Kind::Gauge | Kind::Buckets | Kind::Start, _) => rows,
        };
        if rows.len() <= self.server.raw_series_max() {
            return Ok(rows);
        }
        match metric.kind {
            Kind::Counter | Kind::Buckets => Err(Stop::TooMany(metric.name.clone())),
            // The server has no sum over a gauge that would be of use; and no start is as well as an unknown one.
            Kind::Gauge => Err(Stop::Absent(malformed(format!(
                "{} has {} series, more than the {} that are read",
                metric.name,
                rows.len(),
                self.server.raw_series_max()
            )))),
            Kind::Start => Ok(Vec::new()),
        }
    }

    async fn raw(&self, name: &str, (from, end): (Timestamp, Timestamp), skew: i64) -> Result<Vec<Row>, Absence> {
        let queries = self.selections(name).into_iter().map(|selection| async move {
            let query = compile(&selection, &Form::Samples(end.since(from))).map_err(Absence::Malformed)?;
            self.server.query(&query, server_time(end, skew), "matrix").await
        });
        Ok(try_join_all(queries).await?.into_iter().flatten().collect())
    }

    /// By how much a metric rose in each step up to `end`, as the server counts it, in the form of counters; and how much
    /// that is in all, to go on from.
    async fn increases(&self, metric: &Metric, end: Timestamp) -> Result<(Vec<Row>, Risen), Stop> {
        let Some(counted) = &self.counted else { return Ok(Default::default()) };
        let step = estimate_step(self.service.interval);
        let (first, last) = (grid_before(counted.through, step) + step, grid_before(end, step));
        let mut risen = counted.risen.get(&metric.name).cloned().unwrap_or_default();
        if first > last {
            return Ok((Vec::new(), risen));
        }
        let by = self.labels_of(metric);
        let mut rows = Vec::new();
        for selection in self.selections(&metric.name) {
            let query = compile(&selection, &Form::Increase(step, by.clone())).map_err(Absence::Malformed)?;
            let times = (server_time(first, counted.skew), server_time(last, counted.skew));
            rows.extend(self.server.query_range(&query, times, step).await?);
        }
        let mut steps: BTreeMap<i64, Vec<(&Labels, f64)>> = BTreeMap::new();
        for row in &rows {
            for (at, value) in row.samples().filter(|(_, value)| value.is_finite() && *value >= 0.0) {
                steps.entry(at).or_default().push((&row.metric, value));
            }
        }
        let mut shown: BTreeMap<Labels, Vec<(i64, f64)>> = BTreeMap::new();
        for (at, rises) in steps {
            for (labels, by) in rises {
                *risen.entry(labels.clone()).or_insert(0.0) += by;
            }
            for (labels, all) in &risen {
                shown.entry(labels.clone()).or_default().push((at, *all));
            }
        }
        let named = |(labels, values): (Labels, _)| Row::of(&metric.name, labels, values);
        Ok((shown.into_iter().map(named).collect(), risen))
    }

    /// The labels that tell apart what is told apart in a metric.
    fn labels_of(&self, metric: &Metric) -> BTreeSet<String> {
        let arms = self.arms.iter().flat_map(BTreeMap::keys).cloned();
        let mut labels: BTreeSet<String> = arms.chain([self.service.pod_label.clone()]).collect();
        if metric.kind == Kind::Buckets {
            labels.insert("le".into());
        }
        for (Sought { sli, split }, _) in self.counted.iter().flat_map(|counted| &counted.sought) {
            if !metrics([sli].into_iter()).iter().any(|of| of.name == metric.name) {
                continue;
            }
            labels.extend(split.segments.iter().chain(&split.tenants).cloned());
            labels.extend(sli.selectors().iter().flat_map(|of| &of.matchers).map(|matcher| matcher.label.clone()));
            if let Sli::Mix { by, .. } = sli {
                labels.insert(by.clone());
            }
        }
        labels
    }
}

/// A time of ours by the server's clock.
pub(super) fn server_time(ours: Timestamp, skew: i64) -> i64 {
    i64::try_from(ours.as_millis()).unwrap_or(i64::MAX).saturating_add(skew)
}

/// How long a pair is read before it begins anew.
fn most(interval: Duration) -> Duration {
    interval.saturating_mul(u32::try_from(ROUNDS_MAX - 1).unwrap_or(u32::MAX))
}

/// A multiple of the interval, for the server needs several samples in a step, and one may be missing.
fn estimate_step(interval: Duration) -> Duration {
    let times = ESTIMATE_STEP_MIN.as_millis().div_ceil(interval.as_millis().max(1));
    interval.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX).max(ESTIMATE_SAMPLES_MIN))
}

/// The metrics that SLIs need, each once, and when processes started.
fn metrics<'a>(slis: impl Iterator<Item = &'a Sli>) -> Vec<Metric> {
    let wanted = Wanted::of(slis);
    let of = |names: BTreeSet<String>, kind| names.into_iter().map(move |name| Metric { name, kind });
    let buckets = wanted.histograms.iter().map(|family| format!("{family}_bucket")).collect();
    let mut metrics: Vec<Metric> = of(wanted.counters, Kind::Counter)
        .chain(of(wanted.gauges, Kind::Gauge))
        .chain(of(buckets, Kind::Buckets))
        .collect();
    metrics.sort_by(|one, other| one.name.cmp(&other.name));
    metrics.dedup_by(|one, other| one.name == other.name);
    if !metrics.is_empty() {
        metrics.push(Metric { name: START_METRIC.to_owned(), kind: Kind::Start });
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_does_not_depend_on_when_anything_began() {
        let (at, every) = (Timestamp::from_millis, Duration::from_secs(15));
        assert_eq!(grid_before(at(29_999), every), at(15_000));
        assert_eq!(grid_after(at(29_999), every), at(30_000));
        assert_eq!((grid_before(at(30_000), every), grid_after(at(30_000), every)), (at(30_000), at(30_000)));
    }

    #[test]
    fn a_step_that_the_server_counts_is_whole_intervals() {
        assert_eq!(estimate_step(Duration::from_secs(15)), Duration::from_secs(60));
        assert_eq!(estimate_step(Duration::from_secs(25)), Duration::from_secs(100));
        assert_eq!(estimate_step(Duration::from_secs(90)), Duration::from_secs(360));
    }
}
