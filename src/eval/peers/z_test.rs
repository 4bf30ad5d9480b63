//! A z-test of two proportions with a pooled variance, looked at after every scrape as if it were the only look: what many
//! scripts around a dashboard do. It rolls back at a one-sided p below 0.001.
//!
//! Source: any textbook; that looking again and again breaks it is Armitage, McPherson and Rowe, "Repeated significance
//! tests on accumulating data" (1969).

use crate::{
    domain::Counts,
    eval::contender::{Contender, Known, Seen},
};

/// `scipy.stats.norm.isf(0.001)`.
const CRITICAL: f64 = 3.090_232_306_167_813;

/// What both arms have counted so far.
#[derive(Clone, Debug, Default)]
pub struct ZTest {
    canary: Counts,
    control: Counts,
}

impl ZTest {
    /// Nothing seen.
    pub fn start(_: &Known<'_>) -> Self {
        Self::default()
    }

    fn z(&self) -> Option<f64> {
        let (canary, control) = (self.canary.rate()?, self.control.rate()?);
        let pooled = self.canary.plus(self.control).rate()?;
        let deviation =
            (pooled * (1.0 - pooled) * (1.0 / self.canary.total as f64 + 1.0 / self.control.total as f64)).sqrt();
        (deviation > 0.0).then(|| (canary - control) / deviation)
    }
}

impl Contender for ZTest {
    fn observe(&mut self, seen: &Seen<'_>) {
        self.canary = self.canary.plus(seen.canary);
        self.control = self.control.plus(seen.control);
    }

    fn has_rolled_back(&self) -> bool {
        self.z().is_some_and(|z| z > CRITICAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::peers::testing::{feed, started};

    #[test]
    fn the_statistic_is_the_textbooks() {
        let test = ZTest { canary: Counts { bad: 12, total: 400 }, control: Counts { bad: 30, total: 7600 } };
        assert!((test.z().unwrap() - 7.027_595_736_345_257_5).abs() < 1e-12);
        assert_eq!(ZTest::default().z(), None);
    }

    #[test]
    fn it_finds_what_is_bad() {
        let mut test = started(0.01, ZTest::start);
        assert_eq!(feed(&mut test, &[[(1, 100), (19, 1900), (1, 100)]; 10]), None);
        assert!(feed(&mut test, &[[(9, 100), (19, 1900), (1, 100)]; 10]).is_some());
    }
}
