//! The rounds that are kept of one pair of arms, and which of them make up a window.
//!
//! # Which rounds are a window
//! A round reads every target of both arms. An arm is *read* in a round when all its targets were; what it gained is
//! everything since the round in which it was last read, so a reading that fails delays gains and never loses them. A
//! window of a test compares the arms over the same time, so it reaches from one round in which both were read to a
//! later one, and the sums between are exact whatever failed in the middle. A window never begins before the time asked
//! for: gains from before a traffic split must not be counted to the next. Where `after` lies between two rounds, the
//! window begins at the later one.
//!
//! When no such window ends up to the deadline, the canary is answered alone, because an absolute limit on it needs no
//! control; what control gained in that time can be compared with nothing any more and is dropped, and control is
//! counted again from the next round in which both are read. When the canary cannot be answered, nothing is used up:
//! the answer ends where the ask began, and the next window covers the gap for both arms.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{
    gain::tally,
    parts::{self, ANSWER_CELLS_MAX, Gained},
};
use crate::{
    domain::{Absence, Arm, Measurement, Text, Timestamp, Window},
    telemetry::{Answer, Ask, AskedCheck},
};

/// Most rounds that are kept.
pub const ROUNDS_MAX: usize = 4_096;
/// Most numbers that are kept in all rounds of one pair; some 8 to 16 bytes each. Beyond it the oldest rounds lose their
/// parts first; only when none has parts any more are rounds forgotten.
pub const CELLS_MAX: usize = 2_000_000;

/// An SLI's number within one pair of arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::telemetry) struct SliId(pub(in crate::telemetry) u64);

/// What became of one arm in one round.
#[derive(Clone, Debug)]
pub(in crate::telemetry) enum Reading {
    /// All targets were read: what each SLI gained since the arm was last read.
    Read(BTreeMap<SliId, Gained>),
    /// Some target was not.
    Missed(Absence),
}

impl Reading {
    fn gains(&self) -> Option<&BTreeMap<SliId, Gained>> {
        match self {
            Self::Read(gains) => Some(gains),
            Self::Missed(_) => None,
        }
    }

    fn missed(&self) -> Option<Absence> {
        match self {
            Self::Read(_) => None,
            Self::Missed(why) => Some(why.clone()),
        }
    }
}

/// One reading of all targets.
#[derive(Clone, Debug)]
pub(in crate::telemetry) struct Round {
    pub(in crate::telemetry) time: Timestamp,
    pub(in crate::telemetry) control: Reading,
    pub(in crate::telemetry) canary: Reading,
}

impl Round {
    fn arm(&self, arm: Arm) -> &Reading {
        match arm {
            Arm::Control => &self.control,
            Arm::Canary => &self.canary,
        }
    }

    fn has_read(&self, arm: Arm) -> bool {
        self.arm(arm).gains().is_some()
    }

    fn has_read_both(&self) -> bool {
        self.has_read(Arm::Control) && self.has_read(Arm::Canary)
    }

    fn cells(&self) -> usize {
        let gains = [&self.control, &self.canary].into_iter().filter_map(Reading::gains).flatten();
        4 + gains.map(|(_, gained)| 2 + gained.whole.cells() + gained.parts.cells()).sum::<usize>()
    }

    fn leave_out_parts(&mut self) {
        for reading in [&mut self.control, &mut self.canary] {
            if let Reading::Read(gains) = reading {
                gains.values_mut().for_each(|gained| gained.parts.leave_out());
            }
        }
    }
}

/// Whether an answer may still wait for a later round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::telemetry) enum Patience {
    /// A later round may come in time.
    Left,
    /// The deadline has come.
    Over,
}

/// The rounds of one pair, oldest first.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Rounds {
    kept: VecDeque<Round>,
    cells: usize,
    forgotten_through: Option<Timestamp>,
    without_parts_through: Option<Timestamp>,
    newest: Option<Timestamp>,
}

