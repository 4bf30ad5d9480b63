//! Pages from series: the samples of one target at one time are what one scrape of it showed.
//!
//! A target is told by its `job`, its `instance` and the operator's label for pods: a pod may have several ports, each
//! scraped at its own time, and each with the start of its own process. Its pod is what answers call it by.

use std::collections::BTreeMap;

use super::{native, reply::Row};
use crate::{
    domain::{Text, Timestamp},
    telemetry::{
        counting::arm::{ArmPages, Page, Shown},
        exposition::{Exposition, Series},
    },
};

const NAME: &str = "__name__";
/// Labels that tell one target of a server from another.
const TARGET: [&str; 2] = ["job", "instance"];
/// The pod of series that do not bear the label.
const UNLABELLED: &str = "none";
/// Between the parts of a target's key.
const BETWEEN: char = '\u{1f}';

/// The pages of one arm, by target and time.
#[derive(Debug, Default)]
pub(super) struct Pages(BTreeMap<String, TargetPages>);

#[derive(Debug)]
struct TargetPages {
    pod: Text,
    /// Samples by time, while they are gathered; then pages.
    samples: BTreeMap<Timestamp, Vec<(Series, f64)>>,
    pages: Vec<(Timestamp, Exposition)>,
    told: usize,
}

/// What an arm is, as far as pages must know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arm<'a> {
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) pod_label: &'a str,
}

impl Arm<'_> {
    /// Whether a series is the arm's. A missing label is the empty value.
    pub(super) fn bears(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(label, value)| labels.get(label).map_or("", String::as_str) == value)
    }
}

impl Pages {
    /// Takes in the series of an answer that are the arm's, samples later than `after` and up to `through`. `skew` is how
    /// far the server's clock is ahead of ours, in milliseconds.
    pub(super) fn take_in(&mut self, arm: Arm<'_>, rows: &[Row], (after, through): (Timestamp, Timestamp), skew: i64) {
        for row in rows.iter().filter(|row| arm.bears(&row.metric)) {
            let mut labels = row.metric.clone();
            let Some(name) = labels.remove(NAME) else { continue };
            let ours = |at: i64| u64::try_from(at.saturating_sub(skew)).ok().map(Timestamp::from_millis);
            let is_meant = |at: &Timestamp| *at > after && *at <= through;
            let target = self.target(arm.pod_label, &labels);
            let series = Series { name, labels };
            for (at, value) in row.samples() {
                if let Some(at) = ours(at).filter(is_meant) {
                    target.samples.entry(at).or_default().push((series.clone(), value));
                }
            }
            for (at, histogram) in row.histograms() {
                if let Some(at) = ours(at).filter(is_meant) {
                    target.samples.entry(at).or_default().extend(native::buckets(&series, histogram));
                }
            }
        }
    }

    fn target(&mut self, pod_label: &str, labels: &BTreeMap<String, String>) -> &mut TargetPages {
        let of = |label: &str| labels.get(label).map_or("", String::as_str);
        let [job, instance] = TARGET.map(of);
        let pod = of(pod_label);
        let key = format!("{pod}{BETWEEN}{job}{BETWEEN}{instance}");
        self.0.entry(key).or_insert_with(|| TargetPages {
            pod: Text::new(if pod.is_empty() { UNLABELLED } else { pod }),
            samples: BTreeMap::new(),
            pages: Vec::new(),
            told: 0,
        })
    }

    /// Ends gathering.
    pub(super) fn close(&mut self) {
        for target in self.0.values_mut() {
            let samples = std::mem::take(&mut target.samples);
            target.pages = samples.into_iter().map(|(at, of)| (at, Exposition::of(of, BTreeMap::new()))).collect();
        }
    }

    /// The pages up to this time that were not told before.
    pub(super) fn through(&mut self, time: Timestamp) -> ArmPages<'_> {
        let mut shown = ArmPages::new();
        for (key, target) in &mut self.0 {
            let end = target.pages.partition_point(|(at, _)| *at <= time);
            let pages = target.pages.get(target.told..end).unwrap_or_default();
            target.told = end;
            if !pages.is_empty() {
                let pages = pages.iter().map(|(at, body)| Page { at: *at, body }).collect();
                shown.insert(key.clone(), Shown { name: Some(target.pod.clone()), pages: Ok(pages) });
            }
        }
        shown
    }
}
