//! What KVM counts of a vCPU.

use crate::abi::{
    counters::{CounterRow, Unit, counters},
    offsets::Member,
};

counters! {
    /// A counter that KVM keeps of a vCPU, in `struct kvm_vcpu_stat`; the discriminant is its index in a walk
    /// record.
    KvmStat, KVM_STATS, for_each_kvm_stat;
    Exits = "exits", Unit::Count("{exit}"), StatExits,
        "Passes through the loop that enters the guest.";
    HaltExits = "halt_exits", Unit::Count("{exit}"), StatHaltExits,
        "Exits because the guest halted.";
    HaltPollSuccess = "halt_poll_success_ns", Unit::Nanoseconds, StatHaltPollSuccess,
        "Time of halt polls that ended with a wake-up.";
    HaltPollFail = "halt_poll_fail_ns", Unit::Nanoseconds, StatHaltPollFail,
        "Time of halt polls that ended without one.";
    HaltPollsAttempted = "halt_polls", Unit::Count("{poll}"), StatHaltPollsAttempted,
        "Halt polls.";
    HaltPollsSuccessful = "halt_polls_successful", Unit::Count("{poll}"), StatHaltPollsSuccessful,
        "Halt polls that ended with a wake-up.";
    HaltWait = "halt_wait_ns", Unit::Nanoseconds, StatHaltWait,
        "Time blocked in a halt after polling.";
    HaltWakeups = "halt_wakeups", Unit::Count("{wakeup}"), StatHaltWakeups,
        "Times that a halted vCPU was woken up.";
    IoExits = "io_exits", Unit::Count("{exit}"), StatIoExits,
        "Exits to user space for port I/O.";
    MmioExits = "mmio_exits", Unit::Count("{exit}"), StatMmioExits,
        "Exits to user space for memory-mapped I/O.";
    SignalExits = "signal_exits", Unit::Count("{exit}"), StatSignalExits,
        "Exits to user space because of a signal.";
    IrqExits = "irq_exits", Unit::Count("{exit}"), StatIrqExits,
        "Exits because of an interrupt of the host.";
    IrqInjections = "irq_injections", Unit::Count("{interrupt}"), StatIrqInjections,
        "Interrupts injected.";
    NmiInjections = "nmi_injections", Unit::Count("{interrupt}"), StatNmiInjections,
        "NMIs injected.";
    Hypercalls = "hypercalls", Unit::Count("{hypercall}"), StatHypercalls,
        "Hypercalls.";
    Emulations = "emulations", Unit::Count("{instruction}"), StatEmulations,
        "Instructions emulated.";
    PageFaultsFixed = "page_faults_fixed", Unit::Count("{fault}"), StatPageFaultsFixed,
        "Page faults of the guest that KVM fixed.";
    TlbFlushes = "tlb_flushes", Unit::Count("{flush}"), StatTlbFlushes,
        "Flushes of the TLB asked for.";
    NestedRuns = "nested_runs", Unit::Count("{run}"), StatNestedRuns,
        "Entries into a guest of the guest.";
    YieldsAttempted = "directed_yields", Unit::Count("{yield}"), StatYieldsAttempted,
        "Directed yields tried.";
    YieldsSuccessful = "directed_yields_successful", Unit::Count("{yield}"), StatYieldsSuccessful,
        "Directed yields that found a vCPU.";
    PreemptionsReported = "preemptions_reported", Unit::Count("{preemption}"), StatPreemptionsReported,
        "Preemptions that were reported to the guest.";
}
