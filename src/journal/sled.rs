//! The store on sled 0.34: the only file that names it.
//!
//! What sled lacks, and what is done about it here and beside it:
//! - On Linux its `flush()` ends in `sync_file_range`, which survives a killed process and not a power cut: it waits for
//!   neither the file's metadata nor the disk's cache. So a second handle on its file is synced after each flush.
//! - A value near 128 KiB goes to a file of its own, which it never syncs. So entries are cut into parts small enough that
//!   no node of its tree comes near that, and snapshots, which may be large, are files of ours and not values.
//! - It cuts off the damaged end of its log without a word, and takes a lost file for a new one. So the journal
//!   compares its last entry with the last line of the export.
//! - When it meets damage it may panic. Here that is an error like any other.
//! - It lets go of its file's lock a moment after it was dropped. So opening waits for that, a while.

use std::{
    fs::{self, File},
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use ::sled::{Batch, Db, Tree};

use super::{
    dir,
    entry::ENTRY_BYTES_MAX,
    snapshot::SNAPSHOT_BYTES_MAX,
    store::{Numbered, Store, StoreError},
};

/// Most bytes of one value. sled's leaves hold up to some twenty values and must stay far below its 128 KiB.
const PART_BYTES_MAX: usize = 4 * 1024;
/// How often sled syncs and tidies on its own, in milliseconds. Durability does not rest on it.
const FLUSH_EVERY_MS: u64 = 500;
/// Most memory for sled's own cache. The journal writes, and reads once.
const CACHE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most keys let go of in one batch.
const DELETE_KEYS_MAX: usize = 4_096;
/// How often, and how long each time, to wait for sled to let go of its lock.
const LOCK_WAITS_MAX: u32 = 200;
const LOCK_WAIT: Duration = Duration::from_millis(10);

/// Marks of a part: whether it is the last one of its entry.
const LAST: u8 = 0;
const MORE: u8 = 1;

/// Entries in a sled tree, cut into parts under the key `number ‖ part`, both big-endian; snapshots in files beside it.
pub(super) struct SledStore {
    db: Db,
    entries: Tree,
    /// A second handle on sled's file, for the sync that sled leaves out.
    file: File,
    snapshots: PathBuf,
}

impl SledStore {
    /// Opens the store in a directory, or makes it.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let (home, snapshots) = (dir.join("sled"), dir.join("snapshots"));
        dir::make(&snapshots).map_err(in_words)?;
        dir::sweep(&snapshots).map_err(in_words)?;
        let db = caught(|| wait_for_lock(&home))?;
        let entries = caught(|| db.open_tree("entries"))?;
        caught(|| db.flush())?;
        let path = home.join("db");
        let file = File::open(&path).and_then(|file| file.sync_all().map(|()| file));
        let file = file.map_err(|error| StoreError(format!("cannot sync {}: {error}", path.display())))?;
        for made in [home.join("blobs"), home, dir.to_owned()] {
            dir::sync_dir(&made).map_err(in_words)?;
        }
        Ok(Self { db, entries, file, snapshots })
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        caught(|| self.entries.apply_batch(batch))?;
        caught(|| self.db.flush())?;
        self.file.sync_data().map_err(|error| StoreError(format!("cannot sync sled's file: {error}")))
    }

    fn path(&self, seq: u64) -> PathBuf {
        self.snapshots.join(format!("{seq:020}"))
    }
}

impl Store for SledStore {
    fn append(&mut self, entries: &[Numbered]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for (seq, bytes) in entries {
            let mut parts = bytes.chunks(PART_BYTES_MAX).peekable();
            let mut number = 0_u32;
            while let Some(part) = parts.next() {
                let mark = if parts.peek().is_some() { MORE } else { LAST };
                let mut value = Vec::with_capacity(1 + part.len());
                value.push(mark);
                value.extend_from_slice(part);
                batch.insert(&key(*seq, number), value);
                number = number.saturating_add(1);
            }
        }
        self.apply(batch)
    }

