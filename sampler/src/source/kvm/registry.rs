//! Which threads are followed, in which slot, and as which vCPU of which VM.
//!
//! Pure bookkeeping: lifecycle events go in, actions on the shared tables come out. Events may come twice, out
//! of order across a reused pid, or not at all; none of that may leak a slot or mix two streams.

mod entries;

use std::{collections::BTreeMap, sync::Arc};

use sampler_ebpf::abi::{COUNTERS, EXIT_ROWS, Event, ExitCounts};

use super::{
    attribution::{account::VmAccount, table::ThreadShares},
    co_stop::Progress,
    levels::VmLevel,
};
pub use entries::{Action, GuestFacts};
pub(super) use entries::{Departed, Thread, VmEntry};

use super::identity::{KvmGuest, ThreadId};
use crate::model::{Distributions, Exits, KvmCounts};

/// The registry.
#[derive(Debug)]
pub struct Registry {
    threads: BTreeMap<u32, Thread>,
    vms: BTreeMap<KvmGuest, VmEntry>,
    vcpus: BTreeMap<(KvmGuest, u32), u32>,
    /// Freed slots, the longest free first: a slot rests as long as possible before another thread gets it.
    free: std::collections::VecDeque<u16>,
    /// Threads without a slot because none was free.
    refused: BTreeMap<u32, u64>,
    unidentified: Vec<KvmGuest>,
    actions: Vec<Action>,
    departed: Vec<Departed>,
    slots_exhausted: u64,
    threads_replaced: u64,
    slots: u32,
    /// Threads that came since [`Self::tell`] was called.
    new: Vec<u32>,
}

impl Registry {
    /// A registry over slots 1 to `slots - 1`; slot 0 is never given out.
    #[must_use]
    pub fn new(slots: u32) -> Self {
        let last = u16::try_from(slots.saturating_sub(1)).unwrap_or(u16::MAX - 1);
        Self {
            threads: BTreeMap::new(),
            vms: BTreeMap::new(),
            vcpus: BTreeMap::new(),
            free: (1..=last).collect(),
            refused: BTreeMap::new(),
            unidentified: Vec::new(),
            actions: Vec::new(),
            departed: Vec::new(),
            slots_exhausted: 0,
            threads_replaced: 0,
            slots,
            new: Vec::new(),
        }
    }

    /// A thread was seen inside a vCPU ioctl.
    pub fn seen(&mut self, event: &Event) {
        let id = ThreadId { tid: event.tid, start_boottime_ns: event.start_boottime_ns };
        if let Some(thread) = self.threads.get(&event.tid) {
            if thread.task == event.task && thread.id == id {
                self.actions.push(Action::Restore { slot: thread.slot, tid: event.tid });
                return;
            }
            // The pid was used again and the end of its earlier owner was lost or is still to come.
            self.remove(event.tid, false);
        }
        let vm = self.vm_key(event);
        if let Some(other) = self.vcpus.get(&(vm, event.vcpu_id)).copied() {
            self.threads_replaced += 1;
            self.remove(other, true);
        }
        let Some(slot) = self.free.pop_front() else {
            self.slots_exhausted += 1;
            self.refused.insert(event.tid, event.task);
            return;
        };
        self.refused.remove(&event.tid);
        self.follow(event, id, vm, slot);
    }

    /// A thread ran for the last time; `last` reads what was counted then in a slot.
    pub fn gone(&mut self, event: &Event, last: impl FnOnce(u16) -> Option<[u64; COUNTERS.len()]>) {
        if let Some(thread) = self.threads.get(&event.tid).filter(|thread| thread.task == event.task) {
            let counts = last(thread.slot);
            self.remove(event.tid, false);
            if let Some(departed) = self.departed.last_mut() {
                departed.last = counts;
            }
        } else if self.refused.get(&event.tid) == Some(&event.task) {
            self.refused.remove(&event.tid);
        }
    }

    /// A thread is known to have ended although no event said so.
    pub fn lost(&mut self, tid: u32) {
        self.remove(tid, false);
    }

