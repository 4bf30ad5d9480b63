//! Reads control's pages in the background, at a slow pace, and keeps what they show: the index of metrics and the recent
//! past, from which planners learn what there is to check and how it behaves, without asking the source for it.
//!
//! A service's keeper begins with the process where control's addresses are fixed, and else with the first revision that
//! control is known to have. When control becomes another revision, other processes are read and the past begins anew: what
//! the old ones showed is no past of theirs.
//!
//! A page that a rollout reads at the same time is read twice; at one reading in 30 seconds that is cheaper than to share
//! what is parsed for different metrics.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use reqwest::Client;
use tokio::{
    runtime::Handle,
    task::{JoinHandle, spawn_blocking},
    time::{MissedTickBehavior, interval},
};

use super::{ArmTargets, INTERVAL_MIN, PLACEHOLDER, ServiceTargets, Shared, arms::names, fetch::fetch};
use crate::{
    domain::{Absence, Revision, ServiceName, Text},
    telemetry::{
        Catalogued, Clock, Past, PastAsk,
        counting::{
            index::catalogued,
            locked,
            replay::Extract,
            ring::{Limits, READINGS_KEPT_MAX, Ring},
        },
    },
};

/// Most pages of one service that are read at the same moment.
const FETCHES_AT_ONCE: usize = 2;

/// How the recent past of every service's control is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Time between readings; they are never closer. At least [`INTERVAL_MIN`].
    pub every: Duration,
    /// How far back it reaches: at least two readings, at most [`READINGS_KEPT_MAX`].
    pub reach: Duration,
}

impl Default for History {
    fn default() -> Self {
        Self { every: Duration::from_secs(30), reach: Duration::from_secs(2 * 3_600) }
    }
}

impl History {
    /// Refuses what cannot work.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.every < INTERVAL_MIN {
            return Err(format!("history is to be read no more often than every {} ms", INTERVAL_MIN.as_millis()));
        }
        let readings = self.reach.as_millis() / self.every.as_millis().max(1);
        if !(2..=READINGS_KEPT_MAX as u128).contains(&readings) {
            return Err(format!("history is to reach back 2 to {READINGS_KEPT_MAX} readings, not {readings}"));
        }
        Ok(())
    }
}

/// The keepers, by service.
#[derive(Default)]
pub(super) struct Keepers(Mutex<BTreeMap<ServiceName, Keeping>>);

/// One keeper, and the task that reads for it.
struct Keeping {
    revision: Option<Revision>,
    keeper: Arc<Keeper>,
    task: JoinHandle<()>,
}

impl Keepers {
    /// Begins to keep what can be kept without knowing a revision, as far as there is a runtime to do it.
    pub(super) fn begin_all(shared: &Arc<Shared>) {
        if Handle::try_current().is_ok() {
            for service in shared.config.services.keys() {
                shared.keepers.begin(shared, service, None);
            }
        }
    }

    /// Sees to it that a service's control, which is of this revision as far as it is known, is kept.
    pub(super) fn begin(&self, shared: &Arc<Shared>, service: &ServiceName, stable: Option<&Revision>) {
        let (Some(history), Some(targets)) = (shared.config.history, shared.config.services.get(service)) else {
            return;
        };
        let revision = if names_the_revision(&targets.control) {
            let Some(stable) = stable else { return };
            Some(stable.clone())
        } else {
            None
        };
        let mut all = locked(&self.0);
        if all.get(service).is_some_and(|old| old.revision == revision && !old.task.is_finished()) {
            return;
        }
        let limits = Limits::of_one_among(shared.config.services.len());
        let keeper = Arc::new(Keeper::of(targets, revision.as_ref(), history, limits));
        let (client, clock) = (shared.client.clone(), Arc::clone(&shared.clock));
        let task = tokio::spawn(Arc::clone(&keeper).keep(client, clock, targets.timeout));
        tracing::debug!(%service, "keeping of the past begins");
        if let Some(old) = all.insert(service.clone(), Keeping { revision, keeper, task }) {
            old.task.abort();
        }
    }

