//! From draft to plan. Every bound here is one that a hostile draft would like to move: how many checks, how lenient,
//! on which metrics, under which names.

use serde::{Deserialize, Serialize};

use super::Draft;
use crate::domain::{Catalogue, Check, CheckId, CheckName, Text, WayBack, Weight};

/// What a service lets a draft ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// What can be measured. A proposed check may narrow an entry, or count a metric that the diff itself adds.
    pub catalogue: Catalogue,
    /// The checks in every plan: the service's objectives. They take no place of `proposed_max`.
    pub mandatory: Vec<Check>,
    /// Most proposed checks that are admitted.
    pub proposed_max: usize,
    /// The most lenient `ratio_max` a proposed check may have; a larger one is lowered to this.
    pub ratio_max: f64,
}

/// What will be watched. Only [`admit`] makes one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    checks: Vec<Check>,
    way_back: WayBack,
    notes: Vec<Text>,
}

impl Plan {
    /// The checks, mandatory ones first; a check's place is its [`CheckId`].
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The check of that number, if the plan has it.
    pub fn check(&self, id: CheckId) -> Option<&Check> {
        self.checks.get(usize::from(id.0))
    }

    /// Whether the change can be taken back.
    pub fn way_back(&self) -> &WayBack {
        &self.way_back
    }

    /// What a person should know of how it was made.
    pub fn notes(&self) -> &[Text] {
        &self.notes
    }
}

/// A proposal that was refused or changed, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The check's name as proposed.
    pub check: CheckName,
    /// Why, in words that say what to mend.
    pub why: Text,
}

/// A plan, and what was refused on the way to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Admission {
    /// What will be watched.
    pub plan: Plan,
    /// What will not, and why.
    pub rejections: Vec<Rejection>,
}

/// Admits what is within `bounds`. `served` are the kinds of SLI ([`crate::domain::Sli::kind`]) that a statistical test
/// exists for: a check nobody can decide would hold a rollout for ever.
pub fn admit(draft: Draft, bounds: &Bounds, served: &[&str]) -> Admission {
    let mut checks = bounds.mandatory.clone();
    let mut rejections = Vec::new();
    let mut places = bounds.proposed_max;
    for mut check in draft.checks {
        let verdict = refusal(&check, &checks, bounds, served).or_else(|| {
            (places == 0).then(|| format!("the plan has room for {} proposed checks", bounds.proposed_max))
        });
        if let Some(why) = verdict {
            rejections.push(Rejection { check: check.name, why: Text::new(why) });
            continue;
        }
        // Absolute bounds are the operator's promise; nobody else's draft can make or move one.
        check.limit = None;
        check.ratio_max = check.ratio_max.clamp(1.0, bounds.ratio_max.max(1.0));
        places -= 1;
        checks.push(check);
    }
    let mut notes = draft.notes;
    notes.truncate(NOTES_MAX);
    Admission { plan: Plan { checks, way_back: draft.way_back, notes }, rejections }
}

/// Most notes a plan keeps.
const NOTES_MAX: usize = 16;
/// Most bytes of a check's name.
const NAME_BYTES_MAX: usize = 80;

/// Why a proposed check cannot be admitted, if it cannot.
fn refusal(check: &Check, admitted: &[Check], bounds: &Bounds, served: &[&str]) -> Option<String> {
    let name = check.name.as_str();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Some(format!("a name has 1 to {NAME_BYTES_MAX} printable bytes"));
    }
    if admitted.iter().any(|other| other.name == check.name) {
        return Some("another check has this name".into());
    }
    if admitted.iter().any(|other| other.sli == check.sli && other.direction == check.direction) {
        return Some("another check measures the same".into());
    }
    if !served.contains(&check.sli.kind()) {
        return Some(format!("no test serves checks of kind {}", check.sli.kind()));
    }
    if !check.ratio_max.is_finite() {
        return Some("the tolerated ratio is not a number".into());
    }
    if check.weight == Weight::Critical && check.lines.is_empty() {
        return Some("a critical check names the lines of the diff it rests on".into());
    }
    unknown_metric(check, &bounds.catalogue)
}

/// A proposed check reads metrics of the catalogue. An added metric counts as known when a line of the diff bears it,
/// which the proposer shows by naming that line.
fn unknown_metric(check: &Check, catalogue: &Catalogue) -> Option<String> {
    let known = |metric: &str| {
        catalogue.entries.iter().flat_map(|entry| entry.sli.selectors()).any(|s| s.metric == metric)
            || catalogue.traffic.as_ref().is_some_and(|t| t.metric == metric)
    };
    let unknown: Vec<&str> =
        check.sli.selectors().iter().map(|s| s.metric.as_str()).filter(|metric| !known(metric)).collect();
    match unknown.as_slice() {
        [] => None,
        [_added] if check.sli.kind() == "events_per_traffic" && !check.lines.is_empty() => None,
        [first, ..] => Some(format!("metric {first} is not in the service's catalogue")),
    }
}
