//! One rollout of the shop by `tollgate serve`, measured by a Prometheus and visited through an HAProxy of its own; and
//! looks at it, each of which holds what must never happen.

use std::time::{Duration, Instant};

use tollgate::{cli::demo::shop::Behaviour, domain::Outcome, rollout::RolloutView};

use crate::{
    arm::Arm,
    door::Door,
    house::{CANARY, Daemon, Elsewhere, Furnishing, House, SECRETS, STABLE},
    servers::{HaProxy, Prometheus, Targets},
};

/// How long a step may take on a machine that does much else.
const SOON: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Visits a second, of all versions together.
const VISITS: u32 = 80;
/// What the share is in the stage that faults are made in.
pub(crate) const HALF: u16 = 5_000;
/// What it is from stage to stage.
const SHARES: [u16; 3] = [1_000, HALF, 10_000];
/// A ladder. In its second stage a fault is surely made, and its silence outlasts the stage.
const SHORT: Ladder = &[("10%", "4s"), ("50%", "8s"), ("100%", "2s")];
/// One whose second stage has its default time, scaled as everything is: so long a bad version may take to be found.
const LONG: Ladder = &[("10%", "6s"), ("50%", "20s"), ("100%", "2s")];
/// A silence of three minutes, as short as everything else here: at its defaults, a source is looked at every 15 s, and
/// here every second.
pub(crate) const SILENCE: Duration = Duration::from_secs(3 * 60 / 15);

/// How everything is measured: at the defaults of the configuration, a fifteenth of each. But for `gone_after`: Prometheus
/// takes some five seconds to find its targets, however short everything else is, and three minutes are to be less than it.
const TELEMETRY: &str = r#"
[services.shop.telemetry]
source = "metrics"
interval = "1s"
pod_label = "pod"
settle = "333ms"
lookback = "30s"
stale_after = "8s"
gone_after = "30s"
control.labels = { app = "shop", version = "{revision}" }
canary.labels = { app = "shop", version = "{revision}" }
"#;

/// What HAProxy counts is an objective as well.
const EDGE: &str = r#"
[[services.shop.slis]]
name = "edge"
kind = "ratio"
bad = { metric = "haproxy_backend_http_responses_total", where = { code = "5xx" } }
total = { metric = "haproxy_backend_http_responses_total" }

[[services.shop.slos]]
sli = "edge"
"#;

/// An absolute bound on it.
const LIMIT: &str = "[services.shop.slos.limit]\nbad_share_max = \"10%\"\n";

type Ladder = &'static [(&'static str, &'static str)];

/// What a scene is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// A whole rollout, judged against the old version.
    Whole,
    /// A fault of telemetry in the middle.
    Fault,
    /// The same, where what HAProxy counts has an absolute bound.
    FaultWithLimit,
}

/// Everything around one rollout.
pub(crate) struct Scene {
    name: &'static str,
    pub(crate) house: House,
    pub(crate) canary: Arm,
    pub(crate) haproxy: HaProxy,
    pub(crate) prometheus: Prometheus,
    pub(crate) targets: Targets,
    pub(crate) door: Door,
    daemon: Option<Daemon>,
    _stable: Arm,
}

impl Scene {
    /// Starts all of it, and the rollout of a version that behaves like this.
    pub(crate) async fn begin(name: &'static str, about: About, behaviour: Behaviour) -> Self {
        let stable = Arm::start(STABLE, Behaviour::healthy()).await;
        let canary = Arm::start(CANARY, behaviour).await;
        let mut haproxy = HaProxy::start(stable.address, canary.address);
        let targets = Targets {
            stable: stable.address,
            canary: canary.address,
            haproxy: haproxy.counters,
            canary_version: CANARY,
            canary_pod: "canary-0",
            are_scraped: true,
        };
        let prometheus = Prometheus::start(&targets).await;
        haproxy.still_runs();
        let (door, url) = Door::open(prometheus.address).await;
        let elsewhere = Elsewhere {
            shop: format!("http://{}", haproxy.front),
            pace: "measure_every = \"1s\"\nblackout_after = \"5s\"".into(),
            telemetry: format!(
                "[sources.metrics]\nkind = \"prometheus\"\nurl = \"{url}\"\ntimeout = \"1s\"\n{TELEMETRY}"
            ),
            objectives: format!("{EDGE}{}", if about == About::FaultWithLimit { LIMIT } else { "" }),
        };
        let furnishing = Furnishing {
            ladder: if about == About::Whole { LONG } else { SHORT },
            watch: "2s",
            visits_per_second: VISITS,
            elsewhere: Some(elsewhere),
            ..Furnishing::default()
        };
        let house = House::build(furnishing).await;
        let daemon = Some(Daemon::start(&house).await);
        house.tell_deployed(STABLE).await;
        house.merge(7).await;
        house.tell_deployed(CANARY).await;
        Self { name, house, canary, haproxy, prometheus, targets, door, daemon, _stable: stable }
    }

    /// The rollout, once it is there; what the API and the flags show of it must not lie outside of `law`.
    async fn look(&self, law: &impl Fn(&RolloutView) -> Result<(), String>, most: u16) -> Option<RolloutView> {
        let view = self.house.look().await?;
        let rollout = view.rollouts.into_iter().next()?;
        let name = self.name;
        assert!(rollout.share <= most, "{name}: at {} although it may be at {most}: {rollout:#?}", rollout.share);
        if let Err(why) = law(&rollout) {
            panic!("{name}: {why}: {rollout:#?}");
        }
        if let Some(told) = self.house.ask(1).await.and_then(|told| told.share) {
            assert!(told <= most, "{name}: users are told of {told} although {most} is allowed");
        }
        Some(rollout)
    }

