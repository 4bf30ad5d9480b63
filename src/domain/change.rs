//! A change: one merged pull request, as it ships.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{DiffLine, Text};

/// A repository on the forge, `owner/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Repository {
    owner: String,
    name: String,
}

impl Repository {
    /// The account or organisation.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The name within the owner.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for Repository {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let legal = |part: &str| {
            !part.is_empty()
                && part.len() <= 100
                && part != "."
                && part != ".."
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        match text.split_once('/') {
            Some((owner, name)) if legal(owner) && legal(name) => Ok(Self { owner: owner.into(), name: name.into() }),
            Some(_) | None => Err(format!("`{}` is no repository: write `owner/name`", Text::new(text))),
        }
    }
}

impl TryFrom<String> for Repository {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Repository> for String {
    fn from(repository: Repository) -> Self {
        repository.to_string()
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// A commit: 7 to 64 hexadecimal digits, lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Revision(String);

impl Revision {
    /// All its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both name one commit: people and pipelines write its first digits, at least seven.
    pub fn names_same_commit(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }

    /// The first seven digits, as people read them.
    pub fn short(&self) -> &str {
        self.0.get(..7).unwrap_or(&self.0)
    }
}

impl FromStr for Revision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.to_ascii_lowercase();
        if (7..=64).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(digits))
        } else {
            Err(format!("`{}` is no revision: write 7 to 64 hexadecimal digits", Text::new(text)))
        }
    }
}

impl TryFrom<String> for Revision {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Revision> for String {
    fn from(revision: Revision) -> Self {
        revision.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who did something, by their name on the forge or the operator's token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Person(pub Text);

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TouchKind {
    /// New in this change.
    Added,
    /// Edited in place.
    Modified,
    /// Deleted.
    Removed,
    /// Moved, with or without edits.
    Renamed,
}

/// One file of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTouched {
    /// Its path after the change, or before it when removed.
    pub path: String,
    /// Its path before a rename.
    pub previous_path: Option<String>,
    /// What happened to it.
    pub kind: TouchKind,
}

/// One merged pull request, as it ships.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Where it was merged.
    pub repository: Repository,
    /// Its number there.
    pub pull_request: u64,
    /// Its title; a stranger's words.
    pub title: Text,
    /// Who wrote it.
    pub author: Person,
    /// Who merged it, when the forge says.
    pub merged_by: Option<Person>,
    /// What it was compared with.
    pub base: Revision,
    /// The commit that carries it: what a deployment names.
    pub revision: Revision,
    /// The files it touches.
    pub files: Vec<FileTouched>,
    /// Whether there were more files than the limit allowed to read. Then every service of the repository counts as touched.
    pub files_cut: bool,
}

/// Whether the old version can take the traffic back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WayBack {
    /// Nothing in the change speaks against going back.
    Open,
    /// Going back may do more harm than standing still: hold, and ask a person.
    OneWay {
        /// Why, in words for that person.
        why: Text,
        /// The lines of the diff that say so.
        lines: Vec<DiffLine>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_two_plain_names() {
        assert_eq!("acme/shop".parse::<Repository>().unwrap().to_string(), "acme/shop");
        for bad in ["acme", "acme/", "/shop", "acme/shop/x", "acme/..", "ac me/shop", "acme/sh?op"] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_short_revision_names_the_commit_that_begins_with_it() {
        let revision = |text: &str| text.parse::<Revision>().unwrap();
        assert!(revision("4f2a91c").names_same_commit(&revision("4f2a91c0000000000000000000000000000000aa")));
        assert!(revision("4f2a91c0").names_same_commit(&revision("4f2a91c")));
        assert!(!revision("4f2a91c").names_same_commit(&revision("4f2a91d0")));
    }

    #[test]
    fn a_revision_is_hexadecimal_and_of_sane_length() {
        assert_eq!("ABCDEF0123".parse::<Revision>().unwrap().short(), "abcdef0");
        for bad in ["", "abc", "zzzzzzz", &"a".repeat(65)] {
            assert!(bad.parse::<Revision>().is_err(), "{bad}");
        }
    }
}
