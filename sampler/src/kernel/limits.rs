//! Limits of the running kernel that size the maps.

use std::fs;

const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";
/// CPUs that kernels are built for at most (`NR_CPUS`): a number beyond it is none of CPUs.
pub const MAX_CPUS: u32 = 8192;
/// CPUs for which there is memory where the kernel does not say how many there are; what happens on others is
/// counted. Each takes 68 KiB.
const GUESSED_CPUS: u32 = 1024;

/// Number of the last CPU that may come online, plus one. The kernel fixes it when it boots.
#[must_use]
pub fn possible_cpus() -> u32 {
    let text = fs::read_to_string(POSSIBLE_CPUS).unwrap_or_default();
    last_cpu(&text).map_or(GUESSED_CPUS, |last| last.saturating_add(1))
}

/// The last number of a list such as `0-3,8-11`.
fn last_cpu(list: &str) -> Option<u32> {
    list.trim().rsplit([',', '-']).next()?.parse().ok()
}

/// Lifts the limit on locked memory, which bounds maps before 5.11; later kernels charge the cgroup instead.
/// A refusal is not an error here: if the limit matters, creating the maps will fail and say so.
pub fn lift_memlock() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the pointer is valid for the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } != 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), "RLIMIT_MEMLOCK stays; it matters before 5.11 only");
    }
}

/// Lets this process give its threads any nice value from now on, for which it needs `CAP_SYS_RESOURCE` now
/// and nothing then. Whether it may.
#[must_use]
pub fn lift_nice() -> bool {
    /// Of the highest priority: the limit is 20 less the nice value.
    const ANY: libc::rlim_t = 40;
    let limit = libc::rlimit { rlim_cur: ANY, rlim_max: ANY };
    // SAFETY: the pointer is valid for the call.
    unsafe { libc::setrlimit(libc::RLIMIT_NICE, &raw const limit) == 0 }
}

/// Descriptors that this process may have open.
#[must_use]
pub fn descriptors() -> u64 {
    descriptor_limit().map_or(0, |limit| limit.rlim_cur)
}

/// Lets this process have as many descriptors as it may: the usual limit is for programs that use `select`.
pub fn lift_descriptors() {
    let Some(limit) = descriptor_limit() else { return };
    let lifted = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: the pointer is valid for the call. Where it is refused the limit stays what it was.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const lifted) };
}

fn descriptor_limit() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is valid for the call.
    (unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::{descriptors, last_cpu, lift_descriptors};

    #[test]
    fn the_limit_of_descriptors_is_lifted_as_far_as_it_may_be() {
        let before = descriptors();
        lift_descriptors();
        assert!(descriptors() >= before && before > 0);
    }

    #[test]
    fn the_last_cpu_of_a_list() {
        assert_eq!(last_cpu("0-3\n"), Some(3));
        assert_eq!(last_cpu("0"), Some(0));
        assert_eq!(last_cpu("0-3,8-11"), Some(11));
        assert_eq!(last_cpu(""), None);
    }
}
