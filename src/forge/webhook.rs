//! A delivery of GitHub's webhook, as bytes: whether it is genuine, and whether it says that something was merged.
//!
//! The signature is an HMAC-SHA256 over the raw body, so it is checked on the bytes before anything of them is parsed.
//! Of the body only a handful of fields is read, and any other field may have any shape: GitHub adds to its payloads
//! without notice. A pull request is merged exactly when the event is `pull_request`, the action `closed` and `merged`
//! true; `merge_commit_sha` is no sign of it, for GitHub sets that on test merges of open pull requests too.

use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::IgnoredAny};
use sha2::Sha256;

use super::kept;
use crate::domain::{Repository, Text};

/// The header that carries the signature, in lower case.
pub const SIGNATURE_HEADER: &str = "x-hub-signature-256";
/// The header that names the event, in lower case.
pub const EVENT_HEADER: &str = "x-github-event";
/// The header that numbers the delivery, in lower case.
pub const DELIVERY_HEADER: &str = "x-github-delivery";
/// Most bytes of a branch's name; GitHub takes no longer ones.
pub const BRANCH_BYTES_MAX: usize = 255;

const SIGNATURE_PREFIX: &str = "sha256=";

/// What a genuine delivery says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A pull request was merged.
    Merged {
        /// Where.
        repository: Repository,
        /// Its number.
        pull_request: u64,
        /// The branch it was merged into.
        branch: String,
        /// Whether that is the repository's default branch.
        into_default: bool,
    },
    /// Nothing that starts a rollout.
    Ignored {
        /// Why, for whoever reads the deliveries' log at GitHub.
        why: Text,
    },
}

/// Why a delivery is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The signature is missing, has another form, or is not of this body under this secret.
    #[error("the signature is not right: set the webhook's secret at GitHub and here to the same value")]
    Signature,
    /// It is signed, and still not what GitHub sends.
    #[error("the body cannot be read: {0}")]
    Malformed(Text),
}

/// Checks that `header`, the value of `X-Hub-Signature-256`, signs the raw body under the secret, in constant time.
///
/// An empty secret verifies nothing: anyone could sign with it.
pub fn verify(secret: &SecretString, raw_body: &[u8], header: &str) -> Result<(), Refusal> {
    let claimed = header.strip_prefix(SIGNATURE_PREFIX).and_then(from_hex).ok_or(Refusal::Signature)?;
    if secret.expose_secret().is_empty() {
        return Err(Refusal::Signature);
    }
    mac(secret, raw_body)?.verify_slice(&claimed).map_err(|_| Refusal::Signature)
}

/// The value of `X-Hub-Signature-256` for a body: the sender's side of [`verify`].
pub fn sign(secret: &SecretString, raw_body: &[u8]) -> Result<String, Refusal> {
    let digest = mac(secret, raw_body)?.finalize().into_bytes();
    Ok(digest.iter().fold(SIGNATURE_PREFIX.to_owned(), |header, byte| header + &format!("{byte:02x}")))
}

fn mac(secret: &SecretString, raw_body: &[u8]) -> Result<Hmac<Sha256>, Refusal> {
    // HMAC takes keys of any length; the error is there for algorithms that do not.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).map_err(|_| Refusal::Signature)?;
    mac.update(raw_body);
    Ok(mac)
}

/// The 32 bytes of a SHA-256 in hexadecimal.
fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[derive(Deserialize)]
struct Acted {
    action: Option<String>,
}

#[derive(Deserialize)]
struct Closed {
    pull_request: PullRequest,
    repository: HomeOf,
}

#[derive(Deserialize)]
struct PullRequest {
    number: u64,
    merged: bool,
    base: Base,
}

#[derive(Deserialize)]
struct Base {
    #[serde(rename = "ref")]
    branch: String,
}

#[derive(Deserialize)]
struct HomeOf {
    full_name: String,
    default_branch: String,
}

/// Reads a body whose signature was verified. `event_name` is the value of `X-GitHub-Event`.
pub fn read(event_name: &str, raw_body: &[u8]) -> Result<Delivery, Refusal> {
    let ignored = |why: String| Ok(Delivery::Ignored { why: kept(&why) });
    if event_name != "pull_request" {
        let _: IgnoredAny = parse(raw_body)?;
        return match event_name {
            "ping" => ignored("the webhook is set up; merged pull requests will be taken from now on".into()),
            other => ignored(format!("`{other}` is no pull request")),
        };
    }
    match parse::<Acted>(raw_body)?.action.as_deref() {
        Some("closed") => {}
        other => return ignored(format!("`{}` merges nothing", other.unwrap_or("no action"))),
    }
    let Closed { pull_request, repository } = parse(raw_body)?;
    if !pull_request.merged {
        return ignored(format!("pull request {} was closed without being merged", pull_request.number));
    }
    let branch = pull_request.base.branch;
    if branch.is_empty() || branch.len() > BRANCH_BYTES_MAX || branch.chars().any(char::is_control) {
        return Err(Refusal::Malformed(kept(&format!("`{branch}` is no branch of GitHub"))));
    }
    Ok(Delivery::Merged {
        repository: repository.full_name.parse().map_err(|why: String| Refusal::Malformed(kept(&why)))?,
        pull_request: pull_request.number,
        into_default: branch == repository.default_branch,
        branch,
    })
}

