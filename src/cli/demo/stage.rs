//! The stage of the demonstration: everything that runs, set up and struck.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use secrecy::SecretString;
use tokio::{net::TcpListener, sync::watch};

use super::{
    changes::{STABLE, Story},
    screen::Screen,
    shop::{Behaviour, Now, Shop},
    visitors::{Options, Served, Visitors},
};
use crate::{
    cli::assemble::{self, Assembled},
    config,
    daemon::Clock,
    domain::Revision,
    forge::stand_in::{self, StandIn},
    rollout::RolloutView,
};

/// Users of the shop.
const USERS: u32 = 4_000;
/// Requests a second.
const REQUESTS_PER_SECOND: u32 = 400;
/// Seed of all chance in the demonstration.
const SEED: u64 = 7;
const FLAG: &str = "shop";

/// Everything that runs.
pub(super) struct Stage {
    daemon: Assembled,
    visitors: Visitors,
    shop: Shop,
    github: StandIn,
    client: reqwest::Client,
    now: Now,
    token: String,
    webhook_secret: SecretString,
    struck: watch::Sender<bool>,
    /// Removed with everything in it when the stage is struck.
    _folder: tempfile::TempDir,
}

impl Stage {
    /// Sets it up. The daemon's address comes first: it is what most often cannot be had.
    pub(super) async fn set(listen: SocketAddr, screen: &Screen) -> anyhow::Result<Self> {
        let listener = assemble::bind(listen)
            .await
            .context("a demo may be running already; `--listen 127.0.0.1:0` takes a free port")?;
        let address = listener.local_addr()?;
        let folder = tempfile::Builder::new().prefix("tollgate-demo-").tempdir().context("no temporary folder")?;
        let clock = Clock::default();
        let now: Now = Arc::new(move || clock.now());
        let (struck, is_struck) = watch::channel(false);

        let shop_listener = TcpListener::bind((listen.ip(), 0)).await?;
        let shop_url = format!("http://{}", shop_listener.local_addr()?);
        let shop = Shop::new(SEED, Arc::clone(&now));
        let stable: Revision = STABLE.parse().map_err(anyhow::Error::msg)?;
        shop.deploy(&stable, Behaviour::healthy()).ok().context("the shop takes no version")?;
        tokio::spawn(shop.clone().serve(shop_listener, wait_for(is_struck.clone())));

        let github_listener = TcpListener::bind((listen.ip(), 0)).await?;
        let github_url = format!("http://{}", github_listener.local_addr()?);
        let github = StandIn::new();
        tokio::spawn(github.clone().serve(github_listener));

        let (token, webhook_secret) = (secret()?, secret()?);
        let mut places = tera::Context::new();
        places.insert("listen", &address.to_string());
        places.insert("journal", &folder.path().join("journal").display().to_string());
        places.insert("github", &github_url);
        places.insert("shop", &shop_url);
        let text = tera::Tera::one_off(include_str!("demo.toml"), &places, false)?;
        let environment = |name: &str| match name {
            "TOLLGATE_DEMO_TOKEN" => Some(token.clone()),
            "TOLLGATE_DEMO_WEBHOOK_SECRET" => Some(webhook_secret.clone()),
            _ => None,
        };
        let config = config::read(&text, "demo.toml", &environment)
            .map_err(|problems| anyhow::anyhow!("{}", config::check(&Err(problems), "demo.toml")))?;
        let daemon = assemble::assemble(config, listener).await?;
        screen.follow(&daemon.handle);

        let client = reqwest::Client::builder().no_proxy().build()?;
        let options = Options {
            users: USERS,
            per_second: REQUESTS_PER_SECOND,
            tollgate: format!("http://{address}"),
            flag: FLAG.into(),
            shop: shop_url,
            stable: stable.clone(),
            seed: SEED,
            now: Arc::clone(&now),
        };
        let visitors = Visitors::start(options, client.clone());
        let stage = Self {
            daemon,
            visitors,
            shop,
            github,
            client,
            now,
            token,
            webhook_secret: webhook_secret.into(),
            struck,
            _folder: folder,
        };
        stage.tell_deployed(&stable).await?;
        Ok(stage)
    }

