//! Receives OpenTelemetry's metrics: a service that has an SDK and no Prometheus points its exporter here.
//!
//! Exports come over HTTP (`/v1/metrics`, protobuf or JSON) and gRPC, cumulative or delta. What each process has counted is
//! kept as it stands, and at the rounds of a fixed grid becomes a page of that process, which is counted as every other
//! page is. A round waits until every process has shown how it stood at the round's time or later, so that nothing from
//! before a window is counted in it; a process that is silent for [`ServiceResources::stale_after`] is not waited
//! for, and its arm is missed, until it is given up after [`ServiceResources::gone_after`].
//!
//! # Arms and pods
//! The attributes of an export's resource tell the arm: by default `service.name`, and `service.version`, which is the
//! revision. A process is known by `service.instance.id`; else by `k8s.pod.name` or `host.name`, with `process.pid` where
//! that is told. Processes of one arm that tell none of these would be taken for one that restarts all the time: what
//! they send is refused with a word as soon as it shows.
//!
//! # Names
//! A selector writes names as Prometheus has them: `http.server.request.duration` in `s` is
//! `http_server_request_duration_seconds`, a counter `jobs.done` is `jobs_done_total`, an attribute `http.route` is the
//! label `http_route`. A metric's own name, with its dots, means the same. Times of histograms are told in seconds whatever
//! their unit is, since checks ask in seconds; the name still says the unit, as the specification has it.
//!
//! Nothing is kept on disk, and no past: after a restart the first exports are where counting starts anew.

mod catalogue;
mod decode;
mod exponential;
mod grpc;
mod http;
mod names;
mod points;
mod receive;
mod series;
mod store;

pub use self::{
    decode::{BODY_BYTES_MAX, FIELDS_MAX, JSON_BYTES_MAX, OBJECTS_MAX, POINTS_MAX},
    http::REQUEST_WITHIN,
    points::{ATTRIBUTES_MAX, BUCKETS_MAX},
    receive::REQUESTS_MAX,
    store::{ALL_PODS_MAX, KEPT_BYTES_MAX, POD_SERIES_MAX, RESOURCE_ATTRIBUTES_MAX},
};

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener as StdListener},
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    net::TcpListener,
    runtime::Handle,
    task::JoinHandle,
    time::{sleep, timeout},
};

use self::{
    receive::Receiver,
    store::{Ages, Store},
};
use super::{
    Answer, Ask, Catalogued, Clock, Error, Provider,
    counting::{
        arm::{ArmPages, ArmState, Leaving, Page, Shown},
        locked,
        pair::{Due, Pair},
        rounds::{Patience, SliId},
    },
    exposition::Exposition,
};
use crate::domain::{Absence, Revision, ServiceName, Text, Timestamp};

/// Least time between rounds.
pub const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Most pairs of revisions that are counted at once.
pub const PAIRS_MAX: usize = 256;
/// Most attributes that tell an arm.
pub const LABELS_MAX: usize = 16;
/// Longest wait of one ask; its deadline may be earlier.
pub const WAIT_MAX: Duration = Duration::from_secs(3_600);
/// Longest wait for the rest of an export that comes in several requests.
const REST_WITHIN: Duration = Duration::from_millis(250);

/// What stands for the arm's revision in values.
const PLACEHOLDER: &str = "{revision}";
/// What it is replaced by for a control that is not known by revision.
const STABLE: &str = "stable";

/// Which processes are one service's arms: the attributes that their resources bear, by their own names or as labels
/// (`service.version` or `service_version`). `{revision}` in a value stands for the arm's revision, or for `stable` where
/// control's is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceResources {
    /// The old version: 1 to [`LABELS_MAX`].
    pub control: BTreeMap<String, String>,
    /// The new version.
    pub canary: BTreeMap<String, String>,
    /// Time between exports, and between rounds: at least [`INTERVAL_MIN`].
    pub interval: Duration,
    /// A process that has sent nothing for longer is missed, and its arm with it. At least an interval; three are usual.
    pub stale_after: Duration,
    /// A process that has sent nothing for longer is given up, and its arm goes on without it. At least `stale_after`.
    pub gone_after: Duration,
}

impl ServiceResources {
    /// `service.name` and, as the revision, `service.version`; missed after three intervals and given up after ten.
    pub fn named(service: &ServiceName, interval: Duration) -> Self {
        let arm = BTreeMap::from([
            ("service.name".to_owned(), service.to_string()),
            ("service.version".to_owned(), PLACEHOLDER.to_owned()),
        ]);
        let (stale_after, gone_after) = (interval.saturating_mul(3), interval.saturating_mul(10));
        Self { control: arm.clone(), canary: arm, interval, stale_after, gone_after }
    }

