//! `cargo xtask bless`: rewrites the golden files from what the code prints now.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    setup::{self, Purpose},
    shell,
    workspace::Workspace,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains this.
    filter: Option<String>,
}

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    setup::ensure(workspace, &[Purpose::Build])?;
    let mut cargo = workspace.stable();
    cargo.args(["test", "--locked", "--workspace"]).args(&args.filter).env("HVS_BLESS", "1");
    shell::run(&mut cargo)?;
    println!("bless: golden files are as the code prints now; read `git diff` before you commit");
    Ok(ExitCode::SUCCESS)
}
