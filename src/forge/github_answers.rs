//! GitHub's answers, as bytes, to our words. Only the fields that are needed are read, and any other may have any shape.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Error,
    diff::{PATH_BYTES_MAX, Patch},
    kept,
};
use crate::{
    domain::{FileDiff, FileTouched, Person, Revision, Text, TouchKind},
    retry::Failure,
};

/// What we read of a pull request.
#[derive(Deserialize)]
pub(super) struct PullRequest {
    number: u64,
    title: String,
    user: Option<User>,
    merged: Option<bool>,
    merged_at: Option<String>,
    merged_by: Option<User>,
    merge_commit_sha: Option<String>,
    changed_files: Option<u64>,
    base: Base,
}

#[derive(Deserialize)]
struct User {
    login: Text,
}

#[derive(Deserialize)]
struct Base {
    sha: String,
}

/// What we read of one file of a pull request.
#[derive(Deserialize)]
pub(super) struct File {
    filename: String,
    previous_filename: Option<String>,
    status: String,
    #[serde(default)]
    additions: u64,
    #[serde(default)]
    deletions: u64,
    patch: Option<String>,
}

/// A pull request that was merged.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) title: Text,
    pub(super) author: Person,
    pub(super) merged_by: Option<Person>,
    pub(super) base: Revision,
    pub(super) revision: Revision,
    /// How many files it touches, when the forge says.
    pub(super) files: Option<u64>,
}

pub(super) fn parse<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::Malformed(kept(&format!("{what}: {error}"))))
}

impl PullRequest {
    /// Refuses what is not merged or carries no merge commit: there would be nothing to roll out.
    pub(super) fn merged(self, asked: u64) -> Result<Merged, Error> {
        if self.number != asked {
            return Err(Error::Malformed(Text::new(format!("asked for {asked}, and {} was answered", self.number))));
        }
        // Both fields have to say so: an unmerged pull request may carry a merge commit, that of a test merge.
        if self.merged != Some(true) || self.merged_at.is_none() {
            return Err(Error::Refused(Text::new(format!("pull request {asked} is not merged"))));
        }
        let revision = self.merge_commit_sha.ok_or_else(|| {
            Error::Refused(Text::new(format!("pull request {asked} is merged and names no merge commit")))
        })?;
        let commit = |sha: String| sha.parse().map_err(|why: String| Error::Malformed(kept(&why)));
        Ok(Merged {
            title: kept(&self.title),
            // GitHub shows a deleted account under this name, and answers null for it here.
            author: Person(self.user.map_or_else(|| Text::new("ghost"), |user| user.login)),
            merged_by: self.merged_by.map(|user| Person(user.login)),
            base: commit(self.base.sha)?,
            revision: commit(revision)?,
            files: self.changed_files,
        })
    }
}

impl File {
    fn kind(&self) -> TouchKind {
        match self.status.as_str() {
            "added" | "copied" => TouchKind::Added,
            "removed" => TouchKind::Removed,
            "renamed" => TouchKind::Renamed,
            _ => TouchKind::Modified,
        }
    }

    fn previous_path(&self) -> Option<String> {
        self.previous_filename.clone().filter(|_| self.kind() == TouchKind::Renamed)
    }

    /// The file as part of a change, or `None` when its path is longer than we keep.
    pub(super) fn touched(&self) -> Option<FileTouched> {
        let previous_path = self.previous_path();
        let fits = |path: &String| path.len() <= PATH_BYTES_MAX;
        (fits(&self.filename) && previous_path.as_ref().is_none_or(fits)).then(|| FileTouched {
            path: self.filename.clone(),
            previous_path,
            kind: self.kind(),
        })
    }

    /// The file as part of a diff, still without lines. Whether it is binary is not said here.
    pub(super) fn header(&self) -> FileDiff {
        FileDiff {
            path: self.filename.clone(),
            previous_path: self.previous_path(),
            kind: self.kind(),
            binary: false,
            lines: Vec::new(),
        }
    }

    /// Its hunks, as far as they were given.
    pub(super) fn patch(&self) -> Patch<'_> {
        let lines = self.additions.saturating_add(self.deletions);
        match &self.patch {
            Some(hunks) => Patch::Text { hunks, lines },
            None if lines == 0 => Patch::Nothing,
            None => Patch::LeftOut,
        }
    }
}

/// What GitHub writes into the body of an error.
#[derive(Default, Deserialize)]
struct Complaint {
    #[serde(default)]
    message: String,
}

/// What an answer that is no success means, from its status, its headers and the beginning of its body.
pub(super) fn failure(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure<Error> {
    let message = serde_json::from_slice::<Complaint>(body).unwrap_or_default().message;
    let text = kept(&format!("{status}: {message}"));
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let asked_wait = number(header::RETRY_AFTER.as_str()).map(Duration::from_secs);
    let spent = number("x-ratelimit-remaining") == Some(0);
    // A 403 is a rate limit or a lack of rights, and only what comes with it tells which.
    let limited = status == StatusCode::TOO_MANY_REQUESTS
        || (status == StatusCode::FORBIDDEN
            && (asked_wait.is_some() || spent || message.to_ascii_lowercase().contains("rate limit")));
    if limited && asked_wait.is_none() {
        // The limit is lifted at an hour the forge sets, mostly far off: asking on would only add to it.
        Failure::Final(Error::Unavailable(text))
    } else if limited || status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        Failure::Passing { error: Error::Unavailable(text), asked_wait }
    } else if status.is_client_error() {
        Failure::Final(Error::Refused(text))
    } else {
        Failure::Final(Error::Malformed(Text::new(format!("unexpected status {status}"))))
    }
}

