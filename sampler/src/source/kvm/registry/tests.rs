use sampler_ebpf::abi::{COUNTERS, Event, EventKind};

use super::{Action, GuestFacts, Registry};

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

fn tids(registry: &Registry) -> Vec<u32> {
    registry.threads().map(|thread| thread.id.tid).collect()
}

#[test]
fn a_birth_gets_a_slot_and_a_death_gives_it_back() {
    let mut registry = Registry::new(4);
    let birth = seen(10, 11, 1, 0);
    registry.seen(&birth);
    assert_eq!(registry.take_actions(), [Action::Assign { slot: 1, event: birth }]);
    assert_eq!(registry.take_unidentified().len(), 1);
    registry.gone(&gone(&birth), |_| None);
    assert_eq!(registry.take_actions(), [Action::Release { slot: 1, tid: 11 }]);
    let departed = registry.take_departed();
    assert!(departed[0].vm_gone && !departed[0].replaced);
    assert!(registry.slots_add_up() && registry.vms().count() == 0);
}

#[test]
fn an_announcement_that_comes_twice_keeps_slot_and_history() {
    let mut registry = Registry::new(4);
    registry.seen(&seen(10, 11, 1, 0));
    registry.take_actions();
    registry.seen(&seen(10, 11, 1, 0));
    assert_eq!(registry.take_actions(), [Action::Restore { slot: 1, tid: 11 }]);
    assert_eq!(registry.slots_used(), 1);
}

#[test]
fn a_pid_used_again_is_a_new_stream_even_when_the_death_comes_late() {
    let mut registry = Registry::new(4);
    let first = seen(10, 11, 1, 0);
    let second = seen(20, 11, 2, 0);
    registry.seen(&first);
    registry.seen(&second);
    assert_eq!(registry.threads().next().unwrap().id.start_boottime_ns, second.start_boottime_ns);
    registry.gone(&gone(&first), |_| None);
    assert_eq!(tids(&registry), [11], "the late death of the first life must not end the second");
    registry.gone(&gone(&second), |_| None);
    assert!(tids(&registry).is_empty() && registry.slots_add_up());
}

#[test]
fn a_thread_that_takes_a_vcpu_over_replaces_the_other() {
    let mut registry = Registry::new(4);
    registry.seen(&seen(10, 11, 1, 0));
    registry.seen(&seen(10, 12, 2, 0));
    assert_eq!(tids(&registry), [12]);
    let departed = registry.take_departed();
    assert!(departed[0].replaced && !departed[0].vm_gone);
    assert_eq!((registry.threads_replaced(), registry.vms().count()), (1, 1));
    registry.gone(&gone(&seen(10, 12, 2, 0)), |_| None);
    assert_eq!(registry.vms().count(), 0);
}

#[test]
fn exhausted_slots_are_counted_and_the_next_free_one_is_offered() {
    let mut registry = Registry::new(2);
    let (first, second) = (seen(10, 11, 1, 0), seen(20, 21, 1, 0));
    registry.seen(&first);
    registry.seen(&second);
    assert_eq!((registry.slots_exhausted(), registry.slots_used()), (1, 1));
    registry.take_actions();
    registry.offer_again();
    assert_eq!(registry.take_actions(), [], "nothing is free yet");
    registry.gone(&gone(&first), |_| None);
    registry.offer_again();
    assert_eq!(
        registry.take_actions(),
        [Action::Release { slot: 1, tid: 11 }, Action::Forget { tid: 21 }],
        "the refused thread is to be announced again"
    );
    registry.seen(&second);
    assert_eq!(tids(&registry), [21]);
}

#[test]
fn refused_threads_that_died_without_a_word_keep_no_live_one_from_the_free_slots() {
    let mut registry = Registry::new(2);
    registry.seen(&seen(10, 11, 1, 0));
    registry.seen(&seen(20, 21, 1, 0));
    registry.seen(&seen(30, 31, 1, 0));
    registry.take_actions();
    registry.gone(&gone(&seen(10, 11, 1, 0)), |_| None);
    registry.offer_again();
    let offered = [Action::Forget { tid: 21 }, Action::Forget { tid: 31 }];
    assert_eq!(registry.take_actions()[1..], offered, "thread 21 may be dead: nobody would have observed");
    registry.seen(&seen(30, 31, 1, 0));
    assert_eq!(tids(&registry), [31]);
}

