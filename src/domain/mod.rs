//! The words: plain values that every other room speaks in. Nothing here does anything.
//!
//! One file a subject, in reading order. Values carry their unit in their type or their name, absence is a value
//! ([`Absence`]), and whatever comes from outside is bounded by the constructors here ([`Text`]).

mod advice;
mod baseline;
mod change;
mod check;
mod conversation;
mod diff;
mod evidence;
mod exposure;
mod metric;
mod name;
mod notice;
mod past;
mod reading;
mod risk;
mod sli;
mod tally;
mod time;
mod verdict;

pub use advice::{Action, Advice, Brief, CheckBrief, Confidence, Story};
pub use baseline::{Baseline, ChosenBaseline, ControlAge};
pub use change::{Change, FileTouched, Person, Repository, Revision, TouchKind, WayBack};
pub use check::{Aim, Check, CheckId, DiffLine, Direction, HardLimit, Origin, Split, Weight};
pub use conversation::{Conversation, Exchange, Message, ModelRole, ToolCall, Usage};
pub use diff::{Diff, FileDiff, Line, LineKind};
pub use evidence::{Concentration, Concern, Evidence, Finding, Interval, Shares};
pub use exposure::{Cohort, Exposure, Share, Shift};
pub use metric::{Metric, MetricKind, MetricLabel};
pub use name::{
    CheckName, Digest, PROSE_BYTES_MAX, PolicyVersion, Prose, RequestId, RolloutId, ServiceName, TEXT_BYTES_MAX, Text,
};
pub use notice::{Notice, Severity, Upcoming};
pub use past::{PastChange, PastProof, PathClass};
pub use reading::{PARTS_MAX, Part, PartKind, Reading};
pub use risk::Risk;
pub use sli::{Catalogue, CatalogueEntry, Match, Matcher, Selector, Sli};
pub use tally::{Absence, Arm, Counts, Histogram, Measurement, Tally, Window};
pub use time::{Stamped, Timestamp, millis, millis_option};
pub use verdict::{Autonomy, Command, Objection, Outcome, Verdict};
