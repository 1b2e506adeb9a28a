use super::*;
use crate::source::kvm::slots::Slots as AnySlots;

type Slots = AnySlots<Heard, ()>;

/// What was reported to an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Heard {
    /// Thread by which it was opened; 0 where a look found the vCPU.
    opened: u32,
    /// Threads that took it over, and what the kernel had counted of them by then.
    taken: Vec<(u32, Option<u64>)>,
}

impl Open for Heard {
    fn open(event: &Event) -> Self {
        Self { opened: event.tid, taken: Vec::new() }
    }
}

impl Lasting<()> for Heard {
    type Left = u64;

    fn leave(&mut self, (): &mut (), left: Option<u64>) -> Option<Counters> {
        left.map(|left| [left; _])
    }

    fn take_over(&mut self, event: &Event, began: Option<Counters>) {
        self.taken.push((event.tid, began.map(|began| began[0])));
    }
}

fn heard(slots: &Slots, vcpu: u64) -> Heard {
    let thread = slots.threads().find(|thread| thread.vcpu == vcpu).map(|thread| &thread.account);
    let idle = || slots.idle().find(|idle| idle.vcpu == vcpu).map(|idle| &idle.account);
    thread.or_else(idle).unwrap().clone()
}

const LATER: u64 = 1_000;

/// vCPU `index` of VM `kvm` in process `tgid`, at address `vcpu`, found running by thread `tid`.
fn seen(tgid: u32, tid: u32, kvm: u64, index: u32, vcpu: u64) -> Event {
    let task = u64::from(tid) << 12;
    Event { tgid, tid, task, start_boottime_ns: 5, kvm, vcpu_id: index, vcpu, ..Event::default() }
}

/// The same by its descriptor.
fn file(tgid: u32, kvm: u64, vcpu_id: u32, vcpu: u64) -> VcpuFile {
    VcpuFile { tgid, kvm, vcpu_id, vcpu, ..VcpuFile::default() }
}

fn host(files: &[VcpuFile]) -> Listed {
    Listed { files: files.to_vec(), reach: Reach::Host, is_complete: true }
}

fn processes(files: &[VcpuFile], pids: &[u32]) -> Listed {
    Listed { reach: Reach::Processes(pids.iter().copied().collect()), ..host(files) }
}

fn idle(slots: &Slots) -> Vec<(u32, u32, u32)> {
    slots.idle().map(|idle| (idle.vm.pid, idle.vm.nth, idle.index)).collect()
}

fn followed(slots: &Slots) -> Vec<(u32, u32, u32)> {
    slots.threads().map(|thread| (thread.id.tid, thread.vm.nth, thread.index)).collect()
}

#[test]
fn a_vcpu_that_was_never_run_is_known_until_its_descriptor_is_closed() {
    let mut slots = Slots::new(8);
    slots.listed(&host(&[file(10, 1, 0, 100), file(10, 1, 1, 101), file(10, 1, 0, 100)]), 0);
    assert_eq!(idle(&slots), [(10, 0, 0), (10, 0, 1)], "a descriptor that is there twice is one vCPU");
    assert_eq!(slots.take_unidentified().len(), 1, "its VM is to be named");
    slots.listed(&processes(&[], &[99]), LATER);
    assert_eq!(idle(&slots).len(), 2, "nobody looked at its process");
    slots.listed(&Listed { is_complete: false, ..host(&[]) }, LATER);
    assert_eq!(idle(&slots).len(), 2, "there was no room for all");
    slots.listed(&processes(&[], &[10]), LATER);
    let ended = slots.take_ended_idle();
    assert_eq!(ended.iter().map(|ended| ended.vm_gone).collect::<Vec<_>>(), [false, true]);
    assert_eq!(slots.vms().count(), 0);
}

