//! What evidence costs: blocks that one core takes in each second, and the size of a test's state, for whatever test is
//! registered for each kind of SLI. Run with `cargo bench --bench stats`.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up has nothing to say")]

use std::{
    hint::black_box,
    sync::LazyLock,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tollgate::{
    domain::{
        Aim, Check, CheckName, Counts, Direction, Histogram, Origin, Part, PartKind, Reading, Selector, Sli, Tally,
        Text, Weight,
    },
    stats::{self, Block, Calibration, Running, SequentialTest, Setting},
};

/// How long each measurement takes, and how often it is repeated; the best counts, for the machine has other work.
const MEASURED_FOR: f64 = 0.5;
const REPEATED: usize = 4;
/// The unit in which Linux counts a process's time.
const TICK_SECONDS: f64 = 0.01;
/// Blocks that are drawn beforehand and taken in again and again.
const DRAWN: usize = 512;
/// Blocks after which a test starts anew, as rollouts do: two hours of scrapes.
const ROLLOUT: usize = 480;
/// Most bytes of one check's state.
const STATE_BYTES_MAX: usize = 1_024;
/// Pods of each arm where they are told apart.
const PODS: u64 = 5;
const TENANTS: u64 = 3;
const BUCKETS: usize = 20;

/// One thing to measure.
struct Case {
    name: &'static str,
    sli: Sli,
    /// Blocks that one core should take in each second.
    target: Option<f64>,
    draw: fn(u64, &mut StdRng) -> Tally,
    /// Pods and tenants of each arm are told apart.
    has_parts: bool,
}

fn counts(requests: u64, rng: &mut StdRng) -> Tally {
    Tally::Counts(Counts { bad: rng.random_range(0..=requests / 50), total: requests })
}

fn histogram(requests: u64, rng: &mut StdRng) -> Tally {
    let bounds: Vec<f64> = (1..BUCKETS).map(|i| 0.005 * 1.4_f64.powi(i as i32)).collect();
    let counts = (0..BUCKETS).map(|_| rng.random_range(0..=requests / 10)).collect();
    Tally::Histogram(Histogram { bounds, counts })
}

fn samples(_: u64, rng: &mut StdRng) -> Tally {
    Tally::Samples(vec![50.0 + rng.random_range(-5.0..5.0)])
}

fn mix(requests: u64, rng: &mut StdRng) -> Tally {
    Tally::Mix((0..10).map(|i| (format!("route-{i}"), rng.random_range(0..=requests / 5))).collect())
}

fn cases() -> Vec<Case> {
    let metric = Selector::metric;
    let ratio = || Sli::Ratio { bad: metric("bad"), total: metric("all") };
    let latency = || Sli::Latency { histogram: metric("seconds"), slow_above_seconds: 0.3 };
    let case = |name, sli, target, draw, has_parts| Case { name, sli, target, draw, has_parts };
    let events = Sli::EventsPerTraffic { events: metric("misses"), traffic: metric("all") };
    vec![
        case("counts", ratio(), Some(2e6), counts, false),
        case("counts, 5 pods and 3 tenants", ratio(), None, counts, true),
        case("events per traffic", events, Some(2e6), counts, false),
        case("histogram, 20 buckets", latency(), Some(2e5), histogram, false),
        case("histogram, 5 pods and 3 tenants", latency(), Some(2e5), histogram, true),
        case("level", Sli::Level { gauge: metric("queue") }, None, samples, false),
        case("mix, 10 categories", Sli::Mix { counter: metric("all"), by: "route".into() }, None, mix, false),
    ]
}

fn check(sli: Sli) -> Check {
    Check {
        name: CheckName::new("bench"),
        sli,
        direction: Direction::HigherIsWorse,
        ratio_max: 1.25,
        limit: None,
        aim: Aim::Guard,
        weight: Weight::Critical,
        origin: Origin::Slo,
        rationale: Text::default(),
        lines: Vec::new(),
        split: Default::default(),
    }
}

fn reading(case: &Case, requests: u64, arm: &str, rng: &mut StdRng) -> Reading {
    if !case.has_parts {
        return Reading::whole((case.draw)(requests, rng));
    }
    let mut part = |kind, name: &str, number: u64, of: u64| Part {
        kind,
        name: Text::new(format!("{arm}-{name}-{number}")),
        tally: (case.draw)(requests / of, rng),
    };
    let mut parts: Vec<Part> = (0..PODS).map(|pod| part(PartKind::Pod, "pod", pod, PODS)).collect();
    let whole = parts.iter().map(|part| part.tally.clone()).reduce(|sum, tally| sum.plus(&tally).unwrap());
    parts.extend((0..TENANTS).map(|tenant| part(PartKind::Tenant, "tenant", tenant, 20)));
    Reading { tally: whole.unwrap(), parts }
}

/// How long this process has worked so far: what others do on the machine does not count, where the system tells.
fn seconds_of_work() -> f64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    // After the name in brackets, the time in user mode is the twelfth field.
    let told = std::fs::read_to_string("/proc/self/stat").ok();
    let fields = told.as_deref().and_then(|stat| stat.rsplit_once(')'));
    let ticks = fields.and_then(|(_, fields)| fields.split_whitespace().nth(11)?.parse::<f64>().ok());
    ticks.map_or_else(|| BEGAN.elapsed().as_secs_f64(), |ticks| ticks * TICK_SECONDS)
}

