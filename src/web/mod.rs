//! What is seen and asked over HTTP: the API, the dashboard page, the live stream and `/metrics`.
//!
//! This room reads views and sends events through [`Handle`], and has no other way to the fleet. Routes with rules of
//! their own (webhooks, feature flags) are made elsewhere in this room and merged as they are: they get the headers and
//! the catching of panics, but neither the host check nor the limits below, for their callers are other machines.
//!
//! Layers, outermost first: security headers, catching of panics; then for our own routes the shape of errors, the
//! host check, the body limit and, for everything but the stream, the time limit.

pub mod api;
pub mod auth;
pub mod live;
pub mod metrics;
pub mod ofrep;
pub mod page;
pub mod webhooks;

use std::{any::Any, collections::BTreeSet, io, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::watch, time};
use tower_http::{catch_panic::CatchPanicLayer, limit::RequestBodyLimitLayer, timeout::TimeoutLayer};

use crate::{
    daemon::Handle,
    domain::{ServiceName, Text},
};

pub use crate::daemon::Metrics;
pub use auth::Hosts;

/// Most bytes of a request's body.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest time any answer but the stream may take.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long after the shutdown signal open connections may finish what they began.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// What the page and the other answers may load: our own files and nothing else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the router is made of.
pub struct Parts {
    /// The loop: views out, events in.
    pub handle: Handle,
    /// What callers of acting routes must bear; without one (or with an empty one) those routes answer 403.
    pub api_token: Option<SecretString>,
    /// Whether the journal is folded and the wings are up: what `/readyz` says.
    pub ready: watch::Receiver<bool>,
    /// The numbers behind `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Routes with rules of their own, without a fallback and without paths of ours: webhooks, feature flags.
    pub others: Router,
    /// The services of the policy: a deployment of any other is refused.
    pub service_names: Vec<ServiceName>,
    /// The names under which the API and the page may be asked for.
    pub hosts: Hosts,
}

/// What every handler may read.
struct Site {
    handle: Handle,
    api_token: Option<SecretString>,
    ready: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    service_names: BTreeSet<ServiceName>,
    hosts: Hosts,
    streams: live::Streams,
}

/// Puts the routes and their layers together. It starts nothing.
///
/// # Panics
/// When `others` has a fallback or a path of ours: both are mistakes of the composition root, seen at the first start.
pub fn router(parts: Parts) -> Router {
    let site = Arc::new(Site {
        handle: parts.handle,
        api_token: parts.api_token.filter(|token| !token.expose_secret().is_empty()),
        ready: parts.ready,
        metrics: parts.metrics,
        service_names: parts.service_names.into_iter().collect(),
        hosts: parts.hosts,
        streams: live::Streams::new(live::STREAMS_MAX),
    });
    let in_time = || TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, ANSWER_WITHIN);
    let for_people = Router::new()
        .merge(api::routes(&site))
        .merge(page::routes())
        .layer(in_time())
        .merge(live::routes())
        .layer(middleware::from_fn_with_state(Arc::clone(&site), auth::own_host));
    let for_machines = Router::new()
        .route("/healthz", get(|| async { Json(serde_json::json!({"status": "alive"})) }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics::scrape))
        .layer(in_time());
    for_people
        .merge(for_machines)
        .method_not_allowed_fallback(|| async { Refusal::from(StatusCode::METHOD_NOT_ALLOWED) })
        .layer(DefaultBodyLimit::disable())
        .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX))
        .layer(middleware::map_response(in_shape))
        .with_state(site)
        .merge(parts.others)
        .fallback(|| async { Refusal::from(StatusCode::NOT_FOUND) })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::map_response(with_security_headers))
}

/// Serves `router` on `listener` until `shutdown` is done. Then the streams end at once, other requests may finish
/// within [`DRAIN_WITHIN`], and nothing new is accepted. The error is the listener's.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stop, stopping) = watch::channel(false);
    let router = router.layer(Extension(live::Stopping(stopping.clone())));
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
        shutdown.await;
        stop.send_replace(true);
    });
    // A client that stopped reading must not keep the process from ending.
    let overdue = async {
        live::Stopping(stopping).wait().await;
        time::sleep(DRAIN_WITHIN).await;
    };
    tokio::select! {
        done = serving.into_future() => done,
        () = overdue => {
            tracing::warn!("connections were still open {} s after the shutdown signal", DRAIN_WITHIN.as_secs());
            Ok(())
        }
    }
}

async fn ready(State(site): State<Arc<Site>>) -> Response {
    if *site.ready.borrow() {
        Json(serde_json::json!({"status": "ready"})).into_response()
    } else {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "not ready yet", "ask again in a moment").into_response()
    }
}

/// An answer that is a refusal: what is wrong, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    told: RefusalBody,
}

/// The body of every refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalBody {
    /// What is wrong.
    pub error: Text,
    /// How to mend it.
    pub fix: Text,
}

impl Refusal {
    fn new(status: StatusCode, error: impl AsRef<str>, fix: impl AsRef<str>) -> Self {
        Self { status, told: RefusalBody { error: Text::new(error), fix: Text::new(fix) } }
    }

    /// The loop takes nothing more.
    fn closed() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the daemon takes no more events: it is stopping",
            "ask again once it has started anew; look first whether the command took effect",
        )
    }
}

impl From<StatusCode> for Refusal {
    /// For what axum and the layers refuse before a handler of ours sees it.
    fn from(status: StatusCode) -> Self {
        let (error, fix) = match status {
            StatusCode::NOT_FOUND => ("there is nothing at this path", "the API's paths begin with /v1/rollouts"),
            StatusCode::METHOD_NOT_ALLOWED => {
                ("this path does not take this method", "read with GET; act with POST where the path takes it")
            }
            StatusCode::PAYLOAD_TOO_LARGE => ("the body is too large", "send at most 65536 bytes"),
            StatusCode::GATEWAY_TIMEOUT => {
                ("no answer in time", "look before asking again: a command may still take effect")
            }
            _ => (status.canonical_reason().unwrap_or("refused"), "see the API's description"),
        };
        Self::new(status, error, fix)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.told)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tollgate\""));
        }
        response
    }
}

/// Gives errors that a layer or an extractor made the shape of ours, and keeps answers out of caches.
async fn in_shape(mut response: Response) -> Response {
    let status = response.status();
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if (status.is_client_error() || status.is_server_error()) && !is_json {
        let allow = response.headers().get(header::ALLOW).cloned();
        response = Refusal::from(status).into_response();
        if let Some(methods) = allow {
            response.headers_mut().insert(header::ALLOW, methods);
        }
    }
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}

async fn with_security_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

/// A panic is a mistake of ours: the caller learns that much, the log has the rest by the panic hook.
fn panicked(_cause: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a request's handler panicked");
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "a mistake inside tollgate", "see its log").into_response()
}
