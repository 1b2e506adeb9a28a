use std::sync::Arc;

use sampler_ebpf::abi::{COUNTERS, Event, EventKind};

use super::{Action, Fact, GuestFacts, Level, room::MAX_OF_PROCESS};
use crate::model::Facts;

type Slots = super::Slots<(), ()>;

/// A birth: thread `tid` of process `tgid`, in its `life`th life, running vCPU `vcpu`.
fn seen(tgid: u32, tid: u32, life: u64, vcpu: u32) -> Event {
    Event {
        kind: EventKind::VcpuSeen as u32,
        tid,
        tgid,
        vcpu_id: vcpu,
        task: u64::from(tid) * 0x1000 + life,
        kvm: u64::from(tgid),
        start_time_ns: life * 1_000,
        start_boottime_ns: life * 1_000 + 5,
        leader_start_boottime_ns: u64::from(tgid),
        at_boottime_ns: life * 1_000 + 6,
        ..Event::default()
    }
}

fn gone(event: &Event) -> Event {
    Event { kind: EventKind::ThreadGone as u32, ..*event }
}

fn tids(slots: &Slots) -> Vec<u32> {
    slots.threads().map(|thread| thread.id.tid).collect()
}

#[test]
fn a_birth_gets_a_slot_and_a_death_gives_it_back() {
    let mut slots = Slots::new(4);
    let birth = seen(10, 11, 1, 0);
    slots.seen(&birth, |_| None);
    assert_eq!(slots.take_actions(), [Action::Assign { slot: 1, event: birth }]);
    assert_eq!(slots.take_unidentified().len(), 1);
    slots.gone(&gone(&birth), |_, _| None);
    assert_eq!(slots.take_actions(), [Action::Release { slot: 1, tid: 11 }]);
    let departed = slots.take_departed();
    assert!(departed[0].vm_gone);
    assert!(slots.slots_add_up() && slots.vms().count() == 0);
}

#[test]
fn an_announcement_that_comes_twice_keeps_slot_and_history() {
    let mut slots = Slots::new(4);
    slots.seen(&seen(10, 11, 1, 0), |_| None);
    slots.take_actions();
    slots.seen(&seen(10, 11, 1, 0), |_| None);
    assert_eq!(slots.take_actions(), [Action::Restore { slot: 1, tid: 11 }]);
    assert_eq!(slots.slots_used(), 1);
}

#[test]
fn a_pid_used_again_is_a_new_stream_even_when_the_death_comes_late() {
    let mut slots = Slots::new(4);
    let first = seen(10, 11, 1, 0);
    let second = seen(20, 11, 2, 0);
    slots.seen(&first, |_| None);
    slots.seen(&second, |_| None);
    assert_eq!(slots.threads().next().unwrap().id.start_boottime_ns, second.start_boottime_ns);
    slots.gone(&gone(&first), |_, _| None);
    assert_eq!(tids(&slots), [11], "the late death of the first life must not end the second");
    slots.gone(&gone(&second), |_, _| None);
    assert!(tids(&slots).is_empty() && slots.slots_add_up());
}

#[test]
fn a_thread_that_takes_a_vcpu_over_replaces_the_other() {
    let mut slots = Slots::new(4);
    slots.seen(&seen(10, 11, 1, 0), |_| None);
    slots.seen(&seen(10, 12, 2, 0), |_| None);
    assert_eq!(tids(&slots), [12]);
    assert!(slots.take_departed().is_empty(), "the vCPU lives on");
    assert_eq!((slots.threads_replaced(), slots.vms().count()), (1, 1));
    slots.gone(&gone(&seen(10, 12, 2, 0)), |_, _| None);
    assert_eq!(slots.vms().count(), 0);
}

#[test]
fn a_thread_that_finds_no_slot_is_offered_the_next_and_counts_when_it_still_has_none() {
    let mut slots = Slots::new(2);
    let (first, second) = (seen(10, 11, 1, 0), seen(20, 21, 1, 0));
    slots.seen(&first, |_| None);
    slots.seen(&second, |_| None);
    slots.take_actions();
    slots.offer_again(true);
    assert_eq!((slots.take_actions(), slots.slots_exhausted()), (vec![], 0), "there are more before long");
    slots.offer_again(false);
    slots.offer_again(false);
    assert_eq!((slots.slots_exhausted(), slots.slots_used()), (1, 1), "once for each thread");
    slots.gone(&gone(&first), |_, _| None);
    slots.offer_again(false);
    assert_eq!(
        slots.take_actions(),
        [Action::Release { slot: 1, tid: 11 }, Action::Forget { tid: 21 }],
        "the refused thread is to be announced again"
    );
    slots.seen(&second, |_| None);
    assert_eq!((tids(&slots), slots.slots_capped()), (vec![21], 0));
}

