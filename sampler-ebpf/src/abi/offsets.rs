//! The kernel members that the programs read, found in the running kernel's BTF at start.
//!
//! rustc emits no CO-RE relocations, and layouts move inside one distribution release, so user space looks
//! every member up in `/sys/kernel/btf/vmlinux` and hands the offsets over as a read-only global. The
//! verifier treats loads from that frozen section as constants, which makes
//! `task + offset` a typed load that it can check.

use super::{block::block_members, kvm::kvm_members, task::task_members};

/// The offset of a member that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// The sizes of a member that is a single bit. Its offset counts bits, not bytes.
pub const BIT: &[u32] = &[0];

/// One row of the table of wanted members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// The structure's name in BTF.
    pub container: &'static str,
    /// Path of the member inside the structure, dots between nested structures.
    pub path: &'static str,
    /// Where other kernels keep the same member; looked for when `path` is not there.
    pub elsewhere: &'static [&'static str],
    /// Sizes in bytes that the programs know how to read, or [`BIT`]; any other size means that the member
    /// changed its meaning.
    pub sizes: &'static [u32],
    /// Without a needed member the programs are refused.
    pub needed: bool,
}

macro_rules! members {
    // Each subsystem has a table of its own: they are put together, one after the other.
    ([$table:ident $($tables:ident)*] $($rows:tt)*) => { $table! { members [$($tables)*] $($rows)* } };
    ([] $(
        $(#[$doc:meta])*
        $name:ident = $container:literal . $path:literal $(or $elsewhere:literal)*, $sizes:expr, $needed:expr;
    )*) => {
        /// A kernel member that the programs read; the discriminant is its index in [`Offsets::at`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Member { $($(#[$doc])* $name,)* }

        /// One row for each [`Member`], in the order of its discriminants.
        pub const MEMBERS: &[MemberRow] = &[
            $(MemberRow {
                container: $container,
                path: $path,
                elsewhere: &[$($elsewhere),*],
                sizes: $sizes,
                needed: $needed,
            },)*
        ];
    };
}

members! { [task_members kvm_members block_members] }

/// What the programs get of the running kernel's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Offsets {
    /// Offset of each [`Member`] from the start of its structure in bytes, of a [`BIT`] in bits, or
    /// [`ABSENT`].
    pub at: [u32; MEMBERS.len()],
}

impl Offsets {
    /// No member is known: what the object file carries until the loader fills it in.
    pub const UNKNOWN: Self = Self { at: [ABSENT; MEMBERS.len()] };
}
