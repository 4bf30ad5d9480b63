//! `tollgate backtest` as the binary ships: against a real Prometheus that holds the past of a service with good and bad
//! deploys, lists that are wrong, servers that are not there, and a stand-in for GitHub.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "backtest/lists.rs"]
mod lists;
#[path = "backtest/past.rs"]
mod past;
#[path = "backtest/prometheus.rs"]
mod prometheus;
#[path = "backtest/verdicts.rs"]
mod verdicts;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

const GITHUB_TOKEN: &str = "ghp-5d1e8c40b7a9f263";

/// A folder with a configuration; the daemon's journal would be in it.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new(prometheus: &str, github: &str, service: &str) -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        desk.write("tollgate.toml", &config(prometheus, github, service));
        desk
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Its exit code, and what it wrote.
    fn backtest(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .arg("backtest")
            .args(words)
            .current_dir(self.folder.path())
            .env("TOLLGATE_WEBHOOK_SECRET", "whsec-5c1f0a7be2d94c60")
            .env("A_GITHUB_TOKEN", GITHUB_TOKEN)
            .env_remove("TOLLGATE_CONFIG")
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let told = (status.code(), text(stdout), text(stderr));
        assert!(!told.1.contains(GITHUB_TOKEN) && !told.2.contains(GITHUB_TOKEN), "{told:?}");
        told
    }

    /// All that is in the folder.
    fn files(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn config(prometheus: &str, github: &str, service: &str) -> String {
    format!(
        r#"
[github]
api = "{github}"
token = {{ env = "A_GITHUB_TOKEN" }}

[sources.metrics]
kind = "prometheus"
url = "{prometheus}"
timeout = "2s"

[services.shop]
repository = "acme/shop"
autonomy = "observe"
samples_min = 200
patience = "20m"
watch = "4m"
{service}

[[services.shop.stages]]
share = "10%"
bake_time = "5m"
[[services.shop.stages]]
share = "50%"
bake_time = "5m"
[[services.shop.stages]]
share = "100%"
bake_time = "1m"

[services.shop.telemetry]
source = "metrics"
control.labels = {{ app = "shop", version = "{{revision}}" }}
canary.labels = {{ app = "shop", version = "{{revision}}" }}

[[services.shop.slis]]
name = "errors"
kind = "ratio"
bad = {{ metric = "hits_total", where = {{ code = {{ starts_with = "5" }} }} }}
total = {{ metric = "hits_total" }}

[[services.shop.slis]]
name = "slow"
kind = "latency"
histogram = {{ metric = "took_seconds" }}
slow_above = "500ms"

[[services.shop.slos]]
sli = "errors"
limit = {{ bad_share_max = "12%" }}

[[services.shop.slos]]
sli = "slow"
"#
    )
}

/// Sources of the backtest in the library.
fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli");
    let mut files = vec![root.join("backtest.rs")];
    files.extend(fs::read_dir(root.join("backtest")).unwrap().map(|entry| entry.unwrap().path()));
    files
}

/// What could record, announce or move anything is not within reach: the world of the past is made of a source and a
/// queue, and nothing that acts is named where it is made.
#[test]
fn nothing_that_records_announces_or_acts_is_named_by_it() {
    let files = sources();
    assert!(files.len() >= 5, "{files:?}");
    let acting =
        ["journal::", "Journal", "traffic::", "Actuator", "Flags", "daemon::start", "Wings", "web::", "broadcast"];
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code: String = text.lines().map(|line| line.split("//").next().unwrap().to_owned() + "\n").collect();
        for word in acting {
            assert!(!code.contains(word), "{} names {word}", file.display());
        }
    }
}
