//! `calibrate`: how often our tests and our rivals' methods roll back what is harmless, and how long they take over what is
//! harmful, on the same drawn rollouts. Says so on the screen, in CSV files and on a page.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use crate::eval::{
    calibration::Rate,
    power::Delay,
    report::{Findings, Found, Row, summary},
    suite::{Case, Only, SUITES, Suite},
    trial::{self, Outcome, Trial},
};

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Harmless rollouts of each case; 0 leaves them out; by default each suite's own number, 10000 for counts and fewer
    /// where a rollout costs more
    #[arg(long)]
    runs: Option<u64>,
    /// Harmful rollouts of each case; 0 leaves them out; by default each suite's own number, 200 for counts
    #[arg(long)]
    power_runs: Option<u64>,
    /// Named exceptions are none: ends with 1 wherever a promise is broken beyond doubt
    #[arg(long)]
    strict: bool,
    /// The seed: the same figures for the same seed, whatever the number of threads
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One suite or one family, as `counts` or `counts/retry clusters`; may be given several times
    #[arg(long, value_name = "SUITE[/FAMILY]")]
    only: Vec<Only>,
    /// Threads; by default as many as there are processors
    #[arg(long)]
    threads: Option<usize>,
    /// Folder for the page and the CSV files
    #[arg(long, value_name = "DIR", default_value = "calibration")]
    out: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let suites = SUITES.iter().map(|suite| found(args, suite)).filter(|found| !found.is_empty());
    let suites = suites.map(|found| found.0).collect();
    let findings = Findings::of(args.seed, suites);
    let files = findings.write(&args.out)?;
    println!("{}", summary(&findings));
    println!("Written to {}: {}", args.out.display(), files.join(", "));
    if findings.is_broken() {
        eprintln!("tollgate: a promise is broken beyond doubt");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// What was found in a suite that may not have been asked for.
struct Part(Found);

impl Part {
    fn is_empty(&self) -> bool {
        self.0.harmless.is_empty() && self.0.harmful.is_empty()
    }
}

fn found(args: &Args, suite: &Suite) -> Part {
    let methods = (suite.methods)();
    let runs = args.runs.unwrap_or(suite.runs);
    let power_runs = args.power_runs.unwrap_or(suite.power_runs);
    let wanted = |cases: fn() -> Vec<Case>, runs: u64| -> Vec<Case> {
        let cases = if runs == 0 { Vec::new() } else { cases() };
        cases.into_iter().filter(|case| Only::wants(&args.only, suite.name, case.family)).collect()
    };
    let harmless = wanted(suite.harmless, runs);
    let harmful = wanted(suite.harmful, power_runs);
    let run = |what: &str, cases: &[Case], runs: u64| -> Vec<Vec<Outcome>> {
        let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let progress = Progress::new(format!("{}, {what}", suite.name));
        let trial = Trial { seed: args.seed, runs, threads };
        trial::run(suite.name, cases, methods.len(), &trial, &|done, all| progress.tell(done, all))
    };
    let of_harmless = run(suite.words.harmless, &harmless, runs);
    let of_harmful = run(suite.words.harmful, &harmful, power_runs);
    let rate = |(case, outcomes): (&Case, &Vec<Outcome>)| Row::of(case, outcomes, Rate::of);
    let delay = |(case, outcomes): (&Case, &Vec<Outcome>)| Row::of(case, outcomes, Delay::of);
    Part(Found {
        suite: suite.name,
        summary: suite.summary,
        words: suite.words,
        runs,
        power_runs,
        judged: 0,
        exceptions: if args.strict { &[] } else { suite.exceptions },
        harmless: harmless.iter().zip(&of_harmless).map(rate).collect(),
        harmful: harmful.iter().zip(&of_harmful).map(delay).collect(),
        methods,
    })
}

/// Tells each percent once: over itself on a terminal, each tenth on a line of its own in a file.
struct Progress {
    what: String,
    told: Mutex<Option<u64>>,
}

impl Progress {
    fn new(what: String) -> Self {
        Self { what, told: Mutex::new(None) }
    }

    fn tell(&self, done: u64, all: u64) {
        let (percent, is_terminal) = (100 * done / all.max(1), std::io::stderr().is_terminal());
        let step = if is_terminal { 1 } else { 10 };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let here = percent / step;
        if told.is_some_and(|told| told >= here) {
            return;
        }
        *told = Some(here);
        let end = if is_terminal && done < all { "\r" } else { "\n" };
        // Nobody to tell is no reason to stop.
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "{}: {percent}% of {all}{end}", self.what).and_then(|()| stderr.flush());
    }
}