fn parse<'a, T: Deserialize<'a>>(raw_body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(raw_body).map_err(|error| Refusal::Malformed(kept(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of GitHub's page on validating deliveries.
    #[test]
    fn githubs_own_example_verifies() {
        let secret = SecretString::from("It's a Secret to Everybody");
        let header = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(verify(&secret, b"Hello, World!", header), Ok(()));
        assert_eq!(sign(&secret, b"Hello, World!").unwrap(), header);
        assert_eq!(verify(&secret, b"Hello, World!", &header.to_uppercase().replace("SHA", "sha")), Ok(()));
    }

    #[test]
    fn anything_but_the_right_signature_is_refused() {
        let secret = SecretString::from("right");
        let good = sign(&secret, b"body").unwrap();
        let refused = |secret: &SecretString, body: &[u8], header: &str| {
            assert_eq!(verify(secret, body, header), Err(Refusal::Signature), "{header}");
        };
        refused(&secret, b"body ", &good);
        refused(&SecretString::from("wrong"), b"body", &good);
        for header in ["", "sha256=", "sha1=00", &good[..good.len() - 2], &format!("{good}00"), &good[7..]] {
            refused(&secret, b"body", header);
        }
        refused(&secret, b"body", &good.replace(&good[7..9], "+1"));
        refused(&secret, b"body", &format!("sha256={}", "é".repeat(32)));
        let empty = SecretString::from("");
        refused(&empty, b"body", &sign(&empty, b"body").unwrap());
    }

    fn closed(merged: &str, branch: &str, full_name: &str) -> String {
        format!(
            r#"{{"action":"closed","pull_request":{{"number":7,"merged":{merged},"merge_commit_sha":"abc",
            "base":{{"ref":"{branch}"}}}},"repository":{{"full_name":"{full_name}","default_branch":"main"}}}}"#
        )
    }

    #[test]
    fn only_a_closed_and_merged_pull_request_is_a_merge() {
        let merged = |branch: &str, into_default| Delivery::Merged {
            repository: "acme/shop".parse().unwrap(),
            pull_request: 7,
            branch: branch.into(),
            into_default,
        };
        let read_closed = |body: &str| read("pull_request", body.as_bytes());
        assert_eq!(read_closed(&closed("true", "main", "acme/shop")), Ok(merged("main", true)));
        assert_eq!(read_closed(&closed("true", "release", "acme/shop")), Ok(merged("release", false)));
        for (event, body) in [
            ("pull_request", closed("false", "main", "acme/shop")),
            ("pull_request", closed("true", "main", "acme/shop").replace("closed", "edited")),
            ("pull_request", "{}".into()),
            ("pull_request_review", closed("true", "main", "acme/shop")),
            ("ping", r#"{"zen":"Design for failure."}"#.into()),
        ] {
            assert!(matches!(read(event, body.as_bytes()), Ok(Delivery::Ignored { .. })), "{event}: {body}");
        }
    }

    #[test]
    fn a_merge_that_cannot_be_read_is_malformed() {
        for body in [
            closed("null", "main", "acme/shop"),
            closed("true", "", "acme/shop"),
            closed("true", r"a\nb", "acme/shop"),
            closed("true", &"b".repeat(BRANCH_BYTES_MAX + 1), "acme/shop"),
            closed("true", "main", "acme"),
            r#"{"action":"closed"}"#.into(),
            r#"{"action":"#.into(),
            "[".repeat(10_000),
        ] {
            assert!(matches!(read("pull_request", body.as_bytes()), Err(Refusal::Malformed(_))), "{body}");
        }
        assert!(matches!(read("ping", b"zen"), Err(Refusal::Malformed(_))));
        let longest = closed("true", &"b".repeat(BRANCH_BYTES_MAX), "acme/shop");
        assert!(matches!(read("pull_request", longest.as_bytes()), Ok(Delivery::Merged { .. })));
    }
}