    /// Lets the refused threads be announced again where there are slots now. All of them, for some may have ended since
    /// without a word: a thread without a slot is none that the programs follow to its end.
    pub fn offer_again(&mut self) {
        if !self.free.is_empty() {
            let refused = std::mem::take(&mut self.refused);
            self.actions.extend(refused.into_keys().map(|tid| Action::Forget { tid }));
        }
    }

    /// The platform was asked for a VM's facts. Its exported identity stays what it is, if it has been shown.
    pub fn identify(&mut self, key: KvmGuest, facts: GuestFacts) {
        if let Some(vm) = self.vms.get_mut(&key) {
            vm.facts = Some(facts);
        }
    }

    /// The identity of a VM in exported series: its UUID if no other VM shows the same, else process and start.
    pub fn fix_id(&mut self, key: KvmGuest) -> Option<Arc<str>> {
        if let Some(id) = self.vms.get(&key)?.id.clone() {
            return Some(id);
        }
        let uuid = self.vms.get(&key)?.facts.as_ref().and_then(|facts| facts.uuid.clone());
        let nth = if key.nth == 0 { String::new() } else { format!("-{}", key.nth) };
        let by_uuid: Option<Arc<str>> = uuid.map(|uuid| format!("{uuid}{nth}").into());
        let taken = |id: &Arc<str>| self.vms.values().any(|vm| vm.id.as_ref() == Some(id));
        let id = by_uuid
            .filter(|id| !taken(id))
            .unwrap_or_else(|| format!("{}-{}{nth}", key.pid, key.start_boottime_ns).into());
        self.vms.get_mut(&key)?.id = Some(id.clone());
        Some(id)
    }

    /// VMs that are new since the last call: their platform is to be asked.
    pub fn take_unidentified(&mut self) -> Vec<KvmGuest> {
        std::mem::take(&mut self.unidentified)
    }

    /// What is to be done to the shared tables, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Threads that ended since the last call.
    pub fn take_departed(&mut self) -> Vec<Departed> {
        std::mem::take(&mut self.departed)
    }

    /// Brings the distributions of threads and VMs up to date with what `read` finds.
    pub fn distribute(&mut self, read: impl Fn(&Thread) -> Option<Distributions>) {
        for thread in self.threads.values_mut() {
            thread.distributions_before = thread.distributions.clone();
            // Most vCPUs of most hosts sleep: what has not changed is shared with the snapshots before.
            let Some(now) = read(thread).filter(|now| *now != *thread.distributions) else { continue };
            if let Some(vm) = self.vms.get_mut(&thread.vm) {
                vm.distributions = vm.distributions.plus(&now.since(&thread.distributions));
            }
            thread.distributions = Arc::new(now);
        }
    }

    /// Adds to the VMs what KVM has counted of their vCPUs since the last call.
    pub fn count(&mut self) {
        for thread in self.threads.values_mut() {
            let Some(added) = thread.kvm_added.take() else { continue };
            if let Some(vm) = self.vms.get_mut(&thread.vm) {
                vm.kvm_counts = vm.kvm_counts.plus(&added);
            }
        }
    }

    /// Brings the exits of threads and VMs up to date with what `read` finds: what was added, and the counts that were read.
    pub fn count_exits(
        &mut self,
        read: impl Fn(&Thread) -> Option<(Exits, u64, Box<[ExitCounts; EXIT_ROWS]>)>,
    ) {
        let none = Arc::new(Exits::default());
        for thread in self.threads.values_mut() {
            let mut added = none.clone();
            // It could not be read: the next interval takes these in as well.
            let is_torn = thread.interval.is_none() && thread.exit_counts.is_some();
            if let Some((exits, seq, counts)) = (!is_torn).then(|| read(thread)).flatten() {
                (thread.modes_seq, thread.exit_counts) = (seq, Some(counts));
                if let Some(vm) = self.vms.get_mut(&thread.vm) {
                    vm.exits.add_all(&exits);
                }
                Arc::make_mut(&mut thread.exits).add_all(&exits);
                added = Arc::new(exits);
            }
            thread.exits_added = thread.interval.map(|_| added);
        }
    }

    /// Adds the last exits of a thread that is no longer followed to its VM.
    pub fn count_last_exits(&mut self, thread: &Thread, last: &Exits) {
        if let Some(vm) = self.vms.get_mut(&thread.vm) {
            vm.exits.add_all(last);
        }
    }

