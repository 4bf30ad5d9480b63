//! The live stream, as server-sent events.
//!
//! On connect the whole view, then each new view (`event: view`) and each notice (`event: notice`). A view is a state
//! and not a step, so a slow reader skips to the newest one: nothing is queued for anyone. Notices are steps; a reader
//! who falls too far behind is told how many were missed (`event: missed`).

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Extension, Router,
    extract::State,
    http::{StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::get,
};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};

use super::{Refusal, Site};
use crate::{domain::Notice, rollout::FleetView};

/// Most streams at once.
pub const STREAMS_MAX: usize = 64;
/// Time between comments that keep a quiet connection open; a reader may take three times this for a lost one.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a browser waits before it connects again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Says when the server is shutting down, so that streams end.
#[derive(Clone, Debug)]
pub(super) struct Stopping(pub(super) watch::Receiver<bool>);

impl Stopping {
    /// Returns once the server is shutting down, which a vanished sender means as well.
    pub(super) async fn wait(mut self) {
        self.0.wait_for(|stop| *stop).await.ok();
    }
}

/// The places for streams, and the newest view as it was last written for one of them.
pub(super) struct Streams {
    places: Arc<Semaphore>,
    places_max: usize,
    written: Mutex<Option<(Arc<FleetView>, Arc<str>)>>,
}

impl Streams {
    pub(super) fn new(places_max: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places_max)), places_max, written: Mutex::new(None) }
    }

    /// How many streams there are now.
    pub(super) fn open(&self) -> usize {
        self.places_max.saturating_sub(self.places.available_permits())
    }

    /// The view as JSON, written once for all readers.
    fn write(&self, view: Arc<FleetView>) -> Arc<str> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        match &*written {
            Some((of, text)) if Arc::ptr_eq(of, &view) => Arc::clone(text),
            Some(_) | None => {
                let text: Arc<str> = json(&*view).into();
                *written = Some((view, Arc::clone(&text)));
                text
            }
        }
    }
}

/// Plain values with string keys: writing them cannot fail, and an empty object would say so if it did.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "{}".into())
}

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new().route("/v1/events", get(events))
}

/// One reader's place and what it has not seen yet.
struct Reader {
    site: Arc<Site>,
    views: watch::Receiver<Arc<FleetView>>,
    notices: broadcast::Receiver<Notice>,
    stopping: Option<Stopping>,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

async fn events(State(site): State<Arc<Site>>, stopping: Option<Extension<Stopping>>) -> Response {
    let Ok(place) = Arc::clone(&site.streams.places).try_acquire_owned() else {
        let error = format!("{} readers are connected, and no more are taken", site.streams.places_max);
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error, "close a dashboard, or poll /v1/rollouts")
            .into_response();
    };
    // Notices first: one that comes between the two calls is then seen twice rather than never.
    let notices = site.handle.notices();
    let views = site.handle.views();
    let stopping = stopping.map(|Extension(stopping)| stopping);
    let reader = Reader { site, views, notices, stopping, greeted: false, _place: place };
    let events = stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // Proxies that buffer would hold events back.
    ([(header::CACHE_CONTROL.as_str(), "no-store"), ("x-accel-buffering", "no")], sse).into_response()
}

impl Reader {
    /// The next event; `None` ends the stream.
    async fn next(&mut self) -> Option<Event> {
        if !self.greeted {
            self.greeted = true;
            return Some(self.view().retry(RETRY_AFTER));
        }
        let stopping = self.stopping.clone();
        let stopped = async {
            match stopping {
                Some(stopping) => stopping.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stopped => None,
            notice = self.notices.recv() => match notice {
                Ok(notice) => Some(Event::default().event("notice").data(json(&notice))),
                Err(broadcast::error::RecvError::Lagged(count)) => {
                    Some(Event::default().event("missed").data(json(&serde_json::json!({"notices": count}))))
                }
                Err(broadcast::error::RecvError::Closed) => None,
            },
            changed = self.views.changed() => match changed {
                Ok(()) => Some(self.view()),
                Err(_loop_ended) => None,
            },
        }
    }

    fn view(&mut self) -> Event {
        let view = self.views.borrow_and_update().clone();
        Event::default().event("view").data(self.site.streams.write(view))
    }
}
