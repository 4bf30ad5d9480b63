//! Counts an SLI over the pages that were kept, as if they were read once more.
//!
//! The very reader of rounds is fed with what each page showed, so restarts, births and pages that could not be read are
//! told as in a rollout, and the sums are the same. A block is what was gained from one reading of all pages to the next;
//! the first reading is only where counting starts. What was gained while a page could not be read is in the block in which
//! it could be read again, and the blocks between are absences.
//!
//! The work is bounded by how many values are read again, and the answer by how many numbers its parts hold.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{
    arm::{ArmState, Page, Shown},
    gain::tally,
    parts::{self, Gained, Sought},
    ring::{Ring, unpack},
    rounds::{Reading as Round, SliId},
    seen::{START_METRIC, Wanted},
};
use crate::{
    domain::{Absence, Reading, Sli, Split, Text, Timestamp},
    telemetry::{
        Error, Past,
        exposition::{Exposition, Kind, Series},
    },
};

/// Most values that are read again for one look at the past.
pub const REPLAYED_MAX: usize = 2_000_000;
/// Most numbers in the parts of one look at the past; the oldest blocks lose theirs first.
pub const PAST_CELLS_MAX: usize = 500_000;
/// There is one SLI.
const ID: SliId = SliId(0);

/// What is read again: the values of the metrics that one SLI asks for.
#[derive(Debug)]
pub(in crate::telemetry) struct Extract {
    sought: Sought,
    wanted: Wanted,
    labels: BTreeMap<String, String>,
    names: BTreeMap<String, Text>,
    pod_label: Option<String>,
    kinds: BTreeMap<String, Kind>,
    rounds: Vec<Timestamp>,
    processes: Vec<Pages>,
}

/// What one process showed of these metrics.
#[derive(Debug)]
struct Pages {
    url: String,
    rounds: Vec<Result<u32, Error>>,
    /// Each series, and its value at each reading from the one this begins with.
    series: Vec<(Series, u32, Vec<Option<f64>>)>,
}

impl Pages {
    fn body(&self, round: usize, kinds: &BTreeMap<String, Kind>) -> Option<Result<Exposition, Error>> {
        let reading = match self.rounds.get(round)? {
            Ok(reading) => *reading,
            Err(error) => return Some(Err(error.clone())),
        };
        let shown = |(series, first, values): &(Series, u32, Vec<Option<f64>>)| {
            let value = values.get(reading.checked_sub(*first)? as usize).copied().flatten()?;
            Some((series.clone(), value))
        };
        Some(Ok(Exposition::of(self.series.iter().filter_map(shown).collect(), kinds.clone())))
    }
}

impl Extract {
    /// Takes what is needed from the ring, so that it is free while the work is done.
    pub(in crate::telemetry) fn of(
        ring: &Ring,
        (sli, split): (Sli, Split),
        pod_label: Option<String>,
        reach: Duration,
    ) -> Result<Self, Absence> {
        let wanted = Wanted::of([&sli].into_iter());
        let families: Vec<_> = ring.families.iter().filter(|(name, _)| wanted.takes(name)).collect();
        if families.iter().all(|(name, _)| name.as_str() == START_METRIC) {
            return Err(if ring.leaves_out(|name| name != START_METRIC && wanted.takes(name)) {
                unavailable("too much is shown of this metric to keep its past".into())
            } else {
                Absence::NoData
            });
        }
        let done = ring.rounds_done();
        let newest = ring.rounds.iter().take(done).next_back().copied().unwrap_or_default();
        let skipped = ring.rounds.iter().take_while(|time| **time < newest - reach).count();
        let rounds: Vec<Timestamp> = ring.rounds.iter().take(done).skip(skipped).copied().collect();
        let columns = || families.iter().flat_map(|(_, family)| family.series.values().flatten());
        let values: usize = columns().map(|(_, column)| column.len().min(rounds.len())).sum();
        if values > REPLAYED_MAX {
            let why =
                format!("this metric has {values} values in that time, more than the {REPLAYED_MAX} that are counted");
            return Err(unavailable(why));
        }
        let of_process = |(at, process): (usize, &super::ring::Process)| {
            let rounds: Vec<_> = process.rounds.iter().take(done).skip(skipped).cloned().collect();
            let first = rounds.iter().flatten().next().copied().unwrap_or(u32::MAX);
            let mut series = Vec::new();
            for (name, family) in &families {
                for (packed, columns) in &family.series {
                    for (_, column) in columns.iter().filter(|(of, _)| usize::from(*of) == at) {
                        let labels =
                            unpack(packed).map(|(label, value)| (label.to_owned(), value.to_owned())).collect();
                        let mut kept = column.values().skip_while(|(reading, _)| *reading < first).peekable();
                        let Some((begins, _)) = kept.peek().copied() else { continue };
                        let values = kept.map(|(_, value)| value).collect();
                        series.push((Series { name: (*name).clone(), labels }, begins, values));
                    }
                }
            }
            Pages { url: process.url.clone(), rounds, series }
        };
        Ok(Self {
            labels: ring.labels().clone(),
            names: if pod_label.is_some() { BTreeMap::new() } else { ring.names().clone() },
            pod_label,
            kinds: families.iter().map(|(name, family)| ((*name).clone(), family.kind)).collect(),
            rounds,
            processes: ring.processes.iter().enumerate().map(of_process).collect(),
            sought: Sought { sli, split },
            wanted,
        })
    }

