//! What history says of a check's noise, and how the test is set because of it.
//!
//! Everything here is learnt from the old version alone, before the block it is used on: a test whose setting depends on
//! the past only stays valid.
//!
//! # How it is learnt
//! Look after look, each pod's bad events are compared with its part of the traffic, as the canary's will be: with `K`
//! bad events of all pods and a part `theta` of the traffic, `(S - K theta)^2 / (K theta (1 - theta))` has mean 1 if
//! events are independent. Its mean over pods and time is the *inflation* of the variance (the method of moments for
//! quasi-binomial counts). Looked at over 1, 4 and 16 looks it shows whether the excess is inside a look (clusters) or
//! lasts (drift of a pod by itself); the largest is used, one standard error up. A pod's lasting difference is taken out by
//! its own past, and told apart: the variance of the pods' logarithmic rates beyond what counting explains.

pub(super) mod pseudo_rollouts;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name_hash;
use crate::domain::Counts;

/// A stable period of the old version.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// Time between two looks.
    pub every: Duration,
    /// What each pod counted, look after look: `pods[pod][look]`; all of one length.
    pub pods: Vec<Vec<Counts>>,
}

/// How bad events come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Noise {
    /// Too little was seen.
    #[default]
    Unknown,
    /// One by one.
    Independent,
    /// Several at a time, in one look.
    Clustered,
    /// A pod's rate moves by itself and stays there for a while.
    Autocorrelated,
}

/// What is known of a check's noise. The default is what holds where history is short: the wider setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Whether the history was long enough to be believed.
    pub is_trusted: bool,
    /// How clustered bad events are, as a correlation between the events of one look, 0 to 1; it counts what is
    /// correlated from look to look too.
    pub dispersion: f64,
    /// Lasting spread between pods, as the standard deviation of the logarithm of their rates.
    pub pod_log_sd: f64,
    /// Length of a block of evidence.
    pub block: Duration,
    /// Variance of one pod's bad events as a multiple of the binomial's, at least 1, at `pod_events_per_second`.
    #[serde(default = "one")]
    pub inflation: f64,
    /// Bad events of one pod in a second, on average.
    #[serde(default)]
    pub pod_events_per_second: f64,
    /// Bad for each of all; 0 where unknown.
    #[serde(default)]
    pub base_rate: f64,
    /// How bad events come.
    #[serde(default)]
    pub noise: Noise,
}

fn one() -> f64 {
    1.0
}

impl Default for Calibration {
    fn default() -> Self {
        Self::untrusted()
    }
}

impl Calibration {
    /// Where history is short or missing.
    pub fn untrusted() -> Self {
        Self {
            is_trusted: false,
            dispersion: 0.1,
            pod_log_sd: 0.111_6,
            block: Duration::from_secs(60),
            inflation: 1.0,
            pod_events_per_second: 0.0,
            base_rate: 0.0,
            noise: Noise::Unknown,
        }
    }

    /// Learns from a stable period.
    pub fn learn(history: &History) -> Self {
        let mut learner = Learner::default();
        let names: Vec<String> = (0..history.pods.len()).map(|pod| pod.to_string()).collect();
        for look in 0..history.pods.iter().map(Vec::len).max().unwrap_or(0) {
            let pods: Vec<_> = history
                .pods
                .iter()
                .zip(&names)
                .filter_map(|(looks, name)| Some((name.as_str(), *looks.get(look)?)))
                .collect();
            learner.observe(history.every, &pods);
        }
        learner.calibration()
    }

    /// Variance of the canary's bad events as a multiple of the binomial's, where one of its pods is expected to have
    /// `pod_events_per_second` and `bad` events of both arms are in the window.
    ///
    /// What a pod does by itself grows with its number of events; what comes in clusters does not shrink with them.
    pub fn inflation_at(&self, pod_events_per_second: f64, bad: f64) -> f64 {
        let inflation = if self.is_trusted {
            let times = pod_events_per_second / self.pod_events_per_second.max(1e-12);
            1.0 + (self.inflation - 1.0) * times.max(1.0)
        } else {
            1.0 + (bad - 1.0).max(0.0) * self.dispersion
        };
        if inflation.is_finite() { inflation.clamp(1.0, 1e12) } else { 1e12 }
    }

