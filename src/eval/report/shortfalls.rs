//! Where it falls short: made from the figures, for the page and the screen.

use serde::Serialize;

use super::{Found, Row, percent};
use crate::eval::{
    calibration::{Rate, Standing, exception},
    power::{Delay, TELLING},
    suite::Method,
};

/// What sort of shortfall it is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A promise is broken beyond doubt.
    Broken,
    /// A promise is broken where that is known and said.
    Known,
    /// The figures leave a promise open.
    Open,
    /// Slower than twice the limit.
    Slow,
    /// Not found while it was watched.
    Missed,
    /// A rival is faster.
    Outrun,
}

/// Something that is not as good as it should be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shortfall {
    /// What sort.
    pub kind: Kind,
    /// In a sentence or two.
    pub told: String,
}

/// Of the limit; a median above it is slow.
const SLOW: f64 = 2.0;
/// Examples that are named of each kind.
const NAMED: usize = 4;

/// The cases of one family in which a method has the same shortfall.
struct Group<'a> {
    kind: Kind,
    method: &'a Method,
    family: &'a str,
    cases: Vec<(&'a Row<Rate>, &'a Rate)>,
}

impl Found {
    /// Where it falls short.
    pub fn shortfalls(&self) -> Vec<Shortfall> {
        let mut shortfalls = self.false_rollbacks();
        let mut tables: Vec<&str> = self.harmful.iter().map(|row| row.table).collect();
        tables.dedup();
        shortfalls.extend(tables.iter().filter_map(|table| self.slow(table)));
        shortfalls.extend(tables.iter().filter_map(|table| self.missed(table)));
        shortfalls.extend(self.outrun());
        shortfalls
    }

