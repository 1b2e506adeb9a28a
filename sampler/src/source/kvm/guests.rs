//! What is done for each VM once all threads were read: its co-stop, and how much is observed of it.

use super::{
    accounts::{Slots, VmAccount},
    co_stop,
    levels::Change,
};
use crate::{
    collect::Collector,
    model::{Fact, Levels, SamplerStats},
};

/// Brings the co-stop of all VMs up to date. Of a VM of which not all could be read nothing is known.
pub(super) fn observe_co_stop(collector: &Collector, slots: &mut Slots, shift: u32) {
    for (_, vm) in slots.vms_mut() {
        let VmAccount { co_stop, reads, .. } = &mut vm.account;
        co_stop::observe(collector, co_stop, reads, shift);
    }
}

/// Times not every exit any more of VMs that left their guests too often in the interval, and every one again
/// of those that are calm.
pub(super) fn adjust_levels(slots: &mut Slots, levels: Levels, stats: &mut SamplerStats) {
    stats.vms_lowered = 0;
    for (guest, vm) in slots.vms_mut() {
        let VmAccount { level, busiest, .. } = &mut vm.account;
        let change = if busiest.wall_ns > 0 { level.observe(*busiest, levels) } else { None };
        stats.vms_lowered += u64::from(level.is_lowered());
        let (Some(change), exits_per_second) = (change, busiest.exits_per_second) else { continue };
        let name = vm.facts.as_ref().and_then(|facts| facts.get(Fact::Name)).map_or("", |name| &**name);
        let (pid, bound) = (guest.pid, levels.max_exits);
        if change == Change::Lowered {
            stats.levels_lowered += 1;
            tracing::warn!(
                pid,
                name,
                exits_per_second,
                bound,
                "a vCPU leaves its guest too often for each exit to be timed: the guest goes on at level sampled, one exit in 16 is timed"
            );
        } else {
            tracing::info!(pid, name, exits_per_second, bound, "the guest is at level full again");
        }
    }
}
