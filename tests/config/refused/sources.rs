//! What is told of sources, and of services that are read from one.

use super::{Refused, check, lines, read};

/// A source of each kind with the least it needs.
const PROMETHEUS: &str = "kind = \"prometheus\"\nurl = \"http://127.0.0.1:9090\"\n";
const OTLP: &str = "kind = \"otlp\"\nlisten_http = \"127.0.0.1:4318\"\n";
const DATADOG: &str = "kind = \"datadog\"\nurl = \"https://api.datadoghq.eu\"\napi_key = { env = \"A_KEY\" }\n\
                       application_key = { env = \"B_KEY\" }\n";
const INFLUXDB: &str = "kind = \"influxdb\"\nurl = \"https://influx.example:8086\"\ndatabase = \"db\"\n";
const CLOUDWATCH: &str = "kind = \"cloudwatch\"\nregion = \"eu-central-1\"\nnamespace = \"AWS/ELB\"\n\
                          access_key_id = { env = \"A_KEY_ID\" }\nsecret_access_key = { env = \"A_KEY\" }\n";
const NEWRELIC: &str = "kind = \"newrelic\"\naccount = 7\napi_key = { env = \"A_KEY\" }\n";
const WEB: &str = "kind = \"web\"\n";

/// A file with a source, which no service reads.
fn unread(source: &str) -> String {
    super::least_with("#top", &format!("[sources.s]\n{source}"))
}

/// A file whose service is read from a source.
fn reading(source: &str, telemetry: &str) -> String {
    format!(
        "[sources.s]\n{source}\n[services.shop]\nrepository = \"acme/shop\"\nmeasure_every = \"2m\"\nblackout_after = \"1h\"\n\
         {telemetry}\n[[services.shop.slis]]\nname = \"errors\"\nkind = \"ratio\"\nbad = {{ metric = \"bad\" }}\n\
         total = {{ metric = \"all\" }}\n[[services.shop.slos]]\nsli = \"errors\"\n"
    )
}

const LABELS: &str = "[services.shop.telemetry]\nsource = \"s\"\ninterval = \"2m\"\n\
                      control.labels = { version = \"{revision}\" }\ncanary.labels = { version = \"{revision}\" }\n";
const ENDPOINTS: &str = "[services.shop.telemetry]\nsource = \"s\"\ninterval = \"2m\"\n\
                         [services.shop.telemetry.metrics.bad]\nurl = \"https://a/{arm}\"\npath = \"$.bad\"\n\
                         numbers = \"cumulative\"\n\
                         [services.shop.telemetry.metrics.all]\nurl = \"https://a/{arm}\"\npath = \"$.all\"\n\
                         numbers = \"cumulative\"\n";

/// All that is told, without lines.
#[track_caller]
fn told(text: &str) -> Vec<String> {
    let problems = read(text).expect_err(text);
    lines(&problems).into_iter().map(|line| line.rsplit_once(" (line").unwrap().0.to_owned()).collect()
}

#[test]
fn each_kind_is_accepted_with_the_least_that_it_needs() {
    for source in [PROMETHEUS, OTLP, DATADOG, INFLUXDB, CLOUDWATCH, NEWRELIC] {
        let config = read(&reading(source, LABELS)).unwrap_or_else(|problems| panic!("{source}: {problems:?}"));
        let kind = config.sources["s"].kind();
        assert!(source.contains(&format!("\"{kind}\"")), "{kind}");
        assert!(!format!("{config:?}").contains(crate::SECRET), "{kind} shows a secret");
    }
    read(&reading(WEB, ENDPOINTS)).unwrap();
}

#[test]
fn what_a_kind_needs_is_asked_for() {
    for (source, needed) in [
        ("url = \"https://a\"\n", &["kind"][..]),
        ("kind = \"datadog\"\n", &["url", "api_key", "application_key"]),
        ("kind = \"influxdb\"\n", &["url", "database"]),
        ("kind = \"influxdb\"\nurl = \"https://a\"\nbucket = \"b\"\n", &["organisation", "token"]),
        ("kind = \"cloudwatch\"\n", &["region", "namespace", "access_key_id", "secret_access_key"]),
        ("kind = \"newrelic\"\n", &["account", "api_key"]),
        ("kind = \"otlp\"\n", &["listen_http"]),
    ] {
        let told = told(&unread(source));
        let all: Vec<String> = needed.iter().map(|name| format!("sources.s.{name}: is missing; write ")).collect();
        assert_eq!(told.len(), all.len(), "{told:?}");
        assert!(all.iter().all(|needed| told.iter().any(|line| line.starts_with(needed))), "{source}: {told:?}");
    }
}

