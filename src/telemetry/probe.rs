//! Probes: requests of our own to each arm, and how many were not answered as they should be.
//!
//! A new version without traffic, or one that nobody can reach, shows nothing on its metrics page. A probe asks it. What is
//! asked, where it goes and what is right is written by the operator; a check only names a probe. Both arms are asked
//! equally often, at a configured pace, from the first ask for a pair of revisions until some time after the last one,
//! and each of an arm's origins in turn.
//!
//! # Windows
//! Probes stand beside another provider, whose windows are theirs too. Where that provider had nothing to tell, its next
//! window covers the gap, so the answer ends where the ask began and nothing of its counts is passed over. Probes are told
//! all the same, since an arm that does not even show its metrics is what a probe is for: bit by bit, each once, and the
//! window that then covers the gap holds only those that were not told yet. Both together are the same window.

mod address;
mod pair;
mod request;

pub use address::{Lookup, system_lookup};
pub use pair::{KEPT_MAX, PAIRS_MAX};
pub use request::{BODY_BYTES_MAX, REDIRECTS_MAX};

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use reqwest::{
    Url,
    header::{HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};

use self::pair::Prober;
use super::{Answer, Ask, Catalogued, Clock, Error, Past, PastAsk, Provider, scrape::ArmTargets};
use crate::domain::{Absence, Arm, Measurement, ServiceName, Sli, Text, Window};

/// Most probes of one service.
pub const PROBES_MAX: usize = 32;
/// Most origins of one arm.
pub const ORIGINS_MAX: usize = 64;
/// Most requests in a second to one service, its redirects not counted.
pub const PER_SECOND_MAX: u32 = 100;
/// Least time between two rounds of probes.
pub const EVERY_MIN: Duration = Duration::from_millis(10);
/// Longest time that one probe may take.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 2_048;
/// Longest text that a body must contain, in bytes.
pub const CONTAINS_BYTES_MAX: usize = 1_000;
/// Most headers of one probe, and most ranges of statuses.
pub const HEADERS_MAX: usize = 16;
/// Longest name of a probe, in bytes.
pub const NAME_BYTES_MAX: usize = 100;

/// What stands for the arm's revision in origins and paths.
const PLACEHOLDER: &str = "{revision}";
/// What it is replaced by for a control that is not known by revision.
const STABLE: &str = "stable";
/// Headers that say how a request is sent and not what is asked.
const HEADERS_OF_OURS: [&str; 5] = ["host", "content-length", "transfer-encoding", "connection", "upgrade"];

/// How a probe asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// For the whole answer.
    #[default]
    Get,
    /// For the status alone.
    Head,
}

/// One request of our own, and what its answer must be.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What is asked for, from its `/` on; `{revision}` stands for the arm's revision. At most [`PATH_BYTES_MAX`].
    pub path: String,
    /// How.
    pub method: Method,
    /// Statuses that are right, within 100 to 599; 1 to [`HEADERS_MAX`] ranges. A redirect that is not among them is
    /// followed.
    pub expect: Vec<RangeInclusive<u16>>,
    /// What the first [`BODY_BYTES_MAX`] bytes of the body must contain; not for [`Method::Head`].
    pub contains: Option<String>,
    /// Headers that the answer must bear, and what each value must contain, whatever its case; at most [`HEADERS_MAX`].
    pub answers_with: BTreeMap<String, String>,
    /// An answer that takes longer is wrong; at most `timeout`.
    pub slow_above: Option<Duration>,
    /// An answer that is not there by then is wrong.
    pub timeout: Duration,
    /// Headers to send. They may hold secrets, and are never shown.
    pub headers: BTreeMap<String, SecretString>,
}

/// The probes of one service.
#[derive(Clone, Debug)]
pub struct ServiceProbes {
    /// Where control is asked: schemes, hosts and ports, such as `https://{revision}.shop.internal`. 1 to
    /// [`ORIGINS_MAX`]. See [`origins`].
    pub control: Vec<String>,
    /// Where the canary is asked.
    pub canary: Vec<String>,
    /// Time between two rounds; in each, every probe asks each arm once. At least [`EVERY_MIN`].
    pub every: Duration,
    /// Most requests in a second, 1 to [`PER_SECOND_MAX`]; those beyond wait.
    pub per_second: u32,
    /// The probes by name. At most [`PROBES_MAX`].
    pub probes: BTreeMap<String, Probe>,
}

