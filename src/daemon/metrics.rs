//! The numbers about ourselves, in Prometheus' text format.
//!
//! What happens is counted by the daemon as it happens. What is the case is read from the fleet's view at each scrape,
//! so it can never disagree with the page. How rollouts ended is counted by comparing each view with the one before:
//! that is right for as long as scrapes come before the fleet forgets a finished rollout.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::Ordering},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::model_metrics::{ModelMetrics, OwnCounts};
use crate::{
    agent::{Agent, Totals},
    domain::{Outcome, RolloutId, Severity, Stamped},
    rollout::{Event, FleetView},
};

/// The phases a rollout can be in, as [`crate::rollout::RolloutView::phase`] names them.
const PHASES: &[&str] = &[
    "queued",
    "drafting",
    "awaiting_revision",
    "ready",
    "shifting",
    "baking",
    "watching",
    "draining",
    "done",
    "quarantined",
];
const OUTCOMES: &[Outcome] =
    &[Outcome::Promoted, Outcome::RolledBack, Outcome::HandedOver, Outcome::Superseded, Outcome::Cancelled];
const SEVERITIES: &[Severity] = &[Severity::Info, Severity::Warning, Severity::Page];
/// Upper edges in seconds: a commit is one sync of a disk.
const COMMIT_SECONDS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPhase {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySeverity {
    severity: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// The numbers about ourselves. Its methods are cheap and may be called from any thread.
pub struct Metrics {
    registry: Registry,
    handled: Counter,
    commits: Counter,
    entries: Counter,
    commit_seconds: Histogram,
    notices: Family<BySeverity, Counter>,
    stale_replies: Counter,
    rollouts: Family<ByPhase, Gauge>,
    open: Gauge,
    ended: Family<ByOutcome, Counter>,
    fetching: Gauge,
    kill_switch: Gauge,
    streams: Gauge,
    model: ModelMetrics,
    agent: OnceLock<Arc<Agent>>,
    last_view: Mutex<Option<LastView>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What must be known of the last view to see which rollouts ended since.
struct LastView {
    open: BTreeSet<RolloutId>,
    newest: RolloutId,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("tollgate");
        let model = ModelMetrics::new(&mut registry);
        let mut metrics = Self {
            registry,
            model,
            agent: OnceLock::new(),
            handled: Counter::default(),
            commits: Counter::default(),
            entries: Counter::default(),
            commit_seconds: Histogram::new(COMMIT_SECONDS),
            notices: Family::default(),
            stale_replies: Counter::default(),
            rollouts: Family::default(),
            open: Gauge::default(),
            ended: Family::default(),
            fetching: Gauge::default(),
            kill_switch: Gauge::default(),
            streams: Gauge::default(),
            last_view: Mutex::new(None),
        };
        metrics.register();
        // A series that is not there yet cannot be told from one that is lost.
        for severity in SEVERITIES {
            metrics.notices.get_or_create(&BySeverity { severity: severity_word(*severity) }).inc_by(0);
        }
        for outcome in OUTCOMES {
            metrics.ended.get_or_create(&ByOutcome { outcome: outcome_word(*outcome) }).inc_by(0);
        }
        metrics
    }

    fn register(&mut self) {
        let build: Family<Build, Gauge> = Family::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        let r = &mut self.registry;
        r.register("build_info", "The version that runs", build);
        r.register("events_handled", "Events the fleet has handled since the start", self.handled.clone());
        r.register("commits", "Batches made durable since the start", self.commits.clone());
        r.register("journal_entries", "Journal entries made durable since the start", self.entries.clone());
        r.register("commit_seconds", "Time to make one batch durable", self.commit_seconds.clone());
        r.register("notices", "Notices to people since the start, by severity", self.notices.clone());
        r.register(
            "stale_replies",
            "Replies that came too late to count, since the journal began",
            self.stale_replies.clone(),
        );
        r.register("rollouts", "Rollouts that can be seen, by phase", self.rollouts.clone());
        r.register("rollouts_open", "Rollouts that have not ended", self.open.clone());
        r.register("rollouts_ended", "Rollouts seen to end since the start, by outcome", self.ended.clone());
        r.register("changes_fetching", "Pull requests whose change is being fetched", self.fetching.clone());
        r.register("kill_switch", "1 while expansion is stopped", self.kill_switch.clone());
        r.register("event_streams", "Readers connected to the live stream", self.streams.clone());
    }

    /// Asks this agent for its own counts from now on.
    pub(super) fn ask(&self, agent: Arc<Agent>) {
        // A daemon has one agent; a second is none of its own.
        let _ = self.agent.set(agent);
    }

    /// The fleet has handled `events` events.
    pub fn handled(&self, events: u64) {
        self.handled.inc_by(events);
    }

    /// One batch of entries was made durable within `seconds`.
    pub fn committed(&self, entries: &[Stamped<Event>], seconds: f64) {
        self.commits.inc();
        self.entries.inc_by(u64::try_from(entries.len()).unwrap_or(u64::MAX));
        self.commit_seconds.observe(seconds);
        self.model.committed(entries);
    }

    /// People were told something.
    pub fn noticed(&self, severity: Severity) {
        self.notices.get_or_create(&BySeverity { severity: severity_word(severity) }).inc();
    }

    /// So many readers are connected to the live stream.
    pub fn streaming(&self, open: usize) {
        self.streams.set(signed(open));
    }

    /// Reads what is the case from a view. Each scrape does; the daemon does so once at the start, so that what ended
    /// before is not counted and what ends before the first scrape is.
    pub fn viewed(&self, view: &FleetView) {
        if let Some(agent) = self.agent.get() {
            let Totals { repairs, refusals, secrets, .. } = agent.counts();
            self.model.counted(OwnCounts { repairs, refusals, secrets });
        }
        for phase in PHASES {
            let count = view.rollouts.iter().filter(|rollout| rollout.phase == *phase).count();
            self.rollouts.get_or_create(&ByPhase { phase }).set(signed(count));
        }
        let open: BTreeSet<RolloutId> =
            view.rollouts.iter().filter(|rollout| rollout.outcome.is_none()).map(|rollout| rollout.id).collect();
        self.open.set(signed(open.len()));
        self.fetching.set(signed(view.fetching));
        self.kill_switch.set(i64::from(view.kill_switch));
        self.stale_replies.inner().store(view.stale_replies, Ordering::Relaxed);
        let newest = view.rollouts.iter().map(|rollout| rollout.id).max().unwrap_or(RolloutId(0));
        let mut last = self.last_view.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = &*last {
            let ended = |id: RolloutId| last.open.contains(&id) || id > last.newest;
            for outcome in view.rollouts.iter().filter(|r| ended(r.id)).filter_map(|r| r.outcome) {
                self.ended.get_or_create(&ByOutcome { outcome: outcome_word(outcome) }).inc();
            }
        }
        let newest = last.as_ref().map_or(newest, |last| last.newest.max(newest));
        *last = Some(LastView { open, newest });
    }

    /// All of it in Prometheus' text format, version 0.0.4, which every collector reads.
    ///
    /// The encoder writes OpenMetrics, where a counter's family lacks the `_total` of its samples and a last line marks
    /// the end. Both are put the older way here.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut open_metrics = String::new();
        text::encode(&mut open_metrics, &self.registry)?;
        let counters: BTreeSet<&str> =
            open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
        let mut out = String::with_capacity(open_metrics.len() + 16 * counters.len());
        for line in open_metrics.lines().filter(|line| *line != "# EOF") {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some(part @ ("HELP" | "TYPE")), Some(family), Some(rest)) if counters.contains(family) => {
                    out.push_str(&format!("# {part} {family}_total {rest}\n"));
                }
                _ => {
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
        Ok(out)
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Page => "page",
    }
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Promoted => "promoted",
        Outcome::RolledBack => "rolled_back",
        Outcome::HandedOver => "handed_over",
        Outcome::Superseded => "superseded",
        Outcome::Cancelled => "cancelled",
    }
}
