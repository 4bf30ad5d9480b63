//! History in the live world: telemetry is asked for the old version's past, and what it lets expect is learnt where the
//! answer is. Only that is sent on: history itself is too long to be recorded.

use std::sync::Arc;

use crate::{
    domain::{CheckId, Revision, ServiceName, Split, Text, Timestamp},
    plan::Plan,
    rollout::{self, HISTORY_REACH, Learnt, Switch},
    telemetry::{PastAsk, Provider},
};

use super::Clock;

/// What is to be learnt.
pub(super) struct Order {
    pub(super) service: ServiceName,
    pub(super) stable: Option<Revision>,
    pub(super) plan: Arc<Plan>,
    pub(super) switch: Arc<Switch>,
    pub(super) no_later_than: Timestamp,
}

/// Learns for check after check, one at a time: a server that holds weeks has other things to do too. What is not there
/// when the time is over is an absence.
pub(super) async fn learn(telemetry: Arc<dyn Provider>, order: Order, clock: Clock) -> Vec<(CheckId, Learnt)> {
    let mut learnt = Vec::new();
    for (place, check) in order.plan.checks().iter().enumerate() {
        let id = CheckId(u16::try_from(place).unwrap_or(u16::MAX));
        if let Some(why) = rollout::has_no_level(check) {
            learnt.push((id, Err(Text::new(why))));
            continue;
        }
        let now = clock.now();
        let ask = PastAsk {
            service: order.service.clone(),
            stable: order.stable.clone(),
            sli: check.sli.clone(),
            // The whole is enough.
            split: Split::default(),
            reach: HISTORY_REACH + now.since(order.switch.at),
        };
        // Half a minute is left for the answer to be recorded.
        let left = order.no_later_than.since(now).saturating_sub(std::time::Duration::from_secs(30));
        let past = match tokio::time::timeout(left, telemetry.history(ask)).await {
            Ok(past) => past.map_err(|absence| Text::new(format!("history: {absence}"))),
            Err(_) => Err(Text::new("history gave no answer in time")),
        };
        let expected = match past {
            Err(why) => Err(why),
            Ok(past) => {
                let (check, switch) = (check.clone(), Arc::clone(&order.switch));
                let learning = move || rollout::expect(&check, &switch, (past.every, &past.blocks, now));
                let learning = tokio::task::spawn_blocking(learning).await;
                learning.unwrap_or_else(|_| Err(Text::new("history could not be learnt from")))
            }
        };
        learnt.push((id, expected));
    }
    learnt
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{FutureExt, future::BoxFuture};

    use super::*;
    use crate::{
        domain::{Absence, Counts, Reading, Tally, WayBack},
        plan::{self, Draft, Touched, Trial},
        sim::scenario,
        telemetry::{Answer, Ask, Past},
    };

    /// A source with a week of history, with an error, or without an answer.
    enum Source {
        Week,
        Broken,
        Silent,
    }

    impl Provider for Source {
        fn measure(&self, ask: Ask) -> BoxFuture<'_, Answer> {
            std::future::ready(Answer::absent(&ask, &Absence::NoData)).boxed()
        }

        fn history(&self, ask: PastAsk) -> BoxFuture<'_, Result<Past, Absence>> {
            assert!(ask.reach >= HISTORY_REACH, "as much as reaches back from the switch");
            let block = |i: u64| Ok(Reading::whole(Tally::Counts(Counts { bad: 20 + i * i % 7, total: 1_000 })));
            match self {
                Self::Week => {
                    let past = Past { every: Duration::from_secs(300), blocks: (0..7 * 288).map(block).collect() };
                    std::future::ready(Ok(past)).boxed()
                }
                Self::Broken => std::future::ready(Err(Absence::Unavailable(Text::new("503")))).boxed(),
                Self::Silent => std::future::pending().boxed(),
            }
        }
    }

    async fn learnt(source: Source, within: Duration) -> Learnt {
        let clock = Clock::default();
        let draft = Draft::by_rules(Vec::new(), WayBack::Open, Vec::new());
        let bounds = scenario::bounds();
        let admission = plan::admit(draft, &bounds, Touched::NOTHING, &["ratio"], |_| Trial::default());
        let now = clock.now();
        let switch = Switch { at: now, watch: Duration::from_secs(3_600), left_out: Vec::new() };
        let order = Order {
            service: ServiceName::new("shop"),
            stable: None,
            plan: Arc::new(admission.plan),
            switch: Arc::new(switch),
            no_later_than: now + within,
        };
        let mut learnt = learn(Arc::new(source), order, clock).await;
        assert_eq!(learnt.len(), bounds.mandatory.len(), "one for each check");
        learnt.remove(0).1
    }

    #[tokio::test]
    async fn what_history_lets_expect_is_learnt_and_what_is_missing_is_said() {
        let minutes = Duration::from_secs(300);
        assert!(learnt(Source::Week, minutes).await.unwrap().windows().0 >= 19);
        let why = learnt(Source::Broken, minutes).await.unwrap_err();
        assert_eq!(why.as_str(), "history: unavailable: 503");
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_never_answers_is_not_waited_for_beyond_its_time() {
        let why = learnt(Source::Silent, Duration::from_secs(300)).await.unwrap_err();
        assert_eq!(why.as_str(), "history gave no answer in time");
    }
}
