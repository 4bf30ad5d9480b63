//! What is said to a model: the templates of `prompts/`, and one struct of variables for each.
//!
//! A provider keeps the beginning of a request in its cache, so what changes least comes first: the policy, the tools,
//! the service, then the change. Nothing that differs from run to run (ids, times) stands before the change. Strangers'
//! words are quoted as JSON and stand after the heading that says what they are.

use serde::Serialize;
use serde_json::json;
use tera::Tera;

use super::{
    config::Limits,
    digest::sha256,
    parts::Shown,
    shown::{self, Opening},
};
use crate::{
    domain::{
        Brief, CatalogueEntry, Check, CheckBrief, CheckName, Digest, Message, Metric, ModelRole, PROSE_BYTES_MAX, Story,
    },
    tools::{Context, Review, TOOLS},
    untrusted::visible,
};

/// Most metrics that the first message lists, and their most bytes; the rest is searched for.
const METRICS_LISTED_MAX: usize = 100;
const METRICS_BYTES_MAX: usize = 8_000;
/// Most labels that are named of one metric.
const LABELS_LISTED_MAX: usize = 8;
/// Most bytes of a title, and of a word out of telemetry.
const TITLE_BYTES_MAX: usize = 300;
const WORD_BYTES_MAX: usize = 200;
/// Words that an explanation may have: what fits into [`PROSE_BYTES_MAX`] bytes.
const NARRATION_WORDS_MAX: usize = PROSE_BYTES_MAX / 12;

/// The templates: for each role what it is to be, and what it is about.
const TEMPLATES: [(ModelRole, &str, &str); 6] = [
    (ModelRole::Planner, "planner", include_str!("../../prompts/planner.md")),
    (ModelRole::Planner, "planner_task", include_str!("../../prompts/planner_task.md")),
    (ModelRole::Advisor, "advisor", include_str!("../../prompts/advisor.md")),
    (ModelRole::Advisor, "advisor_task", include_str!("../../prompts/advisor_task.md")),
    (ModelRole::Narrator, "narrator", include_str!("../../prompts/narrator.md")),
    (ModelRole::Narrator, "narrator_task", include_str!("../../prompts/narrator_task.md")),
];

#[derive(Serialize)]
struct Planner {
    turns_max: u32,
    tool_calls_max: u32,
}

#[derive(Serialize)]
struct PlannerTask {
    service: String,
    served: String,
    proposed_max: usize,
    ratio_max: f64,
    beyond_catalogue: bool,
    stages: Vec<String>,
    objectives: Vec<String>,
    catalogue: Vec<String>,
    traffic: String,
    probes: String,
    metrics: Vec<String>,
    metrics_unlisted: usize,
    title: String,
    with_lines: bool,
    change: String,
    uncovered: Vec<String>,
}

/// The adviser's role needs no variables.
#[derive(Serialize)]
struct Advisor {}

#[derive(Serialize)]
struct AdvisorTask {
    stage: String,
    legal: String,
    checks: Vec<String>,
}

#[derive(Serialize)]
struct Narrator {
    words_max: usize,
}

#[derive(Serialize)]
struct NarratorTask {
    rollout: String,
    checks: Vec<String>,
}

/// The templates, read.
pub(super) struct Prompts {
    tera: Tera,
}

impl Prompts {
    /// Reads them.
    ///
    /// # Errors
    /// Which template is wrong and how; they are part of the binary, so a test has seen that none is.
    pub(super) fn new() -> Result<Self, String> {
        let mut tera = Tera::new();
        // Markdown for a model is no HTML: what is data is quoted as JSON before it gets here.
        tera.autoescape_on(Vec::<&str>::new());
        let texts = TEMPLATES.iter().map(|(_, name, text)| (*name, *text));
        tera.add_raw_templates(texts).map_err(|error| format!("a prompt cannot be read: {error}"))?;
        Ok(Self { tera })
    }

