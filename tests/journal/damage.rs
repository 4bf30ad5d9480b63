//! Damaged, foreign, busy and half-made directories: each is refused with words on what to do, or does no harm.

use std::fs;

use tollgate::{
    domain::{Arm, CheckId, Measurement, RequestId, RolloutId, Stamped, Tally, Timestamp, Window},
    journal::{Error, Journal, PAYLOAD_BYTES_MAX, export, recordable, restore},
    rollout::Event,
};

use super::{
    Place, assert_whole, copy, event, events, fleet_after, journal_of, open, options, plain_journal_of, refusal,
};

/// The same numbers on every run, spread over `0..below`.
fn spread(count: u64, below: u64) -> impl Iterator<Item = u64> {
    (1..=count).map(move |n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n) % below)
}

/// Journals of more entries than this have no snapshots, and all their entries.
const PLAIN_ABOVE: u64 = 1_000;

/// Damages copies of a journal's file and sees that each is refused by name or still whole. Says how many were refused.
fn damage_file(name: &str, count: u64, width: usize, n: u64) -> u64 {
    let place = Place::new();
    let sound = place.at("sound");
    if n > PLAIN_ABOVE {
        plain_journal_of(n, &sound)
    } else {
        journal_of(n, options(&sound))
    }
    let original = fs::read(sound.join(name)).unwrap();
    let mut refused = 0;
    for (round, at) in spread(count, original.len() as u64).enumerate() {
        let hurt = place.at(&format!("hurt-{round}"));
        copy(&sound, &hurt);
        let mut bytes = original.clone();
        bytes[at as usize..].iter_mut().take(width).for_each(|byte| *byte ^= 0x55);
        fs::write(hurt.join(name), bytes).unwrap();
        // Twice: damage that the first opening did not come upon may be come upon by the next.
        for opening in 1..=2 {
            match Journal::open(options(&hurt)) {
                Ok((_journal, fleet, recovery)) => {
                    assert_eq!((fleet, recovery.last_seq), (fleet_after(n), n), "byte {at} of {name}, time {opening}");
                }
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().contains(hurt.to_str().unwrap()), "{error}");
                    // Refused is not consumed: what the export holds is still there to be restored.
                    let restored = place.at(&format!("restored-{round}"));
                    restore(&hurt, &restored).unwrap();
                    assert_whole(&restored, n);
                    break;
                }
            }
        }
        fs::remove_dir_all(hurt).unwrap();
    }
    refused
}

#[test]
fn a_flipped_byte_in_the_store_is_refused_or_does_no_harm() {
    assert!(damage_file("sled/db", 60, 1, 400) > 0);
}

#[test]
fn a_flipped_byte_in_a_store_of_several_segments_is_refused_or_does_no_harm() {
    assert!(damage_file("sled/db", 60, 1, PLAIN_ABOVE + 1_000) > 0);
}

#[test]
fn a_damaged_run_of_bytes_in_the_store_is_refused_or_does_no_harm() {
    assert!(damage_file("sled/db", 30, 4096, 400) > 0);
}

#[test]
fn a_flipped_byte_in_sleds_other_files_is_refused_or_does_no_harm() {
    damage_file("sled/conf", 12, 1, 60);
    let place = Place::new();
    journal_of(60, options(&place.at("j")));
    let snapshots = fs::read_dir(place.at("j/sled"))
        .unwrap()
        .filter(|f| f.as_ref().unwrap().file_name().to_str().unwrap().starts_with("snap."));
    for snapshot in snapshots {
        let name = format!("sled/{}", snapshot.unwrap().file_name().to_str().unwrap());
        damage_file(&name, 10, 1, 60);
    }
}

