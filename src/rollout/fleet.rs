//! The fleet: every rollout there is, as the fold of the journal. Events go to the rollout they are about; what is about
//! none (merges, deployments, the kill switch) is dealt with here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    Effect, Event, Policy, ServicePolicy, ShiftError, Spent,
    advising::Counsel,
    desk::Desk,
    intake::{Intake, Merge},
    lineage::Lineage,
    memory::Memory,
    past::Past,
    phase::Phase,
    placement::Placements,
    spending::{self, Account, Spending},
    state::Rollout,
};
use crate::domain::{
    Change, Conversation, Exposure, Notice, Outcome, Person, RequestId, Revision, RolloutId, ServiceName, Severity,
    Stamped, Text, Timestamp,
};

/// Every rollout there is, as the fold of the journal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fleet {
    pub(super) now: Timestamp,
    pub(super) policy: Option<Arc<Policy>>,
    /// Services that are not configured any more but have open rollouts, under their last policy.
    retired: BTreeMap<ServiceName, ServicePolicy>,
    /// Since when expansion is stopped, if it is.
    pub(super) kill_switch: Option<Timestamp>,
    pub(super) rollouts: BTreeMap<RolloutId, Rollout>,
    /// When each rollout wants to be woken.
    wakeups: BTreeSet<(Timestamp, RolloutId)>,
    pub(super) intake: Intake,
    placements: Placements,
    lineages: BTreeMap<ServiceName, Lineage>,
    memories: BTreeMap<ServiceName, Memory>,
    pasts: BTreeMap<ServiceName, Past>,
    spending: Spending,
    rollouts_opened: u64,
    requests: u64,
    pub(super) stale_replies: u64,
}

impl Fleet {
    /// Takes in one event and says what is to be done about it.
    pub fn handle(&mut self, entry: &Stamped<Event>) -> Vec<Effect> {
        self.now = self.now.max(entry.at);
        let mut effects = Vec::new();
        match &entry.event {
            Event::Started { policy } => self.started(policy, &mut effects),
            Event::PullRequestMerged { delivery, repository, pull_request, branch, into_default } => {
                let (repository, pull_request, branch) = (repository.clone(), *pull_request, branch.clone());
                let delivery = delivery.clone();
                let merge = Merge { delivery, repository, pull_request, branch, into_default: *into_default };
                self.merged(merge, &mut effects);
            }
            Event::ChangeFetched { request, change } => self.fetched(*request, change, &mut effects),
            Event::Drafted { request, rollout, draft, conversation } => {
                self.spent(*rollout, conversation.as_deref());
                let drafted = |r: &mut Rollout, desk: &mut Desk<'_>| r.drafted(draft.clone().map(|draft| *draft), desk);
                self.reply(*rollout, &mut effects, |r| r.awaits_draft(*request), drafted);
            }
            Event::RevisionDeployed { service, revision, by } => {
                self.told_deployed(service, revision, by.0.as_str(), &mut effects)
            }
            Event::Shifted { request, rollout, read } => self.shifted(*request, *rollout, read, &mut effects),
            Event::Measured { request, rollout, through, measurements } => {
                let measured = |r: &mut Rollout, desk: &mut Desk<'_>| r.measured(*through, measurements, desk);
                self.reply(*rollout, &mut effects, |r| r.awaits_measurement(*request), measured);
            }
            Event::Expected { request, rollout, learnt } => {
                let expected = |r: &mut Rollout, desk: &mut Desk<'_>| r.expected(learnt, desk);
                self.reply(*rollout, &mut effects, |r| r.awaits_history(*request), expected);
            }
            Event::Commanded { rollout, command, by } => {
                self.with(*rollout, &mut effects, |r, desk| r.commanded(*command, by, desk));
            }
            Event::Advised { request, rollout, advice, conversation } => {
                self.spent(*rollout, conversation.as_deref());
                let now = self.now;
                let advised = |r: &mut Rollout, desk: &mut Desk<'_>| r.advised(advice, desk);
                self.reply(*rollout, &mut effects, |r| r.awaits_advice(*request, now), advised);
            }
            Event::Narrated { request, rollout, words, conversation } => {
                self.spent(*rollout, conversation.as_deref());
                let explained = |r: &mut Rollout, _: &mut Desk<'_>| r.explained(words, conversation.as_deref());
                self.reply(*rollout, &mut effects, |r| r.awaits_explanation(*request), explained);
            }
            Event::KillSwitch { on, by } => self.turn_kill_switch(*on, by, &mut effects),
            Event::WokeUp => {}
        }
        self.wake_due(&mut effects);
        effects
    }

