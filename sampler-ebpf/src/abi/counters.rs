//! The form of tables of counters that the kernel keeps. Each subsystem has its own. A row there is all that a
//! metric on an existing kernel member needs: the programs copy the member, and every exporter walks the tables.

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
    /// OTLP metric, or `None` where the counter leaves as a state of `hypervisor.vcpu.time`, or in JSON alone.
    pub metric: Option<&'static str>,
    /// Unit of the value.
    pub unit: Unit,
    /// The kernel member that holds the count.
    pub member: Member,
    /// One sentence for `--help`, OTLP descriptions and the documentation.
    pub help: &'static str,
}

macro_rules! counters {
    (
        $(#[$doc:meta])* $counter:ident, $rows:ident, $each:ident;
        $($name:ident = $key:literal, $metric:expr, $unit:expr, $member:ident, $help:literal;)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $counter { $(#[doc = $help] $name,)* }

        #[doc = concat!("One row for each [`", stringify!($counter), "`], in the order of its discriminants.")]
        pub const $rows: &[CounterRow] = &[
            $(CounterRow { key: $key, metric: $metric, unit: $unit, member: Member::$member, help: $help },)*
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
