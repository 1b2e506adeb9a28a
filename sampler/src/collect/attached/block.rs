//! At which disks the requests of a block device can be counted.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::mounts;
use crate::model::{Device, Unseen};

/// Devices that may be on top of each other; device mapper refuses far fewer.
const MAX_DEPTH: usize = 16;

/// Disks that are found below one device.
const MAX_DISKS: usize = 64;

/// Where a block device is seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The disks whose drivers are handed its requests.
    pub(super) at: BTreeSet<String>,
    /// Why a part of it is not.
    pub(super) unseen: Option<Unseen>,
}

/// Of the device with these numbers; sysfs is mounted at `sys`.
pub(super) fn seen(sys: &Path, device: Device) -> Seen {
    let mut seen = Seen::default();
    let link = sys.join("dev/block").join(device.to_string());
    match fs::canonicalize(&link) {
        Ok(disk) => seen.add(&disk, 0),
        Err(_) => seen.unseen = Some(Unseen::Unknown),
    }
    seen
}

impl Seen {
    fn add(&mut self, disk: &Path, depth: usize) {
        if disk.join("partition").exists() {
            return match disk.parent() {
                Some(whole) => self.add(whole, depth),
                None => self.unseen = Some(Unseen::Unknown),
            };
        }
        // Drivers that are handed requests have a directory for their queues.
        if disk.join("mq").is_dir() {
            if self.at.len() < MAX_DISKS {
                self.at.extend(name(disk));
            }
            return;
        }
        let below = below(disk);
        if below.is_empty() && is_path_head(disk) {
            // Its paths have requests, and are hidden from sysfs before 6.15.
            self.unseen = Some(Unseen::Unknown);
        } else if below.is_empty() || depth == MAX_DEPTH {
            self.unseen = Some(Unseen::NoRequests);
        } else if submits_by_itself(disk) {
            self.unseen = Some(Unseen::KernelThreads);
        }
        for disk in below.iter().filter(|_| depth < MAX_DEPTH) {
            self.add(disk, depth + 1);
        }
    }
}

/// Whether a device submits what it is written on threads of its own, which are charged to nobody: dm-crypt,
/// and RAID with parity. Thin volumes of device mapper do so at times, and do not say that they are thin.
fn submits_by_itself(disk: &Path) -> bool {
    let is = |file: &str, kinds: &[&str]| {
        let text = fs::read_to_string(disk.join(file)).unwrap_or_default();
        kinds.iter().any(|kind| text.starts_with(kind))
    };
    is("dm/uuid", &["CRYPT-"]) || is("md/level", &["raid4", "raid5", "raid6"])
}

/// Whether a device is an NVMe disk that may have several paths, as `nvme0n1`.
fn is_path_head(disk: &Path) -> bool {
    name(disk).is_some_and(|name| name.starts_with("nvme"))
}

/// The devices that a device is made of.
fn below(disk: &Path) -> Vec<PathBuf> {
    // An NVMe disk with several paths has them here from Linux 6.15 on.
    let lists = ["slaves", "multipath"].map(|list| fs::read_dir(disk.join(list)));
    let links = lists.into_iter().flatten().flatten().flatten();
    links.filter_map(|link| fs::canonicalize(link.path()).ok()).take(MAX_DISKS).collect()
}

/// The kernel has slashes of names as exclamation marks here.
fn name(disk: &Path) -> Option<String> {
    Some(disk.file_name()?.to_string_lossy().replace('!', "/"))
}

/// The numbers of the disk that the kernel calls so; sysfs is mounted at `sys`.
pub(super) fn called(sys: &Path, name: &str) -> Option<Device> {
    let dev = sys.join("class/block").join(name.replace('/', "!")).join("dev");
    mounts::device(&fs::read_to_string(dev).ok()?)
}

