//! What a vCPU's thread did with its CPU time.

use super::{
    state::{State, StateTimes},
    tolerance::TOLERANCE_NS,
};
use crate::kept::kept;

/// Polls that were preempted come to more than the CPU time that they had: of what is beyond so much is
/// carried over, for a poll that began in the interval before, and no more. Five times the longest poll that
/// KVM does by itself.
const LONGEST_POLL_NS: u64 = 1_000_000;

/// What KVM's hooks have reported of a thread since it is followed, what goes on included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModeTimes {
    /// In the guest, ns.
    pub guest_ns: u64,
    /// In the kernel for it, polls included, ns.
    pub kernel_ns: u64,
    /// In the VMM, ns.
    pub vmm_ns: u64,
    /// In the guest or in the kernel, polls included, where not every exit is timed, ns.
    pub inside_ns: u64,
    /// Part of it that was the kernel's, by the exits that are timed, ns: an estimate, which may be ahead.
    pub stands_ns: u64,
    /// What the thread does is observed at the moment.
    pub observed: bool,
    /// The hooks report no entries into its guest: its time there is among the kernel's.
    pub unentered: bool,
    /// It could not be read: the times are those of an earlier reading.
    pub torn: bool,
    /// Times that it was no longer observed.
    pub gaps: u64,
    /// Halt polls as KVM counts them, when they end, ns; `None` where that is not known.
    pub poll_ns: Option<u64>,
}

kept! {
    ModeTimes {
        guest_ns,
        kernel_ns,
        vmm_ns,
        inside_ns,
        stands_ns,
        observed,
        unentered,
        torn,
        gaps,
        poll_ns,
    }
}

/// How long an interval was by each of two clocks: by the scheduler's, which counts run time, and by
/// `CLOCK_MONOTONIC`, which times what the run time was for, and which NTP makes faster or slower by up to a
/// tenth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pub(super) sched_ns: u64,
    pub(super) monotonic_ns: u64,
}

/// `CLOCK_MONOTONIC` is slewed by no more than a tenth, by `adjtimex` (`MIN_TICK` and `MAX_TICK` are 900000
/// and 1100000 / `USER_HZ` in `include/linux/timex.h`, 2.6 to 7.2). Clocks that are further apart are so for
/// another reason: the machine was suspended, or the interval is shorter than readings are apart.
const MAX_SLEW: u64 = 8;
/// Part of an interval by which its two halves may be slewed apart: the ratio is that of the whole.
const UNEVEN: u64 = 10_000;

impl Clocks {
    /// A time by `CLOCK_MONOTONIC` as the scheduler's clock has it.
    fn scaled(self, ns: u64) -> u64 {
        let apart = self.sched_ns.abs_diff(self.monotonic_ns);
        let is_slewed = self.monotonic_ns > 0 && apart <= self.monotonic_ns / MAX_SLEW;
        if is_slewed { share(ns, self.sched_ns, self.monotonic_ns) } else { ns }
    }

    /// How far parts may be from their whole.
    const fn tolerance_ns(self) -> u64 {
        TOLERANCE_NS + self.sched_ns / UNEVEN
    }
}

/// CPU time by what it was for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parts {
    guest_ns: u64,
    kernel_ns: u64,
    vmm_ns: u64,
    poll_ns: u64,
    /// For any of them: it was not observed.
    unobserved_ns: u64,
    /// A part at least was observed.
    is_observed: bool,
    /// And of entries into the guest.
    is_entered: bool,
}

kept! { Parts { guest_ns, kernel_ns, vmm_ns, poll_ns, unobserved_ns, is_observed, is_entered } }

impl Parts {
    fn plus(&self, other: &Self) -> Self {
        Self {
            guest_ns: self.guest_ns + other.guest_ns,
            kernel_ns: self.kernel_ns + other.kernel_ns,
            vmm_ns: self.vmm_ns + other.vmm_ns,
            poll_ns: self.poll_ns + other.poll_ns,
            unobserved_ns: self.unobserved_ns + other.unobserved_ns,
            is_observed: self.is_observed || other.is_observed,
            is_entered: self.is_entered || other.is_entered,
        }
    }

