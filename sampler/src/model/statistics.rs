//! What the sampler says of itself: one row for each statistic.

/// How one of the [`SamplerStats`] moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplerKind {
    /// It only rises.
    Counter,
    /// It rises and falls.
    UpDown,
}

/// One of the [`SamplerStats`], for exporters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplerRow {
    /// Name in JSON.
    pub name: &'static str,
    /// Name of its metric, where that is not the same.
    pub dotted: Option<&'static str>,
    /// Unit in UCUM's words.
    pub unit: &'static str,
    /// One sentence for the documentation.
    pub help: &'static str,
    /// How it moves.
    pub kind: SamplerKind,
    /// Its value.
    pub value: u64,
}

impl SamplerRow {
    /// Name of its metric below `hypervisor.sampler.`, and the metric's unit: a time that is counted in ns is
    /// exported in seconds, and no unit is in a name.
    #[must_use]
    pub fn metric(&self) -> (&'static str, &'static str) {
        match (self.dotted, self.name.strip_suffix("_ns")) {
            (Some(name), _) => (name, self.unit),
            (None, Some(time)) => (time, "s"),
            (None, None) => (self.name, self.unit),
        }
    }
}

/// Rows that say no loss, however high they are. Each of the others is in the table of losses in
/// docs/meaning.md.
const NO_LOSS: [&str; 15] = [
    "snapshots",
    "walks",
    "walked_threads",
    "vcpu_switches",
    "threads_announced",
    "threads_gone",
    "gone_by_walk",
    "slots_used",
    "vms_left_out",
    "threads_replaced",
    "threads_turned",
    "looked_files",
    "lateness_ns",
    "last_lateness_ns",
    "audit_checks",
];

impl SamplerStats {
    /// The rows of what was lost, or may have been, in order.
    #[must_use]
    pub fn losses(&self) -> Vec<SamplerRow> {
        self.rows().into_iter().filter(|row| !NO_LOSS.contains(&row.name)).collect()
    }
}

