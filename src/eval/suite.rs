//! What is tried: the one list of suites.
//!
//! A suite is a kind of SLI, drawn: its harmless rollouts, its harmful ones, and the methods that watch them. To add one,
//! write a file with its cases and an entry in [`SUITES`]; a suite without rivals names one method, and one without
//! harmful cases gives none.

use super::{counts, latency, level, mix, no_control, safe};

/// Every suite there is.
pub const SUITES: &[Suite] = &[counts::SUITE, latency::SUITE, level::SUITE, mix::SUITE, safe::SUITE, no_control::SUITE];

/// A way to decide.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Method {
    /// Its name in tables.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// Whether it is ours.
    pub is_ours: bool,
    /// The chance of rolling back a harmless canary that it must keep, in every family. A rival is held to nothing.
    pub promise: Option<f64>,
}

impl Method {
    /// One of ours, which promises.
    pub const fn ours(name: &'static str, summary: &'static str, promise: Option<f64>) -> Self {
        Self { name, summary, is_ours: true, promise }
    }

    /// A rival's.
    pub const fn rival(name: &'static str, summary: &'static str) -> Self {
        Self { name, summary, is_ours: false, promise: None }
    }
}

/// A family in which a method is known to break its promise, and why it stays that way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exception {
    /// The method's name.
    pub method: &'static str,
    /// The family's name.
    pub family: &'static str,
    /// The reason, for the report.
    pub reason: &'static str,
}

/// Draws the rollout of a seed and lets every method of the suite watch it: for each, in the suite's order, after how many
/// seconds it rolled back, if it did.
pub type Rollout = Box<dyn Fn(u64) -> Vec<Option<u32>> + Send + Sync>;

/// One sort of rollout, to be drawn many times.
pub struct Case {
    /// Which table of the report it stands in.
    pub table: &'static str,
    /// The family of noise.
    pub family: &'static str,
    /// What else sets it apart: columns and their values; the same columns in all cases of a table.
    pub setting: Vec<(&'static str, String)>,
    /// How fast any test could be, on average; `None` where that is not known or the canary is harmless.
    pub limit_seconds: Option<f64>,
    /// Draws it and lets it be watched.
    pub run: Rollout,
}

/// What its rollouts and the methods' decisions are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Words {
    /// Rollouts in which nothing should be decided.
    pub harmless: &'static str,
    /// What was done to one of them in which something was.
    pub wrong: &'static str,
    /// Rollouts in which something should be decided.
    pub harmful: &'static str,
    /// What was done to one of them in which something was.
    pub right: &'static str,
    /// The names of the files of figures, behind the suite's name.
    pub files: (&'static str, &'static str),
}

impl Words {
    /// Of suites in which the decision is a rollback.
    pub const ROLLBACKS: Self = Self {
        harmless: "harmless rollouts",
        wrong: "taken back",
        harmful: "harmful rollouts",
        right: "found",
        files: ("false-rollbacks", "delays"),
    };
}

/// A kind of SLI, or of decision.
pub struct Suite {
    /// Its name, as `--only` takes it.
    pub name: &'static str,
    /// What is drawn, in a sentence.
    pub summary: &'static str,
    /// Who watches, ours first.
    pub methods: fn() -> Vec<Method>,
    /// How its rollouts are called.
    pub words: Words,
    /// Harmless rollouts of each case, where no number is asked for: as many as can be afforded, 10,000 at best.
    pub runs: u64,
    /// Harmful ones.
    pub power_runs: u64,
    /// Rollouts that must not be rolled back.
    pub harmless: fn() -> Vec<Case>,
    /// Rollouts that should be.
    pub harmful: fn() -> Vec<Case>,
    /// Where a promise is known not to hold.
    pub exceptions: &'static [Exception],
}

/// What is asked for: a suite, or one family of it, as `counts` or `counts/retry clusters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Only {
    suite: String,
    family: Option<String>,
}

impl std::str::FromStr for Only {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let (suite, family) = match written.split_once('/') {
            Some((suite, family)) => (suite, Some(family.to_owned())),
            None => (written, None),
        };
        let Some(known) = SUITES.iter().find(|known| known.name == suite) else {
            let names: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
            return Err(format!("no suite {suite:?}; there are: {}", names.join(", ")));
        };
        if let Some(family) = &family {
            let families = families(&(known.harmless)());
            if !families.contains(&family.as_str()) {
                return Err(format!("no family {family:?} in {suite}; there are: {}", families.join(", ")));
            }
        }
        Ok(Self { suite: suite.to_owned(), family })
    }
}

impl Only {
    /// Whether `wanted` asks for this family; an empty list asks for everything.
    pub fn wants(wanted: &[Self], suite: &str, family: &str) -> bool {
        let is_it = |only: &Self| only.suite == suite && only.family.as_ref().is_none_or(|wanted| wanted == family);
        wanted.is_empty() || wanted.iter().any(is_it)
    }
}

/// The families of some cases, each once, in their order.
pub fn families(cases: &[Case]) -> Vec<&'static str> {
    let mut families = Vec::new();
    for case in cases {
        if !families.contains(&case.family) {
            families.push(case.family);
        }
    }
    families
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_suite_is_sound() {
        let mut names = BTreeSet::new();
        for suite in SUITES {
            assert!(names.insert(suite.name) && suite.summary.len() > 20, "{}", suite.name);
            assert!((1..=10_000).contains(&suite.runs) && (1..=1_000).contains(&suite.power_runs), "{}", suite.name);
            let methods = (suite.methods)();
            assert!(methods.first().is_some_and(|first| first.is_ours && first.promise.is_some()), "{}", suite.name);
            assert!(methods.iter().all(|method| method.summary.len() > 20), "{}", suite.name);
            let harmless = (suite.harmless)();
            assert!(!harmless.is_empty() && harmless.iter().all(|case| case.limit_seconds.is_none()));
            let mut seen = BTreeSet::new();
            for case in harmless.iter().chain(&(suite.harmful)()) {
                assert!(seen.insert((case.table, case.family, case.setting.clone())), "{:?} twice", case.setting);
            }
            for exception in suite.exceptions {
                assert!(methods.iter().any(|method| method.name == exception.method), "{}", exception.method);
                assert!(families(&harmless).contains(&exception.family), "{}", exception.family);
            }
        }
    }

    #[test]
    fn what_is_asked_for_is_a_suite_or_a_family_and_nothing_else() {
        let only = |written: &str| written.parse::<Only>();
        let one = [only("counts/retry clusters").unwrap()];
        assert!(Only::wants(&one, "counts", "retry clusters") && !Only::wants(&one, "counts", "independent"));
        assert!(Only::wants(&[only("counts").unwrap()], "counts", "independent"));
        assert!(Only::wants(&[], "counts", "independent"));
        assert!(only("count").unwrap_err().contains("counts"));
        assert!(only("counts/none").unwrap_err().contains("retry clusters"));
    }
}
