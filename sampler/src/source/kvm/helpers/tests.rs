use super::*;
use crate::model::HelperSum;

const PID: u32 = 10;
/// When the VM's process was created, the VM was seen, and the first walk began.
const START: u64 = 1_000;
const SEEN: u64 = 2_000;
const WALK: u64 = 3_000;

fn key(pid: u32, nth: u32) -> KvmGuest {
    KvmGuest { pid, start_boottime_ns: START, nth }
}

fn name(text: &[u8]) -> [u8; 16] {
    std::array::from_fn(|at| text.get(at).copied().unwrap_or(0))
}

/// A thread of the VMM that has run and waited for so long.
fn thread(tid: u32, comm: &[u8], start: u64, [run_ns, run_delay_ns]: [u64; 2]) -> HelperRecord {
    HelperRecord {
        generation: 1,
        start_boottime_ns: start,
        leader_start_boottime_ns: START,
        run_ns,
        run_delay_ns,
        tid,
        tgid: PID,
        read: 1,
        comm: name(comm),
        ..HelperRecord::default()
    }
}

fn kernel_thread(tid: u32, comm: &[u8], start: u64) -> HelperRecord {
    HelperRecord {
        tgid: tid,
        leader_start_boottime_ns: start,
        kernel: 1,
        ..thread(tid, comm, start, [100, 0])
    }
}

/// Takes walks in, a thousand nanoseconds apart.
struct Walks {
    sums: HelperSums,
    vms: Vec<KvmGuest>,
    next: u64,
}

impl Walks {
    fn of(vms: &[KvmGuest]) -> Self {
        Self { sums: HelperSums::default(), vms: vms.to_vec(), next: WALK }
    }

    /// Over the whole host.
    fn walk(&mut self, records: &[HelperRecord]) -> u64 {
        self.take(records, Some(self.next))
    }

    /// Over VMMs and known workers.
    fn walk_by_process(&mut self, records: &[HelperRecord]) {
        self.take(records, None);
    }

    fn take(&mut self, records: &[HelperRecord], host_began_boottime_ns: Option<u64>) -> u64 {
        let vms = self.vms.iter().map(|key| HelpedVm { key: *key, seen_boottime_ns: SEEN });
        let walked = Walked { records, began_boottime_ns: self.next, host_began_boottime_ns };
        self.next += 1_000;
        self.sums.add_up(walked, vms, |tid| (tid == 15).then_some(PID))
    }

    /// Threads, cumulative run time and run delay.
    fn get(&self, vm: KvmGuest, kind: HelperKind) -> Option<(u32, [u64; 2])> {
        let HelperSum { threads, total } = *self.sums.of(vm).get(kind)?;
        Some((threads, [total.run_ns, total.run_delay_ns]))
    }

    fn emulator(&self) -> Option<(u32, [u64; 2])> {
        self.get(key(PID, 0), HelperKind::Emulator)
    }
}

#[test]
fn differences_are_added_from_when_a_thread_was_first_seen() {
    let mut walks = Walks::of(&[key(PID, 0)]);
    walks.walk(&[thread(PID, b"vmm", START, [500, 50])]);
    assert_eq!(walks.emulator(), Some((1, [0, 0])), "what it did before is nobody's");
    walks.walk(&[thread(PID, b"vmm", START, [700, 80])]);
    assert_eq!(walks.emulator(), Some((1, [200, 30])));
    let goes_on = HelperRecord { running_ns: 40, waiting_ns: 5, ..thread(PID, b"vmm", START, [700, 80]) };
    walks.walk(&[goes_on]);
    assert_eq!(walks.emulator(), Some((1, [240, 35])), "what goes on counts now");
    walks.walk(&[thread(PID, b"vmm", START, [750, 85])]);
    assert_eq!(walks.emulator(), Some((1, [250, 35])), "and not twice");
}

#[test]
fn of_a_thread_that_is_younger_than_the_interval_all_counts() {
    let mut walks = Walks::of(&[key(PID, 0)]);
    let leader = thread(PID, b"vmm", START, [500, 50]);
    walks.walk(&[leader, thread(11, b"worker", SEEN, [30, 3])]);
    assert_eq!(walks.emulator(), Some((2, [30, 3])), "the VM was seen before it was created");
    walks.walk(&[leader, thread(12, b"worker", WALK, [60, 6]), thread(13, b"worker", WALK - 1, [9, 9])]);
    assert_eq!(walks.emulator(), Some((3, [90, 9])), "one of both could have been found before");
}

