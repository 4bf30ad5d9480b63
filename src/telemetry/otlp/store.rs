//! What every process has sent lately: its series as they stand, within bounds on processes, series and bytes.
//!
//! # Whose clock
//! Points bear the time of the process that made them, and its clock may be wrong by any amount. How far it is off is told
//! by the least time between a point and its arrival, of the last exports: what is beyond that was the way. So an export
//! that was tried again for a minute is known to be a minute old, and a clock that is 40 s slow changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest, metrics::v1::ResourceMetrics, resource::v1::Resource,
};

use super::{
    names,
    points::{self, Family, Sighting, Sightings},
    series::{Flow, Series},
};
use crate::{
    domain::{Text, Timestamp},
    telemetry::{
        counting::{PODS_MAX, seen::START_METRIC},
        exposition::{Exposition, Kind, LABEL_VALUE_BYTES_MAX, Series as Named},
    },
};

/// Most processes of all services.
pub const ALL_PODS_MAX: usize = 4_000;
/// Most series of one process.
pub const POD_SERIES_MAX: usize = 10_000;
/// Most bytes that are kept of all processes, roughly.
pub const KEPT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Most attributes of a resource that are looked at.
pub const RESOURCE_ATTRIBUTES_MAX: usize = 256;
/// Exports by which it is told how far a clock is off.
const EXPORTS_COMPARED: usize = 8;
/// Attributes that name a process, the best first.
const POD_NAMES: [&str; 3] = ["service.instance.id", "k8s.pod.name", "host.name"];
/// Tells processes of one host apart that have no better name.
const PROCESS_ID: &str = "process.pid";
const NAMELESS: &str = "the only process";

/// How long processes are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    /// Least time between exports.
    pub(super) interval: Duration,
    /// One that has sent nothing for longer is forgotten.
    pub(super) forget_after: Duration,
}

/// What became of a request's points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// How many points are not counted.
    pub(super) rejected: u64,
    /// Why, or what else there is to say.
    pub(super) word: Option<Text>,
}

impl Taken {
    fn reject(&mut self, points: usize, why: impl AsRef<str>) {
        self.rejected += points as u64;
        if points > 0 {
            self.word.get_or_insert_with(|| Text::new(why));
        }
    }
}

/// The series of one metric of one process.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) family: Family,
    pub(super) series: BTreeMap<BTreeMap<String, String>, Series>,
}

/// One process.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) name: Text,
    /// Its attributes that tell arms apart.
    pub(super) attributes: BTreeMap<String, String>,
    /// When its first series began to count, by our clock, where it says so.
    pub(super) started: Option<Timestamp>,
    /// When what it shows was read, by our clock.
    pub(super) collected: Timestamp,
    received: Timestamp,
    /// The newest times of the first and the last export, by its own clock, in nanoseconds.
    first: u64,
    newest: u64,
    lags: VecDeque<i64>,
    pub(super) groups: BTreeMap<String, Group>,
    series: usize,
    bytes: usize,
}

/// What every process has sent.
#[derive(Debug)]
pub(super) struct Store {
    /// Which attributes each arm's processes bear; each `{revision}` stands for any text.
    patterns: Vec<BTreeMap<String, String>>,
    ages: Ages,
    /// Since when whatever is sent is seen.
    since: Timestamp,
    pods: BTreeMap<String, Pod>,
    bytes: usize,
    swept: Timestamp,
}

impl Store {
    pub(super) fn new(patterns: Vec<BTreeMap<String, String>>, ages: Ages, now: Timestamp) -> Self {
        Self { patterns, ages, since: now, pods: BTreeMap::new(), bytes: 0, swept: now }
    }

