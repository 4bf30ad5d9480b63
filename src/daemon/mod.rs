//! The live world: a real clock, the inbox, and the dispatch of effects to the wings.
//!
//! [`start`] gives the loop a thread of its own. Everything else talks with it through a [`Handle`].

mod clock;
mod dispatch;
pub mod drafting;
mod expecting;
mod handle;
mod live;
mod metrics;
mod model_metrics;

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::{
    sync::{broadcast, mpsc, watch},
    time::Instant,
};

pub use clock::Clock;
pub use dispatch::{Wings, finite};
pub use handle::{Closed, Handle, Message};
pub use metrics::Metrics;

use self::{dispatch::Dispatch, drafting::Drafts, live::Live};
use crate::{
    domain::Notice,
    journal::Journal,
    rollout::{self, Event, Fleet, Policy},
};

/// Most messages that wait for the loop; senders beyond it wait their turn.
const INBOX_MAX: usize = 4_096;
/// Most notices that a slow listener may lag behind.
const NOTICES_MAX: usize = 256;

/// What a daemon is made of.
pub struct Parts {
    /// The policy from the configuration.
    pub policy: Arc<Policy>,
    /// The open journal.
    pub journal: Journal,
    /// The fleet that it recovered.
    pub fleet: Fleet,
    /// The clock, started at the journal's last time.
    pub clock: Clock,
    /// What effects are handed to.
    pub wings: Wings,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// A daemon that runs.
pub struct Running {
    /// How to talk with it.
    pub handle: Handle,
    /// True once the journal is folded, the first batch is done, and what stood before is in force again. An actuator that
    /// does not answer keeps it from being true for a few seconds only.
    pub ready: watch::Receiver<bool>,
    thread: JoinHandle<Option<crate::journal::Error>>,
    ended: watch::Receiver<bool>,
}

/// Starts the loop on a thread of its own; its first event says that it started.
pub fn start(parts: Parts) -> std::io::Result<Running> {
    let Parts { policy, journal, mut fleet, clock, wings, metrics } = parts;
    let runtime = tokio::runtime::Handle::current();
    let (sender, inbox) = mpsc::channel(INBOX_MAX);
    let (views, seen) = watch::channel(Arc::new(fleet.view(0)));
    let (notices, _) = broadcast::channel::<Notice>(NOTICES_MAX);
    let (ready, is_ready) = watch::channel(false);
    let (ends, ended) = watch::channel(false);
    let handle = Handle::new(sender, seen, notices.clone());
    let first = Message::Event { event: Event::Started { policy: Arc::clone(&policy) }, done: None };
    handle.send_now(first);
    let dispatch = Dispatch {
        runtime: runtime.clone(),
        wings,
        handle: handle.clone(),
        policy,
        notices,
        metrics: Arc::clone(&metrics),
        clock: clock.clone(),
        drafts: Drafts::default(),
        lanes: BTreeMap::new(),
        moves: Arc::default(),
    };
    if let Some(agent) = &dispatch.wings.agent {
        metrics.ask(Arc::clone(agent));
    }
    let began = Instant::now();
    let mut live = Live {
        runtime,
        inbox,
        clock,
        journal,
        dispatch,
        views,
        ready,
        metrics,
        failure: None,
        waiting: Vec::new(),
        looks: Vec::new(),
        began,
        shown: began,
        is_dirty: false,
        was_ordered: false,
    };
    let thread = thread::Builder::new().name("loop".into()).spawn(move || {
        rollout::run(&mut fleet, &mut live);
        if live.failure.is_none()
            && let Err(error) = live.journal.snapshot(&fleet)
        {
            tracing::warn!(%error, "no snapshot at the end; the next start folds the journal");
        }
        ends.send_replace(true);
        live.failure
    })?;
    Ok(Running { handle, ready: is_ready, thread, ended })
}

impl Running {
    /// Waits until the loop has ended by itself, which it does only when its journal cannot be written.
    pub async fn failed(&self) {
        // The sender goes away with the thread, which is an end as well.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Stops the loop after what it has already taken, and says why it had ended if it had.
    pub async fn stop(self) -> Result<(), String> {
        self.handle.stop().await;
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        match joined {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(error))) => Err(error.to_string()),
            Ok(Err(_)) | Err(_) => Err("the loop's thread broke down; the journal holds what was acknowledged".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use futures_util::future::{self, BoxFuture, FutureExt};

    use super::*;
    use crate::{
        config,
        domain::{Change, Exposure, Person, RequestId, Revision, RolloutId, ServiceName, Shift, Stamped, Text},
        forge::{self, GitHub},
        journal::Options,
        rails::Cleared,
        rollout::Effect,
        telemetry::{Answer, Ask, Provider},
        traffic::{self, Actuator},
    };

    /// Takes its time, and is then as it was told to be.
    #[derive(Default)]
    struct Slow {
        takes: Duration,
        has_moved: AtomicBool,
    }

    impl Actuator for Slow {
        fn shift<'a>(
            &'a self,
            _request: RequestId,
            shift: &'a Cleared<Shift>,
        ) -> BoxFuture<'a, Result<Exposure, traffic::Error>> {
            async move {
                tokio::time::sleep(self.takes).await;
                self.has_moved.store(true, Ordering::SeqCst);
                Ok(shift.get().to.clone())
            }
            .boxed()
        }

        fn read<'a>(&'a self, _service: &'a ServiceName) -> BoxFuture<'a, Result<Exposure, traffic::Error>> {
            future::ready(Ok(Exposure::none())).boxed()
        }
    }