#[test]
fn a_key_of_another_kind_is_refused_and_told_where_it_belongs() {
    let to = |kind: &str| format!(", not to \"{kind}\"; remove it, or write the other kind");
    for (source, foreign, belongs, kind) in [
        (PROMETHEUS, "listen_http = \"127.0.0.1:1\"", "listen_http: belongs to kind \"otlp\"", "prometheus"),
        (
            PROMETHEUS,
            "api_key = { env = \"A_KEY\" }",
            "api_key: belongs to kind \"datadog\" or \"newrelic\"",
            "prometheus",
        ),
        (OTLP, "url = \"http://a\"", "url: belongs to kind \"prometheus\" or", "otlp"),
        (OTLP, "timeout = \"1s\"", "timeout: belongs to kind \"prometheus\" or", "otlp"),
        (OTLP, "raw_series_max = 5", "raw_series_max: belongs to kind \"prometheus\"", "otlp"),
        (DATADOG, "account = 5", "account: belongs to kind \"newrelic\"", "datadog"),
        (INFLUXDB, "bearer = { env = \"A_TOKEN\" }", "bearer: belongs to kind \"prometheus\" or \"otlp\"", "influxdb"),
        (CLOUDWATCH, "measurement = \"m\"", "measurement: belongs to kind \"influxdb\"", "cloudwatch"),
        (NEWRELIC, "region = \"eu\"", "region: belongs to kind \"cloudwatch\"", "newrelic"),
        (WEB, "url = \"https://a\"", "url: belongs to kind \"prometheus\" or", "web"),
        (WEB, "concurrency = 3", "concurrency: belongs to kind \"prometheus\"", "web"),
    ] {
        let told = told(&unread(&format!("{source}{foreign}\n")));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("sources.s.{belongs}")) && told[0].ends_with(&to(kind)), "{told:?}");
    }
}

#[test]
fn limits_have_their_edges() {
    let fits = |source: &str, key: &str| read(&unread(&format!("{source}{key}\n"))).map(drop).map_err(|e| lines(&e));
    for (source, good, bad, why) in [
        (WEB, "step = \"1s\"", "step = \"999ms\"", "step: 999ms is too short; write 1s to 1h"),
        (WEB, "step = \"1h\"", "step = \"1h 1s\"", "step: 1h 1s is too long; write 1s to 1h"),
        (WEB, "step = \"2s\"", "step = \"1500ms\"", "step: 1s 500ms is no whole seconds; write whole seconds"),
        (WEB, "settle = \"1h\"", "settle = \"1h 1s\"", "settle: 1h 1s is too long; write 0s to 1h"),
        (WEB, "timeout = \"1m\"", "timeout = \"61s\"", "timeout: 1m 1s is too long; write 100ms to 1m"),
        (WEB, "queries_at_once = 32", "queries_at_once = 33", "queries_at_once: 33 is too many; write 1 to 32"),
        (WEB, "queries_at_once = 1", "queries_at_once = 0", "queries_at_once: 0 is too few; write 1 to 32"),
        (CLOUDWATCH, "step = \"30s\"", "step = \"90s\"", "step: 1m 30s is no length that CloudWatch has"),
        (CLOUDWATCH, "latency_unit = \"milliseconds\"", "latency_unit = \"hours\"", "\"hours\" is not a word for this"),
        (INFLUXDB, "counters = \"delta\"", "counters = \"both\"", "\"both\" is not a word for this"),
    ] {
        assert_eq!(fits(source, good), Ok(()));
        let told = fits(source, bad).unwrap_err();
        assert!(told.len() == 1 && told[0].contains(why), "{told:?}");
    }
    let odd = |name: &str, value: &str| {
        let source = CLOUDWATCH.lines().filter(|line| !line.starts_with(name)).collect::<Vec<_>>().join("\n");
        told(&unread(&format!("{source}\n{name} = \"{value}\"\n"))).join("\n")
    };
    assert!(odd("region", "EU").contains("\"EU\" is no region"));
    assert!(odd("namespace", ":x").contains("begins with a colon"));
    assert!(odd("namespace", "a\\\"b").contains("is no namespace"));
    assert!(odd("url", "http://a.example").contains("would send keys in the open"));
    assert!(odd("url", "https://u:p@a.example").contains("holds a user name or a password"));
    assert!(odd("url", "https://a.example?x=1").contains("goes on after the path"));
}

#[test]
fn the_two_languages_of_influxdb_are_not_mixed() {
    let both = "token = { env = \"A_TOKEN\" }\norganisation = \"o\"\nbucket = \"b\"\n";
    let what = "is of InfluxQL, and organisation, bucket and token are of Flux; keep the keys of one of the two";
    assert_eq!(told(&unread(&format!("{INFLUXDB}{both}"))), [format!("sources.s.database: {what}")]);
    assert_eq!(
        told(&unread(&format!("{INFLUXDB}user = \"u\"\n"))),
        ["sources.s.password: is missing; write { env = \"NAME\" } or { file = \"path\" }"]
    );
    assert_eq!(
        told(&unread(&format!("{INFLUXDB}measurement = \"m\"\ngauge_field = \"g\"\n"))),
        ["sources.s.gauge_field: is of no use beside measurement: each metric is a field of that; keep one of the two"]
    );
}

