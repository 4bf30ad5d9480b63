//! A small GitHub on loopback, for the demo and for tests: it answers the few requests that [`super::GitHub`] makes, in
//! GitHub's shapes and with GitHub's limits, and signs the deliveries that announce a merge.
//!
//! What it serves is given by the caller, and it can be told to fail. It is no forge: nothing is stored or computed
//! beyond the lists of files, which are read from the given diffs.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Error, stand_in_answers as answers, webhook};
use crate::domain::{Repository, Revision, Timestamp};

/// GitHub writes no diff as a whole that has more files than this.
pub const DIFF_FILES_MAX: usize = 300;
/// GitHub writes no diff as a whole that has more lines than this.
pub const DIFF_LINES_MAX: usize = 20_000;
/// The default branch of every repository here.
pub const DEFAULT_BRANCH: &str = "main";

const DIFF_TYPE: &str = "application/vnd.github.diff; charset=utf-8";

/// A pull request to be served.
#[derive(Clone, Debug)]
pub struct Pull {
    /// Where.
    pub repository: Repository,
    /// Its number there.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Who wrote it.
    pub author: String,
    /// Who merged it.
    pub merged_by: Option<String>,
    /// The branch it is for.
    pub branch: String,
    /// The commit it is compared with.
    pub base: Revision,
    /// Its newest commit.
    pub head: Revision,
    /// The commit of the merge; GitHub names one for open pull requests as well.
    pub merge_commit_sha: Option<Revision>,
    /// When it was merged; `None` while it is open.
    pub merged_at: Option<Timestamp>,
    /// Its diff, as git writes it.
    pub diff: String,
}

/// A deployment to be served.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// Where.
    pub repository: Repository,
    /// What was deployed.
    pub revision: Revision,
    /// Where to.
    pub environment: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Its statuses, oldest first: the state and when.
    pub statuses: Vec<(&'static str, Timestamp)>,
}

/// What is done to a request instead of answering it, or before.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answered with this status, these headers and this body.
    Answer {
        /// The status.
        status: StatusCode,
        /// Names and values of headers.
        headers: Vec<(&'static str, &'static str)>,
        /// The body.
        body: String,
    },
    /// Answered as it should be, after this time.
    Delay(Duration),
}

impl Fault {
    /// Answered with a status, and a body of the shape of GitHub's errors.
    pub fn status(status: StatusCode) -> Self {
        let message = status.canonical_reason().unwrap_or_default();
        Self::Answer { status, headers: Vec::new(), body: json!({ "message": message }).to_string() }
    }
}

#[derive(Default)]
struct Shelf {
    pulls: BTreeMap<(Repository, u64), Pull>,
    /// A deployment's number is its place here, from 1.
    deployments: Vec<Deployed>,
    faults: VecDeque<Fault>,
    requests: Vec<String>,
}

/// The stand-in; clones share what is served.
#[derive(Clone, Default)]
pub struct StandIn {
    shelf: Arc<Mutex<Shelf>>,
    token: Option<SecretString>,
}

impl StandIn {
    /// Serves nothing yet, to anyone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves only who bears this token.
    pub fn with_token(token: SecretString) -> Self {
        Self { token: Some(token), ..Self::default() }
    }

    /// Serves this pull request from now on, in place of one of the same number.
    pub fn put(&self, pull: Pull) {
        self.shelf().pulls.insert((pull.repository.clone(), pull.number), pull);
    }

    /// Serves this deployment from now on, as the newest.
    pub fn put_deployment(&self, deployed: Deployed) {
        self.shelf().deployments.push(deployed);
    }

    /// Does this to the next request that has no fault before it. Faults are used up in order, one a request.
    pub fn fail_next(&self, fault: Fault) {
        self.shelf().faults.push_back(fault);
    }

    /// Every request so far, as `path?query`.
    pub fn requests(&self) -> Vec<String> {
        self.shelf().requests.clone()
    }

