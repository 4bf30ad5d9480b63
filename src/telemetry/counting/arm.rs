//! One arm: its pods, and what they gained since all of them were last read in one round.
//!
//! # Pods that come and go
//! Where the operator named the pods, an arm has those and no others, and is read when all of them are. Where a source
//! tells which pods there are, they come and go: a pod whose pages stop is *missed* after a while, and the arm with it,
//! for a pod that crashes is what telemetry is there to show; after a longer while it is *gone*, and the others go on
//! without it. What it had gained until then is counted.
//!
//! The first page of a pod is where counting starts. Only a pod that is new, and whose process says that it started
//! since the arm is watched, is known to have counted all that it shows since then. When a pod is gone, watching begins
//! anew in this sense: should it come back, it would be new, and was counted before.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    mem,
    time::Duration,
};

use super::{
    gain::Gain,
    parts::{Gained, Sought},
    rounds::{Reading, SliId},
    seen::Wanted,
    target::Target,
};
use crate::{
    domain::{Absence, Text, Timestamp},
    telemetry::exposition::Exposition,
};

/// Most pods of one arm that come and go by themselves.
pub const PODS_MAX: usize = 1_000;

/// What one pod showed at one time.
#[derive(Clone, Copy, Debug)]
pub(in crate::telemetry) struct Page<'a> {
    /// When: later than every page of this pod before. One that is not is passed over.
    pub(in crate::telemetry) at: Timestamp,
    pub(in crate::telemetry) body: &'a Exposition,
}

/// What is known of one pod since the last round.
#[derive(Clone, Debug)]
pub(in crate::telemetry) struct Shown<'a> {
    /// What the pod is called in answers; `None` where an arm has but one, or one page shows several.
    pub(in crate::telemetry) name: Option<Text>,
    /// Its pages in the order of time, perhaps none; or why it could not be read.
    pub(in crate::telemetry) pages: Result<Vec<Page<'a>>, Absence>,
}

/// What is known of an arm since the last round, by a key that tells its pods apart. The key is never shown.
pub(in crate::telemetry) type ArmPages<'a> = BTreeMap<String, Shown<'a>>;

/// When a pod that shows nothing more is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::telemetry) struct Leaving {
    /// Its arm counts as missed when its last page is older than this.
    pub(in crate::telemetry) missed_after: Duration,
    /// It is no pod of the arm any more when its last page is older than this.
    pub(in crate::telemetry) gone_after: Duration,
}

/// Which pods an arm has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Members {
    /// Those that were named.
    #[default]
    Fixed,
    /// Those that show something.
    Open(Leaving),
}

/// A pod as it was last seen.
#[derive(Debug)]
struct Pod {
    target: Target,
    name: Option<Text>,
    /// The time of its last page, or of the round in which it was first heard of.
    heard: Timestamp,
    has_shown: bool,
}

impl Pod {
    fn new(target: Target) -> Self {
        Self { target, name: None, heard: Timestamp::default(), has_shown: false }
    }
}

/// One arm: its pods, and what they gained since all of them were last read in one round.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct ArmState {
    members: Members,
    pods: BTreeMap<String, Pod>,
    labels: BTreeMap<String, String>,
    pod_label: Option<String>,
    /// Whether pods are told apart by the names that pages come with.
    is_named: bool,
    /// A pod that was not there since this time is new.
    watched_since: Option<Timestamp>,
    pending: BTreeMap<SliId, Gained>,
    /// The newest level of each pod since the last that was told of all.
    levels: BTreeMap<SliId, BTreeMap<String, Gained>>,
}

impl ArmState {
    /// An arm of these pods, by their keys. Its series bear `labels`; `pod_label` tells the pods of one page apart.
    pub(in crate::telemetry) fn fixed(
        keys: impl IntoIterator<Item = String>,
        labels: BTreeMap<String, String>,
        pod_label: Option<String>,
    ) -> Self {
        let pods = keys.into_iter().map(|key| (key, Pod::new(Target::default()))).collect();
        Self { pods, labels, pod_label, ..Self::default() }
    }

    /// An arm whose pods come and go; each comes with a name.
    pub(in crate::telemetry) fn open(labels: BTreeMap<String, String>, leaving: Leaving) -> Self {
        Self { members: Members::Open(leaving), labels, is_named: true, ..Self::default() }
    }

    /// The time of the last page of each pod that is not gone, by key.
    pub(in crate::telemetry) fn last_pages(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        self.pods.iter().filter(|(_, pod)| pod.has_shown).map(|(key, pod)| (key.as_str(), pod.heard))
    }

