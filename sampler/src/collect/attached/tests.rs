//! Descriptors of made-up VMMs.

use std::{fs, os::unix::fs::symlink};

use super::*;

const MOUNTS: &str = "\
20 1 8:1 / / rw - ext4 /dev/sda1 rw
21 1 0:52 / /nfs rw - nfs4 host:/export rw
22 1 0:53 / /tmp rw - tmpfs tmpfs rw
23 1 0:54 / /tank rw - zfs tank rw
24 1 0:55 / /btrfs rw - btrfs /dev/sdb rw
25 1 0:56 / /dev/hugepages rw - hugetlbfs hugetlbfs rw
26 1 0:57 / /gluster rw - fuse.glusterfs host:/v rw
27 1 0:58 / /proc rw - proc proc rw
28 1 254:0 / /zram rw - ext4 /dev/zram0 rw
29 1 0:59 / /c rw - overlay overlay rw
30 1 8:17 / /ntfs rw - fuseblk /dev/sdb1 rw
";

struct Fixture {
    root: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let sys = root.path().join("sys");
        for (disk, numbers, has_queues) in
            [("sda", "8:0", true), ("sdb", "8:16", true), ("zram0", "254:0", false)]
        {
            let directory = sys.join("devices").join(disk);
            fs::create_dir_all(if has_queues { directory.join("mq") } else { directory.clone() }).unwrap();
            fs::write(directory.join("dev"), format!("{numbers}\n")).unwrap();
            fs::create_dir_all(sys.join("dev/block")).unwrap();
            symlink(&directory, sys.join("dev/block").join(numbers)).unwrap();
            fs::create_dir_all(sys.join("class/block")).unwrap();
            symlink(&directory, sys.join("class/block").join(disk)).unwrap();
        }
        let interface = sys.join("class/net/macvtap0");
        fs::create_dir_all(&interface).unwrap();
        fs::write(interface.join("ifindex"), "12\n").unwrap();
        let partition = sys.join("devices/sda/sda1");
        fs::create_dir_all(&partition).unwrap();
        fs::write(partition.join("partition"), "1").unwrap();
        symlink(&partition, sys.join("dev/block/8:1")).unwrap();
        Self { root }
    }

    /// The device of a descriptor.
    fn attached(&self, path: &str, info: &str, file: File) -> Option<Attached> {
        let sys = self.root.path().join("sys");
        let host = Host { sys: &sys, mounts: Mounts::parse(MOUNTS) };
        host.attached(Descriptor { path: path.as_ref(), info }, || Some(file))
    }

    /// Where a file on a mount is seen, which was opened for reading and writing.
    fn file_on(&self, mount: u64) -> Option<(Vec<String>, Option<Unseen>)> {
        let info = format!("pos:\t0\nflags:\t0100002\nmnt_id:\t{mount}\nino:\t7\n");
        let attached = self.attached("/images/a.qcow2", &info, File::Regular)?;
        assert_eq!((attached.kind, &*attached.path), (AttachedKind::Disk, "/images/a.qcow2"));
        Some((attached.seen_at, attached.unseen))
    }
}

fn at(disk: &str) -> Option<(Vec<String>, Option<Unseen>)> {
    Some((vec![disk.to_owned()], None))
}

const fn not(why: Unseen) -> Option<(Vec<String>, Option<Unseen>)> {
    Some((Vec::new(), Some(why)))
}

#[test]
fn a_file_is_seen_at_the_disk_of_its_file_system() {
    let fixture = Fixture::new();
    assert_eq!(fixture.file_on(20), at("sda"));
    assert_eq!(fixture.file_on(24), at("sdb"), "by what was mounted");
    assert_eq!(fixture.file_on(28), not(Unseen::NoRequests));
    assert_eq!(fixture.file_on(21), not(Unseen::NetworkFiles));
    assert_eq!(fixture.file_on(26), not(Unseen::NetworkFiles));
    assert_eq!(fixture.file_on(22), not(Unseen::Memory));
    assert_eq!(fixture.file_on(23), not(Unseen::KernelThreads));
    assert_eq!(fixture.file_on(99), not(Unseen::Unknown), "a mount that the VMM does not see");
    assert_eq!(fixture.file_on(29), not(Unseen::Unknown), "whatever is below it");
    assert_eq!(fixture.file_on(25), None, "the guest's memory is no disk");
    assert_eq!(fixture.file_on(27), None, "nor is a file of the kernel's own");
}

#[test]
fn a_server_that_does_not_answer_keeps_nobody() {
    let fixture = Fixture::new();
    let sys = fixture.root.path().join("sys");
    let host = Host { sys: &sys, mounts: Mounts::parse(MOUNTS) };
    for (mount, unseen) in [
        (21, Unseen::NetworkFiles),
        (26, Unseen::NetworkFiles),
        (30, Unseen::NetworkFiles),
        // What is below is not known.
        (29, Unseen::Unknown),
        // Unmounted while it was in use, or another namespace's.
        (99, Unseen::Unknown),
    ] {
        let info = format!("flags:\t02\nmnt_id:\t{mount}\n");
        let descriptor = Descriptor { path: "/nfs/a".as_ref(), info: &info };
        let attached = host.attached(descriptor, || panic!("it was asked")).unwrap();
        assert_eq!(attached.unseen, Some(unseen), "{mount}");
    }
}

