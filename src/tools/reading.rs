//! Reading the change: hunks of its diff, and files as the change leaves them.
//!
//! Both show what strangers wrote, so both are bounded, with secrets masked and the invisible made visible. A file is
//! named by its path in the diff or by a plain path inside the repository: nothing else can be fetched with it.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{
    Context, Outcome, Status,
    reply::{self, cut, said},
    review::{Review, ReviewFile},
};
use crate::{
    domain::{Line, LineKind, TouchKind},
    forge::{self, github},
    untrusted::{masked, visible},
};

/// Most files of one call.
pub(super) const FILES_MAX: usize = 8;
/// Most lines of one answer.
pub(super) const LINES_MAX: u32 = 400;
/// Most bytes of one line in an answer.
pub(super) const LINE_BYTES_MAX: usize = 400;
/// Bytes of an answer's lines: the rest of the room is for paths.
const LINES_BYTES_MAX: usize = reply::ANSWER_BYTES_MAX - 4_096;

/// Lines of the diff.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Hunks {
    /// The files' numbers in the review, 1 to 8 of them.
    file_ids: Vec<u16>,
    /// Most lines to show, 1 to 400.
    max_lines: u32,
    /// Skip the lines before this one, counted over all files asked for, from 0; null for none.
    skip_lines: Option<u32>,
}

/// A file as the change leaves it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WholeFile {
    /// Its path in the repository.
    path: String,
    /// The first line to show, from 1.
    first_line: u32,
    /// Most lines to show, 1 to 400.
    max_lines: u32,
}

/// What is shown of lines: as many as fit.
struct Shown {
    lines_left: u32,
    bytes_left: usize,
    is_cut: bool,
}

impl Shown {
    fn of(lines: u32) -> Self {
        Self { lines_left: lines.clamp(1, LINES_MAX), bytes_left: LINES_BYTES_MAX, is_cut: false }
    }

    /// Whether there is room for this line; none after it once there is not.
    fn takes(&mut self, line: &str) -> bool {
        // As JSON, so that escapes count.
        let bytes = json!(line).to_string().len() + 1;
        self.is_cut |= self.lines_left == 0 || bytes > self.bytes_left;
        if self.is_cut {
            return false;
        }
        self.lines_left -= 1;
        self.bytes_left -= bytes;
        true
    }
}

pub(super) fn hunks(review: &Review, asked: &Hunks) -> Outcome {
    if asked.file_ids.is_empty() || asked.file_ids.len() > FILES_MAX {
        return reply::denied("out_of_bounds", &format!("file_ids: 1 to {FILES_MAX} files"));
    }
    let mut shown = Shown::of(asked.max_lines);
    let mut to_skip = asked.skip_lines.unwrap_or(0);
    let mut files = Vec::new();
    for id in &asked.file_ids {
        let Some(file) = review.file(*id) else {
            let detail = format!("file_ids: there is no file {id}; there are {}, from 0", review.files.len());
            return reply::denied("unknown", &detail);
        };
        let mut lines = Vec::new();
        for line in &file.lines {
            if to_skip > 0 {
                to_skip -= 1;
                continue;
            }
            let line = told(line);
            if shown.takes(&line) {
                lines.push(line);
            }
        }
        files.push(json!({ "file_id": id, "path": file.path, "class": file.class.word(), "lines": lines }));
    }
    let data = json!({ "files": files });
    if shown.is_cut { reply::truncated("more_lines", data) } else { reply::ok(data) }
}

/// A line as unified diffs write it, with its number.
fn told(line: &Line) -> String {
    let marker = match line.kind {
        LineKind::Added => '+',
        LineKind::Removed => '-',
        LineKind::Context => ' ',
    };
    format!("{marker}{}: {}", line.number, ended(&line.text))
}

fn ended(text: &str) -> String {
    let kept = cut(text, LINE_BYTES_MAX);
    if kept.len() < text.len() { format!("{kept}…") } else { kept.to_owned() }
}

pub(super) async fn file(context: &Context, review: &Review, asked: &WholeFile) -> Outcome {
    let Some(forge) = &context.forge else {
        return reply::no_data("no_forge", "files cannot be read here: work from the diff");
    };
    let of_diff = review.files.iter().find(|file| file.path == asked.path || file.true_path == asked.path);
    if of_diff.is_some_and(|file| file.kind == TouchKind::Removed) {
        return reply::no_data("removed", "the change removes this file: its lines are in the diff");
    }
    let path = of_diff.map_or(asked.path.as_str(), |file: &ReviewFile| file.true_path.as_str());
    if !github::is_plain_path(path) {
        let detail = "path: a path inside the repository, such as src/main.rs: no `..`, no leading slash, no address";
        return reply::denied("out_of_bounds", detail);
    }
    let (repository, revision) = (&context.change.repository, &context.change.revision);
    match forge.file(repository, path, revision).await {
        Ok(file) => lines_of(&file.text, file.cut, asked),
        Err(forge::Error::Refused(_)) => {
            reply::no_data("no_such_file", "the change's revision has no such text file, or it cannot be read")
        }
        Err(forge::Error::Malformed(why)) => reply::no_data("no_text", &said(why.as_str())),
        Err(forge::Error::Unavailable(_)) => reply::no_data("unavailable", "the forge does not answer: go on without"),
    }
}

fn lines_of(text: &str, is_cut: bool, asked: &WholeFile) -> Outcome {
    // Secrets go over line ends, so they are looked for in the whole.
    let safe = masked(text).text;
    let mut shown = Shown::of(asked.max_lines);
    let first = asked.first_line.max(1);
    let mut lines = Vec::new();
    let mut count = 0_u32;
    for (number, line) in (1..).zip(safe.lines()) {
        count = number;
        if number < first || shown.is_cut {
            continue;
        }
        // What is made visible grows, so the cut comes after.
        let line = format!("{number}: {}", ended(&visible(line, 4 * LINE_BYTES_MAX)));
        if shown.takes(&line) {
            lines.push(line);
        }
    }
    let data = json!({ "lines": lines, "lines_in_file": count, "file_was_cut": is_cut });
    if shown.is_cut || is_cut { reply::outcome(Status::Truncated, "more_lines", data, false) } else { reply::ok(data) }
}
