//! The journal from outside: what was acknowledged is there again, and what cannot be trusted is refused.

#![expect(clippy::unwrap_used, reason = "what cannot go on in a test has failed it")]

#[path = "journal/damage.rs"]
mod damage;
#[path = "journal/restoring.rs"]
mod restoring;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tollgate::{
    domain::{Person, PolicyVersion, Stamped, Text, Timestamp},
    journal::{Error, Journal, Options, Recovery, export, restore},
    rollout::{Event, Fleet, Policy},
};

/// Set for a process that appends until it is killed or cannot: the directory of its journal.
const CHILD: &str = "TOLLGATE_TEST_JOURNAL";
/// Set for such a process that takes no snapshots: how many entries it appends at most.
const CHILD_PLAIN: &str = "TOLLGATE_TEST_JOURNAL_PLAIN";

/// The n-th event of every journal here, from 1, so that whoever knows a number knows what must be there.
fn event(n: u64) -> Stamped<Event> {
    let event = match n % 4 {
        0 => Event::WokeUp,
        1 => {
            let version = PolicyVersion::new(format!("policy-{n}"));
            let policy = Policy { version, services: [].into(), rollouts_max: 10, finished_kept: 10 };
            Event::Started { policy: Arc::new(policy) }
        }
        2 => Event::KillSwitch { on: n.is_multiple_of(8), by: Person(Text::new(format!("person {n}"))) },
        _ => Event::PullRequestMerged {
            delivery: Text::new(format!("delivery {n}")),
            repository: "acme/shop".parse().unwrap(),
            pull_request: n,
            branch: "main".repeat((n % 60) as usize),
            into_default: true,
        },
    };
    Stamped { at: Timestamp::from_millis(1_700_000_000_000 + 7 * n), event }
}

fn events(numbers: std::ops::RangeInclusive<u64>) -> Vec<Stamped<Event>> {
    numbers.map(event).collect()
}

/// The fleet after the first `n` events.
fn fleet_after(n: u64) -> Fleet {
    let mut fleet = Fleet::default();
    for n in 1..=n {
        fleet.handle(&event(n));
    }
    fleet
}

fn options(dir: &Path) -> Options {
    Options { snapshot_every: 40, keep: 5, export_sync_every: 8, ..Options::at(dir) }
}

fn open(dir: &Path) -> (Journal, Fleet, Recovery) {
    Journal::open(options(dir)).unwrap()
}

fn refusal(dir: &Path) -> Error {
    Journal::open(options(dir)).map(|(_, _, recovery)| recovery).unwrap_err()
}

/// A journal of the first `n` events, in batches of up to seven, with snapshots as they come due; closed.
fn journal_of(n: u64, options: Options) {
    let (mut journal, mut fleet, recovery) = Journal::open(options).unwrap();
    let mut next = recovery.last_seq + 1;
    while next <= n {
        let through = (next + next % 7).min(n);
        let batch = events(next..=through);
        journal.append(&batch).unwrap();
        batch.iter().for_each(|entry| drop(fleet.handle(entry)));
        journal.maybe_snapshot(&fleet).unwrap();
        next = through + 1;
    }
}

