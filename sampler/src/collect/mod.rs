//! From maps, ring buffer and /proc to readings.
//!
//! [`Collector`] owns the loaded programs and everything that is shared with them. It keeps no history: what
//! a reading means is decided by the source that asks.

pub mod attached;
mod batch;
pub mod devices;
mod disks;
pub mod enrich;
mod filter;
#[cfg(test)]
mod fuzz;
pub mod host;
mod lines;
mod mmap;
pub mod network;
mod parts;
pub mod platform;
mod pressure;
pub mod procfs;
mod programs;
mod ring;
mod segments;
mod statistics;
mod ticks;
mod walk;

use std::{
    io,
    mem::offset_of,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    sync::atomic::{Ordering, fence},
};

use aya::maps::{MapData, RingBuf};
use sampler_ebpf::{
    abi::{
        ABSENT, APART, CHECKPOINTS, COUNTERS, DISTRIBUTIONS, Event, Followed, HelperRecord, HookStats,
        KVM_STATS, Member, Modes, NO_SLOT, Occupancy, PIDS_PER_BLOCK, PidBlock, STRETCHES, Shares,
        SlotShares, Timeline, VMMS_PER_WORD, VcpuSlot, WalkRecord,
    },
    histogram::Histogram,
    occupancy,
};

pub use disks::DiskTables;
use filter::FilterBits;
pub use mmap::{MapError, Mapped, Plain};
pub use parts::{ExitsOf, Leaving, Remembered};
use programs::ProgramFiles;
use segments::Segments;
pub use statistics::{CountedRuns, SkippedRuns};
pub use walk::{Listed, Reach, WalkError, Whose};
use walk::{VcpuList, Walker};

use crate::load::{Loaded, SectionError};

/// Where a slot's sequence numbers are: that of what the scheduler program writes, and that of the modes.
const SLOT_SEQ: usize = offset_of!(Followed, slot.seq);
const MODES_SEQ: usize = offset_of!(Followed, modes.seq);

/// A value of the shared memory, as the kernel may hand it over.
#[cfg(test)]
pub(crate) fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    mmap::from_bytes(bytes)
}

