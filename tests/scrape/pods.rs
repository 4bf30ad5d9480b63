//! A small server whose endpoints show what a test sets, and an asker that goes from window to window.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tollgate::{
    domain::{
        Absence, Arm, CheckId, Counts, Match, Measurement, Revision, Selector, ServiceName, Sli, Split, Tally,
        Timestamp,
    },
    telemetry::{
        Answer, Ask, AskedCheck, Provider,
        scrape::{self, ArmTargets, Scrape, ServiceTargets},
    },
};

/// Time enough for a round on a busy machine.
pub(crate) const SOON: u64 = 10_000;
/// Short enough to wait for a deadline in a test, and some rounds long.
pub(crate) const SHORT: u64 = 150;
pub(crate) const INTERVAL: Duration = Duration::from_millis(20);
pub(crate) const CANARY: &str = "abcdef0123";

/// What an endpoint does.
#[derive(Clone, Debug)]
pub(crate) enum Shows {
    Metrics(String),
    Other { status: u16, kind: &'static str, body: String },
    Nothing,
    To(String),
}

/// A server whose endpoints show what a test sets.
#[derive(Clone)]
pub(crate) struct Pods {
    pub(crate) address: SocketAddr,
    pub(crate) shows: Arc<Mutex<BTreeMap<String, Shows>>>,
    pub(crate) asked: Arc<AtomicU64>,
    pub(crate) accepts: Arc<Mutex<String>>,
}

impl Pods {
    pub(crate) async fn start() -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pods = Self {
            address: listener.local_addr().unwrap(),
            shows: Arc::default(),
            asked: Arc::default(),
            accepts: Arc::default(),
        };
        let router = Router::new().route("/{pod}/metrics", get(answer)).with_state(pods.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        pods
    }

    pub(crate) fn show(&self, pod: &str, shows: Shows) {
        self.shows.lock().unwrap().insert(pod.into(), shows);
    }

    pub(crate) fn metrics(&self, pod: &str, body: impl AsRef<str>) {
        self.show(pod, Shows::Metrics(format!("{}\n", body.as_ref())));
    }

    pub(crate) fn url(&self, pod: &str) -> String {
        format!("http://{}/{pod}/metrics", self.address)
    }

    /// Waits until the endpoints have been read some more times.
    pub(crate) async fn some_rounds(&self) {
        let until = self.asked.load(Ordering::SeqCst) + 8;
        while self.asked.load(Ordering::SeqCst) < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn answer(State(pods): State<Pods>, Path(pod): Path<String>, headers: HeaderMap) -> Response {
    pods.asked.fetch_add(1, Ordering::SeqCst);
    *pods.accepts.lock().unwrap() = headers[header::ACCEPT].to_str().unwrap().to_owned();
    let shows = pods.shows.lock().unwrap().get(&pod).cloned();
    match shows {
        Some(Shows::Metrics(body)) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], body).into_response(),
        Some(Shows::Other { status, kind, body }) => {
            (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, kind)], body).into_response()
        }
        Some(Shows::Nothing) => std::future::pending().await,
        Some(Shows::To(url)) => Redirect::temporary(&url).into_response(),
        None => Response::builder().status(404).body(Body::empty()).unwrap(),
    }
}

pub(crate) fn asked(check: u16, sli: Sli) -> AskedCheck {
    AskedCheck { check: CheckId(check), sli, split: Split::default() }
}

pub(crate) fn errors() -> AskedCheck {
    let total = Selector::metric("hits_total");
    asked(0, Sli::Ratio { bad: total.clone().with("code", Match::StartsWith("5".into())), total })
}

pub(crate) fn took() -> AskedCheck {
    asked(1, Sli::Latency { histogram: Selector::metric("took_seconds"), slow_above_seconds: 0.5 })
}

/// An asker that goes from window to window, with a clock that only it moves.
pub(crate) struct Asker {
    pub(crate) scrape: Scrape,
    pub(crate) clock: Arc<AtomicU64>,
    pub(crate) after: Timestamp,
    pub(crate) checks: Vec<AskedCheck>,
}

pub(crate) fn now(clock: &AtomicU64) -> Timestamp {
    Timestamp::from_millis(clock.load(Ordering::SeqCst))
}

pub(crate) fn targets(control: &[String], canary: &[String]) -> ServiceTargets {
    let arm = |urls: &[String]| ArmTargets { urls: urls.to_vec(), labels: BTreeMap::new() };
    ServiceTargets {
        control: arm(control),
        canary: arm(canary),
        interval: INTERVAL,
        timeout: Duration::from_millis(SOON),
        pod_label: None,
    }
}

pub(crate) fn config(targets: ServiceTargets) -> scrape::Config {
    let services = BTreeMap::from([(ServiceName::new("shop"), targets)]);
    scrape::Config { services, keep: Duration::from_secs(3_600), history: None }
}

impl Asker {
    pub(crate) fn with(config: scrape::Config, checks: Vec<AskedCheck>) -> Self {
        let clock = Arc::new(AtomicU64::new(1_700_000_000_000));
        let reads = Arc::clone(&clock);
        let scrape = scrape::start(config, Arc::new(move || now(&reads)), scrape::client().unwrap());
        Self { scrape, after: now(&clock), clock, checks }
    }

    pub(crate) fn of(control: &[String], canary: &[String]) -> Self {
        Self::with(config(targets(control, canary)), vec![errors()])
    }

    pub(crate) fn ask(&self, patience: u64) -> Ask {
        let through = now(&self.clock);
        Ask {
            service: ServiceName::new("shop"),
            control: None,
            canary: CANARY.parse::<Revision>().unwrap(),
            checks: self.checks.clone(),
            after: self.after,
            through,
            no_later_than: through + Duration::from_millis(patience),
        }
    }

    /// The next window: through now, answered within `patience` milliseconds.
    pub(crate) async fn window(&mut self, patience: u64) -> Answer {
        self.clock.fetch_add(1_000, Ordering::SeqCst);
        let answer = self.scrape.measure(self.ask(patience)).await;
        assert_eq!(answer.measurements.len(), 2 * self.checks.len(), "one for each check and arm, always");
        for Measurement { window, tally, .. } in &answer.measurements {
            assert!(window.after >= self.after && window.through <= answer.through.max(self.after));
            assert!(tally.is_err() || window.after < window.through);
        }
        assert!(answer.through >= self.after);
        self.after = answer.through;
        answer
    }

    /// Begins to read: a window in which nothing is counted.
    pub(crate) async fn begin(&mut self) {
        let answer = self.window(SOON).await;
        let [control, canary] = arms(&answer, 0);
        assert!(control.is_ok() && canary.is_ok(), "{control:?} {canary:?}");
    }
}

pub(crate) type Told = Result<Tally, Absence>;

/// What an answer says of one check: control, then canary.
pub(crate) fn arms(answer: &Answer, check: u16) -> [Told; 2] {
    [Arm::Control, Arm::Canary].map(|arm| {
        let told = answer.measurements.iter().find(|m| m.check == CheckId(check) && m.arm == arm);
        told.unwrap().tally.clone()
    })
}

pub(crate) fn counts(bad: u64, total: u64) -> Told {
    Ok(Tally::Counts(Counts { bad, total }))
}
