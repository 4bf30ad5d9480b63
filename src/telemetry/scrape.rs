//! Scrapes the arms' own Prometheus endpoints: telemetry where there is no other software at hand.
//!
//! Every target of both arms is read in the same round, so that a window covers the same time for both, and increments
//! are kept as counted, not as rates: what is added up over windows in a row is what the counters counted. Reading begins
//! with the first ask for a pair of revisions and ends some time after the last one. Nothing is kept on disk: after a
//! restart the first reading is where counting starts anew, and a window without a second reading has no data.

mod arms;
mod fetch;
mod keeper;
pub mod once;

pub use fetch::REDIRECTS_MAX;
pub use keeper::History;

pub use super::counting::SLIS_MAX;

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use reqwest::{Client, Url};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep},
};

use self::{
    arms::Arms,
    keeper::{Keeper, Keepers},
};
use super::{
    Answer, Ask, Catalogued, Clock, Error, Past, PastAsk, Provider,
    counting::{
        locked,
        rounds::{Patience, SliId},
    },
};
use crate::domain::{Absence, Revision, ServiceName, Text, Timestamp};

/// Most addresses of one arm.
pub const URLS_MAX: usize = 64;
/// Least time between rounds.
pub const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Most pairs of revisions that are read at once.
pub const PAIRS_MAX: usize = 256;
/// Longest wait of one ask; its deadline may be earlier.
pub const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// What stands for the arm's revision in addresses and label values.
const PLACEHOLDER: &str = "{revision}";
/// What it is replaced by for a control that is not known by revision.
const STABLE: &str = "stable";

/// Where one arm is read. `{revision}` in an address or a label value stands for the arm's revision, or for `stable`
/// where control's is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArmTargets {
    /// The addresses of its metrics endpoints, one process each; what they count is added up. 1 to [`URLS_MAX`].
    pub urls: Vec<String>,
    /// Labels that its series must bear, for endpoints that show both arms.
    pub labels: BTreeMap<String, String>,
}

/// Where and how often one service is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTargets {
    /// The old version.
    pub control: ArmTargets,
    /// The new version.
    pub canary: ArmTargets,
    /// Time between rounds, at least [`INTERVAL_MIN`].
    pub interval: Duration,
    /// Longest time for one endpoint's whole answer, at most `interval`.
    pub timeout: Duration,
    /// The label whose values are pods, where an endpoint shows several; `None` where each address is one pod.
    pub pod_label: Option<String>,
}

/// Where each service is read, and how long increments are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Each service.
    pub services: BTreeMap<ServiceName, ServiceTargets>,
    /// How long rounds are kept, and how long reading goes on after the last ask. At least two intervals.
    pub keep: Duration,
    /// How control's recent past is kept, for planning; `None` where it is not.
    pub history: Option<History>,
}

impl Config {
    /// Refuses what cannot work, and says what to mend.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(history) = &self.history {
            history.check().map_err(|why| Error::Config(Text::new(why)))?;
        }
        for (service, targets) in &self.services {
            targets.check(self.keep).map_err(|why| Error::Config(Text::new(format!("service {service}: {why}"))))?;
        }
        Ok(())
    }
}

impl ServiceTargets {
    fn check(&self, keep: Duration) -> Result<(), String> {
        if self.interval < INTERVAL_MIN {
            return Err(format!("the interval is shorter than {} ms", INTERVAL_MIN.as_millis()));
        }
        if self.timeout.is_zero() || self.timeout > self.interval {
            return Err("the timeout is to be more than nothing and at most the interval".into());
        }
        if keep < self.interval * 2 {
            return Err("rounds are to be kept for at least two intervals".into());
        }
        self.control.check().map_err(|why| format!("control: {why}"))?;
        self.canary.check().map_err(|why| format!("canary: {why}"))?;
        let tells_apart = self.canary.urls.iter().chain(self.canary.labels.values()).any(|s| s.contains(PLACEHOLDER));
        if self.control == self.canary && !tells_apart {
            return Err(format!("control and canary are the same: write {PLACEHOLDER} in an address or a label"));
        }
        Ok(())
    }
}

impl ArmTargets {
    fn check(&self) -> Result<(), String> {
        if !(1..=URLS_MAX).contains(&self.urls.len()) {
            return Err(format!("write 1 to {URLS_MAX} urls"));
        }
        for url in &self.for_revision(None).urls {
            let Ok(parsed) = Url::parse(url) else {
                return Err("one of the urls is no URL".into());
            };
            let place = fetch::place(url);
            if !matches!(parsed.scheme(), "http" | "https") {
                return Err(format!("{place} is neither http nor https"));
            }
            if !parsed.username().is_empty() || parsed.password().is_some() {
                return Err(format!("{place} holds a user or a password: leave them out"));
            }
        }
        Ok(())
    }

    /// The same, for one revision.
    fn for_revision(&self, revision: Option<&Revision>) -> Self {
        let fill = |text: &String| text.replace(PLACEHOLDER, revision.map_or(STABLE, Revision::as_str));
        Self {
            urls: self.urls.iter().map(fill).collect(),
            labels: self.labels.iter().map(|(label, value)| (label.clone(), fill(value))).collect(),
        }
    }
}

/// A client for scraping: no proxy, no redirect away from the host that was named.
pub fn client() -> Result<Client, Error> {
    fetch::client()
}

/// A provider that reads what `config` names. No pair is read before the first ask for it; asks are made within a tokio
/// runtime. Where the past is kept and there is a runtime, that begins now.
pub fn start(config: Config, clock: Clock, client: Client) -> Scrape {
    let shared = Shared { config, clock, client, pairs: Mutex::default(), keepers: Keepers::default() };
    let shared = Arc::new(shared);
    Keepers::begin_all(&shared);
    Scrape { shared }
}