/// Why readings could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// A map of the programs is missing or cannot be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A variable of the programs cannot be set.
    #[error(transparent)]
    Section(#[from] SectionError),
    /// A walk over threads failed.
    #[error(transparent)]
    Walk(#[from] WalkError),
}

/// The shared memory, the ring and the walk.
pub struct Collector {
    loaded: Loaded,
    slots: Segments,
    occupancy: Mapped<Occupancy>,
    checkpoints: Mapped<Shares>,
    pids: Mapped<PidBlock>,
    vmms: Mapped<u64>,
    hook_stats: Mapped<HookStats>,
    unknown_cpus: Mapped<u64>,
    events: RingBuf<MapData>,
    filter: FilterBits,
    walker: Walker,
    vcpu_list: VcpuList,
    program_files: ProgramFiles,
    disks: DiskTables,
}

impl Collector {
    /// Maps what the programs share.
    ///
    /// # Errors
    /// When a map is missing or cannot be mapped.
    pub fn new(mut loaded: Loaded) -> Result<Self, CollectError> {
        let object = &mut loaded.object;
        Ok(Self {
            slots: Segments::open(object)?,
            occupancy: Mapped::open(object, "OCCUPANCY")?,
            checkpoints: Mapped::open(object, "CHECKPOINT_TABLES")?,
            pids: Mapped::open(object, "PIDS")?,
            vmms: Mapped::open(object, "VMMS")?,
            hook_stats: Mapped::open(object, "HOOK_STATS")?,
            unknown_cpus: Mapped::open(object, "UNKNOWN_CPUS")?,
            events: ring::open(object, "EVENTS")?,
            walker: Walker::open(object)?,
            vcpu_list: VcpuList::open(object)?,
            disks: DiskTables::open(object)?,
            loaded,
            filter: FilterBits::default(),
            program_files: ProgramFiles::default(),
        })
    }

    /// The programs and how they are attached.
    pub const fn loaded(&mut self) -> &mut Loaded {
        &mut self.loaded
    }

    /// Which of [`KVM_STATS`] this kernel's KVM keeps.
    #[must_use]
    pub fn kvm_stats_kept(&self) -> [bool; KVM_STATS.len()] {
        std::array::from_fn(|n| self.loaded.offsets.at[KVM_STATS[n].member as usize] != ABSENT)
    }

    /// Whether this kernel has a clock of the time for which a CPU quota held a thread back.
    #[must_use]
    pub fn has_throttled_clock(&self) -> bool {
        let known = |member: Member| self.loaded.offsets.at[member as usize] != ABSENT;
        known(Member::CfsRqThrottledSelfTime) || known(Member::CfsRqThrottledPeltTime)
    }

    /// Whether births and deaths are reported as they happen; where not, walks alone find them.
    #[must_use]
    pub const fn switches_report(&self) -> bool {
        self.loaded.switches_report
    }

    /// Hands every waiting lifecycle event to `each`, in order.
    pub fn drain(&mut self, each: impl FnMut(Event)) {
        ring::drain(&mut self.events, each);
    }

    /// Visits threads: announces vCPUs that are not followed yet and brings the records of those that are up
    /// to date. [`WalkRecord::generation`] of each thread that was read is the walk's number then. Where the
    /// kernel does not visit single processes it visits the whole host.
    ///
    /// # Errors
    /// When the kernel does not let the iterator run.
    pub fn walk(&mut self, reach: &Reach) -> Result<(), CollectError> {
        Ok(self.walker.walk(&self.loaded.object, reach)?)
    }

    /// Another pass of the last walk: announces those that are new by now, and reads those that it has not
    /// read.
    ///
    /// # Errors
    /// As [`Self::walk`].
    pub fn pass(&mut self, reach: &Reach) -> Result<(), CollectError> {
        Ok(self.walker.pass(&self.loaded.object, reach)?)
    }

    /// Looks at the descriptors of vCPUs, and announces vCPU threads that are not followed yet. `None`
    /// where the kernel has not taken the program.
    ///
    /// # Errors
    /// When the kernel does not let the iterator run.
    pub fn look_at_files(&mut self, reach: Reach) -> Result<Option<Listed>, CollectError> {
        Ok(self.vcpu_list.look(&self.loaded.object, reach)?)
    }

    /// Whether walks can visit single processes; known since the first walk.
    #[must_use]
    pub fn visits_processes(&self) -> bool {
        self.walker.visits_processes()
    }

    /// Threads that the last pass over the whole host visited.
    #[must_use]
    pub const fn host_threads(&self) -> u64 {
        self.walker.host_threads()
    }

    /// Whether the last walk has read all of a slot's thread.
    #[must_use]
    pub fn is_read(&self, index: u16) -> bool {
        self.slots.part::<u64>(index, offset_of!(Followed, record.generation)) == self.generation()
            && self.slots.part::<u32>(index, offset_of!(Followed, record.modes_observed))
                != WalkRecord::MODES_TORN
    }

    /// The slot of a thread as the scheduler program left it, or `None` while it is being written.
    #[must_use]
    pub fn slot(&self, index: u16) -> Option<VcpuSlot> {
        self.slots.read_with(index, SLOT_SEQ, || self.slots.part(index, offset_of!(Followed, slot)))
    }

    /// The distributions of a thread as the scheduler program left them, or `None` while they are being
    /// written, or where the slot is another's.
    #[must_use]
    pub fn distributions(&self, index: u16, task: u64) -> Option<[Histogram; DISTRIBUTIONS.len()]> {
        self.part_of(index, task, || self.slots.part(index, offset_of!(Followed, slot.distributions)))
    }

    /// The kernel's counts when a thread left its CPU last, and who took its time up to then; `None` as of
    /// [`Self::distributions`].
    #[must_use]
    pub fn counters_and_shares(&self, index: u16, task: u64) -> Option<([u64; COUNTERS.len()], SlotShares)> {
        let counters = || self.slots.part(index, offset_of!(Followed, slot.counters));
        self.part_of(index, task, || (counters(), self.shares(index)))
    }

    /// How a thread left its CPU last, and when it ran and waited up to then; `None` while that is being
    /// written.
    #[must_use]
    pub fn leaving_and_timeline(&self, index: u16) -> Option<(Leaving, Timeline)> {
        self.slots.read_with(index, SLOT_SEQ, || {
            let leaving = Leaving {
                counters: self.slots.part(index, offset_of!(Followed, slot.counters)),
                left_ns: self.slots.part(index, offset_of!(Followed, slot.left_ns)),
                left: self.slots.part(index, offset_of!(Followed, slot.left)),
            };
            (leaving, self.slots.part(index, offset_of!(Followed, timeline)))
        })
    }

    fn part_of<U>(&self, index: u16, task: u64, read: impl Fn() -> U) -> Option<U> {
        self.slots.read_with(index, SLOT_SEQ, || (self.task(index) == task).then(&read))?
    }

    fn shares(&self, index: u16) -> SlotShares {
        self.slots.part(index, offset_of!(Followed, shares))
    }

    /// How often a slot was written; where that is as before, so is what it holds.
    #[must_use]
    pub fn slot_seq(&self, index: u16) -> u64 {
        self.slots.part(index, SLOT_SEQ)
    }

    /// A slot and who took its time, as of one moment; `None` while they are being written.
    #[must_use]
    pub fn slot_and_shares(&self, index: u16) -> Option<(VcpuSlot, SlotShares)> {
        let slot = || self.slots.part(index, offset_of!(Followed, slot));
        self.slots.read_with(index, SLOT_SEQ, || (slot(), self.shares(index)))
    }

    /// Sets the length of a timeline's tick as a power of two, ns. What was drawn before is of another grid.
    ///
    /// # Errors
    /// When the programs' variable cannot be written.
    pub fn set_tick(&mut self, shift: u32) -> Result<(), CollectError> {
        ticks::publish(&mut self.loaded.object, shift)?;
        // Slots that were never given out have nothing to be forgotten.
        self.slots.write_part_of_all(offset_of!(Followed, timeline), Timeline::EMPTY);
        Ok(())
    }

    /// Whose a slot is: the address of its thread's `task_struct`. User space alone writes it.
    #[must_use]
    pub fn task(&self, index: u16) -> u64 {
        self.slots.part(index, offset_of!(Followed, slot.task))
    }

    /// How often a slot's modes were written; where that is as before, so is what they hold.
    #[must_use]
    pub fn modes_seq(&self, index: u16) -> u64 {
        self.slots.part(index, MODES_SEQ)
    }

    /// What a slot's thread did with its CPU time, and why its guest was left; `None` while it is written.
    #[must_use]
    pub fn modes(&self, index: u16) -> Option<Modes> {
        self.slots.read_with(index, MODES_SEQ, || self.slots.part(index, offset_of!(Followed, modes)))
    }

    /// Reads exits of a slot's thread row by row, as of one moment; `None` while they are being written.
    pub fn exits<U>(&self, index: u16, read: impl Fn(&ExitsOf<'_>) -> U) -> Option<U> {
        self.slots.read_with(index, MODES_SEQ, || read(&ExitsOf::new(&self.slots, index)))
    }

    /// Lets the modes of a slot's thread be observed, with a number that it did not have before, or with 0 no
    /// longer.
    pub fn set_epoch(&mut self, index: u16, epoch: u32) {
        self.slots.write_part(index, offset_of!(Followed, modes.epoch), epoch);
    }

    /// Lets one exit in so many of a slot's thread be timed: a power of two, chosen at random.
    pub fn set_timed(&mut self, index: u16, one_in: u8) {
        self.slots.write_part(index, offset_of!(Followed, modes.timed_mask), one_in - 1);
    }

    /// Who had a CPU lately; `None` beyond the last CPU.
    #[must_use]
    pub fn occupancy(&self, cpu: u32) -> Option<Remembered> {
        let cpu = cpu as usize;
        (cpu < self.occupancy.len()).then_some(())?;
        let written = self.occupancy.first_word(cpu);
        let memory = Box::new(Occupancy { written, ..self.occupancy.read(cpu) });
        fence(Ordering::Acquire);
        // One more: a stretch counts as written when it was.
        let over = self.occupancy.first_word(cpu).wrapping_add(1);
        Some(Remembered { memory, oldest: over.saturating_sub(STRETCHES as u64).min(written) })
    }

    /// The totals of a CPU's time at one of its checkpoints; `None` where that is not remembered any more.
    #[must_use]
    pub fn checkpoint(&self, cpu: u32, number: u64) -> Option<Shares> {
        let at = cpu as usize * CHECKPOINTS + occupancy::place(number);
        (at < self.checkpoints.len()).then_some(())?;
        let written = || self.occupancy.first_word(cpu as usize);
        (number * APART < written()).then_some(())?;
        fence(Ordering::Acquire);
        let read = self.checkpoints.read(at);
        fence(Ordering::Acquire);
        (written() < (number + CHECKPOINTS as u64) * APART).then_some(read)
    }

    /// What the last walk found of a thread.
    #[must_use]
    pub fn record(&self, index: u16) -> WalkRecord {
        self.slots.part(index, offset_of!(Followed, record))
    }

    /// The helper threads that the last walk found: of each process what the last pass found that visited it.
    #[must_use]
    pub fn helpers(&self) -> &[HelperRecord] {
        self.walker.listed()
    }

    /// Lets walks list the threads of a process, or no longer. There is no process beyond the table's end.
    pub fn mark_vmm(&mut self, pid: u32, is_vmm: bool) {
        let at = (pid / VMMS_PER_WORD) as usize;
        if at < self.vmms.len() {
            let bit = 1 << (pid % VMMS_PER_WORD);
            let word = self.vmms.read(at);
            self.vmms.write(at, if is_vmm { word | bit } else { word & !bit });
        }
    }

    /// What the programs have counted of disks, and whose control groups are.
    pub const fn disks(&mut self) -> &mut DiskTables {
        &mut self.disks
    }

    /// Gives a slot to the thread of an event, which begins as the event saw it: nothing of an earlier owner
    /// is left.
    pub fn assign(&mut self, index: u16, event: &Event) {
        self.slots.begin(index, event);
        self.set_pid(event.tid, index);
        // Last: the programs look at the table only where the filter lets them.
        self.filter.add(event.tid);
        self.publish_filter();
    }

    /// Lets the pid table name the slot again that a thread has already.
    pub fn restore(&mut self, index: u16, tid: u32) {
        self.set_pid(tid, index);
    }

    /// Gives up a thread's slot: takes it out of the filter, and out of the pid table if that still names
    /// this slot for it.
    pub fn release(&mut self, index: u16, tid: u32) {
        self.filter.remove(tid);
        self.publish_filter();
        if self.pid_slot(tid) == Some(index) {
            self.set_pid(tid, NO_SLOT);
        }
    }

    /// Forgets that a thread was announced, so that the programs announce it again.
    pub fn forget(&mut self, tid: u32) {
        self.set_pid(tid, NO_SLOT);
    }

    /// Has the end of a thread without a slot reported, where hooks report ends.
    pub fn watch(&mut self, tid: u32) {
        self.filter.add(tid);
        self.publish_filter();
    }

    /// That is no longer wanted.
    pub fn unwatch(&mut self, tid: u32) {
        self.filter.remove(tid);
        self.publish_filter();
    }

    /// Entry of the pid table, or `None` beyond its end.
    #[must_use]
    pub fn pid_slot(&self, tid: u32) -> Option<u16> {
        let (block, at) = place(tid);
        (block < self.pids.len()).then(|| self.pids.read(block)[at])
    }

    /// Slots that there are, slot 0 included, which is never given out.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots.slots()
    }

    /// Takes in memory for slots that was made meanwhile. Returns whether there are more than before.
    pub fn take_slots(&mut self) -> bool {
        self.slots.take()
    }

    /// Lets memory be made for so many slots more as `lacking` says, on another thread; unless that goes on
    /// already, or is not possible.
    pub fn make_slots(&mut self, lacking: impl FnOnce() -> u32) {
        if self.slots.can_grow() {
            self.slots.grow(lacking());
        }
    }

    /// Whether memory for more slots is being made.
    #[must_use]
    pub const fn makes_slots(&self) -> bool {
        self.slots.grows()
    }

    /// By how much the scheduler's clock was ahead of `CLOCK_MONOTONIC` at the last walk, modulo 2^64, ns.
    #[must_use]
    pub fn clock_offset_ns(&self) -> u64 {
        self.walker.clock_offset_ns()
    }

    /// Number of the last walk.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.walker.generation()
    }

    fn publish_filter(&mut self) {
        // A failure costs precision, not correctness of what is read: a walk still finds every thread.
        if let Err(error) = filter::publish(&mut self.loaded.object, &self.filter) {
            tracing::error!(%error, "the filter of followed threads could not be replaced");
        }
    }

    fn set_pid(&mut self, tid: u32, index: u16) {
        let (block, at) = place(tid);
        // There is no thread beyond the table's end.
        if block < self.pids.len() {
            self.pids.write_part(block, at * size_of::<u16>(), index);
        }
    }
}

impl AsFd for Collector {
    /// Readable when lifecycle events wait.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl AsRawFd for Collector {
    fn as_raw_fd(&self) -> RawFd {
        self.events.as_raw_fd()
    }
}

const fn place(tid: u32) -> (usize, usize) {
    ((tid / PIDS_PER_BLOCK) as usize, (tid % PIDS_PER_BLOCK) as usize)
}

/// Waits until lifecycle events wait or the time is over. Interrupted waits end early, which does no harm.
///
/// # Errors
/// When the descriptor cannot be waited for.
pub fn wait_readable(fd: BorrowedFd<'_>, at_most: std::time::Duration) -> io::Result<bool> {
    mmap::poll_readable(fd, at_most)
}
