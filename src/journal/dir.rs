//! The journal's directory: who may enter it, what must be in it, and how a file in it is made durable.
//!
//! ```text
//! lock            held by the process that uses the journal
//! journal.json    says that this is a journal, and of which format
//! sled/           the entries
//! snapshots/      a file for each snapshot, named by the entry it stands after
//! export.jsonl    the entries again, in a form that outlives sled
//! restoring       there while a restore is under way
//! ```
//!
//! A file that is replaced is written beside itself, synced, renamed, and its directory is synced: after a power cut
//! there is the old one or the new one. New directories are synced into their parents.

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufWriter, Read as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::Error;

/// The format of the directory as a whole. A directory of another format is not touched.
pub const DIRECTORY_FORMAT: u32 = 1;

const LOCK: &str = "lock";
/// How often, and how long apart, the lock is tried before the folder counts as in use: half a second in all.
const LOCK_TRIES: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
const MARKER: &str = "journal.json";
const RESTORING: &str = "restoring";
/// What the name of a file ends in while it is being written.
const NEW: &str = ".new";
/// Names that may be in a directory that is to become a journal: our own first steps, and what a new file system brings.
const HARMLESS: [&str; 3] = [LOCK, "journal.json.new", "lost+found"];
const MARKER_BYTES_MAX: u64 = 4 * 1024;

#[derive(Serialize, Deserialize)]
struct Marker {
    format: u32,
    store: String,
}

/// A directory that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct Entered {
    _lock: File,
}

/// Enters the directory of a journal, and makes it one if it is empty or not there.
pub(super) fn enter(dir: &Path) -> Result<Entered, Error> {
    // Asked before the lock too, so that nothing is put into a directory that is somebody else's.
    if !is_vacant(dir)? && !is_ours(dir)? {
        return Err(Error::NotAJournal { dir: dir.to_owned() });
    }
    let lock = take(dir)?;
    if exists(&dir.join(RESTORING))? {
        return Err(Error::RestoreCutShort { dir: dir.to_owned() });
    }
    match read_marker(dir)? {
        Some(marker) if marker.format != DIRECTORY_FORMAT => {
            Err(Error::Format { dir: dir.to_owned(), found: marker.format, known: DIRECTORY_FORMAT })
        }
        Some(_) => Ok(Entered { _lock: lock }),
        None if is_vacant(dir)? => {
            write_marker(dir)?;
            Ok(Entered { _lock: lock })
        }
        None => Err(Error::NotAJournal { dir: dir.to_owned() }),
    }
}

/// Enters the directory of a journal that is there.
pub(super) fn enter_existing(dir: &Path) -> Result<Entered, Error> {
    if is_ours(dir)? { enter(dir) } else { Err(Error::NoJournal { dir: dir.to_owned() }) }
}

/// Enters an empty directory for a restore. It is no journal before [`finish_restore`].
pub(super) fn enter_for_restore(dir: &Path) -> Result<Entered, Error> {
    if !is_vacant(dir)? {
        return Err(Error::NotEmpty { dir: dir.to_owned() });
    }
    let lock = take(dir)?;
    replace(&dir.join(RESTORING), |_| Ok(()))?;
    Ok(Entered { _lock: lock })
}

/// Makes a restored directory a journal.
pub(super) fn finish_restore(dir: &Path) -> Result<(), Error> {
    write_marker(dir)?;
    let flag = dir.join(RESTORING);
    fs::remove_file(&flag).map_err(Error::io("remove", &flag))?;
    sync_dir(dir)
}

/// Makes a directory, if it is not there, and its name durable.
pub(super) fn make(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(Error::io("create the directory", dir))?;
    // Every level may be new; syncing one that is not costs little and happens once.
    for parent in dir.ancestors().skip(1).take_while(|parent| !parent.as_os_str().is_empty()) {
        sync_dir(parent)?;
    }
    Ok(())
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync the directory", dir))
}

/// Replaces a file, whole or not at all, and returns once it would survive a power cut. Its directory is there.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Error>,
) -> Result<File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(NEW);
    let new = PathBuf::from(name);
    let written = write_new(&new, write);
    if written.is_err() {
        // On a full disk the torn file would only make things worse. The first error is the one to tell.
        fs::remove_file(&new).ok();
    }
    let file = written?;
    fs::rename(&new, path).map_err(Error::io("put in place", path))?;
    if let Some(dir) = path.parent() {
        sync_dir(dir)?;
    }
    Ok(file)
}

fn write_new(new: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Error>) -> Result<File, Error> {
    let file = File::create(new).map_err(Error::io("create", new))?;
    let mut out = BufWriter::with_capacity(1 << 16, file);
    write(&mut out)?;
    let file = out.into_inner().map_err(|error| Error::io("write", new)(error.into_error()))?;
    file.sync_all().map_err(Error::io("sync", new))?;
    Ok(file)
}

/// Removes what replacements that were cut short have left in a directory.
pub(super) fn sweep(dir: &Path) -> Result<(), Error> {
    for found in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = found.map_err(Error::io("list", dir))?.path();
        if path.to_str().is_some_and(|path| path.ends_with(NEW)) {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

fn take(dir: &Path) -> Result<File, Error> {
    if dir.exists() && !dir.is_dir() {
        return Err(Error::NotADirectory { path: dir.to_owned() });
    }
    make(dir)?;
    let path = dir.join(LOCK);
    let mut options = File::options();
    let options = options.create(true).truncate(false).write(true);
    let file = options.open(&path).map_err(Error::io("open", &path))?;
    // A process that was just forked holds every lock of its parent until it becomes another program: what is in use
    // for a moment only is not in use.
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
    }
    Err(Error::InUse { dir: dir.to_owned() })
}

fn read_marker(dir: &Path) -> Result<Option<Marker>, Error> {
    let path = dir.join(MARKER);
    let mut text = Vec::new();
    match File::open(&path).and_then(|file| file.take(MARKER_BYTES_MAX).read_to_end(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", &path)(error)),
    }
    serde_json::from_slice(&text).map(Some).map_err(|error| Error::Unreadable {
        dir: dir.to_owned(),
        what: MARKER.to_owned(),
        why: error.to_string(),
    })
}

fn write_marker(dir: &Path) -> Result<(), Error> {
    let marker = Marker { format: DIRECTORY_FORMAT, store: "sled 0.34".to_owned() };
    let path = dir.join(MARKER);
    replace(&path, |out| serde_json::to_writer(out, &marker).map_err(|error| Error::io("write", &path)(error.into())))?;
    Ok(())
}

/// Whether there is nothing in a directory that someone could miss.
fn is_vacant(dir: &Path) -> Result<bool, Error> {
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(Error::NotADirectory { path: dir.to_owned() });
        }
        Err(error) => return Err(Error::io("list", dir)(error)),
    };
    for found in listing {
        let name = found.map_err(Error::io("list", dir))?.file_name();
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_ours(dir: &Path) -> Result<bool, Error> {
    Ok(exists(&dir.join(MARKER))? || exists(&dir.join(RESTORING))?)
}

fn exists(path: &Path) -> Result<bool, Error> {
    path.try_exists().map_err(Error::io("look for", path))
}
