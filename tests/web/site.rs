//! A server, and the loop behind it: a task that records the events it is given.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use secrecy::SecretString;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
};
use tollgate::{
    cli,
    daemon::{Handle, Message},
    domain::{Notice, ServiceName},
    rollout::{Event, FleetView},
    web::{self, Hosts, Metrics, Parts},
};

use crate::fleet::{NOON, fleet};

pub(crate) const TOKEN: &str = "correct-horse";

pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) http: Client,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    pub(crate) views: watch::Sender<Arc<FleetView>>,
    pub(crate) notices: broadcast::Sender<Notice>,
    pub(crate) ready: watch::Sender<bool>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) loop_task: JoinHandle<()>,
    pub(crate) server: JoinHandle<std::io::Result<()>>,
}

pub(crate) struct Setup {
    pub(crate) token: Option<&'static str>,
    pub(crate) view: FleetView,
    pub(crate) others: axum::Router,
    pub(crate) allowed_hosts: Vec<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { token: Some(TOKEN), view: fleet(NOON), others: axum::Router::new(), allowed_hosts: Vec::new() }
    }
}

pub(crate) async fn site(setup: Setup) -> Site {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let (inbox, mut messages) = mpsc::channel(16);
    let (views, seen) = watch::channel(Arc::new(setup.view));
    let (notices, _) = broadcast::channel(4);
    let events = Arc::new(Mutex::new(Vec::new()));
    let (record, shown) = (Arc::clone(&events), seen.clone());
    let loop_task = tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            match message {
                Message::Event { event, done } => {
                    record.lock().unwrap().push(event);
                    done.map(|done| done.send(()));
                }
                Message::Look { rollout, seen } => {
                    let found = shown.borrow().rollouts.iter().find(|view| view.id == rollout).cloned();
                    seen.send(found).ok();
                }
                Message::Stop => return,
            }
        }
    });
    let (ready, is_ready) = watch::channel(true);
    let metrics = Arc::new(Metrics::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = web::router(Parts {
        handle: Handle::new(inbox, seen, notices.clone()),
        api_token: setup.token.map(SecretString::from),
        ready: is_ready,
        metrics: Arc::clone(&metrics),
        others: setup.others,
        service_names: vec![ServiceName::new("checkout"), ServiceName::new("search")],
        hosts: Hosts::new(address.ip(), &setup.allowed_hosts),
    });
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(web::serve(listener, router, async {
        stopped.await.ok();
    }));
    let http = Client::builder().no_proxy().build().unwrap();
    Site { address, http, events, views, notices, ready, metrics, stop: Some(stop), loop_task, server }
}

impl Site {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path)).timeout(Duration::from_secs(20))
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path).send().await.unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.ask(Method::POST, path).bearer_auth(TOKEN).body(body)
    }

    pub(crate) async fn posted(&self, path: &str, body: &str) -> (StatusCode, Value) {
        status_and_json(self.post(path, body.to_owned()).send().await.unwrap()).await
    }

    pub(crate) fn taken(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }

    pub(crate) fn connection(&self) -> cli::client::Connection {
        cli::client::Connection { url: self.url(""), token_file: None }
    }

    /// The view as the next one shows it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut FleetView)) {
        let mut view = FleetView::clone(&self.views.borrow());
        change(&mut view);
        self.views.send_replace(Arc::new(view));
    }
}

pub(crate) async fn status_and_json(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(kind, "application/json");
    (status, response.json().await.unwrap())
}

/// Every refusal says what is wrong and how to mend it.
pub(crate) async fn refused(response: Response, status: StatusCode, about: &str) {
    let (got, body) = status_and_json(response).await;
    assert_eq!(got, status, "{body}");
    let (error, fix) = (body["error"].as_str().unwrap(), body["fix"].as_str().unwrap());
    assert!(error.contains(about), "{about:?} is not in {error:?}");
    assert!(!fix.is_empty());
    assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
}
