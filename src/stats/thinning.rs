//! Counts that a server estimated, made smaller before they count as evidence.
//!
//! # Why
//! A server that is asked for the increase of a counter over a window (`increase` in PromQL) extrapolates to the ends of
//! the window: it may say more than was counted, the same for bad and total of one arm and not the same for both arms.
//! What is bet on a number of events rests on that number, so that one too large is evidence that nobody saw. Of an
//! estimated look four fifths count, of both arms and of bad and total alike: that keeps every rate and every share as
//! it is, and is no more than was counted as long as the server overstates by no more than a quarter. Evidence then
//! takes a quarter longer. Bounds that are no bets (hard limits, least samples) see the whole.
//!
//! # How
//! Rounded down, and what is rounded off is owed to the next look: the sum of what counts is never more than four fifths
//! of the sum of what was told, and less than one event below it. Without the debt a canary with one bad event a look
//! would never have any, and would be taken for safe.

use serde::{Deserialize, Serialize};

use crate::domain::{Counts, Histogram, PartKind, Reading, Tally};

/// So many of every [`OF`] events count.
const KEPT: u64 = 4;
const OF: u64 = 5;

/// What one arm is owed of earlier looks, in fifths of an event, each below five.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thinning {
    bad: u8,
    total: u8,
}

impl Thinning {
    /// Of an estimated reading, what counts as evidence. Readings of a gauge are not extrapolated and stay as they are.
    pub fn thin(&mut self, reading: &Reading) -> Reading {
        // Parts of a kind share their debt, so that their sum is thinned as the whole is.
        let mut owed = [*self; 3];
        let parts = reading.parts.iter().map(|part| {
            let owed = match part.kind {
                PartKind::Pod => &mut owed[0],
                PartKind::Tenant => &mut owed[1],
                PartKind::Segment => &mut owed[2],
            };
            crate::domain::Part { tally: owed.thin_tally(&part.tally), ..part.clone() }
        });
        let parts = parts.collect();
        Reading { tally: self.thin_tally(&reading.tally), parts }
    }

    fn thin_tally(&mut self, tally: &Tally) -> Tally {
        match tally {
            Tally::Counts(Counts { bad, total }) => {
                Tally::Counts(Counts { bad: kept(*bad, &mut self.bad), total: kept(*total, &mut self.total) })
            }
            Tally::Histogram(Histogram { bounds, counts }) => {
                let counts = counts.iter().map(|n| kept(*n, &mut self.total)).collect();
                Tally::Histogram(Histogram { bounds: bounds.clone(), counts })
            }
            Tally::Samples(samples) => Tally::Samples(samples.clone()),
            Tally::Mix(mix) => {
                Tally::Mix(mix.iter().map(|(name, n)| (name.clone(), kept(*n, &mut self.total))).collect())
            }
        }
    }
}

/// Four fifths of `n` and of what is owed, rounded down; the rest is owed.
fn kept(n: u64, owed: &mut u8) -> u64 {
    let fifths = (n % OF) * KEPT + u64::from(*owed);
    *owed = u8::try_from(fifths % OF).unwrap_or(0);
    (n / OF) * KEPT + fifths / OF
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Part, Text};

    fn counts(bad: u64, total: u64) -> Tally {
        Tally::Counts(Counts { bad, total })
    }

    #[test]
    fn four_fifths_count_and_never_more_however_the_looks_fall() {
        let (mut thinning, mut told, mut kept) = (Thinning::default(), Counts::default(), Counts::default());
        for look in 0..500_u64 {
            let seen = Counts { bad: look * look % 3, total: look % 17 };
            let Tally::Counts(thinned) = thinning.thin(&Reading::whole(Tally::Counts(seen))).tally else { panic!() };
            (told, kept) = (told.plus(seen), kept.plus(thinned));
            assert_eq!((kept.bad, kept.total), (told.bad * 4 / 5, told.total * 4 / 5), "look {look}");
        }
        let Tally::Counts(all) = Thinning::default().thin(&Reading::whole(counts(u64::MAX, 5))).tally else { panic!() };
        assert_eq!((all.bad, all.total), (u64::MAX / 5 * 4, 4), "no number is too large");
    }

    #[test]
    fn parts_buckets_and_categories_are_thinned_as_their_sum_is() {
        let pod = |name: &str| Part { kind: PartKind::Pod, name: Text::new(name), tally: counts(1, 3) };
        let reading = Reading { tally: counts(5, 15), parts: ["a", "b", "c", "d", "e"].map(pod).to_vec() };
        let thinned = Thinning::default().thin(&reading);
        let sum = thinned.parts.iter().fold(Counts::default(), |sum, part| match part.tally {
            Tally::Counts(counts) => sum.plus(counts),
            _ => panic!(),
        });
        assert_eq!((thinned.tally, Tally::Counts(sum)), (counts(4, 12), counts(4, 12)));
        let buckets = Histogram { bounds: vec![1.0], counts: vec![3, 2] };
        let Tally::Histogram(thin) = Thinning::default().thin(&Reading::whole(Tally::Histogram(buckets))).tally else {
            panic!()
        };
        assert_eq!(thin.counts, [2, 2]);
        let mix = Tally::Mix(vec![("a".into(), 1), ("b".into(), 4)]);
        assert_eq!(
            Thinning::default().thin(&Reading::whole(mix)).tally,
            Tally::Mix(vec![("a".into(), 0), ("b".into(), 4)])
        );
        let gauge = Reading::whole(Tally::Samples(vec![1.5]));
        assert_eq!(Thinning::default().thin(&gauge), gauge);
    }
}
