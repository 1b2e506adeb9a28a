//! What of the slots outlives the process: whom they follow, and who was before.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Former, Idle, KvmGuest, Lasting, Level, NextVms, Open, Remembered, Room, Slots, Thread, ThreadId, VmEntry,
};
use crate::{
    kept::{Keep, Reader, Shape, Writer, kept},
    model::Facts,
};

/// What seldom changes of a VM.
struct Slow {
    id: Option<Arc<str>>,
    facts: Option<Arc<Facts>>,
    waited: u32,
    seen_boottime_ns: u64,
    kvm: u64,
    ran: BTreeSet<u32>,
}

kept! { Slow { id, facts, waited, seen_boottime_ns, kvm, ran } }

impl Slow {
    fn of<B>(vm: &VmEntry<B>) -> Self {
        let VmEntry {
            id,
            facts,
            waited,
            level: _,
            seen_boottime_ns,
            account: _,
            kvm,
            ran,
            threads: _,
            idle: _,
        } = vm;
        Self {
            id: id.clone(),
            facts: facts.clone(),
            waited: *waited,
            seen_boottime_ns: *seen_boottime_ns,
            kvm: *kvm,
            ran: ran.clone(),
        }
    }

    /// A VM whose threads are not known yet.
    fn with<B>(self, account: B) -> VmEntry<B> {
        let Self { id, facts, waited, seen_boottime_ns, kvm, ran } = self;
        let level = Level::Basic;
        VmEntry { id, facts, waited, level, seen_boottime_ns, account, kvm, ran, threads: 0, idle: 0 }
    }
}

/// What an earlier process had in its slots.
#[derive(Debug)]
pub struct Before<A, B> {
    /// The VMs, none of whose vCPUs is counted in them yet.
    pub vms: BTreeMap<KvmGuest, VmEntry<B>>,
    /// The threads that it followed.
    pub threads: Vec<Thread<A>>,
    /// The vCPUs that nobody ran.
    pub idle: Vec<Idle<A>>,
    are_listed: bool,
    former: Remembered<ThreadId, Former>,
    next_vms: NextVms,
}

impl<A: Keep, B: Keep> Slots<A, B> {
    /// As [`Keep::SHAPE`], of both parts.
    pub const SHAPE: u64 = {
        let shape = Shape::of("Slots").number(<(KvmGuest, Slow)>::SHAPE);
        let shape = shape.number(Remembered::<ThreadId, Former>::SHAPE).number(NextVms::SHAPE);
        shape.number(B::SHAPE).number(Thread::<A>::SHAPE).number(Idle::<A>::SHAPE).end()
    };

    /// Writes what seldom changes.
    pub fn put_slow(&self, to: &mut Writer<'_>) {
        (self.vms.len() as u32).put(to);
        for (guest, vm) in &self.vms {
            guest.put(to);
            Slow::of(vm).put(to);
        }
        self.former.put(to);
        self.next_vms.put(to);
    }

    /// Writes what each reading changes, VMs in the same order.
    pub fn put_fast(&self, to: &mut Writer<'_>) {
        self.are_listed.put(to);
        self.vms.values().for_each(|vm| vm.account.put(to));
        (self.threads.len() as u32).put(to);
        self.threads.values().for_each(|thread| thread.put(to));
        (self.idle.len() as u32).put(to);
        self.idle.values().for_each(|idle| idle.put(to));
    }
}

impl<A: Lasting<B>, B: Open> Slots<A, B> {
    /// Goes on with what an earlier process had, over slots 1 to `slots - 1`. Each thread has a slot of its
    /// own there. Slots that are `orphans` may still be written for a moment: they are given out last. VMs
    /// without a vCPU are over.
    #[must_use]
    pub fn resumed(before: Before<A, B>, slots: u32, orphans: &BTreeSet<u16>) -> Self {
        let Before { mut vms, threads, idle, are_listed, former, next_vms } = before;
        let taken = threads.iter().map(|thread| (thread.slot, (thread.vm.pid, thread.vm.start_boottime_ns)));
        let room = Room::resumed(slots, taken, orphans);
        threads.iter().for_each(|thread| count(vms.get_mut(&thread.vm).map(|vm| &mut vm.threads)));
        idle.iter().for_each(|idle| count(vms.get_mut(&idle.vm).map(|vm| &mut vm.idle)));
        vms.retain(|_, vm| !vm.is_over());
        Self {
            unidentified: vms.keys().copied().collect(),
            new: threads.iter().map(|thread| thread.id.tid).collect(),
            vcpus: threads.iter().map(|thread| ((thread.vm, thread.index), thread.id.tid)).collect(),
            threads: threads.into_iter().map(|thread| (thread.id.tid, thread)).collect(),
            idle: idle.into_iter().map(|idle| ((idle.vm, idle.index), idle)).collect(),
            vms,
            are_listed,
            former,
            next_vms,
            room,
            ..Self::new(1)
        }
    }
}

fn count(vcpus: Option<&mut u32>) {
    if let Some(vcpus) = vcpus {
        *vcpus += 1;
    }
}

