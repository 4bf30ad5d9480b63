//! Feature flags from the shift that moves them to the clients that read them: the laws of the split and the actuator's
//! contract here; the protocol, asked plainly and by OpenFeature's own clients, in `ofrep_clients`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it is surprised")]

mod ofrep_clients;

use std::{collections::BTreeSet, net::SocketAddr, sync::Barrier, thread, time::Duration};

use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate::{
    domain::{
        Arm, Autonomy, Cohort, Exposure, RequestId, Revision, RolloutId, ServiceName, Share, Shift, Timestamp, Verdict,
        WayBack,
    },
    rails::{self, Case, Cleared},
    traffic::{
        Actuator, Config, Context, Error, Failure, FlagConfig, FlagValue, Flags, Reason, evaluate,
        flags::{FLAGS_MAX, KEY_BYTES_MAX, REQUESTS_KEPT},
    },
    web::ofrep::routes,
};

const OLD: &str = "0123abc";
const NEW: &str = "4567def";

fn shop() -> ServiceName {
    ServiceName::new("shop")
}

fn share(basis_points: u16) -> Share {
    Share::from_basis_points(basis_points).unwrap()
}

fn at(basis_points: u16) -> Exposure {
    Exposure::share(share(basis_points))
}

fn tier(value: &str) -> Cohort {
    Cohort { attribute: "tier".into(), value: value.into() }
}

fn with_tier(basis_points: u16, value: &str) -> Exposure {
    Exposure { cohorts: BTreeSet::from([tier(value)]), ..at(basis_points) }
}

fn configured(flags: &[(&str, &str, FlagValue)]) -> Result<Flags, Error> {
    let flag = |&(service, key, value): &(&str, &str, FlagValue)| {
        (ServiceName::new(service), FlagConfig { key: key.into(), value })
    };
    Flags::new(&Config { flags: flags.iter().map(flag).collect() })
}

/// One service, `shop`, with a boolean flag `new-shop`.
fn flags() -> Flags {
    configured(&[("shop", "new-shop", FlagValue::Boolean)]).unwrap()
}

fn shift(rollout: u64, from: Exposure, to: Exposure) -> Shift {
    Shift {
        service: shop(),
        rollout: RolloutId(rollout),
        control: Some(OLD.parse().unwrap()),
        canary: NEW.parse().unwrap(),
        from,
        to,
    }
}

/// Takes a shift through the rails, as the only way there is to get one cleared.
fn cleared(shift: Shift) -> Cleared<Shift> {
    let case = Case {
        now: Timestamp::EPOCH,
        stage: None,
        advance: Some(shift),
        retreat: None,
        checks: &[],
        heard: None,
        listening_since: None,
        blackout_after: Duration::from_secs(60),
        samples_min: 0,
        step_max: Share::FULL,
        kill_switch: false,
        way_back: &WayBack::Open,
        control_stands: None,
        shares_off: None,
        autonomy: Autonomy::Auto,
        asked: None,
    };
    rails::review(Verdict::Promote, &case).shift.expect("no rail objects")
}

async fn send(flags: &Flags, request: u64, shift: Shift) -> Result<Exposure, Error> {
    flags.shift(RequestId(request), &cleared(shift)).await
}

fn now<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

/// `shop` at this exposure, by rollout `rollout`.
fn moved(rollout: u64, to: Exposure) -> Flags {
    let flags = flags();
    now(send(&flags, 1, shift(rollout, Exposure::none(), to))).unwrap();
    flags
}

fn side(flags: &Flags, context: &Context) -> (Arm, Reason) {
    let evaluation = evaluate(&flags.state("new-shop").unwrap(), context).unwrap();
    (evaluation.arm, evaluation.reason)
}

fn has_canary(flags: &Flags, user: &str) -> bool {
    side(flags, &Context::user(user)).0 == Arm::Canary
}

fn refusal(result: Result<Exposure, Error>) -> String {
    match result {
        Err(Error::Refused(why)) => why.to_string(),
        other => panic!("was not refused: {other:?}"),
    }
}

// The laws of the split.

