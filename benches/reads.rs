//! Checks read from a Prometheus over loopback, on one core: how many a minute, at how many queries, and whether memory
//! stays flat. Run with `cargo bench --bench reads`; `READS_SECONDS` is the time measured of each shape, 60 by default,
//! and `READS_ROUNDS` how many rounds are read before; a quick look at a build that is slow may take 200.
//!
//! The provider and the server that answers it share one thread, so what is counted is less than the provider does alone.
//! The server holds its series in memory and answers range selectors over them over real HTTP. Time is a clock that is set
//! forward: no ask waits for samples to settle. Before anything is measured, each pair of arms is read for as many rounds
//! as are kept of it at most, so that what memory does then is what it does for ever.
//!
//! A read is one check of both arms in one window. Two shapes stand for how checks share metrics, for a metric is read
//! once for all that need it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot be set up has nothing to say")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Form, Router, extract::State, http::header, response::IntoResponse, routing::post, serve::ListenerExt};
use tokio::net::TcpListener;
use tollgate::{
    domain::{CheckId, Match, Selector, ServiceName, Sli, Split, Timestamp},
    telemetry::{
        Ask, AskedCheck, Provider,
        counting::ROUNDS_MAX,
        prometheus::{self, Prometheus},
    },
};

const TARGET_PER_MINUTE: f64 = 200_000.0;
const SERVICES: usize = 8;
const PODS: usize = 3;
const CHECKS: u16 = 20;
/// The defaults of the configuration.
const INTERVAL: u64 = 15_000;
const STAGE: u64 = 300_000;
const EPOCH: u64 = 1_700_000_040_000;
/// Rounds of one ask while the pairs are filled.
const FILLING: u64 = 100;
/// How much memory may grow while it is measured: what an allocator does not give back at once.
const GROWTH_MAX: f64 = 0.05;
const ROUTES: [&str; 4] = ["/browse", "/cart", "/checkout", "/search"];
const EDGES: [&str; 9] = ["0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "+Inf"];
const CANARY: &str = "abcdef0";

/// How checks share metrics.
#[derive(Clone, Copy)]
enum Shape {
    /// Objectives and their routes: all of them on one counter and one histogram.
    Shared,
    /// Each check has two counters of its own.
    Own,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::Shared => "20 checks on one counter and one histogram",
            Self::Own => "20 checks with two counters each",
        }
    }

    fn checks(self) -> Vec<AskedCheck> {
        let sli = |number: u16| match self {
            Self::Own => Sli::Ratio {
                bad: Selector::metric(format!("failed_{number}_total")),
                total: Selector::metric(format!("done_{number}_total")),
            },
            Self::Shared => {
                let route = Match::Is(ROUTES[usize::from(number) % ROUTES.len()].into());
                if number.is_multiple_of(2) {
                    let total = Selector::metric("http_requests_total").with("route", route);
                    let code = ["5", "50", "500", "503", "4"][usize::from(number) / 4];
                    Sli::Ratio { bad: total.clone().with("code", Match::StartsWith(code.into())), total }
                } else {
                    let slow_above_seconds = [0.05, 0.1, 0.25, 0.5, 1.0][usize::from(number) / 4];
                    let histogram = Selector::metric("http_request_duration_seconds").with("route", route);
                    Sli::Latency { histogram, slow_above_seconds }
                }
            }
        };
        let asked = |number| AskedCheck { check: CheckId(number), sli: sli(number), split: Split::default() };
        (0..CHECKS).map(asked).collect()
    }

    /// The metrics that a service has, and the labels of each one's series beyond those of the target.
    fn metrics(self) -> BTreeMap<String, Vec<String>> {
        match self {
            Self::Own => (0..CHECKS)
                .flat_map(|number| {
                    ["failed", "done"].map(|what| (format!("{what}_{number}_total"), vec![String::new()]))
                })
                .collect(),
            Self::Shared => {
                let of = |label: &str, values: &[&str]| -> Vec<String> {
                    let each = |route: &str| -> Vec<String> {
                        values.iter().map(|value| format!(",\"route\":\"{route}\",\"{label}\":\"{value}\"")).collect()
                    };
                    ROUTES.iter().flat_map(|route| each(route)).collect()
                };
                BTreeMap::from([
                    ("http_requests_total".into(), of("code", &["200", "404", "500", "503"])),
                    ("http_request_duration_seconds_bucket".into(), of("le", &EDGES)),
                ])
            }
        }
    }
}

