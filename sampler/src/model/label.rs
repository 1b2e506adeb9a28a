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

/// An enumeration with a table of [`Label`]s, one row for each value in the order of the discriminants.
macro_rules! labels {
    (
        $(#[$doc:meta])*
        $values:ident in $table:ident {
            $($name:ident = $key:literal, $help:literal;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(usize)]
        pub enum $values { $(#[doc = $help] $name,)* }

        #[doc = concat!("One row for each [`", stringify!($values), "`], in the order of its discriminants.")]
        pub const $table: &[$crate::model::Label] = &[$($crate::model::Label { key: $key, help: $help },)*];
    };
}
