//! How a planner ends: by submitting its plan or by saying that nothing fits.
//!
//! What it says of risk can only raise it, and what it says of going back is told to people and decides nothing: a diff
//! that could talk a model into calling the change one-way would keep a bad version from being rolled back.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    reply::{Refusal, text},
    review::{Review, Unshown},
};
use crate::{
    domain::{Risk, Text},
    plan::Reason,
};

/// Most assumptions that are kept, and most bytes of each.
pub(super) const ASSUMPTIONS_MAX: usize = 6;
/// Most bytes of one assumption.
pub(super) const ASSUMPTION_BYTES_MAX: usize = 200;
/// Most files that are named as uncovered.
pub(super) const UNCOVERED_MAX: usize = 64;
/// Most bytes of a path there.
const PATH_BYTES_MAX: usize = 200;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
        pub(super) enum $name {
            $(#[serde(rename = $word)] $variant,)*
        }

        impl $name {
            pub(super) const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

words! {
    /// How risky the change is.
    Tier { Low = "low", Medium = "medium", High = "high", }
}

words! {
    /// What makes a change risky.
    RiskReason {
        SignIn = "sign_in",
        Payment = "payment",
        StoredData = "stored_data",
        Query = "query",
        TimeoutOrRetry = "timeout_or_retry",
        Concurrency = "concurrency",
        Caching = "caching",
        Configuration = "configuration",
        Dependency = "dependency",
        Interface = "interface",
        ModelOrPrompt = "model_or_prompt",
        HiddenText = "hidden_text",
        Large = "large",
        Other = "other",
    }
}

words! {
    /// Whether the old version can take the traffic back.
    RollbackSafety { Safe = "safe", Unsafe = "unsafe", Unknown = "unknown", }
}

words! {
    /// Why going back is safe or not.
    RollbackReason {
        NothingStored = "nothing_stored",
        Compatible = "compatible",
        SchemaChange = "schema_change",
        DataFormat = "data_format",
        ExternalEffect = "external_effect",
        NotShown = "not_shown",
        Other = "other",
    }
}

words! {
    /// Why nothing fits.
    AbstainReason {
        NoProdSurface = "no_prod_surface",
        DiffTooLarge = "diff_too_large",
        NoMatchingTelemetry = "no_matching_telemetry",
        Other = "other",
    }
}

words! {
    /// Why a check is dropped.
    DropReason {
        Demoted = "demoted",
        Replaced = "replaced",
        NotRelated = "not_related",
        Other = "other",
    }
}

/// A plan, submitted.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Submit {
    /// How risky the change is. The operator's rules can raise it, nothing lowers it.
    risk: Tier,
    /// What makes it so; empty where nothing does.
    risk_reasons: Vec<RiskReason>,
    /// Whether the old version can take the traffic back. It is told to people and decides nothing.
    rollback_safety: RollbackSafety,
    /// Why.
    rollback_reason: RollbackReason,
    /// The numbers of files in the review that no check covers; at most 64.
    uncovered: Vec<u16>,
    /// What you took for granted, at most 6 short sentences.
    assumptions: Vec<String>,
}

/// Nothing fits.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Abstain {
    /// Why.
    reason: AbstainReason,
}

impl Abstain {
    pub(super) fn reason(&self) -> &'static str {
        self.reason.word()
    }
}

/// A check, taken back.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DropCheck {
    /// The check's name.
    pub(super) name: String,
    /// Why.
    reason: DropReason,
}

impl DropCheck {
    pub(super) fn reason(&self) -> &'static str {
        self.reason.word()
    }
}

/// What a plan says besides its checks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Remarks {
    pub(super) risk: Risk,
    pub(super) notes: Vec<Text>,
    pub(super) uncovered: Vec<Text>,
}

impl Submit {
    pub(super) fn remarks(&self, review: &Review) -> Result<Remarks, Refusal> {
        let refused = |detail: String| Err(Refusal::new(Reason::OutOfBounds, detail));
        if self.assumptions.len() > ASSUMPTIONS_MAX {
            return refused(format!("assumptions: at most {ASSUMPTIONS_MAX}"));
        }
        if self.uncovered.len() > UNCOVERED_MAX {
            return refused(format!("uncovered: at most {UNCOVERED_MAX} files"));
        }
        let mut uncovered: Vec<Text> = Vec::new();
        for id in &self.uncovered {
            let Some(file) = review.file(*id) else {
                return refused(format!("uncovered: there is no file {id}; there are {}, from 0", review.files.len()));
            };
            let path = text(&file.path, PATH_BYTES_MAX);
            if !uncovered.contains(&path) {
                uncovered.push(path);
            }
        }
        let risk = match self.risk {
            Tier::Low => Risk::Low,
            Tier::Medium => Risk::Medium,
            Tier::High => Risk::High,
        };
        Ok(Remarks { risk, notes: self.notes(), uncovered })
    }

    fn notes(&self) -> Vec<Text> {
        let mut reasons: Vec<&str> = Vec::new();
        for reason in &self.risk_reasons {
            if !reasons.contains(&reason.word()) {
                reasons.push(reason.word());
            }
        }
        let risk = self.risk.word();
        let told = if reasons.is_empty() { risk.to_owned() } else { format!("{risk}: {}", reasons.join(", ")) };
        let (safety, why) = (self.rollback_safety.word(), self.rollback_reason.word());
        let mut notes = vec![
            Text::new(format!("the model takes the risk to be {told}")),
            Text::new(format!("the model takes going back to be {safety}: {why}")),
        ];
        let assumptions = self.assumptions.iter().map(|words| text(words, ASSUMPTION_BYTES_MAX));
        notes.extend(assumptions.map(|words| Text::new(format!("the model assumes: {words}"))));
        notes
    }
}

/// The files that nobody is shown, and why, for the plan's list of what was left out.
pub(super) fn unshown(review: &Review) -> impl Iterator<Item = Text> {
    review.unshown.iter().map(|(path, why)| {
        let why = match why {
            Unshown::Generated => "generated",
            Unshown::Vendored => "vendored",
            Unshown::Lock => "lock file",
            Unshown::Binary => "binary",
        };
        Text::new(format!("{} ({why})", text(path, PATH_BYTES_MAX)))
    })
}
