//! What guests ask of disks is what the kernel counts.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::command::list::Listing;
use hvsampler::kernel::Root;
use hvsampler::model::{Attached, DiskCounts, DiskOperation, Snapshot, bucket_of, distribution};
use hvsampler::source::{Kvm, Question, Source as _};
use sampler_ebpf::abi::numbers_of;

use super::super::sampler;
use super::super::states::threads_of;
use crate::guest::{Ending, Guest, GuestConfig};
use crate::host::{Disk, dd, in_lab};
use crate::oracle::{Controller, Diskstats, Group, Hierarchy, Served, io_counts};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// Time for one of these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// Time for one with many guests.
pub(super) const LIMIT_MANY: Duration = Duration::from_secs(120);
/// Time for one with a Linux guest.
pub(super) const LIMIT_LINUX: Duration = Duration::from_secs(240);
/// Time for what the source asks about to be answered.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the lab's slow disk takes for a request, and the latest bucket that is too early for it.
const SLOW: Duration = Duration::from_millis(30);
/// What waking up who waits for a request may take, natively and on an emulated machine, whose CPUs others of
/// the host may have: the disk's time has it.
const WAKE_UP_MS: f64 = 0.05;
const WAKE_UP_IN_LAB_MS: f64 = 0.5;
pub(super) const READ: usize = DiskOperation::Read as usize;
pub(super) const WRITE: usize = DiskOperation::Write as usize;
pub(super) const FLUSH: usize = DiskOperation::Flush as usize;

/// A guest whose VMM has a control group of the io controller to itself.
pub(super) struct Grouped {
    pub(super) guest: Guest,
    pub(super) group: Group,
}

/// A VMM's process and the control group that it is in.
pub(super) type Member<'a> = (u32, &'a Group);

impl Grouped {
    fn member(&self) -> Member<'_> {
        (self.guest.pid(), &self.group)
    }

    pub(super) fn start(context: &Context, name: &str) -> anyhow::Result<Self> {
        let guest = Guest::start(&context.binary("tiny-vmm")?, &GuestConfig::new(name, 1, Load::Halt))?;
        let group = Group::create(Hierarchy::find(Controller::Io)?)?;
        group.add_process(guest.pid())?;
        Ok(Self { guest, group })
    }
}

/// Two guests and a stranger use a disk. Each guest has what it asked for, to the request and to the byte,
/// and all together come to what the disk has served.
pub(super) fn as_the_kernel_counts(context: &Context) -> anyhow::Result<Outcome> {
    let disk = Disk::fast(context.directory())?;
    let (one, other) = (Grouped::start(context, "reads")?, Grouped::start(context, "writes")?);
    let outside = Guest::start(&context.binary("tiny-vmm")?, &GuestConfig::new("outside", 1, Load::Halt))?;
    // Wherever this process is: in the root of the io controller nothing is anybody's.
    let root = Hierarchy::find(Controller::Io)?.root().join("cgroup.procs");
    fs::write(root, outside.pid().to_string())?;
    let mut source = sampler::start()?;
    let guests = [&one.guest, &other.guest, &outside];
    sampler::follow(&mut source, &guests.into_iter().flat_map(threads_of).collect::<Vec<_>>())?;
    settle(&mut source)?;
    let began_one = begin(&mut source, &one, &disk)?;
    let began_other = begin(&mut source, &other, &disk)?;

    let tables = in_tables(&mut source, &disk)?;
    let before = Diskstats::of(disk.name())?;
    dd(
        Some(&one.group),
        &format!("if={} of=/dev/null bs=64k count=100 iflag=direct", disk.path().display()),
    )?;
    let read = Diskstats::of(disk.name())?.since(&before).reads;
    dd(
        Some(&other.group),
        &format!("if=/dev/zero of={} bs=4k count=50 oflag=direct conv=fsync,notrunc", disk.path().display()),
    )?;
    dd(None, &format!("if={} of=/dev/null bs=8k count=30 iflag=direct", disk.path().display()))?;
    let all = Diskstats::of(disk.name())?.since(&before);

    let whole_one = counts(&mut source, one.guest.pid(), &disk)?.context("the one that reads has no disk")?;
    let whole_other =
        counts(&mut source, other.guest.pid(), &disk)?.context("the one that writes has no disk")?;
    let (of_one, of_other) = (whole_one.since(&began_one), whole_other.since(&began_other));
    ensure!(of_one.bytes == [100 << 16, 0, 0, 0], "{:?}", of_one.bytes);
    ensure!(of_other.bytes == [0, 50 << 12, 0, 0], "{:?}", of_other.bytes);
    ensure!(of_one.operations[READ] == read.operations, "{:?}, {read:?}", of_one.operations);
    let strangers = Served { operations: 30, bytes: 30 << 13, ms: 0 };
    ensure!(all.reads.operations == of_one.operations[READ] + strangers.operations, "{all:?}");
    ensure!(all.reads.bytes == of_one.bytes[READ] + strangers.bytes, "{all:?}");
    let flushes = of_other.operations[FLUSH];
    // A flush by itself is one of the disk's writes.
    let writes = of_other.operations[WRITE] + flushes;
    ensure!(all.writes.operations == writes, "{all:?}, {:?}", of_other.operations);
    let caches = disk.attribute("queue/write_cache")?.trim() == "write back";
    ensure!((flushes > 0) == caches, "{flushes} flushes; the disk caches: {caches}");
    timed(&of_one, &[READ], read)?;
    timed(&of_other, &[WRITE, FLUSH], all.writes)?;
    ensure!(counts(&mut source, outside.pid(), &disk)?.is_none(), "a guest among others has no disks");
    of_groups(&disk, [(&one.group, &whole_one), (&other.group, &whole_other)])?;
    let (hashed, placed) = in_tables(&mut source, &disk)?;
    let counted: u64 = of_one.operations.iter().chain(&of_other.operations).sum();
    ensure!((hashed, placed) == (tables.0, tables.1 + counted), "{tables:?}, then {hashed} and {placed}");
    let snapshot = source.snapshot()?;
    ensure!(snapshot.sampler.requests_untracked == 0, "{:?}", snapshot.sampler);
    let pids = [one.guest.pid(), other.guest.pid()];
    for grouped in [one, other] {
        grouped.guest.end(Ending::Killed)?;
    }
    outside.end(Ending::Killed)?;
    ended(&mut source, &pids)?;
    Ok(Outcome::Passed(format!(
        "{} reads in {:.3} ms, the disk says {} in {} ms; {} writes, {flushes} flushes; queue and disk apart: {}",
        of_one.operations[READ],
        of_one.durations[READ].sum_ns as f64 / 1e6,
        read.operations,
        read.ms,
        of_other.operations[WRITE],
        distribution::count(&of_one.queued[READ]) > 0,
    )))
}

