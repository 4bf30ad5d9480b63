//! A model server's answers, as JSON of nearly any shape, to our words.
//!
//! "OpenAI-compatible" says little: servers leave out usage, send content in parts, arguments as objects, calls without
//! ids, errors under a status of 200. Whatever can be understood without guessing is; nothing is read out of prose. What a
//! server says of an error decides whether to ask again: by its status and its codes, never by its words.

use std::{collections::BTreeSet, time::Duration};

use axum::http::{HeaderMap, StatusCode, header};
use jiff::fmt::rfc2822;
use serde_json::Value;

use super::{
    client_request::Dialect,
    model::{CallError, Finish},
};
use crate::{
    domain::{Message, Text, ToolCall},
    retry::Failure,
    untrusted,
};

/// Most calls of tools in one answer.
pub(super) const CALLS_MAX: usize = 64;
/// Longest id of a call that is kept. Some gateways hide what a provider wants back in it, so it is not short.
pub(super) const CALL_ID_BYTES_MAX: usize = 8 << 10;
/// Longest name of a tool that is kept; what is longer is cut, and names none of ours.
pub(super) const CALL_NAME_BYTES_MAX: usize = 200;

/// What an account without credit is called. Waiting does not fill it.
const QUOTA: [&str; 6] = [
    "insufficient_quota",
    "insufficient_credits",
    "insufficient_balance",
    "billing_hard_limit_reached",
    "billing_not_active",
    "budget_exceeded",
];
/// What a filter of the question itself is called.
const FILTER: [&str; 3] = ["content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"];

/// Tokens as the server counted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) input: u64,
    pub(super) cached: u64,
    pub(super) output: u64,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) message: Message,
    pub(super) finish: Finish,
    pub(super) served_by: Text,
    /// `None` where the server does not count.
    pub(super) counted: Option<Counted>,
}

/// Why an attempt brought no answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Setback {
    /// As the caller will see it.
    Call(CallError),
    /// The server does not take a parameter, and may take the rest.
    Parameter(&'static str, CallError),
    /// The provider's filter did not let the question through.
    Filtered,
}

impl Setback {
    fn rejected(words: String) -> Self {
        Self::Call(CallError::Rejected(Text::new(words)))
    }

    pub(super) fn unavailable(words: impl AsRef<str>) -> Self {
        Self::Call(CallError::Unavailable(Text::new(words)))
    }

    pub(super) fn malformed(words: impl AsRef<str>) -> Self {
        Self::Call(CallError::Malformed(Text::new(words)))
    }
}

/// Reads an answer of success. `said` are the messages so far, for a call's id must be new among theirs.
pub(super) fn read(answer: &Value, said: &[Message]) -> Result<Answer, Failure<Setback>> {
    let malformed = |words: &str| Failure::Final(Setback::malformed(words));
    let choices = answer.get("choices").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    // The one that was asked for, where a server sends more; they may stand in any order.
    let first = choices.iter().min_by_key(|choice| choice.get("index").and_then(Value::as_u64).unwrap_or(u64::MAX));
    let Some(choice) = first else {
        return Err(match answer.get("error").filter(|error| !error.is_null()) {
            Some(_) => hidden(&Complaint::of(answer)),
            None => malformed("it holds no choices"),
        });
    };
    if choice.get("error").is_some_and(|error| !error.is_null()) {
        return Err(hidden(&Complaint::of(choice)));
    }
    let Some(message) = choice.get("message").filter(|message| message.is_object()) else {
        return Err(malformed("its choice holds no message"));
    };
    let calls = calls(message, said).ok_or_else(|| malformed("it calls too many tools at once"))?;
    let (text, parts_refusal) = content(message.get("content"));
    let refusal = filled(message.get("refusal")).or(parts_refusal);
    Ok(Answer {
        message: Message::Assistant { text, refusal, calls },
        finish: finish(choice.get("finish_reason").and_then(Value::as_str).unwrap_or_default()),
        served_by: Text::new(answer.get("model").and_then(Value::as_str).unwrap_or_default()),
        counted: counted(answer.get("usage")),
    })
}

