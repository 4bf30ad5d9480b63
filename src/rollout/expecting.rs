//! What the same hours of past days let expect of a check, where a stage leaves no control.
//!
//! History is long and raw, so it never enters the fleet: where it is read, [`expect`] learns from it what will be asked of
//! it, and only that comes back, as part of the event. A fold of the journal needs nothing else.
//!
//! The metric is a rate: bad for each of all in five minutes, or the mean of a gauge. Left out are windows that meet
//! another rollout of the service, and incidents: five minutes in which the check's own hard limit was broken.

use std::{ops::Range, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    domain::{Absence, Aim, Check, Direction, Reading, Sli, Tally, Text, Timestamp, Window},
    stats::{
        self,
        no_control::{Expectation, Missing, Past},
    },
};

/// How far back history is asked for: three weeks, so that each hour of the week was there three times.
pub const HISTORY_REACH: Duration = Duration::from_secs(21 * 86_400);
/// Length of a value of the metric.
pub(super) const STEP: Duration = Duration::from_secs(300);
const STEP_MINUTES: usize = 5;
const MINUTE: Duration = Duration::from_secs(60);
/// Shortest and longest time that is compared: windows of history are as long, so longer ones are fewer.
const WATCH_LEAST: Duration = Duration::from_secs(1_800);
pub(super) const WATCH_MOST: Duration = Duration::from_secs(6 * 3_600);
/// Longest block of history that shows what five minutes are like.
const BLOCK_MOST: Duration = Duration::from_secs(3_600);

/// The moment from which there is no control any more.
#[derive(Clone, Debug, PartialEq)]
pub struct Switch {
    /// When it was.
    pub at: Timestamp,
    /// How long it is watched from then on.
    pub watch: Duration,
    /// When other rollouts of the service had traffic.
    pub left_out: Vec<Window>,
}

/// What was summed up of one step: `sum` of `n`, bad of all or a gauge's readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Step {
    sum: f64,
    n: f64,
}

impl Step {
    /// What a reading says; `None` where it says nothing.
    pub(super) fn of(check: &Check, reading: &Reading) -> Option<Self> {
        let step = match (&check.sli, &reading.tally) {
            (Sli::Level { .. }, Tally::Samples(samples)) => Self { sum: samples.iter().sum(), n: samples.len() as f64 },
            (_, tally) => {
                let counts = stats::counts(check, tally)?;
                Self { sum: counts.bad as f64, n: counts.total as f64 }
            }
        };
        (step.n > 0.0 && step.sum.is_finite()).then_some(step)
    }

    pub(super) fn add(&mut self, more: Self) {
        let sum = self.sum + more.sum;
        if sum.is_finite() {
            *self = Self { sum, n: self.n + more.n };
        }
    }

    /// What it is for each of all; `None` where nothing was seen.
    fn value(self) -> Option<f64> {
        (self.n > 0.0).then(|| self.sum / self.n)
    }

    fn is_incident(self, check: &Check) -> bool {
        let is_counted = !matches!(check.sli, Sli::Level { .. });
        check.limit.filter(|_| is_counted).is_some_and(|limit| {
            self.n >= limit.total_min as f64
                && self.sum >= limit.bad_min as f64
                && self.value().is_some_and(|rate| rate > limit.bad_share_max)
        })
    }
}

/// Steps as the statistics want them: a value for each minute.
pub(super) fn by_minute(steps: &[Step]) -> Vec<Option<f64>> {
    steps.iter().flat_map(|step| std::iter::repeat_n(step.value(), STEP_MINUTES)).collect()
}

/// Why history says nothing of this check, whatever it holds; `None` where it may.
pub fn has_no_level(check: &Check) -> Option<&'static str> {
    match (check.aim, &check.sli) {
        (Aim::Improvement, _) => Some("an intended effect is compared with control only"),
        (Aim::Guard, Sli::Mix { .. }) => Some("a mix has no level that past days could show"),
        (Aim::Guard, _) => None,
    }
}

/// Which way is worse for the rate that is compared: where less of a ratio is worse, what is missing is counted.
fn direction(check: &Check) -> Direction {
    match check.sli {
        Sli::Level { .. } | Sli::EventsPerTraffic { .. } => check.direction,
        Sli::Ratio { .. } | Sli::Latency { .. } | Sli::Mix { .. } | Sli::Liveness { .. } | Sli::Probe { .. } => {
            Direction::HigherIsWorse
        }
    }
}