#[test]
fn an_end_loses_nothing_that_was_read() {
    let mut walks = Walks::of(&[key(PID, 0)]);
    let leader = thread(PID, b"vmm", START, [0, 0]);
    walks.walk(&[leader, thread(11, b"IO a", START, [10, 1])]);
    walks.walk(&[leader, thread(11, b"IO a", START, [90, 5])]);
    let expected = Some((0, [80, 4]));
    for _ in 0..5 {
        walks.walk(&[leader]);
        assert_eq!(walks.get(key(PID, 0), HelperKind::IoThread), expected, "the series goes on");
    }
    assert_eq!(walks.sums.threads.len(), 1, "it is forgotten");
    walks.walk(&[leader, thread(11, b"IO a", walks.next - 500, [7, 0])]);
    assert_eq!(walks.get(key(PID, 0), HelperKind::IoThread), Some((1, [87, 4])), "its id again");
}

#[test]
fn one_that_a_walk_misses_or_cannot_read_goes_on() {
    let mut walks = Walks::of(&[key(PID, 0)]);
    walks.walk(&[thread(PID, b"vmm", START, [100, 0])]);
    walks.walk(&[]);
    assert_eq!(walks.emulator(), Some((0, [0, 0])));
    walks.walk(&[thread(PID, b"vmm", START, [150, 0])]);
    assert_eq!(walks.emulator(), Some((1, [50, 0])));
    let torn = |tid, start| HelperRecord { read: 0, ..thread(tid, b"vmm", start, [1, 1]) };
    let young = walks.next - 1_000;
    walks.walk(&[torn(PID, START), torn(11, young), torn(12, START)]);
    assert_eq!(walks.emulator(), Some((3, [50, 0])), "they are there");
    let read = |tid, start| thread(tid, b"vmm", start, [200, 0]);
    walks.walk(&[read(PID, START), read(11, young), read(12, START)]);
    assert_eq!(walks.emulator(), Some((3, [300, 0])), "50, 200 of the young one, and nothing");
}

#[test]
fn a_time_that_falls_is_held_and_counted() {
    let mut walks = Walks::of(&[key(PID, 0)]);
    let ran = |ns| thread(PID, b"vmm", START, [ns, 0]);
    assert_eq!(walks.walk(&[ran(100_000)]), 0);
    assert_eq!(walks.walk(&[ran(99_000)]), 0, "an estimate");
    assert_eq!(walks.walk(&[ran(10_000)]), 1);
    walks.walk(&[ran(100_400)]);
    assert_eq!(walks.emulator().unwrap().1, [400, 0]);
}

#[test]
fn kinds_by_name() {
    let kind = |tid, comm: &[u8]| kind_of(&thread(tid, comm, START, [0, 0]));
    let names: [(&[u8], HelperKind); 9] = [
        (b"IO iothread0", HelperKind::IoThread),
        (b"IO mon_iothread", HelperKind::IoThread),
        (b"iou-wrk-77", HelperKind::IoThread),
        (b"_disk0_q1", HelperKind::IoThread),
        (b"v_block", HelperKind::IoThread),
        (b"vhost-10", HelperKind::Vhost),
        (b"worker", HelperKind::Emulator),
        (b"IOthread", HelperKind::Emulator),
        (b"", HelperKind::Emulator),
    ];
    for (comm, expected) in names {
        assert_eq!(kind(11, comm), expected, "{comm:?}");
        assert_eq!(kind(PID, comm), HelperKind::Emulator, "the first thread, whatever it is called");
    }
    assert_eq!(kind_of(&kernel_thread(50, b"vhost-10", SEEN)), HelperKind::Vhost);
}

