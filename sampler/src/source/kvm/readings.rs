//! What a walk and the programs say of one thread, taken into what is known of it.

use sampler_ebpf::abi::{COUNTERS, Counter, EXIT_ROWS, ExitCounts, KVM_STATS, KvmStat, Mode, WalkRecord};

use super::{
    attribution::table::{ThreadShares, Wait},
    exits::{ExitKinds, added},
    registry::Thread,
};
use crate::{
    collect::Collector,
    model::{Account, Distributions, Exits, Faults, KvmCounts, ModeTimes, Reading, SamplerStats},
};

/// What this kernel tells at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features {
    kvm_stats: [bool; KVM_STATS.len()],
    throttled: bool,
}

impl Features {
    pub(super) fn of(collector: &Collector) -> Self {
        Self { kvm_stats: collector.kvm_stats_kept(), throttled: collector.tells_throttled() }
    }
}

/// Takes a walk's record in. Returns whether the vCPU that the thread was seen to run is still its own.
pub(super) fn read(
    thread: &mut Thread,
    record: &WalkRecord,
    features: &Features,
    last_monotonic_ns: Option<u64>,
    stats: &mut SamplerStats,
) -> bool {
    read_thread(thread, reading(record, features), last_monotonic_ns, stats);
    read_kvm_counts(thread, record, &features.kvm_stats);
    stats.unpaired += record.unpaired.saturating_sub(thread.unpaired);
    thread.unpaired = record.unpaired;
    has_kvm(record)
}

fn reading(record: &WalkRecord, features: &Features) -> Reading {
    let throttled_ns = record.throttled_ns + record.held_back_ns;
    Reading {
        monotonic_ns: record.monotonic_ns,
        sched_ns: record.sched_ns,
        counters: record.counters,
        running_ns: record.running_ns,
        waiting_ns: record.waiting_ns,
        throttled_ns: features.throttled.then_some(throttled_ns),
        halted_ns: record.asleep_ns[0],
        blocked_ns: record.asleep_ns[1],
        modes: mode_times(record, features),
    }
}

fn mode_times(record: &WalkRecord, features: &Features) -> ModeTimes {
    let ns = |mode: Mode| record.modes_ns[mode as usize];
    let poll = |stat: KvmStat| features.kvm_stats[stat as usize].then_some(record.kvm[stat as usize]);
    let polls = || Some(poll(KvmStat::HaltPollSuccess)?.saturating_add(poll(KvmStat::HaltPollFail)?));
    ModeTimes {
        guest_ns: ns(Mode::Guest),
        kernel_ns: ns(Mode::Kernel),
        vmm_ns: ns(Mode::Vmm),
        observed: record.modes_observed == 1,
        torn: record.modes_observed == WalkRecord::MODES_TORN,
        gaps: record.modes_gaps,
        poll_ns: has_kvm(record).then(polls).flatten(),
    }
}

/// Whether what KVM counts was read: the vCPU is still the thread's.
const fn has_kvm(record: &WalkRecord) -> bool {
    record.kvm_generation == record.generation
}

fn read_thread(thread: &mut Thread, reading: Reading, last: Option<u64>, stats: &mut SamplerStats) {
    let Some(account) = &mut thread.account else {
        // Of a thread that is younger than the interval everything is known, not just its last part.
        if last.is_some_and(|last| thread.start_monotonic_ns >= last) {
            let (account, interval, faults) =
                Account::follow_from_creation(reading, thread.start_monotonic_ns);
            (thread.account, thread.interval) = (Some(account), Some(interval));
            count(faults, stats);
        } else {
            thread.account = Some(Account::follow(reading));
            thread.interval = None;
        }
        thread.followed_monotonic_ns = reading.monotonic_ns;
        return;
    };
    let (interval, faults) = account.advance(reading);
    thread.interval = Some(interval);
    count(faults, stats);
}

fn count(faults: Faults, stats: &mut SamplerStats) {
    stats.negative_remainders += u64::from(faults.negative_remainder);
    stats.counter_regressions += u64::from(faults.regression);
}

fn read_kvm_counts(thread: &mut Thread, record: &WalkRecord, kept: &[bool; KVM_STATS.len()]) {
    let now = has_kvm(record).then(|| KvmCounts::new(record.kvm, kept));
    let before = std::mem::replace(&mut thread.kvm, now);
    if let Some(now) = now {
        let is_all_new =
            thread.is_first && thread.account.is_some_and(|account| account.is_all_in_last_step());
        thread.kvm_added = Some(match thread.kvm_known.replace(now) {
            Some(known) => now.since(&known),
            None if is_all_new => now,
            // Nothing, but which counts there are.
            None => now.since(&now),
        });
    }
    if let (Some(interval), Some(before), Some(now)) = (&mut thread.interval, before, now) {
        interval.kvm = Some(now.since(&before));
    }
}

/// What the scheduler program has taken in of a thread so far; `None` while it is being written.
pub(super) fn distributions(collector: &Collector, thread: &Thread) -> Option<Distributions> {
    let slot = collector.slot(thread.slot).filter(|slot| slot.task == thread.task)?;
    Some(Distributions::new(slot.distributions))
}

/// Who took a thread's time, the wait that goes on included; `None` while it is being written.
pub(super) fn shares(collector: &Collector, thread: &Thread) -> Option<ThreadShares> {
    let record = collector.record(thread.slot);
    let (slot, table) =
        collector.slot_and_shares(thread.slot).filter(|(slot, _)| slot.task == thread.task)?;
    let credited = record.counters[Counter::RunDelay as usize];
    let charged = slot.counters[Counter::RunDelay as usize].saturating_add(table.charged_ns);
    let shares = ThreadShares::new(table, credited.saturating_sub(charged));
    // Where the table has more than was read, the wait has ended since.
    if record.waiting_ns == 0 || charged > credited {
        return Some(shares);
    }
    let queued_ns = record.sched_ns.saturating_sub(record.waiting_ns);
    let wait =
        Wait { cpu: record.cpu, queued_ns, until_ns: record.sched_ns, held_back_ns: record.held_back_ns };
    Some(shares.waiting(wait, collector.occupancy(record.cpu).as_ref(), thread.shares.as_deref()))
}

/// Exits of a thread since they were read last, with what they were read from; `None` where there were none, and while they
/// are being written.
pub(super) fn exits(
    collector: &Collector,
    thread: &Thread,
    kinds: &ExitKinds,
) -> Option<(Exits, u64, Box<[ExitCounts; EXIT_ROWS]>)> {
    if collector.modes_seq(thread.slot) == thread.modes_seq {
        return None;
    }
    // Not by the modes' own thread: another may have the same ids.
    let modes = collector.modes(thread.slot).filter(|_| collector.task(thread.slot) == thread.task)?;
    let none = [ExitCounts::default(); EXIT_ROWS];
    let added = added(&modes.exits, thread.exit_counts.as_deref().unwrap_or(&none), kinds);
    Some((added, modes.seq, Box::new(modes.exits)))
}

/// What the scheduler program recorded at a thread's very last switch: its counts for ever.
pub(super) fn last_counts(collector: &Collector, slot: u16, task: u64) -> Option<[u64; COUNTERS.len()]> {
    let slot = collector.slot(slot)?;
    (slot.task == task && slot.fresh == 0).then_some(slot.counters)
}
