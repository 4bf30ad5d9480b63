//! The one clock. Everything else is given the time, so that the same code runs in the virtual world.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::domain::Timestamp;

/// Wall time that never runs backwards: while the machine's clock is set back, it stands still.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    latest: Arc<AtomicU64>,
}

impl Clock {
    /// A clock that shows at least `earliest`, which is the last time in the journal.
    pub fn starting_at(earliest: Timestamp) -> Self {
        Self { latest: Arc::new(AtomicU64::new(earliest.as_millis())) }
    }

    /// Now, and never before an earlier answer.
    pub fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(self.latest.fetch_max(wall, Ordering::Relaxed).max(wall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_stands_still() {
        let future = Clock::default().now() + std::time::Duration::from_secs(3_600);
        let clock = Clock::starting_at(future);
        assert_eq!(clock.now(), future);
        assert_eq!(clock.now(), future);
    }
}
