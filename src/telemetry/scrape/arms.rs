//! The two arms of one rollout, and a round of reading them.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use reqwest::{Client, Url};
use tokio::sync::watch;

use super::{
    ArmTargets, SLIS_MAX,
    fetch::{fetch, place},
    gain::Gain,
    locked,
    parts::{Gained, Sought},
    rounds::{Patience, Reading, Round, Rounds, SliId},
    seen::Wanted,
    target::Target,
};
use crate::{
    domain::{Absence, Text, Timestamp},
    telemetry::{Answer, Ask, AskedCheck, Clock, Error, exposition::Exposition},
};

/// Most endpoints of one pair that are read at the same moment.
const FETCHES_AT_ONCE: usize = 8;

/// What the endpoints answered in one round, by address. An endpoint of both arms is read once.
type Bodies = BTreeMap<String, Result<Exposition, Error>>;

/// One arm: its targets, and what they gained since all of them were last read in one round.
#[derive(Debug, Default)]
struct ArmState {
    targets: BTreeMap<String, Target>,
    labels: BTreeMap<String, String>,
    pods: Pods,
    pending: BTreeMap<SliId, Gained>,
}

/// How the pods of one arm are told apart.
#[derive(Debug, Default)]
enum Pods {
    /// There is one.
    #[default]
    One,
    /// Each target is one, of this name.
    ByTarget(BTreeMap<String, Text>),
    /// By this label.
    ByLabel(String),
}

impl ArmState {
    fn new(targets: ArmTargets, pod_label: Option<String>) -> Self {
        let labels = targets.labels;
        let targets: BTreeMap<String, Target> = targets.urls.into_iter().map(|url| (url, Target::default())).collect();
        let pods = match pod_label {
            Some(label) => Pods::ByLabel(label),
            None if targets.len() > 1 => Pods::ByTarget(pod_names(targets.keys())),
            None => Pods::One,
        };
        Self { targets, labels, pods, pending: BTreeMap::new() }
    }

    /// Takes in one round. What some targets gained waits until all are read.
    fn take_in(&mut self, bodies: &Bodies, wanted: &Wanted, slis: &BTreeMap<SliId, Sought>) -> Reading {
        // A level is the mean over all targets at one moment: a part of it is not kept for a later one.
        self.pending.retain(|id, gained| slis.contains_key(id) && !matches!(gained.whole, Gain::Level { .. }));
        let pod_label = if let Pods::ByLabel(label) = &self.pods { Some(label.as_str()) } else { None };
        let mut missed = None;
        for (url, target) in &mut self.targets {
            match bodies.get(url) {
                Some(Ok(body)) => {
                    let name = if let Pods::ByTarget(names) = &self.pods { names.get(url) } else { None };
                    for (id, mut gained) in target.read(body, wanted, &self.labels, pod_label, slis) {
                        let Some(Sought { sli, .. }) = slis.get(&id) else { continue };
                        if let Some(name) = name {
                            gained.is_of_pod(name);
                        }
                        match self.pending.entry(id) {
                            Entry::Occupied(mut pending) => pending.get_mut().add(gained, sli),
                            Entry::Vacant(none) => {
                                none.insert(gained);
                            }
                        }
                    }
                }
                Some(Err(error)) => {
                    missed.get_or_insert_with(|| Absence::from(error.clone()));
                }
                None => {
                    let why = Text::new(format!("{}: was not read", place(url)));
                    missed.get_or_insert(Absence::Unavailable(why));
                }
            }
        }
        match missed {
            Some(why) => Reading::Missed(why),
            None => Reading::Read(mem::take(&mut self.pending)),
        }
    }
}

/// A name for each address that tells it from the others, as short as it can be: its host and port, with its path where
/// that is not enough, and with its place where that is not enough either. What could be a secret is not in it.
fn pod_names<'a>(urls: impl Iterator<Item = &'a String>) -> BTreeMap<String, Text> {
    let urls: Vec<&String> = urls.collect();
    let named = |name: &dyn Fn(usize, &str) -> String| -> BTreeMap<String, Text> {
        urls.iter().enumerate().map(|(at, url)| ((*url).clone(), Text::new(name(at, url)))).collect()
    };
    let differ = |names: &BTreeMap<String, Text>| names.values().collect::<BTreeSet<_>>().len() == names.len();
    let by_host = named(&|_, url| host_and_port(url));
    if differ(&by_host) {
        return by_host;
    }
    let with_path = |url: &str| host_and_port(url) + Url::parse(url).as_ref().map_or("", Url::path);
    let by_path = named(&|_, url| with_path(url));
    if differ(&by_path) {
        return by_path;
    }
    named(&|at, url| format!("#{} {}", at + 1, with_path(url)))
}

