//! A provider over any vendor of buckets: waits until a bucket is settled, asks what is to be asked, each query once,
//! and puts the answers together.
//!
//! # What uses a window up
//! When no check could be read on the canary, nothing is used up and the next window covers the same time again. When
//! some could, the window is used up, and a check that failed says why it has nothing for it: one query that a vendor
//! never answers must not blind the rest. Where the canary could not be read, control's numbers for that time can be
//! compared with nothing and are dropped.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use tokio::time::{Instant, sleep};

use super::{
    Grid, Query, Span, Vendor, What,
    parts::{ByLabel, parts},
    questions, revision_of,
    tally::{ARMS, Answered, checked, liveness, tally},
};
use crate::{
    domain::{Absence, Arm, Measurement, PartKind, Selector, Sli, Tally, Text, Timestamp, Window},
    telemetry::{Answer, Ask, AskedCheck, Clock, Error, Provider, call::CALLS_AT_ONCE_MAX},
};

/// Longest wait of one ask; its deadline may be earlier.
pub const WAIT_MAX: Duration = Duration::from_secs(3_600);
/// Most different queries of one ask. Beyond it parts are left out, then whole checks.
pub const QUERIES_MAX: usize = 512;
/// Time that is left for queries before the deadline; a bucket that settles later is for the next window.
const ROOM: Duration = Duration::from_millis(500);

/// A provider over one vendor.
pub(in crate::telemetry) struct Reader<V> {
    vendor: V,
    clock: Clock,
}

/// The queries of an ask, each once.
#[derive(Default)]
struct Asking {
    queries: Vec<Query>,
}

/// Where the answer to a question is: the query's number, or why it was not asked.
type Place = Result<usize, Absence>;

/// The places of one check's answers.
struct Places {
    /// The questions of the whole, for control and the canary.
    whole: Result<[Vec<Place>; 2], Absence>,
    /// The same by each label.
    by: Vec<(PartKind, String, [Vec<Place>; 2])>,
}

impl Asking {
    fn place(&mut self, query: Query) -> Place {
        if let Some(at) = self.queries.iter().position(|known| *known == query) {
            return Ok(at);
        }
        if self.queries.len() >= QUERIES_MAX {
            let why = format!("more than {QUERIES_MAX} queries in one window: ask for fewer checks");
            return Err(Absence::Unavailable(Text::new(why)));
        }
        self.queries.push(query);
        Ok(self.queries.len() - 1)
    }
}

impl<V: Vendor> Provider for Reader<V> {
    fn measure(&self, ask: Ask) -> BoxFuture<'_, Answer> {
        self.answer(ask).boxed()
    }
}

impl<V: Vendor> Reader<V> {
    pub(in crate::telemetry) fn new(vendor: V, clock: Clock) -> Self {
        Self { vendor, clock }
    }

    fn grid(&self) -> Grid {
        let setting = self.vendor.setting();
        Grid { step: setting.step, settle: setting.settle }
    }

    async fn answer(&self, ask: Ask) -> Answer {
        if !self.vendor.setting().services.contains_key(&ask.service) {
            let why = format!("service {} is not in the configuration of {}", ask.service, self.vendor.name());
            return Answer::absent(&ask, &Absence::Unavailable(Text::new(why)));
        }
        let Some(span) = self.settled(&ask).await else { return Answer::absent(&ask, &Absence::NoData) };
        let mut asking = Asking::default();
        let mut places: Vec<Places> =
            ask.checks.iter().map(|check| self.whole_places(&ask, check, span, &mut asking)).collect();
        // Wholes come first: parts must not take their room.
        for (check, places) in ask.checks.iter().zip(&mut places) {
            places.by = self.part_places(&ask, check, span, &mut asking);
        }
        let answers = self.ask_all(&ask, asking, span).await;
        self.put_together(&ask, span, &places, &answers)
    }

