//! What is wrong with a file, all of it at once.
//!
//! A file is mended in one go when every problem is listed in one go. So that one mistake is told once, a setting whose
//! form was refused (unknown, of the wrong kind) is silent afterwards: nothing is said of its meaning.

use std::{collections::BTreeSet, fmt};

use super::key::{Key, Source};

/// Most problems that are listed; the rest are counted.
pub const PROBLEMS_MAX: usize = 500;

/// One thing wrong with the configuration, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the setting, such as `services.shop.stages[2].bake_time`, or the file's name.
    pub key: String,
    /// What is wrong, as a fragment. Never holds a secret.
    pub what: String,
    /// What to write instead, as a fragment.
    pub fix: String,
    /// The line of the file, from 1; `None` where there is none to point at.
    pub line: Option<usize>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.what, self.fix)?;
        self.line.map_or(Ok(()), |line| write!(f, " (line {line})"))
    }
}

/// Collects problems while a file is read.
pub(super) struct Problems<'a> {
    source: &'a Source<'a>,
    file_name: &'a str,
    found: Vec<Problem>,
    uncounted: usize,
    keys: BTreeSet<Key>,
    refused_forms: BTreeSet<Key>,
}

impl<'a> Problems<'a> {
    /// None so far.
    pub(super) fn new(source: &'a Source<'a>, file_name: &'a str) -> Self {
        Self {
            source,
            file_name,
            found: Vec::new(),
            uncounted: 0,
            keys: BTreeSet::new(),
            refused_forms: BTreeSet::new(),
        }
    }

    /// The form of a setting is wrong: its name is unknown, or its value is of the wrong kind.
    pub(super) fn refuse_form(&mut self, key: &Key, what: impl Into<String>, fix: impl Into<String>) {
        self.keep(key, what.into(), fix.into());
        self.refused_forms.insert(key.clone());
    }

    /// Says nothing more of a setting: what is wrong with it was told under another key.
    pub(super) fn silence(&mut self, key: &Key) {
        self.keys.insert(key.clone());
        self.refused_forms.insert(key.clone());
    }

    /// The meaning of a setting is wrong. Silent where its form was refused already, or that of a table around it.
    pub(super) fn add(&mut self, key: &Key, what: impl Into<String>, fix: impl Into<String>) {
        if !key.prefixes().any(|prefix| self.refused_forms.contains(&prefix)) {
            self.keep(key, what.into(), fix.into());
        }
    }

    /// Whether nothing is wrong with this setting, below it, or with the form of what it stands in: only then is it
    /// worth comparing with another.
    pub(super) fn is_fine(&self, key: &Key) -> bool {
        let below = self.keys.range(key..).next().is_some_and(|found| found.is_within(key));
        !below && !key.prefixes().any(|prefix| self.refused_forms.contains(&prefix))
    }

    /// Whether anything is wrong at all.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Every problem in the order of the file, those without a line first.
    pub(super) fn into_list(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|problem| problem.line);
        if self.uncounted > 0 {
            self.found.push(Problem {
                key: self.file_name.into(),
                what: format!("{} more problems are not listed", self.uncounted),
                fix: "mend these first".into(),
                line: None,
            });
        }
        self.found
    }

    fn keep(&mut self, key: &Key, what: String, fix: String) {
        self.keys.insert(key.clone());
        if self.found.len() >= PROBLEMS_MAX {
            self.uncounted += 1;
            return;
        }
        let path = key.to_string();
        let key_shown = if path.is_empty() { self.file_name.to_owned() } else { path };
        self.found.push(Problem { key: key_shown, what, fix, line: self.source.line(key) });
    }
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    #[test]
    fn what_has_no_form_has_no_meaning_to_complain_of() {
        let tree = DeTable::new();
        let source = Source::new("", &tree);
        let mut problems = Problems::new(&source, "t.toml");
        let stage = Key::root().name("stages").at(1);
        problems.refuse_form(&stage, "is a number", "write a table");
        problems.add(&stage.name("share"), "is missing", "write it");
        problems.add(&stage, "is odd", "write it otherwise");
        assert!(!problems.is_fine(&stage.name("share")) && !problems.is_fine(&Key::root().name("stages")));
        assert!(problems.is_fine(&Key::root().name("stages").at(10)) && problems.is_fine(&Key::root().name("stage")));
        let listed: Vec<String> = problems.into_list().iter().map(Problem::to_string).collect();
        assert_eq!(listed, ["stages[1]: is a number; write a table"]);
    }

    #[test]
    fn the_list_is_bounded_and_says_what_it_leaves_out() {
        let tree = DeTable::new();
        let source = Source::new("", &tree);
        for (wrong, last) in
            [(PROBLEMS_MAX, "a: b; c"), (PROBLEMS_MAX + 1, "t.toml: 1 more problems are not listed; mend these first")]
        {
            let mut problems = Problems::new(&source, "t.toml");
            (0..wrong).for_each(|_| problems.add(&Key::root().name("a"), "b", "c"));
            let list = problems.into_list();
            assert_eq!(list.last().map(Problem::to_string).as_deref(), Some(last));
        }
    }
}
