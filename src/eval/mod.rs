//! How good are the decisions? Generated noise and regressions through the tests and through our rivals' methods, on the
//! same draws; figures out.

pub mod noise;
pub mod noise_level;
pub mod noise_mix;
