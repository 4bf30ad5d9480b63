//! What a model's word counts: whatever it advises, in each state of a rollout traffic is asked for nothing wider than
//! without it, but for the tie that a service lets it break; it takes nothing back alone; and once a rail fires or the
//! statistics are clear it moves nothing at all.

#![expect(clippy::unwrap_used, reason = "a world that cannot be set up has failed")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestCaseResult, TestRng, TestRunner},
};
use tollgate::{
    domain::*,
    plan::{Draft, PathRule, Reason, Source, Standing, Trial, Tried},
    rollout::{Deployed, Effect, Event, Fleet, ModelMay, ModelPolicy, Policy, RiskBake, RolloutView, ServicePolicy},
    sim::scenario,
};

const S: Duration = Duration::from_secs(1);
const MIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(30);
const ROLLOUT: RolloutId = RolloutId(1);

/// What a model says to one request, and after how many seconds.
#[derive(Clone, Debug)]
struct Reply {
    after: u64,
    advice: Result<Advice, Text>,
    twice: bool,
}

/// What control and canary count in one look.
type Look = (Counts, Counts);
type Looks = Box<dyn Fn(u64) -> Look>;
type Model = Box<dyn FnMut(&Brief) -> Option<Reply>>;

struct World {
    fleet: Fleet,
    now: Timestamp,
    /// Replies and commands on their way.
    queue: BTreeMap<(Timestamp, usize), Event>,
    queued: usize,
    looks: Looks,
    model: Model,
    checks: Vec<Check>,
    /// What else is said in a draft.
    drafts: fn(Draft) -> Draft,
    /// The share that was read back last, at each second.
    shares: Vec<u16>,
    share: u16,
    briefs: Vec<Arc<Brief>>,
    stories: Vec<Arc<Story>>,
    notices: Vec<Notice>,
    pasts: Vec<Arc<[PastChange]>>,
    /// Each shift that a fleet which was never advised would not have asked for in the same state, with the advice.
    beyond: Vec<(Shift, Option<Advice>, Vec<f64>)>,
    /// Each retreat that such a fleet would have asked for and this one did not.
    kept: Vec<Shift>,
}

fn service(model: Option<ModelPolicy>) -> ServicePolicy {
    ServicePolicy {
        draft_within: None,
        repository: "acme/everything".parse().unwrap(),
        paths: vec!["**".into()],
        branch: None,
        deployed: Deployed::OnMerge,
        autonomy: Autonomy::Auto,
        stages: scenario::ladder(&[5, 50, 100], MIN * 6),
        bounds: scenario::bounds(),
        alpha: 1e-9,
        look_every: LOOK,
        measure_every: LOOK,
        samples_min: 10,
        step_max: Share::from_basis_points(5_000).unwrap(),
        blackout_after: MIN * 3,
        patience: MIN * 40,
        pause_max: MIN * 10,
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
        model,
        risk_bake: RiskBake::default(),
        control: ControlAge::Running,
    }
}

fn asks(may: ModelMay) -> Option<ModelPolicy> {
    Some(ModelPolicy { advises: true, narrates: true, may, lean_alpha: 0.05, advise_within: MIN })
}

fn change(number: u64) -> Change {
    let revision = |n: u64| format!("{n:040x}").parse().unwrap();
    Change {
        repository: "acme/everything".parse().unwrap(),
        pull_request: number,
        title: Text::new("t"),
        author: Person(Text::new("alice")),
        merged_by: None,
        base: revision(number + 1_000),
        revision: revision(number),
        files: vec![FileTouched { path: "src/pay/a.rs".into(), previous_path: None, kind: TouchKind::Modified }],
        files_cut: false,
    }
}

fn counts(bad: u64, total: u64) -> Counts {
    Counts { bad, total }
}

fn healthy(_: u64) -> Look {
    (counts(10, 10_000), counts(1, 1_000))
}

/// Leans against the canary for five minutes, and then neither more nor less: no proof, and no all-clear.
fn tie(look: u64) -> Look {
    let bad = if look <= LEANING_LOOKS { 8 } else { 1 + look % 2 };
    (counts(10, 10_000), counts(bad, 1_000))
}
const LEANING_LOOKS: u64 = 10;

fn silent() -> Model {
    Box::new(|_| None)
}

fn advice(action: Action, cites: &[u16]) -> Advice {
    let cites = cites.iter().map(|cited| CheckId(*cited)).collect();
    Advice { action, cites, confidence: Confidence::Low, rationale: Text::new("it is \"odd\"") }
}

fn says(action: Action) -> Model {
    Box::new(move |_| Some(Reply { after: 5, advice: Ok(advice(action, &[0])), twice: false }))
}

