//! Plans that were made before: the same change to the same service, under the same catalogue, prompt and model, is not
//! paid for twice. A plan grows old, since what it was tried on does.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;

use super::{config::Limits, digest::sha256};
use crate::{
    domain::{Digest, Timestamp},
    plan::Draft,
    tools::Context,
};

/// Most plans that are kept; the one that was used the longest ago makes room.
pub const PLANS_MAX: usize = 256;
/// Longest age of a plan that is used again.
pub const AGE_MAX: Duration = Duration::from_secs(24 * 3_600);

struct Kept {
    draft: Draft,
    made: Timestamp,
    used: u64,
}

#[derive(Default)]
struct Shelf {
    plans: BTreeMap<Digest, Kept>,
    uses: u64,
}

/// The plans.
#[derive(Default)]
pub(super) struct Cache(Mutex<Shelf>);

impl Cache {
    pub(super) fn get(&self, key: &Digest, now: Timestamp) -> Option<Draft> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.uses += 1;
        let uses = shelf.uses;
        let kept = shelf.plans.get_mut(key)?;
        if now.since(kept.made) > AGE_MAX {
            shelf.plans.remove(key);
            return None;
        }
        kept.used = uses;
        Some(kept.draft.clone())
    }

    pub(super) fn put(&self, key: Digest, draft: Draft, now: Timestamp) {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.uses += 1;
        let kept = Kept { draft, made: now, used: shelf.uses };
        shelf.plans.insert(key, kept);
        if shelf.plans.len() > PLANS_MAX {
            let oldest = shelf.plans.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
            oldest.and_then(|key| shelf.plans.remove(&key));
        }
    }
}

/// What a plan depends on: the change as it was read, what can be measured and how it is judged, what leads the model, and
/// the model. Of metrics, names, kinds and labels count; their values and numbers of series change by the minute.
pub(super) fn key(context: &Context, prompt: &Digest, model: &str, limits: &Limits) -> Digest {
    let Context { service, change, diff, bounds, served, stages, alpha, safe_ratio, block, pod_incident, .. } = context;
    let seen = context.telemetry.metrics(service);
    let metrics = seen.as_ref().map_or_else(
        |_| Vec::new(),
        |seen| {
            let names = |metric: &crate::domain::Metric| {
                let labels: Vec<&str> = metric.labels.iter().map(|label| label.name.as_str()).collect();
                json!([metric.name, metric.kind, labels])
            };
            seen.metrics.iter().map(names).collect()
        },
    );
    let stages: Vec<_> = stages.iter().map(|(share, bake)| (*share, bake.as_millis().to_string())).collect();
    let whole = json!({
        "service": service,
        "repository": change.repository,
        "title": change.title,
        "diff": **diff,
        "bounds": **bounds,
        "metrics": metrics,
        "served": served,
        "stages": stages,
        "judged": [alpha, safe_ratio, &block.as_secs_f64(), &pod_incident.as_secs_f64()],
        "prompt": prompt,
        "model": model,
        "diff_bytes_max": limits.diff_bytes_max,
    });
    sha256(whole.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::WayBack;

    fn draft(note: &str) -> Draft {
        Draft::by_rules(Vec::new(), WayBack::Open, vec![crate::domain::Text::new(note)])
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_plan_is_used_again_until_it_is_too_old() {
        let cache = Cache::default();
        let key = Digest::new("a");
        cache.put(key.clone(), draft("a"), at(0));
        assert_eq!(cache.get(&key, at(AGE_MAX.as_secs())), Some(draft("a")));
        assert_eq!(cache.get(&key, at(AGE_MAX.as_secs() + 1)), None);
        assert_eq!(cache.get(&key, at(0)), None, "it is gone, not hidden");
    }

    #[test]
    fn the_one_used_the_longest_ago_makes_room() {
        let cache = Cache::default();
        let key = |n: usize| Digest::new(n.to_string());
        for n in 0..PLANS_MAX {
            cache.put(key(n), draft("x"), at(0));
        }
        assert!(cache.get(&key(0), at(1)).is_some(), "used now");
        cache.put(key(PLANS_MAX), draft("x"), at(1));
        assert!(cache.get(&key(0), at(1)).is_some());
        assert!(cache.get(&key(1), at(1)).is_none());
        assert!(cache.get(&key(2), at(1)).is_some() && cache.get(&key(PLANS_MAX), at(1)).is_some());
    }
}
