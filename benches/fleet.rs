//! What deciding costs: events through `Fleet::handle`, resident memory and wake-ups with 10,000 open rollouts of 20
//! checks each, and the time to recover them from a snapshot. Run with `cargo bench --bench fleet`.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up has nothing to say")]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tollgate::{
    domain::{
        Arm, Check, CheckId, CheckName, Counts, DiffLine, Exposure, Match, Measurement, Origin, RequestId, RolloutId,
        ServiceName, Stamped, Tally, Text, Timestamp, Window,
    },
    plan::Draft,
    rollout::{Effect, Event, Fleet, Policy},
    sim::{Scenario, scenario},
};

const ROLLOUTS: u64 = 10_000;
const CHECKS: usize = 20;
/// Of those, the service's own objectives; the others are made from the diff.
const MANDATORY: usize = 4;

/// So many checks on routes of their own.
fn checks(n: usize, origin: Origin) -> Vec<Check> {
    let first = scenario::bounds().mandatory.remove(0);
    let check = |i: usize| {
        let route = format!("/{}/{i}", if origin == Origin::Slo { "objective" } else { "changed" });
        Check {
            name: CheckName::new(format!("errors on {route}")),
            sli: first.sli.narrowed("route", &Match::Is(route)),
            limit: None,
            origin,
            lines: vec![DiffLine { path: "src/routes/checkout.rs".into(), line: 42 }],
            ..first.clone()
        }
    };
    (0..n).map(check).collect()
}