/// Which services are probed.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Each service.
    pub services: BTreeMap<ServiceName, ServiceProbes>,
    /// How long results are kept, and how long probes go on after the last ask.
    pub keep: Duration,
}

impl Config {
    /// Refuses what cannot work, and says what to mend.
    pub fn check(&self) -> Result<(), Error> {
        for (service, probes) in &self.services {
            probes.check(self.keep).map_err(|why| Error::Config(Text::new(format!("service {service}: {why}"))))?;
        }
        Ok(())
    }
}

impl ServiceProbes {
    fn check(&self, keep: Duration) -> Result<(), String> {
        if self.every < EVERY_MIN || keep < self.every.saturating_mul(2) {
            let least = EVERY_MIN.as_millis();
            return Err(format!("probes are to be at least {least} ms apart, and kept for two rounds or more"));
        }
        if !(1..=PER_SECOND_MAX).contains(&self.per_second) {
            return Err(format!("write 1 to {PER_SECOND_MAX} probes a second"));
        }
        if self.probes.len() > PROBES_MAX {
            return Err(format!("write at most {PROBES_MAX} probes"));
        }
        for (arm, origins) in [(Arm::Control, &self.control), (Arm::Canary, &self.canary)] {
            check_origins(origins).map_err(|why| format!("probes of {arm}: {why}"))?;
        }
        let paths = self.probes.values().map(|probe| &probe.path);
        let tells_apart = self.canary.iter().chain(paths).any(|text| text.contains(PLACEHOLDER));
        if self.control == self.canary && !tells_apart {
            return Err(format!("control and canary are probed at the same place: write {PLACEHOLDER} in an origin"));
        }
        self.probes.iter().try_for_each(|(name, probe)| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
            if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(is_plain) {
                return Err(format!("name probes in 1 to {NAME_BYTES_MAX} letters, digits and any of _ - ."));
            }
            probe.check().map_err(|why| format!("probe {name}: {why}"))
        })
    }
}

fn check_origins(origins: &[String]) -> Result<(), String> {
    if !(1..=ORIGINS_MAX).contains(&origins.len()) {
        return Err(format!("write 1 to {ORIGINS_MAX} origins"));
    }
    for origin in origins {
        let filled = origin.replace(PLACEHOLDER, STABLE);
        let url = Url::parse(&filled).map_err(|_| "one of the origins is no URL".to_owned())?;
        let is_plain =
            matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
        let is_origin = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !is_plain || !is_origin {
            return Err("an origin is a scheme, a host and a port, such as http://10.0.0.7:8080".into());
        }
        address::check_literal(&url).map_err(|refused| refused.to_string())?;
    }
    Ok(())
}

impl Probe {
    fn check(&self) -> Result<(), String> {
        let is_path = self.path.starts_with('/') && !self.path.contains(|c: char| c.is_control() || c.is_whitespace());
        if !is_path || self.path.len() > PATH_BYTES_MAX {
            return Err(format!("write a path that begins with / and has at most {PATH_BYTES_MAX} bytes"));
        }
        let is_status = |range: &RangeInclusive<u16>| !range.is_empty() && *range.start() >= 100 && *range.end() < 600;
        if !(1..=HEADERS_MAX).contains(&self.expect.len()) || !self.expect.iter().all(is_status) {
            return Err(format!("write 1 to {HEADERS_MAX} statuses or ranges of them, from 100 to 599"));
        }
        if self.timeout.is_zero() || self.timeout > TIMEOUT_MAX {
            return Err(format!("the timeout is to be more than nothing and at most {} s", TIMEOUT_MAX.as_secs()));
        }
        if self.slow_above.is_some_and(|slow| slow.is_zero() || slow > self.timeout) {
            return Err("the longest latency is to be more than nothing and at most the timeout".into());
        }
        match &self.contains {
            Some(_) if self.method == Method::Head => return Err("an answer to HEAD has no body to look into".into()),
            Some(text) if !(1..=CONTAINS_BYTES_MAX).contains(&text.len()) => {
                return Err(format!("what a body must contain is 1 to {CONTAINS_BYTES_MAX} bytes"));
            }
            Some(_) | None => {}
        }
        if self.headers.len() > HEADERS_MAX || self.answers_with.len() > HEADERS_MAX {
            return Err(format!("write at most {HEADERS_MAX} headers"));
        }
        for (name, value) in &self.answers_with {
            if HeaderName::try_from(name).is_err() || value.len() > CONTAINS_BYTES_MAX {
                return Err(format!("no answer bears the header {}", Text::new(name)));
            }
        }
        for (name, value) in &self.headers {
            let is_ours = HEADERS_OF_OURS.contains(&name.to_ascii_lowercase().as_str());
            let is_legal = HeaderName::try_from(name).is_ok() && HeaderValue::try_from(value.expose_secret()).is_ok();
            if is_ours || !is_legal {
                return Err(format!("the header {} cannot be sent", Text::new(name)));
            }
        }
        Ok(())
    }
}

