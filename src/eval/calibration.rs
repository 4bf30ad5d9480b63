//! The calibration suite: how often harmless rollouts are taken back, with exact bounds.
//!
//! The bounds that are shown hold with [`CONFIDENCE`] each by itself. Among hundreds of cells some of them miss by chance,
//! also where every promise is kept exactly. So a promise is called broken only where a bound says so that holds in all
//! cells at once with that confidence (Bonferroni's correction).

use super::{
    intervals::{lower_bound, upper_bound},
    suite::{Exception, Method},
    trial::Outcome,
};

/// Confidence of the bounds, each by itself.
pub const CONFIDENCE: f64 = 0.95;

/// How often a method took harmless rollouts of one case back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Rolled back.
    pub hits: u64,
    /// Of so many.
    pub runs: u64,
    /// The share that was counted.
    pub share: f64,
    /// The true share is not below this, with [`CONFIDENCE`].
    pub lower: f64,
    /// The true share is not above this, with [`CONFIDENCE`].
    pub upper: f64,
}

impl Rate {
    /// Of what was counted.
    pub fn of(outcome: &Outcome) -> Self {
        let (hits, runs) = (outcome.hits(), outcome.runs);
        Self {
            hits,
            runs,
            share: hits as f64 / runs.max(1) as f64,
            lower: lower_bound(hits, runs, CONFIDENCE),
            upper: upper_bound(hits, runs, CONFIDENCE),
        }
    }
}

/// What a rate means for a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Even the upper bound keeps it.
    Kept,
    /// The bounds leave it open.
    Open,
    /// Even a lower bound breaks it that holds in all cells at once.
    Broken,
}

/// What `rate` means for a method that promised, where so many cells are judged together; `None` for one that did not.
pub fn standing(method: &Method, rate: &Rate, cells: usize) -> Option<Standing> {
    let promise = method.promise?;
    if rate.upper <= promise {
        return Some(Standing::Kept);
    }
    let sure = 1.0 - (1.0 - CONFIDENCE) / cells.max(1) as f64;
    let is_broken = rate.lower > promise && lower_bound(rate.hits, rate.runs, sure) > promise;
    Some(if is_broken { Standing::Broken } else { Standing::Open })
}

/// The exception that names this method and family.
pub fn exception<'a>(exceptions: &'a [Exception], method: &Method, family: &str) -> Option<&'a Exception> {
    exceptions.iter().find(|exception| exception.method == method.name && exception.family == family)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_broken_only_beyond_doubt() {
        let method = Method::ours("ours", "for this test", Some(0.001));
        let among = |cells, hits: usize, runs| {
            let rate = Rate::of(&Outcome { runs, delays: vec![15; hits] });
            super::standing(&method, &rate, cells)
        };
        let standing = |hits, runs| among(1, hits, runs);
        assert_eq!(standing(0, 10_000), Some(Standing::Kept));
        assert_eq!(standing(4, 10_000), Some(Standing::Kept));
        assert_eq!(standing(5, 10_000), Some(Standing::Open));
        assert_eq!(standing(15, 10_000), Some(Standing::Open));
        assert_eq!(standing(17, 10_000), Some(Standing::Broken));
        assert_eq!(standing(0, 100), Some(Standing::Open), "too few runs to say");
        assert_eq!(standing(0, 0), Some(Standing::Open));
        assert_eq!(standing(2, 100), Some(Standing::Broken));
        assert_eq!(among(300, 17, 10_000), Some(Standing::Open), "among 300 cells that is chance");
        assert_eq!(among(300, 25, 10_000), Some(Standing::Broken));
        assert_eq!(among(300, 4, 10_000), Some(Standing::Kept));
        assert_eq!(among(0, 17, 10_000), standing(17, 10_000));
        let rival = Method::rival("theirs", "promises nothing at all");
        assert_eq!(super::standing(&rival, &Rate::of(&Outcome { runs: 1, delays: vec![1] }), 1), None);
    }
}
