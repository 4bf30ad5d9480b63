//! The CSV files: one line a case and method, settings as columns of their own.

use super::{Found, Row};
use crate::eval::calibration::Standing;

/// False rollbacks of harmless rollouts.
pub(super) fn false_rollbacks(found: &Found) -> String {
    let wrong = found.words.wrong.replace(' ', "_");
    let columns = ["method", "runs", &wrong, "share", "lower_95", "upper_95", "promise", "standing"];
    let columns = columns.map(str::to_owned);
    let mut lines = vec![head(found.harmless.first(), &columns)];
    for row in &found.harmless {
        for (method, rate) in found.methods.iter().zip(&row.cells) {
            let standing = match found.standing(method, rate) {
                None => "",
                Some(Standing::Kept) => "kept",
                Some(Standing::Open) => "open",
                Some(Standing::Broken) => "broken",
            };
            let figures = [
                method.name.to_owned(),
                rate.runs.to_string(),
                rate.hits.to_string(),
                rate.share.to_string(),
                rate.lower.to_string(),
                rate.upper.to_string(),
                method.promise.map(|promise| promise.to_string()).unwrap_or_default(),
                standing.to_owned(),
            ];
            lines.push(line(row, &figures));
        }
    }
    lines.concat()
}

/// How long harmful rollouts lasted.
pub(super) fn delays(found: &Found) -> String {
    let columns = ["limit_s", "method", "runs", "found", "median_s", "p90_s", "median_over_limit"].map(str::to_owned);
    let mut lines = vec![head(found.harmful.first(), &columns)];
    for row in &found.harmful {
        for (method, delay) in found.methods.iter().zip(&row.cells) {
            let seconds = |seconds: Option<u32>| seconds.map(|seconds| seconds.to_string()).unwrap_or_default();
            let over = row.limit_seconds.and_then(|limit| delay.over(limit));
            let figures = [
                row.limit_seconds.map(|limit| format!("{limit:.2}")).unwrap_or_default(),
                method.name.to_owned(),
                delay.runs.to_string(),
                delay.found.to_string(),
                seconds(delay.median),
                seconds(delay.ninetieth),
                over.map(|over| format!("{over:.3}")).unwrap_or_default(),
            ];
            lines.push(line(row, &figures));
        }
    }
    lines.concat()
}

fn head<T>(row: Option<&Row<T>>, columns: &[String]) -> String {
    let settings = row.into_iter().flat_map(|row| &row.setting).map(|(name, _)| name.replace([' ', '/'], "_"));
    let names = ["table".to_owned(), "family".to_owned()].into_iter().chain(settings);
    joined(names.chain(columns.iter().cloned()))
}

fn line<T>(row: &Row<T>, figures: &[String]) -> String {
    let words = [row.table.to_owned(), row.family.to_owned()].into_iter();
    let settings = row.setting.iter().map(|(_, value)| value.clone());
    joined(words.chain(settings).chain(figures.iter().cloned()))
}

fn joined(fields: impl Iterator<Item = String>) -> String {
    let fields: Vec<_> = fields.map(quoted).collect();
    fields.join(",") + "\n"
}

/// As RFC 4180 has it.
fn quoted(field: String) -> String {
    if field.contains([',', '"', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::report::testing::findings;

    #[test]
    fn every_line_has_the_fields_of_the_head() {
        let found = findings(10).suites.remove(0);
        let (rollbacks, delays) = (false_rollbacks(&found), delays(&found));
        assert_eq!(rollbacks.lines().count(), 1 + 3 * 2);
        assert_eq!(delays.lines().count(), 1 + 4 * 2);
        assert!(rollbacks.starts_with("table,family,canary_pods,method,runs,"));
        assert!(rollbacks.contains("harmless,rough,5,\"ours, \"\"quoted\"\"\",1000,10,0.01,"), "{rollbacks}");
        assert!(rollbacks.lines().nth(3).unwrap().ends_with(",0.001,broken"), "{rollbacks}");
        assert!(delays.contains("grid,calm,2x,5,1000.00,a <rival>,200,150,1500,,1.500"), "{delays}");
        assert!(delays.contains("grid,calm,1.5x,5,5000.00,\"ours, \"\"quoted\"\"\",200,150,,,"), "{delays}");
    }
}
