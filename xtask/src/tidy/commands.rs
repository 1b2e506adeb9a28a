//! What cargo and its tools judge.

use std::process::Command;

use crate::workspace::Workspace;

pub(super) fn fmt(workspace: &Workspace) -> Command {
    let mut command = workspace.stable();
    command.args(["fmt", "--all", "--check"]);
    command
}

pub(super) fn clippy(workspace: &Workspace) -> Command {
    let mut command = workspace.stable();
    command.args(["clippy", "--locked", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    command
}

/// The programs build for the BPF target alone, so clippy on the host never sees them.
pub(super) fn clippy_ebpf(workspace: &Workspace) -> Command {
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

pub(super) fn doc(workspace: &Workspace) -> Command {
    let mut command = workspace.stable();
    command
        .args(["doc", "--locked", "--quiet", "--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings");
    command
}

pub(super) fn deny(workspace: &Workspace) -> Command {
    let mut command = workspace.command("cargo-deny");
    command
        .args(["--log-level", "error", "check", "bans", "licenses", "sources"])
        // It asks cargo for the dependency graph; another version could not read the manifest.
        .env("RUSTUP_TOOLCHAIN", &workspace.pins.rust);
    command
}
