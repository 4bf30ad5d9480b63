//! Exactness: whatever restarts, is late, comes and goes, or is not scraped for a while, tallies of windows in a row add up
//! to what truly happened, to the count.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tollgate::{
    domain::{Arm, Counts, Selector, Sli, Tally},
    telemetry::{Provider, prometheus},
};

use super::{
    EPOCH, Time, arms, ask, asked, config, errors,
    fake::Fake,
    millis, service, took,
    truth::{LENGTH, LOOKBACK, Truth, World},
};

const SEEDS: u64 = 150;
const INTERVAL: u64 = 15_000;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

fn add(truth: &mut Truth, tally: &Tally, check: u16) {
    match (check, tally) {
        (0, Tally::Counts(counts)) => {
            truth.counts = Counts { bad: truth.counts.bad + counts.bad, total: truth.counts.total + counts.total };
        }
        (1, Tally::Histogram(histogram)) => {
            truth.buckets.iter_mut().zip(&histogram.counts).for_each(|(sum, more)| *sum += more);
        }
        (2, Tally::Mix(mix)) => {
            for (code, more) in mix.iter() {
                *truth.codes.entry(code.clone()).or_default() += more;
            }
        }
        (check, other) => panic!("check {check}: {other:?}"),
    }
}

/// What was counted of both arms in windows in a row, and what truly happened.
async fn run(seed: u64) -> Result<(), String> {
    let world = World::from_seed(seed);
    let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed);
    let time = Time::at(EPOCH);
    let fake = Fake::start(Arc::new(Mutex::new(world.store())), time.clone()).await;
    let hour = Duration::from_millis(LOOKBACK);
    let service = prometheus::Service { lookback: hour, stale_after: hour, gone_after: hour, ..service() };
    let start = || prometheus::start(config(&fake.url, service.clone()), time.clock()).unwrap();
    let mix = Sli::Mix { counter: Selector::metric("hits_total"), by: "code".into() };
    let checks = asked(vec![errors(), took(), mix]);
    let mut provider = start();
    let begun = EPOCH + LENGTH / 4 / INTERVAL * INTERVAL;
    let (mut after, mut seen) = (begun, None);
    let mut sums: [Truth; 2] = Default::default();
    while after < EPOCH + LENGTH {
        let through = after + rng.random_range(1..200_000);
        let is_last = through > EPOCH + LENGTH - 60_000;
        let through = if is_last { EPOCH + LENGTH + INTERVAL } else { through };
        // The last one is asked for when all is stored.
        time.set(
            through.div_ceil(INTERVAL) * INTERVAL + if is_last { millis(300) } else { rng.random_range(5_000..20_000) },
        );
        seen.get_or_insert(time.now());
        if world.restarts && rng.random_bool(0.3) {
            provider = start();
        }
        let answer = provider.measure(ask(&time, checks.clone(), after, through)).await;
        let reached = answer.through.as_millis();
        if reached < through {
            return Err(format!("the window after {} s ended at {reached}", (after - EPOCH) / 1_000));
        }
        for check in 0..3 {
            for (sum, tally) in sums.iter_mut().zip(arms(&answer, check)) {
                match tally {
                    Ok(tally) => add(sum, &tally, check),
                    // A window in which nothing was scraped is shorter than the time between two scrapes.
                    Err(tollgate::domain::Absence::NoData) => {}
                    Err(why) => return Err(format!("check {check}: {why}")),
                }
            }
        }
        if from_env("TOLLGATE_SHOW").is_some() {
            let now: Vec<_> = sums.iter().map(|sum| sum.counts.total).collect();
            let truly = [Arm::Control, Arm::Canary]
                .map(|arm| world.truth(arm, (begun - EPOCH, reached - EPOCH), seen.unwrap() - EPOCH).counts.total);
            println!(
                "{} to {}: {now:?} {truly:?} late {} restarts {}",
                (after - EPOCH) / 1000,
                (reached - EPOCH) / 1000,
                world.is_late,
                world.restarts
            );
        }
        after = reached;
    }
    for (arm, sum) in [Arm::Control, Arm::Canary].into_iter().zip(sums) {
        let window = (begun - EPOCH, after - EPOCH);
        let truth = world.truth(arm, window, seen.unwrap() - EPOCH);
        if sum != truth {
            return Err(format!("{arm}: counted {sum:?}, and truly {truth:?}"));
        }
        if truth.counts.total == 0 {
            return Err(format!("{arm}: nothing happened at all"));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_in_a_row_add_up_to_what_truly_happened_to_the_count() {
    if let Some(seed) = from_env("TOLLGATE_SEED") {
        assert_eq!(run(seed).await, Ok(()), "seed {seed}");
        return;
    }
    let seeds = from_env("TOLLGATE_SEEDS").unwrap_or(SEEDS);
    let next = Arc::new(AtomicU64::new(0));
    let workers = (0..4).map(|_| {
        let next = Arc::clone(&next);
        tokio::spawn(async move {
            let mut failed = BTreeMap::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds {
                    return failed;
                }
                if let Err(why) = run(seed).await {
                    failed.insert(seed, why);
                }
            }
        })
    });
    let mut failed = BTreeMap::new();
    for worker in workers.collect::<Vec<_>>() {
        failed.extend(worker.await.unwrap());
    }
    let shown: Vec<String> = failed.iter().take(10).map(|(seed, why)| format!("TOLLGATE_SEED={seed}: {why}")).collect();
    assert!(failed.is_empty(), "{} of {seeds} seeds:\n{}", failed.len(), shown.join("\n"));
}

#[test]
fn the_worlds_hold_what_they_are_to_hold() {
    let worlds: Vec<World> = (0..60).map(World::from_seed).collect();
    for (what, holds) in [
        ("late samples", worlds.iter().any(|world| world.is_late)),
        ("restarts of ours", worlds.iter().any(|world| world.restarts)),
        (
            "both kinds of ranges",
            worlds.iter().any(|world| world.left_open) && worlds.iter().any(|world| !world.left_open),
        ),
        ("restarts of processes", worlds.iter().any(World::has_restarts)),
        ("pods that come later", worlds.iter().any(World::has_newcomers)),
        ("gaps", worlds.iter().any(World::has_gaps)),
    ] {
        assert!(holds, "no {what}");
    }
}
