//! From draft to plan. Every bound here is one that a hostile draft would like to move: how many checks, how lenient,
//! on which metrics, under which names.
//!
//! A proposed check may narrow what the catalogue names: the same metrics, every condition the catalogue has on them,
//! the same edge of slowness. So a draft chooses where to look, and never what bad means. Only where the operator says
//! so may it go beyond, to metrics that telemetry itself was seen to have (`reach`).

mod keeping;
mod narrowing;
mod path_rules;
mod reach;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::narrowing::{misspelt, narrows};
use super::{Draft, Source, Standing, Tried};
use crate::domain::{
    Aim, Catalogue, CatalogueEntry, Change, Check, CheckId, CheckName, Direction, FileTouched, Metric, Origin, Risk,
    Sli, Text, WayBack, Weight,
};

/// What a service lets a draft ask for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// What can be measured. A proposed check may narrow an entry, or count a metric that the diff itself adds.
    pub catalogue: Catalogue,
    /// The checks in every plan: the service's objectives. They take no place of `proposed_max`.
    pub mandatory: Vec<Check>,
    /// Most proposed checks that are admitted. Under a model's plan the guards of plain rules have as many places of their
    /// own, so that neither can crowd out the other.
    pub proposed_max: usize,
    /// The most lenient `ratio_max` a proposed check may have; a larger one is lowered to this.
    pub ratio_max: f64,
    /// Whether a proposed check may measure what the catalogue does not name, where telemetry was seen to have it.
    #[serde(default)]
    pub beyond_catalogue: bool,
    /// Probes that there are.
    #[serde(default)]
    pub probes: Vec<String>,
    /// What the operator asks of changes to certain paths.
    #[serde(default)]
    pub path_rules: Vec<PathRule>,
}

/// What the operator asks of changes that touch certain paths: it holds whatever a draft says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathRule {
    /// Globs over paths; one that fits is enough.
    pub paths: Vec<String>,
    /// How risky such a change is at least.
    pub risk: Risk,
    /// Checks that its plan must have, besides those that every plan has.
    pub checks: Vec<Check>,
}

/// The files that a change touches, by which the operator's rules know it.
#[derive(Clone, Copy, Debug)]
pub struct Touched<'a> {
    /// The files.
    pub files: &'a [FileTouched],
    /// Whether there were more than could be read. Then every rule applies.
    pub cut: bool,
}

impl Touched<'_> {
    /// A change without files.
    pub const NOTHING: Self = Self { files: &[], cut: false };
}

impl<'a> Touched<'a> {
    /// The files of a change.
    pub fn of(change: &'a Change) -> Self {
        Self { files: &change.files, cut: change.files_cut }
    }
}

/// What will be watched. Only [`admit`] makes one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    checks: Vec<Check>,
    way_back: WayBack,
    notes: Vec<Text>,
    #[serde(default)]
    risk: Risk,
    #[serde(default)]
    source: Source,
    #[serde(default)]
    tried: Vec<Tried>,
    #[serde(default)]
    uncovered: Vec<Text>,
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

    /// How risky the change is taken to be.
    pub fn risk(&self) -> Risk {
        self.risk
    }

    /// Who made the draft it came from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// How the proposed checks fared on the service's past.
    pub fn tried(&self) -> &[Tried] {
        &self.tried
    }

    /// Files of the diff that nobody looked at.
    pub fn uncovered(&self) -> &[Text] {
        &self.uncovered
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
    /// How many of the plan's checks are the operator's: those of every change and those of the path rules. They come
    /// first.
    pub mandatory: usize,
}

/// How often a check would have rolled back a change that changes nothing, tried on the old version's own past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Times it would have rolled back.
    pub alarms: u32,
    /// Times it was tried; 0 where nothing is known of its past.
    pub rollouts: u32,
}

impl Trial {
    /// Whether that is too often to let it decide: more than once, and more than one time in a hundred.
    pub fn is_noisy(self) -> bool {
        self.alarms > 1 && self.alarms.saturating_mul(100) > self.rollouts
    }
}

/// Most proposals of one draft that are looked at.
const PROPOSALS_MAX: usize = 256;
/// Most bytes of a check's name.
const NAME_BYTES_MAX: usize = 80;

