//! A review as text for a prompt, within a number of bytes: whole hunks with numbered lines, the most dangerous first.
//!
//! Every line of a stranger's begins with our number and mark, so that none can pass for a heading of ours, and none holds
//! the end of a line. What did not fit is named, so that a plan can say what nobody looked at.

use std::ops::Range;

use super::{Review, ReviewFile, danger};
use crate::domain::{Line, LineKind, Text, TouchKind};

/// Most lines of a hunk that are shown or left out together; a longer one, such as a new file, is shown from its beginning
/// as far as there is room.
const HUNK_LINES_MAX: usize = 80;
/// The part of the room that one file gets while others wait for theirs: one in this many.
const SHARE_OF_A_FILE: usize = 4;
/// Least bytes of a file while others wait, where the room is small.
const FILE_BYTES_MIN: usize = 2_000;
/// What stands where lines of a file are left out.
const GAP: &str = "   ...\n";
/// Most entries of what was left out; the rest is counted.
const UNCOVERED_MAX: usize = 60;
/// Most names that are told of one file.
const NAMES_MAX: usize = 16;
/// Most bytes of a name.
const NAME_BYTES_MAX: usize = 60;
/// What stands before the name of something that is declared, in many languages.
const DECLARING: &[&str] = &[
    "fn",
    "func",
    "function",
    "def",
    "class",
    "struct",
    "enum",
    "trait",
    "interface",
    "type",
    "impl",
    "module",
    "mod",
    "table",
    "const",
    "static",
];

/// A review, as far as there was room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The text. It belongs into a prompt as JSON, as data.
    pub text: String,
    /// What is not in it: files, parts of files, and that the diff itself was cut. Strangers' words.
    pub uncovered: Vec<Text>,
}

/// Some lines of a file that are shown or left out together.
struct Piece {
    file: usize,
    lines: Range<usize>,
    /// Whether a hunk begins with it: then lines of the file are left out before it.
    begins_hunk: bool,
    danger: u32,
    bytes: usize,
    is_shown: bool,
}

impl Review {
    /// The files with numbered lines, in at most `bytes_max` bytes. The same review gives the same text.
    ///
    /// Each file gets its share in the order of danger, and what room is left then goes to the rest in the same order.
    pub fn shown(&self, bytes_max: usize) -> Shown {
        let headings: Vec<String> = self.files.iter().map(heading).collect();
        let mut pieces: Vec<Piece> = self.files.iter().enumerate().flat_map(|(at, file)| pieces(at, file)).collect();
        let mut has_heading = vec![false; self.files.len()];
        let mut left = bytes_max;
        let share = (bytes_max / SHARE_OF_A_FILE).max(FILE_BYTES_MIN);
        for share in [share, bytes_max] {
            let mut of_file: Vec<usize> = vec![0; self.files.len()];
            for piece in &mut pieces {
                let (Some(used), Some(has_heading)) = (of_file.get_mut(piece.file), has_heading.get_mut(piece.file))
                else {
                    continue;
                };
                let heading = if *has_heading { 0 } else { headings.get(piece.file).map_or(0, String::len) };
                let bytes = piece.bytes + heading;
                if piece.is_shown || bytes > left || *used + bytes > share {
                    *used += if piece.is_shown { piece.bytes } else { 0 };
                    continue;
                }
                (piece.is_shown, *has_heading) = (true, true);
                *used += bytes;
                left -= bytes;
            }
        }
        pieces.sort_by_key(|piece| (piece.file, piece.lines.start));
        let mut text = String::with_capacity(bytes_max - left);
        let mut last = None;
        for piece in pieces.iter().filter(|piece| piece.is_shown) {
            if last.is_none_or(|(file, _)| file != piece.file) {
                text.push_str(headings.get(piece.file).map_or("", String::as_str));
            }
            if (piece.begins_hunk || last != Some((piece.file, piece.lines.start))) && !piece.lines.is_empty() {
                text.push_str(GAP);
            }
            last = Some((piece.file, piece.lines.end));
            text.push_str(&self.files.get(piece.file).map_or_else(String::new, |file| written(file, &piece.lines)));
        }
        Shown { text, uncovered: self.uncovered(&pieces) }
    }

