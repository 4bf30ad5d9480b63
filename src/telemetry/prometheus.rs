//! Reads the arms from a server that speaks Prometheus's HTTP API: Prometheus, Thanos, Mimir, VictoriaMetrics, Grafana Cloud.
//!
//! # Exactness
//! The server is asked for raw samples, not for rates: its `increase` extrapolates, and counts what never was. The
//! samples of one scrape of one target are a page, and pages are counted as the ones that are scraped directly
//! ([`counting`](super::counting)), so that restarts, births and gaps are told in the same way. Only a metric with more
//! series than are read raw is left to the server, and its tallies are marked as estimated.
//!
//! # Rounds
//! Rounds lie on a grid in time. The one at `g` is made of the samples with times up to `g`, and is read when `g` lies
//! `settle` back, for a sample takes a while to be stored. One that comes later still is caught up by the next: counters
//! are cumulative, and what was counted of a target last is remembered. All rounds of a window are read at once, a query
//! for each metric, when the window is asked for; nothing is asked in between. Since the grid does not depend on when
//! this process started, windows in a row go on over a restart, and windows in the past can be asked for as well.

mod catalogue;
mod measured_past;
mod native;
mod pages;
mod past;
mod query;
mod reader;
mod reply;
mod server;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use secrecy::SecretString;
use tokio::time::{Instant, sleep_until, timeout_at};

use self::{catalogue::Catalogues, reader::Reader, server::Server};
pub use self::{query::VALUES_MAX, reply::ROWS_MAX, server::SKEW_MAX};
use super::{
    Answer, Ask, Catalogued, Clock, Error, Past, PastAsk, Provider,
    counting::{locked, rounds::ROUNDS_MAX},
};
use crate::domain::{Absence, Revision, ServiceName, Text, Timestamp};

/// Least time between rounds.
pub const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Furthest look back before a window.
pub const LOOKBACK_MAX: Duration = Duration::from_secs(6 * 3_600);
/// Most requests at the same moment.
pub const CONCURRENCY_MAX: usize = 64;
/// Most bytes of one answer.
pub const RESPONSE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Most headers of the operator's own.
pub const HEADERS_MAX: usize = 16;
/// Most labels that an arm's series bear.
pub const ARM_LABELS_MAX: usize = 16;
/// Most pairs of revisions that are remembered; the one that was not asked for longest goes first.
pub const PAIRS_MAX: usize = 256;
/// Longest wait of one ask; its deadline may be earlier.
pub const WAIT_MAX: Duration = Duration::from_secs(3_600);
/// How long a pair that nobody asks for is remembered.
const READER_KEPT: Duration = Duration::from_secs(3_600);
/// Shortest and longest pause before a server that did not answer is asked again.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// What stands for the arm's revision in label values.
const PLACEHOLDER: &str = "{revision}";
/// What it is replaced by for a control that is not known by revision.
const STABLE: &str = "stable";

/// Who we are to the server.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// Nobody in particular.
    #[default]
    None,
    /// `Authorization: Bearer`.
    Bearer(SecretString),
    /// `Authorization: Basic`.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: SecretString,
    },
}

/// One server, and the services that are read there.
#[derive(Clone)]
pub struct Config {
    /// Its address, without `/api/v1`; no user, password or query within.
    pub url: String,
    /// Who we are to it.
    pub auth: Auth,
    /// Headers of the operator's own, such as `X-Scope-OrgID`. Up to [`HEADERS_MAX`].
    pub headers: BTreeMap<String, SecretString>,
    /// Certificates of authorities that are trusted besides the machine's, as PEM.
    pub ca_pem: Option<String>,
    /// A certificate of ours and its key, as PEM.
    pub client_pem: Option<SecretString>,
    /// Longest time for one answer.
    pub timeout: Duration,
    /// Requests at the same moment, 1 to [`CONCURRENCY_MAX`].
    pub concurrency: usize,
    /// Samples that may be read on one day (UTC); `None` for any number.
    pub samples_per_day: Option<u64>,
    /// Most bytes of one answer, up to [`RESPONSE_BYTES_MAX`].
    pub response_bytes_max: usize,
    /// A metric with more series of both arms than this is left to the server to count.
    pub raw_series_max: usize,
    /// Whether answers that the server says are not whole are counted all the same.
    pub allow_partial: bool,
    /// Whether the server's clock is measured against ours. Not so where ours is not the time of the world.
    pub follows_server_clock: bool,
    /// The services.
    pub services: BTreeMap<ServiceName, Service>,
}

