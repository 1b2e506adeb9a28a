//! Whether this process sees the host as the kernel does, or as a container does.

use std::fs;

use super::{Root, check::CheckItem};

/// Inode numbers of the initial namespaces; part of the kernel's ABI since Linux 3.8 (`PROC_*_INIT_INO`).
const INITIAL_PID: &str = "pid:[4026531836]";
const INITIAL_USER: &str = "user:[4026531837]";

/// Whether pids here are those that the kernel's programs report.
#[must_use]
pub fn is_initial_pid(root: &Root) -> bool {
    is(root, "pid", INITIAL_PID)
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

#[cfg(test)]
mod tests {
    use super::{
        super::{check::CheckStatus, fixture::FakeRoot},
        *,
    };

    #[test]
    fn containers_are_told_from_hosts() {
        let fake = FakeRoot::new().link("proc/self/ns/pid", "pid:[4026531836]");
        assert_eq!(check_pid(&fake.root()).status, CheckStatus::Ok);
        let fake = FakeRoot::new().link("proc/self/ns/pid", "pid:[4026532488]");
        assert_eq!(check_pid(&fake.root()).status, CheckStatus::Fail);
        assert_eq!(check_pid(&FakeRoot::new().root()).status, CheckStatus::Ok);
    }
}
