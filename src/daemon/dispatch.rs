//! From effects to wings: each effect becomes a task that sends one reply event. A task that fails to reply is asked
//! again by the fleet, so nothing here retries.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{broadcast, mpsc};

use super::{
    Clock, Handle, Metrics,
    drafting::{Desk, Drafts, Order},
    expecting,
};
use crate::{
    agent::{Advised, Agent, Narrated},
    domain::{
        Absence, Check, CheckId, Measurement, Notice, RequestId, ServiceName, Severity, Shift, Stamped, Tally, Text,
        Timestamp,
    },
    forge::{self, GitHub},
    journal,
    plan::Fallback,
    rails::Cleared,
    rollout::{Effect, Event, FetchError, Policy, ShiftError},
    telemetry::{self, Provider},
    traffic::{self, Actuator},
};

/// How long an actuator may take for a service that is not configured any more.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The wings that effects are handed to.
#[derive(Clone)]
pub struct Wings {
    /// Where changes and diffs come from.
    pub forge: Arc<GitHub>,
    /// Where measurements come from.
    pub telemetry: Arc<dyn Provider>,
    /// What moves traffic.
    pub actuator: Arc<dyn Actuator>,
    /// The model, where there is one.
    pub agent: Option<Arc<Agent>>,
    /// The services whose changes the model plans.
    pub planned_by_model: Arc<BTreeSet<ServiceName>>,
}

/// Hands effects to the wings.
pub(super) struct Dispatch {
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) wings: Wings,
    pub(super) handle: Handle,
    pub(super) policy: Arc<Policy>,
    pub(super) notices: broadcast::Sender<Notice>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    /// The drafts that are under way.
    pub(super) drafts: Drafts,
    /// One lane a service: shifts are made in the order in which they were cleared.
    pub(super) lanes: BTreeMap<ServiceName, Lane>,
    /// Shifts that were asked for and not made yet.
    pub(super) moves: Arc<AtomicUsize>,
}

/// One service's shifts, in order.
pub(super) struct Lane {
    requests: mpsc::UnboundedSender<(RequestId, Cleared<Shift>)>,
    /// The newest request: one that was overtaken before its turn is not made.
    newest: Arc<AtomicU64>,
}

impl Dispatch {
    /// Starts an effect. Returns at once.
    pub(super) fn start(&mut self, effect: Effect) {
        match effect {
            Effect::Announce(notice) => self.announce(notice),
            Effect::Shift { request, shift } => self.shift(request, shift),
            Effect::FetchChange { request, repository, pull_request } => {
                let forge = Arc::clone(&self.wings.forge);
                self.spawn(async move {
                    let change = forge.change(&repository, pull_request).await;
                    Event::ChangeFetched { request, change: change.map(Arc::new).map_err(fetch_error) }
                });
            }
            Effect::Draft { request, rollout, service, change, stable, past } => {
                self.draft(request, Order { rollout, name: service, change, stable, past });
            }
            Effect::Advise { request, rollout, service, brief, no_later_than } => {
                let (agent, within) = (self.wings.agent.clone(), no_later_than.since(self.clock.now()));
                self.spawn(async move {
                    let Advised { advice, conversation } = match agent {
                        Some(agent) => agent.advise(rollout, &service, brief, within).await,
                        None => Advised { advice: Err(no_model()), conversation: None },
                    };
                    let (advice, conversation) = (advice.map_err(told), conversation.map(Box::new));
                    Event::Advised { request, rollout, advice, conversation }
                });
            }
            Effect::Expect { request, rollout, service, stable, plan, switch, no_later_than } => {
                let (telemetry, clock) = (Arc::clone(&self.wings.telemetry), self.clock.clone());
                let order = expecting::Order { service, stable, plan, switch, no_later_than };
                self.spawn(async move {
                    let learnt = expecting::learn(telemetry, order, clock).await;
                    Event::Expected { request, rollout, learnt }
                });
            }
            Effect::Narrate { request, rollout, story } => {
                let agent = self.wings.agent.clone();
                self.spawn(async move {
                    let Narrated { words, conversation } = match agent {
                        Some(agent) => agent.narrate(rollout, story).await,
                        None => Narrated { words: Err(no_model()), conversation: None },
                    };
                    let (words, conversation) = (words.map_err(told), conversation.map(Box::new));
                    Event::Narrated { request, rollout, words, conversation }
                });
            }
            Effect::Measure { request, rollout, service, control, canary, plan, after, through, no_later_than } => {
                let provider = Arc::clone(&self.wings.telemetry);
                let id = |i: usize| CheckId(u16::try_from(i).unwrap_or(u16::MAX));
                let asked = |(i, check): (usize, &Check)| telemetry::AskedCheck {
                    check: id(i),
                    sli: check.sli.clone(),
                    split: check.split.clone(),
                };
                let checks = plan.checks().iter().enumerate().map(asked).collect();
                let ask = telemetry::Ask { service, control, canary, checks, after, through, no_later_than };
                self.spawn(async move {
                    let telemetry::Answer { through, measurements } = provider.measure(ask).await;
                    let measurements = measurements.into_iter().map(finite).collect();
                    Event::Measured { request, rollout, through, measurements }
                });
            }
        }
    }

