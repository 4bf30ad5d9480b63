//! Deciding: the judge proposes, the rails review, and what was cleared is done.

use super::{
    desk::Desk,
    judge,
    phase::{Goal, Phase},
    state::Rollout,
};
use crate::{
    domain::{
        Autonomy, Command, Exposure, Objection, Outcome, Person, Severity, Shift, Text, Timestamp, Upcoming, Verdict,
        WayBack, Weight,
    },
    rails::{self, Case, Cleared, Reviewed, StageFacts},
};

/// Who asks for a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// The judge, from the findings.
    Findings,
    /// A person, for this.
    Person(Verdict),
    /// We ourselves, for this: an advance could not be made.
    Machine(Verdict),
    /// A model, for this, in a tie and as far as it may.
    Advice(Verdict),
}

impl Rollout {
    /// Decides on the facts of this moment and does what is cleared.
    pub(super) fn decide(&mut self, asking: Asking, desk: &mut Desk<'_>) {
        self.end_long_pause(desk);
        let (proposed, reviewed) = self.review(asking, desk);
        let Reviewed { verdict, shift, objections } = reviewed;
        let before = std::mem::replace(&mut self.objections, objections);
        self.verdict = Some(verdict);
        self.page_for(&before, desk);
        self.call_for_promotion(proposed, &before, desk);
        self.remember_held_rollback(asking, proposed);
        if desk.policy.autonomy == Autonomy::Observe && asking == Asking::Findings {
            self.conclude_observation(proposed, desk);
            return;
        }
        if verdict == Verdict::Hold && asking == Asking::Person(Verdict::Promote) {
            let why: Vec<String> = self.objections.iter().map(|o| format!("{}: {}", o.rail, o.why)).collect();
            self.announce(desk, Severity::Info, format!("not promoted: {}", why.join("; ")));
        }
        match verdict {
            Verdict::Promote => self.promote(shift, desk),
            Verdict::Hold => {
                self.hand_over_if_stuck(desk);
                self.hand_over_unusual(desk);
                if asking == Asking::Findings {
                    self.ask_advice(desk);
                }
            }
            Verdict::Rollback => self.roll_back(asking, shift, desk),
        }
    }

    /// Where only a person's word is missing, says so once.
    fn call_for_promotion(&mut self, proposed: Verdict, before: &[Objection], desk: &mut Desk<'_>) {
        let waits_for_person = |objections: &[Objection]| {
            !objections.is_empty() && objections.iter().all(|objection| objection.rail == rails::AUTONOMY)
        };
        let is_new = !waits_for_person(before) && waits_for_person(&self.objections);
        if proposed == Verdict::Promote && is_new && desk.policy.autonomy != Autonomy::Observe {
            let text = format!("nothing speaks against promotion; a person promotes it: tollgate promote {}", self.id);
            self.announce(desk, Severity::Page, text);
        }
    }

    /// A rollback that was due and became a hold is not forgotten when the harm passes: what follows is a person's.
    fn remember_held_rollback(&mut self, asking: Asking, proposed: Verdict) {
        let due = proposed.max(self.objections.iter().map(|objection| objection.at_most).max().unwrap_or(proposed));
        match (asking, self.verdict) {
            (Asking::Findings | Asking::Machine(_) | Asking::Advice(_), Some(Verdict::Hold))
                if due == Verdict::Rollback =>
            {
                self.is_held_back = true;
            }
            (Asking::Person(Verdict::Promote), Some(Verdict::Promote)) => self.is_held_back = false,
            (Asking::Findings | Asking::Machine(_) | Asking::Person(_) | Asking::Advice(_), _) => {}
        }
    }

    /// A hold in place of a rollback (the change is one-way, or the service keeps that for people) lasts as long as the
    /// stage's patience; then it is a person's. Traffic stands where it stands.
    fn hand_over_if_stuck(&mut self, desk: &mut Desk<'_>) {
        let overdue = self
            .objections
            .iter()
            .any(|objection| objection.at_most == Verdict::Rollback && objection.rail == rails::PROGRESS_DEADLINE);
        if overdue {
            let why = format!("no verdict in time, and it may not be taken back by itself; {} has it", self.exposure);
            self.end(desk, Outcome::HandedOver, Severity::Page, why);
        }
    }

