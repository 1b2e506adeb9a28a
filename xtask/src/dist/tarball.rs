//! A tarball, for hosts with neither package manager: to be unpacked at the root.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{
    Release,
    stage::{Stage, Zsh},
};
use crate::shell;

pub(super) fn make(release: &Release<'_>, out: &Path) -> Result<PathBuf> {
    let name = format!("hvsampler-{}-x86_64-linux", release.version);
    let stage = Stage::fill(release, Zsh::Others, &out.join(&name))?;
    let package = out.join(format!("{name}.tar"));
    let mut tar = release.command("tar");
    tar.args(["--create", "--format=gnu", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg("--file").arg(&package).arg("--directory").arg(out).arg(&name);
    shell::quiet(&mut tar)?;
    // Without a name and a date in its head.
    shell::quiet(release.command("gzip").arg("-9n").arg(&package))?;
    fs::remove_dir_all(&stage.root)?;
    Ok(out.join(format!("{name}.tar.gz")))
}
