//! `backtest`: what Tollgate would have done on past deploys, so that a team can trust it before it acts.
//!
//! The very same engine runs: the one loop, the fleet, the statistics and the rails, over what the service's own source
//! kept of the time of each deploy (`world`). Nothing is moved, recorded or announced. History is what it was: nobody
//! set the shares of a stage then, so the ladder gives the times and the comparison is with what ran beside the new
//! version; where nothing did, that is said.

mod deploys;
mod judged;
mod told;
mod world;

use std::{io::Read, path::Path, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;

use self::{
    deploys::{BYTES_MAX, DEPLOYS_MAX, Deploy},
    judged::{Ends, Judged},
    told::{Report, Summary},
    world::House,
};
use super::assemble;
use crate::{
    config::Config,
    daemon::Clock,
    domain::{Absence, Autonomy, ServiceName, Sli, Timestamp},
    forge::{GitHub, deployments::DEPLOYMENTS_MAX},
    rollout::{Deployed, Fleet, Policy, ServicePolicy},
};

/// The branch that deploys are said to be merged into where the service names none.
const DEFAULT_BRANCH: &str = "main";
/// Longest time that one deploy is followed.
const FOLLOWED_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Deployments of GitHub's that are looked at unless more are asked for.
const DEPLOYMENTS: usize = 100;

/// What was typed.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("past").required(true))]
pub(super) struct Args {
    /// Past deploys as CSV: a heading `time,revision` with `stable`, `end` and `outcome` (good or bad) as you like, and a
    /// line for each; `-` for standard input
    #[arg(long, group = "past", value_name = "FILE")]
    deploys: Option<PathBuf>,
    /// Past deploys from the GitHub deployments of the service's repository
    #[arg(long, group = "past")]
    github: bool,
    /// Only GitHub deployments to this environment
    #[arg(long, conflicts_with = "deploys")]
    environment: Option<String>,
    /// Most GitHub deployments to look at, the newest first
    #[arg(long, conflicts_with = "deploys", default_value_t = DEPLOYMENTS, value_name = "N")]
    limit: usize,
    /// The service; needed when several are configured
    #[arg(long)]
    service: Option<String>,
    /// The configuration file
    #[arg(long, short, env = "TOLLGATE_CONFIG", default_value = "tollgate.toml")]
    config: PathBuf,
    /// Write it as JSON, with what happened to each rollout
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = match super::read_config(&args.config) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let (name, service) = super::plan::choose(&config.policy.services, args.service.as_deref())?;
    let clock = Clock::default();
    let now = clock.now();
    let source = assemble::past_source(&config, name, Arc::new(move || clock.now()))?.with_context(|| {
        format!("no Prometheus keeps the past of {name}: pages that are scraped, and sources of other kinds, are not asked for it; name a [sources] table of kind \"prometheus\" under services.{name}.telemetry.source")
    })?;
    let (policy, mut notes) = past_policy(&config, name, service)?;
    let deploys = match &args.deploys {
        Some(path) => from_file(path, now)?,
        None => from_github(&config, service, &args, now, &mut notes).await?,
    };
    notes.extend(of_labels(&config, name));
    let retention = source.retention().await.map_err(|why| unreachable(&why))?;
    let house = House {
        source: &source,
        service: name,
        repository: &service.repository,
        branch: service.branch.clone().unwrap_or_else(|| DEFAULT_BRANCH.into()),
        policy: Arc::new(policy),
        is_told_by_revision: config.telemetry.get(name).is_some_and(|of| of.control.labels == of.canary.labels),
    };
    let settle = config.telemetry.get(name).and_then(|of| of.from.as_ref()).map_or(Duration::ZERO, |from| from.settle);
    let past =
        PastOf { house, deploys: &deploys, newest: now - settle, oldest: retention.map(|kept| (now - kept, kept)) };
    let (judged, failed) = tokio::task::block_in_place(|| past.go_through());
    let usage = source.usage();
    let broken_off = failed.map(|why| {
        format!("broken off after {} of {} deploys: the source does not answer: {why}", judged.len(), deploys.len())
    });
    let report = Report {
        service: name.to_string(),
        as_of: now.to_string(),
        summary: Summary::of(&judged),
        deploys: judged,
        notes,
        queries: usage.queries,
        samples: usage.samples,
        broken_off,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", told::render(&report));
    }
    if let Some(why) = &report.broken_off {
        anyhow::bail!("{why}");
    }
    Ok(ExitCode::SUCCESS)
}

fn unreachable(why: &Absence) -> anyhow::Error {
    anyhow::anyhow!("the source does not answer: {why}; `tollgate check-config --online` says more")
}

/// The deploys, the time they lie in, and the engine.
struct PastOf<'a> {
    house: House<'a>,
    deploys: &'a [Deploy],
    /// What is later is not settled yet.
    newest: Timestamp,
    /// What is earlier the server does not keep; and for how long it keeps samples.
    oldest: Option<(Timestamp, Duration)>,
}

