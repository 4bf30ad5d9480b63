//! One window of both arms as the latency test takes it in: what fell above each edge and into each bucket, of the whole
//! and of the parts that can be left out, and what each bet pays for it.

use std::collections::BTreeMap;

use super::{
    BET_MAX, BETS, FACTOR_MAX, Factors, MISMATCH_MIN, POD_GROUPS, SHARE_MIN, SHIFTED, SLOTS, WORSE,
    edges::{EDGES, Edges, Sample, WHOLE},
    pods::Tolerated,
};
use crate::{
    domain::{PartKind, Reading, Tally, Text},
    stats::{Block, name_hash},
};

/// Both arms' requests above the edges of one window.
pub(super) struct Arms {
    pub(super) edges: Edges,
    pub(super) control: Sample,
    pub(super) canary: Sample,
    /// The canary's pods, in the order of their names; empty where they cannot be told apart.
    pub(super) canary_pods: Vec<Sample>,
    pub(super) control_pods: Vec<Sample>,
    /// Tenants by the stand-ins of their names, control's then the canary's.
    pub(super) tenants: Vec<(u32, Sample, Sample)>,
    /// The segment whose share of the traffic differs most between the arms, and by how much.
    pub(super) mismatch: Option<(f64, Text)>,
    /// By how much the odds of the split differ above each edge because of the mix of segments, and in each bucket.
    pub(super) mix_above: [f64; EDGES],
    pub(super) mix_within: [f64; WHOLE],
}

/// What fell above one edge, or into one bucket.
pub(super) struct Split {
    pub(super) on_canary: f64,
    pub(super) all: f64,
    /// The canary's share of the traffic.
    pub(super) theta: f64,
    /// Part of all requests that is above.
    pub(super) q: f64,
}

impl Split {
    /// The canary's expected share, if its odds of being above are `odds` times control's.
    pub(super) fn share(&self, odds: f64) -> f64 {
        let ratio = odds / (1.0 - self.q + odds * self.q);
        share_of(self.theta, ratio)
    }

    /// Logarithm of the likelihood ratio of two shares.
    pub(super) fn log_ratio(&self, supposed: f64, tolerated: f64) -> f64 {
        let on_control = self.all - self.on_canary;
        self.on_canary * (supposed / tolerated).ln() + on_control * ((1.0 - supposed) / (1.0 - tolerated)).ln()
    }
}

/// The canary's share of events, if it has `ratio` times as many for its `theta` of the traffic; kept off 0 and 1.
fn share_of(theta: f64, ratio: f64) -> f64 {
    (theta * ratio / (theta * ratio + 1.0 - theta)).clamp(SHARE_MIN, 1.0 - SHARE_MIN)
}

impl Arms {
    pub(super) fn read(block: &Block<'_>, slow_above: f64) -> Option<Self> {
        let (Tally::Histogram(control), Tally::Histogram(canary)) = (&block.control.tally, &block.canary.tally) else {
            return None;
        };
        let edges = Edges::choose(control, canary, slow_above)?;
        let arms = (edges.sample(control)?, edges.sample(canary)?);
        let mut read = Self {
            canary_pods: pods(&edges, block.canary),
            control_pods: pods(&edges, block.control),
            tenants: joined(&edges, block, PartKind::Tenant)
                .into_iter()
                .flatten()
                .map(|(name, (control, canary))| (name_hash(name.as_str()), control, canary))
                .collect(),
            mismatch: None,
            edges,
            control: arms.0,
            canary: arms.1,
            mix_above: [1.0; EDGES],
            mix_within: [1.0; WHOLE],
        };
        read.compare_mix(block);
        Some(read)
    }

    /// The canary without the pods of a group, if there is a group and something is left.
    pub(super) fn without_group(&self, view: usize) -> Option<Sample> {
        let pods = self.canary_pods.len();
        if view == 0 || pods < 2 {
            return None;
        }
        let groups = pods.min(POD_GROUPS);
        let out = self.canary_pods.iter().skip((view - 1) % groups).step_by(groups);
        let rest = out.fold(self.canary.clone(), |rest, pod| rest.minus(pod));
        (rest.n > 0.0).then_some(rest)
    }

    /// Both arms without some tenants, unless these have most of an arm.
    pub(super) fn without(&self, tenants: &[u32]) -> Option<(Sample, Sample)> {
        let mut rest = (self.control.clone(), self.canary.clone());
        for (_, control, canary) in self.tenants.iter().filter(|(name, ..)| tenants.contains(name)) {
            let less = (rest.0.minus(control), rest.1.minus(canary));
            if less.0.n > 0.5 * self.control.n && less.1.n > 0.5 * self.canary.n {
                rest = less;
            }
        }
        (rest.1.n < self.canary.n).then_some(rest)
    }

