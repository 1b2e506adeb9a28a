//! One pass over the followed threads: all that is known of one is read while it is in the caches.

use std::sync::Arc;

use sampler_ebpf::abi::WalkRecord;

use super::{
    accounts::{Slots, Thread, VmEntry},
    attribution::table::ThreadShares,
    co_stop::Read,
    entries::Entries,
    exits::ExitKinds,
    levels::Busiest,
    readings::{self, Features, Occupancies},
};
use crate::{
    collect::{Collector, host::Nodes},
    kernel::clock::Clock,
    model::{Account, Exits, Faults, KvmCounts, KvmStat, NodeVcpus, SamplerStats},
    source::io::Group,
};

/// Walks in a row that may miss a thread before it is given up: one may fall between a thread's leaving the
/// table of processes and its last switch.
const MISSES: u32 = 2;

/// Walks in a row that may find a thread's vCPU to be another's, or nobody's, before the thread is no longer
/// followed: it may go on as something else.
const STRANGERS: u32 = 3;

/// Why a thread is followed no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// It has ended.
    Lost,
    /// It lives on, and its vCPU is another's, or nobody's.
    Strange,
    /// Its VM has ended, and it runs another one at the same place in the kernel's memory.
    MadeAnew,
}

/// What a pass reads from.
pub(super) struct Pass<'a> {
    collector: &'a Collector,
    features: &'a Features,
    nodes: &'a Nodes,
    kinds: &'a ExitKinds,
    entries: &'a mut Entries,
    /// When the snapshot before was taken, by `CLOCK_MONOTONIC`, ns.
    last_monotonic_ns: Option<u64>,
    /// The clock of streams that begin now.
    clock: Clock,
    /// For how long the host has slept: by how much `CLOCK_BOOTTIME` is ahead of `CLOCK_MONOTONIC`, ns.
    slept_ns: u64,
    occupancies: Occupancies,
    no_exits: Arc<Exits>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        collector: &'a Collector,
        (features, nodes): (&'a Features, &'a Nodes),
        kinds: &'a ExitKinds,
        entries: &'a mut Entries,
        last_monotonic_ns: Option<u64>,
        clock: Clock,
    ) -> Self {
        Self {
            collector,
            features,
            nodes,
            kinds,
            entries,
            last_monotonic_ns,
            clock,
            slept_ns: clock.boottime_ns().saturating_sub(clock.monotonic_ns()),
            occupancies: Occupancies::default(),
            no_exits: Arc::default(),
        }
    }

    /// Reads all threads into their accounts and those of their VMs. Returns the threads that are to be given
    /// up, and why.
    pub(super) fn run(mut self, slots: &mut Slots, stats: &mut SamplerStats) -> Vec<(u32, GivenUp)> {
        let mut given_up = Vec::new();
        for (_, vm) in slots.vms_mut() {
            vm.account.reads.clear();
            vm.account.busiest = Busiest::default();
            vm.account.io_group = None;
            self.place_none(&mut vm.account.placement);
        }
        slots.for_each(|thread, vm| {
            let record = self.collector.record(thread.slot);
            let why = self.take_in(thread, vm, &record, stats);
            self.place(&mut vm.account.placement, &record);
            self.distributions(thread, vm);
            self.exits(thread, vm);
            self.charge(thread, vm, &record);
            vm.account.busiest.take(exits_of(thread), wall_of(thread));
            if let Some(why) = why {
                given_up.push((thread.id.tid, why));
            } else if thread.account.time.is_some() {
                vm.account.reads.push(self.read(thread, &record));
            }
        });
        given_up
    }

    /// No vCPU is anywhere yet. Nodes without any have a zero, so that series do not come and go.
    fn place_none(&self, placement: &mut Vec<NodeVcpus>) {
        placement.clear();
        placement.extend(self.nodes.all().iter().map(|&node| NodeVcpus { node, vcpus: 0 }));
    }

    /// Where a thread was found last: a walk that cannot read it leaves it where it was.
    fn place(&self, placement: &mut [NodeVcpus], record: &WalkRecord) {
        let node = self.nodes.of(record.cpu).filter(|_| record.generation != 0);
        if let Some(at) = node.and_then(|node| placement.iter_mut().find(|at| at.node == node)) {
            at.vcpus += 1;
        }
    }

    /// What co-stop is counted from; `None` where the last walk could not read the thread.
    fn read(&self, thread: &Thread, record: &WalkRecord) -> Option<Read> {
        let waited = thread.account.interval.map(|interval| interval.run_delay_ns > 0);
        (record.generation == self.collector.generation()).then(|| Read::new(thread.slot, record, waited))
    }

    /// Advances the account of a thread that the walk has read. Returns why the thread is to be given up,
    /// if it is.
    fn take_in(
        &mut self,
        thread: &mut Thread,
        vm: &mut VmEntry,
        record: &WalkRecord,
        stats: &mut SamplerStats,
    ) -> Option<GivenUp> {
        let generation = self.collector.generation();
        if record.generation != generation {
            // It switched at each attempt to read it: the next interval takes this one in.
            thread.account.interval = None;
            thread.missed = if record.visited == generation { 0 } else { thread.missed + 1 };
            return (thread.missed >= MISSES).then_some(GivenUp::Lost);
        }
        thread.missed = 0;
        if record.io_group != 0 {
            let WalkRecord { io_group: id, io_serial: serial, io_cgroup: inode, .. } = *record;
            vm.account.io_group.get_or_insert(Group { id, serial, inode });
        }
        let kvm_counts = readings::kvm_counts(record, self.features);
        if is_made_anew(thread, kvm_counts.as_ref()) {
            thread.account.interval = None;
            return Some(GivenUp::MadeAnew);
        }
        count(self.advance(thread, record), stats);
        vm.account.clock.get_or_insert(self.clock);
        if let Some(added) = take_in_kvm_counts(thread, kvm_counts) {
            vm.account.kvm_counts = vm.account.kvm_counts.plus(&added);
        }
        stats.unpaired += u64::from(record.unpaired.saturating_sub(thread.account.unpaired));
        thread.account.unpaired = record.unpaired;
        thread.strange = if readings::has_kvm(record) { 0 } else { thread.strange + 1 };
        (thread.strange >= STRANGERS).then_some(GivenUp::Strange)
    }

    fn advance(&mut self, thread: &mut Thread, record: &WalkRecord) -> Faults {
        let unentered = self.entries.are_missing_of(record);
        let reading = thread.account.carried(readings::reading(record, self.features, unentered));
        if let Some(time) = &mut thread.account.time {
            let (interval, faults) = time.advance(reading);
            thread.account.interval = Some(interval);
            return faults;
        }
        thread.account.followed_boottime_ns = reading.monotonic_ns.saturating_add(self.slept_ns);
        thread.account.clock = Some(self.clock);
        // Of a thread that is younger than the interval everything is known, not just its last part.
        if thread.account.carry.is_none()
            && self.last_monotonic_ns.is_some_and(|last| thread.start_monotonic_ns >= last)
        {
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
        let mut room = Arc::clone(&account.distributions);
        std::mem::swap(&mut room, &mut account.distributions_before);
        // Most vCPUs of most hosts sleep: what was not written is shared with the snapshots before.
        let seq = self.collector.slot_seq(thread.slot);
        if thread.account.slot_seq == Some(seq) {
            return;
        }
        let Some(now) = readings::distributions(self.collector, thread) else { return };
        // Written since `seq`, perhaps: then it is read once more next time.
        thread.account.slot_seq = Some(seq);
        if now != *thread.account.distributions {
            vm.account.distributions.add_between(&now, &thread.account.distributions);
            thread.account.distributions = put(room, now);
        }
    }

    /// Brings the exits of a thread and its VM up to date.
    fn exits(&self, thread: &mut Thread, vm: &mut VmEntry) {
        let room = thread.account.exits_added.take();
        // It could not be read: the next interval takes these in as well.
        let is_torn = thread.account.interval.is_none() && thread.account.exit_counts.is_read();
        let read = (!is_torn).then(|| readings::exits(self.collector, thread)).flatten();
        let mut added = Arc::clone(&self.no_exits);
        if let Some((seq, changed)) = read {
            thread.account.modes_seq = seq;
            // Where no snapshot has them any more, their room is used again.
            let mut room = room.filter(|room| Arc::strong_count(room) == 1).unwrap_or_default();
            let exits = Arc::make_mut(&mut room);
            exits.clear();
            let kinds = self.kinds;
            thread.account.exit_counts.take(changed, |row, totals| exits.add(kinds.of(row), &totals));
            vm.account.exits.add_all(exits);
            Arc::make_mut(&mut thread.account.exits).add_all(exits);
            added = room;
        }
        thread.account.exits_added = thread.account.interval.map(|_| added);
    }

    /// Charges the occupants of the CPUs for which a thread waited, if it has an interval or is read for the
    /// first time. The tables are read only where something may have been added to them.
    fn charge(&mut self, thread: &mut Thread, vm: &mut VmEntry, record: &WalkRecord) {
        let Some(time) = &thread.account.time else { return };
        let waits = time.last().waiting_ns > 0;
        let pending = thread.account.shares.as_ref().is_none_or(|shares| shares.is_pending());
        let Some(interval) = thread.account.interval else {
            // Where there are shares it could not be read: the next interval takes this one in.
            if thread.account.shares.is_none() {
                let shares = readings::shares(self.collector, &mut self.occupancies, thread, record);
                thread.account.shares = shares.map(Box::new);
            }
            return;
        };
        // Of a thread that is younger than the interval all is new.
        let is_young = time.is_all_in_last_step();
        vm.account.add(&interval, is_young.then_some(&thread.account.seen_counters));
        if interval.run_delay_ns == 0 && !waits && !pending {
            return;
        }
        let now = readings::shares(self.collector, &mut self.occupancies, thread, record);
        let Some(now) = now else { return };
        let attribution = &mut vm.account.attribution;
        match &thread.account.shares {
            Some(before) => attribution.charge(before, &now),
            None if is_young => attribution.charge(&ThreadShares::NONE, &now),
            None => {}
        }
        match &mut thread.account.shares {
            Some(shares) => **shares = now,
            none => *none = Some(Box::new(now)),
        }
    }
}