#[test]
fn threads_that_are_offered_fewer_slots_than_they_are_count_too() {
    let mut slots = Slots::new(2);
    slots.seen(&seen(10, 11, 1, 0), |_| None);
    slots.seen(&seen(20, 21, 1, 0), |_| None);
    slots.seen(&seen(30, 31, 1, 0), |_| None);
    for owner in [11, 21, 11, 21] {
        // Each time the one slot is given back, and the other thread that was offered it is faster.
        slots.gone(&gone(&seen(owner / 10 * 10, owner, 1, 0)), |_, _| None);
        slots.offer_again(false);
        let other = 32 - owner;
        slots.seen(&seen(other / 10 * 10, other, 1, 0), |_| None);
        slots.seen(&seen(30, 31, 1, 0), |_| None);
    }
    assert_eq!(
        (slots.slots_exhausted(), tids(&slots)),
        (2, vec![11]),
        "thread 21 at first, thread 31 to the end"
    );
}

#[test]
fn threads_that_found_no_slot_are_offered_those_that_are_made_and_never_count() {
    let mut slots = Slots::new(3);
    (0..5).for_each(|n| slots.seen(&seen(10, 11 + n, 1, n), |_| None));
    assert_eq!((slots.slots_used(), slots.lacking()), (2, 3 + 256), "for those that wait, and to spare");
    // However many readings the kernel takes for it.
    (0..9).for_each(|_| slots.offer_again(true));
    slots.take_actions();
    slots.grow(1024);
    let offered = [13, 14, 15].map(|tid| Action::Forget { tid });
    assert_eq!(slots.take_actions(), offered, "at once, not with the next reading");
    (2..5).for_each(|n| slots.seen(&seen(10, 11 + n, 1, n), |_| None));
    slots.offer_again(false);
    slots.offer_again(false);
    assert_eq!((slots.slots_used(), slots.slots_exhausted(), slots.lacking()), (5, 0, 0));
    assert!(slots.slots_add_up());
}

#[test]
fn slots_grow_up_to_the_last_number_and_no_further() {
    let mut slots = Slots::new(1024);
    slots.grow(u32::MAX);
    slots.grow(2048);
    let last = u32::from(u16::MAX) - 1;
    // Processes of one vCPU, for one process does not get so many.
    (1..=last + 1).for_each(|n| slots.seen(&seen(n, n, 1, 0), |_| None));
    assert_eq!(
        (slots.slots_used(), slots.process_of(last), slots.process_of(last + 1)),
        (65_534, Some(last), None)
    );
    assert!(
        slots.slots_add_up() && slots.threads().all(|thread| thread.slot != 0 && thread.slot != u16::MAX)
    );
}

#[test]
fn a_process_with_vcpus_without_end_leaves_slots_to_others() {
    let mut slots = Slots::new(MAX_OF_PROCESS + 3);
    let thread = |n| seen(10, 100 + n, 1, n);
    (0..MAX_OF_PROCESS + 900).for_each(|n| slots.seen(&thread(n), |_| None));
    assert_eq!(slots.slots_used(), u64::from(MAX_OF_PROCESS));
    slots.seen(&seen(20, 21, 1, 0), |_| None);
    assert!(slots.process_of(21).is_some() && slots.slots_add_up());
    slots.take_actions();
    slots.offer_again(true);
    slots.offer_again(true);
    assert_eq!((slots.slots_capped(), slots.slots_exhausted()), (900, 0));
    assert_eq!(slots.take_actions(), [], "there is a slot, and not for these");
    slots.gone(&gone(&thread(0)), |_, _| None);
    slots.offer_again(false);
    assert_eq!(
        slots.take_actions()[1..],
        [Action::Forget { tid: 100 + MAX_OF_PROCESS }],
        "one of the process ended: one other of it may have a slot, and all others need not come again"
    );
    slots.seen(&thread(MAX_OF_PROCESS), |_| None);
    slots.seen(&thread(MAX_OF_PROCESS + 1), |_| None);
    assert_eq!(slots.slots_used(), u64::from(MAX_OF_PROCESS) + 1);
    // Another process that has its id is another one.
    slots.seen(&Event { leader_start_boottime_ns: 7, ..seen(10, 9_999, 2, 0) }, |_| None);
    assert!(slots.process_of(9_999).is_some() && slots.slots_add_up());
}

