//! A model in the virtual world: it advises at random, wrongly, too late or not at all. And what a fleet that listens to
//! it is held to: before each event the same fleet is taken as if nobody had ever advised it, and what both ask of
//! traffic is compared.

use std::{sync::Arc, time::Duration};

use rand::{Rng, rngs::StdRng};

use super::watch::{Told, Watch};
use crate::{
    domain::{
        Action, Advice, Aim, Brief, CheckId, Confidence, Conversation, Digest, Exchange, ModelRole, RolloutId, Shift,
        Stamped, Text, Usage, Weight,
    },
    rollout::{Effect, Event, Fleet, ModelMay, ModelPolicy, Policy},
};

/// What services ask of the model, in worlds that have one.
pub(super) fn policy(rng: &mut StdRng) -> ModelPolicy {
    ModelPolicy {
        advises: true,
        narrates: rng.random_bool(0.5),
        may: if rng.random_bool(0.5) { ModelMay::BreakTies } else { ModelMay::Hold },
        // A tie itself is a leaning at 0.05; not every one is at 0.005.
        lean_alpha: if rng.random_bool(0.5) { 0.05 } else { 0.005 },
        advise_within: Duration::from_secs(60),
    }
}

/// Whatever comes to its mind.
pub(super) fn advice(brief: &Brief, rng: &mut StdRng) -> Result<Advice, Text> {
    let action = match brief.legal.get(rng.random_range(0..8)) {
        Some(legal) => *legal,
        None => Action::ALL[rng.random_range(0..Action::ALL.len())],
    };
    let of_brief = || brief.checks.iter().map(|check| check.check).collect::<Vec<_>>();
    let cites = match rng.random_range(0..8) {
        0 => return Err(Text::new("the model failed")),
        1 => Vec::new(),
        2 => vec![CheckId(rng.random_range(1..=u16::MAX))],
        _ => of_brief(),
    };
    Ok(Advice { action, cites, confidence: Confidence::High, rationale: Text::new("so it seems") })
}

/// What it says that it cost.
pub(super) fn conversation(role: ModelRole, rng: &mut StdRng) -> Box<Conversation> {
    let usage = Usage {
        input_tokens: rng.random_range(0..1_000),
        cached_tokens: 0,
        output_tokens: rng.random_range(0..100),
        micro_dollars: None,
    };
    let exchange = Exchange {
        question: Digest::new("00"),
        request: Digest::new("00"),
        said: 1,
        finish: Text::new("stop"),
        failure: None,
        attempts: 1,
        usage,
        millis: 10,
    };
    Box::new(Conversation {
        role,
        model: Text::new("oracle"),
        prompt: Digest::new("00"),
        messages: Vec::new(),
        exchanges: vec![exchange],
        end: Text::default(),
    })
}

/// The fleet that was never advised, for one event, and what it asked of traffic.
#[derive(Default)]
pub(super) struct Unadvised {
    fleet: Option<Fleet>,
    /// What it asked of traffic; `None` where it was not there, right after a start.
    asked: Option<Vec<Shift>>,
    told: Option<Told>,
}

impl Unadvised {
    /// What is about to be handled is handled by the other fleet first.
    pub(super) fn handle(&mut self, entries: &[Stamped<Event>], policy: &Policy) {
        (self.asked, self.told) = (None, None);
        let Some(mut fleet) = self.fleet.take() else { return };
        self.told = entries.iter().find_map(|entry| told(&entry.event, &fleet, policy));
        let shift = |effect| match effect {
            Effect::Shift { shift, .. } => Some(shift.get().clone()),
            _ => None,
        };
        self.asked = Some(entries.iter().flat_map(|entry| fleet.handle(entry)).filter_map(shift).collect());
    }

    /// What is wrong with a move that is asked for, if anything.
    pub(super) fn compare(&self, shift: &Shift) -> Result<(), String> {
        let Some(asked) = &self.asked else { return Ok(()) };
        Watch::asked_beside(shift, asked, self.told.as_ref())
    }

    /// Retreats that it asked for and that were not made for these rollouts.
    pub(super) fn missing(&self, moved: &[RolloutId]) -> Vec<&Shift> {
        let retreats = self.asked.iter().flatten().filter(|shift| shift.from.exceeds(&shift.to));
        retreats.filter(|shift| !moved.contains(&shift.rollout)).collect()
    }

    /// The fleet as it stands, for the next event.
    pub(super) fn observe(&mut self, fleet: &Fleet) {
        self.fleet = Some(fleet.without_advice());
    }

    /// The daemon was killed.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

fn told(event: &Event, fleet: &Fleet, policy: &Policy) -> Option<Told> {
    let Event::Advised { rollout, advice: Ok(advice), .. } = event else { return None };
    let view = fleet.view_of(*rollout)?;
    let model = policy.services.get(&view.service)?.model.as_ref()?;
    let guards = || view.checks.iter().filter(|check| check.aim == Aim::Guard && check.weight == Weight::Critical);
    let most = guards().map(|check| check.evidence.log_e_value).fold(f64::NEG_INFINITY, f64::max);
    Some(Told {
        rollout: *rollout,
        action: advice.action,
        may_break_ties: model.may == ModelMay::BreakTies,
        leans: most >= (guards().count().max(1) as f64 / model.lean_alpha).ln(),
    })
}

/// A policy in which every service asks a model.
pub(super) fn asked_by_all(policy: &mut Arc<Policy>, rng: &mut StdRng) {
    for service in Arc::make_mut(policy).services.values_mut() {
        service.model = Some(self::policy(rng));
    }
}
