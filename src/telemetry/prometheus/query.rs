//! Every query that is sent, made from names and label values and proved to be what was meant.
//!
//! Names come from checks, which a model may have drafted, and label values from revisions and configuration. A name that
//! is no name is refused. A value is escaped; then the whole text is parsed again by a PromQL parser, and its shape has to
//! be the one that was meant: one selector with exactly these matchers, within one of four forms and nothing else. What
//! cannot be shown to be that is not sent.
//!
//! The metric is a matcher on `__name__`, so that a metric called like a keyword is no trouble.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use promql_parser::{
    label::{MatchOp, Matcher},
    parser::{self, AggregateExpr, Expr, LabelModifier, VectorSelector},
};

use crate::{
    domain::Text,
    telemetry::exposition::{LABEL_VALUE_BYTES_MAX, NAME_BYTES_MAX},
};

/// Most values of one label in one query.
pub const VALUES_MAX: usize = 16;
const NAME: &str = "__name__";

/// A set of series: of one metric, or of all, with one of these values for each of these labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) metric: Option<String>,
    pub(super) labels: BTreeMap<String, BTreeSet<String>>,
}

/// What is asked of a selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Its samples within so long before the time of the query.
    Samples(Duration),
    /// By how much it rose within so long, as the server estimates it, summed by these labels.
    Increase(Duration, BTreeSet<String>),
    /// How many series it has, by these labels.
    Count(BTreeSet<String>),
    /// Its series, for the server's `match[]`.
    Series,
}

/// The text of a query, or what is wrong with what it would be made of.
pub(super) fn compile(selection: &Selection, form: &Form) -> Result<String, Text> {
    let matchers = matchers(selection)?;
    let mut text = String::from("{");
    for (at, (label, op, value)) in matchers.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(text, "{comma}{label}{}\"{}\"", op.sign(), escaped(value));
    }
    text.push('}');
    let text = match form {
        Form::Samples(range) => format!("{text}[{}ms]", range.as_millis()),
        Form::Increase(range, by) => {
            format!("sum by ({}) (increase({text}[{}ms]))", names(by)?, range.as_millis())
        }
        Form::Count(by) => format!("count by ({}) ({text})", names(by)?),
        Form::Series => text,
    };
    let is_meant = parser::parse(&text).is_ok_and(|parsed| is(&parsed, form, &matchers));
    if is_meant { Ok(text) } else { Err(Text::new(format!("no query can be made for {:?}", selection.metric))) }
}

/// How a matcher of ours compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Is,
    OneOf,
}

impl Op {
    fn sign(self) -> &'static str {
        match self {
            Self::Is => "=",
            Self::OneOf => "=~",
        }
    }

    fn is(self, op: &MatchOp) -> bool {
        match self {
            Self::Is => *op == MatchOp::Equal,
            Self::OneOf => matches!(op, MatchOp::Re(_)),
        }
    }
}

/// The matchers of a selection, the metric's name first.
fn matchers(selection: &Selection) -> Result<Vec<(&str, Op, String)>, Text> {
    let mut matchers = Vec::new();
    if let Some(metric) = &selection.metric {
        if !is_name(metric, ":") {
            return Err(Text::new(format!("this is no metric name: `{metric}`")));
        }
        matchers.push((NAME, Op::Is, metric.clone()));
    }
    for (label, values) in &selection.labels {
        if !is_name(label, "") || label == NAME {
            return Err(Text::new(format!("this is no label name: `{label}`")));
        }
        if values.is_empty() || values.len() > VALUES_MAX {
            return Err(Text::new(format!("label {label} is to have 1 to {VALUES_MAX} values")));
        }
        if values.iter().any(|value| value.len() > LABEL_VALUE_BYTES_MAX) {
            return Err(Text::new(format!("a value of {label} has more than {LABEL_VALUE_BYTES_MAX} bytes")));
        }
        let quoted = || values.iter().map(|value| literal(value)).collect::<Vec<_>>().join("|");
        matchers.push(match values.first() {
            Some(only) if values.len() == 1 => (label, Op::Is, only.clone()),
            Some(_) | None => (label, Op::OneOf, quoted()),
        });
    }
    if matchers.iter().all(|(_, _, value)| value.is_empty()) {
        return Err(Text::new("a query is to name a metric or a label's value"));
    }
    Ok(matchers)
}