    /// How many times as bad as the rest `pods` pods together may lastingly be, without any change: two standard
    /// deviations, and more where no other pod can be compared with.
    pub fn pod_floor(&self, pods: f64) -> f64 {
        let deviations = 2.0 + 1.6 / pods.max(1.0).powi(2);
        let log = deviations * self.pod_log_sd / pods.max(1.0).sqrt();
        if log.is_finite() { log.clamp(0.0, 3.0).exp() } else { 1.0 }
    }
}

/// Most pods that are told apart.
const PODS_MAX: usize = 32;
/// Looks that are added up, scale by scale.
const SCALES: [u32; 3] = [1, 4, 16];
/// What was seen a day ago counts a third of what is seen now: services change.
const MEMORY_SECONDS: f64 = 86_400.0;
/// The least history that is believed, in seconds; a look less than an hour, since the first one may be missing.
const TRUSTED_SECONDS: f64 = 3500.0;
/// The fewest pods that show how pods differ.
const TRUSTED_PODS: usize = 3;
/// The fewest looks with bad events: with fewer, nothing is known of how they come.
const TRUSTED_LOOKS: f64 = 30.0;
/// Events that a pod's difference is shrunk by, until it has more.
const GAIN_PRIOR: f64 = 10.0;
/// A lasting spread between pods that must be reckoned with until it is ruled out: machines of one kind differ by 2 to 8%.
const POD_LOG_SD_PRIOR: f64 = 0.04;
/// How much of the growth of the inflation from 4 to 16 looks is still to come.
const LONGER: f64 = 1.2;
/// The 10% quantile of a standard normal.
const NORMAL_10: f64 = -1.281_551_565_5;

/// One pod's past.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pod {
    name: u32,
    bad: f64,
    expected: f64,
    /// Bad and all of the windows that are being added up, scale by scale.
    pending: [(f64, f64); SCALES.len()],
}

/// What one scale showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Moments {
    n: f64,
    sum: f64,
    squares: f64,
    pending: u32,
}

impl Moments {
    fn mean(&self) -> f64 {
        if self.n > 0.0 { self.sum / self.n } else { 1.0 }
    }

    /// What is beyond 1, shrunk by how much of it may be chance, and half a standard error up.
    fn upper(&self) -> f64 {
        let (excess, error) = ((self.mean() - 1.0).max(0.0), self.error());
        1.0 + excess * excess / (excess + error).max(1e-12) + 0.5 * error
    }

    fn error(&self) -> f64 {
        if self.n < 2.0 {
            return 1.0;
        }
        let variance = (self.squares / self.n - self.mean().powi(2)).max(0.1);
        (variance / self.n).sqrt()
    }
}

/// Learns a check's noise from the pods of the old version, look after look; its size is bounded, and it may be kept
/// over rollouts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Learner {
    pods: Vec<Pod>,
    scales: [Moments; SCALES.len()],
    seconds: f64,
    looks_with_bad: f64,
    bad: f64,
    total: f64,
    pod_seconds: f64,
    look_seconds: f64,
}

