//! What stands around the real binary under test: a shop with visitors, a stand-in for GitHub, a folder with a
//! configuration and a journal. All of it lives in the test's process, so it goes on while the daemon dies.
//!
//! The daemon is `tollgate serve` as it ships, started as its own process and ended by signals. Nothing here looks into
//! it: what is known of it came over HTTP, through its exit code, or out of its journal.

use std::{
    fs::{self, File, OpenOptions},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use reqwest::StatusCode;
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tollgate::{
    cli::demo::{
        shop::{Behaviour, Shop},
        visitors::{Options, Visitors},
    },
    daemon::Clock,
    forge::stand_in::{self, Pull, StandIn},
    rollout::FleetView,
};

/// What the webhooks are signed with, what callers of the API show, and what the daemon shows GitHub. None of them may
/// be seen anywhere.
pub(crate) const SECRETS: [&str; 3] = [WEBHOOK_SECRET, API_TOKEN, GITHUB_TOKEN];
/// What the webhooks are signed with.
pub(crate) const WEBHOOK_SECRET: &str = "whsec-5c1f0a7be2d94c60";
/// What callers of the API show.
pub(crate) const API_TOKEN: &str = "token-92b7d1f04e6a4c38";
const GITHUB_TOKEN: &str = "ghp-0b6e3d7a18f54f29";

/// What everyone has at first.
pub(crate) const STABLE: &str = "5ab1e0000000000000000000000000000000a001";
/// What is rolled out.
pub(crate) const CANARY: &str = "900dc0de0000000000000000000000000000b002";

/// Most bytes of a webhook's body.
pub(crate) const BODY_BYTES_MAX: usize = 65_536;

/// How long the daemon may take to start, on a machine that is busy with other things.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long one request to the daemon may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Ports to listen at. They lie below those that systems give to outgoing connections, which could otherwise take the
/// daemon's while it is down.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

const DIFF: &str = "diff --git a/src/routes/checkout.rs b/src/routes/checkout.rs
index 8c77e10..41fd2b9 100644
--- a/src/routes/checkout.rs
+++ b/src/routes/checkout.rs
@@ -20,5 +20,5 @@ pub fn routes() -> Router<State> {
     Router::new().route(\"/checkout\", post(pay))
 }
 
 async fn pay(State(shop): State<Shop>, order: Order) -> Result<Receipt, Error> {
-    shop.payments.charge(order.total()).await
+    shop.payments.charge_once(order.total()).await
";

/// How a house is furnished.
pub(crate) struct Furnishing {
    /// How the new version behaves.
    pub(crate) behaviour: Behaviour,
    /// Share and bake time of each stage.
    pub(crate) ladder: &'static [(&'static str, &'static str)],
    /// How long the last stage is watched besides.
    pub(crate) watch: &'static str,
    /// Where the new version is scraped, if not at its own counters.
    pub(crate) canary_page: Option<String>,
    /// Visits a second.
    pub(crate) visits_per_second: u32,
}

impl Default for Furnishing {
    fn default() -> Self {
        Self {
            behaviour: Behaviour::healthy(),
            ladder: &[("10%", "1500ms"), ("30%", "1500ms"), ("60%", "1500ms"), ("100%", "1s")],
            watch: "1s",
            canary_page: None,
            visits_per_second: 300,
        }
    }
}

/// What one user is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// Whether it is the new version.
    pub(crate) is_canary: bool,
    /// The share that stands, in basis points; `None` where nothing stands since the daemon started.
    pub(crate) share: Option<u16>,
}

/// Everything but the daemon.
pub(crate) struct House {
    folder: TempDir,
    address: SocketAddr,
    github: StandIn,
    client: reqwest::Client,
    clock: Clock,
    // They go on visiting until this is dropped.
    _visitors: Visitors,
}

impl House {
    /// Builds the house; no daemon runs yet.
    pub(crate) async fn build(furnishing: Furnishing) -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let folder = tempfile::Builder::new().prefix("tollgate-house-").tempdir().unwrap();
        let clock = Clock::default();
        let now = {
            let clock = clock.clone();
            Arc::new(move || clock.now())
        };
        let (shop_url, shop) = (listen().await, Shop::new(11, now.clone()));
        shop.deploy(&STABLE.parse().unwrap(), Behaviour::healthy()).unwrap();
        shop.deploy(&CANARY.parse().unwrap(), furnishing.behaviour.clone()).unwrap();
        tokio::spawn(shop.serve(shop_url.1, std::future::pending()));
        let (github_url, github) = (listen().await, StandIn::with_token(SecretString::from(GITHUB_TOKEN)));
        tokio::spawn(github.clone().serve(github_url.1));
        let (shop_url, github_url) = (shop_url.0, github_url.0);

        let address = free_address();
        let config = config(&furnishing, address, &shop_url, &github_url);
        fs::write(folder.path().join("tollgate.toml"), config).unwrap();
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).build().unwrap();
        let options = Options {
            users: 4_000,
            per_second: furnishing.visits_per_second,
            tollgate: format!("http://{address}"),
            flag: "shop".into(),
            shop: shop_url,
            stable: STABLE.parse().unwrap(),
            seed: 5,
            now,
        };
        let visitors = Visitors::start(options, client.clone());
        Self { folder, address, github, client, clock, _visitors: visitors }
    }

    /// A path in the house's folder, where the journal is `journal` and the log is `log`.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A URL of the daemon.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A pull request of the shop, merged.
    pub(crate) fn pull(&self, number: u64) -> Pull {
        Pull {
            repository: "acme/shop".parse().unwrap(),
            number,
            title: "Charge once".into(),
            author: "jonas".into(),
            merged_by: Some("jonas".into()),
            branch: "main".into(),
            base: STABLE.parse().unwrap(),
            head: CANARY.parse().unwrap(),
            merge_commit_sha: Some(CANARY.parse().unwrap()),
            merged_at: Some(self.clock.now()),
            diff: DIFF.into(),
        }
    }

    /// Delivers the signed word of a merge; the answer's status, or `None` where there was no answer.
    pub(crate) async fn deliver(&self, pull: &Pull, delivery: &str) -> Option<StatusCode> {
        let secret = SecretString::from(WEBHOOK_SECRET);
        let (headers, body) = stand_in::signed_merge_delivery(pull, &secret, delivery).unwrap();
        let request = self.client.post(self.url("/webhooks/github")).headers(headers).body(body);
        Some(request.send().await.ok()?.status())
    }

    /// Merges a pull request, and sees that the word of it is taken.
    pub(crate) async fn merge(&self, number: u64) {
        let pull = self.pull(number);
        self.github.put(pull.clone());
        assert_eq!(self.deliver(&pull, &format!("merge-{number}")).await, Some(StatusCode::ACCEPTED));
    }

    /// Says that a revision runs, and sees that the word of it is taken.
    pub(crate) async fn tell_deployed(&self, revision: &str) {
        let body = json!({ "revision": revision, "by": "pipeline" });
        let url = self.url("/v1/services/shop/deployed");
        let answer = self.client.post(url).bearer_auth(API_TOKEN).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
    }

    /// The rollouts as the API shows them; `None` while there is no answer.
    pub(crate) async fn look(&self) -> Option<FleetView> {
        self.client.get(self.url("/v1/rollouts")).send().await.ok()?.json().await.ok()
    }

    /// Which version a user is told to use; `None` where there is no answer.
    pub(crate) async fn ask(&self, user: u32) -> Option<Told> {
        let body = json!({ "context": { "targetingKey": format!("user-{user}") } });
        let request = self.client.post(self.url("/ofrep/v1/evaluate/flags/shop")).json(&body);
        let answer: Value = request.send().await.ok()?.json().await.ok()?;
        Some(Told {
            is_canary: answer["value"] == CANARY,
            share: answer["metadata"]["share"].as_u64().map(|share| u16::try_from(share).unwrap()),
        })
    }

    /// The binary with these words, ready to be run in the house's folder, with the secrets in its environment.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(words).current_dir(self.folder.path());
        for name in ["TOLLGATE_CONFIG", "TOLLGATE_URL", "RUST_LOG", "USER"] {
            command.env_remove(name);
        }
        let secrets = [
            ("TOLLGATE_WEBHOOK_SECRET", WEBHOOK_SECRET),
            ("HOUSE_API_TOKEN", API_TOKEN),
            ("TOLLGATE_TOKEN", API_TOKEN),
            ("HOUSE_GITHUB_TOKEN", GITHUB_TOKEN),
        ];
        command.envs(secrets).env("TOLLGATE_URL", self.url("")).stdin(Stdio::null());
        command
    }

    /// Runs the binary with these words to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What the daemons have logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap_or_default()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // The folder goes; whoever looks for the cause of a failure needs what the daemon said last.
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(6_000);
            eprintln!("the daemon's log ends:\n{}", String::from_utf8_lossy(&log.as_bytes()[from..]));
        }
    }
}

