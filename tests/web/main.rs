//! The web room from outside, over HTTP: who may ask, what is answered, what is refused and how, and what reaches the
//! loop. The loop here is a task that records the events it is given.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod acting;
mod asking;
mod client;
mod fleet;
mod live;
mod metrics;
mod page;
mod reading;
mod site;
