//! What a diff can say about what may break: the one list of signals. A new one is one entry of [`SIGNALS`].

use super::{
    metrics::{BadEvents, bad_events},
    routes::{Survey, Touch, touches},
    source::{Language, Role, Source},
};
use crate::domain::{DiffLine, LineKind};

/// Most lines of one file that one signal names.
const LINES_MAX: usize = 4;

/// What a detector reads: one file, and what is known of the others.
pub(super) struct Reading<'a> {
    /// The file.
    pub(super) source: &'a Source<'a>,
    /// Its place among the files.
    index: usize,
    /// The routes that all files declare.
    survey: &'a Survey,
}

impl<'a> Reading<'a> {
    /// Prepares a file for the detectors.
    pub(super) fn of(index: usize, source: &'a Source<'a>, survey: &'a Survey) -> Self {
        Self { source, index, survey }
    }
}

/// What a detector found.
#[derive(Clone, Debug)]
pub(super) enum Hit {
    /// A touched route.
    Route(Touch),
    /// An added counter of bad events.
    BadEvents(BadEvents),
    /// A line that touches what the signal is about.
    Concern(DiffLine),
}

/// One kind of thing that a diff can say.
pub(super) struct Signal {
    /// Its name in rationales and notes.
    pub(super) name: &'static str,
    /// What it looks for. Read by people who add a signal, and by the test that each has one.
    #[cfg_attr(not(test), expect(dead_code, reason = "a legend for readers and tests"))]
    pub(super) summary: &'static str,
    /// Whether it can make requests slow as well as wrong.
    pub(super) slows: bool,
    /// Words of counters in the catalogue that it speaks of.
    pub(super) counters: &'static [&'static str],
    /// Reads a file.
    pub(super) detect: fn(&Reading<'_>) -> Vec<Hit>,
}

/// Every signal, in the order in which rationales name them.
pub(super) const SIGNALS: &[Signal] = &[
    Signal {
        name: "routes",
        summary: "a route, its handler or the code next to its name changed",
        slows: true,
        counters: &[],
        detect: |file| touches(file.index, file.source, file.survey).into_iter().map(Hit::Route).collect(),
    },
    Signal {
        name: "counters of bad events",
        summary: "an added counter whose name says that more is worse",
        slows: false,
        counters: &[],
        detect: |file| match file.source.role {
            Role::Code => bad_events(file.source).into_iter().map(Hit::BadEvents).collect(),
            _ => Vec::new(),
        },
    },
    Signal {
        name: "database migrations",
        summary: "a migration, by its path or by its statements",
        slows: true,
        counters: &[],
        detect: |file| match file.source.role {
            Role::Migration => first_changed(file),
            _ => words(file, &["alter table", "create table", "drop table", "create index", "add column"]),
        },
    },
    Signal {
        name: "timeouts",
        summary: "timeouts and deadlines",
        slows: true,
        counters: &["timeout", "timeouts"],
        detect: |file| words(file, &["timeout", "timelimit", "time_limit", "deadline"]),
    },
    Signal {
        name: "retries",
        summary: "retries, backoff and circuit breakers",
        slows: true,
        counters: &["retry", "retries"],
        detect: |file| words(file, &["retry", "retries", "backoff", "max_attempts", "maxattempts", "circuit"]),
    },
    Signal {
        name: "caching",
        summary: "caches and how long they keep",
        slows: true,
        counters: &["cache", "miss", "misses"],
        detect: |file| words(file, &["cache", "memoize", "lru", "_ttl", "ttl_", "redis", "expire_after"]),
    },
    Signal {
        name: "sign-in and permissions",
        summary: "authentication, authorization and the tokens they use",
        slows: false,
        counters: &["auth", "login", "logins", "signin", "token", "tokens", "unauthorized", "denied"],
        detect: |file| {
            let known = [
                "authoriz",
                "authentic",
                "login",
                "logout",
                "signin",
                "sign_in",
                "password",
                "jwt",
                "oauth",
                "bearer",
                "permission",
                "csrf",
                "access_token",
                "accesstoken",
                "refresh_token",
                "auth_token",
                "session_token",
            ];
            words(file, &known)
        },
    },
    Signal {
        name: "dependencies",
        summary: "manifests and lock files of dependencies",
        slows: true,
        counters: &[],
        detect: |file| match file.source.role {
            Role::Manifest | Role::Lock => first_changed(file),
            _ => Vec::new(),
        },
    },
    Signal {
        name: "configuration",
        summary: "configuration files, prompts, environment variables and feature flags",
        slows: true,
        counters: &[],
        detect: |file| match file.source.role {
            Role::Config | Role::Model => first_changed(file),
            _ => words(
                file,
                &[
                    "getenv",
                    "process.env",
                    "env::var",
                    "os.environ",
                    "environment.get",
                    "feature_flag",
                    "featureflag",
                    "feature.enabled",
                    "isenabled(",
                    "is_enabled(",
                    "variation(",
                    "launchdarkly",
                    "unleash",
                    "openfeature",
                ],
            ),
        },
    },
    Signal {
        name: "concurrency",
        summary: "locks, pools, threads and tasks",
        slows: true,
        counters: &["pool", "queue", "deadlock", "deadlocks"],
        detect: |file| {
            let known = [
                "mutex",
                "rwlock",
                "semaphore",
                ".lock(",
                "synchronized",
                "thread",
                "go func",
                "goroutine",
                "spawn",
                "pool",
                "atomic",
                "make(chan",
                "concurren",
                "parallel",
                "max_connections",
                "maxconnections",
                "worker",
            ];
            words(file, &known)
        },
    },
    Signal {
        name: "error handling",
        summary: "new ways to fail: returned errors, exceptions, panics, 5xx answers",
        slows: false,
        counters: &[],
        detect: |file| {
            let known = [
                "return err",
                "err(",
                "throw ",
                "raise ",
                "panic(",
                "panic!",
                ".unwrap()",
                ".expect(",
                "abort(",
                "fatal(",
                "internal_server_error",
                "internalservererror",
                "service_unavailable",
                "serviceunavailable",
                "status(50",
                "status=50",
                "status: 50",
                "status_code=50",
                "bad_gateway",
                "badgateway",
            ];
            added_words(file, &known)
        },
    },
    Signal {
        name: "data formats",
        summary: "serialization, schemas and interface definitions",
        slows: false,
        counters: &[],
        detect: |file| {
            if file.source.language == Language::Interface {
                return first_changed(file);
            }
            let known = [
                "serde",
                "`json:\"",
                "@json",
                "protobuf",
                "marshal",
                "serialize",
                "serializer",
                "json_schema",
                "jsonschema",
                "basemodel",
                "pydantic",
                "zod.",
                "z.object",
                "avro",
            ];
            words(file, &known)
        },
    },
];

