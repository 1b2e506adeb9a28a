//! File systems that a test mounts for itself.

use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::error::OracleError;

/// A mount of ours; it goes when this is dropped.
#[derive(Debug)]
pub(super) struct OwnMount(PathBuf);

impl OwnMount {
    pub(super) fn of(kind: &str, directory: &Path) -> Result<Self, OracleError> {
        let failed =
            |action| move |source| OracleError::Change { path: directory.to_path_buf(), action, source };
        std::fs::create_dir_all(directory).map_err(failed("made"))?;
        mount(kind, directory, kind, MountFlags::empty(), None)
            .map_err(|errno| failed("mounted")(errno.into()))?;
        Ok(Self(directory.to_path_buf()))
    }
}

impl Drop for OwnMount {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.0, UnmountFlags::DETACH) {
            eprintln!("{} cannot be unmounted: {error}", self.0.display());
        }
    }
}