impl PastOf<'_> {
    /// Goes through all deploys, the oldest first. What is learnt of the service's noise in a rollout that came to its end
    /// before the next deploy is known from there on, as it would have been.
    fn go_through(&self) -> (Vec<Judged>, Option<Absence>) {
        let mut judged = Vec::new();
        let mut learnt = Fleet::default();
        for (deploy, number) in self.deploys.iter().zip(1_u64..) {
            if let Some((_, kept)) = self.oldest.filter(|(oldest, _)| deploy.at < *oldest) {
                judged.push(judged::before_retention(deploy, kept));
                continue;
            }
            let next = self.deploys.get(usize::try_from(number).unwrap_or(usize::MAX)).map(|next| next.at);
            let (until, ends) = self.ends(deploy, next);
            let mut fleet = learnt.clone();
            let mut went = world::run(&self.house, &mut fleet, number, deploy, until);
            if let Some(why) = went.failed.take() {
                return (judged, Some(why));
            }
            let came_to_end = fleet.open_rollouts() == 0 && next.is_none_or(|next| fleet.now() <= next);
            if came_to_end && went.taken_back.is_none() {
                learnt = fleet;
            }
            let one = judged::judged(deploy, went, ends);
            let (all, short) = (self.deploys.len(), deploy.revision.short());
            eprintln!("{number}/{all} {short}: {}", told::verdict(&one));
            judged.push(one);
        }
        (judged, None)
    }

    /// Up to when a deploy is followed, and what ends it.
    fn ends(&self, deploy: &Deploy, next: Option<Timestamp>) -> (Timestamp, Ends) {
        let mut ends = (self.newest, Ends::Now);
        let longest = Some(deploy.at + FOLLOWED_MAX);
        for (at, why) in [(longest, Ends::LongEnough), (next, Ends::NextDeploy), (deploy.end, Ends::AsListed)] {
            if let Some(at) = at.filter(|at| *at < ends.0) {
                ends = (at, why);
            }
        }
        ends
    }
}

