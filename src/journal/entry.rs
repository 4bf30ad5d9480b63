//! One entry: an event, sealed to the one before it.
//!
//! An entry is one line of JSON, and the same bytes are its value in the store and its line in the export, so that there
//! is one format to check and one to keep. Its hash covers the hash before it, its sequence number, its format, the
//! policy in force and the payload's bytes as they stand: an entry that was edited, moved, dropped or slipped in breaks
//! the chain. The hash is no signature: whoever may write the whole file may also seal it anew.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::{
    domain::{PolicyVersion, Stamped},
    rollout::Event,
};

/// The format of entries written by this version. An entry of another format is refused, never guessed at.
pub const FORMAT: u32 = 1;

/// Most bytes of one event as JSON. A larger one is refused before anything is written.
pub const PAYLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most bytes of one entry: its payload and the envelope around it.
pub const ENTRY_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + ENVELOPE_BYTES_MAX;

/// Most bytes of an entry beside its payload: two hashes, a few numbers and the policy's version.
const ENVELOPE_BYTES_MAX: usize = 4 * 1024;

/// What is wrong with an entry or a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It cannot be parsed.
    #[error("it cannot be parsed: {0}")]
    Malformed(String),
    /// It was written by another version.
    #[error("its format is {found}, and this version reads format {known}")]
    Format {
        /// The format it has.
        found: u32,
        /// The format we know.
        known: u32,
    },
    /// Its content and its checksum do not agree.
    #[error("its content does not have the checksum it was sealed with")]
    Altered,
    /// It is not the one that comes next.
    #[error("it is number {found} where number {expected} belongs")]
    Gap {
        /// The number that belongs here.
        expected: u64,
        /// The number it has.
        found: u64,
    },
    /// It has the right number and follows something else.
    #[error("it is not sealed to the entry before it")]
    Unlinked,
    /// It is larger than any entry may be.
    #[error("it has {bytes} bytes, and {max} is the most")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// What would be read back is not what was to be written: a number that JSON cannot carry, for one.
    #[error("it would not be read back as it was written")]
    Unfaithful,
}

/// A SHA-256 hash; hexadecimal where it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash(pub(super) [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let digits = <&str>::deserialize(from)?;
        let bytes = from_hex(digits.as_bytes()).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| de::Error::custom("a hash is 64 hexadecimal digits"))
    }
}

/// Bytes as hexadecimal digits, lower case.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 0x0f)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// Bytes from lower-case hexadecimal digits; `None` for anything else.
pub(super) fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?)).collect()
}

/// A place in the chain: an entry's number and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) seq: u64,
    pub(super) hash: Hash,
}

impl Link {
    /// Before the first entry, which is number 1.
    pub(super) const START: Self = Self { seq: 0, hash: Hash([0; 32]) };

    /// The number that follows.
    pub(super) fn next_seq(self) -> u64 {
        self.seq.saturating_add(1)
    }
}

/// An entry as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    format: u32,
    seq: u64,
    previous: Hash,
    hash: Hash,
    policy: Option<PolicyVersion>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// What every format, past and to come, can be asked.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

fn seal(previous: Hash, seq: u64, format: u32, policy: Option<&PolicyVersion>, payload: &str) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(previous.0);
    hasher.update(seq.to_be_bytes());
    hasher.update(format.to_be_bytes());
    // The lengths before what varies keep two different entries from having the same bytes.
    match policy {
        None => hasher.update([0]),
        Some(policy) => {
            hasher.update([1]);
            hasher.update((policy.as_str().len() as u64).to_be_bytes());
            hasher.update(policy.as_str());
        }
    }
    hasher.update(payload);
    Hash(hasher.finalize().into())
}

