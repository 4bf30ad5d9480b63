//! Asks everything that a configuration names once: the model, GitHub, each page of metrics and each source. Nothing is
//! changed anywhere; what it costs is one or two short answers of the model.
//!
//! The new version's pages need not be there before there is a new version: what is missing of them is told and fails
//! nothing. A metric that nobody has counted yet may be missing from a page that is right, so that is told only, too.

use std::{collections::BTreeSet, fmt::Write, time::Duration};

use futures_util::{StreamExt, stream};

use crate::{
    agent::{Capabilities, Client, Schemas},
    cli::assemble,
    config::{self, Config},
    domain::{Repository, ServiceName},
    forge::{self, GitHub},
    rollout::ServicePolicy,
    telemetry::scrape,
};

/// Most pages that are read at the same moment.
const AT_ONCE: usize = 8;
/// What stands for an arm's revision.
const REVISION: &str = "{revision}";
/// Fewer requests that are left than this are worth a word.
const REQUESTS_FEW: u64 = 100;

/// How something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Fine,
    /// Worth a second look; it may be right.
    Doubtful,
    Failed,
}

/// What was found out about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) state: State,
    what: String,
    told: String,
    fix: Option<String>,
}

impl Finding {
    pub(super) fn fine(what: impl Into<String>, told: impl Into<String>) -> Self {
        Self { state: State::Fine, what: what.into(), told: told.into(), fix: None }
    }

    pub(super) fn doubtful(what: impl Into<String>, told: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { state: State::Doubtful, what: what.into(), told: told.into(), fix: Some(fix.into()) }
    }

    pub(super) fn failed(what: impl Into<String>, told: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { state: State::Failed, what: what.into(), told: told.into(), fix: Some(fix.into()) }
    }
}

/// Asks everything once.
pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let (model, forge, pages, sources) =
        tokio::join!(look_at_model(config), look_at_forge(config), look_at_pages(config), super::sources::look(config));
    [model, forge, pages, sources].concat()
}

/// What was found, a line each, and what to do.
pub(super) fn render(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { state, what, told, fix } in findings {
        let mark = match state {
            State::Fine => "ok  ",
            State::Doubtful => "look",
            State::Failed => "FAIL",
        };
        // Writing into a string cannot fail.
        let _ = match fix {
            Some(fix) => writeln!(text, "{mark}  {what}: {told}; {fix}"),
            None => writeln!(text, "{mark}  {what}: {told}"),
        };
    }
    text
}

async fn look_at_model(config: &Config) -> Vec<Finding> {
    let Some(model) = &config.model else {
        return vec![Finding::fine("model", "none is configured: plain rules plan")];
    };
    let what = format!("model {}", model.name);
    let probed = match Client::new(assemble::model_config(model)) {
        Ok(client) => client.probe().await,
        Err(error) => Err(error),
    };
    match probed {
        Ok(capabilities) => capabilities_of(&what, model, &capabilities),
        Err(error) => {
            let fix = "look at model.base_url, model.name and model.key; without it plain rules plan";
            vec![Finding::failed(what, error.to_string(), fix)]
        }
    }
}

fn capabilities_of(what: &str, model: &config::Model, capabilities: &Capabilities) -> Vec<Finding> {
    let Capabilities {
        served_by, calls_tools, must_call_is_kept, schemas, takes_cache_key, reports_usage, usage, ..
    } = capabilities;
    let mut findings = vec![Finding::fine(
        what,
        format!("answers as {served_by}, {} tokens used", usage.input_tokens + usage.output_tokens),
    )];
    findings.push(if *calls_tools {
        Finding::fine(what, "calls tools")
    } else {
        Finding::failed(what, "calls no tools, so that it cannot plan", "choose a model that does")
    });
    if *calls_tools && !must_call_is_kept {
        let fix = "plans may need one more turn; nothing is to be done";
        findings.push(Finding::doubtful(what, "calls a tool when it is asked to and not when it must", fix));
    }
    findings.push(match schemas {
        Schemas::Kept => Finding::fine(what, "keeps to strict schemas"),
        Schemas::Broken => Finding::doubtful(
            what,
            "takes strict schemas and does not keep to them",
            "what it writes is checked here anyway; more of it goes back to be mended",
        ),
        Schemas::Unsupported => Finding::doubtful(
            what,
            "knows no strict schemas",
            "what it writes is checked here anyway; more of it goes back to be mended",
        ),
    });
    if !takes_cache_key {
        findings.push(Finding::doubtful(what, "takes no key for its cache", "nothing is to be done"));
    }
    if !reports_usage {
        let fix = "tokens are reckoned from bytes, on the dear side";
        findings.push(Finding::doubtful(what, "does not say how many tokens it used", fix));
    }
    if model.price.is_none() {
        findings.push(Finding::doubtful(what, "has no price", "write model.price to know what it costs"));
    }
    findings
}

