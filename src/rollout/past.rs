//! How a service's earlier changes ended, for whoever plans the next: closed lists of words only, so that nothing a
//! stranger wrote in one change speaks in the planning of another.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{HISTORY_REACH, phase::Phase, state::Rollout};
use crate::{
    domain::{Finding, PastChange, PastProof, PathClass, RolloutId, Timestamp, Window},
    plan,
};

/// Most changes of one service that are kept.
const CHANGES_MAX: usize = 50;
/// Most spans of one service that are kept: three weeks of one rollout every hour and a half.
const SPANS_MAX: usize = 350;
/// Most checks with proof that are kept of one change.
const PROOFS_MAX: usize = 16;

/// How a service's earlier changes ended, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Past {
    changes: Vec<(RolloutId, PastChange)>,
    /// When they had traffic, the oldest first.
    spans: Vec<(RolloutId, Window)>,
}

impl Past {
    /// A rollout has ended, or has ended in another way: what was handed over is settled by a person.
    pub(super) fn ended(&mut self, rollout: &Rollout, alpha: f64) {
        self.remember_span(rollout);
        let Some(change) = rollout.as_past(alpha) else { return };
        self.changes.retain(|(id, _)| *id != rollout.id);
        self.changes.insert(0, (rollout.id, change));
        self.changes.truncate(CHANGES_MAX);
    }

    /// When it had traffic is kept. Where there are too many spans, the two oldest become one with the time between them:
    /// what is not known any more is left out too.
    fn remember_span(&mut self, rollout: &Rollout) {
        let Some((after, through)) = rollout.entered.first().copied().zip(rollout.ended) else { return };
        self.spans.retain(|(id, _)| *id != rollout.id);
        self.spans.push((rollout.id, Window { after, through }));
        if self.spans.len() > SPANS_MAX {
            let (_, oldest) = self.spans.remove(0);
            self.spans.iter_mut().take(1).for_each(|(_, next)| next.after = next.after.min(oldest.after));
        }
    }

    /// When earlier rollouts had traffic, as far as that is within history's reach before `at`.
    pub(super) fn spans(&self, at: Timestamp) -> Vec<Window> {
        let reached = self.spans.iter().map(|(_, span)| *span).filter(|span| at.since(span.through) < HISTORY_REACH);
        reached.collect()
    }

    /// As a planner is told it.
    pub(super) fn told(&self) -> Arc<[PastChange]> {
        self.changes.iter().map(|(_, change)| change.clone()).collect()
    }
}

impl Rollout {
    /// What is kept of it; `None` before it has ended.
    fn as_past(&self, alpha: f64) -> Option<PastChange> {
        let Phase::Done(outcome) = self.phase else { return None };
        let classes: BTreeSet<PathClass> = self.change.files.iter().map(|file| plan::path_class(&file.path)).collect();
        let facts = self.facts(alpha);
        let proven = facts.iter().filter(|facts| facts.finding == Finding::Degraded).take(PROOFS_MAX);
        Some(PastChange {
            classes: classes.into_iter().collect(),
            risk: self.plan.as_ref().map(|plan| plan.risk()).unwrap_or_default(),
            outcome,
            widest_share: self.widest_share,
            proofs: proven
                .map(|facts| PastProof { kind: facts.check.sli.kind().into(), origin: facts.check.origin })
                .collect(),
        })
    }
}
