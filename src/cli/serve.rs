//! `serve`: the daemon, until Ctrl-C or SIGTERM.

use std::{path::PathBuf, process::ExitCode};

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
    let listener = assemble::bind(config.listen).await?;
    let daemon = assemble::assemble(config, listener).await?;
    tracing::info!("listening on http://{}", daemon.address);
    tokio::select! {
        () = stop_signal() => {
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

/// Ctrl-C, or the SIGTERM that a service manager sends.
pub(super) async fn stop_signal() {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate => {}
    }
}
