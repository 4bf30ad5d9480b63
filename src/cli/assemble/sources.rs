//! Where measurements come from, in the words of the providers: what is meant by the configuration becomes what each of
//! them is told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    config::{self, Config},
    domain::ServiceName,
    telemetry::{self, buckets, cloudwatch, datadog, influxdb, newrelic, otlp, probe, prometheus, scrape, web},
};

/// How long scraped increments are kept. A window older than this cannot be counted any more.
const SCRAPES_KEPT_MIN: Duration = Duration::from_secs(600);

/// Where measurements come from: the arms' own pages, and probes beside them.
pub(in crate::cli) fn telemetry(
    config: &Config,
    clock: telemetry::Clock,
) -> Result<Arc<dyn telemetry::Provider>, telemetry::Error> {
    let mut configs = vec![telemetry::Config::Scrape(scrape_config(config))];
    configs.extend(config.sources.iter().map(|(name, source)| source_config(config, name, source)));
    let sources = telemetry::build_all(configs, &clock)?;
    probe::beside(sources, probe_config(config), clock)
}

/// The Prometheus that keeps a service's metrics, to be read of the past: what its clock says now says nothing of then.
/// `None` for a service whose metrics no source keeps.
pub(in crate::cli) fn past_source(
    config: &Config,
    service: &ServiceName,
    clock: telemetry::Clock,
) -> Result<Option<prometheus::Prometheus>, telemetry::Error> {
    let from = config.telemetry.get(service).and_then(|of| of.from.as_ref());
    let source = from.and_then(|from| config.sources.get_key_value(&from.name));
    let Some((name, source)) = source else { return Ok(None) };
    match source_config(config, name, source) {
        telemetry::Config::Prometheus(source) => {
            let source = prometheus::Config { follows_server_clock: false, ..source };
            prometheus::start(source, clock).map(Some)
        }
        telemetry::Config::Scrape(_)
        | telemetry::Config::Otlp(_)
        | telemetry::Config::Datadog(_)
        | telemetry::Config::InfluxDb(_)
        | telemetry::Config::CloudWatch(_)
        | telemetry::Config::NewRelic(_)
        | telemetry::Config::Web(_) => Ok(None),
    }
}

/// One source, with the services that name it.
pub(in crate::cli) fn source_config(config: &Config, name: &str, source: &config::Source) -> telemetry::Config {
    let services = || {
        config.telemetry.iter().filter_map(|(service, of)| {
            let from = of.from.as_ref().filter(|from| from.name == name)?;
            Some((service.clone(), of, from))
        })
    };
    let arms = |(name, of, _): Named<'_>| {
        let (control, canary) = (of.control.labels.clone(), of.canary.labels.clone());
        (name, buckets::Arms { control, canary, pod_label: of.pod_label.clone() })
    };
    let setting = |buckets: &config::Buckets| setting(buckets, services().map(arms).collect());
    match source {
        config::Source::Otlp(source) => {
            telemetry::Config::Otlp(otlp_config(source, services().map(resources).collect(), kept(config)))
        }
        config::Source::Prometheus(source) => {
            telemetry::Config::Prometheus(prometheus_config(source, services().map(looked_at).collect()))
        }
        config::Source::Datadog(source) => telemetry::Config::Datadog(datadog::Config {
            url: source.url.clone(),
            api_key: source.api_key.clone(),
            application_key: source.application_key.clone(),
            setting: setting(&source.buckets),
        }),
        config::Source::InfluxDb(source) => {
            telemetry::Config::InfluxDb(influxdb_config(source, setting(&source.buckets)))
        }
        config::Source::CloudWatch(source) => {
            telemetry::Config::CloudWatch(cloudwatch_config(source, setting(&source.buckets)))
        }
        config::Source::NewRelic(source) => telemetry::Config::NewRelic(newrelic::Config {
            url: source.url.clone(),
            account: source.account,
            api_key: source.api_key.clone(),
            setting: setting(&source.buckets),
        }),
        config::Source::Web(source) => {
            let metrics = |(name, of, _): Named<'_>| {
                (name, of.metrics.iter().map(|(metric, of)| (metric.clone(), endpoint(of))).collect())
            };
            let services = services().map(metrics).collect();
            telemetry::Config::Web(web::Config { services, setting: self::setting(source, BTreeMap::new()) })
        }
    }
}

