//! vCPUs that only their descriptors show: those that nobody runs, and those that end while their threads
//! live on.

use std::collections::BTreeMap;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::model::{Snapshot, State, Vcpu, Vm};
use hvsampler::source::Kvm;

use super::sampler;
use crate::exactness::Thread;
use crate::guest::{Guest, GuestConfig};
use crate::host::kernel_version;
use crate::runner::{Context, Outcome};
use crate::vmm::{Load, Turns, Unused};

/// Time for one of these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// Time between two snapshots. Longer than a thread keeps its slot, and than two looks are apart.
const INTERVAL: Duration = Duration::from_millis(1500);
/// Time within which closed descriptors are found at the latest.
const GONE_WITHIN: Duration = Duration::from_secs(30);
/// What a thread may do of another vCPU's before it is seen to run it, and while a snapshot is taken.
const SEEN_WITHIN: Duration = Duration::from_millis(150);

/// A guest that was never run is shown, and sleeps; beside it one that runs is followed as ever. When its
/// descriptors are closed it is gone.
pub(super) fn of_what_does_not_run(context: &Context) -> anyhow::Result<Outcome> {
    let unused = Unused::create()?;
    let guest = Guest::start(&context.binary("tiny-vmm")?, &GuestConfig::new("runs", 1, Load::Busy))?;
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &[Thread { pid: guest.pid(), tid: guest.tids()[0] }])?;
    next(&mut source, INTERVAL)?;
    let snapshot = next(&mut source, INTERVAL)?;
    let [vm] = own(&snapshot)[..] else {
        anyhow::bail!("the guest that does not run is {:?}", own(&snapshot))
    };
    let [vcpu] = &vm.vcpus[..] else { anyhow::bail!("one vCPU was made: {:?}", vm.vcpus) };
    let interval = vcpu.interval.context("it has no interval")?;
    ensure!(vcpu.tid.is_none() && vcpu.totals.run_ns == 0, "nobody has run it: {vcpu:?}");
    ensure!(
        interval.states.get(State::Blocked) == Some(interval.wall_ns) && interval.wall_ns > 0,
        "it slept: {interval:?}"
    );
    ensure!(
        snapshot.vms.iter().any(|vm| vm.origin.pid() == Some(guest.pid())),
        "the guest that runs is there"
    );
    drop(unused);
    let ended = until_gone(&mut source)?;
    ensure!(
        ended.iter().map(|(id, gone)| (&**id, *gone)).eq([(&*vm.id, true)]),
        "its end is reported once: {ended:?}"
    );
    Ok(Outcome::Passed(format!(
        "a guest that was never run was blocked for {:.3} s of {:.3} s, and is gone with its descriptors",
        seconds(interval.states.get(State::Blocked).unwrap_or(0)),
        seconds(interval.wall_ns)
    )))
}

/// A thread runs the vCPU of one VM, then that of another; then the second VM ends, and the thread goes on
/// with the first one; then that ends too. Each VM has the time for which its vCPU was run, and no more.
pub(super) fn of_two_vms_of_one_thread(_: &Context) -> anyhow::Result<Outcome> {
    let turns = Turns::start(2)?;
    turns.run(0);
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &[Thread { pid: process::id(), tid: turns.tid() }])?;
    next(&mut source, INTERVAL)?;
    let first = next(&mut source, INTERVAL)?;
    let [runs] = busy(&first)[..] else { anyhow::bail!("one VM runs: {:?}", states(&first)) };
    turns.run(1);
    thread::sleep(SEEN_WITHIN);
    next(&mut source, INTERVAL)?;
    let second = next(&mut source, INTERVAL)?;
    let [runs_then] = busy(&second)[..] else { anyhow::bail!("one VM runs: {:?}", states(&second)) };
    ensure!(runs_then != runs, "the thread runs another VM's vCPU: {:?}", states(&second));
    ensure!(own(&second).len() == 2, "the first one is there still: {:?}", states(&second));
    let at_rest = vcpu_of(&second, runs)?;
    ensure!(at_rest.tid.is_none(), "nobody runs it: {at_rest:?}");
    let (id, at_rest_ns) = (at_rest.id, at_rest.totals.run_ns);
    turns.close(1);
    turns.run(0);
    thread::sleep(SEEN_WITHIN);
    let mut third = vec![next(&mut source, INTERVAL)?, next(&mut source, INTERVAL)?];
    let ends = |snapshots: &[Snapshot]| {
        let ended = snapshots.iter().flat_map(|snapshot| &snapshot.ended);
        ended.filter(|ended| *ended.vm_id == *runs_then && ended.vm_gone).count()
    };
    let end = Instant::now() + GONE_WITHIN;
    // A turn that a walk does not see at once has a look later.
    while ends(&third) == 0 && Instant::now() < end {
        // Before 6.1 single processes cannot be looked at, and the whole host is not as often.
        if kernel_version()? < (6, 1) {
            source.look_soon();
        }
        third.push(next(&mut source, INTERVAL)?);
    }
    ensure!(
        ends(&third) == 1,
        "the end of the second VM is reported once: {:?}",
        third.iter().map(|snapshot| &snapshot.ended).collect::<Vec<_>>()
    );
    let last = third.last().context("there are two")?;
    ensure!(busy(last) == [runs], "the first VM runs again: {:?}", states(last));
    ensure!(own(last).len() == 1, "the second one has ended: {:?}", states(last));
    let counted = last.sampler.threads_turned;
    let most_ns = (third.len() as u64 + 1) * INTERVAL.as_nanos() as u64;
    let again = vcpu_of(last, runs)?;
    ensure!(again.id == id, "it is the same stream as before: {again:?}");
    let (ran, most) = (again.totals.run_ns.saturating_sub(at_rest_ns), most_ns);
    ensure!(
        (most / 4..=most).contains(&ran),
        "{ran} ns in less than {most} ns: what the thread did for another vCPU is not of this one"
    );
    turns.close(0);
    let ended = until_gone(&mut source)?;
    ensure!(
        ended.iter().map(|(id, gone)| (&**id, *gone)).eq([(runs, true)]),
        "its end is reported once: {ended:?}"
    );
    ensure!(counted == 2, "the thread turned twice to another vCPU, not {counted} times");
    turns.stop()?;
    Ok(Outcome::Passed(format!(
        "{runs} ran {:.3} s, then {runs_then} {:.3} s, of {:.1} s each; both ended under their thread",
        seconds(run_of(&first, runs)?),
        seconds(run_of(&second, runs_then)?),
        INTERVAL.as_secs_f64()
    )))
}

