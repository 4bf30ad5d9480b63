//! Counters of bad events that a diff adds. The counter's own name says which way is worse: only names that speak of
//! something bad count, and a name that speaks of success does not.

use super::{
    scan::literals,
    source::{Language, Row, Source},
};
use crate::domain::DiffLine;

/// Most bytes of a metric's name.
const NAME_BYTES_MAX: usize = 120;
/// How many lines away from its name a registration is looked for.
const NEAR_LINES: usize = 3;

/// A counter of bad events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadEvents {
    /// Its name as exposed.
    pub(super) metric: String,
    /// The added line that bears it.
    pub(super) line: DiffLine,
}

const BAD: &[&str] = &[
    "error",
    "errors",
    "failure",
    "failures",
    "failed",
    "fail",
    "fails",
    "miss",
    "misses",
    "missed",
    "retry",
    "retries",
    "retried",
    "timeout",
    "timeouts",
    "rejected",
    "rejections",
    "rejects",
    "dropped",
    "drops",
    "exception",
    "exceptions",
    "panic",
    "panics",
    "denied",
    "abort",
    "aborts",
    "aborted",
    "fallback",
    "fallbacks",
    "throttled",
    "overflow",
    "overflows",
    "conflict",
    "conflicts",
    "dlq",
    "deadletter",
    "unavailable",
    "crash",
    "crashes",
    "lost",
    "invalid",
    "unauthorized",
    "evicted",
    "evictions",
];
const GOOD: &[&str] = &["hit", "hits", "success", "successes", "succeeded", "ok", "completed", "resolved", "avoided"];
const NO_COUNTERS: &[&str] =
    &["seconds", "ms", "millis", "milliseconds", "bytes", "duration", "ratio", "percent", "bucket"];
const REGISTRATIONS: &[&str] =
    &["counter", "metric", "statsd", "meter", "increment", ".incr", "register", "dogstatsd", "prom."];
const OTHER_KINDS: &[&str] = &["gauge", "histogram", "summary", "timer", "timing", "distribution"];
/// Libraries that put `_total` behind a counter's name themselves.
const APPEND_TOTAL: &[&str] =
    &["registry.register(", "create_counter(", "u64_counter(", "f64_counter(", "createcounter("];

/// The counters of bad events on the added lines of a file, each once.
pub(super) fn bad_events(source: &Source<'_>) -> Vec<BadEvents> {
    let mut found: Vec<BadEvents> = Vec::new();
    for (at, row) in source.rows.iter().enumerate().filter(|(_, row)| row.added()) {
        if !row.has_quote() {
            continue;
        }
        for literal in literals(row.text, source.language.single_quotes()) {
            let Some(metric) = counter_name(literal.text, source, at) else { continue };
            if found.iter().all(|known| known.metric != metric) {
                found.push(BadEvents { metric, line: source.line(row) });
            }
        }
    }
    found
}

fn counter_name(text: &str, source: &Source<'_>, at: usize) -> Option<String> {
    let plain = text.replace(['.', '-'], "_");
    let legal = !plain.is_empty()
        && plain.len() <= NAME_BYTES_MAX
        && plain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b':'))
        && plain.starts_with(|c: char| c.is_ascii_lowercase());
    let words: Vec<&str> = plain.split(['_', ':']).collect();
    let any = |known: &[&str]| words.iter().any(|word| known.contains(word));
    if !legal || !any(BAD) || any(GOOD) || any(NO_COUNTERS) {
        return None;
    }
    let around = around(&source.rows, at);
    let own = source.rows.get(at).map(|row| row.text.to_ascii_lowercase()).unwrap_or_default();
    if OTHER_KINDS.iter().any(|kind| own.contains(kind)) {
        return None;
    }
    let registered = REGISTRATIONS.iter().any(|word| around.contains(word));
    let total = plain.ends_with("_total");
    // A long name that ends as counters do needs no registration in sight.
    let tells = total && words.len() >= 3;
    if !registered && !tells {
        return None;
    }
    let full = in_its_namespace(&plain, &source.rows, at);
    let appends = matches!(source.language, Language::Python | Language::Jvm)
        || APPEND_TOTAL.iter().any(|call| around.contains(call));
    Some(if appends && !total && !text.contains("statsd") { format!("{full}_total") } else { full })
        .filter(|name| name.len() <= NAME_BYTES_MAX)
}

