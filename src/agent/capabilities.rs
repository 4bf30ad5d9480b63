//! What a server can do, found out with one short question, and a second where the first did not tell.
//!
//! "OpenAI-compatible" servers take parameters without heeding them. So the question is one that a server which does not
//! heed them gets wrong: it asks for a word, not for a tool, and the tool's schema allows another word only.

use serde_json::{Value, json};

use super::{
    Client,
    client::Heard,
    client_answers::{Answer, Setback},
    client_request::OutputLimit,
    model::{CallError, Model as _, Offer, Question, Tries},
};
use crate::{
    domain::{Message, ModelRole, Text, ToolCall, Usage},
    tools::Tool,
};

/// Most tokens of an answer. Few are needed, but models that think before they speak think within this limit.
const OUTPUT_TOKENS_MAX: u32 = 512;
const ASKED_FOR: &str = "apple";
const ALLOWED: &str = "pear";

/// How a server takes strict schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schemas {
    /// The arguments kept to the schema though the question asked for something else.
    Kept,
    /// They did not: what it writes is only ever as good as its checking here.
    Broken,
    /// It does not take the mark; or no tool was called, so that nothing is known.
    Unsupported,
}

/// What a server turned out to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The model's name as the server gave it.
    pub served_by: Text,
    /// Whether it calls tools when told to in words. Without that there are no plans.
    pub calls_tools: bool,
    /// Whether it calls one because it must, though the words ask for none.
    pub must_call_is_kept: bool,
    /// How it takes strict schemas.
    pub schemas: Schemas,
    /// How it wants the limit of output tokens to be called.
    pub output_limit: OutputLimit,
    /// Whether it takes a key for its cache.
    pub takes_cache_key: bool,
    /// Whether it says how many tokens it used. If not, they are reckoned from bytes.
    pub reports_usage: bool,
    /// What finding out has used.
    pub usage: Usage,
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {"word": {"type": "string", "enum": [ALLOWED]}},
        "required": ["word"],
        "additionalProperties": false
    })
}

static SAY: Tool = Tool { name: "say", role: ModelRole::Planner, is_terminal: true, sheet: "Says a word.", schema };

impl Client {
    /// Finds out what the server does: whether it answers at all, and which of the parameters that a loop needs it heeds.
    /// Costs one short answer, and a second one where the first called no tool.
    pub async fn probe(&self) -> Result<Capabilities, CallError> {
        let (first, mut usage) = self.told(&format!("Reply with the word {ASKED_FOR}."), true).await?;
        let required = self.dialect().required;
        let mut call = said(&first);
        let must_call_is_kept = required && call.is_some();
        if call.is_none() {
            let words = format!("Call the tool `{}` with the word {ASKED_FOR}.", SAY.name);
            let (second, more) = self.told(&words, false).await?;
            usage = usage.plus(more);
            call = said(&second);
        }
        let dialect = *self.dialect();
        let schemas = match &call {
            Some(call) if dialect.strict && keeps(call) => Schemas::Kept,
            Some(_) if dialect.strict => Schemas::Broken,
            Some(_) | None => Schemas::Unsupported,
        };
        Ok(Capabilities {
            served_by: first.served_by,
            calls_tools: call.is_some(),
            must_call_is_kept,
            schemas,
            output_limit: dialect.output_limit,
            takes_cache_key: dialect.prompt_cache_key,
            reports_usage: first.counted.is_some(),
            usage,
        })
    }

    async fn told(&self, words: &str, must_call: bool) -> Result<(Answer, Usage), CallError> {
        let messages = [Message::User(words.to_owned())];
        let question = Question {
            messages: &messages,
            tools: &[Offer::plain(&SAY)],
            must_call,
            output_tokens_max: OUTPUT_TOKENS_MAX,
            tries: &Tries::of(self.attempts_max()),
            cache_key: "tollgate-probe",
        };
        let Heard { answer, request_bytes, .. } = self.hear(&question, self.attempts_max()).await;
        match answer {
            Ok(answer) => {
                let usage = self.usage(answer.counted, request_bytes, &answer.message);
                Ok((answer, usage))
            }
            Err(Setback::Call(error) | Setback::Parameter(_, error)) => Err(error),
            Err(Setback::Filtered) => {
                Err(CallError::Rejected(Text::new("its provider's filter does not let a harmless question through")))
            }
        }
    }
}

fn said(answer: &Answer) -> Option<ToolCall> {
    match &answer.message {
        Message::Assistant { calls, .. } => calls.iter().find(|call| call.name == SAY.name).cloned(),
        Message::System(_) | Message::User(_) | Message::Tool { .. } => None,
    }
}

fn keeps(call: &ToolCall) -> bool {
    serde_json::from_str::<Value>(&call.arguments).is_ok_and(|arguments| arguments == json!({ "word": ALLOWED }))
}
