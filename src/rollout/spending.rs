//! What models have used: today's use by service and pull request, so that a daemon that starts anew knows what is left of
//! its budgets, and each rollout's, so that people see what it cost. Conversations themselves stay in the journal.
//!
//! What was used counts even where its answer came too late to count: it was paid for.

use serde::{Deserialize, Serialize};

use crate::domain::{Change, Conversation, RolloutId, ServiceName, Timestamp, Usage};

/// Most pull requests that are kept apart in one day; what further ones use is added up in one row.
const ROWS_MAX: usize = 1_000;
const DAY_MILLIS: u64 = 86_400_000;

/// What was used today for one pull request to one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// When it was used last.
    pub at: Timestamp,
    /// The service and the pull request; `None` for all those that are not kept apart.
    pub of: Option<(ServiceName, u64)>,
    /// What was used.
    pub usage: Usage,
}

/// What models have used for one rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Account<'a> {
    /// The rollout.
    pub rollout: RolloutId,
    /// The service.
    pub service: &'a ServiceName,
    /// The change that it delivers.
    pub change: &'a Change,
    /// All that was used; `None` where no model was spoken with.
    pub usage: Option<Usage>,
}

/// Today's use, by UTC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Spending {
    day: u64,
    rows: Vec<Spent>,
}

impl Spending {
    /// A conversation was held, for a rollout that is known or for one that is not any more.
    pub(super) fn add(&mut self, of: Option<(ServiceName, u64)>, usage: Usage, now: Timestamp) {
        if self.day != day(now) {
            (self.day, self.rows) = (day(now), Vec::new());
        }
        let has_room = self.rows.len() < ROWS_MAX;
        let is_known = self.rows.iter().any(|row| row.of == of);
        let of = of.filter(|_| is_known || has_room);
        match self.rows.iter_mut().find(|row| row.of == of) {
            Some(row) => (row.at, row.usage) = (now, row.usage.plus(usage)),
            None => self.rows.push(Spent { at: now, of, usage }),
        }
    }

    /// What was used on the day of `now`.
    pub(super) fn on_day_of(&self, now: Timestamp) -> &[Spent] {
        if self.day == day(now) { &self.rows } else { &[] }
    }
}

fn day(at: Timestamp) -> u64 {
    at.as_millis() / DAY_MILLIS
}

/// Both added up.
pub(super) fn plus(so_far: Option<Usage>, conversation: &Conversation) -> Option<Usage> {
    let used = conversation.usage();
    Some(so_far.map_or(used, |so_far| so_far.plus(used)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(tokens: u64) -> Usage {
        Usage { input_tokens: tokens, cached_tokens: 0, output_tokens: 1, micro_dollars: Some(tokens) }
    }

    fn of(number: u64) -> Option<(ServiceName, u64)> {
        Some((ServiceName::new("shop"), number))
    }

    #[test]
    fn a_day_ends_at_midnight_by_utc() {
        let mut spending = Spending::default();
        let last = Timestamp::from_millis(DAY_MILLIS * 20_000 - 1);
        let first = Timestamp::from_millis(DAY_MILLIS * 20_000);
        spending.add(of(1), used(5), last);
        assert_eq!(spending.on_day_of(last)[0].usage, used(5));
        assert_eq!(spending.on_day_of(first), []);
        spending.add(of(1), used(7), first);
        assert_eq!(spending.on_day_of(first), [Spent { at: first, of: of(1), usage: used(7) }]);
        assert_eq!(spending.on_day_of(last), []);
    }

    #[test]
    fn pull_requests_are_kept_apart_up_to_a_number_and_nothing_is_lost() {
        let mut spending = Spending::default();
        let now = Timestamp::from_millis(DAY_MILLIS);
        for number in 0..ROWS_MAX as u64 + 3 {
            spending.add(of(number), used(1), now);
        }
        spending.add(of(0), used(1), now);
        let rows = spending.on_day_of(now);
        assert_eq!(rows.len(), ROWS_MAX + 1, "one row more, for the rest");
        assert_eq!(rows[0].usage.input_tokens, 2, "one that is known has its row still");
        assert_eq!((&rows[ROWS_MAX].of, rows[ROWS_MAX].usage.input_tokens), (&None, 3));
    }

    #[test]
    fn what_has_no_price_makes_the_sum_have_none() {
        let mut spending = Spending::default();
        let now = Timestamp::from_millis(1);
        spending.add(of(1), used(1), now);
        spending.add(of(1), Usage { micro_dollars: None, ..used(1) }, now);
        assert_eq!(spending.on_day_of(now)[0].usage.micro_dollars, None);
    }
}
