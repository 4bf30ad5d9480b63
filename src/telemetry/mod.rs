//! Reads SLIs; a file a provider.
//!
//! A provider is asked for one window of every check on both arms and answers once, with a tally or with the reason
//! why there is none. It never fails: an outage is an answer that rails can judge. The wing names the words of the
//! domain and its own vendor, nothing of plans or rollouts.

pub mod buckets;
pub mod call;
pub mod cloudwatch;
pub mod counting;
pub mod datadog;
pub mod exposition;
pub mod influxdb;
pub mod newrelic;
pub mod otlp;
pub mod probe;
pub mod prometheus;
mod router;
pub mod scrape;
pub mod web;

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};

use crate::domain::{
    Absence, Arm, CheckId, Measurement, Metric, Reading, Revision, ServiceName, Sli, Split, Text, Timestamp, Window,
};

/// The clock of the world the provider lives in.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A check, as far as a source must know it.
#[derive(Clone, Debug, PartialEq)]
pub struct AskedCheck {
    /// The number that the answer names it by.
    pub check: CheckId,
    /// What is measured.
    pub sli: Sli,
    /// How it is split into parts, as far as the source can.
    pub split: Split,
}

/// What to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// The service.
    pub service: ServiceName,
    /// The old version, when it is known by revision.
    pub control: Option<Revision>,
    /// The new version.
    pub canary: Revision,
    /// What is measured.
    pub checks: Vec<AskedCheck>,
    /// Count what came after this.
    pub after: Timestamp,
    /// Answer as soon as there is data through this time.
    pub through: Timestamp,
    /// Answer by then, whatever there is.
    pub no_later_than: Timestamp,
}

/// What telemetry said.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Up to when; the next window goes on from here. It is the ask's `after` when nothing was used up. A measurement's own
    /// window may reach further where its source went on and another had nothing; it is not told again.
    pub through: Timestamp,
    /// One for each check and arm, always.
    pub measurements: Vec<Measurement>,
}

impl Answer {
    /// An answer that has nothing for any check, for the same reason, and uses nothing up.
    pub fn absent(ask: &Ask, why: &Absence) -> Self {
        let window = Window { after: ask.after, through: ask.after };
        let measurements = ask
            .checks
            .iter()
            .flat_map(|asked| {
                [Arm::Control, Arm::Canary].map(|arm| Measurement {
                    check: asked.check,
                    arm,
                    window,
                    tally: Err(why.clone()),
                    parts: Vec::new(),
                    estimated: false,
                })
            })
            .collect();
        Self { through: ask.after, measurements }
    }
}

/// A source of SLIs.
pub trait Provider: Send + Sync {
    /// Measures every check on both arms. Windows in a row, each beginning where the last answer ended, count nothing
    /// twice. The future may be dropped at any moment; nothing is used up by an answer that was not read.
    fn measure(&self, ask: Ask) -> BoxFuture<'_, Answer>;

    /// The metrics that the service's old version is seen to have, from an index that is kept in the background: asking
    /// costs the source nothing. `Err` where there is no index, or not yet.
    fn metrics(&self, _service: &ServiceName) -> Result<Arc<Catalogued>, Absence> {
        Err(Absence::NoData)
    }

    /// What the old version showed of an SLI in the recent past, block after block. `Err` where nothing is known of it.
    fn history(&self, _ask: PastAsk) -> BoxFuture<'_, Result<Past, Absence>> {
        std::future::ready(Err(Absence::NoData)).boxed()
    }
}

/// The metrics of one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalogued {
    /// The metrics, sorted by name, each once.
    pub metrics: Vec<Metric>,
    /// When they were seen.
    pub seen: Timestamp,
    /// Whether there were more than are kept.
    pub cut: bool,
}

impl Catalogued {
    /// The metric of this name.
    pub fn find(&self, name: &str) -> Option<&Metric> {
        let at = self.metrics.binary_search_by(|metric| metric.name.as_str().cmp(name)).ok()?;
        self.metrics.get(at)
    }
}

/// What to look up in the past of a service's old version.
#[derive(Clone, Debug, PartialEq)]
pub struct PastAsk {
    /// The service.
    pub service: ServiceName,
    /// The old version, when it is known by revision.
    pub stable: Option<Revision>,
    /// What was measured.
    pub sli: Sli,
    /// How it is split into parts, as far as the source can.
    pub split: Split,
    /// How far to look back.
    pub reach: Duration,
}

