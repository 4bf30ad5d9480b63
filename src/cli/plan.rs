//! `plan`: the checks that a diff or a pull request would get, with the reasons, and what was refused; at a known traffic
//! also what each stage could see.

mod outlook;

use std::{io::Read, path::PathBuf, process::ExitCode};

use anyhow::Context;

use crate::{
    domain::{Diff, Repository, ServiceName, WayBack},
    forge::{self, GitHub},
    plan::{self, Admission},
    rollout::ServicePolicy,
    stats,
};

use self::outlook::{BadRate, Named, RequestsPerSecond, StageOutlook};
use super::assemble;

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
    /// The service; needed when several are configured
    #[arg(long)]
    service: Option<String>,
    /// The configuration file
    #[arg(long, short, env = "TOLLGATE_CONFIG", default_value = "tollgate.toml")]
    config: PathBuf,
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

/// What is written as JSON.
#[derive(serde::Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    admission: Admission,
    #[serde(skip_serializing_if = "Option::is_none")]
    stages: Option<Vec<StageOutlook<'a>>>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = match super::read_config(&args.config) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let (name, service) = choose(&config.policy.services, args.service.as_deref())?;
    let diff = match (&args.diff, &args.pull_request) {
        (Some(path), _) => read_diff(path)?,
        (None, Some(pull_request)) => {
            let (repository, number) = parse_pull_request(pull_request)?;
            GitHub::new(&assemble::github_config(&config))?.diff(&repository, number).await?
        }
        (None, None) => anyhow::bail!("name a --diff or a --pull-request"),
    };
    let draft = plan::heuristic_draft(&diff, &service.bounds.catalogue);
    let admission =
        plan::admit(draft, &service.bounds, plan::Touched::NOTHING, &stats::served(), |_| plan::Trial::default());
    let stages = outlook::of(service, admission.plan.checks(), &args.requests_per_second, &args.bad_rate)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&Written { admission, stages })?);
    } else {
        print!("{}{}", render(name, &admission), stages.as_deref().map(outlook::render).unwrap_or_default());
    }
    Ok(ExitCode::SUCCESS)
}

fn choose<'a>(
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

fn render(service: &ServiceName, admission: &Admission) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let plan = &admission.plan;
    // Writing into a string cannot fail.
    let _ = writeln!(text, "Plan for {service}: {} checks\n", plan.checks().len());
    for check in plan.checks() {
        let origin = format!("{:?}, {:?}", check.origin, check.weight).to_lowercase();
        let _ = writeln!(text, "  {} ({origin})", check.name);
        let _ = writeln!(text, "      measures   {}", check.sli);
        let _ = writeln!(text, "      tolerates  {} times the old version's", check.ratio_max);
        if let Some(limit) = check.limit {
            let _ = writeln!(text, "      hard limit {}% bad", limit.bad_share_max * 100.0);
        }
        let _ = writeln!(text, "      because    {}", check.rationale);
        if !check.lines.is_empty() {
            let lines: Vec<String> = check.lines.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "      rests on   {}", lines.join(", "));
        }
    }
    match plan.way_back() {
        WayBack::Open => {
            let _ = writeln!(text, "\nIt can be rolled back.");
        }
        WayBack::OneWay { why, .. } => {
            let _ = writeln!(text, "\nOne-way: {why}. It would be held and a person called, not rolled back.");
        }
    }
    for note in plan.notes() {
        let _ = writeln!(text, "Note: {note}");
    }
    for rejection in &admission.rejections {
        let _ = writeln!(text, "Refused: {}: {}", rejection.check, rejection.why);
    }
    text
}
