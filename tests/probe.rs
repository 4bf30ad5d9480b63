//! Probes over real sockets: a small server answers as a test sets, and what is told is compared with what was asked.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Method as HttpMethod, header},
    response::Response,
};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::net::TcpListener;
use tollgate::{
    domain::{Absence, Arm, CheckId, Counts, Selector, ServiceName, Sli, Split, Tally, Timestamp, Window},
    telemetry::{
        Answer, Ask, AskedCheck, Clock, Provider,
        probe::{self, BODY_BYTES_MAX, Config, Method, Probe, REDIRECTS_MAX, ServiceProbes, beside, beside_with},
        scrape::ArmTargets,
    },
};

/// What the server does at a path.
#[derive(Clone)]
enum Does {
    Answer(u16, String),
    Late(Duration),
    To(String),
}

/// The method of a request, and its token.
type Sent = (HttpMethod, Option<String>);

#[derive(Clone)]
struct Server {
    address: SocketAddr,
    does: Arc<Mutex<BTreeMap<String, Does>>>,
    asked: Arc<AtomicU64>,
    last: Arc<Mutex<Option<Sent>>>,
}

impl Server {
    async fn start() -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            does: Arc::default(),
            asked: Arc::default(),
            last: Arc::default(),
        };
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server.does("/health", Does::Answer(200, "all is well".into()));
        server
    }

    fn does(&self, path: &str, does: Does) {
        self.does.lock().unwrap().insert(path.into(), does);
    }

    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    server.asked.fetch_add(1, Ordering::SeqCst);
    let token = request.headers().get("x-token").map(|value| value.to_str().unwrap().to_owned());
    *server.last.lock().unwrap() = Some((request.method().clone(), token));
    let does = server.does.lock().unwrap().get(request.uri().path()).cloned();
    let (status, location, body) = match does {
        None => (404, None, String::new()),
        Some(Does::Answer(status, body)) => (status, None, body),
        Some(Does::To(location)) => (302, Some(location), String::new()),
        Some(Does::Late(after)) => {
            tokio::time::sleep(after).await;
            (200, None, "all is well".into())
        }
    };
    let mut response = Response::builder().status(status);
    if let Some(location) = location {
        response = response.header(header::LOCATION, location);
    }
    response.body(Body::from(body)).unwrap()
}

/// A provider beside which probes stand: it tells what a test sets.
struct Stub(Option<Duration>);

impl Provider for Stub {
    fn measure(&self, ask: Ask) -> BoxFuture<'_, Answer> {
        async move {
            let mut answer = Answer::absent(&ask, &Absence::NoData);
            if let Some(takes) = self.0 {
                tokio::time::sleep(takes).await;
                answer.through = ask.through;
            }
            answer
        }
        .boxed()
    }
}

fn health() -> Probe {
    Probe {
        path: "/health".into(),
        method: Method::Get,
        expect: vec![200..=299],
        contains: Some("is well".into()),
        answers_with: BTreeMap::new(),
        slow_above: None,
        timeout: Duration::from_secs(5),
        headers: BTreeMap::new(),
    }
}

fn service(control: &str, canary: &str, probe: Probe) -> ServiceProbes {
    ServiceProbes {
        control: vec![control.into()],
        canary: vec![canary.into()],
        every: Duration::from_millis(20),
        per_second: 100,
        probes: BTreeMap::from([("home".to_owned(), probe)]),
    }
}

fn config(service: ServiceProbes) -> Config {
    Config { services: BTreeMap::from([(ServiceName::new("shop"), service)]), keep: Duration::from_secs(3_600) }
}

fn clock() -> Clock {
    let begun = tokio::time::Instant::now();
    Arc::new(move || Timestamp::from_millis(1_700_000_000_000) + begun.elapsed())
}

struct Asker {
    provider: Arc<dyn Provider>,
    clock: Clock,
    after: Timestamp,
}

impl Asker {
    fn beside(inner: Stub, service: ServiceProbes) -> Self {
        let clock = clock();
        let provider = beside(Arc::new(inner), config(service), Arc::clone(&clock)).unwrap();
        Self { provider, after: clock(), clock }
    }

    fn of(service: ServiceProbes) -> Self {
        Self::beside(Stub(None), service)
    }