    struct Silent;

    impl Provider for Silent {
        fn measure(&self, _ask: Ask) -> BoxFuture<'_, Answer> {
            future::pending().boxed()
        }
    }

    fn policy() -> Arc<Policy> {
        let example = include_str!("../../config.example.toml").replace("\"guard\"", "\"auto\"");
        let environment = |_: &str| Some("a secret of some length".to_owned());
        Arc::new(config::read(&example, "example", &environment).unwrap().policy)
    }

    /// Folds events until a first stage is confirmed, answering each effect as a world does in which all goes well.
    fn history(policy: &Arc<Policy>) -> Vec<Stamped<Event>> {
        let (repository, revision) = ("acme/shop".parse().unwrap(), "900dc0de".parse().unwrap());
        let merged = Event::PullRequestMerged {
            delivery: Text::new("one"),
            repository,
            pull_request: 7,
            branch: "main".into(),
            into_default: true,
        };
        let change = |repository| Change {
            repository,
            pull_request: 7,
            title: Text::new("a change"),
            author: Person(Text::new("mira")),
            merged_by: None,
            base: "5ab1e000".parse().unwrap(),
            revision: Revision::clone(&revision),
            files: Vec::new(),
            files_cut: true,
        };
        let (mut fleet, mut entries) = (Fleet::default(), Vec::new());
        let mut due = std::collections::VecDeque::from([Event::Started { policy: Arc::clone(policy) }, merged]);
        while let Some(event) = due.pop_front() {
            let entry = Stamped { at: Clock::default().now(), event };
            due.extend(fleet.handle(&entry).into_iter().filter_map(|effect| match effect {
                Effect::FetchChange { request, repository, .. } => {
                    Some(Event::ChangeFetched { request, change: Ok(Arc::new(change(repository))) })
                }
                Effect::Draft { request, rollout, .. } => {
                    Some(Event::Drafted { request, rollout, draft: Err(Text::new("no diff")), conversation: None })
                }
                Effect::Shift { request, shift } => {
                    let shift = shift.get();
                    Some(Event::Shifted { request, rollout: shift.rollout, read: Ok(shift.to.clone()) })
                }
                Effect::Advise { .. }
                | Effect::Narrate { .. }
                | Effect::Expect { .. }
                | Effect::Measure { .. }
                | Effect::Announce(_) => None,
            }));
            entries.push(entry);
        }
        assert!(fleet.view_of(RolloutId(1)).is_some_and(|rollout| rollout.share > 0));
        entries
    }

    async fn start_after(takes: Duration) -> (Running, Arc<Slow>, tempfile::TempDir) {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let (folder, policy) = (tempfile::tempdir().unwrap(), policy());
        let options = Options::at(folder.path().join("journal"));
        let (mut journal, ..) = Journal::open(options.clone()).unwrap();
        journal.append(&history(&policy)).unwrap();
        drop(journal);
        let (journal, fleet, _) = Journal::open(options).unwrap();
        let actuator = Arc::new(Slow { takes, ..Slow::default() });
        let forge = forge::Config {
            api: "http://127.0.0.1:9".into(),
            token: None,
            timeout: Duration::from_secs(1),
            attempts_max: 1,
        };
        let wings = Wings {
            forge: Arc::new(GitHub::new(&forge).unwrap()),
            telemetry: Arc::new(Silent),
            actuator: Arc::<Slow>::clone(&actuator),
            agent: None,
            planned_by_model: Arc::default(),
        };
        let clock = Clock::starting_at(fleet.now());
        let running = start(Parts { policy, journal, fleet, clock, wings, metrics: Arc::default() }).unwrap();
        (running, actuator, folder)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_is_ready_once_what_stood_is_in_force_again() {
        let (mut running, actuator, _folder) = start_after(Duration::from_millis(300)).await;
        assert!(!*running.ready.borrow());
        running.ready.wait_for(|ready| *ready).await.unwrap();
        assert!(actuator.has_moved.load(Ordering::SeqCst));
        running.stop().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_actuator_that_does_not_answer_delays_it_no_longer_than_the_limit() {
        let (mut running, actuator, _folder) = start_after(Duration::from_secs(3_600)).await;
        let ready = running.ready.wait_for(|ready| *ready);
        tokio::time::timeout(live::IN_FORCE_WITHIN + Duration::from_secs(5), ready).await.unwrap().unwrap();
        assert!(!actuator.has_moved.load(Ordering::SeqCst));
        running.stop().await.unwrap();
    }
}