    /// The routes of the API.
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/repos/{owner}/{name}", get(repository))
            .route("/repos/{owner}/{name}/deployments", get(deployments))
            .route("/repos/{owner}/{name}/deployments/{id}/statuses", get(statuses))
            .route("/repos/{owner}/{name}/pulls/{number}", get(pull))
            .route("/repos/{owner}/{name}/pulls/{number}/files", get(files))
            .fallback(|| async { not_found() })
            .layer(middleware::from_fn_with_state(self.clone(), gate))
            .with_state(self.clone())
    }

    /// Serves the API until the task is dropped. It refuses to listen to anything but loopback.
    pub async fn serve(self, listener: TcpListener) -> io::Result<()> {
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() {
            return Err(io::Error::other(format!("the stand-in for GitHub serves loopback only, not {address}")));
        }
        axum::serve(listener, self.routes()).await
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, (owner, name, number): &(String, String, u64)) -> Option<Pull> {
        let repository = format!("{owner}/{name}").parse().ok()?;
        self.shelf().pulls.get(&(repository, *number)).cloned()
    }
}

/// A signed delivery that says that the pull request was merged, as GitHub would send it: the headers, and the body.
pub fn signed_merge_delivery(
    pull: &Pull,
    secret: &SecretString,
    delivery_id: &str,
) -> Result<(HeaderMap, Vec<u8>), Error> {
    let malformed = |what: &str| Error::Malformed(crate::domain::Text::new(what));
    let body = answers::merge_delivery(pull).to_string().into_bytes();
    let signature = webhook::sign(secret, &body).map_err(|refusal| malformed(&refusal.to_string()))?;
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| malformed("the delivery's number is no header"));
    let headers = [
        (header::CONTENT_TYPE, value("application/json")?),
        (header::USER_AGENT, value("GitHub-Hookshot/0000000")?),
        (HeaderName::from_static(webhook::EVENT_HEADER), value("pull_request")?),
        (HeaderName::from_static(webhook::DELIVERY_HEADER), value(delivery_id)?),
        (HeaderName::from_static(webhook::SIGNATURE_HEADER), value(&signature)?),
    ];
    Ok((HeaderMap::from_iter(headers), body))
}

/// Writes the request down, does what it was told to do to it, and asks for the token.
async fn gate(State(stand_in): State<StandIn>, request: Request, next: Next) -> Response {
    let fault = {
        let mut shelf = stand_in.shelf();
        shelf.requests.push(request.uri().path_and_query().map(ToString::to_string).unwrap_or_default());
        shelf.faults.pop_front()
    };
    match fault {
        Some(Fault::Answer { status, headers, body }) => {
            let headers = headers.into_iter().filter_map(|(name, value)| {
                Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
            });
            return (status, HeaderMap::from_iter(headers), body).into_response();
        }
        Some(Fault::Delay(span)) => tokio::time::sleep(span).await,
        None => {}
    }
    let borne = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let wanted = stand_in.token.as_ref().map(|token| format!("Bearer {}", token.expose_secret()));
    if wanted.is_some_and(|wanted| borne != Some(&wanted)) {
        return (StatusCode::UNAUTHORIZED, Json(json!({ "message": "Bad credentials" }))).into_response();
    }
    next.run(request).await
}

/// The repository itself, where it has a pull request; with the headers that tell how many requests are left.
async fn repository(State(stand_in): State<StandIn>, Path((owner, name)): Path<(String, String)>) -> Response {
    let is_wanted = |pull: &&Pull| pull.repository.owner() == owner && pull.repository.name() == name;
    let found = stand_in.shelf().pulls.values().find(is_wanted).map(answers::repository);
    let limits = [("x-ratelimit-limit", "5000"), ("x-ratelimit-remaining", "4999")];
    found.map_or_else(not_found, |body| (limits, Json(body)).into_response())
}

