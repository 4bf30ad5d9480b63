//! What happens in a world: services, merges, regressions, people, faults; all drawn from one seed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::model;
use crate::{
    domain::{
        Aim, Autonomy, Catalogue, CatalogueEntry, Change, Check, CheckName, Command, ControlAge, Direction, Exposure,
        FileTouched, HardLimit, Match, Origin, Person, PolicyVersion, Repository, Revision, RolloutId, Selector,
        ServiceName, Share, Sli, Split, Text, Timestamp, TouchKind, Weight,
    },
    plan::Bounds,
    rollout::{Deployed, Event, Policy, RiskBake, ServicePolicy, Stage},
};

/// How often each fault strikes, as a chance for each request while faults are on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// A reply never comes.
    pub lost: f64,
    /// A reply comes twice.
    pub doubled: f64,
    /// A reply comes long after it was given up.
    pub late: f64,
    /// A shift, a fetch or a draft fails.
    pub failing: f64,
    /// A shift has its effect and says it failed.
    pub failing_after_effect: f64,
    /// Telemetry says nothing, is down, or is garbled, for one window of one arm.
    pub absent: f64,
    /// The daemon is killed between one event and the next.
    pub restart: f64,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self =
        Self { lost: 0.0, doubled: 0.0, late: 0.0, failing: 0.0, failing_after_effect: 0.0, absent: 0.0, restart: 0.0 };
}

/// How a change behaves once it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Behaviour {
    /// How many times as many errors as before, 1 for a harmless change.
    pub worse: f64,
    /// Whether the diff says that it cannot be taken back.
    pub one_way: bool,
}

/// A world before it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The seed it came from, and of all chance within it.
    pub seed: u64,
    /// The policy.
    pub policy: Arc<Policy>,
    /// The changes by pull request number.
    pub changes: BTreeMap<u64, (Arc<Change>, Behaviour)>,
    /// What happens from outside, and when.
    pub agenda: Vec<(Timestamp, Event)>,
    /// The faults until `faults_end`.
    pub faults: Faults,
    /// When all faults stop.
    pub faults_end: Timestamp,
    /// When everything must have come to rest.
    pub horizon: Timestamp,
    /// Requests each second of each service.
    pub requests_per_second: f64,
    /// Pods of each arm that telemetry tells apart; 0 where it cannot.
    pub pods: u8,
    /// Part of them that fail on a harmless version.
    pub error_rate: f64,
}

/// Where virtual time begins.
pub const BEGINNING: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);

impl Scenario {
    /// The world of a seed.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let services = rng.random_range(1..=2);
        let mut policy = policy(services, &mut rng);
        // Drawn apart, so that a world is otherwise the same with a model and without.
        let mut of_model = StdRng::seed_from_u64(seed ^ 0x000d_e1a5);
        if of_model.random_bool(0.5) {
            model::asked_by_all(&mut policy, &mut of_model);
        }
        let faults_end = BEGINNING + MINUTE * 120;
        let mut changes = BTreeMap::new();
        let mut agenda = Vec::new();
        for number in 1..=rng.random_range(1..=3_u64) {
            let service = rng.random_range(0..services);
            let worse = if rng.random_bool(0.5) { 1.0 } else { rng.random_range(3.0..60.0) };
            let behaviour = Behaviour { worse, one_way: rng.random_bool(0.15) };
            let change = change(service, number, behaviour.one_way);
            let at = BEGINNING + MINUTE * rng.random_range(0..60);
            merge(&change, number, at, &mut agenda, &mut rng);
            changes.insert(number, (Arc::new(change), behaviour));
        }
        people(&mut agenda, &mut rng);
        settling(faults_end, &mut agenda, &mut rng);
        let scale = if rng.random_bool(0.2) { 0.0 } else { 1.0 };
        let faults = Faults {
            lost: scale * rng.random_range(0.0..0.2),
            doubled: scale * rng.random_range(0.0..0.2),
            late: scale * rng.random_range(0.0..0.1),
            failing: scale * rng.random_range(0.0..0.3),
            failing_after_effect: scale * rng.random_range(0.0..0.1),
            absent: scale * rng.random_range(0.0..0.2),
            restart: scale * rng.random_range(0.0..0.05),
        };
        agenda.sort_by_key(|(at, _)| *at);
        Self {
            seed,
            policy,
            changes,
            agenda,
            faults,
            faults_end,
            horizon: faults_end + MINUTE * 60 * 24,
            requests_per_second: rng.random_range(5.0..200.0),
            pods: rng.random_range(0..=4),
            error_rate: rng.random_range(0.000_1..0.01),
        }
    }
}

