//! What the programs, the walks and the looks have counted of themselves.

use sampler_ebpf::abi::{HookStats, VcpuFiles, WalkStats};

use super::Collector;
use crate::{load, model::ProgramRuns};

/// Runs of programs that the kernel skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SkippedRuns {
    /// Of programs that nothing interrupts and nothing preempts.
    pub nested: u64,
    /// Of those that a thread can be preempted in.
    pub preempted: u64,
    /// Of those that an interrupt can come into which calls them again.
    pub interrupted: u64,
}

/// What the kernel counts of the programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountedRuns {
    /// Those that it skipped because the same program ran on that CPU already: from 5.12 on, and 0 before,
    /// where nothing is skipped.
    pub skipped: SkippedRuns,
    /// Those that it made, by program.
    pub programs: Vec<ProgramRuns>,
}

impl Collector {
    /// What the looks at descriptors have come to so far.
    #[must_use]
    pub fn file_counts(&self) -> VcpuFiles {
        self.vcpu_list.counts()
    }

    /// How often memory for more slots could not be made.
    #[must_use]
    pub const fn segments_failed(&self) -> u64 {
        self.slots.failed()
    }

    /// Readings of slots that the programs were writing at each attempt.
    #[must_use]
    pub const fn slots_torn(&self) -> u64 {
        self.slots.torn()
    }

    /// The scheduler program's statistics, added up over all CPUs.
    #[must_use]
    pub fn hook_stats(&self) -> HookStats {
        (0..self.hook_stats.len()).map(|cpu| self.hook_stats.read(cpu)).fold(
            HookStats::default(),
            |sum, cpu| HookStats {
                vcpu_switches: sum.vcpu_switches + cpu.vcpu_switches,
                announced: sum.announced + cpu.announced,
                gone: sum.gone + cpu.gone,
                events_lost: sum.events_lost + cpu.events_lost,
                stale_slots: sum.stale_slots + cpu.stale_slots,
                missed_switches: sum.missed_switches + cpu.missed_switches,
                missed_moves: sum.missed_moves + cpu.missed_moves,
                missed_ns: sum.missed_ns + cpu.missed_ns,
                occupants_displaced: sum.occupants_displaced + cpu.occupants_displaced,
            },
        )
    }

    /// Switches of vCPU threads on CPUs that no table has room for.
    #[must_use]
    pub fn switches_on_unknown_cpus(&self) -> u64 {
        self.unknown_cpus.read(0)
    }

    /// Passes of all walks so far; most walks come to one.
    #[must_use]
    pub const fn passes(&self) -> u64 {
        self.walker.passes()
    }

    /// Requests of guests for whose disk there was no room.
    #[must_use]
    pub fn requests_untracked(&self) -> u64 {
        self.disks.untracked()
    }

    /// What the kernel counts of the programs that are loaded.
    #[must_use]
    pub fn runs(&mut self) -> CountedRuns {
        let mut all = CountedRuns::default();
        for (name, program) in self.loaded.object.programs() {
            let Some(counted) = self.program_files.of(name, program) else { continue };
            let of = match name {
                _ if load::MAY_BE_PREEMPTED.contains(&name) => &mut all.skipped.preempted,
                _ if load::MAY_BE_INTERRUPTED.contains(&name) => &mut all.skipped.interrupted,
                _ => &mut all.skipped.nested,
            };
            *of += counted.skipped;
            all.programs.push(counted.runs);
        }
        all
    }

    /// The walks' statistics.
    #[must_use]
    pub fn walk_stats(&self) -> WalkStats {
        self.walker.stats()
    }
}
