//! Whether the kernel counts runs of eBPF programs, and the time that they take.

use super::Root;

/// The setting; Linux 5.1 and later.
const PATH: &str = "proc/sys/kernel/bpf_stats_enabled";

/// How to have them counted.
pub const FIX: &str = "`sysctl kernel.bpf_stats_enabled=1` has them counted from then on; each run of each program \
                       of the host looks at the clock twice meanwhile";

/// Whether `kernel.bpf_stats_enabled` is set; `None` where the kernel does not say. Without it they are
/// counted while somebody holds a descriptor of `BPF_ENABLE_STATS` (5.8), which nobody else can see.
#[must_use]
pub fn are_enabled(root: &Root) -> Option<bool> {
    root.text(PATH).ok()?.parse().ok().map(|value: u32| value != 0)
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::FakeRoot, *};

    #[test]
    fn a_kernel_that_does_not_say_is_not_one_that_does_not_count() {
        let said = |text: &str| are_enabled(&FakeRoot::new().file(PATH, text).root());
        assert_eq!([said("1\n"), said("0\n"), said("")], [Some(true), Some(false), None]);
        assert_eq!(are_enabled(&FakeRoot::new().root()), None);
    }
}
