//! Which slots are free, and which threads wait for one.

use std::collections::{BTreeMap, VecDeque};

use sampler_ebpf::abi::Event;

/// Threads of one process that have slots at most: as many vCPUs as KVM gives its largest VM. Who may open
/// /dev/kvm can make vCPUs without end, and is not to take the slots of all others.
pub(super) const MAX_OF_PROCESS: u32 = 4096;

/// Slots that are to be free: so many threads may come while memory for more is made.
const SPARE: u32 = 256;

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
    exhausted: u64,
    capped: u64,
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
            exhausted: 0,
            capped: 0,
        };
        room.grow(slots);
        room
    }

    /// There are so many slots from now on, slot 0 included. The last number that fits is none of slots.
    pub(super) fn grow(&mut self, slots: u32) {
        let slots = slots.min(u32::from(u16::MAX));
        self.free.extend((self.slots..slots).filter_map(|slot| u16::try_from(slot).ok()));
        self.slots = self.slots.max(slots);
    }

    /// A slot for the thread of an event; where there is none the thread waits for one.
    pub(super) fn take(&mut self, event: &Event) -> Option<u16> {
        let process = process_of(event);
        if self.is_for(process)
            && let Some(slot) = self.free.pop_front()
        {
            *self.used.entry(process).or_default() += 1;
            self.refused.remove(&event.tid);
            return Some(slot);
        }
        let (task, new) =
            (event.task, Refused { task: event.task, process, is_counted: false, is_offered: false });
        let refused = self.refused.entry(event.tid).or_insert(new);
        if refused.task != task {
            *refused = new;
        }
        refused.is_offered = false;
        None
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

    /// A thread that waits has ended.
    pub(super) fn gone(&mut self, tid: u32, task: u64) {
        if self.refused.get(&tid).is_some_and(|refused| refused.task == task) {
            self.refused.remove(&tid);
        }
    }

    /// The threads that are to be announced again, because there are slots for them now. All of them, for
    /// some may have ended since without a word: a thread without a slot is none that the programs follow to
    /// its end.
    pub(super) fn offer(&mut self) -> Vec<u32> {
        if self.free.is_empty() {
            return Vec::new();
        }
        let Self { refused, used, .. } = self;
        let waiting = refused.iter_mut().filter(|(_, refused)| !refused.is_offered);
        let for_them = waiting.filter(|(_, refused)| is_below_cap(used, refused.process));
        let offered = for_them.map(|(tid, refused)| {
            refused.is_offered = true;
            *tid
        });
        offered.collect()
    }

    /// As [`Self::offer`], once a reading. One that was offered a slot since the last time and has not been
    /// announced has ended, or sleeps and will be as new. The others count as a loss, unless `more_come`.
    pub(super) fn offer_again(&mut self, more_come: bool) -> Vec<u32> {
        self.refused.retain(|_, refused| !refused.is_offered);
        let Self { refused, used, exhausted, capped, .. } = self;
        for refused in refused.values_mut().filter(|refused| !refused.is_counted) {
            let is_capped = !is_below_cap(used, refused.process);
            refused.is_counted = is_capped || !more_come;
            *(if is_capped { &mut *capped } else { &mut *exhausted }) += u64::from(refused.is_counted);
        }
        self.offer()
    }

    /// Slots for which memory is to be made: for those that wait, and so that some are free.
    pub(super) fn lacking(&self) -> u32 {
        let free = u32::try_from(self.free.len()).unwrap_or(u32::MAX);
        if free >= SPARE {
            return 0;
        }
        let waiting = self.refused.values().filter(|refused| self.is_for(refused.process)).count();
        u32::try_from(waiting).unwrap_or(u32::MAX).saturating_add(SPARE - free)
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
        is_below_cap(&self.used, process)
    }
}

const fn process_of(event: &Event) -> Process {
    (event.tgid, event.leader_start_boottime_ns)
}

fn is_below_cap(used: &BTreeMap<Process, u32>, process: Process) -> bool {
    used.get(&process).is_none_or(|used| *used < MAX_OF_PROCESS)
}
