//! "shop", a small real HTTP service for the demonstration: several versions of it in one process under one port.
//!
//! Every version answers below `/versions/{revision}` and counts its own requests there under `/metrics`, with the same
//! client library that real services use. What a version does wrong is its [`Behaviour`]: faults are drawn from a seeded
//! generator for each page, so that the n-th visit to a page of a version has the same fate in every run.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::net::TcpListener;

use crate::domain::{Revision, Timestamp};

/// Reads the time; the composition root hands it in.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Most versions that one shop hosts.
pub const VERSIONS_MAX: usize = 16;

/// Upper edges of the duration histogram, in seconds.
pub const DURATION_EDGES: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// A page of the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Page {
    /// `GET /browse`
    Browse,
    /// `GET /cart`
    Cart,
    /// `POST /checkout`
    Checkout,
}

impl Page {
    /// Every page.
    pub const ALL: [Self; 3] = [Self::Browse, Self::Cart, Self::Checkout];

    /// Its route, which is also the value of the label `route`.
    pub const fn route(self) -> &'static str {
        match self {
            Self::Browse => "/browse",
            Self::Cart => "/cart",
            Self::Checkout => "/checkout",
        }
    }
}

/// How a version treats visits to one page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Manner {
    /// The share of visits that are answered with a 500, 0 to 1.
    pub bad_share: f64,
    /// How long an answer takes at least; it takes up to twice as long.
    pub latency: Duration,
}

/// How a version behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Behaviour {
    /// By page, in the order of [`Page::ALL`].
    manners: [Manner; 3],
    /// The share of visits to the cart that miss its cache, 0 to 1; such a visit takes twice as long.
    cache_miss_share: f64,
}

impl Behaviour {
    /// A version as good as real ones are: a few answers in a thousand are bad.
    pub const fn healthy() -> Self {
        Self {
            manners: [
                Manner { bad_share: 0.004, latency: Duration::from_millis(3) },
                Manner { bad_share: 0.003, latency: Duration::from_millis(4) },
                Manner { bad_share: 0.005, latency: Duration::from_millis(8) },
            ],
            cache_miss_share: 0.1,
        }
    }

    /// The same but for one page.
    #[must_use]
    pub fn with(mut self, page: Page, manner: Manner) -> Self {
        self.manners[page as usize] = manner;
        self
    }

    /// The same but for the share of visits to one page that are answered with a 500, 0 to 1.
    #[must_use]
    pub fn failing(self, page: Page, bad_share: f64) -> Self {
        let manner = Manner { bad_share, ..self.manner(page) };
        self.with(page, manner)
    }

    /// The same but for the share of visits to the cart that miss its cache, 0 to 1.
    #[must_use]
    pub const fn missing_its_cache(mut self, share: f64) -> Self {
        self.cache_miss_share = share;
        self
    }

    /// How it treats visits to one page.
    pub const fn manner(&self, page: Page) -> Manner {
        self.manners[page as usize]
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

type Durations = Family<Route, Histogram, fn() -> Histogram>;

/// One version with its counters.
struct Version {
    behaviour: Behaviour,
    fates: [Mutex<StdRng>; 3],
    requests: Family<Request, Counter>,
    durations: Durations,
    cache_misses: Counter,
    registry: Registry,
}

/// What becomes of one visit.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Fate {
    is_bad: bool,
    misses_cache: bool,
    takes: Duration,
}

impl Version {
    fn new(behaviour: Behaviour, seed: u64) -> Self {
        let requests = Family::<Request, Counter>::default();
        let durations: Durations = Family::new_with_constructor(|| Histogram::new(DURATION_EDGES));
        let cache_misses = Counter::default();
        let mut registry = Registry::default();
        // The library puts `_total` behind counters itself.
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register("http_request_duration_seconds", "How long answers took", durations.clone());
        registry.register("cart_cache_misses", "Carts that were not in the cache", cache_misses.clone());
        // A counter that stands at zero from the start tells a quiet page from a missing one.
        for page in Page::ALL {
            drop(requests.get_or_create_owned(&Request { route: page.route(), code: 200 }));
            drop(requests.get_or_create_owned(&Request { route: page.route(), code: 500 }));
            drop(durations.get_or_create_owned(&Route { route: page.route() }));
        }
        let fates = Page::ALL.map(|page| Mutex::new(StdRng::seed_from_u64(seed ^ ((page as u64 + 1) << 32))));
        Self { behaviour, fates, requests, durations, cache_misses, registry }
    }

