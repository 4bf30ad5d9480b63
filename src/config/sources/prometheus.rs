//! A source that speaks Prometheus's HTTP API.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use crate::config::{
    arms, default,
    key::Key,
    meant::{PrometheusSource, SourceAuth},
    process::is_local,
    reading::Reading,
    written,
};

/// Longest user, in bytes.
const USER_BYTES_MAX: usize = 200;

impl Reading<'_> {
    /// The source; `None` where it has no address.
    pub(super) fn prometheus(&mut self, key: &Key, written: &written::Source) -> Option<PrometheusSource> {
        let url = self.source_url(&key.name("url"), written);
        let auth = self.source_auth(key, written);
        let headers = self.headers(&key.name("headers"), written.headers.as_ref());
        let ca_pem = self.pem(&key.name("ca_file"), written.ca_file.as_ref());
        let client_pem = self.client_pem(key, written);
        let timeout = self.span(&key.name("timeout"), written.timeout.as_ref(), default::SOURCE_TIMEOUT);
        let concurrency = self.size(&key.name("concurrency"), written.concurrency, &default::SOURCE_CONCURRENCY);
        let samples_key = key.name("samples_per_day");
        let samples_per_day =
            written.samples_per_day.map(|samples| self.count(&samples_key, Some(samples), &default::SAMPLES_PER_DAY));
        let bytes_key = key.name("response_bytes_max");
        let response_bytes_max = self.size(&bytes_key, written.response_bytes_max, &default::RESPONSE_BYTES_MAX);
        let raw_series_max = self.size(&key.name("raw_series_max"), written.raw_series_max, &default::RAW_SERIES_MAX);
        let allow_partial = written.allow_partial.unwrap_or(false);
        if allow_partial {
            self.warn(&key.name("allow_partial"), "is on: what a part of the source shows is taken for the whole");
        }
        Some(PrometheusSource {
            url: url?,
            auth,
            headers,
            ca_pem: ca_pem.map(|pem| pem.expose_secret().to_owned()),
            client_pem,
            timeout,
            concurrency,
            samples_per_day,
            response_bytes_max,
            raw_series_max,
            allow_partial,
        })
    }

    /// The address. What may be in it besides is not repeated.
    fn source_url(&mut self, key: &Key, written: &written::Source) -> Option<String> {
        let fix = "write the address without /api/v1, such as \"http://127.0.0.1:9090\"";
        let Some(text) = &written.url else {
            self.missing(key, "the server's address, such as \"http://127.0.0.1:9090\"");
            return None;
        };
        let Some(url) = arms::http_url(text).filter(|_| text.len() <= arms::URL_BYTES_MAX) else {
            self.problems.add(key, "is no web address, or holds a user name or a password", fix);
            return None;
        };
        if url.query().is_some() || url.fragment().is_some() || url.path().ends_with("/api/v1") {
            self.problems.add(key, "goes on too far", fix);
        }
        let has_secret = written.bearer.is_some() || written.password.is_some();
        if has_secret && url.scheme() != "https" && !is_local(&url) {
            self.warn(key, "sends what we show the source in the open; an https address does not");
        }
        Some(text.trim_end_matches('/').to_owned())
    }

    fn source_auth(&mut self, key: &Key, written: &written::Source) -> SourceAuth {
        let bearer = self.secret(&key.name("bearer"), written.bearer.as_ref(), None);
        let password = self.secret(&key.name("password"), written.password.as_ref(), None);
        match (&written.bearer, &written.user, &written.password) {
            (None, None, None) => SourceAuth::None,
            (Some(_), None, None) => bearer.map_or(SourceAuth::None, SourceAuth::Bearer),
            (Some(_), _, _) => {
                self.problems.add(&key.name("bearer"), "stands beside a user or a password", "keep one of the two");
                SourceAuth::None
            }
            (None, Some(user), Some(_)) => {
                let user_key = key.name("user");
                if user.is_empty() || user.len() > USER_BYTES_MAX || user.contains(|c: char| c == ':' || c.is_control())
                {
                    self.problems.add(&user_key, "is no user's name", "write a name without colons");
                }
                let user = user.clone();
                password.map_or(SourceAuth::None, |password| SourceAuth::Basic { user, password })
            }
            (None, Some(_), None) => {
                self.missing(&key.name("password"), "{ env = \"NAME\" } or { file = \"path\" }");
                SourceAuth::None
            }
            (None, None, Some(_)) => {
                self.missing(&key.name("user"), "the user whose password it is");
                SourceAuth::None
            }
        }
    }

    /// A certificate of ours and its key, one after the other.
    fn client_pem(&mut self, key: &Key, written: &written::Source) -> Option<SecretString> {
        let (cert_key, key_key) = (key.name("client_cert_file"), key.name("client_key_file"));
        match (&written.client_cert_file, &written.client_key_file) {
            (None, None) => None,
            (Some(cert), Some(of_ours)) => {
                let (cert, of_ours) = (self.pem(&cert_key, Some(cert))?, self.pem(&key_key, Some(of_ours))?);
                Some(format!("{}\n{}", cert.expose_secret(), of_ours.expose_secret()).into())
            }
            (Some(_), None) => {
                self.missing(&key_key, "the file that holds the certificate's key");
                None
            }
            (None, Some(_)) => {
                self.missing(&cert_key, "the file that holds the key's certificate");
                None
            }
        }
    }

    /// What a PEM file holds.
    fn pem(&mut self, key: &Key, path: Option<&PathBuf>) -> Option<SecretString> {
        let text = self.text_file(key, path?)?;
        if !text.expose_secret().contains("-----BEGIN ") {
            self.problems.add(key, "the file holds no PEM", "name a file that begins with -----BEGIN");
        }
        Some(text)
    }
}
