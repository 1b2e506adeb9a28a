//! The devices that a VMM holds for its guest, by its descriptors, and where they are seen.
//!
//! What cannot be counted is named: a guest whose disk is another process's must not look idle.

mod block;
mod mounts;
mod vhost_user;

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use self::mounts::{Mount, Mounts};
use super::procfs::{OpenFile, ProcFs};
use crate::model::{Attached, AttachedKind, Device, Unseen};

/// Bytes that are taken of what the kernel says of mounts, and of a descriptor.
const MAX_MOUNTS: u64 = 4 << 20;
const MAX_FDINFO: u64 = 16 << 10;

/// Devices of one guest that are named.
const MAX_DEVICES: usize = 128;

/// Memory of guests that has no place in any file system: `memfd_create`, KVM's own, `memfd_secret`.
const MEMORY: [&str; 3] = ["/memfd:", "/[kvm-gmem]", "/secretmem"];

/// File systems whose files are in the host's memory.
const IN_MEMORY: [&str; 3] = ["tmpfs", "ramfs", "devtmpfs"];

/// File systems whose files are what the kernel says, and hold nothing.
const OF_THE_KERNEL: [&str; 12] = [
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "debugfs",
    "tracefs",
    "bpf",
    "devpts",
    "mqueue",
    "securityfs",
    "configfs",
    "nsfs",
];

/// File systems that another host, or a process of this one, serves, or that ask other hosts.
const SERVED_ELSEWHERE: [&str; 15] = [
    "nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "virtiofs", "afs", "lustre", "gpfs", "ocfs2", "gfs2",
    "beegfs", "pvfs2", "fuseblk",
];

/// File systems without a device of their own that no other host serves: who asks them waits for none.
const LOCAL: [&str; 3] = ["btrfs", "bcachefs", "zfs"];

pub use vhost_user::devices as served_elsewhere;

/// The devices of a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundDevices {
    /// Ordered, each once.
    pub all: Vec<Attached>,
    /// How many more there are.
    pub left_out: u64,
    /// The VMM's command line was not read yet: there may be others.
    pub is_partial: bool,
}

impl FoundDevices {
    /// Of these, in any order.
    #[must_use]
    pub fn of(mut all: Vec<Attached>) -> Self {
        all.sort();
        all.dedup();
        let left_out = all.len().saturating_sub(MAX_DEVICES) as u64;
        all.truncate(MAX_DEVICES);
        Self { all, left_out, is_partial: false }
    }
}

/// A descriptor of a VMM.
#[derive(Clone, Copy, Debug)]
struct Descriptor<'a> {
    /// The path of its file, in the VMM's own view.
    path: &'a Path,
    /// What `/proc/PID/fdinfo` says of it.
    info: &'a str,
}

/// What a file is, where that could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    Regular,
    Block(Device),
    Character,
    Other,
}

impl ProcFs {
    /// The devices among the files that a process holds open, in any order. Sysfs is mounted at `sys`.
    ///
    /// Reads what the kernel keeps of the files, and asks local file systems for what they are.
    pub fn attached(&self, pid: u32, files: &[OpenFile], sys: &Path) -> Vec<Attached> {
        let process = self.process(pid);
        let mounts = read(&process.join("mountinfo"), MAX_MOUNTS).unwrap_or_default();
        let host = Host { sys, mounts: Mounts::parse(&mounts) };
        let attached = files.iter().filter_map(|OpenFile { descriptor, path }| {
            let info = read(&process.join("fdinfo").join(descriptor), MAX_FDINFO).unwrap_or_default();
            host.attached(Descriptor { path, info: &info }, || file(&process.join("fd").join(descriptor)))
        });
        attached.collect()
    }
}

/// What is known of the host around the descriptors.
struct Host<'a> {
    sys: &'a Path,
    mounts: Mounts,
}

