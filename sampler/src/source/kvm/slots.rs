//! Which threads are followed, in which slot, and as which vCPU of which VM.
//!
//! Pure bookkeeping: lifecycle events go in, actions on the shared tables come out. Events may come twice,
//! out of order across a reused pid, or not at all; none of that may leak a slot or mix two streams.

mod entries;
mod idle;
mod kept;
mod next_vms;
mod remembered;
mod room;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sampler_ebpf::abi::{COUNTERS, Event};

use super::identity::{KvmGuest, ThreadId};
pub use entries::Action;
use entries::Former;
pub(super) use entries::{Departed, Lasting, Open, Thread, VmEntry};
pub(super) use idle::{EndedIdle, Idle};
pub use kept::Before;
use next_vms::NextVms;
use remembered::Remembered;
use room::{Place, Room};

use crate::{
    model::{Counters, Fact, Level},
    source::GuestFacts,
};

/// The slots, and whose they are. What a thread or VM got and was denied hangs on it, and is not looked at
/// here.
#[derive(Debug)]
pub struct Slots<A, B> {
    threads: BTreeMap<u32, Thread<A>>,
    vms: BTreeMap<KvmGuest, VmEntry<B>>,
    vcpus: BTreeMap<(KvmGuest, u32), u32>,
    /// vCPUs that no followed thread runs.
    idle: BTreeMap<(KvmGuest, u32), Idle<A>>,
    ended_idle: Vec<EndedIdle<A>>,
    next_vms: NextVms,
    /// Looks at descriptors say which vCPUs have ended.
    are_listed: bool,
    threads_turned: u64,
    /// Processes of which a thread has turned to another vCPU.
    turned: BTreeSet<u32>,
    /// Threads that have run a vCPU before.
    former: Remembered<ThreadId, Former>,
    room: Room,
    unidentified: Vec<KvmGuest>,
    actions: Vec<Action>,
    departed: Vec<Departed<A>>,
    threads_replaced: u64,
    /// Threads that came since [`Self::sync_levels`] was called.
    new: Vec<u32>,
}

impl<A: Lasting<B>, B: Open> Slots<A, B> {
    /// Over slots 1 to `slots - 1`; slot 0 is never given out.
    #[must_use]
    pub fn new(slots: u32) -> Self {
        Self {
            threads: BTreeMap::new(),
            vms: BTreeMap::new(),
            vcpus: BTreeMap::new(),
            idle: BTreeMap::new(),
            ended_idle: Vec::new(),
            next_vms: NextVms::default(),
            are_listed: false,
            threads_turned: 0,
            turned: BTreeSet::new(),
            former: Remembered::default(),
            room: Room::new(slots),
            unidentified: Vec::new(),
            actions: Vec::new(),
            departed: Vec::new(),
            threads_replaced: 0,
            new: Vec::new(),
        }
    }

    /// A thread was seen inside a vCPU ioctl. `left` reads what the programs have of a thread that runs its
    /// vCPU no longer.
    pub fn seen(&mut self, event: &Event, mut left: impl FnMut(&Thread<A>) -> Option<A::Left>) {
        let id = ThreadId { tid: event.tid, start_boottime_ns: event.start_boottime_ns };
        let mut began = None;
        if let Some(thread) = self.threads.get(&event.tid) {
            if thread.task == event.task && thread.id == id {
                if thread.vcpu == event.vcpu {
                    self.actions.push(Action::Restore { slot: thread.slot, tid: event.tid });
                    return;
                }
                self.end_replaced_vm(event);
                began = self.turn(event, &mut left);
            } else {
                // The pid was used again and the end of its earlier owner was lost or is still to come.
                self.remove(event.tid);
            }
        }
        self.end_replaced_vm(event);
        let vm = self.vm_key(event);
        let mut account = None;
        if let Some(other) = self.vcpus.get(&(vm, event.vcpu_id)).copied() {
            self.threads_replaced += 1;
            account = self.leave(other, &mut left).map(|(thread, _)| thread.account);
        }
        match self.room.take(event) {
            Place::Slot { slot, has_waited } => {
                self.is_watched_no_more(event.tid, has_waited);
                self.follow(event, (id, vm, slot), began, account);
            }
            Place::Waits { is_new: true } => {
                self.actions.push(Action::Watch { pid: event.tgid, tid: event.tid });
            }
            Place::Waits { is_new: false } => {}
        }
    }

