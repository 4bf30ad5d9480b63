//! From a configuration to a running daemon with its web side: the one place where all rooms meet. `serve` and `demo`
//! run exactly this.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{
    agent::{self, Payer},
    config::{self, Config},
    daemon::{self, Clock, Handle, Metrics, Wings},
    domain::{Revision, Selector, ServiceName, Sli, Split, Timestamp, Usage},
    forge::{self, GitHub},
    journal::{self, Journal},
    rollout,
    telemetry::{self, otlp, probe, prometheus, scrape},
    traffic,
    web::{self, webhooks::Inlet},
};

/// A daemon and its web side, up.
pub(super) struct Assembled {
    /// Where it listens.
    pub(super) address: SocketAddr,
    pub(super) handle: Handle,
    daemon: daemon::Running,
    web: JoinHandle<std::io::Result<()>>,
    stop_web: watch::Sender<bool>,
}

/// Binds the address. First of all, for a taken port is the commonest mistake and nothing is to be undone yet.
pub(super) async fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen).await.with_context(|| {
        format!("cannot listen on {listen}; another tollgate or another program may be there: choose another address with `listen`")
    })
}

/// Opens the journal, starts the loop, and serves.
pub(super) async fn assemble(config: Config, listener: TcpListener) -> anyhow::Result<Assembled> {
    let address = listener.local_addr().context("no local address")?;
    let options = journal_options(&config.journal);
    let (journal, fleet, recovery) = tokio::task::spawn_blocking(move || Journal::open(options)).await??;
    tracing::info!(entries = recovery.last_seq, folded = recovery.folded, open = fleet.open_rollouts(), "journal open");
    for remark in &recovery.remarks {
        tracing::warn!("journal: {remark}");
    }
    let ahead = fleet.now().since(Clock::default().now());
    if ahead > CLOCK_AHEAD_MAX {
        tracing::warn!(
            "the journal's last entry is {} s in the future: was the clock wrong, or is it now?",
            ahead.as_secs()
        );
    }
    let clock = Clock::starting_at(fleet.now());
    let now: telemetry::Clock = {
        let clock = clock.clone();
        Arc::new(move || clock.now())
    };
    let flags = traffic::Flags::new(&flags_config(&config))?;
    let telemetry = telemetry(&config, Arc::clone(&now))?;
    let forge = GitHub::new(&github_config(&config))?;
    let metrics = Arc::new(Metrics::new());
    let agent = agent(&config, &fleet, now)?;
    let wings = Wings {
        forge: Arc::new(forge),
        telemetry,
        actuator: Arc::new(flags.clone()),
        agent,
        planned_by_model: Arc::new(config.planned_by_model.clone()),
    };
    let service_names = config.policy.services.keys().cloned().collect();
    let parts = daemon::Parts {
        policy: Arc::new(config.policy.clone()),
        journal,
        fleet,
        clock,
        wings,
        metrics: Arc::clone(&metrics),
    };
    let daemon = daemon::start(parts)?;
    let mut ready = daemon.ready.clone();
    // Flags are answered once the fleet has put back in force what stood before.
    let _ = ready.wait_for(|ready| *ready).await;
    let webhooks = Inlet::new(daemon.handle.clone(), config.github.webhook_secret.clone())
        .body_bytes_max(config.github.body_bytes_max)
        .routes();
    let router = web::router(web::Parts {
        handle: daemon.handle.clone(),
        api_token: config.api_token.clone(),
        ready: ready.clone(),
        metrics,
        others: webhooks.merge(web::ofrep::routes(flags)),
        service_names,
        hosts: web::Hosts::new(address.ip(), &config.allowed_hosts),
    });
    let (stop_web, stopping) = watch::channel(false);
    let web = tokio::spawn(web::serve(listener, router, wait_for(stopping)));
    Ok(Assembled { address, handle: daemon.handle.clone(), daemon, web, stop_web })
}

async fn wait_for(mut flag: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = flag.wait_for(|is_set| *is_set).await;
}

impl Assembled {
    /// Waits until the daemon has ended by itself, which means that it failed.
    pub(super) async fn failed(&self) {
        self.daemon.failed().await;
    }

    /// Stops the web side, then the loop, and says what went wrong if anything did.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.stop_web.send_replace(true);
        let web = self.web.await.context("the web side broke down")?;
        self.daemon.stop().await.map_err(anyhow::Error::msg)?;
        web.context("the web side failed")
    }
}

