//! A server that answers what a test sets, and remembers what it was asked.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, Response, StatusCode, Uri},
};
use tokio::net::TcpListener;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    /// The parameters of its address.
    pub(crate) fn parameters(&self) -> BTreeMap<String, String> {
        let url = reqwest::Url::parse(&format!("http://a{}", self.uri)).unwrap();
        url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What it answers.
#[derive(Clone, Debug)]
pub(crate) enum Shows {
    Body(String),
    Status(u16, Vec<(&'static str, String)>, String),
    /// It never answers.
    Nothing,
}

type Script = Box<dyn FnMut(&Seen) -> Shows + Send>;

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<Script>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script: Script = Box::new(|_| Shows::Status(404, Vec::new(), String::new()));
        let server = Self { url, seen: Arc::default(), script: Arc::new(Mutex::new(script)) };
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    pub(crate) fn shows(&self, script: impl FnMut(&Seen) -> Shows + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(State(server): State<Server>, _: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let seen = Seen { uri, headers, body: String::from_utf8(body.to_vec()).unwrap() };
    server.seen.lock().unwrap().push(seen.clone());
    let shows = (server.script.lock().unwrap())(&seen);
    let (status, headers, body) = match shows {
        Shows::Body(body) => (200, Vec::new(), body),
        Shows::Status(status, headers, body) => (status, headers, body),
        Shows::Nothing => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            (200, Vec::new(), String::new())
        }
    };
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Body::from(body)).unwrap()
}
