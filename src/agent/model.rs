//! A model, as the loop sees it: messages and tools in, one answer out. The client over HTTP is one; a record of an
//! earlier conversation is another; a test's script is a third.

use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::BoxFuture;

use crate::{
    domain::{Digest, Message, Text, Usage},
    tools::Tool,
};

/// A tool as it is offered in one conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The tool's name.
    pub name: &'static str,
    /// What the model is told of it.
    pub sheet: &'static str,
    /// Whether it ends the conversation.
    pub is_terminal: bool,
    /// The JSON Schema of its arguments, as narrow as this conversation makes it.
    pub schema: serde_json::Value,
}

impl Offer {
    /// A tool with the schema that this conversation gives it.
    pub fn new(tool: &Tool, schema: serde_json::Value) -> Self {
        Self { name: tool.name, sheet: tool.sheet, is_terminal: tool.is_terminal, schema }
    }

    /// A tool with its own schema.
    pub fn plain(tool: &Tool) -> Self {
        Self::new(tool, (tool.schema)())
    }
}

/// The attempts at one question: how many are paid for, and how many were begun. Shared by whoever pays and whoever asks.
#[derive(Debug)]
pub struct Tries {
    most: u32,
    begun: AtomicU32,
}

impl Tries {
    /// At most so many, and at least one.
    pub const fn of(most: u32) -> Self {
        Self { most: if most == 0 { 1 } else { most }, begun: AtomicU32::new(0) }
    }

    /// How many may be made.
    pub fn most(&self) -> u32 {
        self.most
    }

    /// One is about to be sent.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// How many may have been charged for, once one was sent: those that were begun; one at least, since not every model
    /// counts them, and no more than were paid for, since one more is made only where the server refused a parameter.
    pub fn charged(&self) -> u32 {
        self.begun.load(Ordering::Relaxed).clamp(1, self.most)
    }
}

/// One question.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// Everything said so far, the oldest first.
    pub messages: &'a [Message],
    /// The tools that are offered, in order; none for a narrator.
    pub tools: &'a [Offer],
    /// Whether it must call one of them.
    pub must_call: bool,
    /// Most tokens of the answer.
    pub output_tokens_max: u32,
    /// Most attempts that are made at it: each may be charged for, and no more are set aside.
    pub tries: &'a Tries,
    /// Steers questions with the same beginning to the same cache of the provider; holds no secret.
    pub cache_key: &'a str,
}

impl Question<'_> {
    /// What is asked, the same bytes for the same question whatever its form on the wire: messages, tools with their
    /// sheets and schemas, and whether one must be called.
    pub fn canonical(&self) -> String {
        let tools: Vec<_> = self.tools.iter().map(|tool| (tool.name, tool.sheet, &tool.schema)).collect();
        // Strings, lists and JSON values: there is nothing in them that cannot be written.
        serde_json::to_string(&(self.messages, tools, self.must_call)).unwrap_or_default()
    }
}

/// Why a model stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It was done.
    Stop,
    /// It waits for tools.
    ToolCalls,
    /// The answer was cut off at its limit.
    Length,
    /// Its provider's filter stepped in.
    ContentFilter,
    /// Something else, in the provider's word.
    Other(Text),
}

impl Finish {
    /// The provider's word for it.
    pub fn word(&self) -> &str {
        match self {
            Self::Stop => "stop",
            Self::ToolCalls => "tool_calls",
            Self::Length => "length",
            Self::ContentFilter => "content_filter",
            Self::Other(word) => word.as_str(),
        }
    }

    /// The reason that a provider's word stands for.
    pub fn from_word(word: &str) -> Self {
        match word {
            "stop" => Self::Stop,
            "tool_calls" => Self::ToolCalls,
            "length" => Self::Length,
            "content_filter" => Self::ContentFilter,
            other => Self::Other(Text::new(other)),
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The model's message: always [`Message::Assistant`]. Sizes are bounded by the client.
    pub message: Message,
    /// Why it stopped.
    pub finish: Finish,
    /// The model's name as the server gave it.
    pub served_by: Text,
    /// What was used.
    pub usage: Usage,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It did not answer in time, is overloaded, or has failed so often lately that it is not asked for a while.
    #[error("the model is unavailable: {0}")]
    Unavailable(Text),
    /// It does not take the request: a wrong key, an unknown model, a request it cannot read, an account without credit.
    #[error("the model's server refuses the request: {0}")]
    Rejected(Text),
    /// What it answered is not of the shape it should have, or larger than the limit.
    #[error("the model's answer cannot be read: {0}")]
    Malformed(Text),
}

/// What came of one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The answer, or why there is none.
    pub reply: Result<Reply, CallError>,
    /// SHA-256 of the request's bytes.
    pub request: Digest,
    /// How often it was tried.
    pub attempts: u32,
    /// How many of the attempts were sent and not wholly answered: their server may have charged for them.
    pub unanswered: u32,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// Something that answers.
pub trait Model: Send + Sync {
    /// Its name, as configured.
    fn name(&self) -> &str;

    /// Most attempts at one question that it would make.
    fn attempts_max(&self) -> u32 {
        1
    }

    /// Asks, and tries again what may pass, as often as the question's [`Tries`] allow. The future may be dropped at any moment.
    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Asked>;
}
