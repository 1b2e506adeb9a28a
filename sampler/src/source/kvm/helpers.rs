//! Helper threads: from what a walk lists to sums by VM and kind.
//!
//! Threads have no slots here, and nothing reports their births and ends: each walk lists those that there
//! are. What is known of a thread is remembered, and what was added since goes to the kind and the VM that
//! the thread has now. So nothing that was read is lost when a thread ends; what it did after the last walk
//! that found it is.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use sampler_ebpf::abi::{HelperRecord, VHOST_PREFIX};

use super::accounts::Slots;
use super::identity::{KvmGuest, ThreadId};
use crate::{
    kept::kept,
    model::{HelperKind, HelperTimes, Helpers, TOLERANCE_NS},
};

/// Walks in a row that may miss a thread before it is forgotten.
const MISSES: u64 = 2;

/// How VMMs and the kernel call threads that are of another kind than the emulator. A VMM chooses these names
/// itself, and so deceives about its own threads alone.
const NAMES: &[(&[u8], HelperKind)] = &[
    (VHOST_PREFIX, HelperKind::Vhost),
    // QEMU with debug-threads=on, as libvirt has it.
    (b"IO ", HelperKind::IoThread),
    // What io_uring does for its user, by the kernel.
    (b"iou-wrk-", HelperKind::IoThread),
    (b"iou-sqp-", HelperKind::IoThread),
    // Cloud Hypervisor, and what is derived from it: the devices' own names, where the user gives none.
    (b"_disk", HelperKind::IoThread),
    (b"_fs", HelperKind::IoThread),
    (b"_net", HelperKind::IoThread),
    (b"_pmem", HelperKind::IoThread),
    (b"_vsock", HelperKind::IoThread),
    // crosvm.
    (b"v_block", HelperKind::IoThread),
    (b"v_fs", HelperKind::IoThread),
    (b"v_net", HelperKind::IoThread),
    (b"v_pmem", HelperKind::IoThread),
    (b"v_scsi", HelperKind::IoThread),
];

/// A VM that may have helpers.
#[derive(Clone, Copy, Debug)]
struct HelpedVm {
    key: KvmGuest,
    /// `CLOCK_BOOTTIME` when it was first seen, ns: where its sums begin.
    seen_boottime_ns: u64,
}

/// What one walk says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walked<'a> {
    /// The threads that it listed.
    pub(super) records: &'a [HelperRecord],
    /// `CLOCK_BOOTTIME` when it began, ns.
    pub(super) began_boottime_ns: u64,
    /// The same of its first pass over the whole host, if it had one.
    pub(super) host_began_boottime_ns: Option<u64>,
}

/// A thread, for ever.
type HelperId = (u32, u64);

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    times: HelperTimes,
    /// The walk that found it last.
    round: u64,
}

kept! { Known { times, round } }

impl Known {
    /// Takes a reading in; returns what it added, and whether a time was found lower by more than a reading
    /// is uncertain.
    fn advance(&mut self, now: HelperTimes) -> (HelperTimes, bool) {
        let mut fell = false;
        let mut grow = |now: u64, before: &mut u64| {
            fell |= now.saturating_add(TOLERANCE_NS) < *before;
            let added = now.saturating_sub(*before);
            *before += added;
            added
        };
        let run_ns = grow(now.run_ns, &mut self.times.run_ns);
        let run_delay_ns = grow(now.run_delay_ns, &mut self.times.run_delay_ns);
        (HelperTimes { run_ns, run_delay_ns }, fell)
    }
}

/// The helpers of one VM.
#[derive(Clone, Copy, Debug, Default)]
struct OfVm {
    helpers: Helpers,
    /// No walk had the VM before the last one.
    is_new: bool,
}

kept! { OfVm { helpers, is_new } }

/// The helpers of all VMs.
#[derive(Clone, Debug, Default)]
pub(super) struct HelperSums {
    threads: BTreeMap<HelperId, Known>,
    vms: BTreeMap<KvmGuest, OfVm>,
    /// Processes whose threads the walk lists.
    marked: BTreeSet<u32>,
    /// Kernel threads that work for a VM.
    workers: BTreeSet<u32>,
    round: u64,
    /// `CLOCK_BOOTTIME` when the last walk began that was taken in, ns.
    walked_boottime_ns: Option<u64>,
    /// The same of the last that visited the whole host: no other finds a new worker.
    host_walked_boottime_ns: Option<u64>,
}

