//! What passes a guest's network interfaces.

use std::sync::Arc;

use super::label::Label;
use crate::kept::kept;

/// Which way, as the guest sees it; the discriminant is the index in [`DIRECTIONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Direction {
    /// Into the guest.
    Receive,
    /// Out of it.
    Transmit,
}

/// One row for each [`Direction`], in the order of its discriminants.
pub const DIRECTIONS: &[Label] = &[
    Label { key: "receive", help: "Into the guest." },
    Label { key: "transmit", help: "Out of the guest." },
];

/// What the kernel counts, by [`Direction`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounts {
    /// Bytes.
    pub bytes: [u64; DIRECTIONS.len()],
    /// Packets; what is handed over in one piece to be cut later is one.
    pub packets: [u64; DIRECTIONS.len()],
    /// Packets that were dropped.
    pub dropped: [u64; DIRECTIONS.len()],
    /// Packets with errors.
    pub errors: [u64; DIRECTIONS.len()],
}

kept! {
    InterfaceCounts {
        bytes in DIRECTIONS,
        packets in DIRECTIONS,
        dropped in DIRECTIONS,
        errors in DIRECTIONS,
    }
}

impl InterfaceCounts {
    /// What was added since `earlier`; `None` where something fell: it counts anew.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let parts = |counts: &Self| [counts.bytes, counts.packets, counts.dropped, counts.errors];
        let (now, earlier) = (parts(self), parts(earlier));
        let mut added = [[0; DIRECTIONS.len()]; 4];
        for (part, added) in added.iter_mut().enumerate() {
            for (direction, added) in added.iter_mut().enumerate() {
                *added = now[part][direction].checked_sub(earlier[part][direction])?;
            }
        }
        let [bytes, packets, dropped, errors] = added;
        Some(Self { bytes, packets, dropped, errors })
    }
}

/// A network interface of the host that serves a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Inode of its network namespace, and its index there.
    pub id: (u64, u32),
    /// Its name.
    pub name: Arc<str>,
    /// When its counts were zero, Unix time in ns.
    pub since_unix_ns: u64,
    /// What was counted since then.
    pub counts: InterfaceCounts,
    /// What came to that since the reading before, and how long ago that was, ns; absent of the first.
    pub added: Option<(InterfaceCounts, u64)>,
    /// When that was read, Unix time in ns.
    pub at_unix_ns: u64,
    /// It was read since the snapshot before: what was sent once is not sent again.
    pub is_new: bool,
}