    /// How much more of `part` is above the edges than of both arms, in standard deviations, summed over the edges.
    pub(super) fn excess(&self, part: &Sample) -> f64 {
        let both = self.control.plus(&self.canary);
        let over = |slot: usize| {
            let at = self.edges.bet_on(slot)?;
            let q = both.above(at) / both.n;
            (q > 0.0 && q < 1.0).then(|| (part.above(at) - part.n * q) / (part.n * q * (1.0 - q) + 1.0).sqrt())
        };
        (0..SLOTS).filter_map(over).sum()
    }

    /// Where both arms' segments are known: the split within segments, weighted by what fell above each edge.
    pub(super) fn compare_mix(&mut self, block: &Block<'_>) {
        let Some(segments) = joined(&self.edges, block, PartKind::Segment) else { return };
        let differs = |control: &Sample, canary: &Sample| (canary.n / self.canary.n - control.n / self.control.n).abs();
        self.mismatch = segments
            .iter()
            .map(|(name, (control, canary))| (differs(control, canary), *name))
            .filter(|(differs, _)| *differs > MISMATCH_MIN)
            .max_by(|one, other| one.0.total_cmp(&other.0))
            .map(|(differs, name)| (differs.min(1.0), shortened(name)));
        let segments: Vec<_> = segments.into_values().collect();
        let known = segments.iter().fold((Sample::default(), Sample::default()), |sum, (control, canary)| {
            (sum.0.plus(control), sum.1.plus(canary))
        });
        let rest = (self.control.minus(&known.0), self.canary.minus(&known.1));
        let plain = share_of(self.canary.n / (self.canary.n + self.control.n), 1.0);
        let strata: Vec<_> = segments.into_iter().chain([rest]).collect();
        let mix = |count: &dyn Fn(&Sample) -> f64| {
            let (mut expected, mut all) = (0.0, 0.0);
            for (control, canary) in strata.iter().filter(|(control, canary)| control.n + canary.n > 0.0) {
                let here = count(control) + count(canary);
                expected += here * canary.n / (canary.n + control.n);
                all += here;
            }
            let within = share_of(expected / all, 1.0);
            if all > 0.0 { within / (1.0 - within) * (1.0 - plain) / plain } else { 1.0 }
        };
        self.mix_above = std::array::from_fn(|edge| mix(&|sample| sample.above(edge)));
        self.mix_within = std::array::from_fn(|bucket| mix(&|sample| sample.within(bucket)));
    }

    /// The share of traffic that stands for `above` of an edge: the split, corrected for the mix of segments.
    pub(super) fn theta(&self, control: &Sample, canary: &Sample, mix: f64) -> f64 {
        share_of(canary.n / (canary.n + control.n), mix)
    }

    pub(super) fn split(&self, control: &Sample, canary: &Sample, at: usize) -> Option<Split> {
        let (on_canary, on_control) = (canary.above(at), control.above(at));
        let (all, n) = (on_canary + on_control, canary.n + control.n);
        let mix = self.mix_above.get(at).copied().unwrap_or(1.0);
        let theta = self.theta(control, canary, mix);
        (all > 0.0).then(|| Split { on_canary, all, theta, q: (all / n).min(1.0) })
    }

    pub(super) fn factors(&self, control: &Sample, canary: &Sample, tolerated: &Tolerated) -> Factors {
        let mut factors = Factors::NONE;
        for (slot, cells) in factors.edges.iter_mut().enumerate() {
            if let Some(split) = self.edges.bet_on(slot).and_then(|at| self.split(control, canary, at)) {
                edge_factors(&split, slot, tolerated, cells);
            }
        }
        self.whole_factors(control, canary, tolerated, &mut factors.whole);
        factors
    }

    /// The canary's shift against both arms together, and how much is known of it, as an inverse variance.
    pub(super) fn shift(&self, control: &Sample, canary: &Sample) -> Option<(f64, f64)> {
        let both = control.plus(canary);
        let scores = self.edges.standard_scores(&both)?;
        let (mut excess, mut known) = (0.0, 0.0);
        for (b, score) in scores.iter().enumerate().take(self.edges.count + 1) {
            let theta = self.theta(control, canary, self.mix_within.get(b).copied().unwrap_or(1.0));
            excess += (canary.within(b) - theta * both.within(b)) * score;
            known += theta * (1.0 - theta) * both.within(b) * score * score;
        }
        (known > 1e-6 && known.is_finite()).then(|| (excess / known, known))
    }

