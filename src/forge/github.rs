//! The client of GitHub's API: what a merged pull request is, and its diff.
//!
//! Every answer is read as bytes up to a limit and parsed by tolerant types of our own: octocrab's models are exact, so
//! a field that GitHub adds or leaves out would make a merge unreadable. Its own retries are off; trying again is the
//! business of one place ([`crate::retry`]).

use std::{net::IpAddr, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
};
use futures_util::StreamExt;
use octocrab::{Octocrab, service::middleware::retry::RetryConfig};
use secrecy::SecretString;

use super::{
    Error,
    diff::{self, Assembly, LIMITS},
    github_answers::{File, PullRequest, failure, has_next_page, parse, refuses_whole_diff},
    kept,
};
use crate::{
    domain::{Change, Diff, Repository, Revision, Text},
    retry::{self, Failure},
};

/// Most files of a change that are read, which is also the most that GitHub lists.
pub const FILES_MAX: usize = 3_000;
/// Files asked for in one page, the most GitHub gives.
const FILES_A_PAGE: usize = 100;
/// Most bytes of one answer in JSON.
const JSON_BYTES_MAX: usize = 16 << 20;
/// Bytes of a list of files, over its pages, after which no further page is asked for.
const LISTED_BYTES_MAX: usize = 32 << 20;
/// Most bytes of an error's body; what goes beyond is left unread.
const COMPLAINT_BYTES_MAX: usize = 64 << 10;

/// Most bytes of one file that are read; what goes beyond is left unread.
pub const FILE_BYTES_MAX: usize = 256 << 10;
/// Most bytes of a path in a repository.
pub const PATH_BYTES_MAX: usize = 1_000;

const JSON: HeaderValue = HeaderValue::from_static("application/vnd.github+json");
const DIFF: HeaderValue = HeaderValue::from_static("application/vnd.github.diff");
const RAW: HeaderValue = HeaderValue::from_static("application/vnd.github.raw+json");

/// How GitHub is reached.
#[derive(Clone, Debug)]
pub struct Config {
    /// The API's address: `https://api.github.com`, or `https://<host>/api/v3` of an Enterprise Server.
    pub api: String,
    /// A token that may read pull requests; without one only public repositories can be read.
    pub token: Option<SecretString>,
    /// Longest time for one attempt, from the connection to the last byte.
    pub timeout: Duration,
    /// Most attempts at one request, the first included.
    pub attempts_max: u32,
}

/// A client of GitHub's API; cheap to clone.
#[derive(Clone)]
pub struct GitHub {
    client: Octocrab,
    timeout: Duration,
    attempts_max: u32,
}

/// How far the configured credentials reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Requests that are allowed in an hour, where GitHub says.
    pub requests_max: Option<u64>,
    /// How many of them are left.
    pub requests_left: Option<u64>,
}

/// A text file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryFile {
    /// Its text.
    pub text: String,
    /// Whether it goes on beyond [`FILE_BYTES_MAX`].
    pub cut: bool,
}

/// Whether a path names something inside a repository and nothing else: relative, without `.` and `..`, without what an
/// address or a terminal could take for its own.
pub fn is_plain_path(path: &str) -> bool {
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.len() <= PATH_BYTES_MAX
        && path.split('/').all(is_plain)
        && !path.contains("://")
        && !path.chars().any(|c| c.is_control() || c == '\\')
}

/// An answer: its headers, and its body up to a limit.
pub(super) struct Answer {
    status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// Whether the body went on beyond the limit.
    cut: bool,
}

