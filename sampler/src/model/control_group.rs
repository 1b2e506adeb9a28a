//! What the host counts of the control group that is a guest's own.

use super::pressure::Pressure;
use crate::kept::kept;

labels! {
    /// What happened to a control group for want of memory; the discriminant is the index in
    /// [`MEMORY_EVENTS`].
    MemoryEvent in MEMORY_EVENTS {
        Low = "low", "Memory was taken from it although it was below memory.low.";
        High = "high", "It was over memory.high, and a task of it had to give memory back first.";
        Max = "max", "It was about to go over memory.max.";
        Oom = "oom", "It was at its limit, and an allocation was about to fail.";
        OomKill = "oom_kill", "A process of it was killed for want of memory, its own or the host's.";
        OomGroupKill = "oom_group_kill", "All of it was killed at once (Linux 5.17 and later).";
    }
}

/// A guest's control group, as it was some time ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlGroup {
    /// When it was read, Unix time in ns.
    pub at_unix_ns: u64,
    /// When its counts were zero, Unix time in ns: its first reading, or the first one after it was another.
    pub since_unix_ns: u64,
    /// For how long its tasks stood still since then.
    pub pressure: Pressure,
    /// What happened since then, by [`MemoryEvent`]; absent where the kernel does not say.
    pub events: [Option<u64>; MEMORY_EVENTS.len()],
    /// It was read since the snapshot before: what was sent once is not sent again.
    pub is_new: bool,
}

kept! { ControlGroup { at_unix_ns, since_unix_ns, pressure, events in MEMORY_EVENTS, is_new } }

/// What a guest's control group has of the memory of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NumaNode {
    /// The node's number.
    pub node: u32,
    /// Bytes.
    pub bytes: u64,
    /// When that was read, Unix time in ns.
    pub at_unix_ns: u64,
    /// It was read since the snapshot before: what was sent once is not sent again.
    pub is_new: bool,
}

kept! { NumaNode { node, bytes, at_unix_ns, is_new } }
