//! The real binary is killed with SIGKILL at random moments of one rollout, over and over, and finishes it right.
//!
//! What is checked, against the journal as it is after each kill, folded here anew:
//! - every event that was acknowledged is in it, and what was in it before is still there, byte for byte;
//! - users never see more of the new version than was cleared by then, nor see it again after it was taken back;
//! - a user who had the new version keeps it for as long as the share does not shrink, across every start;
//! - the rollout ends as it would have without any kill.
//!
//! The moments are drawn from a seed, which is printed and can be given as `TOLLGATE_SEED`. The same seed makes the same
//! draws; what the daemon is doing by then differs from run to run, so a failure may take several replays.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod house;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use reqwest::StatusCode;
use serde::Deserialize;
use tollgate::{
    cli::demo::shop::{Behaviour, Page},
    daemon::Clock,
    domain::{Command, Outcome, RequestId, Stamped, Timestamp},
    journal,
    rollout::{Effect, Event, Fleet, FleetView, RolloutView},
};

use house::{CANARY, Daemon, Furnishing, House, SECRETS, STABLE, Told};

/// The longest that one of these tests may take.
const WITHIN: Duration = Duration::from_secs(150);
/// Users who are asked about in turn, the same all along.
const USERS: u32 = 300;

/// How a life of the daemon ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// After this time, which may be before it is up.
    After(Duration),
    /// At the moment when users see another share, and after this time if they do not: the move is made, and the word of
    /// it may not be recorded yet.
    AtAMove(Duration),
}

fn draw_ending(rng: &mut StdRng) -> Ending {
    let millis = |rng: &mut StdRng, range: std::ops::Range<u64>| Duration::from_millis(rng.random_range(range));
    match rng.random_range(0..10) {
        0..5 => Ending::After(millis(rng, 0..400)),
        5..8 => Ending::AtAMove(millis(rng, 500..2_000)),
        _ => Ending::After(millis(rng, 600..1_600)),
    }
}

/// A line of the export, as far as it is looked at here.
#[derive(Deserialize)]
struct Line {
    payload: Stamped<Event>,
}

/// A move as the journal tells of it.
struct Move {
    request: RequestId,
    cleared: Timestamp,
    confirmed: Option<Timestamp>,
    share: u16,
}

/// The journal as it was after the last kill, folded.
#[derive(Default)]
struct Record {
    /// The export, header and all.
    bytes: Vec<u8>,
    fleet: Fleet,
    moves: Vec<Move>,
    deliveries: BTreeSet<String>,
    commands: Vec<Command>,
    is_paused: bool,
}

impl Record {
    /// Reads what the journal of a dead daemon holds now, and folds what is new.
    fn read_on(&mut self, house: &House) {
        let mut bytes = Vec::new();
        journal::export(&house.at("journal"), &mut bytes).unwrap();
        assert!(bytes.starts_with(&self.bytes), "what was recorded before is not there as it was");
        let new = &bytes[self.bytes.len()..];
        let is_header = |line: &&[u8]| line.starts_with(b"{\"tollgate_export\"");
        let lines = new.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !is_header(line));
        let entries: Vec<Line> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
        entries.iter().for_each(|line| self.take(&line.payload));
        self.bytes = bytes;
    }

    fn take(&mut self, entry: &Stamped<Event>) {
        match &entry.event {
            Event::PullRequestMerged { delivery, .. } => {
                self.deliveries.insert(delivery.as_str().to_owned());
            }
            Event::Commanded { command, .. } => {
                self.commands.push(*command);
                self.is_paused = *command == Command::Pause;
            }
            Event::Shifted { request, read: Ok(read), .. } => {
                let confirmed = self.moves.iter_mut().find(|one| one.request == *request);
                confirmed.filter(|one| one.share == read.share.basis_points()).unwrap().confirmed = Some(entry.at);
            }
            _ => {}
        }
        for effect in self.fleet.handle(entry) {
            if let Effect::Shift { request, shift } = effect {
                let shift = shift.get();
                assert!(!(self.is_paused && shift.raises()), "a paused rollout went on to {}", shift.to);
                let share = shift.to.share.basis_points();
                self.moves.push(Move { request, cleared: entry.at, confirmed: None, share });
            }
        }
    }

    /// The most that users could rightly see between two times: what was confirmed last by the first of them, and
    /// whatever was cleared after that and by the second.
    fn most_between(&self, began: Timestamp, ended: Timestamp) -> u16 {
        let settled = |one: &Move| one.confirmed.is_some_and(|confirmed| confirmed < began);
        let from = self.moves.iter().rposition(settled).unwrap_or(0);
        let possible = self.moves[from..].iter().filter(|one| one.cleared <= ended);
        possible.map(|one| one.share).max().unwrap_or(0)
    }

    fn rollout(&self) -> Option<RolloutView> {
        self.fleet.view(10).rollouts.into_iter().next()
    }
}

