//! A model's explanation of how a rollout ended: words for people, kept to be shown and never read by a decision.
//! Nothing waits for them, and they are not asked for twice.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{desk::Desk, event::Effect, state::Rollout};
use crate::domain::{Brief, Conversation, Outcome, Prose, RequestId, Story, Text};

/// A model's words on how a rollout ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The model whose words they are; empty where that is not known.
    pub model: Text,
    /// The words. They are for people and may be wrong.
    pub words: Prose,
}

impl Rollout {
    /// It came to something: a model may explain it.
    pub(super) fn ask_explanation(&mut self, outcome: Outcome, why: &str, desk: &mut Desk<'_>) {
        if !desk.policy.model.as_ref().is_some_and(|model| model.narrates) {
            return;
        }
        let Some(story) = self.story(outcome, why, desk) else { return };
        let request = desk.new_request();
        self.narrating = Some(request);
        desk.effects.push(Effect::Narrate { request, rollout: self.id, story: Arc::new(story) });
    }

    /// What is told of it; `None` where it never began.
    fn story(&self, outcome: Outcome, why: &str, desk: &Desk<'_>) -> Option<Story> {
        let brief: Brief = self.brief(Vec::new(), desk)?;
        let plan = self.plan.as_ref()?;
        Some(Story {
            service: self.service.clone(),
            outcome,
            reason: Text::new(why),
            widest_share: self.widest_share,
            lasted_seconds: desk.now.since(self.opened).as_secs(),
            brief,
            names: plan.checks().iter().map(|check| check.name.clone()).collect(),
        })
    }

    /// Whether `request` is the explanation it waits for.
    pub(super) fn awaits_explanation(&self, request: RequestId) -> bool {
        self.narrating == Some(request)
    }

    /// The explanation came, or there is none.
    pub(super) fn explained(&mut self, words: &Result<Prose, Text>, conversation: Option<&Conversation>) {
        self.narrating = None;
        if let Ok(words) = words {
            let model = conversation.map(|conversation| conversation.model.clone()).unwrap_or_default();
            self.explanation = Some(Explanation { model, words: words.clone() });
        }
    }
}
