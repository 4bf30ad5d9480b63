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
pub(super) type Bodies = BTreeMap<String, Result<Exposition, Error>>;

/// One arm: its targets, and what they gained since all of them were last read in one round.
#[derive(Debug, Default)]
pub(super) struct ArmState {
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
    pub(super) fn new(targets: ArmTargets, pod_label: Option<String>) -> Self {
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
    pub(super) fn take_in(&mut self, bodies: &Bodies, wanted: &Wanted, slis: &BTreeMap<SliId, Sought>) -> Reading {
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
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::{Match, PARTS_MAX, Part, PartKind, Selector, Sli, Split, Tally},
        telemetry::{
            exposition::parse,
            scrape::{gain::tally, parts},
        },
    };

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

    /// One process: good and bad requests by route and tenant, where the route may be unknown.
    #[derive(Clone, Debug, Default)]
    struct Process {
        started: u64,
        served: BTreeMap<(u8, u8), (u64, u64)>,
    }

    impl Process {
        fn shows(&self, pod: &str) -> String {
            let mut body = format!("process_start_time_seconds {}\n", self.started);
            for ((route, tenant), (good, bad)) in &self.served {
                let route = if *route == 0 { String::new() } else { format!(",route=\"/{route}\"") };
                let of = format!("pod=\"{pod}\",tenant=\"t{tenant}\"{route}");
                let all = good + bad;
                writeln!(
                    body,
                    "hits_total{{code=\"200\",{of}}} {good}\nhits_total{{code=\"500\",{of}}} {bad}\n\
                     took_seconds_bucket{{le=\"0.5\",{of}}} {good}\ntook_seconds_bucket{{le=\"+Inf\",{of}}} {all}"
                )
                .unwrap();
            }
            body
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A pod serves requests.
        Serves(usize, (u8, u8), (u64, u64)),
        /// A pod starts again.
        Restarts(usize),
        /// A counter begins again by itself.
        Resets(usize),
        /// A series is not shown any more.
        Vanishes(usize),
        /// All pods are read, or all but one.
        Read(Option<usize>),
    }

    const PODS: usize = 3;

    fn any_step(routes: u8) -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..PODS, (0..=routes, 0..12_u8), (0..50_u64, 0..5_u64)).prop_map(|(p, of, n)| Step::Serves(p, of, n)),
            1 => (0..PODS).prop_map(Step::Restarts),
            1 => (0..PODS).prop_map(Step::Resets),
            1 => (0..PODS).prop_map(Step::Vanishes),
            3 => prop::option::weighted(0.2, 0..PODS).prop_map(Step::Read),
        ]
    }

    fn slis() -> BTreeMap<SliId, Sought> {
        let total = Selector::metric("hits_total");
        let bad = total.clone().with("code", Match::StartsWith("5".into()));
        let histogram = Selector::metric("took_seconds");
        let split = Split { segments: Some("route".into()), tenants: Some("tenant".into()) };
        [
            Sli::Ratio { bad, total: total.clone() },
            Sli::Latency { histogram, slow_above_seconds: 0.5 },
            Sli::Mix { counter: total, by: "code".into() },
        ]
        .into_iter()
        .zip(0..)
        .map(|(sli, id)| (SliId(id), Sought { sli, split: split.clone() }))
        .collect()
    }

    fn sum(parts: &[Part], kind: PartKind) -> Option<Tally> {
        let of_kind = parts.iter().filter(|part| part.kind == kind).map(|part| part.tally.clone());
        of_kind.reduce(|one, other| one.plus(&other).unwrap())
    }

    /// Whether there is something in it.
    fn is_something(tally: &Tally) -> bool {
        match tally {
            Tally::Counts(counts) => counts.bad + counts.total > 0,
            Tally::Histogram(histogram) => histogram.counts.iter().any(|n| *n > 0),
            Tally::Samples(samples) => !samples.is_empty(),
            Tally::Mix(mix) => !mix.is_empty(),
        }
    }

    /// What is read of an arm by these steps; every page is read first, and last.
    fn readings(steps: Vec<Step>, pod_label: Option<&str>) -> Vec<BTreeMap<SliId, Gained>> {
        let slis = slis();
        let wanted = Wanted::of(slis.values().map(|sought| &sought.sli));
        let urls: Vec<String> = (0..PODS).map(|pod| format!("http://pod{pod}:80/metrics")).collect();
        let targets = ArmTargets { urls: urls.clone(), labels: BTreeMap::new() };
        let mut arm = ArmState::new(targets, pod_label.map(str::to_owned));
        let mut pods = vec![Process::default(); PODS];
        pods.iter_mut().for_each(|pod| {
            pod.served.insert((1, 1), (10, 1));
        });
        let mut readings = Vec::new();
        for step in [Step::Read(None)].into_iter().chain(steps).chain([Step::Read(None)]) {
            match step {
                Step::Serves(pod, of, (good, bad)) => {
                    let served = pods[pod].served.entry(of).or_default();
                    *served = (served.0 + good, served.1 + bad);
                }
                Step::Restarts(pod) => pods[pod] = Process { started: pods[pod].started + 60, ..Process::default() },
                Step::Resets(pod) => pods[pod].served.values_mut().take(1).for_each(|served| *served = (0, 0)),
                Step::Vanishes(pod) => drop(pods[pod].served.pop_last()),
                Step::Read(but) => {
                    let seen = |(at, url): (usize, &String)| {
                        let body = parse(pods[at].shows(&format!("p{at}")).as_bytes(), |name| wanted.takes(name));
                        let missed = Error::Unavailable(Text::new("refused"));
                        (url.clone(), if but == Some(at) { Err(missed) } else { Ok(body.unwrap()) })
                    };
                    let bodies: Bodies = urls.iter().enumerate().map(seen).collect();
                    if let Reading::Read(gains) = arm.take_in(&bodies, &wanted, &slis) {
                        readings.push(gains);
                    }
                }
            }
        }
        readings
    }

    fn check(steps: Vec<Step>, from: usize, pod_label: Option<&str>) -> Result<(), TestCaseError> {
        let readings = readings(steps, pod_label);
        let window = &readings[from.min(readings.len() - 1)..];
        for (id, Sought { sli, .. }) in slis() {
            let gained: Vec<&Gained> = window.iter().map(|gains| &gains[&id]).collect();
            let Ok(whole) = tally(&sli, gained.iter().map(|gained| &gained.whole)) else { continue };
            let [parts, again] = parts::of_window(&sli, [&gained, &gained]);
            prop_assert_eq!(&parts, &again, "the same of both arms");
            prop_assert!(parts.len() <= PARTS_MAX);
            let in_order = |pair: &[Part]| (pair[0].kind, &pair[0].name) < (pair[1].kind, &pair[1].name);
            prop_assert!(parts.windows(2).all(in_order), "sorted by kind and name, each once: {:?}", parts);
            if is_something(&whole) {
                let segments = sum(&parts, PartKind::Segment);
                prop_assert_eq!(segments.as_ref(), Some(&whole));
                let pods = sum(&parts, PartKind::Pod);
                let is_one = parts::pods_with_a_tally(&sli, &gained) == Some(1);
                let untold = pods.is_none() && (pod_label.is_some() || is_one);
                prop_assert!(pods.as_ref() == Some(&whole) || untold);
                let tenants = parts.iter().filter(|part| part.kind == PartKind::Tenant).count();
                prop_assert!((1..=8).contains(&tenants), "{} tenants", tenants);
            }
        }
        Ok(())
    }

    #[test]
    fn where_one_pod_alone_has_a_histogram_it_is_the_whole() {
        let steps = vec![Step::Vanishes(1), Step::Restarts(0), Step::Serves(2, (0, 0), (1, 0))];
        check(steps.clone(), 1, None).unwrap();
        check(steps, 1, Some("pod")).unwrap();
    }

    /// What is said of a worker by these rounds of pages, two processes in each: bad and all readings, and its pods.
    fn liveness(pod_label: Option<&str>, rounds: &[[Option<&str>; 2]]) -> Vec<Option<(Tally, Vec<Part>)>> {
        let sli = Sli::Liveness { series: Selector::metric("jobs_total") };
        let wanted = Wanted::of([&sli].into_iter());
        let sought = Sought { sli: sli.clone(), split: Split::default() };
        let slis = BTreeMap::from([(SliId(0), sought)]);
        let urls: Vec<String> = (0..2).map(|pod| format!("http://pod{pod}:80/metrics")).collect();
        let targets = ArmTargets { urls: urls.clone(), labels: BTreeMap::new() };
        let mut arm = ArmState::new(targets, pod_label.map(str::to_owned));
        let told = rounds.iter().map(|pages| {
            let shown = |page: &Option<&str>| match page {
                Some(page) => Ok(parse(format!("{page}\n").as_bytes(), |name| wanted.takes(name)).unwrap()),
                None => Err(Error::Unavailable(Text::new("refused"))),
            };
            let bodies: Bodies = urls.iter().cloned().zip(pages.iter().map(shown)).collect();
            match arm.take_in(&bodies, &wanted, &slis) {
                Reading::Read(gains) => {
                    let gained = &gains[&SliId(0)];
                    let [parts, _] = parts::of_window(&sli, [&[gained], &[gained]]);
                    Some((tally(&sli, [&gained.whole].into_iter()).unwrap(), parts))
                }
                Reading::Missed(_) => None,
            }
        });
        told.skip(1).collect()
    }

    fn counted(bad: u64, total: u64) -> Tally {
        Tally::Counts(crate::domain::Counts { bad, total })
    }

    #[test]
    fn each_address_that_stands_still_is_one_bad_reading_and_a_page_that_cannot_be_read_is_none() {
        let at = |n: u32| format!("jobs_total {n}");
        let (three, five, nine) = (at(3), at(5), at(9));
        let (three, five, nine) = (Some(three.as_str()), Some(five.as_str()), Some(nine.as_str()));
        let gone = Some("other 1");
        let rounds = [[three, three], [five, three], [nine, gone], [gone, None], [three, three]];
        let told = liveness(None, &rounds);
        let whole: Vec<_> = told.iter().map(|told| told.as_ref().map(|(whole, _)| whole.clone())).collect();
        // In the last, both readings of the first process are told: the one that waited found nothing, the other that
        // it went on from zero.
        assert_eq!(whole, [Some(counted(1, 2)), Some(counted(1, 2)), None, Some(counted(2, 3))]);
        let (_, parts) = told[0].as_ref().unwrap();
        let pods: Vec<_> = parts.iter().map(|part| (part.kind, part.tally.clone())).collect();
        assert_eq!(pods, [(PartKind::Pod, counted(0, 1)), (PartKind::Pod, counted(1, 1))]);
    }

    #[test]
    fn a_page_of_several_pods_is_one_reading_that_is_good_where_any_of_them_goes_on() {
        let page = |one: u32, other: u32| format!("jobs_total{{pod=\"a\"}} {one}\njobs_total{{pod=\"b\"}} {other}");
        let pages = [page(1, 1), page(2, 1), page(2, 1)];
        let rounds: Vec<[Option<&str>; 2]> =
            pages.iter().map(|page| [Some(page.as_str()), Some("jobs_total 0")]).collect();
        let told = liveness(Some("pod"), &rounds);
        let told: Vec<_> = told.into_iter().flatten().collect();
        assert_eq!(told, [(counted(1, 2), vec![]), (counted(2, 2), vec![])], "pods of one page are not told apart");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn pods_and_segments_add_up_to_the_whole_whatever_the_processes_do(
            steps in prop::collection::vec(any_step(5), 1..60),
            many in prop::collection::vec(any_step(80), 1..200),
            from in 0..4_usize,
        ) {
            for steps in [steps, many] {
                check(steps.clone(), from, None)?;
                check(steps, from, Some("pod"))?;
            }
        }
    }
}
