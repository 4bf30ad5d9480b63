//! The two arms of one rollout as probes find them, and the task that asks them.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use reqwest::Client;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use super::{
    Config, EVERY_MIN, PLACEHOLDER, Probe, STABLE, ServiceProbes,
    request::{Outcome, ask},
};
use crate::{
    domain::{Absence, Arm, Counts, Revision, ServiceName, Sli, Tally, Text, Timestamp, Window},
    telemetry::{Ask, Clock, Error},
};

/// Most pairs of revisions that are probed at once.
pub const PAIRS_MAX: usize = 256;
/// Most results of one probe and arm that are kept.
pub const KEPT_MAX: usize = 4_096;
/// Most probes of one pair that are under way at once.
const AT_ONCE: usize = 16;
/// Longest wait of one ask; its deadline may be earlier.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// A service, its old and its new version.
type Key = (ServiceName, Option<Revision>, Revision);

/// What a panic elsewhere left is still counted right: every change under these locks is whole or not begun.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One result.
#[derive(Clone, Debug)]
struct Made {
    at: Timestamp,
    outcome: Outcome,
}

/// The results of one probe on one arm, oldest first.
#[derive(Debug, Default)]
struct Results {
    made: VecDeque<Made>,
    forgotten_through: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct State {
    results: BTreeMap<(String, Arm), Results>,
    /// The probes that are asked for, and until when.
    wanted: BTreeMap<String, Timestamp>,
    newest: Option<Timestamp>,
    /// What came up to then has been told, so nothing may come to it any more.
    closed: Timestamp,
    /// What came up to then has been told ahead of the window that it belongs to.
    told_ahead: Timestamp,
    turn: usize,
}

/// Two versions of one service that are probed side by side.
#[derive(Debug)]
pub(super) struct Pair {
    revisions: [Option<Revision>; 2],
    state: Mutex<State>,
    done: watch::Sender<u64>,
}

impl Pair {
    /// When the newest result came.
    pub(super) fn newest(&self) -> Option<Timestamp> {
        locked(&self.state).newest
    }

    /// What of a window was not told ahead. It is closed from now on: nothing comes to it any more.
    pub(super) fn rest_of(&self, window: Window) -> Window {
        let mut state = locked(&self.state);
        state.closed = state.closed.max(window.through);
        Window { after: window.after.max(state.told_ahead).min(window.through), through: window.through }
    }

    /// What came after that time, up to now, and was not told ahead before; from now on it is told.
    pub(super) fn told_ahead(&self, after: Timestamp) -> Window {
        let mut state = locked(&self.state);
        let after = after.max(state.told_ahead);
        let through = state.newest.unwrap_or(after).max(after);
        state.told_ahead = through;
        state.closed = state.closed.max(through);
        Window { after, through }
    }

    /// Whether both arms have a result of each of these probes at or after that time.
    fn has_all_since(&self, probes: &[&str], since: Timestamp) -> bool {
        let state = locked(&self.state);
        probes.iter().all(|probe| {
            [Arm::Control, Arm::Canary].iter().all(|arm| {
                let results = state.results.get(&((*probe).to_owned(), *arm));
                results.and_then(|results| results.made.back()).is_some_and(|made| made.at >= since)
            })
        })
    }

    fn put(&self, probe: &str, arm: Arm, outcome: Outcome, now: Timestamp, keep: Duration) {
        let mut state = locked(&self.state);
        let after_closed = state.closed + Duration::from_millis(1);
        let at = now.max(after_closed).max(state.newest.unwrap_or_default());
        state.newest = Some(at);
        let results = state.results.entry((probe.to_owned(), arm)).or_default();
        results.made.push_back(Made { at, outcome });
        while results.made.len() > KEPT_MAX || results.made.front().is_some_and(|made| made.at < at - keep) {
            results.forgotten_through = results.made.pop_front().map(|made| made.at);
        }
        drop(state);
        self.done.send_modify(|done| *done += 1);
    }

    /// What a probe found on an arm in the window.
    fn counts(&self, probe: &str, arm: Arm, window: Window) -> Result<Tally, Absence> {
        let state = locked(&self.state);
        let results = state.results.get(&(probe.to_owned(), arm)).ok_or(Absence::NoData)?;
        if results.forgotten_through.is_some_and(|forgotten| window.after < forgotten) {
            let why = format!("the window begins at {}, older than kept", window.after);
            return Err(Absence::Unavailable(Text::new(why)));
        }
        let mut counts = Counts::default();
        let mut refused = None;
        for made in results.made.iter().filter(|made| made.at > window.after && made.at <= window.through) {
            match &made.outcome {
                Outcome::Right => counts = counts.plus(Counts { bad: 0, total: 1 }),
                Outcome::Wrong(_) => counts = counts.plus(Counts { bad: 1, total: 1 }),
                Outcome::Refused(why) => refused = Some(why.clone()),
            }
        }
        match (counts.total, refused) {
            (0, Some(why)) => Err(Absence::Unavailable(why)),
            (0, None) => Err(Absence::NoData),
            (_, _) => Ok(Tally::Counts(counts)),
        }
    }

