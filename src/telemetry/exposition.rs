//! The Prometheus text exposition format 0.0.4, and as much of OpenMetrics text as its users meet: `# EOF`, exemplars.
//!
//! A parser of our own, because what decides about traffic has to refuse what it does not understand: a body that was
//! cut inside a number, a label value with an escape nobody defined, or a login page must never be read as counts. Like
//! Prometheus itself it refuses the whole body for one bad line. Everything is bounded before it is kept.
//!
//! Only series whose name the caller wants are kept; the rest is checked and dropped, so that a large exposition costs
//! no more memory than what is read from it.

use std::collections::BTreeMap;

use crate::domain::Text;

/// Most bytes of a body.
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most series of a body, and most `TYPE` lines.
pub const SERIES_MAX: usize = 50_000;
/// Most labels of one series.
pub const LABELS_MAX: usize = 64;
/// Most bytes of one label value, escapes resolved.
pub const LABEL_VALUE_BYTES_MAX: usize = 4 * 1024;
/// Most bytes of a metric's or a label's name.
pub const NAME_BYTES_MAX: usize = 1024;

/// Suffixes that a family's series bear beyond the name in its `TYPE` line.
const SUFFIXES: [&str; 4] = ["_total", "_count", "_sum", "_bucket"];

/// What is wrong with a body, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Error {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: Text,
}

/// One series: a metric's name as exposed, and its labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// The name, suffixes such as `_total` and `_bucket` included.
    pub name: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
}

/// What a `TYPE` line says a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, except when its process starts again.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Cumulative buckets.
    Histogram,
    /// Quantiles, a sum and a count.
    Summary,
    /// Anything else, or not said.
    Untyped,
}

/// What one body exposes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exposition {
    /// The wanted series and their values, in the order of the body. The same series may be there twice.
    pub samples: Vec<(Series, f64)>,
    /// Whether the body ended with `# EOF`, as OpenMetrics demands.
    pub eof: bool,
    kinds: BTreeMap<String, Kind>,
    helps: BTreeMap<String, Text>,
}

impl Exposition {
    /// What a body that declares these kinds would expose.
    pub fn of(samples: Vec<(Series, f64)>, kinds: BTreeMap<String, Kind>) -> Self {
        Self { samples, eof: false, kinds, helps: BTreeMap::new() }
    }

    /// The same, with what its makers say of metrics by name.
    pub fn explained(self, helps: BTreeMap<String, Text>) -> Self {
        Self { helps, ..self }
    }

    /// What the body says of the family of this series name; nothing for what was not wanted.
    pub fn help(&self, name: &str) -> Option<&Text> {
        let family = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
        self.helps.get(name).or_else(|| self.helps.get(family?))
    }

    /// What the body declares the family of this series name to be.
    pub fn kind(&self, name: &str) -> Kind {
        let family = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
        let declared = self.kinds.get(name).or_else(|| self.kinds.get(family?));
        declared.copied().unwrap_or(Kind::Untyped)
    }
}

/// Reads a body, and keeps the series whose name is `wanted`.
pub fn parse(body: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Exposition, Error> {
    let error = |line: usize, what: String| Error { line, what: Text::new(what) };
    if body.len() > BODY_BYTES_MAX {
        return Err(error(1, format!("the body has more than {BODY_BYTES_MAX} bytes")));
    }
    let text = std::str::from_utf8(body).map_err(|bad| {
        let before = body.get(..bad.valid_up_to()).unwrap_or_default();
        error(1 + before.iter().filter(|b| **b == b'\n').count(), "not UTF-8".into())
    })?;
    let mut exposition = Exposition::default();
    let mut series = 0_usize;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let number = index + 1;
        let ended = line.ends_with('\n');
        let line = line.strip_suffix('\n').unwrap_or(line).trim_matches([' ', '\t']);
        if exposition.eof {
            return Err(error(number, "there is more after `# EOF`".into()));
        }
        if line == "# EOF" {
            exposition.eof = true;
            continue;
        }
        if line.starts_with(['<', '{', '[']) {
            let what = "not a metric: this looks like a page or a document, not the Prometheus text format";
            return Err(error(number, what.into()));
        }
        if !ended {
            return Err(error(number, "the last line has no line feed: the body was cut".into()));
        }
        if let Some(comment) = line.strip_prefix('#') {
            declare(comment, &mut exposition.kinds).map_err(|what| error(number, what))?;
            explain(comment, &wanted, &mut exposition.helps);
        } else if !line.is_empty() {
            series += 1;
            if series > SERIES_MAX {
                return Err(error(number, format!("more than {SERIES_MAX} series")));
            }
            let sample = Cursor { rest: line }.sample(&wanted).map_err(|what| error(number, what))?;
            exposition.samples.extend(sample);
        }
    }
    Ok(exposition)
}

