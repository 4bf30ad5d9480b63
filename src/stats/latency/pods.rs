//! How far apart pods of one version are in latency, learnt from control's pods in past windows.
//!
//! The spread of the whole distribution is measured as a shift in standard deviations on the normal scale: over windows
//! of 1, 2, 4, 8 and then always 16 looks, each pod's shift from all of them, less what chance alone makes of it (method
//! of moments). Long windows see lasting offsets well, and slow wandering; pods are told apart by their order. Besides,
//! each look's spread between pods is measured for the whole and at each edge, which is what tempers the likelihood
//! ratios. All start from the calibration's spread, with the weight of a few looks.

use serde::{Deserialize, Serialize};

use super::{
    SLOTS,
    edges::{Edges, Sample, log_odds_per_shift},
};
use crate::stats::Calibration;

/// Pods whose sums are kept apart; further ones share.
const PODS: usize = 20;
/// Fewer pods than this say nothing about their spread.
const PODS_MIN: usize = 4;
/// Longest window, in looks.
const WINDOW_MAX: u8 = 16;
/// How many standard deviations of a pod are tolerated, besides what is not known of the standard deviation itself.
const POD_DEVIATIONS: f64 = 3.7;
/// What is added to a learnt variance: so many times its own standard error.
const STANDARD_ERRORS: f64 = 0.2;
/// Part of the logarithm of `ratio_max` that is tolerated as a shift of the whole.
const SHIFT_OF_RATIO: f64 = 0.15;
/// A shift that is tolerated however small `ratio_max` is: nobody goes back for less than about 3% slower.
const SHIFT_MIN: f64 = 0.03;
/// By how much a shift of 1 changes the logarithm of the slow requests' rate, where 1% to 5% are slow.
const LOG_RATE_PER_SHIFT: f64 = 2.5;
/// Weight of what was assumed before, as the sum of squares that this much data has.
const PRIOR_WHOLE: f64 = 3e5;
const PRIOR_EDGE: f64 = 1e2;
/// How much wider than measured pods are taken to wander, as a variance.
const WANDER_WIDER: f64 = 1.4;
/// Fewer products than this do not tell how long a pod's shift lasts.
const PRODUCTS_MIN: f32 = 40.0;
/// What is added to the correlation of adjacent windows: so many times its own standard error.
const KEPT_ERRORS: f64 = 1.0;
/// Wandering is counted as so many looks at most.
const LASTING_LOOKS_MAX: f64 = 6.0;
/// Log margins are kept below this.
const LOG_MARGIN_MAX: f64 = 3.0;

/// A variance by the method of moments: what was seen beyond chance, over what it is measured in. The standard error is
/// about `sqrt(2 / scale)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Moments {
    excess: f32,
    scale: f32,
}

impl Moments {
    fn add(&mut self, excess: f64, scale: f64) {
        let sum = (f64::from(self.excess) + excess, f64::from(self.scale) + scale);
        if sum.0.abs() < 1e36 && sum.1 < 1e36 {
            (self.excess, self.scale) = (sum.0 as f32, sum.1 as f32);
        }
    }

    fn variance(self, before: f64, weight: f64) -> f64 {
        ((f64::from(self.excess) + before * weight) / (f64::from(self.scale) + weight)).max(0.0)
    }

    /// No more than is seen with some certainty: by two standard errors above nothing.
    fn beyond_doubt(self, weight: f64) -> f64 {
        let (excess, scale) = (f64::from(self.excess), f64::from(self.scale));
        ((excess - 2.0 * (2.0 * scale).sqrt()) / (scale + weight)).max(0.0)
    }

    fn standard_error(self, weight: f64) -> f64 {
        (2.0 / (f64::from(self.scale) + weight)).sqrt()
    }
}

/// What is known of the spread between pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pods {
    /// Each pod's sum of standardised scores in the window under way, and its requests.
    sums: [f32; PODS],
    requests: [f32; PODS],
    looks: u8,
    window: u8,
    /// Each pod's shift in the window before, times its requests.
    before: [f32; PODS],
    /// Products of a pod's shift in one long window and in the next, and their squares; and how many products.
    together: (f32, f32, f32),
    /// Of a pod's shift over a window.
    lasting: Moments,
    /// Of a pod's shift in one look.
    in_a_look: Moments,
    /// Of a pod's log odds in one look, at each edge.
    at_edges: [Moments; SLOTS],
}

