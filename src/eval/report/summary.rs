//! One table: how each method fared, over everything that was tried.

use serde::Serialize;

use super::{Findings, Found, Row, percent, values};
use crate::eval::{
    calibration::{Standing, exception},
    power::{TELLING, middle},
};

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Line {
    /// The method's name.
    pub(super) method: &'static str,
    pub(super) summary: &'static str,
    pub(super) is_ours: bool,
    /// The worst false-rollback rate over all cases, in percent, and where.
    pub(super) worst: String,
    pub(super) worst_upper: String,
    pub(super) worst_where: String,
    /// Families that are above the promise of the first method beyond doubt, among all.
    pub(super) families: String,
    /// Whether any is.
    pub(super) is_broken: bool,
    /// Median delay over the limit, or in seconds where there are no limits, column by column of [`columns`].
    pub(super) over: Vec<String>,
    /// Cases in which half of the rollouts were not found.
    pub(super) missed: String,
}

/// A column of delays: the cases with so many canary pods whose canary is so many times as bad; all where it is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Column {
    pods: String,
    ratio: String,
}

/// The columns of delays: for each number of pods every ratio, then all of them.
pub(super) fn columns(found: &Found) -> Vec<Column> {
    let rows = grid(found);
    let pods = values(rows.iter().filter_map(|row| row.value("canary pods")));
    let ratios = values(rows.iter().filter_map(|row| row.effect()));
    let pods = if pods.is_empty() { vec![""] } else { pods };
    pods.iter()
        .flat_map(|pods| {
            ratios.iter().copied().chain([""]).map(|ratio| Column { pods: (*pods).to_owned(), ratio: ratio.to_owned() })
        })
        .collect()
}

/// The cases that delays are compared over: the first table.
fn grid(found: &Found) -> Vec<&Row<crate::eval::power::Delay>> {
    let first = found.harmful.first().map(|row| row.table);
    let has_limits = found.has_limits();
    let telling = |row: &&Row<_>| row.limit_seconds.map_or(!has_limits, |limit| TELLING.contains(&limit));
    found.harmful.iter().filter(|row| Some(row.table) == first).filter(telling).collect()
}

/// The table of one suite.
pub(super) fn lines(found: &Found) -> Vec<Line> {
    let (columns, grid) = (columns(found), grid(found));
    let promise = found.methods.first().copied();
    let families = values(found.harmless.iter().map(|row| row.family));
    let line = |(at, method): (usize, &crate::eval::suite::Method)| {
        let rates = || found.harmless.iter().filter_map(|row| row.cells.get(at).map(|rate| (row, rate)));
        let worst = rates()
            .max_by(|(_, one), (_, other)| one.share.total_cmp(&other.share).then(one.upper.total_cmp(&other.upper)));
        let breaks = |family: &str| {
            let broken = |(_, rate): (_, &_)| {
                promise.and_then(|promise| found.standing(&promise, rate)) == Some(Standing::Broken)
            };
            rates().filter(|(row, _)| row.family == family).any(broken)
        };
        let broken: Vec<_> = families.iter().filter(|family| breaks(family)).collect();
        let over = columns.iter().map(|Column { pods, ratio }| {
            let is_it = |wanted: &str, value: Option<&str>| wanted.is_empty() || value == Some(wanted);
            let rows = grid.iter().filter(|row| is_it(pods, row.value("canary pods")) && is_it(ratio, row.effect()));
            let has_limits = found.has_limits();
            let over = middle(rows.map(|row| match row.limit_seconds {
                Some(limit) => row.cells.get(at)?.over(limit),
                None => row.cells.get(at)?.median.map(f64::from),
            }));
            let figure = |over: f64| if has_limits { format!("{over:.2}") } else { format!("{over:.0}") };
            over.map_or("–".to_owned(), figure)
        });
        let missed = grid.iter().filter(|row| row.cells.get(at).is_some_and(|delay| delay.median.is_none())).count();
        Line {
            method: method.name,
            summary: method.summary,
            is_ours: method.is_ours,
            worst: worst.map_or("–".to_owned(), |(_, rate)| percent(rate.share)),
            worst_upper: worst.map_or(String::new(), |(_, rate)| percent(rate.upper)),
            worst_where: worst.map_or(String::new(), |(row, _)| row.told()),
            families: if families.is_empty() {
                "–".to_owned()
            } else {
                format!("{} of {}", broken.len(), families.len())
            },
            is_broken: broken.iter().any(|family| exception(found.exceptions, method, family).is_none()),
            over: over.collect(),
            missed: if grid.is_empty() { "–".to_owned() } else { format!("{missed} of {}", grid.len()) },
        }
    };
    found.methods.iter().enumerate().map(line).collect()
}

