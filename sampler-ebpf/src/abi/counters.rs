//! The tables of counters: those that the scheduler keeps of a thread, and those that KVM keeps of a vCPU. A row here is all that a metric on an existing kernel member needs: the
//! programs copy the member into the slot, and every exporter walks this table.

use super::offsets::Member;

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds in the kernel and in JSON, seconds in OTLP.
    Nanoseconds,
    /// A count of things; the text is its UCUM annotation.
    Count(&'static str),
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterRow {
    /// Key in JSON output.
    pub key: &'static str,
    /// OTLP metric, or `None` where the counter leaves as a state of `hypervisor.vcpu.time`, or in JSON alone.
    pub metric: Option<&'static str>,
    /// Unit of the value.
    pub unit: Unit,
    /// The kernel member that holds the count.
    pub member: Member,
    /// One sentence for `--help`, OTLP descriptions and the documentation.
    pub help: &'static str,
}

macro_rules! counters {
    (
        $(#[$doc:meta])* $counter:ident, $rows:ident, $each:ident;
        $($name:ident = $key:literal, $metric:expr, $unit:expr, $member:ident, $help:literal;)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $counter { $(#[doc = $help] $name,)* }

        #[doc = concat!("One row for each [`", stringify!($counter), "`], in the order of its discriminants.")]
        pub const $rows: &[CounterRow] = &[
            $(CounterRow { key: $key, metric: $metric, unit: $unit, member: Member::$member, help: $help },)*
        ];

        /// Calls `each` with every counter and the member that holds it, as straight-line code: in an eBPF
        /// program a loop over the rows would drag their texts into the object.
        #[inline(always)]
        pub fn $each(mut each: impl FnMut($counter, Member)) {
            $(each($counter::$name, Member::$member);)*
        }
    };
}

counters! {
    /// A counter of a vCPU thread; the discriminant is its index in a slot.
    Counter, COUNTERS, for_each_counter;
    Run = "run_ns", None, Unit::Nanoseconds, TaskSumExecRuntime,
        "CPU time of the vCPU thread, as the scheduler counts it.";
    RunDelay = "run_delay_ns", None, Unit::Nanoseconds, TaskRunDelay,
        "Time the vCPU thread was runnable and waited for a CPU, also where a CPU quota held it back: what the guest reads as steal.";
    VoluntarySwitches = "voluntary_switches", Some("hypervisor.vcpu.yields"), Unit::Count("{yield}"), TaskNvcsw,
        "Times the vCPU thread gave its CPU up to wait for something.";
    InvoluntarySwitches = "involuntary_switches", Some("hypervisor.vcpu.preemptions"), Unit::Count("{preemption}"), TaskNivcsw,
        "Times the vCPU thread was preempted while it could have gone on.";
    Migrations = "migrations", Some("hypervisor.vcpu.migrations"), Unit::Count("{migration}"), TaskNrMigrations,
        "Times the vCPU thread was moved to another physical CPU.";
    Timeslices = "timeslices", Some("hypervisor.vcpu.timeslices"), Unit::Count("{timeslice}"), TaskPcount,
        "Times the vCPU thread was given a physical CPU.";
}

counters! {
    /// A counter that KVM keeps of a vCPU, in `struct kvm_vcpu_stat`; the discriminant is its index in a walk record.
    KvmStat, KVM_STATS, for_each_kvm_stat;
    Exits = "exits", None, Unit::Count("{exit}"), StatExits,
        "Passes through the loop that enters the guest.";
    HaltExits = "halt_exits", None, Unit::Count("{exit}"), StatHaltExits,
        "Exits because the guest halted.";
    HaltPollSuccess = "halt_poll_success_ns", None, Unit::Nanoseconds, StatHaltPollSuccess,
        "Time of halt polls that ended with a wake-up.";
    HaltPollFail = "halt_poll_fail_ns", None, Unit::Nanoseconds, StatHaltPollFail,
        "Time of halt polls that ended without one.";
    HaltPollsAttempted = "halt_polls", None, Unit::Count("{poll}"), StatHaltPollsAttempted,
        "Halt polls.";
    HaltPollsSuccessful = "halt_polls_successful", None, Unit::Count("{poll}"), StatHaltPollsSuccessful,
        "Halt polls that ended with a wake-up.";
    HaltWait = "halt_wait_ns", None, Unit::Nanoseconds, StatHaltWait,
        "Time blocked in a halt after polling.";
    HaltWakeups = "halt_wakeups", None, Unit::Count("{wakeup}"), StatHaltWakeups,
        "Times that a halted vCPU was woken up.";
    IoExits = "io_exits", None, Unit::Count("{exit}"), StatIoExits,
        "Exits to user space for port I/O.";
    MmioExits = "mmio_exits", None, Unit::Count("{exit}"), StatMmioExits,
        "Exits to user space for memory-mapped I/O.";
    SignalExits = "signal_exits", None, Unit::Count("{exit}"), StatSignalExits,
        "Exits to user space because of a signal.";
    IrqExits = "irq_exits", None, Unit::Count("{exit}"), StatIrqExits,
        "Exits because of an interrupt of the host.";
    IrqInjections = "irq_injections", None, Unit::Count("{interrupt}"), StatIrqInjections,
        "Interrupts injected.";
    NmiInjections = "nmi_injections", None, Unit::Count("{interrupt}"), StatNmiInjections,
        "NMIs injected.";
    Hypercalls = "hypercalls", None, Unit::Count("{hypercall}"), StatHypercalls,
        "Hypercalls.";
    Emulations = "emulations", None, Unit::Count("{instruction}"), StatEmulations,
        "Instructions emulated.";
    PageFaultsFixed = "page_faults_fixed", None, Unit::Count("{fault}"), StatPageFaultsFixed,
        "Page faults of the guest that KVM fixed.";
    TlbFlushes = "tlb_flushes", None, Unit::Count("{flush}"), StatTlbFlushes,
        "Flushes of the TLB asked for.";
    NestedRuns = "nested_runs", None, Unit::Count("{run}"), StatNestedRuns,
        "Entries into a guest of the guest.";
    YieldsAttempted = "directed_yields", None, Unit::Count("{yield}"), StatYieldsAttempted,
        "Directed yields tried.";
    YieldsSuccessful = "directed_yields_successful", None, Unit::Count("{yield}"), StatYieldsSuccessful,
        "Directed yields that found a vCPU.";
    PreemptionsReported = "preemptions_reported", None, Unit::Count("{preemption}"), StatPreemptionsReported,
        "Preemptions that the guest was told of.";
}
