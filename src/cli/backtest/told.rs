//! How a backtest is told: a line for each deploy with what it is worth, what they come to together, and what has to be
//! known to believe it.

use serde::Serialize;

use super::{
    deploys::Label,
    judged::{Judged, Kind, in_words},
};
use crate::cli::client::shown;

/// All that is written as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) service: String,
    /// As of when.
    pub(super) as_of: String,
    /// Each deploy, the oldest first.
    pub(super) deploys: Vec<Judged>,
    pub(super) summary: Summary,
    /// What has to be known to believe it.
    pub(super) notes: Vec<String>,
    /// Requests that were made of the source.
    pub(super) queries: u64,
    /// Samples that it answered.
    pub(super) samples: u64,
    /// Why it ended early, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) broken_off: Option<String>,
}

/// What the deploys come to together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Summary {
    pub(super) deploys: usize,
    /// How many are of each kind, as far as there are any.
    pub(super) verdicts: Vec<(Kind, usize)>,
    /// How many were never compared with the version before, of those that were seen.
    pub(super) never_compared: usize,
    /// Those that people call bad and that were seen, and how many of them would have been found.
    pub(super) bad: usize,
    pub(super) bad_found: usize,
    /// Those that people call good and that were seen, and how many of them would have been taken back all the same.
    pub(super) good: usize,
    pub(super) good_taken_back: usize,
    /// Labelled deploys that were never seen.
    pub(super) labelled_unseen: usize,
}

impl Summary {
    pub(super) fn of(deploys: &[Judged]) -> Self {
        let count = |is: &dyn Fn(&Judged) -> bool| deploys.iter().filter(|deploy| is(deploy)).count();
        let labelled = |label| move |d: &Judged| d.outcome == Some(label) && d.verdict.is_judged();
        let (bad, good) = (labelled(Label::Bad), labelled(Label::Good));
        let of_kind = |(kind, _): (Kind, _)| (kind, count(&|deploy| deploy.verdict == kind));
        Self {
            deploys: deploys.len(),
            verdicts: Kind::ALL.into_iter().map(of_kind).filter(|(_, count)| *count > 0).collect(),
            never_compared: count(&|d| d.verdict.is_judged() && d.compared_seconds == 0.0),
            bad: count(&bad),
            bad_found: count(&|d| bad(d) && d.verdict.is_found()),
            good: count(&good),
            good_taken_back: count(&|d| good(d) && d.verdict.is_found()),
            labelled_unseen: count(&|d| d.outcome.is_some() && !d.verdict.is_judged()),
        }
    }

    /// One line, and another where there are labels.
    pub(super) fn render(&self) -> String {
        let word = |kind: Kind| Kind::ALL.iter().find(|(one, _)| *one == kind).map_or("", |(_, word)| word);
        let counts: Vec<String> =
            self.verdicts.iter().map(|(kind, count)| format!("{count} {}", word(*kind))).collect();
        let mut text = format!("of {} deploys: {}", self.deploys, counts.join(", "));
        if self.never_compared > 0 {
            text.push_str(&format!("; {} never compared with the version before", self.never_compared));
        }
        text.push('\n');
        if self.bad + self.good + self.labelled_unseen > 0 {
            text.push_str(&format!(
                "by the labels: found {} of {} bad ones, {} of {} good ones taken back",
                self.bad_found, self.bad, self.good_taken_back, self.good
            ));
            if self.labelled_unseen > 0 {
                text.push_str(&format!("; {} labelled ones were never seen", self.labelled_unseen));
            }
            text.push('\n');
        }
        text
    }
}

/// What would have been done on one deploy, in a line.
pub(super) fn verdict(deploy: &Judged) -> String {
    let when = || {
        let after = std::time::Duration::try_from_secs_f64(deploy.after_seconds.unwrap_or(0.0)).unwrap_or_default();
        let at = deploy.decided.as_deref().map(clock).unwrap_or_default();
        format!("at {at}, {} after the deploy", in_words(after))
    };
    let on = || {
        let ratio = deploy.ratio.map(|ratio| format!(" with {ratio:.1} times the old version's")).unwrap_or_default();
        format!("on {}{ratio}", shown(deploy.check.as_deref().unwrap_or("a check")))
    };
    let why = shown(&deploy.why);
    match deploy.verdict {
        Kind::RolledBack => format!("would have rolled back {}, {}: {why}", when(), on()),
        Kind::CalledPerson => format!("would have called a person {}, {}: {why}", when(), on()),
        Kind::Promoted => format!("promoted {}: {why}", when()),
        Kind::Held if deploy.decided.is_some() => format!("held: {why}, {}", when()),
        Kind::Held => format!("held: {why}"),
        Kind::Unfinished => format!("no verdict: {why}"),
        Kind::NoData => format!("no data: {why}"),
        Kind::BeforeRetention => format!("not looked at: {why}"),
    }
}

/// The whole report for people.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::from("deploy                revision  stable   outcome  what Tollgate would have done\n");
    for deploy in &report.deploys {
        let short = |revision: &str| revision.get(..7).unwrap_or(revision).to_owned();
        let label = match deploy.outcome {
            Some(Label::Good) => "good",
            Some(Label::Bad) => "bad",
            None => "-",
        };
        text.push_str(&format!(
            "{:<21} {:<9} {:<8} {label:<8} {}\n",
            day_and_clock(&deploy.at),
            short(&deploy.revision),
            deploy.stable.as_deref().map_or("-".into(), short),
            verdict(deploy)
        ));
        if !deploy.caution.is_empty() {
            text.push_str(&format!("{:48} ! {}\n", "", shown(&deploy.caution)));
        }
    }
    text.push('\n');
    text.push_str(&report.summary.render());
    text.push_str(&format!("{} queries, {} samples read; times are UTC\n", report.queries, report.samples));
    text.push_str("\nwhat has to be known to believe it:\n");
    for note in &report.notes {
        text.push_str(&format!("- {}\n", shown(note)));
    }
    text
}

/// `14:03:20` of an instant as RFC 3339 writes it.
fn clock(at: &str) -> String {
    at.split_once('T').map_or(at, |(_, time)| time).split(['.', 'Z']).next().unwrap_or_default().to_owned()
}

fn day_and_clock(at: &str) -> String {
    let day = at.split_once('T').map_or("", |(day, _)| day);
    format!("{day} {}Z", clock(at))
}
