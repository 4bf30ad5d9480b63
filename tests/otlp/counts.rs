//! Exports made by hand, through the whole way to a tally: processes that come, go, restart and fall silent.

use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Metric, NumberDataPoint, metric::Data, number_data_point,
};
use tokio::time::sleep;
use tollgate::{
    domain::{Absence, Selector, ServiceName, Sli, Tally},
    telemetry::Provider,
};

use crate::house::{
    Asker, GONE, INTERVAL, LONG, NEW, OLD, Process, STALE, arms, counts, errors, nanos, send, send_to, start,
};

const MINUTE: u64 = 60_000_000_000;

/// Two arms of one process each, which have exported and are counted.
async fn pair() -> (Asker, Process, Process) {
    let mut asker = Asker::of(start(), &[errors()]);
    let (old, new) = (Process::new(OLD, "a"), Process::new(NEW, "b"));
    let begun = exported_while(&mut asker, &[(&old, &[("200", 5)]), (&new, &[("200", 5)])]).await;
    assert_eq!(arms(&begun, 0), [counts(0, 0), counts(0, 0)]);
    (asker, old, new)
}

/// A window that ends while these processes export what they show, again and again.
async fn exported_while(asker: &mut Asker, shown: &[(&Process, &[(&str, i64)])]) -> tollgate::telemetry::Answer {
    for (process, values) in shown {
        assert_eq!(send(&asker.otlp, process.export(nanos(), values)).await, (0, String::new()));
    }
    let address = asker.otlp.http_address().unwrap();
    let again: Vec<_> = shown.iter().map(|(process, values)| ((*process).clone(), values.to_vec())).collect();
    let exporting = async {
        loop {
            for (process, values) in &again {
                send_to(address, process.export(nanos(), values)).await;
            }
            sleep(INTERVAL / 2).await;
        }
    };
    tokio::select! {
        answer = asker.window() => answer,
        () = exporting => unreachable!("it exports for ever"),
    }
}

#[tokio::test]
async fn what_is_gained_between_two_rounds_is_told_once() {
    let (mut asker, old, new) = pair().await;
    let answer = exported_while(&mut asker, &[(&old, &[("200", 15)]), (&new, &[("200", 25), ("503", 2)])]).await;
    assert_eq!(arms(&answer, 0), [counts(0, 10), counts(2, 22)]);
    let answer = exported_while(&mut asker, &[(&old, &[("200", 15)]), (&new, &[("200", 25), ("503", 2)])]).await;
    assert_eq!(arms(&answer, 0), [counts(0, 0), counts(0, 0)]);
}

#[tokio::test]
async fn a_process_that_starts_again_counts_all_it_shows_even_beyond_its_old_value() {
    let (mut asker, old, mut new) = pair().await;
    let answer = exported_while(&mut asker, &[(&old, &[("200", 6)]), (&new, &[("200", 7)])]).await;
    assert_eq!(arms(&answer, 0), [counts(0, 1), counts(0, 2)]);
    new.started = nanos();
    let answer = exported_while(&mut asker, &[(&old, &[("200", 6)]), (&new, &[("200", 9)])]).await;
    assert_eq!(arms(&answer, 0), [counts(0, 0), counts(0, 9)]);
}

#[tokio::test]
async fn a_process_that_joins_counts_from_its_start_and_one_from_long_ago_from_its_first_export() {
    let (mut asker, old, new) = pair().await;
    let joined = Process::new(NEW, "joined");
    let mut ancient = Process::new(NEW, "ancient");
    ancient.started -= 60 * MINUTE;
    let shown: [(&Process, &[(&str, i64)]); 4] =
        [(&old, &[("200", 5)]), (&new, &[("200", 5)]), (&joined, &[("200", 40)]), (&ancient, &[("200", 9_000)])];
    let answer = exported_while(&mut asker, &shown).await;
    assert_eq!(arms(&answer, 0), [counts(0, 0), counts(0, 40)]);
    let shown: [(&Process, &[(&str, i64)]); 4] =
        [(&old, &[("200", 5)]), (&new, &[("200", 5)]), (&joined, &[("200", 41)]), (&ancient, &[("200", 9_002)])];
    let answer = exported_while(&mut asker, &shown).await;
    assert_eq!(arms(&answer, 0), [counts(0, 0), counts(0, 3)]);
}

