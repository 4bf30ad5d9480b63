//! Checks from a diff without a model.
//!
//! A diff says where a fault would show: which route's handler changed, which counter of bad events came, which timeout
//! moved. Each such signal ([`signals::SIGNALS`]) points at lines; [`checks`] turns the lines into checks of what the
//! service's catalogue can measure, narrowed to the route where that is possible. [`way_back`] reads apart from that
//! whether the change can be undone by moving traffic.
//!
//! Everything in a diff is a stranger's: lines are cut, counts are bounded, and a route becomes a matcher only when it is
//! spelled as routes are. Admission bounds the draft once more; nothing here is trusted there.

mod by_path;
mod checks;
mod declared;
mod metrics;
mod route;
mod routes;
mod scan;
mod signals;
mod source;
mod sql;
mod way_back;

use std::collections::BTreeSet;

use self::{
    checks::{Found, compose, listed},
    routes::Survey,
    signals::{Reading, SIGNALS},
    source::{Role, Row, Source},
};
use super::Draft;
use crate::domain::{Catalogue, Diff, Text};

/// Most checks of one draft.
const CHECKS_MAX: usize = 24;
/// Most lines of one diff that are read; the rest is noted and left.
const LINES_MAX: usize = 50_000;
/// Most lines that one check rests on.
const LINES_EACH_MAX: usize = 16;
/// How much worse a share of bad requests may be than control's.
const RATIO_RATIO_MAX: f64 = 1.25;
/// How much larger the share of slow requests may be than control's: latency swings more than errors do.
const LATENCY_RATIO_MAX: f64 = 1.5;
/// How many more events for each unit of traffic than control are tolerated.
const EVENTS_RATIO_MAX: f64 = 1.5;

/// Reads a diff and proposes checks from the catalogue, most important first, at most [`CHECKS_MAX`]; says whether the
/// change can be taken back, and notes what was not read. The same diff gives the same draft.
pub fn draft(diff: &Diff, catalogue: &Catalogue) -> Draft {
    let mut notes = Vec::new();
    let sources = read(diff, &mut notes);
    if !sources.iter().any(behaves) {
        notes.insert(0, Text::new(quiet(diff, &sources)));
        return Draft::by_rules(Vec::new(), way_back::read(&sources), notes);
    }
    let survey = Survey::of(&sources);
    let mut found = Vec::new();
    for (index, source) in sources.iter().enumerate().filter(|(_, source)| behaves(source)) {
        let reading = Reading::of(index, source, &survey);
        for signal in SIGNALS {
            found.extend((signal.detect)(&reading).into_iter().map(|hit| Found { signal, hit }));
        }
    }
    let (checks, more) = compose(&found, catalogue);
    notes.insert(0, Text::new(seen(&sources, &found, checks.is_empty())));
    notes.extend(more);
    Draft::by_rules(checks, way_back::read(&sources), notes)
}

fn read<'a>(diff: &'a Diff, notes: &mut Vec<Text>) -> Vec<Source<'a>> {
    let mut left = LINES_MAX;
    let mut sources = Vec::with_capacity(diff.files.len());
    let mut unread = 0;
    for file in &diff.files {
        let source = Source::read(file, left);
        if !matches!(source.role, Role::Generated | Role::Vendored) {
            unread += file.lines.len() - source.rows.len();
        }
        left -= source.rows.len();
        sources.push(source);
    }
    if diff.cut {
        notes.push(Text::new("the diff was cut for its size: what was left out was not read"));
    }
    if unread > 0 {
        notes.push(Text::new(format!("{unread} lines beyond the first {LINES_MAX} were not read")));
    }
    let binary = diff.files.iter().filter(|file| file.binary).count();
    if binary > 0 {
        notes.push(Text::new(format!("{binary} binary files were not read")));
    }
    notes.sort_unstable();
    sources
}

/// Whether a file's change can change what the service does.
fn behaves(source: &Source<'_>) -> bool {
    let runs =
        matches!(source.role, Role::Code | Role::Migration | Role::Manifest | Role::Lock | Role::Config | Role::Model);
    runs && source.rows.iter().any(Row::changed)
}

/// Why there is nothing to check.
fn quiet(diff: &Diff, sources: &[Source<'_>]) -> String {
    if diff.files.is_empty() {
        return "the diff is empty: nothing to check beyond the service's objectives".into();
    }
    let names: BTreeSet<&str> = sources
        .iter()
        .map(|source| match source.role {
            Role::Test => "tests",
            Role::Docs => "documentation",
            Role::Development => "development settings",
            Role::Generated => "generated files",
            Role::Vendored => "vendored files",
            Role::Asset => "assets",
            _ if source.rows.is_empty() => "names of files",
            _ if source.rows.iter().any(|row| row.test) => "tests",
            _ => "comments",
        })
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    format!("only {} changed: nothing to check beyond the service's objectives", listed(&names, names.len()))
}

/// What was read and what it spoke of.
fn seen(sources: &[Source<'_>], found: &[Found], nothing: bool) -> String {
    let languages: BTreeSet<&str> =
        sources.iter().filter(|source| behaves(source)).map(|s| s.language.name()).collect();
    let languages: Vec<&str> = languages.into_iter().collect();
    let names: Vec<&str> =
        SIGNALS.iter().map(|s| s.name).filter(|name| found.iter().any(|f| f.signal.name == *name)).collect();
    let read = listed(&languages, languages.len());
    match (names.as_slice(), nothing) {
        ([], _) => format!("no signal in the diff ({read}) points at what the catalogue measures"),
        (names, true) => {
            format!("the diff ({read}) touches {}, of which the catalogue measures nothing", listed(names, names.len()))
        }
        (names, false) => format!("the diff ({read}) touches {}", listed(names, names.len())),
    }
}
