//! `tollgate status`: how the rollouts stand, as a table or one in detail. It computes nothing that the view does not
//! say, and takes the server's clock for "now", so that a wrong clock here moves no countdown.

use std::{fmt::Write, process::ExitCode, time::Duration};

use serde::Serialize;

use crate::{
    cli::client::{Client, Connection, say, shown, word},
    cli::plan::usage,
    domain::{Counts, Evidence, RolloutId, Share, Shares, Text, Timestamp, Upcoming, Usage},
    plan::Source,
    rollout::{CheckView, FleetView, RolloutView, Sight, TrialView},
};

/// Most characters of a title in the table.
const TITLE_CHARS_MAX: usize = 44;
/// Most characters of what comes next in the table.
const NEXT_CHARS_MAX: usize = 48;

/// How the rollouts stand.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Show this one in detail, as in r17.
    pub rollout: Option<RolloutId>,
    /// Print the API's own JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the tollgate is.
    #[command(flatten)]
    pub connection: Connection,
}

/// Prints how the rollouts stand. Fails when nothing answers, or the rollout is unknown.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connection)?;
    let text = match args.rollout {
        None => {
            let answer = client.fleet().await?;
            let now = answer.at.unwrap_or(answer.body.at);
            if args.json { pretty(&answer.body)? } else { table(&answer.body, now) }
        }
        Some(id) => {
            let answer = client.rollout(id).await?;
            let now = answer.at.unwrap_or(answer.body.opened);
            if args.json { pretty(&answer.body)? } else { detail(&answer.body, now) }
        }
    };
    say(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// JSON escapes control characters, so it may go to a terminal as it is.
fn pretty(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}

/// Every rollout on a line.
fn table(fleet: &FleetView, now: Timestamp) -> String {
    let mut out = String::new();
    if fleet.kill_switch {
        out.push_str("KILL SWITCH ON: no rollout expands; `tollgate kill-switch off` allows it again\n\n");
    }
    if fleet.rollouts.is_empty() {
        out.push_str("no rollouts yet: the next merged pull request that touches a service starts one\n");
        return out;
    }
    let mut rows = vec![["ROLLOUT", "SERVICE", "STATE", "EXPOSURE", "CHANGE", "TITLE", "NEXT"].map(str::to_owned)];
    rows.extend(fleet.rollouts.iter().map(|rollout| {
        [
            rollout.id.to_string(),
            shown(rollout.service.as_str()),
            state(rollout),
            shown(&rollout.exposure),
            shown(format!("{}#{}", rollout.repository, rollout.pull_request)),
            cut(&shown(&rollout.title), TITLE_CHARS_MAX),
            rollout.next.as_ref().map_or_else(String::new, |next| cut(&upcoming(next, now), NEXT_CHARS_MAX)),
        ]
    }));
    aligned(&rows, &mut out);
    out
}

/// Rows with their columns as wide as the widest cell.
fn aligned<const N: usize>(rows: &[[String; N]], out: &mut String) {
    let widths: Vec<usize> =
        (0..N).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// The outcome where there is one, otherwise the phase.
pub(super) fn state(rollout: &RolloutView) -> String {
    match rollout.outcome {
        Some(outcome) => outcome.to_string(),
        None if rollout.paused => format!("{} (paused)", shown(&rollout.phase).replace('_', " ")),
        None => shown(&rollout.phase).replace('_', " "),
    }
}

fn cut(words: &str, chars_max: usize) -> String {
    if words.chars().count() <= chars_max {
        return words.to_owned();
    }
    words.chars().take(chars_max - 1).chain(['…']).collect()
}

/// What comes next, and in how long.
pub(super) fn upcoming(next: &Upcoming, now: Timestamp) -> String {
    let what = next.what.as_str();
    if next.at <= now { format!("{what}, any moment now") } else { format!("{what}, in {}", span(next.at.since(now))) }
}

/// A span by its two largest units.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// One rollout with all that is known of it.
fn detail(rollout: &RolloutView, now: Timestamp) -> String {
    let mut out = String::new();
    heading(rollout, now, &mut out);
    section(
        "objections of the rails",
        &mut out,
        rollout.objections.iter().map(|objection| {
            let page = if objection.page { " (a person is called)" } else { "" };
            format!("{}: at most {}: {}{page}", shown(&objection.rail), objection.at_most, objection.why)
        }),
    );
    section(
        "stages",
        &mut out,
        rollout.stages.iter().enumerate().map(|(place, stage)| {
            let mark = match stage.entered {
                _ if rollout.stage == Some(place) => '>',
                Some(_) => '*',
                None => ' ',
            };
            let bake = span(Duration::from_millis(stage.bake_time_ms));
            let entered = stage.entered.map_or_else(String::new, |at| format!("  entered {}", clock(at)));
            format!("{mark} {:<8} bake {bake}{entered}", shown(&stage.exposure))
        }),
    );
    section("checks", &mut out, rollout.checks.iter().map(check));
    section("tried and rejected", &mut out, rollout.rejected_trials.iter().map(rejected));
    section(
        "proposed and refused",
        &mut out,
        rollout.rejections.iter().map(|(name, why)| format!("{}: {}", shown(name), shown(why))),
    );
    section("notes", &mut out, rollout.notes.iter().map(shown));
    section("files that nobody looked at", &mut out, rollout.uncovered.iter().map(shown));
    if let Some(explanation) = &rollout.explanation {
        let title = format!("in the words of {}, which decided nothing and may be wrong", named(&explanation.model));
        section(&title, &mut out, explanation.words.as_str().lines().filter(|line| !line.trim().is_empty()).map(shown));
    }
    section(
        "timeline",
        &mut out,
        rollout.timeline.iter().map(|moment| format!("{}  {}", clock(moment.at), shown(&moment.text))),
    );
    out
}

fn heading(rollout: &RolloutView, now: Timestamp, out: &mut String) {
    let (id, service) = (rollout.id, shown(rollout.service.as_str()));
    let change = shown(format!("{}#{}", rollout.repository, rollout.pull_request));
    out.push_str(&format!("{id}  {service}  {change}  {}\n", state(rollout)));
    out.push_str(&format!("  {}\n\n", shown(&rollout.title)));
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        writeln!(out, "  {name:<10}{value}").ok();
    };
    line("author", shown(&rollout.author));
    let control = rollout.control_revision.as_deref().map_or("an unknown revision".into(), short);
    line("revision", format!("{} against {control}", short(&rollout.revision)));
    line("exposure", shown(&rollout.exposure));
    if let Some(source) = &rollout.source {
        line("planned", planned(source, rollout.usage.as_ref()));
    }
    if let Some(risk) = rollout.risk {
        line("risk", risk.to_string());
    }
    if let Some(until) = rollout.held_by_advice_until.filter(|until| *until > now) {
        line("held", format!("by a model's advice until {}, unless the evidence decides before", clock(until)));
    }
    if let Some(until) = rollout.warming_up_until.filter(|until| *until > now) {
        let Counts { bad, total } = rollout.cold;
        let told = format!("until {}; {bad} bad of {total} requests are not held against it", clock(until));
        line("warming", told);
    }
    if let Some(Shares { set, seen }) = rollout.shares_off {
        let (set, seen) = (set * 100.0, seen * 100.0);
        line("split", format!("OFF: the canary gets {seen:.1}% of the requests where {set:.1}% was set"));
    }
    if let Some(heavy) = &rollout.concentration {
        line("traffic", shown(heavy.to_string()));
    }
    if let Some(autonomy) = &rollout.autonomy {
        line("autonomy", word(autonomy));
    }
    line("opened", clock(rollout.opened));
    if let Some(ended) = rollout.ended {
        line("ended", format!("{}, after {}", clock(ended), span(ended.since(rollout.opened))));
    }
    if let Some(verdict) = rollout.verdict {
        line("verdict", verdict.to_string());
    }
    if let Some(next) = &rollout.next {
        line("next", upcoming(next, now));
    }
    if let Some(why) = &rollout.one_way {
        line("one way", shown(why));
    }
}

/// Who made the plan, and what models have used for the rollout.
fn planned(source: &Source, used: Option<&Usage>) -> String {
    let used = used.map_or(String::new(), |used| format!("; the model used {}", usage(used)));
    match source {
        Source::Heuristic => format!("by rules{used}"),
        Source::Model { model, is_cached } => {
            let before = if *is_cached { ", for the same change before" } else { "" };
            format!("by {}{before}{used}", shown(model.as_str()))
        }
        Source::Fallback { why, detail } => {
            let why = why.word().replace('_', " ");
            format!("by rules, since the model was of no use ({why}): {}{used}", shown(detail.as_str()))
        }
    }
}

fn named(model: &Text) -> String {
    if *model == Text::default() { "a model".into() } else { shown(model.as_str()) }
}

/// A check that did not come into the plan.
fn rejected(trial: &TrialView) -> String {
    format!("{}: {}", shown(&trial.check), tried(trial))
}

/// What came of trying a check on the service's past.
fn tried(trial: &TrialView) -> String {
    let mut out = format!("{}, {}", word(&trial.standing), trial.reason.replace('_', " "));
    if !trial.detail.is_empty() {
        out.push_str(&format!(": {}", shown(&trial.detail)));
    }
    if let Some(before) = &trial.baseline {
        let span = span(Duration::from_secs(before.seconds));
        out.push_str(&format!("; before: {} of {:.2} in a second over {span}", rate(before.rate), before.per_second));
    }
    if trial.rollouts > 0 {
        out.push_str(&format!("; {} false alarms in {} rollouts of nothing", trial.alarms, trial.rollouts));
    }
    let sees: Vec<String> =
        trial.power.iter().filter_map(|stage| Some(format!("{:.1}x at {}", stage.smallest?, stage.share))).collect();
    if !trial.power.is_empty() {
        out.push_str(&format!("; sees {}", if sees.is_empty() { "nothing".into() } else { sees.join(", ") }));
    }
    out
}

/// A titled list; nothing at all when it is empty.
fn section(title: &str, out: &mut String, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        out.push_str(&format!("\n{title}\n"));
    }
    for line in lines {
        out.push_str(&format!("  {line}\n"));
    }
}