impl Host<'_> {
    /// The device that a descriptor is of; `ask` asks the file system what the file is.
    fn attached(&self, descriptor: Descriptor<'_>, ask: impl FnOnce() -> Option<File>) -> Option<Attached> {
        let Descriptor { path, .. } = descriptor;
        if let Some(attached) = descriptor.of_character_device() {
            return Some(attached);
        }
        if let Some(index) = descriptor.macvtap() {
            return Some(self.interface(path, index));
        }
        let mount = descriptor.number("mnt_id:").and_then(|id| self.mounts.get(id));
        let is_memory = MEMORY.iter().any(|memory| path.to_string_lossy().starts_with(memory))
            || mount.is_some_and(|mount| mount.kind == "hugetlbfs");
        if is_memory || !descriptor.is_read() {
            return None;
        }
        // A server that does not answer would keep whoever asks.
        let answers_at_once = mount.map_or(path.starts_with("/dev"), is_local);
        let file = if answers_at_once { ask()? } else { File::Regular };
        let (seen_at, unseen) = match (file, mount) {
            (File::Block(device), _) => self.at_disks(device),
            (File::Regular, Some(mount)) => self.of_file(mount)?,
            (File::Regular, None) => (Vec::new(), Some(Unseen::Unknown)),
            (File::Character | File::Other, _) => return None,
        };
        let path = path.to_string_lossy().into_owned();
        Some(Attached { kind: AttachedKind::Disk, path, seen_at, unseen })
    }

    /// A macvtap, by its index among the interfaces of this network namespace.
    fn interface(&self, path: &Path, index: u32) -> Attached {
        let interfaces = fs::read_dir(self.sys.join("class/net")).into_iter().flatten().flatten();
        let is_it = |interface: &fs::DirEntry| {
            let text = fs::read_to_string(interface.path().join("ifindex")).unwrap_or_default();
            text.trim().parse() == Ok(index)
        };
        let found = interfaces.into_iter().find(is_it);
        let name = found.map(|interface| interface.file_name().to_string_lossy().into_owned());
        Attached {
            kind: AttachedKind::Network,
            path: name.clone().unwrap_or_else(|| path.to_string_lossy().into_owned()),
            unseen: name.is_none().then_some(Unseen::Unknown),
            seen_at: name.into_iter().collect(),
        }
    }

    /// Where a file's I/O is seen. Files of the kernel's own file systems are no disks.
    fn of_file(&self, mount: &Mount) -> Option<(Vec<String>, Option<Unseen>)> {
        let unseen = |why| Some((Vec::new(), Some(why)));
        if is_served_elsewhere(mount) {
            return unseen(Unseen::NetworkFiles);
        }
        if IN_MEMORY.contains(&&*mount.kind) {
            return unseen(Unseen::Memory);
        }
        if mount.kind == "zfs" {
            return unseen(Unseen::KernelThreads);
        }
        if OF_THE_KERNEL.contains(&&*mount.kind) {
            return None;
        }
        match Some(mount.device).filter(|device| device.major != 0).or_else(|| self.source(mount)) {
            Some(device) => Some(self.at_disks(device)),
            None => unseen(Unseen::Unknown),
        }
    }

    /// The device that was mounted. Where a file system is on several it has no numbers of theirs, and says
    /// one of them.
    fn source(&self, mount: &Mount) -> Option<Device> {
        let name = mount.source.strip_prefix("/dev/")?;
        // Those of device mapper are links, and a service has no such directory as a rule.
        match name.strip_prefix("mapper/") {
            Some(name) => block::mapped(self.sys, name),
            None => block::called(self.sys, name),
        }
    }

    fn at_disks(&self, device: Device) -> (Vec<String>, Option<Unseen>) {
        let block::Seen { at, unseen } = block::seen(self.sys, device);
        (at.into_iter().collect(), unseen)
    }
}

fn is_served_elsewhere(mount: &Mount) -> bool {
    let is_fuse = |kind: &str| kind == "fuse" || kind.starts_with("fuse.") || kind.starts_with("fuseblk.");
    SERVED_ELSEWHERE.contains(&&*mount.kind) || is_fuse(&mount.kind)
}

/// Whether a file system says at once what its files are. One of another kind without a device of its own may
/// be a layer over any other.
fn is_local(mount: &Mount) -> bool {
    let kind = &&*mount.kind;
    let is_known = mount.device.major != 0 || LOCAL.contains(kind) || IN_MEMORY.contains(kind);
    is_known && !is_served_elsewhere(mount)
}

impl Descriptor<'_> {
    /// The first number behind a key, as `fdinfo` has them.
    fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok()
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.info.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
    }

    /// Whether it was opened for reading: a log is not.
    fn is_read(&self) -> bool {
        let flags = self.text("flags:").and_then(|flags| i32::from_str_radix(flags, 8).ok());
        flags.is_none_or(|flags| flags & libc::O_ACCMODE != libc::O_WRONLY && flags & libc::O_PATH == 0)
    }

    /// The index of the macvtap that it is of.
    fn macvtap(&self) -> Option<u32> {
        let digits = self.path.file_name()?.to_str()?.strip_prefix("tap")?;
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        (is_number && self.path.parent()?.ends_with("dev")).then(|| digits.parse().ok())?
    }

    /// Devices that are known by their paths; in a jail another one may stand before it.
    fn of_character_device(&self) -> Option<Attached> {
        let path = self.path.to_string_lossy();
        let name = path.rsplit('/').next()?;
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let numbered = |prefix: &str| name.strip_prefix(prefix).is_some_and(is_number);
        let unseen = |kind, why| {
            let path = path.clone().into_owned();
            Some(Attached { kind, path, seen_at: Vec::new(), unseen: Some(why) })
        };
        let interface = |name: &str| {
            let seen_at = vec![name.to_owned()];
            Some(Attached { kind: AttachedKind::Network, path: name.to_owned(), seen_at, unseen: None })
        };
        let is_in = |directory: &str| path.strip_suffix(name).is_some_and(|rest| rest.ends_with(directory));
        if is_in("/net/") && name == "tun" {
            // One that is attached to no interface says no name.
            return self.text("iff:").filter(|name| !name.is_empty()).and_then(interface);
        }
        let is_group = is_number(name) || numbered("noiommu-");
        if (is_in("/vfio/") && is_group) || (is_in("/vfio/devices/") && numbered("vfio")) {
            return unseen(AttachedKind::Passthrough, Unseen::PassedThrough);
        }
        if is_in("/dev/") && numbered("vhost-vdpa-") {
            return unseen(AttachedKind::Passthrough, Unseen::Vdpa);
        }
        let is_nvme_commands =
            name.strip_prefix("ng").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        if is_in("/dev/") && (numbered("sg") || is_nvme_commands) {
            return unseen(AttachedKind::Disk, Unseen::Commands);
        }
        if is_in("/dev/") && name == "vhost-scsi" {
            return unseen(AttachedKind::Disk, Unseen::KernelThreads);
        }
        None
    }
}

/// What the file of a descriptor is.
fn file(descriptor: &Path) -> Option<File> {
    let metadata = fs::metadata(descriptor).ok()?;
    let kind = metadata.file_type();
    let number = metadata.rdev();
    Some(if kind.is_block_device() {
        File::Block(Device { major: libc::major(number), minor: libc::minor(number) })
    } else if kind.is_char_device() {
        File::Character
    } else if kind.is_file() {
        File::Regular
    } else {
        File::Other
    })
}

fn read(path: &Path, most: u64) -> io::Result<String> {
    use io::Read as _;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
