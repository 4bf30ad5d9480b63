//! `check-config`: says OK, or everything that is wrong at once. It starts nothing and asks nobody.

use std::{path::PathBuf, process::ExitCode};

use crate::config;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file
    #[arg(default_value = "tollgate.toml")]
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let read = config::load(&args.file, &super::environment);
    let told = config::check(&read, &args.file.display().to_string());
    if read.is_ok() {
        print!("{told}");
        Ok(ExitCode::SUCCESS)
    } else {
        eprint!("{told}");
        Ok(ExitCode::from(super::BAD_CONFIG))
    }
}
