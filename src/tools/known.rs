//! What is known beforehand: the checks that every plan has, the SLIs that can be named, and how earlier changes ended.

use std::cmp::Reverse;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Outcome,
    proposal::worse,
    reply::{self, fitting, said},
};
use crate::{
    domain::{CatalogueEntry, Check, PastChange, PathClass, Sli},
    plan::Bounds,
};

/// Most earlier changes of one answer.
pub(super) const CHANGES_MAX: u32 = 5;
/// Bytes of the mandatory checks in an answer, and of the configured SLIs.
const ROWS_BYTES_MAX: usize = (reply::ANSWER_BYTES_MAX - 1_024) / 2;

/// Nothing to ask.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Class {
    Code,
    Migration,
    Config,
    Dependencies,
    Deployment,
    Model,
    Tests,
    Docs,
    Other,
}

impl From<Class> for PathClass {
    fn from(class: Class) -> Self {
        match class {
            Class::Code => Self::Code,
            Class::Migration => Self::Migration,
            Class::Config => Self::Config,
            Class::Dependencies => Self::Dependencies,
            Class::Deployment => Self::Deployment,
            Class::Model => Self::Model,
            Class::Tests => Self::Tests,
            Class::Docs => Self::Docs,
            Class::Other => Self::Other,
        }
    }
}

/// Kinds of files.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Similar {
    /// The kinds of files to compare by.
    path_classes: Vec<Class>,
    /// Most changes to list, 1 to 5.
    limit: u32,
}

pub(super) fn slos(bounds: &Bounds) -> Outcome {
    let (mandatory, checks_cut) = fitting(bounds.mandatory.iter().map(of_check), ROWS_BYTES_MAX);
    let (configured, slis_cut) = fitting(bounds.catalogue.entries.iter().map(of_entry), ROWS_BYTES_MAX);
    let traffic = bounds.catalogue.traffic.as_ref().map(|traffic| said(&traffic.to_string()));
    let data = json!({ "mandatory_checks": mandatory, "configured_slis": configured, "traffic": traffic });
    if checks_cut || slis_cut { reply::truncated("more_rows", data) } else { reply::ok(data) }
}

fn of_check(check: &Check) -> Value {
    json!({
        "name": said(check.name.as_str()),
        "kind": check.sli.kind(),
        "measures": said(&check.sli.to_string()),
        "worse": worse(check.direction),
        "largest_ratio": check.ratio_max,
        "limit": check.limit.map(|limit| json!({
            "bad_share_max": limit.bad_share_max, "total_min": limit.total_min, "bad_min": limit.bad_min,
        })),
    })
}

fn of_entry(entry: &CatalogueEntry) -> Value {
    let slow_above_seconds = match &entry.sli {
        Sli::Latency { slow_above_seconds, .. } => Some(*slow_above_seconds),
        Sli::Ratio { .. }
        | Sli::EventsPerTraffic { .. }
        | Sli::Level { .. }
        | Sli::Mix { .. }
        | Sli::Liveness { .. }
        | Sli::Probe { .. } => None,
    };
    json!({
        "sli": said(&entry.name),
        "kind": entry.sli.kind(),
        "measures": said(&entry.sli.to_string()),
        "slow_above_seconds": slow_above_seconds,
        "route_label": entry.route_label.as_deref().map(said),
    })
}

pub(super) fn similar(past: &[PastChange], asked: &Similar) -> Outcome {
    let wanted: Vec<PathClass> = asked.path_classes.iter().map(|class| (*class).into()).collect();
    let common = |change: &PastChange| change.classes.iter().filter(|class| wanted.contains(class)).count();
    let mut alike: Vec<&PastChange> = past.iter().filter(|change| wanted.is_empty() || common(change) > 0).collect();
    // The order of the past, the newest first, stays among those that are as much alike.
    alike.sort_by_key(|change| Reverse(common(change)));
    if alike.is_empty() {
        return reply::no_data("no_such_change", "no earlier change of this service touched such files");
    }
    let limit = asked.limit.clamp(1, CHANGES_MAX) as usize;
    let rows = alike.iter().take(limit).map(|change| serde_json::to_value(change).unwrap_or_default());
    let (rows, _) = fitting(rows, reply::ANSWER_BYTES_MAX - 1_024);
    let data = json!({ "changes": rows, "alike": alike.len() });
    if alike.len() > limit { reply::truncated("more_changes", data) } else { reply::ok(data) }
}
