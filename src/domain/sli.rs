//! What is measured. An SLI is typed: it names metrics and labels, never a query, so that it can be compiled to any
//! provider's language and nothing written by a model or a stranger runs as a query.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::Split;

/// How a label's value is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// Equal to this value. A missing label is the empty value, as in Prometheus.
    Is(String),
    /// Different from this value.
    IsNot(String),
    /// One of these values.
    OneOf(Vec<String>),
    /// Begins with this.
    StartsWith(String),
}

impl Match {
    /// Whether `value` is meant.
    pub fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Is(wanted) => value == wanted,
            Self::IsNot(unwanted) => value != unwanted,
            Self::OneOf(wanted) => wanted.iter().any(|w| w == value),
            Self::StartsWith(prefix) => value.starts_with(prefix.as_str()),
        }
    }
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Matcher {
    /// The label's name.
    pub label: String,
    /// What its value must be.
    pub value: Match,
}

/// A set of series: a metric's name and conditions on its labels, all of which must hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Selector {
    /// The metric's name as exposed, such as `http_requests_total`.
    pub metric: String,
    /// Conditions on labels.
    #[serde(default)]
    pub matchers: Vec<Matcher>,
}

impl Selector {
    /// All series of one metric.
    pub fn metric(name: impl Into<String>) -> Self {
        Self { metric: name.into(), matchers: Vec::new() }
    }

    /// The same, with one more condition.
    pub fn with(mut self, label: impl Into<String>, value: Match) -> Self {
        self.matchers.push(Matcher { label: label.into(), value });
        self
    }

    /// Whether a series with these labels is meant (its name is compared by the caller).
    pub fn accepts(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matchers.iter().all(|m| m.value.accepts(labels.get(&m.label).map_or("", String::as_str)))
    }
}

impl fmt::Display for Selector {
    /// As people write it in Prometheus; for reading only, never run.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.metric)?;
        if self.matchers.is_empty() {
            return Ok(());
        }
        f.write_str("{")?;
        for (i, Matcher { label, value }) in self.matchers.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match value {
                Match::Is(v) => write!(f, "{comma}{label}={v:?}")?,
                Match::IsNot(v) => write!(f, "{comma}{label}!={v:?}")?,
                Match::OneOf(vs) => write!(f, "{comma}{label}=~{:?}", vs.join("|"))?,
                Match::StartsWith(v) => write!(f, "{comma}{label}=~\"{v}.*\"")?,
            }
        }
        f.write_str("}")
    }
}

/// What is measured of one arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sli {
    /// Bad requests among all requests; both are counters. Tallied as [`super::Counts`].
    Ratio {
        /// The bad ones.
        bad: Selector,
        /// All of them, the bad ones included.
        total: Selector,
    },
    /// How long requests take: a classic histogram, named without `_bucket`. Tallied as [`super::Histogram`].
    Latency {
        /// The histogram's series.
        histogram: Selector,
        /// Requests slower than this many seconds count as bad; moved to the next bucket edge above.
        slow_above_seconds: f64,
    },
    /// Events for each unit of traffic: cache misses, retries, queue rejections; both are counters. More events than
    /// traffic is legal. Tallied as [`super::Counts`].
    EventsPerTraffic {
        /// What is counted.
        events: Selector,
        /// The traffic it is counted against.
        traffic: Selector,
    },
    /// A gauge: saturation, queue depth, cost. Tallied as samples.
    Level {
        /// The gauge's series, averaged over them.
        gauge: Selector,
    },
    /// Shares of categories: model routes, status codes. Tallied as a mix.
    Mix {
        /// A counter.
        counter: Selector,
        /// The label whose values are the categories.
        by: String,
    },
    /// Whether something goes on at all: a consumer that consumes, a job that runs. Each reading of an arm in which the
    /// series did not rise, or is not there, is bad; an arm that cannot be read is an absence, not a bad reading.
    /// Tallied as [`super::Counts`] of readings.
    Liveness {
        /// A counter that rises while all is well.
        series: Selector,
    },
    /// Requests of our own to the arm: those that were not answered as they should be among all. Tallied as
    /// [`super::Counts`] of requests of ours.
    Probe {
        /// The probe's name in the configuration, which says where it goes and what is right.
        probe: String,
    },
}

