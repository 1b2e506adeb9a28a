//! What is kept of each thread and VM of what it got and was denied.

use std::sync::Arc;

use sampler_ebpf::abi::Event;

use super::{
    attribution::{account::VmAccount as VmAttribution, table::ThreadShares},
    carry::{Carry, LastTimes, beyond, closed},
    co_stop::{Progress, Reads},
    counted,
    exits::KnownExits,
    identity::ThreadId,
    levels::{Busiest, VmLevel},
    slots::{self, Lasting, Open},
};
use crate::{
    kept::kept,
    kernel::clock::Clock,
    model::{
        Account, BlockedTimes, COUNTERS, Counters, Distributions, Exits, Interval, KvmCounts, Memory, NodeVcpus,
        Reading, VcpuId,
    },
    source::io::Group,
};

/// The slots with the accounts of their threads.
pub type Slots = slots::Slots<VcpuAccount, VmAccount>;

/// A thread with its account.
pub(super) type Thread = slots::Thread<VcpuAccount>;

/// A VM with its account.
pub(super) type VmEntry = slots::VmEntry<VmAccount>;

/// A thread that is no longer followed, with its account.
pub(super) type Departed = slots::Departed<VcpuAccount>;

/// Mark beside a thread's id in the id of a stream that does not begin with the thread: no thread's id has
/// it.
const TURNED: u64 = 1 << 32;

/// The stream of what the kernel counts of a vCPU: it goes on where another thread runs the vCPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stream {
    /// Its identity.
    pub id: VcpuId,
    /// `CLOCK_BOOTTIME` when all was zero: the creation of its first thread, or the moment at which the vCPU
    /// was found, ns.
    pub start_boottime_ns: u64,
    /// `CLOCK_BOOTTIME` from which on the sampler's own counts have it, ns.
    pub seen_boottime_ns: u64,
}

kept! { Stream { id, start_boottime_ns, seen_boottime_ns } }

impl Stream {
    /// Of a vCPU that is run by a thread that has run no other, or that a look has found.
    fn of(event: &Event) -> Self {
        let seen_boottime_ns = event.at_boottime_ns;
        if event.tid == 0 {
            // An address of the kernel's is no thread's id.
            let id = VcpuId::new([event.vcpu, seen_boottime_ns]);
            return Self { id, start_boottime_ns: seen_boottime_ns, seen_boottime_ns };
        }
        let thread = ThreadId { tid: event.tid, start_boottime_ns: event.start_boottime_ns };
        Self { id: thread.vcpu(), start_boottime_ns: thread.start_boottime_ns, seen_boottime_ns }
    }

    /// Of a vCPU that is run by a thread that has run others before.
    const fn turned(event: &Event) -> Self {
        let seen_boottime_ns = event.at_boottime_ns;
        let id = VcpuId::new([TURNED | event.tid as u64, seen_boottime_ns]);
        Self { id, start_boottime_ns: seen_boottime_ns, seen_boottime_ns }
    }
}

/// What the programs have of a thread that runs its vCPU no longer.
#[derive(Debug)]
pub struct Left {
    pub(super) times: LastTimes,
    /// As those of its vCPU; absent where they could not be read.
    pub(super) distributions: Option<Distributions>,
    pub(super) shares: Option<ThreadShares>,
    /// Why the guest was left since that was read last.
    pub(super) exits: Option<Exits>,
}

/// Of a vCPU, whichever thread runs it.
#[derive(Clone, Debug, Default)]
pub struct VcpuAccount {
    /// What it is in exported series.
    pub stream: Stream,
    /// What the kernel had counted of its first thread when that was seen.
    pub seen_counters: Counters,
    /// What the vCPU has beside what is counted of its thread; absent where all of that is its own.
    pub carry: Option<Box<Carry>>,
    /// Where its counts stand while no thread runs it that was followed.
    pub closed: Option<Reading>,
    /// Its thread has left it since the last reading.
    pub is_handed_over: bool,
    /// Its time, from the first reading on.
    pub time: Option<Account>,
    /// `CLOCK_BOOTTIME` at the first reading, ns; 0 before.
    pub followed_boottime_ns: u64,
    /// The clock of its starts, from the first reading on.
    pub clock: Option<Clock>,
    /// What the last interval added.
    pub interval: Option<Interval>,
    /// What KVM had counted of its vCPU when that was read last.
    pub kvm: Option<KvmCounts>,
    /// That was in the last walk.
    pub is_kvm_read: bool,
    /// Its distributions at the last reading.
    pub distributions: Arc<Distributions>,
    /// Those at the reading before.
    pub distributions_before: Arc<Distributions>,
    /// How often its slot had been written when they were read.
    pub slot_seq: Option<u64>,
    /// Who had the CPU while it waited, from the first reading on.
    pub shares: Option<Box<ThreadShares>>,
    /// Why it left the guest, up to the last reading.
    pub exits: Arc<Exits>,
    /// What the last interval added to that.
    pub exits_added: Option<Arc<Exits>>,
    /// From which counts of the programs they were taken.
    pub exit_counts: KnownExits,
    /// How often its modes had been written at the last reading.
    pub modes_seq: u64,
    /// Entries and exits without the other, up to the last reading.
    pub unpaired: u32,
}

