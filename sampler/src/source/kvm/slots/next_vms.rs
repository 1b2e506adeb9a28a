//! The numbers of VMs that one process runs one after the other.

use super::{KvmGuest, remembered::Remembered};
use crate::kept::kept;

/// By start and id of a process: the number of its next VM. Only of those of which a VM is known to have
/// ended while the process lived on.
#[derive(Debug, Default)]
pub(super) struct NextVms(Remembered<(u64, u32), u32>);

kept! { NextVms(next) }

impl NextVms {
    /// The number that the next VM of a process has at least.
    pub(super) fn of(&self, pid: u32, start_boottime_ns: u64) -> u32 {
        self.0.get(&(start_boottime_ns, pid)).copied().unwrap_or(0)
    }

    /// A VM has ended.
    pub(super) fn retire(&mut self, vm: KvmGuest) {
        let next = self.of(vm.pid, vm.start_boottime_ns).max(vm.nth.saturating_add(1));
        self.0.set((vm.start_boottime_ns, vm.pid), next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_fall() {
        let vm = |nth| KvmGuest { pid: 3, start_boottime_ns: 9, nth };
        let mut next = NextVms::default();
        assert_eq!(next.of(3, 9), 0);
        next.retire(vm(6));
        next.retire(vm(2));
        assert_eq!((next.of(3, 9), next.of(3, 8)), (7, 0));
    }
}
