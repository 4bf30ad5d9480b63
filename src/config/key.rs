//! Where a setting stands: its path by names and places, and the line of the file it was written on.
//!
//! Lines are looked up from the parsed tree when a problem is found, so the written structs carry values only and a
//! setting that is missing still points at the table it is missing from.

use std::fmt;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::domain::Text;

/// Most characters of a name that a problem repeats.
const NAME_SHOWN_MAX: usize = 60;

/// One step into the tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Name(String),
    At(usize),
}

/// A path such as `services.shop.stages[2].bake_time`. Keys sort so that all below one follow it directly.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(Vec<Step>);

impl Key {
    /// The whole file.
    pub(super) fn root() -> Self {
        Self::default()
    }

    /// The setting of this name, below this one.
    pub(super) fn name(&self, name: &str) -> Self {
        self.below(Step::Name(name.into()))
    }

    /// The element at this place, from 0.
    pub(super) fn at(&self, place: usize) -> Self {
        self.below(Step::At(place))
    }

    /// Whether this is `other` or stands below it.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// This and everything it stands below, the whole file first.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = Self> + '_ {
        (0..=self.0.len()).map(|len| Self(self.0.iter().take(len).cloned().collect()))
    }

    fn below(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            let dot = if i == 0 { "" } else { "." };
            match step {
                Step::Name(name) if is_bare(name) => write!(f, "{dot}{}", shown(name))?,
                Step::Name(name) => write!(f, "{dot}\"{}\"", shown(name))?,
                Step::At(place) => write!(f, "[{place}]")?,
            }
        }
        Ok(())
    }
}

/// Whether TOML takes the name without quotes.
fn is_bare(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// A stranger's word as a problem repeats it: one line, bounded.
pub(super) fn shown(word: &str) -> String {
    let line = Text::new(word);
    let mut kept: String = line.as_str().chars().take(NAME_SHOWN_MAX).collect();
    if kept.len() < line.as_str().len() {
        kept.push('…');
    }
    kept
}

/// The parsed file, for looking up lines.
pub(super) struct Source<'a> {
    tree: &'a DeTable<'a>,
    line_ends: Vec<usize>,
}

impl<'a> Source<'a> {
    /// From the text and what was parsed of it.
    pub(super) fn new(text: &str, tree: &'a DeTable<'a>) -> Self {
        let line_ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
        Self { tree, line_ends }
    }

    /// The line, from 1, of a byte's place.
    pub(super) fn line_at(&self, byte: usize) -> usize {
        self.line_ends.partition_point(|end| *end < byte) + 1
    }

    /// The line of a setting, or of the closest table around it that was written; `None` for the whole file.
    pub(super) fn line(&self, key: &Key) -> Option<usize> {
        let mut steps = key.0.iter();
        let (name, mut value) = match steps.next() {
            Some(Step::Name(name)) => self.tree.get_key_value(name.as_str())?,
            Some(Step::At(_)) | None => return None,
        };
        let mut start = name.span().start;
        for step in steps {
            let found: Option<(usize, &Spanned<DeValue<'_>>)> = match (step, value.get_ref()) {
                (Step::Name(name), DeValue::Table(table)) => {
                    table.get_key_value(name.as_str()).map(|(name, value)| (name.span().start, value))
                }
                (Step::At(place), DeValue::Array(array)) => array.get(*place).map(|value| (value.span().start, value)),
                _ => None,
            };
            let Some((next_start, next)) = found else { break };
            (start, value) = (next_start, next);
        }
        Some(self.line_at(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a = 1\n\n[services.shop]\nx = [\n  1,\n  2,\n]\n[[services.shop.stages]]\nshare = 1\n[[services.shop.stages]]\nshare = 2\n";

    #[test]
    fn a_key_finds_its_line_and_a_missing_one_its_table() {
        let tree = DeTable::parse(TEXT).unwrap();
        let source = Source::new(TEXT, tree.get_ref());
        let shop = Key::root().name("services").name("shop");
        let lines = [
            Key::root(),
            Key::root().name("a"),
            shop.name("x").at(1),
            shop.name("stages").at(1).name("share"),
            shop.name("stages").at(1).name("missing"),
            shop.name("missing").name("deeper"),
        ]
        .map(|key| source.line(&key));
        assert_eq!(lines, [None, Some(1), Some(6), Some(11), Some(10), Some(3)]);
    }

    #[test]
    fn a_key_prints_as_it_would_be_written_and_stays_short() {
        let key = Key::root().name("services").name("sh op").name("stages").at(2).name("bake_time");
        assert_eq!(key.to_string(), "services.\"sh op\".stages[2].bake_time");
        let long = Key::root().name(&"k".repeat(5_000)).to_string();
        assert_eq!(long, "k".repeat(NAME_SHOWN_MAX) + "…");
        assert_eq!(shown("a\nb"), "a b");
    }
}
