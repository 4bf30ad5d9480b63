//! `export` and `restore`: a stopped daemon's journal as text, and back.

use std::{
    fs::File,
    io::{BufWriter, Write, stdout},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;

use crate::journal;

/// What was typed for `export`.
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// The journal's directory
    dir: PathBuf,
    /// Where to write; the terminal otherwise
    #[arg(long, short)]
    out: Option<PathBuf>,
}

/// What was typed for `restore`.
#[derive(Debug, clap::Args)]
pub(super) struct RestoreArgs {
    /// An export: JSON Lines
    #[arg(long)]
    from: PathBuf,
    /// The new journal's directory, which must be empty or not exist
    #[arg(long)]
    into: PathBuf,
}

pub(super) fn export(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let mut out: Box<dyn Write> = match &args.out {
        Some(path) => Box::new(File::create_new(path).with_context(|| format!("cannot write {}", path.display()))?),
        None => Box::new(stdout().lock()),
    };
    let mut buffered = BufWriter::new(&mut out);
    journal::export(&args.dir, &mut buffered)?;
    buffered.flush()?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn restore(args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    let report = journal::restore(&args.from, &args.into)?;
    println!("restored {} entries, {} to {}", report.entries, report.first_seq, report.last_seq);
    if let Some(snapshot) = report.snapshot {
        println!("the export begins with a snapshot after entry {snapshot}");
    }
    if report.torn_bytes > 0 {
        println!("its last line was torn and left out: {} bytes", report.torn_bytes);
    }
    Ok(ExitCode::SUCCESS)
}
