//! What is done for each VM once all threads were read: its co-stop, and how much is observed of it.

use std::collections::BTreeMap;

use sampler_ebpf::abi::KvmStat;

use super::{
    accounts::{Slots, Thread},
    co_stop::{self, Read},
    identity::KvmGuest,
    levels::Change,
};
use crate::{
    collect::Collector,
    model::{Levels, SamplerStats},
};

/// The shortest interval that can be set, ns. Readings may be closer to each other while vCPUs are being
/// found: a handful of exits within a millisecond is no rate.
const LEAST_NS: u64 = 100_000_000;

/// Brings the co-stop of all VMs up to date. Of a VM of which not all could be read nothing is known.
pub(super) fn observe_co_stop(collector: &Collector, slots: &mut Slots, shift: u32) {
    let mut all: BTreeMap<KvmGuest, Option<Vec<Read>>> = BTreeMap::new();
    for thread in slots.threads().filter(|thread| thread.account.time.is_some()) {
        let reads = all.entry(thread.vm).or_insert_with(|| Some(Vec::new()));
        match (reads.as_mut(), read(collector, thread)) {
            (Some(reads), Some(read)) => reads.push(read),
            _ => *reads = None,
        }
    }
    for (vm, reads) in all {
        let Some(entry) = slots.vm_mut(vm) else { continue };
        match reads {
            Some(reads) => co_stop::observe(collector, &mut entry.account.co_stop, &reads, shift),
            None => entry.account.co_stop.wait(),
        }
    }
}

/// `None` where the last walk could not read the thread.
fn read(collector: &Collector, thread: &Thread) -> Option<Read> {
    let record = collector.record(thread.slot);
    let waited = thread.account.interval.map(|interval| interval.run_delay_ns > 0);
    (record.generation == collector.generation()).then_some(Read { slot: thread.slot, record, waited })
}

/// Observes less of VMs that left their guests too often in the interval, and all again of those that are
/// calm.
pub(super) fn adjust_levels(slots: &mut Slots, levels: Levels, stats: &mut SamplerStats) {
    for (guest, (exits_per_second, wall_ns)) in exit_rates(slots) {
        let Some(vm) = slots.vm_mut(guest) else { continue };
        let Some(change) = vm.account.level.observe(exits_per_second, wall_ns, levels) else { continue };
        let name = vm.facts.as_ref().and_then(|facts| facts.name.as_deref()).unwrap_or("");
        let (pid, bound) = (guest.pid, levels.max_exits);
        if change == Change::Lowered {
            stats.levels_lowered += 1;
            tracing::warn!(
                pid,
                name,
                exits_per_second,
                bound,
                "a vCPU leaves its guest too often for its exits and its CPU time to be broken down: the guest goes on at level basic"
            );
        } else {
            tracing::info!(pid, name, exits_per_second, bound, "the guest is at level full again");
        }
    }
    stats.vms_lowered = slots.vms().filter(|(_, vm)| vm.account.level.is_lowered()).count() as u64;
}

/// Of each VM how often its busiest vCPU left the guest in a second of the interval, and the interval's
/// length, ns.
fn exit_rates(slots: &Slots) -> BTreeMap<KvmGuest, (u64, u64)> {
    let mut rates: BTreeMap<KvmGuest, (u64, u64)> = BTreeMap::new();
    for thread in slots.threads() {
        let account = &thread.account;
        let Some(interval) = account.interval.filter(|interval| interval.wall_ns > 0) else { continue };
        // KVM's count has what it emulates as well, but not each exit that it handles without leaving its
        // innermost loop.
        let by_kvm = interval.kvm.and_then(|kvm| kvm.get(KvmStat::Exits)).unwrap_or(0);
        let by_hooks = account.exits_added.as_deref();
        let by_hooks = by_hooks.map_or(0, |exits| exits.iter().map(|(_, exits)| exits.count).sum());
        let rate = by_kvm.max(by_hooks) as f64 * 1e9 / interval.wall_ns.max(LEAST_NS) as f64;
        let (most, wall_ns) = rates.entry(thread.vm).or_default();
        (*most, *wall_ns) = ((*most).max(rate as u64), (*wall_ns).max(interval.wall_ns));
    }
    rates
}
