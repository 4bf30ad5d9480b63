//! The live world: a real clock, the inbox, and the dispatch of effects to the wings.
//!
//! [`start`] gives the loop a thread of its own. Everything else talks with it through a [`Handle`].

mod clock;
mod dispatch;
mod handle;
mod live;
mod metrics;

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::{
    sync::{broadcast, mpsc, watch},
    time::Instant,
};

pub use clock::Clock;
pub use dispatch::Wings;
pub use handle::{Closed, Handle, Message};
pub use metrics::Metrics;

use self::{dispatch::Dispatch, live::Live};
use crate::{
    domain::Notice,
    journal::Journal,
    rollout::{self, Event, Fleet, Policy},
};

/// Most messages that wait for the loop; senders beyond it wait their turn.
const INBOX_MAX: usize = 4_096;
/// Most notices that a slow listener may lag behind.
const NOTICES_MAX: usize = 256;

/// What a daemon is made of.
pub struct Parts {
    /// The policy from the configuration.
    pub policy: Arc<Policy>,
    /// The open journal.
    pub journal: Journal,
    /// The fleet that it recovered.
    pub fleet: Fleet,
    /// The clock, started at the journal's last time.
    pub clock: Clock,
    /// What effects are handed to.
    pub wings: Wings,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// A daemon that runs.
pub struct Running {
    /// How to talk with it.
    pub handle: Handle,
    /// True once the journal is folded and the first batch is done.
    pub ready: watch::Receiver<bool>,
    thread: JoinHandle<Option<crate::journal::Error>>,
    ended: watch::Receiver<bool>,
}

/// Starts the loop on a thread of its own; its first event says that it started.
pub fn start(parts: Parts) -> std::io::Result<Running> {
    let Parts { policy, journal, mut fleet, clock, wings, metrics } = parts;
    let runtime = tokio::runtime::Handle::current();
    let (sender, inbox) = mpsc::channel(INBOX_MAX);
    let (views, seen) = watch::channel(Arc::new(fleet.view(0)));
    let (notices, _) = broadcast::channel::<Notice>(NOTICES_MAX);
    let (ready, is_ready) = watch::channel(false);
    let (ends, ended) = watch::channel(false);
    let handle = Handle::new(sender, seen, notices.clone());
    let first = Message::Event { event: Event::Started { policy: Arc::clone(&policy) }, done: None };
    handle.send_now(first);
    let dispatch = Dispatch {
        runtime: runtime.clone(),
        wings,
        handle: handle.clone(),
        policy,
        notices,
        metrics: Arc::clone(&metrics),
        lanes: BTreeMap::new(),
    };
    let mut live = Live {
        runtime,
        inbox,
        clock,
        journal,
        dispatch,
        views,
        ready,
        metrics,
        failure: None,
        waiting: Vec::new(),
        looks: Vec::new(),
        shown: Instant::now(),
        is_dirty: false,
    };
    let thread = thread::Builder::new().name("loop".into()).spawn(move || {
        rollout::run(&mut fleet, &mut live);
        if live.failure.is_none()
            && let Err(error) = live.journal.snapshot(&fleet)
        {
            tracing::warn!(%error, "no snapshot at the end; the next start folds the journal");
        }
        ends.send_replace(true);
        live.failure
    })?;
    Ok(Running { handle, ready: is_ready, thread, ended })
}

impl Running {
    /// Waits until the loop has ended by itself, which it does only when its journal cannot be written.
    pub async fn failed(&self) {
        // The sender goes away with the thread, which is an end as well.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Stops the loop after what it has already taken, and says why it had ended if it had.
    pub async fn stop(self) -> Result<(), String> {
        self.handle.stop().await;
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        match joined {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(error))) => Err(error.to_string()),
            Ok(Err(_)) | Err(_) => Err("the loop's thread broke down; the journal holds what was acknowledged".into()),
        }
    }
}