/// The origins of an arm's metrics pages, each once: where its probes go when nothing else is written.
pub fn origins(targets: &ArmTargets) -> Vec<String> {
    let mut origins: Vec<String> = Vec::new();
    for url in &targets.urls {
        // The address may hold a placeholder where no URL may hold one, so it is cut as text.
        let host = url.find("://").map_or(0, |at| at + 3);
        let end = url.get(host..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(url.len(), |at| host + at);
        let origin = url.get(..end).unwrap_or_default().to_owned();
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    origins
}

/// Lets `inner` answer all but probes, and adds these. Fails on a configuration that cannot work. Asks are made within a
/// tokio runtime.
pub fn beside(inner: Arc<dyn Provider>, config: Config, clock: Clock) -> Result<Arc<dyn Provider>, Error> {
    beside_with(inner, config, clock, system_lookup())
}

/// The same, with another way to find a name's addresses. What it finds is judged all the same.
pub fn beside_with(
    inner: Arc<dyn Provider>,
    config: Config,
    clock: Clock,
    lookup: Lookup,
) -> Result<Arc<dyn Provider>, Error> {
    config.check()?;
    if config.services.values().all(|service| service.probes.is_empty()) {
        return Ok(inner);
    }
    let client = request::client(lookup)?;
    Ok(Arc::new(Beside { inner, prober: Prober::new(config, clock, client) }))
}

/// Another provider, and probes.
struct Beside {
    inner: Arc<dyn Provider>,
    prober: Prober,
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beside").finish_non_exhaustive()
    }
}

impl Provider for Beside {
    fn measure(&self, ask: Ask) -> BoxFuture<'_, Answer> {
        self.answer(ask).boxed()
    }

    fn metrics(&self, service: &ServiceName) -> Result<Arc<Catalogued>, Absence> {
        self.inner.metrics(service)
    }

    fn history(&self, ask: PastAsk) -> BoxFuture<'_, Result<Past, Absence>> {
        self.inner.history(ask)
    }
}

impl Beside {
    async fn answer(&self, mut ask: Ask) -> Answer {
        let (probes, others): (Vec<_>, Vec<_>) =
            ask.checks.drain(..).partition(|asked| matches!(asked.sli, Sli::Probe { .. }));
        let inner_ask = Ask { checks: others, ..ask.clone() };
        if probes.is_empty() {
            return self.inner.measure(inner_ask).await;
        }
        ask.checks = probes;
        let pair = match self.prober.look_for(&ask) {
            Ok(pair) => pair,
            Err(why) => {
                let mut answer = self.inner_answer(inner_ask).await;
                answer.measurements.extend(Answer::absent(&ask, &why.into()).measurements);
                return answer;
            }
        };
        let mut answer = if inner_ask.checks.is_empty() {
            self.prober.wait(&pair, &ask).await;
            // Nobody else's counts are passed over.
            Answer { through: pair.newest().unwrap_or(ask.after).max(ask.after), measurements: Vec::new() }
        } else {
            self.inner.measure(inner_ask).await
        };
        let window = if answer.through > ask.after {
            pair.rest_of(Window { after: ask.after, through: answer.through })
        } else {
            pair.told_ahead(ask.after)
        };
        for asked in &ask.checks {
            let Sli::Probe { probe } = &asked.sli else { continue };
            for arm in [Arm::Control, Arm::Canary] {
                let tally = self.prober.told(&pair, &ask.service, probe, arm, window);
                answer.measurements.push(Measurement {
                    check: asked.check,
                    arm,
                    window,
                    tally,
                    parts: Vec::new(),
                    estimated: false,
                });
            }
        }
        answer.measurements.sort_by_key(|measurement| (measurement.check, measurement.arm));
        answer
    }

    async fn inner_answer(&self, ask: Ask) -> Answer {
        if ask.checks.is_empty() {
            return Answer { through: ask.after, measurements: Vec::new() };
        }
        self.inner.measure(ask).await
    }
}
