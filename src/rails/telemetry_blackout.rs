//! Telemetry has been silent of the canary for too long: hold and call a person, for nobody is watching.
//!
//! Silence alone does not take traffic back: most blackouts are the monitoring's, and a rollback nobody can watch is no
//! safer. The stage's patience ends it if it lasts.

use super::{Case, Rail, Ruling};

pub(super) const RAIL: Rail =
    Rail { name: "telemetry_blackout", summary: "silence of all telemetry holds and pages", waivable: false, rule };

fn rule(case: &Case<'_>) -> Ruling {
    let Some(listening_since) = case.listening_since else {
        return Ruling::Allow;
    };
    let silent = case.now.since(case.heard.map_or(listening_since, |heard| heard.max(listening_since)));
    if silent > case.blackout_after {
        Ruling::hold_and_page(format!("telemetry has said nothing of the canary for {} s", silent.as_secs()))
    } else {
        Ruling::Allow
    }
}