/// As [`journal_of`], without snapshots.
fn plain_journal_of(n: u64, dir: &Path) {
    journal_of(n, Options { snapshot_every: u64::MAX, ..options(dir) });
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for found in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (found.path(), to.join(found.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

fn assert_whole(dir: &Path, n: u64) {
    let (journal, fleet, recovery) = open(dir);
    assert_eq!((journal.last_seq(), recovery.last_seq), (n, n));
    assert_eq!(recovery.last_at, Some(event(n).at));
    assert_eq!(fleet, fleet_after(n));
}

struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }
}

#[test]
fn a_journal_can_be_given_to_a_thread() {
    fn is_send<T: Send>() {}
    is_send::<Journal>();
}

#[test]
fn what_was_appended_is_there_after_reopening() {
    let place = Place::new();
    let dir = place.at("deep/journal");
    let (mut journal, fleet, recovery) = open(&dir);
    assert_eq!((fleet, recovery), (Fleet::default(), Recovery::default()));
    journal.append(&[]).unwrap();
    journal.append(&events(1..=1)).unwrap();
    journal.append(&events(2..=9)).unwrap();
    drop(journal);
    let (mut journal, fleet, recovery) = open(&dir);
    let expected = Recovery { folded: 9, last_seq: 9, last_at: Some(event(9).at), ..Recovery::default() };
    assert_eq!((fleet, recovery), (fleet_after(9), expected));
    journal.append(&events(10..=10)).unwrap();
    drop(journal);
    assert_whole(&dir, 10);

    let mut lines = Vec::new();
    assert_eq!(export(&dir, &mut lines).unwrap(), 10);
    let lines = String::from_utf8(lines).unwrap();
    assert_eq!(lines, fs::read_to_string(dir.join("export.jsonl")).unwrap(), "both exports are one");
    let entry: serde_json::Value = serde_json::from_str(lines.lines().nth(8).unwrap()).unwrap();
    assert_eq!((&entry["seq"], &entry["policy"]), (&8.into(), &"policy-5".into()));
    let payload: Stamped<Event> = serde_json::from_value(entry["payload"].clone()).unwrap();
    assert_eq!(payload, event(8));
}

#[test]
fn snapshots_bound_the_fold_and_what_is_kept() {
    let place = Place::new();
    let dir = place.at("j");
    journal_of(500, options(&dir));
    let (journal, fleet, recovery) = open(&dir);
    assert_eq!(fleet, fleet_after(500));
    assert!(recovery.snapshot.is_some_and(|seq| seq > 440), "{recovery:?}");
    assert!(recovery.folded < 60, "{recovery:?}");
    drop(journal);
    assert_eq!(fs::read_dir(dir.join("snapshots")).unwrap().count(), 2);
    let mut lines = Vec::new();
    let kept = export(&dir, &mut lines).unwrap();
    assert_eq!(kept, recovery.folded + 1, "a whole export is the newest snapshot, its entry, and what follows");
    journal_of(520, options(&dir));
    assert_whole(&dir, 520);
}

#[test]
fn the_policy_in_force_is_remembered_through_a_snapshot() {
    let place = Place::new();
    let dir = place.at("j");
    let (mut journal, _, _) = open(&dir);
    journal.append(&events(1..=2)).unwrap();
    journal.snapshot(&fleet_after(2)).unwrap();
    drop(journal);
    let (mut journal, _, _) = open(&dir);
    journal.append(&events(3..=3)).unwrap();
    drop(journal);
    let last = fs::read_to_string(dir.join("export.jsonl")).unwrap();
    assert!(last.lines().last().unwrap().contains("\"policy\":\"policy-1\""), "{last}");
}

#[test]
fn a_snapshot_that_cannot_be_read_is_passed_over_and_never_guessed_at() {
    let place = Place::new();
    let (pruned, whole) = (place.at("pruned"), place.at("whole"));
    journal_of(300, options(&pruned));
    journal_of(300, Options { keep: 1_000, ..options(&whole) });
    let hurt = |dir: &Path, which: usize| {
        let mut paths: Vec<_> = fs::read_dir(dir.join("snapshots")).unwrap().map(|f| f.unwrap().path()).collect();
        paths.sort();
        let mut bytes = fs::read(&paths[which]).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&paths[which], bytes).unwrap();
    };
    hurt(&pruned, 1);
    let (journal, fleet, recovery) = open(&pruned);
    assert_eq!(fleet, fleet_after(300));
    assert!(recovery.remarks[0].contains("passed over") && recovery.folded > 40, "{recovery:?}");
    drop(journal);
    hurt(&pruned, 0);
    let refused = refusal(&pruned).to_string();
    assert!(refused.contains("its beginning") && refused.contains("tollgate restore --from"), "{refused}");

    hurt(&whole, 1);
    hurt(&whole, 0);
    let (_journal, fleet, recovery) = open(&whole);
    assert_eq!((fleet, recovery.folded, recovery.snapshot), (fleet_after(300), 300, None));
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let place = Place::new();
    let dir = place.at("j");
    let mut before = 0;
    for round in 0..24_u64 {
        let mut child = child(&dir).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (first, begun) = mpsc::channel();
        let reader = thread::spawn(move || {
            let mut acknowledged = 0;
            for line in output.lines().map_while(Result::ok) {
                // A line that the kill cut short was not acknowledged.
                let number = line.strip_prefix("acknowledged ").and_then(|rest| rest.strip_suffix('.'));
                if let Some(number) = number {
                    acknowledged = number.parse().unwrap();
                    first.send(()).ok();
                }
            }
            acknowledged
        });
        begun.recv_timeout(Duration::from_secs(60)).unwrap();
        thread::sleep(Duration::from_millis(round * 37 % 180));
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged: u64 = reader.join().unwrap();
        let (_journal, fleet, recovery) = Journal::open(child_options(&dir)).unwrap();
        assert!(acknowledged > before, "round {round}: the child made progress");
        assert!(recovery.last_seq >= acknowledged, "round {round}: {acknowledged} acknowledged, {recovery:?}");
        assert_eq!(fleet, fleet_after(recovery.last_seq), "round {round}");
        before = recovery.last_seq;
    }
    let restored = place.at("restored");
    let report = restore(&dir, &restored).unwrap();
    assert_eq!(report.last_seq, before);
    assert_whole(&restored, before);
}

