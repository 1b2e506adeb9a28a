//! What the running kernel is and can do: BTF, capabilities, limits.

pub mod boot;
pub mod bpf;
pub mod btf;
pub mod calls;
pub mod capability;
pub mod check;
pub mod clock;
pub mod descriptors;
pub mod directory;
pub mod host;
pub mod kvm;
pub mod limits;
pub mod lockdown;
pub mod memlock;
pub mod namespace;
pub mod priority;
pub mod proc_mount;
pub mod program_stats;
pub mod ring;
pub mod vmlinux;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Where the host's own root is, once somebody has said so.
static SYSTEM: OnceLock<PathBuf> = OnceLock::new();

/// Why a directory is not taken for the host's root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The kernel's file systems are not there.
    #[error(
        "--root {}: {missing} is not there; mount the host's root with all that is mounted below it (-v /:/host:ro,rslave)",
        path.display()
    )]
    NotARoot {
        /// The directory.
        path: PathBuf,
        /// What is looked for.
        missing: &'static str,
    },
    /// It was said before.
    #[error("the host's root is already {}", .0.display())]
    Known(PathBuf),
}

/// The directory under which the kernel's file systems are mounted: `/`, or a made-up one in tests.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    /// The system's own: that of this process, unless [`Self::set_system`] was called.
    #[must_use]
    pub fn system() -> Self {
        Self::at(SYSTEM.get().map_or(Path::new("/"), PathBuf::as_path))
    }

    /// Says where the host's root is, for a process in a container. Once, before anything is read.
    ///
    /// # Errors
    /// There are no `/proc` and no `/sys` below it.
    pub fn set_system(path: &Path) -> Result<(), RootError> {
        let is_missing = |file: &&str| !path.join(file).exists();
        if let Some(missing) = ["proc/stat", "sys/devices"].into_iter().find(is_missing) {
            return Err(RootError::NotARoot { path: path.to_owned(), missing });
        }
        SYSTEM.set(path.to_owned()).map_err(RootError::Known)
    }

    /// Another one.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// A path below it; `path` is relative.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path)
    }

    /// A small text file below it, without blanks around it.
    fn text(&self, path: &str) -> io::Result<String> {
        Ok(fs::read_to_string(self.path(path))?.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{fixture::FakeRoot, *};

    #[test]
    fn a_directory_without_the_kernel_s_file_systems_is_no_root() {
        let fake = FakeRoot::new().file("proc/stat", "cpu  0\n");
        let path = fake.root().path("");
        let error = Root::set_system(&path).unwrap_err().to_string();
        assert!(error.contains("sys/devices is not there") && error.contains("rslave"), "{error}");
        assert_eq!(Root::system().path("proc"), Path::new("/proc"), "nothing is set");
    }
}

#[cfg(test)]
mod fixture {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use super::Root;

    /// A made-up root that tests fill file by file.
    pub(super) struct FakeRoot(tempfile::TempDir);

    impl FakeRoot {
        pub(super) fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        pub(super) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
            fs::write(self.parent(path), content).unwrap();
            self
        }

        pub(super) fn link(self, path: &str, target: &str) -> Self {
            symlink(target, self.parent(path)).unwrap();
            self
        }

        fn parent(&self, path: &str) -> std::path::PathBuf {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
            path
        }

        pub(super) fn root(&self) -> Root {
            Root::at(self.0.path())
        }
    }
}