    /// Takes in one round. What some pods gained waits until all are read.
    pub(in crate::telemetry) fn take_in(
        &mut self,
        time: Timestamp,
        pages: &ArmPages<'_>,
        wanted: &Wanted,
        slis: &BTreeMap<SliId, Sought>,
    ) -> Reading {
        self.pending.retain(|id, _| slis.contains_key(id));
        self.levels.retain(|id, _| slis.contains_key(id));
        let mut missed = self.welcome(time, pages).err();
        for (key, shown) in pages {
            let Some(pod) = self.pods.get_mut(key) else { continue };
            pod.name.clone_from(&shown.name);
            self.is_named |= shown.name.is_some();
            match &shown.pages {
                Ok(pages) => {
                    for page in pages {
                        if pod.has_shown && page.at <= pod.heard {
                            continue;
                        }
                        (pod.heard, pod.has_shown) = (page.at, true);
                        let gains = pod.target.read(page.body, wanted, &self.labels, self.pod_label.as_deref(), slis);
                        keep(&mut self.pending, &mut self.levels, key, pod.name.as_ref(), gains, slis);
                    }
                }
                Err(why) => {
                    missed.get_or_insert_with(|| why.clone());
                }
            }
        }
        let silent = self.part_with(time, pages);
        self.watched_since.get_or_insert(time);
        match missed.or(silent) {
            Some(why) => {
                // A level is the mean over all pods at one moment: a part of it is not kept for a later one.
                self.levels.clear();
                Reading::Missed(why)
            }
            None => Reading::Read(self.gained(slis)),
        }
    }

    /// Makes room for pods that were not known.
    fn welcome(&mut self, time: Timestamp, pages: &ArmPages<'_>) -> Result<(), Absence> {
        if self.members == Members::Fixed {
            return Ok(());
        }
        for key in pages.keys() {
            if self.pods.contains_key(key) {
                continue;
            }
            if self.pods.len() >= PODS_MAX {
                return Err(Absence::Unavailable(Text::new(format!("an arm has more than {PODS_MAX} pods"))));
            }
            let target = self.watched_since.map_or_else(Target::default, Target::born_after);
            self.pods.insert(key.clone(), Pod { heard: time, ..Pod::new(target) });
        }
        Ok(())
    }

    /// Lets go of pods that are gone, and says why the arm cannot be told without one that is silent.
    fn part_with(&mut self, time: Timestamp, pages: &ArmPages<'_>) -> Option<Absence> {
        match self.members {
            Members::Fixed => {
                let unread = self.pods.iter().find(|(key, _)| !pages.contains_key(*key));
                unread.map(|(_, pod)| {
                    let name = pod.name.as_ref().map_or("a pod", Text::as_str);
                    Absence::Unavailable(Text::new(format!("{name} was not read")))
                })
            }
            Members::Open(Leaving { missed_after, gone_after }) => {
                let before = self.pods.len();
                self.pods.retain(|_, pod| time.since(pod.heard) <= gone_after);
                if self.pods.len() < before {
                    self.watched_since = Some(time);
                }
                if self.pods.is_empty() {
                    return Some(Absence::NoData);
                }
                let silent = self.pods.values().find(|pod| time.since(pod.heard) > missed_after);
                silent.map(|pod| {
                    let name = pod.name.as_ref().map_or("a pod", Text::as_str);
                    let since = time.since(pod.heard).as_secs();
                    Absence::Unavailable(Text::new(format!("{name} has shown nothing for {since} s")))
                })
            }
        }
    }

    /// What the arm gained since it was last told; an SLI whose pods showed no page since then gained nothing.
    fn gained(&mut self, slis: &BTreeMap<SliId, Sought>) -> BTreeMap<SliId, Gained> {
        let mut gained = mem::take(&mut self.pending);
        let keys: BTreeSet<&String> = self.pods.keys().collect();
        for (id, Sought { sli, .. }) in slis {
            let Some(levels) = self.levels.get_mut(id) else { continue };
            levels.retain(|key, _| keys.contains(key));
            if levels.len() < keys.len() {
                continue;
            }
            for (_, level) in mem::take(levels) {
                add(&mut gained, *id, level, sli);
            }
        }
        for (id, sought) in slis {
            let nothing = || Gained::nothing(sought, self.pod_label.as_deref(), self.is_named);
            gained.entry(*id).or_insert_with(nothing);
        }
        gained
    }
}

