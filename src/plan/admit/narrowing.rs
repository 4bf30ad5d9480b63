//! Whether a proposed SLI is spelled as telemetry spells, and whether it narrows another: the same metrics with every
//! condition of the other, so that it looks at fewer series and means the same by bad.

use crate::domain::{Match, Matcher, Selector, Sli};

/// Most conditions on one metric.
pub(super) const MATCHERS_MAX: usize = 8;
/// Most values of one condition.
pub(super) const VALUES_MAX: usize = 16;
/// Most bytes of a label's value, a label's name or a metric's name.
pub(super) const WORD_BYTES_MAX: usize = 200;

/// Words in an SLI that no telemetry could know, or that are too many or too long.
pub(super) fn misspelt(sli: &Sli) -> Option<String> {
    if let Sli::Latency { slow_above_seconds, .. } = sli
        && !(slow_above_seconds.is_finite() && *slow_above_seconds > 0.0)
    {
        return Some("slow_above_seconds is a number of seconds above zero".into());
    }
    if let Sli::Mix { by, .. } = sli
        && !is_label(by)
    {
        return Some("a mix is by a label: letters, digits and underscores".into());
    }
    sli.selectors().into_iter().find_map(misspelt_selector)
}

fn misspelt_selector(selector: &Selector) -> Option<String> {
    if !is_metric(&selector.metric) {
        return Some("a metric's name has letters, digits, underscores and colons".into());
    }
    if selector.matchers.len() > MATCHERS_MAX {
        return Some(format!("a metric has at most {MATCHERS_MAX} conditions"));
    }
    for Matcher { label, value } in &selector.matchers {
        if !is_label(label) {
            return Some("a label's name has letters, digits and underscores, and begins with no digit".into());
        }
        let values = match value {
            Match::Is(value) | Match::IsNot(value) => std::slice::from_ref(value),
            Match::OneOf(values) => values.as_slice(),
            Match::StartsWith(prefix) if prefix.is_empty() => {
                return Some(format!("the empty prefix of {label} narrows nothing"));
            }
            Match::StartsWith(prefix) => std::slice::from_ref(prefix),
        };
        if values.is_empty() || values.len() > VALUES_MAX {
            return Some(format!("{label} is compared with 1 to {VALUES_MAX} values"));
        }
        if values.iter().any(|value| value.len() > WORD_BYTES_MAX || value.chars().any(char::is_control)) {
            return Some(format!("a value of {label} has at most {WORD_BYTES_MAX} printable bytes"));
        }
    }
    None
}

fn is_metric(name: &str) -> bool {
    name.len() <= WORD_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

fn is_label(name: &str) -> bool {
    is_metric(name) && !name.contains(':')
}

/// Whether `sli` is `entry`, or the same for fewer series.
pub(super) fn narrows(sli: &Sli, entry: &Sli) -> bool {
    match (sli, entry) {
        (Sli::Ratio { bad, total }, Sli::Ratio { bad: bad_of_all, total: all }) => {
            // Bad ones and all of them are the same requests, or the share means something else.
            match (extra(bad, bad_of_all), extra(total, all)) {
                (Some(of_bad), Some(of_total)) => same(&of_bad, &of_total),
                (Some(_) | None, Some(_) | None) => false,
            }
        }
        (
            Sli::Latency { histogram, slow_above_seconds },
            Sli::Latency { histogram: whole, slow_above_seconds: edge },
        ) => slow_above_seconds == edge && extra(histogram, whole).is_some(),
        (
            Sli::EventsPerTraffic { events, traffic },
            Sli::EventsPerTraffic { events: all_events, traffic: all_traffic },
        ) => match (extra(events, all_events), extra(traffic, all_traffic)) {
            // Traffic is narrowed only where the events are, so that events stay events of that traffic.
            (Some(of_events), Some(of_traffic)) => of_traffic.iter().all(|matcher| of_events.contains(matcher)),
            (Some(_) | None, Some(_) | None) => false,
        },
        (Sli::Level { gauge }, Sli::Level { gauge: whole }) => extra(gauge, whole).is_some(),
        (Sli::Mix { counter, by }, Sli::Mix { counter: whole, by: label }) => {
            by == label && extra(counter, whole).is_some()
        }
        (Sli::Liveness { series }, Sli::Liveness { series: whole }) => extra(series, whole).is_some(),
        (Sli::Probe { probe }, Sli::Probe { probe: other }) => probe == other,
        (
            Sli::Ratio { .. }
            | Sli::Latency { .. }
            | Sli::EventsPerTraffic { .. }
            | Sli::Level { .. }
            | Sli::Mix { .. }
            | Sli::Liveness { .. }
            | Sli::Probe { .. },
            _,
        ) => false,
    }
}

/// The conditions that `narrow` has and `wide` has not; `None` when it is no narrowing of it.
pub(super) fn extra<'a>(narrow: &'a Selector, wide: &Selector) -> Option<Vec<&'a Matcher>> {
    let holds = narrow.metric == wide.metric && wide.matchers.iter().all(|matcher| narrow.matchers.contains(matcher));
    holds.then(|| narrow.matchers.iter().filter(|matcher| !wide.matchers.contains(matcher)).collect())
}

fn same(some: &[&Matcher], others: &[&Matcher]) -> bool {
    some.iter().all(|matcher| others.contains(matcher)) && others.iter().all(|matcher| some.contains(matcher))
}
