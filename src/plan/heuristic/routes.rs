//! Which routes a change touches, and how that is known: their declaration changed, their handler changed, the code next
//! to their name changed, or a file named after them did. The stronger kind of evidence in a file silences the weaker.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    by_path::file_route,
    declared::{Declaration, Handler, declarations, mount},
    route::{Route, method},
    scan::{function_name, indent, literals},
    source::{Role, Row, Source},
};
use crate::domain::{DiffLine, LineKind};

/// How many lines away a name still speaks of a changed line.
const NEAR_LINES: usize = 6;

/// Most declarations that are kept of one diff: a table of routes that was written by hand is shorter.
const DECLARATIONS_MAX: usize = 2_000;

/// How a route is known to be touched, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum How {
    /// Its handler changed.
    Handler,
    /// Its declaration changed.
    Declared,
    /// It was declared, and was not before as far as the diff shows.
    New,
    /// Code next to its name changed.
    Near,
    /// The file that the framework serves it from changed, or one named after it whose lines name it too.
    File,
    /// A file named after it changed.
    FileName,
}

/// A route that a line of the diff touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Touch {
    /// The route.
    pub(super) route: Route,
    /// The line.
    pub(super) line: DiffLine,
    /// How it is known.
    pub(super) how: How,
}

/// What is known of the routes of all files before any one is judged.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// By source, by row: what is declared there.
    declared: BTreeMap<usize, BTreeMap<usize, Vec<Declaration>>>,
    /// By a handler's name: where it is named, and for which route.
    handlers: BTreeMap<String, Vec<(usize, Handler, Route)>>,
    /// Paths that were declared before the change.
    before: BTreeSet<String>,
}