/// Admits what is within `bounds`, and adds what the operator asks of every change and of one that touches these files.
/// `served` are the kinds of SLI ([`crate::domain::Sli::kind`]) that a statistical test exists for: a check nobody can
/// decide would hold a rollout for ever. `trial` says how a check fared on the service's past: a proposed one that is
/// noisy is let advise only, and of an objective that is noisy people are told.
pub fn admit(
    draft: Draft,
    bounds: &Bounds,
    touched: Touched<'_>,
    served: &[&str],
    trial: impl Fn(&Check) -> Trial,
) -> Admission {
    let Draft { checks: proposals, way_back, notes, risk, source, found, tried, uncovered } = draft;
    let asked = path_rules::asked(&bounds.path_rules, touched);
    let mut checks = mandatory(bounds, &asked.checks);
    let mut rejections = Vec::new();
    let mut remarks: Vec<String> = checks.iter().filter_map(|objective| noisy_objective(objective, &trial)).collect();
    let mandatory = checks.len();
    let gate = Gate { bounds, served, mandatory, found: &found, standings: standings(&tried), source: &source };
    let mut places = Places::new(bounds.proposed_max, mandatory);
    let unread = proposals.len().saturating_sub(PROPOSALS_MAX);
    for check in proposals.into_iter().take(PROPOSALS_MAX) {
        let check = gate.bounded(check);
        // What it stands for is out of its way, and comes back where it is refused.
        let stands_for = gate.stands_for(&check, &checks, &trial).map(|at| (at, checks.remove(at)));
        let place = places.of(check.origin);
        let refusal = gate.refusal(&check, &checks, &tried).or_else(|| {
            let is_full = *place == 0 && stands_for.is_none();
            is_full.then(|| format!("the plan has room for {} proposed checks", bounds.proposed_max))
        });
        if let Some(why) = refusal {
            rejections.push(Rejection { check: keeping::told_name(&check.name), why: Text::new(why) });
            if let Some((at, rule)) = stands_for {
                checks.insert(at, rule);
            }
            continue;
        }
        let (check, remark) = gate.weighed(check, &trial);
        remarks.extend(remark);
        match stands_for {
            Some((at, _)) => checks.insert(at, check),
            None => {
                *place -= 1;
                checks.push(check);
            }
        }
    }
    if unread > 0 {
        remarks.push(format!("{unread} proposals beyond the first {PROPOSALS_MAX} were not looked at"));
    }
    let mut told = vec![Text::new(keeping::source(&source))];
    told.extend(notes.into_iter().take(keeping::NOTES_MAX));
    told.extend(remarks.into_iter().map(Text::new));
    let plan = Plan {
        checks,
        way_back: match way_back {
            WayBack::Open => WayBack::Open,
            WayBack::OneWay { why, lines } => WayBack::OneWay { why, lines: keeping::lines(lines) },
        },
        notes: told,
        risk: risk.max(asked.risk),
        source,
        tried: keeping::trials(tried),
        uncovered: keeping::uncovered(uncovered),
    };
    Admission { plan, rejections, mandatory }
}

/// The operator's checks of a change that touches these files, as they will stand in its plan.
pub fn asked_of(bounds: &Bounds, touched: Touched<'_>) -> Vec<Check> {
    mandatory(bounds, &path_rules::asked(&bounds.path_rules, touched).checks)
}

/// The operator's checks: those of every plan, then those of the rules, each once. Where two of them share a name, the
/// later one gets another, since names are unique in a plan and neither may be lost.
fn mandatory(bounds: &Bounds, of_rules: &[&Check]) -> Vec<Check> {
    let mut checks: Vec<Check> = Vec::new();
    for check in bounds.mandatory.iter().chain(of_rules.iter().copied()) {
        let mut check = advising_if_improvement(check.clone());
        if checks.contains(&check) {
            continue;
        }
        let name = check.name.clone();
        let mut number = 2;
        while checks.iter().any(|other| other.name == check.name) {
            check.name = CheckName::new(format!("{name} ({number})"));
            number += 1;
        }
        checks.push(check);
    }
    checks
}

/// An improvement decides nothing, whoever asks for it.
fn advising_if_improvement(check: Check) -> Check {
    match check.aim {
        Aim::Guard => check,
        Aim::Improvement => Check { weight: Weight::Advisory, limit: None, ..check },
    }
}

fn noisy_objective(objective: &Check, trial: &impl Fn(&Check) -> Trial) -> Option<String> {
    let tried = trial(objective);
    tried.is_noisy().then(|| format!("the objective {} is noisy: {}", objective.name, would_have(tried)))
}

