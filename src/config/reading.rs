//! Reads single values: what was typed, against its default and its bounds.
//!
//! Every reader gives a value whatever was typed, and notes the problem: the file is refused in the end, and until then
//! the rest of it is read as if the default stood there. Whoever compares two settings asks [`Reading::are_fine`] first.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    time::Duration,
};

use humantime::{format_duration, parse_duration};

use super::{
    arms,
    default::{CountRule, SpanRule},
    key::{Key, shown},
    problem::Problems,
    series,
    written::{Percent, Span},
};
use crate::domain::Share;

/// A file being read: what was found wrong so far, and what stands around it.
pub(super) struct Reading<'a> {
    pub(super) problems: Problems<'a>,
    pub(super) warnings: Vec<String>,
    /// How metrics and labels may be named where the service that is being read is measured.
    pub(super) names: Names,
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    folder: &'a Path,
}

impl<'a> Reading<'a> {
    /// Nothing read yet. Relative paths in the file start from `folder`.
    pub(super) fn new(problems: Problems<'a>, env: &'a dyn Fn(&str) -> Option<String>, folder: &'a Path) -> Self {
        Self { problems, warnings: Vec::new(), names: Names::Prometheus, env, folder }
    }

    /// Notes something legal that deserves a second look.
    pub(super) fn warn(&mut self, key: &Key, what: impl Display) {
        self.warnings.push(format!("{key}: {what}"));
    }

    /// Whether each of these settings can be compared with another.
    pub(super) fn are_fine(&self, keys: &[&Key]) -> bool {
        keys.iter().all(|key| self.problems.is_fine(key))
    }

    /// A path, from the folder of the file.
    pub(super) fn path(&self, written: &Path) -> PathBuf {
        self.folder.join(written)
    }

    /// A setting that has no default is missing.
    pub(super) fn missing(&mut self, key: &Key, fix: impl Display) {
        self.problems.add(key, "is missing", format!("write {fix}"));
    }

    /// A span of time.
    pub(super) fn span(&mut self, key: &Key, written: Option<&Span>, rule: SpanRule) -> Duration {
        let Some(Span(text)) = written else { return rule.default };
        let Some(span) = parse_span(text) else {
            let what = format!("\"{}\" is no duration", shown(text));
            self.problems.add(key, what, "write a number and a unit, such as \"15s\", \"5m\" or \"24h\"");
            return rule.default;
        };
        if span < rule.least || span > rule.most {
            let what = format!("{} is too {}", in_words(span), if span < rule.least { "short" } else { "long" });
            let fix = format!("write {} to {}", in_words(rule.least), in_words(rule.most));
            self.problems.add(key, what, fix);
            return rule.default;
        }
        span
    }

    /// A whole number.
    pub(super) fn count(&mut self, key: &Key, written: Option<u64>, rule: &CountRule) -> u64 {
        let number = written.unwrap_or(rule.default);
        if rule.within.contains(&number) {
            return number;
        }
        let bound = if number < *rule.within.start() { "few" } else { "many" };
        let fix = format!("write {} to {}", rule.within.start(), rule.within.end());
        self.problems.add(key, format!("{number} is too {bound}"), fix);
        rule.default
    }

    /// As [`Self::count`], for what is counted in memory.
    pub(super) fn size(&mut self, key: &Key, written: Option<u64>, rule: &CountRule) -> usize {
        usize::try_from(self.count(key, written, rule)).unwrap_or(usize::MAX)
    }

    /// As [`Self::count`], for what never becomes large.
    pub(super) fn small(&mut self, key: &Key, written: Option<u64>, rule: &CountRule) -> u32 {
        u32::try_from(self.count(key, written, rule)).unwrap_or(u32::MAX)
    }

    /// How many times worse is tolerated.
    pub(super) fn ratio(&mut self, key: &Key, written: Option<f64>, default: f64, most: f64) -> f64 {
        let ratio = written.unwrap_or(default);
        if (1.0..=most).contains(&ratio) {
            return ratio;
        }
        let what = if ratio < 1.0 {
            format!("{ratio} asks the canary to be better than control")
        } else {
            format!("{ratio} tolerates nearly anything")
        };
        self.problems.add(key, what, format!("write a number from 1 to {most}, such as {default}"));
        default
    }

