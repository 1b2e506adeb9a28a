//! `cargo xtask build`: the sampler, its eBPF programs inside, and the test programs.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    setup::{self, Purpose},
    shell,
    workspace::Workspace,
};

/// The binary that runs the tests which need privileges or guests.
pub(crate) const RUNNER: &str = "sampler-tests";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The debug profile instead of release.
    #[arg(long)]
    debug: bool,
}

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    setup::ensure(workspace, &[Purpose::Build])?;
    binaries(workspace, !args.debug)?;
    Ok(ExitCode::SUCCESS)
}

/// Builds every binary that an operator or a test runs.
pub(crate) fn binaries(workspace: &Workspace, release: bool) -> Result<()> {
    let mut cargo = workspace.stable();
    cargo.args(["build", "--locked", "--package", "hvsampler", "--package", "sampler-tests"]);
    if release {
        cargo.arg("--release");
    }
    shell::run(&mut cargo)
}
