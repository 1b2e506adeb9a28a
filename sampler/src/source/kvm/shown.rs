//! What snapshots show of threads, from what is known of them. `clock` is that of streams that begin now:
//! those that exist have their own.

use std::array;

use super::{
    accounts::{Departed, Thread, VmEntry},
    counted,
    identity::KvmGuest,
};
use crate::{
    kernel::clock::Clock,
    model::{
        Account, Counter, Counters, Ended, Helpers, KvmVcpu, KvmVm, Level, StateTimes, Totals, Vcpu, VcpuId,
        Vm,
    },
};

/// Mark beside the thread's id in the id of a stream that does not begin with the thread: no thread's id has
/// it.
const TURNED: u64 = 1 << 32;

/// `None` before the first reading.
pub(super) fn vcpu(thread: &Thread, clock: Clock) -> Option<Vcpu> {
    let account = thread.account.time.as_ref()?;
    let clock = thread.account.clock.unwrap_or(clock);
    let last = account.last();
    let (counters, totals) = own(thread, last.counters, account.totals());
    Some(Vcpu {
        id: id(thread),
        tid: Some(thread.id.tid),
        index: thread.index,
        start_unix_ns: start(thread, clock),
        followed_unix_ns: followed(thread, account, clock),
        totals,
        held: account.held(),
        counters,
        others: thread.base.as_ref().map(counted::counters).unwrap_or_default(),
        running_ns: last.running_ns,
        waiting_ns: last.waiting_ns,
        states: account.states(),
        kvm: Some(KvmVcpu {
            counts: thread.account.kvm.filter(|_| thread.account.is_kvm_read),
            exits: thread.account.exits.clone(),
        }),
        distributions: thread.account.distributions.clone(),
        distributions_before: thread.account.distributions_before.clone(),
        seen_unix_ns: clock.unix_of_boottime(thread.seen_boottime_ns),
        interval: thread.account.interval,
    })
}

/// The stream of what a thread counts for its vCPU. One that has run another vCPU before begins another
/// stream, also where it runs again what it ran first.
const fn id(thread: &Thread) -> VcpuId {
    if thread.base.is_none() {
        return thread.id.vcpu();
    }
    VcpuId::new([TURNED | thread.id.tid as u64, thread.seen_boottime_ns])
}

/// When the kernel's counts of a thread's vCPU were zero, Unix time in ns.
const fn start(thread: &Thread, clock: Clock) -> u64 {
    let is_all_its = thread.base.is_none();
    clock.unix_of_boottime(if is_all_its { thread.id.start_boottime_ns } else { thread.seen_boottime_ns })
}

/// What the kernel counts of a thread, without what it counted of it for other vCPUs.
fn own(thread: &Thread, counters: Counters, totals: Totals) -> (Counters, Totals) {
    let Some(base) = thread.base.as_ref().map(counted::counters) else { return (counters, totals) };
    let own = array::from_fn(|n| counters[n].saturating_sub(base[n]));
    let without = |all: u64, counter: Counter| all.saturating_sub(base[counter as usize]);
    let totals = Totals {
        run_ns: without(totals.run_ns, Counter::Run),
        run_delay_ns: without(totals.run_delay_ns, Counter::RunDelay),
    };
    (own, totals)
}

/// When all states of a thread were zero, Unix time in ns.
const fn followed(thread: &Thread, account: &Account, clock: Clock) -> u64 {
    if account.is_from_creation() {
        clock.unix_of_boottime(thread.id.start_boottime_ns)
    } else {
        clock.unix_of_boottime(thread.account.followed_boottime_ns)
    }
}

/// `None` of a VM that has no identity yet.
pub(super) fn vm(
    guest: KvmGuest,
    entry: &VmEntry,
    level: Level,
    helpers: Helpers,
    mut vcpus: Vec<Vcpu>,
    (clock, now_boottime_ns): (Clock, u64),
) -> Option<Vm> {
    vcpus.sort_unstable_by_key(|vcpu| (vcpu.index, vcpu.id));
    let clock = entry.account.clock.unwrap_or(clock);
    let facts = entry.facts.as_ref();
    let platform = facts.map_or("", |facts| facts.platform);
    Some(Vm {
        key: guest.key(),
        origin: guest.origin(),
        id: entry.id.clone()?,
        name: facts.and_then(|facts| facts.name.clone()),
        uuid: facts.and_then(|facts| facts.uuid.clone()),
        platform: if platform.is_empty() { "unknown" } else { platform },
        start_unix_ns: clock.unix_of_boottime(guest.start_boottime_ns),
        uptime_ns: now_boottime_ns.saturating_sub(guest.start_boottime_ns),
        distributions: entry.account.distributions,
        kvm: Some(KvmVm { level, counts: entry.account.kvm_counts, exits: entry.account.exits.clone() }),
        attributed: entry.account.attribution.attributed().clone(),
        shares: entry.account.attribution.interval().cloned(),
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

/// `None` where there is nothing to tell.
pub(super) fn ended(departed: Departed, clock: Clock) -> Option<Ended> {
    let Departed { thread, vm_id, vm_gone, last, .. } = departed;
    let clock = thread.account.clock.unwrap_or(clock);
    let read = thread.account.time.as_ref().map(|account| account.last().counters);
    // Of one that was never shown nor recorded there is nothing to tell, unless its VM ended with it.
    let counters = later(last, read).or_else(|| vm_gone.then_some([0; _]))?;
    let followed_unix_ns = thread.account.time.as_ref().map(|account| followed(&thread, account, clock));
    let shown = thread.account.time.as_ref().map(Account::totals).unwrap_or_default();
    let totals = Totals {
        run_ns: shown.run_ns.max(counters[Counter::Run as usize]),
        run_delay_ns: shown.run_delay_ns.max(counters[Counter::RunDelay as usize]),
    };
    let (counters, totals) = own(&thread, counters, totals);
    Some(Ended {
        vm_id: vm_id?,
        followed_unix_ns: followed_unix_ns.unwrap_or(0),
        id: id(&thread),
        tid: Some(thread.id.tid),
        index: thread.index,
        start_unix_ns: start(&thread, clock),
        counters,
        totals,
        states: thread.account.time.as_ref().map_or_else(StateTimes::default, Account::states),
        vm_gone,
    })
}