    /// Per cent, 0 to 100.
    pub(super) fn percent(&mut self, key: &Key, written: &Percent) -> Option<f64> {
        let (number, text) = match written {
            Percent::Number(number) => (Some(*number), number.to_string()),
            Percent::Words(words) => (parse_percent(words), format!("\"{}\"", shown(words))),
        };
        let Some(number) = number.filter(|number| (0.0..=100.0).contains(number)) else {
            let what = format!("{text} is no share");
            self.problems.add(key, what, "write \"0%\" to \"100%\", such as \"5%\" or \"0.5%\"");
            return None;
        };
        if matches!(written, Percent::Number(_)) && number > 0.0 && number < 1.0 {
            self.warn(key, format_args!("{number} is read as {number} per cent; write \"{number}%\" if that is meant"));
        }
        Some(number)
    }

    /// A share of traffic.
    pub(super) fn share(&mut self, key: &Key, written: &Percent) -> Option<Share> {
        let points = self.percent(key, written)? * 100.0;
        let nearest = points.round();
        if (points - nearest).abs() > 1e-6 {
            let what = format!("{} per cent is finer than traffic is split", points / 100.0);
            self.problems.add(key, what, "write whole hundredths of a per cent, such as \"0.01%\"");
            return None;
        }
        // In range, as `percent` has seen to it: the cast keeps every whole number from 0 to 10,000.
        Share::from_basis_points(nearest as u16)
    }

    /// A word of these many characters at most that `is_legal` takes; the problem says `form`.
    pub(super) fn word(&mut self, key: &Key, word: &str, form: &WordForm) -> bool {
        let legal = !word.is_empty() && word.len() <= form.bytes_max && (form.is_legal)(word);
        if !legal {
            let what = match word.len() {
                0 => "is empty".into(),
                len if len > form.bytes_max => format!("is {len} bytes long"),
                _ => format!("\"{}\" is no {}", shown(word), form.name),
            };
            self.problems.add(key, what, format!("write {} of at most {} bytes", form.fix, form.bytes_max));
        }
        legal
    }
}

/// How metrics and labels may be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// As Prometheus has it.
    Prometheus,
    /// With dots, dashes and slashes too, as others have it.
    Free,
}

impl Names {
    /// What the name of a metric must look like.
    pub(super) const fn metric(self) -> &'static WordForm {
        match self {
            Self::Prometheus => &series::METRIC,
            Self::Free => &series::FREE_METRIC,
        }
    }

    /// What the name of a label must look like.
    pub(super) const fn label(self) -> &'static WordForm {
        match self {
            Self::Prometheus => &arms::LABEL,
            Self::Free => &arms::FREE_LABEL,
        }
    }
}

/// What a word must look like.
pub(super) struct WordForm {
    pub(super) name: &'static str,
    pub(super) fix: &'static str,
    pub(super) bytes_max: usize,
    pub(super) is_legal: fn(&str) -> bool,
}

/// A span as people read it.
pub(super) fn in_words(span: Duration) -> String {
    format_duration(span).to_string()
}

/// Longest text that can be a duration.
const SPAN_BYTES_MAX: usize = 40;

fn parse_span(text: &str) -> Option<Duration> {
    if text.len() > SPAN_BYTES_MAX { None } else { parse_duration(text).ok() }
}

fn parse_percent(words: &str) -> Option<f64> {
    let digits = words.strip_suffix('%')?.trim_end();
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_decimals_with_their_sign_are_per_cent() {
        for (words, percent) in [("5%", Some(5.0)), ("0.5 %", Some(0.5)), ("100%", Some(100.0))] {
            assert_eq!(parse_percent(words), percent, "{words}");
        }
        for words in ["", "%", "5", "-5%", "+5%", "1e2%", "inf%", "nan%", ".%", "1.2.3%", "5%%", "٥%"] {
            assert_eq!(parse_percent(words), None, "{words}");
        }
    }

    #[test]
    fn a_duration_has_a_unit_and_a_sane_length() {
        assert_eq!(parse_span("1h 30m"), Some(Duration::from_secs(5_400)));
        let longest = format!("{}1s", "0".repeat(SPAN_BYTES_MAX - 2));
        assert_eq!(parse_span(&longest), Some(Duration::from_secs(1)));
        for text in ["", "15", "-1s", "1.s", "99999999999999999999d", &format!("0{longest}")] {
            assert_eq!(parse_span(text), None, "{text}");
        }
    }
}
