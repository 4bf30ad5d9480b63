//! A source that services with OpenTelemetry send their metrics to.

use std::net::SocketAddr;

use secrecy::ExposeSecret;

use crate::config::{
    key::{Key, shown},
    meant::OtlpSource,
    reading::Reading,
    secret::SECRET_BYTES_SHORT,
    written,
};

impl Reading<'_> {
    /// The receiver; `None` where it listens nowhere.
    pub(super) fn otlp(&mut self, key: &Key, written: &written::Source) -> Option<OtlpSource> {
        let listen_http = self.listener(&key.name("listen_http"), written.listen_http.as_ref());
        let listen_grpc = self.listener(&key.name("listen_grpc"), written.listen_grpc.as_ref());
        if written.listen_http.is_none() && written.listen_grpc.is_none() {
            self.missing(&key.name("listen_http"), "where exports come in, such as \"127.0.0.1:4318\"");
        }
        let token_key = key.name("bearer");
        let token = self.secret(&token_key, written.bearer.as_ref(), None);
        let public = written.allow_public.unwrap_or(false);
        let is_reached = |listen: &&SocketAddr| !listen.ip().to_canonical().is_loopback();
        if let Some(listen) = [&listen_http, &listen_grpc].into_iter().flatten().find(is_reached) {
            let what = format!("{listen} can be reached from other machines");
            if !public {
                let fix = "listen on a loopback address, or set allow_public = true and a bearer token";
                self.problems.add(&key.name("allow_public"), what, fix);
            } else if self.are_fine(&[&token_key])
                && token.as_ref().is_none_or(|token| token.expose_secret().len() < SECRET_BYTES_SHORT)
            {
                let fix = format!("make one of {SECRET_BYTES_SHORT} random bytes or more");
                self.problems.add(&token_key, format!("is missing or can be guessed, and {what}"), fix);
            }
        }
        (listen_http.is_some() || listen_grpc.is_some()).then_some(OtlpSource {
            listen_http,
            listen_grpc,
            public,
            token,
        })
    }

    fn listener(&mut self, key: &Key, written: Option<&String>) -> Option<SocketAddr> {
        let text = written?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            let what = format!("\"{}\" is no address and port", shown(text));
            self.problems.add(key, what, "write numbers, such as \"127.0.0.1:4318\"");
        }
        parsed
    }
}
