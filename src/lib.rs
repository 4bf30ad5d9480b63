//! Tollgate: a supervisor for progressive rollouts.
pub mod domain;
pub mod plan;
pub mod rails;
pub mod rollout;
pub mod stats;
