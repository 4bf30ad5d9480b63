//! Rails: the deterministic layer between every verdict and traffic.
//!
//! A rail reads the [`Case`] and rules. It can lower a verdict and never lift one; a rail that cannot decide objects.
//! [`RAILS`] is the one list of them, a file each. Only [`review`] and [`reassert`] make a [`Cleared`], and actuators
//! take nothing else, so nothing moves traffic that has not come through here.

mod autonomy;
mod bake_time;
mod baseline;
mod hard_slo;
mod kill_switch;
mod minimum_samples;
mod no_data;
mod progress_deadline;
mod regression;
mod reversibility;
mod sample_ratio;
mod step_size;
mod telemetry_blackout;

use std::time::Duration;

use crate::domain::{
    Absence, Autonomy, Check, Counts, Evidence, Finding, Objection, Origin, Share, Shares, Shift, Text, Timestamp,
    Verdict, WayBack,
};

/// What a rail makes of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Nothing to say.
    Allow,
    /// No bolder than `at_most`.
    Object {
        /// The boldest verdict that passes.
        at_most: Verdict,
        /// Why, for people.
        why: Text,
    },
    /// As [`Ruling::Object`], and a person is needed.
    ObjectAndPage {
        /// The boldest verdict that passes.
        at_most: Verdict,
        /// Why, for people.
        why: Text,
    },
    /// Traffic must not be taken back without a person: a rollback becomes a hold and a page.
    NoRetreat {
        /// Why, for people.
        why: Text,
    },
    /// Traffic must not be moved at all without a person: a promotion becomes a hold, a rollback a hold and a page.
    Stand {
        /// Why, for people.
        why: Text,
    },
}

impl Ruling {
    fn hold(why: impl AsRef<str>) -> Self {
        Self::Object { at_most: Verdict::Hold, why: Text::new(why) }
    }

    fn hold_and_page(why: impl AsRef<str>) -> Self {
        Self::ObjectAndPage { at_most: Verdict::Hold, why: Text::new(why) }
    }

    fn rollback(why: impl AsRef<str>) -> Self {
        Self::Object { at_most: Verdict::Rollback, why: Text::new(why) }
    }

    fn stand(why: impl AsRef<str>) -> Self {
        Self::Stand { why: Text::new(why) }
    }

    fn no_retreat(why: impl AsRef<str>) -> Self {
        Self::NoRetreat { why: Text::new(why) }
    }
}

/// A deterministic rule.
pub struct Rail {
    /// Its name in reports, documents and objections.
    pub name: &'static str,
    /// What it holds, in a sentence.
    pub summary: &'static str,
    /// Whether a person who asks for just this verdict waives it. Rails that protect users are never waived.
    pub waivable: bool,
    /// The rule.
    pub rule: fn(&Case<'_>) -> Ruling,
}

/// The name of the rail that ends a stage's patience, for those who act on its objection.
pub const PROGRESS_DEADLINE: &str = progress_deadline::RAIL.name;

/// The name of the rail that keeps decisions for people, for those who tell them.
pub const AUTONOMY: &str = autonomy::RAIL.name;

/// Whether the rail of that name only waits, for time or for a person; the others protect. A name that there is not
/// protects.
pub fn only_waits(name: &str) -> bool {
    RAILS.iter().any(|rail| rail.name == name && rail.waivable)
}

/// Every rail, in the order in which objections are told.
pub const RAILS: &[Rail] = &[
    kill_switch::RAIL,
    hard_slo::RAIL,
    regression::RAIL,
    telemetry_blackout::RAIL,
    no_data::RAIL,
    minimum_samples::RAIL,
    sample_ratio::RAIL,
    baseline::RAIL,
    bake_time::RAIL,
    step_size::RAIL,
    progress_deadline::RAIL,
    autonomy::RAIL,
    reversibility::RAIL,
];

/// Everything a rail may know of one check.
#[derive(Clone, Copy, Debug)]
pub struct CheckFacts<'a> {
    /// The check as admitted.
    pub check: &'a Check,
    /// What its evidence means.
    pub finding: Finding,
    /// The evidence.
    pub evidence: Evidence,
    /// What the canary counted in the newest window, or why nothing; `None` before the first measurement.
    pub latest: Option<&'a Result<Counts, Absence>>,
    /// What the canary counted in the last few windows, the newest included.
    pub recent: Counts,
    /// What the canary counted since this stage began.
    pub this_stage: Counts,
    /// What is unusual about it where no control is left to compare with, in words; `None` where nothing is, or control is.
    pub unusual: Option<&'a Text>,
}

impl CheckFacts<'_> {
    /// Whether it is a check that a diff proposed on something that nobody has asked the canary for: a route without
    /// visitors has no series yet. Telemetry answered, and had nothing; it was not silent and not garbled.
    pub fn is_quiet(&self) -> bool {
        self.check.origin != Origin::Slo
            && self.evidence.canary.total == 0
            && matches!(self.latest, Some(Err(Absence::NoData)))
    }
}

