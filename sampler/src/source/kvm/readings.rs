//! What a walk and the programs say of one thread, taken into what is known of it.

use std::collections::BTreeMap;

use sampler_ebpf::abi::{self, Counter, KVM_STATS, KvmStat, Mode, SlotShares, WalkRecord};

use super::{
    accounts::{Left, Thread},
    attribution::{
        memory::Memory,
        table::{ThreadShares, Wait},
    },
    carry::LastTimes,
    counted,
    exits::{ChangedExits, ExitKinds},
};
use crate::{
    collect::{Collector, ExitsOf, Remembered},
    model::{Counters, Distributions, Exits, KvmCounts, MEASURED, ModeTimes, Reading},
};

/// What this kernel counts at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features {
    kvm_stats: [bool; KVM_STATS.len()],
    pub(super) throttled: bool,
}

impl Features {
    pub(super) fn of(collector: &Collector) -> Self {
        Self { kvm_stats: collector.kvm_stats_kept(), throttled: collector.has_throttled_clock() }
    }
}

/// What a walk's record says of the thread's time.
pub(super) fn reading(record: &WalkRecord, features: &Features, unentered: bool) -> Reading {
    let throttled_ns = record.throttled_ns.saturating_add(record.held_back_ns);
    Reading {
        monotonic_ns: record.monotonic_ns,
        sched_ns: record.sched_ns,
        counters: counted::counters(&record.counters),
        running_ns: record.running_ns,
        waiting_ns: record.waiting_ns,
        throttled_ns: features.throttled.then_some(throttled_ns),
        halted_ns: halted(&record.asleep_ns),
        blocked_ns: blocked(&record.asleep_ns),
        modes: mode_times(record, features, unentered),
    }
}

/// Time asleep by how the thread left its CPU.
type Asleep = [u64; abi::Left::COUNT];

const fn halted(asleep_ns: &Asleep) -> u64 {
    asleep_ns[abi::Left::Halted as usize]
}

/// In the order of the model's reasons.
fn blocked(asleep_ns: &Asleep) -> [u64; MEASURED] {
    use abi::Left;
    [Left::FaultIo, Left::Fault, Left::VmmIo, Left::Vmm, Left::Stopped].map(|left| asleep_ns[left as usize])
}

fn mode_times(record: &WalkRecord, features: &Features, unentered: bool) -> ModeTimes {
    let ns = |mode: Mode| record.modes_ns[mode.place()];
    let poll = |stat: KvmStat| features.kvm_stats[stat as usize].then_some(record.kvm[stat as usize]);
    let polls = || Some(poll(KvmStat::HaltPollSuccess)?.saturating_add(poll(KvmStat::HaltPollFail)?));
    ModeTimes {
        guest_ns: ns(Mode::Guest),
        kernel_ns: ns(Mode::Kernel),
        vmm_ns: ns(Mode::Vmm),
        inside_ns: ns(Mode::Inside),
        stands_ns: record.stands_ns,
        observed: record.modes_observed == 1,
        unentered,
        torn: record.modes_observed == WalkRecord::MODES_TORN,
        gaps: record.modes_gaps.into(),
        poll_ns: has_kvm(record).then(polls).flatten(),
    }
}

/// Whether what KVM counts was read: the vCPU is still the thread's.
pub(super) const fn has_kvm(record: &WalkRecord) -> bool {
    record.kvm_generation == record.generation
}

/// What KVM counts by a walk's record; `None` where that was not read.
pub(super) fn kvm_counts(record: &WalkRecord, features: &Features) -> Option<KvmCounts> {
    has_kvm(record).then(|| counted::kvm_counts(&record.kvm, &features.kvm_stats))
}

/// What the scheduler program has taken in of a thread so far, as its vCPU's; `None` while it is being
/// written.
pub(super) fn distributions(collector: &Collector, thread: &Thread) -> Option<Distributions> {
    let of_thread =
        collector.distributions(thread.slot, thread.task).map(|raw| counted::distributions(&raw))?;
    Some(thread.account.carry.as_ref().map_or(of_thread, |carry| carry.distributions(&of_thread)))
}

/// What the CPUs remember of who had them, copied once for all waits of a snapshot.
#[derive(Debug, Default)]
pub(super) struct Occupancies {
    cpus: BTreeMap<u32, Option<Remembered>>,
}

