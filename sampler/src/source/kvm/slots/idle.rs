//! vCPUs that no followed thread runs, and vCPUs that end while their threads live on: what only the
//! descriptors of a VMM say.

use std::{collections::BTreeSet, sync::Arc};

use sampler_ebpf::abi::{Event, VcpuFile};

use super::{Former, KvmGuest, Lasting, Open, Slots, Thread, ThreadId, VmEntry};
use crate::{
    collect::{Listed, Reach},
    kept::kept,
    model::{Counters, Facts},
};

/// A vCPU that no followed thread runs: its VMM has not run it yet, or its thread runs another one now.
#[derive(Clone, Debug)]
pub struct Idle<A> {
    /// Its VM.
    pub vm: KvmGuest,
    /// The vCPU's number as the VMM chose it.
    pub index: u32,
    /// Address of the `struct kvm_vcpu`.
    pub vcpu: u64,
    /// `CLOCK_BOOTTIME` when it was found so, ns.
    pub seen_boottime_ns: u64,
    /// A thread has run it.
    pub has_run: bool,
    /// What it got: since nobody runs it, sleep.
    pub account: A,
}

kept! { <A> Idle { vm, index, vcpu, seen_boottime_ns, has_run, account } }

/// A vCPU that ended without a thread.
#[derive(Clone, Debug)]
pub struct EndedIdle<A> {
    /// The vCPU as it was.
    pub vcpu: Idle<A>,
    /// Identity of its VM in exported series, if it was ever shown.
    pub vm_id: Option<Arc<str>>,
    /// What was known of its VM.
    pub vm_facts: Arc<Facts>,
    /// It was the last of its VM.
    pub vm_gone: bool,
}

impl<A: Lasting<B>, B: Open> Slots<A, B> {
    /// Takes in which vCPUs there are, by a look that began at this moment by `CLOCK_BOOTTIME`. Returns the
    /// processes of which only a look at the whole host can say whether a thread's vCPU has ended.
    pub fn listed(&mut self, listed: &Listed, began_boottime_ns: u64) -> BTreeSet<u32> {
        self.are_listed = listed.is_complete;
        let followed: BTreeSet<u64> = self.threads.values().map(|thread| thread.vcpu).collect();
        listed.files.iter().filter(|file| !followed.contains(&file.vcpu)).for_each(|file| self.found(file));
        if !listed.is_complete {
            return BTreeSet::new();
        }
        let present: BTreeSet<u64> = listed.files.iter().map(|file| file.vcpu).collect();
        let was_visited = |vm: KvmGuest| match &listed.reach {
            Reach::Host => true,
            Reach::Processes(processes) => processes.contains(&vm.pid),
        };
        // Of what was known before, the look should have found the descriptors.
        let is_over = |vm: KvmGuest, vcpu: u64, seen_ns: u64| {
            seen_ns < began_boottime_ns && was_visited(vm) && !present.contains(&vcpu)
        };
        let idle = self.idle.iter();
        let over = idle.filter(|(_, idle)| is_over(idle.vm, idle.vcpu, idle.seen_boottime_ns));
        let over: Vec<_> = over.map(|(key, _)| *key).collect();
        over.into_iter().for_each(|key| self.end_idle(key));
        let threads = self.threads.values();
        let over = threads.filter(|thread| is_over(thread.vm, thread.vcpu, thread.seen_boottime_ns));
        let over: Vec<_> = over.map(|thread| (thread.id.tid, thread.vm.pid)).collect();
        // By process the kernel leaves threads out that have a table of descriptors of their own (up to 6.6).
        if listed.reach != Reach::Host {
            return over.into_iter().map(|(_, pid)| pid).collect();
        }
        over.into_iter().for_each(|(tid, _)| self.end(tid));
        BTreeSet::new()
    }

