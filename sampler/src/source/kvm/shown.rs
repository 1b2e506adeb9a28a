//! What snapshots show of threads, from what is known of them.

use super::registry::{Departed, Thread};
use crate::{
    kernel::clock::Clock,
    model::{Account, Ended, StateTimes, Vcpu},
};

/// `None` before the first reading.
pub(super) fn vcpu(thread: &Thread, clock: Clock) -> Option<Vcpu> {
    let account = thread.account.as_ref()?;
    let last = account.last();
    Some(Vcpu {
        thread: thread.id,
        index: thread.index,
        start_unix_ns: clock.unix_of_boottime(thread.id.start_boottime_ns),
        counters: last.counters,
        running_ns: last.running_ns,
        waiting_ns: last.waiting_ns,
        states: account.states(),
        kvm: thread.kvm,
        distributions: thread.distributions.clone(),
        distributions_before: thread.distributions_before.clone(),
        exits: thread.exits.clone(),
        exits_added: thread.exits_added.clone(),
        seen_unix_ns: clock.unix_of_boottime(thread.seen_boottime_ns),
        interval: thread.interval,
    })
}

/// `None` where there is nothing to tell.
pub(super) fn ended(departed: Departed, clock: Clock) -> Option<Ended> {
    let Departed { thread, vm_id, vm_gone, last, .. } = departed;
    let read = thread.account.as_ref().map(|account| account.last().counters);
    // Of one that was never shown nor recorded there is nothing to tell, unless its VM ended with it.
    let counters = last.or(read).or_else(|| vm_gone.then_some([0; _]))?;
    Some(Ended {
        vm_id: vm_id?,
        thread: thread.id,
        index: thread.index,
        start_unix_ns: clock.unix_of_boottime(thread.id.start_boottime_ns),
        counters,
        states: thread.account.as_ref().map_or_else(StateTimes::default, Account::states),
        vm_gone,
    })
}