    /// A thread ran for the last time; `last` reads what was counted then in a slot of a thread with this
    /// address.
    pub fn gone(&mut self, event: &Event, last: impl FnOnce(u16, u64) -> Option<[u64; COUNTERS.len()]>) {
        if self.threads.get(&event.tid).is_some_and(|thread| thread.task == event.task) {
            self.lost(event.tid, last);
        } else {
            let has_waited = self.room.gone(event.tid, event.task);
            self.is_watched_no_more(event.tid, has_waited);
        }
    }

    /// A thread is known to have ended although no event said so; `last` as for [`Self::gone`].
    pub fn lost(&mut self, tid: u32, last: impl FnOnce(u16, u64) -> Option<[u64; COUNTERS.len()]>) {
        let Some(thread) = self.threads.get(&tid) else { return };
        let (counts, id) = (last(thread.slot, thread.task), thread.id);
        self.former.forget(&id);
        self.remove(tid);
        if let Some(departed) = self.departed.last_mut() {
            departed.last = counts;
        }
    }

    /// A thread without a slot is found to have ended, without a word: the next one that has its id is to be
    /// announced.
    pub fn dead(&mut self, tid: u32) {
        if self.room.dead(tid) {
            self.is_watched_no_more(tid, true);
            self.actions.push(Action::Forget { tid });
        }
    }

    /// Some of the threads without a slot, with their processes, to be looked at: whether they live.
    pub fn some_waiting(&mut self) -> Vec<(u32, u32)> {
        self.room.some_waiting()
    }

    fn is_watched_no_more(&mut self, tid: u32, was_watched: bool) {
        if was_watched {
            self.actions.push(Action::Unwatch { tid });
        }
    }

    /// There are so many slots from now on, slot 0 included: lets threads be announced again that found none.
    pub fn grow(&mut self, slots: u32) {
        self.room.grow(slots);
        let offered = self.room.offer();
        self.actions.extend(offered.into_iter().map(|tid| Action::Forget { tid }));
    }

    /// Slots for which memory is to be made: for threads that found none, and so that some are free.
    #[must_use]
    pub fn lacking(&self) -> u32 {
        self.room.lacking()
    }

    /// Lets the refused threads be announced again where there are slots for them now, once a reading. Those
    /// that have none count as a loss, unless `more_come`: memory for more is being made.
    pub fn offer_again(&mut self, more_come: bool) {
        let offered = self.room.offer_again(more_come);
        self.actions.extend(offered.into_iter().map(|tid| Action::Forget { tid }));
    }

    /// The platform was asked for a VM's facts. Its exported identity stays what it is, if it has been shown,
    /// and so does what is known and not in this answer: an empty one is no knowledge.
    pub fn identify(&mut self, key: KvmGuest, facts: GuestFacts) {
        if let Some(vm) = self.vms.get_mut(&key) {
            let facts = facts.over(&vm.known_facts());
            // Facts that stay the same stay in place, so that whoever compares them sees it at once.
            if vm.facts.as_deref() != Some(&facts) {
                vm.facts = Some(Arc::new(facts));
            }
        }
    }

    /// The identity of a VM in exported series: its UUID if no other VM shows the same, else process and
    /// start.
    pub fn fix_id(&mut self, key: KvmGuest) -> Option<Arc<str>> {
        if let Some(id) = self.vms.get(&key)?.id.clone() {
            return Some(id);
        }
        let uuid = self.vms.get(&key)?.facts.as_ref().and_then(|facts| facts.get(Fact::Uuid).cloned());
        let nth = if key.nth == 0 { String::new() } else { format!("-{}", key.nth) };
        let by_uuid: Option<Arc<str>> = uuid.map(|uuid| format!("{uuid}{nth}").into());
        let taken = |id: &Arc<str>| self.vms.values().any(|vm| vm.id.as_ref() == Some(id));
        let id = by_uuid
            .filter(|id| !taken(id))
            .unwrap_or_else(|| format!("{}-{}{nth}", key.pid, key.start_boottime_ns).into());
        self.vms.get_mut(&key)?.id = Some(id.clone());
        Some(id)
    }

