//! A snapshot visits the threads of VMMs and no others where the kernel lets it, and says the same.

use std::process;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hvsampler::model::{HelperKind, HelperTimes, Snapshot, Totals, Vm as GuestOf};
use hvsampler::source::Kvm;
use rustix::process::{Signal, kill_process};
use sampler_ebpf::abi::COUNTERS;

use super::sampler;
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
/// Time for what is awaited.
const PATIENCE: Duration = Duration::from_secs(60);
/// Kernels from this on visit single processes.
const BY_PROCESS: (u32, u32) = (6, 1);

/// Strangers, a VMM as a process, and this process as another VMM.
pub(super) fn by_vmm(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let idle = GuestConfig { io_threads: STRANGERS, ..GuestConfig::new("strangers", 0, IDLE) };
    let _strangers = Guest::start(&binary, &idle)?;
    let helped = GuestConfig { io_threads: 1, ..GuestConfig::new("helped", 2, HALF) };
    let guest = Guest::start(&binary, &helped)?;
    let own = Vm::start(&VmConfig::uniform(1, HALF))?;
    let mut source = sampler::start()?;
    let of = |pid: u32, tids: Vec<u32>| tids.into_iter().map(move |tid| Thread { pid, tid });
    let vcpus: Vec<Thread> = of(guest.pid(), guest.tids()).chain(of(process::id(), own.tids())).collect();
    sampler::follow(&mut source, &vcpus)?;
    if !source.collector().visits_processes() {
        ensure!(kernel_version()? < BY_PROCESS, "this kernel is to visit single processes");
        let visited = Visit::take(&mut source)?;
        ensure!(visited.is_whole(), "{visited:?}");
        let threads = visited.threads / visited.passes;
        return Ok(Outcome::Passed(format!("the kernel walks whole: {threads} threads each time")));
    }
    let mut visit = partial(&mut source)?;
    let threads = threads_of(guest.pid())? + threads_of(process::id())?;
    ensure!(
        visit.threads <= threads * visit.passes,
        "{} threads visited in {} passes, and the VMMs have {threads}",
        visit.threads,
        visit.passes
    );
    visit.snapshot.vms.retain(|vm| vm.origin.pid() == Some(guest.pid()));
    ensure!(visit.snapshot.vms.len() == 1, "the guest is missing");
    same_as_whole(&mut source, &guest)?;
    helper_at_once(&mut source, &guest)?;
    vcpu_at_once(&mut source)?;
    Ok(Outcome::Passed(format!(
        "{} threads visited in {} passes, of two VMMs with {threads}; the same counts as the whole host's {}; \
         a new helper and a new vCPU seen at once",
        visit.threads,
        visit.passes,
        source.collector().host_threads()
    )))
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
fn same_as_whole(source: &mut Kvm, guest: &Guest) -> anyhow::Result<()> {
    guest.set_stopped(true)?;
    let end = Instant::now() + PATIENCE;
    loop {
        thread::sleep(Duration::from_millis(100));
        let by_vmm = partial(source)?;
        source.walk_host_always(true);
        let whole = Visit::take(source)?;
        source.walk_host_always(false);
        ensure!(whole.is_whole(), "{} threads are not the whole host", whole.threads);
        let (by_vmm, whole) = (said(by_vmm.vm(guest.pid())?), said(whole.vm(guest.pid())?));
        ensure!(by_vmm.vcpus.len() == 2, "a vCPU is missing: {by_vmm:?}");
        ensure!(by_vmm.helpers.iter().map(|(_, threads, _)| threads).sum::<u32>() >= 2, "{by_vmm:?}");
        // A thread may take a moment to stand still.
        if by_vmm == whole {
            break;
        }
        ensure!(Instant::now() < end, "{by_vmm:?}, and by a walk over the whole host {whole:?}");
    }
    Ok(guest.set_stopped(false)?)
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
    kill_process(host::pid(guest.pid()).context("no process id")?, Signal::USR1)?;
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
        let visit = Visit::take(source)?;
        ensure!(
            source.slots().threads().any(|thread| thread.id.tid == tid),
            "vCPU thread {tid} is not followed after a snapshot"
        );
        if !visit.is_whole() {
            break;
        }
        ensure!(guests.len() < 4, "each snapshot visited the whole host");
    }
    Ok(source.loaded().resume()?)
}
