//! One conversation as it is said. What is kept is what is sent, byte for byte: every message is masked, cut and numbered
//! once, when it is said, so that the record is the truth and a replay can compare.

use crate::{
    domain::{Conversation, Digest, Exchange, Message, ModelRole, Text, ToolCall},
    untrusted::masked,
};

/// Most bytes of one message; of a longer one the beginning is kept, and a mark says so.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// Most bytes of one answer of a tool, of the words of an answer, and of the arguments of one call.
const PART_BYTES_MAX: usize = 32 * 1024;
/// Most bytes of a whole conversation; one that would grow longer ends.
pub const RECORD_BYTES_MAX: usize = 512 * 1024;
/// Most calls of one answer that are kept. One more is, to show that there were more.
pub const CALLS_EACH_MAX: usize = 32;
/// Most bytes of a tool's name.
const NAME_BYTES_MAX: usize = 80;

/// The conversation has no room for another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// A conversation that goes on.
pub(super) struct Record {
    role: ModelRole,
    model: String,
    served_by: Text,
    prompt: Digest,
    messages: Vec<Message>,
    exchanges: Vec<Exchange>,
    bytes: usize,
    begins: usize,
    calls: u32,
}

impl Record {
    pub(super) fn new(role: ModelRole, model: &str, prompt: Digest) -> Self {
        Self {
            role,
            model: model.to_owned(),
            served_by: Text::default(),
            prompt,
            messages: Vec::new(),
            exchanges: Vec::new(),
            bytes: 0,
            begins: 0,
            calls: 0,
        }
    }

    /// Begins anew: what was said stays in the record, and is not sent again.
    pub(super) fn begin(&mut self) {
        self.begins = self.messages.len();
    }

    /// What is sent: everything since the last beginning.
    pub(super) fn live(&self) -> &[Message] {
        self.messages.get(self.begins..).unwrap_or_default()
    }

    /// How many messages were said, those before the last beginning too.
    pub(super) fn said(&self) -> u32 {
        u32::try_from(self.messages.len()).unwrap_or(u32::MAX)
    }

    /// Takes a message in, made fit to be sent and kept, and gives the calls that it holds.
    pub(super) fn say(&mut self, message: Message) -> Result<Vec<ToolCall>, Full> {
        let message = match message {
            Message::System(text) => Message::System(fit(&text, MESSAGE_BYTES_MAX)),
            Message::User(text) => Message::User(fit(&text, MESSAGE_BYTES_MAX)),
            Message::Tool { id, answer } => Message::Tool { id, answer: fit(&answer, PART_BYTES_MAX) },
            // Some servers do not take back a message with nothing in it, not even empty words.
            Message::Assistant { text: None, refusal: None, calls } if calls.is_empty() => {
                Message::Assistant { text: Some(String::new()), refusal: None, calls }
            }
            Message::Assistant { text, refusal, calls } => Message::Assistant {
                text: text.map(|text| fit(&text, PART_BYTES_MAX)),
                refusal: refusal.map(|text| fit(&text, PART_BYTES_MAX)),
                calls: calls.into_iter().take(CALLS_EACH_MAX + 1).map(|call| self.numbered(&call)).collect(),
            },
        };
        let bytes = self.bytes + size(&message);
        if bytes > RECORD_BYTES_MAX {
            return Err(Full);
        }
        self.bytes = bytes;
        let calls = match &message {
            Message::Assistant { calls, .. } => calls.clone(),
            Message::System(_) | Message::User(_) | Message::Tool { .. } => Vec::new(),
        };
        self.messages.push(message);
        Ok(calls)
    }

    /// The same call under a number of our own: servers give the same name twice, or none, and some take back only names
    /// of nine letters and digits, which these are.
    fn numbered(&mut self, call: &ToolCall) -> ToolCall {
        self.calls = self.calls.saturating_add(1);
        ToolCall {
            id: format!("call{:05}", self.calls),
            name: fit(&call.name, NAME_BYTES_MAX),
            arguments: fit(&call.arguments, PART_BYTES_MAX),
        }
    }

    pub(super) fn exchanged(&mut self, exchange: Exchange) {
        let Exchange { finish, failure, .. } = &exchange;
        let (finish, failure) = (safe(finish), failure.as_ref().map(safe));
        self.exchanges.push(Exchange { finish, failure, ..exchange });
    }

    pub(super) fn served_by(&mut self, name: &Text) {
        self.served_by = safe(name);
    }

    /// The whole of it, and what came of it.
    pub(super) fn close(self, end: &str) -> Conversation {
        Conversation {
            role: self.role,
            model: names(&self.model, self.served_by.as_str()),
            prompt: self.prompt,
            messages: self.messages,
            exchanges: self.exchanges,
            end: Text::new(masked(end).text),
        }
    }
}

const SERVED_AS: &str = " (served as ";