    /// Says of each thread whether what it does with its CPU time is to be told, by its VM; `change` hears of each that changes.
    pub fn sync_observed(&mut self, observed: impl Fn(&VmEntry) -> bool, mut change: impl FnMut(u16, bool)) {
        let mut is_changed = false;
        for vm in self.vms.values_mut() {
            let observed = observed(vm);
            is_changed |= vm.observed != observed;
            vm.observed = observed;
        }
        let new = std::mem::take(&mut self.new);
        // Thousands of threads may come one by one: each is not to cost a look at all.
        if is_changed {
            self.threads.values_mut().for_each(|thread| sync_thread(&self.vms, thread, &mut change));
        } else {
            for tid in new {
                if let Some(thread) = self.threads.get_mut(&tid) {
                    sync_thread(&self.vms, thread, &mut change);
                }
            }
        }
    }

    /// Adds the last part of a thread that is no longer followed to its VM.
    pub fn distribute_last(&mut self, thread: &Thread, last: &Distributions) {
        if let Some(vm) = self.vms.get_mut(&thread.vm) {
            vm.distributions = vm.distributions.plus(&last.since(&thread.distributions));
        }
    }

    /// Charges the occupants for which each thread waited, that has an interval, or is read for the first time. `read` is asked only where
    /// something may have been taken.
    pub fn charge(&mut self, read: impl Fn(&Thread) -> Option<ThreadShares>) {
        for thread in self.threads.values_mut() {
            let Some(vm) = self.vms.get_mut(&thread.vm) else { continue };
            let Some(account) = &thread.account else { continue };
            let waits = account.last().waiting_ns > 0;
            let pending = thread.shares.as_ref().is_none_or(|shares| shares.is_pending());
            match thread.interval {
                Some(interval) if interval.run_delay_ns == 0 && !waits && !pending => {
                    vm.attribution.add(&interval);
                }
                Some(interval) => {
                    vm.attribution.add(&interval);
                    // Of a thread that is younger than the interval all is new.
                    let young = account.is_all_in_last_step();
                    let Some(now) = read(thread) else { continue };
                    match &thread.shares {
                        Some(before) => vm.attribution.charge(before, &now),
                        None if young => vm.attribution.charge(&ThreadShares::NONE, &now),
                        None => {}
                    }
                    thread.shares = Some(Box::new(now));
                }
                None if thread.shares.is_none() => thread.shares = read(thread).map(Box::new),
                // It could not be read: the next interval takes this one in.
                None => {}
            }
        }
    }

    /// The followed threads, by thread id.
    pub fn threads_mut(&mut self) -> impl Iterator<Item = &mut Thread> {
        self.threads.values_mut()
    }

    /// The followed threads, by thread id.
    pub fn threads(&self) -> impl Iterator<Item = &Thread> {
        self.threads.values()
    }

    /// The process of a followed thread.
    #[must_use]
    pub fn process_of(&self, tid: u32) -> Option<u32> {
        self.threads.get(&tid).map(|thread| thread.vm.pid)
    }

    /// The VMs, by key.
    pub fn vms(&self) -> impl Iterator<Item = (&KvmGuest, &VmEntry)> {
        self.vms.iter()
    }

    /// A VM.
    #[must_use]
    pub fn vm(&self, key: KvmGuest) -> Option<&VmEntry> {
        self.vms.get(&key)
    }

    /// A VM.
    pub fn vm_mut(&mut self, key: KvmGuest) -> Option<&mut VmEntry> {
        self.vms.get_mut(&key)
    }

    /// The VMs.
    pub fn vms_mut(&mut self) -> impl Iterator<Item = &mut VmEntry> {
        self.vms.values_mut()
    }

    /// The VMs' accounts of who took their time.
    pub fn attribution_mut(&mut self) -> impl Iterator<Item = (KvmGuest, &mut VmAccount)> {
        self.vms.iter_mut().map(|(key, vm)| (*key, &mut vm.attribution))
    }

    /// Slots in use.
    #[must_use]
    pub fn slots_used(&self) -> u64 {
        self.threads.len() as u64
    }

