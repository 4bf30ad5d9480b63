//! How good are the decisions? Generated noise and regressions through the tests and through our rivals' methods, on the
//! same draws; figures out.
//!
//! [`suite::SUITES`] is the one list of what is tried. A suite is an entry there and a file with its cases ([`counts`] is
//! the model): each case draws one rollout from a seed and says when each contender rolled it back. [`trial`] runs the
//! cases over and over, [`calibration`] counts the harmless ones that were rolled back, [`power`] times the harmful ones,
//! and [`report`] writes both down.

pub mod calibration;
pub mod contender;
pub mod counts;
pub mod intervals;
pub mod latency;
pub mod level;
pub mod limit;
pub mod mix;
pub mod no_control;
pub mod noise;
pub mod noise_history;
pub mod noise_latency;
pub mod noise_level;
pub mod noise_mix;
pub mod peers;
pub mod power;
pub mod report;
pub mod safe;
pub mod suite;
pub mod trial;