/// Which part of the rounds an answer is made of.
enum Span {
    Both { after: Timestamp, through: Timestamp },
    CanaryAlone { after: Timestamp, through: Timestamp },
    Nothing,
}

impl Rounds {
    /// The time of a round that is sent now: later than every one before, though the clock be set back.
    pub(in crate::telemetry) fn next_time(&mut self, now: Timestamp) -> Timestamp {
        let time = self.newest.map_or(now, |newest| now.max(newest + Duration::from_millis(1)));
        self.newest = Some(time);
        time
    }

    /// Takes in a round, and forgets those older than `keep` or beyond the limits.
    pub(in crate::telemetry) fn push(&mut self, round: Round, keep: Duration) {
        let oldest = round.time - keep;
        self.cells += round.cells();
        self.kept.push_back(round);
        let without_parts = self.without_parts_through;
        for round in self.kept.iter_mut().skip_while(|round| Some(round.time) <= without_parts) {
            if self.cells <= CELLS_MAX {
                break;
            }
            self.cells -= round.cells();
            round.leave_out_parts();
            self.cells += round.cells();
            self.without_parts_through = Some(round.time);
        }
        while let Some(front) = self.kept.front() {
            let fits = self.kept.len() <= ROUNDS_MAX && self.cells <= CELLS_MAX;
            if fits && front.time >= oldest {
                break;
            }
            self.cells -= front.cells();
            self.forgotten_through = Some(front.time);
            self.kept.pop_front();
        }
    }

    /// The answer, once there is one: `slis` are the numbers of the ask's checks, in its order.
    pub(in crate::telemetry) fn answer(&self, ask: &Ask, slis: &[SliId], patience: Patience) -> Option<Answer> {
        if self.forgotten_through.is_some_and(|forgotten| ask.after <= forgotten) {
            return Some(self.too_old(ask));
        }
        let span = self.span(ask, patience)?;
        let counted: &[Arm] = match span {
            Span::Both { .. } => &[Arm::Control, Arm::Canary],
            Span::CanaryAlone { .. } | Span::Nothing => &[Arm::Canary],
        };
        let (through, control, canary) = match span {
            Span::Both { after, through } => {
                let window = Window { after, through };
                (through, Told::Tally(window), Told::Tally(window))
            }
            Span::CanaryAlone { after, through } => {
                let why = self.why_control_is_missing(ask.after);
                (through, Told::Absence(why), Told::Tally(Window { after, through }))
            }
            Span::Nothing => {
                let why = |arm| Told::Absence(self.why_nothing(arm, ask.after));
                (ask.after, why(Arm::Control), why(Arm::Canary))
            }
        };
        let nowhere = Window { after: ask.after, through };
        let mut room = ANSWER_CELLS_MAX;
        let mut measurements = Vec::new();
        for (asked, id) in ask.checks.iter().zip(slis) {
            let mut arms = [(Arm::Control, &control), (Arm::Canary, &canary)].map(|(arm, told)| {
                let (window, gains) = match told {
                    Told::Tally(window) => self.gains(arm, counted, *id, *window),
                    Told::Absence(why) => (nowhere, Err(why.clone())),
                };
                measured(asked, arm, window, gains)
            });
            let [(_, control), (_, canary)] = &arms;
            let parts = parts::of_window(&asked.sli, [control, canary]);
            let cells = parts.iter().map(|parts| parts::cells(parts)).sum();
            if let Some(left) = room.checked_sub(cells) {
                room = left;
                arms.iter_mut().zip(parts).for_each(|((measurement, _), parts)| measurement.parts = parts);
            }
            measurements.extend(arms.map(|(measurement, _)| measurement));
        }
        Some(Answer { through, measurements })
    }

