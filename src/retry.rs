//! The one place where a call to another server is tried again: exponential waits with jitter, bounded in number and in
//! time.
//!
//! A wait that the server itself asks for is kept if it is short. A longer one, as a spent rate limit asks for, is not
//! sat out here: the call gives up with the error at hand, and whoever wanted it asks again later under limits of his own.
//! The forge, the model's client and the sources of telemetry call from here; what may pass is theirs to say, so the error is any type.

use std::{
    future::Future,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use backoff::ExponentialBackoff;

/// Longest wait a server may ask for that is kept.
pub const ASKED_WAIT_MAX: Duration = Duration::from_secs(20);

const FIRST_WAIT: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(10);

/// How one attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// Another attempt would fail as well.
    Final(E),
    /// Another attempt may succeed.
    Passing {
        /// What went wrong.
        error: E,
        /// How long the server asked to wait; none for a wait of our own.
        asked_wait: Option<Duration>,
    },
}

impl<E> Failure<E> {
    /// A failure that may pass, with no word from the server on when.
    pub fn passing(error: E) -> Self {
        Self::Passing { error, asked_wait: None }
    }
}

/// Attempts until one succeeds, fails for good, is the `attempts_max`th, or comes after `within`. The error is that of the
/// last attempt.
pub async fn attempt<T, E, F>(attempts_max: u32, within: Duration, mut once: impl FnMut() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, Failure<E>>>,
{
    let policy = ExponentialBackoff {
        current_interval: FIRST_WAIT,
        initial_interval: FIRST_WAIT,
        max_interval: WAIT_MAX,
        multiplier: 2.0,
        max_elapsed_time: Some(within),
        ..ExponentialBackoff::default()
    };
    let attempts = AtomicU32::new(0);
    backoff::future::retry(policy, || {
        let nth = attempts.fetch_add(1, Ordering::Relaxed) + 1;
        let attempted = once();
        async move {
            attempted.await.map_err(|failure| match failure {
                Failure::Final(error) => backoff::Error::permanent(error),
                // The crate heeds neither its own limit of time nor any count when a wait is asked for.
                Failure::Passing { error, asked_wait: Some(wait) } if nth < attempts_max && wait <= ASKED_WAIT_MAX => {
                    backoff::Error::retry_after(error, wait)
                }
                Failure::Passing { error, asked_wait: None } if nth < attempts_max => backoff::Error::transient(error),
                Failure::Passing { error, .. } => backoff::Error::permanent(error),
            })
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Down;

    async fn attempts_of(failure: Failure<Down>, attempts_max: u32) -> u32 {
        let tried = AtomicU32::new(0);
        let outcome: Result<(), Down> = attempt(attempts_max, Duration::from_secs(5), || {
            tried.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Err(failure.clone()))
        })
        .await;
        assert!(outcome.is_err());
        tried.into_inner()
    }

    #[tokio::test]
    async fn a_passing_failure_is_tried_as_often_as_allowed() {
        assert_eq!(attempts_of(Failure::passing(Down), 3).await, 3);
        assert_eq!(attempts_of(Failure::passing(Down), 1).await, 1);
        let asked = Failure::Passing { error: Down, asked_wait: Some(Duration::ZERO) };
        assert_eq!(attempts_of(asked, 3).await, 3);
    }

    #[tokio::test]
    async fn what_is_final_or_asks_for_too_long_a_wait_is_tried_once() {
        assert_eq!(attempts_of(Failure::Final(Down), 3).await, 1);
        let wait = ASKED_WAIT_MAX + Duration::from_millis(1);
        assert_eq!(attempts_of(Failure::Passing { error: Down, asked_wait: Some(wait) }, 3).await, 1);
    }

    #[tokio::test]
    async fn nothing_is_tried_again_after_the_time_allowed() {
        let tried = AtomicU32::new(0);
        let outcome: Result<(), Down> = attempt(100, Duration::from_millis(1), || {
            tried.fetch_add(1, Ordering::Relaxed);
            async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Err(Failure::passing(Down))
            }
        })
        .await;
        assert_eq!((outcome, tried.into_inner()), (Err(Down), 1));
    }
}
