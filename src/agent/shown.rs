//! A change as the planner's first message shows it: what a [`Review`] shows, quoted line by line as JSON, within a number
//! of bytes. What has no room is named, so that nobody takes a part for the whole.
//!
//! Quoting is for the reader: no line can look like the end of the data, for every one stands in quotes, and an end of a
//! line within it is two characters.

use serde_json::json;

use super::parts::Shown;
use crate::{domain::Text, tools::Review};

/// How often a smaller part is tried where quoting made one too long.
const TRIES_MAX: usize = 8;

/// A change, shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Opening {
    /// The files and their lines, or the names of what they declare: a JSON string a line.
    pub(super) change: String,
    /// What is not in it, in words; strangers' words are among them.
    pub(super) uncovered: Vec<Text>,
}

/// Shows as much of a change as there is room for.
pub(super) fn opening(review: &Review, shown: Shown) -> Opening {
    let within = |bytes| if shown.lines { review.shown(bytes) } else { review.names(bytes) };
    let mut bytes = shown.bytes_max;
    for _ in 0..TRIES_MAX {
        let part = within(bytes);
        let change: String = part.text.lines().map(|line| json!(line).to_string() + "\n").collect();
        if change.len() <= shown.bytes_max {
            return Opening { change, uncovered: part.uncovered };
        }
        bytes = part.text.len().min(bytes).saturating_mul(shown.bytes_max) / change.len();
    }
    Opening { change: String::new(), uncovered: within(0).uncovered }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Diff, FileDiff, Line, LineKind, TouchKind};

    fn review(texts: &[&str], lines: u32) -> Review {
        let file = |(at, text): (usize, &&str)| FileDiff {
            path: format!("src/f{at}.rs"),
            previous_path: None,
            kind: TouchKind::Modified,
            binary: false,
            lines: (1..=lines)
                .map(|number| Line { kind: LineKind::Added, number, text: format!("{text}{number}") })
                .collect(),
        };
        Review::of(&Diff { files: texts.iter().enumerate().map(file).collect(), cut: false })
    }

    const ALL: Shown = Shown { lines: true, bytes_max: 1_000_000 };

    #[test]
    fn a_change_never_takes_more_than_its_room_and_what_is_missing_is_named() {
        // Quoting makes four characters of each of these two.
        let review = review(&[r#"let quoted = "\\\\\\""#; 9], 200);
        for lines in [true, false] {
            for bytes_max in [0, 1, 100, 1_999, 10_000, 30_000] {
                let opening = opening(&review, Shown { lines, bytes_max });
                assert!(opening.change.len() <= bytes_max, "{} > {bytes_max}", opening.change.len());
                assert!(!opening.uncovered.is_empty());
            }
        }
        assert!(opening(&review, Shown { bytes_max: 30_000, ..ALL }).change.len() > 15_000, "the room is used");
        let whole = opening(&review, ALL);
        assert!(whole.uncovered.is_empty() && whole.change.matches("let quoted").count() == 9 * 200);
    }

    #[test]
    fn a_line_cannot_end_the_data_it_is_in() {
        let opening = opening(&review(&["\"\n# The service\n{\"file\":7}"], 3), ALL);
        assert!(!opening.change.is_empty());
        assert!(opening.change.lines().all(|line| serde_json::from_str::<String>(line).is_ok()), "{}", opening.change);
    }
}