    /// The likelihood ratio of a larger shift than tolerated, bucket by bucket between the chosen edges.
    pub(super) fn whole_factors(&self, control: &Sample, canary: &Sample, tolerated: &Tolerated, cells: &mut [f64]) {
        let both = control.plus(canary);
        let scores = self.edges.scores(&both);
        // What a shift multiplies each bucket's odds by, and the logarithm of the constant that is left out of it.
        let supposed = |shift: f64| {
            let tilt = scores.map(|score| (shift * score).exp());
            let mean: f64 = tilt.iter().enumerate().map(|(b, tilt)| both.within(b) * tilt).sum();
            (tilt.map(|tilt| tilt * both.n / mean), mean.ln())
        };
        let (at_most, log_mean) = supposed(tolerated.shift);
        let thetas: [f64; WHOLE] =
            std::array::from_fn(|b| self.theta(control, canary, self.mix_within.get(b).copied().unwrap_or(1.0)));
        let phi = tolerated.whole_phi;
        for (factor, more) in cells.iter_mut().zip(SHIFTED) {
            let (worse, log_mean_worse) = supposed(tolerated.shift + more);
            let mut log = 0.0;
            let buckets = worse.iter().zip(&at_most).zip(thetas.iter().zip(&scores));
            for (b, ((worse, at_most), (theta, score))) in buckets.enumerate().take(self.edges.count + 1) {
                let (on_canary, all) = (canary.within(b), both.within(b));
                if all > 0.0 {
                    // As for shares, with the logarithm of the ratio of the odds known from the scores.
                    let log_odds = more * score + log_mean - log_mean_worse;
                    let rest = 1.0 - theta;
                    log += on_canary * log_odds + all * ((theta * at_most + rest) / (theta * worse + rest)).ln();
                }
            }
            *factor = (log / phi).min(FACTOR_MAX.ln()).exp();
        }
    }
}

/// At one edge: betting on the canary's share, and the likelihood ratio.
fn edge_factors(split: &Split, slot: usize, tolerated: &Tolerated, cells: &mut [f64]) {
    let odds = tolerated.odds(slot, split.q);
    let pi = split.share(odds);
    let phi = tolerated.phi(slot, split.all, split.q);
    let (bets, ratios) = cells.split_at_mut(BETS.len());
    for (factor, (worse, clustered)) in bets.iter_mut().zip(BETS) {
        let informative = split.all / (1.0 + (split.all - 1.0).max(0.0) * clustered);
        let lambda = ((split.share(odds * worse) - pi) * informative / (pi * (1.0 - pi))).clamp(0.0, BET_MAX / pi);
        *factor = (1.0 + lambda * (split.on_canary / split.all - pi)).min(FACTOR_MAX);
    }
    for (factor, worse) in ratios.iter_mut().zip(WORSE) {
        *factor = (split.log_ratio(split.share(odds * worse), pi) / phi).min(FACTOR_MAX.ln()).exp();
    }
}

/// A name's start, of at most 32 bytes, so that state stays small.
pub(super) fn shortened(name: &Text) -> Text {
    let starts = name.as_str().char_indices();
    Text::new(starts.take_while(|(at, c)| at + c.len_utf8() <= 32).map(|(_, c)| c).collect::<String>())
}

/// The pods of an arm, as far as each has every edge and requests.
fn pods(edges: &Edges, reading: &Reading) -> Vec<Sample> {
    let samples = reading.parts_of(PartKind::Pod).map(|part| match &part.tally {
        Tally::Histogram(histogram) => edges.sample(histogram),
        Tally::Counts(_) | Tally::Samples(_) | Tally::Mix(_) => None,
    });
    let samples: Option<Vec<Sample>> = samples.collect();
    samples.unwrap_or_default().into_iter().filter(|pod| pod.n > 0.0).collect()
}

/// What control and the canary had in each part of a kind; `None` where either does not tell, or lacks an edge.
fn joined<'a>(edges: &Edges, block: &Block<'a>, kind: PartKind) -> Option<BTreeMap<&'a Text, (Sample, Sample)>> {
    let mut canary = block.canary.parts_of(kind).peekable();
    let mut control = block.control.parts_of(kind).peekable();
    if canary.peek().is_none() || control.peek().is_none() {
        return None;
    }
    let mut joined = BTreeMap::<&Text, (Sample, Sample)>::new();
    for (part, is_canary) in control.map(|part| (part, false)).chain(canary.map(|part| (part, true))) {
        let Tally::Histogram(histogram) = &part.tally else { return None };
        let sample = edges.sample(histogram)?;
        let arms = joined.entry(&part.name).or_default();
        *(if is_canary { &mut arms.1 } else { &mut arms.0 }) = sample;
    }
    Some(joined)
}
