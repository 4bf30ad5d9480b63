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

use super::gain::{Gain, tally};
use crate::{
    domain::{Absence, Arm, Measurement, Sli, Tally, Text, Timestamp, Window},
    telemetry::{Answer, Ask},
};

/// Most rounds that are kept.
pub const ROUNDS_MAX: usize = 4_096;
/// Most numbers that are kept in all rounds of one pair; some 8 to 16 bytes each.
pub const CELLS_MAX: usize = 2_000_000;

/// An SLI's number within one pair of arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SliId(pub(super) u64);

/// What became of one arm in one round.
#[derive(Clone, Debug)]
pub(super) enum Reading {
    /// All targets were read: what each SLI gained since the arm was last read.
    Read(BTreeMap<SliId, Gain>),
    /// Some target was not.
    Missed(Absence),
}

impl Reading {
    fn gains(&self) -> Option<&BTreeMap<SliId, Gain>> {
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
pub(super) struct Round {
    pub(super) time: Timestamp,
    pub(super) control: Reading,
    pub(super) canary: Reading,
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
        4 + gains.map(|(_, gain)| 2 + gain.cells()).sum::<usize>()
    }
}

/// Whether an answer may still wait for a later round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// A later round may come in time.
    Left,
    /// The deadline has come.
    Over,
}

/// The rounds of one pair, oldest first.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    kept: VecDeque<Round>,
    cells: usize,
    forgotten_through: Option<Timestamp>,
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
    pub(super) fn next_time(&mut self, now: Timestamp) -> Timestamp {
        let time = self.newest.map_or(now, |newest| now.max(newest + Duration::from_millis(1)));
        self.newest = Some(time);
        time
    }

    /// Takes in a round, and forgets those older than `keep` or beyond the limits.
    pub(super) fn push(&mut self, round: Round, keep: Duration) {
        let oldest = round.time - keep;
        self.cells += round.cells();
        self.kept.push_back(round);
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
    pub(super) fn answer(&self, ask: &Ask, slis: &[SliId], patience: Patience) -> Option<Answer> {
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
        let measurements = ask
            .checks
            .iter()
            .zip(slis)
            .flat_map(|((check, sli), id)| {
                [(Arm::Control, &control), (Arm::Canary, &canary)].map(|(arm, told)| {
                    let (window, tally) = match told {
                        Told::Tally(window) => self.tally(arm, counted, (*id, sli), *window),
                        Told::Absence(why) => (Window { after: ask.after, through }, Err(why.clone())),
                    };
                    Measurement { check: *check, arm, window, tally }
                })
            })
            .collect();
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

    /// The sum of an SLI's gains over the window, which begins later where the SLI was not looked for from the start:
    /// at the first round in which all `counted` arms were read for it.
    fn tally(
        &self,
        arm: Arm,
        counted: &[Arm],
        (id, sli): (SliId, &Sli),
        window: Window,
    ) -> (Window, Result<Tally, Absence>) {
        let inside = || self.kept.iter().filter(|round| (window.after..=window.through).contains(&round.time));
        let has = |round: &Round, arm| round.arm(arm).gains().is_some_and(|gains| gains.contains_key(&id));
        let Some(first) = inside().find(|round| counted.iter().all(|arm| has(round, *arm))) else {
            return (window, Err(Absence::NoData));
        };
        let window = Window { after: first.time, ..window };
        let gains = inside()
            .filter(|round| round.time > window.after)
            .filter_map(|round| round.arm(arm).gains().and_then(|gains| gains.get(&id)));
        (window, tally(sli, gains))
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

/// What is said of one arm.
enum Told {
    Tally(Window),
    Absence(Absence),
}