proptest! {
    #[test]
    fn growing_the_share_never_moves_a_user_back(
        user in "\\PC{1,40}", rollout in 1_u64..1_000, steps in prop::collection::btree_set(1_u16..=10_000, 2..6)
    ) {
        let flags = flags();
        let (mut from, mut had) = (Exposure::none(), false);
        for (request, &step) in (1..).zip(&steps) {
            now(send(&flags, request, shift(rollout, from.clone(), at(step)))).unwrap();
            let has = has_canary(&flags, &user);
            prop_assert!(has || !had, "moved back at {step}");
            (from, had) = (at(step), has);
        }
    }

    #[test]
    fn a_user_keeps_his_side_whatever_else_the_context_says(
        user in "\\PC{1,40}", points in 1_u16..10_000, attributes in prop::collection::btree_map("[a-z]{1,8}", "[a-z]{0,8}", 0..5)
    ) {
        let flags = moved(7, at(points));
        let plain = Context::user(&user);
        let rich = attributes.into_iter().fold(plain.clone(), |context, (name, value)| context.with(name, value));
        prop_assert_eq!(side(&flags, &plain), side(&flags, &rich));
        prop_assert_eq!(side(&flags, &plain), side(&moved(7, at(points)), &plain), "a restart changes nothing");
    }

    #[test]
    fn a_cohort_has_the_new_version_whatever_the_share_and_the_user(user in "\\PC{0,40}", points in 0_u16..=10_000) {
        let flags = moved(7, with_tier(points, "internal"));
        let context = Context::user(user).with("tier", "internal");
        prop_assert_eq!(side(&flags, &context), (Arm::Canary, Reason::TargetingMatch));
    }

    #[test]
    fn no_context_breaks_the_evaluation(text in "\\PC{0,200}", points in 0_u16..=10_000) {
        let flags = moved(7, with_tier(points, "internal"));
        let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if let Ok(context) = Context::from_json(json) {
            let _ = evaluate(&flags.state("new-shop").unwrap(), &context);
        }
    }
}

#[test]
fn the_share_is_met_within_chance_over_a_hundred_thousand_users() {
    const USERS: u32 = 100_000;
    for points in [1, 10, 100, 500, 2_500, 5_000, 9_900, 9_999] {
        let flags = moved(7, at(points));
        let canaries = (0..USERS).filter(|user| has_canary(&flags, &format!("user-{user}"))).count();
        let (n, p) = (f64::from(USERS), share(points).fraction());
        let deviation = (f64::from(u32::try_from(canaries).unwrap()) - n * p) / (n * p * (1.0 - p)).sqrt();
        // Chance exceeds four standard deviations once in 15,000; the users are fixed, so the answer never changes.
        assert!(deviation.abs() < 4.0, "{canaries} of {USERS} at {points} basis points: {deviation} deviations");
    }
}

#[test]
fn nobody_is_among_the_first_in_every_rollout() {
    let [one, other] = [7, 8].map(|rollout| moved(rollout, at(5_000)));
    let users = (0..20_000).map(|user| format!("user-{user}"));
    let both = users.filter(|user| has_canary(&one, user) && has_canary(&other, user)).count();
    // A quarter of 20,000, and five standard deviations of 61 to either side.
    assert!((4_694..=5_306).contains(&both), "{both} of 20000 users are in the canary of both rollouts");
}

#[test]
fn the_ends_of_the_split_need_no_targeting_key_and_are_static() {
    let nobody = Context::default();
    assert_eq!(side(&flags(), &nobody), (Arm::Control, Reason::Static), "before the first shift");
    assert_eq!(side(&moved(7, at(0)), &nobody), (Arm::Control, Reason::Static));
    assert_eq!(side(&moved(7, at(10_000)), &nobody), (Arm::Canary, Reason::Static));
    assert_eq!(side(&moved(7, with_tier(0, "internal")), &nobody), (Arm::Control, Reason::Split));
    for points in [1, 9_999] {
        let state = moved(7, at(points)).state("new-shop").unwrap();
        assert_eq!(evaluate(&state, &nobody), Err(Failure::TargetingKeyMissing));
        assert_eq!(evaluate(&state, &Context::user("")), Err(Failure::TargetingKeyMissing), "an empty name is no name");
    }
}