    fn ask(&self, slis: Vec<Sli>, patience: u64) -> Ask {
        let through = (self.clock)() + Duration::from_millis(50);
        let asked = |(check, sli)| AskedCheck { check: CheckId(check), sli, split: Split::default() };
        Ask {
            service: ServiceName::new("shop"),
            control: None,
            canary: "abcdef0123".parse().unwrap(),
            checks: (0..).zip(slis).map(asked).collect(),
            after: self.after,
            through,
            no_later_than: through + Duration::from_millis(patience),
        }
    }

    async fn window(&mut self, slis: Vec<Sli>, patience: u64) -> Answer {
        let count = slis.len();
        let answer = self.provider.measure(self.ask(slis, patience)).await;
        assert_eq!(answer.measurements.len(), 2 * count, "one for each check and arm, always");
        assert!(answer.measurements.iter().all(|told| told.window.after >= self.after));
        self.after = answer.through;
        answer
    }

    /// What the probe says of control and of the canary.
    async fn told(&mut self) -> [Result<Counts, Absence>; 2] {
        arms(&self.window(vec![home()], 10_000).await, 0)
    }
}

fn home() -> Sli {
    Sli::Probe { probe: "home".into() }
}

fn arms(answer: &Answer, check: u16) -> [Result<Counts, Absence>; 2] {
    [Arm::Control, Arm::Canary].map(|arm| {
        let told = answer.measurements.iter().find(|told| told.check == CheckId(check) && told.arm == arm).unwrap();
        told.tally.clone().map(|tally| match tally {
            Tally::Counts(counts) => counts,
            other => panic!("{other:?}"),
        })
    })
}

/// Whether all of an arm's probes were wrong: told of a canary that does this.
async fn canary_is_wrong(probe: Probe, does: Does) -> bool {
    let (old, new) = (Server::start().await, Server::start().await);
    new.does("/health", does);
    let [control, canary] = Asker::of(service(&old.origin(), &new.origin(), probe)).told().await.map(Result::unwrap);
    assert_eq!(control.bad, 0);
    assert!(control.total > 0 && canary.total > 0);
    assert!(canary.bad == 0 || canary.bad == canary.total);
    canary.bad > 0
}

