//! Pressure (PSI): for how long tasks stood still because a resource was short.

use crate::kept::kept;

labels! {
    /// What was short; the discriminant is the index in [`RESOURCES`].
    Resource in RESOURCES {
        Cpu = "cpu", "A CPU.";
        Memory = "memory", "Memory: pages are brought back, or others have to go first.";
        Io = "io", "Disks.";
        Irq = "irq", "CPUs that served interrupts (Linux 6.1 and later, where it measures their time).";
    }
}

labels! {
    /// How many stood still; the discriminant is the index in [`STALLED`].
    Stalled in STALLED {
        AtLeastOne = "some", "At least one task stood still.";
        All = "full", "All tasks that were not idle stood still at once: a part of some.";
    }
}

/// Time for which tasks stood still, ns, by [`Resource`] and [`Stalled`]; absent where the kernel does not
/// say. It never falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    times: [[Option<u64>; STALLED.len()]; RESOURCES.len()],
}

kept! { Pressure { times in RESOURCES in STALLED } }

impl Pressure {
    /// Sets the times of a resource, by [`Stalled`], ns.
    pub const fn set(&mut self, resource: Resource, times: [Option<u64>; STALLED.len()]) {
        self.times[resource as usize] = times;
    }

    /// A time, ns.
    #[must_use]
    pub const fn get(&self, resource: Resource, stalled: Stalled) -> Option<u64> {
        self.times[resource as usize][stalled as usize]
    }

    /// All times, those of one resource side by side.
    pub fn iter(&self) -> impl Iterator<Item = Option<u64>> + '_ {
        self.times.iter().flatten().copied()
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Option<u64>> + '_ {
        self.times.iter_mut().flatten()
    }

    /// Nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().all(|time| time.is_none())
    }
}
