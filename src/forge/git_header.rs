//! What a git diff says of one file before its hunks: its paths, and whether it came, went, moved or is binary.
//!
//! A file may have a header and no hunk: a pure rename, a change of mode, an empty file, a binary one. Then its path
//! stands only in the `diff --git` line, where two names with spaces in them run into each other; git writes the same
//! name on both sides there unless the file was renamed, so the line is taken apart in the middle, in linear time.

use crate::domain::{FileDiff, TouchKind};

/// The header of one file as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Header<'a> {
    git_line: Option<&'a [u8]>,
    old: Option<&'a [u8]>,
    new: Option<&'a [u8]>,
    rename_from: Option<&'a [u8]>,
    rename_to: Option<&'a [u8]>,
    copy_to: Option<&'a [u8]>,
    added: bool,
    removed: bool,
    binary: bool,
    /// Whether the bytes of the binary file follow, rather than only the word that it differs.
    binary_patch: bool,
}

/// Lines of a header that say nothing we keep.
const UNUSED: [&[u8]; 6] =
    [b"old mode ", b"new mode ", b"similarity index ", b"dissimilarity index ", b"index ", b"copy from "];

impl<'a> Header<'a> {
    /// Whether a file begins with this line.
    pub(super) fn begins(line: &[u8]) -> bool {
        line.starts_with(b"diff --git ") || line.starts_with(b"--- ")
    }

    /// Takes in one line, without its end; `false` when the line is not of this header.
    pub(super) fn take(&mut self, line: &'a [u8]) -> bool {
        if self.new.is_some() {
            return false;
        }
        let slots: [(&[u8], &mut Option<&'a [u8]>); 6] = [
            (b"diff --git ", &mut self.git_line),
            (b"--- ", &mut self.old),
            (b"+++ ", &mut self.new),
            (b"rename from ", &mut self.rename_from),
            (b"rename to ", &mut self.rename_to),
            (b"copy to ", &mut self.copy_to),
        ];
        for (prefix, slot) in slots {
            if let Some(rest) = line.strip_prefix(prefix) {
                // The same field again belongs to the next file.
                let fresh = slot.is_none();
                slot.get_or_insert(rest);
                return fresh;
            }
        }
        if self.binary_patch {
            // A length, or base 85, which has no spaces in it.
            return line.starts_with(b"literal ") || line.starts_with(b"delta ") || !line.contains(&b' ');
        }
        let differs = line.starts_with(b"Binary files ") && line.ends_with(b" differ");
        self.binary_patch = line == b"GIT binary patch";
        self.binary |= differs || self.binary_patch;
        self.added |= line.starts_with(b"new file mode ");
        self.removed |= line.starts_with(b"deleted file mode ");
        const KNOWN: [&[u8]; 2] = [b"new file mode ", b"deleted file mode "];
        differs || self.binary_patch || KNOWN.iter().chain(&UNUSED).any(|prefix| line.starts_with(prefix))
    }

    /// The file that the header describes, still without lines; or what is wrong with it.
    pub(super) fn finish(self) -> Result<FileDiff, &'static str> {
        if self.old.is_some() != self.new.is_some() {
            return Err("`---` and `+++` belong together, and one is missing");
        }
        let added = self.added || self.old == Some(b"/dev/null");
        let removed = self.removed || self.new == Some(b"/dev/null");
        let (kind, path, previous) = match (self.rename_from, self.rename_to) {
            (Some(from), Some(to)) => (TouchKind::Renamed, decode(to)?, Some(decode(from)?)),
            (None, None) if added && removed => return Err("a file cannot come and go in one diff"),
            (None, None) if removed => (TouchKind::Removed, self.path_of(self.old, b"a/")?, None),
            (None, None) => {
                let kind = if added || self.copy_to.is_some() { TouchKind::Added } else { TouchKind::Modified };
                (kind, self.path_of(self.new, b"b/")?, None)
            }
            (Some(_), None) | (None, Some(_)) => return Err("`rename from` and `rename to` belong together"),
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(FileDiff {
            path: text(path),
            previous_path: previous.map(text),
            kind,
            binary: self.binary,
            lines: Vec::new(),
        })
    }

    /// The path on one side: where `---` or `+++` names it, there; otherwise by `copy to` or the `diff --git` line.
    fn path_of(&self, side: Option<&[u8]>, prefix: &[u8]) -> Result<Vec<u8>, &'static str> {
        if let Some(named) = side.filter(|named| *named != b"/dev/null") {
            // A tab ends the name: git puts one after names with spaces, other tools put a time after it.
            let name = named.split(|byte| *byte == b'\t').next().unwrap_or(named);
            let name = decode(name)?;
            return Ok(name.strip_prefix(prefix).map(<[u8]>::to_vec).unwrap_or(name));
        }
        match (self.copy_to, self.git_line) {
            (Some(to), _) => decode(to),
            (None, Some(line)) => same_on_both_sides(line),
            (None, None) => Err("the file has no name"),
        }
    }
}

