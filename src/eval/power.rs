//! The power suite: how long harmful rollouts last, beside the limit.

use super::trial::Outcome;

/// How fast a method was in one case. `None` where that part of the rollouts was not found while they were watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// Half of the rollouts were found within so many seconds.
    pub median: Option<u32>,
    /// Nine of ten were.
    pub ninetieth: Option<u32>,
    /// Rollouts that were found.
    pub found: u64,
    /// Of so many.
    pub runs: u64,
}

impl Delay {
    /// Of what was seen.
    pub fn of(outcome: &Outcome) -> Self {
        let (median, ninetieth) = (outcome.quantile(0.5), outcome.quantile(0.9));
        Self { median, ninetieth, found: outcome.hits(), runs: outcome.runs }
    }

    /// The median in multiples of the limit.
    pub fn over(&self, limit_seconds: f64) -> Option<f64> {
        Some(f64::from(self.median?) / limit_seconds)
    }
}

/// Limits in seconds within which a delay over its limit says something of the test: below, the wait for the next scrape
/// counts for more than the test; above, half of the rollouts would be found after the watch has ended.
pub const TELLING: std::ops::RangeInclusive<f64> = 60.0..=7200.0;

/// The middle of some multiples, those of what was not found counted as larger than all; `None` where that is the middle.
pub fn middle(multiples: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let mut multiples: Vec<f64> = multiples.map(|multiple| multiple.unwrap_or(f64::INFINITY)).collect();
    multiples.sort_by(f64::total_cmp);
    let middle = *multiples.get(multiples.len().checked_sub(1)? / 2)?;
    middle.is_finite().then_some(middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_found_is_slower_than_everything() {
        let delay = Delay::of(&Outcome { runs: 4, delays: vec![30, 60, 90] });
        assert_eq!(delay, Delay { median: Some(60), ninetieth: None, found: 3, runs: 4 });
        assert_eq!(delay.over(30.0), Some(2.0));
        assert_eq!(middle([Some(1.0), None, Some(2.0)].into_iter()), Some(2.0));
        assert_eq!(middle([Some(1.0), None, None].into_iter()), None);
        assert_eq!(middle(std::iter::empty()), None);
    }
}
