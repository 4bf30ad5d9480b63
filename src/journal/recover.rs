//! Recovery: from what a store holds to the fleet it is the record of.
//!
//! The newest snapshot is taken and the entries after it are folded; where it cannot be read, the one before it, and
//! last of all the entries from the first. A damaged entry is never passed over: then there is no fleet.

use std::path::Path;

use super::{
    Error,
    entry::{self, Flaw, Link},
    snapshot,
    store::{Numbered, Store, StoreError},
};
use crate::{
    domain::{PolicyVersion, Timestamp},
    rollout::Fleet,
};

/// What was done to recover a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The entry after which the snapshot stood that the fold began with; `None` if it began with the first entry.
    pub snapshot: Option<u64>,
    /// How many entries were folded.
    pub folded: u64,
    /// The number of the last entry; 0 in a new journal.
    pub last_seq: u64,
    /// When the last entry happened.
    pub last_at: Option<Timestamp>,
    /// What an operator should know of how it went: a snapshot that was passed over, an export that was mended.
    pub remarks: Vec<String>,
}

/// A fleet, and where the journal stands.
pub(super) struct Recovered {
    pub(super) fleet: Fleet,
    pub(super) recovery: Recovery,
    pub(super) last: Link,
    pub(super) policy: Option<PolicyVersion>,
}

/// Recovers the fleet that a store in this directory is the record of. Effects are dropped: what is still open is asked
/// for again by whoever runs the fleet.
pub(super) fn recover(dir: &Path, store: &dyn Store) -> Result<Recovered, Error> {
    let broken = |error: StoreError| unreadable(dir, "its store", error);
    let first = store.scan(0).next().transpose().map_err(broken)?.map(|(seq, _)| seq);
    let mut remarks = Vec::new();
    for seq in store.snapshots().map_err(broken)?.into_iter().rev() {
        let read = store.snapshot(seq).map_err(|error| error.to_string());
        let read = read.and_then(|bytes| snapshot::decode(&bytes).map_err(|flaw| flaw.to_string()));
        match read {
            Ok(snapshot) if snapshot.at.seq == seq => {
                let start = Recovered {
                    fleet: snapshot.fleet,
                    recovery: Recovery { snapshot: Some(seq), last_seq: seq, remarks, ..Recovery::default() },
                    last: snapshot.at,
                    policy: None,
                };
                return fold(dir, store, start);
            }
            Ok(_) => remarks.push(format!("the snapshot after entry {seq} is not the one its name says: passed over")),
            Err(why) => remarks.push(format!("the snapshot after entry {seq} cannot be read ({why}): passed over")),
        }
    }
    match first {
        None if remarks.is_empty() => {}
        Some(1) => {}
        None | Some(_) => {
            let start = first.map_or("it has no entry".to_owned(), |seq| format!("it begins at entry {seq}"));
            let why = format!("{start}, and {}", remarks.first().map_or("there is no snapshot", |remark| remark));
            return Err(unreadable(dir, "its beginning", why));
        }
    }
    let recovery = Recovery { remarks, ..Recovery::default() };
    fold(dir, store, Recovered { fleet: Fleet::default(), recovery, last: Link::START, policy: None })
}

/// Folds what comes after the start. The entry that a snapshot stands after is read too: it must be the very one.
fn fold(dir: &Path, store: &dyn Store, start: Recovered) -> Result<Recovered, Error> {
    let mut so_far = start;
    let mut seen = so_far.recovery.snapshot.is_none();
    for found in store.scan(so_far.last.seq) {
        let (seq, bytes) = found.map_err(|error| unreadable(dir, "its store", error))?;
        let flawed = |flaw: Flaw| flawed(dir, seq, flaw);
        let entry = entry::decode(&bytes).map_err(flawed)?;
        if seq != entry.link.seq {
            return Err(flawed(Flaw::Gap { expected: seq, found: entry.link.seq }));
        }
        let stamped = entry.read().map_err(flawed)?;
        if !seen && entry.link.seq == so_far.last.seq {
            if entry.link != so_far.last {
                return Err(flawed(Flaw::Unlinked));
            }
            seen = true;
        } else {
            entry.follows(so_far.last).map_err(flawed)?;
            so_far.fleet.handle(&stamped);
            so_far.recovery.folded += 1;
        }
        so_far.last = entry.link;
        so_far.policy = entry.policy;
        so_far.recovery.last_seq = entry.link.seq;
        so_far.recovery.last_at = Some(stamped.at);
    }
    if !seen {
        let why = "it is not there, though a snapshot stands after it";
        return Err(unreadable(dir, &format!("entry {}", so_far.last.seq), why));
    }
    Ok(so_far)
}

/// The place of one entry in the store, if it is there and sound.
pub(super) fn link_at(store: &dyn Store, seq: u64) -> Option<Link> {
    let (found, bytes) = store.scan(seq).next()?.ok()?;
    let link = entry::decode(&bytes).ok()?.link;
    (found == seq && link.seq == seq).then_some(link)
}

/// The entries from this number on with their places, each checked against the one before it.
pub(super) fn checked<'a>(
    dir: &'a Path,
    store: &'a dyn Store,
    from: u64,
) -> impl Iterator<Item = Result<(Link, Vec<u8>), Error>> + 'a {
    let mut before: Option<Link> = None;
    store.scan(from).map(move |found: Result<Numbered, StoreError>| {
        let (seq, bytes) = found.map_err(|error| unreadable(dir, "its store", error))?;
        let flawed = |flaw: Flaw| flawed(dir, seq, flaw);
        let entry = entry::decode(&bytes).map_err(flawed)?;
        match before {
            Some(before) => entry.follows(before).map_err(flawed)?,
            None if entry.link.seq != seq => return Err(flawed(Flaw::Gap { expected: seq, found: entry.link.seq })),
            None if seq == Link::START.next_seq() => entry.follows(Link::START).map_err(flawed)?,
            None => {}
        }
        let link = entry.link;
        before = Some(link);
        Ok((link, bytes))
    })
}

fn flawed(dir: &Path, seq: u64, flaw: Flaw) -> Error {
    match flaw {
        Flaw::Format { found, known } => Error::Format { dir: dir.to_owned(), found, known },
        flaw => unreadable(dir, &format!("entry {seq}"), flaw),
    }
}

/// Something in a journal that cannot be read or trusted.
pub(super) fn unreadable(dir: &Path, what: &str, why: impl std::fmt::Display) -> Error {
    Error::Unreadable { dir: dir.to_owned(), what: what.to_owned(), why: why.to_string() }
}
