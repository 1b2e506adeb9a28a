//! What is shown of vCPUs that no followed thread runs: they sleep.

use super::{
    accounts::{Slots, ThreadAccount},
    slots::{EndedIdle, Idle},
};
use crate::{
    kernel::clock::Clock,
    model::{Account, Ended, KvmVcpu, Reading, StateTimes, Vcpu, VcpuId},
};

/// Brings what all of them got up to now.
pub(super) fn rest_all(slots: &mut Slots, now: (u64, u64), throttled: bool, clock: Clock) {
    slots.for_each_idle(|idle, vm| {
        rest(&mut idle.account, now, throttled, clock);
        if let Some(interval) = &idle.account.interval {
            vm.account.attribution.add(interval);
        }
    });
}

/// Brings what a vCPU got up to now: nothing but sleep since the last reading. Without a thread there is no
/// scheduler's clock, so CLOCK_MONOTONIC measures it.
fn rest(account: &mut ThreadAccount, (monotonic_ns, boottime_ns): (u64, u64), throttled: bool, clock: Clock) {
    let reading = Reading {
        monotonic_ns,
        sched_ns: monotonic_ns,
        throttled_ns: throttled.then_some(0),
        ..Reading::default()
    };
    if let Some(time) = &mut account.time {
        account.interval = Some(time.advance(reading).0);
        return;
    }
    account.time = Some(Account::follow(reading));
    account.followed_boottime_ns = boottime_ns;
    account.clock = Some(clock);
}

/// `None` before the first reading.
pub(super) fn vcpu(idle: &Idle<ThreadAccount>, clock: Clock) -> Option<Vcpu> {
    let account = &idle.account;
    let time = account.time.as_ref()?;
    let clock = account.clock.unwrap_or(clock);
    let followed_unix_ns = clock.unix_of_boottime(account.followed_boottime_ns);
    Some(Vcpu {
        id: id(idle),
        index: idle.index,
        start_unix_ns: followed_unix_ns,
        followed_unix_ns,
        seen_unix_ns: followed_unix_ns,
        totals: time.totals(),
        states: time.states(),
        kvm: Some(KvmVcpu::default()),
        interval: account.interval,
        ..Vcpu::default()
    })
}

/// `None` of one that was never shown.
pub(super) fn ended(ended: EndedIdle<ThreadAccount>, clock: Clock) -> Option<Ended> {
    let EndedIdle { vcpu: idle, vm_id, vm_gone } = ended;
    let shown = vcpu(&idle, clock).unwrap_or_default();
    Some(Ended {
        vm_id: vm_id?,
        id: id(&idle),
        tid: None,
        index: idle.index,
        start_unix_ns: shown.start_unix_ns,
        followed_unix_ns: shown.followed_unix_ns,
        counters: shown.counters,
        totals: shown.totals,
        states: if idle.account.time.is_some() { shown.states } else { StateTimes::default() },
        vm_gone,
    })
}

/// The stream is not that of any thread: an address of the kernel's is no thread's id.
const fn id(idle: &Idle<ThreadAccount>) -> VcpuId {
    VcpuId::new([idle.vcpu, idle.seen_boottime_ns])
}