/// Seals an event to the entry before it. It is read back and compared first: an event that JSON cannot carry must not
/// be found out about when a fleet is to be recovered from it.
pub(super) fn encode(
    after: Link,
    policy: Option<&PolicyVersion>,
    stamped: &Stamped<Event>,
) -> Result<(Link, Vec<u8>), Flaw> {
    let malformed = |error: serde_json::Error| Flaw::Malformed(error.to_string());
    let payload = serde_json::to_string(stamped).map_err(malformed)?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Flaw::TooLarge { bytes: payload.len(), max: PAYLOAD_BYTES_MAX });
    }
    let read: Result<Stamped<Event>, _> = serde_json::from_str(&payload);
    if !read.is_ok_and(|read| read == *stamped) {
        return Err(Flaw::Unfaithful);
    }
    let seq = after.next_seq();
    let link = Link { seq, hash: seal(after.hash, seq, FORMAT, policy, &payload) };
    let payload = RawValue::from_string(payload).map_err(malformed)?;
    let written = Written {
        format: FORMAT,
        seq,
        previous: after.hash,
        hash: link.hash,
        policy: policy.cloned(),
        payload: &payload,
    };
    let bytes = serde_json::to_vec(&written).map_err(malformed)?;
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(Flaw::TooLarge { bytes: bytes.len(), max: ENTRY_BYTES_MAX });
    }
    Ok((link, bytes))
}

/// An entry whose format and hash are right. Whether it stands in the right place is asked with [`Entry::follows`].
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) link: Link,
    pub(super) policy: Option<PolicyVersion>,
    previous: Hash,
    payload: &'a str,
}

impl Entry<'_> {
    /// Whether it is the one right after `before`.
    pub(super) fn follows(&self, before: Link) -> Result<(), Flaw> {
        if self.link.seq != before.next_seq() {
            return Err(Flaw::Gap { expected: before.next_seq(), found: self.link.seq });
        }
        if self.previous != before.hash {
            return Err(Flaw::Unlinked);
        }
        Ok(())
    }

    /// The event.
    pub(super) fn read(&self) -> Result<Stamped<Event>, Flaw> {
        serde_json::from_str(self.payload).map_err(|error| Flaw::Malformed(error.to_string()))
    }
}

