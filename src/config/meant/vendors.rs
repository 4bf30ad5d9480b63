//! What is meant by a source that answers in buckets of time: a vendor's API, or any JSON endpoint.

use std::{collections::BTreeMap, time::Duration};

use secrecy::SecretString;

/// What all of them are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets {
    /// Length of a bucket: whole seconds, at least one.
    pub step: Duration,
    /// How long after its end a bucket's numbers are taken to be whole.
    pub settle: Duration,
    /// Longest wait for one attempt at a query.
    pub timeout: Duration,
    /// Queries at the same moment, at least 1.
    pub queries_at_once: usize,
}

/// Datadog.
#[derive(Clone, Debug)]
pub struct DatadogSource {
    /// The API's address.
    pub url: String,
    /// The API key.
    pub api_key: SecretString,
    /// The application key.
    pub application_key: SecretString,
    /// What all are told.
    pub buckets: Buckets,
}

/// InfluxDB.
#[derive(Clone, Debug)]
pub struct InfluxDbSource {
    /// Its address.
    pub url: String,
    /// Which language is spoken, with what it needs.
    pub language: InfluxLanguage,
    /// Where numbers are.
    pub layout: InfluxLayout,
    /// Whether a counter's points are what was counted since the last point, and not since the process began.
    pub counters_are_deltas: bool,
    /// What all are told.
    pub buckets: Buckets,
}

/// A language of InfluxDB.
#[derive(Clone, Debug)]
pub enum InfluxLanguage {
    /// InfluxQL.
    InfluxQl {
        /// The database.
        database: String,
        /// The retention policy; `None` is the default one.
        retention: Option<String>,
        /// User and password.
        user: Option<(String, SecretString)>,
    },
    /// Flux.
    Flux {
        /// The organisation.
        organisation: String,
        /// The bucket.
        bucket: String,
        /// A token that may read it.
        token: SecretString,
    },
}

/// Where InfluxDB's numbers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InfluxLayout {
    /// A metric is a measurement.
    Measurement {
        /// The field of counters.
        counter: String,
        /// The field of gauges.
        gauge: String,
    },
    /// A metric is a field of this measurement.
    Field {
        /// The measurement.
        measurement: String,
    },
}

/// Amazon CloudWatch.
#[derive(Clone, Debug)]
pub struct CloudWatchSource {
    /// The endpoint.
    pub url: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The access key's id.
    pub access_key_id: SecretString,
    /// The access key.
    pub secret_access_key: SecretString,
    /// The session's token, where the key is temporary.
    pub session_token: Option<SecretString>,
    /// The metrics' namespace.
    pub namespace: String,
    /// Whether latencies are in milliseconds, and not in seconds.
    pub latencies_in_milliseconds: bool,
    /// What all are told.
    pub buckets: Buckets,
}

/// New Relic.
#[derive(Clone, Debug)]
pub struct NewRelicSource {
    /// NerdGraph's address.
    pub url: String,
    /// The account's number.
    pub account: u64,
    /// A user key.
    pub api_key: SecretString,
    /// What all are told.
    pub buckets: Buckets,
}

/// Where one metric of a service is read, for a source of kind `web`.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The address, in which `{revision}`, `{arm}`, `{after}` and `{through}` are filled in.
    pub url: String,
    /// Headers that are sent, by lower-case name. They do not print.
    pub headers: BTreeMap<String, SecretString>,
    /// The JSONPath of the number.
    pub path: String,
    /// What counts as slow, and the JSONPath of the number of slow ones.
    pub slow: Option<(Duration, String)>,
    /// What the number stands for.
    pub numbers: Numbers,
    /// How times are written.
    pub times: Times,
}

/// What an endpoint's number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// What was counted from `{after}` to `{through}`.
    Window,
    /// What was counted since some beginning.
    Cumulative,
    /// What is now.
    Now,
}

/// How times are written in an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// As RFC 3339, in UTC.
    Rfc3339,
    /// As whole seconds since the epoch.
    Seconds,
    /// As milliseconds since the epoch.
    Milliseconds,
}
