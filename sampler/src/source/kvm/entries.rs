//! Whether KVM's hooks report entries into guests.
//!
//! A module of KVM's that enters guests in a way of its own (PVM is one) may pass neither `kvm_entry` nor
//! `kvm_exit`. Then a guest that is busy has no time in the guest, and all of it seems to be the kernel's.

use sampler_ebpf::abi::{KvmStat, Mode, WalkRecord};

use super::readings::has_kvm;
use crate::kept::kept;

/// A vCPU whose thread was so long in the kernel, ns, and has never entered its guest, does enter it: no
/// set-up of a vCPU takes as long.
const KERNEL_NS: u64 = 10_000_000;
/// And that KVM has counted so many exits of.
const EXITS: u64 = 1_000;

/// What is known of the entries of this host's guests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entries {
    /// Of one vCPU at least they are missing: of others that have shown none they most likely are too.
    are_missing: bool,
    /// Of one at least they are seen. One module runs all guests, so a vCPU without any has not entered yet.
    are_seen: bool,
}

kept! { Entries { are_missing, are_seen } }

impl Entries {
    /// The hooks are not attached any more: the next module may be another.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether a vCPU's entries are missing in what the walk found.
    pub(super) fn are_missing_of(&mut self, record: &WalkRecord) -> bool {
        if record.modes_ns[Mode::Guest.place()] != 0 {
            *self = Self { are_missing: false, are_seen: true };
        }
        if self.are_seen {
            return false;
        }
        let inside_ns = [Mode::Kernel, Mode::Inside].map(|mode| record.modes_ns[mode.place()]);
        let is_busy = inside_ns.iter().sum::<u64>() >= KERNEL_NS
            && has_kvm(record)
            && record.kvm[KvmStat::Exits as usize] >= EXITS;
        if is_busy && !self.are_missing {
            self.are_missing = true;
            tracing::warn!(
                "KVM reports no entries into guests on this host: their time in the guest and in the kernel is one, \
                 shown as `run`"
            );
        }
        self.are_missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(guest_ns: u64, kernel_ns: u64, exits: u64) -> WalkRecord {
        let mut record = WalkRecord { generation: 3, kvm_generation: 3, ..WalkRecord::EMPTY };
        record.modes_ns[Mode::Guest.place()] = guest_ns;
        record.modes_ns[Mode::Kernel.place()] = kernel_ns;
        record.kvm[KvmStat::Exits as usize] = exits;
        record
    }

    #[test]
    fn entries_are_missing_where_a_busy_vcpu_has_none() {
        let mut entries = Entries::default();
        assert!(!entries.are_missing_of(&record(0, 0, 5_000)), "it sleeps");
        assert!(!entries.are_missing_of(&record(0, 9_000_000, 5_000)), "its set-up may take long");
        assert!(!entries.are_missing_of(&record(0, 50_000_000, 10)));
        assert!(entries.are_missing_of(&record(0, 50_000_000, 5_000)));
        assert!(entries.are_missing_of(&record(0, 0, 0)), "the same module");
        assert!(!entries.are_missing_of(&record(1, 50_000_000, 5_000)), "it was entered");
        assert!(!entries.are_missing_of(&record(0, 50_000_000, 5_000)), "so the module reports entries");
        entries.reset();
        assert!(entries.are_missing_of(&record(0, 50_000_000, 5_000)), "another module");
        entries.reset();
        assert!(!entries.are_missing_of(&record(0, 0, 0)));
    }
}
