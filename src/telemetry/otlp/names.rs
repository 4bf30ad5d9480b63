//! The names that OpenTelemetry's metrics and attributes have as Prometheus knows them, so that a catalogue says the same
//! whichever way a service is read.
//!
//! The rules are those of OpenTelemetry's "Prometheus and OpenMetrics compatibility": what is no letter, digit or
//! underscore becomes an underscore and several become one, the unit is written out at the end, a monotonic sum ends in
//! `_total`, a gauge of unit `1` in `_ratio`. Nothing is said twice: a name that has its unit already keeps one.

use crate::telemetry::exposition::Kind;

/// Units written out. Of those in braces nothing is said, nor of `1`.
const UNITS: &[(&str, &str)] = &[
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("%", "percent"),
];

/// Units behind a stroke.
const PER: &[(&str, &str)] =
    &[("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month"), ("y", "year")];

/// The name that a selector writes for a metric: of a histogram, without `_bucket`.
pub(super) fn metric(name: &str, unit: &str, kind: Kind) -> String {
    let mut words: Vec<&str> = words(name).collect();
    let unit_words = unit_words(unit);
    for word in unit_words.split('_').filter(|word| !word.is_empty()) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if kind == Kind::Gauge && unit == "1" && !words.contains(&"ratio") {
        words.push("ratio");
    }
    if kind == Kind::Counter {
        words.retain(|word| *word != "total");
        words.push("total");
    }
    not_a_digit_first(words.join("_"), "_")
}

/// The label's name for an attribute.
pub(super) fn label(attribute: &str) -> String {
    let name: String = attribute.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    not_a_digit_first(name, "key_")
}

fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| !c.is_ascii_alphanumeric() && c != ':').filter(|word| !word.is_empty())
}

fn not_a_digit_first(name: String, prefix: &str) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("{prefix}{name}") } else { name }
}

/// What a unit adds to a name, in words with underscores between.
fn unit_words(unit: &str) -> String {
    let written_out = |part: &str, table: &[(&str, &str)]| {
        let part = part.trim();
        if part.is_empty() || part == "1" || part.contains(['{', '}']) {
            return String::new();
        }
        let known = table.iter().find(|(short, _)| *short == part).map(|(_, long)| (*long).to_owned());
        known.unwrap_or_else(|| words(part).collect::<Vec<_>>().join("_"))
    };
    match unit.split_once('/') {
        None => written_out(unit, UNITS),
        Some((what, per)) => {
            let (what, per) = (written_out(what, UNITS), written_out(per, PER));
            if per.is_empty() { what } else { format!("{what}_per_{per}") }
        }
    }
}

/// What values of a histogram are divided by to be seconds, where its unit is one of time.
pub(super) fn per_second(unit: &str) -> f64 {
    match unit {
        "ms" => 1e3,
        "us" => 1e6,
        "ns" => 1e9,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_named_as_the_compatibility_specification_says() {
        for (name, unit, kind, expected) in [
            ("http.server.request.duration", "s", Kind::Histogram, "http_server_request_duration_seconds"),
            ("http.server.duration", "ms", Kind::Histogram, "http_server_duration_milliseconds"),
            ("http.server.active_requests", "{request}", Kind::Gauge, "http_server_active_requests"),
            ("requests", "1", Kind::Counter, "requests_total"),
            ("requests_total", "", Kind::Counter, "requests_total"),
            ("total.requests", "", Kind::Counter, "requests_total"),
            ("system.cpu.utilization", "1", Kind::Gauge, "system_cpu_utilization_ratio"),
            ("system.network.io", "By", Kind::Counter, "system_network_io_bytes_total"),
            ("disk_seconds", "s", Kind::Counter, "disk_seconds_total"),
            ("speed", "m/s", Kind::Gauge, "speed_meters_per_second"),
            ("rate", "{packet}/s", Kind::Gauge, "rate_per_second"),
            ("2nd..try__of", "", Kind::Gauge, "_2nd_try_of"),
            ("odd", "widgets", Kind::Gauge, "odd_widgets"),
            ("a:b", "%", Kind::Gauge, "a:b_percent"),
        ] {
            assert_eq!(metric(name, unit, kind), expected, "{name} {unit}");
        }
    }

    #[test]
    fn attributes_become_legal_label_names() {
        for (attribute, expected) in
            [("http.route", "http_route"), ("9lives", "key_9lives"), ("a b/ü", "a_b__"), ("plain_one", "plain_one")]
        {
            assert_eq!(label(attribute), expected);
        }
    }
}
