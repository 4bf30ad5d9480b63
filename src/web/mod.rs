//! Webhooks in, HTTP API, dashboard, metrics, feature flags out.

pub mod webhooks;
