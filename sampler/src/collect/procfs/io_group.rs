//! The control group that a process's disk requests are charged to, and whether it was made for it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::ProcFs;

/// Bytes that are taken of what the kernel says of mounts and control groups.
const MAX_LINES: usize = 1 << 20;

impl ProcFs {
    /// Whether the control group of the io controller with this inode, which a process is in, was made for
    /// the process alone, or for it and what works for it: it is a service, a scope, a container or a
    /// directory of a VMM's own. It is not where it is the root, a slice, a login, or the system itself: what
    /// else is there has its requests charged to it as well. `None` where that cannot be found out.
    #[must_use]
    pub fn has_own_io_group(&self, pid: u32, inode: u64) -> Option<bool> {
        let groups = read(&self.process(pid).join("cgroup")).ok()?;
        let mounts = read(&self.process(std::process::id()).join("mountinfo")).ok()?;
        let path = Hierarchy::of_io(&groups, &mounts)?.path_of(inode)?;
        Some(is_of_one(&path))
    }
}

/// Where the io controller is.
struct Hierarchy {
    mount: PathBuf,
    /// The process's control group in it, from its root on.
    path: PathBuf,
}

impl Hierarchy {
    /// Version 1 where the controller is mounted there (`blkio`), else version 2.
    fn of_io(groups: &str, mounts: &str) -> Option<Self> {
        let of = |is_hierarchy: &dyn Fn(&str) -> bool, is_mount: &dyn Fn(&str, &str) -> bool| {
            let path = groups.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                is_hierarchy(controllers).then(|| PathBuf::from(path))
            })?;
            let mount = mounts.lines().find_map(|line| mount_point(line, is_mount))?;
            Some(Self { mount, path })
        };
        let has_blkio = |list: &str| list.split(',').any(|controller| controller == "blkio");
        of(&has_blkio, &|kind, options| kind == "cgroup" && has_blkio(options))
            .or_else(|| of(&str::is_empty, &|kind, _| kind == "cgroup2"))
    }

    /// The path of the control group with this inode: the process's, or one that it is in.
    fn path_of(&self, inode: u64) -> Option<PathBuf> {
        let below_mount = |path: &Path| self.mount.join(path.strip_prefix("/").unwrap_or(path));
        let has_it = |path: &&Path| fs::metadata(below_mount(path)).is_ok_and(|found| found.ino() == inode);
        self.path.ancestors().find(has_it).map(Path::to_owned)
    }
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
fn is_of_one(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let is_slice = Path::new(name).extension().is_some_and(|kind| kind == "slice");
    !is_slice && !is_login(name)
}

/// Whether a unit is a login or the system itself: it says less than the command.
#[must_use]
pub fn is_login(unit: &str) -> bool {
    unit.starts_with("session-") || unit.starts_with("user@") || unit == "init.scope"
}

fn read(path: &Path) -> io::Result<String> {
    let mut lines = fs::read(path)?;
    lines.truncate(MAX_LINES);
    Ok(String::from_utf8_lossy(&lines).into_owned())
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

    /// A made-up host with a process 9 in a control group, its mounts, and the group's directory.
    fn host(groups: &str, mounts: impl Fn(&str) -> String) -> (tempfile::TempDir, ProcFs) {
        let root = tempfile::tempdir().unwrap();
        let proc = root.path().join("proc");
        fs::create_dir_all(proc.join("9")).unwrap();
        fs::create_dir_all(proc.join(std::process::id().to_string())).unwrap();
        fs::create_dir_all(root.path().join("mnt/a.slice/vm.scope/inner")).unwrap();
        fs::write(proc.join("9/cgroup"), groups).unwrap();
        let mounts = mounts(root.path().join("mnt").to_str().unwrap());
        fs::write(proc.join(std::process::id().to_string()).join("mountinfo"), mounts).unwrap();
        let proc = ProcFs::at(proc);
        (root, proc)
    }

    fn own(root: &tempfile::TempDir, proc: &ProcFs, path: &str) -> Option<bool> {
        proc.has_own_io_group(9, fs::metadata(root.path().join(path)).unwrap().ino())
    }

    #[test]
    fn the_control_group_is_found_by_its_inode_among_those_that_the_process_is_in() {
        let unified = |at: &str| format!("33 24 0:28 / {at} rw,nosuid shared:9 - cgroup2 cgroup2 rw\n");
        let (root, proc) = host("0::/a.slice/vm.scope/inner\n", unified);
        assert_eq!(own(&root, &proc, "mnt/a.slice/vm.scope/inner"), Some(true));
        assert_eq!(own(&root, &proc, "mnt/a.slice/vm.scope"), Some(true));
        assert_eq!(own(&root, &proc, "mnt/a.slice"), Some(false));
        assert_eq!(own(&root, &proc, "mnt"), Some(false));
        assert_eq!(own(&root, &proc, "proc"), None, "the process is not in it");
        assert_eq!(proc.has_own_io_group(8, 1), None, "there is no such process");
    }

    #[test]
    fn version_1_is_asked_where_it_has_the_controller() {
        let both = |at: &str| {
            format!(
                "33 24 0:28 / /nowhere rw - cgroup2 cgroup2 rw\n34 24 0:29 / {at}/cpu rw - cgroup cgroup rw,cpu\n\
                 35 24 0:30 /docker/1 /elsewhere rw - cgroup cgroup rw,blkio\n36 24 0:30 / {at} rw - cgroup cgroup rw,blkio\n"
            )
        };
        let (root, proc) = host("7:cpu:/\n6:blkio:/a.slice/vm.scope\n0::/\n", both);
        assert_eq!(own(&root, &proc, "mnt/a.slice/vm.scope"), Some(true));
        assert_eq!(own(&root, &proc, "mnt/a.slice"), Some(false));
    }
}