    /// Reads it again: block after block, `every` apart.
    pub(in crate::telemetry) fn replay(self, every: Duration) -> Result<Past, Absence> {
        let slis = BTreeMap::from([(ID, self.sought)]);
        let keys = self.processes.iter().map(|process| process.url.clone());
        let mut arm = ArmState::fixed(keys, self.labels, self.pod_label);
        let mut gained: Vec<(Timestamp, Result<Gained, Absence>)> = Vec::new();
        for (at, time) in self.rounds.iter().enumerate() {
            let bodies: Vec<(&Pages, Result<Exposition, Error>)> =
                self.processes.iter().filter_map(|pages| Some((pages, pages.body(at, &self.kinds)?))).collect();
            let shown = bodies.iter().map(|(pages, body)| {
                let pages_now = match body {
                    Ok(body) => Ok(vec![Page { at: *time, body }]),
                    Err(error) => Err(Absence::from(error.clone())),
                };
                (pages.url.clone(), Shown { name: self.names.get(&pages.url).cloned(), pages: pages_now })
            });
            let round = match arm.take_in(*time, &shown.collect(), &self.wanted, &slis) {
                Round::Read(mut gains) => gains.remove(&ID).ok_or(Absence::NoData),
                Round::Missed(why) => Err(why),
            };
            gained.push((*time, round));
        }
        // Nothing was counted at the first reading, nor before it.
        let Some(start) = gained.iter().position(|(_, round)| round.is_ok()) else { return Err(Absence::NoData) };
        if start + 1 == gained.len() {
            return Err(Absence::NoData);
        }
        let sli = slis.get(&ID).map(|sought| &sought.sli).ok_or(Absence::NoData)?;
        let mut room = PAST_CELLS_MAX;
        let mut blocks = VecDeque::new();
        let times: Vec<Timestamp> = gained.iter().map(|(time, _)| *time).collect();
        for (at, (time, round)) in gained.into_iter().enumerate().skip(start + 1).rev() {
            blocks.push_front(round.and_then(|gained| block(sli, &gained, &mut room)));
            let before = at.checked_sub(1).and_then(|before| times.get(before)).copied().unwrap_or(time);
            for _ in 0..rounds_left_out(time.since(before), every).min(times.len()) {
                blocks.push_front(Err(unavailable("nothing was read at that time".into())));
            }
        }
        Ok(Past { every, blocks: blocks.into() })
    }
}

/// What was gained in one block; its parts are left out where there is no room for them.
pub(in crate::telemetry) fn block(sli: &Sli, gained: &Gained, room: &mut usize) -> Result<Reading, Absence> {
    let tally = tally(sli, std::iter::once(&gained.whole))?;
    let [parts, _] = parts::of_window(sli, [&[gained], &[gained]]);
    let left = room.checked_sub(parts::cells(&parts));
    *room = left.unwrap_or(0);
    Ok(Reading { tally, parts: if left.is_some() { parts } else { Vec::new() } })
}