/// The first changed line of a file whose being there is the signal.
fn first_changed(file: &Reading<'_>) -> Vec<Hit> {
    file.source
        .rows
        .iter()
        .find(|row| row.changed())
        .map(|row| Hit::Concern(file.source.line(row)))
        .into_iter()
        .collect()
}

/// The changed lines with one of these words in them; the words are in lower case.
fn words(file: &Reading<'_>, known: &[&str]) -> Vec<Hit> {
    with_words(file, known, |_| true)
}

/// As [`words`], for lines that came.
fn added_words(file: &Reading<'_>, known: &[&str]) -> Vec<Hit> {
    with_words(file, known, |kind| kind == LineKind::Added)
}

fn with_words(file: &Reading<'_>, known: &[&str], wanted: fn(LineKind) -> bool) -> Vec<Hit> {
    if !matches!(file.source.role, Role::Code | Role::Config) {
        return Vec::new();
    }
    let rows = file.source.rows.iter().filter(|row| row.changed() && wanted(row.kind));
    rows.filter(|row| known.iter().any(|word| row.speaks_of(word)))
        .take(LINES_MAX)
        .map(|row| Hit::Concern(file.source.line(row)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::{FileDiff, Line, TouchKind};

    fn seen(path: &str, line: &str) -> Vec<&'static str> {
        let file = FileDiff {
            path: path.into(),
            previous_path: None,
            kind: TouchKind::Modified,
            binary: false,
            lines: vec![Line { kind: LineKind::Added, number: 7, text: line.into() }],
        };
        let sources = [Source::read(&file, 10)];
        let survey = Survey::of(&sources);
        let reading = Reading::of(0, &sources[0], &survey);
        SIGNALS.iter().filter(|signal| !(signal.detect)(&reading).is_empty()).map(|signal| signal.name).collect()
    }

    #[test]
    fn each_signal_has_its_own_name_and_says_what_it_looks_for() {
        let names: BTreeSet<_> = SIGNALS.iter().map(|signal| signal.name).collect();
        assert_eq!(names.len(), SIGNALS.len());
        assert!(SIGNALS.iter().all(|signal| !signal.summary.is_empty()));
    }

    #[test]
    fn a_line_speaks_of_what_it_touches() {
        for (path, line, name) in [
            ("src/a.rs", r#".route("/pay", post(pay))"#, "routes"),
            ("src/a.rs", r#"counter!("pay_errors_total")"#, "counters of bad events"),
            ("migrations/1.sql", "CREATE TABLE a (b INT);", "database migrations"),
            ("src/a.go", "ctx, cancel := context.WithTimeout(ctx, time.Second)", "timeouts"),
            ("src/a.py", "@retry(stop=stop_after_attempt(3))", "retries"),
            ("src/a.ts", "const hit = cache.get(key);", "caching"),
            ("src/a.rb", "  authenticate_user!", "sign-in and permissions"),
            ("Cargo.lock", "version = \"1.2.3\"", "dependencies"),
            ("package.json", "\"express\": \"5\"", "dependencies"),
            ("deploy/values.yaml", "replicas: 2", "configuration"),
            ("src/a.ts", "const n = process.env.N;", "configuration"),
            ("src/a.rs", "let held = self.state.lock().await;", "concurrency"),
            ("src/a.java", "throw new IllegalStateException();", "error handling"),
            ("api/cart.proto", "string id = 1;", "data formats"),
            ("src/a.rs", "#[serde(rename = \"x\")]", "data formats"),
        ] {
            assert!(seen(path, line).contains(&name), "{path}: {line} speaks of {:?}", seen(path, line));
        }
    }

    #[test]
    fn comments_tests_and_generated_files_say_nothing() {
        for (path, line) in [
            ("src/a.rs", "// retry with a longer timeout"),
            ("src/a.py", "# cache this"),
            ("tests/a.rs", "retry(timeout)"),
            ("vendor/a.go", "retry(timeout)"),
            ("README.md", "retry with a longer timeout"),
            ("src/a.rs", "    "),
        ] {
            assert_eq!(seen(path, line), Vec::<&str>::new(), "{path}: {line}");
        }
    }
}