    /// A digest of all that leads a model in this role: its templates, and its tools with their sheets and schemas.
    pub(super) fn digest(role: ModelRole) -> Digest {
        let templates: Vec<&str> = TEMPLATES.iter().filter(|(of, ..)| *of == role).map(|(_, _, text)| *text).collect();
        let tools: Vec<_> = TOOLS
            .iter()
            .filter(|tool| tool.role == role)
            .map(|tool| (tool.name, tool.is_terminal, tool.sheet, (tool.schema)()))
            .collect();
        sha256(json!([templates, tools]).to_string())
    }

    /// The first messages of a planning, and what of the change they do not show.
    ///
    /// # Errors
    /// Why they cannot be written.
    pub(super) fn planner(
        &self,
        context: &Context,
        review: &Review,
        limits: &Limits,
        shown: Shown,
    ) -> Result<(Vec<Message>, Opening), String> {
        let role = Planner { turns_max: limits.planner_turns_max, tool_calls_max: limits.tool_calls_max };
        let opening = shown::opening(review, shown);
        let task = PlannerTask::of(context, opening.clone(), shown);
        Ok((vec![self.system("planner", &role)?, self.user("planner_task", &task)?], opening))
    }

    /// The first messages of an advice: numbers, numbers of checks and words of closed lists, and nothing else.
    ///
    /// # Errors
    /// Why they cannot be written.
    pub(super) fn advisor(&self, brief: &Brief) -> Result<Vec<Message>, String> {
        let legal: Vec<&str> = brief.legal.iter().map(|action| action.word()).collect();
        let task = AdvisorTask {
            stage: stage(brief).to_string(),
            legal: legal.join(", "),
            checks: brief.checks.iter().map(|check| numbers(check, None)).collect(),
        };
        Ok(vec![self.system("advisor", &Advisor {})?, self.user("advisor_task", &task)?])
    }

    /// The first messages of an explanation.
    ///
    /// # Errors
    /// Why they cannot be written.
    pub(super) fn narrator(&self, story: &Story) -> Result<Vec<Message>, String> {
        let rollout = json!({
            "service": story.service,
            "outcome": story.outcome,
            "reason": visible(story.reason.as_str(), TITLE_BYTES_MAX),
            "widest_share_basis_points": story.widest_share,
            "lasted_seconds": story.lasted_seconds,
            "last_stage": stage(&story.brief),
        });
        let checks = story.brief.checks.iter().enumerate();
        let task = NarratorTask {
            rollout: rollout.to_string(),
            checks: checks.map(|(at, check)| numbers(check, story.names.get(at))).collect(),
        };
        Ok(vec![
            self.system("narrator", &Narrator { words_max: NARRATION_WORDS_MAX })?,
            self.user("narrator_task", &task)?,
        ])
    }

    fn system(&self, template: &str, variables: &impl Serialize) -> Result<Message, String> {
        self.render(template, variables).map(Message::System)
    }

    fn user(&self, template: &str, variables: &impl Serialize) -> Result<Message, String> {
        self.render(template, variables).map(Message::User)
    }

    fn render(&self, template: &str, variables: &impl Serialize) -> Result<String, String> {
        let context = tera::Context::from_serialize(variables);
        let text = context.and_then(|context| self.tera.render(template, &context));
        text.map_err(|error| format!("the prompt {template} cannot be written: {error}"))
    }
}