#[test]
fn a_block_device_is_seen_at_its_disk() {
    let fixture = Fixture::new();
    let device = File::Block(Device { major: 8, minor: 16 });
    let seen = fixture.attached("/dev/sdb", "flags:\t0140002\nmnt_id:\t5\n", device).unwrap();
    assert_eq!((seen.seen_at, seen.unseen), (vec!["sdb".to_owned()], None));
}

#[test]
fn devices_of_one_guest_are_bounded_and_the_rest_is_counted() {
    let device = |n: usize| Attached {
        kind: AttachedKind::Disk,
        path: format!("/{n:04}"),
        seen_at: Vec::new(),
        unseen: None,
    };
    let twice = (0..200).chain(0..200).map(device).collect();
    let found = FoundDevices::of(twice);
    assert_eq!((found.all.len(), found.left_out), (MAX_DEVICES, 72));
    assert_eq!(found.all.last().unwrap().path, "/0127");
}

#[test]
fn what_is_only_written_is_a_log() {
    let fixture = Fixture::new();
    let log = |flags: &str| {
        fixture.attached("/var/log/qemu.log", &format!("flags:\t{flags}\nmnt_id:\t20\n"), File::Regular)
    };
    assert_eq!(log("0102001"), None);
    assert_eq!(log("012000000"), None, "a path without access");
    assert!(log("0100000").is_some(), "a disk may be read only");
    assert!(log("x").is_some(), "not known is not absent");
}

#[test]
fn character_devices_are_known_by_their_paths() {
    let fixture = Fixture::new();
    let of = |path: &str, info: &str| {
        let attached = fixture.attached(path, info, File::Character)?;
        Some((attached.kind, attached.path, attached.seen_at, attached.unseen))
    };
    let interface = |name: &str| Some((AttachedKind::Network, name.to_owned(), vec![name.to_owned()], None));
    assert_eq!(of("/dev/net/tun", "pos:\t0\niff:\tvnet3\n"), interface("vnet3"));
    assert_eq!(of("/srv/jailer/1/root/dev/net/tun", "iff:\tfc0\n"), interface("fc0"));
    assert_eq!(of("/dev/net/tun", "iff:\t\n"), None, "attached to none");
    assert_eq!(of("/dev/tap12", ""), interface("macvtap0"));
    let other = AttachedKind::Network;
    let elsewhere = Some((other, "/dev/tap13".to_owned(), vec![], Some(Unseen::Unknown)));
    assert_eq!(of("/dev/tap13", ""), elsewhere, "in another network namespace");
    let unseen = |kind, path: &str, why| Some((kind, path.to_owned(), vec![], Some(why)));
    let passed = AttachedKind::Passthrough;
    assert_eq!(of("/dev/vfio/12", ""), unseen(passed, "/dev/vfio/12", Unseen::PassedThrough));
    let by_iommufd = "/dev/vfio/devices/vfio0";
    assert_eq!(of(by_iommufd, ""), unseen(passed, by_iommufd, Unseen::PassedThrough));
    assert_eq!(of("/dev/vhost-vdpa-0", ""), unseen(passed, "/dev/vhost-vdpa-0", Unseen::Vdpa));
    assert_eq!(of("/dev/vfio/noiommu-3", ""), unseen(passed, "/dev/vfio/noiommu-3", Unseen::PassedThrough));
    let disk = AttachedKind::Disk;
    assert_eq!(of("/dev/ng0n1", ""), unseen(disk, "/dev/ng0n1", Unseen::Commands));
    assert_eq!(of("/dev/vhost-scsi", ""), unseen(disk, "/dev/vhost-scsi", Unseen::KernelThreads));
    assert_eq!(of("/dev/sg3", ""), unseen(AttachedKind::Disk, "/dev/sg3", Unseen::Commands));
    for path in ["/[kvm-gmem] (deleted)", "/memfd:ram (deleted)"] {
        assert_eq!(fixture.attached(path, "", File::Regular), None, "memory is no disk");
    }
    for path in ["/dev/vfio/vfio", "/dev/kvm", "/dev/vhost-net", "/dev/sgx_enclave", "/dev/null"] {
        assert_eq!(of(path, ""), None, "{path}");
    }
}

#[test]
fn the_descriptors_of_a_process_are_looked_at() {
    let fixture = Fixture::new();
    let process = fixture.root.path().join("proc/9");
    fs::create_dir_all(process.join("fd")).unwrap();
    fs::create_dir_all(process.join("fdinfo")).unwrap();
    let image = fixture.root.path().join("disk.img");
    fs::write(&image, "").unwrap();
    fs::write(process.join("mountinfo"), MOUNTS).unwrap();
    for (number, target) in
        ["anon_inode:kvm-vm", image.to_str().unwrap(), "/dev/null", "socket:[7]"].iter().enumerate()
    {
        symlink(target, process.join("fd").join(number.to_string())).unwrap();
        fs::write(process.join("fdinfo").join(number.to_string()), "flags:\t02\nmnt_id:\t20\n").unwrap();
    }
    // Twice the same.
    symlink(&image, process.join("fd/9")).unwrap();
    fs::write(process.join("fdinfo/9"), "flags:\t02\nmnt_id:\t20\n").unwrap();
    let proc = ProcFs::at(fixture.root.path().join("proc"));
    let sys = fixture.root.path().join("sys");
    let attached = FoundDevices::of(proc.attached(9, &proc.open_files(9).unwrap(), &sys)).all;
    let paths: Vec<_> = attached.iter().map(|attached| (&*attached.path, &*attached.seen_at)).collect();
    assert_eq!(paths, [(image.to_str().unwrap(), &["sda".to_owned()][..])]);
}