/// Takes in a `TYPE` line; any other comment says nothing.
fn declare(comment: &str, kinds: &mut BTreeMap<String, Kind>) -> Result<(), String> {
    let mut words = comment.split([' ', '\t']).filter(|word| !word.is_empty());
    // `#TYPE` without a blank is a comment like any other.
    if !comment.starts_with([' ', '\t']) || words.next() != Some("TYPE") {
        return Ok(());
    }
    let (Some(name), Some(kind), None) = (words.next(), words.next(), words.next()) else {
        return Err("a TYPE line has a name and a type".into());
    };
    let kind = match kind {
        "counter" => Kind::Counter,
        "gauge" => Kind::Gauge,
        "histogram" => Kind::Histogram,
        "summary" => Kind::Summary,
        "untyped" | "unknown" | "info" | "stateset" | "gaugehistogram" => Kind::Untyped,
        other => return Err(format!("`{other}` is no metric type")),
    };
    if !is_name(name, ":") {
        return Err(format!("`{name}` is no metric name"));
    }
    if kinds.len() >= SERIES_MAX && !kinds.contains_key(name) {
        return Err(format!("more than {SERIES_MAX} TYPE lines"));
    }
    match kinds.insert(name.to_owned(), kind) {
        Some(before) if before != kind => Err(format!("`{name}` is declared twice, differently")),
        Some(_) | None => Ok(()),
    }
}

/// Takes in a `HELP` line of a family that is wanted; one that is not as it should be says nothing.
fn explain(comment: &str, wanted: &impl Fn(&str) -> bool, helps: &mut BTreeMap<String, Text>) {
    let blanks = [' ', '\t'];
    let mut words = comment.trim_start_matches(blanks).splitn(2, blanks);
    // `#HELP` without a blank is a comment like any other.
    let (true, Some("HELP"), Some(rest)) = (comment.starts_with(blanks), words.next(), words.next()) else { return };
    let (name, words) = rest.trim_start_matches(blanks).split_once(blanks).unwrap_or_default();
    if is_name(name, ":") && wanted(name) && helps.len() < SERIES_MAX {
        helps.insert(name.to_owned(), Text::new(words));
    }
}