/// How large the difference is, with the range that holds it.
fn effect(check: &CheckView) -> Option<String> {
    let estimate = check.evidence.effect?;
    let (what, unit) =
        if check.kind == "level" { ("the difference", "") } else { ("the canary has", " times control's") };
    let range = check.interval.map_or(String::new(), |range| format!(" (95%: {:.2} to {:.2})", range.low, range.high));
    Some(format!("{what} {estimate:.2}{unit}{range}"))
}

/// How far the check is from being shown safe, and how long a decision is still away.
fn safety(evidence: &Evidence) -> String {
    let safe = if evidence.is_shown_safe() { "shown safe" } else { "not shown safe" };
    let needed = -Evidence::BETA.ln();
    let more = evidence.more_seconds.map_or(String::new(), |seconds| {
        format!(
            "; about {} more at this traffic until decided",
            humantime::format_duration(Duration::from_secs(seconds as u64))
        )
    });
    format!("{safe} ({:.1} of {needed:.1}){more}", evidence.log_e_safe)
}

/// What the check can see at this stage.
fn sight(sight: &Sight) -> String {
    let span = |seconds: f64| humantime::format_duration(Duration::from_secs(seconds.ceil() as u64)).to_string();
    let time = |seconds: Option<f64>| seconds.map_or_else(|| "never".into(), span);
    let seen = sight.smallest.map_or_else(|| "nothing".into(), |ratio| format!("{ratio:.1}x"));
    let mut out = format!(
        "this stage sees {seen} in its bake time; 2x takes {}, showing it safe {}",
        time(sight.twice_seconds),
        time(sight.safe_seconds)
    );
    if sight.is_blind {
        let bake = sight.bake_time_needed_seconds.map(|seconds| format!("a bake time of {}", span(seconds)));
        let share = sight.share_needed.and_then(Share::from_basis_points).map(|share| format!("a share of {share}"));
        let needs: Vec<String> = bake.into_iter().chain(share).collect();
        let needs = if needs.is_empty() { String::new() } else { format!(": it needs {}", needs.join(" or ")) };
        out = format!("BLIND to what must not be called safe{needs}; {out}");
    }
    out
}

