//! Visitors of the demonstration's shop: real requests over real connections, at a steady rate.
//!
//! Each visit asks the flag service which version this user gets, as a service with an OpenFeature provider does, and
//! then asks that version for a page. A flag service that does not answer costs nobody their visit: they get the stable
//! version. What came of the visits is kept apart from everything the daemon measures, so that the demonstration can
//! show who was hurt and when, from the visitors' side.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use reqwest::{Client, Response, header};
use serde::Deserialize;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::MissedTickBehavior,
};

use super::shop::{Now, Page};
use crate::domain::{Revision, Timestamp};

/// Most users.
pub const USERS_MAX: u32 = 100_000;
/// Most visits a second.
pub const RATE_MAX: u32 = 2_000;
/// Most visits under way at once; a visit that finds no place is skipped and counted.
pub const UNDER_WAY_MAX: usize = 128;
/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// How long the flag service may take.
const FLAG_WITHIN: Duration = Duration::from_secs(2);
/// How long the shop may take.
const PAGE_WITHIN: Duration = Duration::from_secs(10);
/// How often visits set out.
const TICK: Duration = Duration::from_millis(25);

/// Who visits what, and how often.
#[derive(Clone)]
pub struct Options {
    /// How many users there are; at most [`USERS_MAX`].
    pub users: u32,
    /// Visits a second; at most [`RATE_MAX`].
    pub per_second: u32,
    /// Where the flag service is, as in `http://127.0.0.1:7420`.
    pub tollgate: String,
    /// The flag whose value is a revision.
    pub flag: String,
    /// Where the shop is, as in `http://127.0.0.1:7421`.
    pub shop: String,
    /// The version that users get when the flag service does not answer.
    pub stable: Revision,
    /// The same seed gives the same users and pages in the same order.
    pub seed: u64,
    /// Reads the time.
    pub now: Now,
}

/// What came of the visits to one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Different users that were sent to it.
    pub users: u64,
    /// Different users that got a bad answer from it.
    pub users_hurt: u64,
    /// Answers.
    pub requests: u64,
    /// Answers that were a 5xx.
    pub bad: u64,
    /// When the first visit was answered.
    pub first: Option<Timestamp>,
    /// When the first bad answer came.
    pub first_bad: Option<Timestamp>,
    /// When the last visit was answered.
    pub last: Option<Timestamp>,
}

/// What came of all visits so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// By version.
    pub versions: BTreeMap<Revision, Served>,
    /// Visits that got the stable version because the flag service did not answer, or not with a revision.
    pub without_flag: u64,
    /// Visits that the shop did not answer at all.
    pub unanswered: u64,
    /// Visits that were skipped because too many were under way.
    pub skipped: u64,
}

/// A set of users, a bit each.
#[derive(Clone, Debug, Default)]
struct Users(Vec<u64>);

impl Users {
    /// Whether the user was not in it.
    fn insert(&mut self, user: u32) -> bool {
        let (word, bit) = ((user / 64) as usize, 1 << (user % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let fresh = self.0.get(word).is_some_and(|bits| bits & bit == 0);
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= bit;
        }
        fresh
    }
}

#[derive(Debug, Default)]
struct Ledger {
    record: Record,
    users: BTreeMap<Revision, (Users, Users)>,
}

impl Ledger {
    fn answered(&mut self, revision: &Revision, user: u32, is_bad: bool, at: Timestamp) {
        if !self.users.contains_key(revision) {
            self.users.insert(revision.clone(), Default::default());
            self.record.versions.insert(revision.clone(), Served::default());
        }
        let (Some((users, hurt)), Some(served)) =
            (self.users.get_mut(revision), self.record.versions.get_mut(revision))
        else {
            return;
        };
        served.users += u64::from(users.insert(user));
        served.requests += 1;
        served.first.get_or_insert(at);
        served.last = Some(at);
        if is_bad {
            served.bad += 1;
            served.users_hurt += u64::from(hurt.insert(user));
            served.first_bad.get_or_insert(at);
        }
    }
}

/// Visitors on their way; they stop when this is dropped.
pub struct Visitors {
    ledger: Arc<Mutex<Ledger>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Visitors {
    /// Sends visitors out, from within a tokio runtime. `client` should keep connections alive and follow no proxies.
    pub fn start(options: Options, client: Client) -> Self {
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let (stop, stopping) = watch::channel(false);
        let crowd = Arc::new(Crowd::new(options, client, Arc::clone(&ledger)));
        let task = tokio::spawn(crowd.keep_coming(stopping));
        Self { ledger, stop, task }
    }

    /// What came of the visits so far.
    pub fn record(&self) -> Record {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).record.clone()
    }

