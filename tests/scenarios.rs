//! Hand-made scenarios: a fleet, a jumping clock, and a world whose answers each test chooses. Each is a way in which a
//! supervisor once could have done harm or nothing: a release taken back because it was left alone, expansion on what
//! was no longer seen, a page that never came.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tollgate::{
    domain::*,
    plan::Draft,
    rollout::{Deployed, Effect, Event, Fleet, Policy, RiskBake, ServicePolicy, ShiftError},
    sim::scenario,
};
const S: Duration = Duration::from_secs(1);
const MIN: Duration = Duration::from_secs(60);
type Tallies = Box<dyn FnMut(&Check, Arm) -> Result<Tally, Absence>>;
struct World {
    fleet: Fleet,
    now: Timestamp,
    policy: Arc<Policy>,
    open: Vec<Effect>,
    shifts: Vec<Shift>,
    notices: Vec<Notice>,
    way_back: WayBack,
    checks: Vec<Check>,
    tally: Tallies,
    telemetry_replies: bool,
    mute: bool,
    refuse: bool,
}
fn rev(n: u64) -> Revision {
    format!("{n:040x}").parse().unwrap()
}
fn repo() -> Repository {
    "acme/everything".parse().unwrap()
}
fn who() -> Person {
    Person(Text::new("alice"))
}
fn counts(bad: u64, total: u64) -> Result<Tally, Absence> {
    Ok(Tally::Counts(Counts { bad, total }))
}
fn service(autonomy: Autonomy) -> ServicePolicy {
    ServicePolicy {
        repository: repo(),
        paths: vec!["**".into()],
        branch: None,
        deployed: Deployed::OnMerge,
        autonomy,
        stages: scenario::ladder(&[5, 50, 100], MIN * 2),
        bounds: scenario::bounds(),
        alpha: 0.001,
        look_every: S * 30,
        measure_every: S * 30,
        samples_min: 10,
        step_max: Share::from_basis_points(5_000).unwrap(),
        blackout_after: MIN * 3,
        patience: MIN * 30,
        pause_max: MIN * 60,
        watch: MIN * 5,
        deploy_within: MIN * 60,
        reply_within: S * 20,
        attempts_max: 3,
        drained_within: MIN * 3,
        pod_incident: Duration::ZERO,
        warm_up: Duration::ZERO,
        share_tolerance: None,
        safe_ratio: 2.0,
        bake_time_shown_safe: None,
        model: None,
        risk_bake: RiskBake::default(),
        control: ControlAge::Running,
        draft_within: None,
    }
}
fn policy(autonomy: Autonomy) -> Arc<Policy> {
    wrap(service(autonomy))
}
fn wrap(s: ServicePolicy) -> Arc<Policy> {
    Arc::new(Policy {
        version: PolicyVersion::new("r"),
        services: BTreeMap::from([(ServiceName::new("shop"), s)]),
        rollouts_max: 9,
        finished_kept: 9,
    })
}
fn change(n: u64) -> Change {
    Change {
        repository: repo(),
        pull_request: n,
        title: Text::new("t"),
        author: who(),
        merged_by: None,
        base: rev(n + 1000),
        revision: rev(n),
        files: vec![FileTouched { path: "a.rs".into(), previous_path: None, kind: TouchKind::Modified }],
        files_cut: false,
    }
}
impl World {
    fn new(policy: Arc<Policy>) -> Self {
        let mut w = World {
            fleet: Fleet::default(),
            now: scenario::BEGINNING,
            policy: policy.clone(),
            open: vec![],
            shifts: vec![],
            notices: vec![],
            way_back: WayBack::Open,
            checks: vec![],
            tally: Box::new(|_, arm| if arm == Arm::Canary { counts(0, 100) } else { counts(1, 1000) }),
            telemetry_replies: true,
            mute: false,
            refuse: false,
        };
        w.ev(Event::Started { policy });
        w
    }
    fn ev(&mut self, event: Event) {
        for e in self.fleet.handle(&Stamped { at: self.now, event }) {
            match e {
                Effect::Announce(n) => self.notices.push(n),
                e => {
                    if let Effect::Shift { shift, .. } = &e {
                        self.shifts.push(shift.get().clone())
                    }
                    self.open.push(e)
                }
            }
        }
    }
    fn restart(&mut self) {
        self.open.clear();
        self.ev(Event::Started { policy: self.policy.clone() })
    }
    fn merge(&mut self, n: u64, delivery: &str) {
        self.ev(Event::PullRequestMerged {
            delivery: Text::new(delivery),
            repository: repo(),
            pull_request: n,
            branch: "main".into(),
            into_default: true,
        });
    }
    fn answer(&mut self) {
        let mut i = 0;
        while i < self.open.len() {
            if let Effect::Measure { through, .. } = &self.open[i]
                && (*through > self.now || !self.telemetry_replies)
            {
                i += 1;
                continue;
            }
            if self.mute && matches!(self.open[i], Effect::Shift { .. }) {
                i += 1;
                continue;
            }
            match self.open.remove(i) {
                Effect::FetchChange { request, pull_request, .. } => {
                    self.ev(Event::ChangeFetched { request, change: Ok(Arc::new(change(pull_request))) })
                }
                Effect::Advise { .. } | Effect::Narrate { .. } | Effect::Expect { .. } => {}
                Effect::Draft { request, rollout, .. } => {
                    let d = Draft::by_rules(self.checks.clone(), self.way_back.clone(), vec![]);
                    self.ev(Event::Drafted { request, rollout, draft: Ok(Box::new(d)), conversation: None })
                }
                Effect::Shift { request, shift } => {
                    let s = shift.get();
                    let read =
                        if self.refuse { Err(ShiftError::Refused(Text::new("no flag"))) } else { Ok(s.to.clone()) };
                    let rollout = s.rollout;
                    self.ev(Event::Shifted { request, rollout, read })
                }
                Effect::Measure { request, rollout, plan, after, through, .. } => {
                    let mut measurements = vec![];
                    for (i, c) in plan.checks().iter().enumerate() {
                        for arm in [Arm::Control, Arm::Canary] {
                            measurements.push(Measurement {
                                check: CheckId(i as u16),
                                arm,
                                window: Window { after, through },
                                tally: (self.tally)(c, arm),
                                parts: vec![],
                                estimated: false,
                            });
                        }
                    }
                    self.ev(Event::Measured { request, rollout, through, measurements })
                }
                Effect::Announce(_) => {}
            }
            i = 0;
        }
    }
    fn go(&mut self, span: Duration) {
        let end = self.now + span;
        self.answer();
        while self.now < end {
            self.now = self.now + S;
            if self.fleet.next_wakeup().is_some_and(|t| t <= self.now) {
                self.ev(Event::WokeUp)
            }
            self.answer();
        }
    }
    fn cmd(&mut self, r: u64, command: Command) {
        self.ev(Event::Commanded { rollout: RolloutId(r), command, by: who() });
        self.answer()
    }
    fn r(&self, r: u64) -> tollgate::rollout::RolloutView {
        self.fleet.view_of(RolloutId(r)).unwrap()
    }
}
fn one_way() -> WayBack {
    WayBack::OneWay { why: Text::new("it drops a column"), lines: vec![] }
}

