//! The form of tables of counters that the kernel keeps. Each subsystem has its own. The programs copy the
//! member of each row; which metric it becomes is said in the catalog of user space.

use super::offsets::Member;

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterRow {
    /// What user space calls it: `source::kvm` finds the model's row by this.
    pub key: &'static str,
    /// The kernel member that holds the count.
    pub member: Member,
}

macro_rules! counters {
    (
        $(#[$doc:meta])* $counter:ident, $rows:ident, $each:ident;
        $($name:ident = $key:literal, $member:ident;)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $counter { $(#[doc = concat!("`", $key, "`")] $name,)* }

        #[doc = concat!("One row for each [`", stringify!($counter), "`], in order.")]
        pub const $rows: &[CounterRow] = &[
            $(CounterRow { key: $key, member: Member::$member },)*
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
