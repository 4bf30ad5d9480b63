//! One control and several challengers: champion and challenger, A/B/n.
//!
//! # The argument
//! Each challenger is compared with control alone, by three e-processes ([`BelowRatio`]): it is not worse than tolerated,
//! it is better, it is worse (the same with the arms exchanged). Those of several challengers share control and depend
//! on one another, so they are put together by rules that need no independence: closed testing by averages where a
//! decision is taken on one arm (retire it, promote it), so that the chance of *any* false one is at most `alpha`
//! whatever the number of challengers; e-BH for the list of those that are better, where the share of false ones counts.
//! An arm that is retired keeps its evidence: stopping is allowed at any time.
//!
//! Failures of sessions and tasks are seldom rare, and then both the bad and the good ones tell: each comparison takes
//! the pooled rate that earlier blocks showed as what it supposes.
//!
//! # Limits
//! Challengers are not compared with one another: the best is the one with the lowest rate among those that are proven.
//! All three
//! proofs are about the whole time since the start. Requests of one user on several arms, and users that keep theirs,
//! are the caller's to count: one outcome for each session.

use serde::{Deserialize, Serialize};

use super::{BelowRatio, multiplicity};
use crate::domain::Counts;

/// Most challengers of one contest; more are left out.
pub const CHALLENGERS_MAX: usize = 8;
/// How much of what earlier blocks showed counts on after one more.
const KEPT: f64 = 0.98;
/// Fewer outcomes than this tell no rate.
const OUTCOMES_MIN: f64 = 10.0;

/// What is asked of a contest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// How many times as bad as control is tolerated, at least 1: beyond it an arm is worse.
    pub ratio_max: f64,
    /// An arm this many times as bad must not be called "not worse"; above `ratio_max`.
    pub safe_ratio: f64,
    /// An arm is better if it is less than this many times as bad, at most 1.
    pub better_ratio: f64,
    /// As in [`super::Calibration`].
    pub dispersion: f64,
    /// Chance of any false "worse" or "better".
    pub alpha: f64,
    /// Chance of any false "not worse".
    pub beta: f64,
}

impl Terms {
    /// Any improvement counts, a quarter worse is tolerated, twice as bad must be excluded.
    pub const USUAL: Self =
        Self { ratio_max: 1.25, safe_ratio: 2.0, better_ratio: 1.0, dispersion: 0.0, alpha: 0.001, beta: 0.05 };

    /// The same with every number that is none, or out of its range, at the end of the range that asks for more proof.
    fn bounded(self) -> Self {
        let within =
            |x: f64, low: f64, high: f64, otherwise: f64| if x.is_nan() { otherwise } else { x.clamp(low, high) };
        Self {
            ratio_max: within(self.ratio_max, 1.0, 1e3, 1e3),
            safe_ratio: within(self.safe_ratio, 1.0, 1e3, 1.0),
            better_ratio: within(self.better_ratio, 1e-3, 1.0, 1e-3),
            dispersion: within(self.dispersion, 0.0, 1.0, 1.0),
            alpha: within(self.alpha, 0.0, 1.0, 0.0),
            beta: within(self.beta, 0.0, 1.0, 0.0),
        }
    }
}

/// What is proven of one challenger, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rank {
    /// Worse than tolerated: retire it.
    Worse,
    /// Nothing yet.
    Undecided,
    /// Not worse than control by as much as `safe_ratio`.
    NotWorse,
    /// Better than control.
    Better,
}

/// Where one challenger stands. Logarithms of e-values are after the correction for several challengers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Which challenger, from 0 in the order of the blocks.
    pub challenger: usize,
    /// What is proven.
    pub rank: Rank,
    /// Whether it is on the list of better ones, on which at most `alpha` of all are expected to be wrong; this list is
    /// longer than that of [`Rank::Better`].
    pub is_listed: bool,
    /// Natural logarithm of the e-value against "not worse than `ratio_max`".
    pub log_e_worse: f64,
    /// Natural logarithm of the e-value against "at least `safe_ratio` times as bad".
    pub log_e_not_worse: f64,
    /// Natural logarithm of the e-value against "at least `better_ratio` times as bad".
    pub log_e_better: f64,
    /// Its share of bad ones over control's, both while it took part; `None` while one of them has nothing.
    pub ratio: Option<f64>,
}

/// One challenger against control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pair {
    worse: BelowRatio,
    not_worse: BelowRatio,
    better: BelowRatio,
    /// Bad and all of both arms, fading.
    recent: [f32; 2],
    challenger: Counts,
    control: Counts,
}

impl Pair {
    fn start() -> Self {
        Self {
            worse: BelowRatio::for_proof(),
            not_worse: BelowRatio::for_safety(),
            better: BelowRatio::for_proof(),
            recent: [0.0; 2],
            challenger: Counts::default(),
            control: Counts::default(),
        }
    }

