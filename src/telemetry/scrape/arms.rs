//! The addresses of two arms, and a round of reading them all once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use reqwest::{Client, Url};

use super::{
    ArmTargets,
    fetch::{fetch, place},
};
use crate::{
    domain::{Absence, Text, Timestamp},
    telemetry::{
        Clock, Error,
        counting::{
            arm::{ArmPages, ArmState, Page, Shown},
            pair::Pair,
        },
        exposition::Exposition,
    },
};

/// Most endpoints of one pair that are read at the same moment.
const FETCHES_AT_ONCE: usize = 8;

/// What the endpoints answered in one round, by address. An endpoint of both arms is read once.
pub(super) type Bodies = BTreeMap<String, Result<Exposition, Error>>;

/// The addresses of one arm, and the pod that each of them is, where pods are told apart by address.
#[derive(Debug)]
pub(super) struct Addresses(BTreeMap<String, Option<Text>>);

impl Addresses {
    /// The addresses, and the arm that is read there. Each is a pod by itself where no label tells them apart.
    pub(super) fn of(targets: ArmTargets, pod_label: Option<&str>) -> (Self, ArmState) {
        let names = names(&targets.urls, pod_label);
        let urls: BTreeSet<String> = targets.urls.into_iter().collect();
        let arm = ArmState::fixed(urls.iter().cloned(), targets.labels, pod_label.map(str::to_owned));
        (Self(urls.into_iter().map(|url| (url.clone(), names.get(&url).cloned())).collect()), arm)
    }

    /// What these bodies say of the arm.
    pub(super) fn pages<'a>(&self, at: Timestamp, bodies: &'a Bodies) -> ArmPages<'a> {
        let shown = |(url, name): (&String, &Option<Text>)| {
            let pages = match bodies.get(url) {
                Some(Ok(body)) => Ok(vec![Page { at, body }]),
                Some(Err(error)) => Err(Absence::from(error.clone())),
                None => Err(Absence::Unavailable(Text::new(format!("{}: was not read", place(url))))),
            };
            (url.clone(), Shown { name: name.clone(), pages })
        };
        self.0.iter().map(shown).collect()
    }
}

/// What the pods at these addresses are called; nothing where there is one, or a label tells them apart.
pub(super) fn names(urls: &[String], pod_label: Option<&str>) -> BTreeMap<String, Text> {
    let urls: BTreeSet<&String> = urls.iter().collect();
    if pod_label.is_some() || urls.len() < 2 { BTreeMap::new() } else { pod_names(urls.into_iter()) }
}

/// Two arms and where they are read.
#[derive(Debug)]
pub(super) struct Arms {
    pub(super) pair: Pair,
    control: Addresses,
    canary: Addresses,
}

impl Arms {
    /// Two arms; `pod_label` tells the pods of one page apart.
    pub(super) fn new(control: ArmTargets, canary: ArmTargets, pod_label: Option<&str>) -> Self {
        let (control, control_state) = Addresses::of(control, pod_label);
        let (canary, canary_state) = Addresses::of(canary, pod_label);
        Self { pair: Pair::new(control_state, canary_state), control, canary }
    }

    /// Reads every target of both arms once.
    pub(super) async fn round(&self, client: &Client, timeout: Duration, clock: &Clock, keep: Duration) {
        let due = self.pair.due(clock());
        let urls: BTreeSet<String> = self.control.0.keys().chain(self.canary.0.keys()).cloned().collect();
        let wanted = Arc::new(due.wanted.clone());
        let fetches = urls.into_iter().map(|url| {
            let wanted = Arc::clone(&wanted);
            async move {
                let body = fetch(client, &url, timeout, |name| wanted.takes(name)).await;
                (url, body)
            }
        });
        let bodies: Bodies = stream::iter(fetches).buffer_unordered(FETCHES_AT_ONCE).collect().await;
        let pages = |arm: &Addresses| arm.pages(due.time, &bodies);
        self.pair.feed(&due, &pages(&self.control), &pages(&self.canary), keep);
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

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::{Match, PARTS_MAX, Part, PartKind, Selector, Sli, Split, Tally},
        telemetry::{
            counting::{
                gain::tally,
                parts::{self, Gained, Sought},
                rounds::{Reading, SliId},
                seen::Wanted,
            },
            exposition::parse,
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
        let (addresses, mut arm) = Addresses::of(targets, pod_label);
        let mut pods = vec![Process::default(); PODS];
        pods.iter_mut().for_each(|pod| {
            pod.served.insert((1, 1), (10, 1));
        });
        let mut readings = Vec::new();
        for (time, step) in (1..).zip([Step::Read(None)].into_iter().chain(steps).chain([Step::Read(None)])) {
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
                    let time = Timestamp::from_millis(time);
                    let pages = addresses.pages(time, &bodies);
                    if let Reading::Read(gains) = arm.take_in(time, &pages, &wanted, &slis) {
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
        let (addresses, mut arm) = Addresses::of(targets, pod_label);
        let told = (1..).zip(rounds).map(|(time, pages)| {
            let shown = |page: &Option<&str>| match page {
                Some(page) => Ok(parse(format!("{page}\n").as_bytes(), |name| wanted.takes(name)).unwrap()),
                None => Err(Error::Unavailable(Text::new("refused"))),
            };
            let bodies: Bodies = urls.iter().cloned().zip(pages.iter().map(shown)).collect();
            let time = Timestamp::from_millis(time);
            match arm.take_in(time, &addresses.pages(time, &bodies), &wanted, &slis) {
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