/// The one path in `a/<path> b/<path>`.
fn same_on_both_sides(line: &[u8]) -> Result<Vec<u8>, &'static str> {
    const WRONG: &str = "the `diff --git` line does not name one path twice, as `a/<path> b/<path>`";
    let (left, right) = if line.starts_with(b"\"") {
        let end = quoted_end(line).ok_or(WRONG)?;
        let (left, rest) = line.split_at_checked(end).ok_or(WRONG)?;
        (left, rest.strip_prefix(b" ").ok_or(WRONG)?)
    } else {
        // Both sides are equally long, with one space between them.
        let (left, rest) = line.split_at_checked(line.len() / 2).ok_or(WRONG)?;
        (left, rest.strip_prefix(b" ").ok_or(WRONG)?)
    };
    let (left, right) = (decode(left)?, decode(right)?);
    match (left.strip_prefix(b"a/"), right.strip_prefix(b"b/")) {
        (Some(old), Some(new)) if old == new && !new.is_empty() => Ok(new.to_vec()),
        (Some(_), Some(_)) | (Some(_), None) | (None, Some(_)) | (None, None) => Err(WRONG),
    }
}

/// Where a quoted name ends, its closing quote included.
fn quoted_end(line: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in line.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// A name as git writes it: plain, or between quotes with C's escapes when it has unusual bytes in it.
fn decode(name: &[u8]) -> Result<Vec<u8>, &'static str> {
    const WRONG: &str = "a quoted path is cut off or has an escape that git does not write";
    let Some(quoted) = name.strip_prefix(b"\"") else {
        return if name.is_empty() { Err("a path is empty") } else { Ok(name.to_vec()) };
    };
    let mut bytes = quoted.strip_suffix(b"\"").ok_or(WRONG)?.iter().copied();
    let mut path = Vec::new();
    while let Some(byte) = bytes.next() {
        path.push(match byte {
            b'"' => return Err(WRONG),
            b'\\' => match bytes.next().ok_or(WRONG)? {
                b'a' => 7,
                b'b' => 8,
                b't' => b'\t',
                b'n' => b'\n',
                b'v' => 11,
                b'f' => 12,
                b'r' => b'\r',
                plain @ (b'"' | b'\\') => plain,
                high @ b'0'..=b'3' => {
                    let mut digit =
                        || bytes.next().filter(|d| (b'0'..=b'7').contains(d)).map(|d| d - b'0').ok_or(WRONG);
                    (high - b'0') * 64 + digit()? * 8 + digit()?
                }
                _ => return Err(WRONG),
            },
            plain => plain,
        });
    }
    if path.is_empty() { Err("a path is empty") } else { Ok(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(lines: &[&str]) -> Result<FileDiff, &'static str> {
        let mut header = Header::default();
        for line in lines {
            assert!(header.take(line.as_bytes()), "{line}");
        }
        header.finish()
    }

    #[test]
    fn names_with_spaces_are_taken_apart_in_the_middle() {
        let file = header(&["diff --git a/x b/x b/x b/x", "old mode 100644", "new mode 100755"]).unwrap();
        assert_eq!((file.path.as_str(), file.kind), ("x b/x", TouchKind::Modified));
    }

    #[test]
    fn quoted_names_are_decoded_byte_by_byte() {
        let file = header(&[r#"diff --git "a/caf\303\251 \"q\"\t\\.txt" "b/caf\303\251 \"q\"\t\\.txt""#]).unwrap();
        assert_eq!(file.path, "café \"q\"\t\\.txt");
        let odd = header(&[r#"diff --git "a/\377" "b/\377""#]).unwrap();
        assert_eq!(odd.path, "\u{fffd}", "bytes that are no UTF-8 are replaced");
    }

    #[test]
    fn a_header_that_names_nothing_sure_is_refused() {
        for lines in [
            &["diff --git a/x b/y"][..],
            &["diff --git x"],
            &["diff --git "],
            &["diff --git a/ b/"],
            &[r#"diff --git "a/x b/x"#],
            &[r#"diff --git "a/\9" "b/\9""#],
            &[r#"diff --git "a/\40" "b/\40""#],
            &["diff --git a/x b/x", "--- a/x"],
            &["diff --git a/x b/x", "rename from x"],
            &["--- /dev/null", "+++ /dev/null"],
        ] {
            assert!(header(lines).is_err(), "{lines:?} gave {:?}", header(lines));
        }
    }

    #[test]
    fn a_copy_is_a_new_file() {
        let file = header(&["diff --git a/x b/y", "similarity index 100%", "copy from x", "copy to y"]).unwrap();
        assert_eq!((file.path.as_str(), file.kind, file.previous_path), ("y", TouchKind::Added, None));
    }
}
