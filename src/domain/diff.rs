//! A parsed unified diff: untrusted text with line numbers. How it is parsed is the forge's business.

use serde::{Deserialize, Serialize};

use super::TouchKind;

/// Whether a line came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// Only after the change.
    Added,
    /// Only before it.
    Removed,
    /// On both sides, shown around a change.
    Context,
}

/// One line of a diff.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Whether it came or went.
    pub kind: LineKind,
    /// Its number, from 1: after the change, or before it for a removed line.
    pub number: u32,
    /// The text without its marker and line end.
    pub text: String,
}

/// One file of a diff.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDiff {
    /// Its path after the change, or before it when removed.
    pub path: String,
    /// Its path before a rename.
    pub previous_path: Option<String>,
    /// What happened to it.
    pub kind: TouchKind,
    /// Whether it is binary: then it has no lines.
    pub binary: bool,
    /// Its lines, hunk after hunk.
    pub lines: Vec<Line>,
}

impl FileDiff {
    /// The lines that came, with their numbers after the change.
    pub fn added(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.kind == LineKind::Added)
    }

    /// The lines that went, with their numbers before the change.
    pub fn removed(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.kind == LineKind::Removed)
    }
}

/// A whole diff, as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// Its files, in order.
    pub files: Vec<FileDiff>,
    /// Whether something was left out for size.
    pub cut: bool,
}
