//! A plan as people read it in a terminal: who made it, every check with what came of trying it, what was refused, and
//! what was left out. Strangers' words and a model's are shown on one line and without control characters.

use std::fmt::Write;

use crate::{
    cli::client::shown,
    domain::{Aim, Check, Conversation, DiffLine, ServiceName, Text, Usage, WayBack},
    plan::{Admission, PastLevel, Power, Source, Standing, Tried},
    rollout::{ServicePolicy, foreseen},
};

/// What is told.
pub(super) struct Told<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) admission: &'a Admission,
    pub(super) conversation: Option<&'a Conversation>,
}

/// What each stage will be compared with, as far as it is known beforehand.
pub(super) fn compared(service: &ServicePolicy) -> String {
    let mut text = String::from("\nCompared, stage by stage, with:\n");
    for stage in &service.stages {
        let _ = writeln!(text, "  {:<10} {}", stage.exposure.to_string(), foreseen(stage, service.control));
    }
    text
}

pub(super) fn render(told: &Told<'_>) -> String {
    let Told { service, admission, conversation } = told;
    let mut text = String::new();
    let plan = &admission.plan;
    // Writing into a string cannot fail.
    let _ = writeln!(text, "Plan for {service}: {} checks, {} risk", plan.checks().len(), plan.risk());
    let _ = writeln!(text, "Planned {}\n", source(plan.source(), *conversation));
    for check in plan.checks() {
        write_check(&mut text, check, plan.tried());
    }
    match plan.way_back() {
        WayBack::Open => {
            let _ = writeln!(text, "\nIt can be rolled back.");
        }
        WayBack::OneWay { why, .. } => {
            let _ = writeln!(
                text,
                "\nOne-way: {}. It would be held and a person called, not rolled back.",
                shown(why.as_str())
            );
        }
    }
    for note in plan.notes() {
        let _ = writeln!(text, "Note: {}", shown(note.as_str()));
    }
    for tried in plan.tried().iter().filter(|tried| tried.standing == Standing::Rejected) {
        let _ = writeln!(text, "Rejected: {}: {}", shown(tried.check.as_str()), why(tried));
    }
    for rejection in &admission.rejections {
        let _ = writeln!(text, "Refused: {}: {}", shown(rejection.check.as_str()), shown(rejection.why.as_str()));
    }
    if !plan.uncovered().is_empty() {
        let files: Vec<String> = plan.uncovered().iter().map(|file| shown(file.as_str())).collect();
        let _ = writeln!(text, "Nobody looked at: {}", files.join(", "));
    }
    text
}

/// Who made the plan, and what that used.
fn source(source: &Source, conversation: Option<&Conversation>) -> String {
    let used = conversation.map_or(String::new(), |conversation| {
        let turns = conversation.exchanges.len();
        format!(", {turns} turn{}, {}", if turns == 1 { "" } else { "s" }, usage(&conversation.usage()))
    });
    match source {
        Source::Heuristic => format!("by rules{used}"),
        Source::Model { model, is_cached: true } => {
            format!("by {} for the same change before{used}", shown(model.as_str()))
        }
        Source::Model { model, is_cached: false } => format!("by {}{used}", shown(model.as_str())),
        Source::Fallback { why, detail } => {
            let why = why.word().replace('_', " ");
            format!("by rules, since the model was of no use ({why}): {}{used}", shown(detail.as_str()))
        }
    }
}

/// Tokens and money, as in `9,120 tokens (6,000 cached), $0.012`.
pub(in crate::cli) fn usage(usage: &Usage) -> String {
    let Usage { input_tokens, cached_tokens, output_tokens, micro_dollars } = *usage;
    let cached = if cached_tokens == 0 { String::new() } else { format!(" ({} cached)", grouped(cached_tokens)) };
    let cost = micro_dollars.map_or(String::new(), |micro| format!(", ${:.3}", micro as f64 / 1e6));
    format!("{} tokens{cached}{cost}", grouped(input_tokens.saturating_add(output_tokens)))
}

