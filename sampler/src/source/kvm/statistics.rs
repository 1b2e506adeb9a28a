//! What the source says of itself with each snapshot.

use std::sync::Arc;

use super::Kvm;
use crate::model::{ProgramRuns, SamplerStats};

impl Kvm {
    /// Its statistics, and what its programs cost.
    pub(super) fn says_of_itself(&mut self) -> (SamplerStats, Arc<[ProgramRuns]>) {
        let (hook, walk) = (self.collector.hook_stats(), self.collector.walk_stats());
        self.stats.walks = self.collector.passes();
        self.stats.walked_threads = walk.threads;
        self.stats.walk_torn = walk.torn;
        self.stats.slots_torn = self.collector.slots_torn();
        self.stats.files_unanswered = self.answers.files_unanswered();
        self.stats.helpers_dropped = walk.helpers_dropped;
        let files = self.collector.file_counts();
        self.stats.looked_files = files.visited;
        self.stats.vcpu_files_dropped = files.dropped;
        self.stats.vcpu_switches = hook.vcpu_switches;
        self.stats.threads_announced = hook.announced + walk.announced;
        self.stats.threads_gone = hook.gone;
        self.stats.events_lost = hook.events_lost + walk.events_lost;
        self.stats.stale_slots = hook.stale_slots;
        self.stats.missed_switches = hook.missed_switches;
        self.stats.missed_moves = hook.missed_moves;
        self.stats.switches_on_unknown_cpus = self.collector.switches_on_unknown_cpus();
        self.stats.occupants_displaced = hook.occupants_displaced;
        self.stats.slots_used = self.slots.slots_used();
        self.stats.slots_exhausted = self.slots.slots_exhausted();
        self.stats.segments_failed = self.collector.segments_failed();
        self.stats.slots_capped = self.slots.slots_capped();
        self.stats.threads_replaced = self.slots.threads_replaced();
        self.stats.threads_turned = self.slots.threads_turned();
        let runs = self.collector.runs();
        self.stats.recursion_misses = runs.skipped.nested;
        self.stats.preemption_misses = runs.skipped.preempted;
        self.stats.requests_missed = runs.skipped.interrupted;
        self.stats.interfaces_unread = self.answers.network.failures();
        self.stats.devices_left_out = self.attached.left_out();
        self.stats.counters_fell = self.host_state.fell() + self.groups.fell();
        self.stats.groups_uncounted = self.groups.uncounted();
        self.stats.disks_uncounted = self.disks.owners.uncounted();
        self.stats.requests_untracked = self.collector.requests_untracked();
        (self.stats, runs.programs.into())
    }
}
