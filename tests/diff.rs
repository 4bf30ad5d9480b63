//! Diff text becomes the words of the domain: every shape that git writes, every limit, and never a panic.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path, process::Command};

use proptest::prelude::*;
use tollgate::{
    domain::{Diff, FileDiff, LineKind, TouchKind},
    forge::diff::{LIMITS, Limits, PATH_BYTES_MAX, read},
};

fn file(path: &str, kind: TouchKind) -> FileDiff {
    FileDiff { path: path.into(), previous_path: None, kind, binary: false, lines: Vec::new() }
}

fn whole(text: impl AsRef<[u8]>) -> Vec<FileDiff> {
    let diff = read(text.as_ref(), &LIMITS).unwrap();
    assert!(!diff.cut);
    diff.files
}

/// The lines as `+12 text`.
fn shown(file: &FileDiff) -> Vec<String> {
    let mark = |kind| match kind {
        LineKind::Added => '+',
        LineKind::Removed => '-',
        LineKind::Context => ' ',
    };
    file.lines.iter().map(|line| format!("{}{} {}", mark(line.kind), line.number, line.text)).collect()
}

fn refused(text: &str) -> (usize, String) {
    let malformed = read(text.as_bytes(), &LIMITS).unwrap_err();
    (malformed.line, malformed.why.to_string())
}

const EDIT: &str = "\
diff --git a/src/pay.rs b/src/pay.rs
index 1111111..2222222 100644
--- a/src/pay.rs
+++ b/src/pay.rs
@@ -10,3 +10,4 @@ fn pay() {
 keep
-old
+new
+newer

";

#[test]
fn an_edit_gives_lines_with_the_numbers_of_their_side() {
    let mut text = EDIT.to_owned();
    text.push_str("@@ -30 +31 @@\n---- was a comment\n++++ is one\n\\ No newline at end of file\n");
    let files = whole(&text);
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].path.as_str(), files[0].kind), ("src/pay.rs", TouchKind::Modified));
    let expected = [" 10 keep", "-11 old", "+11 new", "+12 newer", " 13 ", "-30 --- was a comment", "+31 +++ is one"];
    assert_eq!(shown(&files[0]), expected);
}

#[test]
fn what_has_no_hunk_is_a_file_all_the_same() {
    let text = "\
diff --git a/a.sh b/a.sh
old mode 100644
new mode 100755
diff --git a/from b/to
similarity index 100%
rename from from
rename to to
diff --git a/new b/new
new file mode 100644
index 0000000..e69de29
diff --git a/gone b/gone
deleted file mode 100644
index e69de29..0000000
diff --git a/logo.png b/logo.png
index 1111111..2222222 100644
Binary files a/logo.png and b/logo.png differ
diff --git a/icon.png b/icon.png
index 1111111..2222222 100644
GIT binary patch
literal 5
McmZQzWMXCj00962

literal 0
HcmV?d00001

diff --git a/last b/last
old mode 100755
new mode 100644
";
    let renamed = FileDiff { previous_path: Some("from".into()), ..file("to", TouchKind::Renamed) };
    let binary = |path| FileDiff { binary: true, ..file(path, TouchKind::Modified) };
    let expected = [
        file("a.sh", TouchKind::Modified),
        renamed,
        file("new", TouchKind::Added),
        file("gone", TouchKind::Removed),
        binary("logo.png"),
        binary("icon.png"),
        file("last", TouchKind::Modified),
    ];
    assert_eq!(whole(text), expected);
}

#[test]
fn nothing_is_a_diff_of_nothing() {
    assert_eq!(read(b"", &LIMITS), Ok(Diff::default()));
}

#[test]
fn line_ends_of_both_kinds_are_no_part_of_the_text() {
    let text = "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n-old\r\n+new\r\n same\r\n";
    assert_eq!(shown(&whole(text)[0]), ["-1 old", "+1 new", " 2 same"]);
    assert_eq!(whole(EDIT.replace('\n', "\r\n")), whole(EDIT));
}

#[test]
fn bytes_that_are_no_utf_8_are_replaced() {
    let text = b"--- a/x\n+++ b/x\n@@ -1 +1 @@ \xff\n-\xe9t\xe9\n+\xc3\xa9t\xc3\xa9\n";
    assert_eq!(shown(&whole(text)[0]), ["-1 \u{fffd}t\u{fffd}", "+1 été"]);
}