#[test]
fn a_flag_says_what_its_configuration_asks_for() {
    let values = |value, control: Option<&str>| {
        let flags = configured(&[("shop", "new-shop", value)]).unwrap();
        let before = evaluate(&flags.state("new-shop").unwrap(), &Context::default()).unwrap().value;
        let control = control.map(|revision| revision.parse::<Revision>().unwrap());
        let shift = Shift { control, ..shift(7, Exposure::none(), with_tier(0, "internal")) };
        now(send(&flags, 1, shift)).unwrap();
        let state = flags.state("new-shop").unwrap();
        let insider = Context::default().with("tier", "internal");
        let [control, canary] = [Context::default(), insider].map(|who| evaluate(&state, &who).unwrap().value);
        [before, control, canary]
    };
    assert_eq!(values(FlagValue::Boolean, Some(OLD)), [json!(false), json!(false), json!(true)]);
    assert_eq!(values(FlagValue::Variant, Some(OLD)), [json!("control"), json!("control"), json!("canary")]);
    assert_eq!(values(FlagValue::Revision, Some(OLD)), [json!("stable"), json!(OLD), json!(NEW)]);
    assert_eq!(values(FlagValue::Revision, None), [json!("stable"), json!("stable"), json!(NEW)]);
}

// The actuator's contract.

#[tokio::test]
async fn what_was_set_is_read_back() {
    let flags = flags();
    assert_eq!(flags.read(&shop()).await, Ok(Exposure::none()));
    let mut from = Exposure::none();
    for (request, to) in (1..).zip([at(100), with_tier(100, "internal"), at(10_000), at(50), Exposure::none()]) {
        assert_eq!(send(&flags, request, shift(7, from, to.clone())).await, Ok(to.clone()));
        assert_eq!(flags.read(&shop()).await, Ok(to.clone()));
        from = to;
    }
    assert_eq!(flags.state("new-shop").unwrap().version, 5);
}

#[tokio::test]
async fn a_service_without_a_flag_is_refused() {
    let flags = flags();
    let other = ServiceName::new("billing");
    assert!(refusal(flags.read(&other).await).contains("billing has no flag"));
    let stray = Shift { service: other, ..shift(7, Exposure::none(), at(100)) };
    assert!(refusal(send(&flags, 1, stray).await).contains("billing has no flag"));
}

#[tokio::test]
async fn a_flag_cannot_mirror() {
    let flags = flags();
    let mirrored = Exposure { mirror: share(100), ..Exposure::none() };
    assert!(refusal(send(&flags, 1, shift(7, Exposure::none(), mirrored.clone())).await).contains("mirror"));
    assert!(refusal(send(&flags, 2, shift(7, mirrored.clone(), mirrored)).await).contains("mirror"));
    assert_eq!(flags.state("new-shop").unwrap().version, 0);
}

#[tokio::test]
async fn the_same_request_twice_is_one_shift() {
    let flags = flags();
    let first = || shift(7, Exposure::none(), at(100));
    assert_eq!(send(&flags, 1, first()).await, Ok(at(100)));
    assert_eq!(send(&flags, 1, first()).await, Ok(at(100)));
    assert_eq!(flags.state("new-shop").unwrap().version, 1);
    send(&flags, 2, shift(7, at(100), Exposure::none())).await.unwrap();
    assert_eq!(send(&flags, 1, first()).await, Ok(Exposure::none()), "a late repetition reads, and raises nothing");
    let other = refusal(send(&flags, 1, shift(7, Exposure::none(), at(200))).await);
    assert!(other.contains("q1 has already carried another shift"), "{other}");
    assert_eq!(flags.read(&shop()).await, Ok(Exposure::none()));
}

