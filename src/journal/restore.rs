//! Restore: a journal built again from an export.
//!
//! The export is read twice. The first time every line is checked and nothing is written; the second time, checked
//! again, it goes into a directory that is no journal before all of it is there. So one bad line restores nothing, and a
//! restore that is cut short leaves nothing that could be taken for a journal.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use super::{
    Error, dir,
    entry::{self, Entry, Flaw, Link, from_hex},
    export::{EXPORT_FORMAT, HEADER_START, Header, LINE_BYTES_MAX, NAME, PART_BYTES_MAX, PART_START, Part},
    recover::{recover, unreadable},
    sled::SledStore,
    snapshot::{self, SNAPSHOT_BYTES_MAX},
    store::{Numbered, Store},
};
use crate::domain::Timestamp;

/// Entries, and bytes of entries, that are written at once.
const BATCH_ENTRIES_MAX: usize = 1_024;
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// How many entries.
    pub entries: u64,
    /// The number of the first; 0 if there was none.
    pub first_seq: u64,
    /// The number of the last; 0 if there was none.
    pub last_seq: u64,
    /// When the last entry happened.
    pub last_at: Option<Timestamp>,
    /// The entry after which the snapshot stands that the export began with.
    pub snapshot: Option<u64>,
    /// Bytes of a torn last line that were left out; 0 if the export ended with a whole one.
    pub torn_bytes: u64,
}

/// Builds a journal in an empty directory from an export, or from the export in a journal's directory.
///
/// Errors: whatever is wrong with a line other than a torn last one, and a directory that is not empty.
pub fn restore(from: &Path, into: &Path) -> Result<RestoreReport, Error> {
    let from = if from.is_dir() { from.join(NAME) } else { from.to_owned() };
    let report = walk(&from, &mut |_| Ok(()))?;
    let entered = dir::enter_for_restore(into)?;
    let broken = |error| unreadable(into, "its new store", error);
    let mut store = SledStore::open(into).map_err(broken)?;
    let (mut batch, mut size): (Vec<Numbered>, usize) = (Vec::new(), 0);
    let again = walk(&from, &mut |item| match item {
        Item::Snapshot { seq, bytes } => store.put_snapshot(seq, bytes).map_err(broken),
        Item::Entry { seq, bytes } => {
            size += bytes.len();
            batch.push((seq, bytes.to_owned()));
            if batch.len() < BATCH_ENTRIES_MAX && size < BATCH_BYTES_MAX {
                return Ok(());
            }
            size = 0;
            store.append(&std::mem::take(&mut batch)).map_err(broken)
        }
    })?;
    store.append(&batch).map_err(broken)?;
    let recovered = recover(into, &store)?;
    if again != report || recovered.last.seq != report.last_seq {
        return Err(Error::BadLine { path: from, line: 0, why: "the export changed while it was read".to_owned() });
    }
    drop(store);
    dir::finish_restore(into)?;
    drop(entered);
    Ok(report)
}

