//! The scraper over real HTTP: a small server on loopback shows what a test sets, and answers are compared with what
//! was truly counted.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

#[path = "scrape/parts.rs"]
mod parts;
#[path = "scrape/past.rs"]
mod past;
#[path = "scrape/pods.rs"]
mod pods;
#[path = "scrape/real.rs"]
mod real;
#[path = "scrape/walk.rs"]
mod walk;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::net::TcpListener;
use tollgate::{
    domain::{Absence, Histogram, Selector, ServiceName, Sli, Tally, Text, Timestamp},
    telemetry::{
        self, Ask, Provider,
        exposition::BODY_BYTES_MAX,
        scrape::{self, ArmTargets, ServiceTargets},
    },
};

use self::pods::{
    Asker, CANARY, INTERVAL, Pods, SHORT, SOON, Shows, arms, asked, config, counts, errors, targets, took,
};

/// Two pods, one an arm, that have been read once.
async fn pair() -> (Pods, Asker) {
    let pods = Pods::start().await;
    pods.metrics("old", "hits_total{code=\"200\"} 100");
    pods.metrics("new", "hits_total{code=\"200\"} 100");
    let mut asker = Asker::of(&[pods.url("old")], &[pods.url("new")]);
    asker.begin().await;
    (pods, asker)
}

/// What the canary is said to be when its endpoint does this; control goes on as before.
async fn canary_that(shows: Shows) -> Absence {
    let (pods, mut asker) = pair().await;
    pods.show("new", shows);
    pods.some_rounds().await;
    let after = asker.after;
    // Rounds that were under way when it changed are told first.
    asker.window(SHORT).await;
    let answer = asker.window(SHORT).await;
    let [control, canary] = arms(&answer, 0);
    assert_eq!(control, Err(Absence::NoData), "control answers, and waits for the canary");
    assert!(asker.after >= after);
    pods.metrics("new", "hits_total{code=\"200\"} 107");
    let [_, mended] = arms(&asker.window(SOON).await, 0);
    assert_eq!(mended, counts(0, 7), "what was counted meanwhile is in the next window");
    canary.unwrap_err()
}

#[track_caller]
fn unavailable(absence: &Absence, what: &str) {
    assert!(matches!(absence, Absence::Unavailable(why) if why.as_str().contains(what)), "{absence}");
}

#[track_caller]
fn malformed(absence: &Absence, what: &str) {
    assert!(matches!(absence, Absence::Malformed(why) if why.as_str().contains(what)), "{absence}");
}

#[tokio::test]
async fn counts_are_exact_from_window_to_window_and_an_error_counter_is_born_at_its_first_error() {
    let (pods, mut asker) = pair().await;
    pods.metrics("old", "hits_total{code=\"200\"} 150");
    pods.metrics("new", "hits_total{code=\"200\"} 110\nhits_total{code=\"503\"} 4");
    assert_eq!(arms(&asker.window(SOON).await, 0), [counts(0, 50), counts(4, 14)]);
    assert_eq!(arms(&asker.window(SOON).await, 0), [counts(0, 0), counts(0, 0)]);
    pods.metrics("new", "hits_total{code=\"200\"} 111\nhits_total{code=\"503\"} 5");
    assert_eq!(arms(&asker.window(SOON).await, 0), [counts(0, 0), counts(1, 2)]);
    assert!(pods.accepts.lock().unwrap().starts_with("text/plain;version=0.0.4"));
}

#[tokio::test]
async fn counts_are_exact_across_resets_and_restarts() {
    let (pods, mut asker) = pair().await;
    pods.metrics("new", "hits_total{code=\"200\"} 30\nhits_total{code=\"500\"} 2");
    assert_eq!(arms(&asker.window(SOON).await, 0)[1], counts(2, 32), "a counter that fell began again at zero");
    pods.metrics("new", "process_start_time_seconds 100\nhits_total{code=\"200\"} 30\nhits_total{code=\"500\"} 2");
    asker.window(SOON).await;
    pods.metrics("new", "process_start_time_seconds 200\nhits_total{code=\"200\"} 9\nhits_total{code=\"500\"} 3");
    assert_eq!(arms(&asker.window(SOON).await, 0)[1], counts(3, 12), "three new errors, not one more than before");
}