impl World {
    fn new(service: ServicePolicy, looks: impl Fn(u64) -> Look + 'static, model: Model) -> Self {
        let mut world = Self {
            fleet: Fleet::default(),
            now: scenario::BEGINNING,
            queue: BTreeMap::new(),
            queued: 0,
            looks: Box::new(looks),
            model,
            checks: Vec::new(),
            drafts: |draft| draft,
            shares: Vec::new(),
            share: 0,
            briefs: Vec::new(),
            stories: Vec::new(),
            notices: Vec::new(),
            pasts: Vec::new(),
            beyond: Vec::new(),
            kept: Vec::new(),
        };
        let services = BTreeMap::from([(ServiceName::new("shop"), service)]);
        let policy = Policy { version: PolicyVersion::new("p"), services, rollouts_max: 9, finished_kept: 99 };
        world.happens(Event::Started { policy: Arc::new(policy) });
        world.merge(1);
        world
    }

    fn merge(&mut self, number: u64) {
        self.happens(Event::PullRequestMerged {
            delivery: Text::new(format!("d{number}")),
            repository: "acme/everything".parse().unwrap(),
            pull_request: number,
            branch: "main".into(),
            into_default: true,
        });
    }

    /// Something happens now: to the fleet, and to one in the same state that nobody ever advised.
    fn happens(&mut self, event: Event) {
        let entry = Stamped { at: self.now, event };
        let leanings = if matches!(entry.event, Event::Advised { .. }) { self.leanings() } else { Vec::new() };
        let shifts = |effects: &[Effect]| -> Vec<Shift> {
            let shift = |effect: &Effect| match effect {
                Effect::Shift { shift, .. } => Some(shift.get().clone()),
                _ => None,
            };
            effects.iter().filter_map(shift).collect()
        };
        let unadvised = shifts(&self.fleet.without_advice().handle(&entry));
        let effects = self.fleet.handle(&entry);
        let asked = shifts(&effects);
        let said = match &entry.event {
            Event::Advised { advice: Ok(advice), .. } => Some(advice.clone()),
            _ => None,
        };
        for shift in &asked {
            if !unadvised.iter().any(|other| other.to == shift.to) {
                self.beyond.push((shift.clone(), said.clone(), leanings.clone()));
            }
        }
        let retreats = unadvised.into_iter().filter(|shift| shift.from.exceeds(&shift.to));
        self.kept.extend(retreats.filter(|shift| !asked.iter().any(|other| other.to == shift.to)));
        for effect in effects {
            self.perform(effect);
        }
    }

    fn leanings(&self) -> Vec<f64> {
        let view = self.fleet.view_of(ROLLOUT);
        view.map(|view| view.checks.iter().map(|check| check.evidence.log_e_value).collect()).unwrap_or_default()
    }

    fn later(&mut self, at: Timestamp, event: Event) {
        self.queued += 1;
        self.queue.insert((at, self.queued), event);
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::FetchChange { request, pull_request, .. } => {
                self.later(self.now, Event::ChangeFetched { request, change: Ok(Arc::new(change(pull_request))) });
            }
            Effect::Draft { request, rollout, past, .. } => {
                self.pasts.push(past);
                let draft = (self.drafts)(Draft::by_rules(self.checks.clone(), WayBack::Open, Vec::new()));
                let draft = Ok(Box::new(draft));
                self.later(self.now, Event::Drafted { request, rollout, draft, conversation: None });
            }
            Effect::Shift { request, shift } => {
                let (rollout, read) = (shift.get().rollout, Ok(shift.get().to.clone()));
                if rollout == ROLLOUT {
                    self.share = shift.get().to.share.basis_points();
                }
                self.later(self.now, Event::Shifted { request, rollout, read });
            }
            Effect::Measure { request, rollout, plan, after, through, .. } => {
                let look = through.since(scenario::BEGINNING).as_secs() / LOOK.as_secs();
                let (control, canary) = (self.looks)(look);
                // Once its traffic is taken back, the canary's requests end.
                let canary = if self.share == 0 { Counts::default() } else { canary };
                let window = Window { after, through };
                let measurement = |check, arm, counts| Measurement {
                    check: CheckId(check),
                    arm,
                    window,
                    tally: Ok(Tally::Counts(counts)),
                    parts: Vec::new(),
                    estimated: false,
                };
                let checks = 0..u16::try_from(plan.checks().len()).unwrap();
                let measurements = checks
                    .flat_map(|i| [measurement(i, Arm::Control, control), measurement(i, Arm::Canary, canary)])
                    .collect();
                self.later(through, Event::Measured { request, rollout, through, measurements });
            }
            Effect::Advise { request, rollout, brief, .. } => {
                if let Some(Reply { after, advice, twice }) = (self.model)(&brief) {
                    let event = Event::Advised { request, rollout, advice, conversation: None };
                    if twice {
                        self.later(self.now + S * (after as u32 + 1), event.clone());
                    }
                    self.later(self.now + S * after as u32, event);
                }
                self.briefs.push(brief);
            }
            Effect::Narrate { story, .. } => self.stories.push(story),
            Effect::Announce(notice) => self.notices.push(notice),
            Effect::Expect { .. } => {}
        }
    }

    fn go(&mut self, span: Duration) -> &mut Self {
        let end = self.now + span;
        loop {
            while let Some(((at, number), _)) = self.queue.first_key_value().filter(|((at, _), _)| *at <= self.now) {
                let key = (*at, *number);
                let event = self.queue.remove(&key).unwrap();
                self.happens(event);
            }
            if self.fleet.next_wakeup().is_some_and(|at| at <= self.now) {
                self.happens(Event::WokeUp);
                continue;
            }
            let next = self.queue.keys().map(|(at, _)| *at).next().into_iter().chain(self.fleet.next_wakeup()).min();
            let until = next.map_or(end, |next| next.min(end));
            while self.now < until {
                self.shares.push(self.share);
                self.now = (self.now + S).min(until);
            }
            if self.now >= end {
                return self;
            }
        }
    }

    fn view(&self) -> RolloutView {
        self.fleet.view_of(ROLLOUT).unwrap()
    }

    fn timeline(&self) -> String {
        self.view().timeline.iter().map(|moment| moment.text.clone() + "\n").collect()
    }

    #[track_caller]
    fn told(&self, words: &str) {
        assert!(self.timeline().contains(words), "`{words}` is not in:\n{}", self.timeline());
    }
}