macro_rules! sampler_stats {
    ($($(#[doc = $help:literal])+ $kind:ident $name:ident $(as $dotted:literal)?, $unit:literal;)*) => {
        /// What the sampler counts of itself since its start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
        pub struct SamplerStats { $($(#[doc = $help])+ pub $name: u64,)* }

        impl SamplerStats {
            /// One row for each, in order.
            #[must_use]
            pub fn rows(&self) -> Vec<SamplerRow> {
                vec![$(SamplerRow {
                    name: stringify!($name),
                    dotted: [$($dotted,)?].first().copied(),
                    unit: $unit,
                    help: concat!($($help),+).trim_ascii(),
                    kind: SamplerKind::$kind,
                    value: self.$name,
                },)*]
            }
        }
    };
}

sampler_stats! {
    /// Snapshots taken.
    Counter snapshots, "{snapshot}";
    /// Walks over threads, of the whole host or of the VMMs alone: one for each snapshot, and up to two more
    /// for threads that it could not read.
    Counter walks, "{walk}";
    /// Threads visited by those walks. One that several of them visited counts as often.
    Counter walked_threads, "{thread}";
    /// Switches of vCPU threads that the scheduler program recorded.
    Counter vcpu_switches, "{switch}";
    /// Threads announced as vCPUs.
    Counter threads_announced, "{thread}";
    /// vCPU threads that ended.
    Counter threads_gone, "{thread}";
    /// Ends that were found by a walk and not by an event.
    Counter gone_by_walk, "{thread}";
    /// Lifecycle events that did not fit into the ring buffer.
    Counter events_lost, "{event}";
    /// Switches of a thread whose pid still named an earlier thread's slot.
    Counter stale_slots, "{switch}";
    /// Switches of vCPU threads that the kernel made without calling the scheduler program.
    Counter missed_switches, "{switch}";
    /// Moves of waiting vCPU threads to another CPU for which the kernel called no program.
    Counter missed_moves, "{move}";
    /// Switches of vCPU threads that were not recorded, on CPUs of which the kernel did not say that they may
    /// come online.
    Counter switches_on_unknown_cpus, "{switch}";
    /// Processes that lost their entry in the totals of a CPU's time to another.
    Counter occupants_displaced, "{process}";
    /// vCPU threads that had no slot at a snapshot, while no memory for more was being made.
    Counter slots_exhausted, "{thread}";
    /// Times that memory for slots, 1,024 at a time, could not be had.
    Counter segments_failed, "{segment}";
    /// vCPU threads that have no slot because 4,096 of their process have one.
    Counter slots_capped, "{thread}";
    /// Slots in use.
    UpDown slots_used, "{slot}";
    /// Readings whose parts came to more than their whole: states to more than the wall time, or parts of CPU
    /// time to more than the run time, by more than 50 microseconds; or halt polls by more than a
    /// millisecond. An excess that lasts is counted once.
    Counter negative_remainders, "{reading}";
    /// Counters that were found lower than before and were held.
    Counter counter_regressions, "{reading}";
    /// Runs of the scheduler program, and of those at entries and exits, that the kernel skipped because they
    /// were running already.
    Counter recursion_misses, "{run}";
    /// Begins and ends of KVM_RUN that were not observed, because another thread had been preempted in that
    /// program on the same CPU, as can happen from Linux 7.0 on: until the next hook the time was taken for
    /// what came before.
    Counter preemption_misses, "{run}";
    /// Ends of disk requests, of guests and of others, that the kernel did not report, because another was
    /// being reported on the same CPU: they came in an interrupt, or from Linux 7.0 on after a preemption.
    Counter requests_missed, "{request}";
    /// Interfaces of guests that could not be looked at, and network namespaces of which they could not be
    /// read.
    Counter interfaces_unread, "{reading}";
    /// VMs whose disk requests are not counted: no control group of the io controller is theirs alone.
    UpDown disks_uncounted, "{vm}";
    /// Disk requests of guests that were not counted: there was no room for one more disk of a guest, or
    /// the kernel had the table in use.
    Counter requests_untracked, "{request}";
    /// Entries into a guest and exits from it without the other: their time was counted as the kernel's, or
    /// estimated.
    Counter unpaired, "{event}";
    /// VMs of which not every exit was timed from then on, because they left their guests too often.
    Counter levels_lowered, "{vm}";
    /// VMs that are at level sampled because they left their guests too often.
    UpDown vms_lowered, "{vm}";
    /// Devices that VMMs hold beyond the first 128 of each, which are not named.
    UpDown devices_left_out, "{device}";
    /// VMs that are followed and not shown, because the settings leave them out.
    UpDown vms_left_out, "{vm}";
    /// vCPU threads that another thread replaced in running the same vCPU.
    Counter threads_replaced, "{thread}";
    /// Times that a thread which runs a vCPU was seen to run another one.
    Counter threads_turned, "{thread}";
    /// Descriptors visited in search of vCPUs that do not run.
    Counter looked_files, "{descriptor}";
    /// Descriptors of vCPUs that a look found and had no room for: that a vCPU has ended while its thread
    /// lives on is not known then.
    Counter vcpu_files_dropped, "{descriptor}";
    /// Threads that a walk could not read because they switched at each attempt.
    Counter walk_torn, "{reading}";
    /// Readings of a vCPU's exits, distributions or waits that the programs were writing at each attempt. The
    /// next snapshot has what they lack.
    Counter slots_torn, "{reading}";
    /// Helper threads that a walk found and had no room for.
    Counter helpers_dropped, "{reading}";
    /// Guests of which pressure and memory events are not known: no control group of version 2 is theirs
    /// alone.
    UpDown groups_uncounted, "{vm}";
    /// Counters that were lower than before. Those of the host are held, those of a control group begin anew.
    Counter counters_fell, "{reading}";
    /// Questions to a guest's platform that found the queue full.
    Counter questions_refused, "{question}";
    /// Questions to a guest's platform that wait for their answer: one that stays is a VMM that hangs.
    UpDown questions_waiting, "{question}";
    /// Files in which platforms keep what they know of guests, and which did not answer in time.
    Counter files_unanswered, "{file}";
    /// Snapshots of which all was read more than 100 ms after they were due.
    Counter snapshots_late, "{snapshot}";
    /// Snapshots that were left out because the one before was not over when they were due.
    Counter snapshots_skipped, "{snapshot}";
    /// Snapshots that could not be taken because the source could not be read.
    Counter snapshots_failed, "{snapshot}";
    /// Time from the moment at which snapshots were due until all was read of them, added up.
    Counter lateness_ns, "ns";
    /// The same of the last snapshot alone.
    UpDown last_lateness_ns, "ns";
    /// Snapshots that table, JSON lines, export or another sink dropped because it was behind, added up over
    /// them.
    Counter snapshots_dropped, "{snapshot}";
    /// Sinks that panicked and get no more snapshots.
    Counter sinks_failed, "{sink}";
    /// Lines of the sampler's log that were dropped: nobody read those before, or they could not be written.
    Counter log_lines_dropped, "{line}";
    /// Lines of the sampler's log that were left out because their place in the code logged too often: more
    /// than 200 at once, and one more each second.
    Counter log_lines_left_out, "{line}";
    /// vCPUs of which a snapshot's numbers were compared with what the kernel says by another way.
    Counter audit_checks as "audit.checks", "{vcpu}";
    /// Those of them of which a number was not what the kernel says. The log has both.
    Counter audit_mismatches as "audit.mismatches", "{vcpu}";
    /// vCPUs that were chosen for that and could not be compared: they ended, or the time was missed.
    Counter audit_skips as "audit.skips", "{vcpu}";
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEANING: &str = include_str!("../../../docs/meaning.md");

    #[test]
    fn each_loss_is_documented_as_one() {
        let stats = SamplerStats::default();
        for name in NO_LOSS {
            assert!(stats.rows().iter().any(|row| row.name == name), "there is no {name}");
        }
        let losses = stats.losses();
        assert_eq!(losses.len(), stats.rows().len() - NO_LOSS.len());
        let (_, section) = MEANING.split_once("\n## Losses\n").unwrap();
        let named: Vec<&str> =
            section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()).collect();
        for row in losses {
            let name = format!("`{}`", row.name);
            assert!(named.iter().any(|cell| cell.contains(&name)), "{name} is not in the table of losses");
        }
    }
}
