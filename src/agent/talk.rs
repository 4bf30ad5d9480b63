//! One conversation: messages, an answer, tool calls, their answers, until a closing call, a limit or a failure.
//!
//! Whatever a model does, a run ends within its limits, and it ends in one of two ways: in what was wanted, or in a reason
//! why there is none ([`Fallback`]). Nothing is ever read out of prose, and a decision that is missing is missing: no word
//! of a model is guessed at. A repair is an answer that is given back with the reason; there are few of them.

use std::{sync::Arc, time::Duration};

use super::{
    budget::{Most, Run, times},
    calls::{Calls, Leave, NOT_ALONE, is_terminal, refused},
    config::{Limits, Price},
    digest::sha256,
    model::{Asked, CallError, Finish, Model, Offer, Question, Reply, Tries},
    parts::{Part, Shown},
    record::{CALLS_EACH_MAX, Full, RECORD_BYTES_MAX, Record},
};
use crate::{
    domain::{Conversation, Digest, Exchange, Message, ModelRole, Text, ToolCall, Usage},
    plan::Fallback,
    tools::{Ended, Outcome, Status, Toolbox},
    untrusted::masked,
};

/// Longest time of an explanation: nothing waits for it.
const NARRATE_WITHIN: Duration = Duration::from_secs(60);
/// What is said to a model that writes where it should call.
const NUDGE: &str = "Words alone are not read here. Answer by calling one of the tools on offer.";

/// Why a run came to nothing, and in which words.
pub(super) type Failed = (Fallback, String);

/// The limits of one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) turns_max: u32,
    pub(super) tool_calls_max: u32,
    pub(super) repairs_max: u32,
    pub(super) output_tokens_max: u32,
    pub(super) diff_bytes_max: usize,
    pub(super) within: Duration,
}

impl Rules {
    /// The rules for this role. `within` is how long whoever asked will wait.
    pub(super) fn of(role: ModelRole, limits: &Limits, within: Option<Duration>) -> Self {
        let (turns_max, longest) = match role {
            ModelRole::Planner => (limits.planner_turns_max, limits.plan_within),
            ModelRole::Advisor => (limits.advisor_turns_max, limits.plan_within),
            ModelRole::Narrator => (1, NARRATE_WITHIN.min(limits.plan_within)),
        };
        Self {
            turns_max,
            tool_calls_max: limits.tool_calls_max,
            repairs_max: limits.repairs_max,
            output_tokens_max: limits.output_tokens_max,
            diff_bytes_max: limits.diff_bytes_max,
            within: within.unwrap_or(longest),
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Closed {
    /// A closing tool was called and accepted.
    By(Ended),
    /// Words, of a role that has no tools.
    Words(String),
}

/// A run that is over.
pub(super) struct Said {
    pub(super) closed: Result<Closed, Failed>,
    pub(super) conversation: Conversation,
    /// Answers that were given back to be mended.
    pub(super) repairs: u32,
    /// Answers that were refusals.
    pub(super) refusals: u32,
}

/// What a run is held with.
pub(super) struct Setting<'a> {
    pub(super) model: &'a dyn Model,
    /// What it may spend, and is written down against.
    pub(super) run: Run,
    pub(super) price: Option<Price>,
    pub(super) role: ModelRole,
    pub(super) rules: Rules,
    pub(super) prompt: Digest,
    pub(super) cache_key: &'a str,
}

/// A question that is on its way.
struct Pending {
    question: Digest,
    said: u32,
    most: Most,
    tries: Arc<Tries>,
}

struct Talk<'a> {
    setting: Setting<'a>,
    record: Record,
    calls: Calls,
    shown: Shown,
    turns: u32,
    repairs: u32,
    refusals: u32,
    was_cut: bool,
    was_nudged: bool,
    pending: Option<Pending>,
}

/// Holds one conversation. The future may be dropped at any moment: what was set aside for a question on its way then
/// counts as spent.
pub(super) async fn hold(setting: Setting<'_>, part: &mut dyn Part) -> Said {
    let within = setting.rules.within;
    let mut talk = Talk::new(setting);
    let closed = match tokio::time::timeout(within, talk.run(part)).await {
        // A server's own words can be among the reasons.
        Ok(closed) => closed.map_err(|(why, words)| (why, masked(&words).text)),
        Err(_) => {
            talk.call_off();
            Err((Fallback::Unavailable, format!("it did not come to an end within {} ms", within.as_millis())))
        }
    };
    let end = match &closed {
        Ok(Closed::By(Ended::Submitted)) => "submitted a plan".to_owned(),
        Ok(Closed::By(Ended::Abstained(why))) => format!("abstained: {why}"),
        Ok(Closed::By(Ended::Advised(advice))) => format!("advised to {}", advice.action.word()),
        Ok(Closed::Words(_)) => "explained".to_owned(),
        Err((why, words)) => format!("{}: {words}", why.word()),
    };
    let (repairs, refusals) = (talk.repairs, talk.refusals);
    Said { closed, conversation: talk.record.close(&end), repairs, refusals }
}

impl<'a> Talk<'a> {
    fn new(setting: Setting<'a>) -> Self {
        let Rules { tool_calls_max, diff_bytes_max, .. } = setting.rules;
        Self {
            record: Record::new(setting.role, setting.model.name(), setting.prompt.clone()),
            calls: Calls::new(tool_calls_max),
            shown: Shown { lines: true, bytes_max: diff_bytes_max },
            turns: 0,
            repairs: 0,
            refusals: 0,
            was_cut: false,
            was_nudged: false,
            pending: None,
            setting,
        }
    }

