//! Which bucket edges two histograms are compared at, and what fell above them.

use crate::domain::Histogram;

/// Most edges compared at once.
pub(super) const EDGES: usize = 6;
/// Buckets between that many edges.
pub(super) const WHOLE: usize = EDGES + 1;
/// For each further edge: between which parts of the requests it has above it. The first serves the whole distribution
/// only. Fixed ranges, so that a slot goes on with the same edge while the distribution stands.
const RANGES: [(f64, f64); EDGES - 1] = [(0.55, 0.98), (0.15, 0.55), (0.035, 0.15), (0.006, 0.035), (0.0002, 0.006)];

/// The chosen edges.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Edges {
    bounds: [f64; EDGES],
    /// How many there are.
    pub(super) count: usize,
    /// The place of the check's own edge, then of each range's, where there is one.
    pub(super) slots: [Option<usize>; EDGES],
}

/// What one arm, pod or segment had above each chosen edge.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// All requests.
    pub(super) n: f64,
    above: [f64; EDGES],
    count: usize,
}

impl Edges {
    /// Chooses among the edges common to both arms by what both together had above them; `None` where nothing can be
    /// compared.
    pub(super) fn choose(control: &Histogram, canary: &Histogram, slow_above: f64) -> Option<Self> {
        if !is_sound(control) || !is_sound(canary) {
            return None;
        }
        let pooled = pooled(control, canary);
        let all = total(control) + total(canary);
        let slow = pooled.iter().position(|(bound, _)| *bound >= slow_above);
        let mut chosen: [Option<usize>; EDGES] = [None; EDGES];
        chosen[0] = slow;
        for (place, (least, most)) in chosen.iter_mut().skip(1).zip(RANGES) {
            // In the middle of the range, on the scale of the logarithm.
            let off = |above: f64| (above * above / (all * all * least * most)).ln().abs();
            let within = pooled.iter().enumerate().filter(|(_, (_, above))| (least..most).contains(&(above / all)));
            *place = within.min_by(|(_, one), (_, other)| off(one.1).total_cmp(&off(other.1))).map(|(i, _)| i);
        }
        let mut places: Vec<usize> = chosen.iter().flatten().copied().collect();
        places.sort_unstable();
        places.dedup();
        let mut edges = Self { bounds: [0.0; EDGES], count: places.len(), slots: [None; EDGES] };
        for (bound, place) in edges.bounds.iter_mut().zip(&places) {
            *bound = pooled.get(*place).map_or(0.0, |(bound, _)| *bound);
        }
        for (slot, chosen) in edges.slots.iter_mut().zip(chosen) {
            *slot = chosen.and_then(|chosen| places.iter().position(|place| *place == chosen));
        }
        (edges.count > 0).then_some(edges)
    }

    /// What `histogram` has above each edge; `None` if it lacks one of them.
    pub(super) fn sample(&self, histogram: &Histogram) -> Option<Sample> {
        if histogram.counts.len() != histogram.bounds.len() + 1 {
            return None;
        }
        let mut sample = Sample { n: 0.0, above: [0.0; EDGES], count: self.count };
        let mut left = self.count;
        let mut beyond = 0.0;
        let mut counts = histogram.counts.iter().rev();
        for bound in histogram.bounds.iter().rev() {
            beyond += *counts.next()? as f64;
            let edge = left.checked_sub(1).and_then(|at| self.bounds.get(at));
            if edge == Some(bound) {
                left -= 1;
                *sample.above.get_mut(left)? = beyond;
            }
        }
        sample.n = beyond + *counts.next()? as f64;
        (left == 0).then_some(sample)
    }

    /// The place of the edge that is bet on in a slot: the check's own, then those of the ranges after the first.
    pub(super) fn bet_on(&self, slot: usize) -> Option<usize> {
        self.slots.get(if slot == 0 { 0 } else { slot + 1 }).copied().flatten()
    }

    /// Each bucket's normal score: the normal quantile of the middle of its ranks among all of `both`.
    pub(super) fn scores(&self, both: &Sample) -> [f64; WHOLE] {
        let mut below = 0.0;
        std::array::from_fn(|b| {
            let here = both.within(b);
            let middle = (below + here / 2.0) / both.n.max(1.0);
            below += here;
            if here > 0.0 { normal_quantile(middle.clamp(1e-6, 1.0 - 1e-6)) } else { 0.0 }
        })
    }

    /// The same with mean 0 and variance 1 over `both`; `None` where all are alike.
    pub(super) fn standard_scores(&self, both: &Sample) -> Option<[f64; WHOLE]> {
        let scores = self.scores(both);
        let moment = |power: i32| {
            let score = |b: usize| scores.get(b).copied().unwrap_or(0.0);
            (0..WHOLE).map(|b| both.within(b) * score(b).powi(power)).sum::<f64>() / both.n
        };
        let (mean, deviation) = (moment(1), (moment(2) - moment(1).powi(2)).max(0.0).sqrt());
        (deviation >= 1e-6 && deviation.is_finite()).then(|| scores.map(|score| (score - mean) / deviation))
    }
}

impl Sample {
    /// How many are above an edge.
    pub(super) fn above(&self, edge: usize) -> f64 {
        self.above.get(edge).copied().unwrap_or(0.0)
    }

