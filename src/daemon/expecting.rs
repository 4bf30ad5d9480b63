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