impl Survey {
    /// Reads every declaration that the diff shows, changed or not.
    pub(super) fn of(sources: &[Source<'_>]) -> Self {
        let mut survey = Self::default();
        let mut left = DECLARATIONS_MAX;
        for (index, source) in sources.iter().enumerate().filter(|(_, source)| source.role == Role::Code) {
            let mounts: BTreeMap<usize, (String, String)> = (0..source.rows.len())
                .filter_map(|at| mount(&source.rows, at, source.language).map(|found| (at, found)))
                .collect();
            for at in (0..source.rows.len()).filter(|at| !mounts.contains_key(at)) {
                if left == 0 {
                    break;
                }
                let found = declarations(&source.rows, at, source.language, source.path);
                let found: Vec<_> = found.into_iter().filter_map(|d| under_its_mount(d, at, &mounts)).collect();
                for declaration in &found {
                    survey.note(index, source.rows.get(at), declaration);
                }
                left = left.saturating_sub(found.len());
                if !found.is_empty() {
                    survey.declared.entry(index).or_default().insert(at, found);
                }
            }
        }
        survey
    }

    fn note(&mut self, index: usize, row: Option<&Row<'_>>, declaration: &Declaration) {
        if row.is_some_and(|row| row.kind != LineKind::Added) {
            self.before.insert(declaration.route.path().to_owned());
        }
        if row.is_some_and(|row| row.kind != LineKind::Removed) {
            for handler in &declaration.handlers {
                let named = self.handlers.entry(handler.name.clone()).or_default();
                named.push((index, handler.clone(), declaration.route.clone()));
            }
        }
    }

    /// The routes that the function `name` of a source handles. A name alone speaks for its own file, and for others
    /// only when it is the handler of one route; a module's name must be in the other file's path.
    fn handled_by(&self, index: usize, path: &str, name: &str) -> Vec<&Route> {
        let Some(named) = self.handlers.get(name) else { return Vec::new() };
        let lower = path.to_ascii_lowercase();
        let routes: BTreeSet<&Route> = named.iter().map(|(_, _, route)| route).collect();
        let mine = |(source, handler, _): &&(usize, Handler, Route)| match &handler.module {
            _ if *source == index => true,
            Some(module) => lower.contains(&module.to_ascii_lowercase()),
            None => routes.len() == 1,
        };
        named.iter().filter(mine).map(|(_, _, route)| route).collect()
    }
}

fn under_its_mount(
    mut declaration: Declaration,
    at: usize,
    mounts: &BTreeMap<usize, (String, String)>,
) -> Option<Declaration> {
    let mounted = mounts.range(..at).rev().find(|(_, (variable, _))| *variable == declaration.receiver);
    if let Some((_, (_, prefix))) = mounted {
        declaration.route = declaration.route.mounted_under(prefix)?;
    }
    Some(declaration)
}

/// Every touch of a route in one file.
pub(super) fn touches(index: usize, source: &Source<'_>, survey: &Survey) -> Vec<Touch> {
    if source.role != Role::Code || !source.rows.iter().any(Row::changed) {
        return Vec::new();
    }
    let strong = Walk::through(index, source, survey);
    if !strong.is_empty() {
        return strong;
    }
    let near = near_names(source);
    if !near.is_empty() {
        return near;
    }
    let Some(found) = file_route(source) else { return Vec::new() };
    let how = if found.sure { How::File } else { How::FileName };
    let changed = source.rows.iter().filter(|row| row.changed());
    changed.map(|row| Touch { route: found.route.clone(), line: source.line(row), how }).collect()
}

/// A walk down a file that keeps whose handler the lines belong to.
struct Walk<'a> {
    index: usize,
    source: &'a Source<'a>,
    survey: &'a Survey,
    hunk: u32,
    /// Annotated routes whose handler has not begun.
    pending: Vec<Route>,
    /// Routes whose handler the walk is in, and the indentation that ends it.
    inside: Option<(Vec<Route>, usize)>,
    /// The function the walk is in, and the indentation that ends it.
    function: Option<(&'a str, usize)>,
    touches: Vec<Touch>,
}

impl<'a> Walk<'a> {
    fn through(index: usize, source: &'a Source<'a>, survey: &'a Survey) -> Vec<Touch> {
        let mut walk = Self {
            index,
            source,
            survey,
            hunk: 0,
            pending: Vec::new(),
            inside: None,
            function: None,
            touches: Vec::new(),
        };
        let declared = survey.declared.get(&index);
        for (at, row) in source.rows.iter().enumerate() {
            if row.hunk != walk.hunk {
                (walk.hunk, walk.inside, walk.function) = (row.hunk, None, None);
                walk.pending.clear();
            }
            if !row.speaks() {
                continue;
            }
            match declared.and_then(|declared| declared.get(&at)) {
                Some(found) => walk.declaration(row, found),
                None => walk.line(row),
            }
        }
        walk.touches
    }

    fn declaration(&mut self, row: &Row<'a>, found: &[Declaration]) {
        let depth = indent(row.text);
        if self.inside.as_ref().is_some_and(|(_, outer)| depth <= *outer) {
            self.inside = None;
        }
        for declaration in found {
            let route = &declaration.route;
            if row.kind == LineKind::Added {
                let how = if self.survey.before.contains(route.path()) { How::Declared } else { How::New };
                self.touch(route.clone(), row, how);
            }
            if declaration.annotation && !self.pending.contains(route) {
                self.pending.push(route.clone());
            } else if declaration.opens {
                self.inside = Some((vec![route.clone()], depth));
            }
        }
    }

    fn line(&mut self, row: &Row<'a>) {
        let depth = indent(row.text);
        let trimmed = row.text.trim_start();
        // A closing bracket, an attribute or the rest of a head is as far out as what it belongs to.
        let belongs = trimmed.starts_with([')', '}', ']', '{', '@', '#', '[']) || trimmed.starts_with("where");
        if !belongs && self.function.is_some_and(|(_, outer)| depth <= outer) {
            self.function = None;
        }
        if !belongs && self.inside.as_ref().is_some_and(|(_, outer)| depth <= *outer) {
            self.inside = None;
        }
        if let Some(name) = function_name(row.text) {
            if !self.pending.is_empty() {
                self.inside = Some((std::mem::take(&mut self.pending), depth));
            }
            self.function = Some((name, depth));
        }
        if row.changed() {
            self.changed(row);
        }
    }

