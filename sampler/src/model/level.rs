//! How much is observed of VMs.

/// How much is observed of a VM's vCPUs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What the scheduler and KVM count by themselves: CPU time is not broken down, exits have no reasons.
    Basic,
    /// What KVM's hooks report as well: every exit by its reason, and one exit in [`SAMPLED`] with its time.
    /// CPU time in the guest and in the kernel, and how long exits take, are estimates.
    Sampled,
    /// The same with every exit timed.
    #[default]
    Full,
}

/// How many exits one stands for that is timed at [`Level::Sampled`]: a power of two.
pub const SAMPLED: u8 = 16;

impl Level {
    /// All levels, the least first.
    pub const ALL: [Self; 3] = [Self::Basic, Self::Sampled, Self::Full];

    /// How many exits one stands for that is timed; `None` where none is.
    #[must_use]
    pub const fn one_timed_in(self) -> Option<u8> {
        match self {
            Self::Basic => None,
            Self::Sampled => Some(SAMPLED),
            Self::Full => Some(1),
        }
    }

    /// Name in every format.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Sampled => "sampled",
            Self::Full => "full",
        }
    }
}

/// What an operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The highest level of any VM.
    pub most: Level,
    /// Exits of one vCPU in a second, averaged over an interval, beyond which its VM is at
    /// [`Level::Sampled`].
    pub max_exits: u64,
}

impl Levels {
    /// Where nothing else is asked for: at some 0.2 microseconds for each exit, half a percent of a CPU.
    pub const DEFAULT: Self = Self { most: Level::Full, max_exits: 20_000 };
}

impl Default for Levels {
    fn default() -> Self {
        Self::DEFAULT
    }
}
