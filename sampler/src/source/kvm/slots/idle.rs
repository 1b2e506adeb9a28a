//! vCPUs that no followed thread runs, and vCPUs that end while their threads live on: what only the
//! descriptors of a VMM say.

use std::{collections::BTreeSet, sync::Arc};

use sampler_ebpf::abi::{Event, VcpuFile};

use super::{KvmGuest, Open, Slots};
use crate::collect::{Listed, Reach};

/// Processes of which is remembered how many VMs they had.
const REMEMBERED: usize = 4096;

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
    /// What it got since: sleep.
    pub account: A,
}

/// A vCPU that ended without a thread.
#[derive(Clone, Debug)]
pub struct EndedIdle<A> {
    /// The vCPU as it was.
    pub vcpu: Idle<A>,
    /// Identity of its VM in exported series, if it was ever shown.
    pub vm_id: Option<Arc<str>>,
    /// It was the last of its VM.
    pub vm_gone: bool,
}

impl<A: Open, B: Open> Slots<A, B> {
    /// Takes in which vCPUs there are, by a look that began at this moment by `CLOCK_BOOTTIME`. Of vCPUs that
    /// it should have found and did not, the descriptors are closed: nobody can run them any more.
    pub fn listed(&mut self, listed: &Listed, began_boottime_ns: u64) {
        listed.files.iter().for_each(|file| self.found(file));
        if !listed.is_complete {
            return;
        }
        let present: BTreeSet<u64> = listed.files.iter().map(|file| file.vcpu).collect();
        let was_visited = |vm: KvmGuest| match &listed.reach {
            Reach::Host => true,
            Reach::Processes(processes) => processes.contains(&vm.pid),
        };
        let is_over = |vm: KvmGuest, vcpu: u64, seen_ns: u64| {
            seen_ns < began_boottime_ns && was_visited(vm) && !present.contains(&vcpu)
        };
        let threads = self.threads.values();
        let over = threads.filter(|thread| is_over(thread.vm, thread.vcpu, thread.seen_boottime_ns));
        let over: Vec<u32> = over.map(|thread| thread.id.tid).collect();
        over.into_iter().for_each(|tid| self.end(tid));
        let idle = self.idle.iter();
        let over = idle.filter(|(_, idle)| is_over(idle.vm, idle.vcpu, idle.seen_boottime_ns));
        let over: Vec<_> = over.map(|(key, _)| *key).collect();
        over.into_iter().for_each(|key| self.end_idle(key));
    }

    /// A thread's vCPU is known to have ended, and the thread lives on.
    pub fn end(&mut self, tid: u32) {
        let Some(vm) = self.threads.get(&tid).map(|thread| thread.vm) else { return };
        self.remove(tid, false);
        self.retire(vm);
    }

    /// The vCPUs that no followed thread runs, by VM and number.
    pub fn idle(&self) -> impl Iterator<Item = &Idle<A>> {
        self.idle.values()
    }

    /// The same, to be brought up to date.
    pub fn idle_mut(&mut self) -> impl Iterator<Item = &mut Idle<A>> {
        self.idle.values_mut()
    }

    /// vCPUs that ended without a thread since the last call.
    pub fn take_ended_idle(&mut self) -> Vec<EndedIdle<A>> {
        std::mem::take(&mut self.ended_idle)
    }

    /// A followed thread runs another vCPU than before. Whether that one lives the next look will say.
    pub(super) fn turn(&mut self, event: &Event) {
        let Some(thread) = self.threads.get(&event.tid) else { return };
        self.threads_turned += 1;
        let (vm, index, vcpu) = (thread.vm, thread.index, thread.vcpu);
        // The same number of the same VM at another place: it was made anew, at least.
        if (self.vm_key(event), event.vcpu_id) == (vm, index) {
            return self.end(event.tid);
        }
        self.rest(vm, event, Idle { vm, index, vcpu, seen_boottime_ns: 0, account: A::open(event) });
        self.remove(event.tid, true);
    }

    fn found(&mut self, file: &VcpuFile) {
        let event = &as_event(file);
        let vm = self.vm_key(event);
        let key = (vm, file.vcpu_id);
        if self.vcpus.contains_key(&key) {
            return;
        }
        match self.idle.get(&key) {
            Some(idle) if idle.vcpu == file.vcpu => return,
            Some(_) => self.end_idle(key),
            None => {}
        }
        // A VMM keeps the descriptor of a vCPU that was unplugged. Its thread has ended.
        if file.has_run != 0 && !self.threads.contains_key(&file.runner) {
            return;
        }
        let (index, vcpu) = (file.vcpu_id, file.vcpu);
        self.rest(vm, event, Idle { vm, index, vcpu, seen_boottime_ns: 0, account: A::open(event) });
    }

    fn rest(&mut self, vm: KvmGuest, event: &Event, idle: Idle<A>) {
        self.vm_of(vm, event).idle += 1;
        let idle = Idle { seen_boottime_ns: event.at_boottime_ns, ..idle };
        self.idle.insert((vm, idle.index), idle);
    }

    fn end_idle(&mut self, key: (KvmGuest, u32)) {
        let Some(vcpu) = self.idle.remove(&key) else { return };
        let (mut vm_id, mut vm_gone) = (None, false);
        if let Some(vm) = self.vms.get_mut(&key.0) {
            vm.idle -= 1;
            vm_id.clone_from(&vm.id);
            vm_gone = vm.is_over();
        }
        if vm_gone {
            self.vms.remove(&key.0);
        }
        self.retire(key.0);
        self.ended_idle.push(EndedIdle { vcpu, vm_id, vm_gone });
    }

    /// The next VM of the process is another one, if this one is over.
    fn retire(&mut self, vm: KvmGuest) {
        if self.vms.contains_key(&vm) {
            return;
        }
        let next = self.next_vms.entry((vm.start_boottime_ns, vm.pid)).or_default();
        *next = (*next).max(vm.nth.saturating_add(1));
        // The process that began first is the likeliest to have ended since.
        while self.next_vms.len() > REMEMBERED {
            self.next_vms.pop_first();
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