#[test]
fn a_vcpu_that_begins_to_run_is_its_thread_s() {
    let mut slots = Slots::new(8);
    slots.listed(&host(&[file(10, 1, 0, 100), file(10, 1, 1, 101)]), 0);
    slots.seen(&seen(10, 11, 1, 0, 100), |_| None);
    assert_eq!((idle(&slots), followed(&slots)), (vec![(10, 0, 1)], vec![(11, 0, 0)]));
    assert!(slots.take_ended_idle().is_empty(), "its series goes on");
    let runs = VcpuFile { has_run: 1, runner: 11, ..file(10, 1, 0, 100) };
    slots.listed(&host(&[runs, file(10, 1, 1, 101)]), LATER);
    assert_eq!((idle(&slots).len(), followed(&slots).len()), (1, 1));
    slots.gone(&seen(10, 11, 1, 0, 100), |_, _| None);
    assert!(!slots.take_departed()[0].vm_gone, "the other vCPU is there still");
    let ran = VcpuFile { has_run: 1, runner: 0, ..file(10, 1, 0, 100) };
    slots.listed(&host(&[ran, file(10, 1, 1, 101)]), LATER);
    assert_eq!(idle(&slots), [(10, 0, 1)], "a vCPU whose thread has ended was unplugged");
    assert!(slots.slots_add_up());
}

#[test]
fn a_vm_that_ends_while_its_thread_lives_on_is_over_and_the_next_is_another() {
    let mut slots = Slots::new(8);
    slots.seen(&seen(10, 11, 1, 0, 100), |_| None);
    slots.listed(&host(&[]), 0);
    assert_eq!(followed(&slots).len(), 1, "it was seen after the look had begun");
    assert_eq!(slots.listed(&processes(&[], &[10]), LATER), BTreeSet::from([10]), "the host is to be asked");
    assert_eq!(followed(&slots).len(), 1, "by process the kernel may leave some out");
    slots.listed(&host(&[]), LATER);
    let departed = slots.take_departed();
    assert!(departed[0].vm_gone && followed(&slots).is_empty());
    slots.seen(&seen(10, 11, 1, 0, 100), |_| None);
    assert_eq!(followed(&slots), [(11, 1, 0)], "also where it has the memory of the one before");
    let account = Heard { opened: 11, taken: vec![(11, None)] };
    assert_eq!(heard(&slots, 100), account, "what it did for the other is not of this one");
    assert!(slots.slots_add_up());
}

#[test]
fn of_two_vcpus_that_a_thread_runs_in_turn_the_other_one_sleeps() {
    let mut slots = Slots::new(8);
    slots.listed(&host(&[file(10, 1, 1, 101)]), 0);
    slots.seen(&seen(10, 11, 1, 0, 100), |_| None);
    assert_eq!(heard(&slots, 100), Heard { opened: 11, taken: vec![] }, "all of it is of this vCPU");
    slots.seen(&seen(10, 11, 1, 1, 101), |_| Some(7));
    assert_eq!((idle(&slots), followed(&slots)), (vec![(10, 0, 0)], vec![(11, 0, 1)]));
    let other = Heard { opened: 11, taken: vec![(11, Some(7))] };
    assert_eq!(heard(&slots, 101), other, "it begins where the first one's part ends");
    slots.seen(&seen(10, 11, 1, 0, 100), |_| Some(9));
    let account = Heard { opened: 11, taken: vec![(11, Some(9))] };
    assert_eq!((heard(&slots, 100), heard(&slots, 101)), (account, other), "both go on");
    assert_eq!((idle(&slots), followed(&slots)), (vec![(10, 0, 1)], vec![(11, 0, 0)]));
    assert!(!slots.threads().next().unwrap().is_first, "it was run before");
    assert!(slots.take_departed().is_empty(), "nobody has ended");
    assert_eq!((slots.threads_turned(), slots.slots_used()), (2, 1));
    assert_eq!(slots.take_turned(), BTreeSet::from([10]));
    let runs = |index, vcpu| VcpuFile { has_run: 1, runner: 11, ..file(10, 1, index, vcpu) };
    slots.listed(&host(&[runs(0, 100), runs(1, 101)]), LATER);
    assert_eq!(idle(&slots), [(10, 0, 1)]);
    slots.gone(&seen(10, 11, 1, 0, 100), |_, _| None);
    let ran = |index, vcpu| VcpuFile { has_run: 1, runner: 0, ..file(10, 1, index, vcpu) };
    slots.listed(&host(&[ran(0, 100), ran(1, 101)]), LATER);
    assert!(idle(&slots).is_empty() && slots.vms().count() == 0, "nobody is left who could run it");
    assert!(slots.slots_add_up());
}