#[tokio::test]
async fn traffic_that_does_not_exist_is_no_data() {
    let (pods, mut asker) = pair().await;
    pods.metrics("new", "other 1");
    pods.some_rounds().await;
    asker.window(SOON).await;
    assert_eq!(arms(&asker.window(SOON).await, 0), [counts(0, 0), Err(Absence::NoData)]);
}

#[tokio::test]
async fn a_page_or_a_document_is_malformed() {
    let page = |kind, body: &str| Shows::Other { status: 200, kind, body: body.into() };
    let html = canary_that(page("text/html; charset=utf-8", "<html>sign in</html>")).await;
    malformed(&html, "answered text/html, which is not the Prometheus text format");
    malformed(&canary_that(page("application/json", "{}")).await, "answered application/json, which is not");
    malformed(&canary_that(page("text/plain", "<html>")).await, "line 1: not a metric: this looks like a page");
    malformed(&canary_that(page("application/openmetrics-text", "hits_total 1\n")).await, "no `# EOF`");
}

#[tokio::test]
async fn an_error_status_is_unavailable() {
    let failing = Shows::Other { status: 500, kind: "text/plain", body: "hits_total{code=\"200\"} 999\n".into() };
    unavailable(&canary_that(failing).await, "/new/metrics: answered status 500");
}

#[tokio::test]
async fn a_refused_connection_is_unavailable() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let pods = Pods::start().await;
    pods.metrics("old", "hits_total{code=\"200\"} 1");
    let mut asker = Asker::of(&[pods.url("old")], &[format!("http://{gone}/metrics?token=secret")]);
    let [control, canary] = arms(&asker.window(SHORT).await, 0);
    assert_eq!(control, Err(Absence::NoData));
    let canary = canary.unwrap_err();
    unavailable(&canary, &format!("http://{gone}/metrics: cannot connect"));
    assert!(!canary.to_string().contains("secret"));
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_is_unavailable_after_its_timeout() {
    let pods = Pods::start().await;
    pods.metrics("old", "hits_total{code=\"200\"} 1");
    pods.show("new", Shows::Nothing);
    let mut targets = targets(&[pods.url("old")], &[pods.url("new")]);
    targets.timeout = Duration::from_millis(50);
    let mut asker = Asker::with(config(targets), vec![errors()]);
    unavailable(&arms(&asker.window(1_000).await, 0)[1].clone().unwrap_err(), "no whole answer within 50 ms");
}

#[tokio::test]
async fn a_body_that_was_cut_is_not_counted() {
    let cut = Shows::Other { status: 200, kind: "text/plain", body: "hits_total{code=\"200\"} 10".into() };
    malformed(&canary_that(cut).await, "the body was cut");

    // An answer that ends before the length it announced.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            while stream.try_read(&mut [0; 4_096]).is_err() {
                stream.readable().await.unwrap();
            }
            stream.try_write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhits_total 1\n").unwrap();
        }
    });
    let pods = Pods::start().await;
    pods.metrics("old", "hits_total{code=\"200\"} 1");
    let mut asker = Asker::of(&[pods.url("old")], &[format!("http://{address}/metrics")]);
    unavailable(&arms(&asker.window(1_000).await, 0)[1].clone().unwrap_err(), "the answer broke off");
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit_and_not_beyond() {
    let (pods, mut asker) = pair().await;
    let metric = "hits_total{code=\"200\"} 105\n";
    let filled = |bytes: usize| format!("{metric}#{}\n", "x".repeat(bytes - metric.len() - 2));
    pods.show("new", Shows::Metrics(filled(BODY_BYTES_MAX)));
    assert_eq!(arms(&asker.window(SOON).await, 0)[1], counts(0, 5));
    pods.show("new", Shows::Metrics(filled(BODY_BYTES_MAX + 1)));
    pods.some_rounds().await;
    asker.window(1_000).await;
    malformed(&arms(&asker.window(1_000).await, 0)[1].clone().unwrap_err(), "answered more than 8388608 bytes");
}

