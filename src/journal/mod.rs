//! The append-only record; a fleet is its fold.
//!
//! An event is durable here before anything is done about it, against a killed process and against a power cut. What
//! that rests on, from the bottom up:
//! - one writer, which the directory's lock sees to, and whole batches: all of a batch or nothing of it;
//! - a store behind a small socket (`store`), today sled (`sled`), synced after every batch;
//! - a hash chain through the entries (`entry`), checked on every read;
//! - snapshots (`snapshot`), so that recovery folds thousands of entries and not all there ever were (`recover`);
//! - a second copy in plain lines (`export`), from which a journal is rebuilt (`restore`), and which tells when the store
//!   has lost its end.
//!
//! What cannot be trusted is refused, with words on what to do; nothing is emptied, skipped or used in part.

mod dir;
mod entry;
mod error;
mod export;
mod recover;
mod restore;
mod sled;
mod snapshot;
mod store;

pub use dir::DIRECTORY_FORMAT;
pub use entry::{ENTRY_BYTES_MAX, FORMAT, Flaw, PAYLOAD_BYTES_MAX};
pub use error::Error;
pub use export::EXPORT_FORMAT;
pub use recover::Recovery;
pub use restore::{RestoreReport, restore};
pub use snapshot::SNAPSHOT_FORMAT;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use crate::{
    domain::{PolicyVersion, Stamped},
    rollout::{Event, Fleet},
};
use dir::Entered;
use entry::Link;
use export::Export;
use recover::unreadable;
use store::{Numbered, Store, StoreError};

/// How many snapshots are kept: the newest, and one to fall back on.
const SNAPSHOTS_KEPT: usize = 2;

/// How a journal is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its directory. It is made where it is not there.
    pub dir: PathBuf,
    /// Entries between snapshots, at least 1. Recovery folds at most this many, and a batch.
    pub snapshot_every: u64,
    /// Entries kept before the older of the two snapshots.
    pub keep: u64,
    /// Entries written to the export between its syncs, at least 1.
    pub export_sync_every: u64,
    /// The export begins anew, at a snapshot, once it has more bytes than this. As long as it begins with the first
    /// entry, it can be restored by any version that reads the entries, whatever became of snapshots.
    pub export_bytes_max: u64,
}

impl Options {
    /// A journal in this directory: a snapshot every 10,000 entries, as many kept before the older one, the export
    /// synced every 256 entries and begun anew after 1 GiB.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            snapshot_every: 10_000,
            keep: 10_000,
            export_sync_every: 256,
            export_bytes_max: 1024 * 1024 * 1024,
        }
    }
}

/// An open journal. It is used by one thread, and blocks it while the disk writes.
pub struct Journal {
    options: Options,
    store: Box<dyn Store>,
    export: Export,
    last: Link,
    policy: Option<PolicyVersion>,
    /// After which entry the next snapshot is due.
    snapshot_due: u64,
    /// Why nothing more is taken.
    poison: Option<String>,
    // The last field: the store lets go of its file before the directory is free.
    _entered: Entered,
}

impl Journal {
    /// Opens the journal in a directory and recovers the fleet it is the record of, or begins one in an empty directory.
    ///
    /// Requests that were open are still open in the fleet; it is for the caller to have them performed again.
    ///
    /// Errors: a directory that cannot be used or is in use, and a journal that cannot be trusted from end to end.
    pub fn open(options: Options) -> Result<(Self, Fleet, Recovery), Error> {
        let entered = dir::enter(&options.dir)?;
        let dir = &options.dir;
        let store = sled::SledStore::open(dir).map_err(|error| unreadable(dir, "its store", error))?;
        let mut recovered = recover::recover(dir, &store)?;
        let (last, remarks) = (recovered.last, &mut recovered.recovery.remarks);
        let export = Export::open(dir, &store, last, options.export_sync_every.max(1), remarks)?;
        let from = recovered.recovery.snapshot.unwrap_or(0);
        let journal = Self {
            snapshot_due: from.saturating_add(options.snapshot_every.max(1)),
            store: Box::new(store),
            export,
            last,
            policy: recovered.policy,
            poison: None,
            _entered: entered,
            options,
        };
        Ok((journal, recovered.fleet, recovered.recovery))
    }

    /// Makes the entries durable, all or none, and in this order.
    ///
    /// Errors: [`Error::Unrecordable`] if one of them cannot be recorded; then nothing was written, and the journal goes
    /// on. After any other error it is not known what is on the disk, and the journal takes nothing more: what cannot be
    /// recorded is not done.
    pub fn append(&mut self, entries: &[Stamped<Event>]) -> Result<(), Error> {
        self.check_poison()?;
        let (mut last, mut policy) = (self.last, self.policy.clone());
        let mut batch: Vec<Numbered> = Vec::with_capacity(entries.len());
        for stamped in entries {
            if let Event::Started { policy: from_now_on } = &stamped.event {
                policy = Some(from_now_on.version.clone());
            }
            let encoded = entry::encode(last, policy.as_ref(), stamped);
            let (link, bytes) = encoded.map_err(|why| Error::Unrecordable { why })?;
            batch.push((link.seq, bytes));
            last = link;
        }
        if batch.is_empty() {
            return Ok(());
        }
        let stored = self.store.append(&batch).map_err(|error| self.unwritable(error));
        let written = stored.and_then(|()| self.export.append(&batch));
        self.or_poison(written)?;
        (self.last, self.policy) = (last, policy);
        Ok(())
    }

