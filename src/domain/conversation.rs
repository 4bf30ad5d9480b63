//! What was said between Tollgate and a model: kept in the journal whole, with secrets masked before they got there, so
//! that every plan can be looked into and planned again without a model.

use serde::{Deserialize, Serialize};

use super::{Digest, Text};

/// What a model is asked to be. The three are kept apart: each sees what the others must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelRole {
    /// Reads the untrusted diff, has readers for tools, and ends in a draft.
    Planner,
    /// Reads numbers only, and ends in advice.
    Advisor,
    /// Writes for people. What it writes is never read back.
    Narrator,
}

impl ModelRole {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Planner => "planner",
            Self::Advisor => "advisor",
            Self::Narrator => "narrator",
        }
    }
}

/// A tool that a model asked for, as it wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The model's own name of this call, repeated in the answer.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments, JSON as far as the model wrote JSON.
    pub arguments: String,
}

/// One message of a conversation, in the order in which it was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// Ours: who the model is to be.
    System(String),
    /// Ours: what it is about.
    User(String),
    /// The model's.
    Assistant {
        /// Its words, if it wrote any.
        text: Option<String>,
        /// Its refusal, if it refused.
        refusal: Option<String>,
        /// The tools it asked for.
        calls: Vec<ToolCall>,
    },
    /// Ours: what a tool answered.
    Tool {
        /// The call that is answered.
        id: String,
        /// The answer, JSON.
        answer: String,
    },
}

/// What was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens that went in, cached ones included.
    pub input_tokens: u64,
    /// Of those, how many the provider had in its cache.
    pub cached_tokens: u64,
    /// Tokens that came out.
    pub output_tokens: u64,
    /// Millionths of a dollar, by the configured prices; `None` where none are configured.
    pub micro_dollars: Option<u64>,
}

impl Usage {
    /// Both added up. What one has no price for has none together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            micro_dollars: self.micro_dollars.zip(other.micro_dollars).map(|(one, other)| one.saturating_add(other)),
        }
    }
}

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// SHA-256 of the request's bytes as they were sent.
    pub request: Digest,
    /// SHA-256 of what was asked, however it was put on the wire: the messages, the tools on offer and whether one of them
    /// had to be called. By it a replay knows whether it is asked the same.
    pub question: Digest,
    /// How many of the conversation's messages had been said before the answer. What was asked begins at the last
    /// [`Message::System`] before it: a conversation that was begun anew holds more than one.
    pub said: u32,
    /// Why the model stopped, in the provider's word; empty where it gave none, or did not answer.
    pub finish: Text,
    /// Why there was no answer, if there was none.
    pub failure: Option<Text>,
    /// How often it was tried.
    pub attempts: u32,
    /// What it used.
    pub usage: Usage,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// A whole conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// What the model was asked to be.
    pub role: ModelRole,
    /// The model's name, as configured and as the server gave it.
    pub model: Text,
    /// A digest of the prompts and the tools' schemas that it was led by.
    pub prompt: Digest,
    /// What was said, masked; long ones are cut and say so.
    pub messages: Vec<Message>,
    /// Each request, in order.
    pub exchanges: Vec<Exchange>,
    /// What came of it, in a few words.
    pub end: Text,
}

impl Conversation {
    /// All that it used.
    pub fn usage(&self) -> Usage {
        let none = Usage { micro_dollars: Some(0), ..Usage::default() };
        self.exchanges.iter().fold(none, |sum, exchange| sum.plus(exchange.usage))
    }
}
