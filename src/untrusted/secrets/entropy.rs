//! Words that only a machine writes: long ones whose letters, capitals and digits take turns as chance would have it.
//!
//! Shannon's entropy alone tells little of a word of 24 letters: it is at most 4.6 bits, and `getUserAccountByEmailHash`
//! has 4.1. What sets the two apart is how often the kind of letter changes, where a capital and the small letters behind it
//! are one kind: at each new word in names that people give, at 45 % of the letters in a random word of base 62. Both are
//! asked for. The thresholds were measured: see the tests.
//!
//! Words of hexadecimal digits are left alone whatever their entropy: commits, digests and UUIDs are all over code and
//! lock files, and a secret of that alphabet can be told from them only by its name, which `shapes` reads. Digests in
//! base 64 are left alone where they say what they are (`sha512-…`, `h1:…`), and so is what stands in a `data:` address.

use super::Found;

/// Fewest letters of a random word, signs included. Below it, chance alone makes names that look random.
const LENGTH_MIN: usize = 24;
/// Fewest bits of entropy of each letter.
const BITS_MIN: f64 = 3.4;
/// Fewest changes of the kind of letter, for each letter.
const TURNS_MIN: f64 = 0.27;
/// The same where capitals and small letters are not mixed, so that only digits can change it.
const TURNS_MIN_OF_ONE_CASE: f64 = 0.2;
/// From this share of hexadecimal digits on, a word counts as hexadecimal: `0x…_u64` has other letters too.
const HEXADECIMAL_SHARE: f64 = 0.85;
/// From so many letters on, a part of a path that is hexadecimal is a commit or a digest.
const COMMIT_LENGTH_MIN: usize = 7;
/// Most signs of a random word, as a share of it: every fifth.
const SIGNS_SHARE: usize = 5;
/// What digests begin with.
const DIGESTS: [&str; 5] = ["sha1-", "sha256-", "sha384-", "sha512-", "md5-"];

/// Every random word.
pub(super) fn find(text: &str) -> Vec<Found> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = bytes.get(at..).unwrap_or_default().iter().take_while(|byte| is_of_word(**byte)).count();
        if length >= LENGTH_MIN && !is_digest(text, at) {
            in_word(text, at, at + length, &mut found);
        }
        at += length.max(1);
    }
    found
}

/// Looks at a word, and where it is none, at its parts: a path or a prefix may hold a random one.
fn in_word(text: &str, from: usize, to: usize, found: &mut Vec<Found>) {
    let word = text.get(from..to).unwrap_or_default();
    if is_random(word) {
        found.push(Found { at: from..to, kind: "random word" });
        return;
    }
    for borders in [&['/', '+', '='][..], &['/', '+', '=', '-', '_']] {
        let mut begin = from;
        for part in word.split(borders) {
            if part.len() >= LENGTH_MIN && part.len() < word.len() && is_random(part) {
                found.push(Found { at: begin..begin + part.len(), kind: "random word" });
            }
            begin += part.len() + 1;
        }
    }
}

const fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'_' | b'-')
}

/// Whether what begins here says that it is a digest, or data that people look at.
fn is_digest(text: &str, at: usize) -> bool {
    let (before, word) = (text.get(..at).unwrap_or_default(), text.get(at..).unwrap_or_default());
    DIGESTS.iter().any(|digest| word.starts_with(digest))
        || before.ends_with("h1:")
        || (before.ends_with(',') && before.ends_with(";base64,"))
}

fn is_random(word: &str) -> bool {
    let (mut length, mut capitals, mut small, mut hexadecimal, mut turns) =
        (0_usize, 0_usize, 0_usize, 0_usize, 0_usize);
    // A sign between two words is no turn, and a commit in a path is no secret.
    for part in word.split(['/', '+', '=', '-', '_']).filter(|part| !is_commit(part)) {
        let mut last: Option<u8> = None;
        for byte in part.bytes() {
            length += 1;
            capitals += usize::from(byte.is_ascii_uppercase());
            small += usize::from(byte.is_ascii_lowercase());
            hexadecimal += usize::from(byte.is_ascii_hexdigit());
            turns += usize::from(last.is_some_and(|last| is_turn(last, byte)));
            last = Some(byte);
        }
    }
    let share = |count: usize| count as f64 / length.max(1) as f64;
    let turns_min = if capitals > 0 && small > 0 { TURNS_MIN } else { TURNS_MIN_OF_ONE_CASE };
    length * SIGNS_SHARE >= LENGTH_MIN * (SIGNS_SHARE - 1)
        && length * SIGNS_SHARE >= word.len() * (SIGNS_SHARE - 1)
        && share(hexadecimal) < HEXADECIMAL_SHARE
        && share(turns) >= turns_min
        && bits(word) >= BITS_MIN
}

fn is_commit(part: &str) -> bool {
    part.len() >= COMMIT_LENGTH_MIN && part.bytes().all(|byte| byte.is_ascii_hexdigit())
}

const fn is_turn(last: u8, next: u8) -> bool {
    // A capital begins a word, and the small letters behind it belong to it.
    !(last.is_ascii_uppercase() && next.is_ascii_lowercase())
        && (last.is_ascii_digit() != next.is_ascii_digit() || last.is_ascii_lowercase() != next.is_ascii_lowercase())
}

/// Shannon's entropy of a word's bytes, in bits for each.
pub(super) fn bits(word: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in word.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let total = word.len() as f64;
    let bits = |count: &u32| -f64::from(*count) / total * (f64::from(*count) / total).log2();
    counts.iter().filter(|count| **count > 0).map(bits).sum()
}