#[test]
fn names_are_believed_of_kernel_threads_alone() {
    let vhost = |walks: &Walks| walks.get(key(PID, 0), HelperKind::Vhost).map(|(threads, ..)| threads);
    let believed: [&[u8]; 3] = [b"vhost-10", b"vhost-11", b"vhost-15"];
    for comm in believed {
        let mut walks = Walks::of(&[key(PID, 0)]);
        walks.walk(&[thread(11, b"worker", START, [0, 0]), kernel_thread(50, comm, SEEN)]);
        assert_eq!(vhost(&walks), Some(1), "the process, a helper, a vCPU: {comm:?}");
    }
    let hostile: [&[u8]; 7] = [
        b"vhost-",
        b"vhost-x",
        b"vhost--10",
        b"vhost-10x",
        b"vhost-99",
        b"vhost-99999999",
        b"vhost-\xff\xfe",
    ];
    for comm in hostile {
        let mut walks = Walks::of(&[key(PID, 0)]);
        walks.walk(&[kernel_thread(50, comm, SEEN)]);
        assert_eq!(walks.sums.of(key(PID, 0)), Helpers::default(), "{comm:?}");
    }
    let mut walks = Walks::of(&[key(PID, 0), key(20, 0)]);
    let other = HelperRecord { tgid: 20, ..thread(21, b"vhost-10", START, [0, 0]) };
    walks.walk(&[other, kernel_thread(50, b"vhost-10", START - 1)]);
    assert_eq!(vhost(&walks), None, "nor are those of another process, or older than the VMM");
    assert_eq!(walks.get(key(20, 0), HelperKind::Vhost).unwrap().0, 1, "who deceives about itself alone");
}

#[test]
fn a_process_id_that_is_used_again_is_nobody_s() {
    let mut walks = Walks::of(&[key(PID, 0)]);
    walks.walk(&[HelperRecord { leader_start_boottime_ns: START + 1, ..thread(PID, b"sh", SEEN, [9, 9]) }]);
    assert_eq!(walks.emulator(), None);
}

#[test]
fn of_several_vms_in_a_process_the_first_has_the_helpers() {
    let mut walks = Walks::of(&[key(PID, 0), key(PID, 1)]);
    let ran = |ns| thread(PID, b"vmm", START, [ns, 0]);
    walks.walk(&[ran(10)]);
    walks.walk(&[ran(30)]);
    assert_eq!(walks.emulator(), Some((1, [20, 0])));
    assert_eq!(walks.sums.of(key(PID, 1)), Helpers::default());
    walks.vms.remove(0);
    walks.walk(&[ran(35)]);
    assert_eq!(walks.get(key(PID, 1), HelperKind::Emulator), Some((1, [5, 0])), "and then the next");
    assert!(!walks.sums.vms.contains_key(&key(PID, 0)));
}

#[test]
fn a_vm_that_is_seen_anew_begins_anew() {
    let mut walks = Walks::of(&[key(PID, 0)]);
    let ran = |ns| thread(PID, b"vmm", START, [ns, 0]);
    walks.walk(&[ran(10)]);
    walks.vms.clear();
    walks.walk(&[]);
    walks.vms.push(key(PID, 0));
    walks.walk(&[ran(90)]);
    assert_eq!(walks.emulator(), Some((1, [0, 0])));
    walks.walk(&[ran(91)]);
    assert_eq!(walks.emulator(), Some((1, [1, 0])));
}

#[test]
fn processes_are_marked_once() {
    let mut sums = HelperSums::default();
    assert_eq!(sums.mark([key(10, 0), key(10, 1), key(20, 0)].into_iter()), [(10, true), (20, true)]);
    assert_eq!(sums.mark([key(10, 1), key(20, 0)].into_iter()), []);
    assert_eq!(sums.mark([key(30, 0), key(20, 0)].into_iter()), [(10, false), (30, true)]);
}

#[test]
fn a_worker_that_only_a_walk_over_the_host_finds_counts_from_its_creation() {
    let mut walks = Walks::of(&[key(PID, 0)]);
    let leader = thread(PID, b"vmm", START, [0, 0]);
    let vhost = |walks: &Walks| walks.get(key(PID, 0), HelperKind::Vhost);
    walks.walk(&[leader]);
    let young = walks.next - 500;
    for _ in 0..3 {
        walks.walk_by_process(&[leader]);
    }
    assert_eq!(vhost(&walks), None);
    let worker = kernel_thread(50, b"vhost-10", young);
    walks.walk(&[leader, worker]);
    assert_eq!(vhost(&walks), Some((1, [100, 0])), "though walks began since it was created");
    assert_eq!(walks.sums.workers().collect::<Vec<_>>(), [50], "the next walks visit it");
    walks.walk_by_process(&[leader, worker]);
    assert_eq!(vhost(&walks), Some((1, [100, 0])));
    let old = kernel_thread(51, b"vhost-10", young);
    walks.walk(&[leader, worker, old]);
    assert_eq!(vhost(&walks), Some((2, [100, 0])), "a walk over the host might have found it");
    walks.walk_by_process(&[leader]);
    assert_eq!(walks.sums.workers().count(), 0);
}
