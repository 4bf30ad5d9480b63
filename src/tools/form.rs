//! The forms of proposed checks: what a model fills in for each kind, flat and without unions.
//!
//! A form names metrics and labels, never a query and never an address. What to measure is said in one of two ways: the
//! name of a configured SLI, which keeps the operator's meaning of bad and can be narrowed, or metrics by name. All forms
//! end alike ([`Common`]): who the check is for, how much is tolerated, why, and on which lines of the diff it rests.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::Direction;

/// How a label's value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Comparison {
    Eq,
    Ne,
    In,
    StartsWith,
}

/// A condition on a label.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Condition {
    /// The label's name, as search_metrics lists it.
    pub(super) label: String,
    /// How its value is compared. All but `in` take exactly one value.
    pub(super) op: Comparison,
    /// 1 to 8 values.
    pub(super) values: Vec<String>,
}

/// A line of the diff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    /// The file's number in the review.
    pub(super) file_id: u16,
    /// The line's number: after the change, or before it for a removed line.
    pub(super) line: u32,
}

/// What a check is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    Guard,
    Signal,
    Intended,
}

/// Which way is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Worse {
    Higher,
    Lower,
}

impl From<Worse> for Direction {
    fn from(worse: Worse) -> Self {
        match worse {
            Worse::Higher => Self::HigherIsWorse,
            Worse::Lower => Self::LowerIsWorse,
        }
    }
}

/// What all forms end with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Common {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) largest_ratio: f64,
    pub(super) rationale: String,
    pub(super) lines: Vec<Place>,
}

/// What is to be measured, as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Measured {
    /// A configured SLI, where every metric below is left out.
    Configured { sli: String, matchers: Vec<Condition>, events_matchers: Vec<Condition> },
    /// Bad among all.
    Ratio { bad: String, bad_matchers: Vec<Condition>, total: String, matchers: Vec<Condition> },
    /// A histogram.
    Latency { histogram: String, slow_above_seconds: f64, matchers: Vec<Condition> },
    /// Events for each unit of traffic; `None` is the catalogue's.
    Events { events: String, events_matchers: Vec<Condition>, traffic: Option<String>, matchers: Vec<Condition> },
    /// A gauge.
    Level { gauge: String, matchers: Vec<Condition> },
    /// A counter by a label.
    Mix { counter: String, by: String, matchers: Vec<Condition> },
    /// A counter that goes on rising.
    Liveness { counter: String, matchers: Vec<Condition> },
    /// A configured probe.
    Probe { probe: String },
}

/// A form that was filled in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    /// The kind of SLI, as [`crate::domain::Sli::kind`] says it.
    pub(super) kind: &'static str,
    pub(super) common: Common,
    pub(super) direction: Direction,
    pub(super) measured: Measured,
}

/// What is missing or too much in a form, in words that say what to mend.
pub(super) type Unclear = String;

/// A form.
pub(super) trait Form {
    /// What it asks for.
    fn asked(self) -> Result<Asked, Unclear>;
}

macro_rules! form {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            $($(#[$field_doc])* $field: $kind,)*
            /// A name of your own for the check, 1 to 80 plain characters, unique in the plan.
            name: String,
            /// guard: harm that is worth a rollback. signal: shown to people only. intended: what the change means to improve; advises only.
            role: Role,
            /// How many times as bad as the old version is tolerated, at least 1, such as 1.5. Larger than the policy allows is lowered.
            largest_ratio: f64,
            /// Why this would move if the change is wrong, at most 300 characters.
            rationale: String,
            /// The lines of the diff that it rests on, at most 32; a guard needs one.
            lines: Vec<Place>,
        }

        impl $name {
            fn common(&self) -> Common {
                Common {
                    name: self.name.clone(),
                    role: self.role,
                    largest_ratio: self.largest_ratio,
                    rationale: self.rationale.clone(),
                    lines: self.lines.clone(),
                }
            }
        }
    };
}

