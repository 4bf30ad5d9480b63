//! The past, read long after it happened and far ahead of what is asked for: window after window it is what would have
//! been answered then.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tollgate::{
    domain::{Absence, Timestamp},
    telemetry::{Provider, prometheus},
};

use super::{
    EPOCH, Time, arms, ask, asked, config, errors,
    fake::{Fake, Store},
    millis, service, took,
    truth::{LENGTH, World},
};

const SEEDS: u64 = 60;
const INTERVAL: u64 = 15_000;
const WINDOW: u64 = 40_000;

/// Long after all that happened.
const LATER: u64 = EPOCH + 30 * 86_400_000;

#[tokio::test]
async fn windows_of_the_past_are_answered_as_they_would_have_been_and_cost_far_fewer_queries() {
    let (mut compared, mut then, mut now) = (0, 0, 0);
    for seed in 0..SEEDS {
        let world = World::from_seed(seed);
        if world.is_late {
            continue;
        }
        let store = Arc::new(Mutex::new(world.store()));
        let (time, later) = (Time::at(EPOCH), Time::at(LATER));
        let live_server = Fake::start(Arc::clone(&store), time.clone()).await;
        let past_server = Fake::start(store, later.clone()).await;
        let hour = Duration::from_secs(3_600);
        let service = prometheus::Service { lookback: hour, stale_after: hour, gone_after: hour, ..service() };
        let live = prometheus::start(config(&live_server.url, service.clone()), time.clock()).unwrap();
        let past = prometheus::start(config(&past_server.url, service), later.clock()).unwrap();
        let mut after = EPOCH + LENGTH / 4 / INTERVAL * INTERVAL;
        while after + WINDOW < EPOCH + LENGTH - millis(120) {
            let through = after + WINDOW;
            time.set(through.div_ceil(INTERVAL) * INTERVAL + 5_000);
            let wanted = ask(&time, asked(vec![errors(), took()]), after, through);
            let expected = live.measure(wanted.clone()).await;
            let ends = Timestamp::from_millis(EPOCH + LENGTH);
            let (at, answer) =
                past.measure_past(&wanted, Timestamp::from_millis(through), ends).await.unwrap().unwrap();
            assert_eq!(answer, expected, "seed {seed}, after {} s", (after - EPOCH) / 1_000);
            assert_eq!(at.as_millis(), time.now(), "as soon as the round had settled");
            after = expected.through.as_millis();
            compared += 1;
        }
        then += live_server.queries.lock().unwrap().len();
        now += past_server.queries.lock().unwrap().len();
    }
    assert!(compared > 300, "{compared}");
    assert!(now * 4 < then, "{now} queries where {then} were sent then");
}

#[tokio::test]
async fn what_is_not_there_is_told_at_the_last_look_and_nothing_is_waited_for() {
    let later = Time::at(LATER);
    let fake = Fake::start(Arc::new(Mutex::new(Store::default())), later.clone()).await;
    let provider = prometheus::start(config(&fake.url, service()), later.clock()).unwrap();
    let mut wanted = ask(&later, asked(vec![errors()]), EPOCH, EPOCH + millis(60));
    wanted.no_later_than = Timestamp::from_millis(EPOCH + millis(140));
    let asked_at = Timestamp::from_millis(EPOCH + millis(60));
    let ends = Timestamp::from_millis(EPOCH + millis(3_600));
    let (at, answer) = provider.measure_past(&wanted, asked_at, ends).await.unwrap().unwrap();
    assert_eq!(arms(&answer, 0), [Err(Absence::NoData), Err(Absence::NoData)]);
    // Five seconds, the timeout, before the deadline.
    assert_eq!((at.as_millis(), answer.through), (EPOCH + millis(135), wanted.after));
    let ends = Timestamp::from_millis(EPOCH + millis(134));
    assert_eq!(provider.measure_past(&wanted, asked_at, ends).await, Ok(None), "history ends before the last look");
}

#[tokio::test]
async fn a_server_that_does_not_answer_now_says_nothing_of_then() {
    let later = Time::at(LATER);
    let provider = prometheus::start(config("http://127.0.0.1:9", service()), later.clock()).unwrap();
    let wanted = ask(&later, asked(vec![errors()]), EPOCH, EPOCH + millis(60));
    let ends = Timestamp::from_millis(EPOCH + millis(3_600));
    let failed = provider.measure_past(&wanted, wanted.through, ends).await;
    assert!(matches!(&failed, Err(Absence::Unavailable(why)) if why.as_str().contains("127.0.0.1:9")), "{failed:?}");
    assert!(matches!(provider.retention().await, Err(Absence::Unavailable(_))));
}