#[test]
fn at_guard_what_everyone_has_and_is_healthy_stays() {
    let mut w = World::new(policy(Autonomy::Guard));
    w.merge(1, "a");
    w.go(S);
    for _ in 0..3 {
        w.cmd(1, Command::Promote);
        w.go(MIN * 3)
    }
    assert_eq!(w.r(1).share, 10_000);
    w.go(MIN * 60);

    assert_ne!(w.r(1).share, 0);
}
#[test]
fn the_kill_switch_takes_nothing_back() {
    let mut w = World::new(policy(Autonomy::Auto));
    w.merge(1, "a");
    while w.r_share() < 10_000 {
        w.go(S)
    }
    w.ev(Event::KillSwitch { on: true, by: who() });
    w.go(MIN * 60);
    assert_ne!(w.r(1).share, 0);
}
impl World {
    fn r_share(&self) -> u16 {
        self.fleet.view_of(RolloutId(1)).map_or(0, |v| v.share)
    }
}
#[test]
fn no_answer_before_a_long_blackout_raises_nothing() {
    let mut s = service(Autonomy::Auto);
    s.blackout_after = MIN * 10;
    let mut w = World::new(wrap(s));
    w.merge(1, "a");
    w.go(S * 70);
    assert_eq!(w.r(1).share, 500);
    w.telemetry_replies = false;
    w.go(MIN * 9);
    assert_eq!(w.r(1).share, 500);
}
#[test]
fn no_answer_at_all_raises_nothing() {
    let mut w = World::new(policy(Autonomy::Auto));
    w.merge(1, "a");
    w.go(S * 70);
    w.telemetry_replies = false;
    w.go(MIN * 9);
    assert_eq!(w.r(1).share, 500);
}
#[test]
fn what_was_handed_over_is_not_taken_by_the_next_rollout() {
    let mut w = World::new(policy(Autonomy::Auto));
    w.ev(Event::RevisionDeployed { service: ServiceName::new("shop"), revision: rev(77), by: who() });
    w.way_back = one_way();
    w.merge(1, "a");
    while w.r_share() < 5_000 {
        w.go(S)
    }
    w.tally = Box::new(|_, arm| if arm == Arm::Canary { counts(60, 100) } else { counts(1, 1000) });
    w.go(MIN * 45);
    assert_eq!(w.r(1).outcome, Some(Outcome::HandedOver));
    assert_eq!(w.r(1).share, 5_000);
    w.cmd(1, Command::Rollback);
    w.way_back = WayBack::Open;
    w.tally = Box::new(|_, _| counts(0, 100));
    w.merge(2, "b");
    w.go(S * 5);
    let s = w.shifts.last().unwrap();
    assert!(w.shifts.iter().all(|s| s.rollout != RolloutId(2)), "rollout 2 sends everyone else to {:?}", s.control);
}
#[test]
fn a_breach_that_was_held_is_not_forgotten() {
    let mut w = World::new(policy(Autonomy::Auto));
    w.way_back = one_way();
    w.merge(1, "a");
    w.go(S * 20);
    w.tally = Box::new(|_, arm| if arm == Arm::Canary { counts(40, 100) } else { counts(50, 1000) });
    w.go(MIN * 2);

    w.tally = Box::new(|_, arm| if arm == Arm::Canary { counts(0, 100) } else { counts(50, 1000) });
    w.go(MIN * 20);
    assert_eq!(w.r(1).share, 500);
}
/// A check that was proposed for the change.
fn proposed() -> Check {
    let m = scenario::bounds().mandatory[0].clone();
    Check {
        name: CheckName::new("errors on /new"),
        sli: m.sli.narrowed("route", &Match::Is("/new".into())),
        limit: None,
        origin: Origin::Heuristic,
        lines: vec![DiffLine { path: "a.rs".into(), line: 1 }],
        ..m
    }
}
#[test]
fn a_busy_proposed_check_does_not_stand_for_the_traffic_that_a_stage_needs() {
    let share_after = |objective: u64, proposal: u64| {
        let mut w = World::new(policy(Autonomy::Auto));
        w.checks = vec![proposed()];
        w.tally = Box::new(move |c, arm| match (c.origin, arm) {
            (Origin::Slo, Arm::Canary) => counts(0, objective),
            (_, Arm::Canary) => counts(0, proposal),
            (_, Arm::Control) => counts(1, 1_000),
        });
        w.merge(1, "a");
        w.go(MIN * 20);
        w.r(1).share
    };
    assert_eq!(share_after(0, 10_000), 500, "nobody was served");
    assert_eq!(share_after(100, 10_000), 10_000);
}
#[test]
fn a_proposed_check_that_goes_on_hides_no_blackout_and_keeps_no_rollback_from_ending() {
    let alive = |c: &Check| c.origin != Origin::Slo;
    let mut w = World::new(policy(Autonomy::Auto));
    w.checks = vec![proposed()];
    w.tally = Box::new(move |c, _| if alive(c) { counts(0, 10_000) } else { Err(Absence::NoData) });
    w.merge(1, "a");
    w.go(MIN * 10);
    assert!(w.r(1).objections.iter().any(|o| o.rail == "telemetry_blackout"), "{:?}", w.r(1).objections);

    let mut w = World::new(policy(Autonomy::Auto));
    w.checks = vec![proposed()];
    w.merge(1, "a");
    w.go(MIN);
    w.tally = Box::new(move |c, _| if alive(c) { counts(0, 10_000) } else { counts(0, 0) });
    w.cmd(1, Command::Rollback);
    w.go(MIN * 10);
    assert_eq!(w.r(1).outcome, Some(Outcome::RolledBack), "{:?}", w.r(1).timeline);
}
#[test]
fn a_quiet_route_does_not_roll_back_a_healthy_change() {
    let mut w = World::new(policy(Autonomy::Auto));
    w.checks = vec![proposed()];
    w.tally = Box::new(|c, arm| {
        if c.origin == Origin::Heuristic {
            Err(Absence::NoData)
        } else if arm == Arm::Canary {
            counts(0, 100)
        } else {
            counts(1, 1000)
        }
    });
    w.merge(1, "a");
    w.go(MIN * 45);
    assert_ne!(w.r(1).share, 0);
}
#[test]
fn a_redelivery_after_a_refusal_counts() {
    let mut w = World::new(policy(Autonomy::Auto));
    w.merge(1, "guid");
    let Effect::FetchChange { request, .. } = w.open.remove(0) else { panic!() };
    w.ev(Event::ChangeFetched { request, change: Err(tollgate::rollout::FetchError::Refused(Text::new("403"))) });
    w.merge(1, "guid");
    assert!(!w.open.is_empty(), "nothing is fetched");
}
#[test]
fn a_redelivery_as_the_page_advises_counts() {
    let mut w = World::new(policy(Autonomy::Auto));
    w.merge(1, "guid");
    for _ in 0..200 {
        w.open.clear();
        w.now = w.now + MIN;
        w.ev(Event::WokeUp)
    }
    w.open.clear();
    w.merge(1, "guid");
    assert!(!w.open.is_empty(), "nothing is fetched");
}
#[test]
fn downtime_does_not_count_as_patience() {
    let mut w = World::new(policy(Autonomy::Auto));
    w.merge(1, "a");
    while w.r_share() < 10_000 {
        w.go(S)
    }
    w.now = w.now + MIN * 50;
    w.restart();
    w.go(MIN * 10);
    assert_ne!(w.r(1).share, 0);
}
#[test]
fn a_refused_retreat_is_handed_over() {
    let mut w = World::new(policy(Autonomy::Auto));
    w.merge(1, "a");
    w.go(S * 70);
    w.refuse = true;
    w.cmd(1, Command::Rollback);
    let _pages = |w: &World| w.notices.iter().filter(|n| n.severity == Severity::Page).count();
    w.go(MIN * 2);
    w.merge(2, "b");
    w.go(MIN * 60 * 6);

    assert!(w.r(1).outcome.is_some());
}
#[test]
fn at_guard_the_person_is_called() {
    let mut w = World::new(policy(Autonomy::Guard));
    w.merge(1, "a");
    w.go(MIN * 29);

    assert!(w.notices.iter().any(|n| n.text.to_string().contains("person")));
}
#[test]
fn a_one_way_change_shipped_inside_the_next_is_not_taken_back() {
    let mut s = service(Autonomy::Auto);
    s.deployed = Deployed::WhenTold;
    let mut w = World::new(wrap(s));
    w.way_back = one_way();
    w.merge(1, "a");
    w.go(S);
    w.way_back = WayBack::Open;
    w.merge(2, "b");
    w.go(S);
    w.ev(Event::RevisionDeployed { service: ServiceName::new("shop"), revision: rev(2), by: who() });
    w.go(MIN * 55);

    w.go(MIN * 6);
    w.tally = Box::new(|_, arm| if arm == Arm::Canary { counts(60, 100) } else { counts(1, 1000) });
    w.go(MIN * 2);
    assert_ne!(w.r(2).share, 0);
}
#[test]
fn from_observe_to_auto_the_first_stage_comes_first() {
    let mut w = World::new(policy(Autonomy::Observe));
    w.merge(1, "a");
    w.go(S * 70);
    w.policy = policy(Autonomy::Auto);
    w.restart();
    w.go(MIN * 3);
    let first = w.shifts.iter().find(|s| s.raises()).unwrap();
    assert_eq!(first.to.share.basis_points(), 500);
}
#[test]
fn a_person_climbs_one_step_on_what_was_seen_and_no_further() {
    let mut w = World::new(policy(Autonomy::Auto));
    w.merge(1, "a");
    w.go(S * 32);
    w.telemetry_replies = false;
    for _ in 0..3 {
        w.cmd(1, Command::Promote);
        w.go(S)
    }
    assert_eq!(w.r(1).share, 5_000);
}
#[test]
fn a_bad_clock_reading_does_not_freeze_time() {
    let clock = tollgate::daemon::Clock::starting_at(tollgate::daemon::Clock::default().now() + MIN * 60 * 24 * 365);
    let a = clock.now();
    std::thread::sleep(Duration::from_millis(60));
    assert!(clock.now() > a);
}
#[test]
fn a_canary_that_others_keep_busy_is_handed_over() {
    let mut w = World::new(policy(Autonomy::Auto));
    w.merge(1, "a");
    w.go(S * 70);
    w.cmd(1, Command::Rollback);
    w.go(MIN * 60 * 12);

    assert!(w.r(1).outcome.is_some());
}
#[test]
fn a_pause_before_the_first_stage_counts() {
    let mut w = World::new(policy(Autonomy::Auto));
    w.ev(Event::KillSwitch { on: true, by: who() });
    w.merge(1, "a");
    w.go(S);
    w.cmd(1, Command::Pause);
    w.go(MIN * 40);
    assert_eq!(w.r(1).outcome, None);
}