fn host_and_port(url: &str) -> String {
    let Ok(url) = Url::parse(url) else { return String::new() };
    let port = url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

/// What is looked for, and until when.
#[derive(Debug)]
struct Search {
    sought: Sought,
    until: Timestamp,
}

#[derive(Debug, Default)]
struct State {
    control: ArmState,
    canary: ArmState,
    rounds: Rounds,
    searches: BTreeMap<SliId, Search>,
    next: u64,
    wanted_until: Timestamp,
}

/// Two versions of one service that are read side by side.
#[derive(Debug)]
pub(super) struct Pair {
    state: Mutex<State>,
    done: watch::Sender<u64>,
}

impl Pair {
    /// Two arms; `pod_label` tells the pods of one page apart.
    pub(super) fn new(control: ArmTargets, canary: ArmTargets, pod_label: Option<String>) -> Self {
        let control = ArmState::new(control, pod_label.clone());
        let state = State { control, canary: ArmState::new(canary, pod_label), ..State::default() };
        Self { state: Mutex::new(state), done: watch::Sender::new(0) }
    }

    /// Tells each time a round is done.
    pub(super) fn rounds_done(&self) -> watch::Receiver<u64> {
        self.done.subscribe()
    }

    /// Whether someone has asked for it lately.
    pub(super) fn is_wanted(&self, now: Timestamp) -> bool {
        now <= locked(&self.state).wanted_until
    }

    /// Looks for the SLIs of these checks from now on, and says their numbers in the same order.
    pub(super) fn look_for(
        &self,
        checks: &[AskedCheck],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<SliId>, Error> {
        let mut state = locked(&self.state);
        state.wanted_until = state.wanted_until.max(until);
        state.searches.retain(|_, search| now <= search.until);
        checks
            .iter()
            .map(|AskedCheck { sli, split, .. }| {
                let is_same = |search: &Search| search.sought.sli == *sli && search.sought.split == *split;
                if let Some((id, search)) = state.searches.iter_mut().find(|(_, search)| is_same(search)) {
                    search.until = search.until.max(until);
                    return Ok(*id);
                }
                if state.searches.len() >= SLIS_MAX {
                    return Err(Error::Unavailable(Text::new(format!("more than {SLIS_MAX} SLIs of one pair"))));
                }
                let id = SliId(state.next);
                state.next += 1;
                let sought = Sought { sli: sli.clone(), split: split.clone() };
                state.searches.insert(id, Search { sought, until });
                Ok(id)
            })
            .collect()
    }

    /// The answer, once there is one.
    pub(super) fn answer(&self, ask: &Ask, slis: &[SliId], patience: Patience) -> Option<Answer> {
        locked(&self.state).rounds.answer(ask, slis, patience)
    }

    /// Reads every target of both arms once.
    pub(super) async fn round(&self, client: &Client, timeout: Duration, clock: &Clock, keep: Duration) {
        let (time, slis, urls) = {
            let mut state = locked(&self.state);
            let now = clock();
            state.searches.retain(|_, search| now <= search.until);
            let slis: BTreeMap<SliId, Sought> =
                state.searches.iter().map(|(id, search)| (*id, search.sought.clone())).collect();
            let urls: BTreeSet<String> =
                state.control.targets.keys().chain(state.canary.targets.keys()).cloned().collect();
            (state.rounds.next_time(now), slis, urls)
        };
        let wanted = Arc::new(Wanted::of(slis.values().map(|sought| &sought.sli)));
        let fetches = urls.into_iter().map(|url| {
            let wanted = Arc::clone(&wanted);
            async move {
                let body = fetch(client, &url, timeout, |name| wanted.takes(name)).await;
                (url, body)
            }
        });
        let bodies: Bodies = stream::iter(fetches).buffer_unordered(FETCHES_AT_ONCE).collect().await;
        let mut state = locked(&self.state);
        let control = state.control.take_in(&bodies, &wanted, &slis);
        let canary = state.canary.take_in(&bodies, &wanted, &slis);
        for (arm, reading) in [("control", &control), ("canary", &canary)] {
            match reading {
                Reading::Read(_) => tracing::debug!(arm, at = %time, "scraped"),
                Reading::Missed(why) => tracing::debug!(arm, at = %time, %why, "not scraped"),
            }
        }
        state.rounds.push(Round { time, control, canary }, keep);
        drop(state);
        self.done.send_modify(|rounds| *rounds += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(urls: &[&str]) -> Vec<String> {
        let urls: BTreeMap<String, ()> = urls.iter().map(|url| ((*url).to_owned(), ())).collect();
        pod_names(urls.keys()).values().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pod_has_the_shortest_name_that_tells_it_from_the_others() {
        assert_eq!(names(&["http://10.0.0.1:9100/metrics", "https://b/metrics"]), ["10.0.0.1:9100", "b:443"]);
        assert_eq!(names(&["http://a:1/x", "http://a:1/y"]), ["a:1/x", "a:1/y"]);
        let secret = names(&["http://a:1/x?token=s3cret1", "http://a:1/x?token=s3cret2"]);
        assert_eq!(secret, ["#1 a:1/x", "#2 a:1/x"]);
        let long = format!("http://a:1/{}", "x".repeat(500));
        assert_eq!(names(&[&format!("{long}/1"), &format!("{long}/2")])[1][..7], *"#2 a:1/");
    }
}