    /// Where the page is.
    pub(super) fn page(&self) -> String {
        format!("http://{}/", self.daemon.address)
    }

    /// Merges a change, deploys it, and waits until its rollout has ended.
    pub(super) async fn roll_out(&self, story: &Story, screen: &Screen) -> anyhow::Result<RolloutView> {
        let revision: Revision = story.revision.parse().map_err(anyhow::Error::msg)?;
        let pull = stand_in::Pull {
            repository: "acme/shop".parse().map_err(anyhow::Error::msg)?,
            number: story.pull_request,
            title: story.title.into(),
            author: story.author.into(),
            merged_by: Some(story.author.into()),
            branch: "main".into(),
            base: story.base.parse().map_err(anyhow::Error::msg)?,
            head: revision.clone(),
            merge_commit_sha: Some(revision.clone()),
            merged_at: Some((self.now)()),
            diff: story.diff.into(),
        };
        self.github.put(pull.clone());
        self.shop.deploy(&revision, (story.behaviour)()).ok().context("the shop takes no version")?;
        self.deliver(&pull).await?;
        self.tell_deployed(&revision).await?;
        let mut views = self.daemon.handle.views();
        loop {
            let view = views.borrow_and_update().clone();
            let rollout = view.rollouts.iter().find(|rollout| rollout.pull_request == story.pull_request);
            if let Some(rollout) = rollout {
                screen.progress(rollout);
                if rollout.outcome.is_some() {
                    return Ok(rollout.clone());
                }
            }
            views.changed().await.context("the daemon has ended")?;
        }
    }

    /// Delivers the signed webhook of a merge, as GitHub does.
    async fn deliver(&self, pull: &stand_in::Pull) -> anyhow::Result<()> {
        let delivery = format!("demo-{}", pull.number);
        let (headers, body) = stand_in::signed_merge_delivery(pull, &self.webhook_secret, &delivery)?;
        let url = format!("{}webhooks/github", self.page());
        let answer = self.client.post(url).headers(headers).body(body).send().await?;
        anyhow::ensure!(answer.status().is_success(), "the webhook was answered {}", answer.status());
        Ok(())
    }

    async fn tell_deployed(&self, revision: &Revision) -> anyhow::Result<()> {
        let url = format!("{}v1/services/shop/deployed", self.page());
        let body = serde_json::json!({ "revision": revision.as_str(), "by": "the demo's pipeline" });
        let answer = self.client.post(url).bearer_auth(&self.token).json(&body).send().await?;
        anyhow::ensure!(answer.status().is_success(), "telling of a deployment was answered {}", answer.status());
        Ok(())
    }

    /// What users saw of a change.
    pub(super) fn served(&self, story: &Story) -> Served {
        let record = self.visitors.record();
        let served = record.versions.iter().find(|(revision, _)| revision.as_str() == story.revision);
        served.map(|(_, served)| *served).unwrap_or_default()
    }

    /// Waits until the daemon has ended by itself.
    pub(super) async fn failed(&self) {
        self.daemon.failed().await;
    }

    /// Takes it all down.
    pub(super) async fn strike(self) -> anyhow::Result<()> {
        self.visitors.stop().await;
        self.struck.send_replace(true);
        tokio::time::timeout(Duration::from_secs(10), self.daemon.stop()).await.context("the daemon did not stop")?
    }
}

async fn wait_for(mut flag: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = flag.wait_for(|is_set| *is_set).await;
}

/// A secret for this run alone.
fn secret() -> anyhow::Result<String> {
    use rand::{TryRngCore, rngs::OsRng};
    let mut bytes = [0_u8; 32];
    OsRng.try_fill_bytes(&mut bytes).context("the system gives no random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
