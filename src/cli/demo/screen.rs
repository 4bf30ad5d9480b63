//! What the demonstration shows in the terminal: plain lines that also read well in a log.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write, stdout},
    sync::Mutex,
};

use super::{Told, changes::Story};
use crate::{
    daemon::Handle,
    domain::{Finding, Origin, RolloutId, Severity, Timestamp},
    rollout::{CheckView, RolloutView},
};

/// The terminal.
pub(super) struct Screen {
    has_colour: bool,
    /// How many moments of each rollout were shown.
    shown: Mutex<BTreeMap<RolloutId, usize>>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let has_colour = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { has_colour, shown: Mutex::new(BTreeMap::new()) }
    }

    pub(super) fn line(&self, text: &str) {
        let mut out = stdout().lock();
        // A reader that went away (a closed pipe) ends nothing.
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
    }

    fn coloured(&self, code: &str, text: &str) -> String {
        if self.has_colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub(super) fn chapter(&self, story: &Story) {
        let title = format!("\n#{} {} (by {})", story.pull_request, story.title, story.author);
        self.line(&self.coloured("1", &title));
    }

    /// Shows pages as they come, whatever they are about.
    pub(super) fn follow(&self, handle: &Handle) {
        let mut notices = handle.notices();
        tokio::spawn(async move {
            while let Ok(notice) = notices.recv().await {
                if notice.severity == Severity::Page {
                    println!("  ! page: {}", notice.text);
                }
            }
        });
    }

    /// Shows what is new about a rollout.
    pub(super) fn progress(&self, rollout: &RolloutView) {
        let mut shown = self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = shown.insert(rollout.id, rollout.timeline.len()).unwrap_or(0);
        for moment in rollout.timeline.iter().skip(before) {
            let after = moment.at.since(rollout.opened).as_secs_f64();
            let standing = rollout.exposures.iter().rfind(|(at, _)| *at <= moment.at);
            let bar = bar(standing.map_or(0, |(_, share)| *share));
            let text = if moment.text.starts_with("rolling back") {
                self.coloured("31", &moment.text)
            } else if moment.text.starts_with("promoted") {
                self.coloured("32", &moment.text)
            } else {
                moment.text.clone()
            };
            self.line(&format!("  {after:6.1} s  {bar}  {text}"));
            if moment.text.starts_with("planned") {
                for check in rollout.checks.iter().filter(|check| check.origin == Origin::Heuristic) {
                    self.line(&format!("                          {} — {}", check.name, check.rationale));
                }
            }
        }
    }

    /// The table at the end, and what decided.
    pub(super) fn summary(&self, told: &[Told]) {
        self.line("");
        let head = ["change", "outcome", "stage reached", "seconds to decide", "users who saw it", "bad responses"];
        let mut rows = vec![head.map(str::to_owned)];
        for told in told {
            let reached = told.view.stages.iter().rfind(|stage| stage.entered.is_some());
            let decided = told.view.ended.unwrap_or(told.view.opened).since(told.view.opened).as_secs_f64();
            rows.push([
                format!("#{} {}", told.story.pull_request, told.story.title),
                told.view.outcome.map_or_else(|| "open".into(), |outcome| outcome.to_string()),
                reached.map_or_else(|| "none".into(), |stage| stage.exposure.clone()),
                format!("{decided:.1}"),
                told.users.to_string(),
                told.bad.to_string(),
            ]);
        }
        self.table(&rows);
        for told in told {
            if let (Some(first_bad), true) = (told.first_bad, told.view.share == 0) {
                self.explain(told, first_bad);
            }
        }
    }

    fn table(&self, rows: &[[String; 6]]) {
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        for (i, row) in rows.iter().enumerate() {
            let cells: Vec<String> =
                row.iter().enumerate().map(|(c, cell)| format!("{cell:<w$}", w = width(c))).collect();
            let line = cells.join("  ");
            self.line(&if i == 0 { self.coloured("1", &line) } else { line });
        }
    }

    /// Why it was rolled back, how fast, and what the generic check knew by then.
    fn explain(&self, told: &Told, first_bad: Timestamp) {
        let back_at = told.view.exposures.iter().find(|(at, share)| *share == 0 && *at >= first_bad).map(|(at, _)| *at);
        self.line(&format!("\nWhy #{} was rolled back:", told.story.pull_request));
        let mut checks: Vec<&CheckView> = told.view.checks.iter().collect();
        checks.sort_by(|a, b| b.evidence.log_e_value.total_cmp(&a.evidence.log_e_value));
        for check in checks.iter().filter(|check| check.finding == Finding::Degraded || check.origin == Origin::Slo) {
            let e = &check.evidence;
            self.line(&format!(
                "  {:<22} {:<9} old {:>4} of {:<6} new {:>3} of {:<5} evidence {:>9} of {} needed",
                check.name,
                origin_word(check.origin),
                e.control.bad,
                e.control.total,
                e.canary.bad,
                e.canary.total,
                e_value(e.log_e_value),
                e_value(e.log_threshold),
            ));
        }
        if let Some(back_at) = back_at {
            let seconds = back_at.since(first_bad).as_secs_f64();
            self.line(&format!("  From the first bad response to traffic at 0%: {seconds:.1} s."));
        }
        if let (Some(last), Some(back_at)) = (told.last, back_at) {
            let after = last.since(back_at).as_millis();
            self.line(&format!("  The new version's last request from a user: {after} ms after that."));
        }
    }
}

fn origin_word(origin: Origin) -> &'static str {
    match origin {
        Origin::Slo => "generic",
        Origin::Model => "model",
        Origin::Heuristic => "from diff",
    }
}

fn e_value(log: f64) -> String {
    let value = log.exp();
    if value < 1_000_000.0 { format!("{value:.1}") } else { format!("{value:.1e}") }
}

/// A share of traffic as a bar of ten.
fn bar(share: u16) -> String {
    let filled = usize::from(share).div_ceil(1_000).min(10);
    format!("{}{} {:>4}%", "#".repeat(filled), ".".repeat(10 - filled), f64::from(share) / 100.0)
}