#[tokio::test]
async fn both_arms_are_asked_equally_often_and_windows_in_a_row_count_every_probe_once() {
    let (old, new) = (Server::start().await, Server::start().await);
    let mut asker = Asker::of(service(&old.origin(), &new.origin(), health()));
    let (mut control, mut canary) = (Counts::default(), Counts::default());
    for _ in 0..6 {
        let told = asker.told().await.map(Result::unwrap);
        (control, canary) = (control.plus(told[0]), canary.plus(told[1]));
        assert!(told.iter().all(|counts| counts.total > 0));
    }
    drop(asker);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = [old.asked(), new.asked()];
    assert_eq!([control.bad, canary.bad], [0, 0]);
    assert!(control.total.abs_diff(canary.total) <= 1, "{control:?} {canary:?}");
    for (counts, asked) in [control, canary].into_iter().zip(asked) {
        assert!(asked - 2 <= counts.total && counts.total <= asked, "{counts:?} of {asked}: only the last are untold");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!([old.asked(), new.asked()], asked, "dropping it ends all probes");
}

#[tokio::test]
async fn a_wrong_status_a_wrong_body_and_a_late_answer_are_bad() {
    let ok = || Does::Answer(200, "all is well".into());
    assert!(!canary_is_wrong(health(), ok()).await);
    assert!(canary_is_wrong(health(), Does::Answer(500, "all is well".into())).await);
    assert!(canary_is_wrong(health(), Does::Answer(200, "sign in".into())).await);
    let late = |by: u64| Does::Late(Duration::from_millis(by));
    let quick = Probe { slow_above: Some(Duration::from_millis(100)), ..health() };
    assert!(canary_is_wrong(quick, late(150)).await);
    let patient = Probe { timeout: Duration::from_millis(1_000), ..health() };
    assert!(canary_is_wrong(patient.clone(), late(60_000)).await);
    assert!(!canary_is_wrong(patient, late(1)).await);
    let gone = Probe { expect: vec![404..=404, 410..=410], contains: None, ..health() };
    let mut asker_of_gone = {
        let (old, new) = (Server::start().await, Server::start().await);
        old.does("/health", Does::Answer(410, String::new()));
        new.does("/health", Does::Answer(404, String::new()));
        Asker::of(service(&old.origin(), &new.origin(), gone))
    };
    assert!(asker_of_gone.told().await.iter().all(|told| told.as_ref().unwrap().bad == 0), "what is expected is right");
}

#[tokio::test]
async fn an_answer_bears_the_headers_that_it_must() {
    for (name, value, is_right) in [("Date", "gmt", true), ("date", "utc", false), ("x-served-by", "", false)] {
        let (old, new) = (Server::start().await, Server::start().await);
        for server in [&old, &new] {
            server.does("/health", Does::Answer(200, "all is well".into()));
        }
        let probe = Probe { answers_with: BTreeMap::from([(name.to_owned(), value.to_owned())]), ..health() };
        let mut asker = Asker::of(service(&old.origin(), &new.origin(), probe));
        let told = asker.told().await;
        assert!(told.iter().all(|told| (told.as_ref().unwrap().bad == 0) == is_right), "{name}: {told:?}");
    }
}

#[tokio::test]
async fn a_body_is_looked_into_up_to_its_limit() {
    let body = |before: usize| Does::Answer(200, format!("{}is well", "x".repeat(before)));
    let most = BODY_BYTES_MAX - "is well".len();
    assert!(!canary_is_wrong(health(), body(most)).await);
    assert!(canary_is_wrong(health(), body(most + 1)).await);
}

#[tokio::test]
async fn a_canary_that_cannot_be_reached_is_bad_and_not_an_absence() {
    let old = Server::start().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut asker = Asker::of(service(&old.origin(), &format!("http://{gone}"), health()));
    let [control, canary] = asker.told().await.map(Result::unwrap);
    assert_eq!(control.bad, 0);
    assert!(canary.bad > 0 && canary.bad == canary.total, "{canary:?}");
}

#[tokio::test]
async fn redirects_are_followed_among_the_arms_own_origins_and_never_elsewhere() {
    let (old, new, far) = (Server::start().await, Server::start().await, Server::start().await);
    old.does("/health", Does::To("/health/".into()));
    old.does("/health/", Does::Answer(200, "all is well".into()));
    new.does("/health", Does::To(format!("{}/health", far.origin())));
    let mut asker = Asker::of(service(&old.origin(), &new.origin(), health()));
    let [control, canary] = asker.told().await.map(Result::unwrap);
    assert_eq!((control.bad, canary.bad), (0, canary.total));
    assert_eq!(far.asked(), 0, "the other origin was never asked");

    let both = ServiceProbes { canary: vec![new.origin(), far.origin()], ..service(&old.origin(), "", health()) };
    let [_, canary] = Asker::of(both).told().await.map(Result::unwrap);
    assert!(canary.bad == 0 && far.asked() > 0, "an origin of the arm's own is");

    // An address that must never be asked is no origin of the arm's either.
    new.does("/health", Does::To("http://169.254.169.254/latest/meta-data".into()));
    let [_, canary] = Asker::of(service(&old.origin(), &new.origin(), health())).told().await.map(Result::unwrap);
    assert_eq!(canary.bad, canary.total);
}

#[tokio::test]
async fn redirects_have_a_limit() {
    for (hops, is_wrong) in [(REDIRECTS_MAX, false), (REDIRECTS_MAX + 1, true)] {
        let (old, new) = (Server::start().await, Server::start().await);
        new.does("/health", Does::To("/1".into()));
        for hop in 1..hops {
            new.does(&format!("/{hop}"), Does::To(format!("/{}", hop + 1)));
        }
        new.does(&format!("/{hops}"), Does::Answer(200, "all is well".into()));
        let [_, canary] = Asker::of(service(&old.origin(), &new.origin(), health())).told().await.map(Result::unwrap);
        assert_eq!(canary.bad > 0, is_wrong, "{hops} hops");
    }
}

#[tokio::test]
async fn a_name_that_leads_to_a_machines_own_address_is_refused_and_nothing_is_asked() {
    let old = Server::start().await;
    let port = old.address.port();
    let lookup: probe::Lookup = Arc::new(|name| {
        let found: &[&str] = match name.as_str() {
            "metadata.internal" => &["169.254.169.254:0", "[fe80::1]:0"],
            "mixed.internal" => &["169.254.169.254:0", "127.0.0.1:0"],
            _ => &[],
        };
        let found = found.iter().map(|address| address.parse().unwrap()).collect();
        async move { Ok(found) }.boxed()
    });
    let clock = clock();
    let names = service(&format!("http://mixed.internal:{port}"), "http://metadata.internal", health());
    let provider = beside_with(Arc::new(Stub(None)), config(names), Arc::clone(&clock), lookup).unwrap();
    let mut asker = Asker { provider, after: clock(), clock };
    let [control, canary] = asker.told().await;
    assert!(control.is_ok_and(|counts| counts.bad == 0 && counts.total > 0), "only what may be asked is tried");
    let refused = canary.unwrap_err();
    assert!(matches!(&refused, Absence::Unavailable(why) if why.as_str().contains("is never probed")), "{refused}");
}

#[tokio::test]
async fn a_probe_that_was_not_made_is_no_data_and_one_that_nobody_wrote_is_said() {
    let old = Server::start().await;
    let slow = Probe { timeout: Duration::from_secs(30), ..health() };
    let new = Server::start().await;
    new.does("/health", Does::Late(Duration::from_secs(30)));
    let mut asker = Asker::of(service(&old.origin(), &new.origin(), slow));
    let other = Sli::Probe { probe: "other".into() };
    let answer = asker.window(vec![home(), other], 300).await;
    let [control, canary] = arms(&answer, 0);
    assert_eq!((control.unwrap().bad, canary), (0, Err(Absence::NoData)), "its answer is still awaited");
    let why = arms(&answer, 1)[1].clone().unwrap_err().to_string();
    assert!(why.contains("service shop has no probe of the name other"), "{why}");
    let unknown = Ask { service: ServiceName::new("elsewhere"), ..asker.ask(vec![home()], 100) };
    let why = arms(&asker.provider.measure(unknown).await, 0)[0].clone().unwrap_err().to_string();
    assert!(why.contains("service elsewhere has no probes"), "{why}");
}

#[tokio::test]
async fn beside_another_provider_its_window_is_theirs_and_where_it_has_none_probes_go_on() {
    let (old, new) = (Server::start().await, Server::start().await);
    let level = || Sli::Level { gauge: Selector::metric("load") };
    let origins = || service(&old.origin(), &new.origin(), health());
    let mut asker = Asker::beside(Stub(Some(Duration::from_millis(100))), origins());
    asker.window(vec![level(), home()], 1_000).await;
    let ask = asker.ask(vec![level(), home()], 1_000);
    let answer = asker.provider.measure(ask.clone()).await;
    assert_eq!(answer.through, ask.through);
    let window = Window { after: ask.after, through: ask.through };
    assert!(answer.measurements.iter().filter(|told| told.check == CheckId(1)).all(|told| told.window == window));
    let order: Vec<_> = answer.measurements.iter().map(|told| (told.check.0, told.arm)).collect();
    assert_eq!(order, [(0, Arm::Control), (0, Arm::Canary), (1, Arm::Control), (1, Arm::Canary)]);

    let mut asker = Asker::beside(Stub(None), origins());
    let begun = asker.after;
    asker.window(vec![level(), home()], 100).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let answer = asker.window(vec![level(), home()], 100).await;
    assert_eq!(answer.through, begun, "the other provider's next window covers the gap");
    assert!(arms(&answer, 1).iter().all(|told| told.as_ref().unwrap().total > 0));
    assert_eq!(arms(&answer, 0)[0], Err(Absence::NoData));
}

/// A provider that has nothing until a test says so, and keeps what it was asked.
#[derive(Default)]
struct Late {
    is_back: AtomicBool,
    asked: Mutex<Vec<Ask>>,
}

impl Provider for Late {
    fn measure(&self, ask: Ask) -> BoxFuture<'_, Answer> {
        let mut answer = Answer::absent(&ask, &Absence::NoData);
        if self.is_back.load(Ordering::SeqCst) {
            answer.through = ask.through;
        }
        self.asked.lock().unwrap().push(ask);
        std::future::ready(answer).boxed()
    }
}