    /// VMs that are new since the last call, or were changed: their platform is to be asked.
    pub fn take_unidentified(&mut self) -> Vec<KvmGuest> {
        std::mem::take(&mut self.unidentified)
    }

    /// The platform of a VM is to be asked once more.
    pub fn ask_again(&mut self, key: KvmGuest) {
        if self.vms.contains_key(&key) && !self.unidentified.contains(&key) {
            self.unidentified.push(key);
        }
    }

    /// What is to be done to the shared tables, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Threads that ended since the last call.
    pub fn take_departed(&mut self) -> Vec<Departed<A>> {
        std::mem::take(&mut self.departed)
    }

    /// Says of each thread how much of it is to be observed, by its VM; `change` hears of each that changes,
    /// with what it was before.
    pub fn sync_levels(
        &mut self,
        level: impl Fn(&VmEntry<B>) -> Level,
        mut change: impl FnMut(u16, Level, Level),
    ) {
        let mut is_changed = false;
        for vm in self.vms.values_mut() {
            let level = level(vm);
            is_changed |= vm.level != level;
            vm.level = level;
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

    /// Threads that had no slot at a reading, while no memory for more was being made.
    #[must_use]
    pub const fn slots_exhausted(&self) -> u64 {
        self.room.exhausted()
    }

    /// Threads that have no slot because their process has as many as one process gets.
    #[must_use]
    pub const fn slots_capped(&self) -> u64 {
        self.room.capped()
    }

    /// Threads that another thread replaced in running the same vCPU.
    #[must_use]
    pub const fn threads_replaced(&self) -> u64 {
        self.threads_replaced
    }

    /// Times that a followed thread was seen to run another vCPU than before.
    #[must_use]
    pub const fn threads_turned(&self) -> u64 {
        self.threads_turned
    }

    /// Every slot is either free or in use by exactly one thread: what no sequence of events may break.
    #[must_use]
    pub fn slots_add_up(&self) -> bool {
        self.room.adds_up(self.threads.values().map(|thread| thread.slot))
    }

    /// Follows a thread, which takes over the account of its vCPU from another one, or from nobody that runs
    /// it.
    fn follow(
        &mut self,
        event: &Event,
        (id, vm, slot): (ThreadId, KvmGuest, u16),
        began: Option<Counters>,
        account: Option<A>,
    ) {
        let idle = self.idle.remove(&(vm, event.vcpu_id));
        let entry = self.vm_of(vm, event);
        entry.threads += 1;
        entry.idle -= u32::from(idle.is_some());
        let is_first = entry.ran.insert(event.vcpu_id);
        // What nobody has run has nothing that could go on, and its first thread's counts are its own.
        let idle = idle.filter(|idle| idle.has_run);
        let known = account.or(idle.map(|idle| idle.account));
        self.vcpus.insert((vm, event.vcpu_id), event.tid);
        let is_first = is_first && known.is_none();
        let former = self.former.get(&id);
        let goes_on = known.is_some() || former.is_some();
        // Of what it does between two turns at the same vCPU nothing shows before it is seen there again.
        let returned = former.filter(|former| former.vcpu == (vm, event.vcpu_id));
        let began = began.or_else(|| returned?.until);
        let mut account = known.unwrap_or_else(|| A::open(event));
        if goes_on {
            account.take_over(event, began);
        }
        let thread = Thread {
            slot,
            task: event.task,
            id,
            vm,
            index: event.vcpu_id,
            vcpu: event.vcpu,
            start_monotonic_ns: event.start_time_ns,
            seen_boottime_ns: event.at_boottime_ns,
            begun_ns: event.sched_ns,
            is_first,
            level: Level::Basic,
            missed: 0,
            strange: 0,
            account,
        };
        self.threads.insert(event.tid, thread);
        self.new.push(event.tid);
        self.actions.push(Action::Assign { slot, event: *event });
    }

    /// A thread runs its vCPU no longer, and both live on. What the kernel counts of the thread for whichever
    /// vCPU it runs next begins where this one's ends, which is returned as well.
    fn leave(
        &mut self,
        tid: u32,
        left: &mut impl FnMut(&Thread<A>) -> Option<A::Left>,
    ) -> Option<(Thread<A>, Option<Counters>)> {
        let mut thread = self.release(tid)?;
        let left = left(&thread);
        let vm = self.vms.get_mut(&thread.vm)?;
        let until = thread.account.leave(&mut vm.account, left);
        self.former.set(thread.id, Former { vcpu: (thread.vm, thread.index), until });
        Some((thread, until))
    }

    /// Follows a thread no longer.
    fn release(&mut self, tid: u32) -> Option<Thread<A>> {
        let thread = self.threads.remove(&tid)?;
        self.actions.push(Action::Release { slot: thread.slot, tid });
        self.room.give_back(thread.slot, (thread.vm.pid, thread.vm.start_boottime_ns));
        if self.vcpus.get(&(thread.vm, thread.index)) == Some(&tid) {
            self.vcpus.remove(&(thread.vm, thread.index));
        }
        if let Some(vm) = self.vms.get_mut(&thread.vm) {
            vm.threads -= 1;
        }
        Some(thread)
    }

    /// A thread ends, and its vCPU with it.
    fn remove(&mut self, tid: u32) {
        let Some(thread) = self.release(tid) else { return };
        let vm = self.vms.get(&thread.vm);
        let vm_id = vm.and_then(|vm| vm.id.clone());
        let vm_facts = vm.map(VmEntry::known_facts).unwrap_or_default();
        let vm_gone = vm.is_some_and(VmEntry::is_over);
        if vm_gone {
            self.vms.remove(&thread.vm);
        }
        self.departed.push(Departed { thread, vm_id, vm_facts, vm_gone, last: None });
    }

    /// A VM, which begins with this event if it is new.
    fn vm_of(&mut self, vm: KvmGuest, event: &Event) -> &mut VmEntry<B> {
        self.vms.entry(vm).or_insert_with(|| {
            tracing::debug!(
                pid = vm.pid,
                vm = vm.nth,
                thread = event.tid,
                vcpu = event.vcpu_id,
                "{}",
                reason(event)
            );
            self.unidentified.push(vm);
            VmEntry {
                id: None,
                facts: None,
                waited: 0,
                level: Level::Basic,
                seen_boottime_ns: event.at_boottime_ns,
                account: B::open(event),
                kvm: event.kvm,
                ran: BTreeSet::new(),
                threads: 0,
                idle: 0,
            }
        })
    }

    /// The VM of an event. Several VMs of one process are distinguished by their `struct kvm`.
    fn vm_key(&self, event: &Event) -> KvmGuest {
        let (pid, start_boottime_ns) = (event.tgid, event.leader_start_boottime_ns);
        let key = |nth| KvmGuest { pid, start_boottime_ns, nth };
        let mut own = self.vms.range(key(0)..=key(u32::MAX));
        if let Some((known, _)) = own.find(|(_, vm)| vm.kvm == event.kvm) {
            return *known;
        }
        let next = self.next_vms.of(pid, start_boottime_ns);
        let is_free = |nth: &u32| !self.vms.contains_key(&key(*nth));
        key((next..).find(is_free).unwrap_or(u32::MAX))
    }
}

/// Why a process is a VMM.
const fn reason(event: &Event) -> &'static str {
    match event.tid {
        0 => "a process is a VMM: it holds a descriptor of a vCPU that nobody runs",
        _ => "a process is a VMM: a thread of it is inside KVM_RUN of a vCPU",
    }
}

fn sync_thread<A, B>(
    vms: &BTreeMap<KvmGuest, VmEntry<B>>,
    thread: &mut Thread<A>,
    change: &mut impl FnMut(u16, Level, Level),
) {
    let level = vms.get(&thread.vm).map_or(Level::Basic, |vm| vm.level);
    if thread.level != level {
        change(thread.slot, std::mem::replace(&mut thread.level, level), level);
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