/// What a user was told, and between which times.
#[derive(Debug)]
struct Sample {
    told: Told,
    began: Timestamp,
    ended: Timestamp,
}

/// What users were told, in one life of the daemon and all along.
#[derive(Default)]
struct Seen {
    this_life: Vec<Sample>,
    /// By user: the largest share without the new version, and the smallest with it.
    sides: BTreeMap<u32, (u16, u16)>,
    answers: usize,
}

impl Seen {
    fn take(&mut self, user: u32, sample: Sample) {
        self.answers += 1;
        let told = sample.told;
        self.this_life.push(sample);
        let Some(share) = told.share else {
            assert!(self.sides.is_empty(), "user {user} is answered before what stood is in force again: {told:?}");
            return;
        };
        let (without, with) = self.sides.entry(user).or_insert((0, u16::MAX));
        if told.is_canary {
            *with = share.min(*with);
        } else {
            *without = share.max(*without);
        }
        assert!(*without < *with, "user {user} lost the new version while the share did not shrink");
    }

    /// Compares what users saw in the life that just ended with what its journal says was cleared.
    fn check_against(&mut self, record: &Record) {
        for Sample { told, began, ended } in self.this_life.drain(..) {
            let (share, most) = (told.share.unwrap_or(0), record.most_between(began, ended));
            assert!(share <= most, "users saw {share} basis points at {ended:?}, and {most} was cleared");
        }
    }
}

/// Merges that are none of the daemon's business, delivered one after another: a steady stream of events to lose.
struct Postman {
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
}

impl Postman {
    fn set_out(house: &Arc<House>) -> Self {
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let (house, noted) = (Arc::clone(house), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            let elsewhere =
                tollgate::forge::stand_in::Pull { repository: "acme/elsewhere".parse().unwrap(), ..house.pull(1) };
            for number in 0_u64.. {
                let delivery = format!("elsewhere-{number}");
                if house.deliver(&elsewhere, &delivery).await == Some(StatusCode::ACCEPTED) {
                    noted.lock().unwrap().insert(delivery);
                }
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
        });
        Self { acknowledged }
    }
}

/// One run: the house, the record, and what was seen.
struct Run {
    house: Arc<House>,
    /// The machine's time, as the daemon reads it.
    clock: Clock,
    postman: Postman,
    record: Record,
    seen: Seen,
    rng: StdRng,
    kills: u32,
    deadline: Instant,
}

