//! What the host's devices are called.

use std::{fs, path::Path};

/// What the kernel calls a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskName {
    /// Its name, as `sda` or `dm-3`.
    pub name: String,
    /// The number that no other disk has had since the host was booted (`diskseq`, 5.15 and later): one that
    /// was replaced may have its name and its device numbers.
    pub sequence: Option<u64>,
}

/// The name of the disk with these numbers; `None` where there is none. Sysfs and proc are mounted below
/// `root`.
#[must_use]
pub fn disk_name(root: &Path, major: u32, minor: u32) -> Option<DiskName> {
    let link = root.join("sys/dev/block").join(format!("{major}:{minor}"));
    if let Ok(disk) = fs::read_link(&link) {
        // The kernel has slashes of names as exclamation marks here.
        let name = disk.file_name()?.to_string_lossy().replace('!', "/");
        let sequence = fs::read_to_string(link.join("diskseq")).ok();
        return Some(DiskName { name, sequence: sequence.and_then(|number| number.trim().parse().ok()) });
    }
    let stats = fs::read_to_string(root.join("proc/diskstats")).ok()?;
    hidden_name(&stats, major, minor).map(|name| DiskName { name, sequence: None })
}

/// The name of a disk that is hidden from sysfs, as each path of an NVMe disk with several is. Some older
/// kernels list such a disk without its numbers (5.10): it has no name then.
fn hidden_name(diskstats: &str, major: u32, minor: u32) -> Option<String> {
    diskstats.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let mut is = |number: u32| fields.next().is_some_and(|field| field.parse() == Ok(number));
        (is(major) && is(minor)).then(|| fields.next().map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_where_the_link_leads() {
        let root = tempfile::tempdir().unwrap();
        let links = root.path().join("sys/dev/block");
        fs::create_dir_all(&links).unwrap();
        let disk = root.path().join("sys/devices/pci0/block/cciss!c0d0");
        fs::create_dir_all(&disk).unwrap();
        std::os::unix::fs::symlink("../../devices/pci0/block/cciss!c0d0", links.join("104:0")).unwrap();
        let named = |name: &str, sequence| Some(DiskName { name: name.into(), sequence });
        assert_eq!(disk_name(root.path(), 104, 0), named("cciss/c0d0", None));
        fs::write(disk.join("diskseq"), "12\n").unwrap();
        assert_eq!(disk_name(root.path(), 104, 0), named("cciss/c0d0", Some(12)));
        assert_eq!(disk_name(root.path(), 8, 0), None);
        fs::create_dir(root.path().join("proc")).unwrap();
        let stats = " 259 1 nvme0n1 1 2 3\n 259 3 nvme0c0n1 1 2 3\n";
        fs::write(root.path().join("proc/diskstats"), stats).unwrap();
        assert_eq!(disk_name(root.path(), 259, 3), named("nvme0c0n1", None));
        assert_eq!(disk_name(root.path(), 259, 4), None);
    }
}
