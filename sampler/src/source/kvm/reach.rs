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

/// Longest time between two looks at the descriptors of VMMs: within it is found that a VM has ended whose
/// threads live on.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The same of the whole host: within it guests are found that were never run. A host has more descriptors
/// than threads.
const LOOK_AT_HOST_EVERY: Duration = Duration::from_secs(60);

/// Shortest time between two looks at VMMs, where there is a reason to look early.
const LOOK_APART: Duration = Duration::from_secs(1);

/// When the whole host was walked, by `CLOCK_BOOTTIME` in ns, and when it is to be walked again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HostWalks {
    last: Option<HostWalk>,
    interval_ns: u64,
    always: bool,
    alone: bool,
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

    /// Says that nobody but walks finds new VMs, so that the first pass of each is to visit the whole host.
    pub(super) const fn set_alone(&mut self, alone: bool) {
        self.alone = alone;
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
        self.always || self.alone || is_late || newest_vm_ns.is_some_and(|seen| seen >= last.ended_ns)
    }
}

/// When the descriptors of vCPUs were looked at, by `CLOCK_BOOTTIME` in ns, and whose are to be looked at
/// next.
#[derive(Clone, Debug, Default)]
pub(super) struct Looks {
    any_ns: Option<u64>,
    host_ns: Option<u64>,
    wanted: BTreeSet<u32>,
    is_host_wanted: bool,
}

impl Looks {
    /// Lets these processes be looked at soon.
    pub(super) fn want(&mut self, processes: BTreeSet<u32>) {
        self.wanted.extend(processes);
    }

    /// Lets the whole host be looked at soon.
    pub(super) const fn want_host(&mut self) {
        self.is_host_wanted = true;
    }

    /// Whose descriptors are to be looked at now; `None` where it is not time yet. `vmms` are the processes
    /// that are known to have vCPUs, where the kernel visits single processes.
    pub(super) fn due(&self, now_ns: u64, vmms: Option<BTreeSet<u32>>) -> Option<Reach> {
        let is_past = |last: Option<u64>, every: Duration| {
            last.is_none_or(|last| now_ns.saturating_sub(last) >= every.as_nanos() as u64)
        };
        let every = if self.is_host_wanted { LOOK_EVERY } else { LOOK_AT_HOST_EVERY };
        if is_past(self.host_ns, every) {
            return Some(Reach::Host);
        }
        let vmms = vmms?;
        let visited = if is_past(self.any_ns, LOOK_EVERY) {
            vmms
        } else if is_past(self.any_ns, LOOK_APART) {
            vmms.intersection(&self.wanted).copied().collect()
        } else {
            BTreeSet::new()
        };
        (!visited.is_empty()).then_some(Reach::Processes(visited))
    }

    pub(super) fn done(&mut self, reach: &Reach, began_ns: u64) {
        self.any_ns = Some(began_ns);
        self.wanted.clear();
        if *reach == Reach::Host {
            self.host_ns = Some(began_ns);
            self.is_host_wanted = false;
        }
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
        let mut alone = walks;
        alone.set_alone(true);
        assert!(alone.is_due(2 * SECOND, None) && !alone.are_all(), "but its further passes are not");
    }

    #[test]
    fn descriptors_are_looked_at_now_and_then() {
        let mut looks = Looks::default();
        let vmms = || Some(BTreeSet::from([7]));
        assert_eq!(looks.due(0, vmms()), Some(Reach::Host), "nothing is known yet");
        looks.done(&Reach::Host, SECOND);
        assert_eq!(looks.due(10 * SECOND, vmms()), None);
        assert_eq!(looks.due(11 * SECOND, vmms()), vmms().map(Reach::Processes));
        assert_eq!(looks.due(11 * SECOND, Some(BTreeSet::new())), None, "no guests");
        assert_eq!(looks.due(11 * SECOND, None), None, "this kernel visits the whole host alone");
        assert_eq!(looks.due(61 * SECOND, None), Some(Reach::Host));
        let both = || Some(BTreeSet::from([7, 8]));
        looks.want(BTreeSet::from([7, 9]));
        assert_eq!(looks.due(SECOND + 1, both()), None, "not again at once");
        assert_eq!(looks.due(2 * SECOND, both()), vmms().map(Reach::Processes), "9 is no VMM any more");
        looks.done(&Reach::Processes(BTreeSet::from([7])), 2 * SECOND);
        assert_eq!(looks.due(4 * SECOND, both()), None);
        looks.want_host();
        assert_eq!(looks.due(4 * SECOND, both()), None, "the host is not looked at as often");
        assert_eq!(looks.due(11 * SECOND, both()), Some(Reach::Host));
        looks.done(&Reach::Host, 11 * SECOND);
        assert_eq!(looks.due(70 * SECOND, None), None);
        assert_eq!(looks.due(71 * SECOND, vmms()), Some(Reach::Host));
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