/// Keeps what one page gained: counts are added up, of a level only the newest of each pod counts.
fn keep(
    pending: &mut BTreeMap<SliId, Gained>,
    levels: &mut BTreeMap<SliId, BTreeMap<String, Gained>>,
    key: &str,
    name: Option<&Text>,
    gains: BTreeMap<SliId, Gained>,
    slis: &BTreeMap<SliId, Sought>,
) {
    for (id, mut gained) in gains {
        let Some(Sought { sli, .. }) = slis.get(&id) else { continue };
        if let Some(name) = name {
            gained.is_of_pod(name);
        }
        if matches!(gained.whole, Gain::Level { .. }) {
            levels.entry(id).or_default().insert(key.to_owned(), gained);
        } else {
            add(pending, id, gained, sli);
        }
    }
}

fn add(to: &mut BTreeMap<SliId, Gained>, id: SliId, gained: Gained, sli: &crate::domain::Sli) {
    match to.entry(id) {
        Entry::Occupied(mut sum) => sum.get_mut().add(gained, sli),
        Entry::Vacant(none) => {
            none.insert(gained);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{PartKind, Selector, Sli, Split},
        telemetry::{counting::parts, exposition::parse},
    };

    const ID: SliId = SliId(0);
    const LEAVING: Leaving = Leaving { missed_after: Duration::from_secs(60), gone_after: Duration::from_secs(300) };

    /// An arm whose pods come and go, and the SLI that is looked for.
    struct Arm {
        arm: ArmState,
        sli: Sli,
    }

    impl Arm {
        fn of(sli: Sli) -> Self {
            Self { arm: ArmState::open(BTreeMap::new(), LEAVING), sli }
        }

        fn ratio() -> Self {
            let (bad, total) = (Selector::metric("bad"), Selector::metric("hits"));
            Self::of(Sli::Ratio { bad, total })
        }

        /// A round at this second, and the pages in it: pod, second, text.
        fn round(&mut self, time: u64, pages: &[(&str, u64, &str)]) -> Reading {
            let wanted = Wanted::of([&self.sli].into_iter());
            let bodies: Vec<(&str, Timestamp, Exposition)> = pages
                .iter()
                .map(|(pod, at, text)| (*pod, second(*at), parse(format!("{text}\n").as_bytes(), |_| true).unwrap()))
                .collect();
            let mut shown = ArmPages::new();
            for (pod, at, body) in &bodies {
                let empty = || Shown { name: Some(Text::new(pod)), pages: Ok(Vec::new()) };
                let pages = &mut shown.entry((*pod).to_owned()).or_insert_with(empty).pages;
                pages.as_mut().unwrap().push(Page { at: *at, body });
            }
            let slis = BTreeMap::from([(ID, Sought { sli: self.sli.clone(), split: Split::default() })]);
            self.arm.take_in(second(time), &shown, &wanted, &slis)
        }

        fn total(&mut self, time: u64, pages: &[(&str, u64, &str)]) -> Result<Option<f64>, Absence> {
            match self.round(time, pages) {
                Reading::Missed(why) => Err(why),
                Reading::Read(gains) => match &gains[&ID].whole {
                    Gain::Counts { total, .. } => Ok(*total),
                    other => panic!("{other:?}"),
                },
            }
        }
    }

    fn second(at: u64) -> Timestamp {
        Timestamp::from_millis(at * 1_000)
    }

    #[test]
    fn a_pod_may_show_several_pages_in_a_round_or_none() {
        let mut arm = Arm::ratio();
        assert_eq!(arm.total(10, &[("a", 1, "hits 5"), ("a", 6, "hits 7"), ("b", 9, "hits 1")]), Ok(Some(2.0)));
        assert_eq!(arm.total(20, &[("b", 19, "hits 4")]), Ok(Some(3.0)));
        assert_eq!(arm.total(30, &[]), Ok(None), "nothing was shown, which is not a zero");
        assert_eq!(arm.total(40, &[("a", 35, "hits 2"), ("a", 40, "hits 3")]), Ok(Some(3.0)), "it began again");
    }

    #[test]
    fn a_page_that_is_told_again_or_late_is_passed_over() {
        let mut arm = Arm::ratio();
        arm.total(10, &[("a", 10, "hits 5")]).unwrap();
        assert_eq!(arm.total(20, &[("a", 10, "hits 5"), ("a", 9, "hits 4"), ("a", 18, "hits 6")]), Ok(Some(1.0)));
    }

    #[test]
    fn an_arm_without_pods_has_no_data_and_one_with_a_silent_pod_is_missed_until_that_is_gone() {
        let mut arm = Arm::ratio();
        assert_eq!(arm.total(0, &[]), Err(Absence::NoData));
        arm.total(10, &[("a", 10, "hits 1"), ("b", 10, "hits 1")]).unwrap();
        assert_eq!(arm.total(70, &[("a", 70, "hits 2")]), Ok(Some(1.0)), "it may still come");
        let missed = |total: Result<Option<f64>, Absence>, what: &str| match total {
            Err(Absence::Unavailable(why)) => assert!(why.as_str().contains(what), "{why}"),
            other => panic!("{other:?}"),
        };
        missed(arm.total(71, &[("a", 71, "hits 4")]), "b has shown nothing for 61 s");
        missed(arm.total(310, &[("a", 310, "hits 8")]), "b has shown nothing for 300 s");
        assert_eq!(arm.total(311, &[("a", 311, "hits 16")]), Ok(Some(14.0)), "what was gained meanwhile is not lost");
        assert_eq!(arm.total(700, &[]), Err(Absence::NoData), "and at last nobody is left");
    }

    #[test]
    fn a_new_pod_counts_from_its_first_page_unless_its_process_is_as_new() {
        let mut arm = Arm::ratio();
        let first = "process_start_time_seconds 5\nhits 9";
        assert_eq!(arm.total(10, &[("a", 10, first)]), Ok(Some(0.0)), "nobody watched before");
        let old = ("b", 15, "process_start_time_seconds 9.5\nhits 40");
        let new = ("c", 15, "process_start_time_seconds 10.5\nhits 3");
        assert_eq!(arm.total(20, &[("a", 15, first), old, new, ("d", 15, "hits 100")]), Ok(Some(3.0)));
        let late = ("e", 26, "process_start_time_seconds 14\nhits 7");
        assert_eq!(arm.total(30, &[late]), Ok(Some(7.0)), "it was only found late");
    }

    #[test]
    fn a_pod_that_was_gone_and_comes_back_is_not_counted_twice() {
        let mut arm = Arm::ratio();
        arm.total(10, &[("a", 10, "hits 1")]).unwrap();
        let shows = |hits: u32| format!("process_start_time_seconds 15\nhits {hits}");
        assert_eq!(arm.total(20, &[("b", 20, &shows(5))]), Ok(Some(5.0)));
        arm.total(325, &[("a", 325, "hits 1")]).unwrap();
        assert_eq!(arm.total(330, &[("b", 330, &shows(9))]), Ok(Some(0.0)), "what it gained while gone is not known");
    }

    #[test]
    fn the_level_of_an_arm_is_told_when_all_pods_have_shown_a_new_one() {
        let mut arm = Arm::of(Sli::Level { gauge: Selector::metric("load") });
        let mut level = |time, pages: &[(&str, u64, &str)]| match arm.round(time, pages) {
            Reading::Read(gains) => match gains[&ID].whole {
                Gain::Level { sum, series } => Some((sum, series)),
                ref other => panic!("{other:?}"),
            },
            Reading::Missed(_) => None,
        };
        assert_eq!(level(10, &[("a", 5, "load 9"), ("a", 9, "load 1"), ("b", 9, "load 2")]), Some((3.0, 2)));
        assert_eq!(level(20, &[("a", 19, "load 5")]), Some((0.0, 0)), "b is still to come");
        assert_eq!(level(30, &[("b", 21, "load 7")]), Some((12.0, 2)));
    }

    #[test]
    fn pods_that_come_and_go_are_parts_also_over_rounds_without_pages() {
        let mut arm = Arm::ratio();
        arm.round(10, &[("a", 10, "hits 1"), ("b", 10, "hits 1")]);
        let rounds = [
            arm.round(20, &[("a", 20, "hits 3"), ("b", 20, "hits 2")]),
            arm.round(30, &[]),
            arm.round(40, &[("a", 40, "hits 7")]),
        ];
        let gained = rounds.map(|round| match round {
            Reading::Read(mut gains) => gains.remove(&ID).unwrap(),
            Reading::Missed(why) => panic!("{why}"),
        });
        let [parts, _] = parts::of_window(&arm.sli, [&gained.each_ref(), &[]]);
        let pods: Vec<_> = parts.iter().map(|part| (part.kind, part.name.as_str())).collect();
        assert_eq!(pods, [(PartKind::Pod, "a"), (PartKind::Pod, "b")]);
    }

    #[test]
    fn the_number_of_pods_has_a_limit() {
        let mut arm = Arm::ratio();
        let names: Vec<String> = (0..=PODS_MAX).map(|pod| format!("pod {pod}")).collect();
        let pages: Vec<(&str, u64, &str)> = names.iter().map(|pod| (pod.as_str(), 1, "hits 1")).collect();
        assert_eq!(arm.total(1, &pages[..PODS_MAX]), Ok(Some(0.0)));
        assert!(matches!(arm.total(2, &pages), Err(Absence::Unavailable(why)) if why.as_str().contains("1000 pods")));
    }
}