#[tokio::test]
async fn over_a_gap_probes_are_told_once_and_nothing_of_the_others_counts_is_passed_over() {
    let (old, new) = (Server::start().await, Server::start().await);
    let late = Arc::new(Late::default());
    let clock = clock();
    let beside = beside(
        Arc::clone(&late) as Arc<dyn Provider>,
        config(service(&old.origin(), &new.origin(), health())),
        Arc::clone(&clock),
    );
    let mut asker = Asker { provider: beside.unwrap(), after: clock(), clock };
    let (begun, level) = (asker.after, || Sli::Level { gauge: Selector::metric("load") });
    let mut windows = Vec::new();
    for round in 0..4 {
        late.is_back.store(round == 3, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(150)).await;
        let answer = asker.window(vec![level(), home()], 1_000).await;
        windows.extend(answer.measurements.iter().find(|told| told.check == CheckId(1)).map(|told| told.window));
        assert_eq!(answer.through > begun, round == 3);
        if round > 0 {
            assert!(arms(&answer, 1).iter().all(|told| told.as_ref().is_ok_and(|counts| counts.total > 0)), "{round}");
        }
    }
    let asked: Vec<_> = late.asked.lock().unwrap().iter().map(|ask| ask.after).collect();
    assert_eq!(asked, [begun; 4], "its window covers the gap");
    assert_eq!(windows[0].after, begun);
    assert!(windows.windows(2).all(|pair| pair[0].through == pair[1].after), "{windows:?}");
    assert_eq!(windows[3].through, asker.after);
}

