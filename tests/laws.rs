//! Laws: what holds for every input, shown on many drawn at random. A failing case is printed, made small, and kept in
//! `proptest-regressions`.

#![expect(clippy::unwrap_used, reason = "a generator that cannot draw has failed")]

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use sha2::Digest;
use tollgate::{
    domain::{
        Absence, Action, Advice, Arm, Autonomy, CheckId, Command, Confidence, Counts, Evidence, Exposure, Finding,
        Measurement, Notice, Person, Prose, RequestId, RolloutId, ServiceName, Share, Shift, Stamped, Tally, Text,
        Timestamp, Verdict, WayBack, Weight, Window,
    },
    plan::Draft,
    rails::{self, Case, CheckFacts, StageFacts},
    rollout::{Effect, Event, Fleet, ShiftError},
    sim::{Scenario, scenario},
};

fn share() -> impl Strategy<Value = Share> {
    (0..=10_000_u16).prop_map(|points| Share::from_basis_points(points).unwrap())
}

fn counts() -> impl Strategy<Value = Counts> {
    (0..2_000_u64, 0..2_000_u64).prop_map(|(bad, total)| Counts { bad, total })
}

fn absence() -> impl Strategy<Value = Absence> {
    prop_oneof![
        Just(Absence::NoData),
        Just(Absence::Unavailable(Text::new("down"))),
        Just(Absence::Malformed(Text::new("garbled")))
    ]
}

fn shift(from: Share, to: Share) -> Shift {
    Shift {
        service: ServiceName::new("shop"),
        rollout: RolloutId(1),
        control: None,
        canary: "abcdef0".parse().unwrap(),
        from: Exposure::share(from),
        to: Exposure::share(to),
    }
}

/// A case drawn at random, with what it is made of.
#[derive(Clone, Debug)]
struct Drawn {
    now: u64,
    held: u64,
    bake: u64,
    patience: u64,
    has_stage: bool,
    bake_shown_safe: Option<u64>,
    shown_safe: bool,
    from: Share,
    to: Share,
    finding: Finding,
    latest: Option<Result<Counts, Absence>>,
    recent: Counts,
    stage_counts: Counts,
    heard: Option<u64>,
    samples_min: u64,
    step_max: Share,
    kill_switch: bool,
    one_way: bool,
    control_stands: Option<bool>,
    autonomy: Autonomy,
    asked: Option<Verdict>,
    advisory: bool,
}

prop_compose! {
    fn drawn()(
        times in (0..10_000_000_u64, 0..4_000_u64, 0..2_000_u64, 0..6_000_u64, prop::option::of(0..10_000_000_u64)),
        has_stage in any::<bool>(),
        shares in (share(), share(), share()),
        finding in prop::sample::select(vec![Finding::Healthy, Finding::Inconclusive, Finding::NoData, Finding::Degraded]),
        latest in prop::option::of(prop_oneof![counts().prop_map(Ok), absence().prop_map(Err)]),
        recent in counts(),
        stage_counts in counts(),
        samples_min in 0..500_u64,
        flags in (any::<bool>(), any::<bool>(), any::<bool>(), prop::option::of(any::<bool>())),
        autonomy in prop::sample::select(vec![Autonomy::Observe, Autonomy::Advise, Autonomy::Guard, Autonomy::Auto]),
        asked in prop::option::of(prop::sample::select(vec![Verdict::Promote, Verdict::Rollback])),
        safe in (prop::option::of(0..2_000_u64), any::<bool>()),
    ) -> Drawn {
        Drawn {
            now: times.0, held: times.1, bake: times.2, patience: times.3, heard: times.4,
            has_stage, from: shares.0, to: shares.1, step_max: shares.2, finding, latest, recent, stage_counts,
            samples_min, kill_switch: flags.0, one_way: flags.1, advisory: flags.2, control_stands: flags.3, autonomy, asked,
            bake_shown_safe: safe.0, shown_safe: safe.1,
        }
    }
}

