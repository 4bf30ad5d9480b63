//! Measuring what is over: the same rounds, windows and deadlines as of the present, read long after they were due.
//!
//! A live ask waits until samples have settled, and is looked at again until its deadline. Of the past everything has
//! settled, so nothing is waited for, and it is known when the answer would have been there. And as it does not change
//! any more, a long stretch of it can be read at once.

use std::time::Duration;

use serde::{Deserialize, de::IgnoredAny};

use super::{Prometheus, reader};
use crate::{
    domain::{Absence, Timestamp},
    telemetry::{Answer, Ask},
};

/// Seconds of a day.
const DAY: u64 = 86_400;

impl Prometheus {
    /// What would have been answered to an ask that was made at `asked`, in a past that ends at `ends` and is settled long
    /// since, and when; `None` where that would have been after its end. Nothing is waited for.
    ///
    /// Fails where the server does not answer now, which says nothing of what it would have answered then.
    pub async fn measure_past(
        &self,
        ask: &Ask,
        asked: Timestamp,
        ends: Timestamp,
    ) -> Result<Option<(Timestamp, Answer)>, Absence> {
        let service = self.service(&ask.service)?;
        let reader = self.reader(ask, (self.clock)())?;
        let (interval, settle) = (service.interval, service.settle);
        let last_look = self.last_look(ask, asked).max(asked);
        let last = reader::grid_before(last_look.min(ends) - settle, interval);
        let ahead = reader::grid_before(ends - settle, interval);
        let mut goal = reader::grid_after(ask.through, interval);
        let mut reader = reader.lock().await;
        let at_last = |answer: Answer| (last_look <= ends).then_some((last_look, answer));
        loop {
            let is_last = goal >= last;
            match reader.advance_within(ask, goal.min(last), ahead).await {
                Ok(()) => {}
                Err(why @ Absence::Unavailable(_)) => return Err(why),
                Err(why @ (Absence::NoData | Absence::Malformed(_))) => {
                    return Ok(at_last(reader.last_word(ask, Some(why))));
                }
            }
            if let Some(answer) = reader.answer(ask) {
                return Ok(Some(((goal.min(last) + settle).max(asked), answer)));
            }
            if is_last {
                return Ok(at_last(reader.last_word(ask, None)));
            }
            goal = goal + interval;
        }
    }

    /// How long the server says that it keeps samples; `None` where it does not say. Fails where it does not answer.
    pub async fn retention(&self) -> Result<Option<Duration>, Absence> {
        self.server.post::<IgnoredAny>("query", &[("query", "1")]).await?;
        // Prometheus's kin do not have this one.
        let told = self.server.get::<RuntimeInfo>("status/runtimeinfo", &[]).await;
        Ok(told.ok().and_then(|told| retention_of(&told.storage_retention)))
    }
}

/// What is read of how a Prometheus was started.
#[derive(Deserialize)]
struct RuntimeInfo {
    #[serde(rename = "storageRetention")]
    storage_retention: String,
}

/// The time in a retention such as `15d` or `1w2d or 512MiB`; `None` where it is by size alone.
fn retention_of(told: &str) -> Option<Duration> {
    let (mut all, mut number) = (0_u64, String::new());
    let mut rest = told.split(" or ").next()?.trim().chars().peekable();
    while let Some(c) = rest.next() {
        let seconds = match c {
            '0'..='9' => {
                number.push(c);
                continue;
            }
            's' => 1,
            'm' if rest.peek() != Some(&'s') => 60,
            'h' => 3_600,
            'd' => DAY,
            'w' => 7 * DAY,
            'y' => 365 * DAY,
            _ => return None,
        };
        all = all.checked_add(std::mem::take(&mut number).parse::<u64>().ok()?.checked_mul(seconds)?)?;
    }
    (all > 0 && number.is_empty()).then(|| Duration::from_secs(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_is_read_as_prometheus_writes_it() {
        let days = |days: u64| Some(Duration::from_secs(days * DAY));
        assert_eq!(retention_of("15d"), days(15));
        assert_eq!(retention_of("1w2d or 512MiB"), days(9));
        assert_eq!(retention_of("1h30m"), Some(Duration::from_secs(5_400)));
        for by_size in ["512MiB", "", "0s", "15", "15x", "99999999999999999999y"] {
            assert_eq!(retention_of(by_size), None, "{by_size}");
        }
    }
}
