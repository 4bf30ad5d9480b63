//! Diff text to [`Diff`]: git's unified format with its extended headers, read strictly and within limits.
//!
//! The reader is ours because the diff is where a stranger's words come in. The crates that read diffs either drop what
//! has no hunk (renames, binary files, changes of mode), or pass over lines they do not know, and lines passed over are
//! lines that nobody checks. Here every line belongs to a header or is counted by a hunk, or the diff is refused with
//! the number of the line. What is too large is cut and marked, never refused: the part that was read is still true.

use super::{git_header::Header, kept};
use crate::domain::{Diff, FileDiff, Line, LineKind, Text};

/// Most bytes of a path that are kept, which is the longest path of Linux. A file with a longer one is left out.
pub const PATH_BYTES_MAX: usize = 4_096;

/// How much of a diff is kept; what goes beyond is cut and marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of the text that are read.
    pub bytes_max: usize,
    /// Most files.
    pub files_max: usize,
    /// Most lines over all files.
    pub lines_max: usize,
    /// Most bytes of one line, as UTF-8.
    pub line_bytes_max: usize,
}

/// The limits in force.
pub const LIMITS: Limits = Limits { bytes_max: 8 << 20, files_max: 3_000, lines_max: 50_000, line_bytes_max: 2_000 };

/// Text that is no git diff.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Malformed {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: Text,
}

/// Reads the text of a diff, which need not be UTF-8: what is not is replaced.
///
/// Line ends, `\r\n` included, are not part of a line's text.
pub fn read(text: &[u8], limits: &Limits) -> Result<Diff, Malformed> {
    let mut reader = Reader::new(*limits);
    let mut lines = Lines::new(text);
    if text.len() > limits.bytes_max {
        reader.diff.cut = true;
        let whole = text.get(..limits.bytes_max).unwrap_or_default();
        lines.rest =
            whole.get(..whole.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)).unwrap_or_default();
    }
    let shortened = reader.diff.cut;
    match reader.files(&mut lines) {
        Ok(()) => Ok(reader.diff),
        Err(Stop::Ended) if shortened => Ok(reader.diff),
        Err(Stop::Ended) => Err(lines.malformed("the diff ends inside a file")),
        Err(Stop::Malformed(malformed)) => Err(malformed),
    }
}

/// Puts a diff together from single files and the text of their hunks, as the forge lists them when the whole is too
/// large for it. A patch that is missing or breaks off marks the diff as cut.
pub(super) struct Assembly {
    reader: Reader,
}

/// The hunks of one file, as far as the forge gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patch<'a> {
    /// Their text, and how many lines it should add and remove.
    Text { hunks: &'a str, lines: u64 },
    /// The file has no lines that changed: it was moved, or is binary or empty.
    Nothing,
    /// There are lines that changed, and they were left out.
    LeftOut,
}

impl Assembly {
    pub(super) fn new(limits: Limits) -> Self {
        Self { reader: Reader::new(limits) }
    }

    /// Adds a file, which comes without lines, and its hunks.
    pub(super) fn add(&mut self, file: FileDiff, patch: Patch<'_>) -> Result<(), Malformed> {
        if !self.reader.open(file) {
            return Ok(());
        }
        let Patch::Text { hunks, lines: expected } = patch else {
            self.reader.diff.cut |= patch == Patch::LeftOut;
            return Ok(());
        };
        let mut lines = Lines::new(hunks.as_bytes());
        match self.reader.hunks(&mut lines) {
            Ok(changed) => self.reader.diff.cut |= changed < expected || lines.peek().is_some(),
            Err(Stop::Ended) => self.reader.diff.cut = true,
            Err(Stop::Malformed(malformed)) => return Err(malformed),
        }
        Ok(())
    }

    /// The diff; `cut` says that there are files which were not added.
    pub(super) fn finish(mut self, cut: bool) -> Diff {
        self.reader.diff.cut |= cut;
        self.reader.diff
    }
}

/// Why reading stopped.
enum Stop {
    /// The text ended inside a file.
    Ended,
    /// The text is no diff.
    Malformed(Malformed),
}

/// The lines of a text, without their ends.
struct Lines<'a> {
    rest: &'a [u8],
    /// The number of the line that was taken last.
    number: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { rest: text, number: 0 }
    }

    fn split(&self) -> Option<(&'a [u8], &'a [u8])> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let (line, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        Some((line.strip_suffix(b"\r").unwrap_or(line), rest.strip_prefix(b"\n").unwrap_or(rest)))
    }

    fn peek(&self) -> Option<&'a [u8]> {
        self.split().map(|(line, _)| line)
    }

    fn take(&mut self) -> Option<&'a [u8]> {
        let (line, rest) = self.split()?;
        self.rest = rest;
        self.number += 1;
        Some(line)
    }

    /// Speaks of the line that was taken last.
    fn malformed(&self, why: impl AsRef<str>) -> Malformed {
        Malformed { line: self.number, why: kept(why.as_ref()) }
    }

    fn stop(&self, why: impl AsRef<str>) -> Stop {
        Stop::Malformed(self.malformed(why))
    }
}

/// One side of a hunk: the number of its next line, and how many are to come.
struct Side {
    next: u32,
    left: u32,
}