fn would_have(Trial { alarms, rollouts }: Trial) -> String {
    format!("it would have rolled back {alarms} of {rollouts} rollouts in which nothing had changed")
}

/// What came of each trial, by the check's name; of several the strictest.
fn standings(tried: &[Tried]) -> BTreeMap<&str, Standing> {
    let mut standings = BTreeMap::new();
    for trial in tried {
        let standing = standings.entry(trial.check.as_str()).or_insert(trial.standing);
        *standing = trial.standing.max(*standing);
    }
    standings
}

/// The places that are left: the guards of plain rules have theirs, and all other proposals have theirs.
struct Places {
    of_rules: usize,
    of_others: usize,
}

impl Places {
    fn new(proposed_max: usize, mandatory: usize) -> Self {
        let each = proposed_max.min(usize::from(u16::MAX).saturating_sub(mandatory) / 2);
        Self { of_rules: each, of_others: each }
    }

    fn of(&mut self, origin: Origin) -> &mut usize {
        match origin {
            Origin::Heuristic => &mut self.of_rules,
            Origin::Slo | Origin::Model => &mut self.of_others,
        }
    }
}

/// Whether both look at the same in the same way.
fn measures_the_same(one: &Check, other: &Check) -> bool {
    one.sli == other.sli && one.direction == other.direction && one.aim == other.aim
}

/// What every proposed check has to pass.
struct Gate<'a> {
    bounds: &'a Bounds,
    served: &'a [&'a str],
    /// How many of the admitted checks are the operator's; they come first.
    mandatory: usize,
    found: &'a [Metric],
    standings: BTreeMap<&'a str, Standing>,
    source: &'a Source,
}

impl Gate<'_> {
    /// The check with all that a draft has no say in taken from it.
    fn bounded(&self, check: Check) -> Check {
        let mut check = advising_if_improvement(check);
        check.lines = keeping::lines(check.lines);
        // Absolute bounds are the operator's promise; nobody else's draft can make or move one, or pass for it.
        check.limit = None;
        if check.origin == Origin::Slo {
            check.origin = Origin::Model;
        }
        // Whom it is split by is the operator's word too: a label of a stranger's choice may hold anything.
        check.split =
            reach::narrowed_entry(&check, &self.bounds.catalogue).map(CatalogueEntry::split).unwrap_or_default();
        if self.standing(&check) == Some(Standing::Demoted) {
            check.weight = Weight::Advisory;
        }
        check
    }

    /// What came of the check's trial. The guards of plain rules are not tried, so what is said under their names is said of
    /// a model's.
    fn standing(&self, check: &Check) -> Option<Standing> {
        let standing = || self.standings.get(check.name.as_str()).copied();
        (!self.is_rule_under_model(check)).then(standing).flatten()
    }

    /// Whether it is a guard of plain rules in a model's plan.
    fn is_rule_under_model(&self, check: &Check) -> bool {
        matches!(self.source, Source::Model { .. }) && check.origin == Origin::Heuristic
    }

    /// The place of the rules' guard that a model's check makes needless: one that measures the same, with no more weight
    /// and no less tolerance.
    fn stands_for(&self, check: &Check, admitted: &[Check], trial: &impl Fn(&Check) -> Trial) -> Option<usize> {
        let is_rule = |(at, other): &(usize, &Check)| *at >= self.mandatory && self.is_rule_under_model(other);
        let mut rules = admitted.iter().enumerate().filter(is_rule);
        let (at, rule) = rules.find(|(_, rule)| measures_the_same(rule, check))?;
        let weighed = self.weighed(check.clone(), trial).0;
        let is_as_heavy = weighed.weight == Weight::Critical || rule.weight == Weight::Advisory;
        (check.origin == Origin::Model && is_as_heavy && weighed.ratio_max <= rule.ratio_max).then_some(at)
    }

    /// Why a proposed check cannot be admitted, if it cannot.
    fn refusal(&self, check: &Check, admitted: &[Check], tried: &[Tried]) -> Option<String> {
        let name = check.name.as_str();
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Some(format!("a name has 1 to {NAME_BYTES_MAX} printable bytes"));
        }
        if self.standing(check) == Some(Standing::Rejected) {
            let of_check = |tried: &&Tried| tried.check == check.name && tried.standing == Standing::Rejected;
            let why = tried.iter().find(of_check).map(|tried| format!("{}: {}", tried.reason.word(), tried.detail));
            return Some(format!("it was tried and rejected: {}", why.unwrap_or_default()));
        }
        if admitted.iter().any(|other| other.name == check.name) {
            return Some("another check has this name".into());
        }
        if admitted.iter().any(|other| measures_the_same(other, check)) {
            return Some("another check measures the same".into());
        }
        if !self.served.contains(&check.sli.kind()) {
            return Some(format!("no test serves checks of kind {}", check.sli.kind()));
        }
        if !check.ratio_max.is_finite() {
            return Some("the tolerated ratio is not a number".into());
        }
        if check.weight == Weight::Critical && check.lines.is_empty() {
            return Some("a critical check names the lines of the diff it rests on".into());
        }
        let objectives = admitted.get(..self.mandatory).unwrap_or(admitted);
        misspelt(&check.sli)
            .or_else(|| wrong_direction(check, objectives))
            .or_else(|| reach::out_of_reach(check, self.bounds, self.found))
    }

    /// The check with the leniency and the weight that it gets, and what is to be told of that.
    fn weighed(&self, mut check: Check, trial: &impl Fn(&Check) -> Trial) -> (Check, Option<String>) {
        check.ratio_max = check.ratio_max.clamp(1.0, self.bounds.ratio_max.max(1.0));
        let tried = trial(&check);
        let is_models = matches!(self.source, Source::Model { .. }) && !self.is_rule_under_model(&check);
        let is_untried = is_models && self.standing(&check).is_none();
        let why = match check.weight {
            Weight::Advisory => None,
            Weight::Critical if tried.is_noisy() => Some(would_have(tried)),
            // A model's check counts for nothing that the past could not be asked about.
            Weight::Critical if is_untried => Some("it was not tried on the past".to_owned()),
            Weight::Critical => None,
        };
        let Some(why) = why else { return (check, None) };
        check.weight = Weight::Advisory;
        let remark = format!("{} advises only: {why}", check.name);
        (check, Some(remark))
    }
}

