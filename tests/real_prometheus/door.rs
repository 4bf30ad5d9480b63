//! A door before Prometheus that makes its clock jump, as everybody who asks through it sees it.
//!
//! Prometheus is written in Go and asks the kernel for the time, so a library that is loaded before it cannot change it,
//! and the machine's own clock is everybody's. So the door does it: from the jump on, the `Date` of answers and the times
//! of samples that were stored since are so much later than they are, those of samples stored before stay, and the times
//! and ranges that are asked for are turned back. That is what a server shows whose clock was set forward while it ran.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::{Form, Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::servers::client;

/// The jump: when it was, and how far, in milliseconds.
type Jump = Option<(i64, i64)>;

/// The door.
#[derive(Clone)]
pub(crate) struct Door {
    jump: Arc<Mutex<Jump>>,
    answered: Arc<AtomicU64>,
    client: reqwest::Client,
    behind: String,
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// What the server's clock shows at a true time.
fn shown(jump: Jump, at: i64) -> i64 {
    jump.filter(|(when, _)| at >= *when).map_or(at, |(_, by)| at + by)
}

/// The true time at which the server's clock shows this; the moment of the jump for what it jumped over.
fn truly(jump: Jump, shown: i64) -> i64 {
    jump.filter(|(when, _)| shown >= *when).map_or(shown, |(when, by)| (shown - by).max(when))
}

/// What is asked at a shown time, asked at the true one: a range reaches back to the true time of where it began.
fn turned_back(jump: Jump, query: &str, time: i64) -> (String, i64) {
    let end = truly(jump, time);
    let Some((selector, range)) = query.strip_suffix("ms]").and_then(|query| query.rsplit_once('[')) else {
        return (query.to_owned(), end);
    };
    let began = truly(jump, time - range.parse::<i64>().unwrap());
    (format!("{selector}[{}ms]", (end - began).max(1)), end)
}

impl Door {
    /// Opens a door before a server; returns it and its URL.
    pub(crate) async fn open(behind: SocketAddr) -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let door = Self {
            jump: Arc::default(),
            answered: Arc::default(),
            client: client(),
            behind: format!("http://{behind}"),
        };
        let router = Router::new().route("/api/v1/{method}", post(pass)).with_state(door.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (door, url)
    }

    /// Sets the clock forward, now.
    pub(crate) fn jump(&self, by: Duration) {
        *self.jump.lock().unwrap() = Some((now(), i64::try_from(by.as_millis()).unwrap()));
        self.answered.store(0, Ordering::SeqCst);
    }

    /// How many answers with samples went through since the jump.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }
}

async fn pass(
    State(door): State<Door>,
    Path(method): Path<String>,
    Form(mut form): Form<BTreeMap<String, String>>,
) -> Response {
    let jump = *door.jump.lock().unwrap();
    if let Some(time) = form.get("time").map(|time| (time.parse::<f64>().unwrap() * 1_000.0).round() as i64) {
        let (query, time) = turned_back(jump, &form["query"], time);
        form.insert("query".into(), query);
        form.insert("time".into(), format!("{}.{:03}", time / 1_000, time % 1_000));
    }
    let mut encoded = reqwest::Url::parse(&door.behind).unwrap();
    encoded.query_pairs_mut().extend_pairs(&form);
    let request = door.client.post(format!("{}/api/v1/{method}", door.behind));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let Ok(answer) = request.body(encoded.query().unwrap_or_default().to_owned()).send().await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let status = answer.status();
    let mut body: Value = answer.json().await.unwrap_or_default();
    // A scalar is a time and a value, not rows.
    let rows = body["data"]["result"].as_array_mut().into_iter().flatten();
    for values in rows.filter_map(|row| row.get_mut("values")?.as_array_mut()) {
        for sample in values {
            let at = (sample[0].as_f64().unwrap() * 1_000.0).round() as i64;
            sample[0] = json!(shown(jump, at) as f64 / 1_000.0);
            door.answered.fetch_add(1, Ordering::SeqCst);
        }
    }
    let date = jiff::Timestamp::from_millisecond(shown(jump, now())).unwrap();
    let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    (status, [(header::DATE, date), (header::CONTENT_TYPE, "application/json".into())], body.to_string())
        .into_response()
}

#[test]
fn a_clock_that_jumps_shows_what_was_before_as_it_was_and_what_is_since_later() {
    let jump = Some((100_000, 40_000));
    assert_eq!((shown(jump, 99_999), shown(jump, 100_000)), (99_999, 140_000));
    assert_eq!((truly(jump, 99_999), truly(jump, 120_000), truly(jump, 141_000)), (99_999, 100_000, 101_000));
    assert_eq!(turned_back(jump, "{a=\"b\"}[60000ms]", 150_000), ("{a=\"b\"}[20000ms]".into(), 110_000));
    assert_eq!(turned_back(jump, "{a=\"b\"}[5000ms]", 150_000), ("{a=\"b\"}[5000ms]".into(), 110_000));
    assert_eq!(turned_back(None, "{a=\"b\"}[5000ms]", 150_000), ("{a=\"b\"}[5000ms]".into(), 150_000));
}
