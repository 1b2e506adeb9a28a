//! The shared libraries that a binary runs with, out of a tree that packages were unpacked into.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::Release;
use crate::shell;

/// What loads the others; binaries have its path.
const LOADER: &str = "ld-linux-x86-64.so.2";
/// What the C library loads by name where names of hosts are looked up. From glibc 2.34 on it has all of it.
const LOADED_BY_NAME: [&str; 3] = ["libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"];
/// Where libraries are, below the tree.
const FOLDERS: [&str; 3] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64"];

/// Where each is in the tree, by where it is to be.
pub(super) fn of(release: &Release<'_>, binary: &Path, tree: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let find =
        |name: &str| FOLDERS.iter().map(|folder| tree.join(folder).join(name)).find(|path| path.exists());
    let mut found = BTreeMap::new();
    let by_name = LOADED_BY_NAME.into_iter().filter(|name| find(name).is_some());
    let mut wanted: Vec<String> = by_name.chain([LOADER]).map(str::to_owned).collect();
    wanted.extend(needed(release, binary)?);
    while let Some(name) = wanted.pop() {
        let to = target(&name);
        if !found.contains_key(&to) {
            let path = find(&name).with_context(|| format!("{} has no {name}", tree.display()))?;
            wanted.extend(needed(release, &path)?);
            found.insert(to, path);
        }
    }
    Ok(found)
}

fn target(name: &str) -> String {
    match name {
        LOADER => format!("lib64/{name}"),
        _ => format!("{}/{name}", FOLDERS[0]),
    }
}

/// The names of those that a binary or library names itself.
fn needed(release: &Release<'_>, file: &Path) -> Result<Vec<String>> {
    let mut readelf = release.command("readelf");
    Ok(parse(&shell::read(readelf.args(["--dynamic", "--wide"]).arg(file))?))
}

fn parse(listed: &str) -> Vec<String> {
    let name = |line: &str| {
        let (_, rest) = line.split_once("(NEEDED)")?;
        Some(rest.split_once('[')?.1.split_once(']')?.0.to_owned())
    };
    listed.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_named_line_by_line() {
        let listed = " 0x1 (NEEDED)             Shared library: [libgcc_s.so.1]\n 0xc (INIT)  0x1000\n \
                      0x1 (NEEDED)             Shared library: [ld-linux-x86-64.so.2]\n";
        assert_eq!(parse(listed), ["libgcc_s.so.1", LOADER]);
        assert_eq!(target(LOADER), "lib64/ld-linux-x86-64.so.2");
        assert_eq!(target("libm.so.6"), "lib/x86_64-linux-gnu/libm.so.6");
    }
}