impl Learner {
    /// Takes in one look of `span` at pods of the old version: name and counts, each name once.
    pub fn observe(&mut self, span: Duration, pods: &[(&str, Counts)]) {
        let seconds = span.as_secs_f64();
        let all = pods.iter().fold(Counts::default(), |sum, (_, counts)| sum.plus(*counts));
        if pods.len() < 2 || all.total == 0 || !(0.001..=86_400.0).contains(&seconds) {
            return;
        }
        self.forget((-seconds / MEMORY_SECONDS).exp());
        self.seconds = (self.seconds + seconds).min(1e9);
        self.look_seconds = seconds;
        self.bad += all.bad as f64;
        self.total += all.total as f64;
        self.pod_seconds += seconds * pods.iter().filter(|(_, counts)| counts.total > 0).count() as f64;
        if all.bad > 0 {
            self.looks_with_bad = (self.looks_with_bad + 1.0).min(1e9);
        }
        let here: Vec<u32> = pods.iter().map(|(name, _)| name_hash(name)).collect();
        let is_new: Vec<bool> = here.iter().map(|name| self.admit(*name, &here)).collect();
        if is_new.contains(&true) {
            self.drop_pending();
        }
        for (name, counts) in pods {
            if let Some(pod) = self.pods.iter_mut().find(|pod| pod.name == name_hash(name)) {
                for pending in &mut pod.pending {
                    pending.0 += counts.bad as f64;
                    pending.1 += counts.total as f64;
                }
            }
        }
        self.close_windows();
        for (name, counts) in pods {
            if let Some(pod) = self.pods.iter_mut().find(|pod| pod.name == name_hash(name)) {
                pod.bad += counts.bad as f64;
                pod.expected += all.bad as f64 * (counts.total as f64 / all.total as f64);
            }
        }
    }

    fn forget(&mut self, keep: f64) {
        for sum in [&mut self.bad, &mut self.total, &mut self.pod_seconds] {
            *sum = (*sum * keep).min(1e18);
        }
        for pod in &mut self.pods {
            pod.bad = (pod.bad * keep).min(1e18);
            pod.expected = (pod.expected * keep).min(1e18);
        }
        for scale in &mut self.scales {
            scale.n *= keep;
            scale.sum *= keep;
            scale.squares *= keep;
        }
    }

    /// Makes room for a pod; whether it was let in. Where there is no room, the one with the least past goes of those
    /// that are not `here` any more; where all are, the pods that are followed stay, for only what is followed for many
    /// looks shows how it drifts.
    fn admit(&mut self, name: u32, here: &[u32]) -> bool {
        if self.pods.iter().any(|pod| pod.name == name) {
            return false;
        }
        if self.pods.len() >= PODS_MAX {
            let gone = self.pods.iter().enumerate().filter(|(_, pod)| !here.contains(&pod.name));
            let Some((at, _)) = gone.min_by(|a, b| a.1.expected.total_cmp(&b.1.expected)) else { return false };
            self.pods.swap_remove(at);
        }
        self.pods.push(Pod { name, bad: 0.0, expected: 0.0, pending: Default::default() });
        true
    }

    fn drop_pending(&mut self) {
        self.pods.iter_mut().for_each(|pod| pod.pending = Default::default());
        self.scales.iter_mut().for_each(|scale| scale.pending = 0);
    }

    fn close_windows(&mut self) {
        for (at, (scale, looks)) in self.scales.iter_mut().zip(SCALES).enumerate() {
            scale.pending += 1;
            if scale.pending < looks {
                continue;
            }
            scale.pending = 0;
            let (bad, total) = self.pods.iter().fold((0.0, 0.0), |(bad, total), pod| {
                let pending = pod.pending.get(at).copied().unwrap_or_default();
                (bad + pending.0, total + pending.1)
            });
            for pod in &mut self.pods {
                let gain = ((pod.bad + GAIN_PRIOR) / (pod.expected + GAIN_PRIOR)).clamp(0.2, 5.0);
                let Some(pending) = pod.pending.get_mut(at) else { continue };
                let (pod_bad, pod_total) = std::mem::take(pending);
                if bad < 1.0 || pod_total <= 0.0 || pod_total >= total {
                    continue;
                }
                let theta = (gain * pod_total / total).clamp(1e-6, 0.999);
                let excess = (pod_bad - bad * theta).powi(2) / (bad * theta * (1.0 - theta));
                scale.n += 1.0;
                scale.sum += excess.min(1e9);
                scale.squares += excess.min(1e9).powi(2);
            }
        }
    }