impl fmt::Debug for Config {
    /// Without headers' names and certificates, which say more than is of use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("url", &self.place()).field("services", &self.services).finish_non_exhaustive()
    }
}

/// How one service is found, and how often it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Labels that the old version's series bear. `{revision}` in a value stands for the arm's revision, or for `stable`
    /// where control's is not known. 1 to [`ARM_LABELS_MAX`].
    pub control: BTreeMap<String, String>,
    /// Those of the new version's.
    pub canary: BTreeMap<String, String>,
    /// The label whose values are pods; `instance` where nothing else is known.
    pub pod_label: String,
    /// Time between rounds, at least [`INTERVAL_MIN`]; no shorter than samples come is of use.
    pub interval: Duration,
    /// How long after its time a sample may be stored.
    pub settle: Duration,
    /// How far before a window samples are read, so that counting starts there: at least `gone_after`, so that after a
    /// restart a silent pod is counted on from where it was, and at most [`LOOKBACK_MAX`].
    pub lookback: Duration,
    /// An arm is not told while a pod of it has shown nothing for longer than this.
    pub stale_after: Duration,
    /// A pod that has shown nothing for longer than this is no pod any more.
    pub gone_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:9090".into(),
            auth: Auth::None,
            headers: BTreeMap::new(),
            ca_pem: None,
            client_pem: None,
            timeout: Duration::from_secs(10),
            concurrency: 4,
            samples_per_day: None,
            response_bytes_max: 64 * 1024 * 1024,
            raw_series_max: 2_000,
            allow_partial: false,
            follows_server_clock: true,
            services: BTreeMap::new(),
        }
    }
}

impl Default for Service {
    fn default() -> Self {
        Self {
            control: BTreeMap::new(),
            canary: BTreeMap::new(),
            pod_label: "instance".into(),
            interval: Duration::from_secs(15),
            settle: Duration::from_secs(5),
            lookback: Duration::from_secs(300),
            stale_after: Duration::from_secs(120),
            gone_after: Duration::from_secs(300),
        }
    }
}

impl Config {
    /// Refuses what cannot work, and says what to mend.
    pub fn check(&self) -> Result<(), Error> {
        self.check_server().map_err(|why| Error::Config(Text::new(format!("{}: {why}", self.place()))))?;
        for (name, service) in &self.services {
            service.check().map_err(|why| Error::Config(Text::new(format!("service {name}: {why}"))))?;
        }
        Ok(())
    }

    fn check_server(&self) -> Result<(), String> {
        server::base(&self.url)?;
        if self.timeout.is_zero() {
            return Err("the timeout is to be more than nothing".into());
        }
        if !(1..=CONCURRENCY_MAX).contains(&self.concurrency) {
            return Err(format!("1 to {CONCURRENCY_MAX} requests at a time can be made"));
        }
        if !(1..=RESPONSE_BYTES_MAX).contains(&self.response_bytes_max) {
            return Err(format!("an answer may have 1 to {RESPONSE_BYTES_MAX} bytes"));
        }
        if !(1..=ROWS_MAX).contains(&self.raw_series_max) {
            return Err(format!("1 to {ROWS_MAX} series can be read raw"));
        }
        if self.headers.len() > HEADERS_MAX {
            return Err(format!("more than {HEADERS_MAX} headers"));
        }
        Ok(())
    }

    /// The address as it may be shown.
    fn place(&self) -> String {
        match server::base(&self.url) {
            Ok(url) => {
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
            }
            Err(_) => "an address that is no URL".into(),
        }
    }
}