    fn scan(&self, from: u64) -> Box<dyn Iterator<Item = Result<Numbered, StoreError>> + '_> {
        Box::new(Scan { parts: self.entries.range(key(from, 0)..), over: false })
    }

    fn delete_before(&mut self, seq: u64) -> Result<(), StoreError> {
        loop {
            let mut batch = Batch::default();
            let mut count = 0;
            for found in self.entries.range(..key(seq, 0)).keys().take(DELETE_KEYS_MAX) {
                batch.remove(found.map_err(in_words)?);
                count += 1;
            }
            if count == 0 {
                return Ok(());
            }
            self.apply(batch)?;
        }
    }

    fn put_snapshot(&mut self, seq: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(seq);
        let written =
            dir::replace(&path, |out| std::io::Write::write_all(out, bytes).map_err(super::Error::io("write", &path)));
        written.map(|_| ()).map_err(in_words)
    }

    fn snapshots(&self) -> Result<Vec<u64>, StoreError> {
        let listing = fs::read_dir(&self.snapshots).map_err(in_words)?;
        let mut numbers = Vec::new();
        for found in listing {
            // Anything that is no number is the rest of a write that was cut short.
            let name = found.map_err(in_words)?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn snapshot(&self, seq: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(seq);
        let length = fs::metadata(&path).map_err(in_words)?.len();
        if length > SNAPSHOT_BYTES_MAX as u64 {
            return Err(StoreError(format!("{} has {length} bytes, too many for a snapshot", path.display())));
        }
        fs::read(&path).map_err(|error| StoreError(format!("cannot read {}: {error}", path.display())))
    }

    fn delete_snapshot(&mut self, seq: u64) -> Result<(), StoreError> {
        let path = self.path(seq);
        fs::remove_file(&path).map_err(|error| StoreError(format!("cannot remove {}: {error}", path.display())))
    }
}

/// Puts the parts of entries together again.
struct Scan {
    parts: ::sled::Iter,
    over: bool,
}

impl Scan {
    fn entry(&mut self) -> Result<Option<Numbered>, StoreError> {
        let mut whole: Option<Numbered> = None;
        for expected in 0_u32.. {
            let part = caught(|| self.parts.next().transpose())?;
            let Some((key, value)) = part else {
                return match whole {
                    None => Ok(None),
                    Some((seq, _)) => Err(lost(seq, expected)),
                };
            };
            let (seq, number) = split(&key)?;
            let (_, bytes) = whole.get_or_insert_with(|| (seq, Vec::new()));
            let Some((mark, part)) = value.split_first() else { return Err(lost(seq, number)) };
            bytes.extend_from_slice(part);
            let whole_seq = whole.as_ref().map_or(seq, |(seq, _)| *seq);
            if number != expected || seq != whole_seq {
                return Err(lost(whole_seq, expected));
            }
            if whole.as_ref().is_some_and(|(_, bytes)| bytes.len() > ENTRY_BYTES_MAX) {
                return Err(StoreError(format!("entry {seq} is larger than any entry may be")));
            }
            if *mark == LAST {
                return Ok(whole);
            }
        }
        Ok(None)
    }
}

impl Iterator for Scan {
    type Item = Result<Numbered, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let entry = self.entry().transpose();
        self.over = !matches!(entry, Some(Ok(_)));
        entry
    }
}

fn lost(seq: u64, part: u32) -> StoreError {
    StoreError(format!("part {part} of entry {seq} is lost"))
}