    fn problem(&self, keep: Duration) -> Option<String> {
        let tells = |arm: &BTreeMap<String, String>| {
            (1..=LABELS_MAX).contains(&arm.len())
                && arm.iter().all(|(name, value)| !name.is_empty() && !value.is_empty())
        };
        if !tells(&self.control) || !tells(&self.canary) {
            return Some(format!("write 1 to {LABELS_MAX} resource attributes for each arm"));
        }
        if self.control == self.canary && !self.canary.values().any(|value| value.contains(PLACEHOLDER)) {
            return Some(format!("control and canary are the same: write {PLACEHOLDER} in a value"));
        }
        if self.interval < INTERVAL_MIN {
            return Some(format!("the interval is shorter than {} ms", INTERVAL_MIN.as_millis()));
        }
        if self.stale_after < self.interval || self.gone_after < self.stale_after {
            return Some("stale_after is to be at least the interval, and gone_after at least stale_after".into());
        }
        let is_kept = keep >= self.interval.saturating_mul(2);
        (!is_kept).then(|| "rounds are to be kept for at least two intervals".into())
    }
}

/// Where exports are received, and what is made of them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where HTTP is listened to. One of the two listeners is needed.
    pub listen_http: Option<SocketAddr>,
    /// Where gRPC is listened to.
    pub listen_grpc: Option<SocketAddr>,
    /// Whether these may be addresses that other machines reach; a token is needed then.
    pub allow_public: bool,
    /// What senders must bear.
    pub token: Option<SecretString>,
    /// How long rounds are kept, and how long counting goes on after the last ask. At least two intervals of each service.
    pub keep: Duration,
    /// Each service.
    pub services: BTreeMap<ServiceName, ServiceResources>,
}

impl Config {
    /// Refuses what cannot work, and says what to mend.
    pub fn check(&self) -> Result<(), Error> {
        self.problem().map_or(Ok(()), |why| Err(Error::Config(Text::new(format!("otlp: {why}")))))
    }

    fn problem(&self) -> Option<String> {
        let listeners = || [self.listen_http, self.listen_grpc].into_iter().flatten();
        if listeners().next().is_none() {
            return Some("write where to listen: listen_http or listen_grpc".into());
        }
        if let Some(public) = listeners().find(|listen| !listen.ip().to_canonical().is_loopback()) {
            if !self.allow_public {
                return Some(format!("{public} can be reached from other machines: set allow_public and a token"));
            }
            if self.token.as_ref().is_none_or(|token| token.expose_secret().is_empty()) {
                return Some(format!("{public} can be reached from other machines: a token is needed"));
            }
        }
        let of = |(service, resources): (&ServiceName, &ServiceResources)| {
            resources.problem(self.keep).map(|why| format!("service {service}: {why}"))
        };
        self.services.iter().find_map(of)
    }
}

/// Begins to listen, within a tokio runtime. Fails where a listener cannot be had, before anything is received.
pub fn start(config: Config, clock: Clock) -> Result<Otlp, Error> {
    config.check()?;
    if Handle::try_current().is_err() {
        return Err(Error::Config(Text::new("otlp: there is no runtime to listen in")));
    }
    let (services, hour) = (|| config.services.values(), Duration::from_secs(3_600));
    let ages = Ages {
        interval: services().map(|of| of.interval).min().unwrap_or(hour),
        forget_after: services().map(|of| of.gone_after).max().unwrap_or(hour).saturating_mul(2),
    };
    let patterns = services().flat_map(|of| [of.control.clone(), of.canary.clone()]).collect();
    let store = Store::new(patterns, ages, clock());
    let receiver = Arc::new(Receiver::new(store, Arc::clone(&clock), config.token.clone()));
    let http = config.listen_http.map(listen).transpose()?;
    let grpc = config.listen_grpc.map(listen).transpose()?;
    let address = |listener: &Option<TcpListener>| listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let (http_address, grpc_address) = (address(&http), address(&grpc));
    let mut tasks = Vec::new();
    if let Some(listener) = http {
        let router = http::router(Arc::clone(&receiver));
        tasks.push(tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the HTTP listener of OTLP has ended");
            }
        }));
    }
    if let Some(listener) = grpc {
        tasks.push(tokio::spawn(grpc::serve(listener, Arc::clone(&receiver))));
    }
    let shared = Arc::new(Shared { config, clock, receiver, pairs: Mutex::default(), controls: Mutex::default() });
    Ok(Otlp { shared, tasks, http_address, grpc_address })
}

fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let bound = StdListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    bound.map_err(|error| Error::Config(Text::new(format!("otlp: cannot listen on {address}: {error}"))))
}

/// Receives exports and counts them. Dropping it ends both.
pub struct Otlp {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
    http_address: Option<SocketAddr>,
    grpc_address: Option<SocketAddr>,
}

/// A service, its old and its new version.
type Key = (ServiceName, Option<Revision>, Revision);

struct Shared {
    config: Config,
    clock: Clock,
    receiver: Arc<Receiver>,
    pairs: Mutex<BTreeMap<Key, Counting>>,
    /// The revision that each service's control was last known to have.
    controls: Mutex<BTreeMap<ServiceName, Revision>>,
}

/// Two arms by their attributes.
struct Arms {
    pair: Pair,
    control: BTreeMap<String, String>,
    canary: BTreeMap<String, String>,
    interval: Duration,
    stale_after: Duration,
}

/// A pair of arms and the task that counts it.
struct Counting {
    arms: Arc<Arms>,
    task: JoinHandle<()>,
}

impl Drop for Otlp {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        locked(&self.shared.pairs).values().for_each(|counting| counting.task.abort());
    }
}

impl Otlp {
    /// Where HTTP is listened to.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// Where gRPC is listened to.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc_address
    }

    async fn answer(&self, ask: Ask) -> Answer {
        let now = (self.shared.clock)();
        let wait = ask.no_later_than.since(now).min(WAIT_MAX);
        let (arms, slis) = match self.shared.look_for(&ask, now, now + wait + self.shared.config.keep) {
            Ok(found) => found,
            Err(error) => return Answer::absent(&ask, &error.into()),
        };
        let mut rounds = arms.pair.rounds_done();
        let mut deadline = pin!(sleep(wait));
        loop {
            // Marked before looking: a round that ends in between wakes the wait below.
            rounds.borrow_and_update();
            if let Some(answer) = arms.pair.answer(&ask, &slis, Patience::Left) {
                return answer;
            }
            tokio::select! {
                changed = rounds.changed() => if changed.is_err() { break },
                () = &mut deadline => break,
            }
        }
        let over = arms.pair.answer(&ask, &slis, Patience::Over);
        over.unwrap_or_else(|| Answer::absent(&ask, &Absence::NoData))
    }
}

impl Provider for Otlp {
    fn measure(&self, ask: Ask) -> BoxFuture<'_, Answer> {
        self.answer(ask).boxed()
    }

    fn metrics(&self, service: &ServiceName) -> Result<Arc<Catalogued>, Absence> {
        let control = &self.shared.resources(service)?.control;
        let revision = locked(&self.shared.controls).get(service).cloned();
        // As long as nobody has asked for a rollout, every revision of the service tells.
        let arm = revision.map_or_else(|| control.clone(), |revision| filled(control, Some(&revision)));
        let store = locked(&self.shared.receiver.store);
        catalogue::catalogued(store.of_arm(&arm).map(|(_, pod)| pod)).map(Arc::new).ok_or(Absence::NoData)
    }
}

/// An arm's attributes for one revision.
fn filled(arm: &BTreeMap<String, String>, revision: Option<&Revision>) -> BTreeMap<String, String> {
    let fill = |value: &String| value.replace(PLACEHOLDER, revision.map_or(STABLE, Revision::as_str));
    arm.iter().map(|(name, value)| (name.clone(), fill(value))).collect()
}

impl Shared {
    fn resources(&self, service: &ServiceName) -> Result<&ServiceResources, Error> {
        let unknown = || format!("service {service} has no resource attributes for otlp in the configuration");
        self.config.services.get(service).ok_or_else(|| Error::Unavailable(Text::new(unknown())))
    }

