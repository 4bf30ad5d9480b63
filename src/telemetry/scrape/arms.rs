//! The two arms of one rollout, and a round of reading them.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use reqwest::Client;
use tokio::sync::watch;

use super::{
    ArmTargets, SLIS_MAX,
    fetch::{fetch, place},
    gain::Gain,
    locked,
    rounds::{Patience, Reading, Round, Rounds, SliId},
    seen::Wanted,
    target::Target,
};
use crate::{
    domain::{Absence, CheckId, Sli, Text, Timestamp},
    telemetry::{Answer, Ask, Clock, Error, exposition::Exposition},
};

/// Most endpoints of one pair that are read at the same moment.
const FETCHES_AT_ONCE: usize = 8;

/// What the endpoints answered in one round, by address. An endpoint of both arms is read once.
type Bodies = BTreeMap<String, Result<Exposition, Error>>;

/// One arm: its targets, and what they gained since all of them were last read in one round.
#[derive(Debug, Default)]
struct ArmState {
    targets: BTreeMap<String, Target>,
    labels: BTreeMap<String, String>,
    pending: BTreeMap<SliId, Gain>,
}

impl ArmState {
    fn new(targets: ArmTargets) -> Self {
        let urls = targets.urls.into_iter().map(|url| (url, Target::default()));
        Self { targets: urls.collect(), labels: targets.labels, pending: BTreeMap::new() }
    }

    /// Takes in one round. What some targets gained waits until all are read.
    fn take_in(&mut self, bodies: &Bodies, wanted: &Wanted, slis: &BTreeMap<SliId, Sli>) -> Reading {
        // A level is the mean over all targets at one moment: a part of it is not kept for a later one.
        self.pending.retain(|id, gain| slis.contains_key(id) && !matches!(gain, Gain::Level { .. }));
        let mut missed = None;
        for (url, target) in &mut self.targets {
            match bodies.get(url) {
                Some(Ok(body)) => {
                    for (id, gain) in target.read(body, wanted, &self.labels, slis) {
                        match self.pending.entry(id) {
                            Entry::Occupied(mut pending) => pending.get_mut().add(gain),
                            Entry::Vacant(none) => {
                                none.insert(gain);
                            }
                        }
                    }
                }
                Some(Err(error)) => {
                    missed.get_or_insert_with(|| Absence::from(error.clone()));
                }
                None => {
                    let why = Text::new(format!("{}: was not read", place(url)));
                    missed.get_or_insert(Absence::Unavailable(why));
                }
            }
        }
        match missed {
            Some(why) => Reading::Missed(why),
            None => Reading::Read(mem::take(&mut self.pending)),
        }
    }
}

/// An SLI that is looked for, and until when.
#[derive(Debug)]
struct Sought {
    sli: Sli,
    until: Timestamp,
}

#[derive(Debug, Default)]
struct State {
    control: ArmState,
    canary: ArmState,
    rounds: Rounds,
    sought: BTreeMap<SliId, Sought>,
    next: u64,
    wanted_until: Timestamp,
}

/// Two versions of one service that are read side by side.
#[derive(Debug)]
pub(super) struct Pair {
    state: Mutex<State>,
    done: watch::Sender<u64>,
}

impl Pair {
    pub(super) fn new(control: ArmTargets, canary: ArmTargets) -> Self {
        let state = State { control: ArmState::new(control), canary: ArmState::new(canary), ..State::default() };
        Self { state: Mutex::new(state), done: watch::Sender::new(0) }
    }

    /// Tells each time a round is done.
    pub(super) fn rounds_done(&self) -> watch::Receiver<u64> {
        self.done.subscribe()
    }

    /// Whether someone has asked for it lately.
    pub(super) fn is_wanted(&self, now: Timestamp) -> bool {
        now <= locked(&self.state).wanted_until
    }

    /// Looks for the SLIs of these checks from now on, and says their numbers in the same order.
    pub(super) fn look_for(
        &self,
        checks: &[(CheckId, Sli)],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<SliId>, Error> {
        let mut state = locked(&self.state);
        state.wanted_until = state.wanted_until.max(until);
        state.sought.retain(|_, sought| now <= sought.until);
        checks
            .iter()
            .map(|(_, sli)| {
                if let Some((id, sought)) = state.sought.iter_mut().find(|(_, sought)| sought.sli == *sli) {
                    sought.until = sought.until.max(until);
                    return Ok(*id);
                }
                if state.sought.len() >= SLIS_MAX {
                    return Err(Error::Unavailable(Text::new(format!("more than {SLIS_MAX} SLIs of one pair"))));
                }
                let id = SliId(state.next);
                state.next += 1;
                state.sought.insert(id, Sought { sli: sli.clone(), until });
                Ok(id)
            })
            .collect()
    }

    /// The answer, once there is one.
    pub(super) fn answer(&self, ask: &Ask, slis: &[SliId], patience: Patience) -> Option<Answer> {
        locked(&self.state).rounds.answer(ask, slis, patience)
    }

    /// Reads every target of both arms once.
    pub(super) async fn round(&self, client: &Client, timeout: Duration, clock: &Clock, keep: Duration) {
        let (time, slis, urls) = {
            let mut state = locked(&self.state);
            let now = clock();
            state.sought.retain(|_, sought| now <= sought.until);
            let slis: BTreeMap<SliId, Sli> =
                state.sought.iter().map(|(id, sought)| (*id, sought.sli.clone())).collect();
            let urls: BTreeSet<String> =
                state.control.targets.keys().chain(state.canary.targets.keys()).cloned().collect();
            (state.rounds.next_time(now), slis, urls)
        };
        let wanted = Arc::new(Wanted::of(slis.values()));
        let fetches = urls.into_iter().map(|url| {
            let wanted = Arc::clone(&wanted);
            async move {
                let body = fetch(client, &url, timeout, |name| wanted.takes(name)).await;
                (url, body)
            }
        });
        let bodies: Bodies = stream::iter(fetches).buffer_unordered(FETCHES_AT_ONCE).collect().await;
        let mut state = locked(&self.state);
        let control = state.control.take_in(&bodies, &wanted, &slis);
        let canary = state.canary.take_in(&bodies, &wanted, &slis);
        for (arm, reading) in [("control", &control), ("canary", &canary)] {
            match reading {
                Reading::Read(_) => tracing::debug!(arm, at = %time, "scraped"),
                Reading::Missed(why) => tracing::debug!(arm, at = %time, %why, "not scraped"),
            }
        }
        state.rounds.push(Round { time, control, canary }, keep);
        drop(state);
        self.done.send_modify(|rounds| *rounds += 1);
    }
}
