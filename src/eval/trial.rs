//! Runs cases many times, on several threads, to the same figures whatever their number.
//!
//! A rollout's seed comes from the seed of the whole, the names of its suite and case, and its number. So a figure does
//! not depend on which other cases run, on the threads, or on how the runs are shared out.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use super::suite::Case;

/// Rollouts that a thread takes at a time.
const AT_A_TIME: u64 = 25;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// The seed of the whole.
    pub seed: u64,
    /// Rollouts of each case.
    pub runs: u64,
    /// Threads, at least one.
    pub threads: usize,
}

/// How a method fared in one case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rollouts.
    pub runs: u64,
    /// Seconds until each rollback, in rising order; those that were not rolled back are missing.
    pub delays: Vec<u32>,
}

impl Outcome {
    /// How many were rolled back.
    pub fn hits(&self) -> u64 {
        self.delays.len() as u64
    }

    /// Seconds within which this part of the rollouts was rolled back; `None` where that many were not.
    pub fn quantile(&self, part: f64) -> Option<u32> {
        let rank = (part * self.runs as f64).ceil().max(1.0) as usize;
        self.delays.get(rank - 1).copied()
    }
}

/// Runs every case; the outcomes by case and method. `told` hears how many rollouts of all are done, now and then.
pub fn run(
    suite: &str,
    cases: &[Case],
    methods: usize,
    trial: &Trial,
    told: &(dyn Fn(u64, u64) + Sync),
) -> Vec<Vec<Outcome>> {
    let portions: Vec<(usize, u64)> = (0..cases.len())
        .flat_map(|case| (0..trial.runs).step_by(AT_A_TIME as usize).map(move |first| (case, first)))
        .collect();
    let all = cases.len() as u64 * trial.runs;
    let outcomes = Mutex::new(vec![vec![Outcome::default(); methods]; cases.len()]);
    let (next, done) = (AtomicUsize::new(0), Mutex::new(0_u64));
    let work = || {
        while let Some((at, first)) = portions.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(case) = cases.get(*at) else { continue };
            let last = first.saturating_add(AT_A_TIME).min(trial.runs);
            let watched: Vec<_> = (*first..last).map(|n| (case.run)(seed(trial.seed, suite, case, n))).collect();
            let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            for rolled_back in &watched {
                for (outcome, delay) in outcomes.iter_mut().skip(*at).take(1).flatten().zip(rolled_back) {
                    outcome.runs += 1;
                    outcome.delays.extend(delay);
                }
            }
            drop(outcomes);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            *done += last - first;
            told(*done, all);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..trial.threads.max(1) {
            scope.spawn(work);
        }
        work();
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.iter_mut().flatten().for_each(|outcome| outcome.delays.sort_unstable());
    outcomes
}

/// The seed of one rollout.
fn seed(root: u64, suite: &str, case: &Case, number: u64) -> u64 {
    // FNV-1a over the names; then the finaliser of splitmix64, so that neighbours have nothing in common.
    let words = [suite, case.table, case.family].into_iter();
    let words = words.chain(case.setting.iter().map(|(_, value)| value.as_str()));
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ root;
    for byte in words.flat_map(|word| word.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let mut z = hash.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rolls back every tenth seed or so, at a second that depends on it.
    fn case(family: &'static str) -> Case {
        let run = |seed: u64| vec![(seed.is_multiple_of(10)).then_some((seed % 7200) as u32), None];
        Case { table: "t", family, setting: Vec::new(), limit_seconds: None, run: Box::new(run) }
    }

    #[test]
    fn the_figures_do_not_depend_on_the_threads_or_on_what_else_runs() {
        let figures = |threads, cases: &[Case]| run("s", cases, 2, &Trial { seed: 7, runs: 333, threads }, &|_, _| {});
        let both = figures(1, &[case("a"), case("b")]);
        assert_eq!(both, figures(5, &[case("a"), case("b")]));
        assert_eq!(both[1], figures(2, &[case("b")])[0]);
        assert_ne!(both[0], both[1]);
        assert_eq!(both[0][0].runs, 333);
        assert!((10..60).contains(&both[0][0].hits()), "{}", both[0][0].hits());
        assert_eq!(both[0][1].hits(), 0);
        assert!(both[0][0].delays.is_sorted());
    }

    #[test]
    fn rollouts_that_were_not_rolled_back_count_in_the_quantiles() {
        let outcome = Outcome { runs: 10, delays: vec![15, 30, 45, 60, 75] };
        assert_eq!((outcome.quantile(0.5), outcome.quantile(0.1), outcome.quantile(0.6)), (Some(75), Some(15), None));
        assert_eq!(Outcome::default().quantile(0.5), None);
    }

    #[test]
    fn everything_is_told_in_the_end() {
        let last = Mutex::new((0, 0));
        run("s", &[case("a")], 2, &Trial { seed: 1, runs: 60, threads: 2 }, &|done, all| {
            let mut last = last.lock().unwrap();
            *last = (*last).max((done, all));
        });
        assert_eq!(*last.lock().unwrap(), (60, 60));
    }
}
