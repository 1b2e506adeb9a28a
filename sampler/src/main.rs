//! The `hvsampler` command.

use std::process::ExitCode;

use clap::Parser as _;
use hvsampler::{cli::Cli, command};

fn main() -> ExitCode {
    command::dispatch(&Cli::parse()).unwrap_or_else(|error| {
        eprint!("{}", command::complaint(&error));
        ExitCode::FAILURE
    })
}
