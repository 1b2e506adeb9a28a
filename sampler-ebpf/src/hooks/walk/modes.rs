//! What a vCPU's thread has done with its CPU time up to now.

use sampler_ebpf::abi::{MODES, Mode, Modes, WalkRecord};

/// How often modes are read again that change meanwhile: a guest may be left a million times a second.
const ATTEMPTS: u32 = 4;

/// Copies the times by mode, what goes on included, as of a moment on `CLOCK_MONOTONIC` and of a thread that has had its CPU for
/// so long then, or has none. One that is preempted in the middle of a write does not hold still for as long as it waits: its
/// other times are to be shown all the same.
#[inline(always)]
pub(super) fn read_modes(modes: *const Modes, record: *mut WalkRecord, now: u64, stint_ns: Option<u64>) {
    // SAFETY: both pointers came from map look-ups that the verifier followed; walks do not overlap; indices are inside the
    // arrays.
    unsafe {
        for _ in 0..ATTEMPTS {
            let seq = (&raw const (*modes).seq).read_volatile();
            let mode = (&raw const (*modes).mode).read_volatile();
            let since = (&raw const (*modes).since_ns).read_volatile();
            let epoch = (&raw const (*modes).epoch).read_volatile();
            let epoch_seen = (&raw const (*modes).epoch_seen).read_volatile();
            let mut ns = (&raw const (*modes).ns).read_volatile();
            let gaps = (&raw const (*modes).gaps).read_volatile();
            let unpaired = (&raw const (*modes).unpaired).read_volatile();
            if seq != (&raw const (*modes).seq).read_volatile() || !seq.is_multiple_of(2) {
                continue;
            }
            // Off its CPU it does nothing that would have to be told.
            let is_observed =
                epoch != 0 && (stint_ns.is_none() || epoch == epoch_seen && mode != Mode::Unobserved as u32);
            if is_observed {
                // Where the kernel called no program when the thread was given its CPU, or when it left it before, there is no
                // begin, or an older one.
                let stint_ns = stint_ns.unwrap_or(0);
                let goes_on = now.saturating_sub(since);
                ns[mode as usize % MODES] += if goes_on < stint_ns { goes_on } else { stint_ns };
            }
            (&raw mut (*record).modes_ns).write_volatile(ns);
            (&raw mut (*record).modes_observed).write_volatile(u32::from(is_observed));
            (&raw mut (*record).modes_gaps).write_volatile(gaps);
            (&raw mut (*record).unpaired).write_volatile(unpaired);
            return;
        }
        (&raw mut (*record).modes_observed).write_volatile(WalkRecord::MODES_TORN);
    }
}
