//! Drafts in the live world: the diff is fetched, and a model or plain rules make checks of it.
//!
//! A model is asked once for a rollout, however often the fleet asks for its draft meanwhile: who asks again joins the
//! planning that is under way, which goes on by itself. Whatever becomes of it, there is a draft: without the model it is
//! the rules', and says why.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};

use crate::{
    agent::{Agent, Planned},
    domain::{Change, Conversation, Diff, PastChange, Revision, RolloutId, ServiceName, Text},
    forge::GitHub,
    plan::{self, Draft, Fallback, Source},
    rollout::ServicePolicy,
    telemetry::Provider,
    tools,
};

/// What a draft is asked for.
#[derive(Clone, Debug)]
pub struct Order {
    /// The rollout.
    pub rollout: RolloutId,
    /// The service.
    pub name: ServiceName,
    /// The change.
    pub change: Arc<Change>,
    /// The revision that everyone has, when it is known.
    pub stable: Option<Revision>,
    /// How earlier changes ended, the newest first.
    pub past: Arc<[PastChange]>,
}

impl Order {
    /// All that a model may read for it.
    pub fn context(
        &self,
        service: &ServicePolicy,
        diff: Arc<Diff>,
        telemetry: Arc<dyn Provider>,
        forge: Option<Arc<GitHub>>,
    ) -> tools::Context {
        tools::Context {
            service: self.name.clone(),
            change: Arc::clone(&self.change),
            diff,
            bounds: Arc::new(service.bounds.clone()),
            served: tools::served(),
            stages: service.stages.iter().map(|stage| (stage.exposure.share, stage.bake_time)).collect(),
            alpha: service.alpha,
            safe_ratio: service.safe_ratio,
            block: service.measure_every,
            pod_incident: service.pod_incident,
            stable: self.stable.clone(),
            past: Arc::clone(&self.past),
            telemetry,
            forge,
        }
    }
}

/// The rules' draft in place of a model's, and why there is none.
pub fn instead(by_rules: Draft, why: Fallback, detail: &str) -> Draft {
    Draft { source: Source::Fallback { why, detail: Text::new(detail) }, ..by_rules }
}

/// What came of an order.
pub(super) struct Drafted {
    pub(super) draft: Result<Box<Draft>, Text>,
    /// Taken by the first who asks: what was said and used counts once.
    conversation: Mutex<Option<Box<Conversation>>>,
}

impl Drafted {
    fn without_model(draft: Result<Draft, Text>) -> Self {
        Self { draft: draft.map(Box::new), conversation: Mutex::new(None) }
    }

    /// What was said with a model, once.
    pub(super) fn take_conversation(&self) -> Option<Box<Conversation>> {
        self.conversation.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What drafts are made with.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) forge: Arc<GitHub>,
    pub(super) telemetry: Arc<dyn Provider>,
    /// The model, where it plans for the service.
    pub(super) agent: Option<Arc<Agent>>,
}

impl Desk {
    /// Makes a draft. `within` is how long the model may be waited for, whatever it promises.
    async fn draft(self, order: Order, service: Option<ServicePolicy>, within: Duration) -> Drafted {
        let Some(service) = service else {
            let why = format!("service {} is not configured any more", order.name);
            return Drafted::without_model(Err(Text::new(why)));
        };
        let diff = match self.forge.diff(&order.change.repository, order.change.pull_request).await {
            Ok(diff) => Arc::new(diff),
            Err(error) => return Drafted::without_model(Err(Text::new(error.to_string()))),
        };
        let by_rules = plan::heuristic_draft(&diff, &service.bounds.catalogue);
        let Some(agent) = self.agent else { return Drafted::without_model(Ok(by_rules)) };
        let context = order.context(&service, diff, self.telemetry, Some(self.forge));
        let Ok(planned) = tokio::time::timeout(within, agent.plan(order.rollout, context)).await else {
            return Drafted::without_model(Ok(instead(by_rules, Fallback::Unavailable, "no plan came in time")));
        };
        let Planned { draft, conversation } = planned;
        let draft = draft.unwrap_or_else(|(why, detail)| instead(by_rules, why, &detail));
        Drafted { draft: Ok(Box::new(draft)), conversation: Mutex::new(conversation.map(Box::new)) }
    }
}

