//! A stage that has not come to a verdict within its patience is taken back: a rollout must not linger half done,
//! forgotten, while its old version ages.

use super::{Case, Rail, Ruling};
use crate::domain::Verdict;

pub(super) const RAIL: Rail = Rail {
    name: "progress_deadline",
    summary: "a stage that outlasts its patience is taken back, and a person is told",
    waivable: true,
    rule,
};

fn rule(case: &Case<'_>) -> Ruling {
    match case.stage {
        Some(stage) if stage.held > stage.patience => Ruling::ObjectAndPage {
            at_most: Verdict::Rollback,
            why: crate::domain::Text::new(format!(
                "no verdict within the stage's patience of {} s",
                stage.patience.as_secs()
            )),
        },
        Some(_) | None => Ruling::Allow,
    }
}