    fn draft(&self, request: RequestId, order: Order) {
        let rollout = order.rollout;
        let service = self.policy.services.get(&order.name).cloned();
        let plans = self.wings.planned_by_model.contains(&order.name);
        let desk = Desk {
            forge: Arc::clone(&self.wings.forge),
            telemetry: Arc::clone(&self.wings.telemetry),
            agent: self.wings.agent.clone().filter(|_| plans),
        };
        let within = service.as_ref().and_then(|service| service.draft_within).unwrap_or(ANSWER_WITHIN);
        let drafting = self.drafts.draft(&self.runtime, desk, order, service, within);
        self.spawn(async move {
            let drafted = drafting.await;
            Event::Drafted { request, rollout, draft: drafted.draft.clone(), conversation: drafted.take_conversation() }
        });
    }

    fn spawn(&self, reply: impl Future<Output = Event> + Send + 'static) {
        let handle = self.handle.clone();
        self.runtime.spawn(async move {
            // A daemon that is stopping takes no replies; they are asked for again when it starts.
            let _ = handle.reply(within_an_entry(reply.await)).await;
        });
    }

    fn shift(&mut self, request: RequestId, shift: Cleared<Shift>) {
        let service = shift.get().service.clone();
        let within = self.policy.services.get(&service).map_or(ANSWER_WITHIN, |service| service.reply_within);
        let (runtime, actuator, handle, moves) = (&self.runtime, &self.wings.actuator, &self.handle, &self.moves);
        let open = || Lane::open(runtime, Arc::clone(actuator), handle.clone(), Arc::clone(moves), within);
        let lane = self.lanes.entry(service).or_insert_with(open);
        moves.fetch_add(1, Ordering::SeqCst);
        lane.newest.fetch_max(request.0, Ordering::SeqCst);
        // The lane's task lives as long as its sender.
        let _ = lane.requests.send((request, shift));
    }

    /// How many shifts were asked for and are not made yet.
    pub(super) fn moves_open(&self) -> usize {
        self.moves.load(Ordering::SeqCst)
    }

    fn announce(&self, notice: Notice) {
        let rollout = notice.rollout.map(|rollout| rollout.to_string());
        let service = notice.service.as_ref().map(ServiceName::as_str);
        match notice.severity {
            Severity::Info => tracing::info!(rollout, service, "{}", notice.text),
            Severity::Warning => tracing::warn!(rollout, service, "{}", notice.text),
            Severity::Page => tracing::error!(rollout, service, page = true, "{}", notice.text),
        }
        self.metrics.noticed(notice.severity);
        // Nobody may be listening.
        let _ = self.notices.send(notice);
    }
}