/// More guests than are read with one call: each has what it asked for, and no more.
pub(super) fn of_many_guests(context: &Context) -> anyhow::Result<Outcome> {
    const GUESTS: u64 = 70;
    let disk = Disk::fast(context.directory())?;
    let guests = (0..GUESTS)
        .map(|n| Grouped::start(context, &format!("many-{n}")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &guests.iter().flat_map(|one| threads_of(&one.guest)).collect::<Vec<_>>())?;
    settle(&mut source)?;
    let began = begin_all(&mut source, &guests.iter().map(Grouped::member).collect::<Vec<_>>(), &disk)?;
    for (n, one) in (1..).zip(&guests) {
        let arguments = format!("if={} of=/dev/null bs=4k count={n} iflag=direct", disk.path().display());
        dd(Some(&one.group), &arguments)?;
    }
    settle(&mut source)?;
    let snapshot = source.snapshot()?;
    let mut missing = 0;
    for ((n, one), began) in (1_u64..).zip(&guests).zip(&began) {
        let counts =
            of_disk(&snapshot, one.guest.pid(), &disk).with_context(|| format!("guest {n} has no disk"))?;
        let counts = counts.since(began);
        let (reads, bytes) = (counts.operations[READ], counts.bytes[READ]);
        ensure!(
            reads <= n && bytes == reads << 12,
            "guest {n} asked for {n} blocks, counted are {reads}, {bytes} bytes"
        );
        missing += n - reads;
    }
    // Of so many requests the kernel may skip one that ends in an interrupt, and says so.
    let missed = snapshot.sampler.requests_missed;
    ensure!(missing <= missed, "{missing} requests are missing, {missed} were not reported");
    guests.into_iter().try_for_each(|one| one.guest.end(Ending::Killed))?;
    Ok(Outcome::Passed(format!(
        "{GUESTS} guests, each with what it asked for, {missing} of all requests not reported"
    )))
}

/// A slow disk is slow in the right guest and in the right bucket; one whose reads fail has errors.
pub(super) fn slow_and_broken(context: &Context) -> anyhow::Result<Outcome> {
    const READS: u64 = 20;
    let (slow, broken) = (Disk::of_lab("hvs-slow")?, Disk::of_lab("hvs-broken")?);
    let fast = Disk::of_lab("hvs-fast")?;
    let (one, other) = (Grouped::start(context, "slow")?, Grouped::start(context, "fast")?);
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &[threads_of(&one.guest), threads_of(&other.guest)].concat())?;
    settle(&mut source)?;
    let read = |disk: &Disk, count| {
        format!("if={} of=/dev/null bs=4k count={count} iflag=direct", disk.path().display())
    };
    let (began_slow, began_fast) = (begin(&mut source, &one, &slow)?, begin(&mut source, &other, &fast)?);
    begin(&mut source, &one, &broken)?;
    dd(Some(&other.group), &read(&fast, READS))?;
    let before = Diskstats::of(slow.name())?;
    dd(Some(&one.group), &read(&slow, READS))?;
    let served = Diskstats::of(slow.name())?.since(&before).reads;
    ensure!(dd(Some(&one.group), &read(&broken, 1)).is_err(), "a read of the broken disk succeeds");

    let of_slow = counts(&mut source, one.guest.pid(), &slow)?.context("no slow disk")?.since(&began_slow);
    let durations = &of_slow.durations[READ];
    let early: u64 = durations.counts[..bucket_of(SLOW.as_nanos() as u64)].iter().sum();
    ensure!(of_slow.operations[READ] == READS && early == 0, "{early} of {of_slow:?} are early");
    timed(&of_slow, &[READ], served)?;
    let apart = distribution::count(&of_slow.queued[READ]) > 0;
    if apart {
        let (queued, served) = (of_slow.queued[READ].sum_ns, of_slow.served[READ].sum_ns);
        ensure!(queued + served == durations.sum_ns, "{queued} and {served} of {}", durations.sum_ns);
        ensure!(served > 9 * queued, "the disk is slow and not its queue: {served} and {queued} ns");
    }
    let of_broken = counts(&mut source, one.guest.pid(), &broken)?.context("no broken disk")?;
    ensure!(
        of_broken.errors[READ] == of_broken.operations[READ] && of_broken.errors[READ] > 0,
        "{of_broken:?}"
    );
    let of_fast = counts(&mut source, other.guest.pid(), &fast)?.context("no fast disk")?.since(&began_fast);
    let late: u64 = of_fast.durations[READ].counts[bucket_of(SLOW.as_nanos() as u64) + 1..].iter().sum();
    ensure!(late < READS / 2, "{late} of {READS} reads of a fast disk are late");
    ensure!(counts(&mut source, other.guest.pid(), &slow)?.is_none(), "the slow disk is not the other's");
    Ok(Outcome::Passed(format!(
        "{READS} reads in {:.1} ms, {} failed; queue and disk apart: {apart}",
        durations.sum_ns as f64 / 1e6,
        of_broken.errors[READ]
    )))
}