    /// How many are in a bucket: between the edge before and its own.
    pub(super) fn within(&self, bucket: usize) -> f64 {
        let from = bucket.checked_sub(1).map_or(self.n, |edge| self.above(edge));
        let beyond = if bucket < self.count { self.above(bucket) } else { 0.0 };
        if bucket > self.count { 0.0 } else { (from - beyond).max(0.0) }
    }

    fn zip(&self, other: &Self, join: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            n: join(self.n, other.n),
            above: std::array::from_fn(|edge| join(self.above(edge), other.above(edge))),
            count: self.count.max(other.count),
        }
    }

    /// Both together.
    pub(super) fn plus(&self, other: &Self) -> Self {
        self.zip(other, |one, other| one + other)
    }

    /// What is left without `part`; nothing goes below zero.
    pub(super) fn minus(&self, part: &Self) -> Self {
        self.zip(part, |all, part| (all - part).max(0.0))
    }
}

/// Whether a histogram can be read: rising bounds and one more bucket than bounds.
pub(in crate::stats) fn is_sound(histogram: &Histogram) -> bool {
    let is_rising = |pair: &[f64]| matches!(pair, [one, next] if one < next);
    histogram.counts.len() == histogram.bounds.len() + 1
        && histogram.bounds.iter().all(|bound| !bound.is_nan())
        && histogram.bounds.windows(2).all(is_rising)
}

fn total(histogram: &Histogram) -> f64 {
    histogram.counts.iter().map(|n| *n as f64).sum()
}

/// Bounds that both have, rising, with what both together have above each.
fn pooled(one: &Histogram, other: &Histogram) -> Vec<(f64, f64)> {
    let mut pooled = Vec::with_capacity(one.bounds.len());
    let (mut above_one, mut above_other) = (0.0, 0.0);
    let mut rest = other.bounds.iter().zip(other.counts.iter().skip(1)).rev().peekable();
    for (bound, n) in one.bounds.iter().zip(one.counts.iter().skip(1)).rev() {
        above_one += *n as f64;
        while let Some((same, n)) = rest.next_if(|(edge, _)| *edge >= bound) {
            above_other += *n as f64;
            if same == bound {
                pooled.push((*bound, above_one + above_other));
            }
        }
    }
    pooled.reverse();
    pooled
}

/// The normal density over the chance of being above and of being below: how much the log odds of being above an edge
/// change with a shift, where `q` are above it.
pub(super) fn log_odds_per_shift(q: f64) -> f64 {
    let q = q.clamp(1e-6, 1.0 - 1e-6);
    let z = normal_quantile(q);
    (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt() / (q * (1.0 - q))
}

/// The standard normal quantile of a chance inside (0, 1); absolute error below 4.5e-4 (Abramowitz and Stegun, 26.2.23),
/// which is plenty for a score.
pub(super) fn normal_quantile(p: f64) -> f64 {
    let tail = p.min(1.0 - p).max(1e-300);
    let t = (-2.0 * tail.ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    let z = t - above / below;
    if p < 0.5 { -z } else { z }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(bounds: &[f64], counts: &[u64]) -> Histogram {
        Histogram { bounds: bounds.to_vec(), counts: counts.to_vec() }
    }

    #[test]
    fn only_common_edges_are_chosen_and_what_is_above_them_is_counted_in_each_arm() {
        let control = histogram(&[0.1, 0.2, 0.5, 1.0], &[50, 25, 15, 8, 2]);
        let canary = histogram(&[0.1, 0.25, 0.5, 1.0], &[5, 3, 1, 1, 0]);
        let edges = Edges::choose(&control, &canary, 0.2).unwrap();
        assert_eq!(edges.bounds.iter().take(edges.count).copied().collect::<Vec<_>>(), [0.1, 0.5, 1.0]);
        assert_eq!(edges.slots[0], Some(1), "0.2 is not common: the next edge");
        let sample = edges.sample(&control).unwrap();
        assert_eq!((sample.n, sample.above(0), sample.above(1), sample.above(2)), (100.0, 50.0, 10.0, 2.0));
        assert_eq!([0, 1, 2, 3, 4].map(|b| sample.within(b)), [50.0, 40.0, 8.0, 2.0, 0.0]);
        assert_eq!(edges.sample(&histogram(&[0.2], &[1, 1])), None);
    }

    #[test]
    fn nothing_common_or_not_sound_is_nothing_to_compare() {
        let one = histogram(&[0.1, 1.0], &[5, 3, 1]);
        for other in [
            histogram(&[0.2, 2.0], &[5, 3, 1]),
            histogram(&[1.0, 0.1], &[5, 3, 1]),
            histogram(&[0.1, f64::NAN], &[5, 3, 1]),
            histogram(&[0.1, 1.0], &[5, 3]),
            Histogram::default(),
        ] {
            assert_eq!(Edges::choose(&one, &other, 0.5), None, "{other:?}");
        }
    }

    #[test]
    fn normal_quantiles_are_those_of_the_tables() {
        for (p, z) in [(0.5, 0.0), (0.975, 1.959_964), (0.01, -2.326_348), (0.999, 3.090_232)] {
            assert!((normal_quantile(p) - z).abs() < 5e-4, "{p}");
        }
    }
}