impl Lane {
    fn open(
        runtime: &tokio::runtime::Handle,
        actuator: Arc<dyn Actuator>,
        handle: Handle,
        moves: Arc<AtomicUsize>,
        within: Duration,
    ) -> Self {
        let (requests, mut inbox) = mpsc::unbounded_channel::<(RequestId, Cleared<Shift>)>();
        let newest = Arc::new(AtomicU64::new(0));
        let overtaken = Arc::clone(&newest);
        runtime.spawn(async move {
            while let Some((request, shift)) = inbox.recv().await {
                if overtaken.load(Ordering::SeqCst) > request.0 {
                    moves.fetch_sub(1, Ordering::SeqCst);
                    continue;
                }
                // One call that hangs must not keep a later retreat waiting.
                let read = match tokio::time::timeout(within, actuator.shift(request, &shift)).await {
                    Ok(read) => read.map_err(shift_error),
                    Err(_) => Err(ShiftError::Unavailable(Text::new("the actuator did not answer in time"))),
                };
                moves.fetch_sub(1, Ordering::SeqCst);
                let rollout = shift.get().rollout;
                if handle.reply(Event::Shifted { request, rollout, read }).await.is_err() {
                    return;
                }
            }
        });
        Self { requests, newest }
    }
}

/// Why there is no answer of a model where there is none to ask.
fn no_model() -> (Fallback, String) {
    (Fallback::Unavailable, "no model is configured".into())
}

/// Why there is no answer, in words.
fn told((why, detail): (Fallback, String)) -> Text {
    Text::new(format!("{}: {detail}", why.word().replace('_', " ")))
}

/// Names of categories of all measurements together up to here fit into an entry, whatever else is measured.
const SMALL_BYTES: usize = 1 << 20;

/// A reply as the journal takes it. One that is larger than an entry becomes an absence or a failure: it says less, and the
/// daemon goes on; an event that cannot be recorded would end it.
fn within_an_entry(event: Event) -> Event {
    if let Event::Measured { measurements, .. } = &event {
        let bytes = |measurement: &Measurement| {
            let parts: usize = measurement.parts.iter().map(|part| category_bytes(&part.tally)).sum();
            measurement.tally.as_ref().map_or(0, category_bytes) + parts
        };
        // Nearly all are far smaller, and writing one out takes longer than deciding on it.
        if measurements.iter().map(bytes).sum::<usize>() <= SMALL_BYTES {
            return event;
        }
    }
    let stamped = Stamped { at: Timestamp::EPOCH, event };
    if journal::recordable(&stamped).is_ok() {
        return stamped.event;
    }
    let why = || Text::new("more than can be recorded in one entry");
    tracing::error!("a reply is larger than an entry of the journal; it is recorded as a failure");
    match stamped.event {
        Event::Drafted { request, rollout, .. } => {
            Event::Drafted { request, rollout, draft: Err(why()), conversation: None }
        }
        Event::Advised { request, rollout, .. } => {
            Event::Advised { request, rollout, advice: Err(why()), conversation: None }
        }
        Event::Narrated { request, rollout, .. } => {
            Event::Narrated { request, rollout, words: Err(why()), conversation: None }
        }
        Event::Expected { request, rollout, learnt } => {
            let learnt = learnt.into_iter().map(|(check, _)| (check, Err(why()))).collect();
            Event::Expected { request, rollout, learnt }
        }
        Event::Measured { request, rollout, through, measurements } => {
            let absent = |measurement: Measurement| Measurement {
                tally: Err(Absence::Malformed(why())),
                parts: Vec::new(),
                ..measurement
            };
            Event::Measured { request, rollout, through, measurements: measurements.into_iter().map(absent).collect() }
        }
        event => event,
    }
}

/// Most bytes of the names of categories in one tally, and in all parts of one measurement. They are strangers' words, and
/// an entry of the journal has an end: many checks of mixes must fit into one.
const CATEGORY_BYTES_MAX: usize = 32 << 10;

/// The bytes of a tally's names of categories.
fn category_bytes(tally: &Tally) -> usize {
    match tally {
        Tally::Mix(categories) => categories.iter().map(|(name, _)| name.len()).sum(),
        Tally::Counts(_) | Tally::Histogram(_) | Tally::Samples(_) => 0,
    }
}

