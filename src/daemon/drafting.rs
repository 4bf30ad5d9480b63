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
    agent::{Agent, Planned, without_secrets},
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
        let by_rules = without_secrets(plan::heuristic_draft(&diff, &service.bounds.catalogue));
        let Some(agent) = self.agent else { return Drafted::without_model(Ok(by_rules)) };
        let context = order.context(&service, diff, self.telemetry, Some(self.forge));
        let Ok(planned) = tokio::time::timeout(within, agent.plan(order.rollout, context)).await else {
            return Drafted::without_model(Ok(instead(by_rules, Fallback::Unavailable, "no plan came in time")));
        };
        let Planned { draft, conversation } = planned;
        let mut draft = draft.unwrap_or_else(|(why, detail)| instead(by_rules, why, &detail));
        // Admission asks for names and kinds. The values of labels are strangers' words without end, and this is recorded.
        for metric in &mut draft.found {
            metric.help = Text::default();
            metric.labels.iter_mut().for_each(|label| label.values.clear());
        }
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
    use crate::{
        agent::{self, Difference, Replay},
        config,
        domain::{Digest, ModelRole, Timestamp, WayBack},
        forge::{
            self,
            stand_in::{Pull, StandIn},
        },
        journal, telemetry,
    };

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

    /// A source that knows nothing.
    struct Silent;

    impl Provider for Silent {
        fn measure(&self, _ask: telemetry::Ask) -> BoxFuture<'_, telemetry::Answer> {
            std::future::pending().boxed()
        }
    }

    const DIFF: &str =
        "diff --git a/src/pay.rs b/src/pay.rs\n--- a/src/pay.rs\n+++ b/src/pay.rs\n@@ -1 +1 @@\n-a\n+b\n";

    /// What is made of a change whose model answers from a record of nothing.
    async fn drafted(with_model: bool) -> Drafted {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let revision = |digit: &str| digit.repeat(40).parse::<Revision>().unwrap();
        let github = StandIn::new();
        github.put(Pull {
            repository: "acme/shop".parse().unwrap(),
            number: 7,
            title: "Pay".into(),
            author: "alice".into(),
            merged_by: None,
            branch: "main".into(),
            base: revision("1"),
            head: revision("2"),
            merge_commit_sha: Some(revision("2")),
            merged_at: Some(Timestamp::from_millis(1)),
            diff: DIFF.into(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(github.serve(listener));
        let config = forge::Config { api, token: None, timeout: Duration::from_secs(5), attempts_max: 1 };
        let forge = Arc::new(GitHub::new(&config).unwrap());
        let change = forge.change(&"acme/shop".parse().unwrap(), 7).await.unwrap();
        let text = include_str!("../../config.example.toml");
        let env = |_: &str| Some("0123456789abcdef".to_owned());
        let policy = config::read(text, "t.toml", &env).unwrap().policy;
        let (name, service) = policy.services.into_iter().next().unwrap();
        let model = Arc::new(Replay::new(conversation(), Difference::Refuse));
        let made = agent::Config {
            flavour: agent::Flavour::OpenAi,
            base_url: String::new(),
            model: "m".into(),
            key: None,
            timeout: Duration::from_secs(1),
            attempts_max: 1,
            price: None,
            limits: agent::Limits::default(),
            budgets: agent::Budgets::default(),
        };
        let agent = Agent::with_model(made, model, Arc::new(|| Timestamp::EPOCH)).unwrap();
        let agent = with_model.then(|| Arc::new(agent));
        let desk = Desk { forge, telemetry: Arc::new(Silent), agent };
        let order = Order { rollout: RolloutId(1), name, change: Arc::new(change), stable: None, past: Arc::from([]) };
        desk.draft(order, Some(service), Duration::from_secs(60)).await
    }

    #[tokio::test]
    async fn the_rules_stand_in_for_a_model_that_fails_and_say_why_and_what_was_said_is_kept() {
        let planned = drafted(true).await;
        let source = planned.draft.as_ref().unwrap().source.clone();
        assert!(matches!(source, Source::Fallback { why: Fallback::Rejected, .. }), "{source:?}");
        assert_eq!(planned.take_conversation().map(|said| said.role), Some(ModelRole::Planner));
        let by_rules = drafted(false).await;
        assert_eq!(by_rules.draft.as_ref().unwrap().source, Source::Heuristic);
        assert_eq!(by_rules.draft.as_ref().unwrap().checks, planned.draft.as_ref().unwrap().checks);
        assert!(by_rules.take_conversation().is_none());
    }

    #[test]
    fn an_entry_has_room_for_the_longest_conversation_however_it_is_written() {
        // A byte becomes at most six in JSON; the draft beside it is bounded by what one answer may hold.
        const { assert!(8 * agent::RECORD_BYTES_MAX <= journal::PAYLOAD_BYTES_MAX) };
    }
}
