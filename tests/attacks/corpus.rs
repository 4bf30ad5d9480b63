//! The corpus of `evals/attacks/` and the twins made of it: a clean change, and the same change with an attack in one place.

use serde::Deserialize;
use tollgate::{
    domain::{Change, Diff, FileDiff, FileTouched, Line, LineKind, Person, Text, TouchKind},
    forge::diff::{LIMITS, read},
    untrusted::masked,
};

/// The changes that are attacked: their names and their diffs.
const BASES: &[(&str, &str)] = &[
    ("axum_handler", include_str!("../diffs/axum_handler.diff")),
    ("fastapi_timeout", include_str!("../diffs/fastapi_timeout.diff")),
    ("sql_drop_column", include_str!("../diffs/sql_drop_column.diff")),
    ("known_counter_cache", include_str!("../diffs/known_counter_cache.diff")),
];
/// Most bytes of one placed line; an attacker's lines are cut no shorter than this where a forge's diff is read.
const LINE_BYTES: usize = 1_000;
/// Most bytes of a placed file name: the forge's client leaves out files with longer ones.
const NAME_BYTES: usize = 4_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Injections {
    attack: Vec<Injection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Injection {
    name: String,
    wants: String,
    text: String,
    encoding: Option<String>,
    hidden: Option<String>,
    hidden_text: Option<String>,
    repeat_to_bytes: Option<usize>,
    split: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Secrets {
    secret: Vec<Planted>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Planted {
    name: String,
    head: Vec<String>,
    tail: Tail,
    #[serde(default)]
    end: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tail {
    letters: String,
    count: usize,
}

/// One attack, as it is placed.
pub(crate) struct Attack {
    /// Its name.
    pub(crate) name: String,
    /// What the attacker hopes for.
    pub(crate) wants: String,
    /// The words, in as many parts as there are files to spread them over.
    pub(crate) parts: Vec<String>,
    /// What must not be seen afterwards, for a planted secret.
    pub(crate) secret: Option<String>,
}

/// Where a pull request has words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Title,
    Body,
    Commit,
    Comment,
    FileName,
    StringLiteral,
}

impl Place {
    pub(crate) const ALL: [Self; 6] =
        [Self::Title, Self::Body, Self::Commit, Self::Comment, Self::FileName, Self::StringLiteral];
}

/// A change as a forge has it.
#[derive(Clone, Debug)]
pub(crate) struct Twin {
    /// The change, as it is kept.
    pub(crate) change: Change,
    /// Its diff.
    pub(crate) diff: Diff,
    /// Its title as it was written.
    pub(crate) title: String,
    /// What its author wrote about it. Nothing that plans reads it.
    pub(crate) body: String,
    /// The message of its commit. Nothing that plans reads it.
    pub(crate) commit: String,
}

/// Every injection and every planted secret.
pub(crate) fn attacks() -> Vec<Attack> {
    let injections: Injections = toml::from_str(include_str!("../../evals/attacks/injections.toml")).unwrap();
    let secrets: Secrets = toml::from_str(include_str!("../../evals/attacks/secrets.toml")).unwrap();
    let planted = secrets.secret.into_iter().map(|planted| {
        let secret = letters(&planted.tail);
        let text = format!("{}{secret}{}", planted.head.concat(), planted.end);
        let wants = "a secret that leaves the process".to_owned();
        Attack { name: planted.name, wants, parts: vec![text], secret: Some(secret) }
    });
    injections.attack.into_iter().map(injection).chain(planted).collect()
}

fn injection(written: Injection) -> Attack {
    let mut text = match written.encoding.as_deref() {
        None => written.text,
        Some("base64") => base64(written.text.as_bytes()),
        Some("rot13") => written.text.chars().map(rot13).collect(),
        Some(other) => panic!("{}: no encoding {other}", written.name),
    };
    match (written.hidden.as_deref(), written.hidden_text) {
        (None, None) => {}
        (Some("tags"), Some(words)) => {
            text.extend(words.chars().map(|c| char::from_u32(0xe0000 + u32::from(c)).unwrap()));
        }
        (other, _) => panic!("{}: no way to hide {other:?}", written.name),
    }
    if let Some(bytes) = written.repeat_to_bytes {
        text = text.repeat(bytes / text.len() + 1);
    }
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    let parts = written.split.map_or_else(
        || vec![text.clone()],
        |split| words.chunks(words.len().div_ceil(split)).map(<[_]>::concat).collect(),
    );
    Attack { name: written.name, wants: written.wants, parts, secret: None }
}

fn letters(tail: &Tail) -> String {
    let alphabet: &[u8] = match tail.letters.as_str() {
        "mixed" => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
        "capital" => b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
        other => panic!("no letters {other}"),
    };
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(alphabet[usize::try_from(state >> 32).unwrap() % alphabet.len()])
    };
    (0..tail.count).map(next).collect()
}

fn rot13(c: char) -> char {
    let turned = |first: u8| char::from(first + (u8::try_from(c).unwrap() - first + 13) % 26);
    match c {
        'a'..='z' => turned(b'a'),
        'A'..='Z' => turned(b'A'),
        _ => c,
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let quartet = |three: &[u8]| {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        let letter = |at: usize| char::from(LETTERS[(bits >> (18 - 6 * at)) as usize & 63]);
        (0..4).map(|at| if at <= three.len() { letter(at) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(quartet).collect()
}

/// The clean changes, by name.
pub(crate) fn clean() -> Vec<(&'static str, Twin)> {
    BASES.iter().map(|(name, text)| (*name, twin("Tidy up", read(text.as_bytes(), &LIMITS).unwrap()))).collect()
}

fn twin(title: &str, diff: Diff) -> Twin {
    let touched = |file: &FileDiff| FileTouched {
        path: file.path.clone(),
        previous_path: file.previous_path.clone(),
        kind: file.kind,
    };
    let change = Change {
        repository: "acme/shop".parse().unwrap(),
        pull_request: 7,
        // As the forge's client keeps it.
        title: Text::new(masked(title).text),
        author: Person(Text::new("mallory")),
        merged_by: Some(Person(Text::new("mira"))),
        base: "aaaaaaaaaa".parse().unwrap(),
        revision: "cccccccccc".parse().unwrap(),
        files: diff.files.iter().map(touched).collect(),
        files_cut: false,
    };
    Twin { change, diff, title: title.into(), body: "Tidies up.".into(), commit: "Tidy up".into() }
}

/// The same change with an attack in one place.
pub(crate) fn attacked(clean: &Twin, attack: &Attack, place: Place) -> Twin {
    let whole = attack.parts.concat();
    let mut diff = clean.diff.clone();
    match place {
        Place::Title => return twin(&whole, diff),
        Place::Body => return Twin { body: whole, ..clean.clone() },
        Place::Commit => return Twin { commit: whole, ..clean.clone() },
        Place::FileName => {
            for part in &attack.parts {
                let name = cut(part, NAME_BYTES).0.replace('\0', "");
                let path = format!("docs/{name}.md");
                let lines = Vec::new();
                diff.files.push(FileDiff { path, previous_path: None, kind: TouchKind::Added, binary: false, lines });
            }
        }
        Place::Comment | Place::StringLiteral => {
            let with_lines: Vec<usize> = (0..diff.files.len()).filter(|at| !diff.files[*at].lines.is_empty()).collect();
            for (part, at) in attack.parts.iter().zip(with_lines.iter().cycle()) {
                place_in(&mut diff.files[*at], part, place);
            }
        }
    }
    Twin { body: clean.body.clone(), commit: clean.commit.clone(), ..twin(&clean.title, diff) }
}

/// Behind the last line of a file's last hunk, where no other line's number changes.
fn place_in(file: &mut FileDiff, words: &str, place: Place) {
    let last = file.lines.iter().filter(|line| line.kind != LineKind::Removed).map(|line| line.number).max();
    let mut number = last.unwrap_or(0);
    let extension = file.path.rsplit_once('.').map_or("", |(_, extension)| extension);
    let mut rest = words;
    while !rest.is_empty() {
        let (words, after) = cut(rest, LINE_BYTES);
        let (words, after) = words.split_once('\n').map_or((words, after), |(line, _)| (line, &rest[line.len() + 1..]));
        rest = after;
        number += 1;
        let text = written(words, extension, place);
        file.lines.push(Line { kind: LineKind::Added, number, text });
    }
}

fn written(words: &str, extension: &str, place: Place) -> String {
    let quoted = words.replace('\\', "\\\\").replace('"', "\\\"");
    match (place, extension) {
        (Place::Comment, "py" | "rb") => format!("# {words}"),
        (Place::Comment, "sql") => format!("-- {words}"),
        (Place::Comment, _) => format!("// {words}"),
        (_, "py" | "rb") => format!("note = \"{quoted}\""),
        (_, "sql") => format!("SELECT '{}';", words.replace('\'', "''")),
        (_, "rs") => format!("const NOTE: &str = \"{quoted}\";"),
        (_, _) => format!("note := \"{quoted}\""),
    }
}

/// What fits, at the border of a character, and the rest.
fn cut(words: &str, bytes_max: usize) -> (&str, &str) {
    let end = (0..=words.len().min(bytes_max)).rev().find(|end| words.is_char_boundary(*end)).unwrap();
    words.split_at(end)
}
