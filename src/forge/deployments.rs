//! Past deployments of a repository, as GitHub's Deployments API keeps them: which revision began to run when.
//!
//! A deployment is created when somebody asks for it, and may wait for hours until it is approved. What counts is when
//! it began, which its statuses tell; one that never began brought nothing to anyone and is left out.

use serde::Deserialize;

use super::{
    Error, GitHub,
    github_answers::{has_next_page, parse},
    kept,
};
use crate::domain::{Repository, Revision, Text, Timestamp};

/// Most deployments that are read of one repository.
pub const DEPLOYMENTS_MAX: usize = 500;
/// Deployments, and statuses of one, asked for in one page: the most GitHub gives.
const A_PAGE: usize = 100;
/// Most bytes of an environment's name.
pub const ENVIRONMENT_BYTES_MAX: usize = 255;

/// One deployment that began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// When it began.
    pub at: Timestamp,
    /// What was deployed.
    pub revision: Revision,
    /// Where to, in somebody's words.
    pub environment: Text,
}

/// The newest deployments of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployments {
    /// Those that began, the newest first as GitHub lists them.
    pub began: Vec<Deployment>,
    /// How many were listed that never began.
    pub never_began: usize,
    /// Whether there are older ones.
    pub more: bool,
}

/// What we read of a deployment.
#[derive(Deserialize)]
struct Listed {
    id: u64,
    sha: String,
    #[serde(default)]
    environment: Text,
}

/// What we read of a deployment's status.
#[derive(Deserialize)]
struct Status {
    state: String,
    created_at: String,
}

impl GitHub {
    /// The newest deployments of a repository, of one environment where one is named, at most `most` and never more than
    /// [`DEPLOYMENTS_MAX`]. It costs a request for each, and one for each hundred.
    ///
    /// An environment whose name is empty or longer than [`ENVIRONMENT_BYTES_MAX`] is [`Error::Refused`].
    pub async fn deployments(
        &self,
        repository: &Repository,
        environment: Option<&str>,
        most: usize,
    ) -> Result<Deployments, Error> {
        let most = most.clamp(1, DEPLOYMENTS_MAX);
        if environment.is_some_and(|name| name.is_empty() || name.len() > ENVIRONMENT_BYTES_MAX) {
            return Err(Error::Refused(Text::new("the environment's name is empty or too long")));
        }
        let (listed, more) = self.listed(repository, environment, most).await?;
        let mut deployments = Deployments { began: Vec::new(), never_began: 0, more };
        for one in listed {
            match self.began(repository, one.id).await? {
                Some(at) => {
                    let revision = one.sha.parse().map_err(|why: String| Error::Malformed(kept(&why)))?;
                    let environment = kept(one.environment.as_str());
                    deployments.began.push(Deployment { at, revision, environment });
                }
                None => deployments.never_began += 1,
            }
        }
        Ok(deployments)
    }

    async fn listed(
        &self,
        repository: &Repository,
        environment: Option<&str>,
        most: usize,
    ) -> Result<(Vec<Listed>, bool), Error> {
        let only = environment.map(|name| format!("&environment={}", escaped(name))).unwrap_or_default();
        let root = root(repository);
        let mut listed: Vec<Listed> = Vec::new();
        for page in 1..=DEPLOYMENTS_MAX.div_ceil(A_PAGE) {
            let answer = self.json(&format!("{root}?per_page={A_PAGE}&page={page}{only}")).await?;
            listed.extend(parse::<Vec<Listed>>("the list of deployments", &answer.body)?);
            let has_next = has_next_page(&answer.headers);
            if listed.len() > most || (listed.len() == most && has_next) {
                listed.truncate(most);
                return Ok((listed, true));
            }
            if !has_next {
                return Ok((listed, false));
            }
        }
        Ok((listed, true))
    }

    /// When a deployment began; `None` where it never did. A pipeline that does not say when it begins says when it has
    /// succeeded.
    async fn began(&self, repository: &Repository, id: u64) -> Result<Option<Timestamp>, Error> {
        let root = root(repository);
        let answer = self.json(&format!("{root}/{id}/statuses?per_page={A_PAGE}")).await?;
        let statuses: Vec<Status> = parse("the statuses of a deployment", &answer.body)?;
        let first = |state: &str| {
            let of = statuses.iter().filter(|status| status.state == state);
            let times: Result<Vec<Timestamp>, Error> = of.map(|status| time(&status.created_at)).collect();
            times.map(|times| times.into_iter().min())
        };
        Ok(first("in_progress")?.or(first("success")?))
    }
}

fn root(repository: &Repository) -> String {
    format!("/repos/{}/{}/deployments", repository.owner(), repository.name())
}

fn time(text: &str) -> Result<Timestamp, Error> {
    let parsed = text.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok());
    parsed.map(Timestamp::from_millis).ok_or_else(|| Error::Malformed(Text::new("a deployment's time is none")))
}

/// A value as it stands in a query: all but letters, digits, `-`, `_` and `.` is escaped.
fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    value.bytes().map(one).collect()
}