impl Open for VcpuAccount {
    fn open(event: &Event) -> Self {
        let seen_counters = counted::counters(&event.counters);
        Self { stream: Stream::of(event), seen_counters, ..Self::default() }
    }
}

impl Lasting<VmAccount> for VcpuAccount {
    type Left = Left;

    fn leave(&mut self, vm: &mut VmAccount, left: Option<Left>) -> Option<Counters> {
        let none = Carry::default();
        let carry = self.carry.as_deref().unwrap_or(&none);
        let last = *self.time.as_ref()?.last();
        let closed = closed(&last, carry, left.as_ref().map(|left| &left.times));
        let until = carry.of_thread(&closed.counters);
        self.closed = Some(closed);
        self.is_handed_over = true;
        if let Some(left) = left {
            self.take_in(vm, &left);
        }
        Some(until)
    }

    fn take_over(&mut self, event: &Event, began: Option<Counters>) {
        let seen = counted::counters(&event.counters);
        let Some(time) = &self.time else {
            // Nothing was read of it: nothing goes on.
            let carry = Carry::new(&Reading::default(), &Distributions::default(), &seen);
            *self = Self { stream: Stream::turned(event), carry: Some(Box::new(carry)), ..Self::default() };
            return;
        };
        let stands = self.closed.take().unwrap_or(*time.last());
        let began = began.unwrap_or(seen);
        self.carry = Some(Box::new(Carry::new(&stands, &self.distributions, &began)));
        self.is_handed_over = true;
        // The thread's slot is new, and empty.
        self.shares = Some(Box::new(ThreadShares::NONE));
        self.slot_seq = None;
        self.exit_counts = KnownExits::default();
        self.modes_seq = 0;
        self.unpaired = 0;
    }
}

impl VcpuAccount {
    /// Takes in what the last reading has not of a thread that runs the vCPU no longer.
    fn take_in(&mut self, vm: &mut VmAccount, left: &Left) {
        if let Some(now) = &left.distributions {
            vm.distributions.add_between(now, &self.distributions);
            self.distributions = Arc::new(*now);
        }
        if let (Some(before), Some(now)) = (&self.shares, &left.shares) {
            vm.attribution.charge(before, now);
        }
        self.shares = None;
        if let Some(exits) = &left.exits {
            vm.exits.add_all(exits);
            Arc::make_mut(&mut self.exits).add_all(exits);
        }
    }

    /// When all its states were zero, Unix time in ns.
    pub(super) fn followed_unix_ns(&self, clock: Clock) -> u64 {
        let is_from_creation = self.time.as_ref().is_some_and(Account::is_from_creation);
        clock.unix_of_boottime(if is_from_creation {
            self.stream.start_boottime_ns
        } else {
            self.followed_boottime_ns
        })
    }

    /// A reading of the thread that runs the vCPU as one of the vCPU.
    pub(super) fn carried(&mut self, of_thread: Reading) -> Reading {
        let Some(carry) = &mut self.carry else { return of_thread };
        if let Some(time) = self.time.as_ref().filter(|_| self.is_handed_over) {
            carry.cut(&beyond(time.last(), &carry.reading(of_thread)));
        }
        self.is_handed_over = false;
        carry.reading(of_thread)
    }

    /// The reading of a moment at which no thread runs it that was followed; `none` of one that never had
    /// one.
    pub(super) fn at_rest(&mut self, none: Reading, monotonic_ns: u64, sched_ns: u64) -> Reading {
        let at = |stands| Reading { monotonic_ns, sched_ns, ..stands };
        let Some(stands) = &mut self.closed else { return at(none) };
        if let Some(time) = self.time.as_ref().filter(|_| self.is_handed_over) {
            let beyond = beyond(time.last(), &at(*stands));
            stands.counters.iter_mut().zip(beyond).for_each(|(count, beyond)| *count -= beyond);
        }
        self.is_handed_over = false;
        at(*stands)
    }
}

