//! The one table of counters. A row here is all that a metric on an existing kernel member needs: the
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
    /// OTLP metric, or `None` where the counter leaves as a state of `hypervisor.vcpu.time`.
    pub metric: Option<&'static str>,
    /// Unit of the value.
    pub unit: Unit,
    /// The kernel member that holds the count.
    pub member: Member,
    /// One sentence for `--help`, OTLP descriptions and the documentation.
    pub help: &'static str,
}

macro_rules! counters {
    ($($name:ident = $key:literal, $metric:expr, $unit:expr, $member:ident, $help:literal;)*) => {
        /// A counter of a vCPU thread; the discriminant is its index in a slot.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter { $(#[doc = $help] $name,)* }

        /// One row for each [`Counter`], in the order of its discriminants.
        pub const COUNTERS: &[CounterRow] = &[
            $(CounterRow { key: $key, metric: $metric, unit: $unit, member: Member::$member, help: $help },)*
        ];

        /// Calls `each` with every counter and the member that holds it, as straight-line code: in an eBPF
        /// program a loop over [`COUNTERS`] would drag its texts into the object.
        #[inline(always)]
        pub fn for_each_counter(mut each: impl FnMut(Counter, Member)) {
            $(each(Counter::$name, Member::$member);)*
        }
    };
}

counters! {
    Run = "run_ns", None, Unit::Nanoseconds, TaskSumExecRuntime,
        "CPU time of the vCPU thread, as the scheduler counts it.";
    RunDelay = "steal_ns", None, Unit::Nanoseconds, TaskRunDelay,
        "Time the vCPU thread was runnable and waited for a CPU: the guest's steal.";
    VoluntarySwitches = "voluntary_switches", Some("hypervisor.vcpu.yields"), Unit::Count("{yield}"), TaskNvcsw,
        "Times the vCPU thread gave its CPU up to wait for something.";
    InvoluntarySwitches = "involuntary_switches", Some("hypervisor.vcpu.preemptions"), Unit::Count("{preemption}"), TaskNivcsw,
        "Times the vCPU thread was preempted while it could have gone on.";
    Migrations = "migrations", Some("hypervisor.vcpu.migrations"), Unit::Count("{migration}"), TaskNrMigrations,
        "Times the vCPU thread was moved to another physical CPU.";
    Timeslices = "timeslices", Some("hypervisor.vcpu.timeslices"), Unit::Count("{timeslice}"), TaskPcount,
        "Times the vCPU thread was given a physical CPU.";
}