/// Whether this is a name of letters, digits, underscores and `extra`, not beginning with a digit.
fn is_name(name: &str, extra: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || extra.contains(c);
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.chars().all(legal)
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// What is left of a line.
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    /// `name{labels} value [timestamp] [# exemplar]`; nothing for a name that is not wanted.
    fn sample(mut self, wanted: &impl Fn(&str) -> bool) -> Result<Option<(Series, f64)>, String> {
        let name = self.name(":")?;
        let mut labels = wanted(name).then(BTreeMap::new);
        if let Some(found) = self.rest.chars().next().filter(|c| !matches!(c, ' ' | '\t' | '{')) {
            return Err(format!("a name cannot hold `{found}`"));
        }
        self.skip_blanks();
        if self.rest.starts_with('{') {
            self.labels(labels.as_mut())?;
        }
        let value = self.number("value")?;
        if !self.rest.is_empty() && !self.rest.starts_with('#') {
            let timestamp = self.number("timestamp")?;
            if !timestamp.is_finite() {
                return Err("the timestamp is no number".into());
            }
        }
        if let Some(exemplar) = self.rest.strip_prefix('#') {
            Cursor { rest: exemplar }.exemplar().map_err(|what| format!("exemplar: {what}"))?;
        } else if !self.rest.is_empty() {
            return Err(format!("`{}` is left over", self.rest));
        }
        Ok(labels.map(|labels| (Series { name: name.to_owned(), labels }, value)))
    }

    /// `{labels} value [timestamp]`, checked and dropped.
    fn exemplar(mut self) -> Result<(), String> {
        self.skip_blanks();
        self.labels(None)?;
        self.number("value")?;
        if !self.rest.is_empty() {
            self.number("timestamp")?;
        }
        if self.rest.is_empty() { Ok(()) } else { Err(format!("`{}` is left over", self.rest)) }
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    /// Moves past `what`, or says what is missing.
    fn expect(&mut self, what: char) -> Result<(), String> {
        self.rest = self.rest.strip_prefix(what).ok_or_else(|| match self.rest.chars().next() {
            Some(found) => format!("`{what}` is missing before `{found}`"),
            None => format!("`{what}` is missing at the end of the line"),
        })?;
        Ok(())
    }

    /// The longest name here; `extra` are characters it may have besides letters, digits and underscores.
    fn name(&mut self, extra: &str) -> Result<&'a str, String> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && !extra.contains(c));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if !is_name(name, extra) {
            return Err(match self.rest.chars().next() {
                _ if name.len() > NAME_BYTES_MAX => format!("a name has more than {NAME_BYTES_MAX} bytes"),
                Some(found) => format!("a name cannot begin with `{found}`"),
                None => "a name is missing at the end of the line".into(),
            });
        }
        self.rest = rest;
        Ok(name)
    }

    /// A number up to the next blank or the line's end, and the blanks after it.
    fn number(&mut self, what: &str) -> Result<f64, String> {
        self.skip_blanks();
        let end = self.rest.find([' ', '\t']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if word.is_empty() {
            return Err(format!("the {what} is missing"));
        }
        let number = word.parse().map_err(|_| format!("the {what} `{word}` is no number"))?;
        self.rest = rest;
        self.skip_blanks();
        Ok(number)
    }

    /// `{name="value",...}`; a comma after the last one is legal.
    fn labels(&mut self, mut kept: Option<&mut BTreeMap<String, String>>) -> Result<(), String> {
        let mut names: Vec<&'a str> = Vec::new();
        self.expect('{')?;
        loop {
            self.skip_blanks();
            if let Some(rest) = self.rest.strip_prefix('}') {
                self.rest = rest;
                return Ok(());
            }
            if !names.is_empty() {
                self.expect(',')?;
                self.skip_blanks();
                if self.rest.starts_with('}') {
                    continue;
                }
            }
            let name = self.name("")?;
            if names.contains(&name) {
                return Err(format!("label `{name}` is there twice"));
            }
            if names.len() == LABELS_MAX {
                return Err(format!("more than {LABELS_MAX} labels"));
            }
            names.push(name);
            self.skip_blanks();
            self.expect('=')?;
            self.skip_blanks();
            let value = self.label_value().map_err(|what| format!("label `{name}`: {what}"))?;
            if let Some(kept) = kept.as_deref_mut() {
                kept.insert(name.to_owned(), value);
            }
        }
    }

    /// A quoted value with its escapes resolved.
    fn label_value(&mut self) -> Result<String, String> {
        self.expect('"')?;
        let mut value = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return Ok(value);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, c @ ('\\' | '"'))) => value.push(c),
                    Some((_, c)) => return Err(format!("`\\{c}` is no escape: write \\\\, \\\" or \\n")),
                    None => break,
                },
                c => value.push(c),
            }
            if value.len() > LABEL_VALUE_BYTES_MAX {
                return Err(format!("the value has more than {LABEL_VALUE_BYTES_MAX} bytes"));
            }
        }
        Err("the value has no closing quote".into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &str) -> Result<Exposition, Error> {
        parse(body.as_bytes(), |_| true)
    }

    fn series(name: &str, labels: &[(&str, &str)]) -> Series {
        let labels = labels.iter().map(|(label, value)| ((*label).into(), (*value).into()));
        Series { name: name.into(), labels: labels.collect() }
    }

    /// Reads one line and gives its series and value back.
    fn line(line: &str) -> (Series, f64) {
        let exposition = read(&format!("{line}\n")).unwrap();
        assert_eq!(exposition.samples.len(), 1, "{line}");
        exposition.samples[0].clone()
    }

    #[test]
    fn the_formats_own_example_is_read() {
        let body = include_str!("exposition/example.txt");
        let exposition = read(body).unwrap();
        let find = |name: &str, labels| {
            let wanted = series(name, labels);
            exposition.samples.iter().find(|(series, _)| *series == wanted).map(|(_, value)| *value)
        };
        assert_eq!(find("http_requests_total", &[("method", "post"), ("code", "400")]), Some(3.0));
        let escaped = [("path", "C:\\DIR\\FILE.TXT"), ("error", "Cannot find file:\n\"FILE.TXT\"")];
        assert_eq!(find("msdos_file_access_time_seconds", &escaped), Some(1.458255915e9));
        assert_eq!(find("something_weird", &[("problem", "division by zero")]), Some(f64::INFINITY));
        assert_eq!(find("http_request_duration_seconds_bucket", &[("le", "+Inf")]), Some(144_320.0));
        assert_eq!(find("rpc_duration_seconds", &[("quantile", "0.99")]), Some(76_656.0));
        assert_eq!(exposition.samples.len(), 20);
        assert_eq!(exposition.kind("http_requests_total"), Kind::Counter);
        assert_eq!(exposition.kind("http_request_duration_seconds_bucket"), Kind::Histogram);
        assert_eq!(exposition.kind("metric_without_timestamp_and_labels"), Kind::Untyped);
    }

    #[test]
    fn values_are_numbers_of_every_kind() {
        for (word, value) in
            [("1", 1.0), ("-2.5e-3", -0.0025), ("1E+6", 1e6), ("+Inf", f64::INFINITY), ("-Inf", f64::NEG_INFINITY)]
        {
            assert_eq!(line(&format!("m {word}")).1, value);
        }
        assert!(line("m NaN").1.is_nan());
        assert_eq!(line("m 7 -1395066363000").1, 7.0);
    }

    #[test]
    fn blanks_commas_and_other_scripts_are_legal_where_the_format_says_so() {
        let expected = (series("a:b", &[("x", "grüße, {\u{1f600}}"), ("y", "")]), 4.0);
        assert_eq!(line("  a:b { x = \"grüße, {\u{1f600}}\" ,\ty=\"\", }\t4   "), expected);
        assert_eq!(read("\n\n# nothing\n#HELP\n\t\n").unwrap(), Exposition::default());
    }

    #[test]
    fn openmetrics_ends_and_exemplars_are_understood() {
        let body = "# TYPE hits counter\n# UNIT hits x\nhits_total 5 1.5 # {trace_id=\"a b\"} 0.67 1.5\nhits_created 1.4\n# EOF";
        let exposition = read(body).unwrap();
        assert!(exposition.eof);
        assert_eq!(exposition.kind("hits_total"), Kind::Counter);
        assert_eq!(exposition.samples[0], (series("hits_total", &[]), 5.0));
        let after = read("# EOF\nm 1\n").unwrap_err();
        assert_eq!(after.to_string(), "line 2: there is more after `# EOF`");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (bad, what) in [
            ("m", "the value is missing"),
            ("m x", "the value `x` is no number"),
            ("m 1 2 3", "`3` is left over"),
            ("m 1 x", "the timestamp `x` is no number"),
            ("1m 1", "a name cannot begin with `1`"),
            ("m-n 1", "a name cannot hold `-`"),
            ("m{a=\"b\" 1", "`,` is missing before `1`"),
            ("m{a=b} 1", "label `a`: `\"` is missing before `b`"),
            ("m{a} 1", "`=` is missing before `}`"),
            ("m{a=\"b} 1", "label `a`: the value has no closing quote"),
            ("m{a=\"\\t\"} 1", "label `a`: `\\t` is no escape: write \\\\, \\\" or \\n"),
            ("m{a=\"1\",a=\"2\"} 1", "label `a` is there twice"),
            ("m{,} 1", "a name cannot begin with `,`"),
            ("m{a=\"1\",,} 1", "a name cannot begin with `,`"),
            ("m{a:b=\"1\"} 1", "`=` is missing before `:`"),
            ("m 1 # trace", "exemplar: `{` is missing before `t`"),
            ("# TYPE m count", "`count` is no metric type"),
            ("# TYPE m", "a TYPE line has a name and a type"),
            ("<html>", "not a metric: this looks like a page or a document, not the Prometheus text format"),
        ] {
            let error = read(&format!("ok 1\n{bad}\n")).unwrap_err();
            assert_eq!(error.to_string(), format!("line 2: {what}"), "{bad}");
        }
        let twice = read("# TYPE m counter\n# TYPE m counter\n# TYPE m gauge\n").unwrap_err();
        assert_eq!(twice.to_string(), "line 3: `m` is declared twice, differently");
        assert_eq!(parse(b"a 1\nb{x=\"\xff\"} 1\n", |_| true).unwrap_err().to_string(), "line 2: not UTF-8");
        let long = read(&format!("{} 1\n", "-".repeat(5_000))).unwrap_err().to_string();
        assert!(long.len() < 500, "what a stranger wrote is bounded");
    }

    #[test]
    fn what_a_family_is_for_is_kept_where_it_is_wanted_and_bounded() {
        let long = "x".repeat(5_000);
        let body = format!(
            "# HELP hits_total How many\twere served\n# HELP took Seconds \n#HELP a b\n# HELPER c d\n# HELP e\n\
             # HELP 9 f\n# HELP big {long}\ntook_bucket{{le=\"+Inf\"}} 1\n"
        );
        let all = read(&body).unwrap();
        let help = |name: &str| all.help(name).map(Text::as_str);
        assert_eq!((help("hits_total"), help("took_bucket")), (Some("How many were served"), Some("Seconds")));
        assert_eq!(["a", "c", "e", "9"].map(help), [None; 4]);
        assert!(help("big").unwrap().len() <= crate::domain::TEXT_BYTES_MAX);
        assert_eq!(parse(body.as_bytes(), |name| name == "took_bucket").unwrap().help("took_bucket"), None);
    }

    #[test]
    fn a_body_that_was_cut_inside_a_number_is_refused() {
        let error = read("hits_total 12").unwrap_err();
        assert_eq!(error.to_string(), "line 1: the last line has no line feed: the body was cut");
        assert!(read("hits_total 1234\n").is_ok());
    }

    #[test]
    fn each_limit_holds_at_its_edge() {
        let lines = |n: usize| "m 1\n".repeat(n);
        assert_eq!(read(&lines(SERIES_MAX)).unwrap().samples.len(), SERIES_MAX);
        assert_eq!(read(&lines(SERIES_MAX + 1)).unwrap_err().line, SERIES_MAX + 1);

        let labels = |n: usize| format!("m{{{}}} 1\n", (0..n).map(|i| format!("l{i}=\"\",")).collect::<String>());
        assert!(read(&labels(LABELS_MAX)).is_ok());
        assert!(read(&labels(LABELS_MAX + 1)).unwrap_err().to_string().contains("more than 64 labels"));

        let value = |n: usize| format!("m{{a=\"{}\"}} 1\n", "\\n".repeat(n));
        assert!(read(&value(LABEL_VALUE_BYTES_MAX)).is_ok(), "an escape is one byte");
        assert!(read(&value(LABEL_VALUE_BYTES_MAX + 1)).is_err());

        let name = |n: usize| format!("{} 1\n", "n".repeat(n));
        assert!(read(&name(NAME_BYTES_MAX)).is_ok());
        assert!(read(&name(NAME_BYTES_MAX + 1)).is_err());

        let body = |n: usize| format!("#{}\n", " ".repeat(n - 2));
        assert!(read(&body(BODY_BYTES_MAX)).is_ok());
        assert!(read(&body(BODY_BYTES_MAX + 1)).is_err());

        let types = |n: usize| (0..n).map(|i| format!("# TYPE m{i} gauge\n")).collect::<String>();
        assert!(read(&types(SERIES_MAX)).is_ok());
        assert_eq!(read(&types(SERIES_MAX + 1)).unwrap_err().line, SERIES_MAX + 1);
    }

    #[test]
    fn only_what_is_wanted_is_kept_and_the_rest_is_still_checked() {
        let kept = parse(b"a 1\nb{x=\"y\"} 2\n", |name| name == "a").unwrap();
        assert_eq!(kept.samples, [(series("a", &[]), 1.0)]);
        assert!(parse(b"a 1\nb{x=} 2\n", |name| name == "a").is_err());
    }

    fn escaped(value: &str) -> String {
        value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&body, |_| true);
        }

        #[test]
        fn no_text_of_the_formats_own_characters_makes_it_panic(body in "[a-z{}=,\"\\\\# \t\n0-9.+-]{0,200}") {
            let _ = parse(body.as_bytes(), |_| true);
        }

        #[test]
        fn what_is_written_is_read_back(
            samples in proptest::collection::vec(
                (
                    "[a-zA-Z_:][a-zA-Z0-9_:]{0,20}",
                    proptest::collection::btree_map("[a-zA-Z_][a-zA-Z0-9_]{0,10}", any::<String>(), 0..5),
                    any::<f64>().prop_filter("comparable", |value| !value.is_nan()),
                    proptest::option::of(any::<i64>()),
                ),
                0..20,
            )
        ) {
            let mut body = String::new();
            for (name, labels, value, timestamp) in &samples {
                let labels: Vec<String> =
                    labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
                let timestamp = timestamp.map(|at| format!(" {at}")).unwrap_or_default();
                body.push_str(&format!("{name}{{{}}} {value:?}{timestamp}\n", labels.join(",")));
            }
            let expected: Vec<(Series, f64)> = samples
                .into_iter()
                .map(|(name, labels, value, _)| (Series { name, labels }, value))
                .collect();
            prop_assert_eq!(read(&body).unwrap().samples, expected);
        }
    }
}