    /// What stands for an arm's revision.
    fn fill(&self, arm: Arm, text: &str) -> String {
        let [control, canary] = &self.revisions;
        let revision = match arm {
            Arm::Control => control,
            Arm::Canary => canary,
        };
        text.replace(PLACEHOLDER, revision.as_ref().map_or(STABLE, Revision::as_str))
    }
}

/// Lets requests go one after the other, not faster than so many a second.
#[derive(Debug)]
struct Limiter {
    gap: Duration,
    next: Mutex<Option<Instant>>,
}

impl Limiter {
    fn per_second(requests: u32) -> Self {
        Self { gap: Duration::from_secs(1) / requests.max(1), next: Mutex::new(None) }
    }

    async fn turn(&self) {
        let turn = {
            let mut next = locked(&self.next);
            let turn = next.map_or_else(Instant::now, |next| next.max(Instant::now()));
            *next = Some(turn + self.gap);
            turn
        };
        sleep_until(turn).await;
    }
}

/// A pair and the task that asks it.
type Probed = (Arc<Pair>, JoinHandle<()>);

struct Shared {
    config: Config,
    clock: Clock,
    client: Client,
    limiters: BTreeMap<ServiceName, Limiter>,
    pairs: Mutex<BTreeMap<Key, Probed>>,
}

/// Asks the arms. Dropping it ends all probes.
pub(super) struct Prober {
    shared: Arc<Shared>,
}

impl Drop for Prober {
    fn drop(&mut self) {
        locked(&self.shared.pairs).values().for_each(|(_, task)| task.abort());
    }
}

fn unavailable(why: impl AsRef<str>) -> Error {
    Error::Unavailable(Text::new(why))
}

impl Prober {
    pub(super) fn new(config: Config, clock: Clock, client: Client) -> Self {
        let limiter = |(name, of): (&ServiceName, &ServiceProbes)| (name.clone(), Limiter::per_second(of.per_second));
        let limiters = config.services.iter().map(limiter).collect();
        Self { shared: Arc::new(Shared { config, clock, client, limiters, pairs: Mutex::default() }) }
    }

    /// The pair asked for, whose arms are asked what the checks name from now on.
    pub(super) fn look_for(&self, ask: &Ask) -> Result<Arc<Pair>, Error> {
        let shared = &self.shared;
        let service = shared.config.services.get(&ask.service);
        let service = service.ok_or_else(|| unavailable(format!("service {} has no probes", ask.service)))?;
        let now = (shared.clock)();
        let until = now + ask.no_later_than.since(now).min(WAIT_MAX) + shared.config.keep;
        let key: Key = (ask.service.clone(), ask.control.clone(), ask.canary.clone());
        let mut pairs = locked(&shared.pairs);
        let known = pairs.get(&key).filter(|(_, task)| !task.is_finished()).map(|(pair, _)| Arc::clone(pair));
        let pair = match known {
            Some(pair) => pair,
            None if pairs.len() >= PAIRS_MAX && !pairs.contains_key(&key) => {
                return Err(unavailable(format!("more than {PAIRS_MAX} pairs of revisions are probed at once")));
            }
            None => {
                let revisions = [ask.control.clone(), Some(ask.canary.clone())];
                let (state, done) = (Mutex::default(), watch::Sender::new(0));
                let pair = Arc::new(Pair { revisions, state, done });
                let task = tokio::spawn(Arc::clone(shared).keep_asking(key.clone(), Arc::clone(&pair)));
                pairs.insert(key, (Arc::clone(&pair), task));
                pair
            }
        };
        let mut state = locked(&pair.state);
        for probe in names(ask).filter(|probe| service.probes.contains_key(*probe)) {
            let wanted = state.wanted.entry(probe.to_owned()).or_default();
            *wanted = until.max(*wanted);
        }
        drop(state);
        Ok(pair)
    }

