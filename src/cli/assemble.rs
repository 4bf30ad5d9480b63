//! From a configuration to a running daemon with its web side: the one place where all rooms meet. `serve` and `demo`
//! run exactly this.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use secrecy::SecretString;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{
    config::{self, Config},
    daemon::{self, Clock, Handle, Metrics, Wings},
    forge::GitHub,
    journal::Journal,
    telemetry, traffic, web,
};

/// A daemon and its web side, up.
pub(super) struct Assembled {
    /// Where it listens.
    pub(super) address: SocketAddr,
    pub(super) handle: Handle,
    pub(super) ready: watch::Receiver<bool>,
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
    let journal = config.journal.clone();
    let opened = tokio::task::spawn_blocking(move || Journal::open(journal_options(journal))).await?;
    let (journal, fleet, recovery) = opened?;
    tracing::info!(%recovery, "journal open");
    let clock = Clock::starting_at(fleet.now());
    let now = {
        let clock = clock.clone();
        Arc::new(move || clock.now())
    };
    let flags = traffic::Flags::new(flags_config(&config));
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
    let scrape = telemetry::scrape::start(scrape_config(&config), now, client);
    let forge = GitHub::new(&github_config(&config))?;
    let metrics = Arc::new(Metrics::new());
    let wings = Wings { forge: Arc::new(forge), telemetry: Arc::new(scrape), actuator: Arc::new(flags.clone()) };
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
    let webhooks = web::webhooks::routes(daemon.handle.clone(), config.github.webhook_secret.clone(), config.github.body_bytes_max);
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
    Ok(Assembled { address, handle: daemon.handle.clone(), ready, daemon, web, stop_web })
}

async fn wait_for(mut flag: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = flag.wait_for(|is_set| *is_set).await;
}

impl Assembled {
    /// Waits until the daemon has ended by itself, which means that it failed.
    pub(super) async fn failed(&mut self) {
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