/// A model's name as configured, and as its server gave it where that is another.
fn names(configured: &str, served: &str) -> Text {
    match served {
        "" => Text::new(configured),
        same if same == configured => Text::new(configured),
        other => Text::new(format!("{configured}{SERVED_AS}{other})")),
    }
}

/// The configured name, and the served one, of what [`names`] wrote.
pub(super) fn named(both: &Text) -> (&str, &str) {
    match both.as_str().split_once(SERVED_AS) {
        Some((configured, served)) => (configured, served.strip_suffix(')').unwrap_or(served)),
        None => (both.as_str(), ""),
    }
}

/// A server's word without secrets: whatever it writes where a name should be is kept.
fn safe(word: &Text) -> Text {
    Text::new(masked(word.as_str()).text)
}

fn fit(text: &str, bytes_max: usize) -> String {
    cut(masked(text).text, bytes_max)
}

/// At most `bytes_max` bytes of a text and, where it is longer, a mark of less than fifty.
fn cut(text: String, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text;
    }
    let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let head = text.get(..end).unwrap_or_default();
    format!("{head}… [cut: {} bytes left out]", text.len() - head.len())
}

fn size(message: &Message) -> usize {
    match message {
        Message::System(text) | Message::User(text) => text.len(),
        Message::Tool { id, answer } => id.len() + answer.len(),
        Message::Assistant { text, refusal, calls } => {
            let words = [text, refusal].into_iter().flatten().map(String::len).sum::<usize>();
            words + calls.iter().map(|call| call.id.len() + call.name.len() + call.arguments.len()).sum::<usize>()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record::new(ModelRole::Planner, "small", Digest::new("d"))
    }

    fn asking(count: usize) -> Message {
        let call = ToolCall { id: "x".into(), name: "look".into(), arguments: "{}".into() };
        Message::Assistant { text: None, refusal: None, calls: vec![call; count] }
    }

    #[test]
    fn calls_get_numbers_of_our_own_that_every_server_takes_back() {
        let mut record = record();
        let first = record.say(asking(2)).unwrap();
        let then = record.say(asking(1)).unwrap();
        let ids: Vec<&str> = first.iter().chain(&then).map(|call| call.id.as_str()).collect();
        assert_eq!(ids, ["call00001", "call00002", "call00003"]);
    }

    #[test]
    fn one_call_more_than_the_limit_is_kept_to_show_that_there_were_more() {
        assert_eq!(record().say(asking(CALLS_EACH_MAX)).unwrap().len(), CALLS_EACH_MAX);
        assert_eq!(record().say(asking(CALLS_EACH_MAX + 9)).unwrap().len(), CALLS_EACH_MAX + 1);
    }

    #[test]
    fn a_message_is_cut_past_its_limit_and_says_so() {
        let mut record = record();
        record.say(Message::User("é".repeat(MESSAGE_BYTES_MAX / 2))).unwrap();
        record.say(Message::User("é".repeat(MESSAGE_BYTES_MAX / 2) + "!")).unwrap();
        let [Message::User(whole), Message::User(cut)] = record.live() else { panic!("two messages") };
        assert!(!whole.contains("[cut") && cut.ends_with("… [cut: 1 bytes left out]"));
    }

    #[test]
    fn what_a_server_writes_in_place_of_a_name_is_kept_without_its_secrets() {
        let secret = ["ghp_", "Vt3kQ9zLm2Xw8Rb5Yc7Nd4Pf6Hj1Gs0AeUiO"].concat();
        let mut record = record();
        record.served_by(&Text::new(&secret));
        record.exchanged(Exchange {
            request: Digest::new("r"),
            question: Digest::new("q"),
            said: 0,
            finish: Text::new(&secret),
            failure: Some(Text::new(&secret)),
            attempts: 1,
            usage: crate::domain::Usage::default(),
            millis: 1,
        });
        let kept = serde_json::to_string(&record.close("end")).unwrap();
        assert!(!kept.contains(&secret), "{kept}");
        assert!(!kept.contains("\"finish\":\"\""), "what was masked is seen: {kept}");
    }

    #[test]
    fn a_conversation_ends_where_its_room_does() {
        let mut record = record();
        for _ in 0..RECORD_BYTES_MAX / MESSAGE_BYTES_MAX {
            record.say(Message::User("a".repeat(MESSAGE_BYTES_MAX))).unwrap();
        }
        assert_eq!(record.say(Message::User("a".into())), Err(Full));
        assert_eq!(record.live().len(), RECORD_BYTES_MAX / MESSAGE_BYTES_MAX, "what does not fit is not half kept");
    }

    #[test]
    fn a_models_two_names_can_be_told_apart_again() {
        for (configured, served) in [("gpt", "gpt-2026-01"), ("gpt", "")] {
            assert_eq!(named(&names(configured, served)), (configured, served));
        }
        assert_eq!(named(&names("gpt", "gpt")), ("gpt", ""));
    }
}
