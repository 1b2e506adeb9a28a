//! The control groups that a process is in, where they are made for it: what the kernel counts of them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{
    ProcFs,
    hierarchy::{Hierarchy, is_of_groups, is_of_one},
};
use crate::{
    collect::{lines, pressure},
    model::{MEMORY_EVENTS, Pressure},
};

/// Bytes of `/proc/PID/cgroup`: a line of some thousand for each hierarchy.
const MOST_OF_GROUPS: usize = 1 << 17;

/// Bytes of `mountinfo`.
const MOST_OF_MOUNTS: usize = 1 << 22;

/// Bytes of `memory.events` and of `cgroup.type`.
const MOST_OF_EVENTS: usize = 4096;

/// Bytes of `memory.numa_stat`. The rows that are read are its first ones in version 2.
const MOST_OF_NUMA: usize = 1 << 20;

/// Nodes that a kernel may have, and more.
const MAX_NODES: u32 = 4096;

/// Bytes of a page on x86-64: version 1 counts pages.
const PAGE: u64 = 4096;

/// Reads the memory of each node out of a text.
type ParseNodes = fn(&str) -> BTreeMap<u32, u64>;

/// Where control groups are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMounts(String);

/// What the kernel has counted of a process's own control groups since those were made. What it does not say
/// is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestGroup {
    /// Inode of the one of version 2, where that is the process's own.
    pub unified: Option<u64>,
    /// Inode of the one of the memory controller, of either version, where that is the process's own.
    pub memory: Option<u64>,
    /// For how long tasks of the one of version 2 stood still.
    pub pressure: Pressure,
    /// What happened to it for want of memory, by [`crate::model::MemoryEvent`].
    pub events: [Option<u64>; MEMORY_EVENTS.len()],
    /// Memory that is charged to the one of the memory controller, by the number of the node, bytes.
    pub nodes: BTreeMap<u32, u64>,
}

impl ProcFs {
    /// Where control groups are mounted for this process. It changes as rarely as a host is set up anew.
    #[must_use]
    pub fn group_mounts(&self) -> GroupMounts {
        let path = self.process(std::process::id()).join("mountinfo");
        let mounts = lines::read(&path, MOST_OF_MOUNTS).unwrap_or_default();
        GroupMounts(mounts.lines().filter(|line| is_of_groups(line)).flat_map(|line| [line, "\n"]).collect())
    }

    /// Reads the control groups of a process that are made for it alone, or for it and what works for it.
    /// Nothing where the process is gone.
    ///
    /// In version 2 that is the group that its resources are charged to: the nearest that is not threaded,
    /// for threads of one process may be in several that are.
    #[must_use]
    pub fn guest_group(&self, pid: u32, GroupMounts(mounts): &GroupMounts) -> Option<GuestGroup> {
        let groups = lines::read(&self.process(pid).join("cgroup"), MOST_OF_GROUPS).ok()?;
        let mut found = GuestGroup::default();
        let unified = Hierarchy::second(&groups, mounts).and_then(|hierarchy| own_domain(&hierarchy));
        if let Some(directory) = &unified {
            found.unified = unchanged(directory, || {
                let of = |resource: &str| directory.join(format!("{resource}.pressure"));
                found.pressure = pressure::read(of).unwrap_or_default();
                found.events = events(&text(directory, "memory.events", MOST_OF_EVENTS));
            });
            if found.unified.is_none() {
                (found.pressure, found.events) = Default::default();
            }
        }
        let first = Hierarchy::first(&groups, mounts, "memory");
        let (memory, parse): (_, ParseNodes) = match &first {
            Some(hierarchy) => (own(hierarchy, &hierarchy.path), nodes_of_first),
            None => (unified, nodes_of_second),
        };
        if let Some(directory) = &memory {
            found.memory = unchanged(directory, || {
                found.nodes = parse(&text(directory, "memory.numa_stat", MOST_OF_NUMA));
            });
            if found.memory.is_none() {
                found.nodes.clear();
            }
        }
        Some(found)
    }
}

/// The directory of a control group, where it is made for one VM.
fn own(hierarchy: &Hierarchy, path: &Path) -> Option<PathBuf> {
    is_of_one(path).then(|| hierarchy.directory(path))
}

/// The same of the nearest that is not threaded.
fn own_domain(hierarchy: &Hierarchy) -> Option<PathBuf> {
    let is_threaded =
        |path: &&Path| text(&hierarchy.directory(path), "cgroup.type", MOST_OF_EVENTS).trim() == "threaded";
    let domain = hierarchy.path.ancestors().find(|path| !is_threaded(path))?;
    own(hierarchy, domain)
}