/// A service, where it is measured, and how it is read there.
type Named<'a> = (ServiceName, &'a config::Telemetry, &'a config::FromSource);

/// Which processes are a service's arms.
fn resources((name, of, from): Named<'_>) -> (ServiceName, otlp::ServiceResources) {
    let resources = otlp::ServiceResources {
        control: of.control.labels.clone(),
        canary: of.canary.labels.clone(),
        interval: of.interval,
        stale_after: from.stale_after.max(of.interval),
        gone_after: from.gone_after.max(from.stale_after).max(of.interval),
    };
    (name, resources)
}

/// How a service is found in a server that speaks Prometheus's API.
fn looked_at((name, of, from): Named<'_>) -> (ServiceName, prometheus::Service) {
    let nothing = prometheus::Service::default();
    let service = prometheus::Service {
        control: of.control.labels.clone(),
        canary: of.canary.labels.clone(),
        pod_label: of.pod_label.clone().unwrap_or(nothing.pod_label),
        interval: of.interval,
        settle: from.settle,
        // Whatever is written, a round or two lie before a window.
        lookback: from.lookback.max(of.interval * 2),
        stale_after: from.stale_after.max(of.interval),
        gone_after: from.gone_after.max(of.interval),
    };
    (name, service)
}

fn otlp_config(
    source: &config::OtlpSource,
    services: BTreeMap<ServiceName, otlp::ServiceResources>,
    kept: Duration,
) -> otlp::Config {
    let slowest = services.values().map(|of| of.interval).max().unwrap_or_default();
    otlp::Config {
        listen_http: source.listen_http,
        listen_grpc: source.listen_grpc,
        allow_public: source.public,
        token: source.token.clone(),
        keep: kept.max(slowest.saturating_mul(2)),
        services,
    }
}

fn setting(buckets: &config::Buckets, services: BTreeMap<ServiceName, buckets::Arms>) -> buckets::Setting {
    let config::Buckets { step, settle, timeout, queries_at_once } = *buckets;
    buckets::Setting { services, step, settle, timeout, queries_at_once }
}

fn influxdb_config(source: &config::InfluxDbSource, setting: buckets::Setting) -> influxdb::Config {
    let language = match source.language.clone() {
        config::InfluxLanguage::InfluxQl { database, retention, user } => {
            influxdb::Language::InfluxQl { database, retention, user }
        }
        config::InfluxLanguage::Flux { organisation, bucket, token } => {
            influxdb::Language::Flux { organisation, bucket, token }
        }
    };
    let layout = match source.layout.clone() {
        config::InfluxLayout::Measurement { counter, gauge } => influxdb::Layout::Measurement { counter, gauge },
        config::InfluxLayout::Field { measurement } => influxdb::Layout::Field { measurement },
    };
    let counters = if source.counters_are_deltas { influxdb::Counters::Delta } else { influxdb::Counters::Cumulative };
    influxdb::Config { url: source.url.clone(), language, layout, counters, setting }
}

fn cloudwatch_config(source: &config::CloudWatchSource, setting: buckets::Setting) -> cloudwatch::Config {
    let latency_unit = if source.latencies_in_milliseconds {
        cloudwatch::LatencyUnit::Milliseconds
    } else {
        cloudwatch::LatencyUnit::Seconds
    };
    cloudwatch::Config {
        url: source.url.clone(),
        region: source.region.clone(),
        credentials: cloudwatch::Credentials::new(
            source.access_key_id.clone(),
            source.secret_access_key.clone(),
            source.session_token.clone(),
        ),
        namespace: source.namespace.clone(),
        latency_unit,
        setting,
    }
}

fn endpoint(of: &config::Endpoint) -> web::Metric {
    let slow =
        |(above, path): &(Duration, String)| web::Slow { above_seconds: above.as_secs_f64(), path: path.clone() };
    web::Metric {
        url: of.url.clone(),
        headers: of.headers.clone(),
        path: of.path.clone(),
        slow: of.slow.as_ref().map(slow),
        numbers: match of.numbers {
            config::Numbers::Window => web::Numbers::Window,
            config::Numbers::Cumulative => web::Numbers::Cumulative,
            config::Numbers::Now => web::Numbers::Now,
        },
        times: match of.times {
            config::Times::Rfc3339 => web::Times::Rfc3339,
            config::Times::Seconds => web::Times::Seconds,
            config::Times::Milliseconds => web::Times::Milliseconds,
        },
    }
}

