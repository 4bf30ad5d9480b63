//! The vendors' sources of telemetry against servers that answer what their documentation shows: one contract for all.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so by a panic")]

mod cloudwatch;
mod contract;
mod datadog;
mod influxdb;
mod influxdb_real;
mod newrelic;
mod server;
mod web;
