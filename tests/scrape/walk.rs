//! Random walks: what is told over all windows is what was truly counted.

use rand::{Rng, SeedableRng, rngs::StdRng};
use tollgate::domain::{Arm, Tally};

use crate::pods::{Asker, Pods, SHORT, SOON, Shows, Told, arms, config, errors, targets, took};

/// A process with counters, as a client library would show them.
#[derive(Default)]
struct Process {
    started: u64,
    good: u64,
    bad: Option<u64>,
    fast: u64,
    slow: u64,
    fails: bool,
}

impl Process {
    fn gain(&mut self, random: &mut StdRng, truth: &mut Truth) {
        let (good, bad) = (random.random_range(0..50), random.random_range(0..4));
        self.good += good;
        if bad > 0 {
            *self.bad.get_or_insert(0) += bad;
        }
        let slow = random.random_range(0..=good + bad);
        self.slow += slow;
        self.fast += good + bad - slow;
        truth.bad += bad;
        truth.total += good + bad;
        truth.slow += slow;
    }

    fn restart(&mut self) {
        *self = Self { started: self.started + 60, ..Self::default() };
    }

    fn shows(&self) -> Shows {
        if self.fails {
            return Shows::Other { status: 503, kind: "text/plain", body: String::new() };
        }
        let bad = self.bad.map(|bad| format!("hits_total{{code=\"500\"}} {bad}\n")).unwrap_or_default();
        Shows::Metrics(format!(
            "process_start_time_seconds {}\nhits_total{{code=\"200\"}} {}\n{bad}\
             took_seconds_bucket{{le=\"0.5\"}} {}\ntook_seconds_bucket{{le=\"+Inf\"}} {}\n",
            self.started,
            self.good,
            self.fast,
            self.fast + self.slow
        ))
    }
}

#[derive(Debug, Default, PartialEq)]
struct Truth {
    bad: u64,
    total: u64,
    slow: u64,
}

impl Truth {
    fn add(&mut self, errors: &Told, took: &Told) {
        if let (Ok(Tally::Counts(counts)), Ok(Tally::Histogram(histogram))) = (errors, took) {
            self.bad += counts.bad;
            self.total += counts.total;
            self.slow += histogram.counts[1];
            assert_eq!(histogram.counts.iter().sum::<u64>(), counts.total, "two views of the same requests");
        } else {
            assert!(errors.is_err() && took.is_err(), "{errors:?} {took:?}");
        }
    }
}

/// Walks through windows with gains, restarts and failures of the canary's or control's pods, and gives back what was
/// told and what was true, of control and canary.
async fn walk(seed: u64, may_fail: Arm) -> [[Truth; 2]; 2] {
    let mut random = StdRng::seed_from_u64(seed);
    let pods = Pods::start().await;
    let names = [["c0", "c1"], ["n0", "n1"]];
    let mut processes: [[Process; 2]; 2] = Default::default();
    let [mut told, mut truth]: [[Truth; 2]; 2] = Default::default();
    let publish = |processes: &[[Process; 2]; 2]| {
        let mut shows = pods.shows.lock().unwrap();
        for (name, process) in names.iter().flatten().zip(processes.iter().flatten()) {
            shows.insert((*name).to_owned(), process.shows());
        }
    };
    for process in processes.iter_mut().flatten() {
        process.gain(&mut random, &mut Truth::default());
    }
    publish(&processes);
    let urls = names.map(|arm| arm.map(|name| pods.url(name)));
    let checks = vec![errors(), took()];
    let mut asker = Asker::with(config(targets(&urls[0], &urls[1])), checks);
    asker.begin().await;
    for step in 0..30 {
        let last = step == 29;
        for (arm, pair) in processes.iter_mut().enumerate() {
            for process in pair {
                let was_read = !std::mem::replace(&mut process.fails, false);
                // A restart is seen by a counter that falls; what a pod counted unread before it died is lost to all.
                if was_read && process.good > 60 && random.random_bool(0.15) {
                    process.restart();
                }
                process.gain(&mut random, &mut truth[arm]);
                let may_fail = (may_fail == Arm::Canary) == (arm == 1);
                process.fails = !last && may_fail && random.random_bool(0.1);
            }
        }
        publish(&processes);
        let fails = processes.iter().flatten().any(|process| process.fails);
        let answer = asker.window(if fails { SHORT } else { SOON }).await;
        let ([errors_control, errors_canary], [took_control, took_canary]) = (arms(&answer, 0), arms(&answer, 1));
        told[0].add(&errors_control, &took_control);
        told[1].add(&errors_canary, &took_canary);
    }
    // What was told of the canary alone may have ended before the last gains of both.
    let ([errors_control, errors_canary], [took_control, took_canary]) = {
        let answer = asker.window(SOON).await;
        (arms(&answer, 0), arms(&answer, 1))
    };
    told[0].add(&errors_control, &took_control);
    told[1].add(&errors_canary, &took_canary);
    [told, truth]
}

#[tokio::test]
async fn windows_in_a_row_add_up_to_the_truth_whatever_the_canary_does() {
    for seed in 0..3 {
        let [told, truth] = walk(seed, Arm::Canary).await;
        assert_eq!(told, truth, "seed {seed}");
        assert!(truth[1].total > 500 && truth[1].bad > 20, "the walk went somewhere");
    }
}

#[tokio::test]
async fn the_canarys_windows_add_up_to_the_truth_whatever_control_does() {
    for seed in 10..13 {
        let [told, truth] = walk(seed, Arm::Control).await;
        assert_eq!(told[1], truth[1], "seed {seed}");
        assert!(told[0].total < truth[0].total, "what could be compared with nothing was not counted");
    }
}
