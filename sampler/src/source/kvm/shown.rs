//! What snapshots show of threads, from what is known of them. `clock` is that of streams that begin now:
//! those that exist have their own.

use std::{array, sync::Arc};

use super::{
    accounts::{Departed, Thread, VmEntry},
    identity::KvmGuest,
};
use crate::{
    kernel::clock::Clock,
    model::{
        Account, Attached, Counter, Counters, Disk, Ended, Helpers, Interface, KvmVcpu, KvmVm, Level,
        StateTimes, Totals, Vcpu, Vm,
    },
    source::groups::Shown,
};

/// `None` before the first reading.
pub(super) fn vcpu(thread: &Thread, clock: Clock) -> Option<Vcpu> {
    let account = thread.account.time.as_ref()?;
    let clock = thread.account.clock.unwrap_or(clock);
    let last = account.last();
    Some(Vcpu {
        id: thread.account.stream.id,
        tid: Some(thread.id.tid),
        index: thread.index,
        unused: false,
        start_unix_ns: clock.unix_of_boottime(thread.account.stream.start_boottime_ns),
        followed_unix_ns: thread.account.followed_unix_ns(clock),
        totals: account.totals(),
        held: account.held(),
        counters: last.counters,
        others: thread.account.carry.as_ref().map(|carry| carry.others()).unwrap_or_default(),
        running_ns: last.running_ns,
        waiting_ns: last.waiting_ns,
        states: account.states(),
        blocked: *account.blocked(),
        kvm: Some(KvmVcpu {
            counts: thread.account.kvm.filter(|_| thread.account.is_kvm_read),
            exits: thread.account.exits.clone(),
        }),
        distributions: thread.account.distributions.clone(),
        distributions_before: thread.account.distributions_before.clone(),
        seen_unix_ns: clock.unix_of_boottime(thread.account.stream.seen_boottime_ns),
        interval: thread.account.interval,
    })
}

/// What a VM has beside its vCPUs.
#[derive(Default)]
pub(super) struct Devices {
    pub(super) helpers: Helpers,
    pub(super) disks: Vec<Disk>,
    pub(super) interfaces: Vec<Interface>,
    pub(super) attached: Arc<[Attached]>,
    pub(super) groups: Shown,
}

/// `None` of a VM that has no identity yet.
pub(super) fn vm(
    guest: KvmGuest,
    entry: &VmEntry,
    level: Level,
    Devices { helpers, disks, interfaces, attached, groups }: Devices,
    mut vcpus: Vec<Vcpu>,
    (clock, now_boottime_ns): (Clock, u64),
) -> Option<Vm> {
    vcpus.sort_unstable_by_key(|vcpu| (vcpu.index, vcpu.id));
    let clock = entry.account.clock.unwrap_or(clock);
    Some(Vm {
        key: guest.key(),
        origin: guest.origin(),
        id: entry.id.clone()?,
        facts: entry.known_facts(),
        start_unix_ns: clock.unix_of_boottime(guest.start_boottime_ns),
        uptime_ns: now_boottime_ns.saturating_sub(guest.start_boottime_ns),
        distributions: entry.account.distributions,
        kvm: Some(KvmVm { level, counts: entry.account.kvm_counts, exits: entry.account.exits.clone() }),
        attributed: entry.account.attribution.attributed().clone(),
        shares: entry.account.attribution.interval().cloned(),
        blocked: entry.account.blocked,
        counters: entry.account.counters,
        memory: entry.account.memory,
        placement: entry.account.placement.clone(),
        control_group: groups.group,
        numa: groups.nodes,
        disks,
        interfaces,
        attached,
        co_stop: entry.account.co_stop.sum(),
        helpers,
        seen_unix_ns: clock.unix_of_boottime(entry.seen_boottime_ns),
        vcpus,
    })
}

/// The later of two readings of counts that never fall: a walk may have read a thread after the last switch
/// that was recorded, and the other way round.
fn later(one: Option<Counters>, other: Option<Counters>) -> Option<Counters> {
    match (one, other) {
        (Some(one), Some(other)) => Some(array::from_fn(|n| one[n].max(other[n]))),
        (one, other) => one.or(other),
    }
}

/// `None` where there is nothing to report.
pub(super) fn ended(departed: Departed, clock: Clock) -> Option<Ended> {
    let Departed { thread, vm_id, vm_facts, vm_gone, last } = departed;
    let account = &thread.account;
    let clock = account.clock.unwrap_or(clock);
    let read = account.time.as_ref().map(|time| time.last().counters);
    // What a thread brought that took the vCPU over was held against the wall time by no reading yet.
    let last = last.filter(|_| !account.is_handed_over);
    let last = last.map(|last| account.carry.as_ref().map_or(last, |carry| carry.counters(last)));
    // Of one that was never shown nor recorded there is nothing to report, unless its VM ended with it.
    let counters = later(last, read).or_else(|| vm_gone.then_some([0; _]))?;
    let shown = account.time.as_ref().map(Account::totals).unwrap_or_default();
    Some(Ended {
        vm_id: vm_id?,
        vm_facts,
        followed_unix_ns: account.time.map_or(0, |_| account.followed_unix_ns(clock)),
        id: account.stream.id,
        tid: Some(thread.id.tid),
        index: thread.index,
        unused: false,
        start_unix_ns: clock.unix_of_boottime(account.stream.start_boottime_ns),
        counters,
        totals: Totals {
            run_ns: shown.run_ns.max(counters[Counter::Run as usize]),
            run_delay_ns: shown.run_delay_ns.max(counters[Counter::RunDelay as usize]),
        },
        states: account.time.as_ref().map_or_else(StateTimes::default, Account::states),
        vm_gone,
    })
}
