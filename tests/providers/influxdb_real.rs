//! A real InfluxDB 1.x, asked in InfluxQL: hostile names and values stay what they are, and sums are what was written.

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tollgate::{
    domain::{Counts, Match, Selector, Sli, Tally},
    telemetry::{
        self, Clock, Provider,
        buckets::Setting,
        influxdb::{self, Counters, Language, Layout},
    },
};

use crate::contract::{BEGIN, NEW, OLD, STEP, Setup, arms};

/// The server, ended with the test.
struct Influxd(Child);

impl Drop for Influxd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn real(url: &str, setting: Setting, clock: Clock) -> Arc<dyn Provider> {
    let language = Language::InfluxQl { database: "shop".into(), retention: None, user: None };
    let layout = Layout::Measurement { counter: "va\"l ue".into(), gauge: "gauge".into() };
    let config = influxdb::Config { url: url.into(), language, layout, counters: Counters::Cumulative, setting };
    telemetry::build(telemetry::Config::InfluxDb(config), clock).unwrap()
}

#[tokio::test]
async fn a_real_server_tells_what_was_written_whatever_it_is_named() {
    if Command::new("influxd").arg("version").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("TOLLGATE_REQUIRE_REAL").is_none(), "influxd is not installed");
        println!("SKIPPED: influxd is not installed (Debian package influxdb)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (http, rpc) = (free_port(), free_port());
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (meta, data, wal) = (at("meta"), at("data"), at("wal"));
    let config = format!(
        "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n[meta]\ndir = \"{meta}\"\n[data]\ndir = \"{data}\"\n\
         wal-dir = \"{wal}\"\n[http]\nbind-address = \"127.0.0.1:{http}\"\n[monitor]\nstore-enabled = false\n"
    );
    std::fs::write(at("conf"), config).unwrap();
    let mut command = Command::new("influxd");
    command.args(["-config", &at("conf")]).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Influxd(command.spawn().unwrap());
    let url = format!("http://127.0.0.1:{http}");
    let client = reqwest::Client::new();
    let post = async |path: &str, body: String| {
        let sent = client.post(format!("{url}{path}")).header("content-type", "application/x-www-form-urlencoded");
        sent.body(body).send().await.map(|answer| answer.status().as_u16())
    };
    for _ in 0..100 {
        if post("/query", "q=CREATE+DATABASE+shop".into()).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // A measurement, a field, a tag and values that would all be syntax if they could.
    let mut lines = String::new();
    for (revision, all) in [(OLD, 100), (NEW, 50)] {
        for (code, share) in [("200", 9), ("5'0\\0\\,\\ or\\ 1\\=1", 1)] {
            for (second, n) in [(-10, 0), (10, 4), (70, 7), (130, 1), (200, 9)] {
                let (time, value) = (i64::try_from(BEGIN).unwrap() + second * 1_000, (all + n) * share);
                lines += &format!("re\"q'\\ uests,version={revision},code={code} va\"l\\ ue={value} {time}\n");
            }
        }
    }
    assert_eq!(post("/write?db=shop&precision=ms", lines).await.unwrap(), 204);
    let total = Selector::metric("re\"q' uests");
    let bad = total.clone().with("code", Match::Is("5'0\\0, or 1=1".into()));
    let setup = Setup::at(&url, real).await;
    let answer = setup.answer(&Sli::Ratio { bad, total }, BEGIN, BEGIN + 4 * STEP, Duration::from_secs(10)).await;
    // 0 to 4 to 7, then a fall to what it shows: control to 101, the canary to 51.
    let counts = |bad: u64| Ok(Tally::Counts(Counts { bad, total: bad * 10 }));
    assert_eq!(arms(&answer), [counts(7 + 101), counts(7 + 51)]);
}