/// What an export holds.
enum Item<'a> {
    Snapshot { seq: u64, bytes: &'a [u8] },
    Entry { seq: u64, bytes: &'a [u8] },
}

/// Where the reading of an export stands.
struct Walk {
    path: PathBuf,
    line: u64,
    begun: bool,
    /// The snapshot that is being put together: the entry it stands after, its parts so far, and how many there are.
    parts: Option<(u64, usize, usize, Vec<u8>)>,
    /// Where the snapshot stands.
    base: Option<Link>,
    last: Link,
    report: RestoreReport,
}

/// Reads an export from its first line to its last, checks each, and hands on what is in it.
fn walk(path: &Path, sink: &mut dyn FnMut(Item<'_>) -> Result<(), Error>) -> Result<RestoreReport, Error> {
    let report = RestoreReport { entries: 0, first_seq: 0, last_seq: 0, last_at: None, snapshot: None, torn_bytes: 0 };
    let mut walk =
        Walk { path: path.to_owned(), line: 0, begun: false, parts: None, base: None, last: Link::START, report };
    let mut lines = BufReader::with_capacity(1 << 16, File::open(path).map_err(Error::io("open", path))?);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let mut line = (&mut lines).take(LINE_BYTES_MAX as u64 + 1);
        let length = line.read_until(b'\n', &mut bytes).map_err(Error::io("read", path))?;
        if length == 0 {
            break;
        }
        walk.line += 1;
        let whole = bytes.pop_if(|last| *last == b'\n').is_some();
        if !whole && bytes.len() > LINE_BYTES_MAX {
            return Err(walk.bad(format!("it has more than {LINE_BYTES_MAX} bytes")));
        }
        // A last line without its end is kept if all of it is there: an editor may have taken the end away.
        if !whole && walk.begun && entry::decode(&bytes).is_err() {
            walk.report.torn_bytes = bytes.len() as u64;
            break;
        }
        walk.take(&bytes, sink)?;
    }
    walk.finish()
}

impl Walk {
    fn bad(&self, why: impl ToString) -> Error {
        Error::BadLine { path: self.path.clone(), line: self.line, why: why.to_string() }
    }

    fn take(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Item<'_>) -> Result<(), Error>) -> Result<(), Error> {
        if !self.begun {
            self.begun = true;
            if !bytes.starts_with(HEADER_START) {
                return Err(self.bad("it does not begin as an export of a tollgate journal does"));
            }
            let header: Header = serde_json::from_slice(bytes).map_err(|error| self.bad(error))?;
            if header.tollgate_export != EXPORT_FORMAT {
                return Err(self.bad(Flaw::Format { found: header.tollgate_export, known: EXPORT_FORMAT }));
            }
            return Ok(());
        }
        if bytes.starts_with(PART_START) {
            return self.take_part(bytes, sink);
        }
        let entry = entry::decode(bytes).map_err(|flaw| self.bad(flaw))?;
        self.take_entry(&entry)?;
        sink(Item::Entry { seq: entry.link.seq, bytes })
    }

    fn take_part(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Item<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let part: Part = serde_json::from_slice(bytes).map_err(|error| self.bad(error))?;
        let (seq, due, parts, mut so_far) = self.parts.take().unwrap_or((part.snapshot, 0, part.parts, Vec::new()));
        if self.base.is_some() || self.report.entries > 0 {
            return Err(self.bad("a snapshot does not belong here"));
        }
        if (part.snapshot, part.part, part.parts) != (seq, due, parts) || due >= parts {
            return Err(self.bad("it is not the part of the snapshot that comes next"));
        }
        let more = from_hex(part.bytes.as_bytes()).filter(|more| more.len() <= PART_BYTES_MAX);
        so_far.extend(more.ok_or_else(|| self.bad("it is no hexadecimal, or too long"))?);
        if so_far.len() > SNAPSHOT_BYTES_MAX {
            return Err(self.bad(Flaw::TooLarge { bytes: so_far.len(), max: SNAPSHOT_BYTES_MAX }));
        }
        if due + 1 < parts {
            self.parts = Some((seq, due + 1, parts, so_far));
            return Ok(());
        }
        let snapshot = snapshot::decode(&so_far).map_err(|flaw| self.bad(format!("of its snapshot: {flaw}")))?;
        if snapshot.at.seq != seq {
            return Err(self.bad("its snapshot stands after another entry"));
        }
        self.base = Some(snapshot.at);
        self.report.snapshot = Some(seq);
        sink(Item::Snapshot { seq, bytes: &so_far })
    }

    fn take_entry(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        if self.parts.is_some() {
            return Err(self.bad("the snapshot before it is not whole"));
        }
        match self.base {
            // The first entry is the one that the snapshot stands after.
            Some(base) if self.report.entries == 0 => {
                if entry.link != base {
                    return Err(self.bad("it is not the entry that the snapshot stands after"));
                }
                self.report.first_seq = base.seq;
            }
            Some(_) | None => entry.follows(self.last).map_err(|flaw| self.bad(flaw))?,
        }
        let stamped = entry.read().map_err(|flaw| self.bad(flaw))?;
        if self.report.entries == 0 {
            self.report.first_seq = entry.link.seq;
        }
        self.last = entry.link;
        self.report.entries += 1;
        self.report.last_seq = entry.link.seq;
        self.report.last_at = Some(stamped.at);
        Ok(())
    }

    fn finish(self) -> Result<RestoreReport, Error> {
        if !self.begun {
            return Err(self.bad("it is empty"));
        }
        if self.parts.is_some() || (self.base.is_some() && self.report.entries == 0) {
            return Err(self.bad("it ends before the entry that its snapshot stands after"));
        }
        Ok(self.report)
    }
}