fn check(check: &CheckView) -> String {
    let evidence = &check.evidence;
    let mut out = format!(
        "{} ({}, {}): {}; evidence {:.1} of {:.1}",
        shown(&check.name),
        word(&check.origin),
        word(&check.weight),
        word(&check.finding),
        evidence.log_e_value,
        evidence.log_threshold,
    );
    let mut more = |line: String| out.push_str(&format!("\n      {line}"));
    more(format!(
        "control {}, canary {}; up to {} times control is tolerated",
        arm(check.control_rate, evidence.control),
        arm(check.canary_rate, evidence.canary),
        check.ratio_max
    ));
    if let Some(effect) = effect(check) {
        more(effect);
    }
    more(safety(evidence));
    if let Some(outlook) = &check.outlook {
        more(sight(outlook));
    }
    if let Some(concern) = &check.concern {
        more(shown(concern.to_string()).to_string());
    }
    if let Some(limit) = &check.limit {
        more(format!("never more than {} bad, whatever control does", rate(limit.bad_share_max)));
    }
    if let Some(trial) = &check.trial {
        more(format!("tried: {}", tried(trial)));
    }
    if let Some(intended) = &check.intended {
        more(format!("an intended effect, which decides nothing: {}", word(intended).replace('_', " ")));
    }
    if let Some(baseline) = &check.baseline {
        more(format!("compared with {}: {}", shown(&baseline.words), shown(&baseline.why)));
        if let Some(says) = &baseline.says {
            more(shown(says).to_string());
        }
    }
    if let Some(absent) = &check.absent {
        more(format!("no tally in the newest window: {}", shown(absent)));
    }
    if check.estimated {
        more("estimated by the server: four fifths of these counts are evidence".into());
    }
    more(format!("measures {}", shown(&check.sli)));
    if !check.rationale.is_empty() {
        more(format!("because {}", shown(&check.rationale)));
    }
    if !check.lines.is_empty() {
        more(format!("rests on {}", shown(check.lines.join(", "))));
    }
    out
}

