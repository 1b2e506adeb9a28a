//! The form of tables of counters that the kernel keeps. Each subsystem has its own. The programs copy the
//! member of each row; which metric it becomes is said in the catalog of user space.

use super::offsets::Member;

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds in the kernel and in JSON, seconds in OTLP.
    Nanoseconds,
    /// A count of things; the text is its UCUM annotation.
    Count(&'static str),
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterRow {
    /// Key in JSON output.
    pub key: &'static str,
    /// Unit of the value.
    pub unit: Unit,
    /// The kernel member that holds the count.
    pub member: Member,
    /// One sentence for descriptions and the documentation.
    pub help: &'static str,
}

macro_rules! counters {
    (
        $(#[$doc:meta])* $counter:ident, $rows:ident, $each:ident;
        $($name:ident = $key:literal, $unit:expr, $member:ident, $help:literal;)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $counter { $(#[doc = $help] $name,)* }

        #[doc = concat!("One row for each [`", stringify!($counter), "`], in order.")]
        pub const $rows: &[CounterRow] = &[
            $(CounterRow { key: $key, unit: $unit, member: Member::$member, help: $help },)*
        ];

        /// Calls `each` with every counter and the member that holds it, as straight-line code: in an eBPF
        /// program a loop over the rows would drag their texts into the object.
        #[inline(always)]
        pub fn $each(mut each: impl FnMut($counter, Member)) {
            $(each($counter::$name, Member::$member);)*
        }
    };
}

pub(in crate::abi) use counters;
