//! Which baseline each check has at a stage: chosen once, when the stage begins, and kept until it ends.
//!
//! In the order of choice: a control that serves beside the canary; where there is none, the same hours of past days, which
//! telemetry is asked for; where it has too little of them, the canary at the stage before; else nothing, and only
//! absolute limits are held. Why the better ones were not to be had is said. A question to history that fails or stays
//! without an answer is an absence like any other: the next kind is chosen, and nothing moves.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    ServicePolicy, Stage,
    desk::Desk,
    event::Effect,
    expecting::{self, Switch},
    phase::Asked,
    state::Rollout,
};
use crate::{
    domain::{
        Aim, Autonomy, Baseline, Check, CheckId, ChosenBaseline, ControlAge, Origin, RequestId, Share, Text, Timestamp,
        Weight,
    },
    stats::no_control::Expectation,
};

/// How long history is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(300);

/// What came of asking history for one check: what it lets expect, or why nothing.
pub type Learnt = Result<Expectation, Text>;

/// The baselines of the stage that is held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Baselines {
    /// The open question to history.
    asked: Option<Asked>,
    /// Why there is no control; `None` where there is.
    pub(super) no_control: Option<Text>,
    /// One for each check; empty until they are chosen.
    chosen: Vec<ChosenBaseline>,
}

impl Baselines {
    /// Until when history is waited for, if it is.
    pub(super) fn awaited_until(&self) -> Option<Timestamp> {
        self.asked.map(|asked| asked.until)
    }

    /// The baseline of the check in that place, once it is chosen.
    pub(super) fn of(&self, place: usize) -> Option<&ChosenBaseline> {
        self.chosen.get(place)
    }
}

/// What a stage's checks will be compared with, as far as that is known before it begins.
pub fn foreseen(stage: &Stage, control: ControlAge) -> &'static str {
    match control {
        _ if stage.exposure.share == Share::FULL => {
            "no control: past days at the same hour; with too little history the stage before; else hard limits only"
        }
        ControlAge::Running => "concurrent control",
        ControlAge::SameAge => "concurrent control of the same age",
    }
}

impl Rollout {
    /// Requests of the service in a second, both arms together, as this stage has shown them so far.
    pub(super) fn requests_per_second(&self) -> Option<f64> {
        let counting = || self.guards().filter(|(check, _)| check.sli.counts_requests());
        let is_objective = |check: &Check| check.origin == Origin::Slo;
        // What was proposed for a change may be busier than the service.
        let has_objective = counting().any(|(check, _)| is_objective(check));
        let shown = counting().filter(|(check, _)| is_objective(check) || !has_objective);
        shown.filter_map(|(_, record)| record.requests_per_second()).max_by(f64::total_cmp)
    }

    /// A stage begins. `requests_per_second` is what the stage before has shown.
    pub(super) fn choose_baselines(&mut self, requests_per_second: Option<f64>, desk: &mut Desk<'_>) {
        self.baselines = Baselines::default();
        match self.control_of_stage(requests_per_second, desk.policy) {
            Ok(ChosenBaseline { baseline, why }) => {
                let checks = self.plan.as_ref().map_or(0, |plan| plan.checks().len());
                self.baselines.chosen = vec![ChosenBaseline { baseline, why }; checks];
            }
            Err(why) => {
                self.baselines.no_control = Some(Text::new(why));
                self.records.iter_mut().for_each(|record| record.alone_since(desk.now));
                self.ask_history(desk);
            }
        }
    }

    /// The control of the stage that begins, or why there is none.
    fn control_of_stage(
        &self,
        requests_per_second: Option<f64>,
        policy: &ServicePolicy,
    ) -> Result<ChosenBaseline, String> {
        let (baseline, what) = match policy.control {
            ControlAge::Running => (Baseline::Concurrent, "the old version serves beside the canary"),
            ControlAge::SameAge => {
                (Baseline::SameAge, "the old version serves beside the canary, started together with it")
            }
        };
        let chosen = |why: String| Ok(ChosenBaseline { baseline, why: Text::new(why) });
        let Some(stage) = self.stage.and_then(|stage| self.stages.get(stage)) else { return chosen(what.into()) };
        if policy.autonomy == Autonomy::Observe {
            return chosen(
                "others move the traffic, and it is compared with what they leave to the old version".into(),
            );
        }
        let left = 1.0 - stage.exposure.share.fraction();
        if stage.exposure.share == Share::FULL {
            return Err("everyone has the new version".into());
        }
        // What a stage has not shown yet is not held against it: the first has control.
        let Some(rate) = requests_per_second else { return chosen(format!("{what}, with {:.4}% left", left * 100.0)) };
        let expected = rate * left * stage.bake_time.as_secs_f64();
        if expected < policy.samples_min as f64 {
            return Err(format!(
                "control has about {expected:.0} requests left in this stage, {} are needed",
                policy.samples_min
            ));
        }
        chosen(format!("{what}, with about {expected:.0} requests in this stage"))
    }

    /// The moment from which there is no control.
    fn switch(&self, desk: &Desk<'_>) -> Option<Switch> {
        let place = self.stage?;
        let (at, stage) = (*self.entered.get(place)?, self.stages.get(place)?);
        let after = if self.at_last_stage() { desk.policy.watch } else { Duration::ZERO };
        Some(Switch { at, watch: stage.bake_time.saturating_add(after), left_out: desk.past.spans(at) })
    }

