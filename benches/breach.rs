//! From the scrape that shows a hard breach to the cleared shift, in the live daemon: the real scraper over loopback, the
//! real loop with a durable commit, and the real flags behind an actuator that notes the moment it is called. Run with
//! `cargo bench --bench breach`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot be set up has nothing to say")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, extract::Path, routing::get};
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tollgate::{
    daemon::{self, Clock, Metrics, Wings},
    domain::{Autonomy, Exposure, RequestId, Revision, ServiceName, Shift, Text},
    forge::{
        self, GitHub,
        stand_in::{Pull, StandIn},
    },
    journal::{Journal, Options},
    rails::Cleared,
    rollout::{Deployed, Event, Policy, ServicePolicy},
    sim::{Scenario, scenario},
    telemetry::{self, scrape},
    traffic::{self, Actuator, Flags},
};

const SAMPLES: u64 = 60;
const SCRAPE_EVERY: Duration = Duration::from_millis(50);
/// Scrapes of a canary before the one that shows the breach.
const CALM_SCRAPES: u64 = 5;

/// The flags, and when traffic was last asked to go back.
struct Noted {
    flags: Flags,
    retreated: Mutex<Option<Instant>>,
}

impl Actuator for Noted {
    fn shift<'a>(
        &'a self,
        request: RequestId,
        shift: &'a Cleared<Shift>,
    ) -> BoxFuture<'a, Result<Exposure, traffic::Error>> {
        if shift.get().from.exceeds(&shift.get().to) {
            self.retreated.lock().unwrap().get_or_insert_with(Instant::now);
        }
        self.flags.shift(request, shift)
    }

    fn read<'a>(&'a self, service: &'a ServiceName) -> BoxFuture<'a, Result<Exposure, traffic::Error>> {
        self.flags.read(service)
    }
}

/// Serves metrics that break the hard limit from the sixth scrape of a revision on; `shown` is when one first did.
fn metrics(shown: Arc<Mutex<Option<Instant>>>) -> Router {
    let scrapes: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    Router::new().route(
        "/{revision}/metrics",
        get(move |Path(revision): Path<String>| async move {
            let scrape = *scrapes.lock().unwrap().entry(revision.clone()).and_modify(|n| *n += 1).or_insert(1);
            // The canary's requests end soon after, as they do once its traffic was taken back.
            let scrape = if revision == "stable" { scrape } else { scrape.min(CALM_SCRAPES + 3) };
            let bad = if revision == "stable" { 0 } else { scrape.saturating_sub(CALM_SCRAPES) * 50 };
            if revision != "stable" && scrape == CALM_SCRAPES + 1 {
                *shown.lock().unwrap() = Some(Instant::now());
            }
            let good = scrape * 100 - bad;
            format!("requests_total{{code=\"200\"}} {good}\nrequests_total{{code=\"500\"}} {bad}\n")
        }),
    )
}

