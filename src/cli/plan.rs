//! `plan`: the checks that a diff or a pull request would get, with the reasons, and what was refused; at a known traffic
//! also what each stage could see.
//!
//! Where the service's changes are planned by a model, it is asked, as the daemon would; `--no-model` asks nobody, and
//! `--replay` lets a recorded conversation answer in its place.

mod drafting;
mod outlook;
mod told;

use std::{io::Read, path::PathBuf, process::ExitCode};

use anyhow::Context;

use crate::{
    domain::{Change, Diff, FileTouched, Person, Repository, Revision, ServiceName, Text, Usage},
    forge::{self, GitHub},
    plan::{self, Admission},
    rollout::{self, ServicePolicy},
    stats,
};

use self::{
    drafting::{Drafted, Planner},
    outlook::{BadRate, Named, RequestsPerSecond, StageOutlook},
};
use super::assemble;

pub(super) use self::told::usage;

/// Who is said to have written what comes from a file, and what it is called.
const NOBODY: &str = "nobody";
const UNTITLED: &str = "a diff from a file";
/// The revision of what has none.
const NO_REVISION: &str = "0000000";

/// What was typed.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("change").required(true))]
pub(super) struct Args {
    /// A unified diff, as `git diff` writes it; `-` for standard input
    #[arg(long, group = "change")]
    diff: Option<PathBuf>,
    /// A pull request, as `owner/name#12`
    #[arg(long, group = "change")]
    pull_request: Option<String>,
    /// The diff's title, as the pull request would have it
    #[arg(long, requires = "diff")]
    title: Option<String>,
    /// The service; needed when several are configured
    #[arg(long)]
    service: Option<String>,
    /// The configuration file
    #[arg(long, short, env = "TOLLGATE_CONFIG", default_value = "tollgate.toml")]
    config: PathBuf,
    /// Ask no model, whatever is configured
    #[arg(long)]
    no_model: bool,
    /// Write the conversation with the model to this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["no_model", "replay"])]
    record: Option<PathBuf>,
    /// Let the conversation in this file answer; no model is asked
    #[arg(long, value_name = "FILE", conflicts_with = "no_model")]
    replay: Option<PathBuf>,
    /// The revision that everyone has, where pages of metrics bear it: proposed checks are tried on its past
    #[arg(long, value_name = "REVISION", value_parser = revision)]
    stable: Option<Revision>,
    /// Requests of the service in a second: says what each stage could see. `NAME=N` for a check that sees fewer
    #[arg(long, value_name = "[CHECK=]N")]
    requests_per_second: Vec<Named<RequestsPerSecond>>,
    /// How much is bad on the old version, such as `0.5%`; `NAME=0.5%` for one check
    #[arg(long, value_name = "[CHECK=]PERCENT", requires = "requests_per_second")]
    bad_rate: Vec<Named<BadRate>>,
    /// Write the plan as JSON
    #[arg(long)]
    json: bool,
}

fn revision(text: &str) -> Result<Revision, String> {
    text.parse()
}

