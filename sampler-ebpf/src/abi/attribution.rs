//! Who had the CPU that a vCPU waited for.

/// Names a process as an occupant of a CPU: its id in the initial pid namespace, and marks. A kernel thread
/// is a process of its own. The id takes 22 bits at the largest `pid_max`.
pub type Who = u32;

/// Mark: a kernel thread.
pub const WHO_KERNEL: Who = 1 << 30;
/// Mark: a vCPU thread that is followed.
pub const WHO_VCPU: Who = 1 << 31;
/// Nobody: the CPU was idle.
pub const WHO_IDLE: Who = 0;
/// Nobody: the CPU was idle though threads waited, because core scheduling lets none of them run beside what
/// the core's other CPUs run. In tables it has an entry as a kernel thread has, of which none has this id.
pub const WHO_FORCED_IDLE: Who = WHO_KERNEL;
/// Nobody looked.
pub const WHO_UNKNOWN: Who = WHO_KERNEL | WHO_VCPU;
/// Mark that no entry has: those of the other marks that have no entry, or lost it.
pub const WHO_OTHERS: Who = 1 << 22;
/// The process id in a [`Who`].
pub const WHO_PID: Who = (1 << 22) - 1;

/// Where an entry of a table keeps the time of its last charge.
const EPOCH_SHIFT: u32 = 22;
const EPOCHS: u32 = 1 << 8;
/// Length of an epoch as a power of two, ns: about a second. After some four minutes they come again.
const EPOCH_BITS: u32 = 30;
/// Epochs without a charge after which an entry may be anybody's.
const STALE_EPOCHS: u32 = 16;

/// An entry for a process that is charged now.
#[must_use]
#[inline(always)]
pub const fn entry_at(who: Who, now_ns: u64) -> u32 {
    who | epoch(now_ns) << EPOCH_SHIFT
}

/// Whose an entry is.
#[must_use]
#[inline(always)]
pub const fn who_of(entry: u32) -> Who {
    entry & !((EPOCHS - 1) << EPOCH_SHIFT)
}

/// Whether an entry's process has not been charged for long. The parts of a wait are charged latest first, so
/// an entry may be a little ahead of `now_ns`.
#[must_use]
#[inline(always)]
pub const fn is_stale(entry: u32, now_ns: u64) -> bool {
    let age = epoch(now_ns).wrapping_sub(entry >> EPOCH_SHIFT) % EPOCHS;
    age > STALE_EPOCHS && age < EPOCHS - STALE_EPOCHS
}

const fn epoch(now_ns: u64) -> u32 {
    (now_ns >> EPOCH_BITS) as u32 % EPOCHS
}

/// Where the marks of a [`Who`] begin.
pub const MARK_SHIFT: u32 = 30;
/// Values of [`mark_of`].
pub const MARKS: usize = 4;

/// What the marks of a [`Who`] say, as an index: a process, a kernel thread, a vCPU, or nobody.
#[must_use]
#[inline(always)]
pub const fn mark_of(who: Who) -> usize {
    (who >> MARK_SHIFT) as usize
}

/// Processes in a table of shares. With 40 VMs on two CPUs a table of 16 lost 44 % to `others_ns`.
pub const SHARES: usize = 64;

/// Time by process: what each took, or had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Shares {
    /// Who, with the time of the last addition ([`entry_at`]); 0 where the entry is free.
    pub who: [u32; SHARES],
    /// Time of each, ns.
    pub ns: [u64; SHARES],
    /// Time of those that have no entry, or lost it to another, by [`mark_of`], ns. At the mark of
    /// [`WHO_UNKNOWN`]: time of which nobody saw who had the CPU.
    pub others_ns: [u64; MARKS],
    /// Time at which the CPU was idle, ns.
    pub idle_ns: u64,
}

impl Shares {
    /// No time.
    pub const NONE: Self =
        Self { who: [WHO_IDLE; SHARES], ns: [0; SHARES], others_ns: [0; MARKS], idle_ns: 0 };

    /// Time of which nobody saw who had the CPU, ns.
    #[must_use]
    pub const fn unknown_ns(&self) -> u64 {
        self.others_ns[mark_of(WHO_UNKNOWN)]
    }

