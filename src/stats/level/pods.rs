//! What single pods say of a gauge: how they wobble, how far they lie apart for good, and where the canary's stand among
//! control's.

use serde::{Deserialize, Serialize};

use super::{autoregression::Steps, pod_ranks};

/// Most pods of both arms that are remembered.
const PODS_MAX: usize = 20;
/// Most of them that are the canary's.
const CANARY_PODS_MAX: usize = 8;
/// Pods of control from which their spread can be told.
const CONTROL_PODS_MIN: usize = 3;
/// Looks over which a pod's lasting offset is averaged: what drifts within an hour counts as lasting.
const OFFSET_LOOKS: u16 = 60;
/// Steps of single pods that are remembered.
const STEPS_REMEMBERED: f64 = 3600.0;

/// One pod's readings in a block, averaged to as many looks as the block has.
#[derive(Clone, Debug)]
pub(super) struct PodLooks {
    /// Hash of its name.
    pub(super) name: u32,
    /// Whether it is one of the canary's.
    pub(super) is_canary: bool,
    /// Its reading at each look.
    pub(super) looks: Vec<f64>,
}

/// What is remembered of one pod; its readings are taken relative to the mean of control's pods at the same look.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Pod {
    name: u32,
    is_canary: bool,
    looks: u16,
    last: f32,
    before: f32,
    mean: f32,
    /// Since the last comparison of ranks.
    window_mean: f32,
    window_looks: u16,
}

/// The pods of both arms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pods {
    pods: Vec<Pod>,
    pub(super) steps: Steps,
}

impl Pods {
    /// Takes in a block. Pods that are not in it are forgotten.
    pub(super) fn observe(&mut self, block: &[PodLooks], looks: usize, floor: f64) {
        let canary = block.iter().filter(|pod| pod.is_canary).take(CANARY_PODS_MAX);
        let room = PODS_MAX - canary.clone().count();
        let control = block.iter().filter(|pod| !pod.is_canary).take(room);
        let known = std::mem::take(&mut self.pods);
        let mut seen: Vec<(Pod, &[f64])> = canary
            .chain(control)
            .map(|pod| {
                let of_before = known.iter().find(|k| k.name == pod.name && k.is_canary == pod.is_canary);
                (of_before.copied().unwrap_or_else(|| Pod::start(pod)), pod.looks.as_slice())
            })
            .collect();
        for look in 0..looks {
            let at_look = |pod: &&(Pod, &[f64])| !pod.0.is_canary && pod.1.get(look).is_some();
            let count = seen.iter().filter(at_look).count();
            if count < CONTROL_PODS_MIN {
                continue;
            }
            let sum: f64 = seen.iter().filter(at_look).filter_map(|pod| pod.1.get(look)).sum();
            let level = sum / count as f64;
            // A pod differs less from a mean that it is part of.
            let widen = (count as f64 / (count as f64 - 1.0)).sqrt();
            for (pod, readings) in &mut seen {
                let Some(reading) = readings.get(look) else { continue };
                let apart = (reading - level) * if pod.is_canary { 1.0 } else { widen };
                if !pod.is_canary && pod.looks >= 1 {
                    let before = (pod.looks >= 2).then_some(f64::from(pod.before));
                    self.steps.learn(apart, f64::from(pod.last), before, floor, STEPS_REMEMBERED);
                }
                pod.take_in(apart);
            }
        }
        self.pods = seen.into_iter().map(|(pod, _)| pod).collect();
    }

    /// Lasting spread between control's pods, as a standard deviation, and the number of pods it was told from. `fresh`
    /// and `kept` are the noise's, whose part in the spread of the means is taken off.
    pub(super) fn lasting_sd(&self, fresh: f64, kept: f64) -> Option<(f64, usize)> {
        let control: Vec<&Pod> = self.pods.iter().filter(|pod| !pod.is_canary && pod.looks > 0).collect();
        if control.len() < CONTROL_PODS_MIN {
            return None;
        }
        let count = control.len() as f64;
        // A forgetting mean is as good as a plain one of nearly twice as many looks.
        let looks = control.iter().map(|pod| f64::from(pod.looks.min(2 * OFFSET_LOOKS - 1))).sum::<f64>() / count;
        let spread = control.iter().map(|pod| f64::from(pod.mean).powi(2)).sum::<f64>() / count;
        // The variance of a mean of so many looks of noise that keeps a part of itself; never above that of one look.
        let long_run = fresh / (1.0 - kept).powi(2) / looks;
        let one_look = fresh / (1.0 - kept * kept);
        Some(((spread - long_run.min(one_look)).max(0.0).sqrt(), control.len()))
    }

    /// The e-value of the canary's pods standing above control's by more than `margin`, from what was seen since the last
    /// time this was asked; `sign` is -1 where less is worse.
    pub(super) fn take_ranks(&mut self, sign: f64, margin: f64) -> f64 {
        let stands = |wanted: bool, off: f64| -> Vec<f64> {
            let of_arm = self.pods.iter().filter(|pod| pod.is_canary == wanted && pod.window_looks > 0);
            of_arm.map(|pod| sign * f64::from(pod.window_mean) - off).collect()
        };
        let (canary, control) = (stands(true, margin), stands(false, 0.0));
        for pod in &mut self.pods {
            (pod.window_mean, pod.window_looks) = (0.0, 0);
        }
        if control.len() < CONTROL_PODS_MIN { 1.0 } else { pod_ranks::e_value(&canary, &control) }
    }
}

impl Pod {
    fn start(pod: &PodLooks) -> Self {
        Self {
            name: pod.name,
            is_canary: pod.is_canary,
            looks: 0,
            last: 0.0,
            before: 0.0,
            mean: 0.0,
            window_mean: 0.0,
            window_looks: 0,
        }
    }

    fn take_in(&mut self, apart: f64) {
        self.looks = self.looks.saturating_add(1);
        self.window_looks = self.window_looks.saturating_add(1);
        self.before = self.last;
        self.last = apart as f32;
        self.mean += (apart as f32 - self.mean) / f32::from(self.looks.min(OFFSET_LOOKS));
        self.window_mean += (apart as f32 - self.window_mean) / f32::from(self.window_looks);
    }
}