/// Whether the list has this device for a guest, among others of its own.
pub(super) fn is_listed(pid: u32, device: &Attached) -> anyhow::Result<()> {
    let listing = Listing::of(&Root::system())?;
    let guest = listing.guests.iter().find(|guest| guest.process.pid == pid).context("it is not listed")?;
    match &guest.devices {
        Ok(devices) if devices.all.contains(device) => Ok(()),
        devices => anyhow::bail!("{device:?} is not among {devices:?}"),
    }
}

/// Durations are of all operations, and sum to what the disk says: that is in whole milliseconds. The disk's
/// have the wake-up of whoever waited, too.
fn timed(counts: &DiskCounts, places: &[usize], served: Served) -> anyhow::Result<()> {
    let mut sum_ns = 0;
    for &place in places {
        let durations = &counts.durations[place];
        let (count, operations) = (distribution::count(durations), counts.operations[place]);
        ensure!(count == operations, "{count} durations of {operations} operations");
        sum_ns += durations.sum_ns;
    }
    // Theirs is cut to a whole number, and ends later: by the wake-up of who waited.
    let (ours, theirs) = (sum_ns as f64 / 1e6, served.ms as f64);
    let wake_up_ms = if in_lab() { WAKE_UP_IN_LAB_MS } else { WAKE_UP_MS };
    let least = theirs * 0.95 - served.operations as f64 * wake_up_ms;
    ensure!(ours > 0.0 && ours < theirs + 1.0 && ours >= least, "{ours} ms, the disk says {theirs} ms");
    Ok(())
}

/// What groups of version 2 count of themselves.
fn of_groups(disk: &Disk, groups: [(&Group, &DiskCounts); 2]) -> anyhow::Result<()> {
    for (group, counts) in groups {
        if group.is_unified() {
            let theirs = io_counts(group, &disk.numbers()?)?;
            let ours = (counts.bytes[READ], counts.bytes[WRITE]);
            ensure!(ours == (theirs.read_bytes, theirs.written_bytes), "{ours:?}, io.stat has {theirs:?}");
        }
    }
    Ok(())
}