/// How far the journal may be ahead of the clock without a word.
const CLOCK_AHEAD_MAX: Duration = Duration::from_secs(5 * 60);
/// How often one call to GitHub is tried before the fleet is told; the fleet tries again, with longer pauses.
const GITHUB_ATTEMPTS_MAX: u32 = 3;
/// How long scraped increments are kept. A window older than this cannot be counted any more.
const SCRAPES_KEPT_MIN: Duration = Duration::from_secs(600);

fn journal_options(config: &config::Journal) -> journal::Options {
    journal::Options { snapshot_every: config.snapshot_every, keep: config.keep, ..journal::Options::at(&config.dir) }
}

fn flags_config(config: &Config) -> traffic::flags::Config {
    let flag = |flag: &config::Flag| traffic::flags::FlagConfig {
        key: flag.key.clone(),
        value: match flag.value {
            config::FlagValue::Boolean => traffic::FlagValue::Boolean,
            config::FlagValue::Variant => traffic::FlagValue::Variant,
            config::FlagValue::Revision => traffic::FlagValue::Revision,
        },
    };
    traffic::flags::Config { flags: config.traffic.iter().map(|(name, of)| (name.clone(), flag(of))).collect() }
}

/// Where measurements come from: the arms' own pages, and probes beside them.
pub(super) fn telemetry(
    config: &Config,
    clock: telemetry::Clock,
) -> Result<Arc<dyn telemetry::Provider>, telemetry::Error> {
    let mut configs = vec![telemetry::Config::Scrape(scrape_config(config))];
    configs.extend(config.sources.iter().map(|(name, source)| source_config(config, name, source)));
    let sources = telemetry::build_all(configs, &clock)?;
    probe::beside(sources, probe_config(config), clock)
}

/// The Prometheus that keeps a service's metrics, to be read of the past: what its clock says now says nothing of then.
/// `None` for a service whose metrics no source keeps.
pub(super) fn past_source(
    config: &Config,
    service: &ServiceName,
    clock: telemetry::Clock,
) -> Result<Option<prometheus::Prometheus>, telemetry::Error> {
    let from = config.telemetry.get(service).and_then(|of| of.from.as_ref());
    let source = from.and_then(|from| config.sources.get_key_value(&from.name));
    let Some((name, source)) = source else { return Ok(None) };
    match source_config(config, name, source) {
        telemetry::Config::Prometheus(source) => {
            let source = prometheus::Config { follows_server_clock: false, ..source };
            prometheus::start(source, clock).map(Some)
        }
        telemetry::Config::Scrape(_)
        | telemetry::Config::Otlp(_)
        | telemetry::Config::Datadog(_)
        | telemetry::Config::InfluxDb(_)
        | telemetry::Config::CloudWatch(_)
        | telemetry::Config::NewRelic(_)
        | telemetry::Config::Web(_) => Ok(None),
    }
}

/// One source, with the services that name it.
fn source_config(config: &Config, name: &str, source: &config::Source) -> telemetry::Config {
    let services = config.telemetry.iter().filter_map(|(service, of)| {
        let from = of.from.as_ref().filter(|from| from.name == name)?;
        Some((service.clone(), of, from))
    });
    match source {
        config::Source::Otlp(source) => {
            let service = |(name, of, from): (ServiceName, &config::Telemetry, &config::FromSource)| {
                let resources = otlp::ServiceResources {
                    control: of.control.labels.clone(),
                    canary: of.canary.labels.clone(),
                    interval: of.interval,
                    stale_after: from.stale_after.max(of.interval),
                    gone_after: from.gone_after.max(from.stale_after).max(of.interval),
                };
                (name, resources)
            };
            let services: BTreeMap<_, _> = services.map(service).collect();
            let slowest = services.values().map(|of| of.interval).max().unwrap_or_default();
            telemetry::Config::Otlp(otlp::Config {
                listen_http: source.listen_http,
                listen_grpc: source.listen_grpc,
                allow_public: source.public,
                token: source.token.clone(),
                keep: kept(config).max(slowest.saturating_mul(2)),
                services,
            })
        }
        config::Source::Prometheus(source) => {
            let service = |(name, of, from): (ServiceName, &config::Telemetry, &config::FromSource)| {
                let nothing = prometheus::Service::default();
                let service = prometheus::Service {
                    control: of.control.labels.clone(),
                    canary: of.canary.labels.clone(),
                    pod_label: of.pod_label.clone().unwrap_or(nothing.pod_label),
                    interval: of.interval,
                    settle: from.settle,
                    // Whatever is written, a round or two lie before a window.
                    lookback: from.lookback.max(of.interval * 2),
                    stale_after: from.stale_after.max(of.interval),
                    gone_after: from.gone_after.max(of.interval),
                };
                (name, service)
            };
            telemetry::Config::Prometheus(prometheus_config(source, services.map(service).collect()))
        }
    }
}