/// Of a VM: of all its vCPUs together, those that ended included.
#[derive(Clone, Debug)]
pub struct VmAccount {
    pub distributions: Distributions,
    /// What KVM counted.
    pub kvm_counts: KvmCounts,
    /// Why the guest was left.
    pub exits: Exits,
    /// Who had the CPUs while they waited.
    pub attribution: VmAttribution,
    /// Time in state blocked, by why.
    pub blocked: BlockedTimes,
    /// What the kernel counted of their threads.
    pub counters: Counters,
    /// The control group that its disk requests are charged to, where the last pass read it.
    pub(in crate::source) io_group: Option<Group>,
    /// Its vCPUs by NUMA node, as the last pass read them.
    pub placement: Vec<NodeVcpus>,
    /// The memory of its process, once that was read.
    pub memory: Option<Memory>,
    /// How far co-stop is summed up.
    pub co_stop: Progress,
    /// What the last pass read for it.
    pub reads: Reads,
    /// How much is observed.
    pub level: VmLevel,
    /// What the last pass found for it.
    pub busiest: Busiest,
    /// The clock of its starts, from the first reading of one of its vCPUs on.
    pub clock: Option<Clock>,
}

kept! {
    VmAccount {
        distributions,
        kvm_counts,
        exits,
        attribution,
        blocked,
        counters in COUNTERS,
        memory,
        co_stop,
        level,
        clock,
    }
    anew { io_group, placement, reads, busiest }
}

impl VmAccount {
    /// Adds one vCPU's interval. Where that has all since its thread's creation, only what was since it was
    /// seen, with what the kernel had counted by then: the VM's sums begin there.
    pub(super) fn add(&mut self, interval: &Interval, seen: Option<&Counters>) {
        self.attribution.add(interval);
        match seen {
            // What was measured was so since then.
            Some(_) => self.blocked.add(&interval.blocked.measured()),
            None => self.blocked.add(&interval.blocked),
        }
        let before = seen.copied().unwrap_or_default();
        for ((count, added), before) in self.counters.iter_mut().zip(interval.counters).zip(before) {
            *count += added.saturating_sub(before);
        }
    }
}

impl Open for VmAccount {
    fn open(event: &Event) -> Self {
        Self {
            placement: Vec::new(),
            distributions: Distributions::default(),
            kvm_counts: KvmCounts::default(),
            exits: Exits::default(),
            attribution: VmAttribution::default(),
            blocked: BlockedTimes::default(),
            counters: Counters::default(),
            io_group: None,
            memory: None,
            co_stop: Progress::since(event.sched_ns),
            reads: Reads::default(),
            level: VmLevel::default(),
            busiest: Busiest::default(),
            clock: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use sampler_ebpf::abi::Event;

    use super::*;
    use crate::model::{Blocked, StateTimes};

    /// Ten milliseconds in which a vCPU was blocked, seven of them because its VMM had it sleep.
    fn interval() -> Interval {
        Interval {
            wall_ns: 10_000_000,
            run_ns: 0,
            run_delay_ns: 0,
            counters: [40; _],
            states: StateTimes::default(),
            blocked: BlockedTimes::of(10_000_000, &[0, 0, 0, 7_000_000, 0]),
            kvm: None,
        }
    }

    #[test]
    fn a_vm_gets_all_of_an_interval() {
        let mut vm = VmAccount::open(&Event::default());
        vm.add(&interval(), None);
        assert_eq!(vm.blocked, interval().blocked);
        assert_eq!(vm.counters, [40; _]);
    }

    #[test]
    fn of_a_first_interval_it_gets_what_was_observed_since_the_vcpu_was_seen() {
        let mut vm = VmAccount::open(&Event::default());
        vm.add(&interval(), Some(&[15; _]));
        assert_eq!(vm.blocked.get(Blocked::Vmm), 7_000_000);
        assert_eq!(vm.blocked.get(Blocked::Other), 0, "nobody knows how much of it was before");
        assert_eq!(vm.counters, [25; _]);
        vm.add(&interval(), Some(&[u64::MAX; _]));
        assert_eq!(vm.counters, [25; _], "counts of another thread take nothing away");
    }
}