#[tokio::test]
async fn delta_points_that_are_sent_again_or_late_count_once() {
    let mut asker = Asker::of(start(), &[errors()]);
    let (old, mut new) = (Process::new(OLD, "a"), Process::new(NEW, "b"));
    new.temporality = AggregationTemporality::Delta;
    let address = asker.otlp.http_address().unwrap();
    let began = nanos();
    let exporting = async {
        let mut through = began;
        loop {
            sleep(INTERVAL / 2).await;
            let from = std::mem::replace(&mut through, nanos());
            send_to(address, old.export(through, &[("200", 5)])).await;
            send_to(address, new.between(from, through, &[("200", 0)])).await;
        }
    };
    let asking = async {
        assert_eq!(arms(&asker.window().await, 0), [counts(0, 0), counts(0, 0)]);
        let earlier = |from: u64, to: u64, value: i64| new.between(began - from, began - to, &[("200", value)]);
        for (from, to, value) in [(90, 80, 10), (70, 60, 100), (80, 70, 1_000), (80, 70, 1_000), (90, 80, 10)] {
            assert_eq!(send(&asker.otlp, earlier(from, to, value)).await, (0, String::new()));
        }
        let (rejected, why) = send(&asker.otlp, earlier(65, 55, 7)).await;
        assert!(rejected == 1 && why.contains("covers a part"), "{why}");
        assert_eq!(arms(&asker.window().await, 0), [counts(0, 0), counts(0, 1_110)]);
        assert_eq!(arms(&asker.window().await, 0), [counts(0, 0), counts(0, 0)]);
    };
    tokio::select! {
        () = asking => {}
        () = exporting => {}
    }
}

#[tokio::test]
async fn a_clock_that_is_minutes_off_changes_nothing() {
    let mut asker = Asker::of(start(), &[errors()]);
    let (old, mut new) = (Process::new(OLD, "a"), Process::new(NEW, "b"));
    new.started -= 5 * MINUTE;
    let address = asker.otlp.http_address().unwrap();
    let value = std::sync::atomic::AtomicI64::new(5);
    let exporting = async {
        loop {
            let shown = value.load(std::sync::atomic::Ordering::SeqCst);
            send_to(address, old.export(nanos(), &[("200", shown)])).await;
            send_to(address, new.export(nanos() - 5 * MINUTE, &[("200", 2 * shown)])).await;
            sleep(INTERVAL / 2).await;
        }
    };
    let asking = async {
        let begun = asker.window().await;
        assert_eq!(arms(&begun, 0), [counts(0, 0), counts(0, 0)]);
        value.store(25, std::sync::atomic::Ordering::SeqCst);
        let mut told = [0, 0];
        while told != [20, 40] {
            for (sum, tally) in told.iter_mut().zip(arms(&asker.window().await, 0)) {
                let Ok(Tally::Counts(more)) = tally else { panic!("{tally:?}") };
                *sum += more.total;
            }
            assert!(told[0] <= 20 && told[1] <= 40, "{told:?}");
        }
    };
    tokio::select! {
        () = asking => {}
        () = exporting => {}
        () = sleep(LONG) => panic!("what was exported is not told"),
    }
}

