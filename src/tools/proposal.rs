//! From a filled-in form to a typed check, or to the reason why not.
//!
//! Everything a model wrote is looked up: the configured SLI, each metric's kind and labels in what telemetry was seen to
//! have, each line in the diff, each probe. What is left is asked of [`admit`] itself, with the checks that are in the draft
//! already, so that what is accepted here is what admission will accept: there is one set of rules, and this is none of its
//! own. The limits below are on what is written and are narrower than admission's, never wider.

use super::{
    form::{Asked, Common, Comparison, Condition, Measured, Place, Role},
    reply::{Refusal, said, text},
    review::Review,
};
use crate::{
    domain::{
        Aim, Check, CheckName, DiffLine, Direction, LineKind, Match, Metric, MetricKind, Origin, Selector, Sli, Split,
        Weight,
    },
    plan::{Admission, Bounds, Draft, Found, Reason, Touched, Trial, admit},
    telemetry::Catalogued,
    untrusted::{masked, visible},
};

/// Most bytes of a check's name.
pub(super) const NAME_BYTES_MAX: usize = 80;
/// Most bytes that are kept of a rationale.
pub(super) const RATIONALE_BYTES_MAX: usize = 300;
/// Most conditions in one list.
pub(super) const CONDITIONS_MAX: usize = 4;
/// Most values of one condition.
pub(super) const VALUES_MAX: usize = 8;
/// Most lines of the diff that one check names.
pub(super) const LINES_MAX: usize = 32;

/// What is known of the service and of the change.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) bounds: &'a Bounds,
    pub(super) served: &'a [&'static str],
    pub(super) touched: Touched<'a>,
    pub(super) review: &'a Review,
    /// What telemetry was seen to have; `None` where there is no index.
    pub(super) index: Option<&'a Catalogued>,
    /// The checks so far, and what they rest on.
    pub(super) draft: &'a Draft,
}

/// A check that admission would take.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposal {
    pub(super) check: Check,
    /// Metrics beyond the catalogue that it measures.
    pub(super) found: Found,
    /// Whether it measures a metric that the diff itself adds.
    pub(super) is_added: bool,
    /// Whether it narrows what the operator configured.
    pub(super) is_configured: bool,
    /// What was changed in it, in words.
    pub(super) changed: Vec<String>,
}