/// What a window is judged by; fixed before it is seen, but for the requests of a pod in it.
#[derive(Clone, Debug)]
pub(super) struct Tolerated {
    /// Tolerated shift of the whole, in standard deviations.
    pub(super) shift: f64,
    /// What the whole's likelihood ratio is tempered by.
    pub(super) whole_phi: f64,
    log_ratio_max: f64,
    pod_shift: f64,
    edge_variance: [f64; SLOTS],
    /// What is tolerated where pods do not differ.
    pub(super) asked: f64,
    /// Variance of the canary's shift that its pods make.
    pub(super) wander_variance: f64,
    /// What part of it is left after one scrape.
    pub(super) kept: f64,
    /// Standard deviation of the difference between the arms, over that of one pod.
    between_arms: f64,
    /// Requests of a canary pod.
    per_pod: f64,
    /// Correlation of the events of one look, where pods cannot be told apart.
    correlation: f64,
}

/// The shift of the whole that is tolerated where `ratio_max` has this logarithm.
fn shift_asked(log_ratio_max: f64) -> f64 {
    (SHIFT_OF_RATIO * log_ratio_max).max(SHIFT_MIN)
}

/// How many looks' worth of evidence a pod's own shift spoils, where it wanders; one where it is a lasting difference,
/// which is the margin's.
fn lasting_looks(kept: f64) -> f64 {
    if kept < 1.0 { ((1.0 + kept) / (1.0 - kept)).min(LASTING_LOOKS_MAX) } else { 1.0 }
}

impl Tolerated {
    /// The odds, over control's, that are tolerated at an edge which `q` are above.
    pub(super) fn odds(&self, slot: usize, q: f64) -> f64 {
        let per_shift = log_odds_per_shift(q);
        let asked = if slot == 0 { self.log_ratio_max } else { shift_asked(self.log_ratio_max) * per_shift };
        asked.max(POD_DEVIATIONS * self.pod_log_sd_where(slot, per_shift)).min(LOG_MARGIN_MAX).exp()
    }

    /// Standard deviation of the log odds between arms that pods make, at an edge which `q` are above.
    pub(super) fn pod_log_sd(&self, slot: usize, q: f64) -> f64 {
        self.pod_log_sd_where(slot, log_odds_per_shift(q))
    }

    /// The same at an edge where a shift of 1 changes the log odds by `per_shift`.
    fn pod_log_sd_where(&self, slot: usize, per_shift: f64) -> f64 {
        let at_edge = self.edge_variance.get(slot).map_or(0.0, |variance| variance.sqrt() * self.between_arms);
        at_edge.max(self.pod_shift * per_shift)
    }

    /// What the likelihood ratio at an edge is tempered by, with `all` events above it.
    pub(super) fn phi(&self, slot: usize, all: f64, q: f64) -> f64 {
        let variance = self.edge_variance.get(slot).copied().unwrap_or(0.0);
        let clustered = 1.0 + (all - 1.0).max(0.0) * self.correlation;
        clustered.max(1.0 + self.per_pod * q * (1.0 - q) * variance)
    }
}

impl Pods {
    /// What is tolerated of the next window.
    pub(super) fn tolerated(
        &self,
        calibration: &Calibration,
        ratio_max: f64,
        canary: &Sample,
        canary_pods: usize,
        control_pods: usize,
    ) -> Tolerated {
        let finite = |value: f64, most: f64| if value.is_finite() { value.clamp(0.0, most) } else { most };
        let log_ratio_max = finite(ratio_max, 1e3).max(1.0).ln();
        // A trusted history's correlation is that of slow requests; an untrusted one is taken for the whole's as it is.
        let per_rate = LOG_RATE_PER_SHIFT * LOG_RATE_PER_SHIFT;
        let assumed = finite(calibration.pod_log_sd, 1.0).powi(2) / per_rate;
        let error =
            if control_pods >= PODS_MIN { STANDARD_ERRORS * self.lasting.standard_error(PRIOR_WHOLE) } else { 0.0 };
        let lasting = self.lasting.variance(assumed, PRIOR_WHOLE) + error;
        let in_a_look = self.in_a_look.variance(assumed, PRIOR_WHOLE);
        let between_arms = (1.0 / canary_pods.max(1) as f64 + 1.0 / control_pods.max(PODS_MIN) as f64).sqrt();
        let pod_shift = lasting.sqrt() * between_arms;
        let per_pod = canary.n / canary_pods.max(1) as f64;
        let correlation = if control_pods >= PODS_MIN { 0.0 } else { finite(calibration.dispersion, 1.0) };
        let kept = self.kept();
        let mut edge_variance = [0.0; SLOTS];
        for (variance, moments) in edge_variance.iter_mut().zip(self.at_edges) {
            *variance = moments.beyond_doubt(PRIOR_EDGE);
        }
        Tolerated {
            shift: shift_asked(log_ratio_max).max(POD_DEVIATIONS * pod_shift).min(LOG_MARGIN_MAX),
            whole_phi: 1.0
                + per_pod * in_a_look * lasting_looks(kept)
                + (canary.n - 1.0).max(0.0) * correlation / if calibration.is_trusted { per_rate } else { 1.0 },
            log_ratio_max,
            asked: shift_asked(log_ratio_max),
            wander_variance: WANDER_WIDER * (lasting.max(in_a_look) + error) * between_arms * between_arms,
            kept,
            pod_shift,
            edge_variance,
            between_arms,
            per_pod,
            correlation,
        }
    }

