//! A service's last hour, at once: four pods of the old version show what `metrics.prom` says they do, and the scraper that
//! ships reads, indexes and counts it over loopback. The pages come as fast as they are read, each standing for half a
//! minute more, and the noise is drawn from fixed seeds; so what a check is tried on is the same at every run and needs
//! nothing that lives elsewhere.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{net::TcpListener, sync::watch};
use tollgate::{
    domain::{Absence, ServiceName, Timestamp},
    telemetry::{
        Answer, Ask, Catalogued, Past, PastAsk, Provider,
        counting::READINGS_KEPT_MAX,
        scrape::{self, ArmTargets, History, INTERVAL_MIN, Scrape, ServiceTargets},
    },
};

/// What each page stands for, as the daemon reads them.
const EVERY: Duration = Duration::from_secs(30);
/// Pages of one pod: a little more than an hour, so that the past is not a short one.
const PAGES: usize = 122;
const PODS: usize = 4;
/// How far apart pods are in each thing that they count, and how far that wanders from page to page.
const APART: f64 = 0.015;
const WANDERS: f64 = 0.004;
/// Less than so many on a page are rare, and come several at once.
const RARE: f64 = 2.0;
const CLUSTER: f64 = 3.0;
/// The most that a pod differs from the others in how much it is asked, in thousandths.
const UNEVEN: u64 = 40;

/// A service and its past.
pub(crate) struct World {
    scrape: Scrape,
}

impl World {
    /// Lives through an hour of the service. `page` is a page of rates.
    pub(crate) async fn of(service: &ServiceName, page: &str) -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (past_the_end, mut is_past) = watch::channel(false);
        let pods = (0..PODS).map(|pod| (format!("old-{pod}"), Pod::new(page, pod))).collect();
        let served = Arc::new(Served { pods: Mutex::new(pods), past_the_end });
        let router = Router::new().route("/{pod}/metrics", get(show)).with_state(served);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let arm = |pods: &[String]| ArmTargets {
            urls: pods.iter().map(|pod| format!("http://{at}/{pod}/metrics")).collect(),
            labels: BTreeMap::new(),
        };
        let old: Vec<String> = (0..PODS).map(|pod| format!("old-{pod}")).collect();
        let day = Duration::from_secs(86_400);
        let targets = ServiceTargets {
            control: arm(&old),
            canary: arm(&["new".into()]),
            interval: day,
            timeout: day,
            pod_label: None,
        };
        let reach = INTERVAL_MIN * u32::try_from(READINGS_KEPT_MAX).unwrap();
        let config = scrape::Config {
            services: BTreeMap::from([(service.clone(), targets)]),
            keep: 2 * day,
            history: Some(History { every: INTERVAL_MIN, reach }),
        };
        let scrape = scrape::start(config, Arc::new(|| Timestamp::EPOCH), scrape::client().unwrap());
        is_past.wait_for(|is_past| *is_past).await.unwrap();
        Self { scrape }
    }
}

impl Provider for World {
    fn measure(&self, ask: Ask) -> BoxFuture<'_, Answer> {
        std::future::ready(Answer::absent(&ask, &Absence::NoData)).boxed()
    }

    fn metrics(&self, service: &ServiceName) -> Result<Arc<Catalogued>, Absence> {
        self.scrape.metrics(service)
    }

    fn history(&self, ask: PastAsk) -> BoxFuture<'_, Result<Past, Absence>> {
        async move { self.scrape.history(ask).await.map(|past| Past { every: EVERY, ..past }) }.boxed()
    }
}

struct Served {
    pods: Mutex<BTreeMap<String, Pod>>,
    past_the_end: watch::Sender<bool>,
}

/// A pod's next page. After the last there is none, and no answer either: the past then stands still.
async fn show(State(served): State<Arc<Served>>, Path(pod): Path<String>) -> Response {
    let page = served.pods.lock().unwrap().get_mut(&pod).and_then(Pod::next);
    match page {
        Some(page) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response(),
        None => {
            served.past_the_end.send_replace(true);
            std::future::pending().await
        }
    }
}

/// One line of the page of rates.
enum Row {
    Comment(String),
    Gauge {
        series: String,
        level: f64,
    },
    Counter {
        series: String,
        rate: f64,
        value: f64,
        mood: Mood,
    },
    /// A bucket with what is in it and in none before it.
    Bucket {
        series: String,
        own: f64,
        value: f64,
        is_first: bool,
        mood: Mood,
    },
    /// As much as the last bucket before it has risen, `each` times.
    OfBuckets {
        series: String,
        each: f64,
        value: f64,
    },
}

/// How much more or less of something one pod has than the others: its own, and wandering.
struct Mood {
    own: f64,
    now: f64,
}

