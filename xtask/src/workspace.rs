//! Where things are, and the environment that child processes get.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{cache::Cache, pins::Pins};

/// One checkout with its pins, its target directory and the user's cache.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) pins: Pins,
    pub(crate) cache: Cache,
}

impl Workspace {
    pub(crate) fn open() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the xtask crate has no parent directory")?
            .to_path_buf();
        // cargo put this very binary at TARGET/PROFILE/xtask, whichever configuration chose TARGET.
        let own = env::current_exe().context("finding the path of xtask itself")?;
        let target = own.ancestors().nth(2).context("xtask is not inside a target directory")?.to_path_buf();
        Ok(Self { pins: Pins::read(&root)?, cache: Cache::of_user()?, root, target })
    }

    /// A program with our tools first on its path, in the root of the checkout.
    pub(crate) fn command(&self, program: impl Into<OsString>) -> Command {
        let mut command = Command::new(program.into());
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(belongs_to_the_calling_cargo) {
                command.env_remove(name);
            }
        }
        if let Some(path) = self.library_path() {
            command.env("LD_LIBRARY_PATH", path);
        }
        command.env("PATH", self.search_path());
        command
    }

    /// cargo of the named toolchain.
    pub(crate) fn cargo(&self, toolchain: &str) -> Command {
        let mut command = self.command("rustup");
        command.args(["run", toolchain, "cargo"]);
        command
    }

    /// cargo of the pinned stable.
    pub(crate) fn stable(&self) -> Command {
        self.cargo(&self.pins.rust)
    }

    /// The version of all crates.
    pub(crate) fn version(&self) -> Result<String> {
        let path = self.root.join("Cargo.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let table: toml::Table = text.parse().with_context(|| format!("in {}", path.display()))?;
        let version = || table.get("workspace")?.get("package")?.get("version")?.as_str();
        Ok(version().context("workspace.package.version is not a string")?.to_owned())
    }

    /// A binary of this workspace in the release profile, built or not.
    pub(crate) fn release_binary(&self, name: &str) -> PathBuf {
        self.target.join("release").join(name)
    }

    fn search_path(&self) -> OsString {
        let own = [self.bpf_linker(), self.cargo_deny()].map(|tool| tool.join("bin"));
        let inherited = env::var_os("PATH").unwrap_or_default();
        let all = own.into_iter().chain(env::split_paths(&inherited));
        env::join_paths(all).unwrap_or(inherited)
    }

    /// The library path without what `cargo run` put in front of it: another toolchain's
    /// libraries there would be found before the ones that the pinned compiler brought.
    fn library_path(&self) -> Option<OsString> {
        let inherited = env::var_os("LD_LIBRARY_PATH")?;
        let kept = env::split_paths(&inherited).filter(|entry| {
            !entry.starts_with(&self.target)
                && !entry.components().any(|part| part.as_os_str() == "toolchains")
        });
        env::join_paths(kept).ok()
    }

    /// Install root of the pinned bpf-linker.
    pub(crate) fn bpf_linker(&self) -> PathBuf {
        self.cache.path(format!("tools/bpf-linker-{}-rust-{}", self.pins.bpf_linker, self.pins.rust))
    }

    /// Install root of the pinned cargo-deny.
    pub(crate) fn cargo_deny(&self) -> PathBuf {
        self.cache.path(format!("tools/cargo-deny-{}", self.pins.cargo_deny))
    }
}

/// `cargo run` describes the package it runs in variables, from which the pinned cargo would
/// conclude that it is the calling one, of another version.
fn belongs_to_the_calling_cargo(name: &str) -> bool {
    const NAMES: [&str; 11] = [
        "CARGO",
        "CARGO_MAKEFLAGS",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "CARGO_PRIMARY_PACKAGE",
        "MAKEFLAGS",
        "OUT_DIR",
        "RUSTC",
        "RUSTDOC",
        "RUSTUP_TOOLCHAIN",
        "RUST_RECURSION_COUNT",
    ];
    NAMES.contains(&name) || name.starts_with("CARGO_PKG_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_user_reach_the_children() {
        for kept in ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_TARGET_DIR", "RUSTFLAGS", "RUSTUP_HOME"] {
            assert!(!belongs_to_the_calling_cargo(kept), "{kept}");
        }
        for removed in ["CARGO", "CARGO_PKG_NAME", "RUSTUP_TOOLCHAIN", "RUSTC"] {
            assert!(belongs_to_the_calling_cargo(removed), "{removed}");
        }
    }
}
