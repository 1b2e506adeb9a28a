//! Programs of the lab out of Debian packages: busybox for the initramfs, QEMU for the machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{apt::Suite, cache::Cache, shell, workspace::Workspace};

const BUSYBOX_SUITE: &str = "bookworm";
/// 10.0.2 there booted the lab every time; now and then a boot under bookworm's 7.2 stood still.
const QEMU_SUITE: &str = "bookworm-backports";
const QEMU_PACKAGES: [&str; 4] = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];
/// What a machine without network and display reads, out of the 90 MB of the packages.
const QEMU_FILES: [&str; 6] = [
    "usr/bin/qemu-system-x86_64",
    "usr/share/qemu/kvmvapic.bin",
    "usr/share/qemu/linuxboot.bin",
    "usr/share/qemu/linuxboot_dma.bin",
    "usr/share/seabios/bios-256k.bin",
    "usr/share/seabios/vgabios-stdvga.bin",
];

/// A statically linked busybox.
#[derive(Clone, Debug)]
pub(crate) struct Busybox {
    pub(crate) binary: PathBuf,
}

impl Busybox {
    fn folder(workspace: &Workspace) -> PathBuf {
        workspace.cache.path(format!("lab/busybox-{BUSYBOX_SUITE}"))
    }

    pub(crate) fn is_fetched(workspace: &Workspace) -> bool {
        Cache::holds(&Self::folder(workspace))
    }

    pub(crate) fn fetch(workspace: &Workspace) -> Result<Self> {
        let folder = Self::folder(workspace);
        Cache::filled(&folder, |staging| {
            let tree = staging.join("tree");
            Suite::open(workspace, BUSYBOX_SUITE)?.unpack(&["busybox-static".to_owned()], &tree)?;
            let binary = ["bin/busybox", "usr/bin/busybox"].map(|path| tree.join(path));
            let binary =
                binary.iter().find(|path| path.exists()).context("busybox-static holds no busybox")?;
            fs::copy(binary, staging.join("busybox"))?;
            Ok(fs::remove_dir_all(tree)?)
        })
        .context("fetching busybox")?;
        Ok(Self { binary: folder.join("busybox") })
    }

    /// The unpacked content of an xz file.
    pub(crate) fn unxz(&self, path: &Path) -> Result<Vec<u8>> {
        Ok(shell::quiet(Command::new(&self.binary).args(["xz", "-dc"]).arg(path))?.stdout)
    }
}

/// QEMU of the machine whose kernel is tested.
#[derive(Clone, Debug)]
pub(crate) struct Qemu {
    pub(crate) binary: PathBuf,
    firmware: Vec<PathBuf>,
    /// As it calls itself.
    pub(crate) version: String,
}

impl Qemu {
    fn folder(workspace: &Workspace) -> PathBuf {
        workspace.cache.path(format!("lab/qemu-{QEMU_SUITE}"))
    }

    pub(crate) fn is_fetched(workspace: &Workspace) -> bool {
        Cache::holds(&Self::folder(workspace))
    }

    /// The cached one where it runs, else the machine's own: the cached one is linked with
    /// bookworm's libraries, which come with bookworm's own QEMU.
    pub(crate) fn choose(workspace: &Workspace) -> Result<Self> {
        let folder = Self::folder(workspace);
        Cache::filled(&folder, |staging| fill(workspace, staging)).context("fetching QEMU")?;
        let firmware = ["usr/share/qemu", "usr/share/seabios"].map(|path| folder.join(path)).to_vec();
        Self::probe(folder.join("usr/bin/qemu-system-x86_64"), firmware).or_else(|error| {
            let own = Self::probe(inner_binary()?, Vec::new())?;
            println!("lab: the cached QEMU does not run here ({error:#}); taking {}", own.version);
            Ok(own)
        })
    }

    fn probe(binary: PathBuf, firmware: Vec<PathBuf>) -> Result<Self> {
        let said = shell::read(Command::new(&binary).arg("--version"))?;
        let version = said.lines().next().unwrap_or_default().to_owned();
        Ok(Self { binary, firmware, version })
    }

    /// The program, killed when xtask dies, with its firmware.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.binary);
        for folder in &self.firmware {
            command.arg("-L").arg(folder);
        }
        command
    }
}

/// QEMU as the build machine has it: what runs the guests inside.
pub(crate) fn inner_binary() -> Result<PathBuf> {
    shell::which("qemu-system-x86_64")
        .context("qemu-system-x86_64 is missing; `cargo xtask setup --lab` installs it")
}

fn fill(workspace: &Workspace, staging: &Path) -> Result<()> {
    let tree = staging.join("tree");
    Suite::open(workspace, QEMU_SUITE)?.unpack(&QEMU_PACKAGES.map(str::to_owned), &tree)?;
    for file in QEMU_FILES {
        let to = staging.join(file);
        fs::create_dir_all(to.parent().context("a file without folder")?)?;
        fs::copy(tree.join(file), to).with_context(|| format!("QEMU's packages hold no {file}"))?;
    }
    Ok(fs::remove_dir_all(tree)?)
}
