//! What a canary is compared with where no control is left: past days, the stage before, nothing. Whatever any of it says,
//! it holds and calls a person at most, and whatever becomes of the question to history, nothing moves for it.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use tollgate::{
    domain::*,
    plan::Draft,
    rollout::{
        BaselineView, Deployed, Effect, Event, Fleet, Learnt, Policy, RiskBake, RolloutView, ServicePolicy, Switch,
        expect, foreseen,
    },
    sim::scenario,
};

const S: Duration = Duration::from_secs(1);
const MIN: Duration = Duration::from_secs(60);
const BLOCK: Duration = Duration::from_secs(300);

fn service(ladder: &[u16]) -> ServicePolicy {
    ServicePolicy {
        repository: "acme/shop".parse().unwrap(),
        paths: vec!["**".into()],
        branch: None,
        deployed: Deployed::OnMerge,
        autonomy: Autonomy::Auto,
        stages: scenario::ladder(ladder, MIN * 10),
        bounds: scenario::bounds(),
        alpha: 0.001,
        look_every: S * 30,
        measure_every: S * 30,
        samples_min: 100,
        step_max: Share::FULL,
        blackout_after: MIN * 30,
        patience: MIN * 60,
        pause_max: MIN * 60,
        watch: MIN * 60,
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

/// What each arm shows of each look: bad and all, at this share of the traffic, so long after everyone had it.
type Shown = Box<dyn FnMut(Arm, f64, Option<Duration>) -> Result<Reading, Absence>>;
type History = Box<dyn FnMut(&Check, &Switch) -> Option<Learnt>>;

struct World {
    fleet: Fleet,
    now: Timestamp,
    open: Vec<Effect>,
    shifts: Vec<Shift>,
    pages: Vec<String>,
    asked: Vec<Arc<Switch>>,
    shown: Shown,
    history: History,
    everyone_since: Option<Timestamp>,
}

fn counts(bad: u64, total: u64) -> Result<Reading, Absence> {
    Ok(Reading::whole(Tally::Counts(Counts { bad, total })))
}

/// A steady service: 2% of 200 requests a second are bad, whoever serves them; from then on `times` as many.
fn steady(times: f64) -> Shown {
    Box::new(move |arm, share, since| {
        let share = if arm == Arm::Canary { share } else { 1.0 - share };
        let total = 3_000.0 * share;
        let rate = if since.is_some() { 0.02 * times } else { 0.02 };
        if total < 1.0 { Err(Absence::NoData) } else { counts((total * rate).round() as u64, total as u64) }
    })
}

/// Three weeks in blocks of five minutes at 2%, up to `at`.
fn weeks(check: &Check, switch: &Switch) -> Learnt {
    let blocks: Vec<_> = (0..21 * 288_u64).map(|i| counts(560 + (i * i) % 80, 30_000)).collect();
    expect(check, switch, (BLOCK, &blocks, switch.at))
}

fn no_history() -> History {
    Box::new(|_, _| Some(Err(Text::new("history: no data"))))
}

impl World {
    fn new(service: ServicePolicy, shown: Shown, history: History) -> Self {
        let policy = Arc::new(Policy {
            version: PolicyVersion::new("b"),
            services: BTreeMap::from([(ServiceName::new("shop"), service)]),
            rollouts_max: 9,
            finished_kept: 9,
        });
        let mut world = Self {
            fleet: Fleet::default(),
            now: scenario::BEGINNING,
            open: Vec::new(),
            shifts: Vec::new(),
            pages: Vec::new(),
            asked: Vec::new(),
            shown,
            history,
            everyone_since: None,
        };
        world.handle(Event::Started { policy });
        world
    }

    fn merge(&mut self, n: u64) {
        self.everyone_since = None;
        let (repository, branch) = ("acme/shop".parse().unwrap(), "main".into());
        let delivery = Text::new(format!("d{n}"));
        self.handle(Event::PullRequestMerged { delivery, repository, pull_request: n, branch, into_default: true });
        self.answer();
    }

    fn handle(&mut self, event: Event) {
        for effect in self.fleet.handle(&Stamped { at: self.now, event }) {
            match effect {
                Effect::Announce(notice) if notice.severity == Severity::Page => {
                    self.pages.push(notice.text.to_string());
                }
                Effect::Announce(_) => {}
                effect => self.open.push(effect),
            }
        }
    }

    fn answer(&mut self) {
        while let Some(at) = self.open.iter().position(|effect| match effect {
            Effect::Measure { through, .. } => *through <= self.now,
            _ => true,
        }) {
            let effect = self.open.remove(at);
            self.answer_one(effect);
        }
    }

    fn answer_one(&mut self, effect: Effect) {
        match effect {
            Effect::FetchChange { request, pull_request, .. } => {
                let revision = |n: u64| format!("{n:040x}").parse::<Revision>().unwrap();
                let change = Change {
                    repository: "acme/shop".parse().unwrap(),
                    pull_request,
                    title: Text::new("t"),
                    author: Person(Text::new("ada")),
                    merged_by: None,
                    base: revision(pull_request + 1_000),
                    revision: revision(pull_request),
                    files: vec![FileTouched { path: "a.rs".into(), previous_path: None, kind: TouchKind::Modified }],
                    files_cut: false,
                };
                self.handle(Event::ChangeFetched { request, change: Ok(Arc::new(change)) });
            }
            Effect::Draft { request, rollout, .. } => {
                let draft = Draft::by_rules(Vec::new(), WayBack::Open, Vec::new());
                self.handle(Event::Drafted { request, rollout, draft: Ok(Box::new(draft)), conversation: None });
            }
            Effect::Shift { request, shift } => {
                let shift = shift.get();
                if shift.to.share == Share::FULL {
                    self.everyone_since.get_or_insert(self.now);
                }
                let (rollout, read) = (shift.rollout, Ok(shift.to.clone()));
                self.shifts.push(shift.clone());
                self.handle(Event::Shifted { request, rollout, read });
            }
            Effect::Expect { request, rollout, plan, switch, .. } => {
                let learnt = plan
                    .checks()
                    .iter()
                    .enumerate()
                    .map(|(place, check)| Some((CheckId(place as u16), (self.history)(check, &switch)?)));
                let learnt: Option<Vec<_>> = learnt.collect();
                self.asked.push(switch);
                if let Some(learnt) = learnt {
                    self.handle(Event::Expected { request, rollout, learnt });
                }
            }
            Effect::Measure { request, rollout, plan, after, through, .. } => {
                let share = self.fleet.view_of(rollout).unwrap().share;
                let share = f64::from(share) / 10_000.0;
                let since = self.everyone_since.map(|since| self.now.since(since));
                let mut measurements = Vec::new();
                for place in 0..plan.checks().len() {
                    for arm in [Arm::Control, Arm::Canary] {
                        let shown = (self.shown)(arm, share, since);
                        let parts = shown.as_ref().map(|shown| shown.parts.clone()).unwrap_or_default();
                        measurements.push(Measurement {
                            check: CheckId(place as u16),
                            arm,
                            window: Window { after, through },
                            tally: shown.map(|shown| shown.tally),
                            parts,
                            estimated: false,
                        });
                    }
                }
                self.handle(Event::Measured { request, rollout, through, measurements });
            }
            Effect::Advise { .. } | Effect::Narrate { .. } | Effect::Announce(_) => {}
        }
    }

    fn go(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + S;
            if self.fleet.next_wakeup().is_some_and(|at| at <= self.now) {
                self.handle(Event::WokeUp);
            }
            self.answer();
        }
    }

    /// Goes on until everyone has it.
    fn until_everyone(&mut self, rollout: u64) {
        for _ in 0..300 {
            if self.view(rollout).share == 10_000 {
                return;
            }
            self.go(MIN);
        }
        panic!("{:#?}", self.view(rollout).timeline);
    }

    fn view(&self, rollout: u64) -> RolloutView {
        self.fleet.view_of(RolloutId(rollout)).unwrap()
    }

    fn baseline(&self, rollout: u64) -> BaselineView {
        self.view(rollout).checks[0].baseline.clone().unwrap()
    }

    fn only_baseline_holds(&self, rollout: u64) -> bool {
        self.view(rollout).objections.iter().any(|objection| objection.rail == "baseline" && objection.page)
    }
}

#[test]
fn while_control_serves_it_is_the_baseline_and_the_operator_says_of_which_age() {
    for (control, expected) in [(ControlAge::Running, Baseline::Concurrent), (ControlAge::SameAge, Baseline::SameAge)] {
        let mut world = World::new(ServicePolicy { control, ..service(&[5, 50, 100]) }, steady(1.0), no_history());
        world.merge(1);
        world.go(MIN);
        assert_eq!(world.baseline(1).baseline, expected);
        assert!(world.baseline(1).why.contains("serves beside the canary"), "{}", world.baseline(1).why);
        assert!(world.asked.is_empty(), "history is not asked for");
        assert!(world.view(1).stages[0].baseline.contains("control") && expected.is_control());
        assert_eq!(world.view(1).stages[2].baseline, foreseen(&service(&[100]).stages[0], control));
    }
}

#[test]
fn a_metric_that_doubles_at_100_percent_against_three_weeks_is_held_and_paged_and_never_taken_back() {
    let mut world = World::new(service(&[50, 100]), steady(2.0), Box::new(|check, switch| Some(weeks(check, switch))));
    world.merge(1);
    world.until_everyone(1);
    let chosen = world.baseline(1);
    assert!(matches!(chosen.baseline, Baseline::PastDays { windows, left_out: 0 } if windows > 100), "{chosen:?}");
    assert!(chosen.why.contains("everyone has the new version"), "{}", chosen.why);
    world.go(MIN * 30);
    assert!(world.only_baseline_holds(1), "{:?}", world.view(1));
    assert!(world.baseline(1).is_unusual);
    let page = world.pages.iter().find(|page| page.contains("what past days let expect")).unwrap();
    assert!(page.contains("baseline: ") && page.contains("unusual"), "{page}");
    // Past its bake, its watch and its patience it has still everyone, and is a person's.
    world.go(MIN * 200);
    assert_eq!((world.view(1).outcome, world.view(1).share), (Some(Outcome::HandedOver), 10_000));
    assert!(world.shifts.iter().all(|shift| shift.raises() || shift.from == shift.to), "{:?}", world.shifts);
}

#[test]
fn a_person_who_has_looked_promotes_what_is_unusual() {
    let mut world = World::new(service(&[50, 100]), steady(2.0), Box::new(|check, switch| Some(weeks(check, switch))));
    world.merge(1);
    world.until_everyone(1);
    world.go(MIN * 80);
    assert!(world.only_baseline_holds(1) && world.view(1).outcome.is_none());
    let by = Person(Text::new("ada"));
    world.handle(Event::Commanded { rollout: RolloutId(1), command: Command::Promote, by });
    assert_eq!(world.view(1).outcome, Some(Outcome::Promoted));
}

#[test]
fn nothing_unusual_lets_the_watch_end_as_it_would_without_history() {
    let ended = |history: History| {
        let mut world = World::new(service(&[50, 100]), steady(1.0), history);
        world.merge(1);
        world.until_everyone(1);
        world.go(MIN * 75);
        (world.view(1).outcome, world.view(1).ended, world.pages.len(), world.baseline(1))
    };
    let with = ended(Box::new(|check, switch| Some(weeks(check, switch))));
    let without = ended(no_history());
    assert_eq!((with.0, with.1, with.2), (Some(Outcome::Promoted), without.1, without.2));
    assert!(with.3.says.is_some_and(|says| says.starts_with("nothing unusual")));
}

#[test]
fn with_no_history_the_stage_before_is_compared_segment_by_segment() {
    // /slow is bad ten times as often; with everyone its part of the traffic is larger, and nothing is worse.
    let shown = |times: f64| -> Shown {
        Box::new(move |arm, share, since| {
            let share = if arm == Arm::Canary { share } else { 1.0 - share };
            let total = 3_000.0 * share;
            if total < 1.0 {
                return Err(Absence::NoData);
            }
            let (slow, times) = if since.is_some() { (0.5, times) } else { (0.1, 1.0) };
            let segment = |name: &str, total: f64, rate: f64| {
                let counts = Counts { bad: (total * rate * times).round() as u64, total: total as u64 };
                Part { kind: PartKind::Segment, name: Text::new(name), tally: Tally::Counts(counts) }
            };
            let parts = vec![segment("/fast", total * (1.0 - slow), 0.01), segment("/slow", total * slow, 0.08)];
            let tally = parts[0].tally.plus(&parts[1].tally).unwrap();
            Ok(Reading { tally, parts })
        })
    };
    for (times, is_unusual) in [(1.0, false), (3.0, true)] {
        let mut world = World::new(service(&[50, 100]), shown(times), no_history());
        world.merge(1);
        world.until_everyone(1);
        let chosen = world.baseline(1);
        assert_eq!(chosen.baseline, Baseline::PreviousStage { segments: true });
        assert!(chosen.why.contains("history: no data"), "{}", chosen.why);
        world.go(MIN * 30);
        assert_eq!(world.only_baseline_holds(1), is_unusual, "{:?}", world.baseline(1));
        assert_eq!(world.baseline(1).is_unusual, is_unusual);
        assert_eq!(world.view(1).share, 10_000);
    }
}

#[test]
fn a_flag_for_all_without_history_has_nothing_and_says_so_and_its_hard_limit_still_holds() {
    let mut world = World::new(service(&[100]), steady(1.0), no_history());
    world.merge(1);
    world.until_everyone(1);
    let chosen = world.baseline(1);
    assert_eq!(chosen.baseline, Baseline::Nothing);
    for words in ["everyone has the new version", "history: no data", "no stage before", "hard limit"] {
        assert!(chosen.why.contains(words), "{words}: {}", chosen.why);
    }
    world.go(MIN * 50);
    assert_eq!((world.view(1).share, world.pages.len()), (10_000, 0));
    let mut world = World::new(service(&[100]), steady(20.0), no_history());
    world.merge(1);
    world.until_everyone(1);
    world.go(MIN * 2);
    assert_eq!(world.view(1).share, 0, "{:?}", world.view(1).timeline);
}

/// The operator's absolute bound asks no baseline, whichever there is, late, absent or unusual.
#[test]
fn an_absolute_bound_never_depends_on_a_baseline() {
    let histories: [fn() -> History; 3] =
        [no_history, || Box::new(|_, _| None), || Box::new(|check, switch| Some(weeks(check, switch)))];
    let mut rolled_back_at = Vec::new();
    for history in histories {
        let mut world = World::new(service(&[50, 100]), steady(20.0), history());
        world.merge(1);
        world.until_everyone(1);
        let everyone = world.now;
        world.go(MIN * 20);
        let view = world.view(1);
        assert_eq!(view.share, 0, "{:?}", view.timeline);
        assert!(world.pages.iter().all(|page| !page.contains("past days")));
        let taken_back = view.exposures.iter().find(|(at, share)| *at > everyone && *share == 0).unwrap().0;
        rolled_back_at.push(taken_back);
    }
    assert!(rolled_back_at.windows(2).all(|two| two[0] == two[1]), "{rolled_back_at:?}");
}

#[test]
fn a_past_rollout_of_the_service_is_left_out_of_history() {
    let mut world = World::new(service(&[50, 100]), steady(1.0), Box::new(|check, switch| Some(weeks(check, switch))));
    world.merge(1);
    world.until_everyone(1);
    world.go(MIN * 80);
    assert_eq!(world.view(1).outcome, Some(Outcome::Promoted));
    let (began, ended) = (world.view(1).stages[0].entered.unwrap(), world.view(1).ended.unwrap());
    world.go(MIN * 60 * 24);
    world.merge(2);
    world.until_everyone(2);
    assert_eq!(world.asked.last().unwrap().left_out, [Window { after: began, through: ended }]);
    let Baseline::PastDays { left_out, .. } = world.baseline(2).baseline else { panic!("{:?}", world.baseline(2)) };
    assert!(left_out >= 2, "{left_out} windows of an hour and ten minutes meet it");
}

#[test]
fn telemetry_that_fails_or_never_answers_is_explained_and_moves_nothing() {
    for (history, words) in [
        (no_history(), "history: no data"),
        (Box::new(|_: &Check, _: &Switch| None) as History, "history gave no answer in time"),
    ] {
        let mut world = World::new(service(&[50, 100]), steady(1.0), history);
        world.merge(1);
        world.until_everyone(1);
        let shifts = world.shifts.len();
        world.go(MIN * 10);
        assert!(world.baseline(1).why.contains(words), "{:?}", world.baseline(1));
        assert_eq!(world.baseline(1).baseline, Baseline::PreviousStage { segments: false });
        assert!(world.view(1).timeline.iter().any(|moment| moment.text.contains("compared with the previous stage")));
        assert_eq!((world.shifts.len(), world.pages.len()), (shifts, 0));
    }
}

#[test]
fn the_choice_is_frozen_for_the_stage_and_a_late_or_second_answer_changes_nothing() {
    let mut world = World::new(service(&[50, 100]), steady(2.0), no_history());
    world.merge(1);
    world.until_everyone(1);
    let chosen = world.baseline(1);
    let learnt = vec![(CheckId(0), weeks(&scenario::bounds().mandatory[0], world.asked.last().unwrap()))];
    for request in 0..200 {
        let learnt = learnt.clone();
        world.handle(Event::Expected { request: RequestId(request), rollout: RolloutId(1), learnt });
    }
    assert_eq!(world.baseline(1), chosen);
    assert!(world.fleet.view(9).stale_replies >= 200);
}

#[test]
fn after_a_restart_the_question_is_asked_again_for_the_same_moment() {
    let mut world = World::new(service(&[50, 100]), steady(1.0), Box::new(|_, _| None));
    world.merge(1);
    world.until_everyone(1);
    assert!(world.view(1).checks[0].baseline.is_none(), "not chosen yet");
    let policy = Arc::new(Policy {
        version: PolicyVersion::new("b"),
        services: BTreeMap::from([(ServiceName::new("shop"), service(&[50, 100]))]),
        rollouts_max: 9,
        finished_kept: 9,
    });
    world.open.clear();
    world.history = Box::new(|check, switch| Some(weeks(check, switch)));
    world.handle(Event::Started { policy });
    world.answer();
    let [first, again] = world.asked.as_slice() else { panic!("{:?}", world.asked) };
    assert_eq!(first, again);
    assert!(matches!(world.baseline(1).baseline, Baseline::PastDays { .. }));
}

#[test]
fn a_stage_that_leaves_control_too_little_traffic_has_none() {
    // Of 200 requests a second 0.1% are 120 in ten minutes, of 150 that are needed.
    let mut policy = ServicePolicy { samples_min: 150, ..service(&[50, 100]) };
    let almost = Share::from_basis_points(9_990).unwrap();
    policy.stages.insert(1, tollgate::rollout::Stage { exposure: Exposure::share(almost), bake_time: MIN * 10 });
    let mut world = World::new(policy, steady(1.0), no_history());
    world.merge(1);
    while world.view(1).share != 9_990 {
        world.go(MIN);
    }
    world.go(S * 5);
    let chosen = world.baseline(1);
    assert_eq!(chosen.baseline, Baseline::PreviousStage { segments: false }, "{chosen:?} {:?}", world.view(1).timeline);
    assert!(chosen.why.contains("control has about 120 requests left"), "{}", chosen.why);
}

fn any_learnt() -> impl Strategy<Value = u8> {
    0..4_u8
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever history answers and whatever the canary shows, exposure is at no time wider than it would be without any
    /// history, and a rollback comes exactly when it would: a baseline neither expands nor takes back.
    #[test]
    fn nothing_a_baseline_says_widens_exposure(
        answers in any_learnt(),
        times in prop::sample::select(vec![0.5, 1.0, 1.5, 2.0, 4.0, 20.0]),
        ladder in prop::sample::select(vec![vec![50, 100], vec![100], vec![5, 50, 100]]),
    ) {
        let history = move |check: &Check, switch: &Switch| match answers {
            0 => None,
            1 => Some(Err(Text::new("garbled"))),
            // Of a service ten times as bad, or a tenth: neither is like this one.
            2 => Some(expect(check, switch, (BLOCK, &vec![counts(6_000, 30_000); 2_016], switch.at))),
            _ => Some(expect(check, switch, (BLOCK, &vec![counts(60, 30_000); 2_016], switch.at))),
        };
        let mut with = World::new(service(&ladder), steady(times), Box::new(history));
        let mut without = World::new(service(&ladder), steady(times), no_history());
        with.merge(1);
        without.merge(1);
        for _ in 0..120 {
            with.go(MIN);
            without.go(MIN);
            prop_assert!(with.view(1).share <= without.view(1).share || without.view(1).outcome.is_some());
        }
        let moved = |world: &World| world.shifts.iter().map(|shift| (shift.from.clone(), shift.to.clone())).collect::<Vec<_>>();
        prop_assert_eq!(moved(&with), moved(&without));
    }
}
