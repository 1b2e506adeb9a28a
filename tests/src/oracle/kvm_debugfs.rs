//! What KVM shows of each VM in debugfs: the sums of its vCPUs' own counts.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::{OracleError, read};
use super::mount::OwnMount;

/// Where debugfs is when somebody has mounted it.
const USUAL: &str = "/sys/kernel/debug";

/// The directory `kvm` of debugfs.
#[derive(Debug)]
pub struct KvmDebugfs {
    root: PathBuf,
    // Unmounts when dropped, where it was mounted by us.
    _mounted: Option<OwnMount>,
}

impl KvmDebugfs {
    /// Finds it, or mounts debugfs on a directory of ours.
    ///
    /// # Errors
    /// When it is not mounted and cannot be.
    pub fn find_or_mount(directory: &Path) -> Result<Self, OracleError> {
        let usual = Path::new(USUAL).join("kvm");
        if usual.is_dir() {
            return Ok(Self { root: usual, _mounted: None });
        }
        let mounted = OwnMount::of("debugfs", directory)?;
        Ok(Self { root: directory.join("kvm"), _mounted: Some(mounted) })
    }

    /// The directory of the one VM of a process.
    #[must_use]
    pub fn vm(&self, pid: u32) -> Option<PathBuf> {
        let prefix = format!("{pid}-");
        let entries = fs::read_dir(&self.root).ok()?.flatten();
        entries.map(|entry| entry.path()).find(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix))
        })
    }

    /// A count of a VM.
    ///
    /// # Errors
    /// When this kernel has no such count, or the VM is gone.
    pub fn count(vm: &Path, name: &str) -> Result<u64, OracleError> {
        let path = vm.join(name);
        let text = read(&path)?;
        text.trim().parse().map_err(|_| OracleError::format(&path, "no number", &text))
    }
}