    /// What has been learnt so far.
    pub fn calibration(&self) -> Calibration {
        let fallback = Calibration::untrusted();
        let pod_events_per_second = self.bad / self.pod_seconds.max(1e-9);
        let base_rate = if self.total > 0.0 { self.bad / self.total } else { 0.0 };
        let is_trusted = self.seconds >= TRUSTED_SECONDS
            && self.pods.iter().filter(|pod| pod.expected > 0.0).count() >= TRUSTED_PODS
            && self.looks_with_bad >= TRUSTED_LOOKS;
        if !is_trusted {
            return Calibration { base_rate, pod_events_per_second, ..fallback };
        }
        let inflation = self.inflation();
        let events_per_look = pod_events_per_second * self.look_seconds * self.pods.len() as f64;
        Calibration {
            is_trusted,
            dispersion: ((inflation - 1.0) / events_per_look.max(1.0)).clamp(0.0, 1.0),
            pod_log_sd: self.pod_log_sd(),
            block: Duration::from_secs_f64(self.look_seconds),
            inflation,
            pod_events_per_second,
            base_rate,
            noise: self.noise(),
        }
    }

    /// The largest inflation of all scales. Where it still grows with the scale, what would be
    /// seen over longer ones is added: for a pod that drifts with a memory of eight looks, 1.2 times the last growth.
    fn inflation(&self) -> f64 {
        let largest = self.scales.iter().map(Moments::upper).fold(1.0, f64::max);
        let [_, some, many] = &self.scales;
        let growth = many.mean() - some.mean() - many.error();
        (largest + LONGER * growth.max(0.0)).clamp(1.0, 1e9)
    }

    fn noise(&self) -> Noise {
        let [one, _, many] = &self.scales;
        let (inside, lasting) = (one.mean() - 1.0, many.mean() - 1.0);
        if lasting > 3.0 * many.error() && lasting > 0.2 && lasting > 2.0 * inside {
            Noise::Autocorrelated
        } else if inside > 3.0 * one.error() && inside > 0.1 {
            Noise::Clustered
        } else {
            Noise::Independent
        }
    }