/// Whether this is a name of letters, digits, underscores and `extra`, not beginning with a digit.
fn is_name(name: &str, extra: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || extra.contains(c);
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.chars().all(legal)
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn names(by: &BTreeSet<String>) -> Result<String, Text> {
    match by.iter().find(|label| !is_name(label, "")) {
        Some(label) => Err(Text::new(format!("this is no label name: `{label}`"))),
        None => Ok(by.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
    }
}

/// What matches this value and nothing else in a regular expression, which Prometheus anchors at both ends.
fn literal(value: &str) -> String {
    let mut literal = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$') {
            literal.push('\\');
        }
        literal.push(c);
    }
    literal
}

/// A value within double quotes.
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Whether a parsed query is of this form over a selector with these matchers.
fn is(parsed: &Expr, form: &Form, matchers: &[(&str, Op, String)]) -> bool {
    match (form, parsed) {
        (Form::Series, Expr::VectorSelector(vector)) => selects(vector, matchers),
        (Form::Samples(range), Expr::MatrixSelector(matrix)) => {
            is_range(matrix.range, *range) && selects(&matrix.vs, matchers)
        }
        (Form::Count(by), Expr::Aggregate(aggregate)) => {
            is_by(aggregate, "count", by)
                && matches!(inner(&aggregate.expr), Expr::VectorSelector(vector) if selects(vector, matchers))
        }
        (Form::Increase(range, by), Expr::Aggregate(aggregate)) => {
            let Expr::Call(call) = inner(&aggregate.expr) else { return false };
            let [only] = call.args.args.as_slice() else { return false };
            let Expr::MatrixSelector(matrix) = &**only else { return false };
            is_by(aggregate, "sum", by)
                && call.func.name == "increase"
                && is_range(matrix.range, *range)
                && selects(&matrix.vs, matchers)
        }
        (Form::Series | Form::Samples(_) | Form::Count(_) | Form::Increase(..), _) => false,
    }
}

/// An expression without the brackets around it.
fn inner(expression: &Expr) -> &Expr {
    match expression {
        Expr::Paren(paren) => inner(&paren.expr),
        other => other,
    }
}

fn is_range(parsed: Duration, meant: Duration) -> bool {
    parsed.as_millis() == meant.as_millis()
}

fn is_by(aggregate: &AggregateExpr, operator: &str, by: &BTreeSet<String>) -> bool {
    let is_grouped = match &aggregate.modifier {
        Some(LabelModifier::Include(labels)) => labels.labels.iter().eq(by.iter()),
        Some(LabelModifier::Exclude(_)) => false,
        None => by.is_empty(),
    };
    is_grouped && aggregate.param.is_none() && aggregate.op.to_string() == operator
}

