//! A question as bytes: the request of the chat completions API, in types of our own.
//!
//! The same question in the same [`Dialect`] makes the same bytes, and a longer conversation repeats the bytes of the
//! shorter one up to its end: tools stand before messages, nothing holds a time or a chance, and fields have a fixed
//! order. Providers cache by prefix, and the record names a request by its digest.
//!
//! Servers differ in which parameters they take. None can be asked for a list, so the first answer tells: a refusal that
//! names a parameter is mended by leaving that parameter out.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, value::RawValue};
use sha2::{Digest as _, Sha256};

use super::model::{Offer, Question};
use crate::domain::{Digest, Message, ToolCall};

/// Longest name of a tool that servers take back in a conversation.
const NAME_BYTES_MAX: usize = 64;

/// How a server wants the limit of output tokens to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputLimit {
    /// `max_tokens`: the old name, which nearly every server takes.
    MaxTokens,
    /// `max_completion_tokens`: the new one, which OpenAI's reasoning models insist on.
    MaxCompletionTokens,
}

impl OutputLimit {
    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::MaxTokens => Self::MaxCompletionTokens,
            Self::MaxCompletionTokens => Self::MaxTokens,
        }
    }
}

/// Which parameters a server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    /// How the limit of output tokens is called.
    pub(super) output_limit: OutputLimit,
    /// Whether schemas may be marked as strict.
    pub(super) strict: bool,
    /// Whether `tool_choice` may be `required`.
    pub(super) required: bool,
    /// Whether it may be told not to call several tools at once.
    pub(super) parallel_tool_calls: bool,
    /// Whether it takes a key for its cache.
    pub(super) prompt_cache_key: bool,
}

impl Dialect {
    /// What to begin with. The old name of the limit, for servers that do not know the new one mostly pass over it in
    /// silence, and their answers would have no limit at all; those that do not take the old one say so. OpenAI itself
    /// takes the new one for all its models.
    pub(super) fn first(host: &str) -> Self {
        let output_limit =
            if host == "api.openai.com" { OutputLimit::MaxCompletionTokens } else { OutputLimit::MaxTokens };
        Self { output_limit, strict: true, required: true, parallel_tool_calls: true, prompt_cache_key: true }
    }

    /// Without a parameter that the server names as one it does not take; `None` where that parameter was not sent.
    pub(super) fn without(self, parameter: &str) -> Option<Self> {
        match parameter {
            name if name == self.output_limit.as_str() => {
                Some(Self { output_limit: self.output_limit.other(), ..self })
            }
            "strict" if self.strict => Some(Self { strict: false, ..self }),
            "tool_choice" if self.required => Some(Self { required: false, ..self }),
            "parallel_tool_calls" if self.parallel_tool_calls => Some(Self { parallel_tool_calls: false, ..self }),
            "prompt_cache_key" if self.prompt_cache_key => Some(Self { prompt_cache_key: false, ..self }),
            _ => None,
        }
    }

    /// The parameters that can be left out or called otherwise.
    pub(super) const PARAMETERS: [&'static str; 6] =
        ["max_completion_tokens", "max_tokens", "parallel_tool_calls", "prompt_cache_key", "tool_choice", "strict"];
}

/// A request, ready to be sent.
pub(super) struct Request {
    /// Its bytes.
    pub(super) body: Box<RawValue>,
    /// Their SHA-256.
    pub(super) digest: Digest,
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Offered<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    messages: Vec<Said<'a>>,
}

#[derive(Serialize)]
struct Offered<'a> {
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'static str,
    description: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
    parameters: &'a Value,
}

#[derive(Serialize)]
struct Said<'a> {
    role: &'static str,
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Called<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Called<'a> {
    id: &'a str,
    r#type: &'static str,
    function: CalledFunction,
}

#[derive(Serialize)]
struct CalledFunction {
    name: String,
    arguments: String,
}