/// The series that the server has, as they are written in an answer: by service and metric.
type Series = BTreeMap<(String, String), Vec<String>>;

fn series(shape: Shape) -> Series {
    let mut series = Series::new();
    for service in (0..SERVICES).map(|number| format!("service-{number}")) {
        let mut metrics = shape.metrics();
        metrics.insert("process_start_time_seconds".into(), vec![String::new()]);
        for (metric, labels) in metrics {
            let rows = series.entry((service.clone(), metric.clone())).or_default();
            for (version, pod) in
                ["stable", CANARY].into_iter().flat_map(|version| (0..PODS).map(move |pod| (version, pod)))
            {
                rows.extend(labels.iter().map(|more| {
                    format!(
                        "{{\"__name__\":\"{metric}\",\"app\":\"{service}\",\"version\":\"{version}\",\"job\":\"shop\",\
                         \"instance\":\"10.0.0.{pod}:80\"{more}}}"
                    )
                }));
            }
        }
    }
    series
}

/// What stands between two marks.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    text.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).expect("the query has it").0
}

/// Answers a range selector: a sample of each series at each multiple of the interval.
async fn query(State(series): State<Arc<Series>>, Form(form): Form<BTreeMap<String, String>>) -> impl IntoResponse {
    let (query, time) = (&form["query"], (form["time"].parse::<f64>().unwrap() * 1_000.0).round() as u64);
    let range: u64 = between(query, "[", "ms]").parse().unwrap();
    let key = (between(query, "app=\"", "\"").to_owned(), between(query, "__name__=\"", "\"").to_owned());
    let is_start = key.1 == "process_start_time_seconds";
    let mut body = String::from("{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[");
    for (number, labels) in series.get(&key).into_iter().flatten().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        write!(body, "{comma}{{\"metric\":{labels},\"values\":[").unwrap();
        let first = (time - range).div_ceil(INTERVAL);
        for step in first..=time / INTERVAL {
            let comma = if step == first { "" } else { "," };
            let at = step * INTERVAL / 1_000;
            // Cumulative counts have to rise from bucket to bucket, and bad ones to be fewer than all.
            let value = if is_start { EPOCH / 1_000 - 86_400 } else { (step + 1_000_000 - EPOCH / INTERVAL) * 36 };
            write!(body, "{comma}[{at},\"{value}\"]").unwrap();
        }
        body.push_str("]}");
    }
    body.push_str("]}}");
    ([(header::CONTENT_TYPE, "application/json")], body)
}

/// Resident memory of this process, in bytes.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.map_or(f64::NAN, |kib: f64| kib * 1_024.0)
}

/// One provider that reads all services, at a time that is set.
struct Bench {
    provider: Prometheus,
    time: Arc<AtomicU64>,
    checks: Vec<AskedCheck>,
}