/// `tollgate serve` as a process. It is killed when this is dropped.
pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts the daemon and returns at once.
    pub(crate) fn spawn(house: &House) -> Self {
        let log = |path: &Path| -> File { OpenOptions::new().create(true).append(true).open(path).unwrap() };
        let mut command = house.command(&["serve", "--config", "tollgate.toml"]);
        let child = command.stdout(log(&house.at("out"))).stderr(log(&house.at("log"))).spawn().unwrap();
        Self { child }
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub(crate) async fn start(house: &House) -> Self {
        let mut daemon = Self::spawn(house);
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let answer = house.client.get(house.url("/readyz")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return daemon;
            }
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended with {ended:?} before it was ready");
            assert!(Instant::now() < deadline, "the daemon is not ready in time");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends it with SIGKILL, which leaves it no moment to put anything in order.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end with SIGTERM, and returns how it did.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        signal("TERM", &self.child);
        self.child.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal by its name.
pub(crate) fn signal(name: &str, child: &Child) {
    let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", child.id())).status().unwrap();
    assert!(sent.success());
}

async fn listen() -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (format!("http://{}", listener.local_addr().unwrap()), listener)
}

/// An address at which nothing listens.
pub(crate) fn free_address() -> SocketAddr {
    loop {
        let port = StdRng::from_os_rng().random_range(PORTS);
        if let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().unwrap();
        }
    }
}

