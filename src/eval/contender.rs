//! Whoever watches a rollout and may take it back: our tests and our rivals' methods, behind one trait, so that all of them
//! see the same draws.

use std::time::Duration;

use super::noise::{SCRAPE_SECONDS, Scrape};
use crate::{
    domain::{
        Aim, Check, CheckName, Counts, Direction, Evidence, Origin, Part, PartKind, Reading, Selector, Sli, Tally,
        Text, Weight,
    },
    stats::{Block, Calibration, Running, SequentialTest, Setting},
};

/// Chance of rolling back a harmless canary that our tests promise.
pub const ALPHA: f64 = 0.001;
/// From this many times as bad on, a canary must not be called safe.
pub const SAFE_RATIO: f64 = 2.0;

/// What is known before the first scrape.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Canary pods.
    pub canary_pods: usize,
    /// Pods of the old version beside them.
    pub control_pods: usize,
    /// Part of the requests that fail on the old version. A rival whose bound is static is told the truth.
    pub error_rate: f64,
    /// What our tests learnt from history.
    pub calibration: &'a Calibration,
}

/// One scrape, and the sums of its arms.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Pod by pod.
    pub scrape: &'a Scrape,
    /// The canary.
    pub canary: Counts,
    /// The old version beside it.
    pub control: Counts,
    /// Further pods of the old version, as many as the canary has; not part of `control`.
    pub baseline: Counts,
}

impl<'a> Seen<'a> {
    /// Adds the pods of each arm up.
    pub fn of(scrape: &'a Scrape) -> Self {
        let sum = |pods: &[Counts]| pods.iter().fold(Counts::default(), |sum, pod| sum.plus(*pod));
        Self { scrape, canary: sum(&scrape.canary), control: sum(&scrape.control), baseline: sum(&scrape.baseline) }
    }
}

