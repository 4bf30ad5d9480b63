//! One page, read once: what `check-config --online` asks before anything runs.

use std::{collections::BTreeSet, time::Duration};

use reqwest::Client;

use super::fetch::{fetch, place};
use crate::telemetry::Error;

/// What one page exposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many series.
    pub series: usize,
    /// The names that they bear, as exposed.
    pub names: BTreeSet<String>,
}

impl Page {
    /// Whether it exposes a metric, named as selectors name it: a histogram without its ending.
    pub fn has(&self, metric: &str) -> bool {
        self.names.contains(metric) || self.names.contains(&format!("{metric}_bucket"))
    }
}

/// Reads a page. Every error names the address, without what in it could be a secret.
pub async fn page(client: &Client, url: &str, timeout: Duration) -> Result<Page, Error> {
    let body = fetch(client, url, timeout, |_| true).await?;
    let names = body.samples.iter().map(|(series, _)| series.name.clone()).collect();
    Ok(Page { series: body.samples.len(), names })
}

/// An address as it may be shown.
pub fn shown(url: &str) -> String {
    place(url)
}
