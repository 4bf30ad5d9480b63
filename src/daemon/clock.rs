//! The one clock. Everything else is given the time, so that the same code runs in the virtual world.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::domain::Timestamp;

/// Wall time that never runs backwards. While the machine's clock is behind what was shown before (it was set back, or a
/// reading far in the future is in the journal), it goes on at its own pace, so that no deadline freezes.
#[derive(Clone, Debug)]
pub struct Clock {
    base: Timestamp,
    started: Instant,
    latest: Arc<AtomicU64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self::starting_at(Timestamp::EPOCH)
    }
}

impl Clock {
    /// A clock that shows at least `earliest`, which is the last time in the journal.
    pub fn starting_at(earliest: Timestamp) -> Self {
        Self { base: earliest, started: Instant::now(), latest: Arc::new(AtomicU64::new(earliest.as_millis())) }
    }

    /// Now, and never before an earlier answer.
    pub fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        let now = wall.max((self.base + self.started.elapsed()).as_millis());
        Timestamp::from_millis(self.latest.fetch_max(now, Ordering::Relaxed).max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_goes_on_from_where_it_was() {
        let future = Clock::default().now() + std::time::Duration::from_secs(3_600);
        let clock = Clock::starting_at(future);
        let first = clock.now();
        assert!(first >= future);
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(clock.now() > first);
    }
}
