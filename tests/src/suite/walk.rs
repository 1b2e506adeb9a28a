//! A snapshot visits the threads of VMMs and no others where the kernel lets it, and says the same.

use std::path::Path;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hvsampler::collect::{
    platform::{self, Files},
    procfs::ProcFs,
};
use hvsampler::kernel::Root;
use hvsampler::model::{Fact, HelperKind, HelperTimes, Snapshot, Totals, Vm as GuestOf};
use hvsampler::source::Kvm;
use rustix::process::{Signal, kill_process};
use sampler_ebpf::abi::COUNTERS;

use super::{helpers, sampler};
use crate::exactness::Thread;
use crate::guest::{Guest, GuestConfig};
use crate::host::{self, kernel_version};
use crate::oracle;
use crate::runner::{Context, Outcome};
use crate::vmm::{Load, Vm, VmConfig};

/// Time for the test.
pub(super) const LIMIT: Duration = Duration::from_secs(240);
/// Threads of a process without vCPUs.
const STRANGERS: u32 = 300;
const IDLE: Load = Load::Half { burn: Duration::from_micros(1), sleep: Duration::from_secs(24 * 3600) };
const HALF: Load = Load::Half { burn: Duration::from_millis(1), sleep: Duration::from_millis(3) };
/// Snapshots in a row that visit the VMMs alone.
const SNAPSHOTS: u32 = 5;
/// Time for what is awaited.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time for a vCPU to enter its guest again: by far less than the time between walks over the whole host.
const ENTERS: Duration = Duration::from_secs(3);
/// Kernels from this on visit single processes.
const BY_PROCESS: (u32, u32) = (6, 1);

/// Strangers, a VMM with an I/O thread, one whose first thread has ended, and this process as another VMM.
pub(super) fn by_vmm(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let _strangers = strangers(&binary)?;
    let helped = GuestConfig { io_threads: 1, ..GuestConfig::new("helped", 2, HALF) };
    let guest = Guest::start(&binary, &helped)?;
    let headless = Guest::start(
        &binary,
        &GuestConfig { first_thread_ends: true, ..GuestConfig::new("headless", 1, HALF) },
    )?;
    let own = Vm::start(&VmConfig::uniform(1, HALF))?;
    let mut source = sampler::start()?;
    let of = |pid: u32, tids: Vec<u32>| tids.into_iter().map(move |tid| Thread { pid, tid });
    let vms = [(guest.pid(), guest.tids()), (headless.pid(), headless.tids()), (process::id(), own.tids())];
    let vcpus: Vec<Thread> = vms.into_iter().flat_map(|(pid, tids)| of(pid, tids)).collect();
    sampler::follow(&mut source, &vcpus)?;
    is_known(&headless)?;
    if !source.collector().visits_processes() {
        ensure!(kernel_version()? < BY_PROCESS, "this kernel is to visit single processes");
        let visited = Visit::take(&mut source)?;
        ensure!(visited.is_whole(), "{visited:?}");
        let threads = visited.threads / visited.passes;
        return Ok(Outcome::Passed(format!("the kernel walks whole: {threads} threads each time")));
    }
    let visit = partial(&mut source)?;
    let threads = threads_of(guest.pid())? + threads_of(headless.pid())? + threads_of(process::id())?;
    ensure!(
        visit.threads <= threads * visit.passes,
        "{} threads visited in {} passes, and the VMMs have {threads}",
        visit.threads,
        visit.passes
    );
    same_as_whole(&mut source, guest.pid(), 2)?;
    same_as_whole(&mut source, headless.pid(), 1)?;
    helper_at_once(&mut source, &guest)?;
    vcpu_at_once(&mut source)?;
    Ok(Outcome::Passed(format!(
        "{} threads visited in {} passes, of three VMMs with {threads}; the same counts as the whole host's {}; \
         a new helper and a new vCPU seen at once",
        visit.threads,
        visit.passes,
        source.collector().host_threads()
    )))
}

/// A guest whose VMM's first thread has ended is found by its descriptors, and has its name.
fn is_known(guest: &Guest) -> anyhow::Result<()> {
    let pid = guest.pid();
    let end = Instant::now() + PATIENCE;
    while !std::fs::read(format!("/proc/{pid}/cmdline"))?.is_empty() {
        ensure!(Instant::now() < end, "the first thread of process {pid} does not end");
        thread::sleep(Duration::from_millis(10));
    }
    let scan = ProcFs::system().scan()?;
    let found = scan.guests.iter().find(|found| found.pid == pid).context("not found by its descriptors")?;
    ensure!(found.vcpu_ids == [0], "{found:?}");
    let facts = ProcFs::system().facts(pid, found.start_boottime_ns)?;
    let name = platform::identify(&facts, &Files::below(Root::system())).facts().get(Fact::Name).cloned();
    ensure!(name.as_deref() == Some("headless"), "its name is {name:?}");
    Ok(())
}

/// QEMU with a worker of vhost, which is a kernel thread before 6.4.
pub(super) fn with_vhost(context: &Context) -> anyhow::Result<Outcome> {
    let _strangers = strangers(&context.binary("tiny-vmm")?)?;
    let guest = helpers::helped_qemu()?;
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &guest.threads())?;
    if !source.collector().visits_processes() {
        return Ok(Outcome::Skipped("the kernel walks whole".into()));
    }
    for _ in 0..SNAPSHOTS {
        let visit = partial(&mut source)?;
        let vhost = visit.vm(guest.pid())?.helpers.get(HelperKind::Vhost).copied().unwrap_or_default();
        ensure!(vhost.threads == 1, "its worker is missing after {} threads: {vhost:?}", visit.threads);
        thread::sleep(Duration::from_millis(100));
    }
    same_as_whole(&mut source, guest.pid(), 1)?;
    let worker = helpers::worker_of(guest.pid())?;
    Ok(Outcome::Passed(format!("vhost's worker is {worker}; the same counts as by a walk over the host")))
}