/// The service's policy as far as it can be held to the past, and what is other than configured.
fn past_policy(config: &Config, name: &ServiceName, service: &ServicePolicy) -> anyhow::Result<(Policy, Vec<String>)> {
    let mut notes = vec![
        "nobody set the stages' shares then: each stage gives its time, and the new version has the share that it had; \
         `share_tolerance` (the sample ratio) is off"
            .to_owned(),
        "the new version is compared with the stable one for as long as both were there; after that, absolute limits \
         alone can judge it"
            .to_owned(),
        "the checks are the service's objectives: what would have been proposed for each diff is not known".to_owned(),
        "a deploy begins at its time; where it took a while until it had traffic, verdicts come as much later".to_owned(),
    ];
    let mut past = service.clone();
    if past.autonomy != Autonomy::Auto {
        notes.push(format!(
            "judged as at autonomy auto; {name} is configured otherwise, and would leave more to people"
        ));
    }
    let probes = past.bounds.mandatory.iter().filter(|check| matches!(check.sli, Sli::Probe { .. })).count();
    if probes > 0 {
        notes.push(format!("{probes} objectives are probes, which nobody sent then: they are left out"));
        past.bounds.mandatory.retain(|check| !matches!(check.sli, Sli::Probe { .. }));
    }
    if past.bounds.mandatory.is_empty() {
        anyhow::bail!("all objectives of {name} are probes, which nobody sent then: there is nothing to look at");
    }
    if !past.bounds.path_rules.is_empty() {
        notes.push("rules on paths are left out: the files of a past deploy are not known".into());
    }
    past.bounds.path_rules.clear();
    past.paths = vec!["**".into()];
    past.autonomy = Autonomy::Auto;
    past.deployed = Deployed::WhenTold;
    past.share_tolerance = None;
    past.model = None;
    let policy =
        Policy { services: [(name.clone(), past)].into(), rollouts_max: 1, finished_kept: 1, ..config.policy.clone() };
    Ok((policy, notes))
}

/// What is to be known of the labels by which the arms are told apart.
fn of_labels(config: &Config, name: &ServiceName) -> Option<String> {
    let canary = &config.telemetry.get(name)?.canary.labels;
    let bears_revision = canary.values().any(|value| value.contains("{revision}"));
    (!bears_revision).then(|| {
        "the new version's series bear no revision in the configuration: whatever had its labels then was taken for it"
            .to_owned()
    })
}

fn from_file(path: &Path, now: Timestamp) -> anyhow::Result<Vec<Deploy>> {
    let shown = path.display();
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("cannot read {shown}"))?;
        file.take(BYTES_MAX + 1).read_to_string(&mut text)
    };
    read.with_context(|| format!("cannot read {shown}: it is to be text"))?;
    if text.len() as u64 > BYTES_MAX {
        anyhow::bail!("{shown} has more than {BYTES_MAX} bytes: leave out the oldest deploys");
    }
    deploys::read(&text, now).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
        anyhow::anyhow!("{shown} is no list of deploys:\n{}", lines.join("\n"))
    })
}

async fn from_github(
    config: &Config,
    service: &ServicePolicy,
    args: &Args,
    now: Timestamp,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<Deploy>> {
    let most = DEPLOYS_MAX.min(DEPLOYMENTS_MAX);
    if !(1..=most).contains(&args.limit) {
        anyhow::bail!("--limit {}: write a number from 1 to {most}", args.limit);
    }
    let repository = &service.repository;
    eprintln!("asking GitHub for the deployments of {repository}");
    let github = GitHub::new(&assemble::github_config(config))?;
    let found = github.deployments(repository, args.environment.as_deref(), args.limit).await?;
    if found.never_began > 0 {
        notes.push(format!("{} deployments never began, by their statuses, and are left out", found.never_began));
    }
    if found.more {
        notes.push(format!("there are older deployments than the {} that were looked at: see --limit", args.limit));
    }
    let deploy = |of: crate::forge::deployments::Deployment| Deploy {
        at: of.at,
        revision: of.revision,
        stable: None,
        end: None,
        label: None,
    };
    let mut began: Vec<Deploy> = found.began.into_iter().map(deploy).filter(|deploy| deploy.at < now).collect();
    if began.is_empty() {
        anyhow::bail!("{repository} has no deployments that began; see --environment, or write a list for --deploys");
    }
    began.sort_by_key(|deploy| deploy.at);
    // Two at once are one to the traffic: the later one in the list is what ran.
    began.dedup_by(|later, earlier| {
        let is_same = later.at == earlier.at;
        if is_same {
            earlier.revision = later.revision.clone();
        }
        is_same
    });
    deploys::in_order(began).map_err(|problems| anyhow::anyhow!("the deployments: {}", problems.join("; ")))
}
