//! Sources: software that keeps metrics, each a table of its own that services name. A kind is one variant of
//! [`Source`](super::Source) and one file here.

mod prometheus;

use std::collections::BTreeMap;

use super::{
    default,
    key::{Key, shown},
    meant::{FromSource, Source},
    reading::{Reading, WordForm, in_words},
    written::{self, SourceKind},
};

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

impl Reading<'_> {
    /// Every source that can be read, by name.
    pub(super) fn sources(&mut self, written: Option<&BTreeMap<String, written::Source>>) -> BTreeMap<String, Source> {
        let key = Key::root().name("sources");
        self.at_most(&key, written.map_or(0, BTreeMap::len), SOURCES_MAX, "sources");
        let mut sources = BTreeMap::new();
        for (name, written) in written.into_iter().flatten().take(SOURCES_MAX) {
            let key = key.name(name);
            self.word(&key, name, &NAME);
            let source = match written.kind {
                Some(SourceKind::Prometheus) => self.prometheus(&key, written).map(Source::Prometheus),
                None => {
                    self.missing(&key.name("kind"), "what it is, such as \"prometheus\"");
                    None
                }
            };
            sources.extend(source.map(|source| (name.clone(), source)));
        }
        sources
    }

    /// How a service is read from the source that it names; `None` where its pages are scraped.
    pub(super) fn read_from(
        &mut self,
        telemetry: &Key,
        written: &written::Telemetry,
        known: Option<&BTreeMap<String, written::Source>>,
    ) -> Option<FromSource> {
        let key = |name: &str| telemetry.name(name);
        let Some(name) = &written.source else {
            let spans = [
                ("settle", &written.settle),
                ("lookback", &written.lookback),
                ("stale_after", &written.stale_after),
                ("gone_after", &written.gone_after),
            ];
            for (name, _) in spans.into_iter().filter(|(_, span)| span.is_some()) {
                self.problems.add(&key(name), "is of no use without a source", "remove it, or name a source");
            }
            return None;
        };
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
