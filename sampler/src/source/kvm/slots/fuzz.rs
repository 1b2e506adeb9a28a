//! Events in any order, of threads that never were.

use std::collections::BTreeMap;

use sampler_ebpf::abi::{Event, EventKind};

use super::{Action, Slots};
use crate::{
    collect::from_bytes,
    fuzzing::{Memory, Target},
};

/// Slots that there are.
const SLOTS: u32 = 6;

/// Events of one input, at most: as many as the ring has room for at once.
const MOST: usize = 512;

const EVENTS: Target = Target {
    name: "events",
    words: &["\u{1}\0\0\0", "\u{2}\0\0\0"],
    inputs: 4_000,
    // What is kept of a VM and of a thread, and the actions that are asked for.
    memory: Memory { fixed: 512 << 10, each: 64 },
};

/// Records as the ring hands them over. Of a first byte that is odd the ids are few, so that events meet.
fn read(input: &[u8]) -> Vec<Event> {
    let Some((first, records)) = input.split_first() else { return Vec::new() };
    let (records, _) = records.as_chunks::<{ size_of::<Event>() }>();
    let events = records.iter().take(MOST).filter_map(|record| from_bytes::<Event>(record));
    events.map(|event| if first % 2 == 1 { met(event) } else { event }).collect()
}

fn met(event: Event) -> Event {
    Event {
        kind: 1 + event.kind % 2,
        tid: event.tid % 8,
        tgid: event.tgid % 3,
        vcpu_id: event.vcpu_id % 4,
        task: event.task % 10,
        kvm: event.kvm % 3,
        vcpu: event.vcpu % 6,
        start_boottime_ns: event.start_boottime_ns % 3,
        leader_start_boottime_ns: event.leader_start_boottime_ns % 2,
        ..event
    }
}

/// Does what the slots ask for, as the shared tables would: which thread has which slot.
fn apply(slots: &mut Slots<(), ()>, table: &mut BTreeMap<u16, u32>) {
    for action in slots.take_actions() {
        match action {
            Action::Assign { slot, event } => {
                assert!(slot > 0 && u32::from(slot) < SLOTS, "there is no slot {slot}");
                let before = table.insert(slot, event.tid);
                assert_eq!(before, None, "slot {slot} is given out twice");
            }
            Action::Restore { slot, tid } => assert_eq!(table.get(&slot), Some(&tid)),
            Action::Release { slot, tid } => assert_eq!(table.remove(&slot), Some(tid)),
            Action::Forget { .. } | Action::Watch { .. } | Action::Unwatch { .. } => {}
        }
    }
}

fn run(input: &[u8]) {
    let mut slots = Slots::<(), ()>::new(SLOTS);
    let mut table = BTreeMap::new();
    for event in read(input) {
        if event.kind == EventKind::VcpuSeen as u32 {
            slots.seen(&event, |_| None);
        } else if event.kind == EventKind::ThreadGone as u32 {
            slots.gone(&event, |_, _| None);
        }
        apply(&mut slots, &mut table);
        slots.offer_again(false);
        apply(&mut slots, &mut table);
        assert!(slots.slots_add_up() && slots.slots_used() == table.len() as u64);
    }
    let tids: Vec<u32> = slots.threads().map(|thread| thread.id.tid).collect();
    tids.into_iter().for_each(|tid| slots.lost(tid, |_, _| None));
    apply(&mut slots, &mut table);
    assert!(slots.slots_add_up() && table.is_empty(), "a slot is lost");
}

/// The bytes of an event, in the order of its members.
fn bytes(event: &Event) -> Vec<u8> {
    let ids = [event.kind, event.tid, event.tgid, event.vcpu_id].into_iter().flat_map(u32::to_ne_bytes);
    let addresses = [event.task, event.kvm, event.vcpu, event.start_time_ns, event.start_boottime_ns];
    let addresses = addresses.into_iter().flat_map(u64::to_ne_bytes);
    let mut bytes: Vec<u8> = ids.chain(addresses).collect();
    bytes.extend(event.leader_start_boottime_ns.to_ne_bytes());
    bytes.resize(size_of::<Event>(), 0);
    bytes
}

#[test]
fn events() {
    let event = |kind: EventKind, tid: u32, vcpu_id: u32| {
        let id = u64::from(tid);
        let vcpu = u64::from(vcpu_id);
        let kind = kind as u32;
        Event {
            kind,
            tid,
            tgid: 1,
            vcpu_id,
            task: id,
            kvm: 1,
            vcpu,
            start_boottime_ns: 1,
            ..Event::default()
        }
    };
    let born = (1..8).map(|tid| event(EventKind::VcpuSeen, tid, tid % 4));
    let all = born.chain((1..8).map(|tid| event(EventKind::ThreadGone, tid, 0)));
    let records: Vec<u8> = all.flat_map(|event| bytes(&event)).collect();
    assert_eq!(from_bytes::<Event>(&records[..size_of::<Event>()]), Some(event(EventKind::VcpuSeen, 1, 1)));
    assert_eq!(from_bytes::<Event>(&records[..size_of::<Event>() - 1]), None, "it is cut short");
    let made = [0, 1].map(|first| [&[first][..], &records].concat());
    EVENTS.check(&made, run);
}
