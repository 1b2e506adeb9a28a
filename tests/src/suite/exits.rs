//! Why guests are left, against what the kernel's own tracing counts of the same run.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::model::Counter;
use hvsampler::model::Exits;
use hvsampler::source::Kvm;
use sampler_ebpf::abi::{Mode, SVM_EXITS, VMX_EXITS};

use super::linux_guest::{LinuxGuest, LinuxGuestConfig};
use super::sampler;
use super::states::vcpu_of;
use crate::exactness::Thread;
use crate::host::kernel_version;
use crate::oracle::{KvmTrace, TracedThread};
use crate::runner::{Context, Outcome};

/// Time for one of these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(240);
/// Length of what is judged.
const INTERVAL: Duration = Duration::from_secs(4);

/// A Linux guest that works and halts in turn, from one stop to the next: while it is stopped nothing moves.
/// Both must count the same exits, by vCPU and reason, and the same time in the guest. And from the exit that
/// is open at one stop to the one that is at the next every nanosecond is in the guest or between an exit and
/// the entry after it: together they are all of that time.
pub(super) fn as_traced(context: &Context) -> anyhow::Result<Outcome> {
    let config = LinuxGuestConfig {
        name: "exits".into(),
        uuid: None,
        vcpus: 2,
        does: "load=half stat=0",
        devices: &[],
    };
    let guest = LinuxGuest::start(&[config])?.remove(0);
    let threads = guest.threads();
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &threads)?;
    all_have_exited(&mut source, &threads)?;
    guest.set_stopped(true)?;
    let before = ours(&mut source, &threads)?;
    let trace = KvmTrace::start(&context.directory().join("tracefs"))?;
    guest.set_stopped(false)?;
    thread::sleep(INTERVAL);
    guest.set_stopped(true)?;
    let after = ours(&mut source, &threads)?;
    let traced = trace.traced()?;
    guest.set_stopped(false)?;
    let (mut all, mut reasons, mut seen) = (0, 0, Vec::new());
    for (n, thread) in threads.iter().enumerate() {
        let (before, after) = (&before[n], &after[n]);
        let traced = traced.get(&thread.tid).context("nothing was traced of a vCPU")?;
        let added = after.exits.since(&before.exits);
        let (ours, theirs) = (by_name(&added), by_row(traced));
        context.detail(format!("{}: {ours:?}", thread.tid));
        ensure!(ours == theirs, "thread {}: {ours:?}, traced {theirs:?}", thread.tid);
        let count = ours.values().sum::<u64>();
        all += count;
        reasons = reasons.max(ours.len());
        // At a stop every vCPU is between an exit and an entry, so the one before and the one now stand for
        // each other.
        let lengths: u64 = added.iter().map(|(_, exits)| exits.latency.counts.iter().sum::<u64>()).sum();
        ensure!(lengths == count, "{count} exits, and the lengths of {lengths}");
        seen.push(times(context, before, after, &added, traced)?);
    }
    ensure!(all > 1000 && reasons >= 4, "{all} exits for {reasons} reasons");
    Ok(Outcome::Passed(format!(
        "{all} exits of {} vCPUs for up to {reasons} reasons, as traced; {}",
        threads.len(),
        seen.join("; ")
    )))
}

/// Holds the times of one vCPU against each other and against the trace's.
fn times(
    context: &Context,
    before: &Stop,
    after: &Stop,
    added: &Exits,
    traced: &TracedThread,
) -> anyhow::Result<String> {
    ensure!(before.exit_ns != 0 && after.exit_ns != 0, "no exit is open at a stop: {before:?}, {after:?}");
    let elapsed = after.exit_ns - before.exit_ns;
    let outside: u64 = added.iter().map(|(_, exits)| exits.latency.sum_ns).sum();
    let inside = after.guest_ns - before.guest_ns;
    let left = elapsed.checked_sub(inside + outside).with_context(|| {
        format!("{inside} ns in the guest and {outside} in exits are more than {elapsed}")
    })?;
    // Only where KVM reports an exit late (for AMD, before 6.6), and a switch comes before that, is there
    // time that is neither: what the thread then waits, and what the kernel does for it until it reports the
    // exit.
    let cuts_ns =
        if kernel_version()? < (6, 6) { after.denied_ns - before.denied_ns + elapsed / 1000 } else { 0 };
    ensure!(
        left <= cuts_ns,
        "{left} of {elapsed} ns are neither in the guest nor in an exit; late could be {cuts_ns}"
    );
    let apart = (inside / 1000).abs_diff(traced.guest_us);
    let exits = traced.exits.values().sum::<u64>();
    let text = format!(
        "{inside} ns in the guest (traced {} us) and {outside} in exits, {left} of {elapsed} ns are in neither",
        traced.guest_us
    );
    context.detail(&text);
    // Each event is shown in whole microseconds, and its two programs are called one after the other.
    ensure!(apart <= inside / 100_000 + exits * 20 + cuts_ns / 1000, "{text}; {exits} exits");
    Ok(text)
}

/// What is known of one vCPU while it is stopped.
#[derive(Debug)]
struct Stop {
    exits: Exits,
    /// `CLOCK_MONOTONIC` of the exit that is open, ns.
    exit_ns: u64,
    guest_ns: u64,
    /// Waited so far, ns.
    denied_ns: u64,
}

/// Waits until an exit of every vCPU was reported: of one that sleeps since before nothing is open yet.
fn all_have_exited(source: &mut Kvm, threads: &[Thread]) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let snapshot = source.snapshot()?;
        let quiet = threads.iter().filter(|thread| {
            vcpu_of(&snapshot, **thread)
                .is_ok_and(|vcpu| vcpu.exits().iter().all(|(_, exits)| exits.count == 0))
        });
        if quiet.count() == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < end, "a vCPU does not leave its guest");
        thread::sleep(Duration::from_millis(20));
    }
}

fn ours(source: &mut Kvm, threads: &[Thread]) -> anyhow::Result<Vec<Stop>> {
    sampler::identify(source);
    let snapshot = source.snapshot()?;
    sampler::nothing_lost(&snapshot.sampler)?;
    let stop = |thread: &Thread| {
        let vcpu = vcpu_of(&snapshot, *thread)?;
        ensure!(vcpu.interval.is_some(), "thread {} could not be read", thread.tid);
        let slot = source.collector().pid_slot(thread.tid).context("no slot")?;
        let modes = source.collector().modes(slot).context("it is being written while it is stopped")?;
        Ok(Stop {
            exits: vcpu.exits().clone(),
            exit_ns: modes.exit_ns,
            guest_ns: modes.ns[Mode::Guest.place()],
            denied_ns: vcpu.counters[Counter::RunDelay as usize],
        })
    };
    threads.iter().map(stop).collect()
}

/// By the kernel's name; `None` for those that are not distinguished.
fn by_name(exits: &Exits) -> BTreeMap<Option<&str>, u64> {
    exits.iter().filter(|(_, exits)| exits.count > 0).map(|(kind, exits)| (kind.raw, exits.count)).collect()
}

/// The same of what was traced.
fn by_row(traced: &TracedThread) -> BTreeMap<Option<&str>, u64> {
    let mut counts = BTreeMap::new();
    for (reason, count) in &traced.exits {
        let is_row = SVM_EXITS.iter().chain(VMX_EXITS).any(|row| row.name == reason);
        *counts.entry(is_row.then_some(reason.as_str())).or_default() += count;
    }
    counts
}