    /// What is unusual where no control is left holds a stage, and is neither taken back nor let on by ourselves: when
    /// the patience is over, a person has it.
    fn hand_over_unusual(&mut self, desk: &mut Desk<'_>) {
        let waits = self.paused_since.is_some() || desk.kill_switch || !self.is_unusual();
        let held_since = self.held_since(desk.policy);
        let is_over = |since| desk.now.since(since) > self.usual_patience(since, desk);
        if self.phase == Phase::Baking && !waits && held_since.is_some_and(is_over) {
            let why = format!("something is unusual and there is no control to tell why; {} has it", self.exposure);
            self.end(desk, Outcome::HandedOver, Severity::Page, why);
        }
    }

    /// How long a stage that counts as held from then may last, if nothing stops its clock.
    fn usual_patience(&self, held_since: Timestamp, desk: &Desk<'_>) -> std::time::Duration {
        let watch = if self.at_last_stage() { desk.policy.watch } else { std::time::Duration::ZERO };
        self.patience_from.since(held_since).saturating_add(self.patience(desk.policy)).saturating_add(watch)
    }

    fn review(&self, asking: Asking, desk: &Desk<'_>) -> (Verdict, Reviewed) {
        let stands = self.paused_since.is_some() || self.is_held_back;
        let judged = || judge::propose(&self.facts(desk.policy.alpha));
        let (proposed, asked) = match asking {
            Asking::Person(verdict) => (verdict, Some(verdict)),
            Asking::Machine(verdict) => (verdict, None),
            Asking::Advice(verdict) if stands => (verdict.max(Verdict::Hold), None),
            Asking::Advice(verdict) => (verdict, None),
            Asking::Findings if stands => (judged().max(Verdict::Hold), None),
            Asking::Findings if self.stage.is_none() => (Verdict::Promote, None),
            Asking::Findings => (self.joined(judged(), desk), None),
        };
        (proposed, self.reviewed(proposed, asked, desk))
    }

    /// What the rails make of a verdict at this moment. `asked` is what a person asked for, if one did.
    pub(super) fn reviewed(&self, proposed: Verdict, asked: Option<Verdict>, desk: &Desk<'_>) -> Reviewed {
        let facts = self.facts(desk.policy.alpha);
        let open = WayBack::Open;
        let case = Case {
            now: desk.now,
            stage: self.stage_facts(desk),
            advance: self.advance(),
            retreat: self.way_out(),
            checks: &facts,
            heard: self.heard,
            listening_since: self.listening_since,
            blackout_after: desk.policy.blackout_after,
            samples_min: desk.policy.samples_min,
            step_max: desk.policy.step_max,
            kill_switch: desk.kill_switch,
            way_back: self.plan.as_ref().map_or(&open, |plan| plan.way_back()),
            control_stands: self.control_stands,
            shares_off: self.balance.shares_off(self.set_share()),
            autonomy: desk.policy.autonomy,
            asked,
        };
        rails::review(proposed, &case)
    }

    pub(super) fn stage_facts(&self, desk: &Desk<'_>) -> Option<StageFacts> {
        let stage = self.stages.get(self.stage?)?;
        let held_since = self.held_since(desk.policy)?;
        let watch = if self.at_last_stage() { desk.policy.watch } else { std::time::Duration::ZERO };
        let patience = match self.paused_since {
            Some(_) => std::time::Duration::MAX,
            None if desk.kill_switch => std::time::Duration::MAX,
            // What is unusual is no reason to go back: a person has it when the patience ends.
            None if self.is_unusual() => std::time::Duration::MAX,
            None => self.usual_patience(held_since, desk),
        };
        let shown_safe = desk.policy.bake_time_shown_safe;
        Some(StageFacts {
            held: desk.now.since(held_since),
            bake_time: stage.bake_time.saturating_add(watch),
            // With everyone on the new version there is nothing left to compare it with: the watch is never cut short.
            bake_time_shown_safe: shown_safe.filter(|_| !self.at_last_stage()).map(|least| self.baked(least)),
            patience,
        })
    }