#[test]
fn in_a_tie_a_model_is_asked_with_numbers_only_and_not_again_at_once() {
    let mut world = World::new(service(asks(ModelMay::BreakTies)), tie, silent());
    world.go(MIN * 30);
    let brief = world.briefs.first().unwrap();
    assert_eq!((brief.stage, brief.stages, brief.share, brief.next_share), (0, 3, 500, Some(5_000)));
    assert_eq!((brief.verdict, brief.autonomy, brief.risk), (Verdict::Hold, Autonomy::Auto, Risk::Low));
    assert_eq!(brief.legal, Action::ALL);
    assert!(brief.held_seconds >= brief.bake_seconds && brief.bake_seconds == 360);
    assert!((1_980..=2_040).contains(&brief.patience_seconds), "{}", brief.patience_seconds);
    let check = &brief.checks[0];
    assert_eq!((check.check, check.kind.as_str(), check.finding), (CheckId(0), "ratio", Finding::Inconclusive));
    assert!(check.log_e_value >= 20_f64.ln() && check.log_e_value < check.log_threshold);
    assert_eq!(check.canary.total, check.this_stage.total);
    assert!(check.canary.bad >= LEANING_LOOKS * 8 && check.control.total == check.canary.total * 10);
    assert!(world.briefs.len() == 3, "three times a stage, ten minutes apart: {}", world.briefs.len());
    let apart = world.briefs[1].held_seconds - world.briefs[0].held_seconds;
    assert!((600..640).contains(&apart), "{apart}");
    world.told("no advice came in time");
}

#[test]
fn nobody_is_asked_when_the_statistics_are_clear_or_the_policy_says_no() {
    let quiet = |service, looks: fn(u64) -> Look| {
        let mut world = World::new(service, looks, says(Action::Hold));
        world.go(MIN * 35);
        world.briefs.len()
    };
    assert_eq!(quiet(service(asks(ModelMay::Hold)), healthy), 0);
    let worse: fn(u64) -> Look = |_| (counts(10, 10_000), counts(400, 1_000));
    assert_eq!(quiet(service(asks(ModelMay::Hold)), worse), 0, "the hard limit has decided");
    assert_eq!(quiet(service(None), tie), 0);
    let narrates_only = asks(ModelMay::Hold).map(|model| ModelPolicy { advises: false, ..model });
    assert_eq!(quiet(service(narrates_only), tie), 0);
    let observed = ServicePolicy { autonomy: Autonomy::Observe, ..service(asks(ModelMay::Hold)) };
    assert_eq!(quiet(observed, tie), 0);
    assert!(quiet(service(asks(ModelMay::Hold)), tie) > 0);
}

#[test]
fn nobody_is_asked_while_a_person_has_paused_it_or_the_kill_switch_is_on() {
    let by = || Person(Text::new("alice"));
    let mut paused = World::new(service(asks(ModelMay::Hold)), tie, silent());
    paused.go(MIN);
    paused.happens(Event::Commanded { rollout: ROLLOUT, command: Command::Pause, by: by() });
    paused.go(MIN * 9);
    assert_eq!(paused.briefs.len(), 0);
    let mut killed = World::new(service(asks(ModelMay::Hold)), tie, silent());
    killed.go(MIN);
    killed.happens(Event::KillSwitch { on: true, by: by() });
    killed.go(MIN * 30);
    assert_eq!(killed.briefs.len(), 0);
}

/// A tie until some look, and then the evidence fades.
fn clears(at: u64) -> impl Fn(u64) -> Look {
    move |look| if look < at { tie(look) } else { (counts(400, 10_000), counts(1, 1_000)) }
}

fn first_above(world: &World, share: u16) -> Option<usize> {
    world.shares.iter().position(|now| *now > share)
}

