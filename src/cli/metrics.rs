//! `metrics search`: what a service's old version shows that a check could measure, found by words. It reads the
//! service's own pages once, from here, and needs no running daemon.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;

use crate::{
    cli::{assemble, client::shown},
    daemon::Clock,
    domain::{Metric, Revision, ServiceName},
    telemetry::{Catalogued, Provider},
    tools,
};

/// Most metrics that are listed unless more are asked for.
const LISTED: usize = 20;
/// Values of a label that are told.
const VALUES_TOLD: usize = 6;
/// How much longer than one page's time limit the first reading is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Find metrics by words of their names, helps, labels and values
    Search(Search),
}

#[derive(Debug, clap::Args)]
struct Search {
    /// The words; none lists all
    text: Vec<String>,
    /// The service
    #[arg(long)]
    service: String,
    /// The revision that everyone has, where pages bear it
    #[arg(long, value_parser = revision)]
    stable: Option<Revision>,
    /// Most metrics to list
    #[arg(long, default_value_t = LISTED)]
    limit: usize,
    /// The configuration file
    #[arg(long, short, env = "TOLLGATE_CONFIG", default_value = "tollgate.toml")]
    config: PathBuf,
    /// Write them as JSON
    #[arg(long)]
    json: bool,
}

fn revision(text: &str) -> Result<Revision, String> {
    text.parse()
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Search(search) = args.command;
    let config = match super::read_config(&search.config) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let service = ServiceName::new(search.service.as_str());
    let targets = config.telemetry.get(&service).with_context(|| {
        let names: Vec<&str> = config.telemetry.keys().map(ServiceName::as_str).collect();
        format!("service {} is not configured; there are: {}", shown(service.as_str()), names.join(", "))
    })?;
    let source = targets.from.as_ref().and_then(|from| Some((&from.name, config.sources.get(&from.name)?)));
    if let Some((name, source)) = source.filter(|(_, source)| source.buckets().is_some()) {
        let kind = source.kind();
        anyhow::bail!("{service} is read from source {name} of kind {kind}, of which no list of metrics is kept");
    }
    let bears_revision = |text: &String| text.contains("{revision}");
    let arm = &targets.control;
    if search.stable.is_none() && arm.urls.iter().chain(arm.labels.values()).any(bears_revision) {
        anyhow::bail!("{service}'s pages bear a revision: say which with --stable REVISION");
    }
    let clock = Clock::default();
    let telemetry = assemble::telemetry(&config, Arc::new(move || clock.now()))?;
    if let Some(stable) = &search.stable {
        assemble::begin_history(&*telemetry, &service, stable).await;
    }
    let index = first_index(&*telemetry, &service, targets.timeout + PATIENCE).await.with_context(|| {
        format!(
            "no page of {service}'s old version could be read within {} s; `tollgate check-config --online` says why",
            (targets.timeout + PATIENCE).as_secs()
        )
    })?;
    let found = tools::ranked(&index, &search.text.join(" "));
    let listed: Vec<&Metric> = found.iter().take(search.limit).copied().collect();
    if search.json {
        println!("{}", serde_json::to_string_pretty(&listed)?);
    } else {
        print!("{}", render(&listed, found.len(), &index));
    }
    Ok(ExitCode::SUCCESS)
}

/// The index, once the pages were read; `None` where none could be in time.
async fn first_index(telemetry: &dyn Provider, service: &ServiceName, within: Duration) -> Option<Arc<Catalogued>> {
    let read = async {
        loop {
            if let Ok(index) = telemetry.metrics(service) {
                return index;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(within, read).await.ok()
}

/// A metric and what is said of it on one line, its labels on another. All of it is its makers' and its traffic's word.
fn render(metrics: &[&Metric], found: usize, index: &Catalogued) -> String {
    let mut text = String::new();
    for Metric { name, kind, help, labels, series } in metrics {
        text.push_str(&format!("{} ({}, {series} series): {}\n", shown(name), kind.word(), shown(help.as_str())));
        for label in labels {
            let values: Vec<String> = label.values.iter().take(VALUES_TOLD).map(shown).collect();
            let more = if label.more || label.values.len() > VALUES_TOLD { ", and more" } else { "" };
            text.push_str(&format!("      {} = {}{more}\n", shown(&label.name), values.join(", ")));
        }
    }
    let all = index.metrics.len();
    text.push_str(&match (found, metrics.len()) {
        (0, _) => format!("none of {all} metrics has these words\n"),
        (found, listed) if listed < found => format!("{listed} of {found} that fit, of {all} metrics; see --limit\n"),
        (found, _) => format!("{found} of {all} metrics\n"),
    });
    if index.cut {
        text.push_str("the service shows more metrics than are kept: its pages are cut\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MetricKind, MetricLabel, Text};

    #[test]
    fn a_metric_is_told_on_lines_of_its_own_and_strangers_words_on_one() {
        let label = MetricLabel { name: "route".into(), values: vec!["/a\u{1b}[2J".into()], more: true };
        let metric = Metric {
            name: "hits_total".into(),
            kind: MetricKind::Counter,
            help: Text::new("Hits."),
            labels: vec![label],
            series: 3,
        };
        let index = Catalogued { metrics: vec![metric.clone()], ..Catalogued::default() };
        assert_eq!(
            render(&[&metric], 1, &index),
            "hits_total (counter, 3 series): Hits.\n      route = /a [2J, and more\n1 of 1 metrics\n"
        );
        assert_eq!(render(&[], 0, &index), "none of 1 metrics has these words\n");
        assert!(render(&[&metric], 2, &index).ends_with("1 of 2 that fit, of 1 metrics; see --limit\n"));
    }
}
