//! Debian's package, by dpkg-deb.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    Release,
    stage::{CONFIG, Stage, Zsh},
};
use crate::shell;

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

pub(super) fn make(release: &Release<'_>, out: &Path) -> Result<PathBuf> {
    let stage = Stage::fill(release, Zsh::Debian, &out.join("deb"))?;
    control(release, &stage)?;
    let package = out.join(format!("hvsampler_{}_amd64.deb", release.version));
    // xz, as Debian 11 reads no other that is as small; one thread, for blocks of several are others.
    let mut build = release.command("dpkg-deb");
    build.args(["--root-owner-group", "-Zxz", "--build"]).arg(&stage.root).arg(&package);
    shell::quiet(build.env("DPKG_DEB_THREADS_MAX", "1"))?;
    fs::remove_dir_all(&stage.root)?;
    Ok(package)
}

fn control(release: &Release<'_>, stage: &Stage) -> Result<()> {
    let files = stage.files()?;
    let mut sums = release.command("md5sum");
    let sums = shell::read(sums.arg("--").args(files).current_dir(&stage.root))?;
    let folder = stage.root.join("DEBIAN");
    fs::create_dir(&folder)?;
    let write = |name: &str, content: &[u8], mode: u32| -> Result<()> {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(fs::set_permissions(path, Permissions::from_mode(mode))?)
    };
    write("control", record(&release.version, size_kib(stage)?).as_bytes(), 0o644)?;
    write("conffiles", format!("/{CONFIG}\n").as_bytes(), 0o644)?;
    write("md5sums", sums.as_bytes(), 0o644)?;
    for name in SCRIPTS {
        let script = fs::read(release.workspace.root.join("xtask/packaging/deb").join(name))?;
        write(name, &script, 0o755)?;
    }
    stage.date(release)
}

/// The libc is that of Debian 11, which the binary is built against.
fn record(version: &str, size_kib: u64) -> String {
    format!(
        "Package: hvsampler\n\
         Version: {version}\n\
         Architecture: amd64\n\
         Maintainer: the hvsampler developers\n\
         Installed-Size: {size_kib}\n\
         Depends: libc6 (>= 2.31), libgcc-s1\n\
         Section: admin\n\
         Priority: optional\n\
         Description: eBPF kernel-side hypervisor sampler\n \
         Says of each virtual CPU of each KVM guest on a host what it gets and what it is\n \
         denied, and exports it as OTLP metrics. Nothing is installed in a guest.\n"
    )
}

fn size_kib(stage: &Stage) -> Result<u64> {
    let sizes = stage.files()?.into_iter().map(|file| Ok(fs::metadata(stage.root.join(file))?.len()));
    let sizes = sizes.collect::<Result<Vec<u64>>>()?;
    Ok(sizes.into_iter().map(|size| size.div_ceil(1024)).sum())
}
