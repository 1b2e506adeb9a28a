//! What KVM counts of a vCPU.

use crate::abi::{
    counters::{CounterRow, counters},
    offsets::Member,
};

counters! {
    /// A counter that KVM keeps of a vCPU, in `struct kvm_vcpu_stat`; the discriminant is its index in a walk
    /// record.
    KvmStat, KVM_STATS, for_each_kvm_stat;
    Exits = "exits", StatExits;
    HaltExits = "halt_exits", StatHaltExits;
    HaltPollSuccess = "halt_poll_success_ns", StatHaltPollSuccess;
    HaltPollFail = "halt_poll_fail_ns", StatHaltPollFail;
    HaltPollsAttempted = "halt_polls", StatHaltPollsAttempted;
    HaltPollsSuccessful = "halt_polls_successful", StatHaltPollsSuccessful;
    HaltWait = "halt_wait_ns", StatHaltWait;
    HaltWakeups = "halt_wakeups", StatHaltWakeups;
    IoExits = "io_exits", StatIoExits;
    MmioExits = "mmio_exits", StatMmioExits;
    SignalExits = "signal_exits", StatSignalExits;
    IrqExits = "irq_exits", StatIrqExits;
    IrqInjections = "irq_injections", StatIrqInjections;
    NmiInjections = "nmi_injections", StatNmiInjections;
    Hypercalls = "hypercalls", StatHypercalls;
    Emulations = "emulations", StatEmulations;
    PageFaultsFixed = "page_faults_fixed", StatPageFaultsFixed;
    TlbFlushes = "tlb_flushes", StatTlbFlushes;
    NestedRuns = "nested_runs", StatNestedRuns;
    YieldsAttempted = "directed_yields", StatYieldsAttempted;
    YieldsSuccessful = "directed_yields_successful", StatYieldsSuccessful;
    PreemptionsReported = "preemptions_reported", StatPreemptionsReported;
}