    /// Waits until both arms were probed at or after the time asked for, or the deadline has come.
    pub(super) async fn wait(&self, pair: &Pair, ask: &Ask) {
        let known = |probe: &&str| self.shared.probe(&ask.service, probe).is_some();
        let probes: Vec<&str> = names(ask).filter(known).collect();
        let mut done = pair.done.subscribe();
        let left = ask.no_later_than.since((self.shared.clock)()).min(WAIT_MAX);
        let mut deadline = pin!(sleep(left));
        loop {
            // Marked before looking: a result that comes in between wakes the wait below.
            done.borrow_and_update();
            let since = ask.through.max(ask.after + Duration::from_millis(1));
            if pair.has_all_since(&probes, since) {
                return;
            }
            tokio::select! {
                changed = done.changed() => if changed.is_err() { return },
                () = &mut deadline => return,
            }
        }
    }

    /// What a probe found on an arm in the window.
    pub(super) fn told(
        &self,
        pair: &Pair,
        service: &ServiceName,
        probe: &str,
        arm: Arm,
        window: Window,
    ) -> Result<Tally, Absence> {
        if self.shared.probe(service, probe).is_none() {
            let why = format!("service {service} has no probe of the name {probe}");
            return Err(Absence::Unavailable(Text::new(why)));
        }
        pair.counts(probe, arm, window)
    }
}

/// The probes that an ask names.
fn names(ask: &Ask) -> impl Iterator<Item = &str> {
    ask.checks.iter().filter_map(|asked| match &asked.sli {
        Sli::Probe { probe } => Some(probe.as_str()),
        Sli::Ratio { .. }
        | Sli::Latency { .. }
        | Sli::EventsPerTraffic { .. }
        | Sli::Level { .. }
        | Sli::Mix { .. }
        | Sli::Liveness { .. } => None,
    })
}

impl Shared {
    fn probe(&self, service: &ServiceName, probe: &str) -> Option<&Probe> {
        self.config.services.get(service)?.probes.get(probe)
    }

    /// Asks both arms until nobody wants to know any more.
    async fn keep_asking(self: Arc<Self>, key: Key, pair: Arc<Pair>) {
        let every = self.config.services.get(&key.0).map_or(EVERY_MIN, |service| service.every);
        let mut ticks = interval(every.max(EVERY_MIN));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.lets_go(&key, &pair) {
                tracing::debug!(service = %key.0, canary = %key.2, "probing ends: nobody asks for it");
                return;
            }
            self.round(&key.0, &pair).await;
        }
    }

    /// Ends a pair that nobody wants; whoever asks at the same moment either keeps it or makes a new one.
    fn lets_go(&self, key: &Key, pair: &Pair) -> bool {
        let mut pairs = locked(&self.pairs);
        let now = (self.clock)();
        let mut state = locked(&pair.state);
        state.wanted.retain(|_, until| now <= *until);
        let unwanted = state.wanted.is_empty();
        if unwanted {
            pairs.remove(key);
        }
        unwanted
    }

    /// Each probe asks each arm once, at the next of its origins.
    async fn round(&self, service: &ServiceName, pair: &Pair) {
        let (Some(of), Some(limiter)) = (self.config.services.get(service), self.limiters.get(service)) else { return };
        let (wanted, turn): (Vec<String>, usize) = {
            let mut state = locked(&pair.state);
            state.turn = state.turn.wrapping_add(1);
            (state.wanted.keys().cloned().collect(), state.turn)
        };
        let arms = [(Arm::Control, &of.control), (Arm::Canary, &of.canary)].map(|(arm, origins)| {
            let filled: Vec<String> = origins.iter().map(|origin| pair.fill(arm, origin)).collect();
            (arm, filled)
        });
        // Gathered first, so that what is spawned borrows from no closure.
        let mut asks = Vec::new();
        for (name, probe) in wanted.iter().filter_map(|name| Some((name, of.probes.get(name)?))) {
            for (arm, origins) in &arms {
                asks.push(self.one(limiter, pair, (name, probe), *arm, (origins, turn)));
            }
        }
        stream::iter(asks).buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    /// One probe of one arm, at the next of its origins.
    async fn one(
        &self,
        limiter: &Limiter,
        pair: &Pair,
        (name, probe): (&String, &Probe),
        arm: Arm,
        (origins, turn): (&Vec<String>, usize),
    ) {
        let Some(origin) = origins.get(turn % origins.len().max(1)) else { return };
        limiter.turn().await;
        let outcome = ask(&self.client, probe, &pair.fill(arm, &probe.path), origin, origins).await;
        tracing::debug!(probe = %name, %arm, ?outcome, "probed");
        pair.put(name, arm, outcome, (self.clock)(), self.config.keep);
    }
}
