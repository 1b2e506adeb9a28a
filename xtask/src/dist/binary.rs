//! The binary of the packages: linked against an old C library, without paths of the machine that built it.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::sysroot;
use crate::{shell, workspace::Workspace};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Debian 11's.
const NEWEST_GLIBC: [u32; 2] = [2, 31];

/// Builds it. Fails when it needs a newer C library than it is to be linked against.
pub(super) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let sysroot = sysroot::fetch(workspace)?;
    let option = format!("--sysroot={}", sysroot.display());
    let mut flags: Vec<String> =
        link_options(&sysroot).chain([option.clone()]).map(|option| format!("-Clink-arg={option}")).collect();
    for (from, to) in own_paths(workspace)? {
        flags.push(format!("--remap-path-prefix={from}={to}"));
    }
    let mut cargo = workspace.stable();
    cargo
        .args(["build", "--locked", "--release", "--package", "hvsampler", "--target", TARGET])
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", flags.join(" "))
        .env("CFLAGS_x86_64_unknown_linux_gnu", option);
    shell::run(&mut cargo)?;
    let binary = workspace.target.join(TARGET).join("release/hvsampler");
    let mut readelf = workspace.command("readelf");
    let said = shell::read(readelf.args(["--version-info", "--wide"]).arg(&binary))?;
    let newest = newest_glibc(&said).context("the binary names no version of the C library")?;
    ensure!(newest <= NEWEST_GLIBC, "the binary needs glibc {newest:?}, newer than {NEWEST_GLIBC:?}");
    println!("dist: the binary needs glibc {}.{} or later", newest[0], newest[1]);
    Ok(binary)
}

/// gcc looks for libraries beside itself first, whatever the root is; these it looks at before that.
fn link_options(sysroot: &Path) -> impl Iterator<Item = String> {
    let libraries = sysroot.join("usr/lib/x86_64-linux-gnu");
    let others = sysroot.join("lib/x86_64-linux-gnu");
    [("-B", &libraries), ("-L", &libraries), ("-L", &others)]
        .map(|(option, folder)| format!("{option}{}", folder.display()))
        .into_iter()
}

/// Folders of this machine that would be in the binary, and what stands for them. The eBPF programs are built
/// by a script of their own: their debug information still has some.
fn own_paths(workspace: &Workspace) -> Result<Vec<(String, &'static str)>> {
    let home = env::home_dir().context("HOME is not set")?;
    let folder = |name: &str, own: &str| env::var_os(name).map_or_else(|| home.join(own), PathBuf::from);
    let paths = [
        (workspace.root.clone(), "/hvsampler"),
        (folder("CARGO_HOME", ".cargo"), "/cargo"),
        (folder("RUSTUP_HOME", ".rustup"), "/rustup"),
    ];
    Ok(paths.map(|(path, name)| (path.display().to_string(), name)).to_vec())
}

/// The newest `GLIBC_X.Y` among the versions that readelf lists.
fn newest_glibc(listed: &str) -> Option<[u32; 2]> {
    let versions = listed.split("GLIBC_").skip(1).filter_map(|rest| {
        let text: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let (major, minor) = text.split_once('.')?;
        Some([major.parse().ok()?, minor.split('.').next()?.parse().ok()?])
    });
    versions.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_found_by_number() {
        let listed = "  0x0010: Name: GLIBC_2.9  Flags: none  Version: 9\n  0x0020: Name: GLIBC_2.28  Flags\n\
                      0x0030: Name: GLIBC_2.2.5  Flags: none\n  0x40: Name: GLIBC_PRIVATE\n";
        assert_eq!(newest_glibc(listed), Some([2, 28]));
        assert_eq!(newest_glibc("Name: GCC_3.0"), None);
    }
}