#[test]
fn advice_to_hold_delays_a_promotion_and_never_past_the_patience() {
    let expanded = |model: Model, patience: Duration| {
        let policy = ServicePolicy { patience, ..service(asks(ModelMay::Hold)) };
        let mut world = World::new(policy, clears(13), model);
        world.go(MIN * 60);
        assert_eq!(world.view().outcome, Some(Outcome::Promoted), "{}", world.timeline());
        first_above(&world, 500).unwrap()
    };
    let alone = expanded(silent(), MIN * 40);
    let held = expanded(says(Action::Hold), MIN * 40);
    assert!(held > alone + 60 && held < alone + 660, "{alone} s without, {held} s with");
    // The patience of a stage is nearly over when it is advised: it is not what rolls the change back.
    let short = expanded(says(Action::Hold), MIN * 12);
    assert!(short >= alone && short < 12 * 60, "{alone} s without, {short} s with");
}

#[test]
fn a_person_is_called_once_at_a_models_word() {
    let mut world = World::new(service(asks(ModelMay::Hold)), tie, says(Action::AskPerson));
    world.go(MIN * 35);
    assert!(world.briefs.len() >= 2);
    let calls: Vec<_> = world.notices.iter().filter(|n| n.text.as_str().contains("the model advises")).collect();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(calls[0].severity, Severity::Page);
    assert_eq!(world.timeline().matches("the model advises: ask person, citing errors").count(), world.briefs.len());
    world.told("in the model's words: \"it is 'odd'\"");
}

#[test]
fn advice_to_roll_back_counts_where_a_cited_check_leans_and_passes_the_rails() {
    let mut world = World::new(service(asks(ModelMay::Hold)), tie, says(Action::RollBack));
    world.go(MIN * 20);
    let view = world.view();
    assert_eq!((view.outcome, view.share), (Some(Outcome::RolledBack), 0), "{}", world.timeline());
    world.told("rolling back: a model advises it, and a check leans the same way");

    let advise = ServicePolicy { autonomy: Autonomy::Advise, ..service(asks(ModelMay::Hold)) };
    let mut world = World::new(advise, tie, says(Action::RollBack));
    world.go(S * 5);
    let by = Person(Text::new("alice"));
    world.happens(Event::Commanded { rollout: ROLLOUT, command: Command::Promote, by });
    world.go(MIN * 20);
    assert!(!world.briefs.is_empty());
    assert_eq!(world.view().share, 500, "below `guard` a person rolls back: {}", world.timeline());
}

#[test]
fn advice_to_roll_back_rests_on_a_check_that_may_decide() {
    let run = |weight: Weight| {
        let reply = Reply { after: 5, advice: Ok(advice(Action::RollBack, &[1])), twice: false };
        let mut world = World::new(service(asks(ModelMay::Hold)), tie, Box::new(move |_| Some(reply.clone())));
        world.checks = vec![Check { weight, ..proposed("errors on /pay", Aim::Guard) }];
        world.go(MIN * 20);
        world
    };
    assert_eq!(run(Weight::Critical).view().outcome, Some(Outcome::RolledBack));
    let demoted = run(Weight::Advisory);
    demoted.told("it does not count: no check that it cites leans against the new version");
    assert_eq!(demoted.view().share, 500, "{}", demoted.timeline());
}

#[test]
fn what_counts_as_leaning_is_shared_out_among_the_critical_checks() {
    let briefed = |lean_alpha: f64, checks: Vec<Check>| {
        let model = asks(ModelMay::Hold).map(|model| ModelPolicy { lean_alpha, ..model });
        let mut world = World::new(service(model), tie, silent());
        world.checks = checks;
        world.go(MIN * 20);
        world.briefs.remove(0)
    };
    let log_e_value = briefed(0.05, Vec::new()).checks[0].log_e_value;
    let lean_alpha = (0.1 - log_e_value).exp();
    let may_roll_back = |checks| briefed(lean_alpha, checks).legal.contains(&Action::RollBack);
    let other = |weight| vec![Check { weight, ..proposed("errors on /pay", Aim::Guard) }];
    assert!(may_roll_back(Vec::new()) && may_roll_back(other(Weight::Advisory)));
    assert!(!may_roll_back(other(Weight::Critical)), "two chances to lean by chance");
}

#[test]
fn advice_that_nothing_leans_to_or_that_cites_nothing_is_refused_and_told() {
    let refused = |policy: ServicePolicy, looks: fn(u64) -> Look, said: Advice, why: &str| {
        let reply = Reply { after: 1, advice: Ok(said), twice: false };
        let mut world = World::new(policy, looks, Box::new(move |_| Some(reply.clone())));
        world.go(MIN * 20);
        world.told(why);
        assert_eq!(world.view().share, 500, "{}", world.timeline());
        assert_eq!(world.beyond, []);
    };
    // Nothing was counted on the canary: inconclusive, and no evidence of anything.
    let unused: fn(u64) -> Look = |_| (counts(10, 10_000), counts(0, 0));
    let hold = || service(asks(ModelMay::Hold));
    let all = || service(asks(ModelMay::BreakTies));
    refused(hold(), unused, advice(Action::RollBack, &[0]), "it may not be advised here");
    refused(hold(), tie, advice(Action::RollBack, &[]), "advice cites 1 to 64 checks");
    refused(hold(), tie, advice(Action::RollBack, &[9]), "the plan has no check 9");
    refused(hold(), tie, advice(Action::RollBack, &[0; 65]), "advice cites 1 to 64 checks");
    refused(hold(), tie, advice(Action::Expand, &[0]), "it may not be advised here");
    refused(all(), unused, advice(Action::Expand, &[0]), "it may not be advised here");
    let strict = ServicePolicy { samples_min: 10_000_000, ..all() };
    refused(strict, tie, advice(Action::Expand, &[0]), "it may not be advised here");
    let guard = ServicePolicy { step_max: Share::from_basis_points(500).unwrap(), ..all() };
    let mut world = World::new(guard, tie, says(Action::Expand));
    world.go(MIN * 20);
    assert_eq!((world.view().share, world.briefs.len()), (500, 0), "the step is too large: nobody is asked");
}