fn merge(change: &Change, number: u64, at: Timestamp, agenda: &mut Vec<(Timestamp, Event)>, rng: &mut StdRng) {
    let merged = Event::PullRequestMerged {
        delivery: Text::new(format!("delivery-{number}")),
        repository: change.repository.clone(),
        pull_request: number,
        branch: "main".into(),
        into_default: true,
    };
    if rng.random_bool(0.3) {
        agenda.push((at + MINUTE, merged.clone()));
    }
    agenda.push((at, merged));
    // Told of a deployment before the merge is known, in time, or never.
    if rng.random_bool(0.9) {
        let told = (at + MINUTE * rng.random_range(0..20)) - MINUTE * 2;
        let service = service_name(service_of(change));
        agenda.push((told, Event::RevisionDeployed { service, revision: change.revision.clone(), by: robot() }));
    }
}

fn people(agenda: &mut Vec<(Timestamp, Event)>, rng: &mut StdRng) {
    for _ in 0..rng.random_range(0..4) {
        let command = match rng.random_range(0..6) {
            0 => Command::Pause,
            1 => Command::Resume,
            2..=4 => Command::Promote,
            _ => Command::Rollback,
        };
        let rollout = RolloutId(rng.random_range(1..=3));
        let at = BEGINNING + MINUTE * rng.random_range(1..120);
        agenda.push((at, Event::Commanded { rollout, command, by: robot() }));
    }
    if rng.random_bool(0.3) {
        let on = BEGINNING + MINUTE * rng.random_range(1..60);
        agenda.push((on, Event::KillSwitch { on: true, by: robot() }));
        agenda.push((on + MINUTE * rng.random_range(1..60), Event::KillSwitch { on: false, by: robot() }));
    }
}

/// Long after the faults have stopped, a person settles what was handed over, whichever way.
fn settling(faults_end: Timestamp, agenda: &mut Vec<(Timestamp, Event)>, rng: &mut StdRng) {
    for round in 1..=3_u32 {
        for rollout in 1..=3 {
            let command = if rng.random_bool(0.5) { Command::Promote } else { Command::Rollback };
            let at = faults_end + MINUTE * (round * 300);
            agenda.push((at, Event::Commanded { rollout: RolloutId(rollout), command, by: robot() }));
        }
    }
}

fn robot() -> Person {
    Person(Text::new("somebody"))
}

fn service_name(index: usize) -> ServiceName {
    ServiceName::new(format!("service-{index}"))
}

fn service_of(change: &Change) -> usize {
    change
        .files
        .first()
        .and_then(|file| file.path.chars().nth(1))
        .and_then(|c| c.to_digit(10))
        .map_or(0, |d| d as usize)
}

fn repository() -> Repository {
    #[expect(clippy::unwrap_used, reason = "a constant that a test holds to be well formed")]
    "acme/everything".parse().unwrap()
}

fn revision(number: u64) -> Revision {
    #[expect(clippy::unwrap_used, reason = "forty digits whatever the number")]
    format!("{number:040x}").parse().unwrap()
}

fn change(service: usize, number: u64, one_way: bool) -> Change {
    let file = if one_way { "migrations/1.sql" } else { "main.rs" };
    Change {
        repository: repository(),
        pull_request: number,
        title: Text::new(format!("change {number}")),
        author: Person(Text::new("author")),
        merged_by: None,
        base: revision(number + 1_000),
        revision: revision(number),
        files: vec![FileTouched { path: format!("s{service}/{file}"), previous_path: None, kind: TouchKind::Modified }],
        files_cut: false,
    }
}

