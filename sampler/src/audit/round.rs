//! One round of the audit: some vCPUs of a snapshot, chosen at random, what the kernel says of them before
//! the next snapshot is begun and after it was taken, and what comes of it.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::{
    bounds::{self, Around, Fault, Said},
    hour::Counts,
};
use crate::{
    collect::procfs::{ProcError, ProcFs, Schedstat, SchedstatFile},
    kernel::clock::Clock,
    model::{Snapshot, Vcpu, VcpuId, Vm, VmKey},
};

/// vCPUs that are compared in a round. With the time between rounds this bounds the price.
pub(super) const VCPUS: usize = 8;

/// A thread that runs a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    vm: VmKey,
    vcpu: VcpuId,
    pid: u32,
    tid: u32,
}

#[cfg(test)]
impl Chosen {
    pub(super) const fn tid(&self) -> u32 {
        self.tid
    }
}

/// What the kernel said of one before the snapshot.
#[derive(Debug)]
struct Before {
    chosen: Chosen,
    file: SchedstatFile,
    counts: Schedstat,
    began_ns: u64,
    ended_ns: u64,
}

/// A round whose first readings were taken.
#[derive(Debug)]
pub(super) struct Round {
    before: Vec<Before>,
    /// Chosen, and gone before they could be read.
    gone: u64,
}

/// A vCPU of which a number is not what the kernel says.
#[derive(Clone, Debug)]
pub struct Mismatch {
    vm: Arc<str>,
    index: u32,
    tid: u32,
    at_unix_ns: u64,
    fault: Fault,
    /// By how much the first reading was earlier than the snapshot, ns.
    earlier_ns: u64,
    /// By how much the second reading was later than the begin of the snapshot, ns.
    later_ns: u64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vm, index, tid, at_unix_ns, fault: Fault { what, said, least, most }, .. } = self;
        let ms = |ns: u64| ns as f64 / 1e6;
        write!(
            out,
            "{what} of vCPU {index} (thread {tid}) of {vm} is {said} in the snapshot of {:.3}; by the kernel it is {least} \
             to {most}, read {:.3} ms before that snapshot and {:.3} ms after",
            *at_unix_ns as f64 / 1e9,
            ms(self.earlier_ns),
            ms(self.later_ns),
        )
    }
}

/// The vCPUs that have a thread of this host which KVM runs a guest with.
fn audited(snapshot: &Snapshot) -> impl Iterator<Item = (&Vm, u32)> {
    let of_kvm = snapshot.vms.iter().filter(|vm| vm.kvm.is_some());
    of_kvm.filter_map(|vm| Some((vm, vm.origin.pid()?)))
}

/// Chooses vCPUs of a snapshot, each with the same chance.
pub(super) fn choose(snapshot: &Snapshot, random: &mut fastrand::Rng) -> Vec<Chosen> {
    let all: usize = audited(snapshot).map(|(vm, _)| vm.vcpus.len()).sum();
    let places = distinct(all, random);
    let (mut chosen, mut first) = (Vec::with_capacity(places.len()), 0);
    for (vm, pid) in audited(snapshot) {
        for place in places.range(first..first + vm.vcpus.len()) {
            let vcpu = &vm.vcpus[place - first];
            chosen.extend(vcpu.tid.map(|tid| Chosen { vm: vm.key, vcpu: vcpu.id, pid, tid }));
        }
        first += vm.vcpus.len();
    }
    chosen
}

/// [`VCPUS`] different numbers below `all`, or all of them: each set with the same chance, by Floyd's way.
fn distinct(all: usize, random: &mut fastrand::Rng) -> BTreeSet<usize> {
    let mut places = BTreeSet::new();
    for last in all.saturating_sub(VCPUS)..all {
        let place = random.usize(..=last);
        if !places.insert(place) {
            places.insert(last);
        }
    }
    places
}

impl Round {
    /// Takes the first readings.
    pub(super) fn begin(chosen: Vec<Chosen>, proc: &ProcFs, clock: Clock) -> Self {
        let all = chosen.len();
        let before: Vec<_> =
            chosen.into_iter().filter_map(|chosen| Before::read(chosen, proc, clock).ok()).collect();
        Self { gone: (all - before.len()) as u64, before }
    }

    /// Takes the second readings, and compares a snapshot that has come since with both.
    pub(super) fn end(self, snapshot: &Snapshot, clock: Clock) -> (Counts, Vec<Mismatch>) {
        let mut counts = Counts { skips: self.gone, ..Counts::default() };
        let mut mismatches = Vec::new();
        for before in &self.before {
            let found = before.find(snapshot).and_then(|found| before.compare(found, snapshot, clock));
            match found {
                None => counts.skips += 1,
                Some(mismatch) => {
                    counts.checks += 1;
                    mismatches.extend(mismatch);
                }
            }
        }
        counts.mismatches = mismatches.len() as u64;
        (counts, mismatches)
    }
}

impl Before {
    fn read(chosen: Chosen, proc: &ProcFs, clock: Clock) -> Result<Self, ProcError> {
        let began_ns = clock.boottime_ns();
        let file = proc.schedstat(chosen.pid, chosen.tid)?;
        let counts = file.read()?;
        Ok(Self { chosen, file, counts, began_ns, ended_ns: clock.boottime_ns() })
    }

    /// The vCPU in a snapshot that can be compared: it was begun after the first reading, and the vCPU was
    /// read for it, with the thread that was chosen. That it has the vCPU also says that the file is of no
    /// later thread with the same id.
    fn find<'a>(&self, snapshot: &'a Snapshot) -> Option<(&'a Vm, &'a Vcpu)> {
        let at = snapshot.vms.binary_search_by_key(&self.chosen.vm, |vm| vm.key).ok()?;
        let vm = &snapshot.vms[at];
        let is_chosen = |vcpu: &&Vcpu| vcpu.id == self.chosen.vcpu && vcpu.tid == Some(self.chosen.tid);
        let vcpu = vm.vcpus.iter().find(is_chosen)?;
        (self.ended_ns < snapshot.read_boottime_ns && vcpu.interval.is_some()).then_some((vm, vcpu))
    }

    /// `None` where the thread has ended since, else what is wrong, if anything is.
    fn compare(
        &self,
        (vm, vcpu): (&Vm, &Vcpu),
        snapshot: &Snapshot,
        clock: Clock,
    ) -> Option<Option<Mismatch>> {
        let after = self.file.read().ok()?;
        let now_ns = clock.boottime_ns();
        let around = Around { before: self.counts, after, span_ns: now_ns.saturating_sub(self.began_ns) };
        let said = Said::of(vcpu);
        Some(bounds::compare(&said, &around).map(|fault| Mismatch {
            vm: Arc::clone(&vm.id),
            index: vcpu.index,
            tid: self.chosen.tid,
            at_unix_ns: snapshot.at_unix_ns,
            fault,
            earlier_ns: snapshot.read_boottime_ns.saturating_sub(self.began_ns),
            later_ns: now_ns.saturating_sub(snapshot.read_boottime_ns),
        }))
    }
}