#[test]
fn a_model_breaks_a_tie_only_where_it_may_and_never_past_a_rail() {
    let mut may = World::new(service(asks(ModelMay::BreakTies)), tie, says(Action::Expand));
    may.go(MIN * 8);
    assert_eq!(may.view().share, 5_000, "{}", may.timeline());
    let mut may_not = World::new(service(asks(ModelMay::Hold)), tie, says(Action::Expand));
    may_not.go(MIN * 8);
    assert_eq!(may_not.view().share, 500);
    // Between the question and the answer a rail fires.
    let by = || Person(Text::new("alice"));
    let slow =
        || -> Model { Box::new(|_| Some(Reply { after: 20, advice: Ok(advice(Action::Expand, &[0])), twice: false })) };
    let until_asked = |world: &mut World| {
        while world.briefs.is_empty() {
            world.go(S);
        }
    };
    let mut killed = World::new(service(asks(ModelMay::BreakTies)), tie, slow());
    until_asked(&mut killed);
    killed.happens(Event::KillSwitch { on: true, by: by() });
    killed.go(MIN * 9);
    assert_eq!(killed.view().share, 500);
    killed.told("it does not count: the stage is not open any more");
    let mut paused = World::new(service(asks(ModelMay::BreakTies)), tie, slow());
    until_asked(&mut paused);
    paused.happens(Event::Commanded { rollout: ROLLOUT, command: Command::Pause, by: by() });
    paused.go(MIN * 9);
    assert_eq!(paused.view().share, 500);
    let mut taken = World::new(service(asks(ModelMay::BreakTies)), tie, slow());
    until_asked(&mut taken);
    taken.happens(Event::Commanded { rollout: ROLLOUT, command: Command::Rollback, by: by() });
    taken.go(MIN * 9);
    assert_eq!(taken.view().share, 0);
    assert!(taken.fleet.view(9).stale_replies >= 1, "what comes after the end is stale");
}

#[test]
fn an_answer_counts_once_and_only_while_it_is_waited_for() {
    let late = Reply { after: 61, advice: Ok(advice(Action::Expand, &[0])), twice: false };
    let mut world = World::new(service(asks(ModelMay::BreakTies)), tie, Box::new(move |_| Some(late.clone())));
    world.go(MIN * 30);
    assert_eq!((world.view().share, world.fleet.view(9).stale_replies), (500, 3));
    let twice = Reply { after: 1, advice: Ok(advice(Action::Hold, &[0])), twice: true };
    let mut world = World::new(service(asks(ModelMay::BreakTies)), tie, Box::new(move |_| Some(twice.clone())));
    world.go(MIN * 30);
    assert_eq!(world.fleet.view(9).stale_replies, 3);
    assert_eq!(world.timeline().matches("the model advises").count(), 3);
}

fn any_advice() -> impl Strategy<Value = Option<Reply>> {
    let action = prop::sample::select(Action::ALL.to_vec());
    let cites = prop_oneof![
        5 => Just(vec![0]),
        2 => Just(vec![0, 1]),
        1 => Just(Vec::new()),
        1 => prop::collection::vec(any::<u16>(), 0..80),
    ];
    let said = (action, cites, 0..90_u64, any::<bool>(), 0..8_u8).prop_map(|(action, cites, after, twice, fails)| {
        let advice = if fails == 0 { Err(Text::new("it failed")) } else { Ok(advice(action, &cites)) };
        Reply { after, advice, twice }
    });
    prop::option::weighted(0.9, said)
}

/// What happens to one rollout, whatever is advised.
#[derive(Clone, Debug)]
struct Life {
    looks: Vec<(u64, u64)>,
    turns: Vec<(u64, u8)>,
    samples_min: u64,
    autonomy: Autonomy,
}

