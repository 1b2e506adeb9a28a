//! From lifecycle events to the slots, and from those to the shared tables.

use sampler_ebpf::abi::{Event, EventKind};

use super::{Slots, exits::ExitKinds, readings, slots::Action};
use crate::collect::{Collector, procfs::ProcFs};

pub(super) fn dispatch(collector: &Collector, kinds: &ExitKinds, slots: &mut Slots, event: &Event) {
    if event.kind == EventKind::VcpuSeen as u32 {
        slots.seen(event, |thread| readings::left(collector, kinds, thread));
    } else if event.kind == EventKind::ThreadGone as u32 {
        slots.gone(event, |slot, task| readings::last_counts(collector, slot, task));
    }
}

fn apply(collector: &mut Collector, action: Action) {
    match action {
        Action::Assign { slot, event } => collector.assign(slot, &event),
        Action::Restore { slot, tid } => collector.restore(slot, tid),
        Action::Release { slot, tid } => collector.release(slot, tid),
        Action::Forget { tid } => collector.forget(tid),
        Action::Watch { tid, .. } => collector.watch(tid),
        Action::Unwatch { tid } => collector.unwatch(tid),
    }
}

/// Does to the shared tables what the slots ask for. A thread that has ended before its end could be reported
/// would keep its id from the next one that has it.
pub(super) fn apply_all(collector: &mut Collector, slots: &mut Slots) {
    for action in slots.take_actions() {
        apply(collector, action);
        if let Action::Watch { pid, tid } = action
            && !lives(pid, tid)
        {
            slots.dead(tid);
            slots.take_actions().into_iter().for_each(|action| apply(collector, action));
        }
    }
}

pub(super) fn lives(pid: u32, tid: u32) -> bool {
    ProcFs::system().has_thread(pid, tid)
}
