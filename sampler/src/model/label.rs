//! Values of attributes.

/// A value of an attribute whose values are a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The value, and the key in JSON.
    pub key: &'static str,
    /// What it stands for, in full sentences; empty where the key says it all.
    pub help: &'static str,
}

impl Label {
    /// A value whose key says it all.
    #[must_use]
    pub const fn plain(key: &'static str) -> Self {
        Self { key, help: "" }
    }
}