#[test]
fn memory_is_made_for_no_more_threads_than_their_process_may_have() {
    let mut slots = Slots::new(3);
    (0..2 * MAX_OF_PROCESS).for_each(|n| slots.seen(&seen(10, 100 + n, 1, n), |_| None));
    slots.seen(&seen(20, 21, 1, 0), |_| None);
    assert_eq!((slots.slots_used(), slots.lacking()), (2, MAX_OF_PROCESS - 2 + 1 + 256));
}

#[test]
fn one_that_sleeps_when_it_is_offered_a_slot_counts_once() {
    let mut slots = Slots::new(2);
    slots.seen(&seen(10, 11, 1, 0), |_| None);
    slots.seen(&seen(20, 21, 1, 0), |_| None);
    slots.offer_again(false);
    slots.gone(&gone(&seen(10, 11, 1, 0)), |_, _| None);
    // It has a slot now, and another is faster than it awakes, again and again.
    for n in 0..5 {
        slots.offer_again(false);
        let fast = seen(30, 31 + n, u64::from(n), 0);
        slots.seen(&fast, |_| None);
        slots.seen(&seen(20, 21, 1, 0), |_| None);
        slots.offer_again(false);
        slots.gone(&gone(&fast), |_, _| None);
    }
    assert_eq!((slots.slots_exhausted(), slots.slots_used()), (1, 0));
}

#[test]
fn threads_without_a_slot_are_watched_and_those_that_end_leave_their_ids_to_others() {
    let mut slots = Slots::new(2);
    slots.seen(&seen(10, 11, 1, 0), |_| None);
    slots.take_actions();
    let refused = [seen(20, 21, 1, 0), seen(20, 22, 2, 1), seen(20, 23, 3, 2)];
    refused.iter().for_each(|event| slots.seen(event, |_| None));
    slots.seen(&refused[0], |_| None);
    assert_eq!(slots.take_actions(), [21, 22, 23].map(|tid| Action::Watch { pid: 20, tid }), "each once");
    // One ends as the hooks report it, one without a word, and one gets a slot.
    slots.gone(&gone(&refused[0]), |_, _| None);
    assert_eq!(slots.some_waiting(), [(22, 20), (23, 20)]);
    slots.dead(22);
    let forgotten = Action::Forget { tid: 22 };
    let unwatched = |tid| Action::Unwatch { tid };
    assert_eq!(slots.take_actions(), [unwatched(21), unwatched(22), forgotten]);
    slots.gone(&gone(&seen(10, 11, 1, 0)), |_, _| None);
    slots.seen(&refused[2], |_| None);
    assert_eq!(slots.take_actions()[1], unwatched(23));
    assert!(slots.some_waiting().is_empty());
    slots.dead(23);
    assert_eq!((slots.take_actions(), tids(&slots)), (vec![], vec![23]), "it is followed, and is not dead");
}

#[test]
fn all_threads_that_wait_are_looked_at_in_turn() {
    let mut slots = Slots::new(1);
    (1..=1_300).for_each(|tid| slots.seen(&seen(tid, tid, 1, 0), |_| None));
    let looked_at: Vec<_> = (0..4).map(|_| slots.some_waiting().len()).collect();
    assert_eq!(looked_at, [512, 512, 276, 512]);
}

#[test]
fn refused_threads_that_died_without_a_word_keep_no_live_one_from_the_free_slots() {
    let mut slots = Slots::new(2);
    slots.seen(&seen(10, 11, 1, 0), |_| None);
    slots.seen(&seen(20, 21, 1, 0), |_| None);
    slots.seen(&seen(30, 31, 1, 0), |_| None);
    slots.take_actions();
    slots.gone(&gone(&seen(10, 11, 1, 0)), |_, _| None);
    slots.offer_again(false);
    let offered = [Action::Forget { tid: 21 }, Action::Forget { tid: 31 }];
    assert_eq!(slots.take_actions()[1..], offered, "thread 21 may be dead: nobody would have observed");
    slots.seen(&seen(30, 31, 1, 0), |_| None);
    assert_eq!(tids(&slots), [31]);
}

