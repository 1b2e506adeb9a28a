//! Toolchains through rustup, tools through cargo.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::Need;
use crate::{cache::Cache, shell, workspace::Workspace};

/// The two toolchains and the linker of the eBPF programs.
pub(super) fn for_build(workspace: &Workspace) -> Result<Vec<Need<'_>>> {
    let pins = &workspace.pins;
    let toolchains: [(&str, &[&str], &str); 2] = [
        (&pins.rust, &["clippy", "rustfmt"], "builds everything that runs on the host"),
        (
            &pins.nightly,
            &["clippy", "rust-src"],
            "builds the eBPF programs, whose target has no ready-made core library",
        ),
    ];
    let mut needs = Vec::new();
    for (name, components, why) in toolchains {
        if !toolchain_has(workspace, name, components)? {
            needs.push(Need {
                what: format!("Rust toolchain {name} with {}", components.join(" and ")),
                why,
                install: Box::new(move || install_toolchain(workspace, name, components)),
            });
        }
    }
    needs.extend(tool(workspace, "bpf-linker", &pins.bpf_linker, "links the eBPF programs", &[]));
    Ok(needs)
}

/// What checks the dependencies.
pub(super) fn for_tidy(workspace: &Workspace) -> Option<Need<'_>> {
    let version = &workspace.pins.cargo_deny;
    // Its speed is of no matter here, and the optimiser would take most of the installation's time.
    tool(workspace, "cargo-deny", version, "checks licences and sources of the dependencies", &["--debug"])
}

fn toolchain_has(workspace: &Workspace, name: &str, components: &[&str]) -> Result<bool> {
    let mut command = rustup(workspace);
    command.args(["component", "list", "--installed", "--toolchain", name]);
    let output = command.output().with_context(|| format!("starting `{}`", shell::display(&command)))?;
    let listed = String::from_utf8_lossy(&output.stdout);
    let has =
        |component: &&str| listed.lines().any(|line| line == *component || is_for_a_host(line, component));
    Ok(output.status.success() && components.iter().all(has))
}

/// rustup appends the host's triple to components that depend on it.
fn is_for_a_host(line: &str, component: &str) -> bool {
    line.strip_prefix(component).is_some_and(|rest| rest.starts_with('-') && rest.matches('-').count() >= 3)
}

fn install_toolchain(workspace: &Workspace, name: &str, components: &[&str]) -> Result<()> {
    let mut command = rustup(workspace);
    command.args(["toolchain", "install", name, "--profile", "minimal", "--no-self-update"]);
    for component in components {
        command.args(["--component", component]);
    }
    shell::run(&mut command).with_context(|| {
        format!("toolchain {name} cannot be had; check the network or set RUSTUP_DIST_SERVER to a mirror that has it")
    })
}

fn tool<'a>(
    workspace: &'a Workspace,
    name: &'static str,
    version: &'a str,
    why: &'static str,
    options: &'static [&'static str],
) -> Option<Need<'a>> {
    let folder = match name {
        "bpf-linker" => workspace.bpf_linker(),
        _ => workspace.cargo_deny(),
    };
    (!Cache::holds(&folder)).then(|| Need {
        what: format!("{name} {version} into {}", folder.display()),
        why,
        install: Box::new(move || {
            Cache::filled(&folder, |root| install_tool(workspace, name, version, options, root))
        }),
    })
}

/// The user's own copy in ~/.cargo/bin may be another version and stays untouched.
fn install_tool(
    workspace: &Workspace,
    name: &str,
    version: &str,
    options: &[&str],
    root: &Path,
) -> Result<()> {
    let mut command = workspace.stable();
    command
        .args(["install", name, "--version", version, "--locked", "--quiet", "--root"])
        .arg(root)
        .args(options)
        // Objects of the tool do not belong among ours.
        .env_remove("CARGO_TARGET_DIR")
        // Debug information would be most of the bytes whose digest is checked at each use.
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .env("CARGO_PROFILE_DEV_STRIP", "true")
        .env("CARGO_PROFILE_RELEASE_STRIP", "true");
    shell::run(&mut command).with_context(|| {
        format!("{name} {version} cannot be installed; check the network and the cargo registry")
    })
}

/// rustup that installs only what we ask it to, so that everything was announced.
fn rustup(workspace: &Workspace) -> Command {
    let mut command = workspace.command("rustup");
    command.env("RUSTUP_AUTO_INSTALL", "0");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_of_another_name_is_not_taken_for_ours() {
        assert!(is_for_a_host("clippy-x86_64-unknown-linux-gnu", "clippy"));
        assert!(!is_for_a_host("rust-src", "rust"));
        assert!(!is_for_a_host("rust-std-x86_64-unknown-linux-gnu", "rust-src"));
    }
}
