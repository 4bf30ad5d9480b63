//! Keys in the wrong place: those of another kind of source, and those of a service that its source has no use for. They
//! would be read by nobody, and whoever wrote them believes that they hold.

use std::collections::BTreeMap;

use crate::config::{
    key::Key,
    reading::Reading,
    written::{self, SourceKind},
};

use SourceKind::{CloudWatch, Datadog, InfluxDb, NewRelic, Otlp, Prometheus, Web};

/// Kinds that answer in buckets of time.
const BUCKETED: &[SourceKind] = &[Datadog, InfluxDb, CloudWatch, NewRelic, Web];

/// A key, whether it is written, and the kinds it belongs to.
type Belongs = (&'static str, bool, &'static [SourceKind]);

/// Writes [`keys_of`]: it takes a source apart by name, so that no key can be forgotten.
macro_rules! kinds_of_keys {
    ($($name:ident: $kinds:expr,)*) => {
        /// Each key of a source but its kind.
        fn keys_of(written: &written::Source) -> Vec<Belongs> {
            let written::Source { kind: _, $($name),* } = written;
            vec![$((stringify!($name), $name.is_some(), $kinds)),*]
        }
    };
}

kinds_of_keys! {
    url: &[Prometheus, Datadog, InfluxDb, CloudWatch, NewRelic],
    bearer: &[Prometheus, Otlp],
    user: &[Prometheus, InfluxDb],
    password: &[Prometheus, InfluxDb],
    headers: &[Prometheus],
    ca_file: &[Prometheus],
    client_cert_file: &[Prometheus],
    client_key_file: &[Prometheus],
    timeout: &[Prometheus, Datadog, InfluxDb, CloudWatch, NewRelic, Web],
    concurrency: &[Prometheus],
    samples_per_day: &[Prometheus],
    response_bytes_max: &[Prometheus],
    raw_series_max: &[Prometheus],
    allow_partial: &[Prometheus],
    listen_http: &[Otlp],
    listen_grpc: &[Otlp],
    allow_public: &[Otlp],
    step: BUCKETED,
    settle: BUCKETED,
    queries_at_once: BUCKETED,
    api_key: &[Datadog, NewRelic],
    application_key: &[Datadog],
    database: &[InfluxDb],
    retention: &[InfluxDb],
    organisation: &[InfluxDb],
    bucket: &[InfluxDb],
    token: &[InfluxDb],
    measurement: &[InfluxDb],
    counter_field: &[InfluxDb],
    gauge_field: &[InfluxDb],
    counters: &[InfluxDb],
    region: &[CloudWatch],
    namespace: &[CloudWatch],
    access_key_id: &[CloudWatch],
    secret_access_key: &[CloudWatch],
    session_token: &[CloudWatch],
    latency_unit: &[CloudWatch],
    account: &[NewRelic],
}

impl Reading<'_> {
    /// Refuses what belongs to a source of another kind.
    pub(super) fn refuse_foreign_keys(&mut self, key: &Key, kind: SourceKind, written: &written::Source) {
        for (name, is_written, kinds) in keys_of(written) {
            if is_written && !kinds.contains(&kind) {
                let what = format!("belongs to kind {}, not to \"{}\"", any_of(kinds), kind.word());
                self.problems.add(&key.name(name), what, "remove it, or write the other kind");
            }
        }
    }

    /// Refuses what a service says of its telemetry and its source does not read.
    pub(super) fn refuse_useless_keys(
        &mut self,
        telemetry: &Key,
        written: &written::Telemetry,
        known: Option<&BTreeMap<String, written::Source>>,
    ) {
        let counting: &[SourceKind] = &[Prometheus, Otlp];
        let keys: [(&str, bool, &[SourceKind]); 5] = [
            ("settle", written.settle.is_some(), &[Prometheus]),
            ("lookback", written.lookback.is_some(), &[Prometheus]),
            ("stale_after", written.stale_after.is_some(), counting),
            ("gone_after", written.gone_after.is_some(), counting),
            ("metrics", written.metrics.is_some(), &[Web]),
        ];
        let written_keys = keys.into_iter().filter(|(_, is_written, _)| *is_written);
        let Some(source) = &written.source else {
            for (name, _, _) in written_keys {
                self.problems.add(
                    &telemetry.name(name),
                    "is of no use without a source",
                    "remove it, or name a source",
                );
            }
            return;
        };
        let Some(kind) = known.and_then(|known| known.get(source)?.kind) else { return };
        for (name, _, kinds) in written_keys.filter(|(_, _, kinds)| !kinds.contains(&kind)) {
            let what = format!("goes with a source of kind {}, and this one is \"{}\"", any_of(kinds), kind.word());
            let fix = if name == "settle" { "write it in the source's table" } else { "remove it" };
            let fix = if BUCKETED.contains(&kind) { fix } else { "remove it" };
            self.problems.add(&telemetry.name(name), what, fix);
        }
        let own_pods = match kind {
            Otlp => Some("the attributes of a process tell its pod"),
            Web => Some("an endpoint has no labels"),
            Prometheus | Datadog | InfluxDb | CloudWatch | NewRelic => None,
        };
        if let Some(why) = own_pods.filter(|_| written.pod_label.is_some()) {
            let what = format!("is of no use with a source of kind \"{}\": {why}", kind.word());
            self.problems.add(&telemetry.name("pod_label"), what, "remove it");
        }
    }
}

fn any_of(kinds: &[SourceKind]) -> String {
    kinds.iter().map(|kind| format!("\"{}\"", kind.word())).collect::<Vec<_>>().join(" or ")
}
