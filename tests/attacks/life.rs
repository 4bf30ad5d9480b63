//! A rollout of an attacked change: what its plan is, how far it gets with a canary that is bad where plain rules would
//! look, and what is said of it on the way.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tollgate::{
    domain::{
        Arm, Autonomy, Change, Check, CheckId, ControlAge, Counts, Histogram, Measurement, PolicyVersion, RolloutId,
        ServiceName, Share, Sli, Stamped, Tally, Text, Timestamp, Window,
    },
    plan::{Bounds, Draft, Plan},
    rollout::{Deployed, Effect, Event, Fleet, Policy, RiskBake, ServicePolicy},
    sim::scenario,
};

const ROLLOUT: RolloutId = RolloutId(1);
const LOOK: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);
/// Long enough for every stage and its patience.
const WATCHED: Duration = Duration::from_secs(3 * 3_600);

/// What came of a rollout.
pub(crate) struct Life {
    /// Its plan.
    pub(crate) plan: Arc<Plan>,
    /// The widest share that it had, in basis points.
    pub(crate) widest: u16,
    /// Everything that was told of it: notices, and how it is shown.
    pub(crate) told: String,
}

fn service(bounds: Bounds) -> ServicePolicy {
    ServicePolicy {
        draft_within: None,
        repository: "acme/shop".parse().unwrap(),
        paths: vec!["**".into()],
        branch: None,
        deployed: Deployed::OnMerge,
        autonomy: Autonomy::Auto,
        stages: scenario::ladder(&[5, 50, 100], MINUTE * 6),
        bounds,
        alpha: 0.001,
        look_every: LOOK,
        measure_every: LOOK,
        samples_min: 10,
        step_max: Share::from_basis_points(5_000).unwrap(),
        blackout_after: MINUTE * 3,
        patience: MINUTE * 40,
        pause_max: MINUTE * 10,
        watch: MINUTE * 5,
        deploy_within: MINUTE * 60,
        reply_within: Duration::from_secs(20),
        attempts_max: 3,
        drained_within: MINUTE * 3,
        pod_incident: Duration::ZERO,
        control: ControlAge::Running,
        warm_up: Duration::ZERO,
        share_tolerance: None,
        safe_ratio: 2.0,
        bake_time_shown_safe: None,
        model: None,
        risk_bake: RiskBake { medium: 1.5, high: 2.0 },
    }
}

fn tally(sli: &Sli, bad: u64, total: u64) -> Tally {
    match sli {
        Sli::Latency { slow_above_seconds, .. } => Tally::Histogram(Histogram {
            bounds: vec![*slow_above_seconds, slow_above_seconds * 4.0],
            counts: vec![total - bad, bad, 0],
        }),
        _ => Tally::Counts(Counts { bad, total }),
    }
}

/// Begins a rollout with this draft. With `is_bad` it lives on, and what that says of a check is bad on the canary.
pub(crate) fn lived(change: &Change, bounds: &Bounds, draft: &Draft, is_bad: Option<&dyn Fn(&Check) -> bool>) -> Life {
    let services = BTreeMap::from([(ServiceName::new("shop"), service(bounds.clone()))]);
    let policy = Policy { version: PolicyVersion::new("p"), services, rollouts_max: 9, finished_kept: 99 };
    let merged = Event::PullRequestMerged {
        delivery: Text::new("d"),
        repository: change.repository.clone(),
        pull_request: change.pull_request,
        branch: "main".into(),
        into_default: true,
    };
    let (mut fleet, mut now) = (Fleet::default(), scenario::BEGINNING);
    let mut due: BTreeMap<(Timestamp, u64), Event> = BTreeMap::new();
    due.insert((now, 0), Event::Started { policy: Arc::new(policy) });
    due.insert((now, 1), merged);
    let (mut queued, mut share, mut widest, mut plan, mut told) = (2, 0, 0, None, String::new());
    let end = now + if is_bad.is_some() { WATCHED } else { Duration::ZERO };
    loop {
        let first = due.first_key_value().map(|((at, _), _)| *at);
        let next = first.into_iter().chain(fleet.next_wakeup()).min().filter(|at| *at <= end);
        let Some(at) = next else { break };
        now = now.max(at);
        let event = if first == Some(at) { due.pop_first().unwrap().1 } else { Event::WokeUp };
        for effect in fleet.handle(&Stamped { at: now, event }) {
            let (at, event) = match effect {
                Effect::FetchChange { request, .. } => {
                    (now, Event::ChangeFetched { request, change: Ok(Arc::new(change.clone())) })
                }
                Effect::Draft { request, rollout, .. } => {
                    let draft = Ok(Box::new(draft.clone()));
                    (now, Event::Drafted { request, rollout, draft, conversation: None })
                }
                Effect::Shift { request, shift } => {
                    let (rollout, to) = (shift.get().rollout, shift.get().to.clone());
                    share = to.share.basis_points();
                    widest = widest.max(share);
                    (now, Event::Shifted { request, rollout, read: Ok(to) })
                }
                Effect::Measure { request, rollout, plan: of, after, through, .. } => {
                    let window = Window { after, through };
                    let measured = |(at, check): (usize, &Check)| {
                        let bad = if is_bad.is_some_and(|is_bad| is_bad(check)) { 300 } else { 1 };
                        let measurement = |arm, tally| Measurement {
                            check: CheckId(u16::try_from(at).unwrap()),
                            arm,
                            window,
                            tally: Ok(tally),
                            parts: Vec::new(),
                            estimated: false,
                        };
                        [
                            measurement(Arm::Control, tally(&check.sli, 10, 10_000)),
                            // Once its traffic is taken back, the canary's requests end.
                            measurement(
                                Arm::Canary,
                                if share == 0 { tally(&check.sli, 0, 0) } else { tally(&check.sli, bad, 1_000) },
                            ),
                        ]
                    };
                    let measurements = of.checks().iter().enumerate().flat_map(measured).collect();
                    plan = Some(of);
                    (through, Event::Measured { request, rollout, through, measurements })
                }
                Effect::Announce(notice) => {
                    told += &format!("{notice:?}\n");
                    continue;
                }
                Effect::Advise { .. } | Effect::Narrate { .. } | Effect::Expect { .. } => continue,
            };
            due.insert((at, queued), event);
            queued += 1;
        }
    }
    let view = fleet.view_of(ROLLOUT).unwrap();
    told += &serde_json::to_string(&view).unwrap();
    Life { plan: plan.unwrap(), widest, told }
}