/// Reads from a directory; its inode, or nothing where it was removed meanwhile, or is another one now.
fn unchanged(directory: &Path, read: impl FnOnce()) -> Option<u64> {
    let inode = || fs::metadata(directory).ok().map(|found| found.ino());
    let before = inode()?;
    read();
    (inode() == Some(before)).then_some(before)
}

/// A file's text, empty where there is none: the controller is not enabled there, or the kernel lacks it.
fn text(directory: &Path, file: &str, most: usize) -> String {
    lines::read(&directory.join(file), most).unwrap_or_default()
}

/// Of lines of the form `oom_kill 3`. Rows that are not known are left out.
fn events(text: &str) -> [Option<u64>; MEMORY_EVENTS.len()] {
    let mut events = [None; MEMORY_EVENTS.len()];
    for (key, count) in text.lines().filter_map(|line| line.split_once(' ')) {
        if let Some(place) = MEMORY_EVENTS.iter().position(|event| event.key == key) {
            events[place] = count.parse().ok();
        }
    }
    events
}

/// Of version 2: lines of the form `anon N0=4096 N1=0`, in bytes. Shared memory is part of `file`.
fn nodes_of_second(text: &str) -> BTreeMap<u32, u64> {
    let of = |key: &str| row(text, key);
    let file = of("file ");
    let both = of("anon ")
        .into_iter()
        .filter_map(|(node, bytes)| Some((node, bytes.checked_add(*file.get(&node)?)?)));
    both.collect()
}

/// Of version 1: a line of the form `hierarchical_total=5 N0=5 N1=0`, in pages.
fn nodes_of_first(text: &str) -> BTreeMap<u32, u64> {
    let pages = row(text, "hierarchical_total=").into_iter();
    pages.filter_map(|(node, pages)| Some((node, pages.checked_mul(PAGE)?))).collect()
}

