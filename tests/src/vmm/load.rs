//! What a guest's vCPU does, and the pacing of loads that burn and sleep in turn.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What a vCPU does with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Runs guest code for ever and never gives its CPU up.
    Busy,
    /// Burns CPU time, then leaves the guest and sleeps in the VMM; again and again.
    Half {
        /// CPU time of each burn.
        burn: Duration,
        /// Length of each sleep.
        sleep: Duration,
    },
    /// Halts and stays halted.
    Halt,
    /// Leaves the guest for the VMM with every second instruction, and never sleeps.
    Io,
    /// Like [`Load::Half`] with lengths drawn anew each time, uniformly from zero to twice those given. The
    /// draws of a vCPU are the same in every run.
    Mix {
        /// Mean CPU time of a burn.
        burn: Duration,
        /// Mean length of a sleep.
        sleep: Duration,
    },
}

/// A text that names no load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no load; there are busy, half, halt, io and mix")]
pub struct LoadError(String);

impl Load {
    /// A load by its name, with the lengths that `half` and `mix` take.
    ///
    /// # Errors
    /// When there is no load of that name.
    pub fn named(name: &str, burn: Duration, sleep: Duration) -> Result<Self, LoadError> {
        match name {
            "busy" => Ok(Self::Busy),
            "half" => Ok(Self::Half { burn, sleep }),
            "halt" => Ok(Self::Halt),
            "io" => Ok(Self::Io),
            "mix" => Ok(Self::Mix { burn, sleep }),
            other => Err(LoadError(other.to_owned())),
        }
    }

