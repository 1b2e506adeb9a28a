//! What vCPUs do with their CPU time, under loads that are known.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hvsampler::model::Counter;
use hvsampler::model::{Interval, Level, Snapshot, State};
use hvsampler::source::{Kvm, Levels};
use sampler_ebpf::abi::{Mode, WalkRecord};

use super::sampler;
use super::states::{interval_of, threads_of};
use crate::exactness::Thread;
use crate::guest::{Guest, GuestConfig};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// Time for one of these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// The states that the CPU time of a vCPU is broken down by.
const KNOWN_APART: [State; 5] = [State::Guest, State::Kernel, State::Run, State::Vmm, State::Poll];
/// Length of the interval that is judged.
const INTERVAL: Duration = Duration::from_secs(4);

/// A vCPU that never leaves its guest, one that leaves it for the VMM with every second instruction, one that
/// sleeps in the VMM and one that has halted. The parts of each come to its run time to the nanosecond, and
/// the kernel's, which is what is left of that, is what the hooks measured.
pub(super) fn on_cpu(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let (burn, sleep) = (Duration::from_millis(2), Duration::from_millis(10));
    let start = |name: &str, load| Guest::start(&binary, &GuestConfig::new(name, 1, load));
    let guests = [
        start("busy", Load::Busy)?,
        start("io", Load::Io)?,
        start("sleeper", Load::Half { burn, sleep })?,
        start("halt", Load::Halt)?,
    ];
    let threads: Vec<_> = guests.iter().flat_map(threads_of).collect();
    let mut source = sampler::start_as_service()?;
    // However often one of them exits on a fast machine.
    source.set_levels(Levels { most: Level::Full, max_exits: u64::MAX });
    sampler::follow(&mut source, &threads)?;
    // Each must have been at a hook once.
    thread::sleep(Duration::from_millis(500));
    sampler::identify(&mut source);
    let missed = source.snapshot()?.sampler.missed_switches;
    let before = threads.iter().map(|thread| record(&source, *thread)).collect::<anyhow::Result<Vec<_>>>()?;
    thread::sleep(INTERVAL);
    let snapshot = source.snapshot()?;
    sampler::nothing_lost(&snapshot.sampler)?;
    let missed = snapshot.sampler.missed_switches - missed;
    context.detail(format!("{missed} switches were made without calling the program"));
    let mut parts = Vec::new();
    for (n, thread) in threads.iter().enumerate() {
        let after = record(&source, *thread)?;
        parts.push(judge(context, &snapshot, *thread, &before[n], &after)?);
    }
    let [busy, io, sleeper, halt] = [0, 1, 2, 3].map(|n| parts[n]);
    ensure!(io.vmm > 0.001, "one that does nothing but I/O was {:.4} of its CPU time in the VMM", io.vmm);
    ensure!(sleeper.vmm > 0.0, "one that sleeps in the VMM was never there");
    ensure!(halt.run_ns < 100_000_000, "one that has halted ran {} ns", halt.run_ns);
    // Where the kernel emulates the guest there is no guest to enter, and none is shown as never entered.
    let is_emulated = !busy.is_entered;
    ensure!(parts.iter().all(|parts| parts.is_entered != is_emulated), "{parts:?}");
    ensure!(
        is_emulated || busy.guest > 0.8,
        "one that never leaves was {:.3} of its CPU time in the guest",
        busy.guest
    );
    ensure!(is_emulated != context.in_lab(), "a processor of its own in the lab alone: {:.3}", busy.guest);
    ensure!(busy.vmm < 0.05, "one that never leaves was {:.3} of its CPU time in the VMM", busy.vmm);
    let share = |share: f64| format!("{:.1} %", share * 100.0);
    Ok(Outcome::Passed(format!(
        "busy: {} in the guest; I/O: {} in the guest, {} in the VMM; the kernel's part measured to {} of the run time",
        share(busy.guest),
        share(io.guest),
        share(io.vmm),
        parts.iter().map(|parts| format!("{:.3} %", parts.apart * 100.0)).collect::<Vec<_>>().join(", "),
    )))
}

