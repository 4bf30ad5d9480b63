//! Native histograms as classic ones: cumulative counts at edges that never change.
//!
//! A native histogram shows only the buckets that hold something, and more of them as time goes on. Counting compares one
//! reading with the next bucket by bucket, so they are gathered into edges of our own, four to each doubling from a
//! microsecond to some twenty minutes, which are edges of every finer native histogram as well. Of a coarser one each
//! bucket counts as lying at its upper bound.

use super::reply::Native;
use crate::telemetry::exposition::Series;

/// Edges to each doubling.
const EDGES_EACH: i32 = 4;
/// The lowest edge is two to the power of this, in seconds.
const LOWEST: i32 = -20;
/// The highest.
const HIGHEST: i32 = 10;
/// What an upper bound may lie beyond an edge by rounding alone.
const ROUNDING: f64 = 1.0 + 1e-9;

/// The edges, in rising order.
fn edges() -> impl Iterator<Item = f64> {
    (LOWEST * EDGES_EACH..=HIGHEST * EDGES_EACH).map(|step| (f64::from(step) / f64::from(EDGES_EACH)).exp2())
}

/// The series of a classic histogram that show what a native one of this name shows.
pub(super) fn buckets(series: &Series, histogram: &Native) -> Vec<(Series, f64)> {
    let bucket = |edge: String, count: f64| {
        let mut labels = series.labels.clone();
        labels.insert("le".into(), edge);
        (Series { name: format!("{}_bucket", series.name), labels }, count)
    };
    let mut below = 0.0;
    let mut rest = histogram.buckets.iter().peekable();
    let mut shown: Vec<(Series, f64)> = Vec::new();
    for edge in edges() {
        while let Some((_, _, _, count)) = rest.next_if(|(_, _, upper, _)| upper.0 <= edge * ROUNDING) {
            below += count.0;
        }
        shown.push(bucket(edge.to_string(), below));
    }
    shown.push(bucket("+Inf".into(), histogram.count.0));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::prometheus::reply::Number;

    fn native(count: f64, buckets: &[(f64, f64, f64)]) -> Native {
        let bucket = |(lower, upper, count): &(f64, f64, f64)| (0, Number(*lower), Number(*upper), Number(*count));
        Native { count: Number(count), buckets: buckets.iter().map(bucket).collect() }
    }

    fn at(shown: &[(Series, f64)], edge: &str) -> f64 {
        shown.iter().find(|(series, _)| series.labels["le"] == edge).unwrap().1
    }

    #[test]
    fn buckets_are_cumulative_at_edges_that_do_not_depend_on_what_is_in_them() {
        let series = Series { name: "took".into(), ..Series::default() };
        let fine = 2_f64.powf(-0.875);
        let shown = buckets(&series, &native(10.0, &[(0.25, 0.5, 4.0), (0.5, fine, 2.0), (fine, 1.0, 3.0)]));
        assert_eq!((at(&shown, "0.25"), at(&shown, "0.5"), at(&shown, "1"), at(&shown, "+Inf")), (0.0, 4.0, 9.0, 10.0));
        assert_eq!(at(&shown, &2_f64.powf(-0.75).to_string()), 6.0, "between two of its bounds the lower counts");
        let empty = buckets(&series, &native(0.0, &[]));
        assert_eq!(shown.len(), empty.len());
        assert!(shown.len() <= crate::telemetry::counting::BUCKETS_MAX);
        assert!(shown.iter().all(|(series, _)| series.name == "took_bucket"));
    }

    #[test]
    fn what_lies_beyond_the_edges_is_counted_with_all() {
        let series = Series { name: "took".into(), ..Series::default() };
        let shown = buckets(&series, &native(7.0, &[(-0.001, 0.0, 1.0), (0.0, 1e-12, 2.0), (2_000.0, 4_000.0, 4.0)]));
        assert_eq!((shown[0].1, at(&shown, "1024"), at(&shown, "+Inf")), (3.0, 3.0, 7.0));
    }
}
