//! GitHub: merged pull requests and their diffs in.
//!
//! A merge is announced by a signed delivery ([`webhook`]), which is believed only so far as to ask for the pull
//! request again ([`GitHub`]): what is rolled out is what the forge says now, not what a sender wrote. Titles, paths
//! and diffs are strangers' text; they are bounded here ([`diff`]) and carry no meaning beyond their words. Secrets in titles,
//! names and messages are masked where they come in.
//! [`stand_in`] answers in GitHub's shape on loopback, for the demo and for tests.

pub mod deployments;
pub mod diff;
mod git_header;
pub mod github;
mod github_answers;
pub mod stand_in;
mod stand_in_answers;
pub mod webhook;

pub use github::{Config, GitHub, Reach};

use crate::{domain::Text, untrusted::masked};

/// Why the forge gave no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It may answer later: a 5xx, a timeout, a broken connection, a rate limit.
    #[error("the forge is unavailable: {0}")]
    Unavailable(Text),
    /// Asking again will not help: it does not exist, may not be read, or is not merged.
    #[error("the forge refuses: {0}")]
    Refused(Text),
    /// It answered something that is not of the shape it should have, or larger than the limit.
    #[error("the forge's answer cannot be read: {0}")]
    Malformed(Text),
}

/// A stranger's words as they are kept: secrets are masked before anything is cut, for half a secret is not recognised.
///
/// Paths are not kept so: globs and references to lines need them true. Whoever shows them masks them.
fn kept(words: &str) -> Text {
    Text::new(masked(words).text)
}

impl From<diff::Malformed> for Error {
    fn from(malformed: diff::Malformed) -> Self {
        Self::Malformed(Text::new(format!("the diff, {malformed}")))
    }
}
