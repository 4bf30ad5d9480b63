//! What the suites found, written down: CSV files to compute with and one page to read.
//!
//! The page needs nothing but itself: no script, no font, no picture from elsewhere. Its list of what falls short is made
//! from the figures, so that it cannot be forgotten.

mod csv;
mod page;
mod plots;
mod shortfalls;
mod summary;

use std::{fs, io, path::Path};

pub use shortfalls::{Kind, Shortfall};
pub use summary::summary;

use super::{
    calibration::{Rate, Standing, exception, standing},
    power::Delay,
    suite::{Case, Exception, Method, Words},
    trial::Outcome,
};

/// What was found in one case.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<T> {
    /// The table it stands in.
    pub table: &'static str,
    /// The family of noise.
    pub family: &'static str,
    /// Columns and their values.
    pub setting: Vec<(&'static str, String)>,
    /// How fast any test could be, on average.
    pub limit_seconds: Option<f64>,
    /// Method by method.
    pub cells: Vec<T>,
}

impl<T> Row<T> {
    /// Of a case and the outcomes of its methods.
    pub fn of(case: &Case, outcomes: &[Outcome], cell: impl Fn(&Outcome) -> T) -> Self {
        Self {
            table: case.table,
            family: case.family,
            setting: case.setting.clone(),
            limit_seconds: case.limit_seconds,
            cells: outcomes.iter().map(cell).collect(),
        }
    }

    /// What is wrong with the canary, in one word.
    fn effect(&self) -> Option<&str> {
        self.value("ratio").or_else(|| self.value("effect"))
    }

    /// The value of one column of the setting.
    fn value(&self, column: &str) -> Option<&str> {
        self.setting.iter().find(|(name, _)| *name == column).map(|(_, value)| value.as_str())
    }

    /// The family and the setting in one line.
    fn told(&self) -> String {
        let values: Vec<_> = self.setting.iter().map(|(name, value)| format!("{name} {value}")).collect();
        format!("{}, {}", self.family, values.join(", "))
    }
}

/// What was found in one suite.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The suite's name.
    pub suite: &'static str,
    /// What was drawn.
    pub summary: &'static str,
    /// Who watched.
    pub methods: Vec<Method>,
    /// How its rollouts are called.
    pub words: Words,
    /// Harmless rollouts of each case.
    pub runs: u64,
    /// Harmful rollouts of each case.
    pub power_runs: u64,
    /// How many cells are judged together, those of other suites included: see [`standing`].
    pub judged: usize,
    /// Where a promise is known not to hold.
    pub exceptions: &'static [Exception],
    /// Harmless rollouts.
    pub harmless: Vec<Row<Rate>>,
    /// Harmful ones.
    pub harmful: Vec<Row<Delay>>,
}

impl Found {
    /// Whether a method broke its promise beyond doubt in a family that is no exception.
    pub fn is_broken(&self) -> bool {
        self.broken().any(|(method, row, _)| exception(self.exceptions, method, row.family).is_none())
    }

    /// Every method, case and rate in which a promise is broken beyond doubt, exceptions included.
    fn broken(&self) -> impl Iterator<Item = (&Method, &Row<Rate>, &Rate)> {
        self.held().filter(|(method, _, rate)| self.standing(method, rate) == Some(Standing::Broken))
    }

    fn standing(&self, method: &Method, rate: &Rate) -> Option<Standing> {
        standing(method, rate, self.judged)
    }

    /// Whether any harmful case has a limit; where none has, delays are told in seconds.
    fn has_limits(&self) -> bool {
        self.harmful.iter().any(|row| row.limit_seconds.is_some())
    }

    /// Every rate of a method that promised.
    fn held(&self) -> impl Iterator<Item = (&Method, &Row<Rate>, &Rate)> {
        self.harmless.iter().flat_map(|row| {
            let cells = self.methods.iter().zip(&row.cells);
            cells.filter(|(method, _)| method.promise.is_some()).map(move |(method, rate)| (method, row, rate))
        })
    }
}

/// What was found, and how it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// The seed of the whole.
    pub seed: u64,
    /// Suite by suite.
    pub suites: Vec<Found>,
}

impl Findings {
    /// Of some suites, whose promises are judged together.
    pub fn of(seed: u64, mut suites: Vec<Found>) -> Self {
        let judged = suites.iter().map(|found| found.held().count()).sum();
        suites.iter_mut().for_each(|found| found.judged = judged);
        Self { seed, suites }
    }