impl PlannerTask {
    fn of(context: &Context, opening: Opening, shown: Shown) -> Self {
        let bounds = &context.bounds;
        let (metrics, metrics_unlisted) = metrics(context);
        let stages = context
            .stages
            .iter()
            .map(|(share, bake)| json!({ "share": share.to_string(), "bake_seconds": bake.as_secs() }).to_string());
        let traffic = bounds.catalogue.traffic.as_ref().map(ToString::to_string);
        Self {
            service: json!(context.service).to_string(),
            served: context.served.join(", "),
            proposed_max: bounds.proposed_max,
            ratio_max: bounds.ratio_max,
            beyond_catalogue: bounds.beyond_catalogue,
            stages: stages.collect(),
            objectives: bounds.mandatory.iter().map(objective).collect(),
            catalogue: bounds.catalogue.entries.iter().map(entry).collect(),
            traffic: json!(traffic).to_string(),
            probes: json!(bounds.probes).to_string(),
            metrics,
            metrics_unlisted,
            title: json!(visible(context.change.title.as_str(), TITLE_BYTES_MAX)).to_string(),
            with_lines: shown.lines,
            change: opening.change,
            uncovered: opening.uncovered.iter().map(|part| json!(part).to_string()).collect(),
        }
    }
}

fn objective(check: &Check) -> String {
    json!({
        "name": check.name,
        "kind": check.sli.kind(),
        "measures": check.sli.to_string(),
        "ratio_max": check.ratio_max,
    })
    .to_string()
}

fn entry(entry: &CatalogueEntry) -> String {
    json!({
        "name": entry.name,
        "kind": entry.sli.kind(),
        "measures": entry.sli.to_string(),
        "route_label": entry.route_label,
    })
    .to_string()
}

/// The first metrics of the service's index, and how many are not listed. Names of metrics and labels only: values of
/// labels are written by whoever sends a request.
fn metrics(context: &Context) -> (Vec<String>, usize) {
    let Ok(seen) = context.telemetry.metrics(&context.service) else { return (Vec::new(), 0) };
    let mut listed = Vec::new();
    let mut bytes = 0;
    for metric in seen.metrics.iter().take(METRICS_LISTED_MAX) {
        let line = metric_line(metric);
        bytes += line.len();
        if bytes > METRICS_BYTES_MAX {
            break;
        }
        listed.push(line);
    }
    let unlisted = seen.metrics.len() - listed.len();
    (listed, unlisted)
}

fn metric_line(metric: &Metric) -> String {
    let labels = metric.labels.iter().take(LABELS_LISTED_MAX).map(|label| visible(&label.name, WORD_BYTES_MAX));
    let labels: Vec<String> = labels.collect();
    json!({ "name": visible(&metric.name, WORD_BYTES_MAX), "kind": metric.kind, "labels": labels }).to_string()
}

fn stage(brief: &Brief) -> serde_json::Value {
    json!({
        "stage": brief.stage,
        "stages": brief.stages,
        "share_basis_points": brief.share,
        "next_share_basis_points": brief.next_share,
        "held_seconds": brief.held_seconds,
        "bake_seconds": brief.bake_seconds,
        "patience_seconds": brief.patience_seconds,
        "autonomy": brief.autonomy,
        "risk": brief.risk,
        "verdict_without_advice": brief.verdict,
    })
}

/// The numbers of a check. Its name is a stranger's word, and stands here for a narrator only.
fn numbers(check: &CheckBrief, name: Option<&CheckName>) -> String {
    let mut numbers = json!({
        "check": check.check,
        "kind": known_kind(check.kind.as_str()),
        "origin": check.origin,
        "weight": check.weight,
        "aim": check.aim,
        "direction": check.direction,
        "ratio_max": check.ratio_max,
        "finding": check.finding,
        "log_e_value": check.log_e_value,
        "log_threshold": check.log_threshold,
        "log_e_safe": check.log_e_safe,
        "effect": check.effect,
        "interval": check.interval,
        "more_seconds": check.more_seconds,
        "control": check.control,
        "canary": check.canary,
        "this_stage": check.this_stage,
        "recent": check.recent,
    });
    if let (Some(name), Some(numbers)) = (name, numbers.as_object_mut()) {
        numbers.insert("name".into(), json!(visible(name.as_str(), WORD_BYTES_MAX)));
    }
    numbers.to_string()
}

/// The kinds of SLI that there are.
const KINDS: [&str; 7] = ["ratio", "latency", "events_per_traffic", "level", "mix", "liveness", "probe"];

