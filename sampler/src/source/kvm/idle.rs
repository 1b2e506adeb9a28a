//! What is shown of vCPUs that no followed thread runs: they sleep.

use super::{
    accounts::{Slots, VcpuAccount},
    slots::{EndedIdle, Idle},
};
use crate::{
    kernel::clock::Clock,
    model::{Account, Ended, KvmVcpu, Reading, StateTimes, Vcpu},
};

/// A moment on all clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    clock: Clock,
    monotonic_ns: u64,
    boottime_ns: u64,
    sched_ns: u64,
}

impl Moment {
    /// Now, where the last walk found the scheduler's clock ahead of `CLOCK_MONOTONIC` by so much, modulo
    /// 2^64.
    pub(super) fn new(clock: Clock, sched_ahead_ns: u64) -> Self {
        let monotonic_ns = clock.monotonic_ns();
        let sched_ns = monotonic_ns.wrapping_add(sched_ahead_ns);
        Self { clock, monotonic_ns, boottime_ns: clock.boottime_ns(), sched_ns }
    }
}

/// Brings what all of them got up to now.
pub(super) fn rest_all(slots: &mut Slots, now: Moment, throttled: bool) {
    slots.for_each_idle(|idle, vm| {
        rest(&mut idle.account, now, throttled);
        vm.account.clock.get_or_insert(now.clock);
        if let Some(interval) = &idle.account.interval {
            vm.account.add(interval, None);
        }
    });
}

/// Brings what a vCPU got up to now: what its thread had of it since the last reading, and else sleep.
fn rest(account: &mut VcpuAccount, now: Moment, throttled: bool) {
    let none = Reading { throttled_ns: throttled.then_some(0), ..Reading::default() };
    let reading = account.at_rest(none, now.monotonic_ns, now.sched_ns);
    account.exits_added = None;
    account.is_kvm_read = false;
    account.distributions_before = account.distributions.clone();
    if let Some(time) = &mut account.time {
        account.interval = Some(time.advance(reading).0);
        return;
    }
    account.time = Some(Account::follow(reading));
    account.followed_boottime_ns = now.boottime_ns;
    account.clock = Some(now.clock);
}

/// `None` before the first reading.
pub(super) fn vcpu(idle: &Idle<VcpuAccount>, clock: Clock) -> Option<Vcpu> {
    let account = &idle.account;
    let clock = account.clock.unwrap_or(clock);
    let time = account.time.as_ref()?;
    Some(Vcpu {
        id: account.stream.id,
        index: idle.index,
        unused: !idle.has_run,
        start_unix_ns: clock.unix_of_boottime(account.stream.start_boottime_ns),
        followed_unix_ns: account.followed_unix_ns(clock),
        seen_unix_ns: clock.unix_of_boottime(account.stream.seen_boottime_ns),
        totals: time.totals(),
        counters: time.last().counters,
        states: time.states(),
        blocked: *time.blocked(),
        kvm: Some(KvmVcpu { exits: account.exits.clone(), ..KvmVcpu::default() }),
        distributions: account.distributions.clone(),
        distributions_before: account.distributions_before.clone(),
        interval: account.interval,
        ..Vcpu::default()
    })
}

/// `None` of one that was never shown.
pub(super) fn ended(ended: EndedIdle<VcpuAccount>, clock: Clock) -> Option<Ended> {
    let EndedIdle { vcpu: idle, vm_id, vm_facts, vm_gone } = ended;
    let shown = vcpu(&idle, clock).unwrap_or_default();
    Some(Ended {
        vm_id: vm_id?,
        vm_facts,
        id: idle.account.stream.id,
        tid: None,
        index: idle.index,
        unused: !idle.has_run,
        start_unix_ns: shown.start_unix_ns,
        followed_unix_ns: shown.followed_unix_ns,
        counters: shown.counters,
        totals: shown.totals,
        states: if idle.account.time.is_some() { shown.states } else { StateTimes::default() },
        vm_gone,
    })
}

#[cfg(test)]
mod tests {
    use sampler_ebpf::abi::VcpuFile;

    use super::*;
    use crate::collect::{Listed, Reach};

    #[test]
    fn the_starts_of_a_guest_that_does_not_run_are_those_of_its_first_reading() {
        let mut slots = Slots::new(8);
        let files = vec![VcpuFile { tgid: 7, kvm: 1, vcpu: 2, at_boottime_ns: 3, ..VcpuFile::default() }];
        slots.listed(&Listed { files, reach: Reach::Host, is_complete: true }, 0);
        rest_all(&mut slots, Moment::new(Clock::start(), 0), false);
        assert!(slots.vms().all(|(_, vm)| vm.account.clock.is_some()), "its VM's clock is that of then");
    }
}
