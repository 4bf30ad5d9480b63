//! Moves exposure; a file an actuator.
//!
//! An [`Actuator`] takes nothing but a [`Cleared`] shift, so whatever reaches traffic has passed the rails. It answers
//! with what it reads back after setting, never with what it was asked for: a rollout believes traffic, not orders.
//!
//! [`flags`] is the actuator that needs nothing else installed; [`evaluation`] is its pure half, who gets which version.

pub mod evaluation;
pub mod flags;

use futures_util::future::BoxFuture;

use crate::{
    domain::{Exposure, RequestId, ServiceName, Shift, Text},
    rails::Cleared,
};

pub use evaluation::{Context, Evaluation, Failure, FlagState, FlagValue, Reason, Standing, evaluate};
pub use flags::{Config, FlagConfig, Flags};

/// Why traffic was not moved or could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It may work when asked again later.
    #[error("traffic cannot be moved now: {0}")]
    Unavailable(Text),
    /// It will not be done, however often it is asked for.
    #[error("traffic is not moved: {0}")]
    Refused(Text),
}

/// Whatever can decide who gets the new version of a service.
pub trait Actuator: Send + Sync {
    /// Puts `shift.to` in force and returns the exposure that is read back after setting it.
    ///
    /// The same request twice is one shift: the second call sets nothing and only reads. A shift that gives nobody the
    /// new version who does not have it is taken whatever its `from` says. One that raises is taken only where `from` is
    /// what stands, and is otherwise [`Error::Refused`].
    fn shift<'a>(&'a self, request: RequestId, shift: &'a Cleared<Shift>) -> BoxFuture<'a, Result<Exposure, Error>>;

    /// Reads who gets the new version of this service now.
    fn read<'a>(&'a self, service: &'a ServiceName) -> BoxFuture<'a, Result<Exposure, Error>>;
}