impl Known<'_> {
    /// The check that was asked for.
    pub(super) fn proposal(&self, asked: Asked) -> Result<Proposal, Refusal> {
        let Asked { kind, common, direction, measured } = asked;
        let lines = self.lines(&common)?;
        let sli = self.sli(kind, &measured)?;
        let (found, is_added) = self.found(&sli, &common.lines)?;
        let name = name(&common.name)?;
        if self.bounds.mandatory.iter().chain(&self.draft.checks).any(|other| other.name == name) {
            let detail = "name: another check has this name; choose another, or drop that one";
            return Err(Refusal::new(Reason::Duplicate, detail));
        }
        let (aim, weight) = match common.role {
            Role::Guard => (Aim::Guard, Weight::Critical),
            Role::Signal => (Aim::Guard, Weight::Advisory),
            Role::Intended => (Aim::Improvement, Weight::Advisory),
        };
        let mut changed = Vec::new();
        let ratio_max = tolerated(common.largest_ratio, self.bounds, &mut changed)?;
        let rationale = text(&common.rationale, RATIONALE_BYTES_MAX);
        let origin = Origin::Model;
        let split = Split::default();
        let check =
            Check { name, sli, direction, ratio_max, limit: None, aim, weight, origin, rationale, lines, split };
        self.admitted(check, found, is_added, changed)
    }

    /// The check as admission takes it, with its split.
    fn admitted(&self, check: Check, found: Found, is_added: bool, changed: Vec<String>) -> Result<Proposal, Refusal> {
        if self.draft.checks.len() >= self.bounds.proposed_max {
            let detail = format!("the plan has room for {} checks: drop one first", self.bounds.proposed_max);
            return Err(Refusal::new(Reason::Full, detail));
        }
        let is_same =
            |other: &&Check| other.sli == check.sli && other.direction == check.direction && other.aim == check.aim;
        if let Some(same) = self.bounds.mandatory.iter().chain(&self.draft.checks).find(is_same) {
            let detail = format!("the check {} measures the same", said(same.name.as_str()));
            return Err(Refusal::new(Reason::Duplicate, detail));
        }
        let is_probe = matches!(check.sli, Sli::Probe { .. });
        // Admission takes any events of a metric that nobody configured for events of an added one.
        let is_known = check.sli.selectors().iter().all(|selector| self.is_configured(&selector.metric));
        let is_configured = is_probe || (is_known && self.narrows_configured(&check));
        if !is_configured && !is_added && !self.bounds.beyond_catalogue {
            let detail = "it narrows no configured SLI, and this service lets checks measure nothing else: name one of \
                          list_slos as sli and narrow it with matchers, or count a metric that an added line names";
            return Err(Refusal::new(Reason::Unknown, detail));
        }
        let found = if is_configured { Vec::new() } else { found };
        // Trials are weighed later: what was said of an earlier check of this name does not count.
        let mut draft = Draft { tried: Vec::new(), ..self.draft.clone() };
        draft.found.extend(found.iter().filter(|metric| !self.draft.found.contains(metric)).cloned());
        draft.checks.push(check.clone());
        match self.last_admitted(draft, self.bounds) {
            Ok(Check { split, ratio_max, .. }) => {
                let check = Check { split, ratio_max, ..check };
                Ok(Proposal { check, found, is_added, is_configured, changed })
            }
            Err(why) => Err(Refusal::new(reason_of(&why), why)),
        }
    }

    /// Whether it would be admitted although nothing beyond the catalogue may be.
    fn narrows_configured(&self, check: &Check) -> bool {
        let bounds = Bounds {
            beyond_catalogue: false,
            mandatory: Vec::new(),
            path_rules: Vec::new(),
            proposed_max: 1,
            ..self.bounds.clone()
        };
        self.last_admitted(Draft { checks: vec![check.clone()], ..blank() }, &bounds).is_ok()
    }

    /// The draft's last check as admission makes it, or why it does not.
    fn last_admitted(&self, draft: Draft, bounds: &Bounds) -> Result<Check, String> {
        let Some(name) = draft.checks.last().map(|check| check.name.clone()) else { return Err(String::new()) };
        let Admission { plan, rejections, .. } = admit(draft, bounds, self.touched, self.served, |_| Trial::default());
        if let Some(rejection) = rejections.into_iter().rev().find(|rejection| rejection.check == name) {
            return Err(rejection.why.to_string());
        }
        let last = plan.checks().last().filter(|check| check.name == name);
        last.cloned().ok_or_else(|| "admission does not take it".to_owned())
    }

    /// The lines, each of them in the diff: one that came or went, or one beside it.
    fn lines(&self, common: &Common) -> Result<Vec<DiffLine>, Refusal> {
        if common.lines.len() > LINES_MAX {
            return Err(Refusal::new(Reason::OutOfBounds, format!("lines: at most {LINES_MAX} lines")));
        }
        if common.lines.is_empty() && common.role == Role::Guard {
            let detail = "lines: a guard names the lines of the diff that it rests on; without one it can be a signal";
            return Err(Refusal::new(Reason::NotInDiff, detail));
        }
        let mut lines: Vec<DiffLine> = Vec::new();
        for place in &common.lines {
            let line = self.line(*place)?;
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        Ok(lines)
    }

    fn line(&self, Place { file_id, line }: Place) -> Result<DiffLine, Refusal> {
        let Some(file) = self.review.file(file_id) else {
            let detail = format!("lines: there is no file {file_id}; there are {}", self.review.files.len());
            return Err(Refusal::new(Reason::NotInDiff, detail));
        };
        let has_changed = |at: usize| file.lines.get(at).is_some_and(|line| line.kind != LineKind::Context);
        let is_shown = file.lines.iter().enumerate().any(|(at, shown)| {
            shown.number == line
                && (has_changed(at) || has_changed(at + 1) || at.checked_sub(1).is_some_and(has_changed))
        });
        if !is_shown {
            let detail = format!("lines: line {line} of file {file_id} neither came nor went, nor stands beside one");
            return Err(Refusal::new(Reason::NotInDiff, detail));
        }
        Ok(DiffLine { path: file.true_path.clone(), line })
    }

    /// The SLI that was asked for, by the names it was asked by.
    fn sli(&self, kind: &str, measured: &Measured) -> Result<Sli, Refusal> {
        let metric = |name: &str| Selector::metric(name);
        Ok(match measured {
            Measured::Configured { sli, matchers, events_matchers } => {
                self.configured(kind, sli, matchers, events_matchers)?
            }
            Measured::Ratio { bad, bad_matchers, total, matchers } => {
                let all = with(metric(total), "matchers", matchers)?;
                let bad = with(with(metric(bad), "matchers", matchers)?, "bad_matchers", bad_matchers)?;
                Sli::Ratio { bad, total: all }
            }
            Measured::Latency { histogram, slow_above_seconds, matchers } => Sli::Latency {
                histogram: with(metric(histogram), "matchers", matchers)?,
                slow_above_seconds: *slow_above_seconds,
            },
            Measured::Events { events, events_matchers, traffic, matchers } => {
                let unit = match (traffic, &self.bounds.catalogue.traffic) {
                    (Some(name), _) => metric(name),
                    (None, Some(unit)) => unit.clone(),
                    (None, None) => {
                        let detail = "traffic_metric: the service has no traffic of its own; name a counter";
                        return Err(Refusal::new(Reason::Unknown, detail));
                    }
                };
                let events = with(metric(events), "matchers", matchers)?;
                Sli::EventsPerTraffic {
                    events: with(events, "events_matchers", events_matchers)?,
                    traffic: with(unit, "matchers", matchers)?,
                }
            }
            Measured::Level { gauge, matchers } => Sli::Level { gauge: with(metric(gauge), "matchers", matchers)? },
            Measured::Mix { counter, by, matchers } => {
                Sli::Mix { counter: with(metric(counter), "matchers", matchers)?, by: by.clone() }
            }
            Measured::Liveness { counter, matchers } => {
                Sli::Liveness { series: with(metric(counter), "matchers", matchers)? }
            }
            Measured::Probe { probe } if self.bounds.probes.contains(probe) => Sli::Probe { probe: probe.clone() },
            Measured::Probe { .. } => {
                let there_is = self.bounds.probes.iter().map(|probe| said(probe)).collect::<Vec<_>>().join(", ");
                return Err(Refusal::new(
                    Reason::Unknown,
                    format!("probe: there is no such probe; there is {there_is}"),
                ));
            }
        })
    }

    fn configured(
        &self,
        kind: &str,
        name: &str,
        matchers: &[Condition],
        events_matchers: &[Condition],
    ) -> Result<Sli, Refusal> {
        let entries = &self.bounds.catalogue.entries;
        let Some(entry) = entries.iter().find(|entry| entry.name == name) else {
            let there_is = entries.iter().filter(|entry| entry.sli.kind() == kind).map(|entry| said(&entry.name));
            let there_is = there_is.collect::<Vec<_>>().join(", ");
            let detail = format!("sli: there is no configured SLI of this name; of kind {kind} there is: {there_is}");
            return Err(Refusal::new(Reason::Unknown, detail));
        };
        if entry.sli.kind() != kind {
            let detail = format!("sli: it is of kind {}, and this tool adds checks of kind {kind}", entry.sli.kind());
            return Err(Refusal::new(Reason::WrongKind, detail));
        }
        let mut sli = entry.sli.clone();
        for (label, value) in conditions("matchers", matchers)? {
            sli = sli.narrowed(&label, &value);
        }
        if let Sli::EventsPerTraffic { events, .. } = &mut sli {
            *events = with(events.clone(), "events_matchers", events_matchers)?;
        }
        Ok(sli)
    }

    /// The metrics that telemetry was seen to have among the SLI's, and whether one is added by the change.
    fn found(&self, sli: &Sli, places: &[Place]) -> Result<(Found, bool), Refusal> {
        let (mut found, mut is_added): (Found, bool) = (Vec::new(), false);
        for (selector, kind) in wanted(sli) {
            let name = selector.metric.as_str();
            match self.index.and_then(|index| index.find(name)) {
                Some(metric) => {
                    fits(metric, kind, selector, sli)?;
                    if !found.contains(metric) {
                        found.push(metric.clone());
                    }
                }
                None if self.is_configured(name) => {}
                None if matches!(sli, Sli::EventsPerTraffic { events, .. } if events == selector)
                    && places.iter().any(|place| self.is_named_at(name, *place)) =>
                {
                    is_added = true;
                }
                None => {
                    let detail = format!(
                        "the service has no metric {}: look it up with search_metrics; one that the change adds is \
                         counted with add_events_check, with the added line that names it",
                        said(name)
                    );
                    return Err(Refusal::new(Reason::Unknown, detail));
                }
            }
        }
        Ok((found, is_added))
    }

    fn is_configured(&self, metric: &str) -> bool {
        let catalogue = &self.bounds.catalogue;
        catalogue
            .entries
            .iter()
            .flat_map(|entry| entry.sli.selectors())
            .chain(&catalogue.traffic)
            .any(|s| s.metric == metric)
    }

    /// Whether an added line holds this name as a word.
    fn is_named_at(&self, name: &str, place: Place) -> bool {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let lines = self.review.file(place.file_id).map(|file| file.lines.as_slice()).unwrap_or_default();
        let mut added = lines.iter().filter(|line| line.kind == LineKind::Added && line.number == place.line);
        !name.is_empty() && added.any(|line| line.text.split(|c| !is_word(c)).any(|word| word == name))
    }
}

