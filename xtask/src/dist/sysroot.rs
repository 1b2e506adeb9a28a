//! Debian 11's C library, to link against: a binary runs where the libc is as old as the one that it was
//! linked with, or newer.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{apt::Suite, cache::Cache, workspace::Workspace};

const SUITE: &str = "bullseye";
/// `gcc-10-base` has the licence of `libgcc-s1`.
const PACKAGES: [&str; 5] = ["gcc-10-base", "libc6", "libc6-dev", "libgcc-s1", "linux-libc-dev"];
/// Counts up with what is in the folder.
const EDITION: u32 = 2;

/// Where it is, fetched if it was not.
pub(super) fn fetch(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.cache.path(format!("sysroot-{SUITE}-{EDITION}"));
    Cache::filled(&folder, |staging| {
        Suite::open(workspace, SUITE)?.unpack(&PACKAGES.map(str::to_owned), staging)?;
        turn_links(staging, staging)
    })
    .with_context(|| format!("fetching the C library of Debian's {SUITE}"))?;
    Ok(folder)
}

/// Links that begin at the root would lead to the libraries of this machine.
fn turn_links(root: &Path, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            turn_links(root, &path)?;
        } else if kind.is_symlink()
            && let Ok(target) = fs::read_link(&path)?.strip_prefix("/")
        {
            let depth = folder.strip_prefix(root)?.components().count();
            fs::remove_file(&path)?;
            symlink(PathBuf::from("../".repeat(depth)).join(target), &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use super::*;

    #[test]
    fn links_stay_inside() {
        let root = env::temp_dir().join(format!("xtask-sysroot-{}", process::id()));
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        for (target, link) in [("/lib/libm.so.6", "usr/lib/libm.so"), ("libm.so", "usr/lib/m"), ("/lib", "l")]
        {
            symlink(target, root.join(link)).unwrap();
        }
        turn_links(&root, &root).unwrap();
        let target = |link: &str| fs::read_link(root.join(link)).unwrap();
        assert_eq!(target("usr/lib/libm.so"), Path::new("../../lib/libm.so.6"));
        assert_eq!(target("usr/lib/m"), Path::new("libm.so"));
        assert_eq!(target("l"), Path::new("lib"));
        fs::remove_dir_all(&root).unwrap();
    }
}
