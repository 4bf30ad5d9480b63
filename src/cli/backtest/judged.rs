//! What a deploy came to: read off the rollout as it stood at the end, and put into the few kinds that people ask for.

use std::time::Duration;

use serde::Serialize;

use super::{
    deploys::{Deploy, Label},
    world::{Seen, Went},
};
use crate::{
    domain::{Finding, Outcome, Timestamp, Verdict, Weight},
    rollout::{CheckView, Moment, RolloutView},
};

/// What Tollgate would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Its traffic would have been taken back, for harm that was seen.
    RolledBack,
    /// Harm was seen, and only a person may have taken it back.
    CalledPerson,
    /// It would have gone to everyone.
    Promoted,
    /// It would not have gone on, for want of something.
    Held,
    /// Nothing spoke against it, and the time it was followed ended before its last stage did.
    Unfinished,
    /// The new version was never seen.
    NoData,
    /// It is older than what the server keeps.
    BeforeRetention,
}

impl Kind {
    /// Every kind, and how many of a list are said to be of it.
    pub(super) const ALL: [(Self, &'static str); 7] = [
        (Self::RolledBack, "would have been rolled back"),
        (Self::CalledPerson, "would have been handed to a person"),
        (Self::Promoted, "promoted"),
        (Self::Held, "held"),
        (Self::Unfinished, "without a verdict"),
        (Self::NoData, "without data"),
        (Self::BeforeRetention, "before the server's retention"),
    ];

    /// Whether harm was found.
    pub(super) const fn is_found(self) -> bool {
        matches!(self, Self::RolledBack | Self::CalledPerson)
    }

    /// Whether it was looked at.
    pub(super) const fn is_judged(self) -> bool {
        !matches!(self, Self::NoData | Self::BeforeRetention)
    }
}

/// What Tollgate would have done on one deploy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Judged {
    /// When it was deployed.
    pub(super) at: String,
    pub(super) revision: String,
    /// What it was compared with.
    pub(super) stable: Option<String>,
    /// What people found it to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<Label>,
    pub(super) verdict: Kind,
    /// When that was due; `None` where nothing came due.
    pub(super) decided: Option<String>,
    /// How long after the deploy, in seconds.
    pub(super) after_seconds: Option<f64>,
    /// The check it rests on.
    pub(super) check: Option<String>,
    /// How many times as bad as the old version the check found the new one.
    pub(super) ratio: Option<f64>,
    /// Why, in words.
    pub(super) why: String,
    /// For how long both versions were seen side by side, in seconds.
    pub(super) compared_seconds: f64,
    /// Up to when it was followed.
    pub(super) followed: String,
    /// What the comparison is worth where there was little or none; empty where there is nothing to say.
    pub(super) caution: String,
    /// What happened to the rollout, oldest first.
    pub(super) timeline: Vec<Moment>,
}

/// Why the time that a deploy is followed ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    NextDeploy,
    AsListed,
    Now,
    LongEnough,
}

impl Ends {
    const fn word(self) -> &'static str {
        match self {
            Self::NextDeploy => "the next deploy came",
            Self::AsListed => "it ended",
            Self::Now => "the present came",
            Self::LongEnough => "it had been followed for long enough",
        }
    }
}

/// A deploy of which nothing was asked, as the server does not keep its time.
pub(super) fn before_retention(deploy: &Deploy, retention: Duration) -> Judged {
    let why = format!("older than the {} for which the server keeps samples", in_words(retention));
    Judged { why, ..blank(deploy, Kind::BeforeRetention, deploy.at) }
}

/// What a deploy came to.
pub(super) fn judged(deploy: &Deploy, went: Went, ends: Ends) -> Judged {
    let Went { rollout, taken_back, called, seen, is_cut, followed, .. } = went;
    let ends = if is_cut { Ends::LongEnough } else { ends };
    let Some(rollout) = rollout else {
        return Judged { why: "no rollout began".into(), ..blank(deploy, Kind::NoData, followed) };
    };
    let harm = harm(&rollout);
    let (kind, decided) = match (&harm, taken_back, called, rollout.outcome) {
        (_, _, _, _) if !seen.canary => (Kind::NoData, None),
        (_, _, Some(at), _) => (Kind::CalledPerson, Some(at)),
        (Some(_), Some(at), _, _) => (Kind::RolledBack, Some(at)),
        (None, Some(at), _, _) => (Kind::Held, Some(at)),
        (_, None, None, Some(Outcome::Promoted)) => (Kind::Promoted, rollout.ended),
        (_, None, None, _) if lack(&rollout).is_some() || seen.both.is_zero() => (Kind::Held, None),
        (_, None, None, _) => (Kind::Unfinished, None),
    };
    let why = match kind {
        Kind::NoData => no_data(deploy, &rollout, seen),
        Kind::RolledBack | Kind::CalledPerson => harm.as_ref().map(|harm| harm.why.clone()).unwrap_or_default(),
        Kind::Promoted => format!("every stage held, the last at {}", rollout.exposure),
        Kind::Held if decided.is_some() => {
            format!("{}; it would have been taken back when the stage's patience ended", lack_of(&rollout, seen))
        }
        Kind::Held => format!("{}, until {}", lack_of(&rollout, seen), ends.word()),
        Kind::Unfinished => {
            format!("nothing spoke against it, and it was at {} when {}", rollout.exposure, ends.word())
        }
        Kind::BeforeRetention => String::new(),
    };
    let checked = harm.filter(|_| kind.is_found());
    Judged {
        verdict: kind,
        decided: decided.map(|at| at.to_string()),
        after_seconds: decided.map(|at| at.since(deploy.at).as_secs_f64()),
        ratio: checked.as_ref().and_then(|harm| harm.ratio),
        check: checked.map(|harm| harm.check),
        why,
        compared_seconds: seen.both.as_secs_f64(),
        caution: caution(deploy, &rollout, seen, followed),
        timeline: rollout.timeline,
        ..blank(deploy, kind, followed)
    }
}

