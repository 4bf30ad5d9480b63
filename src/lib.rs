//! Tollgate: a supervisor for progressive rollouts.
//!
//! A tollgate review is the checkpoint between two stages of a project: no evidence, no passage. Tollgate reads the diff
//! of each merged pull request, makes health checks for that change, compares the new version with the old one on live
//! telemetry at every stage of its rollout, and expands or rolls back by itself. Deterministic rails stand between
//! every verdict and traffic.
//!
//! # The way of one rollout
//! A signed webhook ([`web`]) becomes an [`rollout::Event`], which the [`daemon`] makes durable ([`journal`]) before
//! anything is done about it. [`rollout::Fleet`] decides and answers with [`rollout::Effect`]s, which the daemon hands
//! to the wings: [`forge`] fetches the change and its diff, [`plan`] makes checks from it, [`telemetry`] measures both
//! arms, [`traffic`] moves exposure. Each reply is an event again. `rollout/drive.rs` is the loop, whole.
//!
//! # The house
//! | floor | room | what it is for | may name |
//! |---|---|---|---|
//! | 6 | [`cli`] | the composition root and one file a subcommand | all |
//! | 5 | [`web`] | webhooks and OFREP in, HTTP API, dashboard, `/metrics` | domain, rollout, daemon, forge, traffic |
//! | 5 | [`eval`] | generated noise and rivals' methods: how good the decisions are | domain, stats, sim |
//! | 4 | [`daemon`] | the live world: clock, inbox, dispatch of effects to the wings | domain, plan, rails, rollout, journal, agent, tools, wings |
//! | 4 | [`sim`] | the virtual world: jumping clock, generated service, seeded faults | domain, plan, rollout |
//! | 3 | [`agent`] | the loop between prompt, model and tools; ends in a draft or in advice | domain, plan, retry, tools, untrusted |
//! | 3 | [`tools`] | what the model may reach for: readers only | domain, plan, stats, forge, telemetry, untrusted |
//! | 3 | [`config`] | what was written becomes what is meant; refuses before anything starts | domain, plan, rollout, stats |
//! | 3 | [`journal`] | the append-only record; a fleet is its fold | domain, rollout |
//! | 3 | [`telemetry`] | reads SLIs; a file a provider | domain, retry |
//! | 3 | [`traffic`] | moves exposure; a file an actuator | domain, rails |
//! | 3 | [`forge`] | GitHub: merged pull requests and their diffs | domain, retry, untrusted |
//! | 2 | [`rollout`] | the state machine of one rollout, the fleet, the judge, the one loop | domain, plan, stats, rails |
//! | 1 | [`retry`] | a call to another server, tried again: how often, after which waits | - |
//! | 1 | [`stats`] | tallies in, evidence out | domain |
//! | 1 | [`rails`] | proposed verdict and case in; `Cleared` or objections out | domain |
//! | 1 | [`plan`] | checks from a diff; admission: a draft becomes a plan | domain |
//! | 1 | [`untrusted`] | strangers' text: secrets masked, the invisible made visible, markdown defused | domain |
//! | 0 | [`domain`] | the words: plain values | - |
//!
//! `tests/tidy.rs` holds this table and reads the sources to enforce it.
//!
//! # What holds everywhere
//! - Floors 0 to 2 decide: no I/O, clock, chance, async or hash order, and values rather than `Result`s.
//! - Actuators take only [`rails::Cleared`], which only the rails make.
//! - Absence is a value ([`domain::Absence`]) and never expands a rollout.
//! - What comes from outside is bounded where it enters, and a vendor's types stay in that vendor's file.

pub mod agent;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod domain;
pub mod eval;
pub mod forge;
pub mod journal;
pub mod plan;
pub mod rails;
pub mod retry;
pub mod rollout;
pub mod sim;
pub mod stats;
pub mod telemetry;
pub mod tools;
pub mod traffic;
pub mod untrusted;
pub mod web;