    fn observe(&mut self, terms: &Terms, challenger: Counts, control: Counts) {
        if challenger.total == 0 || control.total == 0 {
            return;
        }
        let [bad, all] = self.recent.map(f64::from);
        let rate = if all >= OUTCOMES_MIN { bad / all } else { 0.0 };
        let Terms { ratio_max, safe_ratio, better_ratio, dispersion, .. } = *terms;
        self.worse.compare(control, challenger, rate, 1.0 / ratio_max, dispersion);
        self.not_worse.compare(challenger, control, rate, safe_ratio, dispersion);
        self.better.compare(challenger, control, rate, better_ratio, dispersion);
        let both = challenger.plus(control);
        self.recent = [(KEPT * bad + both.bad as f64) as f32, (KEPT * all + both.total as f64) as f32];
        self.challenger = self.challenger.plus(challenger);
        self.control = self.control.plus(control);
    }

    fn ratio(&self) -> Option<f64> {
        let ratio = self.challenger.rate()? / self.control.rate()?;
        ratio.is_finite().then_some(ratio)
    }
}

/// One control and its challengers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contest {
    terms: Terms,
    pairs: Vec<Pair>,
}

impl Contest {
    /// Nothing seen of `challengers` challengers, at most [`CHALLENGERS_MAX`].
    pub fn start(terms: Terms, challengers: usize) -> Self {
        Self { terms: terms.bounded(), pairs: vec![Pair::start(); challengers.min(CHALLENGERS_MAX)] }
    }

    /// Takes in one block: control, then every challenger. An arm that is missing or has nothing, such as a retired one,
    /// stays as it is.
    pub fn observe(&mut self, block: &[Counts]) {
        let Some((control, challengers)) = block.split_first() else { return };
        for (pair, challenger) in self.pairs.iter_mut().zip(challengers) {
            pair.observe(&self.terms, *challenger, *control);
        }
    }

    /// Where each challenger stands, in the order of the blocks.
    pub fn standing(&self) -> Vec<Standing> {
        let closed = |of: fn(&Pair) -> &BelowRatio| {
            multiplicity::closed(&self.pairs.iter().map(|pair| of(pair).log_e()).collect::<Vec<_>>())
        };
        let (worse, not_worse) = (closed(|pair| &pair.worse), closed(|pair| &pair.not_worse));
        let better = closed(|pair| &pair.better);
        let weight = 1.0 / self.pairs.len().max(1) as f64;
        let parts: Vec<_> = self.pairs.iter().map(|pair| (weight, pair.better.log_e())).collect();
        let listed = multiplicity::listed(&parts, self.terms.alpha);
        let each = worse.into_iter().zip(not_worse).zip(better).zip(listed).zip(&self.pairs);
        each.enumerate()
            .map(|(challenger, ((((log_e_worse, log_e_not_worse), log_e_better), is_listed), pair))| {
                let rank = if log_e_worse >= needed(self.terms.alpha) {
                    Rank::Worse
                } else if log_e_better >= needed(self.terms.alpha) {
                    Rank::Better
                } else if log_e_not_worse >= needed(self.terms.beta) {
                    Rank::NotWorse
                } else {
                    Rank::Undecided
                };
                let ratio = pair.ratio();
                Standing { challenger, rank, is_listed, log_e_worse, log_e_not_worse, log_e_better, ratio }
            })
            .collect()
    }

    /// The best challenger that is proven better than control, else the best that is proven not worse; `None` while
    /// neither is proven of any. Among several of one rank it is the one with the lowest ratio.
    pub fn best(&self) -> Option<Standing> {
        let proven = self.standing().into_iter().filter(|standing| standing.rank >= Rank::NotWorse);
        let key = |standing: &Standing| standing.ratio.unwrap_or(f64::MAX);
        proven.min_by(|one, other| other.rank.cmp(&one.rank).then(key(one).total_cmp(&key(other))))
    }
}