impl<A: Keep, B: Keep> Before<A, B> {
    /// Reads what was written so; all threads and vCPUs are of VMs that there are.
    pub fn take(slow: &mut Reader<'_>, fast: &mut Reader<'_>) -> Option<Self> {
        let slow_ones = BTreeMap::<KvmGuest, Slow>::take(slow)?;
        let (former, next_vms) = <(Remembered<ThreadId, Former>, NextVms)>::take(slow)?;
        let are_listed = bool::take(fast)?;
        let vm = |(guest, slow_ones): (KvmGuest, Slow)| Some((guest, slow_ones.with(B::take(fast)?)));
        let vms: BTreeMap<_, _> = slow_ones.into_iter().map(vm).collect::<Option<_>>()?;
        let (threads, idle) = <(Vec<Thread<A>>, Vec<Idle<A>>)>::take(fast)?;
        let mut of = threads.iter().map(|thread| thread.vm).chain(idle.iter().map(|idle| idle.vm));
        of.all(|vm| vms.contains_key(&vm)).then_some(())?;
        Some(Self { vms, threads, idle, are_listed, former, next_vms })
    }
}

#[cfg(test)]
mod tests {
    use sampler_ebpf::abi::{Event, VcpuFile};

    use super::*;
    use crate::{
        collect::{Listed, Reach},
        kept::CHUNK,
        source::{
            GuestFacts,
            kvm::accounts::{Slots, VcpuAccount, VmAccount},
        },
    };

    fn written(put: impl Fn(&mut Writer<'_>)) -> Vec<u8> {
        let (mut bytes, mut chunk) = (Vec::new(), vec![0; CHUNK]);
        let mut sink = |chunk: &[u8]| bytes.extend_from_slice(chunk);
        let mut writer = Writer::new(&mut chunk, &mut sink);
        put(&mut writer);
        writer.end();
        bytes
    }

    fn slots() -> Slots {
        let mut slots = Slots::new(16);
        for tid in 1..8 {
            let (id, kvm) = (u64::from(tid), u64::from(tid % 2));
            let event =
                Event { tid, tgid: 1, vcpu_id: tid, task: id, kvm, vcpu: 90 + id, sched_ns: 5, ..Event::default() };
            slots.seen(&event, |_| None);
        }
        let files =
            vec![VcpuFile { tgid: 1, vcpu_id: 40, kvm: 1, vcpu: 2, at_boottime_ns: 3, ..VcpuFile::default() }];
        slots.listed(&Listed { files, reach: Reach::Processes([9].into()), is_complete: true }, 0);
        slots.end(6);
        let keys: Vec<_> = slots.vms().map(|(key, _)| *key).collect();
        slots.identify(keys[0], GuestFacts::default());
        keys.into_iter().for_each(|key| drop(slots.fix_id(key)));
        slots
    }

    #[test]
    fn whom_the_slots_follow_is_as_it_was() {
        let slots = slots();
        let (slow, fast) = (written(|to| slots.put_slow(to)), written(|to| slots.put_fast(to)));
        let (slow, fast) = (&mut Reader::new(&slow), &mut Reader::new(&fast));
        let before = Before::<VcpuAccount, VmAccount>::take(slow, fast).unwrap();
        assert_eq!((slow.left(), fast.left()), (0, 0));
        let of = |thread: &Thread<_>| (thread.slot, thread.task, thread.id, thread.vm, thread.begun_ns);
        let threads: Vec<_> = slots.threads().map(of).collect();
        assert_eq!(before.threads.iter().map(of).collect::<Vec<_>>(), threads);
        assert_eq!((threads.len(), before.idle.len(), before.are_listed), (6, 1, true));
        assert!(before.vms.values().all(|vm| vm.id.is_some() && vm.threads == 0));
        assert!(before.vms.keys().eq(slots.vms().map(|(key, _)| key)));
        let gone = ThreadId { tid: 6, start_boottime_ns: 0 };
        assert_eq!(before.former.get(&gone).map(|former| former.vcpu.1), Some(6));
    }

    #[test]
    fn who_goes_on_has_the_same_slots_and_gives_orphans_out_last() {
        let slots = slots();
        let (slow, fast) = (written(|to| slots.put_slow(to)), written(|to| slots.put_fast(to)));
        let before = Before::take(&mut Reader::new(&slow), &mut Reader::new(&fast)).unwrap();
        let mut next = Slots::resumed(before, 16, &[8, 12].into());
        assert!(next.slots_add_up());
        let counts = |slots: &Slots| slots.vms().map(|(_, vm)| (vm.threads, vm.idle)).collect::<Vec<_>>();
        assert_eq!(counts(&next), counts(&slots));
        assert_eq!(next.take_unidentified().len(), 2, "who they are is asked once more");
        let given: Vec<_> = (20..29)
            .filter_map(|tid| {
                next.seen(&Event { tid, tgid: 3, vcpu_id: tid, vcpu: tid.into(), ..Event::default() }, |_| None);
                next.threads().find(|thread| thread.id.tid == tid).map(|thread| thread.slot)
            })
            .collect();
        assert_eq!(given, [6, 9, 10, 11, 13, 14, 15, 8, 12]);
        assert!(next.slots_add_up());
    }
}
