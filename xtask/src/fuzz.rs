//! `cargo xtask fuzz`: hostile inputs for as long as one likes, led by what code they reach.
//!
//! The targets are unit tests of the sampler, and so is what makes the inputs (`sampler/src/fuzzing`). Here
//! they are built once more with counters in the code. That takes no other compiler than the pinned stable.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{
    setup::{self, Purpose},
    shell,
    workspace::Workspace,
};

/// Given to cargo, so that build scripts and macros, which are the host's, are built without counters.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A counter for each edge, as `sampler/src/fuzzing/coverage.rs` expects them.
const COUNTERS: &str = "target.x86_64-unknown-linux-gnu.rustflags=['-Cpasses=sancov-module', \
                        '-Cllvm-args=-sanitizer-coverage-level=3', \
                        '-Cllvm-args=-sanitizer-coverage-inline-8bit-counters']";

/// Ten times as many inputs in the same time; what overflows is still found.
const OPTIMIZED: &str = "profile.dev.opt-level=2";

/// All dependencies are built once more: a place in the code is enough to know of them.
const SMALL: &str = "profile.dev.debug='line-tables-only'";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the targets whose name begins so; their names are those of the folders in `sampler/seeds`, and
    /// `btf`, `events`, `grpc`, `image`, `kept`, `model`, `netlink` and `records`.
    target: Option<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    setup::ensure(workspace, &[Purpose::Build])?;
    let mut command = tests(workspace);
    command.arg(format!("::fuzz::{}", args.target.as_deref().unwrap_or_default()));
    command.args(["--nocapture", "--test-threads=1"]).env("HVS_FUZZ_SECONDS", args.seconds.to_string());
    shell::run(&mut command)?;
    Ok(ExitCode::SUCCESS)
}

fn tests(workspace: &Workspace) -> Command {
    let mut cargo = workspace.stable();
    cargo.args(["test", "--locked", "--package", "hvsampler", "--lib", "--target", TARGET]);
    cargo.args(["--config", COUNTERS, "--config", OPTIMIZED, "--config", SMALL]);
    cargo.arg("--target-dir").arg(workspace.target.join("fuzz")).arg("--");
    cargo
}
