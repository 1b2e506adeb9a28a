//! Hierarchies of control groups: where they are mounted, where a process is in one, and which groups are
//! made for one VM.

use std::path::{Path, PathBuf};

/// A hierarchy that a process is in.
pub(super) struct Hierarchy {
    /// Where it is mounted.
    mount: PathBuf,
    /// The process's control group in it, from its root on.
    pub(super) path: PathBuf,
}

impl Hierarchy {
    /// That of version 1 with a controller, where it is mounted. Of a process with these `groups`, and with
    /// these `mounts`, as `/proc/PID/cgroup` and `mountinfo` have them.
    pub(super) fn first(groups: &str, mounts: &str, controller: &str) -> Option<Self> {
        let has_it = |list: &str| list.split(',').any(|one| one == controller);
        Self::of(groups, mounts, &has_it, &|kind, options| kind == "cgroup" && has_it(options))
    }

    /// That of version 2.
    pub(super) fn second(groups: &str, mounts: &str) -> Option<Self> {
        Self::of(groups, mounts, &str::is_empty, &|kind, _| kind == "cgroup2")
    }

    fn of(
        groups: &str,
        mounts: &str,
        is_hierarchy: &dyn Fn(&str) -> bool,
        is_mount: &dyn Fn(&str, &str) -> bool,
    ) -> Option<Self> {
        let path = groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            is_hierarchy(controllers).then(|| PathBuf::from(path))
        })?;
        let mount = mounts.lines().find_map(|line| mount_point(line, is_mount))?;
        Some(Self { mount, path })
    }

    /// The directory of one of its control groups.
    pub(super) fn directory(&self, path: &Path) -> PathBuf {
        self.mount.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Whether a line of `mountinfo` is of a file system of control groups.
pub(super) fn is_of_groups(line: &str) -> bool {
    mount_point(line, &|kind, _| kind.starts_with("cgroup")).is_some()
}

/// Where a line of `mountinfo` says that a file system of control groups is mounted, as a whole.
fn mount_point(line: &str, is_wanted: &dyn Fn(&str, &str) -> bool) -> Option<PathBuf> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (left.next()?, left.next()?);
    let mut right = right.split(' ');
    let (kind, options) = (right.next()?, right.nth(1)?);
    (root == "/" && is_wanted(kind, options)).then(|| PathBuf::from(point))
}

/// Whether a control group is one that holds a single VM and what belongs to it, as far as its name says.
pub(super) fn is_of_one(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let is_slice = Path::new(name).extension().is_some_and(|kind| kind == "slice");
    !is_slice && !is_login(name)
}

/// Whether a unit is a login or the system itself: it says less than the command.
#[must_use]
pub fn is_login(unit: &str) -> bool {
    unit.starts_with("session-") || unit.starts_with("user@") || unit == "init.scope"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_others_is_of_nobody() {
        for path in [
            "/machine.slice/machine-qemu\\x2d1\\x2dweb.scope/libvirt",
            "/machine.slice/machine-qemu\\x2d1\\x2dweb.scope",
            "/qemu.slice/100.scope",
            "/kubepods.slice/kubepods-pod1.slice/cri-containerd-2.scope",
            "/kubepods/besteffort/pod1/2",
            "/system.slice/firecracker@1.service",
            "/vm1",
        ] {
            assert!(is_of_one(Path::new(path)), "{path}");
        }
        for path in [
            "/",
            "",
            "/machine.slice",
            "/user.slice/user-1000.slice/session-3.scope",
            "/user.slice/user-1000.slice/user@1000.service",
            "/init.scope",
        ] {
            assert!(!is_of_one(Path::new(path)), "{path}");
        }
    }
}
