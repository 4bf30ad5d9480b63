//! Who gets which version: a flag's state and a user's context in, one side of the flag out. Nothing here waits, locks
//! or draws lots.
//!
//! A share has to be sticky: a user who has seen the new version must not lose it while the share grows, and must not
//! change sides between two requests. So the side is no draw but a property of the user: his bucket is a hash of his
//! targeting key, and he has the new version while his bucket lies below the share. Growing the share only adds users,
//! and shrinking it takes back the last ones added.
//!
//! The hash is salted with service and rollout. Within a rollout the salt stands, across restarts too. Across rollouts it
//! differs, so that it is not always the same users who meet a fault first, and across services, so that nobody is among
//! the first everywhere.
//!
//! The bucket keeps all 64 bits of the hash instead of being cut to a basis point: with a full-width bucket the share is
//! met exactly in expectation, with no rounding at the edges, and 0% and 100% need no rule of their own.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::domain::{Arm, Cohort, Exposure, Revision, RolloutId, ServiceName, Share, Text};

/// What a flag in `Revision` form says for a control whose revision is not known.
pub const CONTROL_UNKNOWN: &str = "stable";

/// The key of the context that names the user, as OpenFeature spells it.
const TARGETING_KEY: &str = "targetingKey";

/// What a flag's value looks like to those who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlagValue {
    /// `false` for control, `true` for the canary.
    Boolean,
    /// `"control"` or `"canary"`.
    Variant,
    /// The revision of the arm; [`CONTROL_UNKNOWN`] for a control that is not known by revision.
    Revision,
}

/// What one rollout has made of a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The rollout.
    pub rollout: RolloutId,
    /// The old version, when it is known by revision.
    pub control: Option<Revision>,
    /// The new version.
    pub canary: Revision,
    /// Who has the new version.
    pub exposure: Exposure,
}

/// A flag as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagState {
    /// The service it moves.
    pub service: ServiceName,
    /// The key it is asked for by.
    pub key: String,
    /// What its value looks like.
    pub value: FlagValue,
    /// What stands; `None` before the first shift since the process started: control for everybody.
    pub standing: Option<Standing>,
    /// How often it has changed since the process started.
    pub version: u64,
}

/// Who asks: a targeting key and attributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Context {
    targeting_key: Option<String>,
    attributes: Map<String, Value>,
}

/// Why a value came out, in the protocol's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Everybody has this side; the context was not looked at or could not have mattered.
    Static,
    /// The context is of a cohort.
    TargetingMatch,
    /// The share decided.
    Split,
}

impl Reason {
    /// The protocol's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Static => "STATIC",
            Self::TargetingMatch => "TARGETING_MATCH",
            Self::Split => "SPLIT",
        }
    }
}

/// Which side a context is on, and what it is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The side. Its name is the variant.
    pub arm: Arm,
    /// Why.
    pub reason: Reason,
    /// The flag's value for that side: a boolean or a string.
    pub value: Value,
    /// The revision of that side, where known.
    pub revision: Option<Revision>,
}

/// Why there is no side for a context.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The share can only be told to a user who has a name.
    #[error("the flag is split by share: give the context a non-empty string `targetingKey`")]
    TargetingKeyMissing,
    /// The context is no context.
    #[error("invalid context: {0}")]
    InvalidContext(Text),
}

impl Context {
    /// Takes a context as it came over the wire: an object, in which `targetingKey` is a string if it is there.
    ///
    /// An empty targeting key counts as none: whoever has no name would otherwise share one bucket with everyone else
    /// who has none, and all of them would change sides at once.
    ///
    /// # Errors
    /// [`Failure::InvalidContext`] for anything else.
    pub fn from_json(context: Value) -> Result<Self, Failure> {
        let Value::Object(attributes) = context else {
            return Err(Failure::InvalidContext(Text::new("`context` is not an object")));
        };
        let targeting_key = match attributes.get(TARGETING_KEY) {
            None => None,
            Some(Value::String(key)) => Some(key.clone()).filter(|key| !key.is_empty()),
            Some(_) => return Err(Failure::InvalidContext(Text::new("`targetingKey` is not a string"))),
        };
        Ok(Self { targeting_key, attributes })
    }

    /// A context of a user by name alone.
    pub fn user(targeting_key: impl Into<String>) -> Self {
        let key = targeting_key.into();
        let attributes = Map::from_iter([(TARGETING_KEY.to_owned(), Value::String(key.clone()))]);
        Self { targeting_key: Some(key).filter(|key| !key.is_empty()), attributes }
    }

    /// The same, with one more attribute.
    #[must_use]
    pub fn with(mut self, attribute: impl Into<String>, value: impl Into<Value>) -> Self {
        self.attributes.insert(attribute.into(), value.into());
        self
    }

    /// Whether the context is of this cohort. A number or a boolean is compared as JSON writes it; a list, an object and
    /// null are equal to nothing.
    fn is_of(&self, cohort: &Cohort) -> bool {
        match self.attributes.get(&cohort.attribute) {
            Some(Value::String(value)) => *value == cohort.value,
            Some(Value::Bool(value)) => value.to_string() == cohort.value,
            Some(Value::Number(value)) => value.to_string() == cohort.value,
            Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => false,
        }
    }
}

