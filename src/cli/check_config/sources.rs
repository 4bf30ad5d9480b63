//! Whether the sources can be reached: for each, what it is read for and what came of asking it.
//!
//! A server that speaks Prometheus's API is asked for nothing much. A receiver's ports are listened to for a moment. A
//! vendor is not asked: every call of theirs counts against a quota and needs a metric to ask for, so that it is told only
//! that the configuration holds together.

use std::{io::ErrorKind, net::SocketAddr, sync::Arc};

use futures_util::{StreamExt, stream};
use tokio::net::TcpListener;

use super::online::Finding;
use crate::{
    cli::assemble,
    config::{self, Config},
    daemon::Clock,
    domain::ServiceName,
    telemetry::{self, prometheus},
};

/// Most sources that are asked at the same moment.
const AT_ONCE: usize = 8;

/// What was found out about each source.
pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let looks = config.sources.iter().map(|(name, source)| look_at(config, name, source));
    stream::iter(looks).buffered(AT_ONCE).collect::<Vec<_>>().await.concat()
}

async fn look_at(config: &Config, name: &str, source: &config::Source) -> Vec<Finding> {
    let of = |of: &config::Telemetry| of.from.as_ref().is_some_and(|from| from.name == name);
    let readers: Vec<&str> = config
        .telemetry
        .iter()
        .filter(|(_, telemetry)| of(telemetry))
        .map(|(name, _)| ServiceName::as_str(name))
        .collect();
    let what = match readers.as_slice() {
        [] => format!("source {name} ({})", source.kind()),
        [one] => format!("source {name} ({}) of service {one}", source.kind()),
        several => format!("source {name} ({}) of services {}", source.kind(), several.join(", ")),
    };
    let mut findings = Vec::new();
    if readers.is_empty() {
        findings.push(Finding::doubtful(
            &what,
            "is named by no service",
            "name it in a service's telemetry, or remove it",
        ));
    }
    let told = assemble::source_config(config, name, source);
    if let Err(error) = told.check() {
        findings.push(Finding::failed(what, error.to_string(), format!("mend it under sources.{name}")));
        return findings;
    }
    match (told, source) {
        (telemetry::Config::Prometheus(told), _) => {
            let clock = Clock::default();
            findings.push(match prometheus::reach(told, Arc::new(move || clock.now())).await {
                Ok(()) => Finding::fine(what, "answers queries"),
                Err(why) => {
                    let fix =
                        format!("mend sources.{name}, or let this machine reach it; without it nothing is promoted");
                    Finding::failed(what, why.to_string(), fix)
                }
            });
        }
        (_, config::Source::Otlp(source)) => {
            for listen in [source.listen_http, source.listen_grpc].into_iter().flatten() {
                findings.push(look_at_listener(&what, name, listen).await);
            }
        }
        (_, _) => {
            let fix =
                "look at a first rollout with autonomy = \"observe\"; nobody can say sooner whether its keys are taken";
            findings.push(Finding::doubtful(what, "holds together, and is not checked online", fix));
        }
    }
    findings
}

/// Whether the address can be listened at; it is let go at once.
async fn look_at_listener(what: &str, name: &str, listen: SocketAddr) -> Finding {
    match TcpListener::bind(listen).await {
        Ok(_) => Finding::fine(what, format!("can listen at {listen}")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let fix = "that is right while a tollgate runs with this configuration; else choose another port";
            Finding::doubtful(what, format!("somebody listens at {listen} already"), fix)
        }
        Err(error) => Finding::failed(
            what,
            format!("cannot listen at {listen}: {error}"),
            format!("mend it under sources.{name}"),
        ),
    }
}
