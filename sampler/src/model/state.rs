//! Time states of a vCPU: the one table of them, and a set of times by state.

use super::label::Label;
use crate::kept::kept;

labels! {
    /// Where a vCPU's wall time goes; the discriminant is the index in [`STATES`].
    State in STATES {
        Guest = "guest", "On a physical CPU, in the guest's own code.";
        Kernel = "kernel", "On a physical CPU, in the host's kernel for the guest: handling its exits.";
        Vmm = "vmm", "On a physical CPU, outside KVM_RUN: in the VMM, or in the host's kernel for it.";
        Poll = "poll", "On a physical CPU, in the host's kernel, polling for a wake-up of the halted guest.";
        Run = "run", "On a physical CPU, not broken down: at level basic, or not observed.";
        Steal = "steal", "Runnable, waiting for a physical CPU that somebody else has.";
        Throttled = "throttled", "Runnable, held back because a CPU quota has run out: of its control group, of one above, or its own as a deadline thread.";
        Halted = "halted", "Asleep because the guest halted, or has not started this vCPU.";
        Blocked = "blocked", "Asleep anywhere else: in the VMM, for a page, paused.";
    }
}

impl State {
    /// All states in the order of the table.
    pub const ALL: [Self; STATES.len()] = [
        Self::Guest,
        Self::Kernel,
        Self::Vmm,
        Self::Poll,
        Self::Run,
        Self::Steal,
        Self::Throttled,
        Self::Halted,
        Self::Blocked,
    ];

    /// Whether the thread has a CPU in it.
    #[must_use]
    pub const fn is_on_cpu(self) -> bool {
        matches!(self, Self::Guest | Self::Kernel | Self::Vmm | Self::Poll | Self::Run)
    }

    /// The state's row.
    #[must_use]
    pub const fn row(self) -> &'static Label {
        &STATES[self as usize]
    }
}

/// Nanoseconds by state. A state that is not known is absent, never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateTimes {
    /// Of one that is absent it is 0.
    ns: [u64; STATES.len()],
    /// Which are known, one bit each: as an `Option` each would take twice the room.
    known: u16,
}

kept! { StateTimes { ns in STATES, known } }

const _: () = assert!(STATES.len() <= u16::BITS as usize, "a bit for each state");

impl StateTimes {
    /// Sets a state's time.
    pub const fn set(&mut self, state: State, ns: u64) {
        self.ns[state as usize] = ns;
        self.known |= 1 << state as usize;
    }

    /// A state's time, or `None` where it is not known here.
    #[must_use]
    pub const fn get(&self, state: State) -> Option<u64> {
        if self.known >> state as usize & 1 == 0 { None } else { Some(self.ns[state as usize]) }
    }

    /// The states that are known, with their times.
    pub fn iter(&self) -> impl Iterator<Item = (State, u64)> + '_ {
        State::ALL.into_iter().filter_map(|state| Some((state, self.get(state)?)))
    }

    /// Sum over the known states: the wall time they cover.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.ns.iter().sum()
    }
}