#[test]
fn garbage_is_refused_with_its_line() {
    for (text, line, why) in [
        ("hello\n", 1, "no part of a git diff"),
        ("<html><body>Unicorn!</body></html>", 1, "no part of a git diff"),
        (&format!("{EDIT}stray\n"), 11, "no part of a git diff"),
        ("diff --cc x\nindex 1,2..3\n--- a/x\n+++ b/x\n@@@ -1 -1 +1 @@@\n", 1, "combined diff"),
        ("diff --combined x\n", 1, "combined diff"),
        ("--- a/x\n+++ b/x\n@@@ -1 -1 +1 @@@\n", 3, "no part of a git diff"),
        ("--- a/x\n@@ -1 +1 @@\n", 1, "belong together"),
        ("--- a/x\n+++ b/x\n@@ -1 +1\n", 3, "a hunk begins with"),
        ("--- a/x\n+++ b/x\n@@ -1,-1 +1 @@\n", 3, "a hunk begins with"),
        ("--- a/x\n+++ b/x\n@@ -+1 +1 @@\n", 3, "a hunk begins with"),
        ("--- a/x\n+++ b/x\n@@ -0,1 +1 @@\n", 3, "a hunk begins with"),
        ("--- a/x\n+++ b/x\n@@ -4294967295,2 +1 @@\n", 3, "a hunk begins with"),
        ("--- a/x\n+++ b/x\n@@ -99999999999999999999 +1 @@\n", 3, "a hunk begins with"),
        ("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n-b\n+c\n", 5, "more lines than"),
        ("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n?b\n", 5, "a line of a hunk begins with"),
        ("--- a/x\n+++ b/x\n@@ -1,9 +1 @@\n-a\n", 4, "ends inside"),
        ("diff --git a/x b/x\nBinary files a/x and b/x differ\n@@ -1 +1 @@\n", 3, "no part of a git diff"),
    ] {
        let seen = refused(text);
        assert!(seen.0 == line && seen.1.contains(why), "{text:?} gave {seen:?}");
    }
}

fn added(lines: usize) -> String {
    format!("--- /dev/null\n+++ b/long\n@@ -0,0 +1,{lines} @@\n{}", "+x\n".repeat(lines))
}

#[test]
fn lines_are_kept_up_to_their_limit_and_the_files_after_it_are_still_named() {
    let at_limit = added(LIMITS.lines_max) + "diff --git a/z b/z\nold mode 100644\nnew mode 100755\n";
    let diff = read(at_limit.as_bytes(), &LIMITS).unwrap();
    assert_eq!((diff.cut, diff.files.len(), diff.files[0].lines.len()), (false, 2, 50_000));
    let above = added(LIMITS.lines_max + 1) + EDIT;
    let diff = read(above.as_bytes(), &LIMITS).unwrap();
    assert_eq!((diff.cut, diff.files[0].lines.len(), diff.files[1].lines.len()), (true, 50_000, 0));
    assert_eq!(diff.files[1].path, "src/pay.rs");
}

#[test]
fn files_are_kept_up_to_their_limit() {
    let many = |n: usize| -> String {
        (0..n).map(|i| format!("diff --git a/{i} b/{i}\nold mode 100644\nnew mode 100755\n")).collect()
    };
    let read = |n| read(many(n).as_bytes(), &LIMITS).map(|diff| (diff.files.len(), diff.cut));
    assert_eq!(read(LIMITS.files_max), Ok((3_000, false)));
    assert_eq!(read(LIMITS.files_max + 1), Ok((3_000, true)));
}

#[test]
fn a_line_is_cut_between_characters() {
    let one = |text: &str| {
        let text = format!("--- a/x\n+++ b/x\n@@ -0,0 +1 @@\n+{text}\n");
        let diff = read(text.as_bytes(), &LIMITS).unwrap();
        (diff.files[0].lines[0].text.clone(), diff.cut)
    };
    let full = "a".repeat(LIMITS.line_bytes_max);
    assert_eq!(one(&full), (full.clone(), false));
    assert_eq!(one(&format!("{full}b")), (full, true));
    let odd = format!("a{}", "é".repeat(LIMITS.line_bytes_max));
    assert_eq!(one(&odd), (format!("a{}", "é".repeat(999)), true));
}