/// What is written as JSON.
#[derive(serde::Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    admission: &'a Admission,
    /// What a model used; left out where none was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    /// How a replay differed from its record.
    #[serde(skip_serializing_if = "<[Text]>::is_empty")]
    differences: &'a [Text],
    #[serde(skip_serializing_if = "Option::is_none")]
    stages: Option<Vec<StageOutlook<'a>>>,
    /// What each stage will be compared with, as far as it is known beforehand.
    baselines: Vec<&'static str>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = match super::read_config(&args.config) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let (name, service) = choose(&config.policy.services, args.service.as_deref())?;
    let github = GitHub::new(&assemble::github_config(&config))?;
    let (change, diff) = match (&args.diff, &args.pull_request) {
        (Some(path), _) => {
            let diff = read_diff(path)?;
            (change_of(&diff, service, args.title.as_deref())?, diff)
        }
        (None, Some(pull_request)) => {
            let (repository, number) = parse_pull_request(pull_request)?;
            let (change, diff) =
                tokio::try_join!(github.change(&repository, number), github.diff(&repository, number))?;
            (change, diff)
        }
        (None, None) => anyhow::bail!("name a --diff or a --pull-request"),
    };
    let files = change.files.clone();
    let files_cut = change.files_cut;
    let planner = Planner {
        config: &config,
        name,
        service,
        // A diff from a file is of no revision that GitHub could show a file of.
        forge: args.pull_request.is_some().then_some(github),
        stable: args.stable.clone(),
    };
    let Drafted { draft, conversation, differences } = match &args.replay {
        Some(record) => planner.replayed(record, change, diff).await?,
        None if args.no_model => Drafted::by_rules(&diff, service),
        None => planner.drafted(change, diff).await?,
    };
    if let Some(record) = &args.record {
        drafting::write(record, conversation.as_ref(), name)?;
    }
    let touched = plan::Touched { files: &files, cut: files_cut };
    let admission = plan::admit(draft, &service.bounds, touched, &stats::served(), |_| plan::Trial::default());
    let stages = outlook::of(service, admission.plan.checks(), &args.requests_per_second, &args.bad_rate)?;
    let usage = conversation.as_ref().map(|conversation| conversation.usage());
    if args.json {
        let baselines = service.stages.iter().map(|stage| rollout::foreseen(stage, service.control)).collect();
        let written = Written { admission: &admission, usage, differences: &differences, stages, baselines };
        println!("{}", serde_json::to_string_pretty(&written)?);
    } else {
        let told = told::Told { service: name, admission: &admission, conversation: conversation.as_ref() };
        let compared = told::compared(service);
        print!("{}{compared}{}", told::render(&told), stages.as_deref().map(outlook::render).unwrap_or_default());
        for difference in &differences {
            eprintln!("replay: {difference}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn choose<'a>(
    services: &'a std::collections::BTreeMap<ServiceName, ServicePolicy>,
    wanted: Option<&str>,
) -> anyhow::Result<(&'a ServiceName, &'a ServicePolicy)> {
    let names = || services.keys().map(ServiceName::as_str).collect::<Vec<_>>().join(", ");
    match wanted {
        Some(wanted) => services
            .iter()
            .find(|(name, _)| name.as_str() == wanted)
            .with_context(|| format!("service {wanted} is not configured; there are: {}", names())),
        None if services.len() > 1 => {
            anyhow::bail!("several services are configured; choose one with --service: {}", names())
        }
        None => services.iter().next().context("no service is configured"),
    }
}

/// What a diff from a file would be as a change.
fn change_of(diff: &Diff, service: &ServicePolicy, title: Option<&str>) -> anyhow::Result<Change> {
    let revision: Revision = NO_REVISION.parse().map_err(anyhow::Error::msg)?;
    let touched = |file: &crate::domain::FileDiff| FileTouched {
        path: file.path.clone(),
        previous_path: file.previous_path.clone(),
        kind: file.kind,
    };
    Ok(Change {
        repository: service.repository.clone(),
        pull_request: 0,
        title: Text::new(title.unwrap_or(UNTITLED)),
        author: Person(Text::new(NOBODY)),
        merged_by: None,
        base: revision.clone(),
        revision,
        files: diff.files.iter().map(touched).collect(),
        files_cut: diff.cut,
    })
}

fn read_diff(path: &PathBuf) -> anyhow::Result<Diff> {
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
    } else {
        bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    forge::diff::read(&bytes, &forge::diff::LIMITS).with_context(|| format!("{} is no unified diff", path.display()))
}

fn parse_pull_request(text: &str) -> anyhow::Result<(Repository, u64)> {
    let form = || format!("`{text}` is no pull request: write `owner/name#12`");
    let (repository, number) = text.split_once('#').with_context(form)?;
    Ok((repository.parse().map_err(anyhow::Error::msg)?, number.parse().with_context(form)?))
}
