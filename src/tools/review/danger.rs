//! How much can go wrong in a file or a hunk, as a number to sort by. It decides what is shown first, never what is safe.
//!
//! Words count once each and not by how often they stand there, so that nobody can push a file far up, and others out of a
//! model's sight, by repeating them; tests and documentation come last whatever they say.

use crate::{
    domain::{FileDiff, Line, LineKind, PathClass},
    plan::path_class,
};

/// Folders and names of what answers users, and of what hurts everyone.
const SENSITIVE_PATHS: &[&str] = &[
    "route",
    "handler",
    "controller",
    "endpoint",
    "api",
    "auth",
    "login",
    "session",
    "payment",
    "checkout",
    "billing",
    "permission",
    "middleware",
    "queue",
    "worker",
    "consumer",
    "cache",
    "database",
    "db",
];
/// What changed lines speak of where things went wrong before.
const SENSITIVE_WORDS: &[&str] = &[
    "timeout",
    "deadline",
    "retry",
    "retries",
    "backoff",
    "circuit",
    "pool",
    "max_conn",
    "limit",
    "concurren",
    "parallel",
    "thread",
    "async",
    "await",
    "lock",
    "mutex",
    "atomic",
    "transaction",
    "select ",
    "insert ",
    "update ",
    "delete ",
    "alter ",
    "drop ",
    "index",
    "cache",
    "ttl",
    "auth",
    "token",
    "password",
    "permission",
    "payment",
    "charge",
    "price",
    "migrat",
    "feature",
    "flag",
    "unwrap",
    "panic",
    "unsafe",
    "todo",
    "catch",
    "except",
    "rescue",
];
/// What one such word counts.
const WORD: u32 = 3;
/// Most that words count for a file: less than one class of paths to the next but one.
const WORDS_MAX: u32 = 30;
/// What a path counts that speaks of something sensitive.
const SENSITIVE_PATH: u32 = 10;
/// Most bytes of a line that are read for it.
const LINE_BYTES_READ: usize = 400;

/// The danger of a file; a larger number is more.
pub(super) fn of_file(file: &FileDiff) -> u32 {
    let class = path_class(&file.path);
    if is_quiet(class) {
        return of_class(class);
    }
    let lower = file.path.to_ascii_lowercase();
    let is_sensitive = SENSITIVE_PATHS.iter().any(|word| lower.contains(word));
    of_class(class) + if is_sensitive { SENSITIVE_PATH } else { 0 } + of_lines(&file.lines)
}

/// The danger of some lines of one file, beside others of the same file.
pub(super) fn of_lines(lines: &[Line]) -> u32 {
    let mut spoken = vec![false; SENSITIVE_WORDS.len()];
    for line in lines.iter().filter(|line| line.kind != LineKind::Context) {
        let end = (0..=line.text.len().min(LINE_BYTES_READ)).rev().find(|end| line.text.is_char_boundary(*end));
        let lower = line.text.get(..end.unwrap_or_default()).unwrap_or_default().to_ascii_lowercase();
        for (spoken, word) in spoken.iter_mut().zip(SENSITIVE_WORDS) {
            *spoken |= lower.contains(word);
        }
    }
    spoken.into_iter().map(|spoken| if spoken { WORD } else { 0 }).sum::<u32>().min(WORDS_MAX)
}

const fn is_quiet(class: PathClass) -> bool {
    matches!(class, PathClass::Tests | PathClass::Docs | PathClass::Other)
}

const fn of_class(class: PathClass) -> u32 {
    match class {
        PathClass::Migration => 100,
        PathClass::Code => 70,
        PathClass::Config => 65,
        PathClass::Model => 60,
        PathClass::Deployment => 55,
        PathClass::Dependencies => 50,
        PathClass::Other => 3,
        PathClass::Tests => 2,
        PathClass::Docs => 1,
    }
}