impl Standing {
    /// The side of this context. Cohorts come first: they have the new version whatever the share.
    ///
    /// Beside cohorts, a user at 0% is told `SPLIT`: `STATIC` would invite clients to keep the answer for everybody, and
    /// the protocol has no word for "no rule matched".
    fn side(&self, service: &ServiceName, context: &Context) -> Result<(Arm, Reason), Failure> {
        let Exposure { share, cohorts, mirror: _ } = &self.exposure;
        if cohorts.iter().any(|cohort| context.is_of(cohort)) {
            return Ok((Arm::Canary, Reason::TargetingMatch));
        }
        match *share {
            Share::FULL => Ok((Arm::Canary, Reason::Static)),
            Share::NONE if cohorts.is_empty() => Ok((Arm::Control, Reason::Static)),
            Share::NONE => Ok((Arm::Control, Reason::Split)),
            share => {
                let key = context.targeting_key.as_deref().ok_or(Failure::TargetingKeyMissing)?;
                let arm =
                    if lies_below(bucket(service, self.rollout, key), share) { Arm::Canary } else { Arm::Control };
                Ok((arm, Reason::Split))
            }
        }
    }
}

impl FlagState {
    /// A flag that nothing has moved yet.
    pub fn new(service: ServiceName, key: impl Into<String>, value: FlagValue) -> Self {
        Self { service, key: key.into(), value, standing: None, version: 0 }
    }

    /// Who has the new version of the service.
    pub fn exposure(&self) -> Exposure {
        self.standing.as_ref().map_or_else(Exposure::none, |standing| standing.exposure.clone())
    }

    fn revision(&self, arm: Arm) -> Option<&Revision> {
        let standing = self.standing.as_ref()?;
        match arm {
            Arm::Control => standing.control.as_ref(),
            Arm::Canary => Some(&standing.canary),
        }
    }

    fn value(&self, arm: Arm) -> Value {
        match self.value {
            FlagValue::Boolean => Value::Bool(arm == Arm::Canary),
            FlagValue::Variant => Value::String(arm.to_string()),
            FlagValue::Revision => {
                Value::String(self.revision(arm).map_or(CONTROL_UNKNOWN, Revision::as_str).to_owned())
            }
        }
    }
}

/// Says which side of the flag a context is on. The same state and context always give the same answer.
///
/// # Errors
/// [`Failure::TargetingKeyMissing`] where the share decides and the context has no name.
pub fn evaluate(state: &FlagState, context: &Context) -> Result<Evaluation, Failure> {
    let (arm, reason) = match &state.standing {
        None => (Arm::Control, Reason::Static),
        Some(standing) => standing.side(&state.service, context)?,
    };
    Ok(Evaluation { arm, reason, value: state.value(arm), revision: state.revision(arm).cloned() })
}

/// A user's place among all users of one rollout: uniform over the whole width of the number.
fn bucket(service: &ServiceName, rollout: RolloutId, targeting_key: &str) -> u64 {
    let mut hash = Sha256::new();
    // The zero byte ends the salt: without it the salt of one rollout could run into the key of another.
    hash.update(format!("{service}/{rollout}\0"));
    hash.update(targeting_key);
    let digest: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Whether a bucket lies below a share of all buckets: bucket / 2^64 < share, without rounding.
fn lies_below(bucket: u64, share: Share) -> bool {
    let everybody = u128::from(Share::FULL.basis_points());
    u128::from(bucket) * everybody < u128::from(share.basis_points()) << u64::BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_cuts_the_buckets_at_exactly_its_edge() {
        let share = |points| Share::from_basis_points(points).unwrap();
        assert!(!lies_below(0, Share::NONE));
        assert!(lies_below(u64::MAX, Share::FULL));
        assert!(!lies_below(u64::MAX, share(9_999)));
        assert!(lies_below(0, share(1)));
        let half = 1 << 63;
        assert!(lies_below(half - 1, share(5_000)) && !lies_below(half, share(5_000)));
    }

    #[test]
    fn a_bucket_never_changes_between_releases() {
        // Computed apart from this code: sha256("shop/r7\0alice"), the first eight bytes. A change here moves users
        // from one version to the other in the middle of a rollout.
        assert_eq!(bucket(&ServiceName::new("shop"), RolloutId(7), "alice"), 0xee26_4cda_c88d_8c26);
    }

    #[test]
    fn an_attribute_is_of_a_cohort_when_it_reads_the_same() {
        let ring = |value: &str| Cohort { attribute: "ring".into(), value: value.into() };
        let ringed = |value: Value| Context::default().with("ring", value);
        assert!(ringed("0".into()).is_of(&ring("0")));
        assert!(ringed(0.into()).is_of(&ring("0")));
        assert!(ringed(true.into()).is_of(&ring("true")));
        for other in [Value::Null, Value::from(vec!["0"]), "00".into(), 1.into()] {
            assert!(!ringed(other.clone()).is_of(&ring("0")), "{other}");
        }
        assert!(!ringed(Value::Null).is_of(&ring("null")));
    }
}
