//! The composition root: reads what was typed and hands it to one subcommand.

use std::process::ExitCode;

use clap::Parser;
use tollgate::cli;

/// How the standard library words a write to a reader that has gone, such as `head`.
const READER_GONE: &str = "failed printing to stdout: Broken pipe";
/// What a shell takes for an end by a closed pipe.
const ENDED_BY_PIPE: i32 = 141;

fn main() -> ExitCode {
    end_quietly_without_a_reader();
    // One TLS provider for the whole process, named before any client is built: two in one binary would panic.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    cli::run(cli::Cli::parse())
}

/// `tollgate plan | head -1` closes our output: that is no fault of anyone's and ends without a word.
fn end_quietly_without_a_reader() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str().is_some_and(|words| words.starts_with(READER_GONE)) {
            std::process::exit(ENDED_BY_PIPE);
        }
        told(panic);
    }));
}