/// The numbers of a row that begins so, by node. What is no number of a node is left out.
fn row(text: &str, key: &str) -> BTreeMap<u32, u64> {
    let row = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    let numbers = row.split(' ').filter_map(|field| {
        let (node, number) = field.strip_prefix('N')?.split_once('=')?;
        let node = node.parse::<u32>().ok().filter(|node| *node < MAX_NODES)?;
        Some((node, number.parse().ok()?))
    });
    numbers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MemoryEvent, Resource, Stalled};

    /// A made-up host with a process 9 in control groups; files below `v1` and `v2` are those of the groups.
    struct Host {
        root: tempfile::TempDir,
        proc: ProcFs,
    }

    impl Host {
        fn new(groups: &str, has_first: bool) -> Self {
            let root = tempfile::tempdir().unwrap();
            let proc = ProcFs::at(root.path().join("proc"));
            let own = std::process::id().to_string();
            for directory in ["9", own.as_str()] {
                fs::create_dir_all(proc.root().join(directory)).unwrap();
            }
            fs::write(proc.root().join("9/cgroup"), groups).unwrap();
            let at = root.path().display();
            let mut mounts =
                format!("1 1 0:1 / / rw - ext4 sda rw\n33 24 0:28 / {at}/v2 rw - cgroup2 cgroup2 rw\n");
            if has_first {
                mounts += &format!("34 24 0:29 / {at}/v1 rw - cgroup cgroup rw,memory\n");
            }
            fs::write(proc.root().join(own).join("mountinfo"), mounts).unwrap();
            Self { root, proc }
        }

        fn file(self, path: &str, text: &str) -> Self {
            let path = self.root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn read(&self) -> GuestGroup {
            self.proc.guest_group(9, &self.proc.group_mounts()).unwrap()
        }

        fn inode(&self, path: &str) -> u64 {
            fs::metadata(self.root.path().join(path)).unwrap().ino()
        }
    }

    const NUMA: &str =
        "anon N0=4096 N1=8192\nfile N0=1 N1=2\nkernel_stack N0=5 N1=5\nfile_mapped N0=9 N1=9\n";

    #[test]
    fn version_2_has_all_of_it_in_the_nearest_group_that_is_not_threaded() {
        let host = Host::new("0::/m.slice/vm.scope/libvirt/emulator\n", false)
            .file("v2/m.slice/vm.scope/libvirt/emulator/cgroup.type", "threaded\n")
            .file("v2/m.slice/vm.scope/libvirt/emulator/cpu.pressure", "some total=1\nfull total=1\n")
            .file("v2/m.slice/vm.scope/libvirt/cgroup.type", "domain threaded\n")
            .file("v2/m.slice/vm.scope/libvirt/cpu.pressure", "some total=7\nfull total=5\n")
            .file("v2/m.slice/vm.scope/libvirt/memory.events", "low 0\nhigh 12\nnew 9\noom_kill x\nmax 1 1\n")
            .file("v2/m.slice/vm.scope/libvirt/memory.numa_stat", NUMA);
        let found = host.read();
        let inode = host.inode("v2/m.slice/vm.scope/libvirt");
        assert_eq!((found.unified, found.memory), (Some(inode), Some(inode)));
        assert_eq!(found.pressure.get(Resource::Cpu, Stalled::AtLeastOne), Some(7_000));
        assert_eq!(found.pressure.get(Resource::Cpu, Stalled::All), Some(5_000), "a group has it");
        let event = |event: MemoryEvent| found.events[event as usize];
        assert_eq!((event(MemoryEvent::Low), event(MemoryEvent::High)), (Some(0), Some(12)));
        assert_eq!((event(MemoryEvent::OomKill), event(MemoryEvent::Max)), (None, None), "torn rows");
        assert_eq!(event(MemoryEvent::OomGroupKill), None, "an older kernel");
        assert_eq!(found.nodes, BTreeMap::from([(0, 4097), (1, 8194)]));
    }

    #[test]
    fn version_1_has_the_memory_where_its_controller_is() {
        let numa = "total=1 N0=1\nhierarchical_total=5 N0=3 N1=2\nhierarchical_file=1 N0=1 N1=0\n";
        let host = Host::new("4:memory:/machine/vm\n0::/vm.scope\n", true)
            .file("v1/machine/vm/memory.numa_stat", numa)
            .file("v2/vm.scope/memory.pressure", "some total=3\nfull total=2\n");
        let found = host.read();
        assert_eq!(found.memory, Some(host.inode("v1/machine/vm")));
        assert_eq!(found.unified, Some(host.inode("v2/vm.scope")));
        assert_eq!(found.nodes, BTreeMap::from([(0, 3 * 4096), (1, 2 * 4096)]));
        assert_eq!(found.pressure.get(Resource::Memory, Stalled::All), Some(2_000));
        assert_eq!(found.events, [None; MEMORY_EVENTS.len()]);
    }

    #[test]
    fn groups_of_others_and_groups_that_are_gone_are_nobody_s() {
        for path in ["/", "/m.slice", "/user.slice/session-3.scope", "/gone", "/../vm"] {
            let host = Host::new(&format!("4:memory:{path}\n0::{path}\n"), true)
                .file("v2/cpu.pressure", "some total=7\n")
                .file("v2/m.slice/cpu.pressure", "some total=7\n")
                .file("v2/user.slice/session-3.scope/cpu.pressure", "some total=7\n")
                .file("v1/m.slice/memory.numa_stat", "hierarchical_total=5 N0=5\n");
            assert_eq!(host.read(), GuestGroup::default(), "{path}");
        }
        let host = Host::new("0::/vm\n", false);
        assert_eq!(host.proc.guest_group(8, &host.proc.group_mounts()), None, "there is no such process");
    }

    #[test]
    fn a_group_that_is_replaced_while_it_is_read_is_none() {
        let root = tempfile::tempdir().unwrap();
        let (path, other) = (root.path().join("vm"), root.path().join("other"));
        fs::create_dir(&path).unwrap();
        fs::create_dir(&other).unwrap();
        assert_eq!(unchanged(&path, || {}), Some(fs::metadata(&path).unwrap().ino()));
        let replace = || {
            fs::remove_dir(&path).unwrap();
            fs::rename(&other, &path).unwrap();
        };
        assert_eq!(unchanged(&path, replace), None);
        assert_eq!(unchanged(&path, || fs::remove_dir(&path).unwrap()), None);
        assert_eq!(unchanged(&path, || panic!("there is nothing to read")), None);
    }

    #[test]
    fn what_is_no_number_of_a_node_is_left_out() {
        let nodes = |text: &str| nodes_of_second(text);
        for text in [
            "",
            "anon",
            "anon N0=4096\n",
            "anon N0=x\nfile N0=1\n",
            "anon N=1\nfile N=1\n",
            "anon N4096=1\nfile N4096=1\n",
            "anon N-1=1\nfile N-1=1\n",
            "anon N0=18446744073709551615\nfile N0=1\n",
            "anon N0=99999999999999999999\nfile N0=1\n",
        ] {
            assert_eq!(nodes(text), BTreeMap::new(), "{text:?}");
        }
        assert_eq!(nodes("anon N0=1 N1=x N2=3\nfile N0=1 N1=1 N2=1\n"), BTreeMap::from([(0, 2), (2, 4)]));
        assert_eq!(nodes_of_first("hierarchical_total=1 N0=18446744073709551615\n"), BTreeMap::new());
    }
}