    /// The stage that promotion leads to.
    fn next_stage(&self) -> Option<usize> {
        match self.phase {
            Phase::Ready { .. } => Some(0),
            Phase::Baking => self.stage.map(|stage| stage + 1).filter(|next| *next < self.stages.len()),
            Phase::Queued
            | Phase::Drafting(_)
            | Phase::AwaitingRevision { .. }
            | Phase::Shifting { .. }
            | Phase::Draining { .. }
            | Phase::Done(_)
            | Phase::Quarantined { .. } => None,
        }
    }

    pub(super) fn advance(&self) -> Option<Shift> {
        let stage = self.stages.get(self.next_stage()?)?;
        Some(self.shift_to(stage.exposure.clone()))
    }

    /// The move that takes everything back, from the most that may be out: an advance that was asked for may have had
    /// its effect.
    fn way_out(&self) -> Option<Shift> {
        let mut shift = self.shift_to(Exposure::none());
        if let Phase::Shifting { to, .. } = &self.phase
            && to.exceeds(&shift.from)
        {
            shift.from = to.clone();
        }
        (!shift.from.is_none()).then_some(shift)
    }

    fn promote(&mut self, shift: Option<Cleared<Shift>>, desk: &mut Desk<'_>) {
        match (shift, self.next_stage()) {
            (Some(cleared), Some(next)) => {
                self.note_safety(desk);
                self.ask_shift(Goal::Enter(next), cleared, desk);
            }
            (None, None) if self.at_last_stage() && self.phase == Phase::Baking => {
                self.end(desk, Outcome::Promoted, Severity::Info, "everyone has it, and it held through the watch");
            }
            (None | Some(_), None | Some(_)) => {}
        }
    }

    /// A stage that ends is marked: shown safe, or merely not shown bad.
    fn note_safety(&mut self, desk: &Desk<'_>) {
        if self.stage.is_none() {
            return;
        }
        let facts = self.facts(desk.policy.alpha);
        let critical = facts.iter().filter(|facts| facts.check.weight == Weight::Critical);
        let unsure: Vec<&str> =
            critical.filter(|facts| !facts.evidence.is_shown_safe()).map(|facts| facts.check.name.as_str()).collect();
        let ratio = desk.policy.safe_ratio;
        let text = match unsure.as_slice() {
            [] => format!("shown safe at {}: less than {ratio} times as bad on every critical check", self.exposure),
            names => format!("baked at {} and not shown bad; not shown safe: {}", self.exposure, names.join(", ")),
        };
        self.note(desk.now, text);
    }

    fn roll_back(&mut self, asking: Asking, shift: Option<Cleared<Shift>>, desk: &mut Desk<'_>) {
        let reasons: Vec<&str> = self
            .objections
            .iter()
            .filter(|objection| objection.at_most == Verdict::Rollback)
            .map(|objection| objection.why.as_str())
            .collect();
        self.reason = match asking {
            _ if !reasons.is_empty() => reasons.join("; "),
            Asking::Person(_) => "a person asked for it".into(),
            Asking::Findings => "a check has proof of a regression".into(),
            Asking::Machine(_) => "an advance could not be made".into(),
            Asking::Advice(_) => "a model advises it, and a check leans the same way".into(),
        };
        match shift {
            Some(cleared) => {
                self.failures = 0;
                self.measuring = None;
                let at = desk.now + desk.policy.reply_within;
                let next = Some(Upcoming { what: Text::new("traffic is at 0%, or is asked for again"), at });
                self.announce_before(next, desk, Severity::Warning, format!("rolling back: {}", self.reason));
                self.ask_shift(Goal::Retreat, cleared, desk);
            }
            None => self.end(desk, Outcome::Cancelled, Severity::Info, self.reason.clone()),
        }
    }

    /// Calls a person once for each rail that newly asks for one.
    fn page_for(&mut self, before: &[Objection], desk: &mut Desk<'_>) {
        let known = |rail: &str| before.iter().any(|objection| objection.page && objection.rail == rail);
        let new: Vec<String> = self
            .objections
            .iter()
            .filter(|objection| objection.page && !known(&objection.rail))
            .map(|objection| format!("{}: {}", objection.rail, objection.why))
            .collect();
        for text in new {
            self.announce(desk, Severity::Page, text);
        }
    }

