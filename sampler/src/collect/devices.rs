//! What the host's devices are called.

use std::path::Path;

/// The kernel's name of the disk with these numbers, as `sda` or `dm-3`; `None` where there is none. `sysfs`
/// is where that is mounted.
#[must_use]
pub fn disk_name(sysfs: &Path, major: u32, minor: u32) -> Option<String> {
    let disk = std::fs::read_link(sysfs.join("dev/block").join(format!("{major}:{minor}"))).ok()?;
    // The kernel has slashes of names as exclamation marks here.
    Some(disk.file_name()?.to_string_lossy().replace('!', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_where_the_link_leads() {
        let root = tempfile::tempdir().unwrap();
        let links = root.path().join("dev/block");
        std::fs::create_dir_all(&links).unwrap();
        std::os::unix::fs::symlink("../../devices/pci0/block/cciss!c0d0", links.join("104:0")).unwrap();
        assert_eq!(disk_name(root.path(), 104, 0).as_deref(), Some("cciss/c0d0"));
        assert_eq!(disk_name(root.path(), 8, 0), None);
    }
}