    /// Announcements that found no free slot.
    #[must_use]
    pub const fn slots_exhausted(&self) -> u64 {
        self.slots_exhausted
    }

    /// Threads that another thread replaced in running the same vCPU.
    #[must_use]
    pub const fn threads_replaced(&self) -> u64 {
        self.threads_replaced
    }

    /// Every slot is either free or in use by exactly one thread: what no sequence of events may break.
    #[must_use]
    pub fn slots_add_up(&self) -> bool {
        let mut all: Vec<u16> =
            self.free.iter().copied().chain(self.threads.values().map(|thread| thread.slot)).collect();
        all.sort_unstable();
        all.dedup();
        all.len() + 1 == self.slots as usize && self.free.len() + self.threads.len() == all.len()
    }

    fn follow(&mut self, event: &Event, id: ThreadId, vm: KvmGuest, slot: u16) {
        let entry = self.vms.entry(vm).or_insert_with(|| {
            self.unidentified.push(vm);
            VmEntry {
                id: None,
                facts: None,
                waited: 0,
                distributions: Distributions::default(),
                kvm_counts: KvmCounts::default(),
                attribution: VmAccount::default(),
                co_stop: Progress::since(event.sched_ns),
                level: VmLevel::default(),
                observed: false,
                exits: Exits::default(),
                seen_boottime_ns: event.at_boottime_ns,
                kvm: event.kvm,
                threads: 0,
            }
        });
        entry.threads += 1;
        let is_first = self.vcpus.insert((vm, event.vcpu_id), event.tid).is_none();
        let thread = Thread {
            slot,
            task: event.task,
            id,
            vm,
            index: event.vcpu_id,
            start_monotonic_ns: event.start_time_ns,
            followed_monotonic_ns: 0,
            seen_boottime_ns: event.at_boottime_ns,
            account: None,
            interval: None,
            kvm: None,
            is_first,
            kvm_known: None,
            kvm_added: None,
            distributions: Arc::default(),
            distributions_before: Arc::default(),
            shares: None,
            observed: false,
            exits: Arc::default(),
            exits_added: None,
            exit_counts: None,
            modes_seq: 0,
            unpaired: 0,
            missed: 0,
            strange: 0,
        };
        self.threads.insert(event.tid, thread);
        self.new.push(event.tid);
        self.actions.push(Action::Assign { slot, event: *event });
    }

    fn remove(&mut self, tid: u32, replaced: bool) {
        let Some(thread) = self.threads.remove(&tid) else { return };
        self.actions.push(Action::Release { slot: thread.slot, tid });
        self.free.push_back(thread.slot);
        if self.vcpus.get(&(thread.vm, thread.index)) == Some(&tid) {
            self.vcpus.remove(&(thread.vm, thread.index));
        }
        let (mut vm_id, mut vm_gone) = (None, false);
        if let Some(vm) = self.vms.get_mut(&thread.vm) {
            vm.threads -= 1;
            vm_id.clone_from(&vm.id);
            // A VM whose only vCPU changes its thread is still the same VM.
            vm_gone = vm.threads == 0 && !replaced;
        }
        if vm_gone {
            self.vms.remove(&thread.vm);
        }
        self.departed.push(Departed { thread, vm_id, vm_gone, replaced, last: None });
    }

    /// The VM of an event. A process that runs several VMs tells them apart by their `struct kvm`.
    fn vm_key(&self, event: &Event) -> KvmGuest {
        let key = |nth| KvmGuest { pid: event.tgid, start_boottime_ns: event.leader_start_boottime_ns, nth };
        (0..)
            .map(key)
            .find(|key| self.vms.get(key).is_none_or(|vm| vm.kvm == event.kvm))
            .unwrap_or_else(|| key(u32::MAX))
    }
}

fn sync_thread(vms: &BTreeMap<KvmGuest, VmEntry>, thread: &mut Thread, change: &mut impl FnMut(u16, bool)) {
    let observed = vms.get(&thread.vm).is_some_and(|vm| vm.observed);
    if thread.observed != observed {
        thread.observed = observed;
        change(thread.slot, observed);
    }
}

#[cfg(test)]
mod tests;
