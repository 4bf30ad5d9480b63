//! Durable commits per second, by how many entries share one commit, and how long recovery takes after them.
//!
//! The numbers are of this machine's disk as it answers to `fdatasync`; a virtual disk may answer before it has written.
//! Run with `cargo bench --bench journal`.

use std::{
    error::Error,
    fmt::Write as _,
    time::{Duration, Instant},
};

use tollgate::{
    domain::{Arm, CheckId, Counts, Measurement, RequestId, RolloutId, Stamped, Tally, Timestamp, Window},
    journal::{Journal, Options},
    rollout::Event,
};

/// Entries in one commit.
const GROUPS: [u64; 3] = [1, 16, 256];
/// How long each group is measured.
const SPAN: Duration = Duration::from_secs(3);
/// Checks in each measurement; both arms are measured.
const CHECKS: u16 = 10;

fn measured(n: u64) -> Stamped<Event> {
    let window = Window { after: Timestamp::from_millis(n), through: Timestamp::from_millis(n + 1_000) };
    let measurements = (0..CHECKS)
        .flat_map(|check| [Arm::Control, Arm::Canary].map(|arm| (check, arm)))
        .map(|(check, arm)| {
            let tally = Ok(Tally::Counts(Counts { bad: n % 7, total: 1_000 + n % 100 }));
            Measurement { check: CheckId(check), arm, window, tally, parts: Vec::new(), estimated: false }
        })
        .collect();
    let event = Event::Measured { request: RequestId(n), rollout: RolloutId(1), through: window.through, measurements };
    Stamped { at: window.through, event }
}

/// A row of the table for one size of group.
fn row(group: u64) -> Result<String, Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let options = Options { snapshot_every: u64::MAX, ..Options::at(dir.path().join("journal")) };
    let (mut journal, _, _) = Journal::open(options.clone())?;
    let mut latencies = Vec::new();
    let (began, mut next) = (Instant::now(), 1);
    while began.elapsed() < SPAN {
        let batch: Vec<_> = (next..next + group).map(measured).collect();
        let before = Instant::now();
        journal.append(&batch)?;
        latencies.push(before.elapsed());
        next += group;
    }
    let seconds = began.elapsed().as_secs_f64();
    drop(journal);
    latencies.sort_unstable();
    let at = |part: usize| latencies.get(latencies.len() * part / 1_000).copied().unwrap_or_default();
    let began = Instant::now();
    let (_journal, _, recovery) = Journal::open(options)?;
    let recovered = began.elapsed();
    let commits = latencies.len() as f64 / seconds;
    let mut row = String::new();
    write!(row, "{group:>7} {commits:>11.0} {:>11.0}", commits * group as f64)?;
    write!(row, " {:>9.2?} {:>9.2?}", at(500), at(990))?;
    write!(row, " {:>10} in {recovered:.2?}", recovery.folded)?;
    Ok(row)
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("  group   commits/s   entries/s       p50       p99   recovered");
    for group in GROUPS {
        println!("{}", row(group)?);
    }
    Ok(())
}
