//! Names and numbers by which things are known. Each is its own type, so that none is taken for another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Most bytes a [`Text`] holds. Anything longer from outside is cut and marked.
pub const TEXT_BYTES_MAX: usize = 400;

macro_rules! word {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the word as it is; whoever reads it from outside has checked its form.
            pub fn new(word: impl Into<String>) -> Self {
                Self(word.into())
            }

            /// The word itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

word! {
    /// A service as the configuration names it. Lower-case letters, digits and dashes.
    ServiceName
}
word! {
    /// A check within one plan.
    CheckName
}
word! {
    /// A digest of the policy that was in force, as hexadecimal.
    PolicyVersion
}
word! {
    /// A digest as hexadecimal.
    Digest
}

/// A rollout's number, given by the fleet in order. People write it `r17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RolloutId(pub u64);

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl FromStr for RolloutId {
    type Err = String;

    /// Takes `r17` or `17`.
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix('r').unwrap_or(text);
        digits.parse().map(Self).map_err(|_| format!("`{text}` is no rollout: write its number, as in `r17`"))
    }
}

/// The number of a request that left the loop. A reply to another number is stale; the same number twice is one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "q{}", self.0)
    }
}

/// Words from outside or for people, on one line, at most [`TEXT_BYTES_MAX`] bytes, without control characters.
///
/// Titles, error messages and label values are written by strangers: what is kept of them is bounded once, here.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// Keeps what fits; control characters become spaces, and a cut is marked with an ellipsis.
    pub fn new(words: impl AsRef<str>) -> Self {
        let mut kept = String::new();
        for c in words.as_ref().trim().chars() {
            let c = if c.is_control() || is_bidi_control(c) { ' ' } else { c };
            if kept.len() + c.len_utf8() + '…'.len_utf8() > TEXT_BYTES_MAX {
                kept.push('…');
                break;
            }
            kept.push(c);
        }
        Self(kept)
    }

    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Most bytes a [`Prose`] holds.
pub const PROSE_BYTES_MAX: usize = 2_000;

/// Words for people over several lines, at most [`PROSE_BYTES_MAX`] bytes, without control characters but line ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Prose(String);

impl Prose {
    /// Keeps what fits; control characters become spaces, and a cut is marked with an ellipsis.
    pub fn new(words: impl AsRef<str>) -> Self {
        let mut kept = String::new();
        for c in words.as_ref().trim().chars() {
            let c = if c != '\n' && (c.is_control() || is_bidi_control(c)) { ' ' } else { c };
            if kept.len() + c.len_utf8() + '…'.len_utf8() > PROSE_BYTES_MAX {
                kept.push('…');
                break;
            }
            kept.push(c);
        }
        Self(kept)
    }

    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Prose {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::new)
    }
}

/// Characters that reorder what follows them on a screen: a known way to make a title say something else.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let words = String::deserialize(from)?;
        // Nearly all text was cut when it was made, and a journal holds much of it.
        let is_as_made = words.len() <= TEXT_BYTES_MAX && words.bytes().all(|byte| (b' '..0x7f).contains(&byte));
        Ok(if is_as_made && words.trim().len() == words.len() { Self(words) } else { Self::new(words) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_one_bounded_line() {
        assert_eq!(Text::new(" a\nb\u{202e}c ").as_str(), "a b c");
        let long = Text::new("é".repeat(TEXT_BYTES_MAX));
        assert!(long.as_str().len() <= TEXT_BYTES_MAX && long.as_str().ends_with('…'));
        assert_eq!(Text::new(long.as_str()), long, "cutting twice changes nothing");
    }

    #[test]
    fn prose_keeps_its_lines_and_is_bounded() {
        assert_eq!(Prose::new(" a\nb\u{202e}\tc ").as_str(), "a\nb  c");
        let long = Prose::new("é".repeat(PROSE_BYTES_MAX));
        assert!(long.as_str().len() <= PROSE_BYTES_MAX && long.as_str().ends_with('…'));
    }

    #[test]
    fn a_rollout_is_named_with_or_without_its_letter() {
        assert_eq!("r17".parse(), Ok(RolloutId(17)));
        assert_eq!("17".parse(), Ok(RolloutId(17)));
        assert!("seventeen".parse::<RolloutId>().unwrap_err().contains("seventeen"));
    }
}