/// Whoever watches a rollout.
pub trait Contender {
    /// Takes in the next scrape.
    fn observe(&mut self, seen: &Seen<'_>);

    /// Whether it has taken the canary back; once it has, it is asked no more.
    fn has_rolled_back(&self) -> bool;
}

/// How a contender begins.
pub type Start = fn(&Known<'_>) -> Box<dyn Contender>;

/// Lets contenders watch one rollout: after how many seconds each of them took it back, if it did.
pub fn watch(starts: &[Start], known: &Known<'_>, scrapes: &[Scrape]) -> Vec<Option<u32>> {
    let mut contenders: Vec<_> = starts.iter().map(|start| (start(known), None)).collect();
    for (i, scrape) in scrapes.iter().enumerate() {
        let seen = Seen::of(scrape);
        for (contender, rolled_back) in contenders.iter_mut().filter(|(_, rolled_back)| rolled_back.is_none()) {
            contender.observe(&seen);
            if contender.has_rolled_back() {
                *rolled_back = Some(seconds(i));
            }
        }
    }
    contenders.into_iter().map(|(_, rolled_back)| rolled_back).collect()
}

/// Whoever watches looks of any sort, one after the other: whether it has decided.
pub type Watcher<'a, Look> = Box<dyn FnMut(&Look) -> bool + 'a>;

/// Lets them watch one rollout, until all have decided: after how many seconds each of them did.
pub fn watch_each<Look>(mut watchers: Vec<Watcher<'_, Look>>, looks: &[Look]) -> Vec<Option<u32>> {
    let mut decided = vec![None; watchers.len()];
    for (i, look) in looks.iter().enumerate() {
        for (watcher, decided) in watchers.iter_mut().zip(&mut decided).filter(|(_, decided)| decided.is_none()) {
            if watcher(look) {
                *decided = Some(seconds(i));
            }
        }
        if decided.iter().all(Option::is_some) {
            break;
        }
    }
    decided
}

/// Seconds since the start at the end of the scrape with this index.
pub fn seconds(scrape: usize) -> u32 {
    ((scrape + 1) as f64 * SCRAPE_SECONDS) as u32
}

/// Our test of one check, fed scrape by scrape as the daemon does: looks add up to a block as the calibration asks.
#[derive(Clone, Debug)]
pub struct Watched {
    check: Check,
    calibration: Calibration,
    running: Running,
    per_block: u32,
    gathered: u32,
    block: Option<(Reading, Reading)>,
    has_rolled_back: bool,
    is_shown_safe: bool,
}

impl Watched {
    /// Starts the test that serves `check`.
    pub fn start(check: Check, calibration: Calibration) -> Self {
        let running = Running::start(&check);
        let per_block = (calibration.block.as_secs_f64() / SCRAPE_SECONDS).round().max(1.0) as u32;
        Self {
            check,
            calibration,
            running,
            per_block,
            gathered: 0,
            block: None,
            has_rolled_back: false,
            is_shown_safe: false,
        }
    }

    /// Scrapes that make up a block.
    pub fn scrapes_per_block(&self) -> u32 {
        self.per_block
    }

    /// Takes in one scrape of both arms; scrapes add up to blocks.
    pub fn look(&mut self, control: &Reading, canary: &Reading) {
        if self.per_block == 1 {
            return self.judge(control, canary);
        }
        let sum = match self.block.take() {
            None => Some((control.clone(), canary.clone())),
            Some((so_far, canary_so_far)) => so_far.plus(control).zip(canary_so_far.plus(canary)),
        };
        self.gathered += 1;
        if self.gathered < self.per_block {
            self.block = sum;
            return;
        }
        self.gathered = 0;
        if let Some((control, canary)) = sum {
            self.judge(&control, &canary);
        }
    }

    /// Takes in a whole block of both arms, added up by the caller.
    pub fn judge(&mut self, control: &Reading, canary: &Reading) {
        let span = Duration::from_secs_f64(SCRAPE_SECONDS * f64::from(self.per_block));
        let setting = Setting {
            check: &self.check,
            calibration: &self.calibration,
            safe_ratio: SAFE_RATIO,
            pod_incident: crate::stats::POD_INCIDENT,
        };
        self.running.observe(&setting, &Block { control, canary, span });
        self.has_rolled_back |= self.running.log_e_value() >= -ALPHA.ln();
        self.is_shown_safe |= !self.has_rolled_back && self.running.log_e_safe() >= -Evidence::BETA.ln();
    }

    /// Whether the evidence was enough for a rollback.
    pub fn has_rolled_back(&self) -> bool {
        self.has_rolled_back
    }

    /// Whether it was shown at any time that the canary is safe.
    pub fn is_shown_safe(&self) -> bool {
        self.is_shown_safe
    }
}

/// Our test of bad among all on drawn counts.
pub struct Ours {
    watched: Watched,
    control: Reading,
    canary: Reading,
    gathered: u32,
    has_parts: bool,
}

impl Ours {
    /// Tolerates `ratio_max`; `has_parts` says whether telemetry can tell pods and tenants apart.
    pub fn start(known: &Known<'_>, ratio_max: f64, calibration: Calibration, has_parts: bool) -> Self {
        let pods = |pods| if has_parts { pods } else { 0 };
        Self {
            watched: Watched::start(ratio_check(ratio_max), calibration),
            control: reading(pods(known.control_pods)),
            canary: reading(pods(known.canary_pods)),
            gathered: 0,
            has_parts,
        }
    }

    /// Whether it was shown at any time that the canary is safe.
    pub fn is_shown_safe(&self) -> bool {
        self.watched.is_shown_safe()
    }
}

impl Contender for Ours {
    fn observe(&mut self, seen: &Seen<'_>) {
        // The readings are added up in place: to build them anew for each scrape would cost more than the test.
        for (reading, whole, pods, is_canary) in [
            (&mut self.canary, seen.canary, &seen.scrape.canary, true),
            (&mut self.control, seen.control, &seen.scrape.control, false),
        ] {
            if self.gathered == 0 {
                empty(reading);
            }
            let (mut pod_parts, tenants) = (pods.iter(), &seen.scrape.tenants);
            add(&mut reading.tally, whole);
            for part in reading.parts.iter_mut().filter(|part| part.kind == PartKind::Pod) {
                pod_parts.next().into_iter().for_each(|counts| add(&mut part.tally, *counts));
            }
            if self.has_parts {
                for (tenant, _, counts) in tenants.iter().filter(|(_, on_canary, _)| *on_canary == is_canary) {
                    add(tenant_of(reading, *tenant), *counts);
                }
            }
        }
        self.gathered += 1;
        if self.gathered == self.watched.scrapes_per_block() {
            self.gathered = 0;
            self.watched.judge(&self.control, &self.canary);
        }
    }

    fn has_rolled_back(&self) -> bool {
        self.watched.has_rolled_back()
    }
}

fn reading(pods: usize) -> Reading {
    let pod = |pod| Part { kind: PartKind::Pod, name: Text::new(format!("pod-{pod:02}")), tally: nothing() };
    Reading { tally: nothing(), parts: (0..pods).map(pod).collect() }
}

fn nothing() -> Tally {
    Tally::Counts(Counts::default())
}

fn empty(reading: &mut Reading) {
    reading.tally = nothing();
    reading.parts.iter_mut().for_each(|part| part.tally = nothing());
}

fn add(tally: &mut Tally, more: Counts) {
    if let Tally::Counts(counts) = tally {
        *counts = counts.plus(more);
    }
}

/// The part of a tenant, which is new where it was not seen before.
fn tenant_of(reading: &mut Reading, tenant: usize) -> &mut Tally {
    let name = Text::new(format!("tenant-{tenant:02}"));
    let at = reading.parts.partition_point(|part| (part.kind, &part.name) < (PartKind::Tenant, &name));
    if reading.parts.get(at).is_none_or(|part| part.name != name) {
        reading.parts.insert(at, Part { kind: PartKind::Tenant, name, tally: nothing() });
    }
    match reading.parts.get_mut(at) {
        Some(part) => &mut part.tally,
        None => &mut reading.tally,
    }
}

/// A check on failed requests among all.
pub fn ratio_check(ratio_max: f64) -> Check {
    let (bad, total) = (Selector::metric("requests_failed_total"), Selector::metric("requests_total"));
    check(Sli::Ratio { bad, total }, ratio_max)
}

/// A critical check of which more is worse.
pub fn check(sli: Sli, ratio_max: f64) -> Check {
    Check {
        name: CheckName::new(sli.kind()),
        sli,
        direction: Direction::HigherIsWorse,
        ratio_max,
        limit: None,
        aim: Aim::Guard,
        weight: Weight::Critical,
        origin: Origin::Slo,
        rationale: Text::default(),
        lines: Vec::new(),
        split: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(canary_bad: u64) -> Scrape {
        let pods = |n: usize, bad| vec![Counts { bad, total: 100 }; n];
        Scrape { canary: pods(2, canary_bad), control: pods(18, 1), baseline: pods(2, 1), tenants: Vec::new() }
    }

    fn known(calibration: &Calibration) -> Known<'_> {
        Known { canary_pods: 2, control_pods: 18, error_rate: 0.01, calibration }
    }

    #[test]
    fn the_moment_of_the_rollback_is_the_end_of_the_scrape_that_proves_it() {
        struct After(u32);
        impl Contender for After {
            fn observe(&mut self, _: &Seen<'_>) {
                self.0 -= 1;
            }
            fn has_rolled_back(&self) -> bool {
                self.0 == 0
            }
        }
        let calibration = Calibration::untrusted();
        let starts: [Start; 2] = [|_| Box::new(After(3)), |_| Box::new(After(50))];
        assert_eq!(watch(&starts, &known(&calibration), &vec![scrape(1); 10]), [Some(45), None]);
    }

    #[test]
    fn a_block_of_several_scrapes_is_their_sum_and_a_bad_canary_is_found() {
        let blocks_of = |seconds| Calibration { block: Duration::from_secs(seconds), ..Calibration::untrusted() };
        for (calibration, multiple) in [(blocks_of(15), 15), (blocks_of(60), 60), (blocks_of(0), 15)] {
            let start = |bad| {
                let mut ours = Ours::start(&known(&calibration), 1.25, calibration.clone(), true);
                (0..480).position(|_| {
                    ours.observe(&Seen::of(&scrape(bad)));
                    ours.has_rolled_back()
                })
            };
            let found = start(30).map(seconds);
            assert!(found.is_some_and(|found| found % multiple == 0 && found <= 900), "{found:?}");
            assert_eq!(start(1), None);
        }
    }

    #[test]
    fn tenants_come_after_pods_in_a_reading() {
        let calibration = Calibration::untrusted();
        let mut ours = Ours::start(&known(&calibration), 1.25, calibration.clone(), true);
        let mut drawn = scrape(1);
        drawn.tenants = vec![(0, true, Counts { bad: 1, total: 2 }), (1, false, Counts { bad: 3, total: 4 })];
        for _ in 0..2 {
            ours.observe(&Seen::of(&drawn));
        }
        assert_eq!(ours.canary.parts.len(), 3);
        assert_eq!(ours.control.parts.len(), 19);
        let doubled = |counts: Counts| Tally::Counts(counts.plus(counts));
        assert_eq!(ours.canary.parts[2].tally, doubled(Counts { bad: 1, total: 2 }));
        assert_eq!(ours.control.tally, doubled(Counts { bad: 18, total: 1800 }), "two scrapes of a block of four");
        assert!(ours.control.parts.is_sorted_by_key(|part| (part.kind, part.name.clone())));
        assert_eq!(ours.control.parts[18].tally, doubled(Counts { bad: 3, total: 4 }));
    }
}
