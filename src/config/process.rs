//! The process itself: where it listens, keeps its record, hears of changes and logs.

use std::net::SocketAddr;

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use tracing_subscriber::EnvFilter;

use super::{
    default,
    key::{Key, shown},
    meant::{Github, Journal, Log, LogFormat},
    reading::Reading,
    secret::SECRET_BYTES_SHORT,
    written,
};

/// Longest address of GitHub's API, in bytes.
const API_BYTES_MAX: usize = 512;

/// Where the process listens, and what callers must show.
pub(super) struct Doors {
    pub(super) listen: SocketAddr,
    pub(super) public: bool,
    pub(super) allowed_hosts: Vec<String>,
    pub(super) api_token: Option<SecretString>,
}

impl Reading<'_> {
    /// The address, and that nobody but this machine reaches an API without a token.
    pub(super) fn doors(&mut self, file: &written::File) -> Option<Doors> {
        let key = Key::root().name("listen");
        let public = file.allow_public.unwrap_or(false);
        let token_key = Key::root().name("api_token");
        let api_token = self.secret(&token_key, file.api_token.as_ref(), None);
        let text = file.listen.as_deref().unwrap_or(default::LISTEN);
        let Ok(listen) = text.parse::<SocketAddr>() else {
            let what = format!("\"{}\" is no address and port", shown(text));
            self.problems.add(&key, what, format!("write numbers, such as \"{}\"", default::LISTEN));
            return None;
        };
        if !is_loopback(&listen) && !public {
            let what = format!("{listen} can be reached from other machines");
            let fix = format!("write \"{}\", or set allow_public = true and an api_token", default::LISTEN);
            self.problems.add(&key, what, fix);
        } else if !is_loopback(&listen) && self.are_fine(&[&token_key]) {
            let fix = "write api_token = { env = \"TOLLGATE_API_TOKEN\" }, or listen on a loopback address";
            match &api_token {
                None => self.problems.add(
                    &token_key,
                    format!("is missing, and {listen} can be reached from other machines"),
                    fix,
                ),
                Some(token) if token.expose_secret().len() < SECRET_BYTES_SHORT => {
                    let what = format!("the token can be guessed, and {listen} can be reached from other machines");
                    self.problems.add(
                        &token_key,
                        what,
                        format!("make one of {SECRET_BYTES_SHORT} random bytes or more"),
                    );
                }
                Some(_) => {}
            }
        }
        let allowed_hosts = file.allowed_hosts.clone().unwrap_or_default();
        for (i, host) in allowed_hosts.iter().enumerate() {
            let is_name = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
            if !is_name {
                let what = format!("\"{}\" is no host name", shown(host));
                self.problems.add(
                    &Key::root().name("allowed_hosts").at(i),
                    what,
                    "write a name without a port, such as \"tollgate.example.com\"",
                );
            }
        }
        Some(Doors { listen, public, allowed_hosts, api_token })
    }

    pub(super) fn journal(&mut self, written: Option<&written::Journal>) -> Journal {
        let key = Key::root().name("journal");
        let nothing = written::Journal::default();
        let written = written.unwrap_or(&nothing);
        let dir = written.dir.as_deref().unwrap_or(default::JOURNAL_DIR.as_ref());
        if dir.as_os_str().is_empty() {
            let fix = format!("write a folder, such as \"{}\"", default::JOURNAL_DIR);
            self.problems.add(&key.name("dir"), "is empty", fix);
        }
        Journal {
            dir: self.path(dir),
            snapshot_every: self.count(&key.name("snapshot_every"), written.snapshot_every, &default::SNAPSHOT_EVERY),
            keep: self.count(&key.name("keep"), written.keep, &default::ENTRIES_KEPT),
        }
    }

    /// `None` where the webhook's secret is not to be had: then there is a problem.
    pub(super) fn github(&mut self, written: Option<&written::Github>) -> Option<Github> {
        let key = Key::root().name("github");
        let nothing = written::Github::default();
        let written = written.unwrap_or(&nothing);
        let api = written.api.as_deref().unwrap_or(default::GITHUB_API);
        let token = self.secret(&key.name("token"), written.token.as_ref(), None);
        self.check_api(&key.name("api"), api);
        if token.is_none() && written.token.is_none() {
            self.warn(
                &key.name("token"),
                "is not set: public repositories are read at a low rate, and nothing is written back",
            );
        }
        let secret_key = key.name("webhook_secret");
        let webhook_secret =
            self.secret(&secret_key, written.webhook_secret.as_ref(), Some(default::WEBHOOK_SECRET_ENV));
        let timeout = self.span(&key.name("timeout"), written.timeout.as_ref(), default::GITHUB_TIMEOUT);
        let body_bytes_max = self.size(&key.name("body_bytes_max"), written.body_bytes_max, &default::BODY_BYTES_MAX);
        let api = api.trim_end_matches('/').to_owned();
        Some(Github { api, token, webhook_secret: webhook_secret?, timeout, body_bytes_max })
    }

    /// Our token goes to this address, so it is HTTPS unless it never leaves the machine.
    fn check_api(&mut self, key: &Key, api: &str) {
        let fix = format!("write an https address, such as \"{}\"", default::GITHUB_API);
        let Some(url) = super::arms::http_url(api).filter(|_| api.len() <= API_BYTES_MAX) else {
            self.problems.add(key, "is no web address", fix);
            return;
        };
        if url.scheme() != "https" && !is_local(&url) {
            self.problems.add(key, "would send the token in the open", fix);
        } else if url.query().is_some() || url.fragment().is_some() {
            self.problems.add(key, "goes on after the path", fix);
        }
    }

    pub(super) fn log(&mut self, written: Option<&written::Log>) -> Log {
        let key = Key::root().name("log").name("filter");
        let filter = written.and_then(|log| log.filter.as_deref()).unwrap_or(default::LOG_FILTER);
        if filter.trim().is_empty() || EnvFilter::try_new(filter).is_err() {
            let what = format!("\"{}\" is no filter", shown(filter));
            self.problems.add(&key, what, "write a level or directives, such as \"info\" or \"info,tollgate=debug\"");
        }
        let format = match written.and_then(|log| log.format) {
            Some(written::LogFormat::Json) => LogFormat::Json,
            Some(written::LogFormat::Text) | None => LogFormat::Text,
        };
        Log { format, filter: filter.into() }
    }
}

/// Whether what is sent to the address stays on this machine.
pub(super) fn is_local(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    })
}

/// Whether only this machine reaches the address.
fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