    /// All of it, ns.
    #[must_use]
    pub fn total_ns(&self) -> u64 {
        let all = self.ns.iter().chain(&self.others_ns).chain([&self.idle_ns]);
        all.fold(0, |sum, ns| sum.wrapping_add(*ns))
    }
}

/// What was taken of one vCPU's time, by process. Written with its slot, under the slot's `seq`.
///
/// Everything that the kernel has added to the thread's run delay since the slot was given out, up to its
/// last switch, is in the table or the slot's `throttled_ns`, each nanosecond once. Time in `idle_ns` was the
/// way from a wake-up to running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SlotShares {
    /// Who took it.
    pub table: Shares,
    /// Of the wait that ends with the stint that goes on: what was charged already, ns.
    pub charged_ns: u64,
}

impl SlotShares {
    /// Nothing was taken.
    pub const NONE: Self = Self { table: Shares::NONE, charged_ns: 0 };
}

/// Stretches of a CPU's time that are remembered one by one.
pub const STRETCHES: usize = 1024;
/// Stretches from one checkpoint of a CPU's totals to the next. A wait is split over at most so many one by
/// one at its begin; with 64 in place of 32 the longest charge took a third more time.
pub const APART: u64 = 32;
/// Checkpoints that are remembered: together they reach back over twice as many stretches as are.
pub const CHECKPOINTS: usize = 64;

/// One stretch: from `start_ns` to the begin of the next somebody had the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Stretch {
    /// The scheduler's clock, ns.
    pub start_ns: u64,
    /// Who.
    pub who: Who,
    /// Keeps the layout explicit.
    pub _pad: u32,
}

/// A time that is split over the stretches that a CPU remembers, latest part first.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    /// Begin of the time, ns.
    pub from_ns: u64,
    /// End of what is not split yet, ns.
    pub until_ns: u64,
    /// Stretches that the CPU has written so far.
    pub written: u64,
}

impl Split {
    /// Compares what is not split yet with the stretch that was written `back + 1` stretches ago, and hands
    /// the part within it to `each`. `stretch` gives begin and occupant of a place in the ring. Returns
    /// whether there is more to be split.
    #[inline(always)]
    pub fn step(
        &mut self,
        back: u64,
        stretch: impl FnOnce(usize) -> (u64, Who),
        each: impl FnOnce(Who, u64),
    ) -> bool {
        if self.until_ns <= self.from_ns || back >= self.written {
            return false;
        }
        let (start, who) = stretch((self.written.wrapping_sub(back + 1) % STRETCHES as u64) as usize);
        let begin = if start > self.from_ns { start } else { self.from_ns };
        if begin < self.until_ns {
            each(who, self.until_ns - begin);
            self.until_ns = begin;
        }
        self.until_ns > self.from_ns
    }

    /// Hands over what is older than all that was remembered, or than was looked at.
    #[inline(always)]
    pub fn rest(self, each: impl FnOnce(Who, u64)) {
        if self.until_ns > self.from_ns {
            each(WHO_UNKNOWN, self.until_ns - self.from_ns);
        }
    }
}

/// Who had a CPU lately. Written by the switches of that CPU, with its run queue locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Occupancy {
    /// Stretches written so far; the last is at this number minus 1, modulo [`STRETCHES`].
    pub written: u64,
    /// Who has the CPU: of the last stretch.
    pub who: Who,
    /// How often core scheduling had begun to force CPUs of this core idle when the last idle stretch began.
    pub forced_idles: u32,
    /// When each checkpoint was taken: at the begin of the stretch of its number times [`APART`]. Around and
    /// around; on the scheduler's clock, ns.
    pub checkpoints_ns: [u64; CHECKPOINTS],
    /// The stretches, around and around.
    pub stretches: [Stretch; STRETCHES],
}

impl Occupancy {
    /// Nothing is remembered.
    pub const EMPTY: Self = Self {
        written: 0,
        who: WHO_IDLE,
        forced_idles: 0,
        checkpoints_ns: [0; CHECKPOINTS],
        stretches: [Stretch { start_ns: 0, who: WHO_IDLE, _pad: 0 }; STRETCHES],
    };
}
