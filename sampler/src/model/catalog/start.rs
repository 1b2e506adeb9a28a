//! When the values of a series were zero, and how documents say it.

/// The moment at which a value was zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Start {
    /// A value of the moment has no start.
    None,
    /// When the sampler began.
    Sampler,
    /// When the host was booted.
    Boot,
    /// When the entity was created: the thread, the VMM's process.
    Created,
    /// When the sampler began to follow the vCPU: all its states were zero.
    Followed,
    /// When the entity was first seen running: of a VM the first of its vCPUs.
    Seen,
    /// Each entity has its own.
    Own,
}

impl Start {
    /// Number of them.
    pub const COUNT: usize = 7;

    /// All of them.
    pub const ALL: [Self; Self::COUNT] =
        [Self::None, Self::Sampler, Self::Boot, Self::Created, Self::Followed, Self::Seen, Self::Own];

    /// Name in documents, of those that an entity says.
    #[must_use]
    pub const fn key(self) -> Option<&'static str> {
        match self {
            Self::None | Self::Sampler => None,
            Self::Boot => Some("boot"),
            Self::Created => Some("created"),
            Self::Followed => Some("followed"),
            Self::Seen => Some("seen"),
            Self::Own => Some("own"),
        }
    }

    /// Whether the sampler itself counts from there on: where it had no value, nothing had been counted.
    #[must_use]
    pub const fn is_of_sampler(self) -> bool {
        matches!(self, Self::Sampler | Self::Followed | Self::Seen | Self::Own)
    }

    /// When that was, as a clause that says what happened then; nothing of a value of the moment.
    #[must_use]
    pub const fn event(self, words: &StartWords) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Sampler => Some("the sampler began"),
            Self::Boot => Some("the host was booted"),
            Self::Created => Some(words.created),
            Self::Followed => Some("the sampler began to follow the vCPU"),
            Self::Seen => Some(words.seen),
            Self::Own => Some(words.own),
        }
    }
}

/// What happens at those starts that are another moment for each kind of entity, as clauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartWords {
    /// At [`Start::Created`].
    pub created: &'static str,
    /// At [`Start::Seen`].
    pub seen: &'static str,
    /// At [`Start::Own`].
    pub own: &'static str,
}

impl StartWords {
    /// Of a VM, and of what it has.
    pub const OF_VM: Self = Self {
        created: "the VMM's process, or the domain, was created",
        seen: "the first vCPU of the VM was seen running",
        own: "the sampler first read it",
    };
}