fn arm(of: Option<f64>, counts: Counts) -> String {
    format!("{} ({} of {})", of.map_or("nothing".into(), rate), counts.bad, counts.total)
}

/// A rate as per cent; small ones keep two places that say something.
fn rate(rate: f64) -> String {
    let percent = rate * 100.0;
    if percent == 0.0 || percent >= 0.1 { format!("{percent:.2}%") } else { format!("{percent:.4}%") }
}

fn short(revision: &str) -> String {
    shown(revision.chars().take(7).collect::<String>())
}

/// A time to the second, UTC.
fn clock(at: Timestamp) -> String {
    let text = at.to_string();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{}Z", seconds.replace('T', " ")))
}

/// The share alone, as in `25%`.
pub(super) fn share(basis_points: u16) -> String {
    Share::from_basis_points(basis_points).map_or_else(|| format!("{basis_points} bp"), |share| share.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        domain::{
            Aim, Autonomy, Concentration, Evidence, Finding, Objection, Origin, Outcome, Prose, Risk, ServiceName,
            Text, Verdict, Weight,
        },
        plan::{Fallback, PastLevel, Power, Standing},
        rollout::{Explanation, Moment, StageView},
    };

    pub(in crate::cli) const NOON: Timestamp = Timestamp::from_millis(1_700_049_600_000);

    /// A rollout that bakes at its second stage.
    pub(in crate::cli) fn baking(id: u64) -> RolloutView {
        let evidence = Evidence {
            log_e_value: 3.25,
            log_threshold: 6.9,
            log_e_safe: 0.0,
            more_seconds: None,
            is_calibrated: true,
            effect: Some(9.0),
            interval: None,
            control: Counts { bad: 12, total: 4_000 },
            canary: Counts { bad: 27, total: 1_000 },
        };
        RolloutView {
            id: RolloutId(id),
            service: ServiceName::new("checkout"),
            repository: "acme/shop".into(),
            pull_request: 412,
            title: "Cache\u{1b}[2J prices".into(),
            author: "alice".into(),
            revision: "abcdef0123456789".into(),
            control_revision: None,
            autonomy: Some(Autonomy::Auto),
            phase: "baking".into(),
            outcome: None,
            paused: false,
            next: Some(Upcoming { what: Text::new("review"), at: NOON + Duration::from_secs(250) }),
            share: 500,
            exposure: "5%".into(),
            stage: Some(1),
            stages: [100, 500, 10_000]
                .into_iter()
                .enumerate()
                .map(|(place, share)| StageView {
                    exposure: self::share(share),
                    share,
                    bake_time_ms: 600_000,
                    entered: (place < 2).then_some(NOON),
                    baseline: String::new(),
                })
                .collect(),
            opened: NOON,
            ended: None,
            verdict: Some(Verdict::Hold),
            objections: vec![Objection {
                rail: "bake_time".into(),
                at_most: Verdict::Hold,
                why: Text::new("4 minutes to go"),
                page: false,
            }],
            one_way: None,
            checks: vec![CheckView {
                name: "errors".into(),
                sli: "bad among all".into(),
                kind: "ratio".into(),
                origin: Origin::Slo,
                weight: Weight::Critical,
                ratio_max: 1.25,
                limit: None,
                rationale: "users see them".into(),
                lines: Vec::new(),
                finding: Finding::Inconclusive,
                evidence,
                concern: None,
                outlook: None,
                baseline: None,
                absent: None,
                estimated: false,
                control_rate: Some(0.003),
                canary_rate: Some(0.027),
                interval: None,
                aim: Aim::Guard,
                intended: None,
                trial: None,
            }],
            rejections: vec![("odd".into(), "no test serves it".into())],
            notes: Vec::new(),
            exposures: vec![(NOON, 100), (NOON, 500)],
            timeline: vec![Moment { at: NOON, text: "exposed to 5%".into() }],
            source: None,
            risk: None,
            rejected_trials: Vec::new(),
            uncovered: Vec::new(),
            usage: None,
            held_by_advice_until: None,
            warming_up_until: None,
            cold: Counts::default(),
            shares_off: None,
            concentration: None,
            explanation: None,
        }
    }

    pub(in crate::cli) fn fleet(rollouts: Vec<RolloutView>) -> FleetView {
        FleetView { at: NOON, policy_version: "p1".into(), kill_switch: false, stale_replies: 0, fetching: 0, rollouts }
    }

    #[test]
    fn the_table_is_aligned_and_shows_no_control_characters() {
        let done = RolloutView { outcome: Some(Outcome::RolledBack), next: None, ..baking(3) };
        let table = table(&fleet(vec![baking(17), done]), NOON);
        assert_eq!(
            table,
            "ROLLOUT  SERVICE   STATE        EXPOSURE  CHANGE         TITLE             NEXT\n\
             r17      checkout  baking       5%        acme/shop#412  Cache [2J prices  review, in 4m 10s\n\
             r3       checkout  rolled back  5%        acme/shop#412  Cache [2J prices\n"
        );
    }

    #[test]
    fn an_empty_fleet_and_a_kill_switch_are_said_in_words() {
        let stopped = FleetView { kill_switch: true, ..fleet(Vec::new()) };
        let words = table(&stopped, NOON);
        assert!(words.contains("KILL SWITCH ON") && words.contains("no rollouts yet"), "{words}");
    }

    #[test]
    fn detail_says_what_a_person_at_night_asks() {
        let words = detail(&baking(17), NOON);
        for expected in [
            "r17  checkout  acme/shop#412  baking\n",
            "next      review, in 4m 10s",
            "bake_time: at most hold: 4 minutes to go",
            "* 1%       bake 10m 0s",
            "> 5%       bake 10m 0s",
            "errors (slo, critical): inconclusive; evidence 3.2 of 6.9",
            "control 0.30% (12 of 4000), canary 2.70% (27 of 1000)",
            "odd: no test serves it",
            "2023-11-15 12:00:00Z  exposed to 5%",
        ] {
            assert!(words.contains(expected), "{expected:?} is not in\n{words}");
        }
        assert!(!words.contains('\u{1b}'));
    }

    #[test]
    fn a_models_part_is_told_and_its_words_are_marked_as_its_own() {
        let hostile = "it held\u{1b}[2J\n\nwell";
        let trial = TrialView {
            check: "cold starts".into(),
            standing: Standing::Rejected,
            reason: "no_data".into(),
            detail: "nothing was counted".into(),
            baseline: Some(PastLevel {
                rate: 0.0012,
                per_second: 84.0,
                empty: 0.0,
                seconds: 7_200,
                is_calibrated: true,
            }),
            alarms: 1,
            rollouts: 96,
            power: vec![Power { share: Share::FULL, smallest: Some(1.75), twice_seconds: None }],
        };
        let usage =
            Usage { input_tokens: 9_000, cached_tokens: 6_000, output_tokens: 120, micro_dollars: Some(12_345) };
        let failed = Source::Fallback { why: Fallback::OverBudget, detail: Text::new("day_tokens_max") };
        let rollout = RolloutView {
            source: Some(failed),
            usage: Some(usage),
            risk: Some(Risk::High),
            rejected_trials: vec![trial],
            uncovered: vec!["web/vendor.js".into()],
            held_by_advice_until: Some(NOON + Duration::from_secs(60)),
            warming_up_until: Some(NOON + Duration::from_secs(30)),
            cold: Counts { bad: 12, total: 400 },
            shares_off: Some(Shares { set: 0.05, seen: 0.113 }),
            concentration: Some(Concentration { tenant: Text::new(hostile), control: 0.04, canary: 0.62 }),
            explanation: Some(Explanation { model: Text::new("m"), words: Prose::new(hostile) }),
            ..baking(17)
        };
        let words = detail(&rollout, NOON);
        for expected in [
            "planned   by rules, since the model was of no use (over budget): day_tokens_max; the model used 9,120 tokens \
             (6,000 cached), $0.012\n",
            "risk      high\n",
            "held      by a model's advice until 2023-11-15 12:01:00Z",
            "warming   until 2023-11-15 12:00:30Z; 12 bad of 400 requests are not held against it\n",
            "split     OFF: the canary gets 11.3% of the requests where 5.0% was set\n",
            "makes 62% of the canary's requests and 4% of control's\n",
            "cold starts: rejected, no data: nothing was counted; before: 0.12% of 84.00 in a second over 2h 0m; 1 false \
             alarms in 96 rollouts of nothing; sees 1.8x at 100%\n",
            "files that nobody looked at\n  web/vendor.js\n",
            "in the words of m, which decided nothing and may be wrong\n  it held [2J\n  well\n",
        ] {
            assert!(words.contains(expected), "{expected:?} is not in\n{words}");
        }
        assert!(!words.contains('\u{1b}'));
    }

    #[test]
    fn spans_and_rates_keep_what_matters() {
        let spans = [0, 59, 250, 3_600, 90_000].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["0s", "59s", "4m 10s", "1h 0m", "1d 1h"]);
        assert_eq!([0.0, 0.00012, 0.027, 1.5].map(rate), ["0.00%", "0.0120%", "2.70%", "150.00%"]);
    }
}