    /// A thread's vCPU is known to have ended, and the thread lives on.
    pub fn end(&mut self, tid: u32) {
        let Some(thread) = self.threads.get(&tid) else { return };
        let (vm, id) = (thread.vm, thread.id);
        self.former.set(id, Former { vcpu: (vm, thread.index), until: None });
        self.remove(tid);
        self.retire(vm);
    }

    /// A thread's whole VM is known to have ended, and the thread lives on.
    pub fn end_vm_of(&mut self, tid: u32) {
        if let Some(vm) = self.threads.get(&tid).map(|thread| thread.vm) {
            self.end_vm(vm);
        }
    }

    /// Whether what a thread does may be of a vCPU that lives: the thread is not followed, and has run it.
    #[must_use]
    pub fn may_return(&self, thread: ThreadId) -> bool {
        let former = self.former.get(&thread).filter(|_| !self.threads.contains_key(&thread.tid));
        former.is_some_and(|former| {
            self.vcpus.contains_key(&former.vcpu) || self.idle.contains_key(&former.vcpu)
        })
    }

    /// The vCPUs that no followed thread runs, by VM and number.
    pub fn idle(&self) -> impl Iterator<Item = &Idle<A>> {
        self.idle.values()
    }

    /// Calls `each` with all of them and their VMs.
    pub fn for_each_idle(&mut self, mut each: impl FnMut(&mut Idle<A>, &mut VmEntry<B>)) {
        for idle in self.idle.values_mut() {
            if let Some(vm) = self.vms.get_mut(&idle.vm) {
                each(idle, vm);
            }
        }
    }

    /// vCPUs that ended without a thread since the last call.
    pub fn take_ended_idle(&mut self) -> Vec<EndedIdle<A>> {
        std::mem::take(&mut self.ended_idle)
    }