fn blank() -> Draft {
    Draft::by_rules(Vec::new(), crate::domain::WayBack::Open, Vec::new())
}

/// What admission's words mean, for those that were not foreseen here.
fn reason_of(why: &str) -> Reason {
    if why.contains("direction") || why.contains("no test serves") {
        Reason::WrongKind
    } else if why.contains("measures the same") || why.contains("has this name") {
        Reason::Duplicate
    } else if why.contains("room for") {
        Reason::Full
    } else {
        Reason::OutOfBounds
    }
}

fn name(written: &str) -> Result<CheckName, Refusal> {
    let is_plain = !written.trim().is_empty()
        && written.len() <= NAME_BYTES_MAX
        && !written.chars().any(char::is_control)
        && masked(written).secrets == 0
        && visible(written, NAME_BYTES_MAX) == written;
    if is_plain {
        return Ok(CheckName::new(written));
    }
    Err(Refusal::new(Reason::OutOfBounds, format!("name: 1 to {NAME_BYTES_MAX} plain characters")))
}

fn tolerated(asked: f64, bounds: &Bounds, changed: &mut Vec<String>) -> Result<f64, Refusal> {
    if !asked.is_finite() {
        return Err(Refusal::new(Reason::OutOfBounds, "largest_ratio: a number of at least 1"));
    }
    let given = asked.clamp(1.0, bounds.ratio_max.max(1.0));
    if given != asked {
        changed.push(format!("largest_ratio was set to {given}, which the policy allows"));
    }
    Ok(given)
}

