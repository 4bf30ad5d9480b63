//! What can be measured of a service (its SLIs) and what it owes (its SLOs): the catalogue that planners choose from, and
//! the checks in every plan.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    default,
    form::other_word,
    key::{Key, shown},
    meant::Probe,
    reading::{Reading, WordForm},
    written::{self, SliKind},
};
use crate::{
    domain::{
        Aim, Catalogue, CatalogueEntry, Check, CheckName, Direction, HardLimit, Origin, Selector, Sli, Text, Weight,
    },
    plan::Bounds,
    stats,
};

/// Most SLIs of one service.
pub const SLIS_MAX: usize = 100;

const NAME: WordForm = WordForm {
    name: "name of an SLI",
    fix: "a name of lower-case letters, digits, dashes and underscores",
    bytes_max: 60,
    is_legal: |word| {
        word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_')
    },
};

/// What an SLI may refer to.
struct Around<'a> {
    /// What stands for a unit of traffic.
    traffic: Option<&'a Selector>,
    /// The names of the probes.
    probes: &'a [String],
    /// Where they are written.
    probes_key: &'a Key,
}

impl Reading<'_> {
    /// What a draft may ask of a service, and what every plan has.
    pub(super) fn bounds(&mut self, service: &Key, written: &written::Service, probes: &[Probe]) -> Bounds {
        let traffic_key = service.name("traffic_metric");
        let traffic = written.traffic_metric.as_ref().map(|selector| self.selector(&traffic_key, selector));
        let proposed_key = service.name("proposed_checks_max");
        let proposed_max = self.size(&proposed_key, written.proposed_checks_max, &default::PROPOSED_CHECKS_MAX);
        let ratio_key = service.name("ratio_max");
        let ratio_max = self.ratio(&ratio_key, written.ratio_max, default::PROPOSED_RATIO_MAX, default::RATIO_MOST);
        let slis_key = service.name("slis");
        let probes: Vec<String> = probes.iter().map(|probe| probe.name.clone()).collect();
        let around = Around { traffic: traffic.as_ref(), probes: &probes, probes_key: &service.name("probes") };
        let entries = self.catalogue(&slis_key, written.slis.as_deref().unwrap_or_default(), &around);
        let slos_key = service.name("slos");
        let slos = written.slos.as_deref().unwrap_or_default();
        if slos.is_empty() {
            let what = "has no objective, so nothing would ever roll it back";
            let fix = format!("add [[{slos_key}]] with the name of an SLI");
            self.problems.add(&slos_key, what, fix);
        }
        let mandatory = self.owed(&slos_key, slos, &slis_key, &entries, default::SLO_RATIONALE);
        let rules = written.path_rules.as_deref().unwrap_or_default();
        let path_rules = self.path_rules(service, rules, &entries, &mandatory);
        let catalogue = Catalogue { entries, traffic };
        Bounds { catalogue, mandatory, proposed_max, ratio_max, beyond_catalogue: false, probes, path_rules }
    }

    fn catalogue(&mut self, key: &Key, written: &[written::Sli], around: &Around<'_>) -> Vec<CatalogueEntry> {
        self.at_most(key, written.len(), SLIS_MAX, "SLIs");
        let mut entries: Vec<CatalogueEntry> = Vec::new();
        let mut names = BTreeSet::new();
        for (place, sli) in written.iter().enumerate().take(SLIS_MAX) {
            let key = key.at(place);
            let name_key = key.name("name");
            let name = sli.name.clone().unwrap_or_default();
            if sli.name.is_none() {
                self.missing(&name_key, "a name such as \"errors\"");
            } else if self.word(&name_key, &name, &NAME) && !names.insert(name.clone()) {
                self.problems.add(&name_key, format!("another SLI is named \"{name}\""), "write another name");
            }
            let mut label = |name: &str, written: &Option<String>| self.label(&key.name(name), written.as_ref());
            let route_label = label("route_label", &sli.route_label);
            let segment_label = label("segment_label", &sli.segment_label);
            let tenant_label = label("tenant_label", &sli.tenant_label);
            if let Some(sli) = self.sli(&key, sli, around) {
                entries.push(CatalogueEntry { name, sli, route_label, segment_label, tenant_label });
            }
        }
        entries
    }

    /// An SLI, or `None` where a part of it is missing.
    fn sli(&mut self, key: &Key, written: &written::Sli, around: &Around<'_>) -> Option<Sli> {
        let Some(kind) = written.kind else {
            let kinds = "\"ratio\", \"latency\", \"events_per_traffic\", \"level\", \"mix\", \"liveness\" or \"probe\"";
            self.missing(&key.name("kind"), kinds);
            return None;
        };
        self.refuse_foreign_parts(key, kind, written);
        match kind {
            SliKind::Ratio => {
                let bad = self.part(key, "bad", written.bad.as_ref());
                let total = self.part(key, "total", written.total.as_ref());
                let (bad, total) = (bad?, total?);
                if bad == total && self.are_fine(&[&key.name("bad"), &key.name("total")]) {
                    let fix = "add a condition, such as where = { code = { starts_with = \"5\" } }";
                    self.problems.add(&key.name("bad"), "is the same as total: everything would be bad", fix);
                }
                Some(Sli::Ratio { bad, total })
            }
            SliKind::Latency => {
                let histogram = self.histogram(key, written.histogram.as_ref());
                let slow_key = key.name("slow_above");
                if written.slow_above.is_none() {
                    self.missing(&slow_key, "a duration such as \"300ms\"");
                }
                let slow = self.span(&slow_key, written.slow_above.as_ref(), default::SLOW_ABOVE);
                Some(Sli::Latency { histogram: histogram?, slow_above_seconds: slow.as_secs_f64() })
            }
            SliKind::EventsPerTraffic => {
                let events = self.part(key, "events", written.events.as_ref());
                let traffic = match (&written.traffic, around.traffic) {
                    (None, Some(traffic)) => Some(traffic.clone()),
                    (written, _) => self.part(key, "traffic", written.as_ref()),
                };
                Some(Sli::EventsPerTraffic { events: events?, traffic: traffic? })
            }
            SliKind::Level => Some(Sli::Level { gauge: self.part(key, "gauge", written.gauge.as_ref())? }),
            SliKind::Mix => {
                let counter = self.part(key, "counter", written.counter.as_ref());
                let by_key = key.name("by");
                match &written.by {
                    Some(label) => {
                        self.word(&by_key, label, self.names.label());
                    }
                    None => self.missing(&by_key, "the label whose values are the categories"),
                }
                Some(Sli::Mix { counter: counter?, by: written.by.clone()? })
            }
            SliKind::Liveness => Some(Sli::Liveness { series: self.part(key, "series", written.series.as_ref())? }),
            SliKind::Probe => Some(Sli::Probe { probe: self.probe_name(key, written, around)? }),
        }
    }

    /// The name of a probe that there is.
    fn probe_name(&mut self, key: &Key, written: &written::Sli, around: &Around<'_>) -> Option<String> {
        let key = key.name("probe");
        let Some(name) = &written.probe else {
            self.missing(&key, "the name of a probe");
            return None;
        };
        // A probe that is there and could not be read has its own problem.
        if !around.probes.contains(name) && self.are_fine(&[around.probes_key]) {
            let known: Vec<&str> = around.probes.iter().map(String::as_str).collect();
            let add = || format!("add it to [[{}]]", around.probes_key);
            let fix = if known.is_empty() { add() } else { other_word(name, &known) };
            self.problems.add(&key, format!("there is no probe \"{}\"", shown(name)), fix);
        }
        Some(name.clone())
    }

    fn part(&mut self, key: &Key, name: &str, written: Option<&written::Selector>) -> Option<Selector> {
        let key = key.name(name);
        if written.is_none() {
            self.missing(&key, "a selector such as { metric = \"http_requests_total\" }");
        }
        written.map(|selector| self.selector(&key, selector))
    }

    /// A histogram is named without the ending its buckets bear, for the provider adds it.
    fn histogram(&mut self, key: &Key, written: Option<&written::Selector>) -> Option<Selector> {
        let histogram = self.part(key, "histogram", written)?;
        if let Some(base) = histogram.metric.strip_suffix("_bucket") {
            let key = key.name("histogram").name("metric");
            let what = format!("\"{}\" is one series of a histogram", shown(&histogram.metric));
            self.problems.add(&key, what, format!("write \"{}\"", shown(base)));
        }
        Some(histogram)
    }

    /// A key that belongs to another kind would be read by nobody.
    fn refuse_foreign_parts(&mut self, key: &Key, kind: SliKind, written: &written::Sli) {
        let parts = [
            ("bad", SliKind::Ratio, written.bad.is_some()),
            ("total", SliKind::Ratio, written.total.is_some()),
            ("histogram", SliKind::Latency, written.histogram.is_some()),
            ("slow_above", SliKind::Latency, written.slow_above.is_some()),
            ("events", SliKind::EventsPerTraffic, written.events.is_some()),
            ("traffic", SliKind::EventsPerTraffic, written.traffic.is_some()),
            ("gauge", SliKind::Level, written.gauge.is_some()),
            ("counter", SliKind::Mix, written.counter.is_some()),
            ("by", SliKind::Mix, written.by.is_some()),
            ("series", SliKind::Liveness, written.series.is_some()),
            ("probe", SliKind::Probe, written.probe.is_some()),
        ];
        for (name, of, is_written) in parts {
            if is_written && of != kind {
                let what = format!("belongs to kind \"{}\", not to \"{}\"", word_of(of), word_of(kind));
                self.problems.add(&key.name(name), what, "remove it, or write the other kind");
            }
        }
    }

    /// What is owed on some SLIs, as the checks of a plan. `rationale` is what stands where none is written.
    pub(super) fn owed(
        &mut self,
        key: &Key,
        written: &[written::Slo],
        slis_key: &Key,
        entries: &[CatalogueEntry],
        rationale: &str,
    ) -> Vec<Check> {
        self.at_most(key, written.len(), SLIS_MAX, "objectives");
        // Of two with one name the first counts, so the last is put in first.
        let by_name: BTreeMap<&str, &CatalogueEntry> =
            entries.iter().rev().map(|entry| (entry.name.as_str(), entry)).collect();
        let mut taken = BTreeSet::new();
        let mut checks: Vec<Check> = Vec::new();
        for (place, slo) in written.iter().enumerate().take(SLIS_MAX) {
            let key = key.at(place);
            let sli_key = key.name("sli");
            let Some(name) = &slo.sli else {
                self.missing(&sli_key, "the name of an SLI");
                continue;
            };
            let Some(entry) = by_name.get(name.as_str()) else {
                // An SLI that is there and could not be read has its own problem.
                if self.are_fine(&[slis_key]) {
                    let known: Vec<&str> = by_name.keys().copied().collect();
                    let fix =
                        if known.is_empty() { format!("add it to [[{slis_key}]]") } else { other_word(name, &known) };
                    self.problems.add(&sli_key, format!("there is no SLI \"{}\"", shown(name)), fix);
                }
                continue;
            };
            if !taken.insert(name.as_str()) {
                self.problems.add(&sli_key, format!("another objective is on \"{name}\""), "keep one of the two");
            }
            let check = self.check(&key, entry, slo, rationale);
            if let Some(twin) = checks.iter().find(|other| other.sli == check.sli && other.name != check.name) {
                let what = format!("\"{name}\" measures the same as \"{}\"", twin.name);
                self.problems.add(&sli_key, what, "keep one of the two");
            }
            checks.push(check);
        }
        checks
    }

    fn check(&mut self, key: &Key, entry: &CatalogueEntry, written: &written::Slo, rationale: &str) -> Check {
        let sli = &entry.sli;
        let served = stats::served();
        if !served.contains(&sli.kind()) {
            let what = format!("no test decides an SLI of kind {}", sli.kind());
            self.problems.add(&key.name("sli"), what, format!("choose one of kind {}", served.join(", ")));
        }
        let direction = match written.direction {
            Some(written::Direction::LowerIsWorse) => Direction::LowerIsWorse,
            Some(written::Direction::HigherIsWorse) | None => Direction::HigherIsWorse,
        };
        let lower = match sli {
            Sli::Latency { .. } => Some("fewer slow requests are not worse"),
            Sli::Liveness { .. } => Some("fewer readings without life are not worse"),
            Sli::Probe { .. } => Some("fewer failed probes are not worse"),
            Sli::Ratio { .. } | Sli::EventsPerTraffic { .. } | Sli::Level { .. } | Sli::Mix { .. } => None,
        };
        if let Some(what) = lower.filter(|_| direction == Direction::LowerIsWorse) {
            self.problems.add(&key.name("direction"), what, "remove it, or choose another SLI");
        }
        if written.direction.is_some() && matches!(sli, Sli::Mix { .. }) {
            let what = "a mix has no direction: any other mix is worse";
            self.problems.add(&key.name("direction"), what, "remove it");
        }
        let limit_key = key.name("limit");
        if written.limit.is_some() {
            self.refuse_limit(&limit_key, sli, direction);
        }
        let ratio_key = key.name("ratio_max");
        Check {
            name: CheckName::new(entry.name.as_str()),
            sli: sli.clone(),
            direction,
            ratio_max: self.ratio(&ratio_key, written.ratio_max, default::SLO_RATIO_MAX, default::RATIO_MOST),
            limit: written.limit.as_ref().map(|limit| self.limit(&limit_key, limit)),
            aim: Aim::Guard,
            weight: Weight::Critical,
            origin: Origin::Slo,
            rationale: Text::new(written.rationale.as_deref().unwrap_or(rationale)),
            lines: Vec::new(),
            split: entry.split(),
        }
    }

    /// A limit is a share of bad ones among all, from above: where there is no such share it bounds nothing.
    fn refuse_limit(&mut self, key: &Key, sli: &Sli, direction: Direction) {
        let (what, fix) = match sli {
            Sli::Level { .. } | Sli::Mix { .. } => {
                let kind = sli.kind();
                let what = format!("is a share of bad ones, and an SLI of kind {kind} knows no bad ones");
                (what, "remove it, or put it on an SLI of kind ratio, latency or events_per_traffic")
            }
            Sli::EventsPerTraffic { .. } if direction == Direction::LowerIsWorse => (
                "bounds from above what is worse when there is less of it".to_owned(),
                "remove it, or write direction = \"higher_is_worse\"",
            ),
            Sli::Ratio { .. }
            | Sli::Latency { .. }
            | Sli::EventsPerTraffic { .. }
            | Sli::Liveness { .. }
            | Sli::Probe { .. } => return,
        };
        self.problems.add(key, what, fix);
    }

    fn limit(&mut self, key: &Key, written: &written::Limit) -> HardLimit {
        let share_key = key.name("bad_share_max");
        let percent = match &written.bad_share_max {
            Some(percent) => self.percent(&share_key, percent),
            None => {
                self.missing(&share_key, "a share such as \"5%\"");
                None
            }
        };
        if percent == Some(100.0) {
            self.problems.add(&share_key, "100% can never be passed", "write less, such as \"5%\"");
        }
        HardLimit {
            bad_share_max: percent.unwrap_or_default() / 100.0,
            total_min: self.count(&key.name("total_min"), written.total_min, &default::TOTAL_MIN),
            bad_min: self.count(&key.name("bad_min"), written.bad_min, &default::BAD_MIN),
        }
    }
}

/// The word for a kind, as in the file.
const fn word_of(kind: SliKind) -> &'static str {
    match kind {
        SliKind::Ratio => "ratio",
        SliKind::Latency => "latency",
        SliKind::EventsPerTraffic => "events_per_traffic",
        SliKind::Level => "level",
        SliKind::Mix => "mix",
        SliKind::Liveness => "liveness",
        SliKind::Probe => "probe",
    }
}
