//! Why guests are left, against what the kernel's own tracing counts of the same run.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hvsampler::model::{Exits, State};
use hvsampler::source::Kvm;
use sampler_ebpf::abi::{SVM_EXITS, VMX_EXITS};

use super::linux_guest::{LinuxGuest, LinuxGuestConfig};
use super::sampler;
use super::states::{interval_of, vcpu_of};
use crate::exactness::Thread;
use crate::oracle::{ExitCounts, KvmTrace};
use crate::runner::{Context, Outcome};

/// Time for one of these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(240);
/// Length of what is judged.
const INTERVAL: Duration = Duration::from_secs(4);

/// A Linux guest that works and halts in turn. While it is stopped nothing moves, so from one stop to the next both must count
/// the same exits, by vCPU and reason. And while it runs, every moment of a vCPU is in the guest or between an exit and the
/// next entry: its time in the guest and the lengths of all exits come to the wall time.
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
    let latencies = latencies(context, &mut source, &threads)?;
    guest.set_stopped(true)?;
    let before = ours(&mut source, &threads)?;
    let trace = KvmTrace::start(&context.directory().join("tracefs"))?;
    guest.set_stopped(false)?;
    thread::sleep(INTERVAL);
    guest.set_stopped(true)?;
    let after = ours(&mut source, &threads)?;
    let traced = trace.counts()?;
    guest.set_stopped(false)?;
    let (mut all, mut reasons) = (0, 0);
    for (n, thread) in threads.iter().enumerate() {
        let added = after[n].since(&before[n]);
        let (ours, theirs) = (by_name(&added), traced_of(&traced, thread.tid));
        context.detail(format!("{}: {ours:?}", thread.tid));
        ensure!(ours == theirs, "thread {}: {ours:?}, traced {theirs:?}", thread.tid);
        all += ours.values().sum::<u64>();
        reasons = reasons.max(ours.len());
        // At a stop every vCPU is between an exit and an entry, so the one before and the one now stand for each other.
        let told: u64 = added.iter().map(|(_, exits)| exits.latency.counts.iter().sum::<u64>()).sum();
        let count: u64 = added.iter().map(|(_, exits)| exits.count).sum();
        ensure!(told == count, "{count} exits, and the lengths of {told}");
    }
    ensure!(all > 1000 && reasons >= 4, "{all} exits for {reasons} reasons");
    Ok(Outcome::Passed(format!(
        "{all} exits of {} vCPUs for up to {reasons} reasons, as traced; {latencies}",
        threads.len()
    )))
}

/// Time in the guest and lengths of exits of a running vCPU.
fn latencies(context: &Context, source: &mut Kvm, threads: &[Thread]) -> anyhow::Result<String> {
    source.snapshot()?;
    thread::sleep(INTERVAL);
    let snapshot = source.snapshot()?;
    sampler::nothing_lost(&snapshot.sampler)?;
    let mut told = Vec::new();
    for thread in threads {
        let interval = interval_of(&snapshot, *thread)?;
        super::modes::add_up(&interval)?;
        let exits = vcpu_of(&snapshot, *thread)?.exits_added.clone().context("no exits")?;
        let outside: u64 = exits.iter().map(|(_, exits)| exits.latency.sum_ns).sum();
        let ns = |state| interval.states.get(state).unwrap_or_default();
        let guest = ns(State::Guest);
        let covered = guest + outside;
        let apart = covered.abs_diff(interval.wall_ns);
        // The exits that are not over at both ends; where KVM tells an exit late, what the thread waits before that; and two
        // clocks of an emulated machine.
        let ends = interval.wall_ns / 20 + ns(State::Steal) + ns(State::Throttled);
        context
            .detail(format!("{}: {guest} ns in the guest, {outside} ns outside, {interval:?}", thread.tid));
        ensure!(apart <= ends, "in the guest {guest} ns, outside {outside} ns: {interval:?}");
        told.push(format!("{:.2} %", apart as f64 * 100.0 / interval.wall_ns as f64));
    }
    Ok(format!("time in the guest and in exits is {} from the wall time", told.join(" and ")))
}

fn ours(source: &mut Kvm, threads: &[Thread]) -> anyhow::Result<Vec<Exits>> {
    sampler::identify(source);
    let snapshot = source.snapshot()?;
    threads.iter().map(|thread| Ok((*vcpu_of(&snapshot, *thread)?.exits).clone())).collect()
}

/// By the kernel's name; `None` for those that are not told apart.
fn by_name(exits: &Exits) -> BTreeMap<Option<&str>, u64> {
    exits.iter().filter(|(_, exits)| exits.count > 0).map(|(kind, exits)| (kind.raw, exits.count)).collect()
}

/// What was traced of a thread, in the same way.
fn traced_of(traced: &ExitCounts, tid: u32) -> BTreeMap<Option<&str>, u64> {
    let mut counts = BTreeMap::new();
    for ((_, reason), count) in traced.iter().filter(|((thread, _), _)| *thread == tid) {
        let is_row = SVM_EXITS.iter().chain(VMX_EXITS).any(|row| row.name == reason);
        *counts.entry(is_row.then_some(reason.as_str())).or_default() += count;
    }
    counts
}