    /// Takes in what one export holds.
    pub(super) fn take_in(&mut self, request: ExportMetricsServiceRequest, now: Timestamp) -> Taken {
        self.sweep(now);
        let mut taken = Taken::default();
        for of_resource in request.resource_metrics {
            let points: usize =
                of_resource.scope_metrics.iter().flat_map(|scope| &scope.metrics).map(points::count).sum();
            match self.pod(of_resource.resource.as_ref(), now) {
                Ok(key) => {
                    if let Some(pod) = self.pods.get_mut(&key) {
                        self.bytes = self.bytes.saturating_sub(pod.bytes);
                        pod.take_in(
                            of_resource,
                            now,
                            self.since,
                            self.ages.interval,
                            KEPT_BYTES_MAX.saturating_sub(self.bytes),
                            &mut taken,
                        );
                        self.bytes += pod.bytes;
                    }
                }
                Err(why) => taken.reject(points, why),
            }
        }
        taken
    }

    /// Forgets processes that have sent nothing for long.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        if now.since(self.swept) < self.ages.interval {
            return;
        }
        self.swept = now;
        let Ages { forget_after, .. } = self.ages;
        self.pods.retain(|_, pod| now.since(pod.received) <= forget_after);
        self.bytes = self.pods.values().map(|pod| pod.bytes).sum();
    }

    /// The key of the process that a resource is, which is made where it is not known.
    fn pod(&mut self, resource: Option<&Resource>, now: Timestamp) -> Result<String, String> {
        let told = resource.iter().flat_map(|resource| &resource.attributes).take(RESOURCE_ATTRIBUTES_MAX);
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        for attribute in told {
            let value = points::value(attribute.value.as_ref());
            // By its name as a label as well, where no attribute bears that name itself.
            all.entry(names::label(&attribute.key)).or_insert_with(|| value.clone());
            all.insert(attribute.key.clone(), value);
        }
        let says = |attribute: &str| all.get(attribute).filter(|value| !value.is_empty());
        let fits = |pattern: &BTreeMap<String, String>| {
            pattern.iter().all(|(attribute, pattern)| says(attribute).is_some_and(|value| is_like(value, pattern)))
        };
        let asked: BTreeSet<&String> = self.patterns.iter().flat_map(BTreeMap::keys).collect();
        let attributes: BTreeMap<String, String> =
            asked.into_iter().filter_map(|attribute| Some((attribute.clone(), says(attribute)?.clone()))).collect();
        if !self.patterns.iter().any(fits) {
            let shown: Vec<String> = attributes
                .iter()
                .map(|(attribute, value)| format!("{attribute}={:?}", Text::new(value).as_str()))
                .collect();
            return Err(format!("no arm of a service is configured for a resource with {{{}}}", shown.join(", ")));
        }
        let name = POD_NAMES.iter().find_map(|attribute| says(attribute).map(|value| (*attribute, value)));
        let name = match (name, says(PROCESS_ID)) {
            (Some((attribute, name)), Some(process)) if attribute != "service.instance.id" => {
                format!("{name}:{process}")
            }
            (Some((_, name)), _) => name.clone(),
            (None, Some(process)) => process.clone(),
            (None, None) => NAMELESS.to_owned(),
        };
        if attributes.values().chain([&name]).any(|value| value.len() > LABEL_VALUE_BYTES_MAX) {
            return Err(format!("a resource's attribute has more than {LABEL_VALUE_BYTES_MAX} bytes"));
        }
        let key = format!("{attributes:?} {name:?}");
        if !self.pods.contains_key(&key) {
            let of_arm = self.pods.values().filter(|pod| pod.attributes == attributes).count();
            if of_arm >= PODS_MAX || self.pods.len() >= ALL_PODS_MAX {
                return Err(format!(
                    "more than {PODS_MAX} processes of an arm, or {ALL_PODS_MAX} of all, send metrics"
                ));
            }
            let pod = Pod::new(Text::new(name), attributes, now);
            self.bytes += pod.bytes;
            self.pods.insert(key.clone(), pod);
        }
        Ok(key)
    }

    /// The processes that bear these attributes, by key.
    pub(super) fn of_arm<'a>(
        &'a self,
        arm: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = (&'a String, &'a Pod)> {
        self.pods.iter().filter(move |(_, pod)| {
            arm.iter().all(|(name, wanted)| pod.attributes.get(name).is_some_and(|value| is_like(value, wanted)))
        })
    }

    /// Whether every process of this arm has shown how it stood at this time or later, but for those that are silent.
    pub(super) fn is_told(
        &self,
        arm: &BTreeMap<String, String>,
        at: Timestamp,
        now: Timestamp,
        silent_after: Duration,
    ) -> bool {
        self.of_arm(arm).all(|(_, pod)| pod.collected >= at || now.since(pod.received) > silent_after)
    }

    /// What a process shows of the metrics that are wanted, by their names in Prometheus' words or their own; of levels
    /// those that it has shown within `stale_after` of its last export.
    pub(super) fn page(&self, pod: &Pod, stale_after: Duration, wanted: impl Fn(&str) -> bool) -> Exposition {
        let (mut samples, mut kinds) = (Vec::new(), BTreeMap::new());
        if let Some(started) = pod.started {
            let start = Named { name: START_METRIC.to_owned(), labels: BTreeMap::new() };
            samples.push((start, started.as_millis() as f64 / 1_000.0));
        }
        let stale = u64::try_from(stale_after.as_nanos()).unwrap_or(u64::MAX);
        let oldest_level = pod.newest.saturating_sub(stale);
        for Group { family, series } in pod.groups.values() {
            let second = (family.raw != family.name).then_some(&family.raw);
            for name in std::iter::once(&family.name).chain(second) {
                if family.kind == Kind::Histogram {
                    let (bucket, count) = (format!("{name}_bucket"), format!("{name}_count"));
                    let wanted = [&bucket, &count].map(|name| wanted(name));
                    if !wanted.contains(&true) {
                        continue;
                    }
                    kinds.insert(name.clone(), family.kind);
                    for (labels, series) in series {
                        put_histogram(&mut samples, [&bucket, &count], wanted, labels, series);
                    }
                } else if wanted(name) {
                    kinds.insert(name.clone(), family.kind);
                    for (labels, series) in series {
                        let is_over = series.flow() == Flow::Level && series.time() < oldest_level;
                        if let Some(value) = series.number().filter(|_| !is_over) {
                            samples.push((Named { name: name.clone(), labels: labels.clone() }, value));
                        }
                    }
                }
            }
        }
        Exposition::of(samples, kinds)
    }
}