#[tokio::test]
async fn a_value_that_no_counter_can_have_is_malformed_and_is_never_counted() {
    for bad in ["-5", "NaN", "+Inf"] {
        let (pods, mut asker) = pair().await;
        pods.metrics("old", "hits_total{code=\"200\"} 103");
        pods.metrics("new", format!("hits_total{{code=\"200\"}} {bad}\nhits_total{{code=\"404\"}} 2"));
        let [control, canary] = arms(&asker.window(SOON).await, 0);
        assert_eq!(control, counts(0, 3));
        malformed(&canary.unwrap_err(), "which is no count");
        pods.metrics("new", "hits_total{code=\"200\"} 500\nhits_total{code=\"404\"} 2");
        asker.window(SOON).await;
        pods.metrics("new", "hits_total{code=\"200\"} 501\nhits_total{code=\"404\"} 2");
        assert_eq!(arms(&asker.window(SOON).await, 0)[1], counts(0, 1));
    }
}

#[tokio::test]
async fn of_two_pods_one_that_fails_delays_what_both_counted_and_loses_nothing() {
    let pods = Pods::start().await;
    for pod in ["old", "a", "b"] {
        pods.metrics(pod, "hits_total{code=\"200\"} 10");
    }
    let mut asker = Asker::of(&[pods.url("old")], &[pods.url("a"), pods.url("b")]);
    asker.begin().await;
    let failing = Shows::Other { status: 503, kind: "text/plain", body: String::new() };

    // It recovers before the deadline: the answer waited, and is whole.
    pods.metrics("a", "hits_total{code=\"200\"} 11");
    pods.show("b", failing.clone());
    pods.some_rounds().await;
    pods.metrics("b", "hits_total{code=\"200\"} 12");
    assert_eq!(arms(&asker.window(SOON).await, 0), [counts(0, 0), counts(0, 3)]);

    // It does not: that window has no canary, and the next has everything, a restart of the other pod included.
    pods.show("b", failing);
    pods.some_rounds().await;
    asker.window(SHORT).await;
    pods.metrics("old", "hits_total{code=\"200\"} 110");
    pods.metrics("a", "hits_total{code=\"200\"} 21");
    let [control, canary] = arms(&asker.window(SHORT).await, 0);
    assert_eq!(control, Err(Absence::NoData));
    unavailable(&canary.unwrap_err(), "/b/metrics: answered status 503");
    pods.metrics("a", "hits_total{code=\"200\"} 5");
    pods.some_rounds().await;
    pods.metrics("b", "hits_total{code=\"200\"} 13");
    assert_eq!(arms(&asker.window(SOON).await, 0), [counts(0, 100), counts(0, 16)]);
}

#[tokio::test]
async fn without_control_the_canary_is_answered_all_the_same() {
    let (pods, mut asker) = pair().await;
    pods.show("old", Shows::Other { status: 502, kind: "text/plain", body: String::new() });
    pods.some_rounds().await;
    asker.window(SHORT).await;
    pods.metrics("new", "hits_total{code=\"200\"} 100\nhits_total{code=\"500\"} 60");
    let [control, canary] = arms(&asker.window(1_000).await, 0);
    unavailable(&control.unwrap_err(), "answered status 502");
    assert_eq!(canary, counts(60, 60), "an absolute limit needs no control");
}

#[tokio::test]
async fn a_clock_that_is_set_back_counts_nothing_twice() {
    let (pods, mut asker) = pair().await;
    pods.metrics("new", "hits_total{code=\"200\"} 105");
    assert_eq!(arms(&asker.window(SOON).await, 0)[1], counts(0, 5));
    asker.clock.fetch_sub(60_000, Ordering::SeqCst);
    pods.metrics("new", "hits_total{code=\"200\"} 107");
    pods.some_rounds().await;
    assert_eq!(arms(&asker.window(SOON).await, 0)[1], counts(0, 2));
    asker.clock.fetch_add(3_600, Ordering::SeqCst);
    pods.metrics("new", "hits_total{code=\"200\"} 108");
    pods.some_rounds().await;
    assert_eq!(arms(&asker.window(SOON).await, 0)[1], counts(0, 1));
}

