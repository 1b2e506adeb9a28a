//! What the scheduler counts of a thread.

use crate::abi::{
    counters::{CounterRow, counters},
    offsets::Member,
};

counters! {
    /// A counter of a vCPU thread; the discriminant is its index in a slot.
    Counter, COUNTERS, for_each_counter;
    Run = "run_ns", TaskSumExecRuntime;
    RunDelay = "run_delay_ns", TaskRunDelay;
    VoluntarySwitches = "voluntary_switches", TaskNvcsw;
    InvoluntarySwitches = "involuntary_switches", TaskNivcsw;
    Migrations = "migrations", TaskNrMigrations;
    Timeslices = "timeslices", TaskPcount;
    MinorFaults = "minor_faults", TaskMinFlt;
    MajorFaults = "major_faults", TaskMajFlt;
}
