//! The two arms of one rollout: what is looked for in them, and the rounds that are kept of them.
//!
//! Whoever reads the source asks what is [due](Pair::due), reads it, and [feeds](Pair::feed) it; whoever wants to know
//! [looks for](Pair::look_for) SLIs and takes the [answer](Pair::answer) once there is one. The two may be the same.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use tokio::sync::watch;

use super::{
    arm::{ArmPages, ArmState},
    locked,
    parts::Sought,
    rounds::{Patience, Reading, Round, Rounds, SliId},
    seen::Wanted,
};
use crate::{
    domain::{Text, Timestamp},
    telemetry::{Answer, Ask, AskedCheck, Error},
};

/// Most SLIs that are looked for in one pair.
pub const SLIS_MAX: usize = 256;

/// What is looked for, and until when.
#[derive(Debug)]
struct Search {
    sought: Sought,
    until: Timestamp,
}

#[derive(Debug, Default)]
struct State {
    control: ArmState,
    canary: ArmState,
    rounds: Rounds,
    searches: BTreeMap<SliId, Search>,
    next: u64,
    wanted_until: Timestamp,
}

/// A round that is to be read.
#[derive(Clone, Debug)]
pub(in crate::telemetry) struct Due {
    /// Its time.
    pub(in crate::telemetry) time: Timestamp,
    /// What is looked for in it.
    pub(in crate::telemetry) slis: BTreeMap<SliId, Sought>,
    /// The metrics that it needs.
    pub(in crate::telemetry) wanted: Wanted,
}

/// Two versions of one service that are read side by side.
#[derive(Debug)]
pub(in crate::telemetry) struct Pair {
    state: Mutex<State>,
    done: watch::Sender<u64>,
}

impl Pair {
    /// Two arms of which nothing is known yet.
    pub(in crate::telemetry) fn new(control: ArmState, canary: ArmState) -> Self {
        let state = State { control, canary, ..State::default() };
        Self { state: Mutex::new(state), done: watch::Sender::new(0) }
    }

    /// Tells each time a round is done.
    pub(in crate::telemetry) fn rounds_done(&self) -> watch::Receiver<u64> {
        self.done.subscribe()
    }

    /// Whether someone has asked for it lately.
    pub(in crate::telemetry) fn is_wanted(&self, now: Timestamp) -> bool {
        now <= locked(&self.state).wanted_until
    }

    /// Looks for the SLIs of these checks from now on, and says their numbers in the same order.
    pub(in crate::telemetry) fn look_for(
        &self,
        checks: &[AskedCheck],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<SliId>, Error> {
        let mut state = locked(&self.state);
        state.wanted_until = state.wanted_until.max(until);
        state.searches.retain(|_, search| now <= search.until);
        checks
            .iter()
            .map(|AskedCheck { sli, split, .. }| {
                let is_same = |search: &Search| search.sought.sli == *sli && search.sought.split == *split;
                if let Some((id, search)) = state.searches.iter_mut().find(|(_, search)| is_same(search)) {
                    search.until = search.until.max(until);
                    return Ok(*id);
                }
                if state.searches.len() >= SLIS_MAX {
                    return Err(Error::Unavailable(Text::new(format!("more than {SLIS_MAX} SLIs of one pair"))));
                }
                let id = SliId(state.next);
                state.next += 1;
                let sought = Sought { sli: sli.clone(), split: split.clone() };
                state.searches.insert(id, Search { sought, until });
                Ok(id)
            })
            .collect()
    }

    /// The answer, once there is one.
    pub(in crate::telemetry) fn answer(&self, ask: &Ask, slis: &[SliId], patience: Patience) -> Option<Answer> {
        locked(&self.state).rounds.answer(ask, slis, patience)
    }

    /// The time of the last page of each pod of both arms that is not gone, by key.
    pub(in crate::telemetry) fn last_pages(&self) -> BTreeMap<String, Timestamp> {
        let state = locked(&self.state);
        let mut pages: BTreeMap<String, Timestamp> = BTreeMap::new();
        for (key, at) in state.control.last_pages().chain(state.canary.last_pages()) {
            let oldest = pages.entry(key.to_owned()).or_insert(at);
            *oldest = (*oldest).min(at);
        }
        pages
    }

    /// The round that is to be read now. Its time is later than every one before, though the clock be set back.
    pub(in crate::telemetry) fn due(&self, now: Timestamp) -> Due {
        let mut state = locked(&self.state);
        state.searches.retain(|_, search| now <= search.until);
        let slis: BTreeMap<SliId, Sought> =
            state.searches.iter().map(|(id, search)| (*id, search.sought.clone())).collect();
        let wanted = Wanted::of(slis.values().map(|sought| &sought.sli));
        Due { time: state.rounds.next_time(now), slis, wanted }
    }

    /// Takes in what is known of both arms through the time of a round that was due, and keeps it for `keep`.
    pub(in crate::telemetry) fn feed(&self, due: &Due, control: &ArmPages<'_>, canary: &ArmPages<'_>, keep: Duration) {
        let Due { time, slis, wanted } = due;
        let mut state = locked(&self.state);
        let control = state.control.take_in(*time, control, wanted, slis);
        let canary = state.canary.take_in(*time, canary, wanted, slis);
        for (arm, reading) in [("control", &control), ("canary", &canary)] {
            match reading {
                Reading::Read(_) => tracing::debug!(arm, at = %time, "read"),
                Reading::Missed(why) => tracing::debug!(arm, at = %time, %why, "not read"),
            }
        }
        state.rounds.push(Round { time: *time, control, canary }, keep);
        drop(state);
        self.done.send_modify(|rounds| *rounds += 1);
    }
}