/// The stage that is held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StageFacts {
    /// How long its exposure has been in force.
    pub held: Duration,
    /// The least time it must be.
    pub bake_time: Duration,
    /// The least time it must be once every critical check is shown safe; `None` where that changes nothing.
    pub bake_time_shown_safe: Option<Duration>,
    /// The longest it may be before it is taken back.
    pub patience: Duration,
}

/// What the rails may know. Everything in it is a fact of the moment; there is no model's word in it.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// Now.
    pub now: Timestamp,
    /// The stage that is held; `None` before the first.
    pub stage: Option<StageFacts>,
    /// The move that promotion would make; `None` after the last stage.
    pub advance: Option<Shift>,
    /// The move that a rollback would make; `None` when nobody has the new version.
    pub retreat: Option<Shift>,
    /// The checks of the plan.
    pub checks: &'a [CheckFacts<'a>],
    /// When telemetry last said anything of the canary.
    pub heard: Option<Timestamp>,
    /// When it should have begun to: the first exposure of this rollout.
    pub listening_since: Option<Timestamp>,
    /// How long telemetry may be silent.
    pub blackout_after: Duration,
    /// How many requests of the canary a stage needs at least.
    pub samples_min: u64,
    /// Most that one step may add to the share.
    pub step_max: Share,
    /// Whether an operator has stopped all expansion.
    pub kill_switch: bool,
    /// Whether the old version can take the traffic back, by the diff.
    pub way_back: &'a WayBack,
    /// Whether the old version is seen to run. `None` while nothing has been heard of it.
    pub control_stands: Option<bool>,
    /// How far this service lets us act.
    pub autonomy: Autonomy,
    /// The canary's share of requests, while it does not fit what was set.
    pub shares_off: Option<Shares>,
    /// What a person asked for, if this review is one's asking.
    pub asked: Option<Verdict>,
}

/// Something that has passed the rails. It cannot be made outside this room, copied or taken apart.
///
/// ```compile_fail
/// let forged = tollgate::rails::Cleared(());
/// ```
/// ```compile_fail
/// fn twice(cleared: tollgate::rails::Cleared<u8>) -> [tollgate::rails::Cleared<u8>; 2] {
///     [cleared.clone(), cleared]
/// }
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Cleared<T>(T);

impl<T> Cleared<T> {
    /// What was cleared.
    pub fn get(&self) -> &T {
        &self.0
    }
}

/// What came of a review.
#[derive(Debug, PartialEq, Eq)]
pub struct Reviewed {
    /// What may be done: the proposed verdict or a more careful one.
    pub verdict: Verdict,
    /// The move that goes with it, if it moves anything.
    pub shift: Option<Cleared<Shift>>,
    /// Every reason against the proposed verdict, and against the retreat if one was due.
    pub objections: Vec<Objection>,
}

impl Reviewed {
    /// Whether a person is needed.
    pub fn needs_person(&self) -> bool {
        self.objections.iter().any(|objection| objection.page)
    }
}

/// Reviews a proposed verdict: every rail is asked, and the most careful answer counts.
pub fn review(proposed: Verdict, case: &Case<'_>) -> Reviewed {
    review_by(RAILS, proposed, case)
}

fn review_by(rails: &[Rail], proposed: Verdict, case: &Case<'_>) -> Reviewed {
    let mut verdict = proposed;
    let mut objections = Vec::new();
    let mut against_retreat = Vec::new();
    for rail in rails {
        let object = |at_most, why, page| Objection { rail: rail.name.into(), at_most, why, page };
        let waived_for = |asked| rail.waivable && case.asked == Some(asked);
        let (at_most, why, page, no_retreat) = match (rail.rule)(case) {
            Ruling::Allow => continue,
            Ruling::Object { at_most, why } => (at_most, why, false, false),
            Ruling::ObjectAndPage { at_most, why } => (at_most, why, true, false),
            Ruling::NoRetreat { why } => (Verdict::Promote, why, false, true),
            Ruling::Stand { why } => (Verdict::Hold, why, false, true),
        };
        if no_retreat && !waived_for(Verdict::Rollback) {
            against_retreat.push(object(Verdict::Hold, why.clone(), true));
        }
        if at_most > Verdict::Promote && !waived_for(Verdict::Promote) {
            verdict = verdict.max(at_most);
            objections.push(object(at_most, why, page));
        }
    }
    if verdict == Verdict::Rollback && !against_retreat.is_empty() && case.retreat.is_some() {
        verdict = Verdict::Hold;
        objections.append(&mut against_retreat);
    }
    let shift = match verdict {
        Verdict::Promote => case.advance.clone(),
        Verdict::Hold => None,
        Verdict::Rollback => case.retreat.clone(),
    };
    // The pair to the types: a retreat that would raise exposure is a mistake of ours, and is not cleared.
    let shift = shift.filter(|shift| verdict == Verdict::Promote || !shift.raises());
    Reviewed { verdict, shift: shift.map(Cleared), objections }
}

/// Clears a move that gives nobody the new version who does not have it: putting back in force, after a restart, what was
/// cleared before, or taking traffic back again. `None` for a move that raises exposure.
pub fn reassert(shift: Shift) -> Option<Cleared<Shift>> {
    (!shift.raises()).then_some(Cleared(shift))
}