/// How a server is reached, in its provider's words.
fn prometheus_config(
    source: &config::PrometheusSource,
    services: BTreeMap<ServiceName, prometheus::Service>,
) -> prometheus::Config {
    let auth = match &source.auth {
        config::SourceAuth::None => prometheus::Auth::None,
        config::SourceAuth::Bearer(token) => prometheus::Auth::Bearer(token.clone()),
        config::SourceAuth::Basic { user, password } => {
            prometheus::Auth::Basic { user: user.clone(), password: password.clone() }
        }
    };
    prometheus::Config {
        url: source.url.clone(),
        auth,
        headers: source.headers.clone(),
        ca_pem: source.ca_pem.clone(),
        client_pem: source.client_pem.clone(),
        timeout: source.timeout,
        concurrency: source.concurrency,
        samples_per_day: source.samples_per_day,
        response_bytes_max: source.response_bytes_max,
        raw_series_max: source.raw_series_max,
        allow_partial: source.allow_partial,
        follows_server_clock: true,
        services,
    }
}

fn probe_config(config: &Config) -> probe::Config {
    let one = |of: &config::Probe, timeout: Duration| probe::Probe {
        path: of.path.clone(),
        method: if of.only_head { probe::Method::Head } else { probe::Method::Get },
        expect: of.status.iter().map(|status| *status..=*status).collect(),
        contains: of.contains.clone(),
        slow_above: of.slow_above,
        timeout,
        headers: of.headers.clone(),
    };
    let probes = |of: &config::Probing| probe::ServiceProbes {
        control: of.control.clone(),
        canary: of.canary.clone(),
        every: of.every,
        per_second: of.per_second,
        probes: of.probes.iter().map(|probe| (probe.name.clone(), one(probe, of.timeout))).collect(),
    };
    let probed = config.telemetry.iter().filter(|(_, of)| !of.probing.probes.is_empty());
    let services: BTreeMap<ServiceName, probe::ServiceProbes> =
        probed.map(|(name, of)| (name.clone(), probes(&of.probing))).collect();
    let slowest = services.values().map(|probes| probes.every).max().unwrap_or_default();
    probe::Config { services, keep: kept(config).max(slowest.saturating_mul(2)) }
}

/// How long what was read is kept: a window older than this cannot be counted any more.
fn kept(config: &Config) -> Duration {
    let longest = config.policy.services.values().map(|service| service.measure_every).max().unwrap_or_default();
    SCRAPES_KEPT_MIN.max(longest.saturating_mul(20))
}

fn scrape_config(config: &Config) -> scrape::Config {
    let arm = |arm: &config::ArmTargets| scrape::ArmTargets { urls: arm.urls.clone(), labels: arm.labels.clone() };
    let targets = |of: &config::Telemetry| scrape::ServiceTargets {
        control: arm(&of.control),
        canary: arm(&of.canary),
        interval: of.interval,
        timeout: of.timeout,
        pod_label: of.pod_label.clone(),
    };
    let pages = config.telemetry.iter().filter(|(_, of)| of.from.is_none());
    scrape::Config {
        services: pages.map(|(name, of)| (name.clone(), targets(of))).collect(),
        keep: kept(config),
        history: Some(scrape::History::default()),
    }
}

/// Has the past of a service's old version kept from now on, where its pages bear a revision.
pub(super) async fn begin_history(telemetry: &dyn telemetry::Provider, service: &ServiceName, stable: &Revision) {
    let ask = telemetry::PastAsk {
        service: service.clone(),
        stable: Some(stable.clone()),
        // It begins with the first ask for a revision, whatever is asked for.
        sli: Sli::Liveness { series: Selector::metric("up") },
        split: Split::default(),
        reach: Duration::ZERO,
    };
    // There is nothing yet.
    let _ = telemetry.history(ask).await;
}