    /// The settled buckets, waited for up to the deadline. The wait is measured by itself too, for the clock may be set
    /// back, or stand still.
    async fn settled(&self, ask: &Ask) -> Option<Span> {
        let grid = self.grid();
        let begun = (self.clock)();
        let until = Instant::now() + ask.no_later_than.since(begun).min(WAIT_MAX);
        loop {
            let now = (self.clock)();
            if let Some(span) = grid.span(ask.after, now, self.vendor.buckets_max()) {
                return Some(span);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let ready = grid.ready_at(ask.after);
            let wait = if ready + ROOM > now + left { left } else { ready.since(now) };
            sleep(wait.max(Duration::from_millis(1)).min(left)).await;
        }
    }

    fn query(&self, ask: &Ask, arm: Arm, (selector, what, by): (Selector, What, Vec<String>), span: Span) -> Query {
        let revision = revision_of(arm, ask.control.as_ref(), &ask.canary);
        let mut selector = selector;
        if let Some(arms) = self.vendor.setting().services.get(&ask.service) {
            selector.matchers.extend(arms.of(arm, &revision));
        }
        let by = if self.vendor.bears_all_labels() { Vec::new() } else { by };
        Query { service: ask.service.clone(), arm, revision, selector, what, by, span, step: self.grid().step }
    }

    fn whole_places(&self, ask: &Ask, check: &AskedCheck, span: Span, asking: &mut Asking) -> Places {
        let whole = questions(&check.sli, self.vendor.latencies()).map(|questions| {
            ARMS.map(|arm| {
                let question = |(selector, what, by): &(Selector, What, Option<String>)| {
                    let by = by.iter().cloned().collect();
                    asking.place(self.query(ask, arm, (selector.clone(), *what, by), span))
                };
                questions.iter().map(question).collect()
            })
        });
        Places { whole: whole.map_err(Absence::from), by: Vec::new() }
    }

    fn part_places(
        &self,
        ask: &Ask,
        check: &AskedCheck,
        span: Span,
        asking: &mut Asking,
    ) -> Vec<(PartKind, String, [Vec<Place>; 2])> {
        // A mix in parts would be asked by two labels, and a part in which nothing goes on is not seen to be there.
        if matches!(check.sli, Sli::Mix { .. } | Sli::Liveness { .. } | Sli::Probe { .. }) {
            return Vec::new();
        }
        let Ok(questions) = questions(&check.sli, self.vendor.latencies()) else { return Vec::new() };
        let pods = self.vendor.setting().services.get(&ask.service).and_then(|arms| arms.pod_label.as_ref());
        let labels = [
            (PartKind::Pod, pods),
            (PartKind::Tenant, check.split.tenants.as_ref()),
            (PartKind::Segment, check.split.segments.as_ref()),
        ];
        let labels = labels.into_iter().filter_map(|(kind, label)| Some((kind, label?.clone())));
        labels
            .map(|(kind, label)| {
                let arms = ARMS.map(|arm| {
                    let question = |(selector, what, by): &(Selector, What, Option<String>)| {
                        let by = by.iter().cloned().chain([label.clone()]).collect();
                        asking.place(self.query(ask, arm, (selector.clone(), *what, by), span))
                    };
                    questions.iter().map(question).collect()
                });
                (kind, label, arms)
            })
            .collect()
    }

    async fn ask_all(&self, ask: &Ask, asking: Asking, span: Span) -> Vec<Answered> {
        let grid = self.grid();
        let at_once = self.vendor.setting().queries_at_once.clamp(1, CALLS_AT_ONCE_MAX);
        let before = self.vendor.queries();
        let answers = asking.queries.into_iter().map(|query| async move {
            let what = query.what;
            let within = ask.no_later_than.since((self.clock)());
            let read = self.vendor.read(query, within).await;
            read.map_err(|error| named(self.vendor.name(), error).into())
                .and_then(|series| checked(series, what, span, grid))
        });
        // In order, so that each is found by its number.
        let answers: Vec<Answered> = stream::iter(answers).buffered(at_once).collect().await;
        let (source, queries) = (self.vendor.name(), self.vendor.queries().saturating_sub(before));
        tracing::debug!(source, service = %ask.service, queries, "asked");
        answers
    }

    fn put_together(&self, ask: &Ask, span: Span, places: &[Places], answers: &[Answered]) -> Answer {
        let grid = self.grid();
        let window = Window { after: span.start, through: span.end };
        let mut measurements = Vec::new();
        let mut is_heard = ask.checks.is_empty();
        for (check, places) in ask.checks.iter().zip(places) {
            let [control, canary] = match &places.whole {
                Err(why) => [Err(why.clone()), Err(why.clone())],
                Ok(arms) => tallies(&check.sli, arms, answers, span, grid),
            };
            is_heard |= !matches!(canary, Err(Absence::Unavailable(_) | Absence::Malformed(_)));
            let control = match (&canary, control) {
                (Err(Absence::Unavailable(_) | Absence::Malformed(_)), Ok(_)) => Err(Absence::NoData),
                (_, control) => control,
            };
            let parts = parts_of(&check.sli, [&control, &canary], places, answers);
            let arms = ARMS.into_iter().zip([control, canary]).zip(parts);
            measurements.extend(arms.map(|((arm, tally), parts)| {
                let parts = if tally.is_ok() { parts } else { Vec::new() };
                Measurement { check: check.check, arm, window, tally, parts, estimated: false }
            }));
        }
        if is_heard {
            return Answer { through: span.end, measurements };
        }
        let nowhere = Window { after: ask.after, through: ask.after };
        measurements.iter_mut().for_each(|measurement| measurement.window = nowhere);
        Answer { through: ask.after, measurements }
    }
}

/// The error with its source's name.
fn named(name: &str, error: Error) -> Error {
    match error {
        Error::Unavailable(why) => Error::Unavailable(Text::new(format!("{name}: {why}"))),
        Error::Malformed(why) => Error::Malformed(Text::new(format!("{name}: {why}"))),
        Error::Config(why) => Error::Config(Text::new(format!("{name}: {why}"))),
    }
}

/// The answers at these places.
fn found(places: &[Place], answers: &[Answered]) -> Vec<Answered> {
    let unasked = || Err(Absence::Unavailable(Text::new("was not asked")));
    let at = |place: &Place| match place {
        Ok(at) => answers.get(*at).cloned().unwrap_or_else(unasked),
        Err(why) => Err(why.clone()),
    };
    places.iter().map(at).collect()
}

fn tallies(
    sli: &Sli,
    arms: &[Vec<Place>; 2],
    answers: &[Answered],
    span: Span,
    grid: Grid,
) -> [Result<Tally, Absence>; 2] {
    let [control, canary] = [&arms[0], &arms[1]].map(|places| found(places, answers));
    match (sli, control.as_slice(), canary.as_slice()) {
        (Sli::Liveness { .. }, [control], [canary]) => liveness(control, canary, span, grid),
        (_, control, canary) => [control, canary].map(|answers| tally(sli, &answers.iter().collect::<Vec<_>>())),
    }
}

fn parts_of(
    sli: &Sli,
    wholes: [&Result<Tally, Absence>; 2],
    places: &Places,
    answers: &[Answered],
) -> [Vec<crate::domain::Part>; 2] {
    let found: Vec<_> = places
        .by
        .iter()
        .map(|(kind, label, [control, canary])| (*kind, label, [found(control, answers), found(canary, answers)]))
        .collect();
    let by: Vec<ByLabel<'_>> = found
        .iter()
        .map(|(kind, label, [control, canary])| ByLabel {
            kind: *kind,
            label,
            arms: [control.iter().collect(), canary.iter().collect()],
        })
        .collect();
    parts(sli, wholes, &by)
}

/// The time of seconds since the epoch, as vendors write them; `None` for what is no time.
pub(in crate::telemetry) fn from_seconds(seconds: f64) -> Option<Timestamp> {
    let millis = seconds * 1_000.0;
    (0.0..=1e15).contains(&millis).then(|| Timestamp::from_millis(millis.round() as u64))
}