// The kernel's marks are cleared, and the first walk visits the whole host.
kept! {
    HelperSums { threads, vms, round, walked_boottime_ns, host_walked_boottime_ns }
    anew { marked, workers }
}

impl HelperSums {
    /// Which processes the next walk is to list the threads of, and those of which no longer: all that has
    /// changed.
    pub(super) fn mark(&mut self, vms: impl Iterator<Item = KvmGuest>) -> Vec<(u32, bool)> {
        let wanted: BTreeSet<u32> = vms.map(|key| key.pid).collect();
        let gone = self.marked.difference(&wanted).map(|pid| (*pid, false));
        let new = wanted.difference(&self.marked).map(|pid| (*pid, true));
        let changes = gone.chain(new).collect();
        self.marked = wanted;
        changes
    }

    /// A VM's helpers.
    pub(super) fn of(&self, key: KvmGuest) -> Helpers {
        self.vms.get(&key).map(|vm| vm.helpers).unwrap_or_default()
    }

    /// Kernel threads that the last walk found to work for a VM: they are in no process of a VMM.
    pub(super) fn workers(&self) -> impl Iterator<Item = u32> {
        self.workers.iter().copied()
    }

    /// Takes a walk in. Returns how many readings were lower than one before.
    pub(super) fn take(&mut self, walked: Walked<'_>, slots: &Slots) -> u64 {
        let vms = slots.vms();
        let vms = vms.map(|(key, vm)| HelpedVm { key: *key, seen_boottime_ns: vm.seen_boottime_ns });
        let is_vcpus = |record: &HelperRecord| {
            let start_boottime_ns = record.start_boottime_ns;
            slots.may_return(ThreadId { tid: record.tid, start_boottime_ns })
        };
        // What such a thread does is of its vCPU, once it is seen there again.
        let helpers: Vec<_>;
        let records = if walked.records.iter().any(is_vcpus) {
            helpers = walked.records.iter().filter(|record| !is_vcpus(record)).copied().collect();
            &helpers
        } else {
            walked.records
        };
        self.add_up(Walked { records, ..walked }, vms, |tid| slots.process_of(tid))
    }

    /// The same. `vms` are all that live, in order; `process_of` gives the process of a vCPU's thread.
    fn add_up(
        &mut self,
        walked: Walked<'_>,
        vms: impl Iterator<Item = HelpedVm>,
        process_of: impl Fn(u32) -> Option<u32>,
    ) -> u64 {
        self.round += 1;
        let helped = Helped::of(vms, walked.records, process_of);
        self.vms.retain(|key, _| helped.keys.contains(key));
        for key in &helped.keys {
            let is_new = !self.vms.contains_key(key);
            let vm = self.vms.entry(*key).or_default();
            vm.is_new = is_new;
            vm.helpers.sums_mut().for_each(|sum| sum.threads = 0);
        }
        let mut regressions = 0;
        self.workers.clear();
        for record in walked.records {
            let Some(vm) = helped.by(record) else { continue };
            if record.kernel != 0 {
                self.workers.insert(record.tid);
            }
            let (added, fell) = self.advance(record, vm);
            regressions += u64::from(fell);
            self.add(record, vm, added);
        }
        let round = self.round;
        self.threads.retain(|_, known| known.round + MISSES > round);
        self.walked_boottime_ns = Some(walked.began_boottime_ns);
        self.host_walked_boottime_ns = walked.host_began_boottime_ns.or(self.host_walked_boottime_ns);
        regressions
    }