/// An error under a status of success, as some gateways send it: its code is the status it should have had.
fn hidden(complaint: &Complaint) -> Failure<Setback> {
    let status = complaint.code.parse::<u16>().ok().and_then(|code| StatusCode::from_u16(code).ok());
    match status.filter(|status| !status.is_success()) {
        Some(status) => complained(status, None, complaint),
        None => Failure::Final(Setback::malformed(format!("it is an error: {}", complaint.words))),
    }
}

fn filled(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The text and the refusal of a content: a string, or parts of which some are one and some the other.
fn content(content: Option<&Value>) -> (Option<String>, Option<String>) {
    let Some(Value::Array(parts)) = content else {
        return (filled(content), None);
    };
    let joined = |field: &str| {
        let joined: String = parts.iter().filter_map(|part| part.get(field)?.as_str()).collect();
        Some(joined).filter(|text| !text.is_empty())
    };
    (joined("text"), joined("refusal"))
}

fn finish(word: &str) -> Finish {
    match word {
        "stop" => Finish::Stop,
        "tool_calls" | "function_call" => Finish::ToolCalls,
        "length" | "max_tokens" => Finish::Length,
        "content_filter" => Finish::ContentFilter,
        other => Finish::Other(Text::new(other)),
    }
}

/// The calls, each with an id of its own; `None` where there are too many.
fn calls(message: &Value, said: &[Message]) -> Option<Vec<ToolCall>> {
    let listed: Vec<&Value> = match message.get("tool_calls") {
        Some(Value::Array(list)) => list.iter().collect(),
        Some(call @ Value::Object(_)) => vec![call],
        // The field's name before there could be several.
        _ => message.get("function_call").filter(|call| call.is_object()).into_iter().collect(),
    };
    if listed.len() > CALLS_MAX {
        return None;
    }
    let mut taken: BTreeSet<String> = said.iter().flat_map(ids).map(str::to_owned).collect();
    let mut number = taken.len();
    let mut calls = Vec::with_capacity(listed.len());
    for call in listed {
        let given = filled(call.get("id")).filter(|id| id.len() <= CALL_ID_BYTES_MAX && !taken.contains(id));
        let id = given.unwrap_or_else(|| {
            while taken.contains(&format!("call_{number}")) {
                number += 1;
            }
            format!("call_{number}")
        });
        taken.insert(id.clone());
        let inner = call.get("function").or_else(|| call.get("custom")).unwrap_or(call);
        let name = inner.get("name").and_then(Value::as_str).unwrap_or_default();
        let name = name.chars().scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= CALL_NAME_BYTES_MAX).then_some(c)
        });
        let arguments = match inner.get("arguments").or_else(|| inner.get("input")) {
            None | Some(Value::Null) => "{}".to_owned(),
            Some(Value::String(text)) if text.trim().is_empty() => "{}".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        calls.push(ToolCall { id, name: name.collect(), arguments });
    }
    Some(calls)
}

fn ids(message: &Message) -> Vec<&str> {
    match message {
        Message::Assistant { calls, .. } => calls.iter().map(|call| call.id.as_str()).collect(),
        Message::System(_) | Message::User(_) | Message::Tool { .. } => Vec::new(),
    }
}

fn counted(usage: Option<&Value>) -> Option<Counted> {
    let usage = usage?;
    let number = |value: Option<&Value>| match value? {
        Value::Number(number) => {
            // Some write whole numbers as floats; the cast saturates.
            number.as_u64().or_else(|| number.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64))
        }
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let input = number(usage.get("prompt_tokens")).filter(|&tokens| tokens > 0)?;
    let total = number(usage.get("total_tokens")).map(|total| total.saturating_sub(input));
    let output = number(usage.get("completion_tokens")).or(total)?;
    let details = usage.get("prompt_tokens_details").and_then(|details| number(details.get("cached_tokens")));
    let cached = details.or_else(|| number(usage.get("prompt_cache_hit_tokens"))).unwrap_or(0).min(input);
    Some(Counted { input, cached, output })
}

