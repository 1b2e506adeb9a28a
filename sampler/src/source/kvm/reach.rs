//! Which threads a pass is to visit: all of the host's, or those of the processes that matter to it.

use std::{collections::BTreeSet, time::Duration};

use sampler_ebpf::abi::HelperRecord;

use crate::collect::Reach;

/// What one process costs a pass beside its threads, in threads: an iterator is made and given back for it.
/// `cargo xtask bench walk` prints it: 5 to 8 in five runs on Linux 6.18, where a process took 2.4 to 4.1 us
/// and a thread 0.29 to 0.74 us, with as cold caches as a snapshot finds.
const PROCESS: u64 = 8;

/// Longest time between two walks over the whole host.
const HOST_EVERY: Duration = Duration::from_secs(10);

/// When the whole host was walked, by `CLOCK_BOOTTIME` in ns, and when it is to be walked again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HostWalks {
    last: Option<HostWalk>,
    interval_ns: u64,
    always: bool,
}

#[derive(Clone, Copy, Debug)]
struct HostWalk {
    began_ns: u64,
    ended_ns: u64,
}

impl HostWalks {
    /// Says how long the time between walks will be.
    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
    }

    /// Lets each walk visit the whole host, or only those that have to.
    pub(super) const fn set_always(&mut self, always: bool) {
        self.always = always;
    }

    pub(super) const fn are_all(&self) -> bool {
        self.always
    }

    pub(super) const fn done(&mut self, began_ns: u64, ended_ns: u64) {
        self.last = Some(HostWalk { began_ns, ended_ns });
    }

    /// Whether the walk that begins now is to visit the whole host, of which the newest VM was first seen at
    /// `newest_vm_ns`. A walk after the next one would be too late; and kernel threads that work for a new VM
    /// are found by such a walk alone.
    pub(super) fn is_due(&self, now_ns: u64, newest_vm_ns: Option<u64>) -> bool {
        let Some(last) = self.last else { return true };
        let next_ns = now_ns.saturating_add(self.interval_ns);
        let is_late = next_ns.saturating_sub(last.began_ns) > HOST_EVERY.as_nanos() as u64;
        self.always || is_late || newest_vm_ns.is_some_and(|seen| seen >= last.ended_ns)
    }
}

/// The cheaper way to visit these processes, which have so many threads.
pub(super) fn cheaper(processes: BTreeSet<u32>, threads: u64, host_threads: u64) -> Reach {
    let cost = (processes.len() as u64).saturating_mul(PROCESS).saturating_add(threads);
    if cost < host_threads { Reach::Processes(processes) } else { Reach::Host }
}

/// The processes in which something was not read: vCPU threads, of which `unread` has the processes, or
/// helpers.
pub(super) fn with_unread(unread: impl Iterator<Item = u32>, helpers: &[HelperRecord]) -> BTreeSet<u32> {
    let torn = helpers.iter().filter(|helper| helper.read == 0).map(|helper| helper.tgid);
    unread.chain(torn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn walked_at(began_ns: u64, ended_ns: u64) -> HostWalks {
        let mut walks = HostWalks::default();
        walks.set_interval(Duration::from_secs(1));
        walks.done(began_ns, ended_ns);
        walks
    }

    #[test]
    fn the_whole_host_is_walked_first_and_within_the_longest_time() {
        assert!(HostWalks::default().is_due(0, None), "nothing is known yet");
        let walks = walked_at(SECOND, SECOND + 5);
        assert!(!walks.is_due(2 * SECOND, None));
        assert!(!walks.is_due(10 * SECOND, None), "the next one is ten seconds after it");
        assert!(walks.is_due(10 * SECOND + 1, None), "the next one would be later");
        let mut seldom = walks;
        seldom.set_interval(Duration::from_secs(30));
        assert!(seldom.is_due(2 * SECOND, None), "each");
        let mut always = walks;
        always.set_always(true);
        assert!(always.is_due(2 * SECOND, None));
    }

    #[test]
    fn a_new_vm_lets_the_whole_host_be_walked_once() {
        let mut walks = walked_at(100, 200);
        assert!(!walks.is_due(300, Some(150)), "it was seen while that walk went on");
        assert!(walks.is_due(300, Some(250)));
        walks.done(300, 400);
        assert!(!walks.is_due(500, Some(250)));
    }

    #[test]
    fn the_host_is_visited_where_most_threads_are_of_vms() {
        let processes = || BTreeSet::from([3, 9]);
        assert_eq!(cheaper(processes(), 20, 20 + 2 * PROCESS + 1), Reach::Processes(processes()));
        assert_eq!(cheaper(processes(), 20, 20 + 2 * PROCESS), Reach::Host);
        assert_eq!(cheaper(BTreeSet::new(), 0, 100), Reach::Processes(BTreeSet::new()), "no guests");
    }

    #[test]
    fn only_processes_are_visited_again_in_which_something_was_not_read() {
        let helper = |tid, tgid, read| HelperRecord { tid, tgid, read, ..HelperRecord::default() };
        let helpers = [helper(10, 10, 1), helper(21, 20, 0), helper(50, 50, 0), helper(22, 20, 1)];
        assert_eq!(with_unread([30, 30, 31].into_iter(), &helpers), BTreeSet::from([20, 30, 31, 50]));
        assert_eq!(with_unread(std::iter::empty(), &helpers[..1]), BTreeSet::new());
    }
}