impl Occupancies {
    fn of(&mut self, collector: &Collector, cpu: u32) -> Option<&Remembered> {
        self.cpus.entry(cpu).or_insert_with(|| collector.occupancy(cpu)).as_ref()
    }
}

/// Who had the CPU while a thread waited, the wait that goes on included; `None` while that is being written.
pub(super) fn shares(
    collector: &Collector,
    occupancies: &mut Occupancies,
    thread: &Thread,
    record: &WalkRecord,
) -> Option<ThreadShares> {
    let (counters, SlotShares { table, charged_ns }) =
        collector.counters_and_shares(thread.slot, thread.task)?;
    let credited = record.counters[Counter::RunDelay as usize];
    let charged = counters[Counter::RunDelay as usize].saturating_add(charged_ns);
    let shares = ThreadShares::new(table, credited.saturating_sub(charged));
    // Where the table has more than was read, the wait has ended since.
    if record.waiting_ns == 0 || charged > credited {
        return Some(shares);
    }
    let queued_ns = record.sched_ns.saturating_sub(record.waiting_ns);
    let wait =
        Wait { cpu: record.cpu, queued_ns, until_ns: record.sched_ns, held_back_ns: record.held_back_ns };
    let checkpoint = |number| collector.checkpoint(record.cpu, number);
    let memory =
        occupancies.of(collector, record.cpu).map(|recent| Memory { recent, checkpoint: &checkpoint });
    Some(shares.waiting(wait, memory.as_ref(), thread.account.shares.as_deref()))
}

/// Rows of a thread's exits that are not as they were read last, with how often its modes had been written
/// by then; `None` where there are none, and while they are being written.
pub(super) fn exits(collector: &Collector, thread: &Thread) -> Option<(u64, ChangedExits)> {
    let seq = collector.modes_seq(thread.slot);
    if seq == thread.account.modes_seq {
        return None;
    }
    // Not by the modes' own thread: another may have the same ids.
    let read = |exits: &ExitsOf<'_>| ChangedExits::read(exits, &thread.account.exit_counts);
    let changed =
        collector.exits(thread.slot, read).filter(|_| collector.task(thread.slot) == thread.task)?;
    // Written since `seq`, perhaps: then it is read once more next time.
    Some((seq, changed))
}

/// Why a thread left its guest since that was read last; `None` where it did not, or while it is being
/// written.
pub(super) fn last_exits(collector: &Collector, kinds: &ExitKinds, thread: &Thread) -> Option<Exits> {
    let (_, changed) = exits(collector, thread)?;
    let mut added = Exits::default();
    thread.account.exit_counts.clone().take(changed, |row, totals| added.add(kinds.of(row), &totals));
    Some(added)
}

/// What the programs have of a thread that runs its vCPU no longer; `None` while it is being written.
pub(super) fn left(collector: &Collector, kinds: &ExitKinds, thread: &Thread) -> Option<Left> {
    let (slot, SlotShares { table, charged_ns }) =
        collector.slot_and_shares(thread.slot).filter(|(slot, _)| slot.task == thread.task)?;
    let modes = collector.modes(thread.slot).map(|modes| {
        let [guest, kernel, vmm, inside] =
            [Mode::Guest, Mode::Kernel, Mode::Vmm, Mode::Inside].map(|mode| modes.ns[mode.place()]);
        [guest, kernel, vmm, inside, modes.stands_ns]
    });
    let times = LastTimes {
        counters: counted::counters(&slot.counters),
        throttled_ns: slot.throttled_ns,
        halted_ns: halted(&slot.asleep_ns),
        blocked_ns: blocked(&slot.asleep_ns),
        modes_ns: modes,
    };
    Some(Left {
        times,
        distributions: distributions(collector, thread),
        // The wait before its last stint is in the table; one since then was not for this vCPU.
        shares: (charged_ns == 0).then(|| ThreadShares::new(table, 0)),
        exits: last_exits(collector, kinds, thread),
    })
}

/// What the scheduler program recorded at a thread's very last switch: its counts for ever.
pub(super) fn last_counts(collector: &Collector, slot: u16, task: u64) -> Option<Counters> {
    let slot = collector.slot(slot)?;
    (slot.task == task && slot.fresh == 0).then(|| counted::counters(&slot.counters))
}

#[cfg(test)]
mod fuzz;
