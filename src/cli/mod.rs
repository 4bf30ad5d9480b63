//! One file a subcommand.
//!
//! Exit codes: 0 done, 1 failed, 2 mistyped, 64 bad configuration, 130 stopped by Ctrl-C before the end.

mod assemble;
mod backtest;
mod calibrate;
mod check_config;
pub mod client;
pub mod command;
pub mod demo;
mod journal;
mod metrics;
mod plan;
mod serve;
pub mod status;
pub mod watch;

use std::{path::Path, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::config::{self, Config};

/// Exit code for a bad configuration, as in `sysexits.h`.
const BAD_CONFIG: u8 = 64;

/// A supervisor for progressive rollouts: evidence is the toll.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a good and a bad change being rolled out, with real requests, on this machine alone
    Demo(demo::Args),
    /// Run the daemon
    Serve(serve::Args),
    /// Print the checks that a diff or a pull request would get, and why
    Plan(plan::Args),
    /// Show what Tollgate would have done on past deploys, from the metrics that are kept of them; nothing is moved
    Backtest(backtest::Args),
    /// Say whether a configuration is right, or everything that is wrong with it
    CheckConfig(check_config::Args),
    /// Look up what a service's metrics are
    Metrics(metrics::Args),
    /// Show the rollouts of a running daemon
    Status(status::Args),
    /// Follow a running daemon
    Watch(watch::Args),
    /// Measure false rollbacks and delays of the tests and their rivals on drawn rollouts
    Calibrate(calibrate::Args),
    /// Write a stopped daemon's journal as JSON Lines
    Export(journal::ExportArgs),
    /// Build a journal from an export
    Restore(journal::RestoreArgs),
    #[command(flatten)]
    Order(command::Order),
}

/// A variable of the environment, which is where secrets come from.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads a configuration, or says everything that is wrong with it and gives the exit code.
fn read_config(path: &Path) -> Result<Config, ExitCode> {
    let read = config::load(path, &environment);
    if read.is_err() {
        eprint!("{}", config::check(&read, &path.display().to_string()));
    }
    read.map_err(|_| ExitCode::from(BAD_CONFIG))
}

/// Runs what was typed.
pub fn run(cli: Cli) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("failed to start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        match cli.command {
            Command::Demo(args) => demo::run(args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Plan(args) => plan::run(args).await,
            Command::Backtest(args) => backtest::run(args).await,
            Command::CheckConfig(args) => check_config::run(args).await,
            Command::Metrics(args) => metrics::run(args).await,
            Command::Status(args) => status::run(args).await,
            Command::Watch(args) => watch::run(args).await,
            Command::Calibrate(args) => calibrate::run(&args),
            Command::Export(args) => journal::export(&args),
            Command::Restore(args) => journal::restore(&args),
            Command::Order(order) => command::run(command::Args { order }).await,
        }
    });
    // Tasks that still run (a scrape, an open stream) have nothing left to say.
    runtime.shutdown_background();
    done.unwrap_or_else(|error| {
        eprintln!("tollgate: {error:#}");
        ExitCode::FAILURE
    })
}
