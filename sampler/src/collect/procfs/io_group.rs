//! The control group that a process's disk requests are charged to, and whether it was made for it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{
    ProcFs,
    hierarchy::{Hierarchy, is_of_one},
};

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
        let hierarchy =
            Hierarchy::first(&groups, &mounts, "blkio").or_else(|| Hierarchy::second(&groups, &mounts))?;
        Some(is_of_one(&path_of(&hierarchy, inode)?))
    }

    /// The control group that a process's disk requests are charged to, by its path alone: without the
    /// kernel's own word for it. `None` where that cannot be found out.
    #[must_use]
    pub fn io_group(&self, pid: u32) -> Option<IoGroupPath> {
        let groups = read(&self.process(pid).join("cgroup")).ok()?;
        let mounts = read(&self.process(std::process::id()).join("mountinfo")).ok()?;
        let path = match Hierarchy::first(&groups, &mounts, "blkio") {
            Some(hierarchy) => hierarchy.path,
            None => charged(&Hierarchy::second(&groups, &mounts)?)?,
        };
        Some(IoGroupPath { is_of_one: is_of_one(&path), path })
    }
}

/// A control group of the io controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoGroupPath {
    /// From the root of its hierarchy on.
    pub path: PathBuf,
    /// Whether it was made for a single VM, as [`ProcFs::has_own_io_group`] has it.
    pub is_of_one: bool,
}

/// The path of the control group with this inode: the process's, or one that it is in.
fn path_of(hierarchy: &Hierarchy, inode: u64) -> Option<PathBuf> {
    let has_it =
        |path: &&Path| fs::metadata(hierarchy.directory(path)).is_ok_and(|found| found.ino() == inode);
    hierarchy.path.ancestors().find(has_it).map(Path::to_owned)
}

/// The control group of version 2 that requests are charged to: the first one upwards for which the
/// controller is enabled, and the root always.
fn charged(hierarchy: &Hierarchy) -> Option<PathBuf> {
    let is_enabled = |path: &&Path| {
        let controllers = read(&hierarchy.directory(path).join("cgroup.controllers"));
        let is_root = path.parent().is_none();
        is_root || controllers.is_ok_and(|list| list.split_whitespace().any(|controller| controller == "io"))
    };
    hierarchy.path.ancestors().find(is_enabled).map(Path::to_owned)
}

fn read(path: &Path) -> io::Result<String> {
    let mut lines = fs::read(path)?;
    lines.truncate(MAX_LINES);
    Ok(String::from_utf8_lossy(&lines).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_control_group_that_is_renamed_or_removed_meanwhile_is_not_known() {
        let unified = |at: &str| format!("33 24 0:28 / {at} rw - cgroup2 cgroup2 rw\n");
        let (root, proc) = host("0::/a.slice/vm.scope\n", unified);
        let group = root.path().join("mnt/a.slice/vm.scope");
        let inode = fs::metadata(&group).unwrap().ino();
        assert_eq!(proc.has_own_io_group(9, inode), Some(true));
        fs::rename(&group, group.with_file_name("web.scope")).unwrap();
        assert_eq!(proc.has_own_io_group(9, inode), None, "the process is said to be in the old one");
        fs::write(root.path().join("proc/9/cgroup"), "0::/a.slice/web.scope (deleted)\n").unwrap();
        assert_eq!(proc.has_own_io_group(9, inode), None);
        fs::write(root.path().join("proc/9/cgroup"), "0::/a.slice/web.scope\n").unwrap();
        assert_eq!(proc.has_own_io_group(9, inode), Some(true));
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

    #[test]
    fn requests_are_charged_where_the_controller_is_enabled() {
        let unified = |at: &str| format!("33 24 0:28 / {at} rw - cgroup2 cgroup2 rw\n");
        let (root, proc) = host("0::/a.slice/vm.scope/inner\n", unified);
        let group = || proc.io_group(9).map(|group| (group.path, group.is_of_one));
        assert_eq!(group(), Some(("/".into(), false)), "nowhere but in the root");
        let enable = |path: &str, list: &str| {
            fs::write(root.path().join(path).join("cgroup.controllers"), list).unwrap();
        };
        enable("mnt/a.slice", "cpu io memory\n");
        enable("mnt/a.slice/vm.scope", "cpu\n");
        assert_eq!(group(), Some(("/a.slice".into(), false)));
        enable("mnt/a.slice/vm.scope", "cpuset io\n");
        assert_eq!(group(), Some(("/a.slice/vm.scope".into(), true)));
        assert_eq!(proc.io_group(8), None, "there is no such process");
        let version_1 = |at: &str| format!("36 24 0:30 / {at} rw - cgroup cgroup rw,blkio\n");
        let (_root, proc) = host("6:blkio:/a.slice/vm.scope\n", version_1);
        assert_eq!(proc.io_group(9).unwrap().path, Path::new("/a.slice/vm.scope"));
    }
}