    /// Looks until it is so; no look may find anything outside of `law`, or more than `most`.
    async fn until(
        &self,
        what: &str,
        (law, most): (impl Fn(&RolloutView) -> Result<(), String>, u16),
        is_so: impl Fn(&RolloutView) -> bool,
    ) -> RolloutView {
        let deadline = Instant::now() + SOON;
        loop {
            let rollout = self.look(&law, most).await;
            match rollout {
                Some(rollout) if is_so(&rollout) => return rollout,
                rollout => {
                    let name = self.name;
                    assert!(Instant::now() < deadline, "{name}: not in time: {what}; the last look: {rollout:#?}");
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the second stage has begun, before which nothing goes back.
    pub(crate) async fn until_half(&self) {
        self.until("the second stage", (forward, HALF), |rollout| rollout.share == HALF).await;
    }

    /// Sees that nothing moves for as long as this.
    pub(crate) async fn stands_still(&self, span: Duration) {
        let until = Instant::now() + span;
        while Instant::now() < until {
            self.look(&standing, HALF).await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Sees that nothing moves for a silence of three minutes, nor before a rail speaks of missing data.
    pub(crate) async fn is_held_by_absence(&self) {
        let began = Instant::now();
        let speaks = |rollout: &RolloutView| {
            rollout
                .objections
                .iter()
                .any(|objection| matches!(objection.rail.as_str(), "no_data" | "telemetry_blackout"))
        };
        self.until("a rail speaks of missing data", (standing, HALF), speaks).await;
        self.stands_still(SILENCE.saturating_sub(began.elapsed())).await;
    }

    /// Kills the daemon and starts it again on its journal.
    pub(crate) async fn lose_the_daemon(&mut self) {
        self.daemon.take().unwrap().kill();
        self.daemon = Some(Daemon::start(&self.house).await);
    }

    /// Sees that it goes on to its good end by itself.
    pub(crate) async fn is_promoted(&self) -> RolloutView {
        let is_over = |rollout: &RolloutView| rollout.outcome.is_some();
        let rollout = self.until("the end", (forward, 10_000), is_over).await;
        let shares = shares(&rollout);
        assert_eq!((rollout.outcome, shares.as_slice()), (Some(Outcome::Promoted), &SHARES[..]), "{}", self.name);
        assert!(self.house.ask(1).await.unwrap().is_canary, "{}: everyone has it", self.name);
        let counted = self.haproxy.counted(CANARY).await;
        assert!(counted["2xx"] > u64::from(VISITS), "{}: HAProxy sent it real visits: {counted:?}", self.name);
        for check in rollout.checks.iter().filter(|check| ["errors", "edge"].contains(&check.name.as_str())) {
            let (told, sent) = (check.evidence.canary, counted.values().sum::<u64>());
            let is_sane = told.total > 0 && told.total <= sent && told.bad <= counted["5xx"];
            assert!(is_sane, "{}: {} made {told:?} of what HAProxy sent, {counted:?}", self.name, check.name);
        }
        rollout
    }

    /// Sees that it is taken back, and that HAProxy sends nobody there any more.
    pub(crate) async fn is_rolled_back(&self) -> RolloutView {
        let rollout = self.until("the end", (|_: &RolloutView| Ok(()), HALF), |one| one.outcome.is_some()).await;
        assert_eq!((rollout.outcome, rollout.share), (Some(Outcome::RolledBack), 0), "{}: {rollout:#?}", self.name);
        assert!(!self.house.ask(1).await.unwrap().is_canary, "{}: nobody has it", self.name);
        let deadline = Instant::now() + SOON;
        let mut before = self.haproxy.counted(CANARY).await;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let counted = self.haproxy.counted(CANARY).await;
            if counted == before {
                break;
            }
            assert!(Instant::now() < deadline, "{}: visits go on: {counted:?}", self.name);
            before = counted;
        }
        assert!(before["5xx"] > 0, "{}: HAProxy saw what went wrong: {before:?}", self.name);
        rollout
    }

    /// Ends the daemon as a service manager does; `tollgate status` said by then what it sees, and nobody told a secret.
    pub(crate) fn end(mut self) {
        let status = self.house.run(&["status", "r1"]);
        let said = String::from_utf8_lossy(&status.stdout).into_owned() + &self.house.log();
        assert!(status.status.success() && said.contains("acme/shop"), "{}: {said}", self.name);
        assert!(!SECRETS.iter().any(|secret| said.contains(secret)), "{}: a secret was said", self.name);
        assert!(self.daemon.take().unwrap().terminate().success(), "{}", self.name);
    }
}

/// The shares that were confirmed, one after the other. A daemon that begins anew confirms once more what stands.
fn shares(rollout: &RolloutView) -> Vec<u16> {
    let mut shares: Vec<u16> = rollout.exposures.iter().map(|(_, share)| *share).collect();
    shares.dedup();
    shares
}

/// Nothing goes back: the share never falls, and no end but the good one.
fn forward(rollout: &RolloutView) -> Result<(), String> {
    let shares = shares(rollout);
    let rises = shares.iter().zip(&SHARES).all(|(share, planned)| share == planned) && shares.len() <= SHARES.len();
    let is_good = matches!(rollout.outcome, None | Some(Outcome::Promoted)) && rollout.phase != "draining";
    if rises && is_good { Ok(()) } else { Err(format!("it goes back, {shares:?}")) }
}

/// Nothing moves at all.
fn standing(rollout: &RolloutView) -> Result<(), String> {
    forward(rollout)?;
    let stands = (rollout.outcome, rollout.share) == (None, HALF);
    if stands { Ok(()) } else { Err("it moves".into()) }
}
