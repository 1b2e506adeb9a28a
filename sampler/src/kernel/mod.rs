//! What the running kernel is and can do: BTF, capabilities, limits.

pub mod bpf;
pub mod btf;
pub mod calls;
pub mod capability;
pub mod check;
pub mod clock;
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
};

/// The directory under which the kernel's file systems are mounted: `/`, or a made-up one in tests.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    /// The system's own.
    #[must_use]
    pub fn system() -> Self {
        Self::at("/")
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
