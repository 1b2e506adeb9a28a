//! The host beside its guests, as it was some time ago.

use serde::{Deserialize, Serialize};

use super::pressure::Pressure;
use crate::kept::kept;

labels! {
    /// What CPUs spent their time on; the discriminant is the index in [`CPU_MODES`], which is the order of
    /// `/proc/stat`.
    CpuMode in CPU_MODES {
        User = "user", "User space, and guests.";
        Nice = "nice", "The same of processes with a nice value above 0.";
        System = "system", "The kernel.";
        Idle = "idle", "Nothing: CPU time that is left.";
        Iowait = "iowait", "Nothing while a task of this CPU waits for I/O: CPU time that is left as well.";
        Interrupt = "interrupt", "Interrupts.";
        Softirq = "softirq", "What interrupts leave for later.";
        Steal = "steal", "Taken away by a hypervisor below: the host is itself a guest.";
    }
}

labels! {
    /// What the host's memory is used for; the discriminant is the index in [`MEMORY_STATES`].
    MemoryState in MEMORY_STATES {
        Used = "used", "All that is none of the others: processes, guests, huge pages, the kernel.";
        Free = "free", "Nothing.";
        Buffers = "buffers", "Blocks of disks, cached.";
        Cached = "cached", "Files, cached; shared memory is among them.";
    }
}

labels! {
    /// Sizes of reserved huge pages on x86-64; the discriminant is the index in [`HUGE_PAGE_SIZES`].
    HugePageSize in HUGE_PAGE_SIZES {
        Of2Mib = "2MiB", "2 MiB.";
        Of1Gib = "1GiB", "1 GiB.";
    }
}

labels! {
    /// What reserved huge pages are used for; the discriminant is the index in [`HUGE_PAGE_STATES`].
    HugePageState in HUGE_PAGE_STATES {
        Used = "used", "They hold something.";
        Free = "free", "They hold nothing.";
    }
}

labels! {
    /// What threads of the host wait for; the discriminant is the index in [`THREAD_STATES`].
    ThreadState in THREAD_STATES {
        Runnable = "runnable", "On a CPU, or waiting for one.";
        Blocked = "blocked", "Waiting for I/O.";
    }
}

/// Reserved huge pages of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HugePages {
    /// Pages, by [`HugePageState`].
    pub states: [u64; HUGE_PAGE_STATES.len()],
    /// Those of the free ones that are promised to somebody.
    pub reserved: u64,
}

kept! { HugePages { states in HUGE_PAGE_STATES, reserved } }

/// The host; what it does not say, or nobody asked for, is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostState {
    /// When it was read, Unix time in ns.
    pub at_unix_ns: u64,
    /// When the host was booted, Unix time in ns: all that it counts was zero then.
    pub booted_unix_ns: u64,
    /// For how long its tasks stood still.
    pub pressure: Pressure,
    /// Time of all CPUs together, by [`CpuMode`], ns. It never falls.
    pub cpu_ns: [Option<u64>; CPU_MODES.len()],
    /// Memory, by [`MemoryState`], bytes; the parts sum to all of it.
    pub memory: Option<[u64; MEMORY_STATES.len()]>,
    /// What new processes could have of it without swap, bytes; the kernel's estimate.
    pub available: Option<u64>,
    /// Reserved huge pages, by [`HugePageSize`].
    pub huge_pages: [Option<HugePages>; HUGE_PAGE_SIZES.len()],
    /// Threads, by [`ThreadState`].
    pub threads: [Option<u64>; THREAD_STATES.len()],
    /// It was read since the snapshot before: what was sent once is not sent again.
    pub is_new: bool,
}

kept! {
    HostState {
        at_unix_ns,
        booted_unix_ns,
        pressure,
        cpu_ns in CPU_MODES,
        memory in MEMORY_STATES,
        available,
        huge_pages in HUGE_PAGE_SIZES,
        threads in THREAD_STATES,
        is_new,
    }
}

/// Which parts of the host are read: the `[host]` table of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostParts {
    /// For how long its tasks stood still.
    pub pressure: bool,
    /// CPU time, memory and threads, which a collector can read as well.
    pub system: bool,
}

kept! { HostParts { pressure, system } }

impl HostParts {
    /// Nothing.
    pub const NONE: Self = Self { pressure: false, system: false };
}

impl Default for HostParts {
    fn default() -> Self {
        Self { pressure: true, system: false }
    }
}