async fn look_at_forge(config: &Config) -> Vec<Finding> {
    let github = match GitHub::new(&assemble::github_config(config)) {
        Ok(github) => github,
        Err(error) => return vec![Finding::failed("github", error.to_string(), "look at github.api")],
    };
    let repositories: BTreeSet<&Repository> =
        config.policy.services.values().map(|service| &service.repository).collect();
    let mut findings = Vec::new();
    for repository in repositories {
        let what = format!("github {repository}");
        findings.push(match github.reach(repository).await {
            Ok(forge::Reach { requests_left: Some(left), requests_max, .. }) if left < REQUESTS_FEW => {
                let most = requests_max.map_or(String::new(), |most| format!(" of {most} an hour"));
                let fix = if config.github.token.is_some() { "others use this token too" } else { "set github.token" };
                Finding::doubtful(what, format!("can be read, and {left} requests{most} are left"), fix)
            }
            Ok(forge::Reach { requests_left, .. }) => {
                let left = requests_left.map_or(String::new(), |left| format!(", {left} requests are left this hour"));
                Finding::fine(what, format!("can be read{left}"))
            }
            Err(error) => {
                let fix = match (&error, config.github.token.is_some()) {
                    (forge::Error::Refused(_), true) => "let github.token read it, or mend the service's repository",
                    (forge::Error::Refused(_), false) => "set github.token, or mend the service's repository",
                    (forge::Error::Unavailable(_) | forge::Error::Malformed(_), _) => {
                        "look at github.api and the network"
                    }
                };
                Finding::failed(what, error.to_string(), fix)
            }
        });
    }
    findings
}

/// A page of one arm, to be read.
struct Target<'a> {
    service: &'a ServiceName,
    policy: &'a ServicePolicy,
    arm: &'static str,
    url: &'a str,
    timeout: Duration,
}

async fn look_at_pages(config: &Config) -> Vec<Finding> {
    let client = match scrape::client() {
        Ok(client) => client,
        Err(error) => {
            return vec![Finding::failed("telemetry", error.to_string(), "look at this machine's certificates")];
        }
    };
    let mut targets = Vec::new();
    for (service, telemetry) in &config.telemetry {
        let Some(policy) = config.policy.services.get(service) else { continue };
        for (arm, of) in [("control", &telemetry.control), ("canary", &telemetry.canary)] {
            let target = |url| Target { service, policy, arm, url, timeout: telemetry.timeout };
            targets.extend(of.urls.iter().map(|url| target(url.as_str())));
        }
    }
    let looks = targets.iter().map(|target| look_at_page(&client, target));
    stream::iter(looks).buffered(AT_ONCE).collect::<Vec<_>>().await.concat()
}

async fn look_at_page(client: &reqwest::Client, target: &Target<'_>) -> Vec<Finding> {
    let Target { service, policy, arm, url, timeout } = target;
    let what = format!("{service} {arm} {}", scrape::once::shown(&url.replace(REVISION, "REVISION")));
    if url.contains(REVISION) {
        return vec![Finding::fine(what, "bears a revision, and is looked at when there is one")];
    }
    let page = match scrape::once::page(client, url, *timeout).await {
        Ok(page) => page,
        Err(error) if *arm == "canary" => {
            return vec![Finding::doubtful(what, error.to_string(), "that is right while no new version runs")];
        }
        Err(error) => {
            let fix = "mend the address, or let this machine reach it; without it nothing is ever promoted";
            return vec![Finding::failed(what, error.to_string(), fix)];
        }
    };
    let mut findings = vec![Finding::fine(&what, format!("{} series", page.series))];
    for entry in &policy.bounds.catalogue.entries {
        let missing = |metric: &&str| !page.has(metric);
        let names: BTreeSet<&str> =
            entry.sli.selectors().into_iter().map(|selector| selector.metric.as_str()).collect();
        for metric in names.iter().filter(|metric| missing(metric)) {
            let told = format!("does not show {metric}, which the SLI {} reads", entry.name);
            findings.push(Finding::doubtful(&what, told, "mend its name, unless nothing was counted yet"));
        }
    }
    findings
}
