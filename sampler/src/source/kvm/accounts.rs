//! What is kept of each thread and VM of what it got and was denied.

use std::sync::Arc;

use sampler_ebpf::abi::Event;

use super::{
    attribution::{account::VmAccount as VmAttribution, table::ThreadShares},
    co_stop::{Progress, Reads},
    exits::KnownExits,
    levels::{Busiest, VmLevel},
    slots::{self, Open},
};
use crate::{
    kernel::clock::Clock,
    model::{Account, Distributions, Exits, Interval, KvmCounts},
};

/// The slots with the accounts of their threads.
pub type Slots = slots::Slots<ThreadAccount, VmAccount>;

/// A thread with its account.
pub(super) type Thread = slots::Thread<ThreadAccount>;

/// A VM with its account.
pub(super) type VmEntry = slots::VmEntry<VmAccount>;

/// A thread that is no longer followed, with its account.
pub(super) type Departed = slots::Departed<ThreadAccount>;

/// Of a thread.
#[derive(Clone, Debug, Default)]
pub struct ThreadAccount {
    /// Its time, from the first reading on.
    pub time: Option<Account>,
    /// `CLOCK_BOOTTIME` at the first reading, ns; 0 before.
    pub followed_boottime_ns: u64,
    /// The clock of its starts, from the first reading on.
    pub clock: Option<Clock>,
    /// What the last interval added.
    pub interval: Option<Interval>,
    /// What KVM had counted of its vCPU when that was read last.
    pub kvm: Option<KvmCounts>,
    /// That was in the last walk.
    pub is_kvm_read: bool,
    /// Its distributions at the last reading.
    pub distributions: Arc<Distributions>,
    /// Those at the reading before.
    pub distributions_before: Arc<Distributions>,
    /// How often its slot had been written when they were read.
    pub slot_seq: Option<u64>,
    /// Who had the CPU while it waited, from the first reading on.
    pub shares: Option<Box<ThreadShares>>,
    /// Why it left the guest, up to the last reading.
    pub exits: Arc<Exits>,
    /// What the last interval added to that.
    pub exits_added: Option<Arc<Exits>>,
    /// From which counts of the programs they were taken.
    pub exit_counts: KnownExits,
    /// How often its modes had been written at the last reading.
    pub modes_seq: u64,
    /// Entries and exits without the other, up to the last reading.
    pub unpaired: u64,
}

impl Open for ThreadAccount {
    fn open(_: &Event) -> Self {
        Self::default()
    }
}

/// Of a VM: of all its vCPUs together, those that ended included.
#[derive(Clone, Debug)]
pub struct VmAccount {
    pub distributions: Distributions,
    /// What KVM counted.
    pub kvm_counts: KvmCounts,
    /// Why the guest was left.
    pub exits: Exits,
    /// Who had the CPUs while they waited.
    pub attribution: VmAttribution,
    /// How far co-stop is summed up.
    pub co_stop: Progress,
    /// What the last pass read for it.
    pub reads: Reads,
    /// How much is observed.
    pub level: VmLevel,
    /// What the last pass found for it.
    pub busiest: Busiest,
    /// The clock of its starts, from the first reading of one of its vCPUs on.
    pub clock: Option<Clock>,
}

impl Open for VmAccount {
    fn open(event: &Event) -> Self {
        Self {
            distributions: Distributions::default(),
            kvm_counts: KvmCounts::default(),
            exits: Exits::default(),
            attribution: VmAttribution::default(),
            co_stop: Progress::since(event.sched_ns),
            reads: Reads::default(),
            level: VmLevel::default(),
            busiest: Busiest::default(),
            clock: None,
        }
    }
}
