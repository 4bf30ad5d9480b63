//! Who may ask, and from where.
//!
//! Three doors, each against its own danger. The *host check* is against DNS rebinding: a page of a stranger may point
//! its own name at our address and then read our answers as its own, but its requests bear that name. The *origin
//! check* is against pages of strangers that send commands through a reader's browser. The *bearer token* is for
//! everybody; it is compared through digests, so that neither its length nor its beginning shows in the time taken.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Refusal, Site};

/// The names under which the API and the page may be asked for. Ports are not looked at: they change on the way through
/// proxies, and a rebinding page cannot lie about its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    bound: IpAddr,
    names: BTreeSet<String>,
}

impl Hosts {
    /// Loopback names, the address that is listened on (any address, when that is the unspecified one), and `allowed`
    /// names or addresses, without a port.
    pub fn new(bound: IpAddr, allowed: &[String]) -> Self {
        Self { bound, names: allowed.iter().map(|name| bare(name)).collect() }
    }

    /// Whether requests for this host are ours.
    fn accepts(&self, host: &str) -> bool {
        let host = bare(host);
        if host == "localhost" || self.names.contains(&host) {
            return true;
        }
        match host.parse::<IpAddr>() {
            // A rebinding page has a name: when we listen everywhere, no address is a stranger's.
            Ok(address) => {
                let address = address.to_canonical();
                address.is_loopback() || address == self.bound.to_canonical() || self.bound.is_unspecified()
            }
            Err(_) => false,
        }
    }
}

/// A host as it is compared: lower case, without brackets and without the root's dot.
fn bare(host: &str) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// What the request says it is for; `None` when it says nothing, two things, or nonsense.
fn asked_authority(request: &Request) -> Option<Authority> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return None;
    }
    let authority = match (request.uri().authority(), host) {
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => Authority::try_from(host.as_bytes()).ok()?,
        (None, None) => return None,
    };
    (!authority.as_str().contains('@')).then_some(authority)
}

/// Lets requests for our own names through.
pub(super) async fn own_host(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    match asked_authority(&request) {
        Some(authority) if site.hosts.accepts(authority.host()) => next.run(request).await,
        Some(authority) => Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!("`{}` is not a name of this tollgate", authority.host()),
            "use the address it listens on, or add the name to `allowed_hosts` in the configuration",
        )
        .into_response(),
        None => {
            Refusal::new(StatusCode::BAD_REQUEST, "no single Host is named", "send one Host header").into_response()
        }
    }
}

/// Lets requests through that bear the token and do not come from another site's page.
pub(super) async fn may_act(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let refusal = foreign_origin(&request).or_else(|| match &site.api_token {
        Some(token) => no_bearer(request.headers(), token),
        None => Some(Refusal::new(
            StatusCode::FORBIDDEN,
            "no API token is configured, so nothing can be commanded here",
            "set `api_token` in the configuration, and start again",
        )),
    });
    match refusal {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    }
}

/// A browser names the page a request comes from; programs do not.
fn foreign_origin(request: &Request) -> Option<Refusal> {
    let mut origins = request.headers().get_all(header::ORIGIN).iter().peekable();
    origins.peek()?;
    let own = asked_authority(request).map(|authority| authority.as_str().to_ascii_lowercase());
    let is_own = |origin: &str| {
        let place = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        place.is_some() && place.map(str::to_ascii_lowercase) == own
    };
    let all_own = origins.all(|origin| origin.to_str().is_ok_and(is_own));
    (!all_own).then(|| {
        Refusal::new(
            StatusCode::FORBIDDEN,
            "commands from another site's page are refused",
            "use the command line, or a client that sends no Origin",
        )
    })
}

fn no_bearer(headers: &HeaderMap, token: &SecretString) -> Option<Refusal> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let bearer = given.next().filter(|_| given.next().is_none()).and_then(|value| {
        let (scheme, credential) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(credential)
    });
    let fix = "send `Authorization: Bearer <the API token>`; the terminal's commands read it from TOLLGATE_TOKEN or --token-file";
    match bearer {
        None => Some(Refusal::new(StatusCode::UNAUTHORIZED, "a bearer token is needed", fix)),
        Some(credential) if same(credential, token.expose_secret().as_bytes()) => None,
        Some(_) => Some(Refusal::new(StatusCode::UNAUTHORIZED, "this bearer token is not the one configured", fix)),
    }
}

fn same(one: &[u8], other: &[u8]) -> bool {
    Sha256::digest(one).ct_eq(&Sha256::digest(other)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(bound: &str, allowed: &[&str]) -> Hosts {
        Hosts::new(bound.parse().unwrap(), &allowed.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn loopback_the_bound_address_and_configured_names_are_ours() {
        let ours = hosts("10.0.0.5", &["Gate.Example.org"]);
        for host in ["localhost", "LOCALHOST.", "127.0.0.1", "127.8.0.1", "[::1]", "10.0.0.5", "gate.example.org"] {
            assert!(ours.accepts(host), "{host}");
        }
        for host in ["evil.example", "10.0.0.6", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
            assert!(!ours.accepts(host), "{host}");
        }
    }

    #[test]
    fn listening_everywhere_takes_every_address_and_still_no_strangers_name() {
        let ours = hosts("0.0.0.0", &[]);
        assert!(ours.accepts("192.168.1.7") && ours.accepts("[fe80::1]"));
        assert!(!ours.accepts("evil.example"));
    }

    #[test]
    fn an_origin_is_own_only_as_a_whole() {
        let from = |origin: &str| {
            let request = Request::builder().uri("/v1/kill-switch").header("host", "localhost:7420");
            foreign_origin(&request.header("origin", origin).body(axum::body::Body::empty()).unwrap()).is_none()
        };
        assert!(from("http://localhost:7420") && from("https://LOCALHOST:7420"));
        for origin in
            ["null", "http://localhost:7421", "http://localhost:7420.evil.example", "ftp://localhost:7420", ""]
        {
            assert!(!from(origin), "{origin}");
        }
    }

    #[test]
    fn a_bearer_is_one_whole_token() {
        let token = SecretString::from("s3cret");
        let refused = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            no_bearer(&headers, &token).is_some()
        };
        assert!(!refused(&["Bearer s3cret"]) && !refused(&["bearer s3cret"]));
        for values in [
            &[][..],
            &["Bearer s3cre"],
            &["Bearer s3crets"],
            &["Bearer "],
            &["Basic s3cret"],
            &["s3cret"],
            &["Bearer s3cret", "Bearer s3cret"],
        ] {
            assert!(refused(values), "{values:?}");
        }
    }
}