impl Bench {
    async fn start(shape: Shape) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let listener = listener.tap_io(|connection| connection.set_nodelay(true).unwrap());
        let router = Router::new().route("/api/v1/query", post(query)).with_state(Arc::new(series(shape)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let service = |number: usize| {
            let name = format!("service-{number}");
            let labels =
                |version: &str| BTreeMap::from([("app".into(), name.clone()), ("version".into(), version.into())]);
            let (control, canary) = (labels("stable"), labels("{revision}"));
            (ServiceName::new(&name), prometheus::Service { control, canary, ..prometheus::Service::default() })
        };
        let config = prometheus::Config {
            url,
            follows_server_clock: false,
            services: (0..SERVICES).map(service).collect(),
            ..prometheus::Config::default()
        };
        let time = Arc::new(AtomicU64::new(EPOCH));
        let now = Arc::clone(&time);
        let provider = prometheus::start(config, Arc::new(move || Timestamp::from_millis(now.load(Ordering::SeqCst))));
        Self { provider: provider.unwrap(), time, checks: shape.checks() }
    }

    /// Reads all checks of all services over the next rounds; how many reads that was.
    async fn read(&self, rounds: u64) -> u64 {
        let after = self.time.load(Ordering::SeqCst) / INTERVAL * INTERVAL;
        let through = after + rounds * INTERVAL;
        self.time.store(through + 6_000, Ordering::SeqCst);
        let asks = (0..SERVICES).map(|number| {
            self.provider.measure(Ask {
                service: ServiceName::new(format!("service-{number}")),
                control: None,
                canary: CANARY.parse().unwrap(),
                checks: self.checks.clone(),
                after: Timestamp::from_millis(after),
                through: Timestamp::from_millis(through),
                no_later_than: Timestamp::from_millis(through + 60_000),
            })
        });
        let answers = futures_util::future::join_all(asks).await;
        for answer in &answers {
            let whole =
                answer.through.as_millis() == through && answer.measurements.iter().all(|one| one.tally.is_ok());
            assert!(whole, "every check of both arms is told: {answer:?}");
        }
        answers.iter().map(|answer| answer.measurements.len() as u64 / 2).sum()
    }
}

async fn run(shape: Shape, span: Duration, rounds_before: u64) {
    println!("{}, {SERVICES} services, {PODS} pods an arm:", shape.name());
    let bench = Bench::start(shape).await;
    for _ in 0..rounds_before.div_ceil(FILLING) {
        bench.read(FILLING).await;
    }
    // The first asks of one round make buffers of their size.
    for _ in 0..3 {
        bench.read(1).await;
    }
    let (before, began, filled) = (bench.provider.usage(), Instant::now(), resident());
    let (mut reads, mut asks, mut most) = (0, 0, filled);
    while began.elapsed() < span {
        reads += bench.read(1).await;
        asks += SERVICES as u64;
        most = most.max(resident());
    }
    let used = bench.provider.usage();
    let queries = (used.queries - before.queries) as f64;
    let per_minute = reads as f64 / began.elapsed().as_secs_f64() * 60.0;
    let met = if per_minute >= TARGET_PER_MINUTE { "met" } else { "missed" };
    println!("  {per_minute:.0} reads a minute; the target of {TARGET_PER_MINUTE:.0} is {met}");
    let in_stage = queries / asks as f64 * (STAGE / INTERVAL) as f64;
    println!(
        "  {:.2} queries a check and window; {in_stage:.0} in a stage of {} s, with a window every {} s; {:.0} samples a check",
        queries / reads as f64,
        STAGE / 1_000,
        INTERVAL / 1_000,
        (used.samples - before.samples) as f64 / reads as f64
    );
    let growth = most / filled - 1.0;
    let flat = if growth <= GROWTH_MAX { "flat" } else { "NOT flat" };
    let mib = filled / 1_048_576.0;
    println!("  memory: {mib:.1} MiB after {rounds_before} rounds, and {:.1} % more at most: {flat}", growth * 100.0);
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let given = |name: &str| std::env::var(name).ok().map(|number| number.parse::<f64>().expect("a number"));
    let span = Duration::from_secs_f64(given("READS_SECONDS").unwrap_or(60.0));
    let rounds_before = given("READS_ROUNDS").map_or(ROUNDS_MAX as u64 + FILLING, |rounds| rounds as u64);
    for shape in [Shape::Shared, Shape::Own] {
        run(shape, span, rounds_before).await;
    }
}