    /// When it wants to be woken, if nothing happens before.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        let rollouts = self.wakeups.first().map(|(at, _)| *at);
        rollouts.into_iter().chain(self.intake.next_wakeup()).chain(self.placements.next_wakeup()).min()
    }

    /// Rollouts that have not ended.
    pub fn open_rollouts(&self) -> usize {
        self.rollouts.values().filter(|rollout| !rollout.phase.is_done()).count()
    }

    /// What models have used on the day, by UTC, of the last time it knows of.
    pub fn spent_today(&self) -> &[Spent] {
        self.spending.on_day_of(self.now)
    }

    /// What each rollout that it knows of delivers, and what models have used for it so far.
    pub fn accounts(&self) -> impl Iterator<Item = Account<'_>> {
        self.rollouts.values().map(|rollout| Account {
            rollout: rollout.id,
            service: &rollout.service,
            change: &rollout.change,
            usage: rollout.usage,
        })
    }

    /// The same fleet if no model had ever advised: what it asks of traffic is what a fleet with advice is held to.
    pub fn without_advice(&self) -> Self {
        let mut other = self.clone();
        other.rollouts.values_mut().for_each(|rollout| rollout.counsel = Counsel::default());
        other
    }

    /// A model was spoken with for a rollout.
    fn spent(&mut self, rollout: RolloutId, conversation: Option<&Conversation>) {
        let Some(conversation) = conversation else { return };
        let rollout = self.rollouts.get_mut(&rollout);
        let of = rollout.map(|rollout| {
            rollout.usage = spending::plus(rollout.usage, conversation);
            (rollout.service.clone(), rollout.change.pull_request)
        });
        self.spending.add(of, conversation.usage(), self.now);
    }

    /// The last time it knows of.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    fn services(&self) -> impl Iterator<Item = (&ServiceName, &ServicePolicy)> {
        self.policy.iter().flat_map(|policy| policy.services.iter())
    }

    fn started(&mut self, policy: &Arc<Policy>, effects: &mut Vec<Effect>) {
        let open: BTreeSet<&ServiceName> =
            self.rollouts.values().filter(|r| !r.phase.is_done()).map(|r| &r.service).collect();
        let before = self.policy.replace(Arc::clone(policy));
        for (name, service) in before.iter().flat_map(|before| before.services.iter()) {
            if open.contains(name) && !policy.services.contains_key(name) {
                self.retired.insert(name.clone(), service.clone());
            }
        }
        self.retired.retain(|name, _| !policy.services.contains_key(name));
        self.intake.restarted(self.now, &mut self.requests, effects);
        let busy: BTreeSet<RolloutId> =
            self.rollouts.iter().filter(|(_, r)| !r.phase.is_done()).map(|(id, _)| *id).collect();
        // A quarantined rollout does nothing by itself, so what stands of it is put back in force here.
        let restoring =
            |id: &RolloutId| !matches!(self.rollouts.get(id).map(|r| &r.phase), Some(Phase::Quarantined { .. }));
        let restore_themselves = busy.iter().copied().filter(restoring).collect();
        self.placements.restarted(&restore_themselves, self.now, &mut self.requests, effects);
        for rollout in busy {
            self.with(rollout, effects, Rollout::restarted);
        }
    }

    /// A merge into the branch of some service: its change is fetched. Each delivery counts once.
    fn merged(&mut self, merge: Merge, effects: &mut Vec<Effect>) {
        let wanted = self.services().any(|(_, service)| {
            service.repository == merge.repository && service.is_on_branch(&merge.branch, merge.into_default)
        });
        // Only what is wanted is remembered: a delivery that came too early for its service may come again.
        if wanted
            && self.intake.first_time(&merge.delivery)
            && let Some(why) = self.intake.fetch(merge, self.now, &mut self.requests, effects)
        {
            effects.push(self.fleet_notice(Severity::Page, why));
        }
    }

    fn fetched(
        &mut self,
        request: RequestId,
        change: &Result<Arc<Change>, super::FetchError>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(asked) = self.intake.awaited(request) else {
            self.stale_replies += 1;
            return;
        };
        match change {
            Ok(change) => self.open(change, &asked.merge, effects),
            Err(error) => {
                if let Some(why) = self.intake.failed(asked, error, self.now) {
                    effects.push(self.fleet_notice(Severity::Page, why));
                }
            }
        }
    }

    /// Opens a rollout for each service whose paths the change touches.
    fn open(&mut self, change: &Arc<Change>, merge: &Merge, effects: &mut Vec<Effect>) {
        let touched: Vec<(ServiceName, ServicePolicy)> = self
            .services()
            .filter(|(_, service)| service.is_touched_by(change, &merge.branch, merge.into_default))
            .map(|(name, service)| (name.clone(), service.clone()))
            .collect();
        for (service, policy) in touched {
            let known = self.rollouts.values().any(|r| {
                r.service == service
                    && r.change.revision == change.revision
                    && r.change.pull_request == change.pull_request
            });
            if known {
                continue;
            }
            if self.open_rollouts() >= self.policy.as_ref().map_or(0, |policy| policy.rollouts_max) {
                let why = format!(
                    "{service}: no rollout of pull request {}: too many are open; deliver its webhook again once some have ended",
                    change.pull_request
                );
                self.intake.forget(&merge.delivery);
                effects.push(self.fleet_notice(Severity::Page, why));
                continue;
            }
            self.rollouts_opened += 1;
            let id = RolloutId(self.rollouts_opened);
            let rollout = Rollout::open(id, service.clone(), Arc::clone(change), policy.stages, self.now);
            self.rollouts.insert(id, rollout);
            self.begin_next(&service, effects);
        }
    }

    /// Begins the oldest waiting rollout of a service if none is under way: two at once could not be told apart.
    fn begin_next(&mut self, service: &ServiceName, effects: &mut Vec<Effect>) {
        let mut waiting = None;
        for rollout in self.rollouts.values().filter(|rollout| rollout.service == *service) {
            match rollout.phase {
                Phase::Queued => waiting = waiting.or(Some(rollout.id)),
                Phase::Done(_) if rollout.is_settled() => {}
                Phase::Done(_)
                | Phase::Drafting(_)
                | Phase::AwaitingRevision { .. }
                | Phase::Ready { .. }
                | Phase::Shifting { .. }
                | Phase::Baking
                | Phase::Draining { .. }
                | Phase::Quarantined { .. } => return,
            }
        }
        if let Some(next) = waiting {
            self.with(next, effects, Rollout::begin);
        }
    }

    fn told_deployed(&mut self, service: &ServiceName, revision: &Revision, by: &str, effects: &mut Vec<Effect>) {
        if !self.services().any(|(name, _)| name == service) {
            effects.push(
                self.fleet_notice(Severity::Warning, format!("{by} deployed {service}, which is not configured")),
            );
            return;
        }
        let is_first = !self.rollouts.values().any(|r| r.service == *service);
        self.lineages.entry(service.clone()).or_default().told_deployed(revision, is_first);
        self.supersede(service, revision, effects);
        let awaits = |r: &&Rollout| r.service == *service && matches!(r.phase, Phase::AwaitingRevision { .. });
        let awaiting: Vec<RolloutId> = self.rollouts.values().filter(awaits).map(|r| r.id).collect();
        for rollout in awaiting {
            self.with(rollout, effects, |r, desk| r.deployed(revision, desk));
        }
    }

    /// A pipeline that batches merges deploys the last of them alone. The rollouts before it never get a revision of
    /// their own: what they brought ships inside the later one.
    fn supersede(&mut self, service: &ServiceName, revision: &Revision, effects: &mut Vec<Effect>) {
        let of_service = || self.rollouts.values().filter(|r| r.service == *service);
        let later = of_service()
            .find(|r| r.phase == Phase::Queued && r.change.revision.names_same_commit(revision))
            .map(|r| r.id);
        let Some(later) = later else { return };
        let waits = |r: &&Rollout| matches!(r.phase, Phase::Queued | Phase::AwaitingRevision { .. });
        let earlier: Vec<RolloutId> = of_service().filter(|r| r.id < later).filter(waits).map(|r| r.id).collect();
        for id in earlier {
            let why = format!("{later} was deployed with this change in it");
            self.with(id, effects, |r, desk| r.end(desk, Outcome::Superseded, Severity::Info, why));
        }
    }

    fn shifted(
        &mut self,
        request: RequestId,
        rollout: RolloutId,
        read: &Result<Exposure, ShiftError>,
        effects: &mut Vec<Effect>,
    ) {
        match self.placements.reasserted(request, read, self.now) {
            Some(Ok(())) => {}
            Some(Err(why)) => effects.push(self.fleet_notice(Severity::Page, why)),
            None => {
                let shifted = |r: &mut Rollout, desk: &mut Desk<'_>| r.shifted(read.clone(), desk);
                self.reply(rollout, effects, |r| r.awaits_shift(request), shifted);
            }
        }
    }

    /// While the kill switch is on, no stage can come to its promotion, so the time does not count against its patience.
    fn turn_kill_switch(&mut self, on: bool, by: &Person, effects: &mut Vec<Effect>) {
        match (self.kill_switch, on) {
            (None, true) => self.kill_switch = Some(self.now),
            (Some(since), false) => {
                self.kill_switch = None;
                let span = self.now.since(since);
                self.rollouts.values_mut().for_each(|rollout| rollout.wait_longer(span));
            }
            (None, false) | (Some(_), true) => {}
        }
        let state = if on { "on: nothing expands" } else { "off" };
        effects.push(self.fleet_notice(Severity::Warning, format!("{by} turned the kill switch {state}")));
    }

    /// Hands a reply to the rollout that waits for it; any other is stale.
    fn reply(
        &mut self,
        rollout: RolloutId,
        effects: &mut Vec<Effect>,
        awaits: impl Fn(&Rollout) -> bool,
        then: impl FnOnce(&mut Rollout, &mut Desk<'_>),
    ) {
        if self.rollouts.get(&rollout).is_some_and(awaits) {
            self.with(rollout, effects, then);
        } else {
            self.stale_replies += 1;
        }
    }

    /// Lets one rollout act, and keeps what the fleet knows of it in step: its wake-up, what is placed where, and whose
    /// turn is next.
    fn with(&mut self, id: RolloutId, effects: &mut Vec<Effect>, act: impl FnOnce(&mut Rollout, &mut Desk<'_>)) {
        let Some(rollout) = self.rollouts.get_mut(&id) else { return };
        let current = self.policy.as_ref().and_then(|policy| policy.services.get(&rollout.service));
        let Some(policy) = current.or_else(|| self.retired.get(&rollout.service)) else { return };
        let lineage = self.lineages.entry(rollout.service.clone()).or_default();
        let memory = self.memories.entry(rollout.service.clone()).or_default();
        let past = self.pasts.entry(rollout.service.clone()).or_default();
        let (was_done, was_settled) = (rollout.phase.is_done(), rollout.is_settled());
        if let Some(at) = rollout.next_wakeup() {
            self.wakeups.remove(&(at, id));
        }
        let mut desk = Desk {
            now: self.now,
            policy,
            kill_switch: self.kill_switch.is_some(),
            lineage,
            past,
            memory,
            requests: &mut self.requests,
            effects,
        };
        act(rollout, &mut desk);
        if let Some(what) = rollout.broken() {
            rollout.phase = Phase::Quarantined { why: Text::new(what) };
            rollout.announce(
                &mut desk,
                Severity::Page,
                format!("stopped: {what}; traffic stands at {}", rollout.exposure.clone()),
            );
        }
        if let Some(at) = rollout.next_wakeup() {
            self.wakeups.insert((at, id));
        }
        self.placements.keep(rollout);
        if (!was_done && rollout.phase.is_done()) || (!was_settled && rollout.is_settled()) {
            lineage.ended(rollout);
            past.ended(rollout, policy.alpha);
            let service = rollout.service.clone();
            self.forget_oldest();
            self.begin_next(&service, effects);
        }
    }

    /// Finished rollouts are kept up to a number, to be looked at.
    fn forget_oldest(&mut self) {
        let kept = self.policy.as_ref().map_or(0, |policy| policy.finished_kept);
        let finished: Vec<RolloutId> = self.rollouts.values().filter(|r| r.is_settled()).map(|r| r.id).collect();
        for id in finished.iter().take(finished.len().saturating_sub(kept)) {
            self.rollouts.remove(id);
        }
    }

    /// Wakes everything whose time has come.
    fn wake_due(&mut self, effects: &mut Vec<Effect>) {
        for given_up in self.intake.wake_due(self.now, self.policy.as_deref(), &mut self.requests, effects) {
            effects.push(self.fleet_notice(Severity::Page, given_up));
        }
        self.placements.wake_due(self.now, &mut self.requests, effects);
        let due: Vec<RolloutId> =
            self.wakeups.iter().take_while(|(at, _)| *at <= self.now).map(|(_, rollout)| *rollout).collect();
        for id in due {
            self.with(id, effects, Rollout::woke_up);
        }
    }

    fn fleet_notice(&self, severity: Severity, text: impl AsRef<str>) -> Effect {
        Effect::Announce(Notice {
            at: self.now,
            rollout: None,
            service: None,
            severity,
            text: Text::new(text),
            next: None,
        })
    }
}

impl Rollout {
    /// Its time has come: does whatever is due.
    fn woke_up(&mut self, desk: &mut Desk<'_>) {
        match &self.phase {
            Phase::Drafting(asked) if asked.until <= desk.now => self.draft_is_late(desk),
            Phase::AwaitingRevision { until } if *until <= desk.now => self.deployment_is_late(desk),
            Phase::Shifting { asked, .. } if asked.until <= desk.now => self.shift_is_due(desk),
            Phase::Draining { until } if *until <= desk.now => self.drain_is_due(desk),
            Phase::Queued
            | Phase::Drafting(_)
            | Phase::AwaitingRevision { .. }
            | Phase::Ready { .. }
            | Phase::Shifting { .. }
            | Phase::Baking
            | Phase::Draining { .. }
            | Phase::Done(_)
            | Phase::Quarantined { .. } => {}
        }
        if self.baselines.awaited_until().is_some_and(|until| until <= desk.now) {
            self.history_is_late(desk);
        }
        if self.measuring.is_some_and(|asked| asked.until <= desk.now) {
            self.measurement_is_due(desk);
        }
    }
}