fn next(source: &mut Kvm, after: Duration) -> anyhow::Result<Snapshot> {
    thread::sleep(after);
    sampler::identify(source);
    Ok(source.snapshot()?)
}

/// Takes snapshots until no VM of this process is in them. Returns the vCPUs of this process that ended:
/// the VM's id, and whether it is gone.
fn until_gone(source: &mut Kvm) -> anyhow::Result<Vec<(String, bool)>> {
    let end = Instant::now() + GONE_WITHIN;
    let mut ended = Vec::new();
    loop {
        source.look_soon();
        let snapshot = next(source, INTERVAL)?;
        let own_ended =
            snapshot.ended.iter().filter(|ended| ended.vm_id.starts_with(&process::id().to_string()));
        ended.extend(own_ended.map(|ended| (ended.vm_id.to_string(), ended.vm_gone)));
        if own(&snapshot).is_empty() {
            return Ok(ended);
        }
        ensure!(Instant::now() < end, "the descriptors are closed: {:?}", states(&snapshot));
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// The VMs of this very process.
fn own(snapshot: &Snapshot) -> Vec<&Vm> {
    snapshot.vms.iter().filter(|vm| vm.origin.pid() == Some(process::id())).collect()
}

fn vcpu_of<'a>(snapshot: &'a Snapshot, vm: &str) -> anyhow::Result<&'a Vcpu> {
    let vm = own(snapshot).into_iter().find(|known| *known.id == *vm).context("no such VM")?;
    vm.vcpus.first().context("a VM without a vCPU")
}

/// CPU time of a VM's vCPU in the interval, ns.
fn run_of(snapshot: &Snapshot, vm: &str) -> anyhow::Result<u64> {
    Ok(vcpu_of(snapshot, vm)?.interval.map_or(0, |interval| interval.run_ns))
}

/// The VMs whose vCPU had a CPU, or waited for one, for most of the interval, or for more than it may.
fn busy(snapshot: &Snapshot) -> Vec<&str> {
    let awake = |vcpu: &Vcpu| vcpu.interval.map_or(0, |interval| interval.run_ns + interval.run_delay_ns);
    let is_busy = |vm: &&Vm| vm.vcpus.iter().any(|vcpu| awake(vcpu) > SEEN_WITHIN.as_nanos() as u64);
    own(snapshot).into_iter().filter(is_busy).map(|vm| &*vm.id).collect()
}

/// For messages: of each vCPU of this process its thread and its interval.
fn states(snapshot: &Snapshot) -> BTreeMap<&str, Vec<String>> {
    let state =
        |vcpu: &Vcpu| format!("thread {:?}: {:?}", vcpu.tid, vcpu.interval.map(|interval| interval.states));
    own(snapshot).into_iter().map(|vm| (&*vm.id, vm.vcpus.iter().map(state).collect())).collect()
}