/// How many rounds there would have been between two of them.
fn rounds_left_out(between: Duration, every: Duration) -> usize {
    let rounds = between.as_secs_f64() / every.as_secs_f64().max(f64::MIN_POSITIVE);
    // What is too large for a number of rounds is the largest.
    (rounds.round() as usize).saturating_sub(1)
}

fn unavailable(why: String) -> Absence {
    Absence::Unavailable(Text::new(why))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::{Match, PartKind, Selector},
        telemetry::{
            counting::ring::{Limits, READINGS_KEPT_MAX},
            exposition::parse,
        },
    };

    const EVERY: Duration = Duration::from_secs(30);
    const REACH: Duration = Duration::from_secs(7_200);
    const PODS: usize = 3;

    fn slis() -> Vec<Sli> {
        let total = Selector::metric("hits_total");
        let bad = total.clone().with("code", Match::StartsWith("5".into()));
        vec![
            Sli::Ratio { bad: bad.clone(), total: total.clone() },
            Sli::EventsPerTraffic { events: bad.clone(), traffic: Selector::metric("took_seconds_count") },
            Sli::Latency { histogram: Selector::metric("took_seconds"), slow_above_seconds: 0.5 },
            Sli::Level { gauge: Selector::metric("load") },
            Sli::Mix { counter: total, by: "code".into() },
            Sli::Liveness { series: bad },
        ]
    }

    /// What one page shows: nothing where it cannot be read. Counts that fall by themselves stand for all resets.
    #[derive(Clone, Debug)]
    struct Page {
        started: u8,
        hits: BTreeMap<(u8, bool), u32>,
        took: Option<(u8, u8)>,
        load: f64,
    }

    fn any_page() -> impl Strategy<Value = Option<Page>> {
        let hits = prop::collection::btree_map((0..3_u8, any::<bool>()), 0..400_u32, 0..5);
        let page = (0..2_u8, hits, prop::option::weighted(0.8, (0..200_u8, 0..50_u8)), -3.0..3.0_f64)
            .prop_map(|(started, hits, took, load)| Page { started, hits, took, load });
        prop::option::weighted(0.9, page)
    }

    fn body(page: &Page, pod: usize) -> String {
        let mut body = format!("process_start_time_seconds {}\n# TYPE load gauge\nload {}\n", page.started, page.load);
        for ((route, is_bad), count) in &page.hits {
            let code = if *is_bad { 500 } else { 200 };
            writeln!(body, "hits_total{{code=\"{code}\",pod=\"p{pod}\",route=\"/{route}\"}} {count}").unwrap();
        }
        if let Some((fast, slow)) = page.took {
            let all = u32::from(fast) + u32::from(slow);
            let kind = "# TYPE took_seconds histogram\n";
            writeln!(
                body,
                "{kind}took_seconds_bucket{{le=\"0.5\"}} {fast}\ntook_seconds_bucket{{le=\"+Inf\"}} {all}\n\
                 took_seconds_sum 0.25\ntook_seconds_count {all}"
            )
            .unwrap();
        }
        body
    }

    fn url(pod: usize) -> String {
        format!("http://pod{pod}:80/metrics")
    }

    fn names(pods: Option<&str>) -> BTreeMap<String, Text> {
        let named = |pod| (url(pod), Text::new(format!("pod{pod}:80")));
        if pods.is_some() { BTreeMap::new() } else { (0..PODS).map(named).collect() }
    }

    fn ring() -> Ring {
        Ring::new((0..PODS).map(url).collect(), BTreeMap::new(), REACH, Limits::default()).named(names(None))
    }

    fn page(page: &Option<Page>, pod: usize) -> Result<Exposition, Error> {
        let refused = Error::Unavailable(Text::new("refused"));
        page.as_ref().map(|page| parse(body(page, pod).as_bytes(), |_| true).unwrap()).ok_or(refused)
    }

    /// What the reader of rounds says of the same pages: for each round what it gained.
    fn live(
        sli: &Sli,
        split: &Split,
        pods: Option<&str>,
        rounds: &[Vec<Option<Page>>],
    ) -> Vec<Result<Reading, Absence>> {
        let mut arm = ArmState::fixed((0..PODS).map(url), BTreeMap::new(), pods.map(str::to_owned));
        let slis = BTreeMap::from([(ID, Sought { sli: sli.clone(), split: split.clone() })]);
        let wanted = Wanted::of([sli].into_iter());
        let told = (1..).map(Timestamp::from_millis).zip(rounds).map(|(at, pages)| {
            let bodies: Vec<_> = pages.iter().enumerate().map(|(pod, shown)| page(shown, pod)).collect();
            let shown = bodies.iter().enumerate().map(|(pod, body)| {
                let name = names(pods).remove(&url(pod));
                let pages = body.as_ref().map(|body| vec![super::Page { at, body }]);
                (url(pod), Shown { name, pages: pages.map_err(|error| Absence::from(error.clone())) })
            });
            match arm.take_in(at, &shown.collect(), &wanted, &slis) {
                Round::Missed(why) => Err(why),
                Round::Read(gains) => {
                    let gained = &gains[&ID];
                    let [parts, _] = parts::of_window(sli, [&[gained], &[gained]]);
                    tally(sli, [&gained.whole].into_iter()).map(|tally| Reading { tally, parts })
                }
            }
        });
        told.collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_past_says_what_the_reader_of_rounds_counted_resets_and_gaps_included(
            rounds in prop::collection::vec(prop::collection::vec(any_page(), PODS), 2..30),
            by_label in any::<bool>(),
        ) {
            let mut ring = ring();
            for (at, pages) in rounds.iter().enumerate() {
                ring.begin(Timestamp::EPOCH + EVERY * u32::try_from(at).unwrap());
                pages.iter().enumerate().for_each(|(pod, shown)| ring.take_in(&url(pod), page(shown, pod).as_ref()));
                ring.end();
            }
            let is_whole = |pages: &Vec<Option<Page>>| pages.iter().all(Option::is_some);
            let start = rounds.iter().position(is_whole);
            let pods = by_label.then_some("pod");
            let split = Split { segments: Some("route".into()), tenants: None };
            for sli in slis() {
                let asked = (sli.clone(), split.clone());
                let found = Extract::of(&ring, asked, pods.map(str::to_owned), REACH).and_then(|it| it.replay(EVERY));
                match (found, start) {
                    (Ok(past), Some(start)) => {
                        prop_assert_eq!(past.every, EVERY);
                        prop_assert_eq!(past.blocks, &live(&sli, &split, pods, &rounds)[start + 1..]);
                    }
                    (Err(why), start) => {
                        let shown = |page: &Page| match &sli {
                            Sli::Latency { .. } => page.took.is_some(),
                            Sli::EventsPerTraffic { .. } => page.took.is_some() || !page.hits.is_empty(),
                            _ => !page.hits.is_empty(),
                        };
                        let never = !rounds.iter().flatten().flatten().any(shown);
                        prop_assert!(never || start.is_none_or(|start| start + 1 == rounds.len()), "{}", why);
                    }
                    (Ok(past), None) => prop_assert!(false, "{:?} from nothing", past),
                }
            }
        }
    }

    fn show(ring: &mut Ring, seconds: u64, text: &str) {
        ring.begin(Timestamp::from_millis(seconds * 1_000));
        let shown = parse(text.as_bytes(), |_| true).unwrap();
        (0..PODS).for_each(|pod| ring.take_in(&url(pod), Ok(&shown)));
        ring.end();
    }

    fn look(ring: &Ring, sli: Sli, reach: Duration) -> Result<Past, Absence> {
        Extract::of(ring, (sli, Split::default()), None, reach)?.replay(EVERY)
    }

    fn load() -> Sli {
        Sli::Level { gauge: Selector::metric("load") }
    }

    #[test]
    fn rounds_that_were_not_made_are_absences_in_their_place_and_jitter_is_none() {
        let mut ring = ring();
        for seconds in [0, 31, 59, 150, 10_000_000] {
            show(&mut ring, seconds, "load 1\n");
        }
        let told = look(&ring, load(), REACH);
        assert_eq!(told, Err(Absence::NoData), "all but the last are older than the reach");
        let mut ring = super::tests::ring();
        for seconds in [0, 31, 59, 150] {
            show(&mut ring, seconds, "load 1\n");
        }
        let blocks = look(&ring, load(), REACH).unwrap().blocks;
        assert_eq!(blocks.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, false, true]);
        let blocks = look(&ring, load(), Duration::from_secs(91)).unwrap().blocks;
        assert_eq!(blocks.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn a_round_that_is_not_over_says_nothing_yet() {
        let mut ring = ring();
        for seconds in [0, 30] {
            show(&mut ring, seconds, "load 1\n");
        }
        let told = look(&ring, load(), REACH);
        ring.begin(Timestamp::from_millis(60_000));
        assert_eq!(look(&ring, load(), REACH), told);
        ring.take_in(&url(0), Ok(&parse(b"load 7\n", |_| true).unwrap()));
        assert_eq!(look(&ring, load(), REACH), told);
        ring.end();
        let blocks = look(&ring, load(), REACH).unwrap().blocks;
        assert_eq!(blocks.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false], "one page was not read");
    }

    #[test]
    fn what_was_never_shown_is_no_data_and_what_was_left_out_says_so() {
        let limits = Limits { series: PODS, ..Limits::default() };
        let mut ring = Ring::new((0..PODS).map(url).collect(), BTreeMap::new(), REACH, limits);
        for seconds in [0, 30, 60] {
            show(&mut ring, seconds, "load 1\nbig{x=\"1\"} 1\nbig{x=\"2\"} 1\n");
        }
        assert!(look(&ring, load(), REACH).is_ok());
        assert_eq!(look(&ring, Sli::Level { gauge: Selector::metric("other") }, REACH), Err(Absence::NoData));
        let probe = Sli::Probe { probe: "home".into() };
        assert_eq!(look(&ring, probe, REACH), Err(Absence::NoData), "no page says anything of a probe");
        let left_out = look(&ring, Sli::Level { gauge: Selector::metric("big") }, REACH);
        assert!(matches!(left_out, Err(Absence::Unavailable(why)) if why.as_str().contains("too much")));
    }

    #[test]
    fn the_values_that_are_read_again_have_a_limit() {
        let series = REPLAYED_MAX / READINGS_KEPT_MAX / PODS;
        let look_at = |series: usize| {
            let mut ring = ring();
            let text: String = (0..series).map(|n| format!("load{{n=\"{n}\"}} 1\n")).collect();
            let shown = parse(text.as_bytes(), |_| true).unwrap();
            for seconds in 0..READINGS_KEPT_MAX as u64 {
                ring.begin(Timestamp::from_millis(seconds * 1_000));
                (0..PODS).for_each(|pod| ring.take_in(&url(pod), Ok(&shown)));
                ring.end();
            }
            Extract::of(&ring, (load(), Split::default()), None, REACH).map(|_| ())
        };
        assert_eq!(look_at(series), Ok(()));
        let refused = look_at(series + 1);
        assert!(matches!(refused, Err(Absence::Unavailable(why)) if why.as_str().contains("more than the 2000000")));
    }

    #[test]
    fn when_parts_have_too_many_numbers_the_oldest_blocks_lose_theirs() {
        let mut ring = ring();
        let edges: String = (0..200).map(|n| format!("took_bucket{{le=\"{n}\",pod=\"P\"}} N\n")).collect();
        let one = format!("{edges}took_bucket{{le=\"+Inf\",pod=\"P\"}} N\n");
        for at in 0..30_u64 {
            let text: String = (0..50).map(|pod| one.replace('P', &format!("{pod:0>3}"))).collect();
            show(&mut ring, at * 30, &text.replace('N', &at.to_string()));
        }
        let sli = Sli::Latency { histogram: Selector::metric("took"), slow_above_seconds: 0.5 };
        let past =
            Extract::of(&ring, (sli, Split::default()), Some("pod".into()), REACH).unwrap().replay(EVERY).unwrap();
        let parts: Vec<usize> =
            past.blocks.iter().map(|block| block.as_ref().unwrap().parts_of(PartKind::Pod).count()).collect();
        assert_eq!((parts.len(), parts[0], parts[28]), (29, 0, 50));
        assert!(parts.windows(2).all(|pair| pair[0] <= pair[1]), "{parts:?}");
    }
}