type UnderWay = Shared<BoxFuture<'static, Arc<Drafted>>>;

/// The drafts that are under way, by rollout.
#[derive(Clone, Default)]
pub(super) struct Drafts(Arc<Mutex<BTreeMap<RolloutId, UnderWay>>>);

impl Drafts {
    /// The draft for a rollout: the one that is under way, or a new one, which goes on by itself.
    pub(super) fn draft(
        &self,
        runtime: &tokio::runtime::Handle,
        desk: Desk,
        order: Order,
        service: Option<ServicePolicy>,
        within: Duration,
    ) -> UnderWay {
        let rollout = order.rollout;
        self.join(runtime, rollout, desk.draft(order, service, within).boxed())
    }

    fn join(
        &self,
        runtime: &tokio::runtime::Handle,
        rollout: RolloutId,
        drafting: BoxFuture<'static, Drafted>,
    ) -> UnderWay {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = under_way.get(&rollout) {
            return under_way.clone();
        }
        let all = self.clone();
        let task = runtime.spawn(drafting);
        let ended = async move {
            let drafted = task.await;
            all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&rollout);
            // A task that broke down has made no draft: the mandatory checks are the plan.
            Arc::new(drafted.unwrap_or_else(|_| Drafted::without_model(Err(Text::new("the planner broke down")))))
        };
        let ended = ended.boxed().shared();
        under_way.insert(rollout, ended.clone());
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::{runtime::Handle, sync::Notify};

    use super::*;
    use crate::domain::{Digest, ModelRole, WayBack};

    fn conversation() -> Conversation {
        Conversation {
            role: ModelRole::Planner,
            model: Text::new("m"),
            prompt: Digest::new("0"),
            messages: Vec::new(),
            exchanges: Vec::new(),
            end: Text::default(),
        }
    }

    fn drafting(asked: &Arc<AtomicU32>, go_on: &Arc<Notify>) -> BoxFuture<'static, Drafted> {
        let (asked, go_on) = (Arc::clone(asked), Arc::clone(go_on));
        async move {
            asked.fetch_add(1, Ordering::SeqCst);
            go_on.notified().await;
            let draft = Draft::by_rules(Vec::new(), WayBack::Open, Vec::new());
            Drafted { draft: Ok(Box::new(draft)), conversation: Mutex::new(Some(Box::new(conversation()))) }
        }
        .boxed()
    }

    #[tokio::test]
    async fn who_asks_again_joins_the_planning_that_is_under_way_and_what_was_said_counts_once() {
        let (drafts, asked, go_on) = (Drafts::default(), Arc::default(), Arc::new(Notify::new()));
        let ask = |rollout| drafts.join(&Handle::current(), RolloutId(rollout), drafting(&asked, &go_on));
        let (first, again) = (ask(1), ask(1));
        tokio::task::yield_now().await;
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // The first who asked has gone away meanwhile, as when a reply is late.
        drop(first);
        go_on.notify_one();
        let drafted = again.await;
        assert!(drafted.draft.is_ok() && drafted.take_conversation().is_some());
        assert!(drafted.take_conversation().is_none());
        assert!(drafts.0.lock().unwrap().is_empty());
        let other = ask(1);
        go_on.notify_one();
        assert!(other.await.draft.is_ok());
        assert_eq!(asked.load(Ordering::SeqCst), 2, "what has ended is not joined");
    }

    #[tokio::test]
    async fn a_planner_that_breaks_down_leaves_the_mandatory_checks() {
        let drafts = Drafts::default();
        let broken: BoxFuture<'static, Drafted> = async { panic!("a test's own") }.boxed();
        let drafted = drafts.join(&Handle::current(), RolloutId(1), broken).await;
        assert_eq!(drafted.draft.clone().unwrap_err(), Text::new("the planner broke down"));
        assert!(drafts.0.lock().unwrap().is_empty());
    }
}
