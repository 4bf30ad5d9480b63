//! What can go wrong with a journal. Every message names the place and says what to do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::entry::Flaw;

/// Why a journal cannot be opened, written or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The path is a file.
    #[error("`{}` is no directory: name a directory for the journal, or a path where one can be made", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// Another process has it.
    #[error("another tollgate is using `{}`: stop it first, or name another directory", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// There is something else in it.
    #[error("`{}` is no journal and not empty: name an empty directory, or the one that holds the journal", dir.display())]
    NotAJournal {
        /// The directory.
        dir: PathBuf,
    },
    /// There is none in it.
    #[error("there is no journal in `{}`: name the directory that holds it", dir.display())]
    NoJournal {
        /// The directory.
        dir: PathBuf,
    },
    /// A restore into it did not end.
    #[error("a restore into `{}` was cut short: empty the directory and restore again", dir.display())]
    RestoreCutShort {
        /// The directory.
        dir: PathBuf,
    },
    /// Another version made it.
    #[error(
        "the journal in `{}` has format {found}, and this version knows format {known}: \
         run the version that wrote it, or move the directory away to begin a new journal",
        dir.display()
    )]
    Format {
        /// The directory.
        dir: PathBuf,
        /// The format it has.
        found: u32,
        /// The format we know.
        known: u32,
    },
    /// Its store cannot be opened, or something in it cannot be trusted.
    #[error("the journal in `{}` cannot be used, for {what} cannot be read: {why}; {}", dir.display(), cure(dir))]
    Unreadable {
        /// The directory.
        dir: PathBuf,
        /// What in it.
        what: String,
        /// Why.
        why: String,
    },
    /// The store has lost entries that the export still has.
    #[error(
        "the journal in `{}` has lost entries: its store ends at entry {store} and its export at entry {export}; {}",
        dir.display(),
        cure(dir)
    )]
    Lost {
        /// The directory.
        dir: PathBuf,
        /// The last entry of the store.
        store: u64,
        /// The last entry of the export.
        export: u64,
    },
    /// The store and the export tell different stories.
    #[error(
        "entry {seq} of the store and of the export in `{}` are not the same: one of them was put there from another \
         journal; {}",
        dir.display(),
        cure(dir)
    )]
    Diverged {
        /// The directory.
        dir: PathBuf,
        /// The entry.
        seq: u64,
    },
    /// An event cannot be recorded as it is. Nothing was written, and the journal goes on.
    #[error("an event cannot be recorded: {why}")]
    Unrecordable {
        /// Why.
        why: Flaw,
    },
    /// A fleet cannot be kept as a snapshot. Nothing was written, and the journal goes on.
    #[error("no snapshot can be taken after entry {seq}: {why}")]
    NoSnapshot {
        /// The entry.
        seq: u64,
        /// Why.
        why: Flaw,
    },
    /// The entries could not be made durable.
    #[error("the journal in `{}` cannot be written: {why}; make room or mend the disk, then start again", dir.display())]
    Unwritable {
        /// The directory.
        dir: PathBuf,
        /// Why.
        why: String,
    },
    /// An earlier write failed, and it is not known what of it is on the disk.
    #[error(
        "the journal in `{}` takes no more entries since a write failed ({why}): start again to see what was recorded",
        dir.display()
    )]
    Poisoned {
        /// The directory.
        dir: PathBuf,
        /// What failed.
        why: String,
    },
    /// Nothing is restored over something else.
    #[error("`{}` is not empty: name an empty directory to restore into", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// A line of an export cannot be trusted.
    #[error("line {line} of the export `{}` cannot be trusted, and nothing was restored: {why}", path.display())]
    BadLine {
        /// The export.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// Why.
        why: String,
    },
}

impl Error {
    /// For `map_err` on what the operating system refused.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

fn cure(dir: &Path) -> String {
    format!(
        "rebuild it with `tollgate restore --from {} --into <an empty directory>`, or move the directory away to begin \
         a new journal",
        dir.join(super::export::NAME).display()
    )
}
