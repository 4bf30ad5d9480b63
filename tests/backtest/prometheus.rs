//! The real Prometheus with a past of its own, where it is installed.

use std::{
    env, fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

/// A running server; it ends with the test.
pub(crate) struct Prometheus {
    pub(crate) url: String,
    child: Child,
    _folder: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether it is installed; says that the test is skipped where it is not.
pub(crate) fn is_installed() -> bool {
    let runs = |name: &str| {
        Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    let installed = runs("prometheus") && runs("promtool");
    let required = env::var("TOLLGATE_REQUIRE_REAL").is_ok_and(|value| value == "1");
    assert!(installed || !required, "prometheus is not installed");
    if !installed {
        println!("SKIPPED: backtests on a real Prometheus: it is not installed");
    }
    installed
}

/// Starts a server that holds this past.
pub(crate) fn start(open_metrics: &str) -> Prometheus {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("past.txt"), open_metrics).unwrap();
    fs::write(path("prometheus.yml"), "global:\n  scrape_interval: 15s\n").unwrap();
    let filled = Command::new("promtool")
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([path("past.txt"), path("data")])
        .output()
        .unwrap();
    assert!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", path("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", path("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--storage.tsdb.retention.time=15d"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let prometheus = Prometheus { url: format!("http://127.0.0.1:{port}"), child, _folder: folder };
    let is_up = || {
        let asked =
            Command::new("curl").args(["-sf", "-o", "/dev/null", &format!("{}/-/ready", prometheus.url)]).status();
        asked.is_ok_and(|status| status.success())
    };
    for _ in 0..300 {
        if is_up() {
            return prometheus;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("prometheus did not come up");
}