    /// Asks what past days let expect, if there is a check that they can say something of.
    fn ask_history(&mut self, desk: &mut Desk<'_>) {
        let Some((plan, switch)) = self.plan.clone().zip(self.switch(desk)) else { return };
        if plan.checks().iter().all(|check| expecting::has_no_level(check).is_some()) {
            self.expected(&[], desk);
            return;
        }
        let request = desk.new_request();
        let no_later_than = desk.now + ANSWER_WITHIN;
        self.baselines.asked = Some(Asked { request: Some(request), until: no_later_than });
        desk.effects.push(Effect::Expect {
            request,
            rollout: self.id,
            service: self.service.clone(),
            stable: self.control.clone(),
            plan,
            switch: Arc::new(switch),
            no_later_than,
        });
    }

    /// The daemon was down: a question that was open is lost.
    pub(super) fn ask_history_again(&mut self, desk: &mut Desk<'_>) {
        if self.baselines.asked.take().is_some() && !self.phase.is_done() {
            self.ask_history(desk);
        }
    }

    /// Whether `request` is the question to history that it waits for.
    pub(super) fn awaits_history(&self, request: RequestId) -> bool {
        Self::answers(self.baselines.asked, request)
    }

    /// History did not answer in time.
    pub(super) fn history_is_late(&mut self, desk: &mut Desk<'_>) {
        let checks = self.plan.as_ref().map_or(0, |plan| plan.checks().len());
        let late = Err(Text::new("history gave no answer in time"));
        let all: Vec<(CheckId, Learnt)> =
            (0..checks).map(|place| (CheckId(u16::try_from(place).unwrap_or(u16::MAX)), late.clone())).collect();
        self.expected(&all, desk);
    }

    /// History answered: the baselines are chosen, for as long as the stage lasts.
    pub(super) fn expected(&mut self, learnt: &[(CheckId, Learnt)], desk: &mut Desk<'_>) {
        self.baselines.asked = None;
        let Some(plan) = self.plan.clone() else { return };
        let no_control = self.baselines.no_control.clone().unwrap_or_default();
        let samples_min = desk.policy.samples_min;
        let mut chosen = Vec::new();
        for (place, (check, record)) in plan.checks().iter().zip(&mut self.records).enumerate() {
            let of_check = learnt.iter().find(|(id, _)| usize::from(id.0) == place).map(|(_, learnt)| learnt);
            let history = match (expecting::has_no_level(check), of_check) {
                (Some(why), _) => Err(why),
                (None, None) => Err("history was not asked for it"),
                (None, Some(Err(why))) => Err(why.as_str()),
                (None, Some(Ok(expectation))) => Ok(expectation),
            };
            let previous = record.stand_in().previous_stage(samples_min);
            let (baseline, why) = choose(check, history, previous);
            record.stand_in_chosen(baseline, history.ok());
            chosen.push(ChosenBaseline { baseline, why: Text::new(format!("{no_control}; {why}")) });
        }
        self.baselines.chosen = chosen;
        self.tell_baselines(&plan, desk.now);
    }

    /// Writes into the timeline what the checks are compared with.
    fn tell_baselines(&mut self, plan: &crate::plan::Plan, now: Timestamp) {
        let mut told: Vec<(String, Vec<&str>)> = Vec::new();
        for (check, chosen) in plan.checks().iter().zip(&self.baselines.chosen) {
            let words = chosen.baseline.to_string();
            match told.iter_mut().find(|(known, _)| *known == words) {
                Some((_, names)) => names.push(check.name.as_str()),
                None => told.push((words, vec![check.name.as_str()])),
            }
        }
        let told: Vec<String> =
            told.into_iter().map(|(words, names)| format!("{words} for {}", names.join(", "))).collect();
        let why = self.baselines.no_control.clone().unwrap_or_default();
        self.note(now, format!("{why}; compared with {}", told.join("; ")));
    }

    /// Whether something unusual keeps the stage from going on: what becomes of it is a person's.
    pub(super) fn is_unusual(&self) -> bool {
        self.guards().any(|(check, record)| check.weight == Weight::Critical && record.stand_in().unusual().is_some())
    }
}

/// The best that there is where no control is left.
fn choose(check: &Check, history: Result<&Expectation, &str>, previous: Result<bool, String>) -> (Baseline, String) {
    let why_not = match history {
        Ok(expectation) => {
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let (windows, left_out) = expectation.windows();
            let baseline = Baseline::PastDays { windows: count(windows), left_out: count(left_out) };
            return (baseline, format!("history has {windows} windows like this stage"));
        }
        Err(why) => why,
    };
    let limits = if check.limit.is_some() { "only its hard limit is held" } else { "it has no hard limit either" };
    match previous {
        _ if check.aim == Aim::Improvement => (Baseline::Nothing, why_not.into()),
        Ok(segments) => (Baseline::PreviousStage { segments }, why_not.into()),
        Err(neither) => (Baseline::Nothing, format!("{why_not}; {neither}; {limits}")),
    }
}