    fn write(&self, times: &mut StateTimes) {
        if self.is_observed {
            times.set(State::Vmm, self.vmm_ns);
            times.set(State::Poll, self.poll_ns);
        }
        let is_whole = self.is_observed && self.is_entered;
        if is_whole {
            times.set(State::Guest, self.guest_ns);
            times.set(State::Kernel, self.kernel_ns);
        }
        if !is_whole || self.unobserved_ns > 0 {
            times.set(State::Run, self.unobserved_ns);
        }
    }

    /// Whether the guest or the kernel had the thread is not known.
    const fn without_entries(self) -> Self {
        let unobserved_ns = self.unobserved_ns + self.guest_ns + self.kernel_ns;
        Self { guest_ns: 0, kernel_ns: 0, unobserved_ns, is_entered: false, ..self }
    }
}

/// The account of one thread's CPU time. Its parts come to the run time of each interval to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OnCpu {
    last: ModeTimes,
    total: Parts,
    /// Measured beyond the run time that was known by then: the next interval has it.
    early_guest_ns: u64,
    early_vmm_ns: u64,
    early_poll_ns: u64,
    /// Estimated beyond the time that there was: the next interval has it.
    early_stands_ns: u64,
    step: Parts,
}

// The last step is shown before anything is kept, and the next one makes it anew.
kept! {
    OnCpu { last, total, early_guest_ns, early_vmm_ns, early_poll_ns, early_stands_ns }
    anew { step }
}

impl OnCpu {
    /// Opens the account: nothing was before this. What is observed from the first reading on is broken down
    /// from there on, so that no series begins as CPU time that is not, and ends with the next reading.
    pub(super) fn follow(first: &ModeTimes) -> Self {
        let step = Parts::default();
        let is_observed = first.observed && !first.torn;
        let total = Parts { is_observed, is_entered: !first.unentered, ..step };
        Self {
            last: *first,
            total,
            early_guest_ns: 0,
            early_vmm_ns: 0,
            early_poll_ns: 0,
            early_stands_ns: 0,
            step,
        }
    }