    /// Takes a snapshot if one is due; says whether one was taken. The fleet has handled every entry, and nothing else.
    ///
    /// Errors: as [`Journal::snapshot`]. It is tried again when the next one is due, not before.
    pub fn maybe_snapshot(&mut self, fleet: &Fleet) -> Result<bool, Error> {
        if self.last.seq < self.snapshot_due {
            return Ok(false);
        }
        self.snapshot(fleet).map(|()| true)
    }

    /// Takes a snapshot, lets go of old ones and of the entries before them, and syncs the export. The fleet has handled
    /// every entry, and nothing else.
    ///
    /// Errors: a snapshot that cannot be taken or written costs nothing but itself. If old entries cannot be let go of, or
    /// the export cannot be written, the journal takes nothing more.
    pub fn snapshot(&mut self, fleet: &Fleet) -> Result<(), Error> {
        self.check_poison()?;
        let seq = self.last.seq;
        self.snapshot_due = seq.saturating_add(self.options.snapshot_every.max(1));
        if seq == Link::START.seq {
            return Ok(());
        }
        let bytes = snapshot::encode(self.last, fleet).map_err(|why| Error::NoSnapshot { seq, why })?;
        self.store.put_snapshot(seq, &bytes).map_err(|error| self.unwritable(error))?;
        let written = self.keep_export(seq, bytes).and_then(|()| self.prune());
        self.or_poison(written)
    }

    /// The number of the last entry; 0 in a new journal.
    pub fn last_seq(&self) -> u64 {
        self.last.seq
    }

    /// Syncs the export, or begins it anew with this snapshot where it has grown too long.
    fn keep_export(&mut self, seq: u64, snapshot: Vec<u8>) -> Result<(), Error> {
        self.export.sync()?;
        if self.export.bytes > self.options.export_bytes_max {
            let every = self.options.export_sync_every.max(1);
            self.export = Export::rewrite(&self.options.dir, self.store.as_ref(), Some((seq, snapshot)), every)?;
        }
        Ok(())
    }

    fn prune(&mut self) -> Result<(), Error> {
        let pruned = prune(self.store.as_mut(), self.options.keep);
        pruned.map_err(|error| self.unwritable(error))
    }

    fn check_poison(&self) -> Result<(), Error> {
        match &self.poison {
            Some(why) => Err(Error::Poisoned { dir: self.options.dir.clone(), why: why.clone() }),
            None => Ok(()),
        }
    }

    fn or_poison(&mut self, written: Result<(), Error>) -> Result<(), Error> {
        if let Err(error) = &written {
            self.poison = Some(error.to_string());
        }
        written
    }

    fn unwritable(&self, error: StoreError) -> Error {
        Error::Unwritable { dir: self.options.dir.clone(), why: error.to_string() }
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("dir", &self.options.dir).field("last", &self.last.seq).finish_non_exhaustive()
    }
}

/// Whether an event can be recorded at all, so that one that cannot is turned away where it comes in and does not hold up
/// the batch it would be in.
///
/// Errors: [`Error::Unrecordable`] for an event larger than [`PAYLOAD_BYTES_MAX`] as JSON, and for one with a number that
/// JSON cannot carry (an infinity, or no number at all).
pub fn recordable(stamped: &Stamped<Event>) -> Result<(), Error> {
    entry::encode(Link::START, None, stamped).map(|_| ()).map_err(|why| Error::Unrecordable { why })
}

/// Writes the whole journal of a directory that no tollgate is using, in a form that [`restore`] reads, and says how many
/// entries there were. While one is using it, `export.jsonl` in the directory may be copied instead.
///
/// Errors: as [`Journal::open`], and those of `out`.
pub fn export(dir: &Path, out: &mut impl Write) -> Result<u64, Error> {
    let _entered = dir::enter_existing(dir)?;
    let store = sled::SledStore::open(dir).map_err(|error| unreadable(dir, "its store", error))?;
    recover::recover(dir, &store)?;
    let base = export::base(dir, &store)?;
    let there = Path::new("the export");
    let count =
        export::write_whole(dir, &store, base, |bytes| out.write_all(bytes).map_err(Error::io("write", there)))?;
    out.flush().map_err(Error::io("write", there))?;
    Ok(count)
}

/// Keeps the newest snapshots, and the entries from a little before the older one.
fn prune(store: &mut dyn Store, keep: u64) -> Result<(), StoreError> {
    let snapshots = store.snapshots()?;
    let (old, kept) = snapshots.split_at(snapshots.len().saturating_sub(SNAPSHOTS_KEPT));
    for seq in old {
        store.delete_snapshot(*seq)?;
    }
    // With one snapshot alone there is nothing to fall back on but the entries from the first.
    match kept {
        [older, _newest] => store.delete_before(older.saturating_sub(keep)),
        _ => Ok(()),
    }
}