/// What a server says of an error.
#[derive(Debug, Default)]
struct Complaint {
    words: String,
    code: String,
    kind: String,
    inner_code: String,
    /// The parameters it names, in fields made for that.
    parameters: String,
}

impl Complaint {
    fn parse(body: &[u8]) -> Self {
        // What is no JSON is mostly a proxy's page, of which no word is worth repeating.
        serde_json::from_slice(body).map_or_else(|_| Self::default(), |value| Self::of(&value))
    }

    /// Its words are masked before they are cut: a server may repeat what it was sent.
    fn of(value: &Value) -> Self {
        let complaint = Self::as_written(value);
        Self { words: untrusted::masked(&complaint.words).text, ..complaint }
    }

    fn as_written(value: &Value) -> Self {
        let error = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
        if let Some(words) = error.as_str() {
            return Self { words: words.to_owned(), ..Self::default() };
        }
        let word = |value: Option<&Value>| match value {
            Some(Value::String(word)) => word.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let mut complaint = Self {
            words: word(error.get("message")),
            code: word(error.get("code")),
            kind: word(error.get("type")),
            inner_code: word(error.pointer("/innererror/code").or_else(|| error.pointer("/inner_error/code"))),
            parameters: word(error.get("param")),
        };
        // As frameworks answer for a body that their schema does not take.
        match error.get("detail") {
            Some(Value::String(words)) => complaint.words.clone_from(words),
            Some(Value::Array(details)) => {
                for detail in details {
                    complaint.words += &word(detail.get("msg"));
                    for step in detail.get("loc").and_then(Value::as_array).into_iter().flatten() {
                        complaint.parameters += " ";
                        complaint.parameters += &word(Some(step));
                    }
                }
            }
            _ => {}
        }
        complaint
    }

    fn is_any(&self, codes: &[&str]) -> bool {
        codes.iter().any(|code| [&self.code, &self.kind, &self.inner_code].into_iter().any(|word| word == code))
    }

    /// A parameter that can be left out, if it names one: in a field made for that, or else by its exact name, which is no
    /// word of any language.
    fn parameter(&self) -> Option<&'static str> {
        let names = |text: &str, parameter: &str| {
            text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).any(|word| word == parameter)
        };
        let field = Dialect::PARAMETERS.into_iter().find(|parameter| names(&self.parameters, parameter));
        let mut unambiguous = Dialect::PARAMETERS.into_iter().filter(|parameter| parameter.contains('_'));
        field.or_else(|| unambiguous.find(|parameter| names(&self.words, parameter)))
    }
}

/// What an answer that is no success means.
pub(super) fn failure(status: StatusCode, asked_wait: Option<Duration>, body: &[u8]) -> Failure<Setback> {
    complained(status, asked_wait, &Complaint::parse(body))
}

fn complained(status: StatusCode, asked_wait: Option<Duration>, complaint: &Complaint) -> Failure<Setback> {
    let words = match complaint.words.as_str() {
        "" => format!("{status}"),
        words => format!("{status}: {words}"),
    };
    if status == StatusCode::PAYMENT_REQUIRED || complaint.is_any(&QUOTA) {
        return Failure::Final(Setback::rejected(format!("the account has no credit left: {words}")));
    }
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) || status.is_server_error() {
        return Failure::Passing { error: Setback::unavailable(words), asked_wait };
    }
    if status.is_redirection() {
        let fix = "it redirects, which is not followed, for a key would go with it: write the address it moved to";
        return Failure::Final(Setback::rejected(format!("{words}: {fix}")));
    }
    if matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) {
        if complaint.is_any(&FILTER) {
            return Failure::Final(Setback::Filtered);
        }
        if let Some(parameter) = complaint.parameter() {
            return Failure::Final(Setback::Parameter(parameter, CallError::Rejected(Text::new(words))));
        }
    }
    Failure::Final(Setback::rejected(words))
}