/// Blocks that one core takes in each second, and the bytes of the state after a rollout's worth of them.
fn measure(case: &Case, calibration: &Calibration) -> (f64, usize) {
    let mut rng = StdRng::seed_from_u64(1);
    let drawn: Vec<(Reading, Reading)> = (0..DRAWN)
        .map(|_| (reading(case, 15_000, "control", &mut rng), reading(case, 5_000, "canary", &mut rng)))
        .collect();
    let check = check(case.sli.clone());
    let setting = Setting { check: &check, calibration, safe_ratio: 2.0, pod_incident: stats::POD_INCIDENT };
    let rollout = || {
        let mut test = Running::start(&check);
        for (control, canary) in drawn.iter().take(ROLLOUT) {
            test.observe(black_box(&setting), &Block { control, canary, span: Duration::from_secs(15) });
        }
        test
    };
    let state = postcard::to_stdvec(&rollout()).unwrap().len();
    let mut best = 0.0_f64;
    for _ in 0..REPEATED {
        let (began, mut rollouts) = (seconds_of_work(), 0_usize);
        let worked = loop {
            black_box((0..16).map(|_| rollout().log_e_value()).sum::<f64>());
            rollouts += 16;
            let worked = seconds_of_work() - began;
            if worked >= MEASURED_FOR {
                break worked;
            }
        };
        best = best.max((rollouts * ROLLOUT) as f64 / worked);
    }
    (best, state)
}

fn main() {
    let trusted = Calibration { is_trusted: true, dispersion: 0.002, ..Calibration::untrusted() };
    let served = stats::served();
    for (name, calibration) in [("untrusted", Calibration::untrusted()), ("trusted", trusted)] {
        println!("{name} calibration, of one core's own time, best of {REPEATED}:");
        for case in cases() {
            if !served.contains(&case.sli.kind()) {
                println!("  {:<34} no test serves it", case.name);
                continue;
            }
            let (blocks, state) = measure(&case, &calibration);
            let speed = match case.target {
                Some(target) if blocks < target => format!(" (MISSES the target, {target:.0})"),
                Some(target) => format!(" (target {target:.0})"),
                None => String::new(),
            };
            let size = if state > STATE_BYTES_MAX { "MORE than 1 KiB" } else { "bytes of state" };
            println!("  {:<34} {blocks:>12.0} blocks/s{speed}, {state} {size}", case.name);
        }
    }
}