/// Reads an entry's envelope and checks its format and its hash.
pub(super) fn decode(bytes: &[u8]) -> Result<Entry<'_>, Flaw> {
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(Flaw::TooLarge { bytes: bytes.len(), max: ENTRY_BYTES_MAX });
    }
    let written: Written<'_> = serde_json::from_slice(bytes).map_err(|error| {
        // Another format may have other fields; its number is the better reason.
        match serde_json::from_slice(bytes) {
            Ok(Versioned { format }) if format != FORMAT => Flaw::Format { found: format, known: FORMAT },
            Ok(_) | Err(_) => Flaw::Malformed(error.to_string()),
        }
    })?;
    if written.format != FORMAT {
        return Err(Flaw::Format { found: written.format, known: FORMAT });
    }
    let payload = written.payload.get();
    if seal(written.previous, written.seq, FORMAT, written.policy.as_ref(), payload) != written.hash {
        return Err(Flaw::Altered);
    }
    let link = Link { seq: written.seq, hash: written.hash };
    Ok(Entry { link, policy: written.policy, previous: written.previous, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        Arm, CheckId, Histogram, Measurement, Person, RequestId, RolloutId, Tally, Text, Timestamp, Window,
    };

    fn at(millis: u64, event: Event) -> Stamped<Event> {
        Stamped { at: Timestamp::from_millis(millis), event }
    }

    fn measured(bounds: Vec<f64>) -> Stamped<Event> {
        let window = Window { after: Timestamp::EPOCH, through: Timestamp::from_millis(9) };
        let tally = Ok(Tally::Histogram(Histogram { counts: vec![1; bounds.len() + 1], bounds }));
        let measurement =
            Measurement { check: CheckId(1), arm: Arm::Canary, window, tally, parts: Vec::new(), estimated: false };
        at(
            9,
            Event::Measured {
                request: RequestId(1),
                rollout: RolloutId(1),
                through: Timestamp::from_millis(9),
                measurements: vec![measurement],
            },
        )
    }

    #[test]
    fn an_entry_reads_back_as_it_was_written() {
        let policy = PolicyVersion::new("abc");
        let event = at(7, Event::KillSwitch { on: true, by: Person(Text::new("ada \"the\" first")) });
        let (first, bytes) = encode(Link::START, Some(&policy), &event).unwrap();
        let entry = decode(&bytes).unwrap();
        assert_eq!((entry.link, entry.policy.clone()), (first, Some(policy)));
        assert_eq!(entry.follows(Link::START), Ok(()));
        assert_eq!(entry.read(), Ok(event));
        assert!(!bytes.contains(&b'\n'), "an entry is one line");
    }

    #[test]
    fn numbers_survive_to_the_last_bit_and_what_json_cannot_carry_is_refused() {
        let fine = measured(vec![0.1 + 0.2, 1.0 / 3.0, f64::MIN_POSITIVE, 2.225_073_858_507_201e-308, 1e300]);
        let (_, bytes) = encode(Link::START, None, &fine).unwrap();
        assert_eq!(decode(&bytes).unwrap().read(), Ok(fine));
        for bad in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            assert_eq!(encode(Link::START, None, &measured(vec![bad])), Err(Flaw::Unfaithful));
        }
    }

    #[test]
    fn every_single_flipped_bit_is_noticed() {
        let (first, _) = encode(Link::START, None, &at(1, Event::WokeUp)).unwrap();
        let (_, bytes) = encode(first, None, &at(2, Event::WokeUp)).unwrap();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut hurt = bytes.clone();
                hurt[place] ^= 1 << bit;
                let accepted = decode(&hurt).is_ok_and(|entry| entry.follows(first).is_ok());
                assert!(!accepted, "bit {bit} of byte {place}");
            }
        }
    }

    #[test]
    fn an_entry_out_of_its_place_is_refused() {
        let (first, one) = encode(Link::START, None, &at(1, Event::WokeUp)).unwrap();
        let (second, two) = encode(first, None, &at(2, Event::WokeUp)).unwrap();
        let (_, other) = encode(first, None, &at(3, Event::WokeUp)).unwrap();
        let (_, three) = encode(second, None, &at(4, Event::WokeUp)).unwrap();
        assert_eq!(decode(&two).unwrap().follows(first), Ok(()));
        assert_eq!(decode(&one).unwrap().follows(first), Err(Flaw::Gap { expected: 2, found: 1 }));
        assert_eq!(decode(&three).unwrap().follows(first), Err(Flaw::Gap { expected: 2, found: 3 }));
        let forked = decode(&other).unwrap().link;
        assert_eq!(decode(&three).unwrap().follows(forked), Err(Flaw::Unlinked));
    }

    #[test]
    fn another_format_is_named_even_when_its_fields_are_strange() {
        let future = br#"{"format":2,"number":1,"kind":"strange"}"#;
        assert_eq!(decode(future).unwrap_err(), Flaw::Format { found: 2, known: FORMAT });
        let (_, bytes) = encode(Link::START, None, &at(1, Event::WokeUp)).unwrap();
        let future = String::from_utf8(bytes).unwrap().replace("\"format\":1", "\"format\":7");
        assert_eq!(decode(future.as_bytes()).unwrap_err(), Flaw::Format { found: 7, known: FORMAT });
    }

    #[test]
    fn an_event_is_bounded_at_its_edge() {
        let kill = |name: String| {
            let branch = name;
            at(
                1,
                Event::PullRequestMerged {
                    delivery: Text::new("d"),
                    repository: "acme/shop".parse().unwrap(),
                    pull_request: 1,
                    branch,
                    into_default: true,
                },
            )
        };
        let envelope = serde_json::to_string(&kill(String::new())).unwrap().len();
        let widest = "b".repeat(PAYLOAD_BYTES_MAX - envelope);
        assert!(encode(Link::START, None, &kill(widest.clone())).is_ok_and(|(_, bytes)| decode(&bytes).is_ok()));
        let refused = encode(Link::START, None, &kill(widest + "b"));
        assert_eq!(refused, Err(Flaw::TooLarge { bytes: PAYLOAD_BYTES_MAX + 1, max: PAYLOAD_BYTES_MAX }));
    }

    #[test]
    fn hexadecimal_reads_back_and_refuses_the_rest() {
        assert_eq!(from_hex(to_hex(&[0, 9, 10, 255]).as_bytes()), Some(vec![0, 9, 10, 255]));
        for bad in ["0", "0g", "AB", " 0"] {
            assert_eq!(from_hex(bad.as_bytes()), None, "{bad}");
        }
    }
}
