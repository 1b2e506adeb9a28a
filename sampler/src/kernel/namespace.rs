//! Whether this process sees the host as the kernel does, or as a container does.

use std::fs;

use super::{Root, check::CheckItem};

/// Inode numbers of the initial namespaces; part of the kernel's ABI since Linux 3.8 (`PROC_*_INIT_INO`).
const INITIAL_PID: &str = "pid:[4026531836]";
const INITIAL_TIME: &str = "time:[4026531834]";
const INITIAL_USER: &str = "user:[4026531837]";
const INITIAL_CGROUP: &str = "cgroup:[4026531835]";
const INITIAL_UTS: &str = "uts:[4026531838]";

/// Whether pids here are those that the kernel's programs report.
#[must_use]
pub fn is_initial_pid(root: &Root) -> bool {
    is(root, "pid", INITIAL_PID)
}

/// Whether the kernel's name of the host is that of the host.
pub(super) fn is_initial_uts(root: &Root) -> bool {
    is(root, "uts", INITIAL_UTS)
}

/// Whether capabilities here are those of the host.
#[must_use]
pub fn is_initial_user(root: &Root) -> bool {
    is(root, "user", INITIAL_USER)
}

fn is(root: &Root, kind: &str, initial: &str) -> bool {
    // A kernel without namespaces of this kind has no link.
    fs::read_link(root.path("proc/self/ns").join(kind)).map_or(true, |link| link.as_os_str() == initial)
}

/// Are pids here those of the host?
#[must_use]
pub fn check_pid(root: &Root) -> CheckItem {
    const NAME: &str = "pid namespace";
    match is_initial_pid(root) {
        true => CheckItem::ok(NAME, "the host's"),
        false => CheckItem::fail(
            NAME,
            "a container's: pids here are not those that the kernel counts by",
            "run in the host's pid namespace (--pid=host, or hostPID: true in Kubernetes)",
        ),
    }
}

/// Are control groups here those of the host?
#[must_use]
pub fn check_cgroup(root: &Root) -> CheckItem {
    const NAME: &str = "cgroup namespace";
    match is(root, "cgroup", INITIAL_CGROUP) {
        true => CheckItem::ok(NAME, "the host's"),
        false => CheckItem::warn(
            NAME,
            "a container's: what guests' control groups count is not found, disks of guests are not, and platforms \
             that show by control groups alone",
            "run in the host's cgroup namespace (--cgroupns=host; privileged containers of Kubernetes are)",
        ),
    }
}

/// Are the clocks here those of the host?
#[must_use]
pub fn check_time(root: &Root) -> CheckItem {
    const NAME: &str = "time namespace";
    match is(root, "time", INITIAL_TIME) {
        true => CheckItem::ok(NAME, "the host's"),
        false => CheckItem::fail(
            NAME,
            "one of its own: the time since boot is not the one that the kernel counts by",
            "run in the host's time namespace (not under `unshare --time`)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{check::CheckStatus, fixture::FakeRoot},
        *,
    };

    #[test]
    fn containers_are_distinguished_from_hosts() {
        let fake = FakeRoot::new().link("proc/self/ns/pid", "pid:[4026531836]");
        assert_eq!(check_pid(&fake.root()).status, CheckStatus::Ok);
        let fake = FakeRoot::new().link("proc/self/ns/pid", "pid:[4026532488]");
        assert_eq!(check_pid(&fake.root()).status, CheckStatus::Fail);
        assert_eq!(check_pid(&FakeRoot::new().root()).status, CheckStatus::Ok);
    }

    #[test]
    fn control_groups_of_a_container_are_named() {
        let status =
            |link: &str| check_cgroup(&FakeRoot::new().link("proc/self/ns/cgroup", link).root()).status;
        assert_eq!(status("cgroup:[4026531835]"), CheckStatus::Ok);
        assert_eq!(status("cgroup:[4026532488]"), CheckStatus::Warn);
    }

    #[test]
    fn clocks_of_their_own_are_distinguished_from_the_host_s() {
        let status = |link: &str| check_time(&FakeRoot::new().link("proc/self/ns/time", link).root()).status;
        assert_eq!(status("time:[4026531834]"), CheckStatus::Ok);
        assert_eq!(status("time:[4026532488]"), CheckStatus::Fail);
        assert_eq!(check_time(&FakeRoot::new().root()).status, CheckStatus::Ok, "before Linux 5.6");
    }

    #[test]
    fn this_process_is_where_the_host_is() {
        assert_eq!(check_time(&Root::system()).status, CheckStatus::Ok);
    }
}