    /// Lets nobody else set out, waits for those under way, and tells what came of all visits.
    pub async fn stop(mut self) -> Record {
        self.stop.send_replace(true);
        // A task that broke down has nobody left to wait for.
        let _ = (&mut self.task).await;
        self.record()
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

#[derive(Deserialize)]
struct Evaluation {
    value: Revision,
}

struct Crowd {
    options: Options,
    client: Client,
    flag_url: String,
    ledger: Arc<Mutex<Ledger>>,
    places: Arc<Semaphore>,
}

impl Crowd {
    fn new(options: Options, client: Client, ledger: Arc<Mutex<Ledger>>) -> Self {
        let base = options.tollgate.trim_end_matches('/');
        let flag_url = format!("{base}/ofrep/v1/evaluate/flags/{}", options.flag);
        Self { options, client, flag_url, ledger, places: Arc::new(Semaphore::new(UNDER_WAY_MAX)) }
    }

    async fn keep_coming(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let mut draws = StdRng::seed_from_u64(self.options.seed);
        let users = self.options.users.clamp(1, USERS_MAX);
        let each_tick = f64::from(self.options.per_second.min(RATE_MAX)) * TICK.as_secs_f64();
        let mut ticks = tokio::time::interval(TICK);
        // After a stall the visits it cost are not made up for: a burst would be traffic that nobody asked for.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut due = 0.0;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stopping.wait_for(|stop| *stop) => break,
            }
            due += each_tick;
            while due >= 1.0 {
                due -= 1.0;
                let (user, page) = (draws.random_range(0..users), drawn_page(&mut draws));
                let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                    self.note(|record| record.skipped += 1);
                    continue;
                };
                let crowd = Arc::clone(&self);
                tokio::spawn(async move {
                    crowd.visit(user, page).await;
                    drop(place);
                });
            }
        }
        // Every place taken means that nobody is under way any more.
        let _ = self.places.acquire_many(u32::try_from(UNDER_WAY_MAX).unwrap_or(u32::MAX)).await;
    }

    fn note(&self, what: impl FnOnce(&mut Record)) {
        what(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner).record);
    }

    async fn visit(&self, user: u32, page: Page) {
        let revision = match self.ask_flag(user).await {
            Some(revision) => revision,
            None => {
                self.note(|record| record.without_flag += 1);
                self.options.stable.clone()
            }
        };
        let url = format!("{}/versions/{revision}{}", self.options.shop.trim_end_matches('/'), page.route());
        let request = match page {
            Page::Browse | Page::Cart => self.client.get(url),
            Page::Checkout => self.client.post(url),
        };
        let Ok(answer) = request.timeout(PAGE_WITHIN).send().await else {
            self.note(|record| record.unanswered += 1);
            return;
        };
        let is_bad = answer.status().is_server_error();
        // The rest of an answer is read so that its connection can serve the next visit.
        let _ = body(answer).await;
        let at = (self.options.now)();
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).answered(&revision, user, is_bad, at);
    }

    async fn ask_flag(&self, user: u32) -> Option<Revision> {
        let context = format!("{{\"context\":{{\"targetingKey\":\"user-{user}\"}}}}");
        let request = self.client.post(self.flag_url.as_str()).header(header::CONTENT_TYPE, "application/json");
        let answer = request.body(context).timeout(FLAG_WITHIN).send().await.ok()?;
        let is_success = answer.status().is_success();
        let body = body(answer).await?;
        let evaluation: Evaluation = serde_json::from_slice(&body).ok()?;
        is_success.then_some(evaluation.value)
    }
}

/// Seven visits in ten browse, two look at the cart, one buys.
fn drawn_page(draws: &mut StdRng) -> Page {
    match draws.random_range(0..10) {
        0..=6 => Page::Browse,
        7 | 8 => Page::Cart,
        _ => Page::Checkout,
    }
}

