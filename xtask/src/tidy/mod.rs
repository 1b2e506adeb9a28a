//! `cargo xtask tidy`: what can be judged without running the product.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{
    setup::{self, Purpose},
    shell,
    tally::Tally,
    workspace::Workspace,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Let rustfmt and clippy change the code.
    #[arg(long)]
    fix: bool,
}

struct Check {
    name: &'static str,
    command: fn(&Workspace) -> Command,
}

const CHECKS: [Check; 5] = [
    Check { name: "tidy::fmt", command: fmt },
    Check { name: "tidy::clippy", command: clippy },
    Check { name: "tidy::clippy-ebpf", command: clippy_ebpf },
    Check { name: "tidy::doc", command: doc },
    Check { name: "tidy::deny", command: deny },
];

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    setup::ensure(workspace, &[Purpose::Build, Purpose::Tidy])?;
    if args.fix {
        fix(workspace)?;
    }
    let tally = checks(workspace);
    println!("{tally}");
    Ok(tally.exit_code())
}

/// Runs every check and prints a line for each, as the tests do.
pub(crate) fn checks(workspace: &Workspace) -> Tally {
    let mut tally = Tally::default();
    for check in CHECKS {
        tally += Tally::of(check.name, shell::run(&mut (check.command)(workspace)));
    }
    tally
}

fn fix(workspace: &Workspace) -> Result<()> {
    let mut clippy = workspace.stable();
    clippy.args(["clippy", "--fix", "--allow-dirty", "--allow-staged", "--workspace", "--all-targets"]);
    shell::run(&mut clippy)?;
    shell::run(workspace.stable().args(["fmt", "--all"]))
}

fn fmt(workspace: &Workspace) -> Command {
    let mut command = workspace.stable();
    command.args(["fmt", "--all", "--check"]);
    command
}

fn clippy(workspace: &Workspace) -> Command {
    let mut command = workspace.stable();
    command.args(["clippy", "--locked", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    command
}

/// The programs build for the BPF target alone, so clippy on the host never sees them.
fn clippy_ebpf(workspace: &Workspace) -> Command {
    let mut command = workspace.cargo(&workspace.pins.nightly);
    command
        .args([
            "clippy",
            "--locked",
            "--quiet",
            "--package",
            "sampler-ebpf",
            "--bins",
            "--features",
            "programs",
        ])
        .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core", "--", "-D", "warnings"])
        .env("CARGO_TARGET_DIR", workspace.target.join("clippy-ebpf"))
        .env("RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH));
    command
}

fn doc(workspace: &Workspace) -> Command {
    let mut command = workspace.stable();
    command
        .args(["doc", "--locked", "--quiet", "--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings");
    command
}

fn deny(workspace: &Workspace) -> Command {
    let mut command = workspace.command("cargo-deny");
    command
        .args(["--log-level", "error", "check", "bans", "licenses", "sources"])
        // It asks cargo for the dependency graph; another version could not read the manifest.
        .env("RUSTUP_TOOLCHAIN", &workspace.pins.rust);
    command
}
