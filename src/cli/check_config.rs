//! `check-config`: says OK, or everything that is wrong at once. It starts nothing and asks nobody.

use std::{path::PathBuf, process::ExitCode};

use crate::config;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file
    #[arg(default_value = "tollgate.toml")]
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (text, is_right) = config::check(&args.file);
    if is_right {
        println!("{text}");
        Ok(ExitCode::SUCCESS)
    } else {
        eprintln!("{text}");
        Ok(ExitCode::from(super::BAD_CONFIG))
    }
}