/// What the old version showed in the recent past.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// Length of a block.
    pub every: Duration,
    /// Block after block, the oldest first and none left out: what was shown, or why nothing.
    pub blocks: Vec<Result<Reading, Absence>>,
}

/// Why telemetry could not be read. Told apart only where a rail would act differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The source did not answer.
    #[error("{0}")]
    Unavailable(Text),
    /// The source answered with something that cannot be right.
    #[error("{0}")]
    Malformed(Text),
    /// The configuration cannot work.
    #[error("telemetry: {0}")]
    Config(Text),
}

impl From<Error> for Absence {
    fn from(error: Error) -> Self {
        match error {
            Error::Malformed(why) => Self::Malformed(why),
            Error::Unavailable(why) | Error::Config(why) => Self::Unavailable(why),
        }
    }
}

/// Which provider, and how it is set up.
#[derive(Clone, Debug)]
pub enum Config {
    /// Scrapes the arms' own metrics endpoints.
    Scrape(scrape::Config),
    /// Reads a server that speaks Prometheus's HTTP API.
    Prometheus(prometheus::Config),
    /// Receives what OpenTelemetry's SDKs export.
    Otlp(otlp::Config),
    /// Reads from Datadog.
    Datadog(datadog::Config),
    /// Reads from InfluxDB.
    InfluxDb(influxdb::Config),
    /// Reads from Amazon CloudWatch.
    CloudWatch(cloudwatch::Config),
    /// Reads from New Relic.
    NewRelic(newrelic::Config),
    /// Reads JSON endpoints.
    Web(web::Config),
}

impl Config {
    /// Refuses what cannot work, and says what to mend. Nothing is asked and nothing is started.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Self::Scrape(config) => config.check(),
            Self::Prometheus(config) => config.check(),
            Self::Otlp(config) => config.check(),
            Self::Datadog(config) => config.check(),
            Self::InfluxDb(config) => config.check(),
            Self::CloudWatch(config) => config.check(),
            Self::NewRelic(config) => config.check(),
            Self::Web(config) => config.check(),
        }
    }

    /// The services that it measures.
    fn services(&self) -> Vec<ServiceName> {
        match self {
            Self::Scrape(config) => config.services.keys().cloned().collect(),
            Self::Prometheus(config) => config.services.keys().cloned().collect(),
            Self::Otlp(config) => config.services.keys().cloned().collect(),
            Self::Datadog(config) => config.setting.services.keys().cloned().collect(),
            Self::InfluxDb(config) => config.setting.services.keys().cloned().collect(),
            Self::CloudWatch(config) => config.setting.services.keys().cloned().collect(),
            Self::NewRelic(config) => config.setting.services.keys().cloned().collect(),
            Self::Web(config) => config.services.keys().cloned().collect(),
        }
    }
}

/// Makes one provider of several, each for the services in its configuration. Fails as [`build`] does.
pub fn build_all(configs: Vec<Config>, clock: &Clock) -> Result<Arc<dyn Provider>, Error> {
    let built = configs.into_iter().map(|config| Ok((config.services(), build(config, Arc::clone(clock))?)));
    Ok(router::by_service(built.collect::<Result<Vec<_>, Error>>()?))
}

/// Makes the provider. Fails on a configuration that cannot work, before anything is read.
pub fn build(config: Config, clock: Clock) -> Result<Arc<dyn Provider>, Error> {
    match config {
        Config::Scrape(config) => {
            config.check()?;
            Ok(Arc::new(scrape::start(config, clock, scrape::client()?)))
        }
        Config::Prometheus(config) => Ok(Arc::new(prometheus::start(config, clock)?)),
        Config::Otlp(config) => Ok(Arc::new(otlp::start(config, clock)?)),
        Config::Datadog(config) => Ok(Arc::new(datadog::start(config, clock)?)),
        Config::InfluxDb(config) => Ok(Arc::new(influxdb::start(config, clock)?)),
        Config::CloudWatch(config) => Ok(Arc::new(cloudwatch::start(config, clock)?)),
        Config::NewRelic(config) => Ok(Arc::new(newrelic::start(config, clock)?)),
        Config::Web(config) => Ok(Arc::new(web::start(config, clock)?)),
    }
}