    fn fate(&self, page: Page) -> Fate {
        let manner = self.behaviour.manner(page);
        let mut draws = self.fates[page as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let (bad, miss, slow): (f64, f64, f64) = (draws.random(), draws.random(), draws.random());
        let misses_cache = page == Page::Cart && miss < self.behaviour.cache_miss_share;
        let takes = manner.latency.mul_f64((1.0 + slow) * if misses_cache { 2.0 } else { 1.0 });
        Fate { is_bad: bad < manner.bad_share, misses_cache, takes }
    }
}

/// The shop; cheap to clone.
#[derive(Clone)]
pub struct Shop {
    versions: Arc<RwLock<BTreeMap<Revision, Arc<Version>>>>,
    seed: u64,
    now: Now,
}

/// The shop hosts [`VERSIONS_MAX`] versions already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shop hosts {VERSIONS_MAX} versions already: withdraw one")]
pub struct Full;

impl Shop {
    /// A shop without versions. The same `seed` gives the same faults.
    pub fn new(seed: u64, now: Now) -> Self {
        Self { versions: Arc::default(), seed, now }
    }

    /// Starts to host a version, or starts it anew with fresh counters.
    ///
    /// # Errors
    /// [`Full`] when there are too many.
    pub fn deploy(&self, revision: &Revision, behaviour: Behaviour) -> Result<(), Full> {
        let mut versions = self.versions.write().unwrap_or_else(PoisonError::into_inner);
        if versions.len() >= VERSIONS_MAX && !versions.contains_key(revision) {
            return Err(Full);
        }
        // The revision's digits make the seed of a version its own.
        let digits =
            revision.as_str().bytes().fold(self.seed, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(b)));
        versions.insert(revision.clone(), Arc::new(Version::new(behaviour, digits)));
        Ok(())
    }

    /// Stops hosting a version: its paths are not found any more.
    pub fn withdraw(&self, revision: &Revision) {
        self.versions.write().unwrap_or_else(PoisonError::into_inner).remove(revision);
    }

    /// Serves every version until `stopped`.
    ///
    /// # Errors
    /// What the listener failed with.
    pub async fn serve(
        self,
        listener: TcpListener,
        stopped: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let router = Router::new()
            .route("/versions/{revision}/browse", get(browse))
            .route("/versions/{revision}/cart", get(cart))
            .route("/versions/{revision}/checkout", post(checkout))
            .route("/versions/{revision}/metrics", get(metrics))
            .with_state(self);
        axum::serve(listener, router).with_graceful_shutdown(stopped).await
    }

    fn version(&self, revision: &str) -> Option<Arc<Version>> {
        let revision: Revision = revision.parse().ok()?;
        self.versions.read().unwrap_or_else(PoisonError::into_inner).get(&revision).cloned()
    }

    async fn visit(&self, revision: &str, page: Page, answer: &'static str) -> Response {
        let Some(version) = self.version(revision) else { return not_here() };
        let begun = (self.now)();
        let fate = version.fate(page);
        tokio::time::sleep(fate.takes).await;
        if fate.misses_cache {
            version.cache_misses.inc();
        }
        let status = if fate.is_bad { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        let route = page.route();
        version.durations.get_or_create(&Route { route }).observe((self.now)().since(begun).as_secs_f64());
        version.requests.get_or_create(&Request { route, code: status.as_u16() }).inc();
        (status, if fate.is_bad { "something went wrong\n" } else { answer }).into_response()
    }
}

fn not_here() -> Response {
    (StatusCode::NOT_FOUND, "no such version is deployed here\n").into_response()
}

async fn browse(State(shop): State<Shop>, Path(revision): Path<String>) -> Response {
    shop.visit(&revision, Page::Browse, "kettle, cup, tea\n").await
}

async fn cart(State(shop): State<Shop>, Path(revision): Path<String>) -> Response {
    shop.visit(&revision, Page::Cart, "one kettle\n").await
}

async fn checkout(State(shop): State<Shop>, Path(revision): Path<String>) -> Response {
    shop.visit(&revision, Page::Checkout, "thank you\n").await
}

async fn metrics(State(shop): State<Shop>, Path(revision): Path<String>) -> Response {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let Some(version) = shop.version(&revision) else { return not_here() };
    let mut body = String::new();
    match text::encode(&mut body, &version.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, TYPE)], body).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    struct Open {
        base: String,
        client: reqwest::Client,
        shop: Shop,
    }

    fn revision(digits: &str) -> Revision {
        digits.parse().unwrap()
    }

    async fn open(seed: u64) -> Open {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        // Each look at this clock is twenty milliseconds after the one before.
        let looks = AtomicU64::new(0);
        let now: Now = Arc::new(move || Timestamp::from_millis(20 * looks.fetch_add(1, Ordering::Relaxed)));
        let shop = Shop::new(seed, now);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(shop.clone().serve(listener, std::future::pending()));
        Open { base, client: reqwest::Client::builder().no_proxy().build().unwrap(), shop }
    }

    impl Open {
        async fn get(&self, path: &str) -> (u16, String) {
            let answer = self.client.get(format!("{}{path}", self.base)).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        }

        async fn check_out(&self, digits: &str) -> u16 {
            let url = format!("{}/versions/{digits}/checkout", self.base);
            self.client.post(url).send().await.unwrap().status().as_u16()
        }

