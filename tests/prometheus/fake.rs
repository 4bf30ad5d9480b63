//! A server that keeps samples, and answers range selectors over them as Prometheus does. That it does so is held by a test
//! against the real one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{Form, Json, Router, extract::State, routing::post, serve::ListenerExt};
use promql_parser::{
    label::Matcher,
    parser::{self, Expr, VectorSelector},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::Time;

/// One sample: its time, when the server has it, and its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: u64,
    pub(crate) stored: u64,
    pub(crate) value: f64,
}

pub(crate) type Labels = BTreeMap<String, String>;

/// What a server keeps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    pub(crate) series: BTreeMap<Labels, Vec<Sample>>,
    /// Whether a range leaves out its left end, as Prometheus does from version 3 on.
    pub(crate) left_open: bool,
}

impl Store {
    pub(crate) fn put(&mut self, name: &str, labels: &Labels, sample: Sample) {
        let mut labels = labels.clone();
        labels.insert("__name__".into(), name.into());
        self.series.entry(labels).or_default().push(sample);
    }

    /// What an instant query for a range selector answers to somebody who asks at `now`.
    pub(crate) fn answer(&self, query: &str, time: u64, now: u64) -> Result<Value, String> {
        if query == "1" {
            return Ok(json!({"resultType": "scalar", "result": [0, "1"]}));
        }
        let Ok(Expr::MatrixSelector(matrix)) = parser::parse(query) else {
            return Err(format!("not a range selector: {query}"));
        };
        let range = u64::try_from(matrix.range.as_millis()).unwrap();
        let oldest = time.saturating_sub(range);
        let is_in = |sample: &&Sample| {
            let is_after = if self.left_open { sample.at > oldest } else { sample.at >= oldest };
            is_after && sample.at <= time && sample.stored <= now
        };
        let rows = self.selected(&matrix.vs).filter_map(|(labels, samples)| {
            let values: Vec<Value> = samples.iter().filter(is_in).map(shown).collect();
            (!values.is_empty()).then(|| json!({"metric": labels, "values": values}))
        });
        Ok(json!({"resultType": "matrix", "result": rows.collect::<Vec<_>>()}))
    }

    fn selected<'a>(&'a self, of: &'a VectorSelector) -> impl Iterator<Item = (&'a Labels, &'a Vec<Sample>)> {
        let is =
            |labels: &Labels, matcher: &Matcher| matcher.is_match(labels.get(&matcher.name).map_or("", String::as_str));
        self.series.iter().filter(move |(labels, _)| of.matchers.matchers.iter().all(|matcher| is(labels, matcher)))
    }
}

/// A sample as Prometheus writes it.
fn shown(sample: &Sample) -> Value {
    let value = match sample.value {
        v if v.is_nan() => "NaN".to_owned(),
        v if v == f64::INFINITY => "+Inf".to_owned(),
        v => v.to_string(),
    };
    json!([sample.at as f64 / 1_000.0, value])
}

/// A running server, and how often it was asked.
pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) queries: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Served = (Arc<Mutex<Store>>, Time, Arc<Mutex<Vec<String>>>);

impl Fake {
    /// Serves what is in the store, as far as it is stored by then.
    pub(crate) async fn start(store: Arc<Mutex<Store>>, time: Time) -> Self {
        let queries = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/api/v1/query", post(query)).with_state((store, time, Arc::clone(&queries)));
        // What is written in two pieces is not to wait for the first to be acknowledged.
        let listener = listener.tap_io(|connection| connection.set_nodelay(true).unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, queries, task }
    }
}

async fn query(
    State((store, time, queries)): State<Served>,
    Form(form): Form<BTreeMap<String, String>>,
) -> (axum::http::StatusCode, Json<Value>) {
    queries.lock().unwrap().push(form["query"].clone());
    let at = form.get("time").map_or(0.0, |time| time.parse::<f64>().unwrap());
    let at = (at * 1_000.0).round() as u64;
    match store.lock().unwrap().answer(&form["query"], at, time.now()) {
        Ok(data) => (axum::http::StatusCode::OK, Json(json!({"status": "success", "data": data}))),
        Err(why) => {
            let error = json!({"status": "error", "errorType": "bad_data", "error": why});
            (axum::http::StatusCode::BAD_REQUEST, Json(error))
        }
    }
}
