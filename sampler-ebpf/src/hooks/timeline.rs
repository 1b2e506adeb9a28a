//! Drawing stints and the waits before them, for the co-stop of VMs.

use sampler_ebpf::abi::{Counter, Left, RUN, Timeline, VcpuSlot, WAIT, cell_of, changed, tick_at};

use super::counts::Counts;
use crate::{
    maps::tick_shift,
    shared::{Shared, field, load},
};

/// Draws the stint that ends now, and the wait before it, of a thread whose slot has its counts as of the
/// departure before: `stints` have begun since. Of the stint in which a thread was first seen the begin alone
/// is known.
#[inline(always)]
pub(super) fn draw(
    slot: Shared<VcpuSlot>,
    timeline: Shared<Timeline>,
    counts: &Counts,
    stints: u64,
    now: u64,
) {
    let (left, left_ns) = (load!(slot.left), load!(slot.left_ns));
    let arrived = counts.arrived_ns;
    let queued = if left == Left::Unknown as u32 {
        arrived
    } else if stints == 1 {
        let waited = counts.since(slot, Counter::RunDelay);
        // Not before it left, nor after it came: clocks of two CPUs may be apart.
        arrived.saturating_sub(waited).max(left_ns).min(arrived)
    } else {
        return;
    };
    let shift = tick_shift();
    let [queued, arrived, left] = [queued, arrived, now].map(|ns| tick_at(ns, shift));
    if queued == left {
        return;
    }
    change(timeline, queued, WAIT);
    change(timeline, arrived, WAIT | RUN);
    change(timeline, left, RUN);
}

#[inline(always)]
fn change(timeline: Shared<Timeline>, tick: u64, what: u64) {
    let cell = field!(timeline.cells).element(cell_of(tick));
    cell.store(changed(cell.load(), tick, what));
}