fn put_histogram(
    samples: &mut Vec<(Named, f64)>,
    [bucket, count]: [&String; 2],
    [buckets_wanted, count_wanted]: [bool; 2],
    labels: &BTreeMap<String, String>,
    series: &Series,
) {
    let Some((edges, counts)) = series.buckets() else { return };
    if buckets_wanted {
        let edges = edges.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (edge, count) in edges.zip(&counts) {
            let mut labels = labels.clone();
            labels.insert("le".to_owned(), edge);
            samples.push((Named { name: bucket.clone(), labels }, *count as f64));
        }
    }
    if let Some(all) = counts.last().filter(|_| count_wanted) {
        samples.push((Named { name: count.clone(), labels: labels.clone() }, *all as f64));
    }
}

impl Pod {
    fn new(name: Text, attributes: BTreeMap<String, String>, now: Timestamp) -> Self {
        let bytes =
            size_of::<Self>() + attributes.iter().map(|(name, value)| 64 + name.len() + value.len()).sum::<usize>();
        Self {
            name,
            attributes,
            started: None,
            collected: Timestamp::EPOCH,
            received: now,
            first: 0,
            newest: 0,
            lags: VecDeque::new(),
            groups: BTreeMap::new(),
            series: 0,
            bytes,
        }
    }

