//! The composition root: reads what was typed and hands it to one subcommand.

use std::process::ExitCode;

use clap::Parser;
use tollgate::cli;

fn main() -> ExitCode {
    // One TLS provider for the whole process, named before any client is built: two in one binary would panic.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    cli::run(cli::Cli::parse())
}
