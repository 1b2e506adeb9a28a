//! The numbers of VMs that one process runs one after the other.

use std::collections::BTreeMap;

use super::KvmGuest;

/// Processes that are remembered.
const REMEMBERED: usize = 4096;

/// By start and id of a process: the number of its next VM, and when that was set. Only of those of which a
/// VM is known to have ended while the process lived on.
#[derive(Debug, Default)]
pub(super) struct NextVms {
    next: BTreeMap<(u64, u32), (u32, u64)>,
    changes: u64,
}

impl NextVms {
    /// The number that the next VM of a process has at least.
    pub(super) fn of(&self, pid: u32, start_boottime_ns: u64) -> u32 {
        self.next.get(&(start_boottime_ns, pid)).map_or(0, |(next, _)| *next)
    }

    /// A VM has ended. Of too many processes the one is forgotten whose VMs have not ended for longest.
    pub(super) fn retire(&mut self, vm: KvmGuest) {
        self.changes += 1;
        let (next, change) = self.next.entry((vm.start_boottime_ns, vm.pid)).or_default();
        *next = (*next).max(vm.nth.saturating_add(1));
        *change = self.changes;
        if self.next.len() > REMEMBERED
            && let Some(oldest) = self.next.iter().min_by_key(|(_, (_, change))| *change).map(|(key, _)| *key)
        {
            self.next.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_many_processes_are_remembered() {
        let vm = |pid, nth| KvmGuest { pid, start_boottime_ns: u64::from(pid), nth };
        let mut next = NextVms::default();
        next.retire(vm(1, 0));
        for pid in 2..REMEMBERED as u32 + 2 {
            next.retire(vm(pid, 6));
            next.retire(vm(1, pid));
        }
        assert_eq!(next.next.len(), REMEMBERED);
        assert_eq!(next.of(1, 1), REMEMBERED as u32 + 2, "the oldest one, whose VMs end still");
        assert_eq!((next.of(2, 2), next.of(3, 3)), (0, 7), "the one that was idle for longest is forgotten");
        next.retire(vm(3, 2));
        assert_eq!(next.of(3, 3), 7, "numbers do not fall");
    }
}
