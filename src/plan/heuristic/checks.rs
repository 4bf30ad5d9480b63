//! From signals to checks. What the catalogue can measure of a touched route is watched on that route alone, where a
//! fault shows soonest; what cannot be tied to a route is watched on all traffic, and only shown.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    CHECKS_MAX, EVENTS_RATIO_MAX, LATENCY_RATIO_MAX, LINES_EACH_MAX, RATIO_RATIO_MAX,
    metrics::BadEvents,
    route::Route,
    routes::{How, Touch},
    signals::{Hit, Signal},
};
use crate::domain::{
    Aim, Catalogue, CatalogueEntry, Check, CheckName, DiffLine, Direction, Match, Origin, Selector, Sli, Split, Text,
    Weight,
};

/// Most bytes of a check's name.
const NAME_BYTES_MAX: usize = 80;
/// Most signals that one rationale names.
const NAMED_MAX: usize = 3;

/// A hit with the signal that found it.
pub(super) struct Found {
    /// The signal.
    pub(super) signal: &'static Signal,
    /// What it found.
    pub(super) hit: Hit,
}

/// A route with everything that was found of it.
struct TouchedRoute {
    route: Route,
    value: Match,
    how: How,
    lines: Vec<DiffLine>,
}

/// The checks that the hits call for, most important first, and what could not be checked.
pub(super) fn compose(found: &[Found], catalogue: &Catalogue) -> (Vec<Check>, Vec<Text>) {
    let mut bench = Bench { catalogue, checks: Vec::new(), notes: Vec::new() };
    let routes = touched_routes(found);
    let concerns: Vec<(&'static Signal, &DiffLine)> = found
        .iter()
        .filter_map(|found| match &found.hit {
            Hit::Concern(line) => Some((found.signal, line)),
            Hit::Route(_) | Hit::BadEvents(_) => None,
        })
        .collect();
    for route in &routes {
        bench.on_route(route, &concerns, "ratio");
    }
    for found in found {
        if let Hit::BadEvents(counter) = &found.hit {
            bench.on_counter(counter);
        }
    }
    for route in &routes {
        bench.on_route(route, &concerns, "latency");
    }
    bench.on_unlabelled_routes(&routes);
    bench.on_known_counters(&concerns);
    bench.on_all_traffic(found, &routes, &concerns);
    bench.finish()
}

fn touched_routes(found: &[Found]) -> Vec<TouchedRoute> {
    let mut by_value: BTreeMap<Match, TouchedRoute> = BTreeMap::new();
    for found in found {
        let Hit::Route(Touch { route, line, how }) = &found.hit else { continue };
        let Some(value) = route.matcher() else { continue };
        let touched = by_value.entry(value.clone()).or_insert_with(|| TouchedRoute {
            route: route.clone(),
            value,
            how: *how,
            lines: Vec::new(),
        });
        if *how < touched.how {
            // The strongest evidence is named first, with the route as it is spelled there.
            (touched.how, touched.route) = (*how, route.clone());
            touched.lines.insert(0, line.clone());
        } else if !touched.lines.contains(line) && touched.lines.len() < LINES_EACH_MAX {
            touched.lines.push(line.clone());
        }
    }
    let mut routes: Vec<TouchedRoute> = by_value.into_values().collect();
    for touched in &mut routes {
        touched.lines.truncate(LINES_EACH_MAX);
    }
    routes.sort_by_key(|touched| (touched.how, std::cmp::Reverse(touched.lines.len())));
    routes.truncate(CHECKS_MAX);
    routes
}

impl TouchedRoute {
    fn because(&self) -> String {
        let route = &self.route;
        let at = self.lines.first().map(|line| format!(" at {line}")).unwrap_or_default();
        match self.how {
            How::Handler => format!("the handler of {route} changed{at}"),
            How::Declared => format!("the declaration of {route} changed{at}"),
            How::New => format!("the route {route} was added{at}"),
            How::Near => format!("code next to the name of {route} changed{at}"),
            How::File => format!("the file that serves {route} changed{at}"),
            How::FileName => format!("a file named after {route} changed{at}"),
        }
    }

    /// A file's name alone is too little to roll back on.
    fn weight(&self) -> Weight {
        if self.how == How::FileName { Weight::Advisory } else { Weight::Critical }
    }
}

/// Names of the signals on these lines, each once, in the order of the list.
fn named<'a>(concerns: impl Iterator<Item = &'a (&'static Signal, &'a DiffLine)>) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for (signal, _) in concerns {
        if !names.contains(&signal.name) {
            names.push(signal.name);
        }
    }
    names
}