    /// The keeper of a service, if it has one by now.
    pub(super) fn of(&self, service: &ServiceName) -> Option<Arc<Keeper>> {
        locked(&self.0).get(service).map(|keeping| Arc::clone(&keeping.keeper))
    }

    /// Ends all of them.
    pub(super) fn end(&self) {
        locked(&self.0).values().for_each(|keeping| keeping.task.abort());
    }
}

/// Whether what is read depends on the revision.
fn names_the_revision(arm: &ArmTargets) -> bool {
    arm.urls.iter().chain(arm.labels.values()).any(|text| text.contains(PLACEHOLDER))
}

/// Keeps what one control shows.
pub(super) struct Keeper {
    history: History,
    pod_label: Option<String>,
    kept: Mutex<Kept>,
}

struct Kept {
    ring: Ring,
    catalogued: Option<Arc<Catalogued>>,
}

impl Keeper {
    fn of(targets: &ServiceTargets, revision: Option<&Revision>, history: History, limits: Limits) -> Self {
        let mut control = targets.control.for_revision(revision);
        // A page that is named twice is one page.
        control.urls.sort();
        control.urls.dedup();
        let names = names(&control.urls, targets.pod_label.as_deref());
        let ring = Ring::new(control.urls, control.labels, history.reach, limits).named(names);
        let kept = Mutex::new(Kept { ring, catalogued: None });
        Self { history, pod_label: targets.pod_label.clone(), kept }
    }

    /// Reads for as long as it is let.
    async fn keep(self: Arc<Self>, client: Client, clock: Clock, timeout: Duration) {
        let mut ticks = interval(self.history.every.max(INTERVAL_MIN));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.round(&client, &clock, timeout).await;
        }
    }

    /// Reads every page once, one after the other or nearly: it is in no hurry, and a page takes room while it is read.
    async fn round(&self, client: &Client, clock: &Clock, timeout: Duration) {
        let (time, urls) = {
            let mut kept = locked(&self.kept);
            let urls: Vec<String> = kept.ring.processes.iter().map(|process| process.url.clone()).collect();
            (kept.ring.begin(clock()), urls)
        };
        let fetches = urls.into_iter().map(|url| async move {
            let body = fetch(client, &url, timeout, |_| true).await;
            (url, body)
        });
        let mut bodies = stream::iter(fetches).buffer_unordered(FETCHES_AT_ONCE);
        let mut has_read = false;
        while let Some((url, body)) = bodies.next().await {
            has_read |= body.is_ok();
            locked(&self.kept).ring.take_in(&url, body.as_ref());
        }
        let mut kept = locked(&self.kept);
        kept.ring.end();
        if !has_read {
            return;
        }
        let has_changed = std::mem::take(&mut kept.ring.has_changed);
        match &mut kept.catalogued {
            Some(index) if !has_changed => Arc::make_mut(index).seen = time,
            Some(_) | None => kept.catalogued = Some(Arc::new(catalogued(&kept.ring, time))),
        }
    }

    /// The index, once a page has been read.
    pub(super) fn metrics(&self) -> Result<Arc<Catalogued>, Absence> {
        locked(&self.kept).catalogued.clone().ok_or(Absence::NoData)
    }

    /// What an SLI showed. Counting is left to a thread that may take its time.
    pub(super) async fn history(&self, ask: PastAsk) -> Result<Past, Absence> {
        let every = self.history.every;
        let extract = Extract::of(&locked(&self.kept).ring, (ask.sli, ask.split), self.pod_label.clone(), ask.reach)?;
        let replayed = spawn_blocking(move || extract.replay(every)).await;
        replayed.unwrap_or_else(|_| Err(Absence::Unavailable(Text::new("the past could not be counted"))))
    }
}