/// The metrics of an SLI, and the kind that each must be of.
fn wanted(sli: &Sli) -> Vec<(&Selector, MetricKind)> {
    let kind = match sli {
        Sli::Latency { .. } => MetricKind::Histogram,
        Sli::Level { .. } => MetricKind::Gauge,
        Sli::Ratio { .. }
        | Sli::EventsPerTraffic { .. }
        | Sli::Mix { .. }
        | Sli::Liveness { .. }
        | Sli::Probe { .. } => MetricKind::Counter,
    };
    sli.selectors().into_iter().map(|selector| (selector, kind)).collect()
}

/// Whether a metric is of this kind and bears the labels.
fn fits(metric: &Metric, kind: MetricKind, selector: &Selector, sli: &Sli) -> Result<(), Refusal> {
    let name = said(&metric.name);
    if metric.kind != kind {
        let detail =
            format!("{name} is a {}, and a check of kind {} needs a {}", metric.kind.word(), sli.kind(), kind.word());
        return Err(Refusal::new(Reason::WrongKind, detail));
    }
    // Where as many labels are listed as are kept, there may be more.
    if metric.labels.len() >= Metric::LABELS_MAX {
        return Ok(());
    }
    let by = if let Sli::Mix { by, .. } = sli { Some(by.as_str()) } else { None };
    let labels = selector.matchers.iter().map(|matcher| matcher.label.as_str()).chain(by);
    match labels.into_iter().find(|label| !metric.has_label(label)) {
        None => Ok(()),
        Some(unknown) => {
            let there_is = metric.labels.iter().map(|label| said(&label.name)).collect::<Vec<_>>().join(", ");
            let detail = format!("{name} has no label {}; it has: {there_is}", said(unknown));
            Err(Refusal::new(Reason::Unknown, detail))
        }
    }
}

pub(super) fn with(selector: Selector, field: &str, written: &[Condition]) -> Result<Selector, Refusal> {
    Ok(conditions(field, written)?.into_iter().fold(selector, |selector, (label, value)| selector.with(label, value)))
}

/// Conditions as the domain has them.
fn conditions(field: &str, written: &[Condition]) -> Result<Vec<(String, Match)>, Refusal> {
    let refused = |detail: String| Err(Refusal::new(Reason::OutOfBounds, detail));
    if written.len() > CONDITIONS_MAX {
        return refused(format!("{field}: at most {CONDITIONS_MAX} conditions"));
    }
    let mut conditions = Vec::new();
    for (at, Condition { label, op, values }) in written.iter().enumerate() {
        let value = match (op, values.as_slice()) {
            (_, values) if values.is_empty() || values.len() > VALUES_MAX => {
                return refused(format!("{field}[{at}].values: 1 to {VALUES_MAX} values"));
            }
            (Comparison::In, values) => Match::OneOf(values.to_vec()),
            (Comparison::Eq, [value]) => Match::Is(value.clone()),
            (Comparison::Ne, [value]) => Match::IsNot(value.clone()),
            (Comparison::StartsWith, [value]) => Match::StartsWith(value.clone()),
            (Comparison::Eq | Comparison::Ne | Comparison::StartsWith, _) => {
                return refused(format!("{field}[{at}].values: exactly one value, or op `in`"));
            }
        };
        conditions.push((label.clone(), value));
    }
    Ok(conditions)
}

/// Which way is worse, for people and models.
pub(super) const fn worse(direction: Direction) -> &'static str {
    match direction {
        Direction::HigherIsWorse => "higher",
        Direction::LowerIsWorse => "lower",
    }
}