form! {
    /// Bad requests among all.
    Ratio {
        /// The name of a configured SLI of kind ratio; then bad_metric and total_metric are null and bad_matchers is empty.
        sli: Option<String>,
        /// The counter of bad requests.
        bad_metric: Option<String>,
        /// What makes a request bad, as conditions on bad_metric alone.
        bad_matchers: Vec<Condition>,
        /// The counter of all requests, the bad ones included; the same as bad_metric where a label tells them apart.
        total_metric: Option<String>,
        /// Conditions on both, which narrow the check to a part of the traffic, such as one route.
        matchers: Vec<Condition>,
        /// Which way is worse.
        worse: Worse,
    }
}

form! {
    /// How long requests take.
    Latency {
        /// The name of a configured SLI of kind latency; then the next two are null.
        sli: Option<String>,
        /// The histogram, without `_bucket`.
        histogram_metric: Option<String>,
        /// Requests slower than this many seconds count as slow.
        slow_above_seconds: Option<f64>,
        /// Conditions that narrow the check, such as to one route.
        matchers: Vec<Condition>,
    }
}

form! {
    /// Events for each unit of traffic.
    Events {
        /// The name of a configured SLI of kind events_per_traffic; then both metrics are null.
        sli: Option<String>,
        /// The counter of events. It may be one that an added line of the diff names.
        events_metric: Option<String>,
        /// Conditions on the events alone.
        events_matchers: Vec<Condition>,
        /// The counter of traffic; null for the service's own.
        traffic_metric: Option<String>,
        /// Conditions on both.
        matchers: Vec<Condition>,
        /// Which way is worse.
        worse: Worse,
    }
}

form! {
    /// The level of a gauge.
    Level {
        /// The name of a configured SLI of kind level; then gauge_metric is null.
        sli: Option<String>,
        /// The gauge.
        gauge_metric: Option<String>,
        /// Conditions that narrow the check.
        matchers: Vec<Condition>,
        /// Which way is worse.
        worse: Worse,
    }
}

form! {
    /// Shares of categories.
    Mix {
        /// The name of a configured SLI of kind mix; then the next two are null.
        sli: Option<String>,
        /// The counter.
        counter_metric: Option<String>,
        /// The label whose values are the categories.
        by_label: Option<String>,
        /// Conditions that narrow the check.
        matchers: Vec<Condition>,
    }
}

form! {
    /// Whether something goes on at all.
    Liveness {
        /// The name of a configured SLI of kind liveness; then counter_metric is null.
        sli: Option<String>,
        /// A counter that rises while all is well.
        counter_metric: Option<String>,
        /// Conditions that narrow the check.
        matchers: Vec<Condition>,
    }
}

form! {
    /// Requests of our own to the new version.
    Probe {
        /// The name of a configured probe.
        probe: String,
    }
}

/// Whether a configured SLI is asked for: then no metric may be. `metrics` are the fields that name them.
fn configured(sli: Option<&str>, metrics: &[(&str, bool)]) -> Result<bool, Unclear> {
    match sli {
        None => Ok(false),
        Some(_) => match metrics.iter().find(|(_, is_given)| *is_given) {
            None => Ok(true),
            Some((field, _)) => {
                Err(format!("{field}: a configured SLI says what is measured; leave it empty or leave out sli"))
            }
        },
    }
}

fn needed<T>(field: &str, value: Option<T>) -> Result<T, Unclear> {
    value.ok_or_else(|| format!("{field}: is needed where no configured sli is named"))
}

fn of_configured(sli: Option<String>, matchers: Vec<Condition>, events_matchers: Vec<Condition>) -> Measured {
    Measured::Configured { sli: sli.unwrap_or_default(), matchers, events_matchers }
}

