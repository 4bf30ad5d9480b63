//! What a rollout has at hand while it handles one event: the time, the policy, numbers for requests, and a tray for
//! the effects.

use crate::{
    domain::{RequestId, Timestamp},
    rollout::{Effect, ServicePolicy, lineage::Lineage, memory::Memory, past::Past},
};

/// At hand while one event is handled.
pub(super) struct Desk<'a> {
    pub(super) now: Timestamp,
    pub(super) policy: &'a ServicePolicy,
    pub(super) kill_switch: bool,
    pub(super) lineage: &'a Lineage,
    /// How the service's earlier changes ended.
    pub(super) past: &'a Past,
    /// What was learnt of the noise of the service's checks.
    pub(super) memory: &'a mut Memory,
    pub(super) requests: &'a mut u64,
    pub(super) effects: &'a mut Vec<Effect>,
}

impl Desk<'_> {
    /// The number of a new request.
    pub(super) fn new_request(&mut self) -> RequestId {
        *self.requests += 1;
        RequestId(*self.requests)
    }
}
