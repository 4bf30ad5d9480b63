//! `serve`: the daemon, until Ctrl-C or SIGTERM.

use std::{path::PathBuf, process::ExitCode};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{Config, LogFormat};

use super::assemble;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file
    #[arg(long, short, env = "TOLLGATE_CONFIG", default_value = "tollgate.toml")]
    config: PathBuf,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = match super::read_config(&args.config) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    log(&config);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let stopped = stop_signal();
    let listener = assemble::bind(config.listen).await?;
    let daemon = assemble::assemble(config, listener).await?;
    tracing::info!("listening on http://{}", daemon.address);
    tokio::select! {
        () = stopped => {
            tracing::info!("stopping");
            daemon.stop().await?;
            Ok(ExitCode::SUCCESS)
        }
        () = daemon.failed() => {
            daemon.stop().await?;
            anyhow::bail!("the loop ended by itself")
        }
    }
}

/// Logs go to stderr: stdout belongs to what a command was asked for.
fn log(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::new(&config.log.filter);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second subscriber in one process is refused; the first one stays.
    let _ = match config.log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// Ctrl-C, or the SIGTERM that a service manager sends. They are listened for from this call on, whenever the future is
/// awaited: one that comes during the start must neither be lost nor end the process with everything as it stands.
pub(super) fn stop_signal() -> impl Future<Output = ()> {
    let [mut interrupt, mut terminate] =
        [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).ok());
    async fn came(signal: &mut Option<Signal>) {
        match signal {
            // It ends only with the runtime.
            Some(signal) => drop(signal.recv().await),
            // Without a handler the system's own way of ending us is in force.
            None => std::future::pending().await,
        }
    }
    async move {
        tokio::select! {
            () = came(&mut interrupt) => {}
            () = came(&mut terminate) => {}
        }
    }
}