fn lives() -> impl Strategy<Value = Life> {
    // Mostly a little worse than control, which has 10 of 10,000: ties; now and then silence, or a breach.
    let look = prop_oneof![
        6 => (0..6_u64, Just(1_000_u64)),
        6 => (0..12_u64, Just(1_000_u64)),
        1 => (0..1_u64, 0..30_u64),
        1 => (200..400_u64, Just(1_000_u64)),
    ];
    let phases = prop::collection::vec((look, 1..12_usize), 3..12)
        .prop_map(|phases| phases.into_iter().flat_map(|(look, times)| vec![look; times]).collect::<Vec<_>>());
    let turns = prop::collection::vec((30..2_400_u64, 0..6_u8), 0..3);
    let autonomy =
        prop::sample::select(vec![Autonomy::Advise, Autonomy::Guard, Autonomy::Auto, Autonomy::Auto, Autonomy::Auto]);
    (phases, turns, 0..3_000_u64, autonomy).prop_map(|(looks, turns, samples_min, autonomy)| Life {
        looks,
        turns,
        samples_min,
        autonomy,
    })
}

fn lived(life: &Life, model: Option<ModelPolicy>, replies: Vec<Option<Reply>>) -> World {
    let looks = life.looks.clone();
    let look = move |at: u64| {
        let (bad, total) = looks[usize::try_from(at).unwrap() % looks.len()];
        (counts(10, 10_000), counts(bad.min(total), total))
    };
    let mut replies = replies.into_iter().cycle();
    let policy = ServicePolicy { samples_min: life.samples_min, autonomy: life.autonomy, ..service(model) };
    let mut world = World::new(policy, look, Box::new(move |_| replies.next().flatten()));
    let by = Person(Text::new("alice"));
    for (at, what) in &life.turns {
        let command = |command| Event::Commanded { rollout: ROLLOUT, command, by: by.clone() };
        let event = match what {
            0 => Event::KillSwitch { on: true, by: by.clone() },
            1 => Event::KillSwitch { on: false, by: by.clone() },
            2 => command(Command::Pause),
            3 => command(Command::Resume),
            4 => command(Command::Promote),
            _ => command(Command::Rollback),
        };
        world.later(scenario::BEGINNING + S * u32::try_from(*at).unwrap(), event);
    }
    world.go(MIN * 60);
    world
}

