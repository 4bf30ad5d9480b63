//! The population stability index with the usual bound: above 0.25 a mix has shifted.
//!
//! Every five minutes, the canary's mix of these minutes against control's. The bound takes no account of how many
//! requests there were.
//!
//! Source: Siddiqi, "Credit risk scorecards" (2006), where the bound comes from; it is what drift monitors have by default.

use crate::stats::population_stability_index;

const BOUND: f64 = 0.25;
const SCRAPES: u32 = 20;

/// The counts of the current five minutes, by category.
#[derive(Clone, Debug, Default)]
pub struct StabilityIndex {
    canary: Vec<f64>,
    control: Vec<f64>,
    scrapes: u32,
    has_shifted: bool,
}

impl StabilityIndex {
    /// Takes in one scrape, by category.
    pub fn take(&mut self, canary: &[u64], control: &[u64]) {
        for (sums, counts) in [(&mut self.canary, canary), (&mut self.control, control)] {
            sums.resize(sums.len().max(counts.len()), 0.0);
            sums.iter_mut().zip(counts).for_each(|(sum, n)| *sum += *n as f64);
        }
        self.scrapes += 1;
        if self.scrapes == SCRAPES {
            let index = population_stability_index(&self.control, &self.canary);
            let has_shifted = self.has_shifted || index.is_some_and(|index| index > BOUND);
            *self = Self { has_shifted, ..Self::default() };
        }
    }

    /// Whether the bound was passed.
    pub fn has_shifted(&self) -> bool {
        self.has_shifted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_minutes_are_judged_by_themselves() {
        let mut index = StabilityIndex::default();
        (0..20).for_each(|_| index.take(&[50, 50], &[500, 500]));
        (0..19).for_each(|_| index.take(&[90, 10], &[500, 500]));
        assert!(!index.has_shifted());
        index.take(&[90, 10], &[500, 500]);
        assert!(index.has_shifted());
    }
}