#[tokio::test]
async fn a_silent_process_is_missed_then_given_up_and_what_it_counted_last_is_not_lost() {
    let (mut asker, old, new) = pair().await;
    let silent = Process::new(NEW, "silent");
    let both = [("200", 5)];
    let answer = exported_while(&mut asker, &[(&old, &both), (&new, &both), (&silent, &[("200", 1)])]).await;
    assert_eq!(arms(&answer, 0)[1], counts(0, 1));
    send(&asker.otlp, silent.export(nanos(), &[("200", 8)])).await;
    let address = asker.otlp.http_address().unwrap();
    let exporting = async {
        loop {
            for process in [&old, &new] {
                send_to(address, process.export(nanos(), &both)).await;
            }
            sleep(INTERVAL / 2).await;
        }
    };
    let asking = async {
        let mut sum = 0;
        let mut add = |answer: &tollgate::telemetry::Answer| {
            if let Ok(Tally::Counts(told)) = &arms(answer, 0)[1] {
                sum += told.total;
            }
        };
        sleep(STALE + 2 * INTERVAL).await;
        // Rounds before it was silent for too long may be told first.
        add(&asker.within(INTERVAL).await);
        let missed = asker.within(INTERVAL).await;
        let why = arms(&missed, 0)[1].clone();
        assert!(matches!(&why, Err(Absence::Unavailable(why)) if why.as_str().contains("silent")), "{why:?}");
        sleep(GONE).await;
        let answer = asker.window().await;
        assert!(arms(&answer, 0)[1].is_ok(), "the arm goes on without it: {answer:?}");
        add(&answer);
        assert_eq!(sum, 7);
    };
    tokio::select! {
        () = asking => {}
        () = exporting => {}
    }
}

#[tokio::test]
async fn where_nothing_was_ever_sent_there_is_no_data() {
    let mut asker = Asker::of(start(), &[errors()]);
    assert_eq!(arms(&asker.within(3 * INTERVAL).await, 0), [Err(Absence::NoData), Err(Absence::NoData)]);
    assert_eq!(asker.otlp.metrics(&crate::house::shop()).unwrap_err(), Absence::NoData);
    let unknown = asker.otlp.metrics(&ServiceName::new("other")).unwrap_err();
    assert!(matches!(unknown, Absence::Unavailable(why) if why.as_str().contains("other")));
}

#[tokio::test]
async fn a_gauge_that_is_no_longer_there_is_no_level() {
    let otlp = start();
    let mut asker = Asker::of(otlp, &[Sli::Level { gauge: Selector::metric("queue_length_ratio") }]);
    let (old, new) = (Process::new(OLD, "a"), Process::new(NEW, "b"));
    let address = asker.otlp.http_address().unwrap();
    let gauge = |level: f64, flags: u32| {
        let point = NumberDataPoint {
            time_unix_nano: nanos(),
            flags,
            value: (flags == 0).then_some(number_data_point::Value::AsDouble(level)),
            ..NumberDataPoint::default()
        };
        vec![Metric {
            name: "queue.length".into(),
            unit: "1".into(),
            data: Some(Data::Gauge(Gauge { data_points: vec![point] })),
            ..Metric::default()
        }]
    };
    let flags = std::sync::atomic::AtomicU32::new(0);
    let exporting = async {
        loop {
            let flags = flags.load(std::sync::atomic::Ordering::SeqCst);
            send_to(address, old.of(gauge(3.0, 0))).await;
            send_to(address, new.of(gauge(4.0, flags))).await;
            sleep(INTERVAL / 2).await;
        }
    };
    let asking = async {
        let [control, canary] = arms(&asker.window().await, 0);
        assert!(matches!(control, Ok(Tally::Samples(levels)) if levels.iter().all(|level| *level == 3.0)));
        assert!(matches!(canary, Ok(Tally::Samples(levels)) if levels.iter().all(|level| *level == 4.0)));
        flags.store(1, std::sync::atomic::Ordering::SeqCst);
        asker.window().await;
        let [control, canary] = arms(&asker.window().await, 0);
        assert!(control.is_ok());
        assert_eq!(canary, Err(Absence::NoData));
    };
    tokio::select! {
        () = asking => {}
        () = exporting => {}
    }
}
