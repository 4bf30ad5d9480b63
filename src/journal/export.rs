//! The export: the entries once more, in a file that outlives the store.
//!
//! sled detects damage and then opens nothing, and its format belongs to one version of it. So every entry is also a
//! line of `export.jsonl`, in the bytes the store has, written right after the store has it and synced now and then. From
//! this file alone a journal can be built again. It is also the witness against the store: sled takes the damaged end
//! of its log for a write that was cut short, and only another record can tell the two apart.
//!
//! A file is a header line, then either the entries from the first, or a snapshot in lines of hexadecimal, the entry it
//! stands after, and the entries that follow. It grows until it passes its limit; then it begins anew with the newest
//! snapshot.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Error, dir,
    entry::{self, ENTRY_BYTES_MAX, Link, to_hex},
    recover::{checked, link_at, unreadable},
    snapshot,
    store::{Numbered, Store},
};

/// The export's name in the journal's directory.
pub(super) const NAME: &str = "export.jsonl";
/// What an export that cannot be read is called from then on.
const DAMAGED: &str = "export.jsonl.damaged";

/// The format of exports written by this version.
pub const EXPORT_FORMAT: u32 = 1;

/// Most bytes of a snapshot in one line.
pub(super) const PART_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of a line without its end: an entry, or a part of a snapshot in hexadecimal and the words around it.
pub(super) const LINE_BYTES_MAX: usize = ENTRY_BYTES_MAX;

/// What a header begins with.
pub(super) const HEADER_START: &[u8] = b"{\"tollgate_export\":";
/// What a line of a snapshot begins with.
pub(super) const PART_START: &[u8] = b"{\"snapshot\":";

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) tollgate_export: u32,
}

/// A line of a snapshot.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// The entry that the snapshot stands after.
    pub(super) snapshot: u64,
    /// Which part, from 0.
    pub(super) part: usize,
    /// How many parts.
    pub(super) parts: usize,
    /// Its bytes in hexadecimal.
    pub(super) bytes: String,
}

/// Writes a whole export of what the store holds, and says how many entries there were.
pub(super) fn write_whole(
    dir: &Path,
    store: &dyn Store,
    base: Option<(u64, Vec<u8>)>,
    mut out: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<u64, Error> {
    let json = |error: serde_json::Error| unreadable(dir, "its export", error);
    let mut line = |bytes: &[u8]| out(bytes).and_then(|()| out(b"\n"));
    line(&serde_json::to_vec(&Header { tollgate_export: EXPORT_FORMAT }).map_err(json)?)?;
    let mut from = 0;
    if let Some((seq, snapshot)) = base {
        from = seq;
        let parts = snapshot.len().div_ceil(PART_BYTES_MAX);
        for (part, bytes) in snapshot.chunks(PART_BYTES_MAX).enumerate() {
            let part = Part { snapshot: seq, part, parts, bytes: to_hex(bytes) };
            line(&serde_json::to_vec(&part).map_err(json)?)?;
        }
    }
    let mut count = 0;
    for entry in checked(dir, store, from) {
        line(&entry?.1)?;
        count += 1;
    }
    Ok(count)
}

/// The snapshot that a whole export must begin with; `None` where the store has every entry from the first.
pub(super) fn base(dir: &Path, store: &dyn Store) -> Result<Option<(u64, Vec<u8>)>, Error> {
    let broken = |error| unreadable(dir, "its store", error);
    let first = store.scan(0).next().transpose().map_err(broken)?.map(|(seq, _)| seq);
    if first.is_none_or(|first| first == Link::START.next_seq()) {
        return Ok(None);
    }
    for seq in store.snapshots().map_err(broken)?.into_iter().rev() {
        let bytes = store.snapshot(seq).map_err(broken)?;
        if snapshot::check(&bytes).is_ok_and(|(at, _)| link_at(store, seq) == Some(at)) {
            return Ok(Some((seq, bytes)));
        }
    }
    Err(unreadable(dir, "its beginning", "there is neither the first entry nor a snapshot"))
}

/// The export of a journal in use.
pub(super) struct Export {
    path: PathBuf,
    file: File,
    /// Its length.
    pub(super) bytes: u64,
    /// Entries written since it was last synced.
    unsynced: u64,
    sync_every: u64,
}

impl Export {
    /// Opens the export beside a store that ends with `last`, and makes it say what the store says. Where the export
    /// knows more than the store, the store has lost something, and nothing is opened.
    pub(super) fn open(
        dir: &Path,
        store: &dyn Store,
        last: Link,
        sync_every: u64,
        remarks: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let path = dir.join(NAME);
        let tail = read_tail(&path)?;
        let (end, length, torn) = match tail {
            Tail::Missing => {
                if last != Link::START {
                    remarks.push(format!("{NAME} was missing: written anew"));
                }
                return Self::rewrite(dir, store, base(dir, store)?, sync_every);
            }
            Tail::Unreadable(why) => {
                remarks.push(format!("{NAME} could not be read ({why}): moved to {DAMAGED} and written anew"));
                return Self::replace(dir, store, sync_every);
            }
            Tail::Readable { end, length, torn } => (end, length, torn),
        };
        if end.seq > last.seq {
            return Err(Error::Lost { dir: dir.to_owned(), store: last.seq, export: end.seq });
        }
        let same_place = if end.seq == last.seq { Some(last) } else { link_at(store, end.seq) };
        match same_place {
            Some(link) if link != end => return Err(Error::Diverged { dir: dir.to_owned(), seq: end.seq }),
            Some(_) => {}
            // Before the first entry there is no place in the store to compare with.
            None if end == Link::START && link_at(store, end.next_seq()).is_some() => {}
            None => {
                let at = end.seq;
                remarks.push(format!(
                    "{NAME} ends at entry {at}, which the store lacks: moved to {DAMAGED}, written anew"
                ));
                return Self::replace(dir, store, sync_every);
            }
        }
        if torn > 0 {
            remarks.push(format!("the last line of {NAME} was torn ({torn} bytes): cut off and written again"));
        }
        let file = File::options().append(true).open(&path).map_err(Error::io("open", &path))?;
        file.set_len(length).map_err(Error::io("cut", &path))?;
        let mut export = Self { path, file, bytes: length, unsynced: 0, sync_every };
        for entry in checked(dir, store, end.next_seq()) {
            let (link, bytes) = entry?;
            export.append(&[(link.seq, bytes)])?;
        }
        export.sync()?;
        Ok(export)
    }

    /// Moves an export aside that does not go with the store, for somebody to look at, and writes another.
    fn replace(dir: &Path, store: &dyn Store, sync_every: u64) -> Result<Self, Error> {
        let path = dir.join(NAME);
        fs::rename(&path, dir.join(DAMAGED)).map_err(Error::io("move aside", &path))?;
        Self::rewrite(dir, store, base(dir, store)?, sync_every)
    }

    /// Writes the export anew, and puts it in place of the one before.
    pub(super) fn rewrite(
        dir: &Path,
        store: &dyn Store,
        base: Option<(u64, Vec<u8>)>,
        sync_every: u64,
    ) -> Result<Self, Error> {
        let path = dir.join(NAME);
        dir::replace(&path, |out| {
            write_whole(dir, store, base, |bytes| out.write_all(bytes).map_err(Error::io("write", &path))).map(|_| ())
        })?;
        let file = File::options().append(true).open(&path).map_err(Error::io("open", &path))?;
        let bytes = file.metadata().map_err(Error::io("measure", &path))?.len();
        Ok(Self { path, file, bytes, unsynced: 0, sync_every })
    }

    /// Adds the entries, which the store has by now.
    pub(super) fn append(&mut self, entries: &[Numbered]) -> Result<(), Error> {
        let mut lines = Vec::with_capacity(entries.iter().map(|(_, bytes)| bytes.len() + 1).sum());
        for (_, bytes) in entries {
            lines.extend_from_slice(bytes);
            lines.push(b'\n');
        }
        self.file.write_all(&lines).map_err(Error::io("write", &self.path))?;
        self.bytes = self.bytes.saturating_add(lines.len() as u64);
        self.unsynced = self.unsynced.saturating_add(entries.len() as u64);
        if self.unsynced >= self.sync_every { self.sync() } else { Ok(()) }
    }

    /// Returns once all of it would survive a power cut.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::io("sync", &self.path))?;
        self.unsynced = 0;
        Ok(())
    }
}

