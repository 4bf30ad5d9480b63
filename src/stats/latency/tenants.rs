//! Which tenants of the canary stand out, from what was seen before.

use serde::{Deserialize, Serialize};

/// Tenants that are followed.
const FOLLOWED: usize = 4;
/// Tenants that are left out together.
const HEAVIEST: usize = 3;
/// How much of a tenant's excess counts on after one more look.
const KEPT: f32 = 0.98;

/// The tenants with the largest excess of slow requests, by the stand-ins of their names. Chosen by the past alone, so
/// that leaving them out takes no more from an arm than their own requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tenants {
    followed: [(u32, f32); FOLLOWED],
}

impl Tenants {
    /// Takes in each tenant's excess in one look.
    pub(super) fn follow(&mut self, tenants: impl Iterator<Item = (u32, f64)>) {
        self.followed.iter_mut().for_each(|(_, excess)| *excess *= KEPT);
        for (name, excess) in tenants {
            let excess = (excess as f32).clamp(-1e6, 1e6);
            if let Some(known) = self.followed.iter_mut().find(|(known, _)| *known == name) {
                known.1 = (known.1 + excess).clamp(0.0, 1e9);
            } else if let Some(least) = self.followed.iter_mut().min_by(|a, b| a.1.total_cmp(&b.1))
                && excess > least.1
            {
                *least = (name, excess);
            }
        }
        self.followed.sort_by(|a, b| b.1.total_cmp(&a.1));
    }

    /// The heaviest, most excess first.
    pub(super) fn heaviest(&self) -> Vec<u32> {
        self.followed.iter().take(HEAVIEST).filter(|(_, excess)| *excess > 0.0).map(|(name, _)| *name).collect()
    }
}