#[tokio::test]
async fn a_window_that_was_told_does_not_grow() {
    let (old, new) = (Server::start().await, Server::start().await);
    let mut asker = Asker::beside(Stub(Some(Duration::ZERO)), service(&old.origin(), &new.origin(), health()));
    asker.window(vec![home()], 1_000).await;
    // This window ends in the future; what comes up to then belongs to the next one.
    let level = Sli::Level { gauge: Selector::metric("load") };
    let mut ask = asker.ask(vec![level, home()], 1_000);
    ask.through = ask.through + Duration::from_millis(400);
    let first = asker.provider.measure(ask.clone()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let again = asker.provider.measure(ask).await;
    assert_eq!(arms(&first, 1), arms(&again, 1), "the same window once more says the same");
}

#[tokio::test]
async fn probes_keep_to_their_rate() {
    let (old, new) = (Server::start().await, Server::start().await);
    let begun = tokio::time::Instant::now();
    let slow = ServiceProbes { per_second: 10, ..service(&old.origin(), &new.origin(), health()) };
    let mut asker = Asker::of(slow);
    for _ in 0..3 {
        assert!(asker.told().await.iter().all(Result::is_ok));
    }
    let most = 1 + begun.elapsed().as_millis() / 100;
    let asked = u128::from(old.asked() + new.asked());
    assert!((4..=most).contains(&asked), "{asked} of {most}");
}

#[tokio::test]
async fn method_headers_and_revision_are_sent_and_secrets_are_not_shown() {
    let (old, new) = (Server::start().await, Server::start().await);
    let probe = Probe {
        path: "/at/{revision}".into(),
        method: Method::Head,
        contains: None,
        headers: BTreeMap::from([("X-Token".to_owned(), "s3cret-word".into())]),
        ..health()
    };
    old.does("/at/stable", Does::Answer(200, String::new()));
    new.does("/at/abcdef0123", Does::Answer(204, String::new()));
    let service = service(&old.origin(), &new.origin(), probe);
    assert!(!format!("{service:?}").contains("s3cret"));
    let told = Asker::of(service).told().await;
    assert!(told.iter().all(|told| told.as_ref().is_ok_and(|counts| counts.bad == 0 && counts.total > 0)), "{told:?}");
    assert_eq!(*new.last.lock().unwrap(), Some((HttpMethod::HEAD, Some("s3cret-word".to_owned()))));
}

#[tokio::test]
async fn without_probes_the_other_provider_stands_alone() {
    let inner: Arc<dyn Provider> = Arc::new(Stub(None));
    let alone = beside(Arc::clone(&inner), Config::default(), clock()).unwrap();
    assert!(Arc::ptr_eq(&inner, &alone));
    let url = |path: &str| format!("http://{{revision}}.shop:81{path}");
    let targets = ArmTargets { urls: vec![url("/metrics"), url("?x"), "https://b".into()], labels: BTreeMap::new() };
    assert_eq!(probe::origins(&targets), ["http://{revision}.shop:81", "https://b"]);
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_what_to_mend() {
    let good = || service("http://10.0.0.1:80", "http://10.0.0.2:80", health());
    let check = |service: ServiceProbes| config(service).check().map_err(|error| error.to_string());
    let with = |probe: Probe| check(service("http://10.0.0.1", "http://10.0.0.2", probe));
    assert_eq!(check(good()), Ok(()));
    let origins = |n: usize| (0..n).map(|n| format!("http://10.0.1.{n}")).collect::<Vec<_>>();
    let named = |n: usize| (0..n).map(|n| (format!("p{n}"), health())).collect::<BTreeMap<_, _>>();
    assert_eq!(check(ServiceProbes { canary: origins(probe::ORIGINS_MAX), ..good() }), Ok(()));
    assert_eq!(check(ServiceProbes { probes: named(probe::PROBES_MAX), ..good() }), Ok(()));
    for (service, what) in [
        (ServiceProbes { canary: origins(probe::ORIGINS_MAX + 1), ..good() }, "write 1 to 64 origins"),
        (ServiceProbes { canary: vec![], ..good() }, "write 1 to 64 origins"),
        (ServiceProbes { probes: named(probe::PROBES_MAX + 1), ..good() }, "at most 32 probes"),
        (ServiceProbes { probes: BTreeMap::from([("a b".into(), health())]), ..good() }, "name probes"),
        (ServiceProbes { every: Duration::from_millis(9), ..good() }, "at least 10 ms apart"),
        (ServiceProbes { every: Duration::from_secs(1_801), ..good() }, "kept for two rounds"),
        (ServiceProbes { per_second: 0, ..good() }, "1 to 100 probes a second"),
        (ServiceProbes { per_second: 101, ..good() }, "1 to 100 probes a second"),
        (service("http://10.0.0.1", "http://10.0.0.1", health()), "probed at the same place"),
        (service("http://10.0.0.1", "http://169.254.169.254", health()), "is never probed"),
        (service("http://[fe80::1]", "http://10.0.0.1", health()), "is never probed"),
        (service("http://10.0.0.1", "ftp://10.0.0.2", health()), "an origin is a scheme"),
        (service("http://10.0.0.1", "http://me:word@shop", health()), "an origin is a scheme"),
        (service("http://10.0.0.1", "http://shop/path", health()), "an origin is a scheme"),
        (service("http://10.0.0.1", "nowhere", health()), "is no URL"),
    ] {
        let error = check(service).unwrap_err();
        assert!(error.contains("service shop: ") && error.contains(what) && !error.contains("word@"), "{error}");
    }
    let path = |bytes: usize| Probe { path: format!("/{}", "x".repeat(bytes - 1)), ..health() };
    let contains = |bytes: usize| Probe { contains: Some("x".repeat(bytes)), ..health() };
    let headers = |n: usize| Probe { headers: (0..n).map(|n| (format!("x-{n}"), "v".into())).collect(), ..health() };
    let header = |name: &str, value: &str| Probe {
        headers: BTreeMap::from([(name.to_owned(), value.to_owned().into())]),
        ..health()
    };
    let most = [path(probe::PATH_BYTES_MAX), contains(probe::CONTAINS_BYTES_MAX), headers(probe::HEADERS_MAX)];
    for fine in most {
        assert_eq!(with(fine), Ok(()));
    }
    for (probe, what) in [
        (path(probe::PATH_BYTES_MAX + 1), "a path that begins with /"),
        (Probe { path: "@evil".into(), ..health() }, "a path that begins with /"),
        (Probe { path: "/a b".into(), ..health() }, "a path that begins with /"),
        (contains(probe::CONTAINS_BYTES_MAX + 1), "1 to 1000 bytes"),
        (contains(0), "1 to 1000 bytes"),
        (Probe { method: Method::Head, ..health() }, "no body to look into"),
        (headers(probe::HEADERS_MAX + 1), "at most 16 headers"),
        (header("Host", "x"), "the header Host cannot be sent"),
        (header("a b", "x"), "the header a b cannot be sent"),
        (header("x", "s3cret\n"), "the header x cannot be sent"),
        (Probe { expect: vec![], ..health() }, "1 to 16 statuses"),
        (
            Probe { answers_with: BTreeMap::from([("a b".into(), "x".into())]), ..health() },
            "no answer bears the header a b",
        ),
        (Probe { expect: vec![99..=200], ..health() }, "1 to 16 statuses"),
        (Probe { expect: vec![200..=600], ..health() }, "1 to 16 statuses"),
        (Probe { timeout: Duration::from_secs(61), ..health() }, "at most 60 s"),
        (Probe { slow_above: Some(Duration::from_secs(6)), ..health() }, "at most the timeout"),
    ] {
        let error = with(probe).unwrap_err();
        assert!(error.contains("probe home: ") && error.contains(what) && !error.contains("s3cret"), "{error}");
    }
}