/// Natural logarithm of what proves at `alpha`; never reached at 0.
fn needed(alpha: f64) -> f64 {
    -alpha.ln()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    fn binomial(n: u64, p: f64, rng: &mut StdRng) -> u64 {
        (0..n).filter(|_| rng.random_bool(p)).count() as u64
    }

    fn block(sizes: &[u64], rates: &[f64], rng: &mut StdRng) -> Vec<Counts> {
        let arms = sizes.iter().zip(rates);
        arms.map(|(total, rate)| Counts { bad: binomial(*total, *rate, rng), total: *total }).collect()
    }

    fn run(terms: Terms, sizes: &[u64], rates: &[f64], blocks: usize, seed: u64) -> Contest {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut contest = Contest::start(terms, rates.len() - 1);
        for _ in 0..blocks {
            contest.observe(&block(sizes, rates, &mut rng));
        }
        contest
    }

    fn ranks(contest: &Contest) -> Vec<Rank> {
        contest.standing().iter().map(|standing| standing.rank).collect()
    }

    #[test]
    fn each_arm_gets_the_rank_it_deserves_and_the_best_is_named() {
        let sizes = [40, 40, 40, 40, 40];
        let contest = run(Terms::USUAL, &sizes, &[0.3, 0.6, 0.3, 0.15, 0.10], 60, 1);
        assert_eq!(ranks(&contest), [Rank::Worse, Rank::NotWorse, Rank::Better, Rank::Better]);
        assert_eq!(contest.best().map(|standing| standing.challenger), Some(3));
        let none = run(Terms::USUAL, &sizes, &[0.3, 0.6, 0.6, 0.6, 0.6], 60, 2);
        assert_eq!(none.best(), None);
    }

    #[test]
    fn rare_errors_are_told_apart_too() {
        let contest = run(Terms::USUAL, &[20_000, 1_000, 1_000], &[0.005, 0.005, 0.02], 60, 3);
        assert_eq!(ranks(&contest), [Rank::NotWorse, Rank::Worse]);
    }

    #[test]
    fn many_equal_challengers_beat_or_lose_to_control_no_more_often_than_promised() {
        let terms = Terms { alpha: 0.05, ratio_max: 1.0, ..Terms::USUAL };
        let (mut better, mut worse, runs) = (0, 0, 300);
        for seed in 0..runs {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut contest = Contest::start(terms, 4);
            let (mut is_better, mut is_worse) = (false, false);
            for _ in 0..40 {
                let rate = rng.random_range(0.1..0.4);
                contest.observe(&block(&[20; 5], &[rate; 5], &mut rng));
                let ranks = ranks(&contest);
                is_better |= ranks.contains(&Rank::Better);
                is_worse |= ranks.contains(&Rank::Worse);
            }
            better += u32::from(is_better);
            worse += u32::from(is_worse);
        }
        assert!(better <= 15 && worse <= 15, "{better} and {worse} of {runs}");
    }

    #[test]
    fn exchanged_arms_exchange_better_and_worse() {
        let terms = Terms { ratio_max: 1.1, better_ratio: 1.0 / 1.1, ..Terms::USUAL };
        let mut rng = StdRng::seed_from_u64(4);
        let (mut one, mut other) = (Contest::start(terms, 1), Contest::start(terms, 1));
        for _ in 0..50 {
            let arms = block(&[30, 50], &[0.3, 0.4], &mut rng);
            one.observe(&arms);
            other.observe(&[arms[1], arms[0]]);
        }
        let (one, other) = (one.standing()[0], other.standing()[0]);
        assert_eq!((one.log_e_worse, one.log_e_better), (other.log_e_better, other.log_e_worse));
        assert!(one.log_e_worse > 1.0);
    }

    #[test]
    fn a_retired_arm_keeps_its_standing_and_the_others_go_on() {
        let mut contest = run(Terms::USUAL, &[40, 40, 40], &[0.2, 0.6, 0.2], 40, 5);
        let retired = contest.standing()[0];
        assert_eq!(retired.rank, Rank::Worse);
        let mut rng = StdRng::seed_from_u64(6);
        for _ in 0..60 {
            contest.observe(&block(&[40, 0, 40], &[0.2, 0.6, 0.2], &mut rng));
        }
        let after = contest.standing();
        assert_eq!((after[0].rank, after[0].ratio), (Rank::Worse, retired.ratio));
        assert_eq!(after[1].rank, Rank::NotWorse);
    }

    #[test]
    fn anything_at_all_leaves_it_finite_and_small() {
        let odd = Terms {
            ratio_max: f64::NAN,
            safe_ratio: f64::INFINITY,
            better_ratio: -1.0,
            dispersion: f64::NAN,
            alpha: f64::NAN,
            beta: 2.0,
        };
        for terms in [Terms::USUAL, odd] {
            let mut contest = Contest::start(terms, 99);
            contest.observe(&[]);
            contest.observe(&[Counts::default(); 3]);
            for (bad, total) in [(u64::MAX, u64::MAX), (u64::MAX, 1), (0, u64::MAX), (1, 3)] {
                contest.observe(&[Counts { bad: 1, total: u64::MAX }, Counts { bad, total }]);
                contest.observe(&[Counts { bad, total }; 12]);
            }
            for standing in contest.standing() {
                let logs = [standing.log_e_worse, standing.log_e_not_worse, standing.log_e_better];
                assert!(logs.iter().all(|log| log.is_finite()), "{standing:?}");
            }
            let bytes = postcard::to_allocvec(&contest).unwrap();
            assert!(bytes.len() <= 1024, "{}", bytes.len());
            assert_eq!(postcard::from_bytes::<Contest>(&bytes).unwrap(), contest);
        }
        assert_eq!(Contest::start(Terms::USUAL, 0).best(), None);
    }
}
