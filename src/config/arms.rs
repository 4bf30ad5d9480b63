//! Where a service's arms are measured, and the flag that moves its traffic.
//!
//! Control and canary must be told apart: two arms that read the same series would compare the new version with itself
//! and find it healthy for ever. So a page that both read must be split by a label.

use std::collections::BTreeMap;

use reqwest::Url;

use super::{
    default,
    key::{Key, shown},
    meant::{ArmTargets, Flag, FlagValue, Probing, Telemetry},
    reading::{Names, Reading, WordForm, in_words},
    written::{self, SourceKind},
};
use crate::domain::ServiceName;

/// Most pages of one arm.
pub const URLS_MAX: usize = 50;
/// Most labels of one arm.
pub const LABELS_MAX: usize = 20;
/// Most labels of one arm that is read from a source.
pub const SOURCE_LABELS_MAX: usize = 16;
/// Longest address, in bytes.
pub(super) const URL_BYTES_MAX: usize = 2_048;
/// Longest value of a label, in bytes.
pub(super) const LABEL_VALUE_BYTES_MAX: usize = 200;
/// What stands for an arm's revision.
const REVISION: &str = "{revision}";

pub(super) const LABEL: WordForm = WordForm {
    name: "name of a label",
    fix: "a name of letters, digits and underscores",
    bytes_max: 100,
    is_legal: |word| {
        word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !word.starts_with(|first: char| first.is_ascii_digit())
    },
};

pub(super) const FREE_LABEL: WordForm = WordForm {
    name: "name of a label",
    fix: "a name of letters, digits and any of . _ / -",
    bytes_max: 200,
    is_legal: |word| {
        word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte))
            && word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
    },
};

const FLAG_KEY: WordForm = WordForm {
    name: "name of a flag",
    fix: "a name of letters, digits and any of . _ / -",
    bytes_max: 100,
    is_legal: |word| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte)),
};

/// How an arm is found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// By its own pages.
    Pages,
    /// By labels in a source.
    Labels,
    /// By addresses of endpoints, one for each metric.
    Endpoints,
}

impl Reading<'_> {
    /// Where the arms of a service are measured.
    pub(super) fn telemetry(
        &mut self,
        service: &Key,
        written: Option<&written::Telemetry>,
        sources: Option<&BTreeMap<String, written::Source>>,
    ) -> Telemetry {
        let key = service.name("telemetry");
        let nothing = written::Telemetry::default();
        let written = written.unwrap_or(&nothing);
        let (interval_key, timeout_key) = (key.name("interval"), key.name("timeout"));
        let interval = self.span(&interval_key, written.interval.as_ref(), default::SCRAPE_INTERVAL);
        let timeout = self.span(&timeout_key, written.timeout.as_ref(), default::SCRAPE_TIMEOUT);
        if written.source.is_none() && self.are_fine(&[&interval_key, &timeout_key]) && timeout > interval {
            let what = format!("{} is longer than the time between scrapes, {}", in_words(timeout), in_words(interval));
            self.problems.add(&timeout_key, what, "write a shorter timeout or a longer interval");
        }
        // One that is read from a source has no scrapes whose time could be written.
        let timeout = timeout.min(interval);
        let from = self.service_source(&key, written, sources);
        if from.is_some() && written.timeout.is_some() {
            self.problems.add(&timeout_key, "is the source's where there is one", "write it in the source's table");
        }
        let kind = written.source.as_ref().and_then(|name| sources?.get(name)?.kind);
        let (manner, names) = match kind {
            _ if from.is_none() => (Manner::Pages, Names::Prometheus),
            Some(SourceKind::Web) => (Manner::Endpoints, Names::Free),
            Some(SourceKind::Prometheus) | None => (Manner::Labels, Names::Prometheus),
            Some(
                SourceKind::Otlp
                | SourceKind::Datadog
                | SourceKind::InfluxDb
                | SourceKind::CloudWatch
                | SourceKind::NewRelic,
            ) => (Manner::Labels, Names::Free),
        };
        self.names = names;
        let metrics = match manner {
            Manner::Endpoints => self.endpoints(&key.name("metrics"), written.metrics.as_ref()),
            Manner::Pages | Manner::Labels => BTreeMap::new(),
        };
        let pod_label = self.label(&key.name("pod_label"), written.pod_label.as_ref());
        let (control_key, canary_key) = (key.name("control"), key.name("canary"));
        let control = self.arm(&control_key, written.control.as_ref(), manner);
        let canary = self.arm(&canary_key, written.canary.as_ref(), manner);
        if self.are_fine(&[&control_key, &canary_key]) && !are_told_apart(&control, &canary, manner) {
            let what = "reads the same series as control";
            let fix = "write other urls, or a label in both arms that differs, such as labels = { revision = \"{revision}\" }";
            self.problems.add(&canary_key, what, fix);
        }
        Telemetry { interval, timeout, pod_label, from, control, canary, metrics, probing: Probing::default() }
    }

    /// The name of a label that may be left out.
    pub(super) fn label(&mut self, key: &Key, written: Option<&String>) -> Option<String> {
        let label = written?;
        self.word(key, label, self.names.label());
        Some(label.clone())
    }

    fn arm(&mut self, key: &Key, written: Option<&written::Arm>, manner: Manner) -> ArmTargets {
        let urls = written.and_then(|arm| arm.urls.clone()).unwrap_or_default();
        let labels = written.and_then(|arm| arm.labels.clone()).unwrap_or_default();
        let (urls_key, labels_key) = (key.name("urls"), key.name("labels"));
        if manner != Manner::Pages && !urls.is_empty() {
            self.problems.add(&urls_key, "are of no use beside a source", "remove them, or the source");
        }
        let labels_max = match manner {
            Manner::Pages if urls.is_empty() => {
                self.missing(&urls_key, "the pages to scrape, such as [\"http://127.0.0.1:9100/metrics\"]");
                LABELS_MAX
            }
            Manner::Pages => LABELS_MAX,
            Manner::Labels => {
                if labels.is_empty() {
                    let fix = "what its series bear in the source, such as { version = \"{revision}\" }";
                    self.missing(&labels_key, fix);
                }
                SOURCE_LABELS_MAX
            }
            Manner::Endpoints => {
                if !labels.is_empty() {
                    let what = "are of no use with a source of kind \"web\": an endpoint has no labels";
                    self.problems.add(&labels_key, what, "write {revision} or {arm} in the metrics' addresses");
                }
                SOURCE_LABELS_MAX
            }
        };
        self.at_most(&urls_key, urls.len(), URLS_MAX, "pages");
        for (place, url) in urls.iter().enumerate().take(URLS_MAX) {
            if let Some(wrong) = wrong_with(url) {
                // The address is not repeated, for there may be a password in it.
                let fix = "write an http or https address, with {revision} where the revision stands";
                self.problems.add(&urls_key.at(place), wrong, fix);
            }
        }
        self.at_most(&labels_key, labels.len(), labels_max, "labels");
        for (label, value) in labels.iter().take(labels_max) {
            let key = labels_key.name(label);
            self.word(&key, label, self.names.label());
            if value.len() > LABEL_VALUE_BYTES_MAX || has_other_placeholder(value) {
                let fix =
                    format!("write a value of at most {LABEL_VALUE_BYTES_MAX} bytes, with no braces but {REVISION}");
                self.problems.add(&key, format!("\"{}\" is no value of a label", shown(value)), fix);
            }
        }
        ArmTargets { urls, labels }
    }

    /// The flag of a service.
    pub(super) fn flag(&mut self, service: &Key, name: &ServiceName, written: Option<&written::Flag>) -> Flag {
        let key = written.and_then(|flag| flag.key.as_deref()).unwrap_or(name.as_str());
        self.word(&service.name("flag").name("key"), key, &FLAG_KEY);
        let value = match written.and_then(|flag| flag.value) {
            Some(written::FlagValue::Boolean) => FlagValue::Boolean,
            Some(written::FlagValue::Variant) => FlagValue::Variant,
            Some(written::FlagValue::Revision) | None => FlagValue::Revision,
        };
        Flag { key: key.into(), value }
    }

    /// Notes a list that is too long.
    pub(super) fn at_most(&mut self, key: &Key, count: usize, most: usize, what: &str) {
        if count > most {
            self.problems.add(key, format!("has {count} {what}"), format!("write at most {most}"));
        }
    }
}