/// A direction that makes no sense for the kind, or that turns an objective round.
fn wrong_direction(check: &Check, objectives: &[Check]) -> Option<String> {
    if let (Sli::Mix { .. }, Aim::Improvement) = (&check.sli, check.aim) {
        return Some("a mix does not improve: any other mix is another".into());
    }
    if check.direction == Direction::LowerIsWorse {
        let why = match &check.sli {
            Sli::Latency { .. } => Some("of latency, more is worse"),
            Sli::Mix { .. } => Some("a mix has no direction: any other mix is worse"),
            Sli::Liveness { .. } => Some("of readings in which nothing went on, more is worse"),
            Sli::Probe { .. } => Some("of failed probes, more is worse"),
            Sli::Ratio { .. } | Sli::EventsPerTraffic { .. } | Sli::Level { .. } => None,
        };
        if let Some(why) = why {
            return Some(why.into());
        }
    }
    let objective = objectives.iter().find(|objective| narrows(&check.sli, &objective.sli))?;
    (objective.direction != check.direction)
        .then(|| format!("the objective {} says the other direction is worse", objective.name))
}

#[cfg(test)]
mod tests {
    use super::{
        keeping::{LINES_MAX, NOTES_MAX, PATH_BYTES_MAX},
        narrowing::{MATCHERS_MAX, VALUES_MAX, WORD_BYTES_MAX},
        *,
    };
    use crate::domain::{DiffLine, HardLimit, Match, Selector, Split};

    const SERVED: &[&str] = &["ratio", "latency", "events_per_traffic"];

    fn is(value: &str) -> Match {
        Match::Is(value.into())
    }

    fn errors() -> Sli {
        let all = Selector::metric("http_requests_total");
        Sli::Ratio { bad: all.clone().with("code", Match::StartsWith("5".into())), total: all }
    }

    fn latency() -> Sli {
        Sli::Latency { histogram: Selector::metric("http_request_duration_seconds"), slow_above_seconds: 0.5 }
    }

    fn misses() -> Sli {
        Sli::EventsPerTraffic {
            events: Selector::metric("cache_misses_total"),
            traffic: Selector::metric("http_requests_total"),
        }
    }

    fn check(name: &str, sli: Sli) -> Check {
        Check {
            name: CheckName::new(name),
            sli,
            direction: Direction::HigherIsWorse,
            ratio_max: 1.5,
            limit: None,
            aim: Aim::Guard,
            weight: Weight::Critical,
            origin: Origin::Heuristic,
            rationale: Text::default(),
            lines: vec![DiffLine { path: "a.rs".into(), line: 1 }],
            split: Split::default(),
        }
    }

