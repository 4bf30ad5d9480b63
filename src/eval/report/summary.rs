//! One table: how each method fared, over everything that was tried.

use serde::Serialize;

use super::{Findings, Found, Row, percent, values};
use crate::eval::{
    calibration::{Standing, exception, standing},
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
    /// Median delay over the limit, column by column of [`columns`].
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
    let pods = values(&rows, "canary pods");
    let ratios = values(&rows, "ratio");
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
    let telling = |row: &&Row<_>| row.limit_seconds.is_some_and(|limit| TELLING.contains(&limit));
    found.harmful.iter().filter(|row| Some(row.table) == first).filter(telling).collect()
}

/// The table of one suite.
pub(super) fn lines(found: &Found) -> Vec<Line> {
    let (columns, grid) = (columns(found), grid(found));
    let promise = found.methods.first().copied();
    let families = values_of_families(found);
    let line = |(at, method): (usize, &crate::eval::suite::Method)| {
        let rates = || found.harmless.iter().filter_map(|row| row.cells.get(at).map(|rate| (row, rate)));
        let worst = rates()
            .max_by(|(_, one), (_, other)| one.share.total_cmp(&other.share).then(one.upper.total_cmp(&other.upper)));
        let breaks = |family: &str| {
            let broken =
                |(_, rate): (_, &_)| promise.and_then(|promise| standing(&promise, rate)) == Some(Standing::Broken);
            rates().filter(|(row, _)| row.family == family).any(broken)
        };
        let broken: Vec<_> = families.iter().filter(|family| breaks(family)).collect();
        let over = columns.iter().map(|Column { pods, ratio }| {
            let is_in = |row: &&&Row<_>, column, value: &str| value.is_empty() || row.value(column) == Some(value);
            let rows = grid.iter().filter(|row| is_in(row, "canary pods", pods) && is_in(row, "ratio", ratio));
            let over = middle(rows.map(|row| row.cells.get(at)?.over(row.limit_seconds?)));
            over.map_or("–".to_owned(), |over| format!("{over:.2}"))
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

fn values_of_families(found: &Found) -> Vec<&'static str> {
    let mut families = Vec::new();
    for row in &found.harmless {
        if !families.contains(&row.family) {
            families.push(row.family);
        }
    }
    families
}

/// The table and the shortfalls as text, for a screen.
pub fn summary(findings: &Findings) -> String {
    let mut text = String::new();
    for found in &findings.suites {
        let lines = lines(found);
        let columns = columns(found);
        let width = lines.iter().map(|line| line.method.chars().count()).max().unwrap_or_default();
        text += &format!("\n{}: {}\n", found.suite, found.summary);
        let heads: String = columns
            .iter()
            .map(|Column { pods, ratio }| {
                let ratio = if ratio.is_empty() { "all" } else { ratio.as_str() };
                format!("{:>8}", if pods.is_empty() { ratio.to_owned() } else { format!("{ratio}/{pods}p") })
            })
            .collect();
        text += &format!("{:width$}  {:>16} {:>9}{heads} {:>10}\n", "", "worst false, %", "broken in", "missed");
        for line in &lines {
            let worst = format!("{} (<={})", line.worst, line.worst_upper);
            let over: String = line.over.iter().map(|over| format!("{over:>8}")).collect();
            text += &format!("{:width$}  {worst:>16} {:>9}{over} {:>10}\n", line.method, line.families, line.missed);
        }
        text += "worst false: share of harmless rollouts taken back in the worst case, and its 95% upper bound; broken in:\n\
                 families in which that is above the promise beyond doubt; 2x/5p: median delay over the limit for a canary\n\
                 twice as bad with 5 pods, in the cases whose limit is between a minute and the watch; missed: cases of those\n\
                 in which half of the rollouts were not found\n\nWhere it falls short:\n";
        for shortfall in found.shortfalls() {
            text += &format!("- {}\n", shortfall.told);
        }
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
        assert!(summary(&findings).contains("worst false"));
        findings.suites[0].harmless.clear();
        assert!(summary(&findings).contains("–"));
    }
}
