//! The virtual world itself: a queue of what will happen, faults on the way, and restarts in between.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    history,
    model::{self, Unadvised},
    scenario::{BEGINNING, Behaviour, Faults, Scenario},
    service::{self, Drawn},
    traffic::Traffic,
    watch::Watch,
};
use crate::{
    domain::{
        Arm, Brief, CheckId, ModelRole, Notice, Outcome, Prose, RequestId, RolloutId, ServiceName, Severity, Shift,
        Stamped, Text, Timestamp, WayBack, Window,
    },
    plan::{Draft, Plan},
    rollout::{self, Effect, Event, FetchError, Fleet, ShiftError, World},
};

/// How a world ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Each rollout's outcome; `None` for one that is still open, which is a failure of liveness.
    pub outcomes: BTreeMap<RolloutId, Option<Outcome>>,
    /// Whether each rollout's change was harmless.
    pub harmless: BTreeMap<RolloutId, bool>,
    /// Entries in the journal.
    pub entries: usize,
    /// Times the daemon was killed.
    pub restarts: u32,
    /// Pages sent.
    pub pages: u32,
    /// Times that a model was asked for advice.
    pub advised: u32,
    /// What each rollout went through, for whoever looks into a seed.
    pub timelines: BTreeMap<RolloutId, Vec<String>>,
    /// Each thing that must never happen and did, with its time.
    pub violations: Vec<String>,
}

/// Most events of one world: a world that needs more has lost its way.
const ENTRIES_MAX: usize = 60_000;

/// Runs a world to its horizon.
pub fn run(scenario: &Scenario) -> Ended {
    run_world(Virtual::new(scenario))
}

/// Runs a world to its horizon, with the daemon killed once just after entry number `cut` was recorded and before
/// anything was done about it.
pub fn run_cut(scenario: &Scenario, cut: usize) -> Ended {
    let mut world = Virtual::new(scenario);
    world.cut = Some(cut);
    run_world(world)
}

fn run_world(mut world: Virtual<'_>) -> Ended {
    let scenario = world.scenario;
    let mut fleet = Fleet::default();
    loop {
        world.happens(world.now, Event::Started { policy: Arc::clone(&scenario.policy) });
        rollout::run(&mut fleet, &mut world);
        if !world.killed {
            break;
        }
        // Everything in memory is gone: the fleet is folded from the journal, and no reply is on its way any more.
        world.killed = false;
        world.unadvised.forget();
        world.restarts += 1;
        let mut folded = Fleet::default();
        for entry in &world.journal {
            folded.handle(entry);
        }
        // After a cut the journal is one entry ahead of the fleet that was killed.
        if folded != fleet && !std::mem::take(&mut world.cut_short) {
            world.violation("folding the journal gives another fleet");
        }
        fleet = folded;
        world.queue.retain(|_, (_, outside)| *outside);
    }
    world.ended(&fleet)
}

/// The virtual world.
struct Virtual<'a> {
    scenario: &'a Scenario,
    rng: StdRng,
    now: Timestamp,
    /// What will happen, by time and then order, and whether it comes from outside the daemon.
    queue: BTreeMap<(Timestamp, u64), (Event, bool)>,
    queued: u64,
    journal: Vec<Stamped<Event>>,
    traffic: Traffic,
    watch: Watch,
    unadvised: Unadvised,
    /// Rollouts whose traffic was asked to move since the last batch of events.
    moved: Vec<RolloutId>,
    /// Pieces of advice that were asked for.
    advised: u32,
    plans: BTreeMap<RolloutId, Arc<Plan>>,
    behaviours: BTreeMap<RolloutId, Behaviour>,
    /// The measurement that each rollout waits for: only that one is taken in.
    measuring: BTreeMap<RolloutId, RequestId>,
    open_rollouts: usize,
    /// The entry after which the daemon is to be killed once.
    cut: Option<usize>,
    killed: bool,
    cut_short: bool,
    restarts: u32,
    pages: u32,
    violations: Vec<String>,
}

