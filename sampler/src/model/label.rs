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

        impl $values {
            /// The value whose row is at this place of the table; `None` where there is no such row.
            #[must_use]
            pub const fn of(place: usize) -> Option<Self> {
                const ALL: &[$values] = &[$($values::$name,)*];
                if place < ALL.len() { Some(ALL[place]) } else { None }
            }
        }

        #[doc = concat!("One row for each [`", stringify!($values), "`], in the order of its discriminants.")]
        pub const $table: &[$crate::model::Label] = &[$($crate::model::Label { key: $key, help: $help },)*];
    };
}

#[cfg(test)]
mod tests {
    use crate::model::{STATES, State};

    #[test]
    fn a_place_of_the_table_gives_its_value() {
        for (place, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(State::of(place), Some(state));
        }
        assert_eq!([State::of(STATES.len()), State::of(usize::MAX)], [None, None]);
    }
}
