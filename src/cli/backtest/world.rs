//! The past as a world of the one loop: its clock jumps, its shifts succeed at once and move nothing, and what it measures
//! is what the source kept.
//!
//! It can do no more than that. It holds a source, which reads, and a queue of replies; there is no journal, no
//! actuator and nobody to be told in it.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::deploys::Deploy;
use crate::{
    daemon,
    domain::{
        Absence, Arm, Change, Check, CheckId, Measurement, Notice, Origin, Person, Repository, RequestId, RolloutId,
        ServiceName, Severity, Split, Stamped, Text, Timestamp, Verdict, WayBack,
    },
    plan::{Draft, Plan},
    rollout::{self, Effect, Event, Fleet, Policy, RolloutView, World},
    telemetry::{self, prometheus::Prometheus},
};

/// Most events of one deploy: a world that needs more has lost its way.
const EVENTS_MAX: usize = 200_000;
/// How often a server is asked that does not answer, and the pause before it is asked again.
const ATTEMPTS_MAX: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);
/// How long before a deploy it is looked for what ran before.
const BEFORE: Duration = Duration::from_secs(600);
/// Who deployed, merged and wrote what was deployed.
const SOMEBODY: &str = "somebody";

/// What is the same for all deploys.
pub(super) struct House<'a> {
    pub(super) source: &'a Prometheus,
    pub(super) service: &'a ServiceName,
    pub(super) repository: &'a Repository,
    pub(super) branch: String,
    pub(super) policy: Arc<Policy>,
    /// Whether the arms bear the same labels, so that nothing but the revision tells them apart.
    pub(super) is_told_by_revision: bool,
}

/// How far the arms were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Whether the canary ever was.
    pub(super) canary: bool,
    /// For how long it was beside control.
    pub(super) both: Duration,
    /// Whether what ran before was, just before the deploy; only asked where the two never were side by side.
    pub(super) before: Option<bool>,
}

/// How one deploy went.
#[derive(Debug)]
pub(super) struct Went {
    /// The rollout as it stood at the end; `None` where there was none.
    pub(super) rollout: Option<RolloutView>,
    /// When its traffic would have been taken back.
    pub(super) taken_back: Option<Timestamp>,
    /// When a rollback was due that only a person may make.
    pub(super) called: Option<Timestamp>,
    pub(super) seen: Seen,
    /// Whether more happened than is followed.
    pub(super) is_cut: bool,
    /// Up to when it was followed.
    pub(super) followed: Timestamp,
    /// Why the source did not answer, if it did not: then it ended there.
    pub(super) failed: Option<Absence>,
}

/// Lets a fleet go through one deploy, up to a time. Blocks; to be called where that is allowed within a runtime.
pub(super) fn run(house: &House<'_>, fleet: &mut Fleet, number: u64, deploy: &Deploy, until: Timestamp) -> Went {
    let mut world = Past {
        house,
        deploy,
        until,
        number,
        runtime: Handle::current(),
        queue: BTreeMap::new(),
        events: 0,
        now: deploy.at,
        seen: Seen::default(),
        was_paged: false,
        taken_back: None,
        called: None,
        failed: None,
    };
    world.begin(*fleet == Fleet::default());
    rollout::run(fleet, &mut world);
    if world.seen.both.is_zero() && world.failed.is_none() {
        world.look_before();
    }
    let is_cut = world.events > EVENTS_MAX;
    let Past { seen, taken_back, called, failed, now, .. } = world;
    let rollout = fleet.view(1).rollouts.into_iter().find(|rollout| rollout.pull_request == number);
    Went { rollout, taken_back, called, seen, is_cut, followed: now, failed }
}

struct Past<'a> {
    house: &'a House<'a>,
    deploy: &'a Deploy,
    until: Timestamp,
    /// The deploy's number, in place of a pull request's.
    number: u64,
    runtime: Handle,
    /// What will happen, by time and then order.
    queue: BTreeMap<(Timestamp, usize), Event>,
    events: usize,
    now: Timestamp,
    seen: Seen,
    was_paged: bool,
    taken_back: Option<Timestamp>,
    called: Option<Timestamp>,
    failed: Option<Absence>,
}