#[test]
fn a_damaged_export_beside_a_sound_store_does_no_harm() {
    let place = Place::new();
    let dir = place.at("j");
    plain_journal_of(30, &dir);
    let path = dir.join("export.jsonl");
    let sound = fs::read(&path).unwrap();
    let mended = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let remarks = open(&dir).2.remarks;
        assert_eq!(fs::read(&path).unwrap(), sound, "the export is whole again");
        remarks.concat()
    };
    // Its last line was edited, cut off, or lost with others; its first was edited; it is empty or gone.
    let last = sound.len() - 40;
    let edited = [&sound[..last], b"x", &sound[last + 1..]].concat();
    assert!(mended(&edited).contains("export.jsonl.damaged"));
    assert_eq!(fs::read(dir.join("export.jsonl.damaged")).unwrap(), edited, "nothing is thrown away");
    assert!(mended(&sound[..last]).contains("torn"));
    let fewer = sound.iter().take(2_000).rposition(|byte| *byte == b'\n').unwrap();
    assert_eq!(mended(&sound[..=fewer]), "");
    assert!(mended(b"").contains("export.jsonl.damaged"));
    assert!(mended(&sound[1..]).contains("export.jsonl.damaged"));
    fs::remove_file(&path).unwrap();
    assert!(open(&dir).2.remarks.concat().contains("missing"));
    assert_eq!(fs::read(&path).unwrap(), sound);
}

#[test]
fn an_export_that_ends_before_the_store_begins_is_kept_aside_and_written_anew() {
    let place = Place::new();
    let dir = place.at("j");
    plain_journal_of(30, &dir);
    let old = fs::read(dir.join("export.jsonl")).unwrap();
    journal_of(300, options(&dir));
    fs::write(dir.join("export.jsonl"), &old).unwrap();
    assert!(open(&dir).2.remarks.concat().contains("ends at entry 30, which the store lacks"));
    assert_eq!(fs::read(dir.join("export.jsonl.damaged")).unwrap(), old);
    restore(&dir, &place.at("into")).unwrap();
    assert_whole(&place.at("into"), 300);
}

#[test]
fn a_store_that_lost_its_end_or_everything_is_refused_and_never_taken_for_a_new_one() {
    let place = Place::new();
    let dir = place.at("j");
    plain_journal_of(30, &dir);
    let earlier = place.at("earlier");
    copy(&dir, &earlier);
    plain_journal_of(50, &dir);
    let lost = |how: &dyn Fn(&std::path::Path), kept: u64, name: &str| {
        let hurt = place.at(name);
        copy(&dir, &hurt);
        how(&hurt);
        let error = refusal(&hurt);
        assert!(matches!(&error, Error::Lost { store, export: 50, .. } if *store == kept), "{error}");
        assert!(error.to_string().contains(&format!("--from {}/export.jsonl", hurt.display())), "{error}");
    };
    lost(&|hurt| fs::remove_dir_all(hurt.join("sled")).unwrap(), 0, "removed");
    let bare = |hurt: &std::path::Path| {
        fs::read_dir(hurt.join("sled"))
            .unwrap()
            .map(|f| f.unwrap().path())
            .filter(|path| path.is_file())
            .for_each(|path| fs::remove_file(path).unwrap());
    };
    lost(&bare, 0, "bare");
    let older = |hurt: &std::path::Path| {
        fs::remove_dir_all(hurt.join("sled")).unwrap();
        copy(&earlier.join("sled"), &hurt.join("sled"));
    };
    lost(&older, 30, "older");
    // With a snapshot and no export, the snapshot is the witness.
    let (mut journal, fleet, _) = open(&dir);
    journal.snapshot(&fleet).unwrap();
    drop(journal);
    fs::remove_file(dir.join("export.jsonl")).unwrap();
    fs::remove_dir_all(dir.join("sled")).unwrap();
    assert!(refusal(&dir).to_string().contains("entry 50"), "{}", refusal(&dir));
}

#[test]
fn a_store_from_another_journal_is_refused() {
    let place = Place::new();
    let (one, other) = (place.at("one"), place.at("other"));
    plain_journal_of(9, &one);
    let (mut journal, _, _) = open(&other);
    journal.append(&events(2..=13)).unwrap();
    drop(journal);
    fs::remove_dir_all(one.join("sled")).unwrap();
    copy(&other.join("sled"), &one.join("sled"));
    assert!(matches!(refusal(&one), Error::Diverged { seq: 9, .. }));
}

#[test]
fn two_tollgates_do_not_share_a_directory() {
    let place = Place::new();
    let dir = place.at("j");
    let (mut journal, _, _) = open(&dir);
    let said = refusal(&dir).to_string();
    assert!(said.contains("another tollgate is using") && said.contains(dir.to_str().unwrap()), "{said}");
    assert!(matches!(export(&dir, &mut Vec::new()), Err(Error::InUse { .. })));
    journal.append(&events(1..=1)).unwrap();
    drop(journal);
    assert_whole(&dir, 1);
}

