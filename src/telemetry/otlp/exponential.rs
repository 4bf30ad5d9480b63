//! Exponential histograms, put on edges that do not move.
//!
//! An SDK chooses the scale of an exponential histogram by what it has seen, and coarsens it as it goes on, so that two
//! processes, or one at two times, have other edges. What is compared must be counted by one set of edges: a grid of four
//! edges for each doubling ([`GRID_SCALE`]), some 19% apart. Every finer scale has all edges of the grid among its own, so
//! what is counted at or below an edge of the grid is exact. Of a coarser one a bucket is counted at its upper edge.
//!
//! At scale `s` the bucket of index `i` is above `2^(i/2^s)` and at or below `2^((i+1)/2^s)`.

use std::collections::BTreeMap;

/// Edges of the grid: `2^(k/4)`.
const GRID_SCALE: i32 = 2;
/// How many doublings the grid spans, and so the edges it has but for the first.
const DOUBLINGS: i64 = 30;
const STEPS: i64 = DOUBLINGS << GRID_SCALE;
/// Buckets of the grid: at or below the first edge, between two, and above the last.
pub(super) const GRID_BUCKETS: usize = STEPS as usize + 2;
/// The scales that OpenTelemetry's data model knows.
pub(super) const SCALE_MIN: i32 = -10;
/// The finest.
pub(super) const SCALE_MAX: i32 = 20;

/// What one point shows: its zero bucket, and its positive buckets from index `offset` on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Exponential {
    pub(super) scale: i32,
    pub(super) zero: u64,
    pub(super) offset: i64,
    pub(super) counts: Vec<u64>,
}

impl Exponential {
    /// How many values it counts.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().fold(self.zero, |sum, count| sum.saturating_add(*count))
    }

    /// The counts on the grid for values of which so many are a second, as if the scale were no finer than `scale`.
    pub(super) fn on_grid(&self, per_second: f64, scale: i32) -> Vec<u64> {
        let mut grid = vec![0_u64; GRID_BUCKETS];
        let first = first_step(per_second);
        let mut put = |bucket: i64, count: u64| {
            let bucket = usize::try_from(bucket.clamp(0, STEPS + 1)).unwrap_or_default();
            if let Some(sum) = grid.get_mut(bucket) {
                *sum = sum.saturating_add(count);
            }
        };
        put(0, self.zero);
        let coarser = self.scale.saturating_sub(scale).max(0);
        let scale = self.scale - coarser;
        let mut at_scale: BTreeMap<i64, u64> = BTreeMap::new();
        for (index, count) in (self.offset..).zip(&self.counts) {
            let sum = at_scale.entry(index >> coarser).or_default();
            *sum = sum.saturating_add(*count);
        }
        for (index, count) in at_scale {
            let upper = if scale >= GRID_SCALE {
                (index >> (scale - GRID_SCALE)) + 1
            } else {
                (index + 1) << (GRID_SCALE - scale)
            };
            put(upper - first, count);
        }
        grid
    }
}

/// The edges of the grid in seconds, where the values are of a unit of time, and else as they are.
pub(super) fn edges(per_second: f64) -> Vec<f64> {
    let first = first_step(per_second);
    let steps = f64::from(1_u32 << GRID_SCALE);
    (first..=first + STEPS).map(|step| (step as f64 / steps).exp2() / per_second).collect()
}

/// The first edge, as a step of the grid: about 15 microseconds for times, and a sixteenth for what is none.
fn first_step(per_second: f64) -> i64 {
    let doublings = match per_second {
        1e3 => -6,
        1e6 => 4,
        1e9 => 14,
        _ => -16,
    };
    doublings << GRID_SCALE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(scale: i32, values: &[f64]) -> Exponential {
        let index = |value: f64| (value.log2() * f64::from(scale).exp2()).ceil() as i64 - 1;
        let indices: Vec<i64> = values.iter().map(|value| index(*value)).collect();
        let (low, high) = (*indices.iter().min().unwrap(), *indices.iter().max().unwrap());
        let mut counts = vec![0; (high - low + 1) as usize];
        indices.iter().for_each(|index| counts[(index - low) as usize] += 1);
        Exponential { scale, zero: 0, offset: low, counts }
    }

    #[test]
    fn the_grid_has_an_edge_for_each_bucket_but_the_last_and_rises() {
        for per_second in [1.0, 1e3, 1e6, 1e9] {
            let edges = edges(per_second);
            assert_eq!(edges.len() + 1, GRID_BUCKETS);
            assert!(edges.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(edges[0] < 2e-5 && *edges.last().unwrap() > 10_000.0, "{edges:?}");
        }
    }

    #[test]
    fn zeros_and_what_is_off_the_grid_are_counted_at_its_ends() {
        let shown = Exponential { scale: 0, zero: 5, offset: -40, counts: vec![2] };
        assert_eq!(shown.on_grid(1.0, SCALE_MAX)[0], 7);
        let shown = Exponential { scale: 0, zero: 0, offset: 40, counts: vec![3] };
        assert_eq!(shown.on_grid(1.0, SCALE_MAX)[GRID_BUCKETS - 1], 3);
        let extreme = Exponential { scale: -10, zero: 0, offset: i64::from(i32::MAX), counts: vec![1] };
        assert_eq!(extreme.on_grid(1.0, SCALE_MAX)[GRID_BUCKETS - 1], 1);
        let extreme = Exponential { scale: 20, zero: 0, offset: i64::from(i32::MIN), counts: vec![1] };
        assert_eq!(extreme.on_grid(1e9, SCALE_MAX)[0], 1);
    }

    proptest! {
        #[test]
        fn what_is_at_or_below_each_edge_is_exact_whatever_the_scale(
            values in proptest::collection::vec(0.000_02..10_000.0_f64, 1..50),
            scale in GRID_SCALE..8,
        ) {
            // Away from the edges themselves, where the logarithm above is not exact.
            let near = |value: f64| ((value.log2() * 256.0).round() - value.log2() * 256.0).abs() < 1e-6;
            prop_assume!(!values.iter().any(|value| near(*value)));
            let grid = of(scale, &values).on_grid(1.0, SCALE_MAX);
            let mut below = 0;
            for (edge, count) in edges(1.0).iter().zip(&grid) {
                below += count;
                prop_assert_eq!(below, values.iter().filter(|value| *value <= edge).count() as u64);
            }
            prop_assert_eq!(grid.iter().sum::<u64>(), values.len() as u64);
        }

        #[test]
        fn coarsening_changes_nothing_that_the_grid_shows_down_to_its_own_scale(
            values in proptest::collection::vec(0.000_02..10_000.0_f64, 1..50), to in GRID_SCALE..8,
        ) {
            let shown = of(8, &values);
            prop_assert_eq!(shown.on_grid(1.0, SCALE_MAX), shown.on_grid(1.0, to));
        }
    }
}
