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

/// Each key of a source but its kind, whether it is written, and the kinds it belongs to.
fn keys_of(written: &written::Source) -> Vec<(&'static str, bool, &'static [SourceKind])> {
    // Taken apart by name, so that no key can be forgotten here.
    let written::Source {
        kind: _,
        url,
        bearer,
        user,
        password,
        headers,
        ca_file,
        client_cert_file,
        client_key_file,
        timeout,
        concurrency,
        samples_per_day,
        response_bytes_max,
        raw_series_max,
        allow_partial,
        listen_http,
        listen_grpc,
        allow_public,
        step,
        settle,
        queries_at_once,
        api_key,
        application_key,
        database,
        retention,
        organisation,
        bucket,
        token,
        measurement,
        counter_field,
        gauge_field,
        counters,
        region,
        namespace,
        access_key_id,
        secret_access_key,
        session_token,
        latency_unit,
        account,
    } = written;
    vec![
        ("url", url.is_some(), &[Prometheus, Datadog, InfluxDb, CloudWatch, NewRelic]),
        ("bearer", bearer.is_some(), &[Prometheus, Otlp]),
        ("user", user.is_some(), &[Prometheus, InfluxDb]),
        ("password", password.is_some(), &[Prometheus, InfluxDb]),
        ("headers", headers.is_some(), &[Prometheus]),
        ("ca_file", ca_file.is_some(), &[Prometheus]),
        ("client_cert_file", client_cert_file.is_some(), &[Prometheus]),
        ("client_key_file", client_key_file.is_some(), &[Prometheus]),
        ("timeout", timeout.is_some(), &[Prometheus, Datadog, InfluxDb, CloudWatch, NewRelic, Web]),
        ("concurrency", concurrency.is_some(), &[Prometheus]),
        ("samples_per_day", samples_per_day.is_some(), &[Prometheus]),
        ("response_bytes_max", response_bytes_max.is_some(), &[Prometheus]),
        ("raw_series_max", raw_series_max.is_some(), &[Prometheus]),
        ("allow_partial", allow_partial.is_some(), &[Prometheus]),
        ("listen_http", listen_http.is_some(), &[Otlp]),
        ("listen_grpc", listen_grpc.is_some(), &[Otlp]),
        ("allow_public", allow_public.is_some(), &[Otlp]),
        ("step", step.is_some(), BUCKETED),
        ("settle", settle.is_some(), BUCKETED),
        ("queries_at_once", queries_at_once.is_some(), BUCKETED),
        ("api_key", api_key.is_some(), &[Datadog, NewRelic]),
        ("application_key", application_key.is_some(), &[Datadog]),
        ("database", database.is_some(), &[InfluxDb]),
        ("retention", retention.is_some(), &[InfluxDb]),
        ("organisation", organisation.is_some(), &[InfluxDb]),
        ("bucket", bucket.is_some(), &[InfluxDb]),
        ("token", token.is_some(), &[InfluxDb]),
        ("measurement", measurement.is_some(), &[InfluxDb]),
        ("counter_field", counter_field.is_some(), &[InfluxDb]),
        ("gauge_field", gauge_field.is_some(), &[InfluxDb]),
        ("counters", counters.is_some(), &[InfluxDb]),
        ("region", region.is_some(), &[CloudWatch]),
        ("namespace", namespace.is_some(), &[CloudWatch]),
        ("access_key_id", access_key_id.is_some(), &[CloudWatch]),
        ("secret_access_key", secret_access_key.is_some(), &[CloudWatch]),
        ("session_token", session_token.is_some(), &[CloudWatch]),
        ("latency_unit", latency_unit.is_some(), &[CloudWatch]),
        ("account", account.is_some(), &[NewRelic]),
    ]
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