/// The model, where there is one, with what was used today on its account.
fn agent(config: &Config, fleet: &rollout::Fleet, clock: agent::Clock) -> anyhow::Result<Option<Arc<agent::Agent>>> {
    let Some(model) = &config.model else { return Ok(None) };
    let agent = agent::Agent::new(model_config(model), clock)?;
    take_over(&agent, fleet, &config.policy);
    Ok(Some(Arc::new(agent)))
}

/// Tells an agent all that a fleet knows of what was used, so that no budget starts anew with the process.
fn take_over(agent: &agent::Agent, fleet: &rollout::Fleet, policy: &rollout::Policy) {
    let used: Vec<(Timestamp, Usage)> = fleet.spent_today().iter().map(|spent| (spent.at, spent.usage)).collect();
    agent.seed_spent(&used);
    for account in fleet.accounts() {
        agent.remember(account.rollout, account.service, account.change);
    }
    for (payer, usage) in used_before(fleet, policy) {
        agent.seed_pull_request(&payer, &usage);
    }
}

/// What each pull request has used: by its rollouts that are known, on all days, or by today's books, where those of its
/// rollouts that are forgotten stand too, whichever is more.
fn used_before(fleet: &rollout::Fleet, policy: &rollout::Policy) -> BTreeMap<Payer, Usage> {
    let mut all: BTreeMap<Payer, Usage> = BTreeMap::new();
    for account in fleet.accounts() {
        let Some(usage) = account.usage else { continue };
        let (repository, pull_request) = (account.change.repository.clone(), account.change.pull_request);
        let payer = Payer { service: account.service.clone(), repository, pull_request };
        all.entry(payer).and_modify(|so_far| *so_far = so_far.plus(usage)).or_insert(usage);
    }
    let tokens = |usage: &Usage| usage.input_tokens.saturating_add(usage.output_tokens);
    for spent in fleet.spent_today() {
        let Some((service, pull_request)) = &spent.of else { continue };
        let Some(known) = policy.services.get(service) else { continue };
        let (service, repository) = (service.clone(), known.repository.clone());
        let payer = Payer { service, repository, pull_request: *pull_request };
        let so_far = all.entry(payer).or_default();
        if tokens(so_far) < tokens(&spent.usage) {
            *so_far = spent.usage;
        }
    }
    all
}

/// How the model is reached, in the agent's words.
pub(super) fn model_config(model: &config::Model) -> agent::Config {
    let config::Model { azure, base_url, name, key, timeout, attempts_max, plan_within, price, limits, budget } =
        model.clone();
    agent::Config {
        flavour: azure.map_or(agent::Flavour::OpenAi, |api_version| agent::Flavour::Azure { api_version }),
        base_url,
        model: name,
        key,
        timeout,
        attempts_max,
        price: price.map(|config::Price { input, cached_input, output }| agent::Price { input, cached_input, output }),
        limits: agent::Limits {
            planner_turns_max: limits.planner_turns_max,
            advisor_turns_max: limits.advisor_turns_max,
            tool_calls_max: limits.tool_calls_max,
            repairs_max: limits.repairs_max,
            output_tokens_max: limits.output_tokens_max,
            run_tokens_max: limits.run_tokens_max,
            diff_bytes_max: limits.diff_bytes_max,
            plan_within,
        },
        budgets: agent::Budgets {
            pull_request_tokens_max: budget.pull_request_tokens_max,
            day_tokens_max: budget.day_tokens_max,
            pull_request_micro_dollars_max: budget.pull_request_micro_dollars_max,
            day_micro_dollars_max: budget.day_micro_dollars_max,
        },
    }
}