impl Service {
    fn check(&self) -> Result<(), String> {
        if self.interval < INTERVAL_MIN {
            return Err(format!("the interval is shorter than {} ms", INTERVAL_MIN.as_millis()));
        }
        if self.lookback < self.interval || self.lookback > LOOKBACK_MAX {
            return Err(format!("lookback is to be one interval to {} s", LOOKBACK_MAX.as_secs()));
        }
        if self.lookback.as_millis() / self.interval.as_millis() >= ROUNDS_MAX as u128 / 2 {
            return Err(format!("lookback is to be less than {} intervals", ROUNDS_MAX / 2));
        }
        if self.lookback < self.gone_after {
            // What is remembered of a silent pod is to be found again after a restart.
            return Err("lookback is to be at least gone_after".into());
        }
        if self.stale_after < self.interval || self.gone_after < self.stale_after {
            return Err("stale_after is to be at least one interval, and gone_after no shorter".into());
        }
        for (arm, labels) in [("control", &self.control), ("canary", &self.canary)] {
            if !(1..=ARM_LABELS_MAX).contains(&labels.len()) || labels.values().all(String::is_empty) {
                return Err(format!("{arm}: write 1 to {ARM_LABELS_MAX} labels that its series bear"));
            }
        }
        if self.control == self.canary && !self.canary.values().any(|value| value.contains(PLACEHOLDER)) {
            return Err(format!("control and canary are the same: write {PLACEHOLDER} in a label"));
        }
        let selection = reader::selection(None, &[self.labels(&self.control, None)]);
        query::compile(&selection, &query::Form::Series).map_err(|why| why.to_string())?;
        let by = query::Form::Count([self.pod_label.clone()].into());
        query::compile(&selection, &by).map(drop).map_err(|why| why.to_string())
    }

    /// An arm's labels for one revision.
    fn labels(&self, arm: &BTreeMap<String, String>, revision: Option<&Revision>) -> BTreeMap<String, String> {
        let fill = |text: &String| text.replace(PLACEHOLDER, revision.map_or(STABLE, Revision::as_str));
        arm.iter().map(|(label, value)| (label.clone(), fill(value))).collect()
    }
}

/// How much was asked of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests.
    pub queries: u64,
    /// Samples that were answered.
    pub samples: u64,
    /// Those of the day (UTC).
    pub samples_today: u64,
}

/// A service, its old and its new version.
type Key = (ServiceName, Option<Revision>, Revision);

/// A pair of arms, read by one at a time, and when it was last asked for.
type Readers = BTreeMap<Key, (Arc<tokio::sync::Mutex<Reader>>, Timestamp)>;

/// A provider that reads what `config` names; asks are made within a tokio runtime. Where there is one by now, the metrics
/// of old versions that are known without a revision are indexed from now on.
pub fn start(config: Config, clock: Clock) -> Result<Prometheus, Error> {
    config.check()?;
    let services = config.services.clone();
    let server = Arc::new(Server::new(config, Arc::clone(&clock))?);
    let catalogues = Catalogues::default();
    for (name, service) in &services {
        catalogues.begin((&server, &clock), name, service, None);
    }
    Ok(Prometheus { server, services, clock, readers: Mutex::default(), catalogues })
}

/// Asks the server for nothing much, and reads its answer.
///
/// # Errors
/// Why it cannot be read: a configuration that cannot work, no answer, a refusal, or an answer that is none.
pub async fn reach(config: Config, clock: Clock) -> Result<(), Absence> {
    config.check()?;
    Server::new(config, clock)?.reach().await
}

/// Reads the arms from one server.
pub struct Prometheus {
    server: Arc<Server>,
    services: BTreeMap<ServiceName, Service>,
    clock: Clock,
    readers: Mutex<Readers>,
    catalogues: Catalogues,
}

impl Prometheus {
    /// How much was asked of the server so far.
    pub fn usage(&self) -> Usage {
        self.server.usage()
    }

    fn service(&self, service: &ServiceName) -> Result<&Service, Absence> {
        let unknown =
            || Absence::Unavailable(Text::new(format!("service {service} has no labels in the configuration")));
        self.services.get(service).ok_or_else(unknown)
    }

