//! What the scheduler counts of a thread.

use crate::abi::{
    counters::{CounterRow, Unit, counters},
    offsets::Member,
};

counters! {
    /// A counter of a vCPU thread; the discriminant is its index in a slot.
    Counter, COUNTERS, for_each_counter;
    Run = "run_ns", Unit::Nanoseconds, TaskSumExecRuntime,
        "CPU time of the vCPU thread, as the scheduler counts it.";
    RunDelay = "run_delay_ns", Unit::Nanoseconds, TaskRunDelay,
        "Time the vCPU thread was runnable and waited for a CPU, also where a CPU quota held it back: what the guest reads as steal.";
    VoluntarySwitches = "voluntary_switches", Unit::Count("{yield}"), TaskNvcsw,
        "Times the vCPU thread gave its CPU up to wait for something.";
    InvoluntarySwitches = "involuntary_switches", Unit::Count("{preemption}"), TaskNivcsw,
        "Times the vCPU thread was preempted while it could have gone on.";
    Migrations = "migrations", Unit::Count("{migration}"), TaskNrMigrations,
        "Times the vCPU thread was moved to another physical CPU.";
    Timeslices = "timeslices", Unit::Count("{timeslice}"), TaskPcount,
        "Times the vCPU thread was given a physical CPU.";
}
