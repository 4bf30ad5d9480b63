//! The live world: the loop's own thread waits here for what the tasks of the runtime send, makes it durable, and hands
//! effects to [`Dispatch`].

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{Clock, Message, Metrics, dispatch::Dispatch};
use crate::{
    domain::{RolloutId, Stamped, Timestamp},
    journal::Journal,
    rollout::{Effect, Event, Fleet, FleetView, RolloutView, World},
};

/// Most events of one batch, and so of one durable commit.
const BATCH_MAX: usize = 256;
/// Most rollouts in the shared view.
const VIEW_ROLLOUTS_MAX: usize = 100;
/// Least time between two shared views.
const VIEW_EVERY: Duration = Duration::from_millis(100);
/// Longest time that we wait at the start for what stood to be in force again. Whoever asks meanwhile waits too, so an
/// actuator that cannot be reached must not keep everything else from being answered.
pub(super) const IN_FORCE_WITHIN: Duration = Duration::from_secs(5);

/// The live world.
pub(super) struct Live {
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) inbox: mpsc::Receiver<Message>,
    pub(super) clock: Clock,
    pub(super) journal: Journal,
    pub(super) dispatch: Dispatch,
    pub(super) views: watch::Sender<Arc<FleetView>>,
    pub(super) ready: watch::Sender<bool>,
    pub(super) metrics: Arc<Metrics>,
    /// Why the loop ended, if it was not asked to.
    pub(super) failure: Option<crate::journal::Error>,
    /// Who is to be told once this batch is durable and handled.
    pub(super) waiting: Vec<oneshot::Sender<()>>,
    pub(super) looks: Vec<(RolloutId, oneshot::Sender<Option<RolloutView>>)>,
    pub(super) began: Instant,
    pub(super) shown: Instant,
    pub(super) is_dirty: bool,
    /// A person's order is in this batch.
    pub(super) was_ordered: bool,
}

enum Woken {
    Message(Message),
    Time,
    Closed,
}

impl Live {
    /// Blocks until a message comes or a time is reached.
    fn next(&mut self, until: Option<Timestamp>) -> Woken {
        let now = self.clock.now();
        let asked = until.map(|until| Instant::now_plus(until.since(now)));
        let show = self.is_dirty.then(|| self.shown + VIEW_EVERY);
        let deadline = asked.into_iter().chain(show).min();
        let inbox = &mut self.inbox;
        let message = self.runtime.block_on(async {
            match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, inbox.recv()).await.ok(),
                None => Some(inbox.recv().await),
            }
        });
        match message {
            Some(Some(message)) => Woken::Message(message),
            Some(None) => Woken::Closed,
            None => Woken::Time,
        }
    }

    /// Sorts a message into the batch. `false` when it asks to stop.
    fn take(&mut self, message: Message, batch: &mut Vec<Stamped<Event>>) -> bool {
        match message {
            Message::Event { event, done } => {
                self.was_ordered |= matches!(event, Event::Commanded { .. } | Event::KillSwitch { .. });
                batch.push(Stamped { at: self.clock.now(), event });
                self.waiting.extend(done);
                true
            }
            Message::Look { rollout, seen } => {
                self.looks.push((rollout, seen));
                true
            }
            Message::Stop => false,
        }
    }
}

/// `Instant` by way of tokio, whose clock tests can stop.
trait NowPlus {
    fn now_plus(span: Duration) -> Self;
}

impl NowPlus for Instant {
    fn now_plus(span: Duration) -> Self {
        // A year is as good as never, and keeps the sum in range.
        Self::now() + span.min(Duration::from_secs(365 * 24 * 3_600))
    }
}

impl World for Live {
    fn wait(&mut self, until: Option<Timestamp>) -> Option<Vec<Stamped<Event>>> {
        let mut batch = Vec::new();
        match self.next(until) {
            Woken::Closed => return None,
            Woken::Message(message) => {
                if !self.take(message, &mut batch) {
                    return None;
                }
                while batch.len() < BATCH_MAX {
                    let Ok(message) = self.inbox.try_recv() else { break };
                    if !self.take(message, &mut batch) {
                        // What came before the stop is still recorded; the next wait finds the inbox closed.
                        self.inbox.close();
                        break;
                    }
                }
            }
            Woken::Time => {
                let now = self.clock.now();
                if until.is_some_and(|until| until <= now) {
                    batch.push(Stamped { at: now, event: Event::WokeUp });
                }
            }
        }
        Some(batch)
    }

    fn commit(&mut self, entries: &[Stamped<Event>]) -> ControlFlow<()> {
        if entries.is_empty() {
            return ControlFlow::Continue(());
        }
        let began = Instant::now();
        if let Err(error) = self.journal.append(entries) {
            tracing::error!(%error, "the journal cannot be written; nothing more is done");
            self.failure = Some(error);
            return ControlFlow::Break(());
        }
        self.metrics.committed(entries, began.elapsed().as_secs_f64());
        self.metrics.handled(u64::try_from(entries.len()).unwrap_or(u64::MAX));
        ControlFlow::Continue(())
    }

    fn perform(&mut self, effect: Effect) {
        self.dispatch.start(effect);
    }

    fn observe(&mut self, fleet: &Fleet) {
        self.show(fleet);
        // After the view: who gave an order and looks once it is acknowledged finds it there.
        for done in self.waiting.drain(..) {
            // Whoever asked may have gone away meanwhile.
            let _ = done.send(());
        }
        for (rollout, seen) in self.looks.drain(..) {
            let _ = seen.send(fleet.view_of(rollout));
        }
        if let Err(error) = self.journal.maybe_snapshot(fleet) {
            tracing::warn!(%error, "no snapshot of the journal; recovery will take longer");
        }
    }
}

impl Live {
    /// Shares a view if one is due, and says that we are ready once what stood before is in force again.
    fn show(&mut self, fleet: &Fleet) {
        let is_starting = !*self.ready.borrow();
        self.is_dirty = true;
        if self.shown.elapsed() >= VIEW_EVERY || self.was_ordered || is_starting {
            let view = Arc::new(fleet.view(VIEW_ROLLOUTS_MAX));
            self.metrics.viewed(&view);
            self.views.send_replace(view);
            self.shown = Instant::now();
            (self.is_dirty, self.was_ordered) = (false, false);
        }
        if is_starting {
            let is_ready = self.dispatch.moves_open() == 0 || self.began.elapsed() >= IN_FORCE_WITHIN;
            self.ready.send_replace(is_ready);
            // Until then we look again, whether or not anything happens.
            self.is_dirty |= !is_ready;
        }
    }
}