/// How a server is reached, in its provider's words.
fn prometheus_config(
    source: &config::PrometheusSource,
    services: BTreeMap<ServiceName, prometheus::Service>,
) -> prometheus::Config {
    let auth = match &source.auth {
        config::SourceAuth::None => prometheus::Auth::None,
        config::SourceAuth::Bearer(token) => prometheus::Auth::Bearer(token.clone()),
        config::SourceAuth::Basic { user, password } => {
            prometheus::Auth::Basic { user: user.clone(), password: password.clone() }
        }
    };
    prometheus::Config {
        url: source.url.clone(),
        auth,
        headers: source.headers.clone(),
        ca_pem: source.ca_pem.clone(),
        client_pem: source.client_pem.clone(),
        timeout: source.timeout,
        concurrency: source.concurrency,
        samples_per_day: source.samples_per_day,
        response_bytes_max: source.response_bytes_max,
        raw_series_max: source.raw_series_max,
        allow_partial: source.allow_partial,
        follows_server_clock: true,
        services,
    }
}

fn probe_config(config: &Config) -> probe::Config {
    let one = |of: &config::Probe, timeout: Duration| probe::Probe {
        path: of.path.clone(),
        method: if of.only_head { probe::Method::Head } else { probe::Method::Get },
        expect: of.status.iter().map(|status| *status..=*status).collect(),
        contains: of.contains.clone(),
        answers_with: of.answers_with.clone(),
        slow_above: of.slow_above,
        timeout,
        headers: of.headers.clone(),
    };
    let probes = |of: &config::Probing| probe::ServiceProbes {
        control: of.control.clone(),
        canary: of.canary.clone(),
        every: of.every,
        per_second: of.per_second,
        probes: of.probes.iter().map(|probe| (probe.name.clone(), one(probe, of.timeout))).collect(),
    };
    let probed = config.telemetry.iter().filter(|(_, of)| !of.probing.probes.is_empty());
    let services: BTreeMap<ServiceName, probe::ServiceProbes> =
        probed.map(|(name, of)| (name.clone(), probes(&of.probing))).collect();
    let slowest = services.values().map(|probes| probes.every).max().unwrap_or_default();
    probe::Config { services, keep: kept(config).max(slowest.saturating_mul(2)) }
}

/// How long what was read is kept: a window older than this cannot be counted any more.
fn kept(config: &Config) -> Duration {
    let longest = config.policy.services.values().map(|service| service.measure_every).max().unwrap_or_default();
    SCRAPES_KEPT_MIN.max(longest.saturating_mul(20))
}

