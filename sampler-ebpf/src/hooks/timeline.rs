//! Drawing stints and the waits before them, for the co-stop of VMs.

use sampler_ebpf::abi::{Counter, Left, RUN, Timeline, VcpuSlot, WAIT, cell_of, changed, tick_at};

use super::slot::Counts;
use crate::maps::{tick_shift, timeline};

/// Draws the stint that ends now, and the wait before it, of a thread whose slot has its counts as of the departure before: `stints`
/// have begun since. Of the stint in which a thread was first seen the begin alone is known.
#[inline(always)]
pub(super) fn draw(slot: *const VcpuSlot, index: u16, counts: &Counts, stints: u64, now: u64) {
    // SAFETY: the pointer came from a map look-up that the verifier followed.
    let (left, left_ns) =
        unsafe { ((&raw const (*slot).left).read_volatile(), (&raw const (*slot).left_ns).read_volatile()) };
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
    let Some(timeline) = timeline(index) else { return };
    change(timeline, queued, WAIT);
    change(timeline, arrived, WAIT | RUN);
    change(timeline, left, RUN);
}

#[inline(always)]
fn change(timeline: *mut Timeline, tick: u64, what: u64) {
    // SAFETY: the pointer came from a map look-up that the verifier followed, and the index is inside the array.
    unsafe {
        let cell = (&raw mut (*timeline).cells).cast::<u64>().add(cell_of(tick));
        cell.write_volatile(changed(cell.read_volatile(), tick, what));
    }
}