/// Answers all that the source asks, as long as that brings up more about disks.
pub(super) fn settle(source: &mut Kvm) -> anyhow::Result<()> {
    let ask = source.answerer();
    let end = Instant::now() + PATIENCE;
    loop {
        source.snapshot()?;
        let questions = source.questions();
        let is_of_disks = |question: &Question| matches!(question, Question::IoGroup(..) | Question::Disk(_));
        let is_settled = !questions.iter().any(is_of_disks);
        ensure!(Instant::now() < end, "the source asks for ever: {questions:?}");
        questions.into_iter().for_each(|question| source.answer(ask(question)));
        if is_settled {
            return Ok(());
        }
    }
}

/// Lets guests read from a disk until each has requests of its own there; returns what was counted then.
///
/// The kernel keeps something of each control group at each disk, which it makes with the first request.
/// Where it has no memory at hand for that, the request is charged to the group around
/// (`blkg_tryget_closest()`).
fn begin_all(source: &mut Kvm, guests: &[Member<'_>], disk: &Disk) -> anyhow::Result<Vec<DiskCounts>> {
    let read = format!("if={} of=/dev/null bs=4k count=1 iflag=direct", disk.path().display());
    let mut left = guests.to_vec();
    let end = Instant::now() + PATIENCE;
    loop {
        for (_, group) in left {
            // One of a disk that is broken fails.
            let _ = dd(Some(group), &read);
        }
        settle(source)?;
        let snapshot = source.snapshot()?;
        let of = |(pid, _): &Member<'_>| of_disk(&snapshot, *pid, disk);
        left = guests.iter().filter(|one| of(one).is_none()).copied().collect();
        if left.is_empty() {
            return Ok(guests.iter().filter_map(of).collect());
        }
        ensure!(Instant::now() < end, "{} guests have no request of their own at the disk", left.len());
    }
}

/// The same of one guest.
pub(super) fn begin(source: &mut Kvm, guest: &Grouped, disk: &Disk) -> anyhow::Result<DiskCounts> {
    begin_of(source, guest.member(), disk)
}

/// The same of a guest of any VMM.
pub(super) fn begin_of(source: &mut Kvm, guest: Member<'_>, disk: &Disk) -> anyhow::Result<DiskCounts> {
    begin_all(source, &[guest], disk)?.pop().context("there is one")
}

pub(super) fn of_disk(snapshot: &Snapshot, pid: u32, disk: &Disk) -> Option<DiskCounts> {
    let vm = snapshot.vms.iter().find(|vm| vm.origin.pid() == Some(pid))?;
    let found = vm.disks.iter().find(|of_vm| *of_vm.name == *disk.name());
    found.map(|disk| *disk.counts)
}

/// What was counted of a guest's disk; `None` where it has no such disk.
pub(super) fn counts(source: &mut Kvm, pid: u32, disk: &Disk) -> anyhow::Result<Option<DiskCounts>> {
    settle(source)?;
    let snapshot = source.snapshot()?;
    ensure!(snapshot.vms.iter().any(|vm| vm.origin.pid() == Some(pid)), "the guest is missing");
    Ok(of_disk(&snapshot, pid, disk))
}

/// Operations in the programs' tables: of a disk while it had no place, and of all disks that have one.
fn in_tables(source: &mut Kvm, disk: &Disk) -> anyhow::Result<(u64, u64)> {
    let numbers = disk.numbers()?;
    let tables = source.collector_mut().disks();
    let mut hashed = 0;
    // What a loop device asks of the disk below is there too.
    let is_it = |device| {
        let (major, minor) = numbers_of(device);
        format!("{major}:{minor}") == numbers
    };
    tables.read(|key, counts| {
        hashed += if is_it(key.device) { counts.operations().iter().sum::<u64>() } else { 0 };
    })?;
    Ok((hashed, placed(source)))
}

fn placed(source: &mut Kvm) -> u64 {
    const PLACES: u32 = 4;
    let tables = source.collector_mut().disks();
    (0..PLACES).flat_map(|place| tables.first(place).operations()).sum()
}

/// Disks of guests that have ended are forgotten, in the programs' table as well.
fn ended(source: &mut Kvm, pids: &[u32]) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let snapshot = source.snapshot()?;
        let mut left = 0;
        source.collector_mut().disks().read(|_, _| left += 1)?;
        let lives = |pid| snapshot.vms.iter().any(|vm| vm.origin.pid() == Some(pid));
        left += placed(source);
        if left == 0 && !pids.iter().any(|pid| lives(*pid)) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{left} disks of guests that have ended are left");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until a disk has nothing to do.
pub(super) fn still(disk: &Disk) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    while disk.attribute("inflight")?.split_ascii_whitespace().any(|count| count != "0") {
        ensure!(Instant::now() < end, "{} goes on", disk.name());
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
