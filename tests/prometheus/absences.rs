//! Servers that misbehave: each way of it becomes the right absence, with a reason, and nothing is used up.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tollgate::{
    domain::Absence,
    telemetry::{Answer, Provider, prometheus},
};

use super::{EPOCH, Time, arms, ask, asked, config, errors, millis, service};

/// A server that answers everything in the same way.
async fn server(answer: impl Fn(HeaderMap) -> Response + Clone + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let all = async |State(answer): State<_>, headers: HeaderMap| {
        let answer: std::sync::Arc<dyn Fn(HeaderMap) -> Response + Send + Sync> = answer;
        answer(headers)
    };
    let answer: std::sync::Arc<dyn Fn(HeaderMap) -> Response + Send + Sync> = std::sync::Arc::new(answer);
    let router = Router::new().fallback(post(all)).with_state(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn short(url: &str) -> prometheus::Config {
    prometheus::Config { timeout: Duration::from_millis(300), ..config(url, service()) }
}

async fn answer_of(config: prometheus::Config) -> Answer {
    let time = Time::at(EPOCH + millis(600));
    let mut ask = ask(&time, asked(vec![errors()]), EPOCH + millis(300), EPOCH + millis(390));
    ask.no_later_than = ask.through + Duration::from_millis(210_800);
    prometheus::start(config, time.clock()).unwrap().measure(ask).await
}

async fn absence(config: prometheus::Config) -> Absence {
    let answer = answer_of(config).await;
    assert_eq!(answer.through.as_millis(), EPOCH + millis(300), "nothing is used up");
    let [control, canary] = arms(&answer, 0);
    assert_eq!(control, canary);
    canary.unwrap_err()
}

#[track_caller]
fn unavailable(absence: &Absence, what: &str) {
    assert!(matches!(absence, Absence::Unavailable(why) if why.as_str().contains(what)), "{absence:?}");
}

#[track_caller]
fn malformed(absence: &Absence, what: &str) {
    assert!(matches!(absence, Absence::Malformed(why) if why.as_str().contains(what)), "{absence:?}");
}

async fn says(status: u16, body: &'static str) -> Absence {
    let status = StatusCode::from_u16(status).unwrap();
    absence(short(&server(move |_| (status, body).into_response()).await)).await
}

const NOTHING: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;

#[tokio::test]
async fn a_server_that_does_not_answer_is_unavailable() {
    unavailable(&absence(short("http://127.0.0.1:9")).await, "cannot connect");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    unavailable(&absence(short(&url)).await, "no whole answer within 300 ms");
}

#[tokio::test]
async fn a_server_that_refuses_says_why() {
    unavailable(&says(401, "").await, "refused our credentials (status 401)");
    unavailable(&says(403, "").await, "refused our credentials (status 403)");
    unavailable(&says(404, "").await, "no Prometheus API");
    unavailable(&says(429, "").await, "too many requests");
    unavailable(&says(500, "").await, "status 500");
    unavailable(&says(302, "").await, "status 302");
    let said = r#"{"status":"error","errorType":"execution","error":"query processing would load too many samples"}"#;
    malformed(&says(422, said).await, "too many samples");
    malformed(&says(400, "no json").await, "status 400");
    unavailable(&says(422, r#"{"status":"error","errorType":"timeout","error":"slow"}"#).await, "slow");
}

#[tokio::test]
async fn what_is_no_answer_is_malformed_and_what_is_not_whole_is_unavailable() {
    malformed(&says(200, "<html>").await, "not JSON");
    malformed(&says(200, r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#).await, "a vector");
    malformed(
        &says(200, r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,2]]}]}}"#)
            .await,
        "wrong type",
    );
    let partial = r#"{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["partial data"]}"#;
    unavailable(&says(200, partial).await, "not whole: partial data");
    let url = server(move |_| partial.into_response()).await;
    assert_eq!(absence(prometheus::Config { allow_partial: true, ..short(&url) }).await, Absence::NoData);
    assert_eq!(says(200, NOTHING).await, Absence::NoData, "no samples at all");
}

#[tokio::test]
async fn an_answer_that_is_too_large_or_beyond_the_budget_is_none() {
    let url = server(|_| NOTHING.into_response()).await;
    let config = prometheus::Config { response_bytes_max: NOTHING.len() - 1, ..short(&url) };
    malformed(&absence(config).await, "more than");
    let fits = prometheus::Config { response_bytes_max: NOTHING.len(), ..short(&url) };
    assert_eq!(absence(fits).await, Absence::NoData);
    let spent = prometheus::Config { samples_per_day: Some(0), ..short(&url) };
    unavailable(&absence(spent).await, "samples_per_day");
}

#[tokio::test]
async fn credentials_and_headers_are_sent_and_never_shown() {
    let of = |auth: prometheus::Auth| async move {
        let url = server(|headers| {
            let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let shown = (header("authorization"), header("x-scope-orgid"));
            match (shown.0.as_deref(), shown.1.as_deref()) {
                (Some("Bearer s3cret" | "Basic bWU6czNjcmV0"), Some("tenant s3cret")) => NOTHING.into_response(),
                (_, _) => StatusCode::UNAUTHORIZED.into_response(),
            }
        })
        .await;
        let headers = BTreeMap::from([("X-Scope-OrgID".to_owned(), SecretString::from("tenant s3cret"))]);
        let config = prometheus::Config { auth, headers, ..short(&url) };
        assert!(!format!("{config:?}").contains("s3cret"));
        absence(config).await
    };
    assert_eq!(of(prometheus::Auth::Bearer("s3cret".into())).await, Absence::NoData);
    let basic = prometheus::Auth::Basic { user: "me".into(), password: "s3cret".into() };
    assert_eq!(of(basic).await, Absence::NoData);
    let wrong = of(prometheus::Auth::Bearer("s3cretwrong".into())).await;
    unavailable(&wrong, "credentials");
    assert!(!wrong.to_string().contains("s3cret"));
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_what_to_mend() {
    let good = || config("http://127.0.0.1:9090", service());
    let of = |service: prometheus::Service| config("http://127.0.0.1:9090", service);
    let none = BTreeMap::new;
    for (config, what) in [
        (prometheus::Config { url: "ftp://a".into(), ..good() }, "neither http nor https"),
        (prometheus::Config { url: "http://u:s3cret@a".into(), ..good() }, "write them as basic_auth"),
        (prometheus::Config { url: "http://a?b".into(), ..good() }, "without a query"),
        (prometheus::Config { timeout: Duration::ZERO, ..good() }, "timeout"),
        (prometheus::Config { concurrency: 0, ..good() }, "1 to 64"),
        (prometheus::Config { concurrency: prometheus::CONCURRENCY_MAX + 1, ..good() }, "1 to 64"),
        (prometheus::Config { response_bytes_max: prometheus::RESPONSE_BYTES_MAX + 1, ..good() }, "bytes"),
        (prometheus::Config { raw_series_max: 0, ..good() }, "series can be read raw"),
        (prometheus::Config { ca_pem: Some("nothing".into()), ..good() }, "no PEM certificate"),
        (prometheus::Config { client_pem: Some("nothing".into()), ..good() }, "no PEM pair"),
        (of(prometheus::Service { control: none(), ..service() }), "control: write 1 to"),
        (of(prometheus::Service { control: service().canary, ..service() }), ""),
        (of(prometheus::Service { pod_label: "a b".into(), ..service() }), "no label name"),
        (of(prometheus::Service { lookback: Duration::from_secs(1), ..service() }), "lookback"),
        (
            of(prometheus::Service { lookback: prometheus::LOOKBACK_MAX + Duration::from_secs(1), ..service() }),
            "lookback",
        ),
        (of(prometheus::Service { gone_after: Duration::from_secs(301), ..service() }), "at least gone_after"),
        (of(prometheus::Service { gone_after: Duration::from_secs(20), ..service() }), "gone_after"),
        (of(prometheus::Service { interval: Duration::from_millis(99), ..service() }), "shorter than 100 ms"),
    ] {
        let started = prometheus::start(config, Time::at(EPOCH).clock());
        if what.is_empty() {
            assert!(started.is_ok(), "a revision in both arms tells them apart");
            continue;
        }
        let error = started.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(what) && !error.contains("s3cret"), "{what}: {error}");
    }
}