/// The request for a question.
pub(super) fn request(model: &str, question: &Question<'_>, dialect: Dialect) -> Result<Request, serde_json::Error> {
    let has_tools = !question.tools.is_empty();
    let must_call = question.must_call && dialect.required;
    let only_ends = has_tools && question.tools.iter().all(|tool| tool.is_terminal);
    let limit = |name| (dialect.output_limit == name).then_some(question.output_tokens_max);
    let body = Body {
        model,
        stream: false,
        max_tokens: limit(OutputLimit::MaxTokens),
        max_completion_tokens: limit(OutputLimit::MaxCompletionTokens),
        prompt_cache_key: dialect.prompt_cache_key.then_some(question.cache_key).filter(|key| !key.is_empty()),
        tools: question.tools.iter().map(|tool| offered(tool, dialect.strict)).collect(),
        tool_choice: has_tools.then_some(if must_call { "required" } else { "auto" }),
        // Several checks in one answer are what keeps a planning within its few turns. Of calls that end it there can be
        // but one; the loop refuses any other beside it, whatever a server makes of this.
        parallel_tool_calls: (only_ends && dialect.parallel_tool_calls).then_some(false),
        messages: question.messages.iter().map(said).collect(),
    };
    let text = serde_json::to_string(&body)?;
    let digest = digest(text.as_bytes());
    Ok(Request { body: RawValue::from_string(text)?, digest })
}

fn offered(tool: &Offer, strict: bool) -> Offered<'_> {
    let function =
        Function { name: tool.name, description: tool.sheet, strict: strict.then_some(true), parameters: &tool.schema };
    Offered { r#type: "function", function }
}

fn said(message: &Message) -> Said<'_> {
    let plain = |role, content| Said { role, content: Some(content), tool_calls: Vec::new(), tool_call_id: None };
    match message {
        Message::System(text) => plain("system", text),
        Message::User(text) => plain("user", text),
        // A refusal goes back as the words it was: not every server knows the field.
        Message::Assistant { text, refusal, calls } => Said {
            role: "assistant",
            content: text.as_deref().or(refusal.as_deref()).or(calls.is_empty().then_some("")),
            tool_calls: calls.iter().map(called).collect(),
            tool_call_id: None,
        },
        Message::Tool { id, answer } => Said { tool_call_id: Some(id), ..plain("tool", answer) },
    }
}

/// A call as the server will take it back. What the model wrote may be no name and no JSON, and servers refuse the whole
/// conversation for it; what was wrong with it stands in the tool's answer.
fn called(call: &ToolCall) -> Called<'_> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let mut name: String = call.name.chars().take(NAME_BYTES_MAX).map(|c| if fits(c) { c } else { '_' }).collect();
    if name.is_empty() {
        name.push('_');
    }
    let is_object = serde_json::from_str::<Value>(&call.arguments).is_ok_and(|arguments| arguments.is_object());
    let arguments = if is_object {
        call.arguments.clone()
    } else {
        serde_json::json!({ "unreadable": call.arguments }).to_string()
    };
    Called { id: &call.id, r#type: "function", function: CalledFunction { name, arguments } }
}

