//! The receiver of OpenTelemetry's metrics: with the real SDK, with requests made by hand, and with what nobody should send.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

mod counts;
mod hostile;
mod house;
mod sdk;