#[test]
fn bytes_are_read_up_to_their_limit_and_what_was_read_stays() {
    let exact = Limits { bytes_max: EDIT.len(), ..LIMITS };
    assert_eq!(read(EDIT.as_bytes(), &exact), read(EDIT.as_bytes(), &LIMITS));
    let all = shown(&whole(EDIT)[0]);
    for bytes_max in 0..EDIT.len() {
        let diff = read(EDIT.as_bytes(), &Limits { bytes_max, ..LIMITS }).unwrap();
        assert!(diff.cut, "{bytes_max}");
        for file in &diff.files {
            assert_eq!(file.path, "src/pay.rs");
            assert!(all.starts_with(&shown(file)));
        }
    }
    let huge = added(LIMITS.bytes_max / 3);
    let diff = read(huge.as_bytes(), &LIMITS).unwrap();
    assert_eq!((diff.cut, diff.files[0].lines.len()), (true, LIMITS.lines_max));
}

#[test]
fn a_file_with_too_long_a_path_is_left_out_with_its_lines() {
    let at = |bytes: usize| {
        let path = "p".repeat(bytes);
        let text = format!("{EDIT}--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-a\n+b\n{EDIT}");
        let diff = read(text.as_bytes(), &LIMITS).unwrap();
        let lines = diff.files.iter().map(|file| file.lines.len()).collect::<Vec<_>>();
        (lines, diff.cut)
    };
    assert_eq!(at(PATH_BYTES_MAX), (vec![5, 2, 5], false));
    assert_eq!(at(PATH_BYTES_MAX + 1), (vec![5, 5], true));
}

fn git(folder: &Path, args: &[&str]) -> Vec<u8> {
    let output = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "core.autocrlf=false"])
        .args(args)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Two commits that touch files in every way there is.
fn repository_with_every_kind_of_change() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    let gone = |name: &str| fs::remove_file(folder.path().join(name)).unwrap();
    let long: String = (0..200).map(|n| format!("line {n}\n")).collect();
    let rows = long.replace("line", "row");
    git(folder.path(), &["init", "-q"]);
    put("edited.rs", long.as_bytes());
    put("moved.rs", long.replace("line", "moved").as_bytes());
    put("moved and edited.rs", rows.as_bytes());
    put("gone.rs", b"gone\n");
    put("emptied", b"something\n");
    put("mode.sh", b"#!/bin/sh\n");
    put("crlf.txt", b"one\r\ntwo\r\nthree\r\n");
    put("latin.txt", b"caf\xe9\nth\xe9\n");
    put("open end", b"no end");
    put("logo.bin", b"\0\x01\x02");
    put("two  b/ spaces.txt", b"x\n");
    put("comment.sql", b"-- drop it\nselect 1;\n");
    put("caf\u{e9}\t\"q\"\\.txt", b"odd name\n");
    git(folder.path(), &["add", "-A"]);
    git(folder.path(), &["commit", "-qm", "before"]);

    put("edited.rs", long.replace("line 7\n", "").replace("line 150\n", "++ plus\n-- minus\n\n").as_bytes());
    fs::rename(folder.path().join("moved.rs"), folder.path().join("elsewhere.rs")).unwrap();
    gone("moved and edited.rs");
    put("moved too.rs", rows.replace("row 9\n", "ROW 9\n").as_bytes());
    gone("gone.rs");
    put("emptied", b"");
    put("crlf.txt", b"one\r\n2\r\nthree\n");
    put("latin.txt", b"caf\xe8\nth\xe9\n");
    put("open end", b"no end\nyet");
    put("logo.bin", b"\0\x01\x03");
    put("two  b/ spaces.txt", b"y\n");
    put("comment.sql", b"select 1;\n++ added\n");
    put("caf\u{e9}\t\"q\"\\.txt", b"odder name\n");
    put("brand new", b"@@ -1 +1 @@\ndiff --git a/x b/x\n");
    put("new and empty", b"");
    git(folder.path(), &["add", "-A"]);
    git(folder.path(), &["update-index", "--chmod=+x", "mode.sh"]);
    git(folder.path(), &["commit", "-qm", "after"]);
    folder
}

/// Each line that a diff shows must be the line of that number in the file on its side.
fn agrees_with_the_commits(folder: &Path, file: &FileDiff) {
    let blob = |commit: &str, path: &str| match file.lines.is_empty() {
        true => Vec::new(),
        false => git(folder, &["show", &format!("{commit}:{path}")]),
    };
    let has = |kind| file.lines.iter().any(|line| line.kind == kind);
    let old_path = file.previous_path.as_ref().unwrap_or(&file.path);
    let old = if has(LineKind::Removed) { blob("HEAD^", old_path) } else { Vec::new() };
    let new = if file.kind == TouchKind::Removed { Vec::new() } else { blob("HEAD", &file.path) };
    for line in &file.lines {
        let side = if line.kind == LineKind::Removed { &old } else { &new };
        let there = side.split(|byte| *byte == b'\n').nth(line.number as usize - 1).unwrap_or_default();
        let there = String::from_utf8_lossy(there.strip_suffix(b"\r").unwrap_or(there)).into_owned();
        assert_eq!(line.text, there, "{}:{}", file.path, line.number);
    }
}

