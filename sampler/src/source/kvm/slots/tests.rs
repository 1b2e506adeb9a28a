use sampler_ebpf::abi::{COUNTERS, Event, EventKind};

use super::{Action, GuestFacts};

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
fn exhausted_slots_are_counted_and_the_next_free_one_is_offered() {
    let mut slots = Slots::new(2);
    let (first, second) = (seen(10, 11, 1, 0), seen(20, 21, 1, 0));
    slots.seen(&first, |_| None);
    slots.seen(&second, |_| None);
    assert_eq!((slots.slots_exhausted(), slots.slots_used()), (1, 1));
    slots.take_actions();
    slots.offer_again();
    assert_eq!(slots.take_actions(), [], "nothing is free yet");
    slots.gone(&gone(&first), |_, _| None);
    slots.offer_again();
    assert_eq!(
        slots.take_actions(),
        [Action::Release { slot: 1, tid: 11 }, Action::Forget { tid: 21 }],
        "the refused thread is to be announced again"
    );
    slots.seen(&second, |_| None);
    assert_eq!(tids(&slots), [21]);
}

#[test]
fn refused_threads_that_died_without_a_word_keep_no_live_one_from_the_free_slots() {
    let mut slots = Slots::new(2);
    slots.seen(&seen(10, 11, 1, 0), |_| None);
    slots.seen(&seen(20, 21, 1, 0), |_| None);
    slots.seen(&seen(30, 31, 1, 0), |_| None);
    slots.take_actions();
    slots.gone(&gone(&seen(10, 11, 1, 0)), |_, _| None);
    slots.offer_again();
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
fn where_no_end_is_told_a_walk_finds_it_with_the_last_counts_or_an_id_that_is_used_again() {
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
    let facts = GuestFacts { platform: "qemu", name: None, uuid: Some("u-1".into()) };
    for key in &keys {
        slots.identify(*key, facts.clone());
    }
    let ids: Vec<_> = keys.iter().map(|key| slots.fix_id(*key).unwrap()).collect();
    assert_eq!(&*ids[0], "u-1");
    assert_eq!(&*ids[1], "20-20");
    slots.identify(keys[1], GuestFacts { uuid: Some("u-2".into()), ..facts });
    assert_eq!(slots.fix_id(keys[1]).unwrap(), ids[1]);
}

#[test]
fn an_answer_that_says_nothing_takes_no_name_away() {
    let mut slots = Slots::new(8);
    slots.seen(&seen(10, 11, 1, 0), |_| None);
    let key = slots.take_unidentified()[0];
    let named = GuestFacts { platform: "qemu", name: Some("web".into()), uuid: None };
    slots.identify(key, named.clone());
    slots.identify(key, GuestFacts { platform: "unknown", ..GuestFacts::default() });
    let facts = |slots: &Slots| slots.vms().next().and_then(|(_, vm)| vm.facts.clone());
    assert_eq!(facts(&slots), Some(named.clone()));
    slots.identify(key, GuestFacts { uuid: Some("u".into()), name: Some("web2".into()), ..named });
    let expected = GuestFacts { platform: "qemu", name: Some("web2".into()), uuid: Some("u".into()) };
    assert_eq!(facts(&slots), Some(expected));
}

#[test]
fn no_sequence_of_events_leaks_a_slot() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut slots = Slots::new(16);
    for _ in 0..20_000 {
        let event = seen(random.u32(1..6), random.u32(1..40), random.u64(1..4), random.u32(0..3));
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
            slots.sync_observed(|vm| vm.threads > least, |_, _| {});
            for thread in slots.threads() {
                let observed = slots.vm(thread.vm).is_some_and(|vm| vm.threads > least);
                assert_eq!(thread.observed, observed, "each thread is observed as its VM");
            }
        }
    }
}

#[test]
fn what_changes_is_told_and_nothing_else() {
    let mut slots = Slots::new(16);
    let sync = |slots: &mut Slots, observed: bool| {
        let mut changes = Vec::new();
        slots.sync_observed(|_| observed, |slot, observed| changes.push((slot, observed)));
        changes
    };
    slots.seen(&seen(1, 11, 1, 0), |_| None);
    slots.seen(&seen(1, 12, 2, 1), |_| None);
    assert_eq!(sync(&mut slots, false), [], "nothing is observed of a thread that came");
    assert_eq!(sync(&mut slots, true), [(1, true), (2, true)]);
    assert_eq!(sync(&mut slots, true), []);
    slots.seen(&seen(1, 13, 3, 2), |_| None);
    slots.seen(&seen(1, 14, 4, 3), |_| None);
    slots.lost(14, |_, _| None);
    assert_eq!(sync(&mut slots, true), [(3, true)], "it came to a VM that is observed; one came and went");
    slots.seen(&seen(1, 15, 5, 2), |_| None);
    assert_eq!(sync(&mut slots, true), [(5, true)], "it runs another's vCPU now");
    assert_eq!(sync(&mut slots, false), [(1, false), (2, false), (5, false)]);
}