/// How an export ends.
enum Tail {
    /// There is none.
    Missing,
    /// It is none, or its last whole line is no sound entry.
    Unreadable(String),
    /// It ends with this entry.
    Readable {
        /// The entry; [`Link::START`] where there is only a header.
        end: Link,
        /// Its length up to the end of that line.
        length: u64,
        /// Bytes after that.
        torn: u64,
    },
}

fn read_tail(path: &Path) -> Result<Tail, Error> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tail::Missing),
        Err(error) => return Err(Error::io("open", path)(error)),
    };
    let total = file.seek(SeekFrom::End(0)).map_err(Error::io("read", path))?;
    let mut head = vec![0; HEADER_START.len()];
    file.rewind().map_err(Error::io("read", path))?;
    if file.read_exact(&mut head).is_err() || head != HEADER_START {
        return Ok(Tail::Unreadable("it does not begin as an export does".to_owned()));
    }
    // Back from the end, further each time, until a whole line and the end of the one before it are in sight.
    let mut reach = 64 * 1024;
    loop {
        let from = total.saturating_sub(reach);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from)).map_err(Error::io("read", path))?;
        (&file).take(reach).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
            if from == 0 || reach > LINE_BYTES_MAX as u64 {
                return Ok(Tail::Unreadable("it has no whole line".to_owned()));
            }
            reach *= 2;
            continue;
        };
        let whole = bytes.get(..end).unwrap_or_default();
        let start = whole.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
        let start = match start {
            Some(start) => start,
            None if from == 0 => 0,
            None if reach > 2 * LINE_BYTES_MAX as u64 => {
                return Ok(Tail::Unreadable("its last line is too long".to_owned()));
            }
            None => {
                reach *= 2;
                continue;
            }
        };
        let line = whole.get(start..).unwrap_or_default();
        let length = from + end as u64 + 1;
        return Ok(if line.starts_with(HEADER_START) {
            Tail::Readable { end: Link::START, length, torn: total - length }
        } else {
            match entry::decode(line) {
                Ok(entry) => Tail::Readable { end: entry.link, length, torn: total - length },
                Err(flaw) => Tail::Unreadable(format!("in its last line, {flaw}")),
            }
        });
    }
}
