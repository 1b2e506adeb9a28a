//! How much is observed of VMs.

/// How much is told of a VM's vCPUs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What the scheduler and KVM's own counts tell: CPU time is not told apart, exits have no reasons.
    Basic,
    /// What KVM's hooks tell as well.
    #[default]
    Full,
}

impl Level {
    /// Name in every format.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Full => "full",
        }
    }
}

/// What an operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The highest level of any VM.
    pub most: Level,
    /// Exits of one vCPU in a second, averaged over an interval, beyond which its VM is at [`Level::Basic`].
    pub max_exits: u64,
}

impl Levels {
    /// Where nothing else is asked for: at some 0.2 microseconds for each exit, two percent of a CPU at most.
    pub const DEFAULT: Self = Self { most: Level::Full, max_exits: 100_000 };
}

impl Default for Levels {
    fn default() -> Self {
        Self::DEFAULT
    }
}