    /// The pair asked for, counted from now on if it was not, and the numbers of the ask's SLIs in it.
    fn look_for(
        self: &Arc<Self>,
        ask: &Ask,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<(Arc<Arms>, Vec<SliId>), Error> {
        let resources = self.resources(&ask.service)?;
        if let Some(control) = &ask.control {
            locked(&self.controls).insert(ask.service.clone(), control.clone());
        }
        let key: Key = (ask.service.clone(), ask.control.clone(), ask.canary.clone());
        let mut pairs = locked(&self.pairs);
        if let Some(counting) = pairs.get(&key).filter(|counting| !counting.task.is_finished()) {
            return Ok((Arc::clone(&counting.arms), counting.arms.pair.look_for(&ask.checks, now, until)?));
        }
        if pairs.len() >= PAIRS_MAX && !pairs.contains_key(&key) {
            let why = format!("more than {PAIRS_MAX} pairs of revisions are counted at once");
            return Err(Error::Unavailable(Text::new(why)));
        }
        let leaving = Leaving { missed_after: resources.stale_after, gone_after: resources.gone_after };
        let open = || ArmState::open(BTreeMap::new(), leaving);
        let arms = Arc::new(Arms {
            pair: Pair::new(open(), open()),
            control: filled(&resources.control, ask.control.as_ref()),
            canary: filled(&resources.canary, Some(&ask.canary)),
            interval: resources.interval,
            stale_after: resources.stale_after,
        });
        let slis = arms.pair.look_for(&ask.checks, now, until)?;
        let task = tokio::spawn(Arc::clone(self).count(key.clone(), Arc::clone(&arms)));
        tracing::debug!(service = %ask.service, canary = %ask.canary, "counting of exports begins");
        pairs.insert(key, Counting { arms: Arc::clone(&arms), task });
        Ok((arms, slis))
    }

    /// Counts a pair until nobody asks for it any more.
    async fn count(self: Arc<Self>, key: Key, arms: Arc<Arms>) {
        loop {
            let now = (self.clock)();
            let round = next_on_grid(now, arms.interval);
            sleep(round.since(now)).await;
            if self.lets_go(&key, &arms) {
                tracing::debug!(service = %key.0, canary = %key.2, "counting ends: nobody asks for it");
                return;
            }
            // Whoever is silent until then is missed.
            let _ = timeout(arms.stale_after, self.until_told(&arms, round)).await;
            sleep(REST_WITHIN.min(arms.interval / 10)).await;
            self.feed(&arms, &arms.pair.due(round));
        }
    }

    /// Waits until every process has shown how it stood at a time or later.
    async fn until_told(&self, arms: &Arms, at: Timestamp) {
        let mut changed = self.receiver.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let told = {
                let (store, now) = (locked(&self.receiver.store), (self.clock)());
                [&arms.control, &arms.canary].iter().all(|arm| store.is_told(arm, at, now, arms.stale_after))
            };
            if told || changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Feeds a round with a page of each process that has shown something since the last.
    fn feed(&self, arms: &Arms, due: &Due) {
        let before = arms.pair.last_pages();
        let read = |arm: &BTreeMap<String, String>| -> Vec<Fresh> {
            let mut store = locked(&self.receiver.store);
            store.sweep((self.clock)());
            let fresh = |key: &String, collected| before.get(key).is_none_or(|last| *last < collected);
            let pods = store.of_arm(arm).filter(|(key, pod)| fresh(key, pod.collected));
            pods.map(|(key, pod)| {
                let body = store.page(pod, arms.stale_after, |name| due.wanted.takes(name));
                Fresh { key: key.clone(), name: pod.name.clone(), at: pod.collected, body }
            })
            .collect()
        };
        let (control, canary) = (read(&arms.control), read(&arms.canary));
        arms.pair.feed(due, &pages(&control), &pages(&canary), self.config.keep);
    }

    /// Ends a pair that nobody wants; whoever asks at the same moment either keeps it or makes a new one.
    fn lets_go(&self, key: &Key, arms: &Arms) -> bool {
        let mut pairs = locked(&self.pairs);
        let unwanted = !arms.pair.is_wanted((self.clock)());
        if unwanted {
            pairs.remove(key);
        }
        unwanted
    }
}

/// A page of a process that has shown something since the last round.
struct Fresh {
    key: String,
    name: Text,
    at: Timestamp,
    body: Exposition,
}

fn pages(fresh: &[Fresh]) -> ArmPages<'_> {
    let shown = fresh.iter().map(|of| {
        let pages = Ok(vec![Page { at: of.at, body: &of.body }]);
        (of.key.clone(), Shown { name: Some(of.name.clone()), pages })
    });
    shown.collect()
}

/// The first time after this one that is a whole number of intervals after the epoch.
fn next_on_grid(now: Timestamp, interval: Duration) -> Timestamp {
    let step = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
    Timestamp::from_millis((now.as_millis() / step).saturating_add(1).saturating_mul(step))
}