impl Past<'_> {
    /// The revision before runs, the new one is deployed, and its change was merged.
    fn begin(&mut self, is_first: bool) {
        let House { service, repository, branch, policy, .. } = self.house;
        if is_first {
            self.happens(self.now, Event::Started { policy: Arc::clone(policy) });
        }
        for revision in self.deploy.stable.iter().chain([&self.deploy.revision]) {
            let (service, revision) = ((*service).clone(), revision.clone());
            self.happens(self.now, Event::RevisionDeployed { service, revision, by: somebody() });
        }
        let merged = Event::PullRequestMerged {
            delivery: Text::new(format!("deploy {}", self.number)),
            repository: (*repository).clone(),
            pull_request: self.number,
            branch: branch.clone(),
            into_default: true,
        };
        self.happens(self.now, merged);
    }

    fn happens(&mut self, at: Timestamp, event: Event) {
        self.events += 1;
        self.queue.insert((at.max(self.now), self.events), event);
    }

    fn is_over(&self) -> bool {
        self.failed.is_some() || self.taken_back.is_some() || self.called.is_some() || self.events > EVENTS_MAX
    }

    fn change(&self) -> Change {
        Change {
            repository: self.house.repository.clone(),
            pull_request: self.number,
            title: Text::new("a past deploy"),
            author: somebody(),
            merged_by: None,
            base: self.deploy.stable.clone().unwrap_or_else(|| self.deploy.revision.clone()),
            revision: self.deploy.revision.clone(),
            files: Vec::new(),
            // Nobody knows its files. The policy has no rules on paths here, so this says no more than that it is touched.
            files_cut: true,
        }
    }

    /// Asks the source, as the daemon would have; the answer comes when it would have come.
    fn measure(&mut self, request: RequestId, rollout: RolloutId, plan: &Plan, window: [Timestamp; 3]) {
        let [after, through, no_later_than] = window;
        let asked = |(check, id): (&Check, u16)| telemetry::AskedCheck {
            check: CheckId(id),
            sli: check.sli.clone(),
            split: check.split.clone(),
        };
        let ask = telemetry::Ask {
            service: self.house.service.clone(),
            // What truly ran before: in this world earlier deploys went out, whatever would have become of them.
            control: self.deploy.stable.clone(),
            canary: self.deploy.revision.clone(),
            checks: plan.checks().iter().zip(0..).map(asked).collect(),
            after,
            through,
            no_later_than,
        };
        match self.runtime.block_on(answered(self.house.source, &ask, self.now, self.until)) {
            Ok(Some((at, telemetry::Answer { through, measurements }))) => {
                let measurements: Vec<Measurement> = measurements.into_iter().map(daemon::finite).collect();
                self.look_at(plan, &measurements);
                self.happens(at, Event::Measured { request, rollout, through, measurements });
            }
            // What history has no answer for does not happen.
            Ok(None) => {}
            Err(why) => self.failed = Some(why),
        }
    }

    /// Whether what ran before was there just before the deploy: where it was not either, the labels may be wrong.
    fn look_before(&mut self) {
        let policy = self.house.policy.services.get(self.house.service);
        let (Some(stable), Some(policy), true) = (&self.deploy.stable, policy, self.house.is_told_by_revision) else {
            return;
        };
        let asked = |(check, id): (&Check, u16)| telemetry::AskedCheck {
            check: CheckId(id),
            sli: check.sli.clone(),
            split: Split::default(),
        };
        let through = self.deploy.at - policy.look_every;
        let ask = telemetry::Ask {
            service: self.house.service.clone(),
            control: Some(stable.clone()),
            canary: stable.clone(),
            checks: policy.bounds.mandatory.iter().zip(0..).map(asked).collect(),
            after: through - BEFORE,
            through,
            no_later_than: self.deploy.at,
        };
        match self.runtime.block_on(answered(self.house.source, &ask, through, self.deploy.at)) {
            Ok(answer) => {
                let told = answer.iter().flat_map(|(_, answer)| &answer.measurements);
                self.seen.before = Some(told.into_iter().any(|m| m.tally.is_ok()));
            }
            Err(why) => self.failed = Some(why),
        }
    }

    /// Notes which arms were there, by what the operator asks for.
    fn look_at(&mut self, plan: &Plan, measurements: &[Measurement]) {
        let mut longest = Duration::ZERO;
        for (check, id) in plan.checks().iter().zip(0..) {
            let told = |arm: Arm| {
                let of = |m: &&Measurement| m.check == CheckId(id) && m.arm == arm && m.tally.is_ok();
                measurements.iter().find(of)
            };
            let (control, canary) = (told(Arm::Control), told(Arm::Canary));
            if check.origin != Origin::Slo {
                continue;
            }
            self.seen.canary |= canary.is_some();
            if let (Some(control), Some(_)) = (control, canary) {
                longest = longest.max(control.window.through.since(control.window.after));
            }
        }
        self.seen.both += longest;
    }
}