    fn span(&self, ask: &Ask, patience: Patience) -> Option<Span> {
        let since = || self.kept.iter().filter(|round| round.time >= ask.after);
        let both = since().find(|round| round.has_read_both()).map(|round| round.time);
        let last_both = since().rfind(|round| round.has_read_both()).map(|round| round.time);
        let canary = since().find(|round| round.has_read(Arm::Canary)).map(|round| round.time);
        let last_canary = since().rfind(|round| round.has_read(Arm::Canary)).map(|round| round.time);
        let may_reply = patience == Patience::Over || last_both.is_some_and(|last| last >= ask.through);
        // The last answer ended in a round that only the canary was read in. Its gains from there to the next round
        // that is shared would fall between two windows, so they are told first.
        let from_alone = canary == Some(ask.after) && both != Some(ask.after);
        match (both, last_both, canary, last_canary) {
            (Some(both), Some(_), Some(canary), _) if from_alone && may_reply => {
                Some(Span::CanaryAlone { after: canary, through: both })
            }
            (Some(after), Some(through), _, _) if through > after && may_reply => Some(Span::Both { after, through }),
            (_, _, _, _) if patience == Patience::Left => None,
            (_, _, Some(after), Some(through)) if through > after => Some(Span::CanaryAlone { after, through }),
            (_, _, _, _) => Some(Span::Nothing),
        }
    }

    /// An SLI's gains in the window, oldest first. It begins later where the SLI was not looked for from the start: at the
    /// first round in which all `counted` arms were read for it.
    fn gains(&self, arm: Arm, counted: &[Arm], id: SliId, window: Window) -> (Window, Result<Vec<&Gained>, Absence>) {
        let inside = || self.kept.iter().filter(|round| (window.after..=window.through).contains(&round.time));
        let has = |round: &Round, arm| round.arm(arm).gains().is_some_and(|gains| gains.contains_key(&id));
        let Some(first) = inside().find(|round| counted.iter().all(|arm| has(round, *arm))) else {
            return (window, Err(Absence::NoData));
        };
        let window = Window { after: first.time, ..window };
        let gains = inside()
            .filter(|round| round.time > window.after)
            .filter_map(|round| round.arm(arm).gains().and_then(|gains| gains.get(&id)));
        (window, Ok(gains.collect()))
    }

    /// What kept control from being read while the canary was.
    fn why_control_is_missing(&self, after: Timestamp) -> Absence {
        let newest_first = self.kept.iter().rev().filter(|round| round.time > after);
        newest_first.map(|round| &round.control).find_map(Reading::missed).unwrap_or_else(|| {
            Absence::Unavailable(Text::new(
                "control was not read when the window began, and is counted again from here",
            ))
        })
    }

    /// Why an arm has nothing to count: its newest reading speaks.
    fn why_nothing(&self, arm: Arm, after: Timestamp) -> Absence {
        match self.kept.back().filter(|round| round.time > after) {
            None => Absence::Unavailable(Text::new(format!("no reading of {arm} was finished in time"))),
            Some(round) => round.arm(arm).missed().unwrap_or(Absence::NoData),
        }
    }

    fn too_old(&self, ask: &Ask) -> Answer {
        let why = Absence::Unavailable(Text::new(format!("the window begins at {}, older than kept", ask.after)));
        let last = self.kept.iter().rfind(|round| round.has_read(Arm::Canary)).map_or(ask.after, |round| round.time);
        let through = last.max(ask.after);
        let mut answer = Answer::absent(ask, &why);
        answer.through = through;
        answer.measurements.iter_mut().for_each(|m| m.window.through = through);
        answer
    }
}

/// A measurement, still without parts, and the gains that its parts are made of.
fn measured<'a>(
    asked: &AskedCheck,
    arm: Arm,
    window: Window,
    gains: Result<Vec<&'a Gained>, Absence>,
) -> (Measurement, Vec<&'a Gained>) {
    let told = gains.and_then(|gains| Ok((tally(&asked.sli, gains.iter().map(|gained| &gained.whole))?, gains)));
    let (tally, gains) = match told {
        Ok((tally, gains)) => (Ok(tally), gains),
        Err(why) => (Err(why), Vec::new()),
    };
    (Measurement { check: asked.check, arm, window, tally, parts: Vec::new(), estimated: false }, gains)
}

