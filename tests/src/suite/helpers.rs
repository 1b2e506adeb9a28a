//! The threads that work for a VM and run no vCPU: their times are the kernel's, summed by kind.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hvsampler::model::{HelperKind, Snapshot, Vm};
use hvsampler::source::Kvm;
use rustix::process::{Signal, kill_process};

use super::linux_guest::{LinuxGuest, LinuxGuestConfig};
use super::sampler;
use crate::exactness::Thread;
use crate::guest::{Guest, GuestConfig};
use crate::host::{self, CpuList};
use crate::oracle::{self, Schedstat, TaskStat, TaskState};
use crate::runner::{Context, Disturbed, Outcome};
use crate::vmm::Load;

/// Time for one of these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(240);
/// Intervals between the two moments at which the guests stand still.
const INTERVALS: u32 = 4;
const INTERVAL: Duration = Duration::from_millis(700);
/// Times that helpers may run on until their counts are past an estimate.
const CATCHES_UP: u32 = 3;
/// Time for guests that were stopped to stand still.
const STILL: Duration = Duration::from_secs(30);

/// A VMM with threads that run no vCPU and fight with its vCPU for a CPU, and one with nothing but its first
/// thread.
pub(super) fn of_tiny_vmm(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let allowed = CpuList::allowed().context("cannot read the allowed CPUs")?;
    let cpu = CpuList::one(allowed.numbers()[0])?;
    let busy = |name: &str| GuestConfig::new(name, 1, Load::Busy).on(&cpu);
    let guests = [
        Guest::start(&binary, &GuestConfig { io_threads: 2, ..busy("helped") })?,
        Guest::start(&binary, &busy("alone"))?,
    ];
    let processes = guests.each_ref().map(|guest| Process { pid: guest.pid(), vcpus: guest.tids() });
    let mut source = sampler::start_as_service()?;
    sampler::follow(&mut source, &processes.each_ref().map(Process::vcpus).concat())?;
    let done = compare(&mut source, &processes, || Ok(()))?;
    let io = done[0].get(&HelperKind::IoThread).context("no I/O threads")?;
    ensure!(
        io.threads == 2 && io.run_ns > 0 && io.run_delay_ns > 0,
        "two that fight for their CPU: {done:?}"
    );
    ensure!(done[0].contains_key(&HelperKind::Emulator), "there is always a first thread: {done:?}");
    ensure!(!done[1].contains_key(&HelperKind::IoThread), "another VMM's threads: {done:?}");
    let third = births_and_ends(&mut source, &processes)?;
    Ok(Outcome::Passed(format!(
        "{} for one guest, {} for the other; a third I/O thread ran {:.3} ms from its creation on, and ended",
        words(&done[0]),
        words(&done[1]),
        third as f64 / 1e6
    )))
}

/// A thread that is created in an interval counts from its creation on, and what one that ends has done
/// stays. Returns the run time of the former.
fn births_and_ends(source: &mut Kvm, processes: &[Process]) -> anyhow::Result<u64> {
    let helped = &processes[0];
    let before = helped.helpers()?;
    let done = compare(source, processes, || helped.signal(Signal::USR1))?;
    ensure!(done[0].get(&HelperKind::IoThread).is_some_and(|io| io.threads == 3), "one more: {done:?}");
    let new = helped.helpers()?.into_keys().find(|thread| !before.contains_key(thread));
    let new = new.context("no thread was created")?;
    let io = |source: &mut Kvm| {
        let snapshot = snapshot(source)?;
        let sum = vm(&snapshot, helped)?.helpers.get(HelperKind::IoThread).copied();
        anyhow::Ok(sum.context("no I/O threads")?)
    };
    let (with, ran) = (io(source)?.total, Schedstat::of(new.pid, new.tid)?.run_ns);
    helped.signal(Signal::USR2)?;
    let end = Instant::now() + STILL;
    while helped.helpers()?.contains_key(&new) {
        ensure!(Instant::now() < end, "thread {} does not end", new.tid);
        thread::sleep(Duration::from_millis(10));
    }
    let without = io(source)?;
    ensure!(
        without.threads == 2
            && without.total.run_ns >= with.run_ns
            && without.total.run_delay_ns >= with.run_delay_ns,
        "{without:?} after {with:?} with a third thread"
    );
    compare(source, processes, || Ok(()))?;
    Ok(ran)
}

/// QEMU with an I/O thread for its disk and a worker of vhost for its network.
pub(super) fn helped_qemu() -> anyhow::Result<LinuxGuest> {
    let config = LinuxGuestConfig {
        name: "helped".into(),
        uuid: None,
        vcpus: 1,
        does: "load=io net=on stat=0",
        devices: &[
            "-object",
            "iothread,id=io0",
            // No file, and so no threads that come and go.
            "-blockdev",
            "null-co,node-name=disk0,size=67108864,read-zeroes=on",
            "-device",
            "virtio-blk-pci,drive=disk0,iothread=io0",
            "-netdev",
            "tap,id=net0,vhost=on,script=no,downscript=no",
            "-device",
            "virtio-net-pci,netdev=net0",
        ],
    };
    Ok(LinuxGuest::start(&[config])?.remove(0))
}