#[tokio::test]
async fn a_histogram_a_mix_and_a_level_are_told_as_such() {
    let pods = Pods::start().await;
    let body = |fast: u64, slow: u64, apple: u64, load: f64| {
        format!(
            "# TYPE took_seconds histogram\ntook_seconds_bucket{{le=\"0.5\"}} {fast}\n\
             took_seconds_bucket{{le=\"+Inf\"}} {}\ntook_seconds_count {}\nroutes_total{{to=\"apple\"}} {apple}\n\
             routes_total{{to=\"pear\"}} 3\nload{{cpu=\"0\"}} {load}\nload{{cpu=\"1\"}} 1",
            fast + slow,
            fast + slow
        )
    };
    pods.metrics("old", body(10, 10, 5, 0.0));
    pods.metrics("new", body(10, 10, 5, 0.0));
    let mix = asked(2, Sli::Mix { counter: Selector::metric("routes_total"), by: "to".into() });
    let level = asked(3, Sli::Level { gauge: Selector::metric("load") });
    let service = config(targets(&[pods.url("old")], &[pods.url("new")]));
    let mut asker = Asker::with(service, vec![errors(), took(), mix, level]);
    asker.window(SOON).await;
    pods.metrics("new", body(17, 12, 9, 3.0));
    let answer = asker.window(SOON).await;
    let histogram = |counts: &[u64]| Ok(Tally::Histogram(Histogram { bounds: vec![0.5], counts: counts.to_vec() }));
    assert_eq!(
        arms(&answer, 0),
        [Err(Absence::NoData), Err(Absence::NoData)],
        "one check without series harms no other"
    );
    assert_eq!(arms(&answer, 1), [histogram(&[0, 0]), histogram(&[7, 2])]);
    assert_eq!(arms(&answer, 2), [Ok(Tally::Mix(vec![])), Ok(Tally::Mix(vec![("apple".into(), 4)]))]);
    let [control, canary] = arms(&answer, 3);
    assert!(matches!(control, Ok(Tally::Samples(levels)) if levels.iter().all(|level| *level == 0.5)));
    assert!(matches!(canary, Ok(Tally::Samples(levels)) if levels.last() == Some(&2.0)));
}

#[tokio::test]
async fn a_redirect_is_followed_within_the_host_and_never_to_another() {
    let (pods, mut asker) = pair().await;
    pods.metrics("moved", "hits_total{code=\"200\"} 104");
    pods.show("new", Shows::To("/moved/metrics".into()));
    assert_eq!(arms(&asker.window(SOON).await, 0)[1], counts(0, 4));

    let elsewhere = Pods::start().await;
    elsewhere.metrics("new", "hits_total{code=\"200\"} 999");
    unavailable(&canary_that(Shows::To(elsewhere.url("new"))).await, "answered status 307");
    assert_eq!(elsewhere.asked.load(Ordering::SeqCst), 0, "the other host was never asked");
    unavailable(&canary_that(Shows::To("/new/metrics".into())).await, "answered status 307");
}

#[tokio::test]
async fn redirects_have_a_limit() {
    let (pods, mut asker) = pair().await;
    pods.metrics("end", "hits_total{code=\"200\"} 104");
    for hop in 1..scrape::REDIRECTS_MAX {
        pods.show(&format!("hop{hop}"), Shows::To(format!("/hop{}/metrics", hop + 1)));
    }
    pods.show(&format!("hop{}", scrape::REDIRECTS_MAX), Shows::To("/end/metrics".into()));
    pods.show("new", Shows::To("/hop2/metrics".into()));
    assert_eq!(arms(&asker.window(SOON).await, 0)[1], counts(0, 4), "as many as are followed");
    pods.show("new", Shows::To("/hop1/metrics".into()));
    pods.some_rounds().await;
    asker.window(1_000).await;
    unavailable(&arms(&asker.window(1_000).await, 0)[1].clone().unwrap_err(), "answered status 307");
}

