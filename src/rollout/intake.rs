//! From a delivery to a change: each delivery counts once, and the change is fetched from the forge until it is there or
//! cannot be had.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Effect, FetchError, Policy};
use crate::domain::{Repository, RequestId, Text, Timestamp};

/// Most deliveries that are remembered. GitHub delivers one again within days, and far fewer come in between.
const DELIVERIES_MAX: usize = 20_000;
/// How long one fetch may take.
const REPLY_WITHIN: Duration = Duration::from_secs(60);
/// The first pause after a failed fetch; it doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Failed fetches after which a person is called: with doubling pauses, about half an hour.
const ATTEMPTS_MAX: u32 = 11;
/// Most fetches under way; a merge beyond it is refused, and the forge's own record can be delivered again.
const FETCHES_MAX: usize = 1_000;

/// A pull request that a delivery says was merged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Merge {
    /// The delivery that told of it; forgotten when the fetch is given up, so that it can be delivered again.
    pub(super) delivery: Text,
    pub(super) repository: Repository,
    pub(super) pull_request: u64,
    pub(super) branch: String,
    pub(super) into_default: bool,
}

/// One change that is being fetched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Fetch {
    pub(super) merge: Merge,
    /// The open request; `None` while it waits to be asked again.
    request: Option<RequestId>,
    until: Timestamp,
    failures: u32,
}

/// Deliveries seen, and changes being fetched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Intake {
    deliveries: BTreeMap<Text, u64>,
    by_age: BTreeMap<u64, Text>,
    counted: u64,
    fetches: Vec<Fetch>,
}

impl Intake {
    /// Whether this delivery has not been seen before.
    pub(super) fn first_time(&mut self, delivery: &Text) -> bool {
        if self.deliveries.contains_key(delivery) {
            return false;
        }
        self.counted += 1;
        self.deliveries.insert(delivery.clone(), self.counted);
        self.by_age.insert(self.counted, delivery.clone());
        if self.by_age.len() > DELIVERIES_MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.deliveries.remove(&oldest);
        }
        true
    }

    /// Lets a delivery count again: nothing came of it.
    pub(super) fn forget(&mut self, delivery: &Text) {
        if let Some(number) = self.deliveries.remove(delivery) {
            self.by_age.remove(&number);
        }
    }

    /// How many changes are being fetched.
    pub(super) fn fetching(&self) -> usize {
        self.fetches.len()
    }

    /// Begins to fetch a change, unless it is being fetched already. Says why if there is no room.
    pub(super) fn fetch(
        &mut self,
        merge: Merge,
        now: Timestamp,
        requests: &mut u64,
        effects: &mut Vec<Effect>,
    ) -> Option<String> {
        let same = |fetch: &Fetch| {
            fetch.merge.repository == merge.repository && fetch.merge.pull_request == merge.pull_request
        };
        if self.fetches.iter().any(same) {
            return None;
        }
        if self.fetches.len() >= FETCHES_MAX {
            self.forget(&merge.delivery);
            return Some(format!("no rollout of {merge}: {FETCHES_MAX} changes are being fetched already"));
        }
        let mut fetch = Fetch { merge, request: None, until: now, failures: 0 };
        fetch.ask(now, requests, effects);
        self.fetches.push(fetch);
        None
    }

    /// Takes out the fetch that waits for this request.
    pub(super) fn awaited(&mut self, request: RequestId) -> Option<Fetch> {
        let place = self.fetches.iter().position(|fetch| fetch.request == Some(request))?;
        Some(self.fetches.swap_remove(place))
    }

    /// A fetch failed. Says why if it is given up.
    pub(super) fn failed(&mut self, mut fetch: Fetch, error: &FetchError, now: Timestamp) -> Option<String> {
        fetch.failures += 1;
        let is_given_up = matches!(error, FetchError::Refused(_)) || fetch.failures >= ATTEMPTS_MAX;
        if is_given_up {
            self.forget(&fetch.merge.delivery);
        }
        let of = &fetch.merge;
        match error {
            FetchError::Refused(why) => Some(format!("no rollout of {of}: {why}")),
            FetchError::Unavailable(why) if is_given_up => {
                Some(format!("no rollout of {of}: {why}; deliver its webhook again to try again"))
            }
            FetchError::Unavailable(_) => {
                fetch.request = None;
                fetch.until = now + FIRST_PAUSE.saturating_mul(1 << fetch.failures.min(10));
                self.fetches.push(fetch);
                None
            }
        }
    }

    pub(super) fn next_wakeup(&self) -> Option<Timestamp> {
        self.fetches.iter().map(|fetch| fetch.until).min()
    }

    /// Asks again for what is late. Returns the reasons of what is given up.
    pub(super) fn wake_due(
        &mut self,
        now: Timestamp,
        policy: Option<&Policy>,
        requests: &mut u64,
        effects: &mut Vec<Effect>,
    ) -> Vec<String> {
        let (mut given_up, mut forgotten) = (Vec::new(), Vec::new());
        if policy.is_none() {
            return given_up;
        }
        self.fetches.retain_mut(|fetch| {
            if fetch.until > now {
                return true;
            }
            if fetch.request.is_some() {
                fetch.failures += 1;
            }
            if fetch.failures >= ATTEMPTS_MAX {
                given_up.push(format!(
                    "no rollout of {}: the forge does not answer; deliver its webhook again to try again",
                    fetch.merge
                ));
                forgotten.push(fetch.merge.delivery.clone());
                return false;
            }
            fetch.ask(now, requests, effects);
            true
        });
        forgotten.iter().for_each(|delivery| self.forget(delivery));
        given_up
    }

    pub(super) fn restarted(&mut self, now: Timestamp, requests: &mut u64, effects: &mut Vec<Effect>) {
        for fetch in &mut self.fetches {
            fetch.ask(now, requests, effects);
        }
    }
}

impl std::fmt::Display for Merge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.repository, self.pull_request)
    }
}

impl Fetch {
    fn ask(&mut self, now: Timestamp, requests: &mut u64, effects: &mut Vec<Effect>) {
        *requests += 1;
        let request = RequestId(*requests);
        self.request = Some(request);
        self.until = now + REPLY_WITHIN;
        effects.push(Effect::FetchChange {
            request,
            repository: self.merge.repository.clone(),
            pull_request: self.merge.pull_request,
        });
    }
}
