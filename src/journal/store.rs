//! The socket for a store: what the journal needs of one, and no more, so that another can stand beside sled.
//!
//! A store keeps bytes under numbers. It need not check them: every entry and every snapshot carries its own checksum,
//! and the journal checks each one it reads.

/// What went wrong in a store, in its own words. Nothing is told apart: whatever it is, the journal stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct StoreError(pub(super) String);

/// An entry's number and its bytes.
pub(super) type Numbered = (u64, Vec<u8>);

/// Where entries and snapshots are kept. One writer.
pub(super) trait Store: Send {
    /// Keeps the entries, all or none, and returns once they would survive a power cut.
    fn append(&mut self, entries: &[Numbered]) -> Result<(), StoreError>;

    /// The entries from this number on, by rising number. Ends after the first error.
    fn scan(&self, from: u64) -> Box<dyn Iterator<Item = Result<Numbered, StoreError>> + '_>;

    /// Lets go of the entries before this number. What is let go may come back after a crash.
    fn delete_before(&mut self, seq: u64) -> Result<(), StoreError>;

    /// Keeps a snapshot taken after this entry, whole or not at all, and returns once it would survive a power cut.
    fn put_snapshot(&mut self, seq: u64, bytes: &[u8]) -> Result<(), StoreError>;

    /// The numbers of the entries after which there is a snapshot, rising.
    fn snapshots(&self) -> Result<Vec<u64>, StoreError>;

    /// The snapshot taken after this entry.
    fn snapshot(&self, seq: u64) -> Result<Vec<u8>, StoreError>;

    /// Lets go of a snapshot.
    fn delete_snapshot(&mut self, seq: u64) -> Result<(), StoreError>;
}