    fn changed(&mut self, row: &Row<'a>) {
        let routes: Vec<Route> = if !self.pending.is_empty() {
            self.pending.clone()
        } else if let Some((routes, _)) = &self.inside {
            routes.clone()
        } else if let Some((name, _)) = self.function {
            self.survey.handled_by(self.index, self.source.path, name).into_iter().cloned().collect()
        } else {
            Vec::new()
        };
        for route in routes {
            self.touch(route, row, How::Handler);
        }
    }

    fn touch(&mut self, route: Route, row: &Row<'_>, how: How) {
        self.touches.push(Touch { route, line: self.source.line(row), how });
    }
}

/// Changed lines with a route's name next to them, in a string of its own or in a comment that says the method too.
fn near_names(source: &Source<'_>) -> Vec<Touch> {
    let names: Vec<(usize, Route)> = source
        .rows
        .iter()
        .enumerate()
        .filter(|(_, row)| !row.test && row.text.bytes().any(|b| b == b'/'))
        .flat_map(|(at, row)| names_on(row, source).into_iter().map(move |route| (at, route)))
        .collect();
    let mut found = Vec::new();
    for (at, route) in names {
        let Some(hunk) = source.rows.get(at).map(|row| row.hunk) else { continue };
        let last = (at + NEAR_LINES + 1).min(source.rows.len());
        let around = source.rows.get(at.saturating_sub(NEAR_LINES)..last).unwrap_or_default();
        let changed = around.iter().find(|row| row.hunk == hunk && row.changed());
        if let Some(row) = changed {
            found.push(Touch { route, line: source.line(row), how: How::Near });
        }
    }
    found
}

const CALLS_OUT: &[&str] = &[
    "fetch(",
    "axios",
    "requests.",
    "reqwest",
    "http.get",
    "http.post",
    "http.put",
    "httpclient",
    "client.",
    "urljoin",
    "open(",
    "readfile",
    "path.join",
    "pathbuf",
    "path::new",
    "include_",
    "import ",
    "require",
    "from ",
    "static",
    "curl",
    "os.path",
    "file(",
    "use(",
];
const FILE_ROOTS: &[&str] = &[
    "/etc", "/usr", "/tmp", "/var", "/opt", "/home", "/dev", "/proc", "/bin", "/lib", "/srv", "/run", "/mnt", "/root",
];

fn names_on(row: &Row<'_>, source: &Source<'_>) -> Vec<Route> {
    if row.comment {
        let words: Vec<&str> = row.text.split_whitespace().collect();
        let pairs = words.windows(2).filter_map(|pair| match pair {
            [verb, path] => {
                let verb = verb.trim_matches(['`', '"', '(', ':']);
                let known = method(verb).filter(|known| *known == verb)?;
                Route::new(Some(known), path.trim_matches(['`', '"', '\'', ')', ',', ';', '.']))
            }
            _ => None,
        });
        return pairs.collect();
    }
    if row.kind == LineKind::Removed || !row.has_quote() || CALLS_OUT.iter().any(|call| row.speaks_of(call)) {
        return Vec::new();
    }
    literals(row.text, source.language.single_quotes())
        .into_iter()
        .filter(|literal| literal.text.len() > 1 && literal.text.starts_with('/') && !is_file(literal.text))
        .filter_map(|literal| Route::new(None, literal.text))
        .collect()
}

fn is_file(path: &str) -> bool {
    let root = path.match_indices('/').nth(1).map_or(path, |(at, _)| &path[..at]);
    FILE_ROOTS.contains(&root) || path.rsplit('/').next().is_some_and(|name| name.contains('.'))
}