async fn answered(
    source: &Prometheus,
    ask: &telemetry::Ask,
    asked: Timestamp,
    until: Timestamp,
) -> Result<Option<(Timestamp, telemetry::Answer)>, Absence> {
    let mut attempt = 1;
    loop {
        match source.measure_past(ask, asked, until).await {
            Err(_) if attempt < ATTEMPTS_MAX => {
                tokio::time::sleep(PAUSE * attempt).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}

fn somebody() -> Person {
    Person(Text::new(SOMEBODY))
}

impl World for Past<'_> {
    fn wait(&mut self, until: Option<Timestamp>) -> Option<Vec<Stamped<Event>>> {
        if self.is_over() {
            return None;
        }
        let next = self.queue.keys().next().copied();
        let woken = until.filter(|until| next.is_none_or(|(at, _)| *until < at));
        let stamped = match (woken, next) {
            (Some(at), _) => Stamped { at: at.max(self.now), event: Event::WokeUp },
            (None, Some(key)) => Stamped { at: key.0, event: self.queue.remove(&key)? },
            (None, None) => return None,
        };
        self.events += 1;
        if stamped.at > self.until {
            return None;
        }
        self.now = stamped.at;
        Some(vec![stamped])
    }

    /// There is no journal here.
    fn commit(&mut self, _entries: &[Stamped<Event>]) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn perform(&mut self, effect: Effect) {
        let now = self.now;
        match effect {
            Effect::FetchChange { request, .. } => {
                let change = Ok(Arc::new(self.change()));
                self.happens(now, Event::ChangeFetched { request, change });
            }
            Effect::Draft { request, rollout, .. } => {
                let draft = Ok(Box::new(Draft::by_rules(Vec::new(), WayBack::Open, Vec::new())));
                self.happens(now, Event::Drafted { request, rollout, draft, conversation: None });
            }
            Effect::Shift { request, shift } => {
                let shift = shift.get();
                if shift.to.is_none() {
                    self.taken_back = Some(now);
                    return;
                }
                let read = Ok(shift.to.clone());
                self.happens(now, Event::Shifted { request, rollout: shift.rollout, read });
            }
            Effect::Measure { request, rollout, plan, after, through, no_later_than, .. } => {
                self.measure(request, rollout, &plan, [after, through, no_later_than]);
            }
            // Nobody is told.
            Effect::Announce(Notice { severity, .. }) => self.was_paged |= severity == Severity::Page,
            // What earlier days let expect is left out: the list says what is compared with what.
            Effect::Expect { request, rollout, plan, .. } => {
                let nothing = || Err(Text::new("a backtest compares with nothing but the other version"));
                let ids = (0..plan.checks().len()).filter_map(|place| u16::try_from(place).ok());
                let learnt = ids.map(|id| (CheckId(id), nothing())).collect();
                self.happens(now, Event::Expected { request, rollout, learnt });
            }
            // The policy asks no model here.
            Effect::Advise { .. } | Effect::Narrate { .. } => {}
        }
    }

    /// A rollback that only a person may make is where a person would have been called.
    fn observe(&mut self, fleet: &Fleet) {
        if !std::mem::take(&mut self.was_paged) {
            return;
        }
        let is_due = |rollout: &RolloutView| {
            let proof = ["hard_slo", "regression"];
            rollout.verdict == Some(Verdict::Hold)
                && rollout.objections.iter().any(|o| o.at_most == Verdict::Rollback && proof.contains(&o.rail.as_str()))
        };
        if fleet.view(1).rollouts.iter().any(is_due) {
            self.called = Some(self.now);
        }
    }
}
