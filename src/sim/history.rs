//! What telemetry answers, in the virtual world, when it is asked for the past: mostly nothing, sometimes days of it, of a
//! service that need not be much like this one; sometimes it is late or stays silent. No seed draws from the world's own
//! chance for it, so that the rest of a world is as it would be without.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::scenario::BEGINNING;
use crate::{
    domain::{Absence, Check, CheckId, Counts, Reading, RequestId, Sli, Tally, Text},
    plan::Plan,
    rollout::{Learnt, Switch, expect},
};

/// Days of history, where there is any, and the length of its blocks.
const DAYS: u64 = 6;
const BLOCK: Duration = Duration::from_secs(300);

/// What history lets expect of each check, and how long the answer takes; `None` where none ever comes.
pub(super) fn answer(
    request: RequestId,
    seed: u64,
    is_faulty: bool,
    plan: &Plan,
) -> Option<(Duration, Vec<(CheckId, Learnt)>)> {
    let mut rng = StdRng::seed_from_u64(seed ^ request.0.rotate_left(17) ^ 0x00c0_ffee);
    if is_faulty && rng.random_bool(0.1) {
        return None;
    }
    let takes = Duration::from_millis(rng.random_range(1..if is_faulty { 400_000 } else { 20_000 }));
    let learnt = |(place, check): (usize, &Check)| {
        let known = if is_faulty && rng.random_bool(0.4) { Some(rng.random_range(0..2_usize)) } else { None };
        let learnt = match (&check.sli, known.and_then(|which| days().get(which))) {
            (Sli::Ratio { .. }, Some(learnt)) => learnt.clone(),
            _ => Err(Text::new(Absence::NoData.to_string())),
        };
        (CheckId(u16::try_from(place).unwrap_or(u16::MAX)), learnt)
    };
    Some((takes, plan.checks().iter().enumerate().map(learnt).collect()))
}

/// What was learnt of two services: one in a thousand bad, and one in a hundred.
fn days() -> &'static [Learnt; 2] {
    static DAYS_OF_TWO: OnceLock<Arc<[Learnt; 2]>> = OnceLock::new();
    DAYS_OF_TWO.get_or_init(|| {
        let check =
            super::scenario::bounds().mandatory.into_iter().find(|check| matches!(check.sli, Sli::Ratio { .. }));
        let learnt = |bad: u64| {
            let Some(check) = &check else { return Err(Text::new("no ratio in the virtual world")) };
            let mut rng = StdRng::seed_from_u64(bad);
            let mut block =
                || Ok(Reading::whole(Tally::Counts(Counts { bad: rng.random_range(bad..2 * bad), total: 15_000 })));
            let blocks: Vec<Result<Reading, Absence>> = (0..DAYS * 288).map(|_| block()).collect();
            let switch = Switch { at: BEGINNING, watch: Duration::ZERO, left_out: Vec::new() };
            expect(check, &switch, (BLOCK, &blocks, BEGINNING))
        };
        Arc::new([learnt(10), learnt(100)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_days_that_there_are_let_something_be_expected() {
        assert!(days().iter().all(Result::is_ok), "{:?}", days());
    }
}