#[test]
fn where_nobody_lists_vcpus_one_that_its_thread_left_has_ended() {
    let mut slots = Slots::new(8);
    slots.seen(&seen(10, 11, 1, 0, 100), |_| None);
    slots.seen(&seen(10, 11, 2, 0, 200), |_| None);
    assert_eq!((idle(&slots), followed(&slots)), (vec![], vec![(11, 1, 0)]));
    assert!(slots.take_departed()[0].vm_gone);
}

#[test]
fn a_vcpu_that_two_threads_run_in_turn_is_one_stream() {
    let mut slots = Slots::new(8);
    slots.seen(&seen(10, 11, 1, 0, 100), |_| None);
    for (turn, tid) in [(1, 12), (2, 11), (3, 12)] {
        slots.seen(&seen(10, tid, 1, 0, 100), |thread| Some(u64::from(thread.id.tid)));
        assert_eq!(followed(&slots), [(tid, 0, 0)]);
        assert_eq!(slots.threads_replaced(), turn);
    }
    let taken = vec![(12, None), (11, Some(11)), (12, Some(12))];
    assert_eq!(
        heard(&slots, 100),
        Heard { opened: 11, taken },
        "what one did since its turn is of this vCPU"
    );
    assert!(slots.take_departed().is_empty() && slots.take_ended_idle().is_empty(), "nobody has ended");
    slots.seen(&seen(10, 11, 2, 0, 200), |_| None);
    assert_eq!(heard(&slots, 200).taken, [(11, None)], "it has run another before");
    let returns = |tid| slots.may_return(ThreadId { tid, start_boottime_ns: 5 });
    assert!(!returns(12) && !returns(99), "it is followed, and nobody knows that one");
    slots.seen(&seen(10, 13, 1, 0, 100), |_| None);
    assert!(slots.may_return(ThreadId { tid: 12, start_boottime_ns: 5 }), "its vCPU lives");
    assert!(slots.slots_add_up());
}

#[test]
fn a_look_that_took_long_ends_no_vm_that_came_meanwhile() {
    let mut slots = Slots::new(8);
    slots.seen(&Event { at_boottime_ns: 9, ..seen(10, 11, 1, 0, 200) }, |_| None);
    let found = |at_boottime_ns| VcpuFile { at_boottime_ns, ..file(10, 1, 0, 100) };
    slots.listed(&host(&[found(5)]), 4);
    assert_eq!((followed(&slots), idle(&slots)), (vec![(11, 0, 0)], vec![]));
    slots.listed(&host(&[found(12)]), 11);
    assert_eq!((followed(&slots), idle(&slots)), (vec![], vec![(10, 1, 0)]), "it was found later");
}

#[test]
fn a_vcpu_that_is_plugged_again_has_run_before() {
    let mut slots = Slots::new(8);
    slots.seen(&seen(10, 11, 1, 0, 100), |_| None);
    slots.seen(&seen(10, 12, 1, 1, 101), |_| None);
    assert!(slots.threads().all(|thread| thread.is_first));
    slots.gone(&seen(10, 11, 1, 0, 100), |_, _| None);
    slots.seen(&seen(10, 13, 1, 0, 100), |_| None);
    assert!(slots.threads().all(|thread| thread.is_first == (thread.id.tid == 12)));
}

#[test]
fn a_vcpu_that_was_found_before_it_ran_has_run_once_a_look_says_so() {
    let mut slots = Slots::new(8);
    slots.seen(&seen(10, 11, 1, 1, 101), |_| None);
    slots.listed(&host(&[file(10, 1, 0, 100)]), 0);
    assert!(slots.idle().all(|idle| !idle.has_run));
    slots.listed(&host(&[VcpuFile { has_run: 1, runner: 11, ..file(10, 1, 0, 100) }]), 0);
    assert!(slots.idle().all(|idle| idle.has_run));
}

#[test]
fn a_vcpu_that_is_no_longer_its_thread_s_rests_until_another_runs_it() {
    let mut slots = Slots::new(8);
    slots.listed(&host(&[]), 0);
    slots.seen(&seen(10, 11, 1, 0, 100), |_| None);
    slots.estranged(11, 5, |_| Some(7));
    assert_eq!((idle(&slots), followed(&slots)), (vec![(10, 0, 0)], vec![]));
    assert_eq!(slots.take_turned(), BTreeSet::from([10]), "its descriptor is looked for soon");
    slots.seen(&seen(10, 12, 1, 0, 100), |_| None);
    assert_eq!(heard(&slots, 100), Heard { opened: 11, taken: vec![(12, None)] });
    slots.estranged(12, 5, |_| None);
    slots.listed(&host(&[]), LATER);
    assert!(slots.take_departed().is_empty() && slots.take_ended_idle()[0].vm_gone);
    assert!(slots.slots_add_up());
}