#[test]
fn the_counts_of_the_last_switch_leave_with_the_thread() {
    let mut slots = Slots::new(4);
    let birth = seen(10, 11, 1, 0);
    slots.seen(&birth, |_| None);
    let slot = slots.threads().next().unwrap().slot;
    let last = |asked, task| ((asked, task) == (slot, birth.task)).then_some([7; COUNTERS.len()]);
    slots.gone(&gone(&birth), last);
    assert_eq!(slots.take_departed()[0].last, Some([7; COUNTERS.len()]));
}

#[test]
fn where_no_end_is_reported_a_walk_finds_it_with_the_last_counts_or_an_id_that_is_used_again() {
    let mut slots = Slots::new(3);
    slots.seen(&seen(10, 11, 1, 0), |_| None);
    slots.seen(&seen(10, 12, 1, 1), |_| None);
    slots.take_actions();
    slots.lost(12, |_, _| Some([7; COUNTERS.len()]));
    assert_eq!(slots.take_departed()[0].last, Some([7; COUNTERS.len()]));
    let again = seen(20, 11, 2, 0);
    slots.seen(&again, |_| None);
    let departed = slots.take_departed();
    assert!(departed[0].thread.id.start_boottime_ns < again.start_boottime_ns && departed[0].vm_gone);
    // Given up before the id has its new slot: the other way round the thread would be forgotten.
    let [
        Action::Release { slot: 2, tid: 12 },
        Action::Release { slot: 1, tid: 11 },
        Action::Assign { slot: 2, event },
    ] = slots.take_actions()[..]
    else {
        panic!("{slots:?}")
    };
    assert!(event == again && slots.slots_add_up());
}

#[test]
fn two_vms_of_one_process_are_two_vms() {
    let mut slots = Slots::new(8);
    slots.seen(&seen(10, 11, 1, 0), |_| None);
    slots.seen(&Event { kvm: 99, ..seen(10, 12, 1, 0) }, |_| None);
    assert_eq!(slots.slots_used(), 2);
    let keys: Vec<u32> = slots.vms().map(|(key, _)| key.nth).collect();
    assert_eq!(keys, [0, 1]);
}

#[test]
fn two_vms_that_show_the_same_uuid_get_different_identities_that_never_change() {
    let mut slots = Slots::new(8);
    slots.seen(&seen(10, 11, 1, 0), |_| None);
    slots.seen(&seen(20, 21, 1, 0), |_| None);
    let keys = slots.take_unidentified();
    let facts = of(Facts::default().with(Fact::Platform, "qemu").with(Fact::Uuid, "u-1"));
    for key in &keys {
        slots.identify(*key, facts.clone());
    }
    let ids: Vec<_> = keys.iter().map(|key| slots.fix_id(*key).unwrap()).collect();
    assert_eq!(&*ids[0], "u-1");
    assert_eq!(&*ids[1], "20-20");
    slots.identify(keys[1], of(facts.facts.with(Fact::Uuid, "u-2")));
    assert_eq!(slots.fix_id(keys[1]).unwrap(), ids[1]);
}

#[test]
fn a_copy_keeps_its_id_when_the_first_with_its_uuid_ends() {
    let mut slots = Slots::new(8);
    let facts = of(Facts::default().with(Fact::Platform, "qemu").with(Fact::Uuid, "u-1"));
    let begin = |slots: &mut Slots, pid: u32| {
        slots.seen(&seen(pid, pid + 1, 1, 0), |_| None);
        let key = slots.take_unidentified()[0];
        slots.identify(key, facts.clone());
        slots.fix_id(key).unwrap()
    };
    assert_eq!(&*begin(&mut slots, 10), "u-1");
    assert_eq!(&*begin(&mut slots, 20), "20-20");
    slots.gone(&gone(&seen(10, 11, 1, 0)), |_, _| None);
    let copy = slots.vms().next().map(|(key, _)| *key).unwrap();
    assert_eq!(slots.fix_id(copy).as_deref(), Some("20-20"));
    // A guest that comes back, as after a migration there and back, is another process with the same UUID.
    assert_eq!(&*begin(&mut slots, 30), "u-1");
}

