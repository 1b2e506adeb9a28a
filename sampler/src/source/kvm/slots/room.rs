//! Which slots are free, and which threads wait for one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sampler_ebpf::abi::Event;

/// Threads of one process that have slots at most: as many vCPUs as KVM gives its largest VM. Who may open
/// /dev/kvm can make vCPUs without end, and is not to take the slots of all others.
pub(super) const MAX_OF_PROCESS: u32 = 4096;

/// Slots that are to be free: so many threads may come while memory for more is made.
const SPARE: u32 = 256;

/// Threads without a slot that are looked at once a reading, whether they live: a look takes some
/// microseconds, and hooks report most ends.
const LOOKED_AT: usize = 512;

/// A process, by its id and `CLOCK_BOOTTIME` at its creation in ns.
type Process = (u32, u64);

/// The free slots, and those that found none.
#[derive(Debug)]
pub(super) struct Room {
    /// Slots that there are, slot 0 included.
    slots: u32,
    /// The longest free first: a slot rests as long as possible before another thread gets it.
    free: VecDeque<u16>,
    /// Slots of each process that has any.
    used: BTreeMap<Process, u32>,
    /// Threads without a slot, by id.
    refused: BTreeMap<u32, Refused>,
    /// Those with lower ids were looked at, whether they live.
    looked_up_to: u32,
    exhausted: u64,
    capped: u64,
}

/// What a thread gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A slot.
    Slot {
        /// Its number.
        slot: u16,
        /// It has waited for one.
        has_waited: bool,
    },
    /// None: it waits for one.
    Waits {
        /// It has not waited before.
        is_new: bool,
    },
}

/// A thread that found no slot.
#[derive(Clone, Copy, Debug)]
struct Refused {
    /// Address of its `task_struct`.
    task: u64,
    process: Process,
    /// It counts as one that has none.
    is_counted: bool,
    /// It is to be announced again, and was not yet.
    is_offered: bool,
}

impl Room {
    /// Over slots 1 to `slots - 1`; slot 0 is never given out.
    pub(super) fn new(slots: u32) -> Self {
        let mut room = Self {
            slots: 1,
            free: VecDeque::new(),
            used: BTreeMap::new(),
            refused: BTreeMap::new(),
            looked_up_to: 0,
            exhausted: 0,
            capped: 0,
        };
        room.grow(slots);
        room
    }

    /// The same where these slots are taken, each by one thread, and orphans are given out last.
    pub(super) fn resumed(
        slots: u32,
        taken: impl Iterator<Item = (u16, Process)>,
        orphans: &BTreeSet<u16>,
    ) -> Self {
        let (mut room, mut in_use) = (Self::new(slots), BTreeSet::new());
        for (slot, process) in taken {
            in_use.insert(slot);
            *room.used.entry(process).or_default() += 1;
        }
        let free = room.free.drain(..).filter(|slot| !in_use.contains(slot));
        let (last, first): (Vec<_>, Vec<_>) = free.partition(|slot| orphans.contains(slot));
        room.free.extend(first.into_iter().chain(last));
        room
    }

    /// There are so many slots from now on, slot 0 included. The last number that fits is none of slots.
    pub(super) fn grow(&mut self, slots: u32) {
        let slots = slots.min(u32::from(u16::MAX));
        self.free.extend((self.slots..slots).filter_map(|slot| u16::try_from(slot).ok()));
        self.slots = self.slots.max(slots);
    }

    /// A slot for the thread of an event; where there is none the thread waits for one.
    pub(super) fn take(&mut self, event: &Event) -> Place {
        let process = process_of(event);
        if self.is_for(process)
            && let Some(slot) = self.free.pop_front()
        {
            *self.used.entry(process).or_default() += 1;
            let has_waited = self.refused.remove(&event.tid).is_some();
            return Place::Slot { slot, has_waited };
        }
        let new = Refused { task: event.task, process, is_counted: false, is_offered: false };
        let is_new = !self.refused.contains_key(&event.tid);
        let refused = self.refused.entry(event.tid).or_insert(new);
        if refused.task != event.task {
            *refused = new;
        }
        refused.is_offered = false;
        Place::Waits { is_new }
    }

    /// A thread of a process gives its slot back.
    pub(super) fn give_back(&mut self, slot: u16, process: Process) {
        self.free.push_back(slot);
        if let Some(used) = self.used.get_mut(&process) {
            *used -= 1;
            if *used == 0 {
                self.used.remove(&process);
            }
        }
    }

