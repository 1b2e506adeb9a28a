//! What of `/proc` this process sees: a unit or a container may have hidden a part of it.

use super::{
    Root,
    capability::{Capabilities, Capability},
    check::CheckItem,
};

const NAME: &str = "/proc";

/// Does this process see all of `/proc`?
#[must_use]
pub fn check(root: &Root) -> CheckItem {
    let Ok(mounts) = root.text("proc/self/mountinfo") else {
        return CheckItem::warn(NAME, "how it is mounted is not known", "mount /proc");
    };
    let own = root.path("proc").display().to_string();
    let Some(options) = options(&mounts, &own).or_else(|| options(&mounts, "/proc")) else {
        return CheckItem::warn(NAME, "is no mount of its own", "mount /proc");
    };
    let value = |name| options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
    if value("subset") == Some("pid") {
        return CheckItem::fail(
            NAME,
            "has processes alone (subset=pid): neither what the kernel is nor what the host does can be read",
            "take ProcSubset=pid out of the unit",
        );
    }
    // Linux 5.8 has names for the numbers.
    match value("hidepid").filter(|mode| !matches!(*mode, "0" | "off")) {
        None => CheckItem::ok(NAME, "all processes are shown"),
        // fs/proc/root.c and base.c: whoever may trace a process sees it in each of the modes.
        Some(mode) if may_trace(root) => {
            CheckItem::ok(NAME, format!("hidepid={mode}, which CAP_SYS_PTRACE sees through"))
        }
        Some(mode) => CheckItem::warn(
            NAME,
            format!("hidepid={mode}: guests that other users run are not found"),
            "give CAP_SYS_PTRACE, or take ProtectProc= out of the unit",
        ),
    }
}

fn may_trace(root: &Root) -> bool {
    Capabilities::read(root).is_some_and(|capabilities| capabilities.has(Capability::SysPtrace))
}

/// The file system's options of what is mounted at a point: of several the last, which is on top.
/// `mountinfo` has them behind ` - `, a type and a source.
fn options<'a>(mounts: &'a str, point: &str) -> Option<&'a str> {
    let at_point = mounts.lines().filter(|line| line.split(' ').nth(4) == Some(point));
    at_point.filter_map(|line| line.split_once(" - ")?.1.split(' ').nth(2)).next_back()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{check::CheckStatus, fixture::FakeRoot},
        *,
    };

    fn checked(options: &str, effective: u64) -> CheckItem {
        let mounts = format!(
            "24 1 0:22 / /sys rw - sysfs sysfs rw\n\
             25 1 0:23 / /proc rw,nosuid shared:13 - proc proc rw\n\
             99 25 0:23 / /proc rw,nosuid - proc proc {options}\n\
             26 25 0:30 / /proc/sys ro - proc proc rw,subset=pid\n"
        );
        let fake = FakeRoot::new()
            .file("proc/self/mountinfo", mounts)
            .file("proc/self/status", format!("CapEff:\t{effective:016x}\n"))
            .file("proc/sys/kernel/cap_last_cap", "40");
        check(&fake.root())
    }

    #[test]
    fn what_a_unit_hides_is_named() {
        let item = checked("rw,hidepid=invisible,subset=pid", u64::MAX);
        assert_eq!(item.status, CheckStatus::Fail);
        assert!(item.fix.unwrap().contains("ProcSubset=pid"));
    }

    #[test]
    fn hidden_processes_are_a_warning_to_whoever_may_not_trace_them() {
        for mode in ["2", "invisible", "noaccess", "ptraceable"] {
            let options = format!("rw,hidepid={mode}");
            assert_eq!(checked(&options, 0).status, CheckStatus::Warn, "{mode}");
            assert_eq!(checked(&options, 1 << 19).status, CheckStatus::Ok, "{mode}");
        }
        for options in ["rw", "rw,hidepid=0", "rw,hidepid=off,gid=4"] {
            assert_eq!(checked(options, 0).status, CheckStatus::Ok, "{options}");
        }
    }

    #[test]
    fn a_machine_without_the_file_is_a_warning() {
        assert_eq!(check(&FakeRoot::new().root()).status, CheckStatus::Warn);
    }
}