fn scrape_config(config: &Config) -> scrape::Config {
    let arm = |arm: &config::ArmTargets| scrape::ArmTargets { urls: arm.urls.clone(), labels: arm.labels.clone() };
    let targets = |of: &config::Telemetry| scrape::ServiceTargets {
        control: arm(&of.control),
        canary: arm(&of.canary),
        interval: of.interval,
        timeout: of.timeout,
        pod_label: of.pod_label.clone(),
    };
    let pages = config.telemetry.iter().filter(|(_, of)| of.from.is_none());
    scrape::Config {
        services: pages.map(|(name, of)| (name.clone(), targets(of))).collect(),
        keep: kept(config),
        history: Some(scrape::History::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    const SECRET: &str = "uK8vQ2mZ7xW4nB6c";

    /// A file with one source and one service that is read from it.
    fn read(source: &str, telemetry: &str) -> Config {
        let text = format!(
            "[sources.s]\n{source}\n[services.shop]\nrepository = \"acme/shop\"\nmeasure_every = \"1m\"\n\
             [services.shop.telemetry]\nsource = \"s\"\ninterval = \"1m\"\n{telemetry}\n\
             [[services.shop.slis]]\nname = \"errors\"\nkind = \"ratio\"\nbad = {{ metric = \"bad\" }}\n\
             total = {{ metric = \"all\" }}\n[[services.shop.slos]]\nsli = \"errors\"\n"
        );
        let env = |_: &str| Some(SECRET.to_owned());
        config::read(&text, "t.toml", &env).unwrap_or_else(|problems| panic!("{source}: {problems:?}"))
    }

    #[tokio::test]
    async fn a_source_of_each_kind_is_built_from_a_file_and_shows_no_secret() {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let labels = "control.labels = { version = \"{revision}\" }\ncanary.labels = { version = \"{revision}\" }";
        let metric = |name: &str| {
            format!(
                "[services.shop.telemetry.metrics.{name}]\nurl = \"https://a.example/{{arm}}\"\npath = \"$.n\"\n\
                 numbers = \"cumulative\"\nheaders = {{ Authorization = {{ env = \"A\" }} }}\n"
            )
        };
        let endpoints = metric("bad") + &metric("all");
        let influx = "kind = \"influxdb\"\nurl = \"https://i.example:8086\"\n";
        let shop = ServiceName::new("shop");
        for (kind, source, telemetry) in [
            ("prometheus", "kind = \"prometheus\"\nurl = \"https://p.example\"\nbearer = { env = \"A\" }".to_owned(), labels),
            ("otlp", "kind = \"otlp\"\nlisten_http = \"127.0.0.1:0\"\nbearer = { env = \"A\" }".to_owned(), labels),
            (
                "datadog",
                "kind = \"datadog\"\nurl = \"https://d.example\"\napi_key = { env = \"A\" }\n\
                 application_key = { env = \"A\" }"
                    .to_owned(),
                labels,
            ),
            ("influxdb", format!("{influx}database = \"d\"\nuser = \"u\"\npassword = {{ env = \"A\" }}"), labels),
            ("influxdb", format!("{influx}organisation = \"o\"\nbucket = \"b\"\ntoken = {{ env = \"A\" }}"), labels),
            (
                "cloudwatch",
                "kind = \"cloudwatch\"\nregion = \"eu-central-1\"\nnamespace = \"N\"\naccess_key_id = { env = \"A\" }\n\
                 secret_access_key = { env = \"A\" }\nsession_token = { env = \"A\" }"
                    .to_owned(),
                labels,
            ),
            ("newrelic", "kind = \"newrelic\"\naccount = 7\napi_key = { env = \"A\" }".to_owned(), labels),
            ("web", "kind = \"web\"".to_owned(), &endpoints),
        ] {
            let config = read(&source, telemetry);
            let told = source_config(&config, "s", &config.sources["s"]);
            assert_eq!(told.check(), Ok(()), "{kind}");
            let shown = format!("{config:?} {told:?} {told:#?}");
            assert!(!shown.contains(SECRET), "{kind} shows a secret: {shown}");
            let clock: telemetry::Clock = Arc::new(|| Timestamp::EPOCH);
            let built = telemetry::build_all(vec![told], &clock).unwrap();
            // Whatever it says of the service, it is its own: the service is measured somewhere.
            if let Err(why) = built.metrics(&shop) {
                assert!(!why.to_string().contains("measured nowhere"), "{kind}: {why}");
            }
            assert!(built.metrics(&ServiceName::new("other")).unwrap_err().to_string().contains("measured nowhere"));
        }
    }

    #[test]
    fn what_is_written_of_a_vendor_reaches_its_provider() {
        let source = "kind = \"cloudwatch\"\nregion = \"eu-west-1\"\nnamespace = \"N\"\naccess_key_id = { env = \"A\" }\n\
                      secret_access_key = { env = \"A\" }\nlatency_unit = \"milliseconds\"\nstep = \"30s\"\nsettle = \"7s\"\n\
                      timeout = \"3s\"\nqueries_at_once = 2";
        let labels = "pod_label = \"Host\"\ncontrol.labels = { a = \"x\" }\ncanary.labels = { a = \"y\" }";
        let config = read(source, labels);
        let telemetry::Config::CloudWatch(told) = source_config(&config, "s", &config.sources["s"]) else { panic!() };
        assert_eq!(
            (told.url.as_str(), told.region.as_str()),
            ("https://monitoring.eu-west-1.amazonaws.com", "eu-west-1")
        );
        assert_eq!(told.latency_unit, cloudwatch::LatencyUnit::Milliseconds);
        let arm = |value: &str| BTreeMap::from([("a".to_owned(), value.to_owned())]);
        let arms = buckets::Arms { control: arm("x"), canary: arm("y"), pod_label: Some("Host".into()) };
        let setting = buckets::Setting {
            services: BTreeMap::from([(ServiceName::new("shop"), arms)]),
            step: Duration::from_secs(30),
            settle: Duration::from_secs(7),
            timeout: Duration::from_secs(3),
            queries_at_once: 2,
        };
        assert_eq!(told.setting, setting);
    }
}