#[tokio::test]
async fn a_refused_request_may_be_sent_again_when_it_fits() {
    let flags = flags();
    refusal(send(&flags, 1, shift(7, at(100), at(200))).await);
    send(&flags, 2, shift(7, at(100), at(100))).await.unwrap();
    assert_eq!(send(&flags, 1, shift(7, at(100), at(200))).await, Ok(at(200)));
}

#[tokio::test]
async fn the_last_requests_are_remembered_and_one_more_is_not() {
    let flags = flags();
    let raise = || shift(7, Exposure::none(), at(100));
    send(&flags, 0, raise()).await.unwrap();
    for request in 1..u64::try_from(REQUESTS_KEPT).unwrap() {
        send(&flags, request, shift(7, at(100), Exposure::none())).await.unwrap();
    }
    assert_eq!(send(&flags, 0, raise()).await, Ok(Exposure::none()), "still remembered");
    send(&flags, 1_000, shift(7, at(100), Exposure::none())).await.unwrap();
    assert_eq!(send(&flags, 0, raise()).await, Ok(at(100)), "forgotten: it is a new shift, and fits what stands");
}

#[tokio::test]
async fn what_raises_must_know_what_stands() {
    let flags = flags();
    send(&flags, 1, shift(7, Exposure::none(), at(100))).await.unwrap();
    let stale = refusal(send(&flags, 2, shift(7, at(50), at(500))).await);
    assert!(stale.contains("stands at 1% and not at 0.5%"), "{stale}");
    refusal(send(&flags, 3, shift(7, at(500), at(500))).await);
    refusal(send(&flags, 4, shift(7, Exposure::none(), with_tier(50, "internal"))).await);
    let renamed = Shift { canary: "89ab012".parse().unwrap(), ..shift(7, at(100), at(500)) };
    assert!(refusal(send(&flags, 5, renamed).await).contains("r7 ships 4567def and not 89ab012"));
    assert_eq!(flags.read(&shop()).await, Ok(at(100)), "nothing of it was set");
    assert_eq!(send(&flags, 6, shift(7, at(100), at(500))).await, Ok(at(500)));
}

#[tokio::test]
async fn what_takes_away_is_taken_whatever_it_believes() {
    for (believed, to) in [(at(9_000), at(400)), (at(9_000), Exposure::none()), (with_tier(1, "internal"), at(500))] {
        let flags = flags();
        send(&flags, 1, shift(7, Exposure::none(), at(500))).await.unwrap();
        assert_eq!(send(&flags, 2, shift(7, believed, to.clone())).await, Ok(to));
    }
}

#[tokio::test]
async fn after_a_restart_what_stood_is_put_back_and_nothing_more() {
    let reasserted = |from, to| rails::reassert(shift(7, from, to)).unwrap();
    let restarted = flags();
    let early = refusal(send(&restarted, 1, shift(7, at(500), at(1_000))).await);
    assert!(early.contains("put 5% back in force"), "{early}");
    assert_eq!(restarted.shift(RequestId(2), &reasserted(at(500), at(500))).await, Ok(at(500)));
    assert_eq!(send(&restarted, 3, shift(7, at(500), at(1_000))).await, Ok(at(1_000)));

    let rolled_back = flags();
    assert_eq!(
        rolled_back.shift(RequestId(1), &reasserted(at(500), Exposure::none())).await,
        Ok(Exposure::none()),
        "a rollback needs nothing to be put back first"
    );
    assert_eq!(send(&flags(), 1, shift(7, Exposure::none(), at(100))).await, Ok(at(100)), "a first step neither");
}

#[tokio::test]
async fn the_next_rollout_starts_where_the_last_one_ended() {
    let flags = flags();
    send(&flags, 1, shift(7, Exposure::none(), at(10_000))).await.unwrap();
    let next = |from, to| Shift {
        control: Some(NEW.parse().unwrap()),
        canary: "89ab012".parse().unwrap(),
        ..shift(8, from, to)
    };
    assert_eq!(send(&flags, 2, next(Exposure::none(), at(100))).await, Ok(at(100)));
    let late = refusal(send(&flags, 3, shift(7, Exposure::none(), at(100))).await);
    assert!(late.contains("r8 has taken over shop"), "{late}");
    assert_eq!(send(&flags, 4, shift(7, Exposure::none(), Exposure::none())).await, Ok(Exposure::none()));
    assert_eq!(flags.read(&shop()).await, Ok(at(100)), "a rollout that has nothing to take away takes nothing");
    assert_eq!(send(&flags, 5, shift(7, at(10_000), Exposure::none())).await, Ok(Exposure::none()));
    assert_eq!(flags.read(&shop()).await, Ok(Exposure::none()), "an older rollout may still be taken back");
}

