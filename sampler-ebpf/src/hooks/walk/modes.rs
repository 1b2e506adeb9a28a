//! What a vCPU's thread has done with its CPU time up to now.

use sampler_ebpf::abi::{Mode, Modes, WalkRecord, mode_place};

use crate::shared::{Shared, load, store};

/// How often modes are read again that change meanwhile: a guest may be left a million times a second.
const ATTEMPTS: u32 = 4;

/// Copies the times by mode, what goes on included, as of a moment on `CLOCK_MONOTONIC` and of a thread that
/// has had its CPU for so long then, or has none. One that is preempted in the middle of a write does not
/// hold still for as long as it waits: its other times are to be shown all the same.
#[inline(always)]
pub(super) fn read_modes(modes: Shared<Modes>, record: Shared<WalkRecord>, now: u64, stint_ns: Option<u64>) {
    for _ in 0..ATTEMPTS {
        let seq = load!(modes.seq);
        let mode = load!(modes.mode);
        let since = load!(modes.since_ns);
        let epoch = load!(modes.epoch);
        let epoch_seen = load!(modes.epoch_seen);
        let mut ns = load!(modes.ns);
        let gaps = load!(modes.gaps);
        let unpaired = load!(modes.unpaired);
        let stands_ns = load!(modes.stands_ns);
        if seq != load!(modes.seq) || !seq.is_multiple_of(2) {
            continue;
        }
        // Off its CPU it does nothing that would have to be observed.
        let is_observed =
            epoch != 0 && (stint_ns.is_none() || epoch == epoch_seen && mode != Mode::Unobserved as u32);
        if is_observed {
            // Where the kernel called no program when the thread was given its CPU, or when it left it
            // before, there is no begin, or an older one.
            let stint_ns = stint_ns.unwrap_or(0);
            let goes_on = now.saturating_sub(since);
            ns[mode_place(mode)] += if goes_on < stint_ns { goes_on } else { stint_ns };
        }
        store!(record.modes_ns, ns);
        store!(record.modes_observed, u32::from(is_observed));
        store!(record.modes_gaps, gaps);
        store!(record.unpaired, unpaired);
        store!(record.stands_ns, stands_ns);
        return;
    }
    store!(record.modes_observed, WalkRecord::MODES_TORN);
}