pub(super) fn github_config(config: &Config) -> forge::Config {
    forge::Config {
        api: config.github.api.clone(),
        token: config.github.token.clone(),
        timeout: config.github.timeout,
        attempts_max: GITHUB_ATTEMPTS_MAX,
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        domain::{Change, Conversation, Digest, Exchange, ModelRole, Person, RolloutId, Stamped, Text, WayBack},
        plan::{Draft, Fallback},
        rollout::{Effect, Event, Fleet, Policy},
    };

    use super::*;

    const USED: Usage = Usage { input_tokens: 5_000, cached_tokens: 0, output_tokens: 1, micro_dollars: None };

    /// A fleet whose one rollout was planned by a model on the day before.
    fn planned(policy: &Policy) -> Fleet {
        let at = Timestamp::from_millis(86_400_000 * 20_000);
        let service = policy.services.values().next().unwrap();
        let change = Change {
            repository: service.repository.clone(),
            pull_request: 12,
            title: Text::new("Add a cache"),
            author: Person(Text::new("ada")),
            merged_by: None,
            base: "aaaaaaa".parse().unwrap(),
            revision: "bbbbbbb".parse().unwrap(),
            files: Vec::new(),
            files_cut: true,
        };
        let exchange = Exchange {
            request: Digest::new("0"),
            question: Digest::new("0"),
            said: 0,
            finish: Text::default(),
            failure: None,
            attempts: 1,
            usage: USED,
            millis: 1,
        };
        let conversation = Conversation {
            role: ModelRole::Planner,
            model: Text::new("m"),
            prompt: Digest::new("0"),
            messages: Vec::new(),
            exchanges: vec![exchange],
            end: Text::default(),
        };
        let mut fleet = Fleet::default();
        let mut due = vec![
            Event::PullRequestMerged {
                delivery: Text::new("d"),
                repository: service.repository.clone(),
                pull_request: 12,
                branch: service.branch.clone().unwrap_or_else(|| "main".into()),
                into_default: true,
            },
            Event::Started { policy: Arc::new(policy.clone()) },
        ];
        while let Some(event) = due.pop() {
            due.extend(fleet.handle(&Stamped { at, event }).into_iter().filter_map(|effect| match effect {
                Effect::FetchChange { request, .. } => {
                    Some(Event::ChangeFetched { request, change: Ok(Arc::new(change.clone())) })
                }
                Effect::Draft { request, rollout, .. } => Some(Event::Drafted {
                    request,
                    rollout,
                    draft: Ok(Box::new(Draft::by_rules(Vec::new(), WayBack::Open, Vec::new()))),
                    conversation: Some(Box::new(conversation.clone())),
                }),
                _ => None,
            }));
        }
        fleet
    }

    #[tokio::test]
    async fn after_a_restart_a_pull_request_goes_on_with_its_own_account() {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let env = |_: &str| Some("0123456789abcdef".to_owned());
        let policy = config::read(include_str!("../../config.example.toml"), "t.toml", &env).unwrap().policy;
        let fleet = planned(&policy);
        let accounts: Vec<_> = fleet.accounts().map(|account| (account.rollout, account.usage)).collect();
        assert_eq!(accounts, [(RolloutId(1), Some(USED))]);
        let service = policy.services.keys().next().unwrap();
        for (most, limit) in [(6_000, "pull_request_tokens_max of 6000 is used up: 5001 taken"), (1 << 40, "")] {
            let config = agent::Config {
                flavour: agent::Flavour::OpenAi,
                base_url: "http://127.0.0.1:9/v1".into(),
                model: "m".into(),
                key: None,
                timeout: Duration::from_millis(200),
                attempts_max: 1,
                price: None,
                limits: agent::Limits::default(),
                budgets: agent::Budgets { pull_request_tokens_max: most, ..agent::Budgets::default() },
            };
            // Two days later.
            let clock: agent::Clock = Arc::new(|| Timestamp::from_millis(86_400_000 * 20_002));
            let agent = agent::Agent::new(config, clock).unwrap();
            take_over(&agent, &fleet, &policy);
            let brief = Arc::new(crate::domain::Brief {
                stage: 0,
                stages: 1,
                share: 500,
                next_share: None,
                held_seconds: 1,
                bake_seconds: 1,
                patience_seconds: 1,
                autonomy: crate::domain::Autonomy::Auto,
                risk: crate::domain::Risk::Low,
                verdict: crate::domain::Verdict::Hold,
                legal: Vec::new(),
                checks: Vec::new(),
            });
            let advised = agent.advise(RolloutId(1), service, brief, Duration::from_secs(5)).await;
            let (why, words) = advised.advice.unwrap_err();
            assert_eq!(why == Fallback::OverBudget, !limit.is_empty(), "{words}");
            assert!(words.contains(limit), "{words}");
        }
    }
}