    /// Lasting spread between the pods: what is likely, half as much again, and no less than must be reckoned with and has
    /// not been ruled out.
    fn pod_log_sd(&self) -> f64 {
        let known: Vec<&Pod> = self.pods.iter().filter(|pod| pod.expected >= 1.0).collect();
        if known.len() < TRUSTED_PODS {
            return POD_LOG_SD_PRIOR;
        }
        let n = known.len() as f64;
        let logs: Vec<f64> = known.iter().map(|pod| ((pod.bad + 0.5) / (pod.expected + 0.5)).ln()).collect();
        let mean = logs.iter().sum::<f64>() / n;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1.0);
        // Counting explains more where events come in clusters.
        let clustered = self.scales.iter().map(Moments::mean).fold(1.0, f64::max);
        let counting = clustered * known.iter().map(|pod| 1.0 / (pod.expected + 0.5)).sum::<f64>() / n;
        // The 10% quantile of the chi-squared distribution, by Wilson and Hilferty.
        let free = n - 1.0;
        let quantile = free * (1.0 - 2.0 / (9.0 * free) + NORMAL_10 * (2.0 / (9.0 * free)).sqrt()).max(0.1).powi(3);
        // Shrunk by how much of it may be chance.
        let beyond = (variance - counting).max(0.0);
        let chance = counting * (2.0 / free).sqrt();
        let likely = (beyond * beyond / (beyond + chance).max(1e-12)).sqrt();
        let upper = (variance * free / quantile - counting).max(0.0).sqrt();
        let lasting = upper.min((1.5 * likely).max(POD_LOG_SD_PRIOR));
        lasting.hypot(1.2 * self.wander_log_sd()).min(2.0)
    }

    /// How far a pod's rate is off by itself for some minutes at a time, as far as it is sure, as a standard deviation of
    /// its logarithm: what the longest scale shows beyond counting, less two standard errors.
    fn wander_log_sd(&self) -> f64 {
        let [inside, _, many] = &self.scales;
        let sure = many.mean() - inside.mean().max(1.0) - 2.0 * many.error();
        let events = self.bad / self.pod_seconds.max(1e-9) * self.look_seconds * f64::from(SCALES[2]);
        (sure.max(0.0) / events.max(1.0)).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::eval::noise::{self, Family, Shape};

    fn drawn(family: Family, requests_per_scrape: f64, scrapes: usize) -> History {
        let shape = Shape { family, requests_per_scrape, canary_pods: 0, error_rate: 0.005, ratio: 1.0, scrapes };
        let drawn = noise::draw(&shape, &mut StdRng::seed_from_u64(5));
        let pods = (0..20).map(|pod| drawn.iter().map(|scrape| scrape.control[pod]).collect()).collect();
        History { every: Duration::from_secs(15), pods }
    }

    #[test]
    fn an_hour_tells_what_kind_of_noise_there_is() {
        let learn = |family| Calibration::learn(&drawn(family, 2000.0, 240));
        let independent = learn(Family::Independent);
        assert!(independent.is_trusted && independent.inflation < 1.15, "{independent:?}");
        assert!(independent.pod_log_sd < 0.12 && (independent.base_rate - 0.005).abs() < 0.001);
        assert_eq!(independent.noise, Noise::Independent);
        let clustered = learn(Family::RetryClusters);
        assert!(clustered.inflation > 6.0 && clustered.noise == Noise::Clustered, "{clustered:?}");
        let drifting = learn(Family::AutoregressiveStrong);
        assert!(drifting.inflation > 2.0 && drifting.noise == Noise::Autocorrelated, "{drifting:?}");
    }

    #[test]
    fn drift_is_learnt_from_more_pods_than_are_followed() {
        let History { every, pods } = drawn(Family::AutoregressiveStrong, 2000.0, 240);
        let more = drawn(Family::AutoregressiveStrong, 2000.0, 260).pods.into_iter().map(|looks| looks[20..].to_vec());
        let many = Calibration::learn(&History { every, pods: pods.into_iter().chain(more).collect() });
        assert!(many.inflation > 2.0 && many.noise == Noise::Autocorrelated, "{many:?}");
    }

    #[test]
    fn short_or_empty_history_is_not_believed() {
        assert!(!Calibration::learn(&drawn(Family::Independent, 2000.0, 200)).is_trusted);
        let History { every, mut pods } = drawn(Family::Independent, 2000.0, 240);
        pods.truncate(2);
        assert!(!Calibration::learn(&History { every, pods }).is_trusted);
        assert_eq!(Calibration::learn(&History { every, pods: Vec::new() }), Calibration::untrusted());
    }

    #[test]
    fn a_learner_keeps_its_size_and_resumes_bit_for_bit() {
        let mut learner = Learner::default();
        for look in 0..400_u64 {
            let names: Vec<String> = (0..50).map(|pod| format!("pod-{}", (pod + look) % 300)).collect();
            let counts = |pod: u64| Counts { bad: (pod * look) % 7, total: if pod == 3 { u64::MAX / 4 } else { 100 } };
            let pods: Vec<_> = names.iter().zip(0..).map(|(name, pod)| (name.as_str(), counts(pod))).collect();
            learner.observe(Duration::from_secs(15), &pods);
            if look == 200 {
                learner = postcard::from_bytes(&postcard::to_allocvec(&learner).unwrap()).unwrap();
            }
        }
        assert!(learner.pods.len() <= PODS_MAX);
        let calibration = learner.calibration();
        assert!(calibration.inflation.is_finite() && calibration.pod_log_sd.is_finite());
    }
}
