//! Who reports births and deaths: the scheduler's hooks where the ring's lock spins, and walks alone where
//! it sleeps.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::kernel::{
    btf::{Btf, VMLINUX},
    ring::RingLock,
};
use hvsampler::load;
use hvsampler::model::{Counter, Ended, Level, Snapshot};
use hvsampler::source::{Kvm, Levels, ThreadId};
use sampler_ebpf::abi::NO_SLOT;

use super::sampler;
use crate::exactness::Thread;
use crate::guest::{Ending, Guest, GuestConfig};
use crate::host::kernel_version;
use crate::runner::{Context, Outcome};
use crate::vmm::{Load, Vm, VmConfig};

/// Time for a test.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// Linux from this on has a ring whose lock spins.
const SPINS: (u32, u32) = (6, 12);
/// Linux from this on may have it, in a late stable release.
const MAY_SPIN: (u32, u32) = (6, 1);
const ROUNDS: u32 = 3;
const GUESTS: usize = 4;
const VCPUS: u32 = 2;
/// Time for which a vCPU runs that nobody reads.
const UNREAD: Duration = Duration::from_millis(300);
/// Time for what is awaited.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where the thread id is written that the kernel is to have given out last.
const LAST_ID: &str = "/proc/sys/kernel/ns_last_pid";
/// Attempts to get a thread id again that others may get as well.
const ATTEMPTS: u32 = 16;

/// What the kernel's types say of the lock is what its version says.
pub(super) fn lock(_: &Context) -> anyhow::Result<Outcome> {
    let lock = RingLock::of(&Btf::read(Path::new(VMLINUX))?);
    let version = fs::read_to_string("/proc/version")?;
    let (is_rt, release) = (version.contains("PREEMPT_RT"), kernel_version()?);
    let may_be = match () {
        () if !is_rt || release >= SPINS => &[RingLock::Spins][..],
        () if release < MAY_SPIN => &[RingLock::Sleeps],
        () => &[RingLock::Spins, RingLock::Sleeps],
    };
    ensure!(may_be.contains(&lock), "by the kernel's types its lock is {lock:?}: {version}");
    let loaded = load::load(sampler::options())?;
    ensure!(loaded.switches_report == (lock == RingLock::Spins), "hooks report: {}", loaded.switches_report);
    let kind = if is_rt { "PREEMPT_RT" } else { "no PREEMPT_RT" };
    let reporters = if loaded.switches_report { "hooks report" } else { "walks alone report" };
    Ok(Outcome::Passed(format!("{kind}, {lock:?}: {reporters}")))
}

/// Guests come and go while no hook says so, on a kernel that would let it or not.
pub(super) fn by_walks_alone(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let mut source = sampler::start_reported_by_walks()?;
    // KVM's hooks come and go with the guests that are followed; here that is of no interest.
    source.set_levels(Levels { most: Level::Basic, ..Levels::DEFAULT });
    for round in 0..ROUNDS {
        round_of_guests(&mut source, &binary, if round % 2 == 0 { Ending::Killed } else { Ending::Orderly })?;
    }
    let again = id_used_again(&mut source)?;
    let stats = source.snapshot()?.sampler;
    sampler::nothing_lost(&stats)?;
    let hooks = source.collector().hook_stats();
    ensure!((hooks.announced, hooks.gone) == (0, 0), "a hook reported something: {hooks:?}");
    ensure!(hooks.vcpu_switches > 0, "no hook was called");
    ensure!(source.slots().slots_add_up(), "slots are lost or given out twice");
    Ok(Outcome::Passed(format!("{} ends found by walks; {again}", stats.gone_by_walk)))
}