/// How long the server asks to wait. A date is taken against the server's own clock, which its answer shows as well, so
/// that ours need not agree with it.
pub(super) fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let millis = text("retry-after-ms").and_then(|text| text.parse::<u64>().ok()).map(Duration::from_millis);
    let asked = text(header::RETRY_AFTER.as_str());
    let seconds = || asked?.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let date = || {
        let until = rfc2822::parse(asked?).ok()?.timestamp();
        let now = rfc2822::parse(text(header::DATE.as_str())?).ok()?.timestamp();
        Some(Duration::from_secs(u64::try_from(until.as_second().saturating_sub(now.as_second())).unwrap_or(0)))
    };
    millis.or_else(seconds).or_else(date)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(message: Value) -> Answer {
        read(&json!({"choices": [{"message": message, "finish_reason": "stop"}]}), &[]).unwrap()
    }

    fn calls_of(answer: Answer) -> Vec<(String, String, String)> {
        let Message::Assistant { calls, .. } = answer.message else { panic!("always the model's message") };
        calls.into_iter().map(|call| (call.id, call.name, call.arguments)).collect()
    }

    fn triple(id: &str, name: &str, arguments: &str) -> (String, String, String) {
        (id.into(), name.into(), arguments.into())
    }

    #[test]
    fn content_may_be_absent_null_text_or_parts() {
        let words = |content: Value| match message(json!({"content": content})).message {
            Message::Assistant { text, refusal, .. } => (text, refusal),
            other => panic!("{other:?}"),
        };
        assert_eq!(words(Value::Null), (None, None));
        assert_eq!(words(json!("")), (None, None));
        assert_eq!(words(json!(7)), (None, None));
        assert_eq!(words(json!("hi")), (Some("hi".into()), None));
        let parts = json!([{"type": "text", "text": "h"}, {"type": "text", "text": "i"}, {"type": "image"}, 3]);
        assert_eq!(words(parts), (Some("hi".into()), None));
        assert_eq!(words(json!([{"type": "refusal", "refusal": "no"}])), (None, Some("no".into())));
        let refused = message(json!({"content": null, "refusal": "no"})).message;
        assert_eq!(refused, Message::Assistant { text: None, refusal: Some("no".into()), calls: vec![] });
    }

    #[test]
    fn calls_are_understood_in_every_form_that_servers_write_them() {
        let object = json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}});
        assert_eq!(calls_of(message(json!({"tool_calls": [object]}))), [triple("a", "f", "{\"x\":1}")]);
        assert_eq!(calls_of(message(json!({"tool_calls": object}))), [triple("a", "f", "{\"x\":1}")]);
        let legacy = json!({"function_call": {"name": "f", "arguments": "{}"}});
        assert_eq!(calls_of(message(legacy)), [triple("call_0", "f", "{}")]);
        let flat = json!({"tool_calls": [{"name": "f"}, {"function": {"name": "g", "arguments": " "}}, 5]});
        let expected = [triple("call_0", "f", "{}"), triple("call_1", "g", "{}"), triple("call_2", "", "{}")];
        assert_eq!(calls_of(message(flat)), expected);
        assert_eq!(calls_of(message(json!({"tool_calls": null}))), []);
    }

    #[test]
    fn ids_that_are_missing_or_doubled_are_made_anew_and_never_meet_one_already_said() {
        let earlier = ToolCall { id: "call_1".into(), name: "f".into(), arguments: "{}".into() };
        let said = [Message::Assistant { text: None, refusal: None, calls: vec![earlier] }];
        let call = |id: Value| json!({"id": id, "function": {"name": "f", "arguments": "{}"}});
        let long = "x".repeat(CALL_ID_BYTES_MAX + 1);
        let answered = json!({"choices": [{"message": {"tool_calls": [
            call(json!("b")), call(json!("b")), call(json!("")), call(json!("call_1")), call(json!(long)), call(Value::Null)
        ]}}]});
        let ids: Vec<String> = calls_of(read(&answered, &said).unwrap()).into_iter().map(|call| call.0).collect();
        assert_eq!(ids, ["b", "call_2", "call_3", "call_4", "call_5", "call_6"]);
        let kept = "x".repeat(CALL_ID_BYTES_MAX);
        let answered = json!({"choices": [{"message": {"tool_calls": [call(json!(kept))]}}]});
        assert_eq!(calls_of(read(&answered, &said).unwrap())[0].0, kept);
    }

    #[test]
    fn too_many_calls_and_too_long_names_do_not_get_through() {
        let calls = |n: usize| vec![json!({"function": {"name": "é".repeat(300)}}); n];
        let most = calls_of(message(json!({"tool_calls": calls(CALLS_MAX)})));
        assert_eq!((most.len(), most[0].1.len()), (CALLS_MAX, CALL_NAME_BYTES_MAX));
        let over = json!({"choices": [{"message": {"tool_calls": calls(CALLS_MAX + 1)}}]});
        assert!(matches!(read(&over, &[]), Err(Failure::Final(Setback::Call(CallError::Malformed(_))))));
    }

    #[test]
    fn the_first_of_several_choices_is_taken_wherever_it_stands() {
        let choice = |index: u64, text: &str| json!({"index": index, "message": {"content": text}});
        let answer = read(&json!({"choices": [choice(1, "b"), choice(0, "a")]}), &[]).unwrap();
        assert_eq!(answer.message, Message::Assistant { text: Some("a".into()), refusal: None, calls: vec![] });
        assert_eq!(answer.finish, Finish::Other(Text::default()), "no reason was given");
    }

    #[test]
    fn usage_is_what_was_counted_or_nothing() {
        let seen = |usage: Value| counted(Some(&usage)).map(|counted| (counted.input, counted.cached, counted.output));
        assert_eq!(counted(None), None);
        assert_eq!(seen(Value::Null), None);
        assert_eq!(seen(json!({"prompt_tokens": 0, "completion_tokens": 0})), None, "a server that does not count");
        assert_eq!(seen(json!({"prompt_tokens": -3, "completion_tokens": 2})), None);
        assert_eq!(seen(json!({"prompt_tokens": "10"})), None);
        assert_eq!(seen(json!({"prompt_tokens": 10.0, "completion_tokens": 2})), Some((10, 0, 2)));
        assert_eq!(seen(json!({"prompt_tokens": 10, "total_tokens": 14})), Some((10, 0, 4)));
        let cached =
            json!({"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8}});
        assert_eq!(seen(cached), Some((10, 8, 2)));
        let more = json!({"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 80});
        assert_eq!(seen(more), Some((10, 10, 2)), "no more can be cached than went in");
    }

    /// `again`, `final`, `parameter` or `filtered`, and the error's kind.
    fn kind(failure: Failure<Setback>) -> String {
        let (again, setback) = match failure {
            Failure::Final(setback) => ("final", setback),
            Failure::Passing { error, .. } => ("again", error),
        };
        match setback {
            Setback::Call(CallError::Unavailable(_)) => format!("{again} unavailable"),
            Setback::Call(CallError::Rejected(_)) => format!("{again} rejected"),
            Setback::Call(CallError::Malformed(_)) => format!("{again} malformed"),
            Setback::Parameter(name, _) => format!("{again} without {name}"),
            Setback::Filtered => format!("{again} filtered"),
        }
    }

    #[test]
    fn errors_pass_or_not_by_status_and_code() {
        let check = |status: u16, body: Value, expected: &str| {
            let seen = failure(StatusCode::from_u16(status).unwrap(), None, body.to_string().as_bytes());
            assert_eq!(kind(seen), expected, "{status} {body}");
        };
        let error = |field: &str, value: &str| json!({"error": {"message": "m", field: value}});
        check(429, error("type", "requests"), "again unavailable");
        check(429, error("code", "insufficient_quota"), "final rejected");
        check(429, error("type", "insufficient_quota"), "final rejected");
        check(402, json!("<html>"), "final rejected");
        check(408, json!(null), "again unavailable");
        check(500, json!({"error": "overloaded"}), "again unavailable");
        check(529, json!({}), "again unavailable");
        check(307, json!({}), "final rejected");
        check(401, error("code", "invalid_api_key"), "final rejected");
        check(404, json!({"detail": "Not Found"}), "final rejected");
        check(409, json!({}), "final rejected");
        check(400, error("code", "content_filter"), "final filtered");
        check(400, json!({"error": {"innererror": {"code": "ResponsibleAIPolicyViolation"}}}), "final filtered");
        check(400, error("code", "context_length_exceeded"), "final rejected");
        check(400, error("param", "max_tokens"), "final without max_tokens");
        check(400, error("param", "tools[0].function.strict"), "final without strict");
        check(401, error("param", "max_tokens"), "final rejected");
        let detail =
            json!({"detail": [{"loc": ["body", "prompt_cache_key"], "msg": "Extra inputs are not permitted"}]});
        check(422, detail, "final without prompt_cache_key");
        check(
            400,
            json!({"error": {"message": "unknown field 'parallel_tool_calls'"}}),
            "final without parallel_tool_calls",
        );
        check(400, json!({"error": {"message": "be strict"}}), "final rejected");
    }

    #[test]
    fn an_error_under_a_status_of_success_is_an_error() {
        let seen = |answer: Value| kind(read(&answer, &[]).unwrap_err());
        assert_eq!(seen(json!({"error": {"code": 429, "message": "slow down"}})), "again unavailable");
        assert_eq!(seen(json!({"error": {"code": 402}})), "final rejected");
        assert_eq!(seen(json!({"error": {"code": "200"}})), "final malformed");
        assert_eq!(seen(json!({"error": "no"})), "final malformed");
        assert_eq!(seen(json!({"choices": [{"error": {"code": 502}, "message": {}}]})), "again unavailable");
        assert_eq!(seen(json!({"choices": []})), "final malformed");
        assert_eq!(seen(json!({"choices": [{"text": "x"}]})), "final malformed");
        assert_eq!(seen(json!([])), "final malformed");
    }

    #[test]
    fn a_wait_is_asked_for_in_three_ways() {
        let wait = |pairs: &[(&'static str, &'static str)]| {
            asked_wait(&pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect())
        };
        let date = ("date", "Sat, 21 Nov 2026 23:59:58 GMT");
        let next_day = ("retry-after", "Sun, 22 Nov 2026 00:00:03 GMT");
        assert_eq!(wait(&[("retry-after", "3")]), Some(Duration::from_secs(3)));
        assert_eq!(wait(&[("retry-after", "0.5")]), Some(Duration::from_millis(500)));
        assert_eq!(wait(&[("retry-after", "9"), ("retry-after-ms", "40")]), Some(Duration::from_millis(40)));
        assert_eq!(wait(&[date, next_day]), Some(Duration::from_secs(5)));
        assert_eq!(wait(&[("date", "Sun, 22 Nov 2026 00:00:09 GMT"), next_day]), Some(Duration::ZERO));
        assert_eq!(wait(&[next_day]), None, "against no clock");
        for nonsense in ["-1", "NaN", "inf", "soon", ""] {
            assert_eq!(wait(&[date, ("retry-after", nonsense)]), None, "{nonsense}");
        }
    }
}