#[test]
fn a_service_is_not_looked_at_more_often_than_its_source_has_a_bucket() {
    let often = reading(DATADOG, &LABELS.replace("2m", "59s"));
    let what = "services.shop.telemetry.interval: 59s is shorter than a bucket of its source, 1m: looks in between would \
                find no data; write \"1m\" or longer";
    assert_eq!(told(&often), [what]);
    assert!(read(&reading(DATADOG, &LABELS.replace("2m", "1m"))).is_ok());
    let fast = LABELS.replace("2m", "100ms");
    assert!(read(&reading(OTLP, &fast)).is_ok(), "the time of a scrape is nothing to a source");
    // Two buckets of a minute, and a minute for late data.
    let blackout = |span: &str| {
        let config = read(&reading(DATADOG, LABELS).replace("\"1h\"", &format!("\"{span}\""))).unwrap();
        config.warnings.iter().any(|warning| warning.starts_with("services.shop.blackout_after: 3m is no longer"))
    };
    assert!(blackout("3m") && !blackout("3m 1s"));
}

#[test]
fn what_a_source_does_not_read_of_a_service_is_refused() {
    for (source, more, what) in [
        (
            OTLP,
            "settle = \"1s\"",
            "settle: goes with a source of kind \"prometheus\", and this one is \"otlp\"; remove it",
        ),
        (OTLP, "pod_label = \"p\"", "pod_label: is of no use with a source of kind \"otlp\""),
        (DATADOG, "settle = \"1s\"", "and this one is \"datadog\"; write it in the source's table"),
        (DATADOG, "lookback = \"1m\"", "lookback: goes with a source of kind \"prometheus\""),
        (DATADOG, "stale_after = \"1m\"", "stale_after: goes with a source of kind \"prometheus\" or \"otlp\""),
        (
            DATADOG,
            "metrics = {}",
            "metrics: goes with a source of kind \"web\", and this one is \"datadog\"; remove it",
        ),
    ] {
        let told = told(&reading(source, &format!("{LABELS}{more}\n")));
        assert!(told.len() == 1 && told[0].contains(what), "{told:?}");
    }
    check(&[Refused {
        replaced: "#service",
        by: "[services.shop.telemetry.metrics.a]",
        told: &["services.shop.telemetry.metrics: is of no use without a source; remove it, or name a source (line 4)"],
    }]);
}

#[test]
fn names_are_as_the_source_has_them() {
    let dotted = |source: &str| {
        let text = reading(source, &LABELS.replace("version =", "\"service.version\" ="));
        read(&text.replace("\"all\"", "\"http.server.requests\"")).map(drop).map_err(|e| e.len())
    };
    assert_eq!([dotted(DATADOG), dotted(NEWRELIC), dotted(OTLP)], [Ok(()); 3]);
    assert_eq!(dotted(PROMETHEUS), Err(3), "both labels and the metric");
}

#[test]
fn an_endpoint_is_told_what_is_wrong_with_it() {
    let first = "https://a/{arm}";
    for (from, to, what) in [
        (first, "https://a/", "bad.url: is the same for control and the canary"),
        (first, "https://a/{arm}/{who}", "bad.url: has another placeholder"),
        (first, "https://{arm}.a/", "bad.url: has a placeholder in its host"),
        (first, "http://a.example/{arm}", "bad.url: would send headers in the open"),
        (first, "a/{arm}", "bad.url: is no web address"),
        ("$.bad", "bad[", "bad.path: \"bad[\" is no JSONPath"),
        ("\"cumulative\"", "\"window\"", "bad.url: does not say of which window"),
        ("metrics.bad]", "metrics.bad]\nslow = {}", "bad.slow.above: is missing"),
        ("metrics.bad]", "metrics.good]", "bad: is missing, and the SLI errors reads it; write where it is read"),
        ("interval", "control.labels = { a = \"b\" }\ninterval", "control.labels: are of no use with a source of kind"),
        ("interval", "pod_label = \"p\"\ninterval", "pod_label: is of no use with a source of kind \"web\""),
    ] {
        let told = told(&reading(WEB, &ENDPOINTS.replacen(from, to, 1)));
        assert!(told.iter().any(|line| line.contains(what)), "{what}: {told:?}");
        assert!(told.iter().all(|line| !line.contains("a.example")), "an address is repeated: {told:?}");
    }
    let narrowed =
        reading(WEB, ENDPOINTS).replace("{ metric = \"bad\" }", "{ metric = \"bad\", where = { a = \"b\" } }");
    assert!(told(&narrowed)[0].contains("has no labels, and the SLI errors has conditions on them"));
    let slow = |above: &str| {
        let latency = "kind = \"latency\"\nslow_above = \"300ms\"\nhistogram = { metric = \"all\" }\n";
        let text = reading(WEB, ENDPOINTS)
            .replace("kind = \"ratio\"\nbad = { metric = \"bad\" }\ntotal = { metric = \"all\" }\n", latency);
        text.replace("metrics.all]", &format!("metrics.all]\nslow = {{ above = \"{above}\", path = \"$.slow\" }}"))
    };
    assert!(read(&slow("300ms")).is_ok(), "{:?}", read(&slow("300ms")).err());
    assert!(told(&slow("200ms"))[0].contains("does not tell what is slower than 0.3 s"));
}
