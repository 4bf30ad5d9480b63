//! Sources that answer in buckets of time, and the vendors that need little besides: Datadog, CloudWatch, New Relic.

use secrecy::SecretString;

use crate::config::{
    arms,
    default::{self, BucketRules},
    key::{Key, shown},
    meant::{Buckets, CloudWatchSource, DatadogSource, NewRelicSource},
    process::is_local,
    reading::{Reading, WordForm, in_words},
    written,
};

/// Longest name that a vendor gives something.
const NAME_BYTES_MAX: usize = 255;

const REGION: WordForm = WordForm {
    name: "region",
    fix: "a region, such as \"eu-central-1\",",
    bytes_max: 60,
    is_legal: |word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
};

const NAMESPACE: WordForm = WordForm {
    name: "namespace",
    fix: "a namespace, such as \"AWS/ApplicationELB\",",
    bytes_max: NAME_BYTES_MAX,
    is_legal: |word| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/#:- ".contains(&byte)),
};

impl Reading<'_> {
    /// What is common to all sources of buckets.
    pub(super) fn buckets(&mut self, key: &Key, written: &written::Source, rules: BucketRules) -> Buckets {
        let step_key = key.name("step");
        let step = self.span(&step_key, written.step.as_ref(), rules.step);
        if step.subsec_nanos() != 0 {
            self.problems.add(&step_key, format!("{} is no whole seconds", in_words(step)), "write whole seconds");
        }
        Buckets {
            step,
            settle: self.span(&key.name("settle"), written.settle.as_ref(), rules.settle),
            timeout: self.span(&key.name("timeout"), written.timeout.as_ref(), default::QUERY_TIMEOUT),
            queries_at_once: self.size(
                &key.name("queries_at_once"),
                written.queries_at_once,
                &default::QUERIES_AT_ONCE,
            ),
        }
    }

    /// A vendor's address, to which keys are sent. What may be in it besides is not repeated.
    pub(super) fn vendor_url(&mut self, key: &Key, written: &str, example: &str) -> Option<String> {
        let fix = format!("write an https address, such as \"{example}\"");
        let Some(url) = arms::http_url(written).filter(|_| written.len() <= arms::URL_BYTES_MAX) else {
            self.problems.add(key, "is no web address, or holds a user name or a password", fix);
            return None;
        };
        if url.query().is_some() || url.fragment().is_some() {
            self.problems.add(key, "goes on after the path", fix);
        } else if url.scheme() != "https" && !is_local(&url) {
            self.problems.add(key, "would send keys in the open", fix);
        }
        Some(written.trim_end_matches('/').to_owned())
    }

    /// An address that has no default.
    pub(super) fn needed_url(&mut self, key: &Key, written: &written::Source, example: &str) -> Option<String> {
        let key = key.name("url");
        match &written.url {
            Some(url) => self.vendor_url(&key, url, example),
            None => {
                self.missing(&key, format_args!("its address, such as \"{example}\""));
                None
            }
        }
    }

    /// A secret without which nothing can be asked.
    pub(super) fn needed_secret(&mut self, key: &Key, written: Option<&written::Secret>) -> Option<SecretString> {
        if written.is_none() {
            self.missing(key, "{ env = \"NAME\" } or { file = \"path\" }");
        }
        self.secret(key, written, None)
    }

    pub(super) fn datadog(&mut self, key: &Key, written: &written::Source) -> Option<DatadogSource> {
        let url = self.needed_url(key, written, "https://api.datadoghq.eu");
        let api_key = self.needed_secret(&key.name("api_key"), written.api_key.as_ref());
        let application_key = self.needed_secret(&key.name("application_key"), written.application_key.as_ref());
        let buckets = self.buckets(key, written, default::DATADOG_BUCKETS);
        Some(DatadogSource { url: url?, api_key: api_key?, application_key: application_key?, buckets })
    }

    pub(super) fn newrelic(&mut self, key: &Key, written: &written::Source) -> Option<NewRelicSource> {
        let url = written.url.as_deref().unwrap_or(default::NEWRELIC_URL);
        let url = self.vendor_url(&key.name("url"), url, default::NEWRELIC_URL);
        if written.account.is_none() {
            self.missing(&key.name("account"), "the account's number, such as 1234567");
        }
        let api_key = self.needed_secret(&key.name("api_key"), written.api_key.as_ref());
        let account_key = key.name("account");
        let account = written.account.map(|number| self.count(&account_key, Some(number), &default::NEWRELIC_ACCOUNT));
        let buckets = self.buckets(key, written, default::NEWRELIC_BUCKETS);
        Some(NewRelicSource { url: url?, account: account?, api_key: api_key?, buckets })
    }

    pub(super) fn cloudwatch(&mut self, key: &Key, written: &written::Source) -> Option<CloudWatchSource> {
        let region_key = key.name("region");
        match &written.region {
            Some(region) => {
                self.word(&region_key, region, &REGION);
            }
            None => self.missing(&region_key, "the region, such as \"eu-central-1\""),
        }
        let namespace_key = key.name("namespace");
        match &written.namespace {
            Some(namespace) if namespace.starts_with(':') => {
                let what = format!("\"{}\" begins with a colon", shown(namespace));
                self.problems.add(&namespace_key, what, "write the namespace, such as \"AWS/ApplicationELB\"");
            }
            Some(namespace) => {
                self.word(&namespace_key, namespace, &NAMESPACE);
            }
            None => self.missing(&namespace_key, "the metrics' namespace, such as \"AWS/ApplicationELB\""),
        }
        let own = written.region.as_ref().map(|region| format!("https://monitoring.{region}.amazonaws.com"));
        let url = match &written.url {
            Some(url) => self.vendor_url(&key.name("url"), url, "https://monitoring.eu-central-1.amazonaws.com"),
            None => own,
        };
        let access_key_id = self.needed_secret(&key.name("access_key_id"), written.access_key_id.as_ref());
        let secret_access_key = self.needed_secret(&key.name("secret_access_key"), written.secret_access_key.as_ref());
        let session_token = self.secret(&key.name("session_token"), written.session_token.as_ref(), None);
        let buckets = self.buckets(key, written, default::CLOUDWATCH_BUCKETS);
        let step = buckets.step.as_secs();
        if !step.is_multiple_of(60) && ![1, 5, 10, 20, 30].contains(&step) {
            let what = format!("{} is no length that CloudWatch has", in_words(buckets.step));
            self.problems.add(&key.name("step"), what, "write 1s, 5s, 10s, 20s, 30s or whole minutes");
        }
        Some(CloudWatchSource {
            url: url?,
            region: written.region.clone()?,
            access_key_id: access_key_id?,
            secret_access_key: secret_access_key?,
            session_token,
            namespace: written.namespace.clone()?,
            latencies_in_milliseconds: written.latency_unit == Some(written::LatencyUnit::Milliseconds),
            buckets,
        })
    }
}