    /// What the walk adds to what is known of a thread. Of one that was created since the last walk that
    /// would have found it, and since its VM was seen, all is new. What another did before a walk had both it
    /// and its VM is of no interval of the VM's.
    fn advance(&mut self, record: &HelperRecord, vm: HelpedVm) -> (HelperTimes, bool) {
        let nothing = (HelperTimes::default(), false);
        let start = record.start_boottime_ns;
        let walked = if record.kernel == 0 { self.walked_boottime_ns } else { self.host_walked_boottime_ns };
        let is_young = start >= vm.seen_boottime_ns && walked.is_none_or(|walked| start >= walked);
        let now = HelperTimes {
            run_ns: record.run_ns.saturating_add(record.running_ns),
            run_delay_ns: record.run_delay_ns.saturating_add(record.waiting_ns),
        };
        let was_read = record.read != 0;
        let known = match self.threads.entry((record.tid, start)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) if is_young => place.insert(Known::default()),
            Entry::Vacant(place) if was_read => place.insert(Known { times: now, round: 0 }),
            Entry::Vacant(_) => return nothing,
        };
        known.round = self.round;
        if !was_read {
            return nothing;
        }
        let (added, fell) = known.advance(now);
        let is_new = self.vms.get(&vm.key).is_none_or(|vm| vm.is_new);
        (if is_new && !is_young { HelperTimes::default() } else { added }, fell)
    }

    fn add(&mut self, record: &HelperRecord, vm: HelpedVm, added: HelperTimes) {
        let Some(OfVm { helpers, .. }) = self.vms.get_mut(&vm.key) else { return };
        let sum = helpers.entry(kind_of(record));
        sum.threads += 1;
        sum.total = sum.total.plus(added);
    }
}

/// Whom the listed threads help.
struct Helped<'a, F> {
    /// All VMs.
    keys: BTreeSet<KvmGuest>,
    /// By process id and start. Of a process that runs several VMs the first stands for all.
    by_process: BTreeMap<(u32, u64), HelpedVm>,
    records: &'a [HelperRecord],
    process_of: F,
}

impl<'a, F: Fn(u32) -> Option<u32>> Helped<'a, F> {
    fn of(vms: impl Iterator<Item = HelpedVm>, records: &'a [HelperRecord], process_of: F) -> Self {
        let (mut keys, mut by_process) = (BTreeSet::new(), BTreeMap::new());
        for vm in vms {
            keys.insert(vm.key);
            by_process.entry((vm.key.pid, vm.key.start_boottime_ns)).or_insert(vm);
        }
        Self { keys, by_process, records, process_of }
    }

    fn by(&self, record: &HelperRecord) -> Option<HelpedVm> {
        if record.kernel == 0 {
            // Its process id may have been a VMM's before.
            return self.by_process.get(&(record.tgid, record.leader_start_boottime_ns)).copied();
        }
        // The id of the thread that asked for the worker, most often the process's first.
        let thread = served(&record.comm)?;
        let vm = self.of_process(thread).or_else(|| self.of_process(self.process_of(thread)?))?;
        // It cannot be older than those whom it serves.
        (record.start_boottime_ns >= vm.key.start_boottime_ns).then_some(vm)
    }

    /// The VM of the process that has this id now.
    fn of_process(&self, pid: u32) -> Option<HelpedVm> {
        self.by_process.range((pid, 0)..=(pid, u64::MAX)).next_back().map(|(_, vm)| *vm)
    }

    fn process_of(&self, thread: u32) -> Option<u32> {
        let helper = self.records.iter().find(|record| record.kernel == 0 && record.tid == thread);
        helper.map(|record| record.tgid).or_else(|| (self.process_of)(thread))
    }
}

/// The thread that a worker of vhost names.
fn served(comm: &[u8]) -> Option<u32> {
    let digits = name_of(comm).strip_prefix(VHOST_PREFIX)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn kind_of(record: &HelperRecord) -> HelperKind {
    if record.kernel != 0 {
        return HelperKind::Vhost;
    }
    let is_first = record.tid == record.tgid;
    let by_name = NAMES.iter().find(|(prefix, _)| record.comm.starts_with(prefix)).map(|(_, kind)| *kind);
    by_name.filter(|_| !is_first).unwrap_or(HelperKind::Emulator)
}

/// A thread's name without what fills it up.
fn name_of(comm: &[u8]) -> &[u8] {
    comm.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
