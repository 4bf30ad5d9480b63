//! Sources: software that keeps metrics, each a table of its own that services name. A kind is one variant of
//! [`Source`](super::Source) and one file here.
//!
//! What a source and the services that name it must have in common is looked at once both have been read: a service that
//! is looked at more often than its source has a bucket would mostly see nothing.

mod foreign;
mod influxdb;
mod otlp;
mod prometheus;
mod vendors;
mod web;

pub use web::ENDPOINTS_MAX;

use std::collections::BTreeMap;

use super::{
    default,
    fleet::Fleet,
    key::{Key, shown},
    meant::{FromSource, Source},
    reading::{Reading, WordForm, in_words},
    written::{self, SourceKind},
};
use crate::domain::Sli;

/// Most sources.
pub const SOURCES_MAX: usize = 50;

const NAME: WordForm = WordForm {
    name: "name of a source",
    fix: "a name of lower-case letters, digits, dashes and underscores",
    bytes_max: 60,
    is_legal: |word| {
        word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_')
    },
};

const KINDS: &str =
    "what it is: \"prometheus\", \"otlp\", \"datadog\", \"influxdb\", \"cloudwatch\", \"newrelic\" or \"web\"";

impl Reading<'_> {
    /// Every source that can be read, by name.
    pub(super) fn sources(&mut self, written: Option<&BTreeMap<String, written::Source>>) -> BTreeMap<String, Source> {
        let key = Key::root().name("sources");
        self.at_most(&key, written.map_or(0, BTreeMap::len), SOURCES_MAX, "sources");
        let mut sources = BTreeMap::new();
        for (name, written) in written.into_iter().flatten().take(SOURCES_MAX) {
            let key = key.name(name);
            self.word(&key, name, &NAME);
            let Some(kind) = written.kind else {
                self.missing(&key.name("kind"), KINDS);
                continue;
            };
            self.refuse_foreign_keys(&key, kind, written);
            let source = match kind {
                SourceKind::Prometheus => self.prometheus(&key, written).map(Source::Prometheus),
                SourceKind::Otlp => self.otlp(&key, written).map(Source::Otlp),
                SourceKind::Datadog => self.datadog(&key, written).map(Source::Datadog),
                SourceKind::InfluxDb => self.influxdb(&key, written).map(Source::InfluxDb),
                SourceKind::CloudWatch => self.cloudwatch(&key, written).map(Source::CloudWatch),
                SourceKind::NewRelic => self.newrelic(&key, written).map(Source::NewRelic),
                SourceKind::Web => Some(Source::Web(self.buckets(&key, written, default::WEB_BUCKETS))),
            };
            sources.extend(source.map(|source| (name.clone(), source)));
        }
        sources
    }

    /// What services and the sources that they name must have in common.
    pub(super) fn check_sources(&mut self, services: &Fleet, sources: &BTreeMap<String, Source>) {
        for (name, telemetry) in &services.telemetry {
            let service = Key::root().name("services").name(name.as_str());
            let Some(from) = &telemetry.from else { continue };
            let Some(source) = sources.get(&from.name) else { continue };
            let Some(buckets) = source.buckets() else { continue };
            let (step_key, interval_key) =
                (Key::root().name("sources").name(&from.name).name("step"), service.name("telemetry").name("interval"));
            if self.are_fine(&[&step_key, &interval_key]) && telemetry.interval < buckets.step {
                let step = in_words(buckets.step);
                let what = format!(
                    "{} is shorter than a bucket of its source, {step}: looks in between would find no data",
                    in_words(telemetry.interval)
                );
                self.problems.add(&interval_key, what, format!("write \"{step}\" or longer"));
            }
            let Some(policy) = services.policies.get(name) else { continue };
            // A bucket that began just before the last answer is told once it is over and has settled.
            let silent = buckets.step.saturating_mul(2).saturating_add(buckets.settle);
            if policy.blackout_after <= silent {
                let what = format!(
                    "{} is no longer than its source is silent between two buckets, up to {}: a person would be called \
                     for nothing",
                    in_words(policy.blackout_after),
                    in_words(silent)
                );
                self.warn(&service.name("blackout_after"), what);
            }
            if matches!(source, Source::Web(_)) {
                for entry in &policy.bounds.catalogue.entries {
                    self.check_endpoints(&service, (entry.name.as_str(), &entry.sli), &telemetry.metrics);
                }
            }
        }
    }

    /// What an SLI measures must be read somewhere.
    fn check_endpoints(
        &mut self,
        service: &Key,
        (name, sli): (&str, &Sli),
        metrics: &BTreeMap<String, super::Endpoint>,
    ) {
        let key = service.name("telemetry").name("metrics");
        if !self.are_fine(&[&service.name("slis"), &key]) {
            return;
        }
        for selector in sli.selectors() {
            let key = key.name(&selector.metric);
            let Some(endpoint) = metrics.get(&selector.metric) else {
                self.problems.add(&key, format!("is missing, and the SLI {name} reads it"), "write where it is read");
                continue;
            };
            if !selector.matchers.is_empty() {
                let what = format!("has no labels, and the SLI {name} has conditions on them");
                self.problems.add(&key, what, "write a metric of its own for what is meant");
            }
            if let Sli::Latency { slow_above_seconds, .. } = sli
                && endpoint.slow.as_ref().is_none_or(|(above, _)| above.as_secs_f64() != *slow_above_seconds)
            {
                let what =
                    format!("does not tell what is slower than {slow_above_seconds} s, which the SLI {name} reads");
                self.problems.add(&key.name("slow"), what, "write slow = { above = \"...\", path = \"...\" }");
            }
        }
    }

    /// How a service is read from the source that it names; `None` where its pages are scraped.
    pub(super) fn service_source(
        &mut self,
        telemetry: &Key,
        written: &written::Telemetry,
        known: Option<&BTreeMap<String, written::Source>>,
    ) -> Option<FromSource> {
        let key = |name: &str| telemetry.name(name);
        self.refuse_useless_keys(telemetry, written, known);
        let name = written.source.as_ref()?;
        if !known.is_some_and(|known| known.contains_key(name)) {
            let names: Vec<&str> = known.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            let fix = if names.is_empty() {
                "write a table such as [sources.metrics]".to_owned()
            } else {
                format!("write one of {}", names.join(", "))
            };
            self.problems.add(&key("source"), format!("\"{}\" is no source", shown(name)), fix);
        }
        let settle = self.span(&key("settle"), written.settle.as_ref(), default::SETTLE);
        let lookback = self.span(&key("lookback"), written.lookback.as_ref(), default::LOOKBACK);
        let stale_after = self.span(&key("stale_after"), written.stale_after.as_ref(), default::STALE_AFTER);
        let gone_after = self.span(&key("gone_after"), written.gone_after.as_ref(), default::GONE_AFTER);
        if self.are_fine(&[&key("stale_after"), &key("gone_after")]) && gone_after < stale_after {
            let what = format!("{} is shorter than stale_after, {}", in_words(gone_after), in_words(stale_after));
            self.problems.add(&key("gone_after"), what, "write a longer one, or a shorter stale_after");
        }
        if self.are_fine(&[&key("lookback"), &key("gone_after")]) && lookback < gone_after {
            let what = format!("{} is shorter than gone_after, {}", in_words(lookback), in_words(gone_after));
            self.problems.add(&key("lookback"), what, "write a longer one, or a shorter gone_after");
        }
        Some(FromSource { name: name.clone(), settle, lookback, stale_after, gone_after })
    }
}
