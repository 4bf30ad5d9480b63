//! The demonstration's two pull requests: a good one, and one that breaks a single endpoint.

use super::shop::{Behaviour, Page};

/// One change of the demonstration.
pub(super) struct Story {
    pub(super) pull_request: u64,
    pub(super) title: &'static str,
    pub(super) author: &'static str,
    pub(super) base: &'static str,
    pub(super) revision: &'static str,
    pub(super) diff: &'static str,
    /// How the new version behaves.
    pub(super) behaviour: fn() -> Behaviour,
}

/// What everyone has before the first change.
pub(super) const STABLE: &str = "5ab1e0000000000000000000000000000000a001";

/// Part of the checkouts that the bad change breaks.
const BROKEN_CHECKOUTS: f64 = 0.5;

pub(super) const GOOD: Story = Story {
    pull_request: 41,
    title: "Show the number of items beside the cart",
    author: "mira",
    base: STABLE,
    revision: "900dc0de0000000000000000000000000000b002",
    diff: include_str!("good.diff"),
    behaviour: Behaviour::healthy,
};

pub(super) const BAD: Story = Story {
    pull_request: 42,
    title: "Retry the payment provider once before giving up",
    author: "jonas",
    base: GOOD.revision,
    revision: "badc0de00000000000000000000000000000c003",
    diff: include_str!("bad.diff"),
    behaviour: || Behaviour::healthy().failing(Page::Checkout, BROKEN_CHECKOUTS),
};
