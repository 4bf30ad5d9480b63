//! Restore: a good export gives the same fleet, and a bad one gives nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tollgate::journal::{Error, Options, RestoreReport, export, restore};

use super::{Place, assert_whole, event, journal_of, open, options, plain_journal_of, refusal};

type Edit = fn(&mut Vec<String>);

fn lines_of(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn write_lines(path: &PathBuf, lines: &[String]) {
    fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

#[test]
fn a_good_export_gives_the_same_fleet() {
    let place = Place::new();
    let (dir, file) = (place.at("j"), place.at("whole.jsonl"));
    plain_journal_of(90, &dir);
    let mut lines = Vec::new();
    export(&dir, &mut lines).unwrap();
    fs::write(&file, lines).unwrap();
    let expected = RestoreReport {
        entries: 90,
        first_seq: 1,
        last_seq: 90,
        last_at: Some(event(90).at),
        snapshot: None,
        torn_bytes: 0,
    };
    for (from, into) in [(&file, place.at("from-file")), (&dir, place.at("from-dir"))] {
        assert_eq!(restore(from, &into).unwrap(), expected);
        assert_whole(&into, 90);
        journal_of(95, options(&into));
        assert_whole(&into, 95);
    }
}

#[test]
fn an_export_that_begins_with_a_snapshot_gives_the_same_fleet() {
    let place = Place::new();
    let dir = place.at("j");
    journal_of(400, Options { export_bytes_max: 30_000, ..options(&dir) });
    let length = fs::metadata(dir.join("export.jsonl")).unwrap().len();
    assert!(length < 60_000, "the export began anew, and has {length} bytes");
    let into = place.at("into");
    let report = restore(&dir, &into).unwrap();
    assert!(report.snapshot.is_some_and(|seq| seq == report.first_seq && seq > 100), "{report:?}");
    assert_eq!((report.last_seq, report.entries), (400, 401 - report.first_seq));
    assert_whole(&into, 400);
    journal_of(450, options(&into));
    assert_whole(&into, 450);
    // What was restored can be exported and restored in turn.
    let again = place.at("again");
    restore(&into, &again).unwrap();
    assert_whole(&again, 450);
}

#[test]
fn an_edited_export_is_refused_at_the_line_and_nothing_is_restored() {
    let place = Place::new();
    let (dir, file, into) = (place.at("j"), place.at("edited.jsonl"), place.at("into"));
    journal_of(300, Options { export_bytes_max: 20_000, ..options(&dir) });
    let good = lines_of(&dir.join("export.jsonl"));
    assert!(good.len() > 8 && good[1].starts_with("{\"snapshot\":"), "{}", good[1]);
    write_lines(&file, &good);
    restore(&file, &place.at("good")).unwrap();
    let edits: [(&str, Edit); 10] = [
        ("a name", |lines| lines[5] = lines[5].replace("\"at\":1700", "\"at\":1701")),
        ("a space", |lines| lines[5] = lines[5].replace("\"event\":", "\"event\": ")),
        ("a policy", |lines| lines[4] = lines[4].replace("\"policy\":\"policy", "\"policy\":\"police")),
        ("a format", |lines| lines[6] = lines[6].replace("\"format\":1", "\"format\":2")),
        ("a field more", |lines| lines[6] = lines[6].replacen('{', "{\"note\":1,", 1)),
        ("a line less", |lines| drop(lines.remove(4))),
        ("a line twice", |lines| lines.insert(4, lines[4].clone())),
        ("two lines swapped", |lines| lines.swap(4, 5)),
        ("a snapshot of another time", |lines| lines[1] = lines[1].replacen("746f6c6c", "746f6c6d", 1)),
        ("no snapshot", |lines| drop(lines.remove(1))),
    ];
    for (what, edit) in edits {
        let mut lines = good.clone();
        edit(&mut lines);
        assert_ne!(lines, good, "{what}");
        write_lines(&file, &lines);
        let error = restore(&file, &into).unwrap_err();
        assert!(matches!(&error, Error::BadLine { line, .. } if (2..=7).contains(line)), "{what}: {error}");
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
        assert!(!into.exists(), "{what}");
    }
}

#[test]
fn any_flipped_byte_in_an_export_is_refused_or_is_in_a_torn_last_line() {
    let place = Place::new();
    let (dir, file) = (place.at("j"), place.at("flipped.jsonl"));
    plain_journal_of(12, &dir);
    let good = fs::read(dir.join("export.jsonl")).unwrap();
    for at in (0..good.len()).step_by(23) {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&file, bytes).unwrap();
        assert!(restore(&file, &place.at("into")).is_err(), "byte {at}");
    }
}

#[test]
fn a_torn_last_line_is_left_out_and_told() {
    let place = Place::new();
    let (dir, file) = (place.at("j"), place.at("torn.jsonl"));
    plain_journal_of(20, &dir);
    let good = fs::read(dir.join("export.jsonl")).unwrap();
    let last = good.len() - 1 - good[..good.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    for (round, cut) in [2, last / 2, last - 1].into_iter().enumerate() {
        fs::write(&file, &good[..good.len() - cut]).unwrap();
        let into = place.at(&format!("into-{round}"));
        let report = restore(&file, &into).unwrap();
        assert_eq!((report.last_seq, report.torn_bytes), (19, (last - cut) as u64));
        assert_whole(&into, 19);
    }
    // An entry that lacks nothing but the end of its line is whole.
    fs::write(&file, &good[..good.len() - 1]).unwrap();
    let report = restore(&file, &place.at("into")).unwrap();
    assert_eq!((report.last_seq, report.torn_bytes), (20, 0));
}

#[test]
fn nothing_is_restored_over_something_else() {
    let place = Place::new();
    let (dir, other) = (place.at("j"), place.at("other"));
    plain_journal_of(5, &dir);
    plain_journal_of(3, &other);
    assert!(matches!(restore(&dir, &other), Err(Error::NotEmpty { .. })));
    assert_whole(&other, 3);
    let file = place.at("file");
    fs::write(&file, "mine").unwrap();
    assert!(matches!(restore(&dir, &file), Err(Error::NotADirectory { .. })));
    assert!(restore(&place.at("nowhere"), &place.at("into")).unwrap_err().to_string().contains("nowhere"));
    for bad in ["", "{\"tollgate_export\":1", "dear diary\n", "{\"tollgate_export\":9}\n"] {
        fs::write(&file, bad).unwrap();
        assert!(matches!(restore(&file, &place.at("into")), Err(Error::BadLine { .. })), "{bad}");
    }
    assert!(!place.at("into").exists());
    let empty = place.at("empty");
    fs::create_dir(&empty).unwrap();
    restore(&dir, &empty).unwrap();
    assert_whole(&empty, 5);
}

#[test]
fn a_restore_that_was_cut_short_is_no_journal() {
    let place = Place::new();
    let (dir, into) = (place.at("j"), place.at("into"));
    plain_journal_of(5, &dir);
    restore(&dir, &into).unwrap();
    fs::write(into.join("restoring"), "").unwrap();
    let error = refusal(&into);
    assert!(matches!(error, Error::RestoreCutShort { .. }));
    assert!(error.to_string().contains("empty the directory and restore again"), "{error}");
    assert!(export(&into, &mut Vec::new()).is_err());
}

#[test]
fn a_new_journal_can_be_exported_and_restored() {
    let place = Place::new();
    let (dir, into) = (place.at("j"), place.at("into"));
    drop(open(&dir));
    assert_eq!(restore(&dir, &into).unwrap().entries, 0);
    assert_eq!(open(&into).2.last_seq, 0);
}
