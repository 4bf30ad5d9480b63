//! All services together: how many there are, and what no two of them may share.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Duration,
};

use super::{
    SERVICES_MAX, Services,
    key::Key,
    meant::{Flag, Github, Telemetry},
    reading::{Reading, in_words},
    service::Service,
    written,
};
use crate::{domain::ServiceName, rollout::ServicePolicy};

/// What is meant by the services, each part by service.
#[derive(Default)]
pub(super) struct Fleet {
    pub(super) policies: BTreeMap<ServiceName, ServicePolicy>,
    pub(super) telemetry: BTreeMap<ServiceName, Telemetry>,
    pub(super) traffic: BTreeMap<ServiceName, Flag>,
    pub(super) planned_by_model: BTreeSet<ServiceName>,
}

impl Reading<'_> {
    /// Every service that can be read. `plan_within` is how long the model may plan; `None` where there is none.
    pub(super) fn services(
        &mut self,
        sources: Option<&BTreeMap<String, written::Source>>,
        written: Option<&BTreeMap<String, written::Service>>,
        expected: Services,
        plan_within: Option<Duration>,
    ) -> Fleet {
        let key = Key::root().name("services");
        let none = BTreeMap::new();
        let written = written.unwrap_or(&none);
        if written.is_empty() {
            match expected {
                Services::AtLeastOne => self.missing(&key, "a table such as [services.shop]"),
                Services::MayBeNone => self.warn(&key, "there is none, so nothing is rolled out"),
            }
        }
        self.at_most(&key, written.len(), SERVICES_MAX, "services");
        let mut fleet = Fleet::default();
        let mut flags: BTreeMap<String, ServiceName> = BTreeMap::new();
        for (name, service) in written.iter().take(SERVICES_MAX) {
            let key = key.name(name);
            let Some(service) = self.service(&key, (name, service), sources, plan_within) else { continue };
            let Service { name, policy, telemetry, flag, is_planned_by_model } = service;
            match flags.entry(flag.key.clone()) {
                Entry::Vacant(free) => {
                    free.insert(name.clone());
                }
                Entry::Occupied(other) => {
                    let what = format!("service {} has the same flag: one would move the other's traffic", other.get());
                    self.problems.add(&key.name("flag").name("key"), what, "write another name");
                }
            }
            if is_planned_by_model {
                fleet.planned_by_model.insert(name.clone());
            }
            fleet.policies.insert(name.clone(), policy);
            fleet.telemetry.insert(name.clone(), telemetry);
            fleet.traffic.insert(name, flag);
        }
        fleet
    }

    /// A fetch that is asked for again before it can have failed would be fetched twice.
    pub(super) fn check_replies(&mut self, policies: &BTreeMap<ServiceName, ServicePolicy>, github: &Github) {
        let timeout_key = Key::root().name("github").name("timeout");
        for (name, policy) in policies {
            let key = Key::root().name("services").name(name.as_str()).name("reply_within");
            if self.are_fine(&[&key, &timeout_key]) && policy.reply_within < github.timeout {
                let what = format!(
                    "{} is shorter than github.timeout, {}",
                    in_words(policy.reply_within),
                    in_words(github.timeout)
                );
                self.problems.add(&key, what, "write a longer one, or a shorter github.timeout");
            }
        }
    }
}