fn policy() -> Arc<Policy> {
    let template = Scenario::from_seed(0).policy.services.values().next().cloned().unwrap();
    let mut bounds = scenario::bounds();
    bounds.mandatory = checks(MANDATORY, Origin::Slo);
    bounds.proposed_max = CHECKS;
    let services: BTreeMap<ServiceName, _> = (0..ROLLOUTS)
        .map(|i| {
            let mut service = template.clone();
            service.repository = format!("acme/s{i}").parse().unwrap();
            service.paths = vec!["**".into()];
            service.bounds = bounds.clone();
            service.autonomy = tollgate::domain::Autonomy::Auto;
            service.deployed = tollgate::rollout::Deployed::OnMerge;
            // Long enough that nothing is promoted while the bench runs.
            service.stages.iter_mut().for_each(|stage| stage.bake_time = Duration::from_secs(3_600));
            (ServiceName::new(format!("service-{i}")), service)
        })
        .collect();
    let mut policy = (*Scenario::from_seed(0).policy).clone();
    policy.services = services;
    policy.rollouts_max = 100_000;
    Arc::new(policy)
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

struct Bench {
    fleet: Fleet,
    now: Timestamp,
    open: Vec<Effect>,
    handled: u64,
    handling: Duration,
}

impl Bench {
    fn handle(&mut self, event: Event) {
        let entry = Stamped { at: self.now, event };
        let began = Instant::now();
        let effects = self.fleet.handle(&entry);
        self.handling += began.elapsed();
        self.handled += 1;
        self.open.extend(effects);
    }

    /// Answers every open request but the measurements, which are returned.
    fn settle(&mut self, changes: &BTreeMap<u64, Arc<tollgate::domain::Change>>) -> Vec<Effect> {
        let mut measures = Vec::new();
        while let Some(effect) = self.open.pop() {
            match effect {
                Effect::FetchChange { request, pull_request, .. } => {
                    let change = Ok(Arc::clone(&changes[&pull_request]));
                    self.handle(Event::ChangeFetched { request, change });
                }
                Effect::Draft { request, rollout, .. } => {
                    let draft = Ok(Box::new(Draft::by_rules(
                        checks(CHECKS - MANDATORY, Origin::Heuristic),
                        tollgate::domain::WayBack::Open,
                        Vec::new(),
                    )));
                    self.handle(Event::Drafted { request, rollout, draft, conversation: None });
                }
                Effect::Shift { request, shift } => {
                    let (rollout, read): (RolloutId, Exposure) = (shift.get().rollout, shift.get().to.clone());
                    self.handle(Event::Shifted { request, rollout, read: Ok(read) });
                }
                Effect::Measure { .. } => measures.push(effect),
                Effect::Advise { .. } | Effect::Narrate { .. } | Effect::Expect { .. } | Effect::Announce(_) => {}
            }
        }
        measures
    }
}

fn measured(request: RequestId, rollout: RolloutId, after: Timestamp, through: Timestamp) -> Event {
    let window = Window { after, through };
    let measurement = |check: usize, arm, counts| Measurement {
        check: CheckId(u16::try_from(check).unwrap()),
        arm,
        window,
        tally: Ok(Tally::Counts(counts)),
        parts: Vec::new(),
        estimated: false,
    };
    let measurements = (0..CHECKS)
        .flat_map(|check| {
            [
                measurement(check, Arm::Control, Counts { bad: 3, total: 990 }),
                measurement(check, Arm::Canary, Counts { bad: 0, total: 10 }),
            ]
        })
        .collect();
    Event::Measured { request, rollout, through, measurements }
}

fn main() {
    let empty = resident_mib();
    let policy = policy();
    let template = Arc::clone(&Scenario::from_seed(0).changes.values().next().unwrap().0);
    let changes: BTreeMap<u64, Arc<_>> = (0..ROLLOUTS)
        .map(|i| {
            let mut change = (*template).clone();
            change.pull_request = i;
            change.repository = format!("acme/s{i}").parse().unwrap();
            change.revision = format!("{i:040x}").parse().unwrap();
            (i, Arc::new(change))
        })
        .collect();
    let with_policy = resident_mib();
    let mut bench = Bench {
        fleet: Fleet::default(),
        now: scenario::BEGINNING,
        open: Vec::new(),
        handled: 0,
        handling: Duration::ZERO,
    };
    bench.handle(Event::Started { policy: Arc::clone(&policy) });
    let mut measures = Vec::new();
    for (number, change) in &changes {
        bench.handle(Event::PullRequestMerged {
            delivery: Text::new(format!("d{number}")),
            repository: change.repository.clone(),
            pull_request: *number,
            branch: "main".into(),
            into_default: true,
        });
        measures.extend(bench.settle(&changes));
    }
    let checks = bench.fleet.view_of(RolloutId(1)).map_or(0, |rollout| rollout.checks.len());
    println!("opened {} rollouts of {checks} checks", bench.fleet.open_rollouts());
    println!("resident: {empty:.0} MiB empty, {with_policy:.0} with the policy, {:.0} with the fleet", resident_mib());

    (bench.handled, bench.handling) = (0, Duration::ZERO);
    for _ in 0..3 {
        bench.now = bench.now + Duration::from_secs(30);
        for effect in std::mem::take(&mut measures) {
            let Effect::Measure { request, rollout, after, .. } = effect else { continue };
            bench.handle(measured(request, rollout, after, bench.now));
        }
        measures = bench.settle(&changes);
    }
    let each = bench.handling.as_secs_f64() / bench.handled as f64;
    println!("measured events: {:.0} a second, {:.1} us each ({CHECKS} checks, both arms)", 1.0 / each, each * 1e6);

    (bench.handled, bench.handling) = (0, Duration::ZERO);
    for _ in 0..100_000 {
        bench.handle(Event::WokeUp);
    }
    println!("wake-up with nothing due: {:.2} us", bench.handling.as_secs_f64() * 1e6 / bench.handled as f64);
    println!("resident after measuring: {:.0} MiB", resident_mib());

    let began = Instant::now();
    let bytes = postcard::to_stdvec(&bench.fleet).unwrap();
    println!("snapshot: {:.1} MiB in {:.0} ms", bytes.len() as f64 / 1_048_576.0, began.elapsed().as_secs_f64() * 1e3);
    let began = Instant::now();
    let recovered: Fleet = postcard::from_bytes(&bytes).unwrap();
    println!("recovered {} open rollouts in {:.0} ms", recovered.open_rollouts(), began.elapsed().as_secs_f64() * 1e3);
    let began = Instant::now();
    let mut recovered = recovered;
    let effects = recovered.handle(&Stamped { at: bench.now, event: Event::Started { policy } });
    println!("started again: {} effects in {:.0} ms", effects.len(), began.elapsed().as_secs_f64() * 1e3);
}