/// An HTTP address with a host and no name or password in it.
pub(super) fn http_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = matches!(url.scheme(), "http" | "https") && url.has_host();
    (plain && url.username().is_empty() && url.password().is_none()).then_some(url)
}

/// What is wrong with the address of a page, if anything is.
pub(super) fn wrong_with(url: &str) -> Option<&'static str> {
    if url.len() > URL_BYTES_MAX {
        return Some("is too long");
    }
    if has_other_placeholder(url) {
        return Some("has another placeholder than {revision}");
    }
    let sample = url.replace(REVISION, "abcdef0");
    match Url::parse(&sample) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => Some("holds a user name or a password"),
        Ok(_) if http_url(&sample).is_some() => None,
        Ok(_) | Err(_) => Some("is no web address"),
    }
}

fn has_other_placeholder(text: &str) -> bool {
    text.replace(REVISION, "").contains(['{', '}'])
}

/// Whether no series can be read for both arms. The arms never have the same revision, so whatever bears it differs.
fn are_told_apart(control: &ArmTargets, canary: &ArmTargets, manner: Manner) -> bool {
    let share_a_page = match manner {
        Manner::Labels => true,
        // Each endpoint's address tells them apart.
        Manner::Endpoints => false,
        Manner::Pages => control.urls.iter().any(|url| !url.contains(REVISION) && canary.urls.contains(url)),
    };
    let a_label_differs = control
        .labels
        .iter()
        .any(|(label, value)| canary.labels.get(label).is_some_and(|other| other != value || value.contains(REVISION)));
    !share_a_page || a_label_differs
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn arm(url: &str, label: Option<&str>) -> ArmTargets {
        let labels = label.map(|value| ("version".to_owned(), value.to_owned()));
        ArmTargets { urls: vec![url.into()], labels: BTreeMap::from_iter(labels) }
    }

    #[test]
    fn arms_on_one_page_need_a_label_that_differs() {
        let apart = |control: &ArmTargets, canary: &ArmTargets| are_told_apart(control, canary, Manner::Pages);
        assert!(apart(&arm("a", None), &arm("b", None)));
        assert!(!apart(&arm("a", None), &arm("a", None)));
        assert!(!apart(&arm("a", Some("x")), &arm("a", None)), "the arm without the label reads every series");
        assert!(!apart(&arm("a", Some("x")), &arm("a", Some("x"))));
        assert!(apart(&arm("a", Some("x")), &arm("a", Some("y"))));
        assert!(apart(&arm("a", Some(REVISION)), &arm("a", Some(REVISION))));
        assert!(apart(&arm("a/{revision}", None), &arm("a/{revision}", None)));
    }
}