/// The body of an answer; `None` when it breaks off or is too long.
async fn body(mut answer: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.ok()? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use axum::{Json, Router, http::StatusCode, routing::post};
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    use super::*;
    use crate::cli::demo::shop::{Behaviour, Shop};

    const STABLE: &str = "aaaaaaa";
    const CANARY: &str = "bbbbbbb";

    fn revision(digits: &str) -> Revision {
        digits.parse().unwrap()
    }

    fn clock() -> Now {
        let looks = AtomicU64::new(0);
        Arc::new(move || Timestamp::from_millis(looks.fetch_add(1, Ordering::Relaxed)))
    }

    async fn listen() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        (listener, base)
    }

    async fn flag_service(answer: fn(u64) -> (StatusCode, Value)) -> String {
        let (listener, base) = listen().await;
        let one = move |Json(body): Json<Value>| async move {
            let key = body["context"]["targetingKey"].as_str().unwrap().to_owned();
            let (status, value) = answer(key.strip_prefix("user-").unwrap().parse().unwrap());
            (status, Json(value))
        };
        let router = Router::new().route("/ofrep/v1/evaluate/flags/shop", post(one));
        tokio::spawn(async move { axum::serve(listener, router).await });
        base
    }

    /// Visits until `enough`, and what came of them.
    async fn visits(tollgate: String, users: u32, enough: impl Fn(&Record) -> bool) -> Record {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let now = clock();
        let shop = Shop::new(3, Arc::clone(&now));
        shop.deploy(&revision(STABLE), Behaviour::healthy().failing(Page::Browse, 0.0)).unwrap();
        shop.deploy(&revision(CANARY), Behaviour::healthy().failing(Page::Checkout, 1.0)).unwrap();
        let (listener, base) = listen().await;
        tokio::spawn(shop.serve(listener, std::future::pending()));
        let client = Client::builder().no_proxy().build().unwrap();
        let options = Options {
            users,
            per_second: 400,
            tollgate,
            flag: "shop".into(),
            shop: base,
            stable: revision(STABLE),
            seed: 5,
            now,
        };
        let visitors = Visitors::start(options, client);
        let waited = async {
            while !enough(&visitors.record()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waited).await.unwrap();
        visitors.stop().await
    }

    #[tokio::test]
    async fn each_user_is_sent_where_the_flag_says() {
        let tenth = |user: u64| {
            let value = if user < 10 { CANARY } else { STABLE };
            (StatusCode::OK, json!({ "key": "shop", "value": value, "variant": "x", "reason": "SPLIT" }))
        };
        let tollgate = flag_service(tenth).await;
        let bad = |record: &Record| record.versions.get(&revision(CANARY)).is_some_and(|served| served.bad > 3);
        let record = visits(tollgate, 100, bad).await;
        let (stable, canary) = (record.versions[&revision(STABLE)], record.versions[&revision(CANARY)]);
        assert!(canary.users <= 10 && stable.users <= 90, "{record:?}");
        assert!(canary.bad >= canary.users_hurt && canary.users_hurt > 0, "{record:?}");
        assert!(stable.requests > canary.requests && stable.requests >= stable.users, "{record:?}");
        assert!(canary.first <= canary.first_bad && canary.first_bad <= canary.last, "{record:?}");
        assert_eq!((record.without_flag, record.unanswered), (0, 0));
    }

    #[tokio::test]
    async fn without_an_answer_from_the_flag_service_everyone_gets_the_stable_version() {
        let (listener, dead) = listen().await;
        drop(listener);
        let wrong = flag_service(|_| (StatusCode::OK, json!({ "value": "newest, please" }))).await;
        let failing = flag_service(|_| (StatusCode::INTERNAL_SERVER_ERROR, json!({ "value": CANARY }))).await;
        for tollgate in [dead, wrong, failing] {
            let record =
                visits(tollgate, 50, |record| record.versions.values().any(|served| served.requests > 20)).await;
            let versions: Vec<_> = record.versions.keys().map(Revision::as_str).collect();
            assert_eq!(versions, [STABLE]);
            assert!(record.without_flag > 20, "{record:?}");
        }
    }

    #[tokio::test]
    async fn a_shop_that_hangs_costs_visits_and_no_more_than_so_many_at_once() {
        let (hanging, base) = listen().await;
        let tollgate = flag_service(|_| (StatusCode::OK, json!({ "value": STABLE }))).await;
        let options = Options {
            users: 10,
            per_second: RATE_MAX,
            tollgate,
            flag: "shop".into(),
            shop: base,
            stable: revision(STABLE),
            seed: 5,
            now: clock(),
        };
        let accepted = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&accepted);
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = hanging.accept().await {
                held.push(stream);
                counting.fetch_add(1, Ordering::Relaxed);
            }
        });
        let visitors = Visitors::start(options, Client::builder().no_proxy().build().unwrap());
        let skipping = async {
            while visitors.record().skipped == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), skipping).await.unwrap();
        assert!(accepted.load(Ordering::Relaxed) <= UNDER_WAY_MAX as u64);
        assert_eq!(visitors.record().versions.len(), 0);
    }

    #[test]
    fn a_user_is_counted_once_a_version() {
        let mut ledger = Ledger::default();
        let at = Timestamp::from_millis;
        for (digits, user, is_bad, time) in
            [(STABLE, 1, false, 10), (STABLE, 1, true, 20), (STABLE, 99_999, true, 30), (CANARY, 1, false, 40)]
        {
            ledger.answered(&revision(digits), user, is_bad, at(time));
        }
        let stable = Served {
            users: 2,
            users_hurt: 2,
            requests: 3,
            bad: 2,
            first: Some(at(10)),
            first_bad: Some(at(20)),
            last: Some(at(30)),
        };
        assert_eq!(ledger.record.versions[&revision(STABLE)], stable);
        assert_eq!(ledger.record.versions[&revision(CANARY)].users, 1);
    }
}