    /// A thread has ended. Returns whether it has waited.
    pub(super) fn gone(&mut self, tid: u32, task: u64) -> bool {
        let has_waited = self.refused.get(&tid).is_some_and(|refused| refused.task == task);
        if has_waited {
            self.refused.remove(&tid);
        }
        has_waited
    }

    /// A thread that waits is found to have ended.
    pub(super) fn dead(&mut self, tid: u32) -> bool {
        self.refused.remove(&tid).is_some()
    }

    /// Some of the threads that wait, with their processes: others at each call.
    pub(super) fn some_waiting(&mut self) -> Vec<(u32, u32)> {
        let after = self.refused.range(self.looked_up_to..);
        let some: Vec<_> = after.take(LOOKED_AT).map(|(tid, refused)| (*tid, refused.process.0)).collect();
        let is_last = some.len() < LOOKED_AT;
        self.looked_up_to = some.last().filter(|_| !is_last).map_or(0, |(tid, _)| tid + 1);
        some
    }

    /// The threads that are to be announced again, because there are slots for them now: of each process as
    /// many as there are.
    pub(super) fn offer(&mut self) -> Vec<u32> {
        let free = u32::try_from(self.free.len()).unwrap_or(u32::MAX);
        let Self { refused, used, .. } = self;
        let mut places: BTreeMap<Process, u32> = BTreeMap::new();
        let waiting = refused.iter_mut().filter(|(_, refused)| !refused.is_offered);
        let offered = waiting.filter_map(|(tid, refused)| {
            let process = refused.process;
            let left = places.entry(process).or_insert_with(|| free.min(left_of(used, process)));
            *left = left.checked_sub(1)?;
            refused.is_offered = true;
            Some(*tid)
        });
        offered.collect()
    }

    /// As [`Self::offer`], once a reading. Those that wait on count as a loss, each once, unless `more_come`.
    /// One that was offered a slot and has not been announced since sleeps.
    pub(super) fn offer_again(&mut self, more_come: bool) -> Vec<u32> {
        let Self { refused, used, exhausted, capped, .. } = self;
        let waiting = refused.values_mut().filter(|refused| !refused.is_counted && !refused.is_offered);
        for refused in waiting {
            let is_capped = left_of(used, refused.process) == 0;
            refused.is_counted = is_capped || !more_come;
            *(if is_capped { &mut *capped } else { &mut *exhausted }) += u64::from(refused.is_counted);
        }
        self.offer()
    }

    /// Slots for which memory is to be made: for those that wait, no more than their processes may have, and
    /// so that some are free.
    pub(super) fn lacking(&self) -> u32 {
        let free = u32::try_from(self.free.len()).unwrap_or(u32::MAX);
        if free >= SPARE {
            return 0;
        }
        let mut waiting: BTreeMap<Process, u32> = BTreeMap::new();
        for refused in self.refused.values().filter(|refused| !refused.is_offered) {
            *waiting.entry(refused.process).or_default() += 1;
        }
        let wanted = waiting.iter().map(|(process, waiting)| *waiting.min(&left_of(&self.used, *process)));
        wanted.fold(SPARE - free, u32::saturating_add)
    }

    /// Threads that had no slot at a reading, while no more were made.
    pub(super) const fn exhausted(&self) -> u64 {
        self.exhausted
    }

    /// Threads that had no slot at a reading, because their process has [`MAX_OF_PROCESS`].
    pub(super) const fn capped(&self) -> u64 {
        self.capped
    }

    /// Every slot is either free or in `used`, and counted for a process if it is.
    pub(super) fn adds_up(&self, used: impl Iterator<Item = u16>) -> bool {
        let used: Vec<u16> = used.collect();
        let mut all: Vec<u16> = self.free.iter().copied().chain(used.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        let counted: u64 = self.used.values().map(|used| u64::from(*used)).sum();
        all.len() + 1 == self.slots as usize
            && self.free.len() + used.len() == all.len()
            && counted == used.len() as u64
    }

    fn is_for(&self, process: Process) -> bool {
        left_of(&self.used, process) > 0
    }
}

/// How many slots more a process may have.
fn left_of(used: &BTreeMap<Process, u32>, process: Process) -> u32 {
    MAX_OF_PROCESS.saturating_sub(used.get(&process).copied().unwrap_or(0))
}

const fn process_of(event: &Event) -> Process {
    (event.tgid, event.leader_start_boottime_ns)
}
