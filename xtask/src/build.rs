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

/// Whether a set of the runner, which is built, has a test whose name contains this. The runner fails when
/// nothing is selected, which under a filter is no failure: the name may be another part's.
pub(crate) fn selects_any(workspace: &Workspace, set: &str, filter: &str) -> Result<bool> {
    let mut command = workspace.command(workspace.release_binary(RUNNER));
    let names = shell::read(command.args(["--set", set, "--list"]))?;
    Ok(names.lines().any(|name| name.contains(filter)))
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