/// Whether GitHub says that it will not write the diff as a whole: it has too many files or lines, or takes too long.
pub(super) fn refuses_whole_diff(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_ACCEPTABLE | StatusCode::UNPROCESSABLE_ENTITY)
}

/// Whether another page follows, by the `Link` header. Where it lies is ours to say, so its address is not read.
pub(super) fn has_next_page(headers: &HeaderMap) -> bool {
    let links = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    links.flat_map(|value| value.split(',')).any(|link| link.contains("rel=\"next\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_refusal_and_a_rate_limit_are_told_apart() {
        let seconds = |n| Some(Duration::from_secs(n));
        let check = |status: u16, pairs: &[_], body: &str, expected: &str, wait: Option<Duration>| {
            let seen = failure(StatusCode::from_u16(status).unwrap(), &headers(pairs), body.as_bytes());
            let (error, again, asked) = match seen {
                Failure::Final(error) => (error, "final", None),
                Failure::Passing { error, asked_wait } => (error, "passing", asked_wait),
            };
            let kind = match error {
                Error::Unavailable(_) => "unavailable",
                Error::Refused(_) => "refused",
                Error::Malformed(_) => "malformed",
            };
            assert_eq!((format!("{again} {kind}").as_str(), asked), (expected, wait), "{status} {pairs:?} {body}");
        };
        check(500, &[], "", "passing unavailable", None);
        check(503, &[("retry-after", "7")], "<html>", "passing unavailable", seconds(7));
        check(404, &[], r#"{"message":"Not Found"}"#, "final refused", None);
        check(401, &[], r#"{"message":"Bad credentials"}"#, "final refused", None);
        check(403, &[], r#"{"message":"Resource not accessible"}"#, "final refused", None);
        check(403, &[("x-ratelimit-remaining", "12")], "", "final refused", None);
        check(403, &[("x-ratelimit-remaining", "0")], "", "final unavailable", None);
        check(403, &[], r#"{"message":"You have exceeded a secondary rate limit"}"#, "final unavailable", None);
        check(403, &[("retry-after", "60")], "", "passing unavailable", seconds(60));
        check(429, &[], "", "final unavailable", None);
        check(429, &[("retry-after", "1")], "", "passing unavailable", seconds(1));
        check(429, &[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")], "", "final unavailable", None);
        check(304, &[], "", "final malformed", None);
    }

    #[test]
    fn what_is_not_merged_is_refused() {
        let body = |merged: &str, merged_at: &str, sha: &str| {
            format!(
                r#"{{"number":7,"title":"t","user":null,"merged":{merged},"merged_at":{merged_at},
                "merged_by":{{"login":"ada"}},"merge_commit_sha":{sha},"base":{{"sha":"0123456789"}}}}"#
            )
        };
        let read = |body: String| parse::<PullRequest>("pull", body.as_bytes()).and_then(|pull| pull.merged(7));
        let (when, sha) = (r#""2026-01-01T00:00:00Z""#, r#""abcdef0123""#);
        let merged = read(body("true", when, sha)).unwrap();
        assert_eq!((merged.author.to_string().as_str(), merged.revision.as_str()), ("ghost", "abcdef0123"));
        assert_eq!(merged.merged_by, Some(Person(Text::new("ada"))));
        for refused in [
            body("false", "null", sha),
            body("true", "null", sha),
            body("null", when, sha),
            body("false", when, sha),
            body("true", when, "null"),
        ] {
            assert!(matches!(read(refused.clone()), Err(Error::Refused(_))), "{refused}");
        }
        let other = body("true", when, sha).replace(":7", ":8");
        assert!(matches!(read(other), Err(Error::Malformed(_))));
        assert!(matches!(read(body("true", when, r#""master""#)), Err(Error::Malformed(_))));
    }

    #[test]
    fn secrets_in_titles_and_messages_are_masked_before_they_are_cut() {
        let token = format!("{}{}", concat!("gh", "p_"), "a1B2c3D4".repeat(5));
        let long = format!("{} {token}", "x".repeat(380));
        for title in [&token, &long] {
            let body = format!(
                r#"{{"number":7,"title":"{title}","user":null,"merged":true,"merged_at":"2026-01-01T00:00:00Z",
                "merged_by":null,"merge_commit_sha":"abcdef0123","base":{{"sha":"0123456789"}}}}"#
            );
            let merged = parse::<PullRequest>("pull", body.as_bytes()).and_then(|pull| pull.merged(7)).unwrap();
            assert!(!merged.title.as_str().contains("a1B2"), "{}", merged.title);
        }
        let complaint = format!(r#"{{"message":"bad token {token}"}}"#);
        let Failure::Final(error) = failure(StatusCode::NOT_FOUND, &HeaderMap::new(), complaint.as_bytes()) else {
            panic!("a 404 is final")
        };
        assert_eq!(error.to_string(), "the forge refuses: 404 Not Found: bad token ⟦masked: github token⟧");
    }
}