    /// The load's name, as on command lines.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Half { .. } => "half",
            Self::Halt => "halt",
            Self::Io => "io",
            Self::Mix { .. } => "mix",
        }
    }

    /// Length of a burn and of a sleep, for loads that have them.
    #[must_use]
    pub const fn lengths(&self) -> Option<(Duration, Duration)> {
        match *self {
            Self::Half { burn, sleep } | Self::Mix { burn, sleep } => Some((burn, sleep)),
            Self::Busy | Self::Halt | Self::Io => None,
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl FromStr for Load {
    type Err = LoadError;

    /// As [`Load::named`], with burns and sleeps of a millisecond.
    fn from_str(name: &str) -> Result<Self, LoadError> {
        Self::named(name, Duration::from_millis(1), Duration::from_millis(1))
    }
}

/// Turns lengths of time into turns of the guest's burn loop.
///
/// How long a turn takes differs a thousandfold between a CPU that runs real mode and a kernel that
/// emulates it, so it is measured: the thread's CPU time from one request to the next, over the turns given.
#[derive(Debug)]
pub(super) struct Pacer {
    load: Load,
    random: fastrand::Rng,
    picoseconds_per_turn: u64,
    given: Option<Given>,
}

#[derive(Debug)]
struct Given {
    turns: u32,
    at: Duration,
}

/// What the VMM is to do for a vCPU that asks for turns: sleep, then give them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) sleep: Duration,
    pub(super) burn: Duration,
}

impl Pacer {
    /// Starts from the slow end (emulation), so that the first burns are short and not hours.
    const FIRST_PICOSECONDS_PER_TURN: u64 = 1_000_000;

    pub(super) fn new(load: Load, vcpu: u32) -> Self {
        Self {
            load,
            random: fastrand::Rng::with_seed(u64::from(vcpu)),
            picoseconds_per_turn: Self::FIRST_PICOSECONDS_PER_TURN,
            given: None,
        }
    }

    /// The guest has burnt what it was given: what comes next.
    pub(super) fn next(&mut self) -> Turn {
        self.learn(thread_cpu_time());
        match self.load {
            Load::Mix { burn, sleep } => Turn { sleep: self.around(sleep), burn: self.around(burn) },
            Load::Half { burn, sleep } => Turn { sleep, burn },
            Load::Busy | Load::Halt | Load::Io => Turn { sleep: Duration::ZERO, burn: Duration::ZERO },
        }
    }

    /// Number of turns that take `burn`, at least one. The guest starts them at once.
    pub(super) fn turns(&mut self, burn: Duration) -> u32 {
        self.turns_at(burn, thread_cpu_time())
    }

    fn turns_at(&mut self, burn: Duration, now: Duration) -> u32 {
        let wanted = burn.as_nanos().saturating_mul(1000) / u128::from(self.picoseconds_per_turn);
        let turns = u32::try_from(wanted).unwrap_or(u32::MAX).max(1);
        self.given = Some(Given { turns, at: now });
        turns
    }

    fn learn(&mut self, now: Duration) {
        let Some(given) = self.given.take() else { return };
        let picoseconds = now.saturating_sub(given.at).as_nanos().saturating_mul(1000);
        let seen = u64::try_from(picoseconds / u128::from(given.turns)).unwrap_or(u64::MAX);
        // The exit itself is in what was seen, so `seen` is too high, and for a handful of turns by far: go
        // up in small steps. Down by half at most: a clock that stood still, as an emulated machine's may,
        // would otherwise make the next burn last for minutes.
        let before = self.picoseconds_per_turn;
        let highest = before.saturating_add(before / 4 + 1);
        self.picoseconds_per_turn = seen.clamp((before / 2).max(1), highest);
    }

    fn around(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(self.random.f64() * 2.0)
    }
}

fn thread_cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn names_are_read_back() {
        for name in ["busy", "half", "halt", "io", "mix"] {
            assert_eq!(Load::named(name, MS, MS).unwrap().name(), name);
        }
        let error = Load::named("idle", MS, MS).unwrap_err();
        assert_eq!(error.to_string(), "`idle` is no load; there are busy, half, halt, io and mix");
    }

    #[test]
    fn the_pacer_learns_how_long_a_turn_takes() {
        let mut pacer = Pacer::new(Load::Half { burn: MS, sleep: MS }, 0);
        let mut clock = Duration::ZERO;
        // A machine on which a turn takes 2 ns: far from the pacer's first guess.
        for _ in 0..40 {
            let turns = pacer.turns_at(MS, clock);
            clock += Duration::from_nanos(u64::from(turns) * 2);
            pacer.learn(clock);
        }
        let turns = pacer.turns_at(MS, clock);
        assert!((450_000..=550_000).contains(&turns), "{turns} turns of 2 ns for 1 ms");
    }

    #[test]
    fn a_short_burn_does_not_undo_what_long_ones_taught() {
        let mut pacer = Pacer::new(Load::Half { burn: MS, sleep: MS }, 0);
        pacer.picoseconds_per_turn = 2_000;
        pacer.turns_at(Duration::from_nanos(2), Duration::ZERO);
        pacer.learn(Duration::from_micros(5));
        assert!(pacer.picoseconds_per_turn <= 2_501, "{}", pacer.picoseconds_per_turn);
    }

    #[test]
    fn a_clock_that_stands_still_makes_no_burn_longer_than_twice() {
        let mut pacer = Pacer::new(Load::Half { burn: MS, sleep: MS }, 0);
        pacer.picoseconds_per_turn = 2_000;
        let turns = pacer.turns_at(MS, Duration::ZERO);
        pacer.learn(Duration::ZERO);
        assert_eq!(pacer.turns_at(MS, Duration::ZERO), 2 * turns);
    }

    #[test]
    fn a_burn_is_at_least_one_turn_because_zero_would_burn_four_billion() {
        let mut pacer = Pacer::new(Load::Half { burn: Duration::ZERO, sleep: MS }, 0);
        assert_eq!(pacer.turns_at(Duration::ZERO, Duration::ZERO), 1);
    }

    #[test]
    fn mixed_draws_repeat_for_a_vcpu_and_differ_between_vcpus() {
        let draws = |vcpu| {
            let mut pacer = Pacer::new(Load::Mix { burn: MS, sleep: MS }, vcpu);
            (0..16).map(|_| pacer.next()).collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        assert!(draws(1).iter().all(|turn| turn.burn <= 2 * MS && turn.sleep <= 2 * MS));
    }
}
