//! Devices of the host in a guest's hands: each is named, with where it is counted or why it is not.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use hvsampler::model::{Attached, AttachedKind, Unseen};
use hvsampler::source::{Question, Source as _};

use super::super::sampler;
use super::super::states::threads_of;
use super::disks::{Grouped, is_listed, settle};
use crate::guest::Ending;
use crate::host::{Disk, inherit};
use crate::runner::{Context, Outcome};

/// A device that works on bios makes no requests, and says so in the list and in snapshots; one beside it is
/// counted.
pub(super) fn by_device(context: &Context) -> anyhow::Result<Outcome> {
    let (counted, on_bios) = (Disk::fast(context.directory())?, Zram::add()?);
    let held = [open(&counted.path())?, open(&on_bios.path())?];
    let grouped = Grouped::start(context, "holds")?;
    // Nobody else is to have them.
    drop(held);
    let pid = grouped.guest.pid();
    let disk = |path: &Path, seen_at, unseen| Attached {
        kind: AttachedKind::Disk,
        path: path.display().to_string(),
        seen_at,
        unseen,
    };
    let expected = [
        disk(&counted.path(), vec![counted.name().to_owned()], None),
        disk(&on_bios.path(), Vec::new(), Some(Unseen::NoRequests)),
    ];
    for device in &expected {
        is_listed(pid, device)?;
    }
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &threads_of(&grouped.guest))?;
    let ask = source.answerer();
    for vm in source.vms() {
        source.answer(ask(Question::Devices(vm)));
    }
    settle(&mut source)?;
    let snapshot = source.snapshot()?;
    let vm = snapshot.vms.iter().find(|vm| vm.origin.pid() == Some(pid)).context("the guest is missing")?;
    ensure!(expected.iter().all(|device| vm.attached.contains(device)), "{:?}", vm.attached);
    grouped.guest.end(Ending::Killed)?;
    Ok(Outcome::Passed(format!("{} is counted, and {} is not", expected[0].path, expected[1].path)))
}

/// A device that processes which start from now on have open.
fn open(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    inherit(&file, true)?;
    Ok(file)
}

/// A block device in compressed memory, which nobody else uses.
struct Zram(String);

impl Zram {
    fn add() -> anyhow::Result<Self> {
        let number = fs::read_to_string("/sys/class/zram-control/hot_add")?.trim().to_owned();
        let zram = Self(number);
        fs::write(format!("/sys/block/zram{}/disksize", zram.0), "16M")?;
        Ok(zram)
    }

    fn path(&self) -> PathBuf {
        Path::new("/dev").join(format!("zram{}", self.0))
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        if let Err(error) = fs::write("/sys/class/zram-control/hot_remove", &self.0) {
            eprintln!("{} is left over: {error}", self.path().display());
        }
    }
}