fn blank(deploy: &Deploy, verdict: Kind, followed: Timestamp) -> Judged {
    Judged {
        at: deploy.at.to_string(),
        revision: deploy.revision.to_string(),
        stable: deploy.stable.as_ref().map(ToString::to_string),
        outcome: deploy.label,
        verdict,
        decided: None,
        after_seconds: None,
        check: None,
        ratio: None,
        why: String::new(),
        compared_seconds: 0.0,
        followed: followed.to_string(),
        caution: String::new(),
        timeline: Vec::new(),
    }
}

/// What a rollback rests on.
struct Harm {
    check: String,
    ratio: Option<f64>,
    why: String,
}

/// The harm that was seen; `None` where a rollback is due for want of a verdict.
fn harm(rollout: &RolloutView) -> Option<Harm> {
    let due = |rail: &str| rollout.objections.iter().find(|o| o.rail == rail && o.at_most == Verdict::Rollback);
    let objection = due("hard_slo").or_else(|| due("regression"))?;
    // A rail's reason begins with the check's name.
    let named = |check: &&CheckView| {
        objection.why.as_str().strip_prefix(check.name.as_str()).is_some_and(|rest| rest.starts_with(':'))
    };
    let degraded = |check: &&CheckView| check.finding == Finding::Degraded && check.weight == Weight::Critical;
    let check = rollout.checks.iter().find(named).or_else(|| rollout.checks.iter().find(degraded))?;
    // A limit compares nothing: the ratio of all that was seen until then is not what it rests on.
    let ratio = check.evidence.effect.filter(|ratio| ratio.is_finite() && objection.rail == "regression");
    let why = objection.why.as_str();
    let why = why.strip_prefix(check.name.as_str()).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(why);
    Some(Harm { check: check.name.clone(), ratio, why: why.to_owned() })
}

/// What kept it from going on besides time: the first that a rail had against it.
fn lack(rollout: &RolloutView) -> Option<(&str, &str)> {
    let only_time = ["bake_time", "progress_deadline"];
    let lacks = rollout.objections.iter().filter(|o| !only_time.contains(&o.rail.as_str()));
    let traffic = lacks.clone().find(|o| o.rail == "minimum_samples");
    // A deploy that hardly anyone used has no data now and then for just that reason.
    let heard = rollout.checks.iter().any(|check| check.evidence.canary.total > 0);
    let first = if heard { traffic.or_else(|| lacks.clone().next()) } else { lacks.clone().next() };
    first.map(|o| (o.rail.as_str(), o.why.as_str()))
}

fn lack_of(rollout: &RolloutView, seen: Seen) -> String {
    match lack(rollout) {
        // What nobody served beside is no sample.
        None | Some(("minimum_samples", _)) if seen.both.is_zero() => {
            "nothing to compare it with, and no absolute limit was broken".into()
        }
        Some(("minimum_samples", why)) => format!("not enough traffic: {why}"),
        Some((_, why)) => why.to_owned(),
        None => "no verdict: what was seen leans the wrong way and is no proof".into(),
    }
}

fn no_data(deploy: &Deploy, rollout: &RolloutView, seen: Seen) -> String {
    let said = rollout.checks.iter().find_map(|check| check.absent.clone()).unwrap_or_else(|| "no data".into());
    let before = deploy.stable.as_ref().map_or("the one before", |stable| stable.short());
    let other = match seen.before {
        Some(true) => format!("; those of {before} were, just before"),
        Some(false) => format!("; nor were those of {before} just before: are the labels and revisions right?"),
        None => String::new(),
    };
    format!("the series of {} were never seen ({said}){other}", deploy.revision.short())
}

/// What the comparison is worth.
fn caution(deploy: &Deploy, rollout: &RolloutView, seen: Seen, followed: Timestamp) -> String {
    if !seen.canary {
        return String::new();
    }
    let limits = rollout.checks.iter().filter(|check| check.limit.is_some()).count();
    let judge = match limits {
        0 => "no check has an absolute limit, so nothing could judge it".to_owned(),
        1 => "only the one absolute limit could judge it".to_owned(),
        n => format!("only the {n} absolute limits could judge it"),
    };
    let span = followed.since(deploy.at);
    let stable = deploy.stable.as_ref().map_or("the stable version", |stable| stable.short());
    match (seen.both.is_zero(), seen.before) {
        (true, _) if deploy.stable.is_none() => {
            format!("what ran before is not known: write it under `stable`; {judge}")
        }
        (true, Some(false)) => {
            format!("{stable} was not seen just before it either: are the labels and revisions right? {judge}")
        }
        (true, Some(true) | None) => format!("never beside {stable}: all went over at once; {judge}"),
        (false, _) if seen.both * 2 < span => format!(
            "compared with {stable} for {} of {} only; from there on, limits alone could judge it",
            in_words(seen.both),
            in_words(span)
        ),
        (false, _) => String::new(),
    }
}

/// A span as people say it.
pub(super) fn in_words(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes, rest) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")];
    // Two units are as exact as anyone reads.
    let from = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let said: String =
        parts.iter().skip(from).take(2).filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if said.is_empty() { "0s".into() } else { said }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_in_two_units_at_most() {
        let said = |seconds| in_words(Duration::from_secs(seconds));
        let cases = [(0, "0s"), (59, "59s"), (200, "3m20s"), (3_600, "1h"), (3_725, "1h2m"), (1_296_000, "15d")];
        for (seconds, expected) in cases {
            assert_eq!(said(seconds), expected);
        }
    }
}