async fn pull(
    State(stand_in): State<StandIn>,
    Path(place): Path<(String, String, u64)>,
    headers: HeaderMap,
) -> Response {
    let Some(pull) = stand_in.find(&place) else { return not_found() };
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !accept.contains("diff") {
        return Json(answers::pull(&pull)).into_response();
    }
    let files = pull.diff.lines().filter(|line| line.starts_with("diff --git ")).count();
    let too_large = [("files", files, DIFF_FILES_MAX), ("lines", pull.diff.lines().count(), DIFF_LINES_MAX)];
    match too_large.iter().find(|(_, count, max)| count > max) {
        Some((what, _, max)) => {
            let body = json!({
                "message": format!("Sorry, the diff exceeded the maximum number of {what} ({max})."),
                "errors": [{ "resource": "PullRequest", "field": "diff", "code": "too_large" }],
                "documentation_url": "https://docs.github.com/rest/pulls/pulls#list-pull-requests-files",
                "status": "406",
            });
            (StatusCode::NOT_ACCEPTABLE, Json(body)).into_response()
        }
        None => ([(header::CONTENT_TYPE, DIFF_TYPE)], pull.diff).into_response(),
    }
}

#[derive(Deserialize)]
struct Paging {
    #[serde(default = "Paging::per_page_default")]
    per_page: usize,
    #[serde(default = "Paging::page_default")]
    page: usize,
    environment: Option<String>,
}

impl Paging {
    fn per_page_default() -> usize {
        30
    }

    fn page_default() -> usize {
        1
    }
}

async fn files(
    State(stand_in): State<StandIn>,
    Path(place): Path<(String, String, u64)>,
    Query(paging): Query<Paging>,
    request: Request,
) -> Response {
    let Some(pull) = stand_in.find(&place) else { return not_found() };
    paged(answers::files(&pull), &paging, &request)
}

async fn deployments(
    State(stand_in): State<StandIn>,
    Path((owner, name)): Path<(String, String)>,
    Query(paging): Query<Paging>,
    request: Request,
) -> Response {
    let is_wanted = |of: &Deployed| {
        let is_there = paging.environment.as_ref().is_none_or(|wanted| *wanted == of.environment);
        of.repository.owner() == owner && of.repository.name() == name && is_there
    };
    let answer = |(at, of): (usize, &Deployed)| {
        json!({
            "id": at + 1, "sha": of.revision.as_str(), "ref": "main", "task": "deploy",
            "environment": of.environment, "created_at": answers::time(of.created_at),
        })
    };
    let listed = {
        let shelf = stand_in.shelf();
        shelf.deployments.iter().enumerate().rev().filter(|(_, of)| is_wanted(of)).map(answer).collect()
    };
    paged(listed, &paging, &request)
}

async fn statuses(State(stand_in): State<StandIn>, Path((owner, name, id)): Path<(String, String, usize)>) -> Response {
    let shelf = stand_in.shelf();
    let found = id.checked_sub(1).and_then(|at| shelf.deployments.get(at));
    let Some(of) = found.filter(|of| of.repository.owner() == owner && of.repository.name() == name) else {
        return not_found();
    };
    let status = |(state, at): &(&str, Timestamp)| json!({ "state": state, "created_at": answers::time(*at) });
    Json(of.statuses.iter().rev().map(status).collect::<Vec<Value>>()).into_response()
}

/// One page of a list, with links to its neighbours.
fn paged(all: Vec<Value>, paging: &Paging, request: &Request) -> Response {
    let per_page = paging.per_page.clamp(1, 100);
    let page = paging.page.max(1);
    let last = all.len().div_ceil(per_page).max(1);
    let shown: Vec<_> = all.into_iter().skip((page - 1).saturating_mul(per_page)).take(per_page).collect();
    let mut response = Json(shown).into_response();
    if page < last {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1");
        let to = |n: usize, rel: &str| {
            format!("<http://{host}{}?per_page={per_page}&page={n}>; rel=\"{rel}\"", request.uri().path())
        };
        if let Ok(links) = HeaderValue::try_from(format!("{}, {}", to(page + 1, "next"), to(last, "last"))) {
            response.headers_mut().insert(header::LINK, links);
        }
    }
    response
}

fn not_found() -> Response {
    let body = json!({ "message": "Not Found", "documentation_url": "https://docs.github.com/rest", "status": "404" });
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}