    async fn run(&mut self, part: &mut dyn Part) -> Result<Closed, Failed> {
        self.open(part)?;
        loop {
            if let Some(closed) = self.turn(part).await? {
                return Ok(closed);
            }
        }
    }

    fn open(&mut self, part: &mut dyn Part) -> Result<(), Failed> {
        self.record.begin();
        self.calls.forget();
        for message in part.open(self.shown)? {
            self.say(message)?;
        }
        Ok(())
    }

    /// One question, its answer, and what the answer asks for.
    async fn turn(&mut self, part: &mut dyn Part) -> Result<Option<Closed>, Failed> {
        let turns_max = self.setting.rules.turns_max;
        if self.turns >= turns_max {
            return Err((Fallback::Malformed, format!("it did not come to an end within {turns_max} answers")));
        }
        self.turns += 1;
        let only_terminal = self.turns == turns_max || self.calls.is_used_up();
        let tools = part.toolbox().map(|toolbox| offers(toolbox, only_terminal)).unwrap_or_default();
        let must_call = !tools.is_empty() && (only_terminal || self.was_nudged);
        let Reply { message, finish, .. } = self.ask(&tools, must_call).await?;
        let Message::Assistant { text, refusal, .. } = &message else {
            return Err((Fallback::Malformed, "the answer is no message of a model's".into()));
        };
        let text = text.clone().filter(|text| !text.trim().is_empty());
        let refusal = refusal.clone().filter(|refusal| !refusal.trim().is_empty());
        let calls = self.hear(message)?;
        match (refusal, finish) {
            (Some(words), _) => self.was_refused(part, &format!("the model refused: {words}")),
            (None, Finish::ContentFilter) => self.was_refused(part, "the provider's filter stopped the answer"),
            (None, Finish::Length) => self.was_cut_off(part),
            (None, Finish::Stop | Finish::ToolCalls | Finish::Other(_)) => match part.toolbox() {
                Some(toolbox) if !calls.is_empty() => self.answer(toolbox, calls, only_terminal).await,
                Some(_) => self.nudge(),
                None if !calls.is_empty() => {
                    Err((Fallback::Malformed, "it called a tool, and none was on offer".into()))
                }
                None => match text {
                    Some(words) => Ok(Some(Closed::Words(words))),
                    None => Err((Fallback::Malformed, "the answer is empty".into())),
                },
            },
        }
    }

    /// Asks, within the budgets, and writes down how that went.
    async fn ask(&mut self, tools: &[Offer], must_call: bool) -> Result<Reply, Failed> {
        let Self { setting, record, pending, .. } = self;
        let said = record.said();
        let question = Question {
            messages: record.live(),
            tools,
            must_call,
            output_tokens_max: setting.rules.output_tokens_max,
            tries: &Tries::of(setting.model.attempts_max()),
            cache_key: setting.cache_key,
        };
        let most = Most::of(&question);
        let reserved = setting.run.reserve(most, question.tries.most());
        let mut reservation = reserved.map_err(|why| (Fallback::OverBudget, why.to_string()))?;
        let tries = reservation.tries();
        let question = Question { tries: &tries, ..question };
        *pending = Some(Pending { question: sha256(question.canonical()), said, most, tries: Arc::clone(&tries) });
        reservation.sent();
        let asked = setting.model.ask(question).await;
        let usage = reservation.settle(&asked);
        match pending.take() {
            Some(pending) => self.write_down(pending, asked, usage),
            None => Err((Fallback::Malformed, "a question was answered twice".into())),
        }
    }

    fn write_down(&mut self, pending: Pending, asked: Asked, usage: Usage) -> Result<Reply, Failed> {
        let Asked { reply, request, attempts, unanswered: _, millis } = asked;
        if let Ok(reply) = &reply {
            self.record.served_by(&reply.served_by);
        }
        self.record.exchanged(Exchange {
            request,
            question: pending.question,
            said: pending.said,
            finish: reply.as_ref().map(|reply| Text::new(reply.finish.word())).unwrap_or_default(),
            failure: reply.as_ref().err().map(|error| Text::new(error.to_string())),
            attempts,
            usage,
            millis,
        });
        reply.map_err(|error| (fallback_of(&error), error.to_string()))
    }

    /// Time is up while a question is on its way. What was set aside for it counts as spent: it has mostly been charged for.
    fn call_off(&mut self) {
        let Some(Pending { question, said, most: Most { input, output }, tries }) = self.pending.take() else { return };
        let each = Usage {
            input_tokens: input,
            cached_tokens: 0,
            output_tokens: output,
            micro_dollars: self.setting.price.map(|price| price.of(input, 0, output)),
        };
        let why = CallError::Unavailable(Text::new("time was up before it had answered"));
        self.record.exchanged(Exchange {
            request: question.clone(),
            question,
            said,
            finish: Text::default(),
            failure: Some(Text::new(why.to_string())),
            attempts: tries.charged(),
            usage: times(each, tries.charged()),
            millis: u64::try_from(self.setting.rules.within.as_millis()).unwrap_or(u64::MAX),
        });
    }