impl Form for Ratio {
    fn asked(self) -> Result<Asked, Unclear> {
        let common = self.common();
        let metrics = [
            ("bad_metric", self.bad_metric.is_some()),
            ("total_metric", self.total_metric.is_some()),
            ("bad_matchers", !self.bad_matchers.is_empty()),
        ];
        let measured = if configured(self.sli.as_deref(), &metrics)? {
            of_configured(self.sli, self.matchers, Vec::new())
        } else {
            Measured::Ratio {
                bad: needed("bad_metric", self.bad_metric)?,
                bad_matchers: self.bad_matchers,
                total: needed("total_metric", self.total_metric)?,
                matchers: self.matchers,
            }
        };
        Ok(Asked { kind: "ratio", common, direction: self.worse.into(), measured })
    }
}

impl Form for Latency {
    fn asked(self) -> Result<Asked, Unclear> {
        let common = self.common();
        let metrics = [
            ("histogram_metric", self.histogram_metric.is_some()),
            ("slow_above_seconds", self.slow_above_seconds.is_some()),
        ];
        let measured = if configured(self.sli.as_deref(), &metrics)? {
            of_configured(self.sli, self.matchers, Vec::new())
        } else {
            Measured::Latency {
                histogram: needed("histogram_metric", self.histogram_metric)?,
                slow_above_seconds: needed("slow_above_seconds", self.slow_above_seconds)?,
                matchers: self.matchers,
            }
        };
        Ok(Asked { kind: "latency", common, direction: Direction::HigherIsWorse, measured })
    }
}

impl Form for Events {
    fn asked(self) -> Result<Asked, Unclear> {
        let common = self.common();
        let metrics =
            [("events_metric", self.events_metric.is_some()), ("traffic_metric", self.traffic_metric.is_some())];
        let measured = if configured(self.sli.as_deref(), &metrics)? {
            of_configured(self.sli, self.matchers, self.events_matchers)
        } else {
            Measured::Events {
                events: needed("events_metric", self.events_metric)?,
                events_matchers: self.events_matchers,
                traffic: self.traffic_metric,
                matchers: self.matchers,
            }
        };
        Ok(Asked { kind: "events_per_traffic", common, direction: self.worse.into(), measured })
    }
}

impl Form for Level {
    fn asked(self) -> Result<Asked, Unclear> {
        let common = self.common();
        let measured = if configured(self.sli.as_deref(), &[("gauge_metric", self.gauge_metric.is_some())])? {
            of_configured(self.sli, self.matchers, Vec::new())
        } else {
            Measured::Level { gauge: needed("gauge_metric", self.gauge_metric)?, matchers: self.matchers }
        };
        Ok(Asked { kind: "level", common, direction: self.worse.into(), measured })
    }
}

impl Form for Mix {
    fn asked(self) -> Result<Asked, Unclear> {
        let common = self.common();
        let metrics = [("counter_metric", self.counter_metric.is_some()), ("by_label", self.by_label.is_some())];
        let measured = if configured(self.sli.as_deref(), &metrics)? {
            of_configured(self.sli, self.matchers, Vec::new())
        } else {
            Measured::Mix {
                counter: needed("counter_metric", self.counter_metric)?,
                by: needed("by_label", self.by_label)?,
                matchers: self.matchers,
            }
        };
        Ok(Asked { kind: "mix", common, direction: Direction::HigherIsWorse, measured })
    }
}

impl Form for Liveness {
    fn asked(self) -> Result<Asked, Unclear> {
        let common = self.common();
        let measured = if configured(self.sli.as_deref(), &[("counter_metric", self.counter_metric.is_some())])? {
            of_configured(self.sli, self.matchers, Vec::new())
        } else {
            Measured::Liveness { counter: needed("counter_metric", self.counter_metric)?, matchers: self.matchers }
        };
        Ok(Asked { kind: "liveness", common, direction: Direction::HigherIsWorse, measured })
    }
}

impl Form for Probe {
    fn asked(self) -> Result<Asked, Unclear> {
        let common = self.common();
        let measured = Measured::Probe { probe: self.probe };
        Ok(Asked { kind: "probe", common, direction: Direction::HigherIsWorse, measured })
    }
}
