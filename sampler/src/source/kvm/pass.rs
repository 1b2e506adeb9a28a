//! One pass over the followed threads: all that is known of one is read while it is in the caches.

use std::sync::Arc;

use sampler_ebpf::abi::WalkRecord;

use super::{
    accounts::{Slots, Thread, VmEntry},
    attribution::table::ThreadShares,
    exits::ExitKinds,
    readings::{self, Features, Occupancies},
};
use crate::{
    collect::Collector,
    model::{Account, Exits, Faults, KvmCounts, SamplerStats},
};

/// Walks in a row that may miss a thread before it is given up: one may fall between a thread's leaving the
/// table of processes and its last switch.
const MISSES: u32 = 2;

/// Walks in a row that may find a thread's vCPU to be another's, or nobody's, before the thread is no longer
/// followed: it may go on as something else.
const STRANGERS: u32 = 3;

/// What a pass reads from.
pub(super) struct Pass<'a> {
    collector: &'a Collector,
    features: &'a Features,
    kinds: &'a ExitKinds,
    /// When the snapshot before was taken, by `CLOCK_MONOTONIC`, ns.
    last_monotonic_ns: Option<u64>,
    /// For how long the host has slept: by how much `CLOCK_BOOTTIME` is ahead of `CLOCK_MONOTONIC`, ns.
    slept_ns: u64,
    occupancies: Occupancies,
    no_exits: Arc<Exits>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        collector: &'a Collector,
        features: &'a Features,
        kinds: &'a ExitKinds,
        last_monotonic_ns: Option<u64>,
        slept_ns: u64,
    ) -> Self {
        let (occupancies, no_exits) = (Occupancies::default(), Arc::default());
        Self { collector, features, kinds, last_monotonic_ns, slept_ns, occupancies, no_exits }
    }

    /// Reads all threads into their accounts and those of their VMs. Returns the threads that are to be given
    /// up.
    pub(super) fn run(mut self, slots: &mut Slots, stats: &mut SamplerStats) -> Vec<u32> {
        let mut lost = Vec::new();
        slots.for_each(|thread, vm| {
            let record = self.collector.record(thread.slot);
            if self.take_in(thread, vm, &record, stats) {
                lost.push(thread.id.tid);
            }
            self.distributions(thread, vm);
            self.exits(thread, vm);
            self.charge(thread, vm, &record);
        });
        lost
    }

    /// Advances the account of a thread that the walk has read. Returns whether the thread is to be given up.
    fn take_in(
        &self,
        thread: &mut Thread,
        vm: &mut VmEntry,
        record: &WalkRecord,
        stats: &mut SamplerStats,
    ) -> bool {
        let generation = self.collector.generation();
        if record.generation != generation {
            // It switched at each attempt to read it: the next interval takes this one in.
            thread.account.interval = None;
            thread.missed = if record.visited == generation { 0 } else { thread.missed + 1 };
            return thread.missed >= MISSES;
        }
        thread.missed = 0;
        count(self.advance(thread, record), stats);
        if let Some(added) = take_in_kvm_counts(thread, readings::kvm_counts(record, self.features)) {
            vm.account.kvm_counts = vm.account.kvm_counts.plus(&added);
        }
        stats.unpaired += record.unpaired.saturating_sub(thread.account.unpaired);
        thread.account.unpaired = record.unpaired;
        thread.strange = if readings::has_kvm(record) { 0 } else { thread.strange + 1 };
        thread.strange >= STRANGERS
    }

    fn advance(&self, thread: &mut Thread, record: &WalkRecord) -> Faults {
        let reading = readings::reading(record, self.features);
        if let Some(time) = &mut thread.account.time {
            let (interval, faults) = time.advance(reading);
            thread.account.interval = Some(interval);
            return faults;
        }
        thread.account.followed_boottime_ns = reading.monotonic_ns.saturating_add(self.slept_ns);
        // Of a thread that is younger than the interval everything is known, not just its last part.
        if self.last_monotonic_ns.is_some_and(|last| thread.start_monotonic_ns >= last) {
            let (time, interval, faults) = Account::follow_from_creation(reading, thread.start_monotonic_ns);
            (thread.account.time, thread.account.interval) = (Some(time), Some(interval));
            return faults;
        }
        (thread.account.time, thread.account.interval) = (Some(Account::follow(reading)), None);
        Faults::default()
    }

    /// Brings the distributions of a thread and its VM up to date.
    fn distributions(&self, thread: &mut Thread, vm: &mut VmEntry) {
        let account = &mut thread.account;
        account.distributions_before = Arc::clone(&account.distributions);
        // Most vCPUs of most hosts sleep: what was not written is shared with the snapshots before.
        let seq = self.collector.slot_seq(thread.slot);
        if thread.account.slot_seq == Some(seq) {
            return;
        }
        let Some(now) = readings::distributions(self.collector, thread) else { return };
        // Written since `seq`, perhaps: then it is read once more next time.
        thread.account.slot_seq = Some(seq);
        if now != *thread.account.distributions {
            let added = now.since(&thread.account.distributions);
            vm.account.distributions = vm.account.distributions.plus(&added);
            thread.account.distributions = Arc::new(now);
        }
    }

    /// Brings the exits of a thread and its VM up to date.
    fn exits(&self, thread: &mut Thread, vm: &mut VmEntry) {
        let mut added = Arc::clone(&self.no_exits);
        // It could not be read: the next interval takes these in as well.
        let is_torn = thread.account.interval.is_none() && thread.account.exit_counts.is_some();
        let read = (!is_torn).then(|| readings::exits(self.collector, thread, self.kinds)).flatten();
        if let Some((exits, seq, counts)) = read {
            (thread.account.modes_seq, thread.account.exit_counts) = (seq, Some(counts));
            vm.account.exits.add_all(&exits);
            Arc::make_mut(&mut thread.account.exits).add_all(&exits);
            added = Arc::new(exits);
        }
        thread.account.exits_added = thread.account.interval.map(|_| added);
    }

    /// Charges the occupants of the CPUs for which a thread waited, if it has an interval or is read for the
    /// first time. The tables are read only where something may have been added to them.
    fn charge(&mut self, thread: &mut Thread, vm: &mut VmEntry, record: &WalkRecord) {
        let Some(time) = &thread.account.time else { return };
        let waits = time.last().waiting_ns > 0;
        let pending = thread.account.shares.as_ref().is_none_or(|shares| shares.is_pending());
        let attribution = &mut vm.account.attribution;
        let Some(interval) = thread.account.interval else {
            // Where there are shares it could not be read: the next interval takes this one in.
            if thread.account.shares.is_none() {
                let shares = readings::shares(self.collector, &mut self.occupancies, thread, record);
                thread.account.shares = shares.map(Box::new);
            }
            return;
        };
        attribution.add(&interval);
        if interval.run_delay_ns == 0 && !waits && !pending {
            return;
        }
        // Of a thread that is younger than the interval all is new.
        let is_young = time.is_all_in_last_step();
        let now = readings::shares(self.collector, &mut self.occupancies, thread, record);
        let Some(now) = now else { return };
        match &thread.account.shares {
            Some(before) => attribution.charge(before, &now),
            None if is_young => attribution.charge(&ThreadShares::NONE, &now),
            None => {}
        }
        thread.account.shares = Some(Box::new(now));
    }
}

fn count(faults: Faults, stats: &mut SamplerStats) {
    stats.negative_remainders += u64::from(faults.negative_remainder);
    stats.counter_regressions += u64::from(faults.regression);
}

/// Takes in what KVM counts of a thread's vCPU; returns what that adds to its VM.
fn take_in_kvm_counts(thread: &mut Thread, now: Option<KvmCounts>) -> Option<KvmCounts> {
    let before = std::mem::replace(&mut thread.account.kvm, now);
    let now = now?;
    if let (Some(interval), Some(before)) = (&mut thread.account.interval, before) {
        interval.kvm = Some(now.since(&before));
    }
    let is_all_new = thread.is_first && thread.account.time.is_some_and(|time| time.is_all_in_last_step());
    Some(match thread.account.kvm_known.replace(now) {
        Some(known) => now.since(&known),
        None if is_all_new => now,
        // Nothing, but which counts there are.
        None => now.since(&now),
    })
}
