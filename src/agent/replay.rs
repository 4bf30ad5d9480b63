//! A model that answers from the record of an earlier conversation, so that a planning can be looked into, tested and run
//! again without a model. It answers the questions that were recorded and no others: each is compared with what was asked
//! then, so that a changed prompt, tool or change is told as what it is.

use std::sync::{Mutex, PoisonError};

use futures_util::{FutureExt, future::BoxFuture};

use super::{
    digest::sha256,
    model::{Asked, CallError, Finish, Model, Question, Reply},
    record::named,
};
use crate::domain::{Conversation, Digest, Exchange, Message, Text};

/// What to do where a question is not the one that was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Difference {
    /// Refuse, and name it.
    #[default]
    Refuse,
    /// Write it down, and give the recorded answer all the same.
    GoOn,
}

#[derive(Default)]
struct Progress {
    asked: usize,
    differences: Vec<Text>,
}

/// A model that answers from a record.
pub struct Replay {
    conversation: Conversation,
    on_difference: Difference,
    progress: Mutex<Progress>,
}

impl Replay {
    /// A model that gives the recorded answers, in order, once.
    pub fn new(conversation: Conversation, on_difference: Difference) -> Self {
        Self { conversation, on_difference, progress: Mutex::default() }
    }

    /// What was not as recorded so far, question by question.
    pub fn differences(&self) -> Vec<Text> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).differences.clone()
    }

    fn answer(&self, question: Question<'_>) -> Asked {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let at = progress.asked;
        progress.asked += 1;
        let asked = sha256(question.canonical());
        let Some(exchange) = self.conversation.exchanges.get(at) else {
            let words = format!("the record holds {at} answers, and this is one question more");
            return refusal(asked, words);
        };
        if let Some(difference) = self.difference(at, exchange, question, &asked) {
            let words = Text::new(format!("question {} is not the one that was recorded: {difference}", at + 1));
            progress.differences.push(words.clone());
            match self.on_difference {
                Difference::Refuse => return refusal(asked, words.to_string()),
                Difference::GoOn => {}
            }
        }
        Asked {
            reply: self.recorded(exchange),
            request: exchange.request.clone(),
            attempts: exchange.attempts,
            unanswered: 0,
            millis: exchange.millis,
        }
    }

    fn recorded(&self, exchange: &Exchange) -> Result<Reply, CallError> {
        if let Some(failure) = &exchange.failure {
            return Err(failed(failure));
        }
        match self.conversation.messages.get(index(exchange.said)) {
            Some(message @ Message::Assistant { .. }) => Ok(Reply {
                message: message.clone(),
                finish: Finish::from_word(exchange.finish.as_str()),
                served_by: Text::new(named(&self.conversation.model).1),
                usage: exchange.usage,
            }),
            Some(Message::System(_) | Message::User(_) | Message::Tool { .. }) | None => {
                Err(CallError::Malformed(Text::new("the record holds no answer at this place")))
            }
        }
    }

    /// What is not as it was, in words that name the first such thing.
    fn difference(&self, at: usize, exchange: &Exchange, question: Question<'_>, asked: &Digest) -> Option<String> {
        if *asked == exchange.question {
            return None;
        }
        let then = self.conversation.messages.get(..index(exchange.said)).unwrap_or_default();
        let begins = then.iter().rposition(|message| matches!(message, Message::System(_))).unwrap_or(0);
        let then = then.get(begins..).unwrap_or_default();
        let now = question.messages;
        if let Some(at) = then.iter().zip(now).position(|(then, now)| then != now) {
            let (then, now) = (then.get(at)?, now.get(at)?);
            return Some(format!("message {} ({}) is another: {}", at + 1, who(now), first_difference(then, now)));
        }
        Some(match now.len() == then.len() {
            true => format!("the messages are the same, and the tools on offer at answer {} are not", at + 1),
            false => format!("it has {} messages, and {} were recorded", now.len(), then.len()),
        })
    }
}

fn refusal(request: Digest, words: String) -> Asked {
    Asked { reply: Err(CallError::Rejected(Text::new(words))), request, attempts: 1, unanswered: 0, millis: 0 }
}

fn index(said: u32) -> usize {
    usize::try_from(said).unwrap_or(usize::MAX)
}

fn who(message: &Message) -> &'static str {
    match message {
        Message::System(_) => "the policy",
        Message::User(_) => "what it is about",
        Message::Assistant { .. } => "the model's",
        Message::Tool { .. } => "a tool's answer",
    }
}

/// Where two messages part, with a few words of both.
fn first_difference(then: &Message, now: &Message) -> String {
    let text = |message: &Message| serde_json::to_string(message).unwrap_or_default();
    let (then, now) = (text(then), text(now));
    let same = then.chars().zip(now.chars()).take_while(|(then, now)| then == now).count();
    let from = same.saturating_sub(20);
    let excerpt = |text: &str| text.chars().skip(from).take(80).collect::<String>();
    format!("from character {same}: `{}` now, `{}` then", excerpt(&now), excerpt(&then))
}

/// The failure that these words were written for.
fn failed(words: &Text) -> CallError {
    let kinds: [fn(Text) -> CallError; 3] = [CallError::Unavailable, CallError::Rejected, CallError::Malformed];
    for kind in kinds {
        let beginning = kind(Text::default()).to_string();
        if let Some(rest) = words.as_str().strip_prefix(beginning.trim_end()) {
            return kind(Text::new(rest));
        }
    }
    CallError::Malformed(words.clone())
}

impl Model for Replay {
    fn name(&self) -> &str {
        named(&self.conversation.model).0
    }

    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Asked> {
        std::future::ready(self.answer(question)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_known_again_by_its_words() {
        for error in [
            CallError::Unavailable(Text::new("no answer in 3 s")),
            CallError::Rejected(Text::new("a wrong key")),
            CallError::Malformed(Text::new("no JSON")),
        ] {
            assert_eq!(failed(&Text::new(error.to_string())), error);
        }
    }
}