fn strangers(binary: &Path) -> anyhow::Result<Guest> {
    let idle = GuestConfig { io_threads: STRANGERS, ..GuestConfig::new("strangers", 0, IDLE) };
    Ok(Guest::start(binary, &idle)?)
}

fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    Ok(kill_process(host::pid(pid).context("no process id")?, signal)?)
}

/// A snapshot and what was visited for it.
#[derive(Debug)]
struct Visit {
    snapshot: Snapshot,
    passes: u64,
    threads: u64,
}

impl Visit {
    fn take(source: &mut Kvm) -> anyhow::Result<Self> {
        sampler::identify(source);
        let counts = |source: &Kvm| (source.collector().passes(), source.collector().walk_stats().threads);
        let (passes, threads) = counts(source);
        let snapshot = source.snapshot()?;
        let after = counts(source);
        Ok(Self { snapshot, passes: after.0 - passes, threads: after.1 - threads })
    }

    /// No pass that leaves the strangers out visits as many.
    const fn is_whole(&self) -> bool {
        self.threads >= STRANGERS as u64
    }

    fn vm(&self, pid: u32) -> anyhow::Result<&GuestOf> {
        let vm = self.snapshot.vms.iter().find(|vm| vm.origin.pid() == Some(pid));
        vm.with_context(|| format!("the VM of process {pid} is missing"))
    }
}

/// A snapshot that visits the VMMs alone. Now and then one visits the whole host; most do not.
fn partial(source: &mut Kvm) -> anyhow::Result<Visit> {
    const TRIES: u32 = 4;
    for _ in 0..TRIES {
        let visit = Visit::take(source)?;
        if !visit.is_whole() {
            return Ok(visit);
        }
    }
    bail!("each of {TRIES} snapshots visited the whole host");
}

fn threads_of(pid: u32) -> anyhow::Result<u64> {
    Ok(oracle::threads(pid)?.len() as u64)
}

/// Of a guest that stands still both ways say the same.
fn same_as_whole(source: &mut Kvm, pid: u32, vcpus: usize) -> anyhow::Result<()> {
    signal(pid, Signal::STOP)?;
    let end = Instant::now() + PATIENCE;
    loop {
        thread::sleep(Duration::from_millis(100));
        let by_vmm = partial(source)?;
        source.walk_host_always(true);
        let whole = Visit::take(source)?;
        source.walk_host_always(false);
        ensure!(whole.is_whole(), "{} threads are not the whole host", whole.threads);
        let (by_vmm, whole) = (said(by_vmm.vm(pid)?), said(whole.vm(pid)?));
        ensure!(by_vmm.vcpus.len() == vcpus, "a vCPU is missing: {by_vmm:?}");
        // A thread may take a moment to stand still.
        if by_vmm == whole {
            break;
        }
        ensure!(Instant::now() < end, "{by_vmm:?}, and by a walk over the whole host {whole:?}");
    }
    signal(pid, Signal::CONT)
}

#[derive(Debug, PartialEq)]
struct Said {
    vcpus: Vec<(u32, [u64; COUNTERS.len()], Totals)>,
    helpers: Vec<(HelperKind, u32, HelperTimes)>,
}

fn said(vm: &GuestOf) -> Said {
    Said {
        vcpus: vm.vcpus.iter().map(|vcpu| (vcpu.index, vcpu.counters, vcpu.totals)).collect(),
        helpers: vm.helpers.iter().map(|(kind, sum)| (kind, sum.threads, sum.total)).collect(),
    }
}

/// The first snapshot after a helper thread's creation has it.
fn helper_at_once(source: &mut Kvm, guest: &Guest) -> anyhow::Result<()> {
    let before = threads_of(guest.pid())?;
    signal(guest.pid(), Signal::USR1)?;
    let end = Instant::now() + PATIENCE;
    while threads_of(guest.pid())? == before {
        ensure!(Instant::now() < end, "the VMM starts no thread");
        thread::sleep(Duration::from_millis(1));
    }
    let visit = partial(source)?;
    let io = visit.vm(guest.pid())?.helpers.get(HelperKind::IoThread).copied().unwrap_or_default();
    ensure!(io.threads == 2, "one more I/O thread: {io:?}");
    Ok(())
}

/// The first snapshot after a vCPU's start in a known VMM has it, where no switch may show it.
fn vcpu_at_once(source: &mut Kvm) -> anyhow::Result<()> {
    source.loaded().pause();
    let mut guests = Vec::new();
    loop {
        let guest = Vm::start(&VmConfig::uniform(1, Load::Busy))?;
        let tid = guest.tids()[0];
        guests.push(guest);
        if !shown_by(source, tid)?.is_whole() {
            break;
        }
        ensure!(guests.len() < 4, "each vCPU was found by a snapshot that visited the whole host");
    }
    Ok(source.loaded().resume()?)
}

/// The snapshot that finds a vCPU's thread. It has just left its guest, to say that it has run, and is found
/// once it has entered it again: where CPUs are few that can take a while.
fn shown_by(source: &mut Kvm, tid: u32) -> anyhow::Result<Visit> {
    let end = Instant::now() + ENTERS;
    loop {
        thread::sleep(Duration::from_millis(50));
        let visit = Visit::take(source)?;
        if source.slots().threads().any(|thread| thread.id.tid == tid) {
            return Ok(visit);
        }
        ensure!(Instant::now() < end, "vCPU thread {tid} is not followed");
    }
}
