//! Debian's Prometheus and HAProxy as processes of the test, each in a folder of its own and on ports of its own.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::house::{CANARY, STABLE, free_address, signal};

/// How long a server may take to start, and Prometheus to find its targets, which takes it some five seconds.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// Where HAProxy is: Debian puts it where only the superuser's `PATH` leads.
const HAPROXY: [&str; 2] = ["haproxy", "/usr/sbin/haproxy"];
const PROMETHEUS: [&str; 1] = ["prometheus"];

/// Whether what these tests need is installed. With `TOLLGATE_REQUIRE_REAL=1` (or `CI=true`) it must be.
pub(crate) fn are_installed() -> bool {
    let is = |name, value| std::env::var(name).is_ok_and(|set| set == value);
    let mut are = true;
    for (name, program) in [("haproxy", program(&HAPROXY)), ("prometheus", program(&PROMETHEUS))] {
        if program.is_none() {
            let required = is("TOLLGATE_REQUIRE_REAL", "1") || is("CI", "true");
            assert!(!required, "{name} is required and not installed");
            println!("SKIPPED: {name} is not installed (Debian package {name})");
            are = false;
        }
    }
    are
}

/// The first of these that starts.
fn program(names: &[&'static str]) -> Option<&'static str> {
    let starts = |name: &&&str| {
        let version = if name.contains("haproxy") { "-v" } else { "--version" };
        let mut command = Command::new(name);
        command.arg(version).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    names.iter().find(starts).copied()
}

/// A process that does not outlive the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(mut command: Command, log: PathBuf) -> Process {
    let log = File::options().create(true).append(true).open(log).unwrap();
    let streams = (log.try_clone().unwrap(), log);
    Process(command.stdin(Stdio::null()).stdout(streams.0).stderr(streams.1).spawn().unwrap())
}

/// A client for servers on this machine.
pub(crate) fn client() -> reqwest::Client {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap()
}

/// HAProxy before both arms: it sends a visit on by the version that the visitor was told of, and counts.
pub(crate) struct HaProxy {
    /// Where visitors go.
    pub(crate) front: SocketAddr,
    /// Where its own counters are.
    pub(crate) counters: SocketAddr,
    process: Process,
    folder: TempDir,
}

impl HaProxy {
    /// Starts it before these arms.
    pub(crate) fn start(stable: SocketAddr, canary: SocketAddr) -> Self {
        let folder = tempfile::Builder::new().prefix("tollgate-haproxy-").tempdir().unwrap();
        let (front, counters) = (free_address(), free_address());
        // A connection that is refused is tried again, a second apart: nobody notices an arm that is started again.
        let config = format!(
            r"
global
    nbthread 1
    maxconn 1000
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    retries 20
    option http-server-close
frontend shop
    bind {front}
    use_backend canary if {{ path_beg /versions/{CANARY}/ }}
    default_backend stable
frontend counters
    bind {counters}
    http-request use-service prometheus-exporter if {{ path /metrics }}
    http-request deny
backend stable
    server stable {stable}
backend canary
    server canary {canary}
"
        );
        let path = folder.path().join("haproxy.cfg");
        fs::write(&path, config).unwrap();
        let mut command = Command::new(program(&HAPROXY).unwrap());
        command.arg("-db").arg("-f").arg(path);
        let process = spawn(command, folder.path().join("log"));
        Self { front, counters, process, folder }
    }

    /// Sees that it could start and has not ended.
    pub(crate) fn still_runs(&mut self) {
        let ended = self.process.0.try_wait().unwrap();
        let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        assert!(ended.is_none(), "HAProxy ended with {ended:?}: {}", log());
    }

    /// How many visits it sent to each version, by their answers' class, such as `5xx`.
    pub(crate) async fn counted(&self, version: &str) -> BTreeMap<String, u64> {
        let backend = if version == CANARY { "canary" } else { "stable" };
        let page =
            client().get(format!("http://{}/metrics", self.counters)).send().await.unwrap().text().await.unwrap();
        let series = format!("haproxy_backend_http_responses_total{{proxy=\"{backend}\",code=\"");
        let counts = page.lines().filter_map(|line| line.strip_prefix(series.as_str())?.split_once("\"} "));
        counts.map(|(code, count)| (code.to_owned(), count.parse().unwrap())).collect()
    }
}

/// What Prometheus is told to scrape.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    pub(crate) stable: SocketAddr,
    pub(crate) canary: SocketAddr,
    pub(crate) haproxy: SocketAddr,
    /// The version that the canary's series bear.
    pub(crate) canary_version: &'static str,
    /// The pod that the canary's series bear.
    pub(crate) canary_pod: &'static str,
    /// Whether the shop is scraped at all.
    pub(crate) are_scraped: bool,
}

impl Targets {
    /// The configuration, with one scrape a second. HAProxy's counters bear the version that they count.
    fn config(&self) -> String {
        let Self { stable, canary, haproxy, canary_version, canary_pod, are_scraped } = self;
        let arm = |revision: &str, address: &SocketAddr, version: &str, pod: &str| {
            format!(
                "- job_name: {pod}\n  metrics_path: /versions/{revision}/metrics\n  static_configs:\n  - targets: \
                 [\"{address}\"]\n    labels: {{ app: shop, version: \"{version}\", pod: \"{pod}\" }}\n"
            )
        };
        let arms = format!(
            "{}{}- job_name: edge\n  static_configs:\n  - targets: [\"{haproxy}\"]\n    labels: {{ app: shop, pod: edge \
             }}\n  metric_relabel_configs:\n  - {{ source_labels: [__name__], regex: \
             haproxy_backend_http_responses_total, action: keep }}\n  - {{ source_labels: [proxy], regex: stable, \
             target_label: version, replacement: \"{STABLE}\" }}\n  - {{ source_labels: [proxy], regex: canary, \
             target_label: version, replacement: \"{CANARY}\" }}\n",
            arm(STABLE, stable, STABLE, "stable-0"),
            arm(CANARY, canary, canary_version, canary_pod),
        );
        let arms = if *are_scraped { arms } else { String::new() };
        format!("global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n{arms}")
    }
}

/// Prometheus with a folder for its data.
pub(crate) struct Prometheus {
    /// Where it listens, whether it runs or not.
    pub(crate) address: SocketAddr,
    folder: TempDir,
    process: Option<Process>,
}

impl Prometheus {
    /// Starts it on these targets and waits until it has scraped them all.
    pub(crate) async fn start(targets: &Targets) -> Self {
        let folder = tempfile::Builder::new().prefix("tollgate-prometheus-").tempdir().unwrap();
        let mut prometheus = Self { address: free_address(), folder, process: None };
        prometheus.write(targets);
        prometheus.go_on().await;
        let up = "count(up == 1)";
        prometheus.until("both arms and HAProxy are scraped", async |of| of.value(up).await == Some(3.0)).await;
        prometheus
    }

    fn write(&self, targets: &Targets) {
        fs::write(self.folder.path().join("prometheus.yml"), targets.config()).unwrap();
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Starts the process on the data that is there.
    pub(crate) async fn go_on(&mut self) {
        let mut command = Command::new(PROMETHEUS[0]);
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        command
            .arg(format!("--config.file={}", at("prometheus.yml")))
            .arg(format!("--storage.tsdb.path={}", at("data")))
            .arg(format!("--web.listen-address={}", self.address))
            .args(["--storage.tsdb.retention.time=2h", "--web.enable-lifecycle", "--log.level=warn"])
            .env("GOMAXPROCS", "1");
        self.process = Some(spawn(command, self.folder.path().join("log")));
        let ready = self.url("/-/ready");
        self.until("it is ready", async |_| {
            client().get(&ready).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        signal("TERM", &process.0);
        tokio::task::spawn_blocking(move || process.0.wait().unwrap()).await.unwrap();
    }

    /// Removes all that it has stored; it must not run.
    pub(crate) fn wipe(&self) {
        assert!(self.process.is_none(), "it is to be stopped first");
        fs::remove_dir_all(self.folder.path().join("data")).unwrap();
    }

    /// Has a running server scrape these from now on.
    pub(crate) async fn reload(&self, targets: &Targets) {
        self.write(targets);
        let answer = client().post(self.url("/-/reload")).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// The value of a query that has one.
    pub(crate) async fn value(&self, query: &str) -> Option<f64> {
        let mut url = reqwest::Url::parse(&self.url("/api/v1/query")).unwrap();
        url.query_pairs_mut().append_pair("query", query);
        let answer: Value = client().get(url).send().await.ok()?.json().await.ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + UP_WITHIN;
        while !is_so(self).await {
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                panic!("Prometheus: not in time: {what}; its log:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