/// Guests are followed, shown, and all gone soon after their end, with what they did last.
fn round_of_guests(source: &mut Kvm, binary: &Path, ending: Ending) -> anyhow::Result<()> {
    let load = |n| if n % 2 == 0 { Load::Busy } else { Load::Halt };
    let config = |n| GuestConfig::new(format!("walked-{n}"), VCPUS, load(n));
    let guests = (0..GUESTS).map(|n| Guest::start(binary, &config(n))).collect::<Result<Vec<_>, _>>()?;
    let of = |guest: &Guest| {
        let pid = guest.pid();
        guest.tids().into_iter().map(move |tid| Thread { pid, tid })
    };
    let threads: Vec<Thread> = guests.iter().flat_map(of).collect();
    let busy: Vec<u32> = guests.iter().step_by(2).flat_map(Guest::tids).collect();
    sampler::follow(source, &threads)?;
    let shown = shown(source, threads.len())?;
    thread::sleep(UNREAD);
    guests.into_iter().try_for_each(|guest| guest.end(ending))?;
    let ended = all_end(source, threads.len())?;
    for Thread { tid, .. } in threads {
        let end = ended.get(&tid).with_context(|| format!("the end of thread {tid} was not reported"))?;
        let [before, last] = [shown[&tid], end.counters[Counter::Run as usize]];
        ensure!(last >= before, "the run time of thread {tid} fell from {before} to {last} ns");
        ensure!(!busy.contains(&tid) || last > before, "what thread {tid} did last is not shown");
        let entry = source.collector().pid_slot(tid);
        ensure!(entry == Some(NO_SLOT), "thread {tid} is gone, and its entry is {entry:?}");
    }
    Ok(())
}

/// Run times of that many threads, by thread id, of a snapshot that has them all.
fn shown(source: &mut Kvm, threads: usize) -> anyhow::Result<BTreeMap<u32, u64>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let shown = run_times(&snapshot(source)?);
        if shown.len() == threads {
            return Ok(shown);
        }
        ensure!(Instant::now() < end, "of {threads} threads {} are shown", shown.len());
        thread::sleep(Duration::from_millis(10));
    }
}

fn run_times(snapshot: &Snapshot) -> BTreeMap<u32, u64> {
    let vcpus = snapshot.vms.iter().flat_map(|vm| &vm.vcpus);
    vcpus.filter_map(|vcpu| Some((vcpu.tid?, vcpu.counters[Counter::Run as usize]))).collect()
}

fn snapshot(source: &mut Kvm) -> anyhow::Result<Snapshot> {
    sampler::identify(source);
    Ok(source.snapshot()?)
}

/// What is reported of that many threads until the last of them is given up.
fn all_end(source: &mut Kvm, threads: usize) -> anyhow::Result<BTreeMap<u32, Ended>> {
    let (mut ended, mut ends, end) = (BTreeMap::new(), 0, Instant::now() + PATIENCE);
    let followed = |source: &Kvm| source.slots().threads().count();
    while followed(source) > 0 {
        ensure!(Instant::now() < end, "{} threads have slots still", followed(source));
        // A killed process can be reaped before its last thread has left its CPU.
        thread::sleep(Duration::from_millis(10));
        for one in snapshot(source)?.ended {
            ends += 1;
            ended.insert(ThreadId::of(one.id).tid, one);
        }
    }
    ensure!(ends == threads, "{ends} ends of {threads} threads were reported");
    Ok(ended)
}

/// A vCPU whose thread has the id of another's that has just ended, which no walk has missed yet.
fn id_used_again(source: &mut Kvm) -> anyhow::Result<String> {
    let one = || Vm::start(&VmConfig::uniform(1, Load::Busy));
    let first = one()?;
    let tid = first.tids()[0];
    sampler::follow(source, &[Thread { pid: std::process::id(), tid }])?;
    shown(source, 1)?;
    let born = |source: &Kvm| {
        let found = source.slots().threads().find(|thread| thread.id.tid == tid);
        found.map(|thread| thread.id.start_boottime_ns)
    };
    let before = born(source);
    first.stop()?;
    for attempt in 0..ATTEMPTS {
        // KVM may start a thread of its own first.
        if let Err(error) = fs::write(LAST_ID, (tid - 1 - attempt % 4).to_string()) {
            all_end(source, 1)?;
            return Ok(format!("no id used again: {LAST_ID}: {error}"));
        }
        let second = one()?;
        if second.tids()[0] != tid {
            second.stop()?;
            continue;
        }
        let (mut ended, end) = (Vec::new(), Instant::now() + PATIENCE);
        while born(source) == before || born(source).is_none() {
            ensure!(Instant::now() < end, "thread {tid} is taken for the one that had its id");
            ended.extend(snapshot(source)?.ended);
            thread::sleep(Duration::from_millis(10));
        }
        ensure!(ended.len() == 1, "{} ends were reported of the one thread", ended.len());
        shown(source, 1)?;
        second.stop()?;
        all_end(source, 1)?;
        return Ok("an id that was used again is a thread of its own".to_owned());
    }
    all_end(source, 1)?;
    Ok(format!("no id used again: others were faster {ATTEMPTS} times"))
}