#[test]
fn a_journal_from_the_future_is_refused_by_name_and_left_alone() {
    let place = Place::new();
    let dir = place.at("j");
    plain_journal_of(5, &dir);
    let marker = fs::read_to_string(dir.join("journal.json")).unwrap();
    fs::write(dir.join("journal.json"), marker.replace("\"format\":1", "\"format\":2")).unwrap();
    let error = refusal(&dir);
    assert!(matches!(error, Error::Format { found: 2, known: 1, .. }));
    assert!(error.to_string().contains(dir.to_str().unwrap()), "{error}");
    fs::write(dir.join("journal.json"), "{").unwrap();
    assert!(refusal(&dir).to_string().contains("journal.json"));
    fs::write(dir.join("journal.json"), marker).unwrap();
    assert_whole(&dir, 5);
}

#[test]
fn a_directory_that_is_no_journal_is_left_as_it_is() {
    let place = Place::new();
    let file = place.at("file");
    fs::write(&file, "mine").unwrap();
    assert!(matches!(refusal(&file), Error::NotADirectory { .. }));
    assert!(matches!(refusal(&file.join("below")), Error::NotADirectory { .. } | Error::Io { .. }));
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");

    let home = place.at("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("letter"), "dear").unwrap();
    assert!(matches!(refusal(&home), Error::NotAJournal { .. }));
    assert!(matches!(export(&home, &mut Vec::new()), Err(Error::NoJournal { .. })));
    assert_eq!(fs::read_dir(&home).unwrap().count(), 1, "nothing was put beside the letter");

    let unwritable = std::path::Path::new("/proc/tollgate");
    let said = refusal(unwritable).to_string();
    assert!(said.contains("cannot create the directory `/proc/tollgate`"), "{said}");

    // What a new file system brings, and what a start that was cut short leaves behind, is nothing to miss.
    let fresh = place.at("fresh");
    fs::create_dir_all(fresh.join("lost+found")).unwrap();
    fs::write(fresh.join("journal.json.new"), "{\"for").unwrap();
    plain_journal_of(3, &fresh);
    assert_whole(&fresh, 3);
}

#[test]
fn an_event_that_cannot_be_recorded_is_refused_and_the_journal_goes_on() {
    let place = Place::new();
    let dir = place.at("j");
    let (mut journal, _, _) = open(&dir);
    journal.append(&events(1..=2)).unwrap();
    let window = Window { after: Timestamp::EPOCH, through: Timestamp::from_millis(1) };
    let tally = Ok(Tally::Samples(vec![1.0, f64::INFINITY]));
    let infinite = Event::Measured {
        request: RequestId(1),
        rollout: RolloutId(1),
        through: window.through,
        measurements: vec![Measurement {
            check: CheckId(0),
            arm: Arm::Canary,
            window,
            tally,
            parts: Vec::new(),
            estimated: false,
        }],
    };
    let huge = Event::PullRequestMerged {
        delivery: tollgate::domain::Text::new("d"),
        repository: "acme/shop".parse().unwrap(),
        pull_request: 1,
        branch: "b".repeat(PAYLOAD_BYTES_MAX),
        into_default: true,
    };
    for bad in [infinite, huge] {
        let batch = [event(3), Stamped { at: event(4).at, event: bad }];
        assert!(recordable(&batch[0]).is_ok() && recordable(&batch[1]).is_err());
        assert!(matches!(journal.append(&batch), Err(Error::Unrecordable { .. })));
        assert_eq!(journal.last_seq(), 2, "all or none");
    }
    journal.append(&events(3..=5)).unwrap();
    drop(journal);
    assert_whole(&dir, 5);
}

#[test]
fn entries_of_megabytes_and_batches_of_thousands_come_back() {
    let place = Place::new();
    let dir = place.at("j");
    let (mut journal, _, _) = open(&dir);
    let mut batch = events(1..=3_000);
    if let Event::PullRequestMerged { branch, .. } = &mut batch[2].event {
        *branch = "b".repeat(3_000_000);
    }
    journal.append(&batch).unwrap();
    drop(journal);
    let (journal, _, recovery) = open(&dir);
    assert_eq!((recovery.folded, journal.last_seq()), (3_000, 3_000));
    let text = fs::read_to_string(dir.join("export.jsonl")).unwrap();
    assert!(text.lines().nth(3).unwrap().len() > 3_000_000);
}
