//! What the host's devices are called.

use std::path::Path;

/// The kernel's name of the disk with these numbers, as `sda` or `dm-3`; `None` where there is none. Sysfs
/// and proc are mounted below `root`.
#[must_use]
pub fn disk_name(root: &Path, major: u32, minor: u32) -> Option<String> {
    match std::fs::read_link(root.join("sys/dev/block").join(format!("{major}:{minor}"))) {
        // The kernel has slashes of names as exclamation marks here.
        Ok(disk) => Some(disk.file_name()?.to_string_lossy().replace('!', "/")),
        Err(_) => hidden_name(&std::fs::read_to_string(root.join("proc/diskstats")).ok()?, major, minor),
    }
}

/// The name of a disk that is hidden from sysfs, as each path of an NVMe disk with several is.
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
        std::fs::create_dir_all(&links).unwrap();
        std::os::unix::fs::symlink("../../devices/pci0/block/cciss!c0d0", links.join("104:0")).unwrap();
        assert_eq!(disk_name(root.path(), 104, 0).as_deref(), Some("cciss/c0d0"));
        assert_eq!(disk_name(root.path(), 8, 0), None);
        std::fs::create_dir(root.path().join("proc")).unwrap();
        let stats = " 259 1 nvme0n1 1 2 3\n 259 3 nvme0c0n1 1 2 3\n";
        std::fs::write(root.path().join("proc/diskstats"), stats).unwrap();
        assert_eq!(disk_name(root.path(), 259, 3).as_deref(), Some("nvme0c0n1"));
        assert_eq!(disk_name(root.path(), 259, 4), None);
    }
}
