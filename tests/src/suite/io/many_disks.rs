//! A guest with more disks than any other: each is counted apart.

use anyhow::{Context as _, ensure};
use hvsampler::model::DiskOperation;

use super::super::sampler;
use super::super::states::threads_of;
use super::disks::{Grouped, begin, of_disk, settle};
use crate::guest::Ending;
use crate::host::{Disk, dd};
use crate::runner::{Context, Outcome};

const DISKS: u64 = 64;
const READ: usize = DiskOperation::Read as usize;

/// From the first disk one block is read, from the second two, and so on.
pub(super) fn of_a_guest(context: &Context) -> anyhow::Result<Outcome> {
    let disks = (0..DISKS).map(|_| Disk::fast(context.directory())).collect::<anyhow::Result<Vec<_>>>()?;
    let one = Grouped::start(context, "many-disks")?;
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &threads_of(&one.guest))?;
    settle(&mut source)?;
    let began =
        disks.iter().map(|disk| begin(&mut source, &one, disk)).collect::<anyhow::Result<Vec<_>>>()?;
    for (n, disk) in (1..).zip(&disks) {
        let arguments = format!("if={} of=/dev/null bs=4k count={n} iflag=direct", disk.path().display());
        dd(Some(&one.group), &arguments)?;
    }
    settle(&mut source)?;
    let snapshot = source.snapshot()?;
    let mut missing = 0;
    for ((n, disk), began) in (1..).zip(&disks).zip(&began) {
        let counts = of_disk(&snapshot, one.guest.pid(), disk)
            .with_context(|| format!("disk {n} is missing: {}", disk.name()))?
            .since(began);
        let (reads, bytes) = (counts.operations[READ], counts.bytes[READ]);
        ensure!(reads <= n && bytes == reads << 12, "{n} blocks of disk {n}, by us {reads}, {bytes} bytes");
        missing += n - reads;
    }
    let stats = snapshot.sampler;
    // The kernel may skip one that ends in an interrupt, and says so.
    ensure!(missing <= stats.requests_missed, "{missing} missing, {} not reported", stats.requests_missed);
    ensure!(stats.requests_untracked == 0, "there was no room for {} requests", stats.requests_untracked);
    one.guest.end(Ending::Killed)?;
    Ok(Outcome::Passed(format!(
        "{DISKS} disks, each with what was asked of it; {missing} reads not reported"
    )))
}