        /// The value of a series as exposed.
        async fn value(&self, digits: &str, series: &str) -> f64 {
            let (_, text) = self.get(&format!("/versions/{digits}/metrics")).await;
            let line = text.lines().find(|line| line.split(' ').next() == Some(series));
            line.unwrap_or_else(|| panic!("no {series} in\n{text}")).rsplit(' ').next().unwrap().parse().unwrap()
        }
    }

    fn quick(behaviour: Behaviour) -> Behaviour {
        Page::ALL.into_iter().fold(behaviour, |behaviour, page| {
            let manner = Manner { latency: Duration::ZERO, ..behaviour.manner(page) };
            behaviour.with(page, manner)
        })
    }

    #[tokio::test]
    async fn versions_behave_and_count_apart_under_one_port() {
        let open = open(1).await;
        open.shop.deploy(&revision("aaaaaaa"), quick(Behaviour::healthy().failing(Page::Checkout, 0.0))).unwrap();
        open.shop.deploy(&revision("bbbbbbb"), quick(Behaviour::healthy().failing(Page::Checkout, 1.0))).unwrap();
        for _ in 0..5 {
            assert_eq!(open.check_out("aaaaaaa").await, 200);
            assert_eq!(open.check_out("bbbbbbb").await, 500);
        }
        let good = "http_requests_total{route=\"/checkout\",code=\"200\"}";
        let bad = "http_requests_total{route=\"/checkout\",code=\"500\"}";
        assert_eq!((open.value("aaaaaaa", good).await, open.value("aaaaaaa", bad).await), (5.0, 0.0));
        assert_eq!((open.value("bbbbbbb", good).await, open.value("bbbbbbb", bad).await), (0.0, 5.0));
    }

    #[tokio::test]
    async fn the_names_are_exposed_as_the_catalogue_spells_them() {
        let open = open(1).await;
        let misses = Behaviour::healthy().failing(Page::Cart, 0.0).missing_its_cache(1.0);
        open.shop.deploy(&revision("aaaaaaa"), misses).unwrap();
        assert_eq!(open.get("/versions/aaaaaaa/cart").await, (200, "one kettle\n".into()));
        assert_eq!(open.value("aaaaaaa", "cart_cache_misses_total").await, 1.0);
        let bucket = |edge: &str| format!("http_request_duration_seconds_bucket{{le=\"{edge}\",route=\"/cart\"}}");
        assert_eq!(open.value("aaaaaaa", &bucket("+Inf")).await, 1.0);
        assert_eq!(open.value("aaaaaaa", &bucket("0.01")).await, 0.0);
        assert_eq!(open.value("aaaaaaa", &bucket("0.025")).await, 1.0, "twenty milliseconds passed, in seconds");
        let (_, text) = open.get("/versions/aaaaaaa/metrics").await;
        assert!(text.ends_with("# EOF\n"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(
                series.split('{').next().unwrap().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
                "{line}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_not_deployed_is_not_found_and_the_method_matters() {
        let open = open(1).await;
        open.shop.deploy(&revision("aaaaaaa"), quick(Behaviour::healthy())).unwrap();
        assert_eq!(open.get("/versions/bbbbbbb/browse").await.0, 404);
        assert_eq!(open.get("/versions/latest/metrics").await.0, 404);
        assert_eq!(open.get("/versions/aaaaaaa/checkout").await.0, 405);
        open.shop.withdraw(&revision("aaaaaaa"));
        assert_eq!(open.get("/versions/aaaaaaa/browse").await.0, 404);
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_about_as_often_as_told() {
        let behaviour = || Behaviour::healthy().failing(Page::Checkout, 0.35);
        let fates = |seed| -> Vec<Fate> {
            let version = Version::new(behaviour(), seed);
            (0..2_000).map(|_| version.fate(Page::Checkout)).collect()
        };
        assert_eq!(fates(7), fates(7));
        assert_ne!(fates(7), fates(8));
        let bad = fates(7).iter().filter(|fate| fate.is_bad).count();
        assert!((600..800).contains(&bad), "{bad} of 2,000 at 35%");
        let latency = behaviour().manner(Page::Checkout).latency;
        assert!(fates(7).iter().all(|fate| fate.takes >= latency && fate.takes <= latency * 2));
    }

    #[tokio::test]
    async fn a_shop_hosts_so_many_versions_and_no_more() {
        let shop = Shop::new(1, Arc::new(|| Timestamp::EPOCH));
        for n in 0..VERSIONS_MAX {
            shop.deploy(&revision(&format!("aaaaaa{n:02}")), Behaviour::healthy()).unwrap();
        }
        assert_eq!(shop.deploy(&revision("bbbbbbb"), Behaviour::healthy()), Err(Full));
        shop.deploy(&revision("aaaaaa00"), Behaviour::healthy()).unwrap();
    }
}