/// The catalogue and objectives that every generated service has.
pub fn bounds() -> Bounds {
    let sli = Sli::Ratio {
        bad: Selector::metric("requests_total").with("code", Match::StartsWith("5".into())),
        total: Selector::metric("requests_total"),
    };
    let objective = Check {
        name: CheckName::new("errors"),
        sli: sli.clone(),
        direction: Direction::HigherIsWorse,
        ratio_max: 1.25,
        limit: Some(HardLimit { bad_share_max: 0.2, total_min: 20, bad_min: 5 }),
        aim: Aim::Guard,
        weight: Weight::Critical,
        origin: Origin::Slo,
        rationale: Text::new("users see errors"),
        lines: Vec::new(),
        split: Split::default(),
    };
    let entry = CatalogueEntry {
        name: "errors".into(),
        sli,
        route_label: Some("route".into()),
        segment_label: None,
        tenant_label: None,
    };
    Bounds {
        catalogue: Catalogue { entries: vec![entry], traffic: Some(Selector::metric("requests_total")) },
        mandatory: vec![objective],
        proposed_max: 20,
        ratio_max: 3.0,
        ..Bounds::default()
    }
}

/// A ladder of plain shares in per cent.
pub fn ladder(shares: &[u16], bake_time: Duration) -> Vec<Stage> {
    let stage = |share: &u16| Stage {
        exposure: Exposure::share(Share::from_basis_points(share * 100).unwrap_or(Share::FULL)),
        bake_time,
    };
    shares.iter().map(stage).collect()
}

fn policy(services: usize, rng: &mut StdRng) -> Arc<Policy> {
    let mut by_name = BTreeMap::new();
    for index in 0..services {
        let service = ServicePolicy {
            repository: repository(),
            paths: vec![format!("s{index}/**")],
            branch: None,
            deployed: if rng.random_bool(0.5) { Deployed::OnMerge } else { Deployed::WhenTold },
            autonomy: match rng.random_range(0..10) {
                0 => Autonomy::Observe,
                1 => Autonomy::Advise,
                2 => Autonomy::Guard,
                _ => Autonomy::Auto,
            },
            stages: ladder(&[1, 5, 25, 50, 100], MINUTE * rng.random_range(1..5)),
            bounds: bounds(),
            alpha: 0.001,
            look_every: Duration::from_secs(30),
            measure_every: Duration::from_secs(30),
            samples_min: rng.random_range(0..50),
            step_max: Share::from_basis_points(5_000).unwrap_or(Share::FULL),
            blackout_after: MINUTE * 3,
            patience: MINUTE * 30,
            pause_max: MINUTE * 60,
            watch: MINUTE * 5,
            deploy_within: MINUTE * 60,
            reply_within: Duration::from_secs(20),
            attempts_max: rng.random_range(2..5),
            drained_within: MINUTE * 3,
            pod_incident: if rng.random_bool(0.5) { MINUTE * 3 } else { Duration::ZERO },
            // Every other service has a canary that is cold at first.
            warm_up: if index % 2 == 1 { MINUTE } else { Duration::ZERO },
            share_tolerance: Some(2.0),
            safe_ratio: 2.0,
            bake_time_shown_safe: None,
            model: None,
            risk_bake: RiskBake::default(),
            control: ControlAge::Running,
            draft_within: None,
        };
        by_name.insert(service_name(index), service);
    }
    Arc::new(Policy { version: PolicyVersion::new("sim"), services: by_name, rollouts_max: 100, finished_kept: 100 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_world() {
        assert_eq!(Scenario::from_seed(7), Scenario::from_seed(7));
        assert_ne!(Scenario::from_seed(7).agenda, Scenario::from_seed(8).agenda);
        assert_eq!(repository().to_string(), "acme/everything");
    }
}