/// The tables and the shortfalls as text, for a screen.
pub fn summary(findings: &Findings) -> String {
    findings.suites.iter().map(of_suite).collect()
}

fn of_suite(found: &Found) -> String {
    let (lines, words) = (lines(found), found.words);
    let width = lines.iter().map(|line| line.method.chars().count()).max().unwrap_or_default();
    let head = |Column { pods, ratio }: &Column| match (ratio.as_str(), pods.as_str()) {
        ("", "") => "all".to_owned(),
        (ratio, "") => ratio.to_owned(),
        ("", pods) => format!("all/{pods}p"),
        (ratio, pods) => format!("{ratio}/{pods}p"),
    };
    let heads: Vec<String> = columns(found).iter().map(head).collect();
    let aligned = |figures: &[String]| -> String {
        let widths = heads.iter().map(|head| head.chars().count().max(6) + 2);
        figures.iter().zip(widths).map(|(figure, width)| format!("{figure:>width$}")).collect()
    };
    let mut text = format!("\n{}: {}\n", found.suite, found.summary);
    text += &format!("{} {} and {} {} of each case\n", found.runs, words.harmless, found.power_runs, words.harmful);
    text += &format!("{:width$}  {:>16} {:>9}{} {:>10}\n", "", "worst, %", "broken in", aligned(&heads), "missed");
    for line in &lines {
        let worst = format!("{} (<={})", line.worst, line.worst_upper);
        let over = aligned(&line.over);
        text += &format!("{:width$}  {worst:>16} {:>9}{over} {:>10}\n", line.method, line.families, line.missed);
    }
    let delays = if found.has_limits() {
        "median delay over the limit, by how bad the canary is and how many pods it has, in the cases whose limit is\n\
         between a minute and the watch"
    } else {
        "median delay in seconds, by what is wrong and canary pods, in the middle of the families"
    };
    text += &format!(
        "worst: share of {} {} in the worst case, and its 95% upper bound; broken in: families in which that is above the\n\
         promise beyond doubt; then the {delays};\nmissed: cases of those in which half of the {} were not {}\n\n\
         Where it falls short:\n",
        words.harmless, words.wrong, words.harmful, words.right
    );
    for shortfall in found.shortfalls() {
        text += &format!("- {}\n", shortfall.told);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::report::testing::findings;

    #[test]
    fn the_table_counts_families_and_takes_the_middle_of_the_delays() {
        let found = findings(10).suites.remove(0);
        let lines = lines(&found);
        assert_eq!((lines[0].worst.as_str(), lines[0].families.as_str()), ("20", "2 of 3"));
        assert!(lines[0].is_broken);
        // 3.0 at 2x, 1.5 at 10x, not found at 1.5x; what takes less than a minute at best is left out.
        let five = |ratio: &str| Column { pods: "5".to_owned(), ratio: ratio.to_owned() };
        assert_eq!(columns(&found), [five("2x"), five("10x"), five("1.5x"), five("")]);
        assert_eq!(lines[0].over, ["3.00", "1.50", "–", "3.00"]);
        assert_eq!(lines[0].missed, "1 of 3");
        let told = summary(&findings(10));
        assert!(told.contains("20 (<=22)") && told.contains("it is known"), "{told}");
    }

    #[test]
    fn half_a_report_is_one_too() {
        let mut findings = findings(0);
        findings.suites[0].harmful.clear();
        assert!(summary(&findings).contains("worst, %"));
        findings.suites[0].harmless.clear();
        assert!(summary(&findings).contains("–"));
    }
}
