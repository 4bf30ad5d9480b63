//! One file a subcommand.

pub mod client;
pub mod command;
pub mod status;
pub mod watch;