fn child(dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_child_appends_until_it_is_killed", "--nocapture"]).env(CHILD, dir);
    command
}

fn child_options(dir: &Path) -> Options {
    Options { export_bytes_max: 60_000, ..options(dir) }
}

/// Not a test of its own: the body of the process that the tests here kill.
#[test]
fn the_child_appends_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let plain = std::env::var(CHILD_PLAIN).ok().map(|count| count.parse::<u64>().unwrap());
    let (mut journal, mut fleet, recovery) = Journal::open(child_options(Path::new(&dir))).unwrap();
    let mut out = std::io::stdout();
    let mut next = recovery.last_seq + 1;
    while plain.is_none_or(|most| next <= most) {
        let batch = events(next..=next + next % 5);
        if let Err(error) = journal.append(&batch) {
            writeln!(out, "refused: {error}").unwrap();
            writeln!(out, "then: {}", journal.append(&events(1..=1)).unwrap_err()).unwrap();
            return;
        }
        next += batch.len() as u64;
        writeln!(out, "acknowledged {}.", next - 1).unwrap();
        out.flush().unwrap();
        batch.iter().for_each(|entry| drop(fleet.handle(entry)));
        if plain.is_none() {
            journal.maybe_snapshot(&fleet).unwrap();
        }
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_acknowledged_is_lost() {
    let place = Place::new();
    let dir = place.at("j");
    let child = child(&dir);
    // A limit on the size of files stands in for a full disk: writes fail where they would pass it.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 4000; exec \"$@\"", "sh"])
        .arg(child.get_program())
        .args(child.get_args())
        .env(CHILD, &dir)
        .env(CHILD_PLAIN, "1000000")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |start: &str| said.lines().rev().find_map(|line| line.strip_prefix(start)).map(str::to_owned);
    let refused = line("refused: ").unwrap_or_else(|| panic!("{output:?}"));
    assert!(refused.contains(dir.to_str().unwrap()) && refused.contains("File too large"), "{refused}");
    assert!(line("then: ").unwrap().contains("takes no more entries since a write failed"), "{said}");
    let acknowledged: u64 = line("acknowledged ").unwrap().trim_end_matches('.').parse().unwrap();
    let (_journal, fleet, recovery) = open(&dir);
    assert!(recovery.last_seq >= acknowledged, "{acknowledged} {recovery:?}");
    assert_eq!(fleet, fleet_after(recovery.last_seq));
}

#[test]
fn every_batch_is_synced_to_the_disk_itself() {
    let place = Place::new();
    let (dir, trace) = (place.at("j"), place.at("trace"));
    let child = child(&dir);
    let traced = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=fdatasync", "-o"])
        .arg(&trace)
        .arg(child.get_program())
        .args(child.get_args())
        .env(CHILD, &dir)
        .env(CHILD_PLAIN, "300")
        .output();
    let calls = fs::read_to_string(&trace).unwrap_or_default();
    let Some(output) = traced.ok().filter(|_| calls.contains("fdatasync")) else {
        // Where calls cannot be traced there is nothing to count: no strace, or no leave to trace.
        return;
    };
    let batches = String::from_utf8_lossy(&output.stdout).lines().filter(|l| l.starts_with("acknowledged")).count();
    let syncs = calls.lines().filter(|line| line.contains("fdatasync(") && line.contains("sled/db>")).count();
    assert!(batches > 50 && syncs >= batches, "{syncs} syncs for {batches} batches");
}