    fn take_in(
        &mut self,
        metrics: ResourceMetrics,
        now: Timestamp,
        since: Timestamp,
        interval: Duration,
        room: usize,
        taken: &mut Taken,
    ) {
        let mut all = Vec::new();
        for of_scope in metrics.scope_metrics {
            for metric in of_scope.metrics {
                let count = points::count(&metric);
                match points::sightings(metric, of_scope.scope.as_ref()) {
                    Ok(Sightings { family, flow, points, word }) => {
                        if let Some(word) = word {
                            taken.word.get_or_insert_with(|| Text::new(word));
                        }
                        let good: Vec<Sighting> = points
                            .into_iter()
                            .filter_map(|point| point.map_err(|why| taken.reject(1, why)).ok())
                            .collect();
                        all.push((family, flow, good));
                    }
                    Err(why) => taken.reject(count, why),
                }
            }
        }
        let Some(newest) = all.iter().flat_map(|(_, _, points)| points).map(|sighting| sighting.time).max() else {
            return;
        };
        self.heard(newest, now);
        let grace = u64::try_from(interval.as_nanos() / 2).unwrap_or(u64::MAX);
        for (family, flow, points) in all {
            for sighting in points {
                let begins = sighting.point.as_ref().map_or(0, |point| point.start);
                let begins = (begins > 0).then(|| self.by_our_clock(begins));
                // A process sends all that it counts with each export, so what comes with a later one is new.
                let is_new =
                    begins.is_some_and(|begins| begins >= since) || sighting.time > self.first.saturating_add(grace);
                if let Some(begins) = begins {
                    self.started = Some(self.started.map_or(begins, |started| started.min(begins)));
                }
                if let Err(why) = self.put(&family, flow, sighting, is_new, room) {
                    taken.reject(1, why);
                }
            }
        }
    }

    /// Notes when it was heard of, and how old what it says is.
    fn heard(&mut self, newest: u64, now: Timestamp) {
        if self.first == 0 {
            self.first = newest;
        }
        self.newest = self.newest.max(newest);
        self.received = now;
        if self.lags.len() == EXPORTS_COMPARED {
            self.lags.pop_front();
        }
        self.lags.push_back(signed(now.as_millis()) - signed(newest / 1_000_000));
        self.collected = self.collected.max(self.by_our_clock(newest).min(now));
    }

    /// A time of its clock by ours.
    fn by_our_clock(&self, nanos: u64) -> Timestamp {
        let lag = self.lags.iter().min().copied().unwrap_or_default();
        let millis = signed(nanos / 1_000_000).saturating_add(lag);
        Timestamp::from_millis(u64::try_from(millis).unwrap_or_default())
    }

