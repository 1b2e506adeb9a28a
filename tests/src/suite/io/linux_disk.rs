//! A Linux guest in QEMU writes and reads its disk, which is one of the host's.

use anyhow::{Context as _, ensure};
use hvsampler::model::{Attached, AttachedKind, DiskCounts};
use hvsampler::source::Kvm;

use super::super::linux_guest::{LinuxGuest, LinuxGuestConfig};
use super::super::sampler;
use super::disks::{FLUSH, LIMIT_LINUX, READ, WRITE, begin_of, counts, is_listed, settle, still};
use crate::host::Disk;
use crate::oracle::{Controller, Diskstats, Group, Hierarchy, io_counts};
use crate::runner::{Context, Outcome};

/// Bytes that it writes, and reads again.
const BYTES: u64 = 200 << 16;
/// What a sector of `stat` stands for.
const SECTOR: u64 = 512;

/// What the guest asked for is what was counted, what its control group counts, and what the disk has served.
pub(super) fn of_a_linux_guest(_: &Context) -> anyhow::Result<Outcome> {
    let disk = Disk::of_lab("hvs-fast")?;
    ensure!(disk.name() == "vda", "the guest's QEMU is given vda, the disk is {}", disk.name());
    let config = LinuxGuestConfig {
        name: "writes-and-reads".into(),
        uuid: None,
        vcpus: 1,
        does: "disk=200 stat=0",
        devices: &["-drive", "file=/dev/vda,format=raw,if=virtio,cache=none"],
    };
    let mut guest = LinuxGuest::start(&[config])?.pop().context("no guest")?;
    // It waits some seconds before it begins: all is prepared while it stands still.
    guest.set_stopped(true)?;
    let group = Group::create(Hierarchy::find(Controller::Io)?)?;
    group.add_process(guest.pid())?;
    let device = Attached {
        kind: AttachedKind::Disk,
        path: "/dev/vda".into(),
        seen_at: vec!["vda".into()],
        unseen: None,
    };
    is_listed(guest.pid(), &device)?;
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &guest.threads())?;
    settle(&mut source)?;
    begin_of(&mut source, (guest.pid(), &group), &disk)?;
    let (before, served_before) = rest(&mut source, &guest, &disk)?;
    let of_group_before = io_counts(&group, &disk.numbers()?)?;

    guest.set_stopped(false)?;
    let first = guest.wait_for(LIMIT_LINUX, asked)?;
    let last = guest.wait_for(LIMIT_LINUX, asked)?;
    let (after, served) = rest(&mut source, &guest, &disk)?;

    let (counted, served) = (after.since(&before), served.since(&served_before));
    let asked = [last[0] - first[0], last[1] - first[1]];
    ensure!(asked == [BYTES, BYTES], "the guest asked for {asked:?} bytes");
    ensure!(counted.bytes[..2] == asked, "{counted:?}, the guest asked for {asked:?} bytes");
    ensure!([served.reads.bytes, served.writes.bytes] == asked, "the disk has served {served:?}");
    // A flush by itself is one of the disk's writes.
    let operations = [counted.operations[READ], counted.operations[WRITE] + counted.operations[FLUSH]];
    ensure!(
        operations == [served.reads.operations, served.writes.operations],
        "{operations:?}, the disk has served {served:?}"
    );
    if group.is_unified() {
        let now = io_counts(&group, &disk.numbers()?)?;
        let of_group =
            [now.read_bytes - of_group_before.read_bytes, now.written_bytes - of_group_before.written_bytes];
        ensure!(of_group == asked, "io.stat has {of_group:?}");
    }
    guest.set_stopped(false)?;
    Ok(Outcome::Passed(format!(
        "{} reads and {} writes of {BYTES} bytes each, {} flushes: as the guest asked, as the disk served",
        counted.operations[READ], counted.operations[WRITE], counted.operations[FLUSH]
    )))
}

/// What was counted, and what the disk has served, while the guest stands still.
fn rest(source: &mut Kvm, guest: &LinuxGuest, disk: &Disk) -> anyhow::Result<(DiskCounts, Diskstats)> {
    guest.set_stopped(true)?;
    still(disk)?;
    let counted = counts(source, guest.pid(), disk)?.context("the guest has no disk")?;
    Ok((counted, Diskstats::of(disk.name())?))
}

/// Bytes that the guest has read and written by its own count: fields 3 and 7 of its disk's `stat`.
fn asked(line: &str) -> Option<[u64; 2]> {
    let (_, stat) = line.split_once("GUESTDISK")?;
    let fields: Vec<u64> = stat.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
    Some([*fields.get(2)? * SECTOR, *fields.get(6)? * SECTOR])
}
