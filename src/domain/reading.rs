//! What one arm showed in one window: the whole, and the parts of it that telemetry could tell apart.
//!
//! A regression is in every pod, and in every tenant that meets the changed code. One bad pod, one noisy tenant or another
//! mix of segments looks like a regression in the sum and is none, so the parts travel with the whole as far as the
//! source can tell them apart; without them the statistics are more careful.

use serde::{Deserialize, Serialize};

use super::{Tally, Text};

/// Most parts of one reading that are taken in, of all kinds together; what is beyond is left out, the smallest first.
pub const PARTS_MAX: usize = 64;

/// What a part is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// One process, host or replica of the arm. Pods make up the whole.
    Pod,
    /// One tenant, client or user that makes up much of the traffic; the small ones are not listed.
    Tenant,
    /// One segment of the traffic: an endpoint, a region, a client version. Segments make up the whole.
    Segment,
}

/// One part of what an arm showed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The kind of part.
    pub kind: PartKind,
    /// Its name, a stranger's word.
    pub name: Text,
    /// What was counted of it, in the shape of the whole.
    pub tally: Tally,
}

/// What one arm showed in one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The whole.
    pub tally: Tally,
    /// Its parts, sorted by kind and name, each once; empty where the source cannot tell them apart.
    pub parts: Vec<Part>,
}

impl Reading {
    /// A whole without known parts.
    pub fn whole(tally: Tally) -> Self {
        Self { tally, parts: Vec::new() }
    }

    /// The parts of one kind.
    pub fn parts_of(&self, kind: PartKind) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |part| part.kind == kind)
    }

    /// Both added up, part by part; `None` where the wholes are of different shapes. A part that is only in one of them
    /// is kept as it is: a pod may start between two looks. Parts of different shapes are left out. Where there are more
    /// than [`PARTS_MAX`], all segments are left out, then all tenants, then all pods: some of a kind would not make up
    /// the whole.
    pub fn plus(&self, other: &Self) -> Option<Self> {
        let tally = self.tally.plus(&other.tally)?;
        let mut parts = self.parts.clone();
        for more in &other.parts {
            match parts.binary_search_by(|part| (part.kind, &part.name).cmp(&(more.kind, &more.name))) {
                Ok(at) => {
                    if let Some(part) = parts.get_mut(at)
                        && let Some(sum) = part.tally.plus(&more.tally)
                    {
                        part.tally = sum;
                    }
                }
                Err(at) => parts.insert(at, more.clone()),
            }
        }
        for kind in [PartKind::Segment, PartKind::Tenant, PartKind::Pod] {
            if parts.len() > PARTS_MAX {
                parts.retain(|part| part.kind != kind);
            }
        }
        Some(Self { tally, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Counts;

    fn pod(name: &str, bad: u64) -> Part {
        Part { kind: PartKind::Pod, name: Text::new(name), tally: Tally::Counts(Counts { bad, total: 10 }) }
    }

    fn reading(parts: Vec<Part>) -> Reading {
        Reading { tally: Tally::Counts(Counts { bad: 1, total: 20 }), parts }
    }

    #[test]
    fn parts_are_added_by_name_and_new_ones_are_kept_in_order() {
        let sum = reading(vec![pod("b", 1)]).plus(&reading(vec![pod("a", 2), pod("b", 3)])).unwrap();
        let told: Vec<_> = sum.parts.iter().map(|part| (part.name.as_str(), part.tally.clone())).collect();
        let counts = |bad, total| Tally::Counts(Counts { bad, total });
        assert_eq!(told, [("a", counts(2, 10)), ("b", counts(4, 20))]);
        assert_eq!(sum.tally, counts(2, 40));
    }

    #[test]
    fn wholes_of_two_shapes_are_not_added() {
        assert_eq!(reading(Vec::new()).plus(&Reading::whole(Tally::Samples(vec![1.0]))), None);
    }

    #[test]
    fn beyond_the_limit_whole_kinds_are_left_out_segments_first() {
        let segment = |i| Part { kind: PartKind::Segment, ..pod(&format!("{i:04}"), 1) };
        let many = |segments: std::ops::Range<usize>| {
            reading((0..4).map(|i| pod(&format!("{i}"), 1)).chain(segments.map(segment)).collect())
        };
        let kept = |sum: Reading| (sum.parts_of(PartKind::Pod).count(), sum.parts_of(PartKind::Segment).count());
        assert_eq!(kept(many(0..30).plus(&many(30..60)).unwrap()), (4, 60), "at the limit all are kept");
        assert_eq!(kept(many(0..30).plus(&many(30..61)).unwrap()), (4, 0));
    }
}