/// How long from a switch a stage of this length is compared.
pub(super) fn watched(stage: Duration) -> Duration {
    stage.clamp(WATCH_LEAST, WATCH_MOST)
}

/// Learns from what the old version showed, block after block of `every`, the last of which ended at `ends`. What is
/// after the switch is not looked at. Fails, in words, where nothing can be said.
pub fn expect(
    check: &Check,
    switch: &Switch,
    (every, blocks, ends): (Duration, &[Result<Reading, Absence>], Timestamp),
) -> Result<Expectation, Text> {
    if let Some(why) = has_no_level(check) {
        return Err(Text::new(why));
    }
    if every.is_zero() || every > BLOCK_MOST {
        return Err(Text::new(format!("history in blocks of {} s shows no five minutes", every.as_secs())));
    }
    let (mut steps, begins) = steps(check, switch.at, every, blocks, ends);
    let mut left_out = minutes_of(&switch.left_out, begins, switch.at);
    for (at, step) in steps.iter_mut().enumerate().filter(|(_, step)| step.is_incident(check)) {
        // Nor does it say what tomorrow at this time will be like.
        *step = Step::default();
        left_out.push(at * STEP_MINUTES..(at + 1) * STEP_MINUTES);
    }
    let target = by_minute(&steps);
    let step = STEP.as_secs();
    let watch = usize::try_from(watched(switch.watch).as_secs().div_ceil(step)).unwrap_or(usize::MAX);
    let watch = watch.saturating_mul(STEP_MINUTES);
    let past = Past { target: &target, siblings: &[], watch, direction: direction(check), left_out: &left_out };
    let expectation = Expectation::learn(&past);
    match expectation.missing() {
        None => Ok(expectation),
        Some(missing) => Err(Text::new(in_words(missing, expectation.windows().1))),
    }
}

/// The steps up to the switch, the oldest first, and when they begin: no earlier than there is history.
fn steps(
    check: &Check,
    at: Timestamp,
    every: Duration,
    blocks: &[Result<Reading, Absence>],
    ends: Timestamp,
) -> (Vec<Step>, Timestamp) {
    let known = every.saturating_mul(u32::try_from(blocks.len()).unwrap_or(u32::MAX));
    let before = known.saturating_sub(ends.since(at)).min(HISTORY_REACH);
    let n = usize::try_from(before.as_millis() / STEP.as_millis()).unwrap_or(0);
    let begins = at - STEP * u32::try_from(n).unwrap_or(0);
    let mut steps = vec![Step::default(); n];
    for (back, block) in blocks.iter().rev().enumerate() {
        let end = ends - every.saturating_mul(u32::try_from(back).unwrap_or(u32::MAX));
        let start = end - every;
        if end > at {
            continue;
        }
        if end <= begins {
            break;
        }
        let Some(seen) = block.as_ref().ok().and_then(|reading| Step::of(check, reading)) else { continue };
        // A block that is longer than a step is what each step in it was like.
        let index = |time: Timestamp| (time.since(begins).as_millis() / STEP.as_millis()) as usize;
        let last = index(end - Duration::from_millis(1));
        let first = if every > STEP { index(start) } else { last };
        steps.iter_mut().take(last + 1).skip(first).for_each(|step| step.add(seen));
    }
    (steps, begins)
}

/// Spans of time as minutes from the beginning of history.
fn minutes_of(spans: &[Window], begins: Timestamp, at: Timestamp) -> Vec<Range<usize>> {
    let minute = |time: Timestamp| usize::try_from(time.since(begins).as_millis() / MINUTE.as_millis()).unwrap_or(0);
    let is_within = |span: &&Window| span.through > begins && span.after < at;
    spans.iter().filter(is_within).map(|span| minute(span.after)..minute(span.through) + 1).collect()
}

