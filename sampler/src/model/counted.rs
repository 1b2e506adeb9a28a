//! What is counted of a vCPU, as tables: one row for each count. A source finds its own counts in them by
//! key.

/// What the scheduler counts of a vCPU's thread, by [`Counter`].
pub type Counters = [u64; COUNTERS.len()];

macro_rules! table {
    ($(#[$doc:meta])* $count:ident, $rows:ident: $row:ty = $make:path;
     $($name:ident = $key:literal $(, $form:ident)?, $help:literal;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $count { $(#[doc = $help] $name,)* }

        #[doc = concat!("One row for each [`", stringify!($count), "`], in order.")]
        pub const $rows: &[$row] = &[$($make($key, $(Form::$form,)? $help),)*];
    };
}

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What sources call it.
    pub key: &'static str,
    /// One sentence for descriptions and the documentation.
    pub help: &'static str,
}

const fn row(key: &'static str, help: &'static str) -> Row {
    Row { key, help }
}

/// What a count of KVM's counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nanoseconds.
    Time,
    /// How often.
    Events,
}

/// A row of KVM's counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvmRow {
    /// What sources call it.
    pub key: &'static str,
    /// What it counts.
    pub form: Form,
    /// One sentence for descriptions and the documentation.
    pub help: &'static str,
}

const fn kvm_row(key: &'static str, form: Form, help: &'static str) -> KvmRow {
    KvmRow { key, form, help }
}

table! {
    /// What the scheduler counts of a vCPU's thread.
    Counter, COUNTERS: Row = row;
    Run = "run_ns",
        "CPU time of the vCPU thread, as the scheduler counts it.";
    RunDelay = "run_delay_ns",
        "Time the vCPU thread was runnable and waited for a CPU, also where a CPU quota held it back: what the guest reads as steal.";
    VoluntarySwitches = "voluntary_switches",
        "Times the vCPU thread gave its CPU up to wait for something.";
    InvoluntarySwitches = "involuntary_switches",
        "Times the vCPU thread was preempted while it could have gone on.";
    Migrations = "migrations",
        "Times the vCPU thread was moved to another physical CPU.";
    Timeslices = "timeslices",
        "Times the vCPU thread was given a physical CPU.";
    MinorFaults = "minor_faults",
        "Page faults of the vCPU thread, but for the major ones.";
    MajorFaults = "major_faults",
        "Page faults of the vCPU thread whose page came from swap or a file, or had to be asked for once more.";
}

table! {
    /// A distribution of times of a vCPU.
    Distribution, DISTRIBUTIONS: Row = row;
    Steal = "steal",
        "Wait for a physical CPU before each run stint, as the kernel adds it to the run delay.";
    WakeupLatency = "wakeup_latency",
        "The same, of the waits that followed a sleep: from the wake-up to running.";
    Stint = "stint",
        "CPU time of each run stint, from being given a physical CPU to leaving it.";
}

table! {
    /// What KVM itself counts of a vCPU.
    KvmStat, KVM_STATS: KvmRow = kvm_row;
    Exits = "exits", Events,
        "Passes through the loop that enters the guest.";
    HaltExits = "halt_exits", Events,
        "Exits because the guest halted.";
    HaltPollSuccess = "halt_poll_success_ns", Time,
        "Time of halt polls that ended with a wake-up.";
    HaltPollFail = "halt_poll_fail_ns", Time,
        "Time of halt polls that ended without one.";
    HaltPollsAttempted = "halt_polls", Events,
        "Halt polls.";
    HaltPollsSuccessful = "halt_polls_successful", Events,
        "Halt polls that ended with a wake-up.";
    HaltWait = "halt_wait_ns", Time,
        "Time blocked in a halt after polling.";
    HaltWakeups = "halt_wakeups", Events,
        "Times that a halted vCPU was woken up.";
    IoExits = "io_exits", Events,
        "Exits to user space for port I/O.";
    MmioExits = "mmio_exits", Events,
        "Exits to user space for memory-mapped I/O.";
    SignalExits = "signal_exits", Events,
        "Exits to user space because of a signal.";
    IrqExits = "irq_exits", Events,
        "Exits because of an interrupt of the host.";
    IrqInjections = "irq_injections", Events,
        "Interrupts injected.";
    NmiInjections = "nmi_injections", Events,
        "NMIs injected.";
    Hypercalls = "hypercalls", Events,
        "Hypercalls.";
    Emulations = "emulations", Events,
        "Instructions emulated.";
    PageFaultsFixed = "page_faults_fixed", Events,
        "Page faults of the guest that KVM fixed.";
    TlbFlushes = "tlb_flushes", Events,
        "Flushes of the TLB asked for.";
    NestedRuns = "nested_runs", Events,
        "Entries into a guest of the guest.";
    YieldsAttempted = "directed_yields", Events,
        "Directed yields tried.";
    YieldsSuccessful = "directed_yields_successful", Events,
        "Directed yields that found a vCPU.";
    PreemptionsReported = "preemptions_reported", Events,
        "Preemptions that were reported to the guest.";
}