/// Shares of the run time.
#[derive(Clone, Copy, Debug)]
struct Parts {
    run_ns: u64,
    is_entered: bool,
    guest: f64,
    vmm: f64,
    apart: f64,
}

fn judge(
    context: &Context,
    snapshot: &Snapshot,
    thread: Thread,
    before: &WalkRecord,
    after: &WalkRecord,
) -> anyhow::Result<Parts> {
    let vm =
        snapshot.vms.iter().find(|vm| vm.origin.pid() == Some(thread.pid)).context("the guest is missing")?;
    ensure!(vm.level() == Some(Level::Full), "at level {:?}", vm.level());
    let interval = interval_of(snapshot, thread)?;
    let ns = |state| interval.states.get(state);
    let [guest, kernel, run, vmm, poll] = KNOWN_APART.map(|state| ns(state).unwrap_or(0));
    let known = KNOWN_APART.map(|state| ns(state).is_some());
    // Where KVM reports no entries the guest's time and the kernel's are one; nothing is zero for that.
    let expected = if context.in_lab() { [true, true, false, true, true] } else { known };
    ensure!(known == expected, "not all was observed: {interval:?}");
    let is_one = [false, false, true, true, true];
    ensure!(known == is_one || known == [true, true, false, true, true], "{known:?}: {interval:?}");
    let kernel = kernel + run;
    ensure!(
        guest.saturating_add(kernel).saturating_add(vmm).saturating_add(poll) == interval.run_ns,
        "the parts do not come to the run time: {interval:?}"
    );
    add_up(&interval)?;
    let measured = after.modes_ns[Mode::Kernel.place()] - before.modes_ns[Mode::Kernel.place()];
    let left = kernel + poll;
    let apart = left.abs_diff(measured);
    // A stint is longer than what the hooks see of it: it begins when the scheduler takes its clock, before
    // the hook of the switch, and ends with the next one's.
    let stints = interval.counters[Counter::Timeslices as usize] + 2;
    let ends_ns = if context.in_lab() { 200_000 } else { 20_000 };
    // Where the thread has never slept, what is left of the wall time was interrupts', or another's on a host
    // that is itself a guest: the hooks' clock runs on then, and run time does not.
    let never_slept = interval.counters[Counter::VoluntarySwitches as usize] == 0;
    let away_ns = if never_slept {
        interval.wall_ns.saturating_sub(interval.run_ns + interval.run_delay_ns)
    } else {
        0
    };
    let text = format!(
        "thread {}: {guest} ns in the guest, {kernel} in the kernel (measured {measured}), {vmm} in the VMM, {poll} polling, \
         {stints} stints, {} ns of wall time, {} by the other clock",
        thread.tid,
        interval.wall_ns,
        after.monotonic_ns - before.monotonic_ns
    );
    ensure!(
        apart <= stints * ends_ns + interval.run_ns / 100 + away_ns,
        "{text}: {interval:?}, from {before:?} to {after:?}"
    );
    context.detail(text);
    let share = |ns: u64| ns as f64 / interval.run_ns.max(1) as f64;
    let is_entered = ns(State::Guest).is_some();
    Ok(Parts {
        run_ns: interval.run_ns,
        is_entered,
        guest: share(guest),
        vmm: share(vmm),
        apart: share(apart),
    })
}

/// The states come to the wall time, to a thousandth: of a vCPU that does not sleep what two readings are
/// apart cannot be distinguished from its time, and the next interval has it. That does not shrink with the
/// interval: let it be long.
pub(super) fn add_up(interval: &Interval) -> anyhow::Result<()> {
    let apart = interval.states.sum().abs_diff(interval.wall_ns);
    ensure!(apart <= interval.wall_ns / 1000, "the states do not come to the wall time: {interval:?}");
    Ok(())
}

pub(super) fn record(source: &Kvm, thread: Thread) -> anyhow::Result<WalkRecord> {
    let slot = source.collector().pid_slot(thread.tid).context("no slot")?;
    Ok(source.collector().record(slot))
}