impl<'a> Virtual<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let mut world = Self {
            scenario,
            rng: StdRng::seed_from_u64(scenario.seed ^ 0x5eed),
            now: BEGINNING,
            queue: BTreeMap::new(),
            queued: 0,
            journal: Vec::new(),
            traffic: Traffic::default(),
            watch: Watch::default(),
            unadvised: Unadvised::default(),
            moved: Vec::new(),
            advised: 0,
            plans: BTreeMap::new(),
            behaviours: BTreeMap::new(),
            measuring: BTreeMap::new(),
            open_rollouts: 0,
            cut: None,
            killed: false,
            cut_short: false,
            restarts: 0,
            pages: 0,
            violations: Vec::new(),
        };
        for (at, event) in &scenario.agenda {
            world.queued += 1;
            world.queue.insert((*at, world.queued), (event.clone(), true));
        }
        world
    }

    fn faults(&self) -> Faults {
        if self.now < self.scenario.faults_end { self.scenario.faults } else { Faults::NONE }
    }

    fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.rng.random_bool(p)
    }

    fn violation(&mut self, what: impl std::fmt::Display) {
        self.violations.push(format!("{}: {what}", self.now));
    }

    fn happens(&mut self, at: Timestamp, event: Event) {
        self.queued += 1;
        self.queue.insert((at, self.queued), (event, false));
    }

    /// A reply on its way, with the faults that a way has.
    fn replies(&mut self, earliest: Timestamp, event: Event) {
        let faults = self.faults();
        if self.chance(faults.lost) {
            return;
        }
        let slowest = if self.chance(faults.late) { 180_000 } else { 2_000 };
        let at = earliest.max(self.now) + Duration::from_millis(self.rng.random_range(1..slowest));
        if self.chance(faults.doubled) {
            let again = at + Duration::from_millis(self.rng.random_range(0..60_000));
            self.happens(again, event.clone());
        }
        self.happens(at, event);
    }

    fn fetch(&mut self, request: RequestId, pull_request: u64) {
        let failing = self.faults().failing;
        let change = if self.chance(failing) {
            Err(FetchError::Unavailable(Text::new("no answer")))
        } else {
            match self.scenario.changes.get(&pull_request) {
                Some((change, _)) => Ok(Arc::clone(change)),
                None => Err(FetchError::Refused(Text::new("not found"))),
            }
        };
        self.replies(self.now, Event::ChangeFetched { request, change });
    }

    fn draft(&mut self, request: RequestId, rollout: RolloutId, pull_request: u64) {
        let behaviour = self.scenario.changes.get(&pull_request).map(|(_, behaviour)| *behaviour);
        if let Some(behaviour) = behaviour {
            self.behaviours.insert(rollout, behaviour);
        }
        let failing = self.faults().failing;
        let draft = if self.chance(failing) {
            Err(Text::new("the planner failed"))
        } else if behaviour.is_some_and(|behaviour| behaviour.one_way) {
            let why = Text::new("it drops a column");
            Ok(Box::new(Draft::by_rules(Vec::new(), WayBack::OneWay { why, lines: Vec::new() }, Vec::new())))
        } else {
            Ok(Box::new(Draft::by_rules(Vec::new(), WayBack::Open, Vec::new())))
        };
        self.replies(self.now, Event::Drafted { request, rollout, draft, conversation: None });
    }

    fn advise(&mut self, request: RequestId, rollout: RolloutId, brief: &Brief) {
        self.advised += 1;
        let advice = model::advice(brief, &mut self.rng);
        let conversation = Some(model::conversation(ModelRole::Advisor, &mut self.rng));
        // It takes its time, and sometimes longer than it is waited for.
        let earliest = self.now + Duration::from_secs(self.rng.random_range(0..80));
        self.replies(earliest, Event::Advised { request, rollout, advice, conversation });
    }

    fn narrate(&mut self, request: RequestId, rollout: RolloutId) {
        let failing = self.faults().failing;
        let words = if self.chance(failing) { Err(Text::new("no words")) } else { Ok(Prose::new("once upon a time")) };
        let conversation = Some(model::conversation(ModelRole::Narrator, &mut self.rng));
        self.replies(self.now, Event::Narrated { request, rollout, words, conversation });
    }

    fn shift(&mut self, request: RequestId, shift: &Shift) {
        self.moved.push(shift.rollout);
        if let Err(what) = self.unadvised.compare(shift) {
            self.violation(what);
        }
        let plan = self.plans.get(&shift.rollout).cloned();
        let checks = plan.as_ref().map_or(&[][..], |plan| plan.checks());
        let standing = match self.traffic.standing(&shift.service, self.now) {
            Some(standing) if standing.rollout == shift.rollout => standing.to.clone(),
            Some(_) | None => shift.from.clone(),
        };
        if let Err(what) = self.watch.asked(shift, checks, &standing) {
            self.violation(what);
        }
        let faults = self.faults();
        let fails = self.chance(faults.failing);
        let says_it_fails = fails || self.chance(faults.failing_after_effect);
        let mut done_at = self.now;
        if !fails {
            let delay = Duration::from_millis(self.rng.random_range(1..5_000));
            match self.traffic.shift(request, shift, self.now + delay) {
                Some(at) => done_at = at,
                None => return,
            }
        }
        let read =
            if says_it_fails { Err(ShiftError::Unavailable(Text::new("no answer"))) } else { Ok(shift.to.clone()) };
        self.replies(done_at, Event::Shifted { request, rollout: shift.rollout, read });
    }

    fn measure(
        &mut self,
        request: RequestId,
        rollout: RolloutId,
        service: &ServiceName,
        plan: &Arc<Plan>,
        window: Window,
    ) {
        self.plans.insert(rollout, Arc::clone(plan));
        self.measuring.insert(rollout, request);
        let absent = self.faults().absent;
        let seconds = window.through.since(window.after).as_secs_f64();
        let canary_share = self.traffic.mean_share((service, rollout), window.after, window.through);
        let worse = self.behaviours.get(&rollout).map_or(1.0, |behaviour| behaviour.worse);
        let mut measurements = Vec::new();
        for arm in [Arm::Control, Arm::Canary] {
            let (share, rate) = match arm {
                Arm::Control => (1.0 - canary_share, self.scenario.error_rate),
                Arm::Canary => (canary_share, (self.scenario.error_rate * worse).min(0.9)),
            };
            let requests = self.scenario.requests_per_second * seconds * share;
            let drawn = Drawn { requests, bad_rate: rate, pods: self.scenario.pods };
            let silent = self.chance(absent);
            for (i, check) in plan.checks().iter().enumerate() {
                let id = CheckId(u16::try_from(i).unwrap_or(u16::MAX));
                let mut measurement = service::measure((id, check), arm, window, &drawn, &mut self.rng);
                if silent {
                    measurement.tally = Err(service::absence(&mut self.rng));
                    measurement.parts.clear();
                }
                measurements.push(measurement);
            }
        }
        self.replies(window.through, Event::Measured { request, rollout, through: window.through, measurements });
    }

    /// What the fleet took in, told to the oracle.
    fn witnessed(&mut self, entry: &Stamped<Event>) {
        match &entry.event {
            Event::Drafted { rollout, draft: Ok(draft), .. } => self.watch.drafted(*rollout, &draft.way_back),
            Event::Commanded { rollout, command, .. } => self.watch.commanded(*rollout, *command),
            Event::KillSwitch { on, .. } => self.watch.kill_switch(*on),
            Event::Started { .. }
            | Event::PullRequestMerged { .. }
            | Event::ChangeFetched { .. }
            | Event::Drafted { .. }
            | Event::RevisionDeployed { .. }
            | Event::Shifted { .. }
            | Event::Advised { .. }
            | Event::Narrated { .. }
            | Event::Expected { .. }
            | Event::WokeUp => {}
            Event::Measured { request, rollout, measurements, .. } => {
                let checks = self.plans.get(rollout).filter(|_| self.measuring.get(rollout) == Some(request));
                if let Some(plan) = checks {
                    self.watch.measured(*rollout, plan.checks(), measurements);
                    self.measuring.remove(rollout);
                }
            }
        }
    }

    fn ended(mut self, fleet: &Fleet) -> Ended {
        let view = fleet.view(usize::MAX);
        for rollout in &view.rollouts {
            if rollout.phase == "quarantined" {
                self.violation(format!("{} is quarantined: {:?}", rollout.id, rollout.timeline.last()));
            }
            let actual = self.traffic.standing(&rollout.service, self.now);
            let has = actual.filter(|shift| shift.rollout == rollout.id).map(|shift| shift.to.clone());
            if rollout.outcome == Some(Outcome::RolledBack) && has.is_some_and(|to| !to.is_none()) {
                self.violation(format!("{} was rolled back and has traffic", rollout.id));
            }
        }
        let harmless = self.behaviours.iter().map(|(id, behaviour)| (*id, behaviour.worse <= 1.0)).collect();
        Ended {
            outcomes: view.rollouts.iter().map(|rollout| (rollout.id, rollout.outcome)).collect(),
            harmless,
            timelines: view
                .rollouts
                .iter()
                .map(|r| (r.id, r.timeline.iter().map(|m| format!("{} {}", m.at, m.text)).collect()))
                .collect(),
            entries: self.journal.len(),
            restarts: self.restarts,
            pages: self.pages,
            advised: self.advised,
            violations: self.violations,
        }
    }
}