    fn reader(&self, ask: &Ask, now: Timestamp) -> Result<Arc<tokio::sync::Mutex<Reader>>, Absence> {
        let service = self.service(&ask.service)?;
        let key: Key = (ask.service.clone(), ask.control.clone(), ask.canary.clone());
        let mut readers = locked(&self.readers);
        // What a pair remembers can be read again, so one that nobody asks for takes no room.
        readers.retain(|of, (_, asked)| *of == key || now.since(*asked) < READER_KEPT);
        if let Some((reader, asked)) = readers.get_mut(&key) {
            *asked = now;
            return Ok(Arc::clone(reader));
        }
        if readers.len() >= PAIRS_MAX {
            let oldest = readers.iter().min_by_key(|(_, (_, asked))| *asked).map(|(key, _)| key.clone());
            // Nothing is lost with it: what it remembers can be read again.
            oldest.map(|oldest| readers.remove(&oldest));
        }
        let arms = [(&service.control, ask.control.as_ref()), (&service.canary, Some(&ask.canary))];
        let arms = arms.map(|(labels, revision)| service.labels(labels, revision));
        let reader = Reader::new(Arc::clone(&self.server), service.clone(), arms);
        let reader = Arc::new(tokio::sync::Mutex::new(reader));
        readers.insert(key, (Arc::clone(&reader), now));
        Ok(reader)
    }

    /// When an ask that was made at `asked` is looked at for the last time: an answer is to end before the deadline.
    fn last_look(&self, ask: &Ask, asked: Timestamp) -> Timestamp {
        ask.no_later_than - self.server.timeout().min(ask.no_later_than.since(asked) / 4)
    }

    async fn answer(&self, ask: Ask) -> Answer {
        let now = (self.clock)();
        let (service, reader) = match self.service(&ask.service).and_then(|of| Ok((of, self.reader(&ask, now)?))) {
            Ok(found) => found,
            Err(why) => return Answer::absent(&ask, &why),
        };
        let wait = ask.no_later_than.since(now).min(WAIT_MAX);
        let deadline = Instant::now() + wait;
        // Whoever asks has to have the answer by the deadline, so reading ends then.
        match timeout_at(deadline, self.look(&ask, service, &reader)).await {
            Ok(answer) => answer,
            Err(_) => match timeout_at(Instant::now() + PAUSE_MIN, reader.lock()).await {
                Ok(mut reader) => reader.cut_off(&ask),
                Err(_) => Answer::absent(&ask, &reply::unavailable("the server is still being read".into())),
            },
        }
    }

    /// Reads until there is an answer, or no time for another look.
    async fn look(&self, ask: &Ask, service: &Service, reader: &tokio::sync::Mutex<Reader>) -> Answer {
        let mut goal = reader::grid_after(ask.through, service.interval);
        let mut pause = PAUSE_MIN;
        // It is made even where the goal is not reached by then.
        let last_look = self.last_look(ask, (self.clock)());
        loop {
            let now = (self.clock)();
            let settled = goal + service.settle;
            let is_last = settled >= last_look;
            let look_at = if is_last { last_look } else { settled };
            sleep_until(Instant::now() + look_at.since(now)).await;
            let now = (self.clock)();
            let through = reader::grid_before(now - service.settle, service.interval).min(goal);
            let mut reader = reader.lock().await;
            match reader.advance(ask, through).await {
                Ok(()) => {
                    if let Some(answer) = reader.answer(ask) {
                        return answer;
                    }
                    if is_last || now >= last_look {
                        return reader.last_word(ask, None);
                    }
                    (goal, pause) = (goal + service.interval, PAUSE_MIN);
                }
                Err(why) => {
                    let is_passing = matches!(why, Absence::Unavailable(_));
                    if !is_passing || now + pause >= last_look {
                        return reader.last_word(ask, Some(why));
                    }
                    drop(reader);
                    sleep_until(Instant::now() + pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }
}

impl Provider for Prometheus {
    fn measure(&self, ask: Ask) -> BoxFuture<'_, Answer> {
        if let Some(service) = self.services.get(&ask.service) {
            self.catalogues.begin((&self.server, &self.clock), &ask.service, service, ask.control.as_ref());
        }
        self.answer(ask).boxed()
    }

    fn metrics(&self, service: &ServiceName) -> Result<Arc<Catalogued>, Absence> {
        self.service(service)?;
        self.catalogues.of(service)
    }

    fn history(&self, ask: PastAsk) -> BoxFuture<'_, Result<Past, Absence>> {
        async move {
            let service = self.service(&ask.service)?;
            self.catalogues.begin((&self.server, &self.clock), &ask.service, service, ask.stable.as_ref());
            if ask.reach.is_zero() {
                return Err(Absence::NoData);
            }
            let labels = service.labels(&service.control, ask.stable.as_ref());
            past::past(&self.server, service, labels, ask, (self.clock)()).await
        }
        .boxed()
    }
}
