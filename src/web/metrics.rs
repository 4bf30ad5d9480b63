//! `/metrics`: what the daemon counts, for whoever collects it.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{Refusal, Site};

pub(super) async fn scrape(State(site): State<Arc<Site>>) -> Response {
    site.metrics.viewed(&site.handle.view());
    site.metrics.streaming(site.streams.open());
    match site.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(_) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written", "see the log")
            .into_response(),
    }
}