    /// The paths and the names of what is declared in changed lines, and no code: for a model that would not read the code.
    pub fn names(&self, bytes_max: usize) -> Shown {
        let mut shown = Shown::default();
        let mut left_out = Vec::new();
        for file in &self.files {
            let names = declared(&file.lines).join(", ");
            let entry =
                format!("{}{}", heading(file), if names.is_empty() { names } else { format!("declares {names}\n") });
            if shown.text.len() + entry.len() <= bytes_max {
                shown.text.push_str(&entry);
            }
            left_out.push(format!("{}: its lines", file.path));
        }
        left_out.extend(self.unshown.iter().map(|(path, why)| format!("{path} ({})", why.word())));
        shown.uncovered = told(left_out, self.cut);
        shown
    }

    fn uncovered(&self, pieces: &[Piece]) -> Vec<Text> {
        let mut left_out = Vec::new();
        for (at, file) in self.files.iter().enumerate() {
            let of_file = || pieces.iter().filter(|piece| piece.file == at);
            let is_whole = of_file().all(|piece| !piece.is_shown);
            let missing: Vec<String> = of_file()
                .filter(|piece| !piece.is_shown)
                .filter_map(|piece| {
                    let lines = file.lines.get(piece.lines.clone())?;
                    Some(format!("{}-{}", lines.first()?.number, lines.last()?.number))
                })
                .collect();
            match (missing.is_empty(), is_whole) {
                (true, _) => {}
                (false, true) => left_out.push(file.path.clone()),
                (false, false) => left_out.push(format!("{}: lines {}", file.path, missing.join(", "))),
            }
        }
        left_out.extend(self.unshown.iter().map(|(path, why)| format!("{path} ({})", why.word())));
        told(left_out, self.cut)
    }
}

fn told(left_out: Vec<String>, cut: bool) -> Vec<Text> {
    let more = left_out.len().saturating_sub(UNCOVERED_MAX);
    let mut told: Vec<Text> = left_out.iter().take(UNCOVERED_MAX).map(Text::new).collect();
    if more > 0 {
        told.push(Text::new(format!("and {more} more files")));
    }
    if cut {
        told.push(Text::new("what was cut from the diff for its size"));
    }
    told
}

fn heading(file: &ReviewFile) -> String {
    let kind = match file.kind {
        TouchKind::Added => "added",
        TouchKind::Modified => "modified",
        TouchKind::Removed => "removed",
        TouchKind::Renamed => "renamed",
    };
    let count = |kind| file.lines.iter().filter(|line| line.kind == kind).count();
    let (added, removed) = (count(LineKind::Added), count(LineKind::Removed));
    format!("file {}: {} ({}, {kind}, +{added} -{removed})\n", file.id, file.path, file.class.word())
}

/// The pieces of a file, the most dangerous first; the parts of a long hunk stay in order.
fn pieces(at: usize, file: &ReviewFile) -> Vec<Piece> {
    let mut pieces = Vec::new();
    if file.lines.is_empty() {
        // Its heading says all there is: it was moved, or is empty.
        return vec![Piece { file: at, lines: 0..0, begins_hunk: false, danger: 0, bytes: 0, is_shown: false }];
    }
    for hunk in file.hunks() {
        let danger = file.lines.get(hunk.clone()).map_or(0, danger::of_lines);
        for start in hunk.clone().step_by(HUNK_LINES_MAX) {
            let lines = start..hunk.end.min(start + HUNK_LINES_MAX);
            let bytes = GAP.len() + written(file, &lines).len();
            let begins_hunk = start == hunk.start;
            pieces.push(Piece { file: at, lines, begins_hunk, danger, bytes, is_shown: false });
        }
    }
    pieces.sort_by_key(|piece| (std::cmp::Reverse(piece.danger), piece.lines.start));
    pieces
}

/// Lines with their numbers and marks.
fn written(file: &ReviewFile, lines: &Range<usize>) -> String {
    let mut text = String::new();
    for line in file.lines.get(lines.clone()).unwrap_or_default() {
        let mark = match line.kind {
            LineKind::Added => '+',
            LineKind::Removed => '-',
            LineKind::Context => ' ',
        };
        text.push_str(&format!("{:>6} {mark} {}\n", line.number, line.text));
    }
    text
}

/// Names that changed lines declare, each once, in order.
fn declared(lines: &[Line]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for line in lines.iter().filter(|line| line.kind != LineKind::Context) {
        let words: Vec<&str> = line.text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let named = words.windows(2).find_map(|pair| match pair {
            [word, name] if DECLARING.contains(&word.to_ascii_lowercase().as_str()) => Some(*name),
            _ => None,
        });
        let Some(name) = named.filter(|name| name.len() <= NAME_BYTES_MAX) else { continue };
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
        if names.len() == NAMES_MAX {
            break;
        }
    }
    names
}
