//! `cargo xtask soak`: the service for a long time, under guests that come and go and a collector on which
//! nobody can rely.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    build::{self, RUNNER},
    setup::{self, Purpose},
    stream,
    workspace::Workspace,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long it takes.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=2_800))]
    minutes: u32,
}

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    setup::ensure(workspace, &[Purpose::Build])?;
    build::binaries(workspace, true)?;
    let mut command = workspace.command(workspace.release_binary(RUNNER));
    command.args(["--set", "soak"]).env("HVS_SOAK_MINUTES", args.minutes.to_string());
    Ok(stream::runner(&mut command)?.exit_code())
}