#[test]
fn what_git_itself_writes_is_read_and_agrees_with_the_files() {
    let folder = repository_with_every_kind_of_change();
    for how in ["-U3", "--binary", "-U0", "--unified=1000", "--find-copies-harder", "--no-renames"] {
        let ask = |what: &[&str]| git(folder.path(), &[&["diff", how], what, &["HEAD^", "HEAD"]].concat());
        let files = whole(ask(&[]));
        let names = String::from_utf8(ask(&["--name-only", "-z"])).unwrap();
        let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, names.split_terminator('\0').collect::<Vec<_>>(), "{how}");
        // Some of these options make git write the whole diff after the counts.
        let counts = ask(&["--numstat"]);
        let counts = String::from_utf8_lossy(&counts);
        for (file, counted) in files.iter().zip(counts.lines()) {
            let ours = match file.binary {
                true => "-\t-\t".into(),
                false => format!("{}\t{}\t", file.added().count(), file.removed().count()),
            };
            assert!(counted.starts_with(&ours), "{how}: {} has {ours}, git counts {counted}", file.path);
            agrees_with_the_commits(folder.path(), file);
        }
    }
}

#[test]
fn what_git_says_happened_to_a_file_is_understood() {
    let folder = repository_with_every_kind_of_change();
    let files = whole(git(folder.path(), &["diff", "HEAD^", "HEAD"]));
    let kinds: Vec<_> =
        files.iter().map(|file| (file.path.as_str(), file.previous_path.as_deref(), file.kind, file.binary)).collect();
    for expected in [
        ("brand new", None, TouchKind::Added, false),
        ("new and empty", None, TouchKind::Added, false),
        ("gone.rs", None, TouchKind::Removed, false),
        ("mode.sh", None, TouchKind::Modified, false),
        ("elsewhere.rs", Some("moved.rs"), TouchKind::Renamed, false),
        ("moved too.rs", Some("moved and edited.rs"), TouchKind::Renamed, false),
        ("logo.bin", None, TouchKind::Modified, true),
        ("emptied", None, TouchKind::Modified, false),
        ("caf\u{e9}\t\"q\"\\.txt", None, TouchKind::Modified, false),
    ] {
        assert!(kinds.contains(&expected), "{expected:?} in {kinds:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes, &LIMITS);
    }

    /// Pieces of diffs in any order come much deeper into the reader than bytes do.
    #[test]
    fn pieces_of_diffs_never_panic_and_limits_hold(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "diff --git a/x b/x\n", "diff --git \"a/\\303\" \"b/\\303\"\n", "--- a/x\n", "+++ b/x\n", "--- /dev/null\n",
            "+++ /dev/null\n", "rename from x\n", "rename to y\n", "copy to z\n", "new file mode 100644\n",
            "deleted file mode 100644\n", "Binary files a/x and b/x differ\n", "GIT binary patch\n", "literal 3\n",
            "@@ -1 +1 @@\n", "@@ -0,0 +1,2 @@\n", "@@ -1,2 +0,0 @@ fn\n", "@@ -4294967295,0 +4294967295,0 @@\n",
            "+new\n", "-old\n", " same\n", "\\ No newline at end of file\n", "\n", "\r\n", "é\n", "@@@ -1 -1 +1 @@@\n",
            "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n-old\n+new\n same\n", "diff --git a/x b/x\n--- a/x\n+++ b/x\n",
        ]), 0..24),
        bytes_max in 0_usize..400, files_max in 0_usize..4, lines_max in 0_usize..6, line_bytes_max in 0_usize..4,
    ) {
        let limits = Limits { bytes_max, files_max, lines_max, line_bytes_max };
        if let Ok(diff) = read(pieces.concat().as_bytes(), &limits) {
            prop_assert!(diff.files.len() <= files_max);
            prop_assert!(diff.files.iter().map(|file| file.lines.len()).sum::<usize>() <= lines_max);
            for line in diff.files.iter().flat_map(|file| &file.lines) {
                prop_assert!(line.number > 0 && line.text.len() <= line_bytes_max);
            }
            prop_assert!(diff.files.iter().all(|file| !file.binary || file.lines.is_empty()));
        }
    }
}
