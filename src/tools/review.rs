//! The diff as a model may see it: files in the order of what can go wrong in them, secrets masked, the invisible made
//! visible, and without what nobody wrote (generated, vendored and lock files, binaries), which is named instead.

use crate::domain::{Diff, Line, PathClass, TouchKind};

/// One file of a change, as a model may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewFile {
    /// Its number in the review, by which tools name it.
    pub id: u16,
    /// Its path, safe to show.
    pub path: String,
    /// Its path as the diff has it.
    pub true_path: String,
    /// What kind of file it is.
    pub class: PathClass,
    /// What happened to it.
    pub kind: TouchKind,
    /// Its lines, safe to show.
    pub lines: Vec<Line>,
}

/// Why a file is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unshown {
    /// A tool wrote it.
    Generated,
    /// It is somebody else's code, copied.
    Vendored,
    /// It pins versions.
    Lock,
    /// It has no lines.
    Binary,
}

/// A diff as a model may see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// The files, the riskiest first; a file's place is its number.
    pub files: Vec<ReviewFile>,
    /// The files that are not shown, by their safe paths, and why.
    pub unshown: Vec<(String, Unshown)>,
    /// How many secrets were masked.
    pub secrets: usize,
}

impl Review {
    /// A diff, made safe and put in order.
    pub fn of(_diff: &Diff) -> Self {
        Self::default()
    }

    /// The file of that number.
    pub fn file(&self, id: u16) -> Option<&ReviewFile> {
        self.files.get(usize::from(id))
    }
}