/// Reads the arms' own metrics endpoints. Dropping it ends all reading.
pub struct Scrape {
    shared: Arc<Shared>,
}

/// A service, its old and its new version.
type Key = (ServiceName, Option<Revision>, Revision);

struct Shared {
    config: Config,
    clock: Clock,
    client: Client,
    pairs: Mutex<BTreeMap<Key, Reader>>,
    keepers: Keepers,
}

/// A pair of arms and the task that reads it.
struct Reader {
    arms: Arc<Arms>,
    task: JoinHandle<()>,
}

impl Drop for Scrape {
    fn drop(&mut self) {
        for reader in locked(&self.shared.pairs).values() {
            reader.task.abort();
        }
        self.shared.keepers.end();
    }
}

impl Provider for Scrape {
    fn measure(&self, ask: Ask) -> BoxFuture<'_, Answer> {
        self.answer(ask).boxed()
    }

    fn metrics(&self, service: &ServiceName) -> Result<Arc<Catalogued>, Absence> {
        self.shared.keeper(service)?.metrics()
    }

    fn history(&self, ask: PastAsk) -> BoxFuture<'_, Result<Past, Absence>> {
        async move {
            self.shared.keepers.begin(&self.shared, &ask.service, ask.stable.as_ref());
            self.shared.keeper(&ask.service)?.history(ask).await
        }
        .boxed()
    }
}

impl Scrape {
    async fn answer(&self, ask: Ask) -> Answer {
        self.shared.keepers.begin(&self.shared, &ask.service, ask.control.as_ref());
        let now = (self.shared.clock)();
        let wait = ask.no_later_than.since(now).min(WAIT_MAX);
        let wanted_until = now + wait + self.shared.config.keep;
        let (arms, slis) = match self.shared.look_for(&ask, now, wanted_until) {
            Ok(found) => found,
            Err(error) => return Answer::absent(&ask, &error.into()),
        };
        let pair = &arms.pair;
        let mut rounds = pair.rounds_done();
        let mut deadline = pin!(sleep(wait));
        loop {
            // Marked before looking: a round that ends in between wakes the wait below.
            rounds.borrow_and_update();
            if let Some(answer) = pair.answer(&ask, &slis, Patience::Left) {
                return answer;
            }
            tokio::select! {
                changed = rounds.changed() => if changed.is_err() { break },
                () = &mut deadline => break,
            }
        }
        let over = pair.answer(&ask, &slis, Patience::Over);
        over.unwrap_or_else(|| Answer::absent(&ask, &Absence::NoData))
    }
}

impl Shared {
    fn targets(&self, service: &ServiceName) -> Result<&ServiceTargets, Error> {
        let unknown = || format!("service {service} has no targets to scrape in the configuration");
        self.config.services.get(service).ok_or_else(|| Error::Unavailable(Text::new(unknown())))
    }

    /// The keeper of a service's past; no data until control is known.
    fn keeper(&self, service: &ServiceName) -> Result<Arc<Keeper>, Absence> {
        self.targets(service)?;
        self.keepers.of(service).ok_or(Absence::NoData)
    }

    /// The pair asked for, read from now on if it was not, and the numbers of the ask's SLIs in it.
    fn look_for(
        self: &Arc<Self>,
        ask: &Ask,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<(Arc<Arms>, Vec<SliId>), Error> {
        let unavailable = |why: String| Error::Unavailable(Text::new(why));
        let targets = self.targets(&ask.service)?;
        let key: Key = (ask.service.clone(), ask.control.clone(), ask.canary.clone());
        let mut pairs = locked(&self.pairs);
        if let Some(reader) = pairs.get(&key).filter(|reader| !reader.task.is_finished()) {
            return Ok((Arc::clone(&reader.arms), reader.arms.pair.look_for(&ask.checks, now, until)?));
        }
        if pairs.len() >= PAIRS_MAX && !pairs.contains_key(&key) {
            return Err(unavailable(format!("more than {PAIRS_MAX} pairs of revisions are scraped at once")));
        }
        let control = targets.control.for_revision(ask.control.as_ref());
        let canary = targets.canary.for_revision(Some(&ask.canary));
        let arms = Arc::new(Arms::new(control, canary, targets.pod_label.as_deref()));
        let slis = arms.pair.look_for(&ask.checks, now, until)?;
        let task = tokio::spawn(Arc::clone(self).read(key.clone(), Arc::clone(&arms), targets.clone()));
        tracing::debug!(service = %ask.service, canary = %ask.canary, "scraping begins");
        pairs.insert(key, Reader { arms: Arc::clone(&arms), task });
        Ok((arms, slis))
    }

    /// Reads a pair until nobody asks for it any more.
    async fn read(self: Arc<Self>, key: Key, arms: Arc<Arms>, targets: ServiceTargets) {
        let mut ticks = interval(targets.interval.max(INTERVAL_MIN));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.lets_go(&key, &arms) {
                tracing::debug!(service = %key.0, canary = %key.2, "scraping ends: nobody asks for it");
                return;
            }
            arms.round(&self.client, targets.timeout, &self.clock, self.config.keep).await;
        }
    }

    /// Ends a pair that nobody wants; whoever asks at the same moment either keeps it or makes a new one.
    fn lets_go(&self, key: &Key, arms: &Arms) -> bool {
        let mut pairs = locked(&self.pairs);
        let unwanted = !arms.pair.is_wanted((self.clock)());
        if unwanted {
            pairs.remove(key);
        }
        unwanted
    }
}
