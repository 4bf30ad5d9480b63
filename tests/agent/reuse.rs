//! Plans that were made before.

use std::{sync::Arc, time::Duration};

use tollgate::{
    agent::{AGE_MAX, Budgets, Limits},
    domain::{RolloutId, Text},
    plan::{Fallback, Source},
};

use crate::house::{House, Script, ToyShop, cache_change, call, context, file, submit};

fn add() -> crate::house::Step {
    call("add", r#"{"n":1}"#)
}

#[tokio::test]
async fn the_same_change_is_planned_once_and_costs_nothing_again() {
    let script = Script::of([add(), submit(), add(), submit()]);
    let house = House::new(Arc::clone(&script) as _);
    let first = house.agent.plan(RolloutId(1), cache_change()).await;
    let again = house.agent.plan(RolloutId(2), cache_change()).await;
    assert_eq!(script.put().len(), 2);
    assert!(first.conversation.is_some() && again.conversation.is_none());
    let (first, again) = (first.draft.unwrap(), again.draft.unwrap());
    assert_eq!(again.source, Source::Model { model: Text::new("scripted"), is_cached: true });
    assert_eq!(tollgate::plan::Draft { source: first.source.clone(), ..again }, first);
    let counts = house.agent.counts();
    assert_eq!((counts.cache_hits, counts.input_tokens, counts.cached_tokens), (1, 2_000, 1_200));

    *house.now.lock().unwrap() = tollgate::domain::Timestamp::EPOCH + AGE_MAX + Duration::from_millis(1);
    assert!(house.agent.plan(RolloutId(3), cache_change()).await.draft.is_ok());
    assert_eq!(script.put().len(), 4, "it has grown too old");
}

#[tokio::test]
async fn whatever_the_model_would_see_or_be_led_by_makes_another_plan() {
    let base = cache_change;
    let mut others = vec![context("Add a cache", vec![file("src/cache.rs", &["fn other() {}"])])];
    others.push(context("Another title", base().diff.files.clone()));
    let mut bounds = (*base().bounds).clone();
    bounds.ratio_max = 3.0;
    others.push(tollgate::tools::Context { bounds: Arc::new(bounds), ..base() });
    others.push(tollgate::tools::Context { service: tollgate::domain::ServiceName::new("other"), ..base() });
    others.push(tollgate::tools::Context { alpha: 0.05, ..base() });
    for other in others {
        let script = Script::of([add(), submit(), add(), submit()]);
        let house = House::with(Arc::clone(&script) as _, Limits::default(), ToyShop::default(), Budgets::default());
        assert!(house.agent.plan(RolloutId(1), base()).await.draft.is_ok());
        assert!(house.agent.plan(RolloutId(2), other).await.draft.is_ok());
        assert_eq!(script.put().len(), 4);
    }
}

#[tokio::test]
async fn what_came_to_nothing_is_not_kept() {
    let script = Script::of([call("abstain", "{}"), add(), submit()]);
    let house = House::new(Arc::clone(&script) as _);
    assert_eq!(house.agent.plan(RolloutId(1), cache_change()).await.draft.unwrap_err().0, Fallback::Abstained);
    assert!(house.agent.plan(RolloutId(2), cache_change()).await.draft.is_ok());
}
