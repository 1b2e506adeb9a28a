//! Where a vCPU's wall time goes: what is left over is measured another way too.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hvsampler::model::{Distribution, KvmStat};
use hvsampler::model::{Interval, Snapshot, State, Vcpu};
use hvsampler::source::Kvm;

use super::linux_guest::{LinuxGuest, LinuxGuestConfig};
use super::sampler;
use crate::exactness::Thread;
use crate::guest::{Guest, GuestConfig};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// Time for one of these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// Length of the interval that is judged. KVM counts a halt when it ends, and the Linux guest with half a
/// load sleeps 0.1 s each time: of an interval of 8 s that is 1.3 %.
const INTERVAL: Duration = Duration::from_secs(8);

/// A vCPU that halts for good is halted where KVM keeps it in the kernel, and blocked where it leaves it to
/// the VMM; one that sleeps in the VMM is blocked; one that never sleeps is neither. Their states come to the
/// wall time.
pub(super) fn asleep(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let (burn, sleep) = (Duration::from_millis(2), Duration::from_millis(10));
    let start = |name: &str, load| Guest::start(&binary, &GuestConfig::new(name, 1, load));
    let guests = [start("halt", Load::Halt)?, start("sleeper", Load::Half { burn, sleep })?];
    let threads: Vec<_> = guests.iter().flat_map(threads_of).collect();
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &threads)?;
    let snapshot = interval(&mut source)?;
    let [halt, sleeper] = [interval_of(&snapshot, threads[0])?, interval_of(&snapshot, threads[1])?];
    for interval in [halt, sleeper] {
        ensure!(
            interval.states.sum() == interval.wall_ns,
            "the states do not come to the wall time: {interval:?}"
        );
    }
    let share = |interval: &Interval, state| {
        interval.states.get(state).unwrap_or_default() as f64 / interval.wall_ns as f64
    };
    let (in_halt, blocked) = (share(&halt, State::Halted), share(&halt, State::Blocked));
    ensure!(in_halt + blocked > 0.99, "a halted vCPU was asleep {in_halt} + {blocked} of its time");
    ensure!(in_halt > 0.99 || blocked > 0.99, "one halt is both: {in_halt} and {blocked}");
    let halted_where = if in_halt > 0.99 { "halted" } else { "blocked: here KVM leaves halts to the VMM" };
    let asleep = share(&sleeper, State::Blocked);
    ensure!(share(&sleeper, State::Halted) == 0.0, "a sleep in the VMM is no halt: {sleeper:?}");
    ensure!(asleep > 0.4, "a vCPU that sleeps most of its time was blocked {asleep} of it");
    Ok(Outcome::Passed(format!(
        "the halted vCPU was {halted_where}; the one that sleeps in the VMM was blocked {:.1} % of its time",
        asleep * 100.0
    )))
}

/// A Linux guest that works and halts in turn: its time halted, and what it waited for its CPU at each
/// wake-up, is the time that KVM spent in its halts after polling.
pub(super) fn halted_as_kvm_counts(_: &Context) -> anyhow::Result<Outcome> {
    let config = LinuxGuestConfig {
        name: "halts".into(),
        uuid: None,
        vcpus: 1,
        does: "load=half stat=0",
        devices: &[],
    };
    let guest = LinuxGuest::start(&[config])?.remove(0);
    let threads = guest.threads();
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &threads)?;
    let snapshot = interval(&mut source)?;
    let interval = interval_of(&snapshot, threads[0])?;
    ensure!(
        interval.states.sum() == interval.wall_ns,
        "the states do not come to the wall time: {interval:?}"
    );
    let halted = interval.states.get(State::Halted).context("no time halted")?;
    let added = vcpu_of(&snapshot, threads[0])?.distributions_added();
    let wakeups = added.get(Distribution::WakeupLatency);
    let kvm = interval.kvm.context("KVM's counts were not read")?;
    let Some(kvm_wait) = kvm.get(KvmStat::HaltWait) else {
        // As on 5.10: KVM counts its halts there, and not their length.
        let halts = kvm.get(KvmStat::HaltExits).unwrap_or_default();
        ensure!(halts > 0 && halted > 0, "{halts} halts, halted {halted} ns");
        return Ok(Outcome::Passed(format!(
            "halted {:.3} s in {halts} halts; this KVM does not count their length",
            halted as f64 / 1e9
        )));
    };
    let ours = halted + wakeups.sum_ns;
    let apart = ours.abs_diff(kvm_wait) as f64 / interval.wall_ns as f64;
    let text = format!(
        "halted {:.4} s and {:.4} s of waits after it, KVM counts {:.4} s: {:.3} % of the wall time apart",
        halted as f64 / 1e9,
        wakeups.sum_ns as f64 / 1e9,
        kvm_wait as f64 / 1e9,
        apart * 100.0
    );
    ensure!(apart < 0.02, "{text}");
    Ok(Outcome::Passed(text))
}

pub(super) fn threads_of(guest: &Guest) -> Vec<Thread> {
    guest.tids().into_iter().map(|tid| Thread { pid: guest.pid(), tid }).collect()
}

/// One interval, from a snapshot that has every vCPU already.
fn interval(source: &mut Kvm) -> anyhow::Result<Snapshot> {
    // KVM updates the guest's clock a tenth of a second after a vCPU was created, and wakes the vCPU up for
    // it.
    thread::sleep(Duration::from_millis(300));
    source.snapshot()?;
    thread::sleep(INTERVAL);
    let snapshot = source.snapshot()?;
    sampler::nothing_lost(&snapshot.sampler)?;
    Ok(snapshot)
}

pub(super) fn interval_of(snapshot: &Snapshot, thread: Thread) -> anyhow::Result<Interval> {
    vcpu_of(snapshot, thread)?.interval.with_context(|| format!("no interval of thread {}", thread.tid))
}

pub(super) fn vcpu_of(snapshot: &Snapshot, thread: Thread) -> anyhow::Result<&Vcpu> {
    let mut vcpus = snapshot.vms.iter().flat_map(|vm| &vm.vcpus);
    let vcpu = vcpus.find(|vcpu| vcpu.tid == Some(thread.tid));
    vcpu.with_context(|| format!("thread {} is not in the snapshot", thread.tid))
}
