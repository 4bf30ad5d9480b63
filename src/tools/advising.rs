//! What an adviser has at hand: the numbers of one stage, and a form for its recommendation.
//!
//! All of it is from the brief, which holds no word from outside, and nothing here adds one. What may be recommended is the
//! brief's list and nothing else, whatever the model writes; a check that is not in the brief cannot be cited.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Ended, Outcome, TOOLS, Tool, Toolbox,
    known::Nothing,
    reply::{self, arguments, fitting, round, said, text},
};
use crate::domain::{Action, Advice, Brief, CheckBrief, CheckId, Confidence, Counts, ModelRole, ToolCall};

/// Most checks that one recommendation cites.
pub(super) const CITES_MAX: usize = 32;
/// Most bytes that are kept of a rationale.
pub(super) const RATIONALE_BYTES_MAX: usize = 400;

/// What an adviser has at hand.
pub struct Advising {
    brief: Arc<Brief>,
    is_over: bool,
}

/// Which check to compare.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Compare {
    /// The check's number in the brief.
    check: u16,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ActionWord {
    Expand,
    Hold,
    RollBack,
    AskPerson,
}

impl From<ActionWord> for Action {
    fn from(word: ActionWord) -> Self {
        match word {
            ActionWord::Expand => Self::Expand,
            ActionWord::Hold => Self::Hold,
            ActionWord::RollBack => Self::RollBack,
            ActionWord::AskPerson => Self::AskPerson,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Sureness {
    Low,
    Medium,
    High,
}

impl From<Sureness> for Confidence {
    fn from(sureness: Sureness) -> Self {
        match sureness {
            Sureness::Low => Self::Low,
            Sureness::Medium => Self::Medium,
            Sureness::High => Self::High,
        }
    }
}

/// A recommendation.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Recommend {
    /// What to do; one of the actions that are legal now.
    action: ActionWord,
    /// The numbers of the checks whose evidence it rests on, at least one, each of them in the brief.
    checks: Vec<u16>,
    /// How sure you are.
    confidence: Sureness,
    /// Why, for people, at most 400 characters.
    rationale: String,
}

impl Advising {
    /// For one stage.
    pub fn new(brief: Arc<Brief>) -> Self {
        Self { brief, is_over: false }
    }

    fn run(&mut self, call: &ToolCall) -> Result<Outcome, Box<Outcome>> {
        let offered = self.offered(false);
        let Some(tool) = offered.iter().find(|tool| tool.name == call.name) else {
            let names: Vec<&str> = offered.iter().map(|tool| tool.name).collect();
            let detail = format!("there is no tool {}; there is {}", said(&call.name), names.join(", "));
            return Err(Box::new(reply::malformed("unknown_tool", &detail)));
        };
        if self.is_over {
            return Ok(reply::denied("over", "a recommendation was given: nothing more can be done"));
        }
        let schema = self.schema(tool);
        match tool.name {
            "get_stage_evidence" => {
                arguments::<Nothing>(&schema, &call.arguments)?;
                Ok(self.evidence())
            }
            "compare_windows" => Ok(self.compare(&arguments(&schema, &call.arguments)?)),
            "recommend" => Ok(self.recommend(arguments(&schema, &call.arguments)?)),
            _ => Ok(reply::denied("unknown_tool", "this tool does nothing")),
        }
    }

    fn evidence(&self) -> Outcome {
        let mut stage = serde_json::to_value(&*self.brief).unwrap_or_default();
        if let Some(stage) = stage.as_object_mut() {
            stage.remove("checks");
        }
        let (checks, is_cut) = fitting(self.brief.checks.iter().map(evidence_of), reply::ANSWER_BYTES_MAX - 1_024);
        let data = json!({ "stage": stage, "checks": checks });
        if is_cut { reply::truncated("more_checks", data) } else { reply::ok(data) }
    }

    fn find(&self, number: u16) -> Option<&CheckBrief> {
        self.brief.checks.iter().find(|check| check.check == CheckId(number))
    }

    fn numbers(&self) -> String {
        let numbers: Vec<String> = self.brief.checks.iter().take(CITES_MAX).map(|c| c.check.0.to_string()).collect();
        numbers.join(", ")
    }

    fn compare(&self, asked: &Compare) -> Outcome {
        let Some(check) = self.find(asked.check) else {
            let detail = format!("check: there is no check {}; there is {}", asked.check, self.numbers());
            return reply::denied("unknown", &detail);
        };
        let ratio = |counts: Counts| {
            let (canary, control) = (counts.rate()?, check.control.rate()?);
            if control > 0.0 { round(canary / control) } else { None }
        };
        let window = |counts: Counts| {
            json!({
                "bad": counts.bad, "total": counts.total, "rate": counts.rate().and_then(round),
                "ratio_to_control": ratio(counts),
            })
        };
        reply::ok(json!({
            "check": asked.check,
            "canary_recent": window(check.recent),
            "canary_this_stage": window(check.this_stage),
            "canary_whole": window(check.canary),
            "control_whole": window(check.control),
        }))
    }

    fn recommend(&mut self, asked: Recommend) -> Outcome {
        let action = Action::from(asked.action);
        if !self.brief.legal.contains(&action) {
            let legal: Vec<&str> = self.brief.legal.iter().map(|action| action.word()).collect();
            let detail = format!("action: {} is not legal now; legal is {}", action.word(), legal.join(", "));
            return reply::denied("not_legal", &detail);
        }
        if asked.checks.is_empty() || asked.checks.len() > CITES_MAX {
            let detail = format!("checks: 1 to {CITES_MAX} numbers of checks; there is {}", self.numbers());
            return reply::denied("out_of_bounds", &detail);
        }
        let mut cites: Vec<CheckId> = Vec::new();
        for number in asked.checks {
            if self.find(number).is_none() {
                let detail = format!("checks: there is no check {number}; there is {}", self.numbers());
                return reply::denied("unknown", &detail);
            }
            if !cites.contains(&CheckId(number)) {
                cites.push(CheckId(number));
            }
        }
        let rationale = text(&asked.rationale, RATIONALE_BYTES_MAX);
        self.is_over = true;
        let advice = Advice { action, cites, confidence: asked.confidence.into(), rationale };
        Outcome { ended: Some(Ended::Advised(advice)), ..reply::ok(json!({})) }
    }
}

/// One check's evidence, with numbers of four digits.
fn evidence_of(check: &CheckBrief) -> Value {
    json!({
        "check": check.check.0,
        "kind": check.kind,
        "origin": check.origin,
        "weight": check.weight,
        "aim": check.aim,
        "worse": super::proposal::worse(check.direction),
        "largest_ratio": round(check.ratio_max),
        "finding": check.finding,
        "log_e_value": round(check.log_e_value),
        "log_threshold": round(check.log_threshold),
        "log_e_safe": round(check.log_e_safe),
        "effect": check.effect.and_then(round),
        "interval": check.interval.map(|interval| [round(interval.low), round(interval.high)]),
        "more_seconds": check.more_seconds.and_then(round),
        "control": check.control,
        "canary": check.canary,
    })
}

impl Toolbox for Advising {
    fn offered(&self, only_terminal: bool) -> Vec<&'static Tool> {
        TOOLS.iter().filter(|tool| tool.role == ModelRole::Advisor && (tool.is_terminal || !only_terminal)).collect()
    }

    fn schema(&self, tool: &Tool) -> Value {
        let mut schema = (tool.schema)();
        if tool.name == "recommend"
            && let Some(action) = schema.pointer_mut("/properties/action").and_then(Value::as_object_mut)
        {
            let legal: Vec<&str> = self.brief.legal.iter().map(|action| action.word()).collect();
            action.insert("enum".into(), json!(legal));
        }
        schema
    }

    fn call<'a>(&'a mut self, call: &'a ToolCall) -> BoxFuture<'a, Outcome> {
        let outcome = self.run(call).unwrap_or_else(|outcome| *outcome);
        std::future::ready(outcome).boxed()
    }
}