impl Sli {
    /// The word for its kind, as in configuration and reports.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Ratio { .. } => "ratio",
            Self::Latency { .. } => "latency",
            Self::EventsPerTraffic { .. } => "events_per_traffic",
            Self::Level { .. } => "level",
            Self::Mix { .. } => "mix",
            Self::Liveness { .. } => "liveness",
            Self::Probe { .. } => "probe",
        }
    }

    /// Whether its tally counts requests or events, which stand for traffic; readings and requests of our own do not.
    pub const fn counts_requests(&self) -> bool {
        !matches!(self, Self::Level { .. } | Self::Liveness { .. } | Self::Probe { .. })
    }

    /// Every selector in it, for narrowing and for looking up which series are wanted.
    pub fn selectors(&self) -> Vec<&Selector> {
        match self {
            Self::Ratio { bad, total } => vec![bad, total],
            Self::Latency { histogram, .. } => vec![histogram],
            Self::EventsPerTraffic { events, traffic } => vec![events, traffic],
            Self::Level { gauge } => vec![gauge],
            Self::Mix { counter, .. } => vec![counter],
            Self::Liveness { series } => vec![series],
            Self::Probe { .. } => Vec::new(),
        }
    }

    /// The same SLI for those series only whose `label` is `value`.
    pub fn narrowed(&self, label: &str, value: &Match) -> Self {
        let narrow = |s: &Selector| s.clone().with(label, value.clone());
        match self {
            Self::Ratio { bad, total } => Self::Ratio { bad: narrow(bad), total: narrow(total) },
            Self::Latency { histogram, slow_above_seconds } => {
                Self::Latency { histogram: narrow(histogram), slow_above_seconds: *slow_above_seconds }
            }
            Self::EventsPerTraffic { events, traffic } => {
                Self::EventsPerTraffic { events: narrow(events), traffic: narrow(traffic) }
            }
            Self::Level { gauge } => Self::Level { gauge: narrow(gauge) },
            Self::Mix { counter, by } => Self::Mix { counter: narrow(counter), by: by.clone() },
            Self::Liveness { series } => Self::Liveness { series: narrow(series) },
            Self::Probe { probe } => Self::Probe { probe: probe.clone() },
        }
    }
}

impl fmt::Display for Sli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio { bad, total } => write!(f, "{bad} among {total}"),
            Self::Latency { histogram, slow_above_seconds } => {
                write!(f, "requests over {slow_above_seconds} s in {histogram}")
            }
            Self::EventsPerTraffic { events, traffic } => write!(f, "{events} for each {traffic}"),
            Self::Level { gauge } => write!(f, "level of {gauge}"),
            Self::Mix { counter, by } => write!(f, "mix of {counter} by {by}"),
            Self::Liveness { series } => write!(f, "whether {series} goes on rising"),
            Self::Probe { probe } => write!(f, "probe {probe}"),
        }
    }
}

/// One SLI that a service is known to have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CatalogueEntry {
    /// Its name in the configuration.
    pub name: String,
    /// What is measured.
    pub sli: Sli,
    /// The label that holds a request's route, if there is one: a change to one route can be checked on that route.
    pub route_label: Option<String>,
    /// The label whose values are segments of the traffic, if there is one.
    #[serde(default)]
    pub segment_label: Option<String>,
    /// The label whose values are tenants, if there is one.
    #[serde(default)]
    pub tenant_label: Option<String>,
}

impl CatalogueEntry {
    /// How a check that measures this, or narrows it, is split into parts.
    pub fn split(&self) -> Split {
        Split { segments: self.segment_label.clone(), tenants: self.tenant_label.clone() }
    }
}

/// What can be measured of a service: planners choose from it and may narrow it, and cannot go beyond.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalogue {
    /// Its SLIs, in the order of the configuration.
    pub entries: Vec<CatalogueEntry>,
    /// The counter that stands for a unit of traffic, for SLIs on metrics that a diff adds.
    pub traffic: Option<Selector>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_label_is_the_empty_value() {
        let selector = Selector::metric("m").with("code", Match::IsNot("200".into()));
        assert!(selector.accepts(&BTreeMap::new()));
        let prefix = Selector::metric("m").with("code", Match::StartsWith("5".into()));
        assert!(!prefix.accepts(&BTreeMap::new()));
        assert!(prefix.accepts(&BTreeMap::from([("code".into(), "503".into())])));
    }

    #[test]
    fn narrowing_reaches_every_selector() {
        let sli = Sli::Ratio { bad: Selector::metric("bad"), total: Selector::metric("all") };
        let narrowed = sli.narrowed("route", &Match::Is("/pay".into()));
        assert!(narrowed.selectors().iter().all(|s| s.to_string().contains("route=\"/pay\"")));
    }
}
