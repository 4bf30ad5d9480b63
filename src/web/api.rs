//! The JSON API: views out, commands in. A command is answered once its event is durable.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Refusal, Site, auth};
use crate::{
    domain::{Command, Outcome, Person, Revision, RolloutId, ServiceName, Text},
    rollout::{Event, RolloutView},
};

/// Most characters of the name that a caller gives for the record.
pub const BY_CHARS_MAX: usize = 64;

/// What a command's body may say: who asks. The token is shared, so the name is a claim and is recorded as `api:<name>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asking {
    /// Who asks; `api` is recorded when nobody says.
    pub by: Option<String>,
}

/// The body of `POST /v1/kill-switch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillSwitch {
    /// Whether it is on from now.
    pub on: bool,
    /// Who asks.
    pub by: Option<String>,
}

/// The body of `POST /v1/services/{name}/deployed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployed {
    /// The revision that runs and can take traffic.
    pub revision: String,
    /// Who says so.
    pub by: Option<String>,
}

pub(super) fn routes(site: &Arc<Site>) -> Router<Arc<Site>> {
    let acting = Router::new()
        .route("/v1/rollouts/{id}/{command}", post(command))
        .route("/v1/kill-switch", post(kill_switch))
        .route("/v1/services/{name}/deployed", post(deployed))
        .route_layer(middleware::from_fn_with_state(Arc::clone(site), auth::may_act));
    Router::new().route("/v1/rollouts", get(rollouts)).route("/v1/rollouts/{id}", get(rollout)).merge(acting)
}

async fn rollouts(State(site): State<Arc<Site>>) -> Response {
    Json(&*site.handle.view()).into_response()
}

async fn rollout(State(site): State<Arc<Site>>, Path(id): Path<String>) -> Result<Json<RolloutView>, Refusal> {
    look(&site, &id).await.map(Json)
}

async fn command(
    State(site): State<Arc<Site>>,
    Path((id, word)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let command = command_named(&word)?;
    let asking: Asking = if body.is_empty() { Asking::default() } else { read(&body)? };
    let rollout = look(&site, &id).await?;
    if let Some(refusal) = senseless(command, &rollout) {
        return Err(refusal);
    }
    accept(&site, Event::Commanded { rollout: rollout.id, command, by: person(asking.by) }).await
}

async fn kill_switch(State(site): State<Arc<Site>>, body: Bytes) -> Result<Response, Refusal> {
    let KillSwitch { on, by } = read(&body)?;
    accept(&site, Event::KillSwitch { on, by: person(by) }).await
}

async fn deployed(State(site): State<Arc<Site>>, Path(name): Path<String>, body: Bytes) -> Result<Response, Refusal> {
    let service = ServiceName::new(name);
    if !site.service_names.contains(&service) {
        let known = site.service_names.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(", ");
        let named = Text::new(service.as_str().chars().take(BY_CHARS_MAX).collect::<String>());
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            format!("there is no service `{named}`"),
            format!("name a service of the configuration: {known}"),
        ));
    }
    let Deployed { revision, by } = read(&body)?;
    let revision: Revision = revision
        .parse()
        .map_err(|why: String| Refusal::new(StatusCode::BAD_REQUEST, why, "send the full commit that now runs"))?;
    accept(&site, Event::RevisionDeployed { service, revision, by: person(by) }).await
}

/// The rollout named by a path segment.
async fn look(site: &Site, id: &str) -> Result<RolloutView, Refusal> {
    let known = "`GET /v1/rollouts` lists them";
    // What is echoed is cut first, so that the hint that follows it survives.
    let short: String = id.chars().take(BY_CHARS_MAX).collect();
    let id: RolloutId = short.parse().map_err(|why: String| Refusal::new(StatusCode::NOT_FOUND, why, known))?;
    match site.handle.look(id).await {
        Ok(Some(view)) => Ok(view),
        Ok(None) => Err(Refusal::new(StatusCode::NOT_FOUND, format!("there is no rollout {id}"), known)),
        Err(_closed) => Err(Refusal::closed()),
    }
}

fn command_named(word: &str) -> Result<Command, Refusal> {
    match word {
        "pause" => Ok(Command::Pause),
        "resume" => Ok(Command::Resume),
        "promote" => Ok(Command::Promote),
        "rollback" => Ok(Command::Rollback),
        _ => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "there is no such command",
            "use pause, resume, promote or rollback",
        )),
    }
}

/// Why a command cannot mean anything for a rollout as it stands. Whether it is wise is for the rails, not for us.
fn senseless(command: Command, rollout: &RolloutView) -> Option<Refusal> {
    let conflict = |error: String, fix: &str| Some(Refusal::new(StatusCode::CONFLICT, error, fix));
    let id = rollout.id;
    // What was handed over while people have it is a person's to settle: taken back, or kept.
    let settles = matches!(command, Command::Promote | Command::Rollback) && rollout.share > 0;
    if rollout.outcome == Some(Outcome::HandedOver) && settles {
        return None;
    }
    if let Some(outcome) = rollout.outcome {
        return conflict(format!("{id} is done: {outcome}"), "a new change starts a new rollout");
    }
    match command {
        Command::Pause if rollout.paused => conflict(format!("{id} is paused already"), "resume it to go on"),
        Command::Resume if !rollout.paused => conflict(format!("{id} is not paused"), "pause it first"),
        Command::Promote | Command::Rollback if rollout.phase == "draining" => {
            conflict(format!("{id} is being rolled back already"), "wait until its traffic is back")
        }
        Command::Pause | Command::Resume | Command::Promote | Command::Rollback => None,
    }
}

/// Who asks, as the journal keeps it.
fn person(by: Option<String>) -> Person {
    let name = Text::new(by.unwrap_or_default().chars().take(BY_CHARS_MAX).collect::<String>());
    Person(if name.as_str().is_empty() { Text::new("api") } else { Text::new(format!("api:{name}")) })
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|why| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("the body is not what is expected: {why}"), "send a JSON object")
    })
}

/// Answers 202 once the event is durable.
async fn accept(site: &Site, event: Event) -> Result<Response, Refusal> {
    site.handle.submit(event).await.map_err(|_closed| Refusal::closed())?;
    Ok((StatusCode::ACCEPTED, Json(serde_json::json!({"status": "accepted"}))).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_claim_and_bounded() {
        assert_eq!(person(None), Person(Text::new("api")));
        assert_eq!(person(Some(" \n ".into())), Person(Text::new("api")));
        assert_eq!(person(Some("alice".into())), Person(Text::new("api:alice")));
        let long = person(Some("x".repeat(BY_CHARS_MAX + 1)));
        assert_eq!(long.0.as_str().len(), "api:".len() + BY_CHARS_MAX);
        assert_eq!(person(Some("a\u{1b}[2Jb".into())).0.as_str(), "api:a [2Jb");
    }
}
