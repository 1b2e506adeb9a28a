//! A disk that nobody else uses.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, ensure};

use super::in_lab;
use crate::oracle::{Controller, Group, Hierarchy};

/// Size of a loop device.
const SIZE: u64 = 64 << 20;

/// A disk. One that was made is taken away with it.
#[derive(Debug)]
pub(crate) struct Disk {
    name: String,
    /// The file behind a loop device.
    file: Option<PathBuf>,
    /// Held while the disk is used: udev leaves a disk alone that somebody has locked.
    _lock: File,
}

impl Disk {
    /// The lab's disk with a serial number.
    pub(crate) fn of_lab(serial: &str) -> anyhow::Result<Self> {
        for disk in fs::read_dir("/sys/block")? {
            let disk = disk?;
            let found = fs::read_to_string(disk.path().join("serial")).unwrap_or_default();
            if found.trim() == serial {
                return Self::of(disk.file_name().to_string_lossy().into_owned(), None);
            }
        }
        anyhow::bail!("the lab's disk {serial} is missing")
    }

    /// One that is fast: the lab's, or a loop device over a file in this directory.
    pub(crate) fn fast(directory: &Path) -> anyhow::Result<Self> {
        if in_lab() { Self::of_lab("hvs-fast") } else { Self::over_file(directory) }
    }

    fn over_file(directory: &Path) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = directory.join(format!("hvsampler-disk-{}-{number}", std::process::id()));
        File::create(&file)?.set_len(SIZE)?;
        let made =
            Command::new("losetup").args(["--find", "--show", "--direct-io=on"]).arg(&file).output()?;
        ensure!(made.status.success(), "losetup: {}", String::from_utf8_lossy(&made.stderr));
        let path = String::from_utf8(made.stdout)?;
        let name = path.trim().strip_prefix("/dev/").context("losetup names no device")?;
        Self::of(name.to_owned(), Some(file))
    }

    fn of(name: String, file: Option<PathBuf>) -> anyhow::Result<Self> {
        let lock = File::open(Path::new("/dev").join(&name))?;
        lock.lock()?;
        Ok(Self { name, file, _lock: lock })
    }

    /// What the kernel calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its file.
    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// Its numbers, `major:minor`.
    pub(crate) fn numbers(&self) -> anyhow::Result<String> {
        Ok(self.attribute("dev")?.trim().to_owned())
    }

    /// Something that the kernel says of it.
    pub(crate) fn attribute(&self, name: &str) -> anyhow::Result<String> {
        Ok(fs::read_to_string(Path::new("/sys/block").join(&self.name).join(name))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let gone = Command::new("losetup").arg("--detach").arg(self.path()).status();
            if !gone.is_ok_and(|status| status.success()) {
                eprintln!("a loop device is left over: {}", self.path().display());
            }
            drop(fs::remove_file(file));
        }
    }
}

/// Runs `dd` in a group; with none in the root of the io controller, wherever this process is.
pub(crate) fn dd(group: Option<&Group>, arguments: &str) -> anyhow::Result<()> {
    let group = match group {
        Some(group) => group.path().to_owned(),
        None => Hierarchy::find(Controller::Io)?.root().to_owned(),
    };
    let command = format!("echo $$ > {}/cgroup.procs && exec dd {arguments} 2>&1", group.display());
    let done = Command::new("sh").arg("-c").arg(&command).output()?;
    ensure!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stdout));
    Ok(())
}
