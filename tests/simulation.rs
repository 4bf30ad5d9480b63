//! Seeded worlds: safety while everything fails, liveness once it stops. A failing seed is printed, and replays alone:
//! `TOLLGATE_SEED=1234 cargo test --test simulation`.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tollgate::{
    domain::{Outcome, Timestamp},
    sim::{self, Ended, Faults, Scenario},
};

/// Worlds in a full run; `TOLLGATE_WORLDS` asks for another number.
const WORLDS: u64 = 1_000;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn faults_of(ended: &Ended) -> Option<String> {
    if let Some(violation) = ended.violations.first() {
        return Some(format!("unsafe: {violation}"));
    }
    let open = ended.outcomes.iter().find(|(_, outcome)| outcome.is_none());
    open.map(|(rollout, _)| format!("not live: {rollout} has no outcome at the horizon"))
}

#[test]
fn no_world_does_harm_and_every_world_comes_to_rest() {
    if let Some(seed) = from_env("TOLLGATE_SEED") {
        let ended = sim::run(&Scenario::from_seed(seed));
        println!("{ended:#?}");
        assert_eq!(faults_of(&ended), None, "seed {seed}");
        return;
    }
    let worlds = from_env("TOLLGATE_WORLDS").unwrap_or(WORLDS);
    let next = AtomicU64::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, |n| n.get()) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= worlds {
                        return;
                    }
                    let ended = sim::run(&Scenario::from_seed(seed));
                    results.lock().unwrap().push((seed, ended));
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    let entries: usize = results.iter().map(|(_, ended)| ended.entries).sum();
    let restarts: u32 = results.iter().map(|(_, ended)| ended.restarts).sum();
    let count =
        |outcome| results.iter().flat_map(|(_, e)| e.outcomes.values()).filter(|o| **o == Some(outcome)).count();
    let outcomes =
        [Outcome::Promoted, Outcome::RolledBack, Outcome::HandedOver, Outcome::Cancelled, Outcome::Superseded];
    for outcome in outcomes {
        println!("{outcome}: {}", count(outcome));
        assert!(count(outcome) > 0, "no world ended {outcome}: the worlds are too tame to prove anything");
    }
    let advised: u32 = results.iter().map(|(_, ended)| ended.advised).sum();
    println!("{worlds} worlds, {entries} entries, {restarts} restarts, {advised} times a model was asked for advice");
    assert!(advised > 0, "no world ever asked for advice: what advice may do was not looked at");
    let mut failures: Vec<(u64, String)> =
        results.iter().filter_map(|(seed, ended)| faults_of(ended).map(|what| (*seed, what))).collect();
    failures.sort();
    let told: Vec<String> =
        failures.iter().take(10).map(|(seed, what)| format!("TOLLGATE_SEED={seed}: {what}")).collect();
    assert!(failures.is_empty(), "{} of {worlds} worlds failed:\n{}", failures.len(), told.join("\n"));
}

/// Without faults, people, kill switch or model a harmless change reaches everyone and a bad one does not.
#[test]
fn in_a_calm_world_the_outcome_is_right() {
    let mut judged = 0;
    for seed in 0..60 {
        let mut scenario = Scenario::from_seed(seed);
        scenario.faults = Faults::NONE;
        scenario.requests_per_second = 100.0;
        scenario.error_rate = 0.005;
        scenario.faults_end = Timestamp::EPOCH;
        // The ladders are short: what is proof may not wait for a pod's bad minutes to be over.
        // And nobody asks a model that talks at random: where it may break ties it lets a bad change through.
        for service in Arc::make_mut(&mut scenario.policy).services.values_mut() {
            service.pod_incident = Duration::ZERO;
            service.model = None;
        }
        scenario.agenda.retain(|(_, event)| {
            !matches!(event, tollgate::rollout::Event::Commanded { .. } | tollgate::rollout::Event::KillSwitch { .. })
        });
        let ended = sim::run(&scenario);
        assert_eq!(ended.violations, Vec::<String>::new(), "seed {seed}");
        for (rollout, harmless) in &ended.harmless {
            match (ended.outcomes[rollout], harmless) {
                (Some(Outcome::Promoted), true) | (Some(Outcome::RolledBack), false) => judged += 1,
                (Some(Outcome::HandedOver | Outcome::Cancelled | Outcome::Superseded), _) => {}
                (outcome, _) => panic!("seed {seed}: {rollout}, harmless {harmless}, ended {outcome:?}"),
            }
        }
    }
    assert!(judged >= 30, "only {judged} rollouts were judged");
}
