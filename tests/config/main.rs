//! The configuration from outside: what is refused and how, what the example promises, and what never happens.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod example;
mod laws;
mod meaning;
mod model;
mod refused;
mod secrets;

use tollgate::config::{self, Config, Problem};

/// The least that is accepted, with places for more: each marker is a line that a test may replace.
const LEAST: &str = "\
#top
[services.shop]
repository = \"acme/shop\"
#service
[services.shop.telemetry.control]
urls = [\"http://old:9100/metrics\"]
#control
[services.shop.telemetry.canary]
urls = [\"http://new:9100/metrics\"]
#canary
[[services.shop.slis]]
name = \"errors\"
kind = \"ratio\"
bad = { metric = \"http_requests_total\", where = { code = { starts_with = \"5\" } } }
total = { metric = \"http_requests_total\" }
#sli
[[services.shop.slos]]
sli = \"errors\"
#slo
";

/// A secret that is long enough and unlike anything else in a file.
const SECRET: &str = "uK8vQ2mZ7xW4nB6c";

/// Every environment variable that ends as one that holds a secret is set.
fn env(name: &str) -> Option<String> {
    ["SECRET", "TOKEN", "KEY", "KEY_ID"].iter().any(|end| name.ends_with(end)).then(|| SECRET.to_owned())
}

fn read(text: &str) -> Result<Config, Vec<Problem>> {
    config::read(text, "t.toml", &env)
}

/// [`LEAST`] with one part replaced by another.
fn least_with(from: &str, to: &str) -> String {
    assert!(LEAST.contains(from), "{from} is no part of the least configuration");
    LEAST.replacen(from, to, 1)
}

fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(Problem::to_string).collect()
}