#[tokio::test]
async fn a_restart_puts_several_rollouts_back_in_any_order() {
    let finished = || rails::reassert(shift(7, at(10_000), at(10_000))).unwrap();
    let undone = || rails::reassert(shift(8, Exposure::none(), Exposure::none())).unwrap();
    let open = || rails::reassert(shift(9, at(500), at(500))).unwrap();
    let restarted = flags();
    for (request, shift) in (1..).zip([finished(), undone(), open()]) {
        restarted.shift(RequestId(request), &shift).await.unwrap();
    }
    assert_eq!(restarted.read(&shop()).await, Ok(at(500)));
    let restarted = flags();
    for (request, shift) in (1..).zip([open(), undone()]) {
        restarted.shift(RequestId(request), &shift).await.unwrap();
    }
    assert_eq!(restarted.read(&shop()).await, Ok(at(500)));
    refusal(restarted.shift(RequestId(3), &finished()).await);
}

#[test]
fn of_two_that_raise_at_once_one_is_taken() {
    for _ in 0..50 {
        let flags = flags();
        let start = Barrier::new(8);
        let taken: usize = thread::scope(|scope| {
            let racers: Vec<_> = (0..8_u16)
                .map(|racer| {
                    let (flags, start) = (flags.clone(), &start);
                    scope.spawn(move || {
                        let raise = cleared(shift(7, Exposure::none(), with_tier(100, &racer.to_string())));
                        start.wait();
                        usize::from(now(flags.shift(RequestId(racer.into()), &raise)).is_ok())
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).sum()
        });
        assert_eq!(taken, 1);
        assert_eq!(flags.state("new-shop").unwrap().version, 1);
    }
}

#[test]
fn what_is_configured_wrongly_is_refused_with_its_name() {
    let refused = |flags: &[(&str, &str, FlagValue)]| match configured(flags) {
        Err(Error::Refused(why)) => why.to_string(),
        other => panic!("was not refused: {other:?}"),
    };
    let one = |key: &str| refused(&[("shop", key, FlagValue::Boolean)]);
    for key in ["", ".", "..", "-x", "a/b", "a b", "a%2fb", "flág", &"a".repeat(KEY_BYTES_MAX + 1)] {
        assert!(one(key).contains("no flag key for shop"), "{key}");
    }
    assert!(configured(&[("shop", &"a".repeat(KEY_BYTES_MAX), FlagValue::Boolean)]).is_ok());
    let twice = refused(&[("cart", "new", FlagValue::Boolean), ("shop", "new", FlagValue::Boolean)]);
    assert!(twice.contains("two services share the flag `new`"), "{twice}");
    let many = |count: usize| Config {
        flags: (0..count)
            .map(|n| {
                (ServiceName::new(format!("s{n}")), FlagConfig { key: format!("f{n}"), value: FlagValue::Boolean })
            })
            .collect(),
    };
    assert!(Flags::new(&many(FLAGS_MAX)).is_ok());
    assert!(Flags::new(&many(FLAGS_MAX + 1)).is_err());
    let config: Config = serde_json::from_value(json!({"flags": {"shop": {"key": "k", "value": "revision"}}})).unwrap();
    assert_eq!(config.flags[&shop()], FlagConfig { key: "k".into(), value: FlagValue::Revision });
    assert!(serde_json::from_value::<Config>(json!({"flags": {"shop": {"key": "k", "value": "colour"}}})).is_err());
}

/// Serves the flags on a loopback port until the test's runtime ends.
async fn serve(flags: &Flags) -> SocketAddr {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = routes(flags.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}
