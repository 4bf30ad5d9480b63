//! Tollgate: a supervisor for progressive rollouts.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod domain;
pub mod forge;
pub mod journal;
pub mod plan;
pub mod rails;
pub mod rollout;
pub mod sim;
pub mod stats;
pub mod telemetry;
pub mod traffic;
pub mod web;