#[test]
fn a_deployment_may_be_told_by_a_short_revision() {
    let mut s = service(Autonomy::Auto);
    s.deployed = Deployed::WhenTold;
    let mut w = World::new(wrap(s));
    let told = |short: &str| Event::RevisionDeployed {
        service: ServiceName::new("shop"),
        revision: short.parse().unwrap(),
        by: who(),
    };
    w.merge(1, "a");
    w.go(S);
    w.ev(told("fffffff"));
    w.go(S);
    assert_eq!(w.r(1).phase, "awaiting_revision", "another commit says nothing of this one");
    w.ev(told("0000000"));
    w.go(S * 5);
    assert_eq!(w.r(1).share, 500);
}

/// A service with this warm-up whose canary has so many bad ones of its 100 in each look, beside control's 1 of 1,000.
fn cold(warm_up: Duration, bad: u64) -> World {
    let mut s = service(Autonomy::Auto);
    s.warm_up = warm_up;
    let mut w = World::new(wrap(s));
    set_bad(&mut w, bad);
    w.merge(1, "a");
    w
}
fn set_bad(w: &mut World, bad: u64) {
    w.tally = Box::new(move |_, arm| if arm == Arm::Canary { counts(bad, 100) } else { counts(1, 1000) });
}
/// When it was decided to take it back, counted from the merge.
fn taken_back(w: &World) -> Option<Duration> {
    let shown = w.r(1);
    let moment = shown.timeline.iter().find(|moment| moment.text.starts_with("rolling back"))?;
    Some(moment.at.since(shown.opened))
}
#[test]
fn a_cold_start_is_held_against_a_canary_only_without_a_warm_up() {
    for warm_up in [Duration::ZERO, MIN * 8] {
        let is_warmed = warm_up > Duration::ZERO;
        let mut w = cold(warm_up, 15);
        w.go(MIN * 7);
        if is_warmed {
            let early = w.r(1);
            assert_eq!((early.share, early.checks[0].evidence.canary.total), (500, 0), "no sample, no bake time");
            assert!(
                early.warming_up_until.is_some() && early.cold.bad >= 150 && early.cold.total >= 1_000,
                "{early:?}"
            );
            assert!(early.next.unwrap().at > w.now);
        }
        set_bad(&mut w, 0);
        w.go(MIN * 60);
        assert_eq!(taken_back(&w).is_none(), is_warmed, "{:#?}", w.r(1).timeline);
        assert_eq!(w.r(1).share == 10_000, is_warmed);
        let told = w.r(1).timeline.iter().any(|moment| moment.text.starts_with("warmed up; not held against it: "));
        assert_eq!(told, is_warmed, "what was left out is said");
    }
}
#[test]
fn a_canary_that_stays_bad_after_its_warm_up_is_rolled_back_from_there() {
    let ended = |warm_up: Duration| {
        let mut w = cold(warm_up, 15);
        w.go(MIN * 30);
        taken_back(&w).unwrap()
    };
    let (warm, cold) = (ended(Duration::ZERO), ended(MIN * 5));
    assert!(cold >= MIN * 5 && cold <= warm + MIN * 6, "{warm:?} and {cold:?}");
}
#[test]
fn a_hard_limit_does_not_wait_for_a_warm_up() {
    let mut w = cold(MIN * 15, 90);
    w.go(MIN * 2);
    assert!(taken_back(&w).is_some_and(|after| after < MIN), "{:#?}", w.r(1).timeline);
}
#[test]
fn a_canary_that_gets_another_share_than_was_set_is_held_until_it_does_not() {
    let mut s = service(Autonomy::Auto);
    s.share_tolerance = Some(2.0);
    let mut w = World::new(wrap(s));
    w.tally = Box::new(|_, arm| if arm == Arm::Canary { counts(0, 1000) } else { counts(1, 1000) });
    w.merge(1, "a");
    w.go(MIN * 8);
    assert_eq!((w.r(1).share, w.r(1).outcome), (500, None), "{:?}", w.r(1).timeline);
    let why = "the canary gets 50.0% of the requests where 5.0% was set";
    assert!(w.r(1).objections.iter().any(|o| o.rail == "sample_ratio" && o.why.as_str().starts_with(why)));
    assert_eq!(w.notices.iter().filter(|notice| notice.text.as_str().starts_with(why)).count(), 1, "told once");
    w.tally = Box::new(|_, arm| if arm == Arm::Canary { counts(0, 50) } else { counts(1, 950) });
    w.go(MIN * 12);
    assert!(w.r(1).share > 500, "{:?}", w.r(1).objections);
}
#[test]
fn a_stage_that_was_baked_in_the_dark_is_not_promoted_on_the_first_answer() {
    let mut s = service(Autonomy::Auto);
    s.stages = scenario::ladder(&[5, 50, 100], MIN * 5);
    let mut w = World::new(wrap(s));
    w.merge(1, "a");
    w.go(S * 40);
    assert_eq!(w.r(1).share, 500);
    w.telemetry_replies = false;
    w.go(MIN * 10);
    assert_eq!(w.r(1).share, 500, "nothing expands on silence");
    w.telemetry_replies = true;
    w.go(MIN * 2);
    assert_eq!(w.r(1).share, 500, "one answer is no bake time: {:#?}", w.r(1).timeline);
    w.go(MIN * 4);
    assert!(w.r(1).share > 500, "it goes on by itself: {:#?}", w.r(1).objections);
}
#[test]
fn a_stage_whose_control_is_not_seen_is_not_promoted_on_the_canary_alone() {
    let mut w = World::new(policy(Autonomy::Auto));
    w.merge(1, "a");
    w.go(S * 40);
    w.tally = Box::new(|_, arm| if arm == Arm::Canary { counts(0, 100) } else { Err(Absence::NoData) });
    while w.r(1).share == 500 && w.now < scenario::BEGINNING + MIN * 4 {
        w.go(S);
    }
    let reached = w.r(1).share;
    w.go(MIN * 15);
    assert!(w.r(1).share <= reached.max(5_000), "{:#?}", w.r(1).timeline);
    assert_eq!(w.r(1).outcome, None, "it waits for control");
}
#[test]
fn time_in_which_the_daemon_was_down_is_no_bake_time() {
    let mut s = service(Autonomy::Auto);
    s.stages = scenario::ladder(&[5, 50, 100], MIN * 5);
    let mut w = World::new(wrap(s));
    w.merge(1, "a");
    w.go(MIN);
    w.now = w.now + MIN * 60;
    w.restart();
    w.go(MIN * 2);
    assert_eq!(w.r(1).share, 500, "three of five minutes were seen: {:#?}", w.r(1).timeline);
    w.go(MIN * 4);
    assert!(w.r(1).share > 500);
}