#[test]
fn the_first_thread_of_a_vcpu_that_was_found_has_an_account_of_its_own() {
    let mut slots = Slots::new(8);
    let ran = VcpuFile { has_run: 1, runner: 11, ..file(10, 1, 1, 101) };
    slots.seen(&seen(10, 11, 1, 7, 107), |_| None);
    slots.listed(&host(&[file(10, 1, 0, 100), ran]), 0);
    slots.seen(&seen(10, 12, 1, 0, 100), |_| None);
    assert_eq!(heard(&slots, 100), Heard { opened: 12, taken: vec![] });
    slots.seen(&seen(10, 13, 1, 1, 101), |_| None);
    assert_eq!(heard(&slots, 101), Heard { opened: 0, taken: vec![(13, None)] }, "it has run before");
}

#[test]
fn the_next_vm_of_a_thread_is_another_stream() {
    let mut slots = Slots::new(8);
    slots.listed(&host(&[]), 0);
    slots.seen(&seen(10, 11, 1, 0, 100), |_| None);
    slots.seen(&seen(10, 11, 2, 0, 200), |_| None);
    assert_eq!((idle(&slots), followed(&slots)), (vec![(10, 0, 0)], vec![(11, 1, 0)]));
    slots.listed(&processes(&[file(10, 2, 0, 200)], &[10]), LATER);
    assert!(slots.take_ended_idle()[0].vm_gone, "the first one was only to be looked for");
    slots.seen(&seen(10, 11, 2, 0, 300), |_| None);
    assert_eq!(followed(&slots), [(11, 2, 0)], "the same number of the same VM elsewhere: made anew");
    assert!(slots.take_departed().iter().any(|departed| departed.vm_gone));
    assert!(slots.slots_add_up());
}

#[test]
fn a_vm_in_the_place_of_another_ends_all_of_it() {
    let mut slots = Slots::new(8);
    slots.listed(&host(&[file(10, 1, 1, 101)]), 0);
    slots.seen(&seen(10, 11, 1, 0, 100), |_| None);
    slots.seen(&seen(10, 12, 1, 0, 300), |_| None);
    assert_eq!((idle(&slots), followed(&slots)), (vec![], vec![(12, 1, 0)]));
    let ends = [slots.take_departed()[0].vm_gone, slots.take_ended_idle()[0].vm_gone];
    assert_eq!(ends, [false, true], "once");
    slots.listed(&host(&[file(10, 1, 0, 300), file(10, 1, 1, 301)]), LATER);
    slots.gone(&seen(10, 12, 1, 0, 300), |_, _| None);
    slots.listed(&host(&[file(10, 1, 1, 401)]), LATER);
    assert_eq!(idle(&slots), [(10, 2, 1)], "also of a VM that does not run");
    assert!(slots.slots_add_up());
}

#[test]
fn the_vms_of_a_process_keep_their_numbers_while_others_end() {
    let mut slots = Slots::new(8);
    slots.seen(&seen(10, 11, 1, 0, 100), |_| None);
    slots.seen(&seen(10, 12, 2, 0, 200), |_| None);
    slots.gone(&seen(10, 11, 1, 0, 100), |_, _| None);
    slots.listed(&host(&[file(10, 2, 0, 200), file(10, 2, 1, 201)]), LATER);
    assert_eq!((idle(&slots), followed(&slots)), (vec![(10, 1, 1)], vec![(12, 1, 0)]));
}

#[test]
fn a_child_that_has_the_descriptors_too_has_no_guest() {
    let mut slots = Slots::new(8);
    slots.seen(&seen(10, 11, 1, 0, 100), |_| None);
    let both = [file(10, 1, 0, 100), file(10, 1, 1, 101)];
    let childs = both.map(|file| VcpuFile { tgid: 99, ..file });
    slots.listed(&host(&[both[0], both[1], childs[0], childs[1]]), LATER);
    assert_eq!((idle(&slots), slots.vms().count()), (vec![(10, 0, 1)], 1));
}