impl GitHub {
    /// A client for this configuration. It reaches nothing yet, and needs a running tokio runtime.
    ///
    /// Fails with [`Error::Refused`] where the address is none, where a token would go over the network in the clear, or
    /// where the system has no root certificates.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let refused = |why: String| Error::Refused(Text::new(why));
        let mut builder = Octocrab::builder()
            .base_uri(address(config)?)
            .map_err(|error| refused(format!("the API's address cannot be used: {error}")))?
            .add_retry_config(RetryConfig::None)
            .set_connect_timeout(Some(config.timeout));
        if let Some(token) = &config.token {
            builder = builder.personal_token(token.clone());
        }
        let client = builder.build().map_err(|error| refused(format!("no client can be made: {error}")))?;
        Ok(Self { client, timeout: config.timeout, attempts_max: config.attempts_max })
    }

    /// Whether a repository can be read, and how many more requests are allowed before the limit on them is reset.
    pub async fn reach(&self, repository: &Repository) -> Result<Reach, Error> {
        let answer = self.json(&format!("/repos/{}/{}", repository.owner(), repository.name())).await?;
        let number = |name: &str| answer.headers.get(name)?.to_str().ok()?.parse().ok();
        Ok(Reach { requests_max: number("x-ratelimit-limit"), requests_left: number("x-ratelimit-remaining") })
    }

    /// A merged pull request as GitHub has it now, with the files it touches.
    ///
    /// A pull request that is not merged is [`Error::Refused`].
    pub async fn change(&self, repository: &Repository, number: u64) -> Result<Change, Error> {
        let answer = self.json(&path(repository, number)).await?;
        let merged = parse::<PullRequest>("the pull request", &answer.body)?.merged(number)?;
        let (listed, mut files_cut) = self.files(repository, number).await?;
        files_cut |=
            merged.files.is_some_and(|files| usize::try_from(files).map_or(true, |files| files > listed.len()));
        let files: Vec<_> = listed.iter().filter_map(File::touched).collect();
        files_cut |= files.len() < listed.len();
        Ok(Change {
            repository: repository.clone(),
            pull_request: number,
            title: merged.title,
            author: merged.author,
            merged_by: merged.merged_by,
            base: merged.base,
            revision: merged.revision,
            files,
            files_cut,
        })
    }

    /// The diff of a pull request. Where GitHub will not write it as a whole, it is put together from the files' patches,
    /// and marked as cut where one of them is left out.
    pub async fn diff(&self, repository: &Repository, number: u64) -> Result<Diff, Error> {
        // One byte more than is read tells whether there is more.
        let answer = self.get(&path(repository, number), DIFF, LIMITS.bytes_max + 1).await?;
        if !refuses_whole_diff(answer.status) {
            return Ok(diff::read(&answer.body, &LIMITS)?);
        }
        let (files, files_cut) = self.files(repository, number).await?;
        let mut assembly = Assembly::new(LIMITS);
        for file in &files {
            assembly.add(file.header(), file.patch())?;
        }
        Ok(assembly.finish(files_cut))
    }

    /// A text file as it is at a revision. The path must be one that [`is_plain_path`] takes, or it is [`Error::Refused`], as
    /// is a file that does not exist; what is a folder or no text is [`Error::Malformed`].
    pub async fn file(
        &self,
        repository: &Repository,
        path: &str,
        revision: &Revision,
    ) -> Result<RepositoryFile, Error> {
        if !is_plain_path(path) {
            return Err(Error::Refused(Text::new("the path is none inside a repository")));
        }
        let (owner, name) = (repository.owner(), repository.name());
        let address = format!("/repos/{owner}/{name}/contents/{}?ref={revision}", escaped(path));
        let answer = self.get(&address, RAW, FILE_BYTES_MAX).await?;
        if !answer.status.is_success() {
            let (Failure::Final(error) | Failure::Passing { error, .. }) =
                failure(answer.status, &answer.headers, &answer.body);
            return Err(error);
        }
        let malformed = |why: &str| Err(Error::Malformed(Text::new(why)));
        // Asked for the raw text of a folder, GitHub lists it in plain JSON.
        let kind = answer.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.starts_with("application/json") {
            return malformed("it is a folder");
        }
        let mut bytes = answer.body;
        if answer.cut {
            // The last character may have been cut in two.
            let whole = std::str::from_utf8(&bytes).map_or_else(|error| error.valid_up_to(), str::len);
            if bytes.len() - whole < 4 {
                bytes.truncate(whole);
            }
        }
        match String::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Ok(RepositoryFile { text, cut: answer.cut }),
            Ok(_) | Err(_) => malformed("it is no text"),
        }
    }

    /// The files as GitHub lists them, and whether there are more than it lists or we read.
    async fn files(&self, repository: &Repository, number: u64) -> Result<(Vec<File>, bool), Error> {
        let mut files: Vec<File> = Vec::new();
        let mut bytes = 0;
        for page in 1..=FILES_MAX / FILES_A_PAGE {
            let path = format!("{}/files?per_page={FILES_A_PAGE}&page={page}", path(repository, number));
            let answer = self.json(&path).await?;
            files.extend(parse::<Vec<File>>("the list of files", &answer.body)?);
            if files.len() > FILES_MAX {
                files.truncate(FILES_MAX);
                return Ok((files, true));
            }
            if !has_next_page(&answer.headers) {
                return Ok((files, false));
            }
            bytes += answer.body.len();
            if bytes >= LISTED_BYTES_MAX {
                break;
            }
        }
        Ok((files, true))
    }

    /// An answer of success in JSON, whole.
    pub(super) async fn json(&self, path: &str) -> Result<Answer, Error> {
        let answer = self.get(path, JSON, JSON_BYTES_MAX).await?;
        if answer.cut {
            return Err(Error::Malformed(Text::new(format!("{path} is larger than {JSON_BYTES_MAX} bytes"))));
        }
        if refuses_whole_diff(answer.status) {
            let refused = failure(answer.status, &answer.headers, &answer.body);
            return Err(match refused {
                Failure::Final(error) | Failure::Passing { error, .. } => error,
            });
        }
        Ok(answer)
    }

    /// Gets a path, trying again what may pass. Answers of success, and those that refuse a whole diff, come back.
    async fn get(&self, path: &str, accept: HeaderValue, bytes_max: usize) -> Result<Answer, Error> {
        let within = self.timeout.saturating_mul(self.attempts_max);
        retry::attempt(self.attempts_max, within, || async {
            let once = tokio::time::timeout(self.timeout, self.once(path, accept.clone(), bytes_max)).await;
            let answer = once.unwrap_or_else(|_| {
                let why = format!("no whole answer within {} ms", self.timeout.as_millis());
                Err(Failure::passing(Error::Unavailable(Text::new(why))))
            })?;
            if answer.status.is_success() || refuses_whole_diff(answer.status) {
                return Ok(answer);
            }
            tracing::warn!(path, status = %answer.status, "the forge did not answer as asked");
            Err(failure(answer.status, &answer.headers, &answer.body))
        })
        .await
    }

    async fn once(&self, path: &str, accept: HeaderValue, bytes_max: usize) -> Result<Answer, Failure<Error>> {
        let broken = |error: String| Failure::passing(Error::Unavailable(kept(&error)));
        let headers = HeaderMap::from_iter([(header::ACCEPT, accept)]);
        let response = self.client._get_with_headers(path, Some(headers)).await.map_err(|e| broken(e.to_string()))?;
        let (parts, body) = response.into_parts();
        let bytes_max = if parts.status.is_success() { bytes_max } else { COMPLAINT_BYTES_MAX };
        let mut chunks = Body::new(body).into_data_stream();
        let (mut body, mut cut) = (Vec::new(), false);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|e| broken(e.to_string()))?;
            let room = bytes_max - body.len();
            cut = chunk.len() > room;
            body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if cut {
                break;
            }
        }
        Ok(Answer { status: parts.status, headers: parts.headers, body, cut })
    }
}

/// The API's address. An error does not repeat it, for people write credentials into addresses.
fn address(config: &Config) -> Result<Uri, Error> {
    let refused = |why: &str| Err(Error::Refused(Text::new(why)));
    let parsed = config.api.trim_end_matches('/').parse::<Uri>().ok();
    let plain = parsed.filter(|uri| {
        let schemed = matches!(uri.scheme_str(), Some("https" | "http"));
        schemed && uri.query().is_none() && uri.authority().is_some_and(|host| !host.as_str().contains('@'))
    });
    let Some(uri) = plain else {
        return refused(
            "the API's address is none: write `https://api.github.com`, with nothing but a path after the host",
        );
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if config.token.is_some() && uri.scheme_str() == Some("http") && !loopback {
        return refused("the token would be sent in the clear: write the API's address with https");
    }
    Ok(uri)
}

fn path(repository: &Repository, number: u64) -> String {
    format!("/repos/{}/{}/pulls/{number}", repository.owner(), repository.name())
}

/// A path as it stands in an address: everything but letters, digits, `-`, `_`, `.` and the slashes between is escaped.
fn escaped(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