    /// What part of a pod's shift is left after one look: taken from how alike one long window is to the next, and from
    /// above. For a first-order autoregression with memory `1/a` in windows, the correlation of the averages of adjacent
    /// windows is about `exp(-2a/3)`.
    fn kept(&self) -> f64 {
        let (products, squares, n) = self.together;
        if n < PRODUCTS_MIN || squares <= 0.0 {
            return 1.0;
        }
        let correlation = f64::from(products) / f64::from(squares) + KEPT_ERRORS / f64::from(n).sqrt();
        correlation.clamp(0.01, 1.0).powf(1.5 / f64::from(WINDOW_MAX))
    }

    /// Takes in one look at control's pods.
    pub(super) fn learn(&mut self, edges: &Edges, pods: &[Sample]) {
        if pods.len() < PODS_MIN {
            return;
        }
        let all = pods.iter().fold(Sample::default(), |sum, pod| sum.plus(pod));
        self.learn_edges(edges, pods, &all);
        let Some(scores) = edges.standard_scores(&all) else { return };
        let (mut excess, mut scale) = (0.0, 0.0);
        for (i, pod) in pods.iter().enumerate() {
            let standardised = |(b, score): (usize, &f64)| pod.within(b) * score;
            let sum: f64 = scores.iter().enumerate().map(standardised).sum();
            let by_chance = pod.n * (1.0 - pod.n / all.n);
            excess += sum * sum - by_chance;
            scale += by_chance * by_chance;
            if let (Some(sums), Some(requests)) = (self.sums.get_mut(i % PODS), self.requests.get_mut(i % PODS)) {
                *sums = (*sums + sum as f32).clamp(-1e15, 1e15);
                *requests = (*requests + pod.n as f32).min(1e15);
            }
        }
        self.in_a_look.add(excess, scale);
        self.looks = self.looks.saturating_add(1);
        if self.looks >= self.window.max(1) {
            self.close_window();
        }
    }

    fn learn_edges(&mut self, edges: &Edges, pods: &[Sample], all: &Sample) {
        for (slot, moments) in self.at_edges.iter_mut().enumerate() {
            let Some(edge) = edges.bet_on(slot) else { continue };
            let q = all.above(edge) / all.n;
            let (mut excess, mut scale) = (0.0, 0.0);
            for pod in pods {
                let by_chance = pod.n * q * (1.0 - q) * (1.0 - pod.n / all.n);
                excess += (pod.above(edge) - pod.n * q).powi(2) - by_chance;
                scale += by_chance * by_chance;
            }
            moments.add(excess, scale);
        }
    }

    /// Products of each pod's shift in this long window and in the one before.
    fn compare_windows(&mut self, all: f64) {
        let each = self.before.iter_mut().zip(&self.sums).zip(&self.requests).filter(|(_, requests)| **requests > 0.0);
        for ((before, sum), requests) in each {
            let shift = sum / requests;
            let by_chance = (1.0 - f64::from(*requests) / all.max(1.0)) / f64::from(*requests);
            if *before != 0.0 {
                let square = f64::from(shift * shift + *before * *before) / 2.0 - by_chance;
                self.together.0 += (shift * *before).clamp(-1e6, 1e6);
                self.together.1 += (square as f32).clamp(-1e6, 1e6);
                self.together.2 = (self.together.2 + 1.0).min(1e6);
            }
            *before = shift;
        }
    }

    fn close_window(&mut self) {
        let all: f64 = self.requests.iter().map(|n| f64::from(*n)).sum();
        let (mut excess, mut scale) = (0.0, 0.0);
        for (sum, requests) in self.sums.iter().zip(&self.requests) {
            let (sum, requests) = (f64::from(*sum), f64::from(*requests));
            let by_chance = requests * (1.0 - requests / all.max(1.0));
            excess += sum * sum - by_chance;
            scale += by_chance * by_chance;
        }
        self.lasting.add(excess, scale);
        if self.window == WINDOW_MAX {
            self.compare_windows(all);
        }
        self.sums = [0.0; PODS];
        self.requests = [0.0; PODS];
        self.looks = 0;
        self.window = self.window.max(1).saturating_mul(2).min(WINDOW_MAX);
    }
}