fn key(seq: u64, part: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&seq.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

fn split(key: &[u8]) -> Result<(u64, u32), StoreError> {
    let parts = key.split_first_chunk::<8>().and_then(|(seq, part)| Some((*seq, <[u8; 4]>::try_from(part).ok()?)));
    let (seq, part) = parts.ok_or_else(|| StoreError("a key is not a number and a part".to_owned()))?;
    Ok((u64::from_be_bytes(seq), u32::from_be_bytes(part)))
}

/// Opens sled once its lock is free. The journal's own lock is held by now, so whoever has sled's is about to let go.
fn wait_for_lock(home: &Path) -> ::sled::Result<Db> {
    let config =
        ::sled::Config::default().path(home).flush_every_ms(Some(FLUSH_EVERY_MS)).cache_capacity(CACHE_BYTES_MAX);
    let mut waits = 0;
    loop {
        match config.open() {
            Err(::sled::Error::Io(error))
                if waits < LOCK_WAITS_MAX && error.to_string().contains("could not acquire lock") =>
            {
                waits += 1;
                thread::sleep(LOCK_WAIT);
            }
            opened => return opened,
        }
    }
}

/// Calls sled, and makes an error of a panic.
fn caught<T>(call: impl FnOnce() -> ::sled::Result<T>) -> Result<T, StoreError> {
    match panic::catch_unwind(AssertUnwindSafe(call)) {
        Ok(Err(::sled::Error::Corruption { .. })) => Err(StoreError("sled finds its data damaged".to_owned())),
        Ok(result) => result.map_err(in_words),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
            Err(StoreError(format!("sled panicked: {}", words.unwrap_or_default())))
        }
    }
}

fn in_words(error: impl std::fmt::Display) -> StoreError {
    StoreError(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(store: &SledStore, from: u64) -> Vec<Numbered> {
        store.scan(from).collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn entries_of_every_size_come_back_whole_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let sizes = [1, PART_BYTES_MAX - 1, PART_BYTES_MAX, PART_BYTES_MAX + 1, 3 * PART_BYTES_MAX, 2_000_000];
        let entries: Vec<Numbered> = (1..).zip(sizes.map(|size| vec![b'x'; size])).collect();
        let mut store = SledStore::open(dir.path()).unwrap();
        store.append(&entries[..2]).unwrap();
        store.append(&entries[2..]).unwrap();
        drop(store);
        let store = SledStore::open(dir.path()).unwrap();
        assert_eq!(scanned(&store, 0), entries);
        assert_eq!(scanned(&store, 4), entries[3..]);
        assert_eq!(scanned(&store, 7), []);
    }

    #[test]
    fn nothing_goes_to_the_files_that_sled_never_syncs() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SledStore::open(dir.path()).unwrap();
        for round in 0..40_u64 {
            let batch: Vec<Numbered> = (1..=8).map(|n| (round * 8 + n, vec![b'y'; 60_000])).collect();
            store.append(&batch).unwrap();
            store.delete_before((round * 8).saturating_sub(40)).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path().join("sled/blobs")).unwrap().count(), 0);
        assert_eq!(scanned(&store, 0).first().map(|(seq, _)| *seq), Some(39 * 8 - 40));
    }

    #[test]
    fn what_is_deleted_is_gone_and_the_rest_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SledStore::open(dir.path()).unwrap();
        let entries: Vec<Numbered> = (1_u64..=10_000).map(|seq| (seq, seq.to_be_bytes().to_vec())).collect();
        store.append(&entries).unwrap();
        store.delete_before(9_990).unwrap();
        drop(store);
        assert_eq!(scanned(&SledStore::open(dir.path()).unwrap(), 0), entries[9_989..]);
    }

    #[test]
    fn snapshots_are_listed_read_and_let_go_of() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SledStore::open(dir.path()).unwrap();
        for seq in [9, 100, 20] {
            store.put_snapshot(seq, &seq.to_be_bytes()).unwrap();
        }
        fs::write(dir.path().join("snapshots/00000000000000000200.new"), "cut sho").unwrap();
        store.delete_snapshot(20).unwrap();
        assert_eq!(store.snapshots(), Ok(vec![9, 100]));
        assert_eq!(store.snapshot(100), Ok(100_u64.to_be_bytes().to_vec()));
        assert!(store.snapshot(20).is_err());
    }

    #[test]
    fn a_lost_part_is_an_error_and_not_a_shorter_entry() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SledStore::open(dir.path()).unwrap();
        store.append(&[(1, vec![b'a'; 3 * PART_BYTES_MAX]), (2, vec![b'b'; 10])]).unwrap();
        for part in [2, 1, 0] {
            store.entries.remove(key(1, part)).unwrap();
            let first = store.scan(0).next().unwrap();
            match part {
                0 => assert_eq!(first, Ok((2, vec![b'b'; 10]))),
                _ => assert_eq!(first, Err(lost(1, part))),
            }
        }
    }
}