    /// At `observe` nothing is moved: once a verdict other than to wait is due, it is said, and the rollout is over.
    fn conclude_observation(&mut self, proposed: Verdict, desk: &mut Desk<'_>) {
        let strictest = self.objections.iter().filter(|o| o.rail != rails::AUTONOMY).map(|o| o.at_most).max();
        match proposed.max(strictest.unwrap_or(Verdict::Promote)) {
            Verdict::Hold => {}
            Verdict::Promote => {
                self.end(desk, Outcome::HandedOver, Severity::Info, "observed only: it would have been promoted");
            }
            Verdict::Rollback => {
                let why = self.objections.iter().find(|o| o.at_most == Verdict::Rollback).map(|o| o.why.to_string());
                let why = format!("observed only: it would have been rolled back: {}", why.unwrap_or_default());
                self.end(desk, Outcome::HandedOver, Severity::Page, why);
            }
        }
    }

    /// A person asks for something.
    pub(super) fn commanded(&mut self, command: Command, by: &Person, desk: &mut Desk<'_>) {
        if self.is_settled() {
            return;
        }
        self.announce(desk, Severity::Info, format!("{by} asks: {command}"));
        if self.phase.is_done() {
            self.settle(command, desk);
            return;
        }
        match command {
            Command::Pause => {
                self.paused_since.get_or_insert(desk.now);
            }
            Command::Resume => self.resume(desk),
            Command::Promote => match self.phase {
                Phase::Ready { .. } | Phase::Baking => self.decide(Asking::Person(Verdict::Promote), desk),
                Phase::Queued
                | Phase::Drafting(_)
                | Phase::AwaitingRevision { .. }
                | Phase::Shifting { .. }
                | Phase::Draining { .. }
                | Phase::Done(_)
                | Phase::Quarantined { .. } => self.note(desk.now, "there is nothing to promote at this moment"),
            },
            Command::Rollback => match self.phase {
                Phase::Ready { .. } | Phase::Baking | Phase::Shifting { goal: Goal::Enter(_) | Goal::Restore, .. } => {
                    self.decide(Asking::Person(Verdict::Rollback), desk);
                }
                Phase::Quarantined { .. } => {
                    self.reason = "a person asked for it".into();
                    self.retreat(desk);
                }
                Phase::Queued | Phase::Drafting(_) | Phase::AwaitingRevision { .. } => {
                    self.end(desk, Outcome::Cancelled, Severity::Info, "a person called it off before it began");
                }
                Phase::Shifting { goal: Goal::Retreat, .. } | Phase::Draining { .. } | Phase::Done(_) => {}
            },
        }
    }

    /// What was handed over is settled by a person: taken back, or kept, which makes it what everyone is compared with.
    fn settle(&mut self, command: Command, desk: &mut Desk<'_>) {
        match command {
            Command::Rollback => {
                self.ended = None;
                self.phase = Phase::Baking;
                self.decide(Asking::Person(Verdict::Rollback), desk);
            }
            Command::Promote => {
                self.is_kept = true;
                self.announce(
                    desk,
                    Severity::Info,
                    format!("kept at {}; the next rollout builds on it", self.exposure),
                );
            }
            Command::Pause | Command::Resume => {
                self.announce(desk, Severity::Info, "it was handed over: roll it back, or promote it to keep it");
            }
        }
    }

    fn resume(&mut self, desk: &Desk<'_>) {
        if let Some(since) = self.paused_since.take() {
            self.wait_longer(desk.now.since(since));
        }
    }

    /// So much time did not count against its patience.
    pub(super) fn wait_longer(&mut self, span: std::time::Duration) {
        self.patience_from = self.patience_from + span;
        if let Phase::Ready { since } = &mut self.phase {
            *since = *since + span;
        }
    }

    pub(super) fn end_long_pause(&mut self, desk: &mut Desk<'_>) {
        if self.paused_since.is_some_and(|since| desk.now.since(since) > desk.policy.pause_max) {
            self.resume(desk);
            self.announce(desk, Severity::Warning, "the pause has lasted its longest time; going on");
        }
    }
}
