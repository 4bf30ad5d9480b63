//! Who gets the new version, and a move from one such state to another.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use super::{Revision, RolloutId, ServiceName};

/// A share of traffic in basis points: 0 to 10,000, where 100 is one per cent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u16", try_from = "u16")]
pub struct Share(u16);

impl Share {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// Everybody.
    pub const FULL: Self = Self(10_000);

    /// From basis points; `None` above 10,000.
    pub const fn from_basis_points(points: u16) -> Option<Self> {
        if points <= Self::FULL.0 { Some(Self(points)) } else { None }
    }

    /// Basis points, 0 to 10,000.
    pub const fn basis_points(self) -> u16 {
        self.0
    }

    /// As a fraction, 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(Self::FULL.0)
    }
}

impl TryFrom<u16> for Share {
    type Error = String;

    fn try_from(points: u16) -> Result<Self, String> {
        Self::from_basis_points(points).ok_or_else(|| format!("{points} basis points is more than everybody (10000)"))
    }
}

impl From<Share> for u16 {
    fn from(share: Share) -> Self {
        share.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match rest {
            0 => write!(f, "{whole}%"),
            _ if rest.is_multiple_of(10) => write!(f, "{whole}.{}%", rest / 10),
            _ => write!(f, "{whole}.{rest:02}%"),
        }
    }
}

/// Everyone whose context has this attribute with this value: a ring, a tier, a region, a header.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cohort {
    /// Name of the attribute, such as `tier`.
    pub attribute: String,
    /// Its value, such as `internal`.
    pub value: String,
}

/// Who gets the new version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exposure {
    /// This share of everyone, sticky by user.
    pub share: Share,
    /// These cohorts wholly, besides the share.
    #[serde(default)]
    pub cohorts: BTreeSet<Cohort>,
    /// This share of requests copied to the new version, its answers dropped.
    #[serde(default)]
    pub mirror: Share,
}

impl Exposure {
    /// Nobody gets it.
    pub fn none() -> Self {
        Self::default()
    }

    /// A plain share.
    pub fn share(share: Share) -> Self {
        Self { share, ..Self::default() }
    }

    /// Whether nobody gets it.
    pub fn is_none(&self) -> bool {
        *self == Self::none()
    }

    /// Whether everybody gets it.
    pub fn is_full(&self) -> bool {
        self.share == Share::FULL
    }

    /// Whether someone gets the new version under `self` who might not under `other`.
    pub fn exceeds(&self, other: &Self) -> bool {
        self.share > other.share || self.mirror > other.mirror || !self.cohorts.is_subset(&other.cohorts)
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.share)?;
        for cohort in &self.cohorts {
            write!(f, " + {}={}", cohort.attribute, cohort.value)?;
        }
        if self.mirror > Share::NONE {
            write!(f, " + {} mirrored", self.mirror)?;
        }
        Ok(())
    }
}

/// A move of one service's traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shift {
    /// The service whose traffic moves.
    pub service: ServiceName,
    /// The rollout it moves for.
    pub rollout: RolloutId,
    /// The old version, when it is known by revision.
    pub control: Option<Revision>,
    /// The new version.
    pub canary: Revision,
    /// Who has it now, by the last confirmed reading.
    pub from: Exposure,
    /// Who shall have it.
    pub to: Exposure,
}

impl Shift {
    /// Whether someone would get the new version who does not have it now.
    pub fn raises(&self) -> bool {
        self.to.exceeds(&self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_end_at_everybody_and_print_as_per_cent() {
        assert_eq!(Share::from_basis_points(10_001), None);
        let printed = [0, 1, 50, 125, 500, 10_000].map(|p| Share::from_basis_points(p).unwrap().to_string());
        assert_eq!(printed, ["0%", "0.01%", "0.5%", "1.25%", "5%", "100%"]);
    }

    #[test]
    fn a_new_cohort_is_more_exposure_even_at_a_smaller_share() {
        let half = Exposure::share(Share(5_000));
        let ring = Exposure {
            cohorts: BTreeSet::from([Cohort { attribute: "tier".into(), value: "internal".into() }]),
            ..Exposure::share(Share(100))
        };
        assert!(ring.exceeds(&half) && half.exceeds(&ring));
        assert!(!Exposure::none().exceeds(&ring));
        assert!(!half.exceeds(&half));
    }
}