    /// Processes of which a thread has turned to another vCPU since the last call.
    pub fn take_turned(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.turned)
    }

    /// A followed thread runs another vCPU than before. Returns up to which of the kernel's counts it is that
    /// one's, where that is known.
    pub(super) fn turn(
        &mut self,
        event: &Event,
        left: &mut impl FnMut(&Thread<A>) -> Option<A::Left>,
    ) -> Option<Counters> {
        self.threads_turned += 1;
        self.set_aside(event.tid, event.at_boottime_ns, left)
    }

    /// A thread lives on, and its vCPU is another thread's by now, or nobody's.
    pub fn estranged(
        &mut self,
        tid: u32,
        at_boottime_ns: u64,
        mut left: impl FnMut(&Thread<A>) -> Option<A::Left>,
    ) {
        self.set_aside(tid, at_boottime_ns, &mut left);
    }

    /// A thread runs its vCPU no longer. Whether the vCPU lives the next look will say.
    fn set_aside(
        &mut self,
        tid: u32,
        seen_boottime_ns: u64,
        left: &mut impl FnMut(&Thread<A>) -> Option<A::Left>,
    ) -> Option<Counters> {
        let pid = self.threads.get(&tid)?.vm.pid;
        self.turned.insert(pid);
        if !self.are_listed {
            self.end(tid);
            return None;
        }
        let (thread, until) = self.leave(tid, left)?;
        let Thread { vm, index, vcpu, account, .. } = thread;
        self.rest(Idle { vm, index, vcpu, seen_boottime_ns, has_run: true, account });
        until
    }

    /// KVM gives the number of a vCPU once in the life of a VM. So a VM whose vCPU of this number was
    /// elsewhere in memory has ended, and this one took the place of its `struct kvm`.
    pub(super) fn end_replaced_vm(&mut self, event: &Event) {
        let key = (self.vm_key(event), event.vcpu_id);
        let thread = self.vcpus.get(&key).and_then(|tid| self.threads.get(tid));
        let known = thread.map(|thread| thread.vcpu).or_else(|| self.idle.get(&key).map(|idle| idle.vcpu));
        if known.is_some_and(|vcpu| vcpu != event.vcpu) {
            self.end_vm(key.0);
        }
    }

    fn end_vm(&mut self, vm: KvmGuest) {
        let threads = self.threads.values().filter(|thread| thread.vm == vm);
        let threads: Vec<_> = threads.map(|thread| thread.id.tid).collect();
        threads.into_iter().for_each(|tid| self.end(tid));
        let idle: Vec<_> = self.idle.keys().filter(|(of, _)| *of == vm).copied().collect();
        idle.into_iter().for_each(|key| self.end_idle(key));
    }

    fn found(&mut self, file: &VcpuFile) {
        let event = &as_event(file);
        // A child that shares its memory with the VMM has its descriptors too.
        if self.vms.iter().any(|(vm, entry)| entry.kvm == file.kvm && vm.pid != file.tgid) {
            return;
        }
        let key = (self.vm_key(event), file.vcpu_id);
        let thread = self.vcpus.get(&key).and_then(|tid| self.threads.get(tid));
        let known = thread.map(|thread| (thread.vcpu, thread.seen_boottime_ns));
        let known = known.or_else(|| self.idle.get(&key).map(|idle| (idle.vcpu, idle.seen_boottime_ns)));
        // A look takes a while: another VM may be in the place of the one that it found.
        if known.is_some_and(|(vcpu, seen_ns)| vcpu != file.vcpu && seen_ns > file.at_boottime_ns) {
            return;
        }
        self.end_replaced_vm(event);
        let key = (self.vm_key(event), file.vcpu_id);
        if self.vcpus.contains_key(&key) {
            return;
        }
        if let Some(idle) = self.idle.get_mut(&key) {
            idle.has_run |= file.has_run != 0;
        }
        // A VMM keeps the descriptor of a vCPU that was unplugged: its thread has ended. And one whose thread
        // found no slot runs.
        let is_nobodys = file.has_run == 0 || self.threads.contains_key(&file.runner);
        match (self.idle.contains_key(&key), is_nobodys) {
            (true, false) => self.end_idle(key),
            (false, true) => {
                let (vm, index) = key;
                self.vm_of(vm, event);
                let (vcpu, seen_boottime_ns) = (file.vcpu, event.at_boottime_ns);
                let (has_run, account) = (file.has_run != 0, A::open(event));
                self.rest(Idle { vm, index, vcpu, seen_boottime_ns, has_run, account });
            }
            _ => {}
        }
    }

    fn rest(&mut self, idle: Idle<A>) {
        if let Some(vm) = self.vms.get_mut(&idle.vm) {
            vm.idle += 1;
            self.idle.insert((idle.vm, idle.index), idle);
        }
    }

    fn end_idle(&mut self, key: (KvmGuest, u32)) {
        let Some(vcpu) = self.idle.remove(&key) else { return };
        let (mut vm_id, mut vm_facts, mut vm_gone) = (None, Facts::unknown(), false);
        if let Some(vm) = self.vms.get_mut(&key.0) {
            vm.idle -= 1;
            vm_id.clone_from(&vm.id);
            vm_facts = vm.known_facts();
            vm_gone = vm.is_over();
        }
        if vm_gone {
            self.vms.remove(&key.0);
        }
        self.retire(key.0);
        self.ended_idle.push(EndedIdle { vcpu, vm_id, vm_facts, vm_gone });
    }

    /// The next VM of the process is another one, if this one is over.
    fn retire(&mut self, vm: KvmGuest) {
        if !self.vms.contains_key(&vm) {
            self.next_vms.retire(vm);
        }
    }
}

/// A vCPU as a descriptor shows it, in the form in which one is announced.
fn as_event(file: &VcpuFile) -> Event {
    Event {
        tgid: file.tgid,
        vcpu_id: file.vcpu_id,
        kvm: file.kvm,
        vcpu: file.vcpu,
        leader_start_boottime_ns: file.leader_start_boottime_ns,
        at_boottime_ns: file.at_boottime_ns,
        sched_ns: file.sched_ns,
        ..Event::default()
    }
}

#[cfg(test)]
mod tests;