#[test]
fn an_answer_that_says_nothing_takes_no_name_away() {
    let mut slots = Slots::new(8);
    slots.seen(&seen(10, 11, 1, 0), |_| None);
    let key = slots.take_unidentified()[0];
    let named = Facts::default().with(Fact::Platform, "qemu").with(Fact::Name, "web");
    slots.identify(key, of(named.clone()));
    slots.identify(key, of((*Facts::unknown()).clone()));
    let facts = |slots: &Slots| slots.vms().next().unwrap().1.known_facts();
    let known = facts(&slots);
    assert_eq!(*known, named);
    slots.identify(key, of(named.clone()));
    assert!(Arc::ptr_eq(&facts(&slots), &known), "what stays the same stays in place");
    let renamed = named.with(Fact::Name, "web2").with(Fact::Uuid, "u");
    slots.identify(key, of(renamed.clone()));
    assert_eq!(*facts(&slots), renamed);
}

#[test]
fn an_answer_that_lacks_something_replaces_nothing() {
    let mut slots = Slots::new(8);
    slots.seen(&seen(10, 11, 1, 0), |_| None);
    let key = slots.take_unidentified()[0];
    let known = Facts::default().with(Fact::Platform, "openstack").with(Fact::Name, "web");
    slots.identify(key, of(known.clone()));
    let partial = Facts::default().with(Fact::Platform, "libvirt").with(Fact::Name, "instance-1");
    slots.identify(key, GuestFacts { facts: partial.with(Fact::Uuid, "u"), is_partial: true });
    assert_eq!(*slots.vms().next().unwrap().1.known_facts(), known.with(Fact::Uuid, "u"));
}

fn of(facts: Facts) -> GuestFacts {
    GuestFacts { facts, is_partial: false }
}

#[test]
fn no_sequence_of_events_leaks_a_slot() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut slots = Slots::new(4);
    for _ in 0..20_000 {
        let event = seen(random.u32(1..6), random.u32(1..40), random.u64(1..4), random.u32(0..3));
        if random.u8(0..200) == 0 {
            slots.grow(random.u32(1..32));
        }
        match random.u8(0..3) {
            0 => slots.seen(&event, |_| None),
            1 => slots.gone(&gone(&event), |_, _| None),
            _ => slots.lost(event.tid, |_, _| None),
        }
        assert!(slots.slots_add_up());
        let followed: u64 = slots.slots_used();
        let by_vm: u64 = slots.vms().map(|(_, vm)| u64::from(vm.threads)).sum();
        assert_eq!(followed, by_vm, "every followed thread belongs to exactly one VM");
        assert!(slots.vms().all(|(_, vm)| vm.threads > 0), "a VM without threads is gone");
        if random.u8(0..4) == 0 {
            let least = random.u32(0..6);
            let level = |threads| if threads > least { Level::Full } else { Level::Basic };
            slots.sync_levels(|vm| level(vm.threads), |_, _, _| {});
            for thread in slots.threads() {
                let expected = slots.vm(thread.vm).map(|vm| level(vm.threads));
                assert_eq!(Some(thread.level), expected, "each thread is observed as its VM");
            }
        }
    }
}

#[test]
fn what_changes_is_reported_and_nothing_else() {
    let mut slots = Slots::new(16);
    const B: Level = Level::Basic;
    const S: Level = Level::Sampled;
    const F: Level = Level::Full;
    let sync = |slots: &mut Slots, level: Level| {
        let mut changes = Vec::new();
        slots.sync_levels(|_| level, |slot, from, to| changes.push((slot, from, to)));
        changes
    };
    slots.seen(&seen(1, 11, 1, 0), |_| None);
    slots.seen(&seen(1, 12, 2, 1), |_| None);
    assert_eq!(sync(&mut slots, B), [], "nothing is observed of a thread that came");
    assert_eq!(sync(&mut slots, F), [(1, B, F), (2, B, F)]);
    assert_eq!(sync(&mut slots, F), []);
    slots.seen(&seen(1, 13, 3, 2), |_| None);
    slots.seen(&seen(1, 14, 4, 3), |_| None);
    slots.lost(14, |_, _| None);
    assert_eq!(sync(&mut slots, F), [(3, B, F)], "it came to a VM that is observed; one came and went");
    slots.seen(&seen(1, 15, 5, 2), |_| None);
    assert_eq!(sync(&mut slots, F), [(5, B, F)], "it runs another's vCPU now");
    assert_eq!(sync(&mut slots, S), [(1, F, S), (2, F, S), (5, F, S)]);
    assert_eq!(sync(&mut slots, B), [(1, S, B), (2, S, B), (5, S, B)]);
}