impl Mood {
    fn new(chance: &mut Chance) -> Self {
        Self { own: 1.0 + APART * chance.bell(), now: 0.0 }
    }

    fn next(&mut self, chance: &mut Chance) -> f64 {
        self.now = 0.97 * self.now + WANDERS * chance.bell();
        (self.own + self.now).max(0.2)
    }
}

struct Pod {
    rows: Vec<Row>,
    chance: Chance,
    part: f64,
    shown: usize,
}

impl Pod {
    fn new(page: &str, number: usize) -> Self {
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15 ^ (number as u64 + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9));
        let uneven = (chance.next() % (2 * UNEVEN)) as f64 - UNEVEN as f64;
        let rows = rows(page, &mut chance);
        Self { rows, chance, part: (1.0 + uneven / 1_000.0) / PODS as f64, shown: 0 }
    }

    fn next(&mut self) -> Option<String> {
        if self.shown == PAGES {
            return None;
        }
        // The load swings by a tenth within the hour, in straight lines.
        let turn = (self.shown % 80) as f64 / 40.0;
        let wave = 0.9 + 0.2 * (turn - 1.0).abs();
        let seconds = if self.shown == 0 { 0.0 } else { EVERY.as_secs_f64() };
        self.shown += 1;
        let (scale, chance) = (self.part * wave * seconds, &mut self.chance);
        let (mut page, mut in_buckets, mut steps) = (String::new(), 0.0, 0.0);
        for row in &mut self.rows {
            let (series, value) = match row {
                Row::Comment(text) => {
                    page.push_str(text);
                    page.push('\n');
                    continue;
                }
                Row::Gauge { series, level } => (series, (*level * (1.0 + 0.05 * chance.bell())).max(0.0)),
                Row::Counter { series, rate, value, mood } => {
                    let mean = *rate * scale * mood.next(chance);
                    *value += chance.count(mean);
                    (series, *value)
                }
                Row::Bucket { series, own, value, is_first, mood } => {
                    if *is_first {
                        in_buckets = 0.0;
                    }
                    let mean = *own * scale * mood.next(chance);
                    in_buckets += chance.count(mean);
                    steps = in_buckets;
                    *value += in_buckets;
                    (series, *value)
                }
                Row::OfBuckets { series, each, value } => {
                    *value += steps * *each;
                    (series, *value)
                }
            };
            writeln!(page, "{series} {value}").unwrap();
        }
        Some(page)
    }
}

fn rows(page: &str, chance: &mut Chance) -> Vec<Row> {
    let (mut kind, mut before, mut rate_of_all) = (String::new(), 0.0, 0.0);
    let mut rows = Vec::new();
    for line in page.lines() {
        if line.starts_with('#') {
            if line.starts_with("# TYPE") {
                kind = line.rsplit(' ').next().unwrap().to_owned();
            }
            rows.push(Row::Comment(line.to_owned()));
            continue;
        }
        let (series, rate) = line.rsplit_once(' ').unwrap();
        let (series, rate) = (series.to_owned(), rate.parse::<f64>().unwrap());
        let name = series.split('{').next().unwrap();
        rows.push(match kind.as_str() {
            "gauge" => Row::Gauge { series, level: rate },
            "histogram" if name.ends_with("_bucket") => {
                let (own, is_first) = (rate - before, before == 0.0);
                let is_last = series.contains("le=\"+Inf\"");
                rate_of_all = rate;
                before = if is_last { 0.0 } else { rate };
                Row::Bucket { series, own, value: 0.0, is_first, mood: Mood::new(chance) }
            }
            "histogram" => {
                let each = if name.ends_with("_count") { 1.0 } else { rate / rate_of_all };
                Row::OfBuckets { series, each, value: 0.0 }
            }
            "counter" => Row::Counter { series, rate, value: 0.0, mood: Mood::new(chance) },
            other => panic!("{line}: no kind {other:?}"),
        });
    }
    rows
}

/// Numbers that look drawn and are the same everywhere: integers, additions and one square root.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Nearly normal: the sum of twelve.
    fn bell(&mut self) -> f64 {
        (0..12).map(|_| self.part()).sum::<f64>() - 6.0
    }

    /// How often something happened that happens so often on average.
    fn count(&mut self, mean: f64) -> f64 {
        if mean <= 0.0 {
            return 0.0;
        }
        if mean > 12.0 {
            return (mean + mean.sqrt() * self.bell()).round().max(0.0);
        }
        // What is rare comes in clusters: one cause, several requests.
        let cluster = if mean < RARE { CLUSTER } else { 1.0 };
        let tries = (mean * 8.0).ceil().max(8.0);
        let each = mean / tries / cluster;
        (0..tries as usize).filter(|_| self.part() < each).count() as f64 * cluster
    }
}
