//! A chi-square test of two mixes that is looked at after every scrape: what a dashboard with a p-value amounts to.
//!
//! Pearson's test of homogeneity on all that was counted so far, at 0.001. Categories that neither arm has are left out;
//! nothing corrects for the looks.
//!
//! Source: Pearson (1900); the critical values are `scipy.stats.chi2.ppf(0.999, df)`.

/// For 1 to 10 degrees of freedom.
const CRITICAL: [f64; 10] = [
    10.827_566, 13.815_511, 16.266_236, 18.466_827, 20.515_006, 22.457_744, 24.321_886, 26.124_482, 27.877_165,
    29.588_298,
];

/// The counts so far, by category.
#[derive(Clone, Debug, Default)]
pub struct ChiSquare {
    canary: Vec<f64>,
    control: Vec<f64>,
    is_significant: bool,
}

impl ChiSquare {
    /// Takes in one scrape, by category.
    pub fn take(&mut self, canary: &[u64], control: &[u64]) {
        for (sums, counts) in [(&mut self.canary, canary), (&mut self.control, control)] {
            sums.resize(sums.len().max(counts.len()), 0.0);
            sums.iter_mut().zip(counts).for_each(|(sum, n)| *sum += *n as f64);
        }
        self.is_significant |= self.statistic().is_some_and(|(statistic, critical)| statistic > critical);
    }

    /// Whether a look was significant.
    pub fn is_significant(&self) -> bool {
        self.is_significant
    }

    /// The statistic, and what it may be.
    fn statistic(&self) -> Option<(f64, f64)> {
        let (canary, control) = (self.canary.iter().sum::<f64>(), self.control.iter().sum::<f64>());
        if canary == 0.0 || control == 0.0 {
            return None;
        }
        let (mut statistic, mut categories) = (0.0, 0_usize);
        for (here, there) in self.canary.iter().zip(&self.control).filter(|(here, there)| **here + **there > 0.0) {
            categories += 1;
            let part = canary / (canary + control);
            for (seen, expected) in [(here, (here + there) * part), (there, (here + there) * (1.0 - part))] {
                statistic += (seen - expected).powi(2) / expected;
            }
        }
        Some((statistic, *CRITICAL.get(categories.checked_sub(2)?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistic_is_what_scipy_computes() {
        // chi2_contingency([[30, 50, 20], [200, 500, 300]], correction=False)
        let mut test = ChiSquare::default();
        test.take(&[30, 50, 20, 0], &[200, 500, 300, 0]);
        let (statistic, critical) = test.statistic().unwrap();
        assert!((statistic - 7.472_826_086_956_518).abs() < 1e-9, "{statistic}");
        assert_eq!(critical, CRITICAL[1]);
        assert!(!test.is_significant());
        test.take(&[300, 500, 200, 0], &[2000, 5000, 3000, 0]);
        assert!(test.is_significant());
    }

    #[test]
    fn nothing_on_one_arm_is_not_significant() {
        let mut test = ChiSquare::default();
        test.take(&[], &[5, 5]);
        test.take(&[9, 0], &[0, 0]);
        assert!(ChiSquare::default().statistic().is_none() && !test.is_significant());
    }
}