#[tokio::test]
async fn the_number_of_pairs_that_are_read_at_once_has_a_limit() {
    let pods = Pods::start().await;
    let mut targets = targets(&[pods.url("old")], &[pods.url("{revision}")]);
    targets.interval = Duration::from_secs(60);
    let asker = Asker::with(config(targets), vec![errors()]);
    for pair in 0..=scrape::PAIRS_MAX {
        let ask = Ask { canary: format!("{pair:0>8}").parse().unwrap(), ..asker.ask(0) };
        let refused = arms(&asker.scrape.measure(ask).await, 0)[1].clone().unwrap_err();
        let why = refused.to_string();
        assert_eq!(why.contains("more than 256 pairs"), pair == scrape::PAIRS_MAX, "{pair}: {why}");
    }
}

#[tokio::test]
async fn an_answer_from_another_host_is_refused_whatever_client_is_used() {
    let (near, far) = (Pods::start().await, Pods::start().await);
    near.metrics("old", "hits_total{code=\"200\"} 1");
    far.metrics("new", "hits_total{code=\"200\"} 1");
    near.show("new", Shows::To(far.url("new")));
    let service = config(targets(&[near.url("old")], &[near.url("new")]));
    let clock = Timestamp::from_millis(1_000);
    let follows = reqwest::Client::builder().build().unwrap();
    let mut asker = Asker::with(config(targets(&[], &[])), vec![errors()]);
    asker.scrape = scrape::start(service, Arc::new(move || clock), follows);
    let ask = Ask { after: clock, through: clock, no_later_than: clock + Duration::from_millis(500), ..asker.ask(0) };
    let answer = asker.scrape.measure(ask).await;
    unavailable(&arms(&answer, 0)[1].clone().unwrap_err(), "from another host");
}

#[tokio::test]
async fn after_our_own_restart_counting_starts_anew() {
    let (pods, mut asker) = pair().await;
    pods.metrics("new", "hits_total{code=\"200\"} 150");
    let mut targets = targets(&[pods.url("old")], &[pods.url("new")]);
    targets.interval = Duration::from_secs(60);
    let mut again = Asker::with(config(targets), vec![errors()]);
    again.after = asker.after;
    again.clock.store(asker.clock.load(Ordering::SeqCst), Ordering::SeqCst);
    let one_reading = arms(&again.window(500).await, 0);
    assert_eq!(one_reading, [Err(Absence::NoData), Err(Absence::NoData)], "one reading alone says nothing");
    assert_eq!(arms(&asker.window(SOON).await, 0)[1], counts(0, 50), "who went on reading knows");
}

#[tokio::test]
async fn reading_ends_when_nobody_asks_and_when_the_scraper_is_dropped() {
    let (pods, mut asker) = pair().await;
    asker.clock.fetch_add(10_000_000, Ordering::SeqCst);
    tokio::time::sleep(INTERVAL * 5).await;
    let stopped = pods.asked.load(Ordering::SeqCst);
    tokio::time::sleep(INTERVAL * 5).await;
    assert_eq!(pods.asked.load(Ordering::SeqCst), stopped);

    pods.metrics("new", "hits_total{code=\"200\"} 900");
    assert_eq!(arms(&asker.window(SOON).await, 0)[1], counts(0, 0), "it begins anew, and counts from there");
    drop(asker);
    tokio::time::sleep(INTERVAL * 2).await;
    let dropped = pods.asked.load(Ordering::SeqCst);
    assert!(dropped > stopped);
    tokio::time::sleep(INTERVAL * 5).await;
    assert_eq!(pods.asked.load(Ordering::SeqCst), dropped);
}

#[tokio::test]
async fn an_endpoint_of_both_arms_is_told_apart_by_labels_that_name_the_revision() {
    let pods = Pods::start().await;
    let body = |old: u64, new: u64| {
        format!("hits_total{{code=\"200\",v=\"stable\"}} {old}\nhits_total{{code=\"500\",v=\"{CANARY}\"}} {new}")
    };
    pods.metrics("both", body(10, 10));
    let mut targets = targets(&[pods.url("both")], &[pods.url("both")]);
    let labels = BTreeMap::from([("v".to_owned(), "{revision}".to_owned())]);
    (targets.control.labels, targets.canary.labels) = (labels.clone(), labels);
    let mut asker = Asker::with(config(targets), vec![errors()]);
    asker.begin().await;
    pods.metrics("both", body(13, 15));
    assert_eq!(arms(&asker.window(SOON).await, 0), [counts(0, 3), counts(5, 5)]);
}