/// Where the draft's checks are put together.
struct Bench<'a> {
    catalogue: &'a Catalogue,
    checks: Vec<Check>,
    notes: Vec<Text>,
}

impl Bench<'_> {
    fn push(&mut self, name: String, sli: Sli, weight: Weight, rationale: String, lines: Vec<DiffLine>) {
        if self.checks.len() >= CHECKS_MAX || self.checks.iter().any(|check| check.sli == sli) {
            return;
        }
        let ratio_max = match sli {
            Sli::Latency { .. } => LATENCY_RATIO_MAX,
            Sli::EventsPerTraffic { .. } => EVENTS_RATIO_MAX,
            Sli::Ratio { .. } | Sli::Level { .. } | Sli::Mix { .. } | Sli::Liveness { .. } | Sli::Probe { .. } => {
                RATIO_RATIO_MAX
            }
        };
        self.checks.push(Check {
            name: self.unique(&name),
            sli,
            direction: Direction::HigherIsWorse,
            ratio_max,
            limit: None,
            aim: Aim::Guard,
            weight,
            origin: Origin::Heuristic,
            rationale: Text::new(rationale),
            lines,
            // Admission fills it in from the catalogue.
            split: Split::default(),
        });
    }

    fn unique(&self, name: &str) -> CheckName {
        let plain = shortened(name, NAME_BYTES_MAX);
        let taken = |name: &str| self.checks.iter().any(|check| check.name.as_str() == name);
        let numbered = (2..=CHECKS_MAX).map(|n| format!("{} ({n})", shortened(name, NAME_BYTES_MAX - 5)));
        let mut names = std::iter::once(plain.clone()).chain(numbered);
        CheckName::new(names.find(|name| !taken(name)).unwrap_or(plain))
    }

    fn entries(&self, kind: &str) -> Vec<CatalogueEntry> {
        self.catalogue.entries.iter().filter(|entry| entry.sli.kind() == kind).cloned().collect()
    }

    fn on_route(&mut self, touched: &TouchedRoute, concerns: &[(&'static Signal, &DiffLine)], kind: &str) {
        let here: Vec<_> =
            concerns.iter().filter(|(_, line)| touched.lines.iter().any(|own| own.path == line.path)).collect();
        let names = named(here.iter().copied());
        let also = match names.as_slice() {
            [] => String::new(),
            names => format!("; the file's changes touch {}", listed(names, NAMED_MAX)),
        };
        let mut lines = touched.lines.clone();
        for (_, line) in here {
            if lines.len() < LINES_EACH_MAX && !lines.contains(line) {
                lines.push((*line).clone());
            }
        }
        for entry in self.entries(kind) {
            let Some(label) = &entry.route_label else { continue };
            let name = format!("{} on {}", entry.name, touched.route.path());
            let rationale = format!("{}{also}", touched.because());
            self.push(name, entry.sli.narrowed(label, &touched.value), touched.weight(), rationale, lines.clone());
        }
    }

    /// Routes are touched, and no SLI says which label holds a route: then no check can be made for them.
    fn on_unlabelled_routes(&mut self, routes: &[TouchedRoute]) {
        if let Some(route) = routes.first()
            && self.catalogue.entries.iter().all(|entry| entry.route_label.is_none())
        {
            self.notes.push(Text::new(format!(
                "{} is touched, and no check was made for it: give an SLI its route_label",
                route.route.path()
            )));
        }
    }

    fn on_counter(&mut self, counter: &BadEvents) {
        let metric = &counter.metric;
        let rationale = format!("the diff counts bad events as {metric} at {}", counter.line);
        let lines = vec![counter.line.clone()];
        let bears = |selector: &&Selector| selector.metric == *metric;
        let known = self.catalogue.entries.iter().find(|entry| entry.sli.selectors().iter().any(bears)).cloned();
        if let Some(entry) = known {
            // A metric that the catalogue already reads means there what the catalogue says.
            self.push(entry.name, entry.sli, Weight::Critical, rationale, lines);
            return;
        }
        if self.catalogue.traffic.as_ref().is_some_and(|traffic| traffic.metric == *metric) {
            return;
        }
        match self.catalogue.traffic.clone() {
            Some(traffic) => {
                let sli = Sli::EventsPerTraffic { events: Selector::metric(metric.clone()), traffic };
                // The old version does not have the metric, so there is nothing to compare: people see it, and no more.
                self.push(metric.clone(), sli, Weight::Advisory, rationale, lines);
            }
            None => self
                .notes
                .push(Text::new(format!("{rationale}, but the catalogue names no traffic to count it against"))),
        }
    }

    /// Counters of the catalogue that speak of what the diff touches, such as cache misses for caching code.
    fn on_known_counters(&mut self, concerns: &[(&'static Signal, &DiffLine)]) {
        for entry in self.entries("events_per_traffic") {
            let Sli::EventsPerTraffic { events, .. } = &entry.sli else { continue };
            let words: BTreeSet<&str> = events.metric.split('_').collect();
            let spoken: Vec<_> =
                concerns.iter().filter(|(signal, _)| signal.counters.iter().any(|word| words.contains(word))).collect();
            let Some((signal, first)) = spoken.first() else { continue };
            let rationale = format!("{} changed at {first}", signal.name);
            let lines = spoken.iter().map(|(_, line)| (*line).clone()).take(LINES_EACH_MAX).collect();
            self.push(entry.name.clone(), entry.sli.clone(), Weight::Critical, rationale, lines);
        }
    }

    /// What is tied to no route that the catalogue can tell apart.
    fn on_all_traffic(&mut self, found: &[Found], routes: &[TouchedRoute], concerns: &[(&'static Signal, &DiffLine)]) {
        for (kind, noun) in [("ratio", "errors"), ("latency", "latency")] {
            let by_route = self.entries(kind).iter().any(|entry| entry.route_label.is_some());
            let covered = |path: &str| by_route && routes.iter().any(|r| r.lines.iter().any(|line| line.path == path));
            let untied = found.iter().filter_map(|found| match &found.hit {
                Hit::Route(touch) if !by_route || touch.route.matcher().is_none() => Some((found.signal, &touch.line)),
                Hit::Route(_) | Hit::BadEvents(_) | Hit::Concern(_) => None,
            });
            let loose: Vec<(&'static Signal, &DiffLine)> = concerns
                .iter()
                .filter(|(_, line)| !covered(&line.path))
                .copied()
                .chain(untied)
                .filter(|(signal, _)| kind != "latency" || signal.slows)
                .collect();
            let Some((_, first)) = loose.first() else { continue };
            let names = named(loose.iter());
            let rationale = format!(
                "the diff touches {} ({first}), which is tied to no one route: {noun} of all traffic is watched",
                listed(&names, NAMED_MAX)
            );
            let mut lines: Vec<DiffLine> = Vec::new();
            for (_, line) in &loose {
                if lines.len() < LINES_EACH_MAX && !lines.contains(line) {
                    lines.push((*line).clone());
                }
            }
            for entry in self.entries(kind) {
                let name = format!("{} on all traffic", entry.name);
                self.push(name, entry.sli, Weight::Advisory, rationale.clone(), lines.clone());
            }
        }
    }

    fn finish(self) -> (Vec<Check>, Vec<Text>) {
        (self.checks, self.notes)
    }
}

/// Words as a list for people, the first `most` of them.
pub(super) fn listed(words: &[&str], most: usize) -> String {
    let shown: Vec<&str> = words.iter().copied().take(most).collect();
    match (shown.split_last(), words.len() > most) {
        (_, true) => format!("{} and more", shown.join(", ")),
        (Some((last, [])), false) => (*last).to_owned(),
        (Some((last, others)), false) => format!("{} and {last}", others.join(", ")),
        (None, false) => String::new(),
    }
}

/// A name that fits, its middle left out.
fn shortened(name: &str, bytes_max: usize) -> String {
    let clean: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.len() <= bytes_max {
        return clean;
    }
    let keep = (bytes_max - '…'.len_utf8()) / 2;
    let head = (0..=keep).rev().find_map(|at| clean.get(..at)).unwrap_or_default();
    let tail = (clean.len() - keep..=clean.len()).find_map(|at| clean.get(at..)).unwrap_or_default();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_both_ends() {
        assert_eq!(shortened("errors on /pay", 80), "errors on /pay");
        let long = shortened(&format!("errors on /{}/pay", "é".repeat(60)), 80);
        assert!(long.len() <= 80 && long.starts_with("errors on /") && long.ends_with("/pay"), "{long}");
    }

    #[test]
    fn a_list_reads_as_people_write_it() {
        assert_eq!(listed(&[], 3), "");
        assert_eq!(listed(&["a"], 3), "a");
        assert_eq!(listed(&["a", "b", "c"], 3), "a, b and c");
        assert_eq!(listed(&["a", "b", "c", "d"], 3), "a, b, c and more");
    }
}
