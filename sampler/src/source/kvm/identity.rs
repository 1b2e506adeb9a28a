//! What the keys of this source's VMs and vCPUs hold.

use crate::{
    kept::kept,
    model::{Origin, VcpuId, VmKey},
};

/// A VM of KVM: a process, and which of its VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KvmGuest {
    /// The VMM's process id.
    pub pid: u32,
    /// `CLOCK_BOOTTIME` when the VMM's process was created, ns: a process id used again is another VM.
    pub start_boottime_ns: u64,
    /// Number of the VM in its process, in the order seen: 0 unless a process runs several.
    pub nth: u32,
}

kept! { KvmGuest { pid, start_boottime_ns, nth } }

impl KvmGuest {
    /// What a key holds that this source has made.
    #[must_use]
    pub const fn of(key: VmKey) -> Self {
        let [process, start_boottime_ns] = key.content();
        Self { pid: (process >> 32) as u32, start_boottime_ns, nth: process as u32 }
    }

    /// The key.
    #[must_use]
    pub const fn key(self) -> VmKey {
        VmKey::new([(self.pid as u64) << 32 | self.nth as u64, self.start_boottime_ns])
    }

    /// Where the VM comes from.
    #[must_use]
    pub const fn origin(self) -> Origin {
        Origin::Process { pid: self.pid }
    }
}

/// A thread for ever: its id may be used again, and the new owner is another stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ThreadId {
    /// Its id in the initial pid namespace.
    pub tid: u32,
    /// `CLOCK_BOOTTIME` when it was created, ns.
    pub start_boottime_ns: u64,
}

kept! { ThreadId { tid, start_boottime_ns } }

impl ThreadId {
    /// What an id holds that this source has made.
    #[must_use]
    pub const fn of(id: VcpuId) -> Self {
        let [tid, start_boottime_ns] = id.content();
        Self { tid: tid as u32, start_boottime_ns }
    }

    /// The id of the stream of what this thread counts.
    #[must_use]
    pub const fn vcpu(self) -> VcpuId {
        VcpuId::new([self.tid as u64, self.start_boottime_ns])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_holds_its_guest() {
        let guest = KvmGuest { pid: u32::MAX, start_boottime_ns: u64::MAX - 1, nth: 7 };
        assert_eq!(KvmGuest::of(guest.key()), guest);
        assert_ne!(guest.key(), KvmGuest { nth: 8, ..guest }.key());
    }
}