fn config(furnishing: &Furnishing, address: SocketAddr, shop: &str, github: &str) -> String {
    let own_page = format!("{shop}/versions/{{revision}}/metrics");
    let canary_page = furnishing.canary_page.as_ref().unwrap_or(&own_page);
    let watch = furnishing.watch;
    let stage = |(share, bake): &(&str, &str)| {
        format!("[[services.shop.stages]]\nshare = \"{share}\"\nbake_time = \"{bake}\"\n")
    };
    let stages: String = furnishing.ladder.iter().map(stage).collect();
    format!(
        r#"
listen = "{address}"
api_token = {{ env = "HOUSE_API_TOKEN" }}

[journal]
dir = "journal"
snapshot_every = 100

[github]
api = "{github}"
token = {{ env = "HOUSE_GITHUB_TOKEN" }}
timeout = "2s"
body_bytes_max = {BODY_BYTES_MAX}

[log]
format = "json"

[services.shop]
repository = "acme/shop"
deployed = "when_told"
autonomy = "auto"
measure_every = "250ms"
pod_incident = "0s"
samples_min = 10
patience = "2m"
watch = "{watch}"
blackout_after = "2s"
reply_within = "2s"
drained_within = "5s"

{stages}
[services.shop.telemetry]
interval = "100ms"
timeout = "100ms"
control.urls = ["{own_page}"]
canary.urls = ["{canary_page}"]

[[services.shop.slis]]
name = "errors"
kind = "ratio"
bad = {{ metric = "http_requests_total", where = {{ code = {{ starts_with = "5" }} }} }}
total = {{ metric = "http_requests_total" }}
route_label = "route"

[[services.shop.slos]]
sli = "errors"
"#
    )
}
