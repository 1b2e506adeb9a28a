//! `/proc/stat`: what the host's CPUs spent their time on.

use crate::{
    collect::procfs::TICK_NS,
    model::{CPU_MODES, THREAD_STATES},
};

/// Time of all CPUs together, by [`crate::model::CpuMode`], ns. Guests' time is part of the first two: what
/// the line has of it apart is not counted again.
pub(super) fn times(stat: &str) -> [Option<u64>; CPU_MODES.len()] {
    let mut times = [None; CPU_MODES.len()];
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    for (time, field) in times.iter_mut().zip(line.split_ascii_whitespace()) {
        *time = field.parse::<u64>().ok().and_then(|ticks| ticks.checked_mul(TICK_NS));
    }
    times
}

/// Threads, by [`crate::model::ThreadState`].
pub(super) fn threads(stat: &str) -> [Option<u64>; THREAD_STATES.len()] {
    ["procs_running ", "procs_blocked "].map(|key| {
        let value = stat.lines().find_map(|line| line.strip_prefix(key))?;
        value.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_all_cpus_is_read_without_guests() {
        let stat = "cpu  10 20 30 40 50 60 70 80 90 100\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 5 0 0\n\
                    procs_running 3\nprocs_blocked 0\n";
        let ticks = times(stat).map(|time| time.map(|ns| ns / TICK_NS));
        assert_eq!(ticks, [10, 20, 30, 40, 50, 60, 70, 80].map(Some));
        assert_eq!(threads(stat), [Some(3), Some(0)]);
    }

    #[test]
    fn what_is_not_there_or_no_number_is_absent() {
        for stat in ["", "cpu", "cpu ", "cpu0 1 2 3", "cpu  x -1 1.5 18446744073709551615\n"] {
            assert_eq!(times(stat), [None; CPU_MODES.len()], "{stat:?}");
        }
        assert_eq!(times("cpu  1 x 3")[..4], [Some(TICK_NS), None, Some(3 * TICK_NS), None]);
        for stat in ["", "procs_running", "procs_running x", "procs_running 99999999999999999999"] {
            assert_eq!(threads(stat), [None; THREAD_STATES.len()], "{stat:?}");
        }
    }
}