/// What is said of one arm.
enum Told {
    Tally(Window),
    Absence(Absence),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{CheckId, Counts, Revision, Selector, ServiceName, Sli, Split, Tally},
        telemetry::counting::{
            gain::{Buckets, Gain},
            parts::Parts,
        },
    };

    const ID: SliId = SliId(7);
    const KEEP: Duration = Duration::from_secs(3_600);

    fn at(time: u64) -> Timestamp {
        Timestamp::from_millis(time)
    }

    fn reading(whole: Gain) -> Reading {
        Reading::Read(BTreeMap::from([(ID, Gained { whole, parts: Parts::default() })]))
    }

    fn read(total: f64) -> Reading {
        reading(Gain::Counts { bad: 0.0, total: Some(total) })
    }

    fn missed() -> Reading {
        Reading::Missed(Absence::Unavailable(Text::new("refused")))
    }

    /// Rounds at 10, 20, 30...: what control and canary gained, where they were read.
    fn rounds(arms: &[(Option<f64>, Option<f64>)]) -> Rounds {
        let mut rounds = Rounds::default();
        for (index, (control, canary)) in arms.iter().enumerate() {
            let reading = |gain: &Option<f64>| gain.map_or_else(missed, read);
            let time = rounds.next_time(at(10 * (index as u64 + 1)));
            rounds.push(Round { time, control: reading(control), canary: reading(canary) }, KEEP);
        }
        rounds
    }

    fn ask(after: u64, through: u64) -> Ask {
        let sli = Sli::Ratio { bad: Selector::metric("bad"), total: Selector::metric("all") };
        Ask {
            service: ServiceName::new("shop"),
            control: None,
            canary: "abcdef0".parse::<Revision>().unwrap(),
            checks: vec![AskedCheck { check: CheckId(0), sli, split: Split::default() }],
            after: at(after),
            through: at(through),
            no_later_than: at(through),
        }
    }

    /// Each arm's window and total or why not, and how far the answer reaches.
    type Told = (u64, [(u64, u64, Result<u64, Absence>); 2]);

    fn told(answer: Answer) -> Told {
        let arms = [0, 1].map(|index| {
            let Measurement { window, tally, .. } = answer.measurements[index].clone();
            let total = tally.map(|tally| match tally {
                Tally::Counts(Counts { total, .. }) => total,
                other => panic!("{other:?}"),
            });
            (window.after.as_millis(), window.through.as_millis(), total)
        });
        (answer.through.as_millis(), arms)
    }

    fn over(rounds: &Rounds, after: u64) -> Told {
        told(rounds.answer(&ask(after, after + 1_000), &[ID], Patience::Over).unwrap())
    }

    fn refused<T>() -> Result<T, Absence> {
        Err(Absence::Unavailable(Text::new("refused")))
    }

    #[test]
    fn a_window_reaches_from_one_shared_round_to_another_and_gains_between_are_added() {
        let rounds = rounds(&[
            (Some(9.0), Some(9.0)),
            (Some(1.0), Some(2.0)),
            (None, Some(4.0)),
            (Some(8.0), Some(16.0)),
            (Some(32.0), None),
        ]);
        assert_eq!(over(&rounds, 10), (40, [(10, 40, Ok(9)), (10, 40, Ok(22))]));
        assert_eq!(over(&rounds, 11), (40, [(20, 40, Ok(8)), (20, 40, Ok(20))]), "nothing from before the ask");
        assert_eq!(over(&rounds, 0), (40, [(10, 40, Ok(9)), (10, 40, Ok(22))]), "the first round is the start");
    }

    #[test]
    fn an_answer_waits_for_a_shared_round_at_or_after_the_time_asked_for() {
        let rounds = rounds(&[(Some(0.0), Some(0.0)), (Some(1.0), Some(1.0)), (None, Some(1.0))]);
        let answers = |through| rounds.answer(&ask(10, through), &[ID], Patience::Left).is_some();
        assert!(answers(20));
        assert!(!answers(21), "the round at 30 is the canary's alone");
    }

    #[test]
    fn a_first_round_alone_is_no_data_and_nothing_is_used_up() {
        let rounds = rounds(&[(Some(5.0), Some(5.0))]);
        assert_eq!(rounds.answer(&ask(3, 10), &[ID], Patience::Left), None);
        assert_eq!(over(&rounds, 3), (3, [(3, 3, Err(Absence::NoData)), (3, 3, Err(Absence::NoData))]));
        let unread = Absence::Unavailable(Text::new("no reading of canary was finished in time"));
        assert_eq!(over(&Rounds::default(), 3).1[1], (3, 3, Err(unread)));
    }

    #[test]
    fn a_silent_canary_uses_nothing_up_and_its_gap_is_in_the_next_window() {
        let mut kept = rounds(&[(Some(0.0), Some(0.0)), (Some(1.0), None)]);
        assert_eq!(over(&kept, 10), (10, [(10, 10, Err(Absence::NoData)), (10, 10, refused())]));
        kept.push(Round { time: at(30), control: read(2.0), canary: read(40.0) }, KEEP);
        assert_eq!(over(&kept, 10), (30, [(10, 30, Ok(3)), (10, 30, Ok(40))]));
    }

    #[test]
    fn without_control_the_canary_is_answered_alone_and_loses_nothing_when_control_comes_back() {
        let mut kept = rounds(&[(Some(0.0), Some(0.0)), (None, Some(1.0)), (None, Some(2.0))]);
        assert_eq!(over(&kept, 10), (30, [(10, 30, refused()), (10, 30, Ok(3))]));
        kept.push(Round { time: at(40), control: read(900.0), canary: read(4.0) }, KEEP);
        kept.push(Round { time: at(50), control: read(8.0), canary: read(16.0) }, KEEP);
        let (through, [control, canary]) = over(&kept, 30);
        assert_eq!((through, canary), (40, (30, 40, Ok(4))));
        assert!(
            matches!(control.2, Err(Absence::Unavailable(why)) if why.as_str().contains("counted again from here"))
        );
        assert_eq!(over(&kept, 40), (50, [(40, 50, Ok(8)), (40, 50, Ok(16))]));
    }

    #[test]
    fn a_window_older_than_what_is_kept_says_so() {
        let mut kept = rounds(&[(Some(0.0), Some(0.0)), (Some(1.0), Some(1.0))]);
        let late = Round { time: at(5_000_000), control: read(1.0), canary: read(1.0) };
        kept.push(late, KEEP);
        let (through, [control, _]) = over(&kept, 20);
        assert_eq!(through, 5_000_000, "the next window goes on from the newest round");
        assert!(matches!(control.2, Err(Absence::Unavailable(why)) if why.as_str().contains("older than kept")));
    }

    #[test]
    fn the_number_of_rounds_has_a_limit() {
        let mut kept = Rounds::default();
        let count = ROUNDS_MAX as u64 + 1;
        for time in 1..=count {
            kept.push(Round { time: at(time), control: read(1.0), canary: read(1.0) }, KEEP);
            assert_eq!(kept.forgotten_through.is_some(), time == count);
        }
        assert_eq!(kept.kept.len(), ROUNDS_MAX);
    }

    #[test]
    fn the_memory_of_all_rounds_has_a_limit() {
        let mut kept = Rounds::default();
        let mix = Gain::Mix(Some((0..1_000).map(|n| (format!("{n:0>4000}"), 1.0)).collect()));
        for time in 1..=10 {
            kept.push(Round { time: at(time), control: reading(mix.clone()), canary: missed() }, KEEP);
        }
        assert!(kept.cells <= CELLS_MAX && kept.kept.len() < 10 && !kept.kept.is_empty());
    }

    fn with_pods(pods: usize) -> Reading {
        let whole = || Gain::Histogram(Some(Buckets { bounds: vec![0.5; 200], counts: vec![1.0; 201] }));
        let mut gained = Gained { whole: whole(), parts: Parts::default() };
        let sli = Sli::Level { gauge: Selector::metric("any") };
        for pod in 0..pods {
            let mut one = Gained { whole: whole(), parts: Parts::default() };
            one.is_of_pod(&Text::new(format!("pod {pod}")));
            if pod == 0 {
                gained = one;
            } else {
                gained.add(one, &sli);
            }
        }
        Reading::Read(BTreeMap::from([(ID, gained)]))
    }

    #[test]
    fn when_memory_is_short_the_oldest_rounds_lose_their_parts_and_are_still_told() {
        let mut kept = Rounds::default();
        // Some 400 numbers for each pod of each arm.
        for time in 1..=60 {
            kept.push(Round { time: at(time), control: with_pods(50), canary: with_pods(50) }, KEEP);
            assert!(kept.cells <= CELLS_MAX);
        }
        assert_eq!((kept.kept.len(), kept.forgotten_through), (60, None));
        let pods = |after: u64| {
            let answer = kept.answer(&ask(after, after + 1_000), &[ID], Patience::Over).unwrap();
            assert!(answer.measurements.iter().all(|measurement| measurement.tally.is_ok()));
            answer.measurements.iter().map(|measurement| measurement.parts.len()).collect::<Vec<_>>()
        };
        assert_eq!(pods(1), [0, 0]);
        assert_eq!(pods(50), [50, 50]);
    }

    #[test]
    fn the_parts_of_one_answer_have_a_limit() {
        let mut kept = Rounds::default();
        kept.push(Round { time: at(1), control: with_pods(2), canary: with_pods(2) }, KEEP);
        kept.push(Round { time: at(2), control: with_pods(50), canary: with_pods(50) }, KEEP);
        let mut ask = ask(1, 2);
        ask.checks = vec![ask.checks[0].clone(); 3];
        let answer = kept.answer(&ask, &[ID; 3], Patience::Over).unwrap();
        let pods: Vec<usize> = answer.measurements.iter().map(|measurement| measurement.parts.len()).collect();
        assert_eq!(pods, [50, 50, 0, 0, 0, 0], "the first checks come first");
        let cells: usize = answer.measurements.iter().map(|measurement| parts::cells(&measurement.parts)).sum();
        assert!(cells <= ANSWER_CELLS_MAX);
        assert!(answer.measurements.iter().all(|measurement| measurement.tally.is_ok()));
    }

    #[test]
    fn a_clock_that_is_set_back_still_gives_rising_times() {
        let mut rounds = Rounds::default();
        assert_eq!([500, 100, 501, 700].map(|now| rounds.next_time(at(now)).as_millis()), [500, 501, 502, 700]);
    }

    #[test]
    fn an_sli_that_was_not_looked_for_from_the_start_has_a_shorter_window() {
        let mut kept = Rounds::default();
        let without = || Reading::Read(BTreeMap::new());
        kept.push(Round { time: at(10), control: without(), canary: without() }, KEEP);
        assert_eq!(over(&kept, 5).1[0].2, Err(Absence::NoData));
        kept.push(Round { time: at(20), control: read(5.0), canary: without() }, KEEP);
        kept.push(Round { time: at(30), control: read(6.0), canary: read(7.0) }, KEEP);
        kept.push(Round { time: at(40), control: read(8.0), canary: read(9.0) }, KEEP);
        assert_eq!(over(&kept, 10), (40, [(30, 40, Ok(8)), (30, 40, Ok(9))]));
    }
}