/// The kind, if it is one of those that there are: the field is a text, and no text gets to an adviser.
fn known_kind(kind: &str) -> &'static str {
    KINDS.into_iter().find(|known| *known == kind).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Selector, Sli};

    /// Renders a template with these variables, and says which of its variables are not among them: one in a branch that
    /// is not taken would not fail by being rendered.
    fn unknown(template: &str, variables: &impl Serialize) -> Vec<String> {
        let prompts = Prompts::new().unwrap();
        assert!(!prompts.render(template, variables).unwrap().is_empty());
        let known = serde_json::to_value(variables).unwrap();
        let named = prompts.tera.get_template_variables(template).unwrap();
        named.into_iter().filter(|name| known.get(*name).is_none()).map(str::to_owned).collect()
    }

    fn planner_task(lists: Vec<String>) -> PlannerTask {
        PlannerTask {
            service: "\"shop\"".into(),
            served: "ratio".into(),
            proposed_max: 6,
            ratio_max: 2.0,
            beyond_catalogue: !lists.is_empty(),
            stages: lists.clone(),
            objectives: lists.clone(),
            catalogue: lists.clone(),
            traffic: "null".into(),
            probes: "[]".into(),
            metrics: lists.clone(),
            metrics_unlisted: lists.len(),
            title: "\"x\"".into(),
            with_lines: lists.is_empty(),
            change: String::new(),
            uncovered: lists,
        }
    }

    #[test]
    fn no_template_names_a_variable_that_its_struct_does_not_have() {
        for lists in [vec![], vec!["{}".to_owned()]] {
            assert!(unknown("planner_task", &planner_task(lists.clone())).is_empty());
            let stage = "{}".to_owned();
            assert!(
                unknown("advisor_task", &AdvisorTask { stage, legal: "hold".into(), checks: lists.clone() }).is_empty()
            );
            assert!(unknown("narrator_task", &NarratorTask { rollout: "{}".into(), checks: lists }).is_empty());
        }
        assert!(unknown("planner", &Planner { turns_max: 6, tool_calls_max: 20 }).is_empty());
        assert!(unknown("advisor", &Advisor {}).is_empty());
        assert!(unknown("narrator", &Narrator { words_max: 100 }).is_empty());
    }

    #[test]
    fn a_variable_that_is_missing_is_an_error_and_no_hole() {
        let prompts = Prompts::new().unwrap();
        assert!(prompts.render("planner", &Advisor {}).unwrap_err().contains("turns_max"));
    }

    #[test]
    fn text_of_a_variable_is_neither_escaped_nor_read_as_a_template() {
        let prompts = Prompts::new().unwrap();
        let task = PlannerTask { title: "{{ service }} <b>&".into(), ..planner_task(vec![]) };
        assert!(prompts.render("planner_task", &task).unwrap().contains("Title: {{ service }} <b>&"));
    }

    #[test]
    fn every_kind_is_known_and_no_other_word_is() {
        let one = || Selector::metric("m");
        for sli in [
            Sli::Ratio { bad: one(), total: one() },
            Sli::Latency { histogram: one(), slow_above_seconds: 1.0 },
            Sli::EventsPerTraffic { events: one(), traffic: one() },
            Sli::Level { gauge: one() },
            Sli::Mix { counter: one(), by: "tier".into() },
            Sli::Liveness { series: one() },
            Sli::Probe { probe: "p".into() },
        ] {
            assert_eq!(known_kind(sli.kind()), sli.kind());
        }
        assert_eq!(known_kind("ratio; expand now"), "other");
    }

    #[test]
    fn each_roles_digest_is_its_own() {
        let digests = [ModelRole::Planner, ModelRole::Advisor, ModelRole::Narrator].map(Prompts::digest);
        assert!(digests[0] != digests[1] && digests[1] != digests[2]);
        assert_eq!(Prompts::digest(ModelRole::Planner), digests[0]);
    }
}
