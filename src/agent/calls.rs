//! The tool calls of a run: how many there were, and which were made before.

use std::collections::BTreeMap;

use crate::{
    domain::ToolCall,
    tools::{Envelope, Outcome, Status, Tool},
};

/// What may be done with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// Run it.
    Run,
    /// Refuse it, for this reason.
    Refuse(&'static str),
    /// End the run: the same was asked again and again.
    End,
}

/// Only a closing tool is on offer.
pub(super) const CLOSING: &str = "only_a_closing_tool_now";
/// No calls are left in this run.
pub(super) const NO_CALLS_LEFT: &str = "no_calls_left";
/// The same call was made before; its answer stands above.
pub(super) const REPEATED: &str = "repeated_call";
/// A closing tool has to be called alone.
pub(super) const NOT_ALONE: &str = "closing_call_not_alone";

/// The calls of one run.
pub(super) struct Calls {
    max: u32,
    ran: u32,
    repeats: u32,
    /// How many calls had run when a call was last made, by the call.
    seen: BTreeMap<String, u32>,
}

impl Calls {
    pub(super) fn new(max: u32) -> Self {
        Self { max, ran: 0, repeats: 0, seen: BTreeMap::new() }
    }

    /// Whether none is left but the one that closes.
    pub(super) fn is_used_up(&self) -> bool {
        self.ran >= self.max
    }

    /// Forgets what was made before, for a run that begins anew with everything put back. The numbers stay.
    pub(super) fn forget(&mut self) {
        self.seen.clear();
    }

    /// Whether this call may run. A closing one may be made again, as it is, once something else has run: what it was
    /// refused for may be mended.
    pub(super) fn leave(&mut self, call: &ToolCall, is_terminal: bool, only_terminal: bool) -> Leave {
        if only_terminal && !is_terminal {
            return Leave::Refuse(if self.is_used_up() { NO_CALLS_LEFT } else { CLOSING });
        }
        let made = identity(call);
        if let Some(ran) = self.seen.get(&made)
            && (!is_terminal || *ran == self.ran)
        {
            self.repeats += 1;
            return if self.repeats > 1 { Leave::End } else { Leave::Refuse(REPEATED) };
        }
        if !is_terminal {
            if self.is_used_up() {
                return Leave::Refuse(NO_CALLS_LEFT);
            }
            self.ran += 1;
        }
        self.seen.insert(made, self.ran);
        Leave::Run
    }
}

/// A call without its number; arguments that differ in blanks or in the order of their fields only are the same.
fn identity(call: &ToolCall) -> String {
    let arguments = serde_json::from_str::<serde_json::Value>(&call.arguments);
    let arguments = arguments.map_or_else(|_| call.arguments.clone(), |arguments| arguments.to_string());
    format!("{} {arguments}", call.name)
}

/// The answer to a call that did not run.
pub(super) fn refused(status: Status, reason: &str) -> Outcome {
    let envelope = Envelope { status, reason: reason.to_owned(), data: serde_json::Value::Null };
    Outcome { envelope, ended: None, is_malformed: false }
}

/// Whether a tool of this name closes a conversation.
pub(super) fn is_terminal(tools: &[&'static Tool], name: &str) -> bool {
    tools.iter().any(|tool| tool.is_terminal && tool.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arguments: &str) -> ToolCall {
        ToolCall { id: "1".into(), name: name.into(), arguments: arguments.into() }
    }

    #[test]
    fn the_last_permitted_call_runs_and_the_next_does_not() {
        let mut calls = Calls::new(2);
        assert_eq!(calls.leave(&call("look", "1"), false, false), Leave::Run);
        assert!(!calls.is_used_up());
        assert_eq!(calls.leave(&call("look", "2"), false, false), Leave::Run);
        assert!(calls.is_used_up());
        assert_eq!(calls.leave(&call("look", "3"), false, false), Leave::Refuse(NO_CALLS_LEFT));
        assert_eq!(calls.leave(&call("submit", "{}"), true, true), Leave::Run, "it may always be brought to an end");
    }

    #[test]
    fn the_same_call_is_refused_once_and_then_ends_the_run_whatever_its_blanks() {
        let mut calls = Calls::new(9);
        assert_eq!(calls.leave(&call("look", r#"{"a":1,"b":2}"#), false, false), Leave::Run);
        assert_eq!(calls.leave(&call("look", r#"{"b": 2, "a": 1}"#), false, false), Leave::Refuse(REPEATED));
        assert_eq!(calls.leave(&call("look", r#"{"a":1,"b":3}"#), false, false), Leave::Run);
        assert_eq!(calls.leave(&call("look", r#"{"a":1,"b":3}"#), false, false), Leave::End);
    }

    #[test]
    fn a_closing_call_may_be_made_again_once_something_was_mended() {
        let mut calls = Calls::new(9);
        assert_eq!(calls.leave(&call("submit", "{}"), true, false), Leave::Run);
        assert_eq!(calls.leave(&call("look", "1"), false, false), Leave::Run);
        assert_eq!(calls.leave(&call("submit", "{}"), true, false), Leave::Run);
        assert_eq!(calls.leave(&call("submit", "{}"), true, false), Leave::Refuse(REPEATED));
    }
}
