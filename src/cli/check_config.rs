//! `check-config`: says OK, or everything that is wrong at once. It starts nothing, and asks nobody unless it is told to
//! (`--online`).

mod online;
mod sources;

use std::{path::PathBuf, process::ExitCode};

use crate::config;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file
    #[arg(default_value = "tollgate.toml")]
    file: PathBuf,
    /// Also ask the model, GitHub, each page of metrics and each source once, and say what is wrong with each
    #[arg(long)]
    online: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let read = config::load(&args.file, &super::environment);
    let told = config::check(&read, &args.file.display().to_string());
    let Ok(config) = read else {
        eprint!("{told}");
        return Ok(ExitCode::from(super::BAD_CONFIG));
    };
    print!("{told}");
    if !args.online {
        return Ok(ExitCode::SUCCESS);
    }
    let findings = online::look(&config).await;
    print!("{}", online::render(&findings));
    let is_fine = !findings.iter().any(|finding| finding.state == online::State::Failed);
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