/// The helpers of such a guest.
pub(super) fn of_qemu(_: &Context) -> anyhow::Result<Outcome> {
    let guest = helped_qemu()?;
    let process =
        Process { pid: guest.pid(), vcpus: guest.threads().iter().map(|thread| thread.tid).collect() };
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &guest.threads())?;
    let done = compare(&mut source, &[process], || Ok(()))?.remove(0);
    for kind in [HelperKind::IoThread, HelperKind::Vhost] {
        let did = done.get(&kind).with_context(|| format!("no thread of kind {}", kind.key()))?;
        ensure!(did.threads == 1 && did.run_ns > 0, "one that works: {done:?}");
    }
    Ok(Outcome::Passed(format!("{}; vhost's worker is {}", words(&done), worker_of(guest.pid())?)))
}

/// What a worker of vhost is here, for a process that has one.
pub(super) fn worker_of(pid: u32) -> anyhow::Result<&'static str> {
    Ok(if named_for(pid)?.is_empty() { "a thread of QEMU" } else { "a kernel thread" })
}

/// A VMM.
struct Process {
    pid: u32,
    vcpus: Vec<u32>,
}

impl Process {
    fn vcpus(&self) -> Vec<Thread> {
        self.vcpus.iter().map(|&tid| Thread { pid: self.pid, tid }).collect()
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(host::pid(self.pid).context("no process id")?, signal)?)
    }

    /// Its threads that run no vCPU, and kernel threads that are named for it.
    fn helpers(&self) -> anyhow::Result<BTreeMap<Thread, HelperKind>> {
        let mut helpers = BTreeMap::new();
        for (tid, name) in oracle::threads(self.pid)? {
            let kind = match name.as_str() {
                _ if tid == self.pid => HelperKind::Emulator,
                io if io.starts_with("IO ") => HelperKind::IoThread,
                vhost if vhost.starts_with("vhost-") => HelperKind::Vhost,
                _ => HelperKind::Emulator,
            };
            helpers.insert(Thread { pid: self.pid, tid }, kind);
        }
        helpers.retain(|thread, _| !self.vcpus.contains(&thread.tid));
        let workers = named_for(self.pid)?.into_iter();
        helpers.extend(workers.map(|pid| (Thread { pid, tid: pid }, HelperKind::Vhost)));
        Ok(helpers)
    }

    /// Its helpers with what the kernel counts of each, or nothing while one of them may run. One that ends
    /// meanwhile has no counts; where it had some before, the comparison misses them.
    fn still(&self) -> anyhow::Result<Option<Counts>> {
        let mut counts = Counts::new();
        for (Thread { pid, tid }, kind) in self.helpers()? {
            let Some(stat) = oracle::if_there(TaskStat::of(pid, tid))? else { continue };
            if stat.state == TaskState::Runnable {
                return Ok(None);
            }
            if let Some(counted) = oracle::if_there(Schedstat::of(pid, tid))? {
                counts.insert(Thread { pid, tid }, (kind, counted));
            }
        }
        ensure!(!counts.is_empty(), "process {} has no helper, not even its first thread", self.pid);
        Ok(Some(counts))
    }
}

type Counts = BTreeMap<Thread, (HelperKind, Schedstat)>;

/// Kernel threads that say that they work for a process.
fn named_for(pid: u32) -> anyhow::Result<Vec<u32>> {
    let paths: Result<Vec<PathBuf>, _> =
        fs::read_dir("/proc")?.map(|entry| entry.map(|entry| entry.path())).collect();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok();
    let mut found: Vec<u32> = paths?.iter().filter_map(number).collect();
    found.retain(|process| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
        read("comm").trim_end() == format!("vhost-{pid}") && read("cmdline").is_empty()
    });
    Ok(found)
}

/// What a VM's helpers of one kind did.
#[derive(Debug, Default, PartialEq, Eq)]
struct Did {
    threads: u32,
    run_ns: u64,
    run_delay_ns: u64,
}

type ByKind = BTreeMap<HelperKind, Did>;