#[test]
fn the_counts_of_the_last_switch_leave_with_the_thread() {
    let mut registry = Registry::new(4);
    let birth = seen(10, 11, 1, 0);
    registry.seen(&birth);
    let slot = registry.threads().next().unwrap().slot;
    registry.gone(&gone(&birth), |asked| (asked == slot).then_some([7; COUNTERS.len()]));
    assert_eq!(registry.take_departed()[0].last, Some([7; COUNTERS.len()]));
}

#[test]
fn two_vms_of_one_process_are_two_vms() {
    let mut registry = Registry::new(8);
    registry.seen(&seen(10, 11, 1, 0));
    registry.seen(&Event { kvm: 99, ..seen(10, 12, 1, 0) });
    assert_eq!(registry.slots_used(), 2);
    let keys: Vec<u32> = registry.vms().map(|(key, _)| key.nth).collect();
    assert_eq!(keys, [0, 1]);
}

#[test]
fn two_vms_that_show_the_same_uuid_get_different_identities_that_never_change() {
    let mut registry = Registry::new(8);
    registry.seen(&seen(10, 11, 1, 0));
    registry.seen(&seen(20, 21, 1, 0));
    let keys = registry.take_unidentified();
    let facts = GuestFacts { platform: "qemu", name: None, uuid: Some("u-1".into()) };
    for key in &keys {
        registry.identify(*key, facts.clone());
    }
    let ids: Vec<_> = keys.iter().map(|key| registry.fix_id(*key).unwrap()).collect();
    assert_eq!(&*ids[0], "u-1");
    assert_eq!(&*ids[1], "20-20");
    registry.identify(keys[1], GuestFacts { uuid: Some("u-2".into()), ..facts });
    assert_eq!(registry.fix_id(keys[1]).unwrap(), ids[1]);
}

#[test]
fn no_sequence_of_events_leaks_a_slot() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut registry = Registry::new(16);
    for _ in 0..20_000 {
        let event = seen(random.u32(1..6), random.u32(1..40), random.u64(1..4), random.u32(0..3));
        match random.u8(0..3) {
            0 => registry.seen(&event),
            1 => registry.gone(&gone(&event), |_| None),
            _ => registry.lost(event.tid),
        }
        assert!(registry.slots_add_up());
        let followed: u64 = registry.slots_used();
        let by_vm: u64 = registry.vms().map(|(_, vm)| u64::from(vm.threads)).sum();
        assert_eq!(followed, by_vm, "every followed thread belongs to exactly one VM");
        assert!(registry.vms().all(|(_, vm)| vm.threads > 0), "a VM without threads is gone");
        if random.u8(0..4) == 0 {
            let least = random.u32(0..6);
            registry.sync_observed(|vm| vm.threads > least, |_, _| {});
            for thread in registry.threads() {
                let observed = registry.vm(thread.vm).is_some_and(|vm| vm.threads > least);
                assert_eq!(thread.observed, observed, "each thread is observed as its VM");
            }
        }
    }
}

#[test]
fn what_changes_is_told_and_nothing_else() {
    let mut registry = Registry::new(16);
    let sync = |registry: &mut Registry, observed: bool| {
        let mut changes = Vec::new();
        registry.sync_observed(|_| observed, |slot, observed| changes.push((slot, observed)));
        changes
    };
    registry.seen(&seen(1, 11, 1, 0));
    registry.seen(&seen(1, 12, 2, 1));
    assert_eq!(sync(&mut registry, false), [], "nothing is observed of a thread that came");
    assert_eq!(sync(&mut registry, true), [(1, true), (2, true)]);
    assert_eq!(sync(&mut registry, true), []);
    registry.seen(&seen(1, 13, 3, 2));
    registry.seen(&seen(1, 14, 4, 3));
    registry.lost(14);
    assert_eq!(sync(&mut registry, true), [(3, true)], "it came to a VM that is observed; one came and went");
    registry.seen(&seen(1, 15, 5, 2));
    assert_eq!(sync(&mut registry, true), [(5, true)], "it runs another's vCPU now");
    assert_eq!(sync(&mut registry, false), [(1, false), (2, false), (5, false)]);
}
