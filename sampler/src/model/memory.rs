//! What the host keeps of a guest's memory.

use crate::kept::kept;

labels! {
    /// A part of the memory of a VMM's process; the discriminant is the index in [`RESIDENT`].
    Resident in RESIDENT {
        Anonymous = "anonymous", "Memory of its own: as a rule the guest's.";
        File = "file", "Mapped files, such as its program; their pages in the page cache others may share.";
        Shared = "shared", "Shared memory, such as memfd or /dev/shm: the guest's where other processes serve its devices.";
        Huge = "huge", "Reserved huge pages (hugetlbfs), private and shared.";
    }
}

/// Memory of the process that runs a VM, as it was some time ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// When it was read, Unix time in ns.
    pub at_unix_ns: u64,
    /// In physical memory, by [`Resident`], bytes; absent where the kernel does not say.
    pub resident: [Option<u64>; RESIDENT.len()],
    /// Swapped out, bytes; absent where the kernel does not say. Shared memory that is swapped out is not in
    /// it: the kernel does not count that by process.
    pub swapped: Option<u64>,
    /// It was read since the snapshot before: what was sent once is not sent again.
    pub is_new: bool,
}

kept! { Memory { at_unix_ns, resident in RESIDENT, swapped, is_new } }
