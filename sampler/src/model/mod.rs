//! The model: host, VMs, vCPUs, as one snapshot per interval.
//!
//! Pure: nothing here makes a system call, reads a clock or knows which source or exporter speaks.

// First: its macro makes the tables of the others.
#[macro_use]
mod label;

mod account;
mod attached;
mod attribution;
mod blocked;
pub mod catalog;
mod co_stop;
mod control_group;
mod counted;
mod device_rates;
mod disk;
pub mod distribution;
mod exits;
mod facts;
mod guest_pattern;
mod helper;
mod host_state;
mod identity;
mod interface;
#[cfg(test)]
mod keeping;
mod kvm;
mod labels;
mod level;
mod memory;
mod on_cpu;
mod pattern;
mod placement;
mod pressure;
mod program;
mod selection;
mod snapshot;
mod state;
mod statistics;
mod tolerance;
pub mod view;

pub use account::{Account, Faults, Reading};
pub use attached::{ATTACHED_KINDS, Attached, AttachedKind, UNSEEN, Unseen};
pub use attribution::{Attributed, AttributedVm, Ledger, OCCUPANT_KINDS, Occupant, OccupantKind, Share};
pub use blocked::{BLOCKED, Blocked, BlockedTimes, MEASURED};
pub use co_stop::CoStop;
pub use control_group::{ControlGroup, MEMORY_EVENTS, MemoryEvent, NumaNode};
pub use counted::{
    COUNTERS, Counter, Counters, DISTRIBUTIONS, Distribution, Form, KVM_STATS, KvmRow, KvmStat, Row,
};
pub use disk::{DISK_OPERATIONS, Device, Disk, DiskCounts, DiskOperation};
pub use distribution::Distributions;
pub use exits::{ExitKind, ExitTotals, Exits};
pub use facts::{FACTS, Fact, FactRow, Facts};
pub use guest_pattern::GuestPattern;
pub use helper::{HELPER_KINDS, HelperKind, HelperSum, HelperTimes, Helpers};
pub use host_state::{
    CPU_MODES, CpuMode, HUGE_PAGE_SIZES, HUGE_PAGE_STATES, HostParts, HostState, HugePageSize, HugePageState,
    HugePages, MEMORY_STATES, MemoryState, THREAD_STATES, ThreadState,
};
pub use identity::{Origin, VcpuId, VmKey};
pub use interface::{DIRECTIONS, Direction, Interface, InterfaceCounts};
pub use kvm::{KvmCounts, KvmVcpu, KvmVm};
pub use label::Label;
pub use labels::{LabelRule, LabelRules, Labelling, RESOURCE_KEYS};
pub use level::{Level, Levels, SAMPLED};
pub use memory::{Memory, RESIDENT, Resident};
pub use on_cpu::ModeTimes;
pub use pattern::Pattern;
pub use placement::{NodeVcpus, remote_memory};
pub use pressure::{Pressure, RESOURCES, Resource, STALLED, Stalled};
pub use program::ProgramRuns;
pub use selection::GuestSelection;
pub use snapshot::{Ended, Host, Interval, Snapshot, Totals, Vcpu, Vm};
pub use state::{STATES, State, StateTimes};
pub use statistics::{SamplerKind, SamplerRow, SamplerStats};
pub use tolerance::TOLERANCE_NS;

/// The form of every distribution, which the programs keep already as OTLP has it.
pub use sampler_ebpf::histogram::{BUCKETS, Histogram, ZERO_EXPONENT, bucket_of};