impl World for Virtual<'_> {
    fn wait(&mut self, until: Option<Timestamp>) -> Option<Vec<Stamped<Event>>> {
        if self.journal.len() > ENTRIES_MAX {
            self.violation("the world does not come to rest");
            return None;
        }
        let restart = self.faults().restart;
        if !self.journal.is_empty() && self.chance(restart) && !self.killed_just_now() {
            self.killed = true;
            return None;
        }
        let next = self.queue.keys().next().copied();
        let woken = until.filter(|until| next.is_none_or(|(at, _)| *until < at));
        let stamped = match (woken, next) {
            (Some(until), _) => Stamped { at: until, event: Event::WokeUp },
            (None, Some(key)) => {
                let (event, _) = self.queue.remove(&key)?;
                Stamped { at: key.0, event }
            }
            (None, None) => return None,
        };
        if stamped.at > self.scenario.horizon {
            return None;
        }
        self.now = self.now.max(stamped.at);
        Some(vec![stamped])
    }

    fn commit(&mut self, entries: &[Stamped<Event>]) -> ControlFlow<()> {
        self.moved.clear();
        self.unadvised.handle(entries, &self.scenario.policy);
        for entry in entries {
            self.witnessed(entry);
            self.journal.push(entry.clone());
        }
        if self.cut.is_some_and(|cut| self.journal.len() > cut) {
            self.cut = None;
            self.killed = true;
            self.cut_short = true;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::FetchChange { request, pull_request, .. } => self.fetch(request, pull_request),
            Effect::Draft { request, rollout, change, .. } => self.draft(request, rollout, change.pull_request),
            Effect::Shift { request, shift } => self.shift(request, shift.get()),
            Effect::Measure { request, rollout, service, plan, after, through, .. } => {
                self.measure(request, rollout, &service, &plan, Window { after, through });
            }
            Effect::Advise { request, rollout, brief, .. } => self.advise(request, rollout, &brief),
            Effect::Narrate { request, rollout, .. } => self.narrate(request, rollout),
            Effect::Expect { request, rollout, plan, .. } => {
                let is_faulty = self.now < self.scenario.faults_end;
                if let Some((takes, learnt)) = history::answer(request, self.scenario.seed, is_faulty, &plan) {
                    self.happens(self.now + takes, Event::Expected { request, rollout, learnt });
                }
            }
            Effect::Announce(Notice { severity, .. }) => self.pages += u32::from(severity == Severity::Page),
        }
    }

    fn observe(&mut self, fleet: &Fleet) {
        for shift in self.unadvised.missing(&self.moved) {
            let what =
                format!("{}: not taken back to {}, as it would be with nobody's advice", shift.rollout, shift.to);
            self.violations.push(format!("{}: {what}", self.now));
        }
        if self.has_model() {
            self.unadvised.observe(fleet);
        }
        let open = fleet.open_rollouts();
        if open != self.open_rollouts {
            self.open_rollouts = open;
            let view = fleet.view(usize::MAX);
            view.rollouts.iter().filter(|r| r.outcome.is_some()).for_each(|r| self.watch.ended(r.id));
        }
    }
}

impl Virtual<'_> {
    fn has_model(&self) -> bool {
        self.scenario.policy.services.values().any(|service| service.model.is_some())
    }

    /// A daemon that was killed at its very start would never get anywhere.
    fn killed_just_now(&self) -> bool {
        matches!(self.journal.last(), Some(Stamped { event: Event::Started { .. }, .. }))
    }
}