fn digest(bytes: &[u8]) -> Digest {
    let mut hexadecimal = String::new();
    for byte in Sha256::digest(bytes) {
        // Writing to a string does not fail.
        let _ = write!(hexadecimal, "{byte:02x}");
    }
    Digest::new(hexadecimal)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::agent::model::Tries;
    use crate::{domain::ModelRole, tools::Tool};

    const DIALECT: Dialect = Dialect {
        output_limit: OutputLimit::MaxTokens,
        strict: true,
        required: true,
        parallel_tool_calls: true,
        prompt_cache_key: true,
    };

    fn schema() -> Value {
        json!({"type": "object", "properties": {}, "required": [], "additionalProperties": false})
    }

    static LOOK: Tool = Tool { name: "look", role: ModelRole::Planner, is_terminal: false, sheet: "Looks.", schema };
    static END: Tool = Tool { name: "end", role: ModelRole::Planner, is_terminal: true, sheet: "Ends.", schema };

    fn body(messages: &[Message], tools: &[&'static Tool], must_call: bool, dialect: Dialect) -> Value {
        let tools: Vec<Offer> = tools.iter().map(|tool| Offer::plain(tool)).collect();
        let question = Question {
            messages,
            tools: &tools,
            must_call,
            output_tokens_max: 9,
            tries: &Tries::of(1),
            cache_key: "shop",
        };
        serde_json::from_str(request("m", &question, dialect).unwrap().body.get()).unwrap()
    }

    #[test]
    fn several_calls_at_once_are_forbidden_only_where_each_would_end_the_conversation() {
        assert_eq!(body(&[], &[&END], true, DIALECT)["parallel_tool_calls"], false);
        assert_eq!(body(&[], &[&LOOK, &END], true, DIALECT).get("parallel_tool_calls"), None);
        assert_eq!(body(&[], &[&LOOK], true, DIALECT).get("parallel_tool_calls"), None);
        assert_eq!(body(&[], &[], true, DIALECT).get("tool_choice"), None, "nothing to choose from");
        assert_eq!(body(&[], &[&LOOK], false, DIALECT)["tool_choice"], "auto");
        assert_eq!(body(&[], &[&LOOK], true, DIALECT)["tool_choice"], "required");
        assert_eq!(body(&[], &[&LOOK], true, DIALECT)["tools"][0]["function"]["strict"], true);
    }

    #[test]
    fn a_schema_that_a_conversation_narrows_is_what_is_sent_digested_and_reckoned() {
        let ask = |offer: Offer| {
            let tools = [offer];
            let question = Question {
                messages: &[],
                tools: &tools,
                must_call: true,
                output_tokens_max: 9,
                tries: &Tries::of(1),
                cache_key: "shop",
            };
            let sent: Value = serde_json::from_str(request("m", &question, DIALECT).unwrap().body.get()).unwrap();
            let most = crate::agent::Most::of(&question).input;
            (sent["tools"][0]["function"]["parameters"].clone(), question.canonical(), most)
        };
        let narrow =
            json!({"type": "object", "properties": {"word": {"enum": ["hold", "ask_person"]}}, "required": ["word"]});
        let (plain, narrowed) = (ask(Offer::plain(&END)), ask(Offer::new(&END, narrow.clone())));
        assert_eq!((plain.0, narrowed.0), (schema(), narrow));
        assert!(plain.1 != narrowed.1 && narrowed.1.contains("hold"));
        assert_ne!(plain.2, narrowed.2);
    }

    #[test]
    fn every_parameter_can_be_done_without_and_only_once() {
        let sent = |dialect| body(&[], &[&END], true, dialect);
        for parameter in Dialect::PARAMETERS {
            let Some(without) = DIALECT.without(parameter) else {
                assert_eq!(parameter, "max_completion_tokens", "which was not sent");
                continue;
            };
            assert_ne!(sent(without), sent(DIALECT), "{parameter}");
            let again = without.without(parameter);
            assert_eq!(again, None, "{parameter}");
        }
        let renamed = sent(DIALECT.without("max_tokens").unwrap());
        assert_eq!((renamed.get("max_tokens"), &renamed["max_completion_tokens"]), (None, &json!(9)));
        assert_eq!(Dialect::first("api.openai.com").output_limit, OutputLimit::MaxCompletionTokens);
        assert_eq!(Dialect::first("localhost").output_limit, OutputLimit::MaxTokens);
    }

    #[test]
    fn a_wrong_call_goes_back_in_a_form_that_servers_take() {
        let call = |name: &str, arguments: &str| ToolCall {
            id: "call_0".into(),
            name: name.into(),
            arguments: arguments.into(),
        };
        let calls = vec![call("look", "{\"a\": 1}"), call("do it; now", "{oops"), call("", "[1]")];
        let said = body(&[Message::Assistant { text: None, refusal: None, calls }], &[], false, DIALECT);
        let functions: Vec<&Value> =
            said["messages"][0]["tool_calls"].as_array().unwrap().iter().map(|call| &call["function"]).collect();
        assert_eq!(functions[0], &json!({"name": "look", "arguments": "{\"a\": 1}"}));
        assert_eq!(functions[1], &json!({"name": "do_it__now", "arguments": "{\"unreadable\":\"{oops\"}"}));
        assert_eq!(functions[2], &json!({"name": "_", "arguments": "{\"unreadable\":\"[1]\"}"}));
        assert_eq!(said["messages"][0]["content"], Value::Null);
    }

    #[test]
    fn a_longer_conversation_repeats_the_bytes_of_the_shorter_one() {
        let first = [Message::System("be".into()), Message::User("look at this".into())];
        let call = ToolCall { id: "a".into(), name: "look".into(), arguments: "{}".into() };
        let mut longer = first.to_vec();
        longer.push(Message::Assistant { text: Some("hm".into()), refusal: None, calls: vec![call] });
        longer.push(Message::Tool { id: "a".into(), answer: "{}".into() });
        let bytes = |messages: &[Message]| {
            let tools = [Offer::plain(&LOOK), Offer::plain(&END)];
            let question = Question {
                messages,
                tools: &tools,
                must_call: true,
                output_tokens_max: 9,
                tries: &Tries::of(1),
                cache_key: "shop",
            };
            request("m", &question, DIALECT).unwrap()
        };
        let (short, long) = (bytes(&first), bytes(&longer));
        assert!(long.body.get().starts_with(short.body.get().strip_suffix("]}").unwrap()));
        assert_eq!(bytes(&first).digest, short.digest);
        assert_ne!(long.digest, short.digest);
    }
}