    fn put(
        &mut self,
        family: &Family,
        flow: Flow,
        sighting: Sighting,
        is_new: bool,
        room: usize,
    ) -> Result<(), &'static str> {
        let Sighting { labels, point, .. } = sighting;
        if let Some(group) = self.groups.get_mut(&family.name) {
            if group.family.kind != family.kind {
                return Err("a metric is shown as two kinds");
            }
            if let Some(series) = group.series.get_mut(&labels) {
                let Some(point) = point else {
                    if flow == Flow::Level {
                        group.series.remove(&labels);
                        self.series -= 1;
                    }
                    return Ok(());
                };
                let before = series.size();
                let put = series.take(flow, point);
                self.bytes = (self.bytes + series.size()).saturating_sub(before);
                return put;
            }
        }
        let Some(point) = point else { return Ok(()) };
        if self.series >= POD_SERIES_MAX {
            return Err("a process has more series than are kept: an attribute holds too many values");
        }
        let series = Series::new(flow, point, is_new);
        let labels_bytes: usize = labels.iter().map(|(name, value)| 64 + name.len() + value.len()).sum();
        let bytes = 64 + labels_bytes + series.size();
        if self.bytes + bytes > room {
            return Err("there is no room for more series");
        }
        if !self.groups.contains_key(&family.name) {
            self.bytes += 256 + 2 * family.name.len() + family.raw.len() + family.help.as_str().len();
            self.groups.insert(family.name.clone(), Group { family: family.clone(), series: BTreeMap::new() });
        }
        if let Some(group) = self.groups.get_mut(&family.name) {
            group.series.insert(labels, series);
            self.series += 1;
            self.bytes += bytes;
        }
        Ok(())
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Whether a value is as written, where `{revision}` stands for any text.
fn is_like(value: &str, pattern: &str) -> bool {
    match pattern.split_once(super::PLACEHOLDER) {
        None => value == pattern,
        Some((before, after)) => {
            let after = after.rsplit(super::PLACEHOLDER).next().unwrap_or_default();
            value.strip_prefix(before).is_some_and(|rest| rest.ends_with(after))
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        common::v1::{AnyValue, KeyValue, any_value::Value},
        metrics::v1::{Gauge, Metric, NumberDataPoint, ScopeMetrics, metric::Data, number_data_point::Value as Number},
    };

    use super::*;

    fn store() -> Store {
        let arm = BTreeMap::from([
            ("service.name".to_owned(), "shop".to_owned()),
            ("service.version".to_owned(), "v{revision}".to_owned()),
        ]);
        let second = Duration::from_secs(1);
        let ages = Ages { interval: 10 * second, forget_after: 600 * second };
        Store::new(vec![arm], ages, at(0))
    }

    /// Seconds of our clock.
    fn at(second: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000 + 1_000 * second)
    }

    /// An export of one gauge, read at this second of the process' clock.
    fn export(resource: &[(&str, &str)], second: u64) -> ExportMetricsServiceRequest {
        let attribute = |(key, value): &(&str, &str)| KeyValue {
            key: (*key).into(),
            value: Some(AnyValue { value: Some(Value::StringValue((*value).into())) }),
            ..KeyValue::default()
        };
        let time_unix_nano = at(second).as_millis() * 1_000_000;
        let point = NumberDataPoint { time_unix_nano, value: Some(Number::AsInt(1)), ..NumberDataPoint::default() };
        let data = Some(Data::Gauge(Gauge { data_points: vec![point] }));
        let metrics = vec![Metric { name: "up".into(), data, ..Metric::default() }];
        let resource = Resource { attributes: resource.iter().map(attribute).collect(), ..Resource::default() };
        let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
        let of_resource = ResourceMetrics { resource: Some(resource), scope_metrics, ..ResourceMetrics::default() };
        ExportMetricsServiceRequest { resource_metrics: vec![of_resource] }
    }

    const SHOP: [(&str, &str); 2] = [("service.name", "shop"), ("service.version", "v7")];

    fn names(resource: &[(&str, &str)]) -> Vec<String> {
        let mut store = store();
        let all: Vec<(&str, &str)> = SHOP.iter().chain(resource).copied().collect();
        store.take_in(export(&all, 1), at(1));
        store.pods.values().map(|pod| pod.name.as_str().to_owned()).collect()
    }

    #[test]
    fn a_process_is_named_by_the_best_that_it_tells() {
        for (resource, name) in [
            (&[("host.name", "h"), ("k8s.pod.name", "p"), ("service.instance.id", "i"), ("process.pid", "9")][..], "i"),
            (&[("host.name", "h"), ("k8s.pod.name", "p")], "p"),
            (&[("host.name", "h"), ("process.pid", "9")], "h:9"),
            (&[("service.instance.id", ""), ("host.name", "h")], "h"),
            (&[("process.pid", "9")], "9"),
            (&[], NAMELESS),
        ] {
            assert_eq!(names(resource), [name], "{resource:?}");
        }
    }

    #[test]
    fn only_resources_of_a_configured_arm_are_kept_and_arms_are_told_by_revision() {
        let mut store = store();
        for (resource, taken) in [
            (&SHOP[..], true),
            (&[("service.name", "shop"), ("service.version", "v8")], true),
            (&[("service_name", "shop"), ("service_version", "v8")], false),
            (&[("service.name", "shop"), ("service.version", "8")], false),
            (&[("service.name", "other"), ("service.version", "v8")], false),
            (&[("service.name", "shop")], false),
            (&[], false),
        ] {
            assert_eq!(store.take_in(export(resource, 1), at(1)).rejected, u64::from(!taken), "{resource:?}");
        }
        store.patterns.push(BTreeMap::from([("tenant_id".into(), "acme".into())]));
        assert_eq!(store.take_in(export(&[("tenant.id", "acme")], 1), at(1)).rejected, 0, "told by a label's name");
        let arm = |version: &str| {
            BTreeMap::from([("service.name".into(), "shop".into()), ("service.version".into(), version.to_owned())])
        };
        assert_eq!(store.of_arm(&arm("v7")).count(), 1);
        assert_eq!(store.of_arm(&arm("v{revision}")).count(), 2);
    }

    #[test]
    fn how_old_an_export_is_is_told_whatever_the_clock_of_its_process() {
        let mut store = store();
        let collected = |store: &Store| store.pods.values().next().unwrap().collected;
        // The clock is a hundred seconds slow, and the way takes a second.
        store.take_in(export(&SHOP, 0), at(101));
        store.take_in(export(&SHOP, 10), at(110));
        assert_eq!(collected(&store), at(110));
        // Tried again for seven seconds.
        store.take_in(export(&SHOP, 20), at(127));
        assert_eq!(collected(&store), at(120));
        // The clock is set right: the export is from now and not from the future.
        store.take_in(export(&SHOP, 130), at(130));
        assert_eq!(collected(&store), at(130));
        // It is set back again; within some exports that is known.
        for tenth in 4..14 {
            store.take_in(export(&SHOP, 10 * tenth), at(100 + 10 * tenth));
        }
        assert_eq!(collected(&store), at(230));
    }

    #[test]
    fn a_round_waits_for_those_who_are_not_silent() {
        let mut store = store();
        let arm = store.patterns[0].clone();
        let silent = Duration::from_secs(30);
        assert!(store.is_told(&arm, at(5), at(5), silent), "there is nobody to wait for");
        store.take_in(export(&SHOP, 4), at(4));
        assert!(!store.is_told(&arm, at(5), at(6), silent));
        assert!(store.is_told(&arm, at(5), at(35), silent), "it is silent for too long");
        store.take_in(export(&SHOP, 6), at(6));
        assert!(store.is_told(&arm, at(5), at(6), silent));
    }

    #[test]
    fn the_forgotten_take_up_no_room_and_the_limits_of_processes_hold() {
        let mut store = store();
        let nothing = store.bytes;
        let export_of = |process: usize| {
            let name = process.to_string();
            export(&[SHOP[0], SHOP[1], ("service.instance.id", &name)], 1)
        };
        for process in 0..PODS_MAX {
            assert_eq!(store.take_in(export_of(process), at(1)).rejected, 0);
        }
        let refused = store.take_in(export_of(PODS_MAX), at(1));
        assert!(refused.rejected == 1 && refused.word.unwrap().as_str().contains("more than 1000 processes"));
        assert!(store.bytes > PODS_MAX * 100);
        store.sweep(at(700));
        assert_eq!((store.pods.len(), store.bytes), (0, nothing));
        assert_eq!(store.take_in(export_of(PODS_MAX), at(701)).rejected, 0);
    }

    #[test]
    fn beyond_the_bytes_that_are_kept_nothing_new_is_taken_up() {
        let mut pod = Pod::new(Text::new("p"), BTreeMap::new(), at(0));
        let family = Family { name: "up".into(), raw: "up".into(), kind: Kind::Gauge, help: Text::default() };
        let sighting = |label: &str| {
            let point = super::super::series::Point { start: 0, time: 1, shown: super::super::series::Shown::Whole(1) };
            Sighting { labels: BTreeMap::from([("a".into(), label.into())]), time: 1, point: Some(point) }
        };
        assert_eq!(pod.put(&family, Flow::Level, sighting("x"), true, 100_000), Ok(()));
        let room = pod.bytes;
        assert!(pod.put(&family, Flow::Level, sighting("y"), true, room).is_err());
        assert_eq!(pod.put(&family, Flow::Level, sighting("x"), true, room), Ok(()), "what is known goes on");
    }
}
