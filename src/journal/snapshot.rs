//! A snapshot: a fleet as it stood after one entry, so that recovery need not fold from the beginning.
//!
//! It is a fixed head (magic, format, the entry it stands after, length, checksum) and a body in postcard, which is read
//! several times faster than JSON. The price is that the body does not describe itself: **whoever changes what a
//! [`Fleet`] holds, anywhere below it, raises [`SNAPSHOT_FORMAT`]**. As a second line, a snapshot is read back before it
//! counts as written, and a body must be read to its last byte and write back to the same bytes.

use sha2::{Digest as _, Sha256};

use super::entry::{Flaw, Hash, Link};
use crate::rollout::Fleet;

/// The format of snapshots written by this version: of the head, and of everything a [`Fleet`] holds.
pub const SNAPSHOT_FORMAT: u32 = 6;

/// Most bytes of a snapshot.
pub(super) const SNAPSHOT_BYTES_MAX: usize = 1024 * 1024 * 1024;

const MAGIC: &[u8; 8] = b"tollgate";
/// Magic, format (4), sequence number (8), hash (32), length of the body (8), checksum (32).
const HEAD_BYTES: usize = 8 + 4 + 8 + 32 + 8 + 32;
const CHECKSUM_BYTES: usize = 32;

/// A fleet, and the entry it stands after.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) at: Link,
    pub(super) fleet: Fleet,
}

/// Writes a snapshot, and makes sure that it can be read.
pub(super) fn encode(at: Link, fleet: &Fleet) -> Result<Vec<u8>, Flaw> {
    let malformed = |error: postcard::Error| Flaw::Malformed(error.to_string());
    let body = postcard::to_stdvec(fleet).map_err(malformed)?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&SNAPSHOT_FORMAT.to_be_bytes());
    bytes.extend_from_slice(&at.seq.to_be_bytes());
    bytes.extend_from_slice(&at.hash.0);
    bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
    let checksum = checksum(&bytes, &body);
    bytes.extend_from_slice(&checksum);
    bytes.extend_from_slice(&body);
    if bytes.len() > SNAPSHOT_BYTES_MAX {
        return Err(Flaw::TooLarge { bytes: bytes.len(), max: SNAPSHOT_BYTES_MAX });
    }
    // Bytes are compared and not fleets, for a fleet may hold numbers that are not equal to themselves.
    if postcard::to_stdvec(&read(&body)?).map_err(malformed)? != body {
        return Err(Flaw::Unfaithful);
    }
    Ok(bytes)
}

/// Reads the head alone and checks everything that can be checked without knowing what a fleet is.
pub(super) fn check(bytes: &[u8]) -> Result<(Link, &[u8]), Flaw> {
    let malformed = |why: &str| Flaw::Malformed(why.to_owned());
    let cut_short = || malformed("it is cut short");
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| malformed("it is no snapshot"))?;
    let (format, rest) = rest.split_first_chunk().ok_or_else(cut_short)?;
    let found = u32::from_be_bytes(*format);
    if found != SNAPSHOT_FORMAT {
        return Err(Flaw::Format { found, known: SNAPSHOT_FORMAT });
    }
    let (seq, rest) = rest.split_first_chunk().ok_or_else(cut_short)?;
    let (hash, rest) = rest.split_first_chunk().ok_or_else(cut_short)?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(cut_short)?;
    let (sealed, body) = rest.split_first_chunk::<CHECKSUM_BYTES>().ok_or_else(cut_short)?;
    if u64::from_be_bytes(*length) != body.len() as u64 {
        return Err(malformed("its length is not what its head says"));
    }
    let head = bytes.get(..HEAD_BYTES - CHECKSUM_BYTES).ok_or_else(cut_short)?;
    if checksum(head, body) != *sealed {
        return Err(Flaw::Altered);
    }
    Ok((Link { seq: u64::from_be_bytes(*seq), hash: Hash(*hash) }, body))
}

/// Reads a snapshot whole.
pub(super) fn decode(bytes: &[u8]) -> Result<Snapshot, Flaw> {
    let (at, body) = check(bytes)?;
    Ok(Snapshot { at, fleet: read(body)? })
}

fn read(body: &[u8]) -> Result<Fleet, Flaw> {
    let (fleet, rest) = postcard::take_from_bytes(body).map_err(|error| Flaw::Malformed(error.to_string()))?;
    if rest.is_empty() { Ok(fleet) } else { Err(Flaw::Malformed(format!("{} bytes are left over", rest.len()))) }
}

fn checksum(head: &[u8], body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    Sha256::new().chain_update(head).chain_update(body).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Person, Stamped, Text, Timestamp},
        rollout::Event,
    };

    fn fleet() -> Fleet {
        let mut fleet = Fleet::default();
        for millis in [1, 300, 70_000] {
            let event = Event::KillSwitch { on: true, by: Person(Text::new("ada")) };
            fleet.handle(&Stamped { at: Timestamp::from_millis(millis), event });
        }
        fleet
    }

    #[test]
    fn a_fleet_comes_back_as_it_was() {
        let at = Link { seq: 3, hash: Hash([7; 32]) };
        let snapshot = decode(&encode(at, &fleet()).unwrap()).unwrap();
        assert_eq!((snapshot.at, snapshot.fleet), (at, fleet()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = encode(Link::START, &fleet()).unwrap();
        for place in 0..bytes.len() {
            assert!(decode(&bytes[..place]).is_err(), "cut at {place}");
            for bit in 0..8 {
                let mut hurt = bytes.clone();
                hurt[place] ^= 1 << bit;
                assert!(decode(&hurt).is_err(), "bit {bit} of byte {place}");
            }
        }
    }

    #[test]
    fn another_format_is_named() {
        let mut bytes = encode(Link::START, &fleet()).unwrap();
        bytes[11] = 9;
        assert_eq!(decode(&bytes).unwrap_err(), Flaw::Format { found: 9, known: SNAPSHOT_FORMAT });
    }

    #[test]
    fn a_body_with_more_in_it_than_a_fleet_is_refused() {
        let mut body = postcard::to_stdvec(&fleet()).unwrap();
        body.push(0);
        assert_eq!(read(&body), Err(Flaw::Malformed("1 bytes are left over".into())));
    }
}