fn selects(vector: &VectorSelector, matchers: &[(&str, Op, String)]) -> bool {
    let is_same = |(parsed, (label, op, value)): (&Matcher, &(&str, Op, String))| {
        parsed.name == *label && op.is(&parsed.op) && parsed.value == *value
    };
    vector.name.is_none()
        && vector.offset.is_none()
        && vector.at.is_none()
        && vector.matchers.or_matchers.is_empty()
        && vector.matchers.matchers.len() == matchers.len()
        && vector.matchers.matchers.iter().zip(matchers).all(is_same)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selection(metric: &str, labels: &[(&str, &[&str])]) -> Selection {
        let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        Selection {
            metric: Some(metric.to_owned()),
            labels: labels.iter().map(|(label, of)| ((*label).to_owned(), values(of))).collect(),
        }
    }

    fn by(labels: &[&str]) -> BTreeSet<String> {
        labels.iter().map(|label| (*label).to_owned()).collect()
    }

    #[test]
    fn each_form_is_one_selector_and_what_is_asked_of_it() {
        let selection = selection("hits_total", &[("app", &["shop"]), ("version", &["a.b", "c"])]);
        let text = |form| compile(&selection, &form).unwrap();
        let selector = "{__name__=\"hits_total\",app=\"shop\",version=~\"a\\\\.b|c\"}";
        assert_eq!(text(Form::Series), selector);
        assert_eq!(text(Form::Samples(Duration::from_millis(61_500))), format!("{selector}[61500ms]"));
        assert_eq!(
            text(Form::Increase(Duration::from_secs(60), by(&["le", "pod"]))),
            format!("sum by (le, pod) (increase({selector}[60000ms]))")
        );
        assert_eq!(text(Form::Count(by(&["__name__"]))), format!("count by (__name__) ({selector})"));
        assert_eq!(text(Form::Count(by(&[]))), format!("count by () ({selector})"));
    }

    #[test]
    fn a_metric_called_like_a_keyword_is_a_metric() {
        for metric in ["sum", "by", "offset", "nan", "inf", "bool", "increase", "a:b:c"] {
            assert!(compile(&selection(metric, &[]), &Form::Samples(Duration::from_secs(1))).is_ok(), "{metric}");
        }
    }

    #[test]
    fn names_that_are_none_are_refused_by_name() {
        let refused = |selection: &Selection, form: &Form| compile(selection, form).unwrap_err().to_string();
        for metric in ["", "1a", "a-b", "a b", "a{b=\"c\"}", "a[5m]", "é", "a\"", &"m".repeat(NAME_BYTES_MAX + 1)] {
            assert!(refused(&selection(metric, &[]), &Form::Series).contains("no metric name"), "{metric}");
        }
        for label in ["", "1a", "a:b", "a=\"b\"", "__name__", "é"] {
            let selection = selection("m", &[(label, &["v"])]);
            assert!(refused(&selection, &Form::Series).contains("no label name"), "{label}");
        }
        let split = Form::Count(by(&["a) (up"]));
        assert!(refused(&selection("m", &[]), &split).contains("no label name"));
    }

    #[test]
    fn the_number_and_length_of_values_have_limits_and_everything_is_never_selected() {
        let values: Vec<String> = (0..=VALUES_MAX).map(|n| n.to_string()).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        assert!(compile(&selection("m", &[("l", &values[1..])]), &Form::Series).is_ok());
        assert!(compile(&selection("m", &[("l", &values)]), &Form::Series).is_err());
        assert!(compile(&selection("m", &[("l", &[])]), &Form::Series).is_err());
        let long = "v".repeat(LABEL_VALUE_BYTES_MAX);
        assert!(compile(&selection("m", &[("l", &[&long])]), &Form::Series).is_ok());
        assert!(compile(&selection("m", &[("l", &[&format!("{long}v")])]), &Form::Series).is_err());
        assert!(compile(&Selection::default(), &Form::Series).is_err());
        let all = Selection {
            labels: BTreeMap::from([("l".to_owned(), BTreeSet::from([String::new()]))]),
            ..Selection::default()
        };
        assert!(compile(&all, &Form::Series).is_err());
    }

    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("\"".to_owned()),
            Just("\\".to_owned()),
            Just("\n".to_owned()),
            Just("`".to_owned()),
            Just("'".to_owned()),
            Just("\"} or vector(1) or {a=\"".to_owned()),
            Just("|.*".to_owned()),
            Just("{1,2}".to_owned()),
            Just("\\Q\\E".to_owned()),
            Just("$1".to_owned()),
            Just("#".to_owned()),
            any::<char>().prop_map(String::from),
            "[a-z0-9.-]{0,6}",
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_hostile_value_is_a_value_and_matches_itself_alone(
            values in prop::collection::btree_set(hostile(), 1..4),
            other in hostile(),
            form in 0..4_u8,
        ) {
            let labels = BTreeMap::from([("l".to_owned(), values.clone())]);
            let selection = Selection { metric: Some("m".into()), labels };
            let form = match form {
                0 => Form::Series,
                1 => Form::Samples(Duration::from_millis(90)),
                2 => Form::Increase(Duration::from_secs(60), by(&["l"])),
                _ => Form::Count(by(&["l"])),
            };
            // It compiles, so that its parsed matchers have the very values; refusing would lose nothing but data.
            let text = compile(&selection, &form).unwrap();
            prop_assert!(!text.contains('\n'));
            let pattern = values.iter().map(|value| literal(value)).collect::<Vec<_>>().join("|");
            let matcher = regex::RegexBuilder::new(&format!("^(?s:{pattern})$")).build().unwrap();
            prop_assert!(values.iter().all(|value| matcher.is_match(value)));
            prop_assert_eq!(matcher.is_match(&other), values.contains(&other));
        }
    }
}