fn with_case<T>(drawn: &Drawn, then: impl FnOnce(&Case<'_>) -> T) -> T {
    with_baseline(drawn, None, then)
}

fn with_baseline<T>(drawn: &Drawn, unusual: Option<&Text>, then: impl FnOnce(&Case<'_>) -> T) -> T {
    let mut check = scenario::bounds().mandatory.remove(0);
    if drawn.advisory {
        check.weight = Weight::Advisory;
    }
    let way_back = if drawn.one_way {
        WayBack::OneWay { why: Text::new("drops a column"), lines: Vec::new() }
    } else {
        WayBack::Open
    };
    let evidence = Evidence {
        log_e_value: 0.0,
        log_e_safe: if drawn.shown_safe { 3.0 } else { 2.9 },
        more_seconds: None,
        is_calibrated: true,
        log_threshold: 6.9,
        effect: None,
        interval: None,
        control: Counts::default(),
        canary: drawn.recent,
    };
    let facts = [CheckFacts {
        check: &check,
        finding: drawn.finding,
        evidence,
        latest: drawn.latest.as_ref(),
        recent: drawn.recent,
        this_stage: drawn.stage_counts,
        unusual,
    }];
    then(&Case {
        now: Timestamp::from_millis(drawn.now),
        stage: drawn.has_stage.then_some(StageFacts {
            held: Duration::from_secs(drawn.held),
            bake_time_shown_safe: drawn.bake_shown_safe.map(Duration::from_secs),
            bake_time: Duration::from_secs(drawn.bake),
            patience: Duration::from_secs(drawn.patience),
        }),
        advance: (drawn.to > drawn.from).then(|| shift(drawn.from, drawn.to)),
        retreat: (drawn.from > Share::NONE).then(|| shift(drawn.from, Share::NONE)),
        checks: &facts,
        heard: drawn.heard.map(Timestamp::from_millis),
        listening_since: drawn.has_stage.then_some(Timestamp::EPOCH),
        blackout_after: Duration::from_secs(60),
        samples_min: drawn.samples_min,
        step_max: drawn.step_max,
        kill_switch: drawn.kill_switch,
        way_back: &way_back,
        control_stands: drawn.control_stands,
        shares_off: None,
        autonomy: drawn.autonomy,
        asked: drawn.asked,
    })
}

fn breaches(counts: Counts) -> bool {
    let limit = scenario::bounds().mandatory[0].limit.unwrap();
    counts.total >= limit.total_min
        && counts.bad >= limit.bad_min
        && counts.bad as f64 > limit.bad_share_max * counts.total as f64
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// What a baseline other than control finds only ever turns a promotion into a hold: nothing it says widens exposure,
    /// and nothing it says takes traffic back.
    #[test]
    fn a_baseline_only_holds(drawn in drawn(), proposed in prop::sample::select(vec![Verdict::Promote, Verdict::Hold, Verdict::Rollback])) {
        let why = Text::new("unusual");
        let usual = with_case(&drawn, |case| rails::review(proposed, case));
        let unusual = with_baseline(&drawn, Some(&why), |case| rails::review(proposed, case));
        let holds = !drawn.advisory && drawn.asked != Some(Verdict::Promote);
        let expected = if holds && usual.verdict == Verdict::Promote { Verdict::Hold } else { usual.verdict };
        prop_assert_eq!(unusual.verdict, expected);
        prop_assert_eq!(unusual.objections.iter().any(|o| o.rail == "baseline" && o.page), holds);
        if unusual.verdict == usual.verdict {
            prop_assert_eq!(unusual.shift, usual.shift);
        } else {
            prop_assert!(unusual.shift.is_none());
        }
    }

    /// Whatever is proposed, the rails let it pass or lower it, and a lowered verdict raises nothing.
    #[test]
    fn rails_only_lower(drawn in drawn(), proposed in prop::sample::select(vec![Verdict::Promote, Verdict::Hold, Verdict::Rollback])) {
        let reviewed = with_case(&drawn, |case| rails::review(proposed, case));
        prop_assert!(reviewed.verdict >= proposed.min(Verdict::Hold), "{reviewed:?}");
        prop_assert!(proposed != Verdict::Hold || reviewed.verdict >= Verdict::Hold);
        if let Some(cleared) = &reviewed.shift {
            prop_assert!(reviewed.verdict == Verdict::Promote || !cleared.get().raises(), "{reviewed:?}");
        }
        if reviewed.verdict == Verdict::Hold {
            prop_assert!(reviewed.shift.is_none());
        }
        if reviewed.verdict > proposed {
            prop_assert!(!reviewed.objections.is_empty(), "a lowered verdict has a reason");
        }
    }

    /// Nothing raises exposure over a broken hard limit, without data, or with the kill switch on, whoever asks.
    #[test]
    fn nothing_expands_over_harm_blindness_or_the_kill_switch(drawn in drawn()) {
        let reviewed = with_case(&drawn, |case| rails::review(Verdict::Promote, case));
        let raises = reviewed.shift.as_ref().is_some_and(|cleared| cleared.get().raises());
        let newest = drawn.latest.clone().and_then(Result::ok).unwrap_or_default();
        let harm = breaches(newest) || breaches(drawn.recent);
        let blind = drawn.has_stage && !drawn.advisory && !matches!(drawn.latest, Some(Ok(_)));
        prop_assert!(!(raises && (harm || blind || drawn.kill_switch)), "{reviewed:?}");
        prop_assert!(!(raises && !drawn.advisory && drawn.finding == Finding::Degraded), "{reviewed:?}");
    }

    /// A stage that nobody asked to end ends before its bake time only where that is allowed, after its own least time,
    /// and with every critical check shown safe.
    #[test]
    fn a_stage_is_cut_short_only_by_proof_of_safety(drawn in drawn()) {
        let ends = with_case(&drawn, |case| rails::review(Verdict::Promote, case).verdict == Verdict::Promote);
        if ends && drawn.has_stage && drawn.asked.is_none() && drawn.held < drawn.bake {
            prop_assert!(drawn.bake_shown_safe.is_some_and(|least| drawn.held >= least));
            prop_assert!(drawn.shown_safe && !drawn.advisory);
        }
    }

    /// Only a person takes back a change that cannot be taken back.
    #[test]
    fn a_one_way_change_is_not_rolled_back_unasked(drawn in drawn(), proposed in prop::sample::select(vec![Verdict::Promote, Verdict::Hold, Verdict::Rollback])) {
        let reviewed = with_case(&drawn, |case| rails::review(proposed, case));
        let lowers = reviewed.shift.as_ref().is_some_and(|cleared| cleared.get().from.exceeds(&cleared.get().to));
        prop_assert!(!(lowers && drawn.one_way && drawn.asked != Some(Verdict::Rollback)), "{reviewed:?}");
    }

    /// What is put back in force was in force.
    #[test]
    fn reasserting_raises_nothing(from in share(), to in share()) {
        let cleared = rails::reassert(shift(from, to));
        prop_assert_eq!(cleared.is_some(), to <= from);
    }
}

/// Events as they might come from anywhere: wrong numbers, wrong order, times that run backwards.
fn any_event() -> impl Strategy<Value = Event> {
    let request = (1..40_u64).prop_map(RequestId);
    let rollout = (1..4_u64).prop_map(RolloutId);
    let person = Just(Person(Text::new("somebody")));
    prop_oneof![
        3 => Just(Event::WokeUp),
        1 => (1..4_u64).prop_map(|number| Event::PullRequestMerged {
            delivery: Text::new(format!("d{number}")),
            repository: "acme/everything".parse().unwrap(),
            pull_request: number,
            branch: "main".into(),
            into_default: true,
        }),
        3 => (request.clone(), 1..4_u64).prop_map(|(request, number)| {
            let change = Scenario::from_seed(number).changes.values().next().map(|(change, _)| Arc::clone(change)).unwrap();
            Event::ChangeFetched { request, change: Ok(change) }
        }),
        3 => (request.clone(), rollout.clone(), any::<bool>()).prop_map(|(request, rollout, fails)| Event::Drafted {
            request,
            rollout,
            conversation: None,
            draft: if fails {
                Err(Text::new("no"))
            } else {
                Ok(Box::new(Draft::by_rules(Vec::new(), WayBack::Open, Vec::new())))
            },
        }),
        6 => (request.clone(), rollout.clone(), share(), 0..3_u8).prop_map(|(request, rollout, share, how)| Event::Shifted {
            request,
            rollout,
            read: match how {
                0 => Err(ShiftError::Unavailable(Text::new("no"))),
                1 => Ok(Exposure::share(share)),
                _ => Ok(Exposure::share(Share::from_basis_points(100).unwrap())),
            },
        }),
        6 => (request.clone(), rollout.clone(), counts(), counts(), any::<u64>()).prop_map(|(request, rollout, old, new, through)| {
            let window = Window { after: Timestamp::from_millis(through / 2), through: Timestamp::from_millis(through) };
            let measurement = |arm, counts| Measurement { check: CheckId(0), arm, window, tally: Ok(Tally::Counts(counts)), parts: vec![], estimated: false };
            Event::Measured {
                request,
                rollout,
                through: Timestamp::from_millis(through),
                measurements: vec![measurement(Arm::Control, old), measurement(Arm::Canary, new)],
            }
        }),
        3 => (request.clone(), rollout.clone(), prop::sample::select(Action::ALL.to_vec()), any::<u16>()).prop_map(
            |(request, rollout, action, cited)| {
                let cites = vec![CheckId(cited % 2)];
                let advice = Advice { action, cites, confidence: Confidence::High, rationale: Text::default() };
                Event::Advised { request, rollout, advice: Ok(advice), conversation: None }
            }
        ),
        2 => (request.clone(), rollout.clone()).prop_map(|(request, rollout)| Event::Expected {
            request,
            rollout,
            learnt: vec![(CheckId(0), Err(Text::new("no history")))],
        }),
        1 => (request.clone(), rollout.clone()).prop_map(|(request, rollout)| Event::Narrated {
            request,
            rollout,
            words: Ok(Prose::new("words")),
            conversation: None,
        }),
        2 => (rollout, prop::sample::select(vec![Command::Pause, Command::Resume, Command::Promote, Command::Rollback]), person.clone())
            .prop_map(|(rollout, command, by)| Event::Commanded { rollout, command, by }),
        1 => (any::<bool>(), person).prop_map(|(on, by)| Event::KillSwitch { on, by }),
        1 => Just(Event::Started { policy: Arc::clone(&Scenario::from_seed(3).policy) }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any sequence of events, however wrong, is folded to the same state and the same effects each time, through a
    /// snapshot taken anywhere, breaks no rollout, and expands nothing while the kill switch is on.
    #[test]
    fn folding_is_the_same_each_time(events in prop::collection::vec((any_event(), 0..120_000_u64), 1..120), cut in 0..120_usize) {
        let mut at = Timestamp::from_millis(1_000_000_000);
        let mut once = Fleet::default();
        let mut again = Fleet::default();
        once.handle(&Stamped { at, event: Event::Started { policy: Arc::clone(&Scenario::from_seed(3).policy) } });
        again.handle(&Stamped { at, event: Event::Started { policy: Arc::clone(&Scenario::from_seed(3).policy) } });
        let mut kill_switch = false;
        for (i, (event, millis)) in events.into_iter().enumerate() {
            at = if millis % 7 == 0 { at - Duration::from_millis(millis) } else { at + Duration::from_millis(millis) };
            if let Event::KillSwitch { on, .. } = event {
                kill_switch = on;
            }
            let entry = Stamped { at, event };
            let effects = once.handle(&entry);
            prop_assert_eq!(&effects, &again.handle(&entry));
            for effect in &effects {
                match effect {
                    Effect::Shift { shift, .. } => prop_assert!(!(kill_switch && shift.get().raises())),
                    Effect::Announce(Notice { text, .. }) => prop_assert!(!text.as_str().starts_with("stopped:"), "{text}"),
                    Effect::FetchChange { .. }
                    | Effect::Draft { .. }
                    | Effect::Advise { .. }
                    | Effect::Narrate { .. }
                    | Effect::Expect { .. }
                    | Effect::Measure { .. } => {}
                }
            }
            if i == cut {
                again = postcard::from_bytes(&postcard::to_stdvec(&again).unwrap()).unwrap();
            }
        }
        prop_assert_eq!(once, again);
    }
}

/// Snapshots of the fleet do not describe themselves, so whoever changes what a fleet holds raises their format. This
/// fleet has a rollout under way; its bytes change when the shape of the state does.
#[test]
fn the_snapshot_format_is_raised_when_the_fleet_changes() {
    const FORMAT_AND_DIGEST: (u32, &str) = (6, "42c367eecb778e03");
    let scenario = Scenario::from_seed(3);
    let mut fleet = Fleet::default();
    let at = Timestamp::from_millis(1_000);
    let mut open = fleet.handle(&Stamped { at, event: Event::Started { policy: Arc::clone(&scenario.policy) } });
    let (number, (change, _)) = scenario.changes.iter().next().unwrap();
    let delivery = Text::new("d1");
    let (repository, branch) = (change.repository.clone(), "main".to_owned());
    let merged = Event::PullRequestMerged { delivery, repository, pull_request: *number, branch, into_default: true };
    open.extend(fleet.handle(&Stamped { at, event: merged }));
    while let Some(effect) = open.pop() {
        let event = match effect {
            Effect::FetchChange { request, .. } => Event::ChangeFetched { request, change: Ok(Arc::clone(change)) },
            Effect::Draft { request, rollout, .. } => {
                let draft = Draft::by_rules(Vec::new(), WayBack::Open, Vec::new());
                Event::Drafted { request, rollout, draft: Ok(Box::new(draft)), conversation: None }
            }
            Effect::Shift { request, shift } => {
                let (rollout, read) = (shift.get().rollout, Ok(shift.get().to.clone()));
                Event::Shifted { request, rollout, read }
            }
            Effect::Advise { .. }
            | Effect::Narrate { .. }
            | Effect::Expect { .. }
            | Effect::Measure { .. }
            | Effect::Announce(_) => continue,
        };
        open.extend(fleet.handle(&Stamped { at, event }));
    }
    assert_eq!(fleet.open_rollouts(), 1);
    let digest = sha2::Sha256::digest(postcard::to_stdvec(&fleet).unwrap());
    let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        FORMAT_AND_DIGEST,
        (tollgate::journal::SNAPSHOT_FORMAT, digest.as_str()),
        "the fleet's state has another shape: raise SNAPSHOT_FORMAT, then write both here"
    );
}

/// A world cut after any of its entries comes to rest from what the journal holds: the simulator does it at random, here
/// it is done at every single entry of one rollout.
#[test]
fn recovery_after_a_cut_at_any_entry_converges() {
    let mut cuts = 0;
    for seed in [1, 2, 5] {
        let mut calm = Scenario::from_seed(seed);
        calm.faults = tollgate::sim::Faults::NONE;
        let whole = tollgate::sim::run(&calm);
        for cut in 0..whole.entries {
            let ended = tollgate::sim::run_cut(&calm, cut);
            assert_eq!(ended.violations, Vec::<String>::new(), "seed {seed}, cut after entry {cut}");
            assert!(
                ended.outcomes.values().all(Option::is_some),
                "seed {seed}, cut after entry {cut}: {:?}",
                ended.outcomes
            );
            cuts += 1;
        }
    }
    assert!(cuts > 100, "only {cuts} cuts");
}
