//! One file of the diff as the signals read it: what part it plays, in which language it is written, and its lines with
//! the quiet ones (comments, blank lines, tests inside the file) marked.

use super::scan::{Pairs, cut, first_word};
pub(super) use crate::plan::path_class::{Language, Role};
use crate::{
    domain::{DiffLine, FileDiff, LineKind},
    plan::path_class::role,
};

impl Language {
    fn comments(self) -> &'static [&'static str] {
        match self {
            Self::Python | Self::Ruby | Self::Elixir => &["#"],
            Self::Sql => &["--"],
            Self::Other => &["#", "//", "--", "<!--", ";"],
            _ => &["//", "/*", "* ", "*/"],
        }
    }
}

/// A line as the signals read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    /// Whether it came, went or stands around.
    pub(super) kind: LineKind,
    /// Its number in the file.
    pub(super) number: u32,
    /// Its text, cut.
    pub(super) text: &'a str,
    /// Which hunk it is in, from 0.
    pub(super) hunk: u32,
    /// Whether it is a comment.
    pub(super) comment: bool,
    /// Whether it belongs to tests inside the file.
    pub(super) test: bool,
    /// Which pairs of letters are in it.
    pairs: Pairs,
}

impl<'a> Row<'a> {
    /// A line as it stands in the diff.
    pub(super) fn new(kind: LineKind, number: u32, text: &'a str) -> Self {
        let text = cut(text);
        Self { kind, number, text, hunk: 0, comment: false, test: false, pairs: Pairs::of(text) }
    }

    /// Whether this is in it, letter for letter.
    pub(super) fn has(&self, text: &str) -> bool {
        self.pairs.may_have(text) && self.text.contains(text)
    }

    /// Whether this word in lower case is in it, in any case.
    pub(super) fn speaks_of(&self, word: &str) -> bool {
        self.pairs.may_have(word) && self.text.to_ascii_lowercase().contains(word)
    }

    /// Whether it may have a string in it.
    pub(super) fn has_quote(&self) -> bool {
        self.text.bytes().any(|b| matches!(b, b'"' | b'\'' | b'`'))
    }

    /// Whether it came or went, and is code.
    pub(super) fn changed(&self) -> bool {
        self.kind != LineKind::Context && self.speaks()
    }

    /// Whether it came, and is code.
    pub(super) fn added(&self) -> bool {
        self.kind == LineKind::Added && self.speaks()
    }

    /// Whether it is code: no comment, not blank, no test.
    pub(super) fn speaks(&self) -> bool {
        !self.comment && !self.test && !self.text.trim().is_empty()
    }
}

/// One file of the diff.
#[derive(Clone, Debug)]
pub(super) struct Source<'a> {
    /// Its path.
    pub(super) path: &'a str,
    /// The part it plays.
    pub(super) role: Role,
    /// Its language.
    pub(super) language: Language,
    /// Its lines.
    pub(super) rows: Vec<Row<'a>>,
}

impl<'a> Source<'a> {
    /// Reads at most `lines_max` lines of a file.
    pub(super) fn read(file: &'a FileDiff, lines_max: usize) -> Self {
        let extension = file.path.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
        let language = Language::of(&extension);
        let role = role(&file.path);
        let mut rows = Vec::new();
        // Nobody reads the lines of what nobody wrote here.
        let lines_max = if matches!(role, Role::Generated | Role::Vendored) { 0 } else { lines_max };
        let (mut hunk, mut previous, mut test) = (0, None, false);
        for line in file.lines.iter().take(lines_max) {
            let row = Row::new(line.kind, line.number, &line.text);
            let trimmed = row.text.trim_start();
            if line.kind != LineKind::Removed {
                if previous.is_some_and(|before: u32| line.number != before.saturating_add(1)) {
                    hunk += 1;
                }
                previous = Some(line.number);
            }
            test |= language == Language::Rust && (trimmed.starts_with("#[cfg(test)") || is_tests_module(trimmed));
            let comment = language.comments().iter().any(|mark| trimmed.starts_with(mark)) || trimmed == "*";
            rows.push(Row { hunk, comment, test, ..row });
        }
        Self { path: &file.path, role, language, rows }
    }

    /// A line of this file by which a check may be shown to rest on it.
    pub(super) fn line(&self, row: &Row<'_>) -> DiffLine {
        DiffLine { path: self.path.to_owned(), line: row.number }
    }
}

fn is_tests_module(trimmed: &str) -> bool {
    trimmed.strip_prefix("mod ").is_some_and(|rest| first_word(rest).0 == "tests")
}