impl Run {
    async fn begin(furnishing: Furnishing) -> Self {
        let seed = std::env::var("TOLLGATE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| StdRng::from_os_rng().random());
        println!("TOLLGATE_SEED={seed}");
        let house = Arc::new(House::build(furnishing).await);
        let postman = Postman::set_out(&house);
        let deadline = Instant::now() + WITHIN;
        let rng = StdRng::seed_from_u64(seed);
        let (record, seen, clock) = (Record::default(), Seen::default(), Clock::default());
        let mut run = Self { house, clock, postman, record, seen, rng, kills: 0, deadline };
        // What is acknowledged is recorded: the daemon does not live a moment longer than each of these answers.
        let daemon = Daemon::start(&run.house).await;
        run.house.tell_deployed(STABLE).await;
        run.kill(daemon);
        let daemon = Daemon::start(&run.house).await;
        run.house.merge(7).await;
        run.kill(daemon);
        assert!(run.record.deliveries.contains("merge-7"));
        let daemon = Daemon::start(&run.house).await;
        run.house.tell_deployed(CANARY).await;
        run.kill(daemon);
        run
    }

    /// Kills the daemon and compares what it left with what was seen.
    fn kill(&mut self, daemon: Daemon) {
        // Read before the kill: an answer under way may still be noted after it.
        let acknowledged = self.postman.acknowledged.lock().unwrap().clone();
        daemon.kill();
        self.kills += 1;
        assert!(Instant::now() < self.deadline, "no end after {} kills: {:#?}", self.kills, self.record.rollout());
        self.record.read_on(&self.house);
        let lost: Vec<_> = acknowledged.difference(&self.record.deliveries).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        self.seen.check_against(&self.record);
    }

    /// Lets the daemon live until its end is due, asking for users all the while, or until the last view is such.
    async fn live(&mut self, ending: Ending, enough: impl Fn(&FleetView) -> bool) -> Daemon {
        let daemon = Daemon::spawn(&self.house);
        let began = Instant::now();
        let (life, at_a_move) = match ending {
            Ending::After(life) => (life, false),
            Ending::AtAMove(life) => (life, true),
        };
        let mut stands = None;
        while began.elapsed() < life {
            let user = self.rng.random_range(0..USERS);
            let began_asking = self.clock.now();
            if let Some(told) = self.house.ask(user).await {
                self.seen.take(user, Sample { told, began: began_asking, ended: self.clock.now() });
                if at_a_move && stands.is_some_and(|before| before != told.share) {
                    break;
                }
                stands = Some(told.share);
            }
            if at_a_move {
                // Nothing between two questions: the moment is a short one.
                continue;
            }
            if self.rng.random_bool(0.1) && self.house.look().await.is_some_and(|view| enough(&view)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        daemon
    }

    /// One life and its end, at any moment.
    async fn live_and_die(&mut self) {
        let ending = draw_ending(&mut self.rng);
        let daemon = self.live(ending, |_| false).await;
        self.kill(daemon);
    }

    /// Gives an order with the binary itself, and kills the daemon as soon as the order is acknowledged.
    async fn order_and_die(&mut self, word: &str) {
        let daemon = Daemon::start(&self.house).await;
        let ordered = self.house.run(&[word, "r1"]);
        assert!(ordered.status.success(), "{}", String::from_utf8_lossy(&ordered.stderr));
        self.kill(daemon);
    }

    fn outcome(&self) -> Option<Outcome> {
        self.record.rollout().and_then(|rollout| rollout.outcome)
    }

    /// After everything, and after one more start: what every user is told, and how the daemon ends when asked to.
    async fn assert_everyone(&mut self, is_canary: bool) {
        let daemon = Daemon::start(&self.house).await;
        for user in 0..USERS {
            let told = self.house.ask(user).await.unwrap();
            assert_eq!(told.is_canary, is_canary, "user {user}: {told:?}");
        }
        assert!(daemon.terminate().success());
        let said = self.house.log() + &String::from_utf8_lossy(&self.record.bytes);
        assert!(!SECRETS.iter().any(|secret| said.contains(secret)), "a secret is in the log or in the journal");
        println!(
            "killed {} times; {} answers to users, {} deliveries and {} moves in the record",
            self.kills,
            self.seen.answers,
            self.record.deliveries.len(),
            self.record.moves.len(),
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_survives_thirty_kills_and_is_promoted() {
    let mut run = Run::begin(Furnishing::default()).await;
    // A person pauses it half way, so that thirty kills meet it while it is open, and none of them may forget the pause.
    while run.record.rollout().is_none_or(|rollout| rollout.share < 3_000) {
        run.live_and_die().await;
    }
    run.order_and_die("pause").await;
    while run.kills < 30 {
        run.live_and_die().await;
    }
    assert_eq!(run.outcome(), None);
    assert_eq!(run.record.commands, [Command::Pause]);
    run.order_and_die("resume").await;
    while run.outcome().is_none() {
        run.live_and_die().await;
    }
    assert_eq!(run.outcome(), Some(Outcome::Promoted), "{:#?}", run.record.rollout());
    assert!(run.kills >= 30);
    assert!(run.record.rollout().is_some_and(|rollout| rollout.pull_request == 7 && rollout.share == 10_000));
    run.assert_everyone(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_change_is_rolled_back_across_kills() {
    let furnishing = Furnishing {
        behaviour: Behaviour::healthy().failing(Page::Checkout, 0.5),
        ladder: &[("10%", "30s"), ("50%", "1s"), ("100%", "1s")],
        ..Furnishing::default()
    };
    let mut run = Run::begin(furnishing).await;
    while run.kills < 10 {
        run.live_and_die().await;
    }
    // From here on lives are long enough for proof, and the first two that see it taken back end in the middle of that.
    let mut cut_short = 0;
    while run.outcome().is_none() {
        let being_taken_back =
            |view: &FleetView| cut_short < 2 && view.rollouts.iter().any(|rollout| rollout.phase == "draining");
        let life = Duration::from_millis(run.rng.random_range(500..6_000));
        let daemon = run.live(Ending::After(life), being_taken_back).await;
        run.kill(daemon);
        cut_short += u32::from(run.record.moves.last().is_some_and(|one| one.share == 0));
    }
    assert_eq!(run.outcome(), Some(Outcome::RolledBack), "{:#?}", run.record.rollout());
    assert!(run.record.rollout().is_some_and(|rollout| rollout.share == 0));
    run.assert_everyone(false).await;
}
