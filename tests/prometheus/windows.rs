//! Windows: where they lie, what is asked for them, and what comes of pods that fall silent.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tollgate::{
    domain::{Absence, Arm},
    telemetry::{Provider, prometheus},
};

use super::{
    CANARY, EPOCH, Time, arms, ask, asked, config, counts, errors,
    fake::{Fake, Labels, Sample, Store},
    labels, measure, millis, service, took,
};

fn target(version: &str, pod: &str, code: &str) -> Labels {
    labels(&[("app", "shop"), ("version", version), ("instance", pod), ("job", "shop"), ("code", code)])
}

/// Both arms, a pod each, scraped every 15 s: control serves 1 request a second, the canary 2.
fn steady(until: u64) -> Store {
    let mut store = Store::default();
    for at in (0..=until).step_by(15) {
        for (version, rate) in [("stable", 1), (CANARY, 2)] {
            let sample = Sample { at: EPOCH + millis(at), stored: EPOCH + millis(at), value: (at * rate) as f64 };
            store.put("hits_total", &target(version, "p", "200"), sample);
        }
    }
    store
}

#[tokio::test]
async fn a_window_lies_on_the_grid_and_costs_a_query_for_each_metric_of_both_arms_together() {
    let time = Time::at(EPOCH + millis(600));
    let fake = Fake::start(Arc::new(Mutex::new(steady(600))), time.clone()).await;
    let answer = measure(
        config(&fake.url, service()),
        &time,
        ask(&time, asked(vec![errors(), took()]), EPOCH + 301_000, EPOCH + 395_000),
    )
    .await;
    assert_eq!(answer.through.as_millis(), EPOCH + millis(405));
    assert_eq!(answer.measurements[0].window.after.as_millis(), EPOCH + millis(315));
    assert_eq!(arms(&answer, 0), [counts(0, 90), counts(0, 180)]);
    assert_eq!(arms(&answer, 1), [Err(Absence::NoData), Err(Absence::NoData)]);
    let queries = fake.queries.lock().unwrap().clone();
    let of = |metric: &str| queries.iter().filter(|query| query.contains(&format!("__name__=\"{metric}\""))).count();
    assert_eq!(
        (of("hits_total"), of("took_seconds_bucket"), of("process_start_time_seconds")),
        (1, 1, 1),
        "{queries:?}"
    );
    assert!(queries.iter().all(|query| query.contains("version=~\"abcdef0|stable\"")), "{queries:?}");
}

#[tokio::test]
async fn an_answer_waits_until_samples_have_settled() {
    let time = Time::at(EPOCH + millis(404));
    let fake = Fake::start(Arc::new(Mutex::new(steady(600))), time.clone()).await;
    let provider = Arc::new(prometheus::start(config(&fake.url, service()), time.clock()).unwrap());
    let wanted = ask(&time, asked(vec![errors()]), EPOCH + millis(390), EPOCH + millis(400));
    let answering = tokio::spawn({
        let provider = Arc::clone(&provider);
        async move { provider.measure(wanted).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(fake.queries.lock().unwrap().is_empty(), "the round at 405 is to be read at 410");
    time.set(EPOCH + millis(411));
    let answer = tokio::time::timeout(Duration::from_secs(30), answering).await.unwrap().unwrap();
    assert_eq!(arms(&answer, 0), [counts(0, 15), counts(0, 30)]);
}

#[tokio::test]
async fn a_pod_that_falls_silent_keeps_its_arm_from_being_told_until_it_is_gone() {
    let store = Arc::new(Mutex::new(steady(1_200)));
    for at in (0..300).step_by(15) {
        let sample = Sample { at: EPOCH + millis(at), stored: EPOCH + millis(at), value: at as f64 };
        store.lock().unwrap().put("hits_total", &target(CANARY, "q", "200"), sample);
    }
    let time = Time::at(EPOCH);
    let fake = Fake::start(store, time.clone()).await;
    let provider = prometheus::start(config(&fake.url, service()), time.clock()).unwrap();
    let window = async |after: u64, through: u64| {
        time.set(EPOCH + millis(through + 6));
        let mut wanted = ask(&time, asked(vec![errors()]), EPOCH + millis(after), EPOCH + millis(through));
        wanted.no_later_than = wanted.through + Duration::from_secs(7);
        provider.measure(wanted).await
    };
    let answer = window(240, 360).await;
    assert_eq!(arms(&answer, 0), [counts(0, 120), counts(0, 240 + 45)]);
    let answer = window(360, 480).await;
    let [_, canary] = arms(&answer, 0);
    assert_eq!((answer.through.as_millis(), canary.is_ok()), (EPOCH + millis(405), true), "as far as q may still come");
    let answer = window(405, 480).await;
    let [control, canary] = arms(&answer, 0);
    assert_eq!(
        (control, answer.through.as_millis()),
        (Err(Absence::NoData), EPOCH + millis(405)),
        "nothing is used up"
    );
    assert!(
        matches!(&canary, Err(Absence::Unavailable(why)) if why.as_str().contains("q has shown nothing for")),
        "{canary:?}"
    );
    let answer = window(405, 600).await;
    assert_eq!(arms(&answer, 0), [counts(0, 195), counts(0, 390)], "gone, and nothing of the others is lost");
    time.set(EPOCH + millis(1_200));
    let all: u64 = answer.measurements.iter().filter(|m| m.arm == Arm::Canary).count() as u64;
    assert_eq!(all, 1);
}

#[tokio::test]
async fn arms_that_bear_other_labels_are_asked_for_apart() {
    let time = Time::at(EPOCH + millis(600));
    let fake = Fake::start(Arc::new(Mutex::new(steady(600))), time.clone()).await;
    let apart = prometheus::Service { control: labels(&[("version", "stable")]), ..service() };
    let answer =
        measure(config(&fake.url, apart), &time, ask(&time, asked(vec![errors()]), EPOCH + 300_000, EPOCH + 390_000))
            .await;
    assert_eq!(arms(&answer, 0), [counts(0, 90), counts(0, 180)]);
    assert!(fake.queries.lock().unwrap().iter().all(|query| !query.contains("=~")));
}
