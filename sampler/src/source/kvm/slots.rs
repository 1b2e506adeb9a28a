//! Which threads are followed, in which slot, and as which vCPU of which VM.
//!
//! Pure bookkeeping: lifecycle events go in, actions on the shared tables come out. Events may come twice,
//! out of order across a reused pid, or not at all; none of that may leak a slot or mix two streams.

mod entries;

use std::{collections::BTreeMap, sync::Arc};

use sampler_ebpf::abi::{COUNTERS, Event};

use super::identity::{KvmGuest, ThreadId};
pub use entries::Action;
pub(super) use entries::{Departed, Open, Thread, VmEntry};

use crate::source::GuestFacts;

/// The slots, and whose they are. What a thread or VM got and was denied hangs on it, and is not looked at
/// here.
#[derive(Debug)]
pub struct Slots<A, B> {
    threads: BTreeMap<u32, Thread<A>>,
    vms: BTreeMap<KvmGuest, VmEntry<B>>,
    vcpus: BTreeMap<(KvmGuest, u32), u32>,
    /// Freed slots, the longest free first: a slot rests as long as possible before another thread gets it.
    free: std::collections::VecDeque<u16>,
    /// Threads without a slot because none was free.
    refused: BTreeMap<u32, u64>,
    unidentified: Vec<KvmGuest>,
    actions: Vec<Action>,
    departed: Vec<Departed<A>>,
    slots_exhausted: u64,
    threads_replaced: u64,
    slots: u32,
    /// Threads that came since [`Self::sync_observed`] was called.
    new: Vec<u32>,
}

impl<A: Open, B: Open> Slots<A, B> {
    /// Over slots 1 to `slots - 1`; slot 0 is never given out.
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

    /// Lets the refused threads be announced again where there are slots now. All of them, for some may have
    /// ended since without a word: a thread without a slot is none that the programs follow to its end.
    pub fn offer_again(&mut self) {
        if !self.free.is_empty() {
            let refused = std::mem::take(&mut self.refused);
            self.actions.extend(refused.into_keys().map(|tid| Action::Forget { tid }));
        }
    }

    /// The platform was asked for a VM's facts. Its exported identity stays what it is, if it has been shown,
    /// and so does what is known and not in this answer: an empty one is no knowledge.
    pub fn identify(&mut self, key: KvmGuest, facts: GuestFacts) {
        if let Some(vm) = self.vms.get_mut(&key) {
            let known = vm.facts.take().unwrap_or_default();
            vm.facts = Some(facts.or(known));
        }
    }

    /// The identity of a VM in exported series: its UUID if no other VM shows the same, else process and
    /// start.
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
    pub fn take_departed(&mut self) -> Vec<Departed<A>> {
        std::mem::take(&mut self.departed)
    }

    /// Says of each thread whether what it does with its CPU time is to be told, by its VM; `change` hears of
    /// each that changes.
    pub fn sync_observed(
        &mut self,
        observed: impl Fn(&VmEntry<B>) -> bool,
        mut change: impl FnMut(u16, bool),
    ) {
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

    /// Calls `each` with all followed threads and their VMs, by thread id.
    pub fn for_each(&mut self, mut each: impl FnMut(&mut Thread<A>, &mut VmEntry<B>)) {
        for thread in self.threads.values_mut() {
            if let Some(vm) = self.vms.get_mut(&thread.vm) {
                each(thread, vm);
            }
        }
    }

    /// The followed threads, by thread id.
    pub fn threads(&self) -> impl Iterator<Item = &Thread<A>> {
        self.threads.values()
    }

    /// The process of a followed thread.
    #[must_use]
    pub fn process_of(&self, tid: u32) -> Option<u32> {
        self.threads.get(&tid).map(|thread| thread.vm.pid)
    }

    /// The VMs, by key.
    pub fn vms(&self) -> impl Iterator<Item = (&KvmGuest, &VmEntry<B>)> {
        self.vms.iter()
    }

    /// A VM.
    #[must_use]
    pub fn vm(&self, key: KvmGuest) -> Option<&VmEntry<B>> {
        self.vms.get(&key)
    }

    /// A VM.
    pub fn vm_mut(&mut self, key: KvmGuest) -> Option<&mut VmEntry<B>> {
        self.vms.get_mut(&key)
    }

    /// The VMs, by key.
    pub fn vms_mut(&mut self) -> impl Iterator<Item = (KvmGuest, &mut VmEntry<B>)> {
        self.vms.iter_mut().map(|(guest, vm)| (*guest, vm))
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
                observed: false,
                seen_boottime_ns: event.at_boottime_ns,
                account: B::open(event),
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
            seen_boottime_ns: event.at_boottime_ns,
            is_first,
            observed: false,
            missed: 0,
            strange: 0,
            account: A::open(event),
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

fn sync_thread<A, B>(
    vms: &BTreeMap<KvmGuest, VmEntry<B>>,
    thread: &mut Thread<A>,
    change: &mut impl FnMut(u16, bool),
) {
    let observed = vms.get(&thread.vm).is_some_and(|vm| vm.observed);
    if thread.observed != observed {
        thread.observed = observed;
        change(thread.slot, observed);
    }
}

#[cfg(test)]
mod tests;