    fn bounds() -> Bounds {
        let entry = |name: &str, sli, label: Option<&str>| CatalogueEntry {
            name: name.into(),
            sli,
            route_label: label.map(str::to_owned),
            segment_label: label.map(str::to_owned),
            tenant_label: None,
        };
        let entries = vec![
            entry("errors", errors(), Some("route")),
            entry("latency", latency(), Some("route")),
            entry("misses", misses(), None),
        ];
        let catalogue = Catalogue { entries, traffic: Some(Selector::metric("http_requests_total")) };
        let limit = Some(HardLimit { bad_share_max: 0.05, total_min: 100, bad_min: 5 });
        let objective = Check { origin: Origin::Slo, limit, lines: Vec::new(), ..check("objective", errors()) };
        Bounds { catalogue, mandatory: vec![objective], proposed_max: 3, ratio_max: 2.0, ..Bounds::default() }
    }

    fn draft(checks: Vec<Check>) -> Draft {
        Draft::by_rules(checks, WayBack::Open, Vec::new())
    }

    /// The reason for refusing this check alone; empty when it is admitted.
    fn why(check: Check) -> String {
        let admission = admit(draft(vec![check]), &bounds(), Touched::NOTHING, SERVED, |_| Trial::default());
        admission.rejections.first().map(|rejection| rejection.why.to_string()).unwrap_or_default()
    }

    #[track_caller]
    fn refused(check: Check, expected: &str) {
        let given = why(check);
        assert!(given.contains(expected) && !expected.is_empty(), "`{given}` does not say `{expected}`");
    }

    fn on_route(sli: &Sli) -> Sli {
        sli.narrowed("route", &is("/pay"))
    }

    #[test]
    fn the_objectives_come_first_and_take_no_place() {
        let mut bounds = bounds();
        bounds.proposed_max = 1;
        let admission =
            admit(draft(vec![check("a", latency()), check("b", misses())]), &bounds, Touched::NOTHING, SERVED, |_| {
                Trial::default()
            });
        let names: Vec<_> = admission.plan.checks().iter().map(|check| check.name.as_str()).collect();
        assert_eq!(names, ["objective", "a"]);
        assert_eq!(admission.plan.check(CheckId(1)).unwrap().name.as_str(), "a");
        assert_eq!(admission.plan.check(CheckId(2)), None);
        assert_eq!(admission.rejections[0].check.as_str(), "b");
        assert!(admission.rejections[0].why.as_str().contains("room for 1"), "{:?}", admission.rejections);
    }

    #[test]
    fn a_check_is_split_as_the_catalogue_says_whatever_the_draft_says() {
        let asked = Split { segments: Some("password".into()), tenants: Some("email".into()) };
        let draft_of = |sli| draft(vec![Check { split: asked.clone(), ..check("x", sli) }]);
        let split = |sli| {
            admit(draft_of(sli), &bounds(), Touched::NOTHING, SERVED, |_| Trial::default()).plan.checks()[1]
                .split
                .clone()
        };
        let by_route = Split { segments: Some("route".into()), tenants: None };
        assert_eq!(split(latency()), by_route);
        assert_eq!(split(on_route(&errors())), by_route, "a narrower check is split as the entry");
        assert_eq!(split(misses()), Split::default());
        let traffic = Selector::metric("http_requests_total");
        let added = Sli::EventsPerTraffic { events: Selector::metric("retries_total"), traffic };
        assert_eq!(split(added), Split::default(), "no entry says how an added metric is split");
    }

    #[test]
    fn a_noisy_check_advises_only_and_a_noisy_objective_is_told_of() {
        let noisy = |alarms| move |_: &Check| Trial { alarms, rollouts: 40 };
        let critical = |admission: &Admission| admission.plan.checks()[1].weight == Weight::Critical;
        let once = admit(draft(vec![check("a", latency())]), &bounds(), Touched::NOTHING, SERVED, noisy(1));
        assert!(critical(&once) && once.plan.notes().len() == 1, "one alarm may be chance");
        let twice = admit(draft(vec![check("a", latency())]), &bounds(), Touched::NOTHING, SERVED, noisy(2));
        assert!(!critical(&twice));
        assert_eq!(twice.plan.checks()[0].weight, Weight::Critical, "objectives are the operator's word");
        let notes: Vec<_> = twice.plan.notes().iter().skip(1).map(|note| note.as_str()).collect();
        let told = "it would have rolled back 2 of 40 rollouts in which nothing had changed";
        assert_eq!(notes, [format!("the objective objective is noisy: {told}"), format!("a advises only: {told}")]);
        let rarely = admit(draft(vec![check("a", latency())]), &bounds(), Touched::NOTHING, SERVED, |_| Trial {
            alarms: 2,
            rollouts: 200,
        });
        assert!(critical(&rarely), "one in a hundred is let pass");
    }

