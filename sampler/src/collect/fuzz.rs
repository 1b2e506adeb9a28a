//! Files of the kernel's that are not as proc(5) has them, and those that are cut off.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    devices::disk_name,
    host::{HostFiles, Nodes},
    procfs::{GuestGroup, OpenFile, ProcFs},
};
use crate::{
    fuzzing::{Memory, Target, cuts, parts},
    kernel::Root,
    model::{HostParts, HostState},
};

const ALL: HostParts = HostParts { pressure: true, system: true };

/// Nothing that was read of a file without its end differs from what the whole says: it is absent.
#[track_caller]
fn assert_absent_or<T: Copy + PartialEq + std::fmt::Debug>(cut: Option<T>, whole: Option<T>) {
    assert!(cut.is_none() || cut == whole, "{cut:?} is not {whole:?}");
}

fn put(root: &Path, files: &[(&str, &[u8])]) {
    for (path, content) in files {
        fs::write(root.join(path), content).unwrap();
    }
}

fn directories(root: &Path, paths: &[&str]) {
    paths.iter().for_each(|path| fs::create_dir_all(root.join(path)).unwrap());
}

const HOST: Target = Target {
    name: "host_files",
    words: &[
        "\n====\n",
        "cpu  ",
        "procs_running ",
        "MemTotal: ",
        "MemFree: ",
        "Buffers: ",
        "Cached: ",
        " kB\n",
        "some ",
        "full ",
        "total=",
        "0-4294967295",
        " 259 1 nvme0c0n1 ",
    ],
    inputs: 1_000,
    memory: Memory { fixed: 3 << 20, each: 32 },
};

fn host_state(root: &Path, host: &HostFiles, input: &[u8]) -> HostState {
    let [stat, meminfo, pressure, pages, nodes, disks] = parts(input);
    put(
        root,
        &[
            ("proc/stat", stat),
            ("proc/meminfo", meminfo),
            ("proc/pressure/cpu", pressure),
            ("proc/pressure/io", pressure),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", pages),
            ("sys/devices/system/node/node0/cpulist", nodes),
            ("proc/diskstats", disks),
        ],
    );
    host.read(ALL)
}

/// Each file of a host without its end, the others as they are.
fn with_one_cut(input: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let files: [&[u8]; 6] = parts(input);
    (0..files.len()).flat_map(move |cut| {
        cuts(files[cut]).map(move |short| {
            let mut files = files;
            files[cut] = short;
            files.join(&b"\n====\n"[..])
        })
    })
}

#[test]
fn host_files() {
    let root = tempfile::tempdir().unwrap();
    let pages = "sys/kernel/mm/hugepages/hugepages-2048kB";
    directories(root.path(), &["proc/pressure", pages, "sys/devices/system/node/node0"]);
    let [free, reserved] = ["free", "resv"].map(|kind| format!("{pages}/{kind}_hugepages"));
    put(root.path(), &[(&*free, &b"3\n"[..]), (&*reserved, &b"0\n"[..])]);
    let host = HostFiles::below(&Root::at(root.path()));
    HOST.check(&[], |input| {
        let whole = host_state(root.path(), &host, input);
        if let Some(states) = whole.memory {
            assert!(states.iter().try_fold(0_u64, |sum, bytes| sum.checked_add(*bytes)).is_some());
        }
        assert!(Nodes::read(&root.path().join("sys")).all().len() <= 1);
        assert!(disk_name(root.path(), 259, 1).is_none_or(|disk| !disk.name.contains(char::is_whitespace)));
        for cut in with_one_cut(input).step_by(4) {
            let cut = host_state(root.path(), &host, &cut);
            cut.cpu_ns.into_iter().zip(whole.cpu_ns).for_each(|(cut, whole)| assert_absent_or(cut, whole));
            cut.threads.into_iter().zip(whole.threads).for_each(|(cut, whole)| assert_absent_or(cut, whole));
            cut.pressure
                .iter()
                .zip(whole.pressure.iter())
                .for_each(|(cut, whole)| assert_absent_or(cut, whole));
            assert_absent_or(cut.available, whole.available);
            assert_absent_or(cut.memory, whole.memory);
        }
    });
}

