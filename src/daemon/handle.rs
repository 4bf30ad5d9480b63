//! How the rest of the process talks with the loop: events in, views out. Nothing else reaches the fleet.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::{
    domain::{Notice, RolloutId},
    rollout::{Event, FleetView, RolloutView},
};

/// What the loop's thread takes.
#[derive(Debug)]
pub enum Message {
    /// An event; `done` is answered once it is durable and has been handled.
    Event {
        /// What happened.
        event: Event,
        /// Told when it is durable.
        done: Option<oneshot::Sender<()>>,
    },
    /// Look at one rollout, which may be older than what the shared view holds.
    Look {
        /// Which.
        rollout: RolloutId,
        /// Told what is there.
        seen: oneshot::Sender<Option<RolloutView>>,
    },
    /// End the loop after what came before.
    Stop,
}

/// The daemon is stopping, or its journal cannot be written: nothing more is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the daemon takes no more events: it is stopping")]
pub struct Closed;

/// A handle on the running loop; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    inbox: mpsc::Sender<Message>,
    views: watch::Receiver<Arc<FleetView>>,
    notices: broadcast::Sender<Notice>,
}

impl Handle {
    /// From the ends of the loop's channels.
    pub fn new(
        inbox: mpsc::Sender<Message>,
        views: watch::Receiver<Arc<FleetView>>,
        notices: broadcast::Sender<Notice>,
    ) -> Self {
        Self { inbox, views, notices }
    }

    /// Submits an event and returns once it is durable and has been handled. On an error it may or may not be durable.
    pub async fn submit(&self, event: Event) -> Result<(), Closed> {
        let (done, told) = oneshot::channel();
        self.inbox.send(Message::Event { event, done: Some(done) }).await.map_err(|_| Closed)?;
        told.await.map_err(|_| Closed)
    }

    /// Submits an event without waiting for it to be durable: the reply of a wing, which is asked for again if it is lost.
    pub async fn reply(&self, event: Event) -> Result<(), Closed> {
        self.inbox.send(Message::Event { event, done: None }).await.map_err(|_| Closed)
    }

    /// Puts a message into an inbox that is known to be empty.
    pub(super) fn send_now(&self, message: Message) {
        // A full or closed inbox is impossible before anyone else has the handle.
        let _ = self.inbox.try_send(message);
    }

    /// Asks the loop to end after what it has already been sent.
    pub(super) async fn stop(&self) {
        // A closed inbox means that it has ended already.
        let _ = self.inbox.send(Message::Stop).await;
    }

    /// The newest view: every open rollout and the latest finished ones, up to a limit.
    pub fn view(&self) -> Arc<FleetView> {
        self.views.borrow().clone()
    }

    /// Views as they change, at most a few each second.
    pub fn views(&self) -> watch::Receiver<Arc<FleetView>> {
        self.views.clone()
    }

    /// One rollout, whether or not the shared view holds it.
    pub async fn look(&self, rollout: RolloutId) -> Result<Option<RolloutView>, Closed> {
        let (seen, told) = oneshot::channel();
        self.inbox.send(Message::Look { rollout, seen }).await.map_err(|_| Closed)?;
        told.await.map_err(|_| Closed)
    }

    /// Notices from now on.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }
}
