//! Counts pages of metrics: what every source that shows cumulative counters has in common, whoever brings the pages.
//!
//! A *page* is what one pod shows at one time. A *round* is what is known of all pods of both arms through one moment: a
//! pod may have shown no page since the last round, or several. What each SLI gained is told from page to page of the
//! same pod, so that it does not matter to the sums when, or how often, or by whom pages are read.
//!
//! A provider makes a [`Pair`] of arms, tells it what is looked for with each ask, feeds it round after round, and asks
//! it for the answer. The past that is kept for planning is a [`ring`](ring::Ring) of pages, counted by the same reader.

pub(in crate::telemetry) mod arm;
mod column;
pub(in crate::telemetry) mod gain;
pub(in crate::telemetry) mod index;
pub(in crate::telemetry) mod pair;
pub(in crate::telemetry) mod parts;
pub(in crate::telemetry) mod replay;
pub(in crate::telemetry) mod ring;
pub(in crate::telemetry) mod rounds;
pub(in crate::telemetry) mod seen;
pub(in crate::telemetry) mod target;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use self::{
    arm::PODS_MAX,
    gain::CATEGORIES_MAX,
    pair::SLIS_MAX,
    parts::{ANSWER_CELLS_MAX, SEGMENTS_MAX, TENANTS_MAX, VALUES_MAX},
    replay::{PAST_CELLS_MAX, REPLAYED_MAX},
    ring::{
        ALL_BYTES_KEPT_MAX, BYTES_KEPT_MAX, LEFT_OUT_MAX, METRICS_KEPT_MAX, READINGS_KEPT_MAX, SAMPLES_KEPT_MAX,
        SERIES_KEPT_MAX,
    },
    rounds::{CELLS_MAX, ROUNDS_MAX},
    seen::BUCKETS_MAX,
    target::REMEMBERED_MAX,
};

/// What a panic elsewhere left is still counted right: every change under these locks is whole or not begun.
pub(in crate::telemetry) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