/// Compares what the helpers did between two moments at which they stood still, with snapshots in between;
/// `meanwhile` is done right after the first of these moments.
fn compare(
    source: &mut Kvm,
    processes: &[Process],
    meanwhile: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<ByKind>> {
    // What an estimate was ahead of a count is over by then.
    thread::sleep(INTERVAL);
    let (before, counted_before) = standing_still(source, processes)?;
    for process in processes {
        process.signal(Signal::CONT)?;
    }
    meanwhile()?;
    for _ in 0..INTERVALS {
        thread::sleep(INTERVAL);
        snapshot(source)?;
    }
    let mut tries = 0;
    let (after, done) = loop {
        let (after, counted_after) = standing_still(source, processes)?;
        let done = done(processes, (&before, &counted_before), (&after, &counted_after))?;
        if tries == CATCHES_UP || !done.iter().any(|(ours, theirs)| is_ahead(ours, theirs)) {
            break (after, done);
        }
        tries += 1;
        for process in processes {
            process.signal(Signal::CONT)?;
        }
        thread::sleep(INTERVAL);
        snapshot(source)?;
    };
    let mut all = Vec::new();
    for (n, (ours, theirs)) in done.into_iter().enumerate() {
        ensure!(ours == theirs, "process {}: {ours:?}, the kernel counts {theirs:?}", processes[n].pid);
        all.push(ours);
    }
    for process in processes {
        process.signal(Signal::CONT)?;
    }
    sampler::nothing_lost(&after.sampler)?;
    ensure!(after.sampler.helpers_dropped == 0, "{} helpers were dropped", after.sampler.helpers_dropped);
    Ok(all)
}

/// What each process's helpers did from one moment to the other, as the sampler shows it and as the kernel
/// counts it.
fn done(
    processes: &[Process],
    (before, counted_before): (&Snapshot, &[Counts]),
    (after, counted_after): (&Snapshot, &[Counts]),
) -> anyhow::Result<Vec<(ByKind, ByKind)>> {
    let mut done = Vec::new();
    for (n, process) in processes.iter().enumerate() {
        if !counted_before[n].keys().all(|thread| counted_after[n].contains_key(thread)) {
            return Err(Disturbed(format!("threads of process {} ended", process.pid)).into());
        }
        let theirs = counted(&counted_before[n], &counted_after[n]);
        done.push((shown(vm(before, process)?, vm(after, process)?), theirs));
    }
    Ok(done)
}

/// Whether more is shown than was counted by as little as a stint or a wait that went on is estimated too
/// long: the time for which a CPU stood still in the middle of a switch, or by which the clocks of two CPUs
/// are apart. It is over once the thread has run, or waited, for as long.
fn is_ahead(ours: &ByKind, theirs: &ByKind) -> bool {
    const LONGEST_NS: u64 = 20_000_000;
    let ahead = |ours: u64, theirs: u64| ours > theirs && ours - theirs < LONGEST_NS;
    ours.iter().any(|(kind, did)| {
        let counted = theirs.get(kind);
        let of = |time: fn(&Did) -> u64| ahead(time(did), counted.map_or(0, time));
        of(|did| did.run_ns) || of(|did| did.run_delay_ns)
    })
}

fn snapshot(source: &mut Kvm) -> anyhow::Result<Snapshot> {
    sampler::identify(source);
    Ok(source.snapshot()?)
}

/// Stops the processes. The snapshot counts if all helpers were off their CPUs and their counts the same
/// before it and after.
fn standing_still(source: &mut Kvm, processes: &[Process]) -> anyhow::Result<(Snapshot, Vec<Counts>)> {
    for process in processes {
        process.signal(Signal::STOP)?;
    }
    let end = Instant::now() + STILL;
    loop {
        thread::sleep(Duration::from_millis(50));
        let still = || processes.iter().map(Process::still).collect::<anyhow::Result<Option<Vec<_>>>>();
        let before = still()?;
        let snapshot = snapshot(source)?;
        if let Some(counts) = before
            && still()?.as_ref() == Some(&counts)
        {
            return Ok((snapshot, counts));
        }
        if Instant::now() > end {
            bail!("the helpers of guests that were stopped do not stand still");
        }
    }
}

fn vm<'a>(snapshot: &'a Snapshot, process: &Process) -> anyhow::Result<&'a Vm> {
    snapshot.vms.iter().find(|vm| vm.origin.pid() == Some(process.pid)).context("a guest is missing")
}

fn counted(before: &Counts, after: &Counts) -> ByKind {
    let mut sums = ByKind::new();
    for (thread, (kind, now)) in after {
        // Of one that was created meanwhile all counts.
        let before = before.get(thread).map(|(_, before)| *before).unwrap_or_default();
        let sum = sums.entry(*kind).or_default();
        sum.threads += 1;
        sum.run_ns += now.run_ns - before.run_ns;
        sum.run_delay_ns += now.run_delay_ns - before.run_delay_ns;
    }
    sums
}

fn shown(before: &Vm, after: &Vm) -> ByKind {
    let sums = after.helpers.iter().map(|(kind, sum)| {
        let before = before.helpers.get(kind).map(|sum| sum.total).unwrap_or_default();
        let did = Did {
            threads: sum.threads,
            run_ns: sum.total.run_ns - before.run_ns,
            run_delay_ns: sum.total.run_delay_ns - before.run_delay_ns,
        };
        (kind, did)
    });
    sums.collect()
}

fn words(done: &ByKind) -> String {
    let kinds = done.iter().map(|(kind, did)| {
        let (run, steal) = (did.run_ns as f64 / 1e6, did.run_delay_ns as f64 / 1e6);
        format!("{} {} ran {run:.3} ms and waited {steal:.3} ms", did.threads, kind.key())
    });
    kinds.collect::<Vec<_>>().join(", ")
}