/// A number with its thousands told apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn write_check(text: &mut String, check: &Check, tried: &[Tried]) {
    let aim = match check.aim {
        Aim::Guard => "",
        Aim::Improvement => ", an intended effect",
    };
    let origin = format!("{:?}, {:?}", check.origin, check.weight).to_lowercase();
    let _ = writeln!(text, "  {} ({origin}{aim})", shown(check.name.as_str()));
    let mut line = |name: &str, words: String| {
        let _ = writeln!(text, "      {name:<10} {words}");
    };
    line("measures", shown(check.sli.to_string()));
    match check.aim {
        Aim::Guard => line("tolerates", format!("{} times the old version's", check.ratio_max)),
        Aim::Improvement => line("is seen", format!("once the old version is {} times worse", check.ratio_max)),
    }
    if let Some(limit) = check.limit {
        line("hard limit", format!("{}% bad", limit.bad_share_max * 100.0));
    }
    line("because", shown(check.rationale.as_str()));
    if !check.lines.is_empty() {
        line("rests on", shown(check.lines.iter().map(DiffLine::to_string).collect::<Vec<_>>().join(", ")));
    }
    if let Some(tried) = tried.iter().find(|tried| tried.check == check.name) {
        line("tried", format!("{}: {}", standing(tried.standing), why(tried)));
        if let Some(before) = &tried.baseline {
            line("before", baseline(before));
        }
        if tried.trial.rollouts > 0 {
            let (alarms, rollouts) = (tried.trial.alarms, tried.trial.rollouts);
            line("on noise", format!("{alarms} false alarms in {rollouts} rollouts of nothing"));
        }
        if !tried.power.is_empty() {
            line("sees", power(&tried.power));
        }
    }
}

const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Admitted => "admitted",
        Standing::Demoted => "advises only",
        Standing::Rejected => "rejected",
    }
}

fn why(tried: &Tried) -> String {
    let word = tried.reason.word().replace('_', " ");
    if tried.detail == Text::default() { word } else { format!("{word}: {}", shown(tried.detail.as_str())) }
}

fn baseline(before: &PastLevel) -> String {
    let hours = before.seconds as f64 / 3_600.0;
    let empty = if before.empty > 0.0 { format!(", {:.0}% of it empty", before.empty * 100.0) } else { String::new() };
    format!("{} of {:.2} in a second, over {hours:.1} h{empty}", significant(before.rate), before.per_second)
}

fn power(power: &[Power]) -> String {
    let seen = |stage: &Power| {
        let smallest = stage.smallest.map_or_else(|| "nothing".into(), |ratio| format!("{ratio:.1}x"));
        format!("{smallest} at {}", stage.share)
    };
    power.iter().map(seen).collect::<Vec<_>>().join(", ")
}

/// A number to three digits.
fn significant(number: f64) -> f64 {
    format!("{number:.2e}").parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_money_are_told_shortly() {
        let used = Usage { input_tokens: 9_000, cached_tokens: 6_000, output_tokens: 120, micro_dollars: Some(12_345) };
        assert_eq!(usage(&used), "9,120 tokens (6,000 cached), $0.012");
        let unpriced = Usage { cached_tokens: 0, micro_dollars: None, ..used };
        assert_eq!(usage(&unpriced), "9,120 tokens");
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn who_planned_is_told_whatever_came_of_it() {
        let model = |is_cached| Source::Model { model: Text::new("m"), is_cached };
        let failed = Source::Fallback { why: crate::plan::Fallback::OverBudget, detail: Text::new("day_tokens_max") };
        let told = [Source::Heuristic, model(false), model(true), failed].map(|of| source(&of, None));
        let expected = [
            "by rules",
            "by m",
            "by m for the same change before",
            "by rules, since the model was of no use (over budget): day_tokens_max",
        ];
        assert_eq!(told, expected);
    }
}