    #[test]
    fn a_refused_check_takes_no_place() {
        let mut bounds = bounds();
        bounds.proposed_max = 1;
        let checks = vec![check("", latency()), check("kept", latency())];
        assert_eq!(
            admit(draft(checks), &bounds, Touched::NOTHING, SERVED, |_| Trial::default()).plan.checks().len(),
            2
        );
    }

    #[test]
    fn a_check_may_narrow_an_entry_of_the_catalogue() {
        for sli in [on_route(&errors()), latency(), on_route(&latency()), misses(), on_route(&misses())] {
            assert_eq!(why(check("narrow", sli.clone())), "", "{sli}");
        }
    }

    #[test]
    fn a_check_cannot_change_what_bad_means() {
        let all = || Selector::metric("http_requests_total");
        let bad = || all().with("code", Match::StartsWith("5".into()));
        let narrow = |selector: Selector| selector.with("route", is("/pay"));
        for sli in [
            Sli::Ratio { bad: narrow(all()), total: narrow(all()) },
            Sli::Ratio { bad: narrow(all().with("code", is("200"))), total: narrow(all()) },
            Sli::Ratio { bad: narrow(bad()), total: all() },
            Sli::Ratio { bad: bad(), total: narrow(all()) },
            Sli::EventsPerTraffic { events: bad(), traffic: all() },
            Sli::EventsPerTraffic { events: Selector::metric("cache_misses_total"), traffic: narrow(all()) },
            Sli::Latency {
                histogram: narrow(Selector::metric("http_request_duration_seconds")),
                slow_above_seconds: 0.25,
            },
        ] {
            refused(check("other", sli), "narrows no entry");
        }
    }

    #[test]
    fn a_metric_outside_the_catalogue_counts_only_as_events_of_an_added_line() {
        let all = || Selector::metric("http_requests_total");
        let added = |traffic| Sli::EventsPerTraffic { events: Selector::metric("retries_total"), traffic };
        assert_eq!(why(check("added", added(all()))), "");
        let nowhere = Check { weight: Weight::Advisory, lines: Vec::new(), ..check("added", added(all())) };
        refused(nowhere, "retries_total is not in the service's catalogue");
        refused(check("added", added(Selector::metric("other_total"))), "counted against http_requests_total");
        refused(check("added", added(all().with("code", is("418")))), "counted against http_requests_total");
        let gauge = Sli::Ratio { bad: Selector::metric("mine"), total: all() };
        refused(check("ratio", gauge), "mine is not in the service's catalogue");
        let mut bounds = bounds();
        bounds.catalogue.traffic = None;
        let admission =
            admit(draft(vec![check("added", added(all()))]), &bounds, Touched::NOTHING, SERVED, |_| Trial::default());
        assert_eq!(admission.rejections.len(), 1, "without a unit of traffic there is nothing to count against");
    }

    #[test]
    fn a_name_is_short_printable_and_its_own() {
        let named = |name: &str| check(name, on_route(&errors()));
        assert_eq!(why(named(&"a".repeat(NAME_BYTES_MAX))), "");
        for name in ["", "a\nb", &"a".repeat(NAME_BYTES_MAX + 1)] {
            refused(named(name), "printable bytes");
        }
        refused(named("objective"), "another check has this name");
    }

    #[test]
    fn the_same_is_measured_once() {
        refused(check("again", errors()), "another check measures the same");
        let twice = vec![check("a", latency()), check("b", latency())];
        assert_eq!(
            admit(draft(twice), &bounds(), Touched::NOTHING, SERVED, |_| Trial::default()).plan.checks().len(),
            2
        );
    }

    #[test]
    fn a_kind_without_a_test_is_refused() {
        let level = Sli::Level { gauge: Selector::metric("http_requests_total") };
        refused(check("level", level), "no test serves checks of kind level");
    }

    #[test]
    fn a_direction_must_make_sense() {
        let turned = |sli| Check { direction: Direction::LowerIsWorse, ..check("turned", sli) };
        refused(turned(latency()), "of latency, more is worse");
        refused(turned(on_route(&errors())), "the objective objective says the other direction is worse");
        assert_eq!(why(turned(misses())), "");
    }