/// The lines before and on the name, where a registration begins, in lower case.
fn around(rows: &[Row<'_>], at: usize) -> String {
    let hunk = rows.get(at).map(|row| row.hunk);
    rows.get(at.saturating_sub(NEAR_LINES)..=at)
        .unwrap_or_default()
        .iter()
        .filter(|row| Some(row.hunk) == hunk && row.speaks())
        .map(|row| row.text.to_ascii_lowercase())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Go's client spells a name in three parts.
fn in_its_namespace(name: &str, rows: &[Row<'_>], at: usize) -> String {
    let part = |field: &str| {
        let last = (at + NEAR_LINES + 1).min(rows.len());
        let near = rows.get(at.saturating_sub(NEAR_LINES)..last).unwrap_or_default();
        near.iter().filter(|row| row.speaks() && row.text.contains(field)).find_map(|row| {
            let found = literals(row.text, false).into_iter().find(|l| l.before.trim_end().ends_with(field))?;
            let legal = found.text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            (legal && !found.text.is_empty()).then(|| found.text.to_owned())
        })
    };
    let parts = [part("Namespace:"), part("Subsystem:"), Some(name.to_owned())];
    parts.into_iter().flatten().collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{FileDiff, Line, LineKind, TouchKind};

    fn names(path: &str, lines: &[&str]) -> Vec<String> {
        let lines = (1..).zip(lines).map(|(number, text)| Line { kind: LineKind::Added, number, text: (*text).into() });
        let file = FileDiff {
            path: path.into(),
            previous_path: None,
            kind: TouchKind::Modified,
            binary: false,
            lines: lines.collect(),
        };
        bad_events(&Source::read(&file, 100)).into_iter().map(|found| found.metric).collect()
    }

    #[test]
    fn a_registered_counter_of_something_bad_is_found_by_its_exposed_name() {
        for (path, lines, expected) in [
            ("a.rs", &[r#"counter!("cart_cache_misses_total").increment(1);"#][..], "cart_cache_misses_total"),
            ("a.rs", &["registry.register(", r#"    "cart_cache_misses","#], "cart_cache_misses_total"),
            ("a.py", &[r#"C = Counter("payment_failures", "Failed payments")"#], "payment_failures_total"),
            ("a.py", &[r#"statsd.increment("checkout.errors")"#], "checkout_errors_total"),
            ("a.ts", &["new Counter({", "  name: 'login_retries_total',"], "login_retries_total"),
            (
                "a.go",
                &["prometheus.NewCounter(prometheus.CounterOpts{", r#"Namespace: "shop","#, r#"Name: "errors_total","#],
                "shop_errors_total",
            ),
        ] {
            assert_eq!(names(path, lines), [expected], "{lines:?}");
        }
    }

    #[test]
    fn other_names_are_left_alone() {
        for line in [
            r#"counter!("cart_cache_hits_total")"#,
            r#"counter!("logins_success_total")"#,
            r#"counter!("requests_total")"#,
            r#"histogram!("retry_seconds")"#,
            r#"gauge!("failed_jobs")"#,
            r#"counter!("Errors In Total")"#,
            r#"let errors = validate("field_errors");"#,
            r#"// counter!("x_errors_total")"#,
        ] {
            assert_eq!(names("a.rs", &[line]), Vec::<String>::new(), "{line}");
        }
        assert_eq!(names("a.rs", &[&format!(r#"counter!("{}_errors_total")"#, "a".repeat(NAME_BYTES_MAX))]), [""; 0]);
    }
}