#[tokio::test]
async fn an_address_may_name_the_revision() {
    let pods = Pods::start().await;
    for pod in ["shop-stable", &format!("shop-{CANARY}")] {
        pods.metrics(pod, "hits_total{code=\"200\"} 1");
    }
    let urls = [pods.url("shop-{revision}")];
    Asker::of(&urls, &urls).begin().await;
}

#[tokio::test]
async fn what_cannot_be_read_at_all_is_said_at_once() {
    let (_pods, asker) = pair().await;
    let unknown = Ask { service: ServiceName::new("other"), ..asker.ask(SOON) };
    let answer = asker.scrape.measure(unknown).await;
    unavailable(&arms(&answer, 0)[1].clone().unwrap_err(), "service other has no targets");
    let sli = |n: usize| Sli::Level { gauge: Selector::metric(format!("m{n}")) };
    let many = |n: usize| Ask { checks: (1..n).map(|n| asked(0, sli(n))).collect(), ..asker.ask(SOON) };
    let answer = asker.scrape.measure(many(scrape::SLIS_MAX)).await;
    assert!(!matches!(&answer.measurements[0].tally, Err(Absence::Unavailable(why)) if why.as_str().contains("SLIs")));
    let answer = asker.scrape.measure(many(scrape::SLIS_MAX + 1)).await;
    assert_eq!(answer.measurements[0].tally, Err(Absence::Unavailable(Text::new("more than 256 SLIs of one pair"))));
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_what_to_mend() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let old = ["http://10.0.0.1:9100/metrics".to_owned()];
    let good = || {
        let mut targets = targets(&old, &["https://{revision}.shop.svc/metrics".into()]);
        targets.timeout = targets.interval;
        targets
    };
    let build = |targets| {
        let config = telemetry::Config::Scrape(config(targets));
        telemetry::build(config, Arc::new(|| Timestamp::EPOCH)).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(build(good()), Ok(()));
    let urls = |n: usize| (0..n).map(|n| format!("http://10.0.0.1:{}/metrics", n + 1)).collect::<Vec<_>>();
    assert_eq!(build(ServiceTargets { timeout: INTERVAL, ..targets(&old, &urls(scrape::URLS_MAX)) }), Ok(()));
    for (targets, what) in [
        (ServiceTargets { interval: Duration::from_millis(9), ..good() }, "the interval is shorter than 10 ms"),
        (ServiceTargets { timeout: Duration::ZERO, ..good() }, "the timeout"),
        (ServiceTargets { timeout: INTERVAL + Duration::from_millis(1), ..good() }, "the timeout"),
        (ServiceTargets { interval: Duration::from_secs(1_801), ..good() }, "at least two intervals"),
        (ServiceTargets { canary: ArmTargets::default(), ..good() }, "canary: write 1 to 64 urls"),
        (ServiceTargets { timeout: INTERVAL, ..targets(&old, &urls(scrape::URLS_MAX + 1)) }, "write 1 to 64 urls"),
        (
            ServiceTargets { control: good().control, canary: good().control, ..good() },
            "control and canary are the same",
        ),
        (ServiceTargets { timeout: INTERVAL, ..targets(&old, &["not a url".into()]) }, "no URL"),
        (
            ServiceTargets { timeout: INTERVAL, ..targets(&old, &["file:///etc/passwd".into()]) },
            "neither http nor https",
        ),
        (
            ServiceTargets { timeout: INTERVAL, ..targets(&old, &["http://me:word@shop/".into()]) },
            "a user or a password",
        ),
    ] {
        let error = build(targets).unwrap_err();
        assert!(error.starts_with("telemetry: service shop: ") && error.contains(what), "{error}");
        assert!(!error.contains("word@"));
    }
}
