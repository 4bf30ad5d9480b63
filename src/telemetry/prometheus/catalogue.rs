//! The index of a service's metrics, kept in the background from what the server says of its old version's series.
//!
//! Which series there are comes from the server's list of them, so that only live ones are named; kinds and words from its
//! metadata, which is of all services and may be missing: a metric whose kind nobody tells is listed only where its name
//! tells.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::Deserialize;
use tokio::{runtime::Handle, task::JoinHandle, time::sleep};

use super::{
    PLACEHOLDER, Service,
    query::{Form, compile},
    reader,
    reply::ROWS_MAX,
    server::{Server, seconds},
};
use crate::{
    domain::{Absence, Revision, ServiceName, Text, Timestamp},
    telemetry::{
        Catalogued, Clock,
        counting::{
            index::catalogued,
            locked,
            ring::{Limits, Ring},
        },
        exposition::{Exposition, Kind, Series},
    },
};

/// How often it is made anew.
const EVERY: Duration = Duration::from_secs(300);
/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// A series that has shown nothing for longer is not live.
const LIVE: Duration = Duration::from_secs(300);

/// The indexes, by service.
#[derive(Default)]
pub(super) struct Catalogues(Mutex<BTreeMap<ServiceName, Kept>>);

struct Kept {
    revision: Option<Revision>,
    index: Arc<Mutex<Result<Arc<Catalogued>, Absence>>>,
    task: JoinHandle<()>,
}

impl Drop for Catalogues {
    fn drop(&mut self) {
        locked(&self.0).values().for_each(|kept| kept.task.abort());
    }
}

impl Catalogues {
    /// Sees to it that the metrics of a service's old version are indexed, as far as it is known and there is a runtime.
    pub(super) fn begin(
        &self,
        (server, clock): (&Arc<Server>, &Clock),
        name: &ServiceName,
        service: &Service,
        stable: Option<&Revision>,
    ) {
        let bears_revision = service.control.values().any(|value| value.contains(PLACEHOLDER));
        if (bears_revision && stable.is_none()) || Handle::try_current().is_err() {
            return;
        }
        let revision = if bears_revision { stable.cloned() } else { None };
        let mut all = locked(&self.0);
        if all.get(name).is_some_and(|kept| kept.revision == revision && !kept.task.is_finished()) {
            return;
        }
        let index = Arc::new(Mutex::new(Err(Absence::NoData)));
        let labels = service.labels(&service.control, revision.as_ref());
        let task = tokio::spawn(keep(Arc::clone(server), Arc::clone(clock), labels, Arc::clone(&index)));
        if let Some(old) = all.insert(name.clone(), Kept { revision, index, task }) {
            old.task.abort();
        }
    }

    /// The index of a service, once there is one.
    pub(super) fn of(&self, service: &ServiceName) -> Result<Arc<Catalogued>, Absence> {
        let index = locked(&self.0).get(service).map(|kept| Arc::clone(&kept.index));
        index.map_or(Err(Absence::NoData), |index| locked(&index).clone())
    }
}

async fn keep(
    server: Arc<Server>,
    clock: Clock,
    labels: BTreeMap<String, String>,
    index: Arc<Mutex<Result<Arc<Catalogued>, Absence>>>,
) {
    loop {
        let made = make(&server, clock(), &labels).await;
        let pause = if made.is_ok() { EVERY } else { AGAIN };
        take(&index, made);
        sleep(pause).await;
    }
}

/// Keeps what was made. What was known is not forgotten for a failure; it says itself how old it is.
fn take(index: &Mutex<Result<Arc<Catalogued>, Absence>>, made: Result<Catalogued, Absence>) {
    let mut kept = locked(index);
    match made {
        Ok(made) => *kept = Ok(Arc::new(made)),
        Err(why) if kept.is_err() => *kept = Err(why),
        Err(why) => tracing::debug!(%why, "the metrics could not be indexed anew"),
    }
}

/// What the server says of one metric.
#[derive(Deserialize)]
struct Said {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    help: String,
}

async fn make(server: &Server, now: Timestamp, labels: &BTreeMap<String, String>) -> Result<Catalogued, Absence> {
    let selection = reader::selection(None, std::slice::from_ref(labels));
    let selector = compile(&selection, &Form::Series).map_err(Absence::Malformed)?;
    let skew = server.skew().await?;
    let (start, end) = (seconds(reader::server_time(now - LIVE, skew)), seconds(reader::server_time(now, skew)));
    let limit = (ROWS_MAX + 1).to_string();
    let form = [("match[]", selector.as_str()), ("start", &start), ("end", &end), ("limit", &limit)];
    let series: Vec<BTreeMap<String, String>> = server.post("series", &form).await?;
    let said: BTreeMap<String, Vec<Said>> =
        server.get("metadata", &[("limit_per_metric", "1")]).await.unwrap_or_default();
    let is_cut = series.len() > ROWS_MAX;
    let mut kinds = BTreeMap::new();
    let mut helps = BTreeMap::new();
    for (name, said) in said {
        let Some(said) = said.into_iter().next() else { continue };
        helps.insert(name.clone(), Text::new(&said.help));
        kinds.extend(kind(&said.kind).map(|kind| (name, kind)));
    }
    let named = |mut labels: BTreeMap<String, String>| Some((Series { name: labels.remove("__name__")?, labels }, 0.0));
    let page = Exposition::of(series.into_iter().take(ROWS_MAX).filter_map(named).collect(), kinds).explained(helps);
    let mut ring = Ring::new(vec![String::new()], BTreeMap::new(), LIVE, Limits::default());
    let seen = ring.begin(now);
    ring.take_in("", Ok(&page));
    ring.end();
    let mut index = catalogued(&ring, seen);
    index.cut |= is_cut;
    Ok(index)
}

fn kind(word: &str) -> Option<Kind> {
    match word {
        "counter" => Some(Kind::Counter),
        "gauge" => Some(Kind::Gauge),
        "histogram" => Some(Kind::Histogram),
        "summary" => Some(Kind::Summary),
        _ => None,
    }
}