/// A measurement as it can be recorded: the journal is JSON, which has no word for infinite or for no number, and its
/// entries are bounded.
pub fn finite(mut measurement: Measurement) -> Measurement {
    let is_finite = |tally: &Tally| match tally {
        Tally::Histogram(histogram) => histogram.bounds.iter().all(|bound| bound.is_finite()),
        Tally::Samples(samples) => samples.iter().all(|sample| sample.is_finite()),
        Tally::Counts(_) | Tally::Mix(_) => true,
    };
    if measurement.tally.as_ref().is_ok_and(|tally| !is_finite(tally)) {
        measurement.tally = Err(Absence::Malformed(Text::new("a number that is not finite")));
    }
    if measurement.tally.as_ref().is_ok_and(|tally| category_bytes(tally) > CATEGORY_BYTES_MAX) {
        measurement.tally = Err(Absence::Malformed(Text::new("more categories than can be recorded")));
    }
    let in_parts: usize = measurement.parts.iter().map(|part| category_bytes(&part.tally)).sum();
    // Parts of which some are missing do not make up the whole, so they go together.
    if measurement.tally.is_err()
        || in_parts > CATEGORY_BYTES_MAX
        || !measurement.parts.iter().all(|part| is_finite(&part.tally))
    {
        measurement.parts.clear();
    }
    measurement
}

fn fetch_error(error: forge::Error) -> FetchError {
    let why = Text::new(error.to_string());
    match error {
        forge::Error::Unavailable(_) => FetchError::Unavailable(why),
        forge::Error::Refused(_) | forge::Error::Malformed(_) => FetchError::Refused(why),
    }
}

fn shift_error(error: traffic::Error) -> ShiftError {
    match error {
        traffic::Error::Unavailable(why) => ShiftError::Unavailable(why),
        traffic::Error::Refused(why) => ShiftError::Refused(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Arm, Part, PartKind, RolloutId, Window};

    fn measured(in_whole: usize, in_part: usize) -> Measurement {
        let mix = |bytes: usize| Tally::Mix(vec![("x".repeat(bytes), 1)]);
        let window = Window { after: Timestamp::from_millis(0), through: Timestamp::from_millis(1) };
        let parts = vec![Part { kind: PartKind::Pod, name: Text::new("a"), tally: mix(in_part) }];
        finite(Measurement {
            check: CheckId(0),
            arm: Arm::Canary,
            window,
            tally: Ok(mix(in_whole)),
            parts,
            estimated: false,
        })
    }

    #[test]
    fn a_reply_that_no_entry_holds_is_recorded_as_a_failure() {
        let reply = |checks: usize| {
            let measurements = vec![measured(CATEGORY_BYTES_MAX, CATEGORY_BYTES_MAX); checks];
            let (request, rollout, through) = (RequestId(1), RolloutId(1), Timestamp::from_millis(1));
            let event = within_an_entry(Event::Measured { request, rollout, through, measurements });
            let Event::Measured { measurements, .. } = &event else { panic!("another event: {event:?}") };
            let has_tallies = measurements.iter().all(|measurement| measurement.tally.is_ok());
            let recorded = journal::recordable(&Stamped { at: Timestamp::EPOCH, event });
            (has_tallies, recorded.is_ok())
        };
        assert_eq!((reply(2), reply(100), reply(200)), ((true, true), (true, true), (false, true)));
    }

    #[test]
    fn categories_that_could_not_be_recorded_are_an_absence() {
        let most = CATEGORY_BYTES_MAX;
        let kept = measured(most, most);
        assert!(kept.tally.is_ok() && kept.parts.len() == 1);
        let without_parts = measured(most, most + 1);
        assert!(without_parts.tally.is_ok() && without_parts.parts.is_empty());
        let none = measured(most + 1, 1);
        assert!(matches!(none.tally, Err(Absence::Malformed(_))) && none.parts.is_empty());
    }
}