/// The numbers of the disk that device mapper calls so.
pub(super) fn mapped(sys: &Path, name: &str) -> Option<Device> {
    let disks = fs::read_dir(sys.join("class/block")).ok()?.flatten();
    let mut mapped = disks.filter(|disk| disk.file_name().to_string_lossy().starts_with("dm-"));
    let is_it = |disk: &fs::DirEntry| {
        fs::read_to_string(disk.path().join("dm/name")).is_ok_and(|found| found.trim_end() == name)
    };
    mounts::device(&fs::read_to_string(mapped.find(is_it)?.path().join("dev")).ok()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A sysfs with disks, what each is made of, and whether its driver is handed requests.
    fn sysfs(disks: &[(&str, &str, &[&str], bool)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let devices = root.path().join("devices");
        fs::create_dir_all(root.path().join("dev/block")).unwrap();
        for (name, numbers, made_of, has_queues) in disks {
            let disk = devices.join(name);
            fs::create_dir_all(disk.join("slaves")).unwrap();
            for other in *made_of {
                symlink(devices.join(other), disk.join("slaves").join(other)).unwrap();
            }
            if *has_queues {
                fs::create_dir(disk.join("mq")).unwrap();
            }
            symlink(&disk, root.path().join("dev/block").join(numbers)).unwrap();
        }
        root
    }

    fn at(root: &tempfile::TempDir, major: u32, minor: u32) -> (Vec<String>, Option<Unseen>) {
        let Seen { at, unseen } = seen(root.path(), Device { major, minor });
        (at.into_iter().collect(), unseen)
    }

    #[test]
    fn a_device_is_seen_at_the_disks_below_it() {
        let root = sysfs(&[
            ("sda", "8:0", &[], true),
            ("cciss!c0d0", "104:0", &[], true),
            ("zram0", "254:0", &[], false),
            ("md0", "9:0", &["sda", "cciss!c0d0"], false),
            ("dm-0", "253:0", &["md0"], false),
            ("dm-1", "253:1", &["sda"], true),
            ("dm-2", "253:2", &["dm-0", "zram0"], false),
        ]);
        let both = || vec!["cciss/c0d0".to_owned(), "sda".to_owned()];
        assert_eq!(at(&root, 8, 0), (vec!["sda".to_owned()], None));
        assert_eq!(at(&root, 253, 0), (both(), None));
        assert_eq!(at(&root, 253, 1), (vec!["dm-1".to_owned()], None), "multipath on requests");
        assert_eq!(at(&root, 254, 0), (vec![], Some(Unseen::NoRequests)));
        assert_eq!(at(&root, 253, 2), (both(), Some(Unseen::NoRequests)), "a part is not");
        assert_eq!(at(&root, 7, 7), (vec![], Some(Unseen::Unknown)));
    }

    #[test]
    fn what_a_layer_submits_by_itself_is_nobody_s() {
        let root = sysfs(&[
            ("sda", "8:0", &[], true),
            ("dm-0", "253:0", &["sda"], false),
            ("md5", "9:5", &["sda"], false),
            ("md1", "9:1", &["sda"], false),
            ("nvme0n1", "259:0", &[], false),
        ]);
        for (file, text) in
            [("dm-0/dm/uuid", "CRYPT-LUKS2-1-a\n"), ("md5/md/level", "raid5\n"), ("md1/md/level", "raid1\n")]
        {
            let path = root.path().join("devices").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let sda = || vec!["sda".to_owned()];
        assert_eq!(at(&root, 253, 0), (sda(), Some(Unseen::KernelThreads)));
        assert_eq!(at(&root, 9, 5), (sda(), Some(Unseen::KernelThreads)));
        assert_eq!(at(&root, 9, 1), (sda(), None));
        assert_eq!(at(&root, 259, 0), (vec![], Some(Unseen::Unknown)), "its paths are hidden");
    }

    #[test]
    fn a_partition_is_seen_at_its_disk() {
        let root = sysfs(&[("sda", "8:0", &[], true)]);
        let partition = root.path().join("devices/sda/sda1");
        fs::create_dir(&partition).unwrap();
        fs::write(partition.join("partition"), "1\n").unwrap();
        symlink(&partition, root.path().join("dev/block/8:1")).unwrap();
        assert_eq!(at(&root, 8, 1), (vec!["sda".to_owned()], None));
    }

    #[test]
    fn devices_that_are_made_of_each_other_end() {
        let root = sysfs(&[("a", "1:0", &["b"], false), ("b", "1:1", &["a"], false)]);
        assert_eq!(at(&root, 1, 0), (vec![], Some(Unseen::NoRequests)));
    }

    #[test]
    fn numbers_are_found_by_name() {
        let root = tempfile::tempdir().unwrap();
        let disk = root.path().join("class/block/cciss!c0d0");
        fs::create_dir_all(&disk).unwrap();
        fs::write(disk.join("dev"), "104:0\n").unwrap();
        assert_eq!(called(root.path(), "cciss/c0d0"), Some(Device { major: 104, minor: 0 }));
        assert_eq!(called(root.path(), "none"), None);
        for (disk, numbers, name) in [("dm-0", "253:0", "swap"), ("dm-1", "253:1", "vg-images")] {
            let disk = root.path().join("class/block").join(disk);
            fs::create_dir_all(disk.join("dm")).unwrap();
            fs::write(disk.join("dev"), format!("{numbers}\n")).unwrap();
            fs::write(disk.join("dm/name"), format!("{name}\n")).unwrap();
        }
        assert_eq!(mapped(root.path(), "vg-images"), Some(Device { major: 253, minor: 1 }));
        assert_eq!(mapped(root.path(), "vg"), None);
    }
}
