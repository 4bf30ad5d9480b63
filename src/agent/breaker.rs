//! A circuit breaker: a model that has failed again and again is left alone for a while.
//!
//! Asking it on would cost each rollout the whole wait before its fallback, and a server that is overloaded the rest of its
//! strength. After the pause one question is let through as a trial; the rest go on being refused until it has come back.
//! Each failed trial doubles the pause up to a limit, so that even a server that charges for answers that come too late is
//! charged for few of them.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Questions in a row that found the model unavailable, each with all its attempts, after which it is left alone.
pub const FAILURES_MAX: u32 = 5;
/// The first pause.
pub const PAUSE_FIRST: Duration = Duration::from_secs(30);
/// The longest pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Questions go through; so many in a row have failed.
    Closed { failures: u32 },
    /// No question goes through before `until`.
    Open { until: Instant, pause: Duration },
    /// One question is on trial.
    HalfOpen { pause: Duration },
}

/// Whether the model is asked at all.
#[derive(Debug)]
pub(super) struct Breaker(Mutex<State>);

/// Leave to ask once. A trial that is dropped without a report is made up for by the next question.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    /// The pause before it, if it is a trial.
    trial: Option<Duration>,
}

impl Breaker {
    /// One that lets questions through.
    pub(super) fn new() -> Self {
        Self(Mutex::new(State::Closed { failures: 0 }))
    }

    /// Leave to ask, or how much longer the model is left alone: zero while a trial is under way.
    pub(super) fn pass(&self) -> Result<Pass<'_>, Duration> {
        let mut state = self.state();
        match *state {
            State::Closed { .. } => Ok(Pass { breaker: self, trial: None }),
            State::Open { until, pause } => {
                let left = until.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    return Err(left);
                }
                *state = State::HalfOpen { pause };
                Ok(Pass { breaker: self, trial: Some(pause) })
            }
            State::HalfOpen { .. } => Err(Duration::ZERO),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment, so what a panic elsewhere left is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Whether this is the one question after a pause.
    pub(super) fn is_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// What came of it. A model that refuses or writes nonsense is there, and is not left alone for that.
    pub(super) fn report(mut self, is_available: bool) {
        let trial = self.trial.take();
        let mut state = self.breaker.state();
        *state = match (*state, trial, is_available) {
            (_, _, true) => State::Closed { failures: 0 },
            (_, Some(pause), false) => {
                let pause = pause.saturating_mul(2).min(PAUSE_MAX);
                State::Open { until: Instant::now() + pause, pause }
            }
            (State::Closed { failures }, None, false) if failures + 1 >= FAILURES_MAX => {
                State::Open { until: Instant::now() + PAUSE_FIRST, pause: PAUSE_FIRST }
            }
            (State::Closed { failures }, None, false) => State::Closed { failures: failures + 1 },
            // A question from before the pause, which the pause knows of already.
            (state @ (State::Open { .. } | State::HalfOpen { .. }), None, false) => state,
        };
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(pause) = self.trial.take() {
            *self.breaker.state() = State::Open { until: Instant::now(), pause };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker, times: u32) {
        for _ in 0..times {
            breaker.pass().unwrap().report(false);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_so_many_failures_in_a_row_and_no_fewer() {
        let breaker = Breaker::new();
        fail(&breaker, FAILURES_MAX - 1);
        breaker.pass().unwrap().report(true);
        fail(&breaker, FAILURES_MAX - 1);
        assert!(breaker.pass().is_ok(), "a success between them starts the count again");
        fail(&breaker, 1);
        assert_eq!(breaker.pass().unwrap_err(), PAUSE_FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_pause_one_question_is_on_trial_and_the_others_wait_for_it() {
        let breaker = Breaker::new();
        fail(&breaker, FAILURES_MAX);
        tokio::time::advance(PAUSE_FIRST - Duration::from_millis(1)).await;
        assert!(breaker.pass().is_err());
        tokio::time::advance(Duration::from_millis(1)).await;
        let trial = breaker.pass().unwrap();
        assert!(trial.is_trial());
        assert_eq!(breaker.pass().unwrap_err(), Duration::ZERO);
        trial.report(true);
        assert!(!breaker.pass().unwrap().is_trial());
    }

    #[tokio::test(start_paused = true)]
    async fn each_failed_trial_doubles_the_pause_up_to_the_longest() {
        let breaker = Breaker::new();
        fail(&breaker, FAILURES_MAX);
        let mut pause = PAUSE_FIRST;
        for _ in 0..8 {
            assert_eq!(breaker.pass().unwrap_err(), pause);
            tokio::time::advance(pause).await;
            fail(&breaker, 1);
            pause = (pause * 2).min(PAUSE_MAX);
        }
        assert_eq!(pause, PAUSE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_is_dropped_leaves_room_for_the_next() {
        let breaker = Breaker::new();
        fail(&breaker, FAILURES_MAX);
        tokio::time::advance(PAUSE_FIRST).await;
        drop(breaker.pass().unwrap());
        assert!(breaker.pass().unwrap().is_trial());
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_failure_from_before_the_pause_does_not_prolong_it() {
        let breaker = Breaker::new();
        let late = breaker.pass().unwrap();
        fail(&breaker, FAILURES_MAX);
        tokio::time::advance(PAUSE_FIRST).await;
        late.report(false);
        assert!(breaker.pass().unwrap().is_trial());
    }
}