/// The same lives in every run: the laws also count what they have seen, and a count that chance decides is no test.
fn runner(cases: u32) -> TestRunner {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Runs a law that counts what it has seen, which a runner's closures may not.
fn run_all<S: Strategy>(cases: u32, inputs: &S, law: impl FnMut(S::Value) -> TestCaseResult) {
    let law = std::cell::RefCell::new(law);
    runner(cases).run(inputs, |input| (law.borrow_mut())(input)).unwrap();
}

/// For every life of a rollout and every advice: what is asked of traffic beyond what the same state asks for without
/// advice is a tie broken where that is allowed, or a rollback that a check leans to; and no retreat stays away.
#[test]
fn no_advice_widens_but_a_tie_that_it_may_break_and_none_rolls_back_alone() {
    let (mut asked, mut broken, mut rolled_back) = (0, 0, 0);
    let lean_alphas = prop::sample::select(vec![0.05, 1e-4]);
    let inputs = (lives(), prop::collection::vec(any_advice(), 1..6), any::<bool>(), lean_alphas);
    let run = |(life, replies, may_break, lean_alpha): (Life, Vec<Option<Reply>>, bool, f64)| {
        let may = if may_break { ModelMay::BreakTies } else { ModelMay::Hold };
        let world = lived(&life, asks(may).map(|model| ModelPolicy { lean_alpha, ..model }), replies);
        asked += world.briefs.len();
        prop_assert!(world.kept.is_empty(), "kept at the word of a model: {:?}", world.kept);
        for (shift, said, leanings) in &world.beyond {
            let action = said.as_ref().map(|advice| advice.action);
            if shift.to.exceeds(&shift.from) {
                prop_assert!(may_break && action == Some(Action::Expand), "{shift:?} at {said:?}");
                broken += 1;
            } else {
                let leans = leanings.iter().any(|log_e| *log_e >= -lean_alpha.ln());
                prop_assert!(action == Some(Action::RollBack) && leans && shift.to.is_none(), "{shift:?} at {said:?}");
                rolled_back += 1;
            }
        }
        Ok(())
    };
    run_all(600, &inputs, run);
    println!("{asked} asked, {broken} ties broken, {rolled_back} rolled back");
    assert!(asked > 100 && broken > 5 && rolled_back > 5, "too tame: {asked} {broken} {rolled_back}");
}

/// Advice that does not count (none, late, garbage, uncited, not legal) leaves the whole run as it is without a model, at
/// every second; and advice to roll back leaves it the same up to then and at nothing after.
#[test]
fn without_a_hold_that_counts_no_moment_is_wider_than_without_a_model() {
    let mut asked = 0;
    let inputs = (lives(), prop::collection::vec(any_advice(), 1..6));
    let run = |(life, replies): (Life, Vec<Option<Reply>>)| {
        let counts_as_hold = |reply: &Option<Reply>| {
            let action = reply.as_ref().and_then(|reply| reply.advice.as_ref().ok()).map(|advice| advice.action);
            matches!(action, Some(Action::Hold | Action::AskPerson))
        };
        let replies: Vec<_> =
            replies.into_iter().map(|reply| reply.filter(|r| !counts_as_hold(&Some(r.clone())))).collect();
        let with = lived(&life, asks(ModelMay::Hold), replies);
        let without = lived(&life, None, Vec::new());
        asked += with.briefs.len();
        for (second, (with, without)) in with.shares.iter().zip(&without.shares).enumerate() {
            prop_assert!(with <= without, "at {second} s {with} with a model and {without} without");
        }
        if with.beyond.is_empty() {
            prop_assert_eq!(&with.shares, &without.shares);
        }
        Ok(())
    };
    run_all(150, &inputs, run);
    assert!(asked > 50, "too tame: {asked}");
}

/// A proposed check like the objective, narrowed to one route.
fn proposed(name: &str, aim: Aim) -> Check {
    let objective = scenario::bounds().mandatory.remove(0);
    Check {
        name: CheckName::new(name),
        sli: objective.sli.narrowed("route", &Match::Is("/pay".into())),
        limit: None,
        aim,
        origin: Origin::Model,
        lines: vec![DiffLine { path: "a.rs".into(), line: 1 }],
        ..objective
    }
}

/// An intended effect is shown, noted and summed up, and moves nothing whichever way it goes.
#[test]
fn an_intended_effect_is_told_and_decides_nothing() {
    let run = |looks: fn(u64) -> Look, intends: bool| {
        let mut world = World::new(ServicePolicy { alpha: 0.001, ..service(None) }, looks, silent());
        if intends {
            world.checks = vec![proposed("errors on /pay", Aim::Improvement)];
        }
        world.go(MIN * 40);
        world
    };
    let better: fn(u64) -> Look = |_| (counts(500, 10_000), counts(10, 10_000));
    let fewer = run(better, true);
    let shown = |world: &World| world.view().checks.get(1).and_then(|check| check.intended);
    assert_eq!(shown(&fewer), Some(tollgate::rollout::Intended::Confirmed));
    fewer.told("the intended effect is there: errors on /pay");
    fewer.told("intended effects: errors on /pay: seen");
    assert_eq!(fewer.timeline().matches("the intended effect is there").count(), 1);
    let check = &fewer.view().checks[1];
    assert_eq!((check.weight, check.finding), (Weight::Advisory, Finding::Healthy));
    assert!(check.interval.is_some_and(|interval| interval.high < 1.0), "{:?}", check.interval);
    assert_eq!(fewer.shares, run(better, false).shares);

    let same = run(healthy, true);
    assert_eq!(shown(&same), Some(tollgate::rollout::Intended::NotSeen));
    same.told("intended effects: errors on /pay: not seen");
    assert_eq!(same.shares, run(healthy, false).shares);

    let worse: fn(u64) -> Look = |_| (counts(10, 10_000), counts(100, 1_000));
    let more = run(worse, true);
    assert_eq!(shown(&more), Some(tollgate::rollout::Intended::Opposite), "{:?}", more.view().checks[1].interval);
    assert_eq!(more.shares, run(worse, false).shares);
    assert_eq!(more.view().outcome, Some(Outcome::RolledBack));
    let thresholds = |world: &World| world.view().checks[0].evidence.log_threshold;
    assert_eq!(thresholds(&more), thresholds(&run(worse, false)), "it takes no weight from the guards");
}

/// Whatever is measured, a rollout with an intended effect moves as one without.
#[test]
fn no_life_of_a_rollout_is_changed_by_an_intended_effect() {
    runner(60)
        .run(&lives(), |life| {
            let run = |checks: Vec<Check>| {
                let looks = life.looks.clone();
                let look = move |at: u64| {
                    let (bad, total) = looks[usize::try_from(at).unwrap() % looks.len()];
                    (counts(10, 10_000), counts(bad.min(total), total))
                };
                let mut world = World::new(ServicePolicy { alpha: 0.001, ..service(None) }, look, silent());
                world.checks = checks;
                world.go(MIN * 30).shares.clone()
            };
            prop_assert_eq!(run(vec![proposed("intended", Aim::Improvement)]), run(Vec::new()));
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_risky_change_is_baked_longer_and_has_as_much_more_patience() {
    let ladder = |risk: Risk, medium: f64, high: f64| {
        let mut policy = service(None);
        policy.risk_bake = RiskBake { medium, high };
        policy.bounds.path_rules = vec![PathRule { paths: vec!["src/pay/**".into()], risk, checks: Vec::new() }];
        // Nobody uses the canary: neither healthy nor harmful for as long as it is let wait.
        let mut world = World::new(policy, |_| (counts(10, 10_000), counts(0, 0)), silent());
        world.go(S * 10);
        world
    };
    let bake = |world: &World| world.view().stages.iter().map(|stage| stage.bake_time_ms).collect::<Vec<_>>();
    assert_eq!(bake(&ladder(Risk::Low, 2.0, 3.0)), [360_000; 3]);
    assert_eq!(bake(&ladder(Risk::Medium, 2.5, 3.0)), [900_000; 3]);
    for nonsense in [0.1, -1.0, f64::NAN] {
        assert_eq!(bake(&ladder(Risk::High, 2.0, nonsense)), [360_000; 3], "never shorter: {nonsense}");
    }
    assert_eq!(bake(&ladder(Risk::High, 1.0, f64::INFINITY)), [36_000_000; 3], "and not for ever");
    let mut high = ladder(Risk::High, 1.0, 5.0);
    assert_eq!(high.view().risk, Some(Risk::High));
    high.told("high risk, each stage baked 5 times as long");
    let planned = high.notices.iter().find(|notice| notice.text.as_str().starts_with("planned")).unwrap();
    assert!(planned.text.as_str().contains("high risk, each stage baked 5 times"), "{planned:?}");
    high.go(MIN * 63);
    assert_eq!(high.view().share, 500, "24 more minutes of bake time, and of patience: {}", high.timeline());
    high.go(MIN * 3);
    assert_eq!(high.view().share, 0, "40 minutes of patience and those 24 are over");
}

#[test]
fn who_planned_and_how_its_checks_fared_is_shown() {
    let mut world = World::new(service(None), healthy, silent());
    world.checks = vec![proposed("errors on /pay", Aim::Guard)];
    world.drafts = |draft| {
        let trial = |name: &str, standing| Tried {
            check: CheckName::new(name),
            standing,
            reason: Reason::Noisy,
            detail: Text::new("often"),
            baseline: None,
            trial: Trial { alarms: 1, rollouts: 40 },
            power: Vec::new(),
        };
        Draft {
            source: Source::Model { model: Text::new("m1"), is_cached: true },
            tried: vec![trial("errors on /pay", Standing::Admitted), trial("gone", Standing::Rejected)],
            uncovered: vec![Text::new("big.rs")],
            risk: Risk::Medium,
            ..draft
        }
    };
    world.go(S * 2);
    let view = world.view();
    assert_eq!(view.source, Some(Source::Model { model: Text::new("m1"), is_cached: true }));
    assert_eq!((view.risk, view.uncovered), (Some(Risk::Medium), vec!["big.rs".to_owned()]));
    assert!(view.checks[0].trial.is_none(), "the objective was not tried");
    let shown = view.checks[1].trial.as_ref().unwrap();
    assert_eq!((shown.reason.as_str(), shown.alarms, shown.rollouts), ("noisy", 1, 40));
    assert_eq!(view.checks[1].weight, Weight::Critical);
    let rejected: Vec<_> = view.rejected_trials.iter().map(|trial| trial.check.as_str()).collect();
    assert_eq!(rejected, ["gone"]);
}

#[test]
fn how_a_rollout_ended_is_explained_and_kept_for_the_next() {
    let mut world = World::new(service(asks(ModelMay::Hold)), |_| (counts(10, 10_000), counts(400, 1_000)), silent());
    world.go(MIN * 10);
    assert_eq!(world.view().outcome, Some(Outcome::RolledBack));
    let story = world.stories.first().cloned().unwrap();
    assert_eq!((story.outcome, story.widest_share, story.names.len()), (Outcome::RolledBack, 500, 1));
    assert!(story.reason.as_str().contains("hard limit"), "{}", story.reason);
    assert_eq!(story.brief.legal, []);
    assert_eq!(world.view().explanation, None, "nothing waits for it");

    world.merge(2);
    world.go(S * 3);
    assert_eq!(*world.pasts[0], []);
    let past = &world.pasts[1];
    assert_eq!((past.len(), past[0].outcome, past[0].widest_share), (1, Outcome::RolledBack, 500));

    let usage = Usage { input_tokens: 7, cached_tokens: 1, output_tokens: 2, micro_dollars: Some(3) };
    let exchange = Exchange {
        question: Digest::new("00"),
        request: Digest::new("00"),
        said: 1,
        finish: Text::default(),
        failure: None,
        attempts: 1,
        usage,
        millis: 1,
    };
    let conversation = Conversation {
        role: ModelRole::Narrator,
        model: Text::new("m1"),
        prompt: Digest::new("00"),
        messages: Vec::new(),
        exchanges: vec![exchange],
        end: Text::default(),
    };
    let narrated = |request| Event::Narrated {
        request: RequestId(request),
        rollout: ROLLOUT,
        words: Ok(Prose::new("It failed.")),
        conversation: Some(Box::new(conversation.clone())),
    };
    for request in 1..200 {
        world.happens(narrated(request));
    }
    let view = world.view();
    let explanation = view.explanation.unwrap();
    assert_eq!((explanation.model.as_str(), explanation.words.as_str()), ("m1", "It failed."));
    assert_eq!(world.fleet.view(9).stale_replies, 198, "only the answer to its request counts");
    assert_eq!(view.usage.unwrap().input_tokens, 7 * 199, "and all of it was paid for");
    let spent = world.fleet.spent_today();
    assert_eq!(spent.len(), 1);
    assert_eq!(spent[0].of, Some((ServiceName::new("shop"), 1)));
    assert_eq!(spent[0].usage.micro_dollars, Some(3 * 199));
}