    /// One for each method and family, with the worst of its cases.
    fn false_rollbacks(&self) -> Vec<Shortfall> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        let mut too_few: Vec<&Rate> = Vec::new();
        for (method, row, rate) in self.held() {
            let kind = match self.standing(method, rate) {
                Some(Standing::Broken) if exception(self.exceptions, method, row.family).is_some() => Kind::Known,
                Some(Standing::Broken) => Kind::Broken,
                Some(Standing::Open) if rate.hits > 0 => Kind::Open,
                Some(Standing::Open) => {
                    too_few.push(rate);
                    continue;
                }
                Some(Standing::Kept) | None => continue,
            };
            let is_it = |group: &&mut Group<'_>| {
                group.kind == kind && group.method.name == method.name && group.family == row.family
            };
            match groups.iter_mut().find(is_it) {
                Some(group) => group.cases.push((row, rate)),
                None => groups.push(Group { kind, method, family: row.family, cases: vec![(row, rate)] }),
            }
        }
        groups.sort_by_key(|group| group.kind);
        let mut shortfalls: Vec<_> = groups.iter().filter_map(|group| self.of_family(group)).collect();
        if let Some(rate) = too_few.first() {
            let told = format!(
                "{} cells in which nothing was {} are open all the same: {} rollouts cannot show less than {}%.",
                too_few.len(),
                self.words.wrong,
                rate.runs,
                percent(rate.upper)
            );
            shortfalls.push(Shortfall { kind: Kind::Open, told });
        }
        shortfalls
    }

    fn of_family(&self, Group { kind, method, cases, .. }: &Group<'_>) -> Option<Shortfall> {
        let (row, rate) = cases.iter().max_by(|(_, one), (_, other)| one.share.total_cmp(&other.share))?;
        let more = if cases.len() > 1 { format!(", the worst of {} such cases", cases.len()) } else { String::new() };
        let known = exception(self.exceptions, method, row.family).filter(|_| *kind == Kind::Known);
        let known = known.map_or(String::new(), |exception| format!(" Known: {}.", exception.reason));
        let told = format!(
            "{}: {} of {} {} {} ({}%; at least {}%, at most {}%) in {}{more}.{known}",
            method.name,
            rate.hits,
            rate.runs,
            self.words.harmless,
            self.words.wrong,
            percent(rate.share),
            percent(rate.lower),
            percent(rate.upper),
            row.told()
        );
        Some(Shortfall { kind: *kind, told })
    }

    /// Cases of one table on which a delay over its limit says something, with the delay of our first method; all where
    /// there are no limits.
    fn telling(&self, table: &str) -> impl Iterator<Item = (&Row<Delay>, Option<f64>, &Delay)> {
        let has_limits = self.has_limits();
        self.harmful.iter().filter(move |row| row.table == table).filter_map(move |row| {
            let limit = row.limit_seconds.filter(|limit| TELLING.contains(limit));
            (limit.is_some() || !has_limits).then_some(())?;
            Some((row, limit, row.cells.first()?))
        })
    }

    fn slow(&self, table: &str) -> Option<Shortfall> {
        let mut slow: Vec<_> = self
            .telling(table)
            .filter_map(|(row, limit, delay)| Some((row, delay.over(limit?)?)))
            .filter(|(_, over)| *over > SLOW)
            .collect();
        slow.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let all = self.telling(table).count();
        (!slow.is_empty()).then(|| {
            let examples: Vec<_> =
                slow.iter().take(NAMED).map(|(row, over)| format!("{over:.1}x in {}", row.told())).collect();
            let told = format!(
                "{}: in {} of {all} cases of the {table} table the median delay is more than {SLOW} times the limit, worst {}.",
                self.methods.first().map_or("", |method| method.name),
                slow.len(),
                examples.join("; ")
            );
            Shortfall { kind: Kind::Slow, told }
        })
    }

    fn missed(&self, table: &str) -> Option<Shortfall> {
        let mut missed: Vec<_> = self.telling(table).filter(|(_, _, delay)| delay.median.is_none()).collect();
        let first = |limit: Option<f64>, delay: &Delay| (limit.unwrap_or(0.0), delay.found);
        missed.sort_by(|(_, limit, one), (_, other, another)| {
            let (one, other) = (first(*limit, one), first(*other, another));
            one.0.total_cmp(&other.0).then(one.1.cmp(&other.1))
        });
        (!missed.is_empty()).then(|| {
            let examples: Vec<_> = missed
                .iter()
                .take(NAMED)
                .map(|(row, limit, delay)| {
                    let found = percent(delay.found as f64 / delay.runs.max(1) as f64);
                    let limit = limit.map_or(String::new(), |limit| format!(", limit {limit:.0} s"));
                    format!("{found}% {}{limit}, in {}", self.words.right, row.told())
                })
                .collect();
            let told = format!(
                "{}: in {} of {} cases of the {table} table, half of the {} were not {}: {}.",
                self.methods.first().map_or("", |method| method.name),
                missed.len(),
                self.telling(table).count(),
                self.words.harmful,
                self.words.right,
                examples.join("; ")
            );
            Shortfall { kind: Kind::Missed, told }
        })
    }

    fn outrun(&self) -> Vec<Shortfall> {
        let seconds = |delay: &Delay| delay.median.unwrap_or(u32::MAX);
        let rivals = self.methods.iter().enumerate().filter(|(_, method)| !method.is_ours);
        rivals
            .filter_map(|(at, method)| {
                let faster = |row: &&Row<Delay>| match (row.cells.first(), row.cells.get(at)) {
                    (Some(ours), Some(theirs)) => seconds(theirs) < seconds(ours),
                    _ => false,
                };
                let faster = self.harmful.iter().filter(faster).count();
                let worst = self.harmless.iter().filter_map(|row| row.cells.get(at)).map(|rate| rate.share);
                let worst = worst.fold(0.0, f64::max);
                (faster > 0).then(|| Shortfall {
                    kind: Kind::Outrun,
                    told: format!(
                        "{} has a shorter median than ours in {faster} of {} cases; up to {}% of its {} are {}.",
                        method.name,
                        self.harmful.len(),
                        percent(worst),
                        self.words.harmless,
                        self.words.wrong
                    ),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::report::testing::findings;

    #[test]
    fn every_kind_of_shortfall_is_found() {
        let shortfalls = findings(10).suites[0].shortfalls();
        let kinds: Vec<_> = shortfalls.iter().map(|shortfall| shortfall.kind).collect();
        assert_eq!(kinds, [Kind::Broken, Kind::Known, Kind::Open, Kind::Slow, Kind::Missed, Kind::Outrun]);
        let told: Vec<_> = shortfalls.iter().map(|shortfall| shortfall.told.as_str()).collect();
        assert!(told[0].contains("10 of 1000") && told[0].contains("rough"), "{}", told[0]);
        assert!(told[2].contains("1 cells"), "{}", told[2]);
        assert!(told[3].contains("1 of 3") && told[3].contains("3.0x"), "{}", told[3]);
        assert!(told[4].contains("75% found"), "{}", told[4]);
        assert!(told[5].contains("in 2 of 4 cases") && told[5].contains("30%"), "{}", told[5]);
    }
}