    /// A refusal: asked once more with the names of what changed only.
    fn was_refused(&mut self, part: &mut dyn Part, why: &str) -> Result<Option<Closed>, Failed> {
        self.refusals += 1;
        if !part.shows_change() || !self.shown.lines {
            return Err((Fallback::Refused, why.to_owned()));
        }
        self.shown.lines = false;
        self.open(part).map(|()| None)
    }

    /// An answer that was cut off: nothing of it is read; asked once more with half of the change.
    fn was_cut_off(&mut self, part: &mut dyn Part) -> Result<Option<Closed>, Failed> {
        if !part.shows_change() || self.was_cut {
            let words = format!("its answers do not fit into {} tokens", self.setting.rules.output_tokens_max);
            return Err((Fallback::Truncated, words));
        }
        self.was_cut = true;
        self.shown.bytes_max /= 2;
        self.open(part).map(|()| None)
    }

    /// Words where a call should be: told so once.
    fn nudge(&mut self) -> Result<Option<Closed>, Failed> {
        if self.was_nudged {
            return Err((Fallback::Malformed, "it answered in words instead of calling a tool, twice".into()));
        }
        self.repair("it answered in words instead of calling a tool")?;
        self.was_nudged = true;
        self.say(Message::User(NUDGE.into()))?;
        Ok(None)
    }

    /// Runs the calls of one answer. A closing call that comes with others is not run, nor are they: which of them was
    /// meant is not ours to guess.
    async fn answer(
        &mut self,
        toolbox: &mut dyn Toolbox,
        calls: Vec<ToolCall>,
        only_terminal: bool,
    ) -> Result<Option<Closed>, Failed> {
        if calls.len() > CALLS_EACH_MAX {
            return Err((Fallback::Malformed, format!("it made more than {CALLS_EACH_MAX} calls in one answer")));
        }
        let known = toolbox.offered(false);
        let is_closing = |call: &ToolCall| is_terminal(&known, &call.name);
        if calls.len() > 1 && calls.iter().any(is_closing) {
            for call in calls {
                self.told(call.id, &refused(Status::Error, NOT_ALONE))?;
            }
            return self.repair("it made a closing call together with others").map(|()| None);
        }
        let mut wrong = None;
        for call in calls {
            let is_known = known.iter().any(|tool| tool.name == call.name);
            // What does not exist is the toolbox's to name, on the last turn too.
            let outcome = match self.calls.leave(&call, is_closing(&call), only_terminal && is_known) {
                Leave::Run => toolbox.call(&call).await,
                Leave::Refuse(reason) => refused(Status::Denied, reason),
                Leave::End => {
                    let words = format!("it made a call of {} again after that was refused", call.name);
                    return Err((Fallback::Repeating, words));
                }
            };
            self.told(call.id, &outcome)?;
            if let Some(ended) = outcome.ended {
                return Ok(Some(Closed::By(ended)));
            }
            if outcome.is_malformed {
                wrong = Some(format!("its call of {} was wrong: {}", call.name, outcome.envelope.reason));
            }
        }
        match wrong {
            Some(why) => self.repair(&why).map(|()| None),
            None => Ok(None),
        }
    }

    fn told(&mut self, id: String, outcome: &Outcome) -> Result<(), Failed> {
        // The envelope holds words and JSON: there is nothing in it that cannot be written.
        let answer = serde_json::to_string(&outcome.envelope).unwrap_or_default();
        self.say(Message::Tool { id, answer })
    }

    /// Counts an answer that is given back; one too many ends the run.
    fn repair(&mut self, why: &str) -> Result<(), Failed> {
        if self.repairs >= self.setting.rules.repairs_max {
            return Err((Fallback::Malformed, format!("{why}, after {} repairs", self.repairs)));
        }
        self.repairs += 1;
        Ok(())
    }

    fn say(&mut self, message: Message) -> Result<(), Failed> {
        self.hear(message).map(drop)
    }

    fn hear(&mut self, message: Message) -> Result<Vec<ToolCall>, Failed> {
        self.record.say(message).map_err(|Full| {
            (Fallback::OverBudget, format!("the conversation would have grown past {RECORD_BYTES_MAX} bytes"))
        })
    }
}

/// What is on offer, with the words that are closed for this conversation only.
fn offers(toolbox: &dyn Toolbox, only_terminal: bool) -> Vec<Offer> {
    toolbox.offered(only_terminal).into_iter().map(|tool| Offer::new(tool, toolbox.schema(tool))).collect()
}

fn fallback_of(error: &CallError) -> Fallback {
    match error {
        CallError::Unavailable(_) => Fallback::Unavailable,
        CallError::Rejected(_) => Fallback::Rejected,
        CallError::Malformed(_) => Fallback::Malformed,
    }
}