/// A value in a room that nobody else looks into, or in a new one.
fn put<T>(mut room: Arc<T>, value: T) -> Arc<T> {
    match Arc::get_mut(&mut room) {
        Some(place) => {
            *place = value;
            room
        }
        None => Arc::new(value),
    }
}

/// How often a thread left its guest in the interval. KVM's count has what it emulates as well, but not each
/// exit that it handles without leaving its innermost loop.
fn exits_of(thread: &Thread) -> u64 {
    let account = &thread.account;
    let by_kvm = account.interval.and_then(|interval| interval.kvm?.get(KvmStat::Exits)).unwrap_or(0);
    let by_hooks = account.exits_added.as_deref();
    by_kvm.max(by_hooks.map_or(0, |exits| exits.iter().map(|(_, exits)| exits.count).sum()))
}

fn wall_of(thread: &Thread) -> u64 {
    thread.account.interval.map_or(0, |interval| interval.wall_ns)
}

fn count(faults: Faults, stats: &mut SamplerStats) {
    stats.negative_remainders += u64::from(faults.negative_remainder);
    stats.counter_regressions += u64::from(faults.regression);
}

/// Whether KVM counts anew what a thread's vCPU does: it is another vCPU, made where the one before was
/// freed.
fn is_made_anew(thread: &Thread, now: Option<&KvmCounts>) -> bool {
    thread.account.kvm.as_ref().zip(now).is_some_and(|(before, now)| now.began_again_after(before))
}

/// Takes in what KVM counts of a thread's vCPU; returns what that adds to its VM.
fn take_in_kvm_counts(thread: &mut Thread, now: Option<KvmCounts>) -> Option<KvmCounts> {
    let was_read = std::mem::replace(&mut thread.account.is_kvm_read, now.is_some());
    let now = now?;
    let known = thread.account.kvm.replace(now);
    if let (Some(interval), Some(before), true) = (&mut thread.account.interval, known, was_read) {
        interval.kvm = Some(now.since(&before));
    }
    let is_all_new = thread.is_first && thread.account.time.is_some_and(|time| time.is_all_in_last_step());
    Some(match known {
        Some(known) => now.since(&known),
        None if is_all_new => now,
        // Nothing, but which counts there are.
        None => now.since(&now),
    })
}
