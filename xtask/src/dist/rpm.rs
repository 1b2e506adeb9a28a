//! The RPM, by rpmbuild.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    Release,
    stage::{CONFIG, Stage, Zsh},
};
use crate::shell;

const SPEC: &str = "xtask/packaging/rpm/hvsampler.spec";

pub(super) fn make(release: &Release<'_>, out: &Path) -> Result<PathBuf> {
    let top = out.join("rpm");
    let stage = Stage::fill(release, Zsh::Others, &top.join("tree"))?;
    let list = top.join("files");
    fs::write(&list, files(&stage)?)?;
    let mut build = release.command("rpmbuild");
    for (name, value) in [
        ("_topdir", top.as_os_str()),
        ("hvs_tree", stage.root.as_os_str()),
        ("hvs_files", list.as_os_str()),
        ("hvs_version", release.version.as_ref()),
    ] {
        build.arg("--define").arg(format!("{name} {}", value.to_string_lossy()));
    }
    build.args(["-bb", "--quiet", "--target", "x86_64"]).arg(release.workspace.root.join(SPEC));
    shell::quiet(&mut build)?;
    let name = format!("hvsampler-{}-1.x86_64.rpm", release.version);
    let package = out.join(&name);
    fs::rename(top.join("RPMS/x86_64").join(&name), &package).with_context(|| format!("finding {name}"))?;
    fs::remove_dir_all(top)?;
    Ok(package)
}

/// What the package owns, with mode and owner.
fn files(stage: &Stage) -> Result<String> {
    let mut list = String::from("%dir %attr(0755,root,root) /etc/hvsampler\n");
    for file in stage.files()? {
        let mode = fs::metadata(stage.root.join(&file))?.permissions().mode() & 0o7777;
        let path = file.to_string_lossy();
        let kind = match &*path {
            CONFIG => "%config(noreplace) ",
            doc if doc.starts_with("usr/share/doc/") => "%doc ",
            _ => "",
        };
        list += &format!("{kind}%attr({mode:04o},root,root) /{path}\n");
    }
    Ok(list)
}
