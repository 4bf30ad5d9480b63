//! What a service's old version showed in the recent past, block after block, from raw samples.
//!
//! It is counted as rounds are, of one arm; the first round in which it could be told is only where counting starts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    Service,
    pages::{Arm, Pages},
    reader::{self, Reader},
    server::Server,
};
use crate::{
    domain::{Absence, Timestamp},
    telemetry::{
        Past, PastAsk,
        counting::{
            READINGS_KEPT_MAX,
            arm::{ArmState, Leaving},
            parts::Sought,
            replay::{PAST_CELLS_MAX, block},
            rounds::{Reading, SliId},
            seen::Wanted,
        },
    },
};

/// Least length of a block.
const BLOCK_MIN: Duration = Duration::from_secs(30);
/// Most blocks that are read at once.
const SPAN_BLOCKS: u32 = 60;
/// There is one SLI.
const ID: SliId = SliId(0);

/// What the arm that bears these labels showed up to `now`.
pub(super) async fn past(
    server: &Arc<Server>,
    service: &Service,
    labels: BTreeMap<String, String>,
    ask: PastAsk,
    now: Timestamp,
) -> Result<Past, Absence> {
    let every = service.interval.max(BLOCK_MIN);
    let end = reader::grid_before(now - service.settle, every);
    let most = every.saturating_mul(u32::try_from(READINGS_KEPT_MAX).unwrap_or(u32::MAX));
    let begun = reader::grid_before(end - ask.reach.min(most), every);
    let leaving = Leaving { missed_after: service.stale_after, gone_after: service.gone_after };
    let mut arm = ArmState::open(labels.clone(), leaving);
    let wanted = Wanted::of([&ask.sli].into_iter());
    let slis = BTreeMap::from([(ID, Sought { sli: ask.sli.clone(), split: ask.split })]);
    let reader = Reader::new(Arc::clone(server), service.clone(), [labels.clone(), labels.clone()]);
    let skew = server.skew().await?;
    let (mut room, mut blocks, mut has_begun, mut time) = (PAST_CELLS_MAX, Vec::new(), false, begun);
    while time < end {
        let span = (time, (time + every.saturating_mul(SPAN_BLOCKS)).min(end));
        let rows = reader.raw_samples(&ask.sli, span, skew).await?;
        let mut pages = Pages::default();
        pages.take_in(Arm { labels: &labels, pod_label: &service.pod_label }, &rows, span, skew);
        pages.close();
        while time < span.1 {
            time = time + every;
            let told = match arm.take_in(time, &pages.through(time), &wanted, &slis) {
                Reading::Read(mut gains) => gains.remove(&ID).ok_or(Absence::NoData),
                Reading::Missed(why) => Err(why),
            };
            if has_begun {
                blocks.push(told.and_then(|gained| block(&ask.sli, &gained, &mut room)));
            } else {
                has_begun = told.is_ok();
            }
        }
    }
    if blocks.iter().all(Result::is_err) {
        return Err(blocks.into_iter().find_map(Result::err).unwrap_or(Absence::NoData));
    }
    Ok(Past { every, blocks })
}