    /// Shares out the run time of an interval. Returns whether more was measured than it has, by more than
    /// readings are apart.
    pub(super) fn advance(&mut self, now: &ModeTimes, run_ns: u64, clocks: Clocks) -> bool {
        if now.torn || self.last.torn {
            return self.skip(now, run_ns);
        }
        let tolerance_ns = clocks.tolerance_ns();
        let last = self.last;
        let added = |now: u64, before: u64| clocks.scaled(now.saturating_sub(before));
        let guest = added(now.guest_ns, last.guest_ns);
        let vmm = added(now.vmm_ns, last.vmm_ns);
        let kernel = added(now.kernel_ns, last.kernel_ns);
        let inside = added(now.inside_ns, last.inside_ns);
        let whole = last.observed && now.observed && last.gaps == now.gaps;
        let kernels = added(now.stands_ns, last.stands_ns) + self.early_stands_ns;
        // What a timed exit stands for may come in the next interval; no more of it than this one has.
        self.early_stands_ns = if whole { kernels.saturating_sub(inside).min(inside) } else { 0 };
        let kernels = kernels.min(inside);
        let (guest, kernel) = (guest + (inside - kernels), kernel + kernels);
        let observed_ns = guest + vmm + kernel;
        let is_too_much = observed_ns > run_ns + tolerance_ns;
        // Run time is without interrupts where the kernel accounts them, and without what the
        // host itself, if it is a guest, is denied. Then each part is smaller in the same ratio.
        let fit = |ns: u64| if is_too_much { share(ns, run_ns, observed_ns) } else { ns };
        let [guest, vmm, kernel] = [guest, vmm, kernel].map(fit);
        let mut left = run_ns;
        let mut take = |measured: u64| {
            let part = measured.min(left);
            left -= part;
            (part, measured - part)
        };
        let poll = now.poll_ns.zip(last.poll_ns).map_or(0, |(now, last)| added(now, last));
        let mut step = Parts::default();
        let early_poll;
        if whole {
            // An estimate comes last. The kernel's part is what is left: its own work at both ends of a stint
            // is in the run time too.
            if inside == 0 {
                (step.guest_ns, self.early_guest_ns) = take(guest + self.early_guest_ns);
            }
            (step.vmm_ns, self.early_vmm_ns) = take(vmm + self.early_vmm_ns);
            (step.poll_ns, early_poll) = take(poll + self.early_poll_ns);
            if inside > 0 {
                (step.guest_ns, self.early_guest_ns) = take(guest + self.early_guest_ns);
            }
            step.kernel_ns = left;
        } else {
            (step.guest_ns, self.early_guest_ns) = take(guest + self.early_guest_ns);
            (step.vmm_ns, self.early_vmm_ns) = take(vmm + self.early_vmm_ns);
            // Polls are those of the whole interval: which of them were in the part that was observed is
            // not known.
            (step.kernel_ns, _) = take(kernel);
            step.unobserved_ns = left;
            early_poll = 0;
        }
        // A moment measured before the run time had it; no more than readings are apart, and not across a
        // gap.
        let carried = if whole { tolerance_ns } else { 0 };
        self.early_guest_ns = self.early_guest_ns.min(carried);
        self.early_vmm_ns = self.early_vmm_ns.min(carried);
        step.is_observed = now.observed || step.unobserved_ns < run_ns;
        step.is_entered = true;
        if now.unentered {
            // It never was in its guest as far as is known: what counted as the kernel's until that showed
            // was both as well.
            step = step.without_entries();
            self.total = self.total.without_entries();
        }
        self.early_poll_ns = early_poll.min(LONGEST_POLL_NS);
        self.step = step;
        self.total = self.total.plus(&step);
        // Held where they were found lower: the same time is not to be added twice. But what went on when
        // observation ended was never added for good.
        let hold = |now: u64, last: u64| if whole { now.max(last) } else { now };
        self.last = ModeTimes {
            guest_ns: hold(now.guest_ns, last.guest_ns),
            kernel_ns: hold(now.kernel_ns, last.kernel_ns),
            vmm_ns: hold(now.vmm_ns, last.vmm_ns),
            inside_ns: hold(now.inside_ns, last.inside_ns),
            stands_ns: hold(now.stands_ns, last.stands_ns),
            poll_ns: now.poll_ns.or(last.poll_ns),
            ..*now
        };
        is_too_much || early_poll > LONGEST_POLL_NS
    }

    /// Breaks down nothing of an interval at one end of which nothing could be read: what was measured from
    /// there on is of both intervals beside it.
    fn skip(&mut self, now: &ModeTimes, run_ns: u64) -> bool {
        self.step = Parts { unobserved_ns: run_ns, ..Parts::default() };
        self.total = self.total.plus(&self.step);
        (self.early_guest_ns, self.early_vmm_ns, self.early_poll_ns, self.early_stands_ns) = (0, 0, 0, 0);
        self.last = if now.torn { ModeTimes { torn: true, ..self.last } } else { *now };
        false
    }

    /// Writes what the last interval was for.
    pub(super) fn write_step(&self, times: &mut StateTimes) {
        self.step.write(times);
    }

    /// Writes what all time since the thread's creation was for.
    pub(super) fn write_total(&self, times: &mut StateTimes) {
        self.total.write(times);
    }
}

fn share(ns: u64, of: u64, all: u64) -> u64 {
    let part = u128::from(ns) * u128::from(of) / u128::from(all.max(1));
    u64::try_from(part).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