impl Side {
    /// From `start,count` or `start`.
    fn parse(text: &str) -> Option<Self> {
        let (start, count) = text.split_once(',').unwrap_or((text, "1"));
        let number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u32>().ok())?;
        let (next, left) = (number(start)?, number(count)?);
        next.checked_add(left)?;
        (next > 0 || left == 0).then_some(Self { next, left })
    }

    /// The number of the next line, or `None` when there should be no more.
    fn step(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        self.next += 1;
        Some(self.next - 1)
    }
}

/// Both sides of `@@ -start,count +start,count @@`.
fn sides(line: &[u8]) -> Option<(Side, Side)> {
    // What stands after the second `@@` is a line of the file for orientation, and may be any bytes.
    let ranges = line.strip_prefix(b"@@ -")?;
    let end = ranges.windows(3).position(|three| three == b" @@")?;
    let (old, new) = std::str::from_utf8(ranges.get(..end)?).ok()?.split_once(" +")?;
    Some((Side::parse(old)?, Side::parse(new)?))
}

struct Reader {
    limits: Limits,
    diff: Diff,
    lines_kept: usize,
    /// Whether the file that is being read has no place in the diff.
    dropping: bool,
}

impl Reader {
    fn new(limits: Limits) -> Self {
        Self { limits, diff: Diff::default(), lines_kept: 0, dropping: false }
    }

    /// Reads file after file to the end of the text, or to the limit of files.
    fn files(&mut self, lines: &mut Lines<'_>) -> Result<(), Stop> {
        while let Some(line) = lines.take() {
            if line.is_empty() {
                continue;
            }
            if line.starts_with(b"diff --cc ") || line.starts_with(b"diff --combined ") {
                return Err(lines.stop("a combined diff has several old sides: ask for the diff against one parent"));
            }
            if !Header::begins(line) {
                return Err(lines.stop(format!("`{}` is no part of a git diff", String::from_utf8_lossy(line))));
            }
            if self.diff.files.len() == self.limits.files_max {
                self.diff.cut = true;
                return Ok(());
            }
            let mut header = Header::default();
            header.take(line);
            while let Some(line) = lines.peek()
                && header.take(line)
            {
                lines.take();
            }
            match header.finish() {
                Ok(file) if file.binary => {
                    self.open(file);
                }
                Ok(file) => {
                    self.open(file);
                    self.hunks(lines)?;
                }
                Err(_) if lines.rest.is_empty() && self.diff.cut => return Err(Stop::Ended),
                Err(why) => return Err(lines.stop(why)),
            };
        }
        Ok(())
    }

    /// Begins a file; `false` when there is no place for it. Lines that follow are then dropped.
    fn open(&mut self, file: FileDiff) -> bool {
        let long = |path: &String| path.len() > PATH_BYTES_MAX;
        let fits = self.diff.files.len() < self.limits.files_max
            && !long(&file.path)
            && !file.previous_path.as_ref().is_some_and(long);
        self.diff.cut |= !fits;
        self.dropping = !fits;
        if fits {
            self.diff.files.push(file);
        }
        fits
    }

    /// Reads every hunk that follows; the number of lines that came or went.
    fn hunks(&mut self, lines: &mut Lines<'_>) -> Result<u64, Stop> {
        let mut changed = 0;
        while lines.peek().is_some_and(|line| line.starts_with(b"@@ ")) {
            let Some((mut old, mut new)) = lines.take().and_then(sides) else {
                return Err(lines.stop("a hunk begins with `@@ -start,count +start,count @@`"));
            };
            while old.left > 0 || new.left > 0 {
                let line = lines.take().ok_or(Stop::Ended)?;
                let (kind, number, text) = match line.split_first() {
                    Some((b'+', text)) => (LineKind::Added, new.step(), text),
                    Some((b'-', text)) => (LineKind::Removed, old.step(), text),
                    Some((b' ', text)) => (LineKind::Context, old.step().and(new.step()), text),
                    // An empty line of context may have lost its space on the way.
                    None => (LineKind::Context, old.step().and(new.step()), line),
                    // The line before has no line end in the file.
                    Some((b'\\', _)) => continue,
                    Some(_) => return Err(lines.stop("a line of a hunk begins with a space, `+`, `-` or `\\`")),
                };
                let Some(number) = number else {
                    return Err(lines.stop("the hunk has more lines than its `@@` line says"));
                };
                changed += u64::from(kind != LineKind::Context);
                self.keep(kind, number, text);
            }
            while lines.peek().is_some_and(|line| line.starts_with(b"\\")) {
                lines.take();
            }
        }
        Ok(changed)
    }

    fn keep(&mut self, kind: LineKind, number: u32, bytes: &[u8]) {
        if self.lines_kept == self.limits.lines_max {
            self.diff.cut = true;
            return;
        }
        let Some(file) = self.diff.files.last_mut().filter(|_| !self.dropping) else { return };
        let max = self.limits.line_bytes_max;
        // A few bytes more than are kept, so that the cut does not fall into a character; replacing makes none shorter.
        let near = bytes.get(..bytes.len().min(max.saturating_add(4))).unwrap_or(bytes);
        let mut text = String::from_utf8_lossy(near).into_owned();
        if text.len() > max {
            text.truncate(text.floor_char_boundary(max));
            self.diff.cut = true;
        }
        file.lines.push(Line { kind, number, text });
        self.lines_kept += 1;
    }
}