    /// Whether a promise is broken beyond doubt anywhere but in the named exceptions.
    pub fn is_broken(&self) -> bool {
        self.suites.iter().any(Found::is_broken)
    }

    /// Writes the page and the CSV files into a folder, which is made; the names of the files.
    ///
    /// # Errors
    /// Where the folder cannot be written, or the template is broken.
    pub fn write(&self, folder: &Path) -> io::Result<Vec<String>> {
        fs::create_dir_all(folder)?;
        let mut files = vec![("index.html".to_owned(), page::render(self).map_err(io::Error::other)?)];
        for found in &self.suites {
            if !found.harmless.is_empty() {
                files.push((format!("{}-{}.csv", found.suite, found.words.files.0), csv::false_rollbacks(found)));
            }
            if !found.harmful.is_empty() {
                files.push((format!("{}-{}.csv", found.suite, found.words.files.1), csv::delays(found)));
            }
        }
        for (name, text) in &files {
            fs::write(folder.join(name), text)?;
        }
        Ok(files.into_iter().map(|(name, _)| name).collect())
    }
}

/// A share in percent, to the digit that its size calls for.
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent >= 10.0 {
        format!("{percent:.0}")
    } else if percent >= 1.0 {
        format!("{percent:.1}")
    } else {
        format!("{percent:.2}")
    }
}

/// Values in order of appearance, each once.
fn values<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut values = Vec::new();
    for value in all {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A small report: one of ours that fails in one family, and a rival.
    pub(crate) fn findings(ours_false: usize) -> Findings {
        let methods = vec![
            Method::ours("ours, \"quoted\"", "for this test alone", Some(0.001)),
            Method::rival("a <rival>", "for this test alone"),
        ];
        let rate = |hits: usize| Rate::of(&Outcome { runs: 1000, delays: vec![15; hits] });
        let harmless = |family, ours| Row {
            table: "harmless",
            family,
            setting: vec![("canary pods", "5".to_owned())],
            limit_seconds: None,
            cells: vec![rate(ours), rate(300)],
        };
        let delay = |median, runs| Delay { median, ninetieth: None, found: 150, runs };
        let harmful = |ratio: &str, limit, ours, theirs| Row {
            table: "grid",
            family: "calm",
            setting: vec![("ratio", ratio.to_owned()), ("canary pods", "5".to_owned())],
            limit_seconds: Some(limit),
            cells: vec![delay(ours, 200), delay(theirs, 200)],
        };
        let found = Found {
            suite: "counts",
            summary: "for this test alone",
            methods,
            words: Words::ROLLBACKS,
            runs: 1000,
            power_runs: 200,
            judged: 1,
            exceptions: &[Exception { method: "ours, \"quoted\"", family: "known", reason: "it is known" }],
            harmless: vec![harmless("calm", 0), harmless("rough", ours_false), harmless("known", 200)],
            harmful: vec![
                harmful("2x", 1000.0, Some(3000), Some(1500)),
                harmful("10x", 100.0, Some(150), Some(300)),
                harmful("20x", 10.0, Some(60), Some(300)),
                harmful("1.5x", 5000.0, None, Some(300)),
            ],
        };
        Findings::of(1, vec![found])
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::findings, *};

    #[test]
    fn a_promise_broken_beyond_doubt_is_broken_and_an_exception_is_not() {
        assert!(!findings(0).is_broken());
        assert!(!findings(3).is_broken(), "3 of 1000 may be chance");
        assert!(findings(10).is_broken());
    }

    #[test]
    fn everything_is_written_and_the_page_needs_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let names = findings(10).write(folder.path()).unwrap();
        assert_eq!(names, ["index.html", "counts-false-rollbacks.csv", "counts-delays.csv"]);
        let page = fs::read_to_string(folder.path().join("index.html")).unwrap();
        for from_elsewhere in ["http://", "https://", "<script", "<link", "<img", "@import", "url("] {
            assert!(!page.contains(from_elsewhere), "{from_elsewhere}");
        }
        assert!(page.contains("a &lt;rival&gt;") && !page.contains("<rival>"), "strangers' words are escaped");
        assert!(page.contains("<svg") && page.contains("falls short") && page.contains("it is known"));
        assert!(!page.contains("NaN") && !page.contains(">inf"), "a figure is a figure");
    }
}