const PROCESS: Target = Target {
    name: "process_files",
    words: &[
        "\n====\n",
        "0::/vm.scope\n",
        "4:memory:/vm\n",
        " - cgroup2 cgroup2 rw",
        " - cgroup cgroup rw,memory",
        " - nfs4 host:/export rw",
        " - ext4 /dev/mapper/a rw",
        " 8:0 / ",
        "mnt_id:\t36\n",
        "flags:\t0100000\n",
        "anon N0=",
        "file N0=",
        "RssAnon:\t",
        " kB\n",
        "some avg10=0.00 total=",
        "/dev/net/tun",
        "/dev/vhost-net",
        "/dev/tap7",
        ") S ",
    ],
    inputs: 700,
    memory: Memory { fixed: 2 << 20, each: 64 },
};

/// The files of process 7, of which the mounts are this one's too; its control group is in `{root}/v2`.
fn write_process(root: &Path, input: &[u8]) {
    let [groups, mounts, stat, status, info, numa, pressure, schedstat] = parts(input);
    let at = root.display();
    let own = format!("33 24 0:28 / {at}/v2 rw - cgroup2 cgroup2 rw\n36 24 8:0 / / rw - ext4 /dev/sda rw\n");
    let mounts = [own.as_bytes(), mounts].concat();
    put(
        root,
        &[
            ("proc/7/cgroup", groups),
            ("proc/7/comm", groups),
            ("proc/7/mountinfo", &mounts[..]),
            ("proc/7/stat", stat),
            ("proc/7/status", status),
            ("proc/7/fdinfo/5", info),
            ("proc/7/task/7/schedstat", schedstat),
            ("v2/vm.scope/memory.numa_stat", numa),
            ("v2/vm.scope/memory.events", numa),
            ("v2/vm.scope/cpu.pressure", pressure),
        ],
    );
}

/// All that is asked of a process.
fn ask(proc: &ProcFs, root: &Path, input: &[u8]) -> Option<GuestGroup> {
    write_process(root, input);
    let start_ns = proc.start_boottime_ns(7).unwrap_or(50_000_000);
    let _ = proc.memory(7, start_ns);
    let _ = proc.task_name(7);
    let _ = proc.io_group(7);
    let _ = proc.has_own_io_group(7, 1);
    let _ = proc.schedstat(7, 7).and_then(|file| file.read());
    // The path of a descriptor is the process's word as well.
    let path = String::from_utf8_lossy(parts::<5>(input)[4]).into_owned();
    let paths: [PathBuf; 4] =
        ["/images/a.qcow2".into(), "/dev/net/tun".into(), "/dev/tap7".into(), path.into()];
    let files: Vec<_> = paths.map(|path| OpenFile { descriptor: "5".into(), path }).into();
    assert!(proc.attached(7, &files, &root.join("sys")).len() <= files.len());
    proc.guest_group(7, &proc.group_mounts())
}

#[test]
fn process_files() {
    let root = tempfile::tempdir().unwrap();
    directories(
        root.path(),
        &["proc/7/fdinfo", "proc/7/fd", "proc/7/task/7", "v2/vm.scope", "sys/class/net"],
    );
    let own = std::process::id().to_string();
    std::os::unix::fs::symlink("7", root.path().join("proc").join(own)).unwrap();
    put(root.path(), &[("proc/7/fd/5", &b""[..])]);
    let proc = ProcFs::at(root.path().join("proc"));
    PROCESS.check(&[], |input| {
        let Some(whole) = ask(&proc, root.path(), input) else { return };
        assert!(whole.nodes.keys().all(|node| *node < 4096));
        let [groups, mounts, stat, status, info, numa, pressure, last] = parts(input);
        for (numa, pressure) in cuts(numa).zip(cuts(pressure)) {
            let cut = [groups, mounts, stat, status, info, numa, pressure, last].join(&b"\n====\n"[..]);
            let Some(cut) = ask(&proc, root.path(), &cut) else { continue };
            let times = cut.pressure.iter().zip(whole.pressure.iter());
            times.for_each(|(cut, whole)| assert_absent_or(cut, whole));
            for (node, bytes) in cut.nodes {
                assert_eq!(whole.nodes.get(&node), Some(&bytes), "node {node}");
            }
        }
    });
}
