//! From a configuration to a running daemon with its web side: the one place where all rooms meet. `serve` and `demo`
//! run exactly this.

mod sources;

pub(super) use self::sources::{past_source, source_config, telemetry};

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
    rollout, telemetry, traffic,
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
