//! JSON endpoints: where each metric of a service is read. The address bears the arm or its revision, or both arms would
//! be read from the same place and always be alike.

use std::collections::BTreeMap;

use serde_json_path::JsonPath;

use crate::config::{
    arms, default,
    key::{Key, shown},
    meant::{Endpoint, Numbers, Times},
    process::is_local,
    reading::{Names, Reading},
    written,
};

/// Most endpoints of one service.
pub const ENDPOINTS_MAX: usize = 100;
/// Longest address of an endpoint, in bytes.
const URL_BYTES_MAX: usize = 2_000;
/// Longest JSONPath, in bytes.
const PATH_BYTES_MAX: usize = 1_000;
const URL_EXAMPLE: &str = "\"https://stats.example.com/shop?version={revision}&from={after}&to={through}\"";

impl Reading<'_> {
    /// Where each metric is read.
    pub(in crate::config) fn endpoints(
        &mut self,
        key: &Key,
        written: Option<&BTreeMap<String, written::Endpoint>>,
    ) -> BTreeMap<String, Endpoint> {
        self.at_most(key, written.map_or(0, BTreeMap::len), ENDPOINTS_MAX, "metrics");
        if written.is_none_or(BTreeMap::is_empty) {
            self.missing(key, "a table for each metric, such as [services.NAME.telemetry.metrics.requests]");
        }
        let mut endpoints = BTreeMap::new();
        for (name, written) in written.into_iter().flatten().take(ENDPOINTS_MAX) {
            let key = key.name(name);
            self.word(&key, name, Names::Free.metric());
            let endpoint = self.endpoint(&key, written);
            endpoints.extend(endpoint.map(|endpoint| (name.clone(), endpoint)));
        }
        endpoints
    }

    fn endpoint(&mut self, key: &Key, written: &written::Endpoint) -> Option<Endpoint> {
        let numbers = match written.numbers {
            Some(written::Numbers::Window) => Some(Numbers::Window),
            Some(written::Numbers::Cumulative) => Some(Numbers::Cumulative),
            Some(written::Numbers::Now) => Some(Numbers::Now),
            None => {
                self.missing(&key.name("numbers"), "\"window\", \"cumulative\" or \"now\"");
                None
            }
        };
        let url_key = key.name("url");
        match &written.url {
            None => self.missing(&url_key, format_args!("where it is asked, such as {URL_EXAMPLE}")),
            Some(url) => {
                if let Some(wrong) = wrong_with(url, numbers) {
                    // The address is not repeated, for there may be a password in it.
                    self.problems.add(&url_key, wrong, format!("write an address such as {URL_EXAMPLE}"));
                }
            }
        }
        let path = self.json_path(&key.name("path"), written.path.as_ref());
        let slow = written.slow.as_ref().and_then(|slow| {
            let key = key.name("slow");
            if slow.above.is_none() {
                self.missing(&key.name("above"), "a duration such as \"300ms\"");
            }
            let above = self.span(&key.name("above"), slow.above.as_ref(), default::SLOW_ABOVE);
            Some((above, self.json_path(&key.name("path"), slow.path.as_ref())?))
        });
        if numbers == Some(Numbers::Now) && written.slow.is_some() {
            let what = "is counted, and numbers = \"now\" is a level";
            self.problems.add(&key.name("slow"), what, "remove it, or write another kind of numbers");
        }
        let times = match written.times {
            Some(written::Times::Rfc3339) | None => Times::Rfc3339,
            Some(written::Times::Seconds) => Times::Seconds,
            Some(written::Times::Milliseconds) => Times::Milliseconds,
        };
        let headers = self.headers(&key.name("headers"), written.headers.as_ref());
        Some(Endpoint { url: written.url.clone()?, headers, path: path?, slow, numbers: numbers?, times })
    }

    fn json_path(&mut self, key: &Key, written: Option<&String>) -> Option<String> {
        let fix = "write a JSONPath to one number, such as \"$.total\"";
        let Some(path) = written else {
            self.missing(key, "the JSONPath of the number, such as \"$.total\"");
            return None;
        };
        if path.len() > PATH_BYTES_MAX || JsonPath::parse(path).is_err() {
            self.problems.add(key, format!("\"{}\" is no JSONPath", shown(path)), fix);
        }
        Some(path.clone())
    }
}

/// What is wrong with an endpoint's address, if anything is.
fn wrong_with(url: &str, numbers: Option<Numbers>) -> Option<&'static str> {
    let fill = |text: &str| {
        let places = ["{revision}", "{arm}", "{after}", "{through}"];
        places.iter().fold(url.to_owned(), |url, place| url.replace(place, text))
    };
    let (one, other) = (fill("1"), fill("2"));
    if url.len() > URL_BYTES_MAX {
        return Some("is too long");
    }
    if one.contains(['{', '}']) {
        return Some("has another placeholder than {revision}, {arm}, {after} and {through}");
    }
    let (Some(one), Some(other)) = (arms::http_url(&one), arms::http_url(&other)) else {
        return Some("is no web address, or holds a user name or a password");
    };
    if one.origin() != other.origin() {
        return Some("has a placeholder in its host");
    }
    if one.scheme() != "https" && !is_local(&one) {
        return Some("would send headers in the open");
    }
    if !url.contains("{revision}") && !url.contains("{arm}") {
        return Some("is the same for control and the canary: it has neither {revision} nor {arm}");
    }
    if numbers == Some(Numbers::Window) && !(url.contains("{after}") && url.contains("{through}")) {
        return Some("does not say of which window: it lacks {after} or {through}");
    }
    None
}
