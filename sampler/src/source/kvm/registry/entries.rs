//! What is known of threads and VMs that are followed, and what is to be done for them.

use std::sync::Arc;

use sampler_ebpf::abi::{COUNTERS, EXIT_ROWS, Event, ExitCounts};

use super::super::identity::{KvmGuest, ThreadId};
use super::super::{
    attribution::{account::VmAccount, table::ThreadShares},
    co_stop::Progress,
    levels::VmLevel,
};
use crate::model::{Account, Distributions, Exits, Interval, KvmCounts};

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
}

/// A thread that is followed.
#[derive(Clone, Debug)]
pub struct Thread {
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
    /// `CLOCK_MONOTONIC` at its creation, ns.
    pub start_monotonic_ns: u64,
    /// `CLOCK_BOOTTIME` when it was seen running its vCPU, ns: what the sampler itself counts begins there.
    pub seen_boottime_ns: u64,
    /// `CLOCK_MONOTONIC` at its first reading, ns; 0 before.
    pub followed_monotonic_ns: u64,
    /// Its account, from the first reading on.
    pub account: Option<Account>,
    /// What the last interval added.
    pub interval: Option<Interval>,
    /// What KVM counts of its vCPU, once it was read.
    pub kvm: Option<KvmCounts>,
    /// Nobody was seen to run its vCPU before it.
    pub is_first: bool,
    /// What KVM had counted when it was read last.
    pub kvm_known: Option<KvmCounts>,
    /// What the last reading added to that.
    pub kvm_added: Option<KvmCounts>,
    /// Its distributions at the last reading.
    pub distributions: Arc<Distributions>,
    /// Those at the reading before.
    pub distributions_before: Arc<Distributions>,
    /// Who took its time, from the first reading on.
    pub shares: Option<Box<ThreadShares>>,
    /// What it does with its CPU time is told.
    pub observed: bool,
    /// Why it left the guest, up to the last reading.
    pub exits: Arc<Exits>,
    /// What the last interval added to that.
    pub exits_added: Option<Arc<Exits>>,
    /// From which counts of the programs' they were taken, and how often these had been written.
    pub exit_counts: Option<Box<[ExitCounts; EXIT_ROWS]>>,
    /// How often its modes had been written at the last reading.
    pub modes_seq: u64,
    /// Entries and exits without the other, up to the last reading.
    pub unpaired: u64,
    /// Walks in a row that did not find it.
    pub missed: u32,
    /// Walks in a row that found its vCPU to be another's.
    pub strange: u32,
}

/// What the platform says of a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestFacts {
    /// Who started it.
    pub platform: &'static str,
    /// Its name.
    pub name: Option<String>,
    /// Its UUID, in lower case with hyphens.
    pub uuid: Option<String>,
}

/// A VM with at least one followed thread.
#[derive(Clone, Debug)]
pub struct VmEntry {
    /// Identity in exported series; set once, when the VM is first shown.
    pub id: Option<Arc<str>>,
    /// What the platform says, once it was asked.
    pub facts: Option<GuestFacts>,
    /// Snapshots that waited for the facts.
    pub waited: u32,
    /// Distributions of its vCPUs together, those that ended included.
    pub distributions: Distributions,
    /// What KVM counted of its vCPUs together, those that ended included.
    pub kvm_counts: KvmCounts,
    /// Who took its vCPUs' time.
    pub attribution: VmAccount,
    /// How far its co-stop was told.
    pub co_stop: Progress,
    /// How much is told of it.
    pub level: VmLevel,
    /// What its vCPUs do with their CPU time is told.
    pub(super) observed: bool,
    /// Why its vCPUs left the guest, those that ended included.
    pub exits: Exits,
    /// `CLOCK_BOOTTIME` when the first of its vCPUs was seen, ns.
    pub seen_boottime_ns: u64,
    pub(super) kvm: u64,
    pub(super) threads: u32,
}

/// A thread that is no longer followed.
#[derive(Clone, Debug)]
pub struct Departed {
    /// The thread as it was.
    pub thread: Thread,
    /// Identity of its VM in exported series, if it was ever shown.
    pub vm_id: Option<Arc<str>>,
    /// It was the last of its VM.
    pub vm_gone: bool,
    /// Another thread runs the same vCPU now: its series goes on with a new start.
    pub replaced: bool,
    /// Its counts at its very last switch, where that was recorded.
    pub last: Option<[u64; COUNTERS.len()]>,
}