fn in_words(missing: Missing, left_out: usize) -> String {
    match missing {
        Missing::Windows(n, needed) if left_out > 0 => {
            format!("history has {n} windows like this one, {needed} are needed ({left_out} were left out)")
        }
        Missing::Windows(n, needed) => format!("history has {n} windows like this one, {needed} are needed"),
        Missing::SinceTheSwitch => "nothing was seen since".into(),
        Missing::BeforeTheSwitch => "history lacks the days or the hour before".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Counts, HardLimit},
        sim::scenario,
    };

    const AT: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn check() -> Check {
        scenario::bounds().mandatory[0].clone()
    }

    fn block(bad: u64, total: u64) -> Result<Reading, Absence> {
        Ok(Reading::whole(Tally::Counts(Counts { bad, total })))
    }

    /// So many days of blocks of five minutes, about 1% bad.
    fn days(days: usize) -> Vec<Result<Reading, Absence>> {
        (0..days * 288).map(|i| block(10 + (i * i % 7) as u64, 1_000)).collect()
    }

    fn switch(left_out: Vec<Window>) -> Switch {
        Switch { at: AT, watch: HOUR, left_out }
    }

    fn learn(blocks: &[Result<Reading, Absence>], switch: &Switch) -> Result<Expectation, Text> {
        expect(&check(), switch, (STEP, blocks, AT))
    }

    #[test]
    fn a_week_is_enough_and_two_days_are_not_which_is_said() {
        let (windows, left_out) = learn(&days(7), &switch(Vec::new())).unwrap().windows();
        assert!(windows >= 19 && left_out == 0, "{windows}");
        let why = learn(&days(2), &switch(Vec::new())).unwrap_err();
        assert!(why.as_str().contains("history lacks") || why.as_str().contains("are needed"), "{why}");
        assert!(learn(&[], &switch(Vec::new())).is_err());
    }

    #[test]
    fn other_rollouts_and_broken_hard_limits_are_left_out() {
        let mut history = days(10);
        let all = learn(&history, &switch(Vec::new())).unwrap().windows();
        let day = HOUR * 24;
        let span = Window { after: AT - day, through: AT - day + HOUR };
        let without = learn(&history, &switch(vec![span])).unwrap().windows();
        assert!(without.1 >= 1 && without.0 < all.0, "{without:?} of {all:?}");
        // Spans before history, and after the switch, leave nothing out.
        let long_ago = Window { after: AT - day * 40, through: AT - day * 39 };
        let later = Window { after: AT, through: AT + HOUR };
        assert_eq!(learn(&history, &switch(vec![long_ago, later])).unwrap().windows(), all);
        let limit = check().limit.unwrap_or(HardLimit { bad_share_max: 0.2, total_min: 20, bad_min: 5 });
        let bad = (limit.bad_share_max * 1_000.0) as u64 + 2;
        history[10 * 288 - 500] = block(bad, 1_000);
        let incident = learn(&history, &switch(Vec::new())).unwrap().windows();
        assert!(check().limit.is_some() && incident.1 >= 1, "{incident:?}");
    }

    #[test]
    fn what_came_after_the_switch_is_not_looked_at() {
        let (mut history, before) = (days(7), days(7));
        history.extend((0..24).map(|_| block(900, 1_000)));
        let late = expect(&check(), &switch(Vec::new()), (STEP, &history, AT + HOUR * 2)).unwrap();
        assert_eq!(late, learn(&before, &switch(Vec::new())).unwrap());
    }

    #[test]
    fn blocks_of_any_length_show_the_same_rate_but_for_those_beyond_an_hour() {
        let values = |every: Duration, n: usize| {
            let blocks: Vec<_> = (0..n).map(|_| block(2, 100)).collect();
            by_minute(&steps(&check(), AT, every, &blocks, AT).0)
        };
        for (every, n) in [(15, 240), (60, 60), (300, 12), (900, 4), (3_600, 1)] {
            assert_eq!(values(Duration::from_secs(every), n), vec![Some(0.02); 60], "{every}");
        }
        let hours: Vec<_> = days(7).into_iter().step_by(24).collect();
        assert!(expect(&check(), &switch(Vec::new()), (HOUR * 2, &hours, AT)).is_err());
        assert!(expect(&check(), &switch(Vec::new()), (Duration::ZERO, &hours, AT)).is_err());
    }

    #[test]
    fn what_has_no_level_says_so() {
        let improvement = Check { aim: Aim::Improvement, ..check() };
        let why = expect(&improvement, &switch(Vec::new()), (STEP, &days(7), AT)).unwrap_err();
        assert!(why.as_str().contains("intended effect"));
    }
}