fn policy() -> Policy {
    let mut policy = (*Scenario::from_seed(0).policy).clone();
    let template: ServicePolicy = policy.services.values().next().unwrap().clone();
    let service = ServicePolicy {
        repository: "acme/everything".parse().unwrap(),
        paths: vec!["**".into()],
        deployed: Deployed::OnMerge,
        autonomy: Autonomy::Auto,
        stages: scenario::ladder(&[50, 100], Duration::from_secs(60)),
        look_every: SCRAPE_EVERY,
        measure_every: SCRAPE_EVERY * 2,
        drained_within: Duration::from_millis(200),
        ..template
    };
    policy.services = BTreeMap::from([(ServiceName::new("service"), service)]);
    policy
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn pull(number: u64) -> Pull {
    let revision = |offset: u64| -> Revision { format!("{:040x}", number + offset).parse().unwrap() };
    Pull {
        repository: "acme/everything".parse().unwrap(),
        number,
        title: "a change".into(),
        author: "somebody".into(),
        merged_by: None,
        branch: "main".into(),
        base: revision(1_000_000),
        head: revision(2_000_000),
        merge_commit_sha: Some(revision(3_000_000)),
        merged_at: Some(scenario::BEGINNING),
        diff: "diff --git a/a.rs b/a.rs\n--- a/a.rs\n+++ b/a.rs\n@@ -1 +1 @@\n-a\n+b\n".into(),
    }
}

#[tokio::main]
async fn main() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let shown: Arc<Mutex<Option<Instant>>> = Arc::default();
    let service_url = serve(metrics(Arc::clone(&shown))).await;
    let github = StandIn::new();
    let github_url = serve(github.routes()).await;
    let folder = tempfile::tempdir().unwrap();
    let (journal, fleet, _) = Journal::open(Options::at(folder.path().join("journal"))).unwrap();
    let clock = Clock::default();
    let now = clock.clone();
    let name = ServiceName::new("service");
    let arm =
        || scrape::ArmTargets { urls: vec![format!("{service_url}/{{revision}}/metrics")], labels: BTreeMap::new() };
    let targets = scrape::ServiceTargets {
        control: arm(),
        canary: arm(),
        interval: SCRAPE_EVERY,
        timeout: SCRAPE_EVERY,
        pod_label: None,
    };
    let config = scrape::Config {
        services: BTreeMap::from([(name.clone(), targets)]),
        keep: Duration::from_secs(60),
        history: None,
    };
    let telemetry = telemetry::build(telemetry::Config::Scrape(config), Arc::new(move || now.now())).unwrap();
    let flag = traffic::flags::FlagConfig { key: "service".into(), value: traffic::FlagValue::Revision };
    let flags = Flags::new(&traffic::flags::Config { flags: BTreeMap::from([(name, flag)]) }).unwrap();
    let noted = Arc::new(Noted { flags, retreated: Mutex::new(None) });
    let forge =
        GitHub::new(&forge::Config { api: github_url, token: None, timeout: Duration::from_secs(5), attempts_max: 1 });
    let actuator: Arc<dyn Actuator> = Arc::clone(&noted) as Arc<dyn Actuator>;
    let running = daemon::start(daemon::Parts {
        policy: Arc::new(policy()),
        journal,
        fleet,
        clock,
        wings: Wings {
            forge: Arc::new(forge.unwrap()),
            telemetry,
            actuator,
            agent: None,
            planned_by_model: Arc::default(),
        },
        metrics: Arc::new(Metrics::new()),
    })
    .unwrap();

    let next = AtomicU64::new(1);
    let mut took = Vec::new();
    for _ in 0..SAMPLES {
        let number = next.fetch_add(1, Ordering::Relaxed);
        github.put(pull(number));
        (*shown.lock().unwrap(), *noted.retreated.lock().unwrap()) = (None, None);
        let merged = Event::PullRequestMerged {
            delivery: Text::new(format!("d{number}")),
            repository: "acme/everything".parse().unwrap(),
            pull_request: number,
            branch: "main".into(),
            into_default: true,
        };
        running.handle.submit(merged).await.unwrap();
        let mut views = running.handle.views();
        let done = views.wait_for(|view| view.rollouts.iter().any(|r| r.pull_request == number && r.outcome.is_some()));
        tokio::time::timeout(Duration::from_secs(20), done).await.expect("the rollout ends").unwrap();
        let (shown, retreated) = (shown.lock().unwrap().unwrap(), noted.retreated.lock().unwrap().unwrap());
        took.push(retreated.duration_since(shown));
    }
    took.sort();
    let at = |part: f64| took[((took.len() as f64 - 1.0) * part) as usize].as_secs_f64() * 1e3;
    println!("breach shown by a scrape -> cleared shift at the actuator, {SAMPLES} rollouts, {SCRAPE_EVERY:?} scrapes");
    println!("p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms", at(0.5), at(0.9), at(0.99), at(1.0));
    running.stop().await.unwrap();
}
