//! What a block says of a gauge: readings that are numbers, cut into looks, of the whole and of each pod.

use super::pods::PodLooks;
use crate::{
    domain::{PartKind, Reading, Tally},
    stats::name_hash,
};

/// Larger readings are taken for this; its square still fits everywhere.
const READING_MAX: f64 = 1e18;

/// Mean reading of pods at a look, and how many there are.
pub(super) fn mean<'a>(pods: impl Iterator<Item = &'a PodLooks>) -> Option<(f64, f64)> {
    let (sum, count) =
        pods.filter_map(|pod| pod.looks.first()).fold((0.0, 0.0), |(sum, count), reading| (sum + reading, count + 1.0));
    (count > 0.0).then_some((sum / count, count))
}

/// A tally's readings that are numbers; `None` where it has none.
pub(super) fn readings(tally: &Tally) -> Option<Vec<f64>> {
    let Tally::Samples(samples) = tally else { return None };
    let readings = samples.iter().filter(|reading| reading.is_finite());
    let readings: Vec<f64> = readings.map(|reading| reading.clamp(-READING_MAX, READING_MAX)).collect();
    (!readings.is_empty()).then_some(readings)
}

/// The readings as the means of `looks` runs in a row, as even as can be; there are at least as many readings.
pub(super) fn runs(readings: &[f64], looks: usize) -> Vec<f64> {
    let edge = |look: usize| look * readings.len() / looks.max(1);
    let run = |look| readings.get(edge(look)..edge(look + 1)).unwrap_or_default();
    (0..looks).map(run).filter(|run| !run.is_empty()).map(|run| run.iter().sum::<f64>() / run.len() as f64).collect()
}

/// The pods of one arm that have a reading for each look.
pub(super) fn pods_of(reading: &Reading, is_canary: bool, looks: usize) -> impl Iterator<Item = PodLooks> {
    reading.parts_of(PartKind::Pod).filter_map(move |part| {
        let readings = readings(&part.tally).filter(|readings| readings.len() >= looks)?;
        Some(PodLooks { name: name_hash(part.name.as_str()), is_canary, looks: runs(&readings, looks) })
    })
}
