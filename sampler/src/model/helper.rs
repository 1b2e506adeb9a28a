//! The threads that work for a VM and run no vCPU: their CPU time and their own steal, by kind.

use super::label::Label;
use crate::kept::kept;

/// One label for each [`HelperKind`], in the order of its discriminants.
pub const HELPER_KINDS: &[Label] = &[
    Label { key: "emulator", help: "The VMM's first thread, and all threads that are of no other kind." },
    Label { key: "iothread", help: "Threads that do input and output for the guest's devices." },
    Label { key: "vhost", help: "Workers of vhost, which move a device's data." },
];

/// A kind of helper thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HelperKind {
    /// The VMM's first thread, and all threads that are of no other kind.
    Emulator,
    /// Threads that do input and output for the guest's devices.
    IoThread,
    /// Workers of vhost: kernel threads, or threads of the VMM that the kernel made, which move a device's
    /// data.
    Vhost,
}

impl HelperKind {
    /// All kinds, in the order in which they are exported.
    pub const ALL: [Self; HELPER_KINDS.len()] = [Self::Emulator, Self::IoThread, Self::Vhost];

    /// Name in every format.
    #[must_use]
    pub const fn key(self) -> &'static str {
        HELPER_KINDS[self as usize].key
    }
}

/// What threads got and were denied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HelperTimes {
    /// Time on a CPU, ns.
    pub run_ns: u64,
    /// Time runnable and waiting for a CPU, ns; also where a CPU quota held them back.
    pub run_delay_ns: u64,
}

kept! { HelperTimes { run_ns, run_delay_ns } }

impl HelperTimes {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            run_ns: self.run_ns.saturating_add(other.run_ns),
            run_delay_ns: self.run_delay_ns.saturating_add(other.run_delay_ns),
        }
    }
}

/// A VM's helper threads of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HelperSum {
    /// Threads now.
    pub threads: u32,
    /// Cumulative since the VM was seen, those that ended included; what goes on is in it.
    pub total: HelperTimes,
}

kept! { HelperSum { threads, total } }

/// A VM's helper threads by kind. A kind of which the VM has had no thread is absent, never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Helpers {
    kinds: [Option<HelperSum>; HelperKind::ALL.len()],
}

kept! { Helpers { kinds in HELPER_KINDS } }

impl Helpers {
    /// Those of one kind.
    #[must_use]
    pub const fn get(&self, kind: HelperKind) -> Option<&HelperSum> {
        self.kinds[kind as usize].as_ref()
    }

    /// Sets what is known of one kind.
    pub const fn set(&mut self, kind: HelperKind, sum: HelperSum) {
        self.kinds[kind as usize] = Some(sum);
    }

    /// Those of one kind, to be changed; the VM has such from now on.
    pub fn entry(&mut self, kind: HelperKind) -> &mut HelperSum {
        self.kinds[kind as usize].get_or_insert_default()
    }

    /// The kinds that there are, in order.
    pub fn iter(&self) -> impl Iterator<Item = (HelperKind, &HelperSum)> {
        HelperKind::ALL.into_iter().filter_map(|kind| Some((kind, self.get(kind)?)))
    }

    /// The kinds that there are, to be changed.
    pub fn sums_mut(&mut self) -> impl Iterator<Item = &mut HelperSum> {
        self.kinds.iter_mut().flatten()
    }
}
