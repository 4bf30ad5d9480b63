//! The words: plain values that every other room speaks in. Nothing here does anything.
//!
//! One file a subject, in reading order. Values carry their unit in their type or their name, absence is a value
//! ([`Absence`]), and whatever comes from outside is bounded by the constructors here ([`Text`]).

mod change;
mod check;
mod diff;
mod evidence;
mod exposure;
mod name;
mod notice;
mod reading;
mod sli;
mod tally;
mod time;
mod verdict;

pub use change::{Change, FileTouched, Person, Repository, Revision, TouchKind, WayBack};
pub use check::{Check, CheckId, DiffLine, Direction, HardLimit, Origin, Split, Weight};
pub use diff::{Diff, FileDiff, Line, LineKind};
pub use evidence::{Concern, Evidence, Finding, Interval};
pub use exposure::{Cohort, Exposure, Share, Shift};
pub use name::{CheckName, Digest, PolicyVersion, RequestId, RolloutId, ServiceName, TEXT_BYTES_MAX, Text};
pub use notice::{Notice, Severity, Upcoming};
pub use reading::{PARTS_MAX, Part, PartKind, Reading};
pub use sli::{Catalogue, CatalogueEntry, Match, Matcher, Selector, Sli};
pub use tally::{Absence, Arm, Counts, Histogram, Measurement, Tally, Window};
pub use time::{Stamped, Timestamp, millis, millis_option};
pub use verdict::{Autonomy, Command, Objection, Outcome, Verdict};
