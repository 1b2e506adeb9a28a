//! What is known of threads and VMs that are followed, and what is to be done for them.

use std::{collections::BTreeSet, sync::Arc};

use sampler_ebpf::abi::{COUNTERS, Event};

use super::super::identity::{KvmGuest, ThreadId};
use crate::{
    kept::kept,
    model::{COUNTERS as COUNTED, Counters, Facts, Level},
};

/// What is to be done to the tables that are shared with the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin the slot anew for the thread of this event and let the pid table name it.
    Assign {
        /// The slot.
        slot: u16,
        /// How the thread was seen.
        event: Event,
    },
    /// Let the pid table name the slot again that the thread has.
    Restore {
        /// The slot.
        slot: u16,
        /// The thread.
        tid: u32,
    },
    /// Take the thread out of the pid table if it names this slot.
    Release {
        /// The slot.
        slot: u16,
        /// The thread.
        tid: u32,
    },
    /// Let the thread be announced again.
    Forget {
        /// The thread.
        tid: u32,
    },
    /// The thread has no slot: let its end be reported, unless it has ended by now.
    Watch {
        /// Its process.
        pid: u32,
        /// The thread.
        tid: u32,
    },
    /// The thread waits no longer.
    Unwatch {
        /// The thread.
        tid: u32,
    },
}

/// What is opened for a thread or a VM when it is first seen.
pub trait Open {
    /// Opens it.
    fn open(event: &Event) -> Self;
}

/// What is kept of a vCPU, whichever thread runs it; `B` is kept of its VM.
pub trait Lasting<B>: Open {
    /// What the programs have of a thread that runs the vCPU no longer.
    type Left;

    /// The thread that has run it runs it no longer. Returns up to which of the kernel's counts of that
    /// thread it is the vCPU's, where that is known.
    fn leave(&mut self, vm: &mut B, left: Option<Self::Left>) -> Option<Counters>;

    /// The thread of this event runs it from now on. What the kernel has counted of that thread up to `began`
    /// is not the vCPU's, and what it has counted since then may be; where that is not known, nothing of what
    /// it had counted when the thread was seen is.
    fn take_over(&mut self, event: &Event, began: Option<Counters>);
}

/// Nothing is kept of it.
impl Open for () {
    fn open(_: &Event) {}
}

impl Lasting<()> for () {
    type Left = ();

    fn leave(&mut self, (): &mut (), _: Option<()>) -> Option<Counters> {
        None
    }

    fn take_over(&mut self, _: &Event, _: Option<Counters>) {}
}

/// A thread that is followed.
#[derive(Clone, Debug)]
pub struct Thread<A> {
    /// Its slot.
    pub slot: u16,
    /// Address of its `task_struct`.
    pub task: u64,
    /// Identity of its stream.
    pub id: ThreadId,
    /// Its VM.
    pub vm: KvmGuest,
    /// The vCPU's number as the VMM chose it.
    pub index: u32,
    /// Address of the `struct kvm_vcpu`: identity of the vCPU while it lives.
    pub vcpu: u64,
    /// `CLOCK_MONOTONIC` at its creation, ns.
    pub start_monotonic_ns: u64,
    /// `CLOCK_BOOTTIME` when it was seen running its vCPU, ns: what the sampler itself counts begins there.
    pub seen_boottime_ns: u64,
    /// The same by the scheduler's clock, ns: its slot has it too.
    pub begun_ns: u64,
    /// No thread was seen to run its vCPU before it.
    pub is_first: bool,
    /// How much is observed of what it does with its CPU time.
    pub level: Level,
    /// Walks in a row that did not find it.
    pub missed: u32,
    /// Walks in a row that found its vCPU to be another's.
    pub strange: u32,
    /// What its vCPU got and was denied.
    pub account: A,
}

// How much is observed of it the slot says.
kept! {
    <A> Thread {
        slot,
        task,
        id,
        vm,
        index,
        vcpu,
        start_monotonic_ns,
        seen_boottime_ns,
        begun_ns,
        is_first,
        account,
    }
    anew { level = Level::Basic, missed, strange }
}

/// A VM with at least one vCPU.
#[derive(Clone, Debug)]
pub struct VmEntry<B> {
    /// Identity in exported series; set once, when the VM is first shown.
    pub id: Option<Arc<str>>,
    /// What the platform says, once it was asked.
    pub facts: Option<Arc<Facts>>,
    /// Snapshots that waited for the facts.
    pub waited: u32,
    /// How much is observed of what its vCPUs do with their CPU time.
    pub(super) level: Level,
    /// `CLOCK_BOOTTIME` when the first of its vCPUs was seen, ns.
    pub seen_boottime_ns: u64,
    /// What its vCPUs got and were denied together.
    pub account: B,
    pub(super) kvm: u64,
    /// Numbers of the vCPUs that a followed thread has run. KVM gives a number once in the life of a VM.
    pub(super) ran: BTreeSet<u32>,
    /// Followed threads.
    pub threads: u32,
    /// vCPUs that no followed thread runs.
    pub idle: u32,
}

impl<B> VmEntry<B> {
    /// What is known of it; at least that nothing is.
    #[must_use]
    pub fn known_facts(&self) -> Arc<Facts> {
        self.facts.clone().unwrap_or_else(Facts::unknown)
    }

    /// None of its vCPUs is left.
    pub(super) const fn is_over(&self) -> bool {
        self.threads == 0 && self.idle == 0
    }
}

/// A thread that has run a vCPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Former {
    /// The vCPU.
    pub(super) vcpu: (KvmGuest, u32),
    /// Up to which of the kernel's counts of the thread it is that one's.
    pub(super) until: Option<Counters>,
}

kept! { Former { vcpu, until in COUNTED } }

/// A thread that is no longer followed.
#[derive(Clone, Debug)]
pub struct Departed<A> {
    /// The thread as it was.
    pub thread: Thread<A>,
    /// Identity of its VM in exported series, if it was ever shown.
    pub vm_id: Option<Arc<str>>,
    /// What was known of its VM.
    pub vm_facts: Arc<Facts>,
    /// It was the last of its VM.
    pub vm_gone: bool,
    /// Its counts at its very last switch, where that was recorded.
    pub last: Option<[u64; COUNTERS.len()]>,
}