    #[test]
    fn numbers_must_be_numbers() {
        for ratio_max in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            refused(Check { ratio_max, ..check("x", latency()) }, "not a number");
        }
        for slow_above_seconds in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
            let histogram = Selector::metric("http_request_duration_seconds");
            refused(check("x", Sli::Latency { histogram, slow_above_seconds }), "number of seconds");
        }
    }

    #[test]
    fn leniency_is_clamped_and_strictness_ends_at_one() {
        for (asked, given) in [(1.0, 1.0), (1.9, 1.9), (2.0, 2.0), (50.0, 2.0), (0.2, 1.0), (-3.0, 1.0)] {
            let asked = Check { ratio_max: asked, ..check("x", latency()) };
            assert_eq!(
                admit(draft(vec![asked]), &bounds(), Touched::NOTHING, SERVED, |_| Trial::default()).plan.checks()[1]
                    .ratio_max,
                given
            );
        }
    }

    #[test]
    fn a_draft_makes_no_limit_moves_none_and_passes_for_no_objective() {
        let limit = Some(HardLimit { bad_share_max: 1.0, total_min: 0, bad_min: 0 });
        let proposed = Check { limit, origin: Origin::Slo, ..check("x", latency()) };
        let plan = admit(draft(vec![proposed]), &bounds(), Touched::NOTHING, SERVED, |_| Trial::default()).plan;
        assert_eq!((plan.checks()[1].limit, plan.checks()[1].origin), (None, Origin::Model));
        assert_eq!(plan.checks()[0], bounds().mandatory[0]);
    }

    #[test]
    fn a_critical_check_rests_on_lines_and_an_advisory_one_need_not() {
        let floating = Check { lines: Vec::new(), ..check("x", latency()) };
        refused(floating.clone(), "names the lines");
        assert_eq!(why(Check { weight: Weight::Advisory, ..floating }), "");
        let long = vec![DiffLine { path: "a".repeat(PATH_BYTES_MAX + 1), line: 1 }];
        refused(Check { lines: long, ..check("x", latency()) }, "names the lines");
    }

    #[test]
    fn labels_values_and_conditions_are_bounded() {
        let with = |label: &str, value: Match| check("x", latency().narrowed(label, &value));
        let longest = "a".repeat(WORD_BYTES_MAX);
        let longer = "a".repeat(WORD_BYTES_MAX + 1);
        assert_eq!(why(with("_route1", is(&longest))), "");
        for label in ["", "1route", "a-b", "a:b", "é", "a\"}", &longer] {
            refused(with(label, is("x")), "a label's name");
        }
        for value in [is(&longer), is("a\nb"), Match::IsNot(longer.clone()), Match::OneOf(vec![longer.clone()])] {
            refused(with("route", value), "printable bytes");
        }
        refused(with("route", Match::StartsWith(String::new())), "narrows nothing");
        refused(with("route", Match::OneOf(Vec::new())), "1 to 16 values");
        refused(with("route", Match::OneOf(vec!["a".into(); VALUES_MAX + 1])), "1 to 16 values");
        let many = |count: usize| (0..count).fold(latency(), |sli, n| sli.narrowed(&format!("l{n}"), &is("x")));
        assert_eq!(why(check("x", many(MATCHERS_MAX))), "");
        refused(check("x", many(MATCHERS_MAX + 1)), "at most 8 conditions");
        let traffic = Selector::metric("http_requests_total");
        for metric in ["", "1x", "a b", "a{}", &longer] {
            let sli = Sli::EventsPerTraffic { events: Selector::metric(metric), traffic: traffic.clone() };
            refused(check("x", sli), "a metric's name");
        }
    }

    #[test]
    fn what_a_plan_keeps_of_a_draft_is_bounded() {
        let line = |n| DiffLine { path: "a.sql".into(), line: n };
        let lines: Vec<_> = (1..=100).map(line).collect();
        let draft = Draft::by_rules(
            vec![Check { lines: lines.clone(), ..check("x", latency()) }; PROPOSALS_MAX + 5],
            WayBack::OneWay { why: Text::new("drops"), lines },
            vec![Text::new("note"); NOTES_MAX + 1],
        );
        let Admission { plan, rejections, .. } =
            admit(draft, &bounds(), Touched::NOTHING, SERVED, |_| Trial::default());
        assert_eq!(plan.checks()[1].lines.len(), LINES_MAX);
        assert_eq!(rejections.len(), PROPOSALS_MAX - 1);
        let kept: Vec<_> = (1..=32).map(line).collect();
        assert_eq!(*plan.way_back(), WayBack::OneWay { why: Text::new("drops"), lines: kept });
        assert_eq!(plan.notes().len(), NOTES_MAX + 2);
        assert!(plan.notes()[NOTES_MAX + 1].as_str().starts_with("5 proposals"), "{:?}", plan.notes());
    }

    #[test]
    fn a_refused_name_is_told_without_its_tricks() {
        let name = format!("{}\u{202e}\n", "a".repeat(10_000));
        let admission =
            admit(draft(vec![check(&name, latency())]), &bounds(), Touched::NOTHING, SERVED, |_| Trial::default());
        let told = admission.rejections[0].check.as_str();
        assert!(told.len() <= crate::domain::TEXT_BYTES_MAX && !told.contains('\n'), "{told}");
    }

    fn by_model(checks: Vec<Check>, tried: &[(&str, Standing)]) -> Draft {
        let trial = |(name, standing): &(&str, Standing)| Tried {
            check: CheckName::new(*name),
            standing: *standing,
            reason: super::super::Reason::Sound,
            detail: Text::default(),
            baseline: None,
            trial: Trial::default(),
            power: Vec::new(),
        };
        let source = Source::Model { model: Text::new("m"), is_cached: false };
        Draft { source, tried: tried.iter().map(trial).collect(), ..draft(checks) }
    }

    fn admitted(draft: Draft) -> Vec<(String, Weight, f64)> {
        let admission = admit(draft, &bounds(), Touched::NOTHING, SERVED, |_| Trial::default());
        let kept = |check: &Check| (check.name.to_string(), check.weight, check.ratio_max);
        admission.plan.checks().iter().skip(1).map(kept).collect()
    }

    #[test]
    fn the_rules_guards_stand_in_a_models_plan_untried_and_whatever_bears_their_names() {
        let rule = check("guard", latency());
        let alone = admitted(by_model(vec![rule.clone()], &[]));
        assert_eq!(alone, [("guard".to_owned(), Weight::Critical, 1.5)]);
        for standing in [Standing::Demoted, Standing::Rejected] {
            assert_eq!(admitted(by_model(vec![rule.clone()], &[("guard", standing)])), alone);
        }
        let namesake = Check { origin: Origin::Model, ..check("guard", misses()) };
        assert_eq!(admitted(by_model(vec![rule, namesake], &[("guard", Standing::Admitted)])), alone);
    }

    #[test]
    fn a_models_check_takes_the_place_of_a_rules_guard_only_where_it_is_no_weaker() {
        let of_model = |ratio_max| Check { origin: Origin::Model, ratio_max, ..check("m", latency()) };
        let names = |proposed: Check, standing| {
            let draft = by_model(vec![check("guard", latency()), proposed], &[("m", standing)]);
            admitted(draft).into_iter().map(|(name, ..)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(of_model(1.5), Standing::Admitted), ["m"]);
        assert_eq!(names(of_model(1.2), Standing::Admitted), ["m"]);
        assert_eq!(names(of_model(1.6), Standing::Admitted), ["guard"], "more lenient");
        assert_eq!(names(of_model(1.2), Standing::Demoted), ["guard"], "it would advise only");
        assert_eq!(names(of_model(1.2), Standing::Rejected), ["guard"]);
        let floating = Check { lines: Vec::new(), ..of_model(1.2) };
        assert_eq!(names(floating, Standing::Admitted), ["guard"], "refused for another reason");
    }

    #[test]
    fn neither_rules_nor_a_model_crowd_out_the_other() {
        let route = |n: usize| latency().narrowed("route", &is(&format!("/{n}")));
        let of_rules = (0..5).map(|n| check(&format!("r{n}"), route(n)));
        let of_model = (5..10).map(|n| Check { origin: Origin::Model, ..check(&format!("m{n}"), route(n)) });
        let names =
            |checks: Vec<Check>| admitted(by_model(checks, &[])).into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
        let models_first = names(of_model.clone().chain(of_rules.clone()).collect());
        assert_eq!(models_first, ["m5", "m6", "m7", "r0", "r1", "r2"]);
        assert_eq!(names(of_rules.chain(of_model).collect()), ["r0", "r1", "r2", "m5", "m6", "m7"]);
    }
}
