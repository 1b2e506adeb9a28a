//! How much is told of a VM.

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
