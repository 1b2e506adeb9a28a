//! Errors of the oracles: each names the file.

use std::io;
use std::path::{Path, PathBuf};

/// Why the kernel's numbers could not be had.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// A file could not be read.
    #[error("{} cannot be read: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A file could not be written, made or removed.
    #[error("{} cannot be {action}: {source}", .path.display())]
    Change {
        /// The file or directory.
        path: PathBuf,
        /// What was tried: written, made, removed or mounted.
        action: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A file does not say what it is expected to.
    #[error("{} is not understood: {what} in {text:?}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
        /// The text, its first 200 characters.
        text: String,
    },
    /// No cgroup hierarchy offers a controller.
    #[error(
        "no cgroup hierarchy here has the {name} controller; mount cgroup2, or cgroup with `-o {option}`"
    )]
    NoController {
        /// Its name in version 2.
        name: &'static str,
        /// Its name as an option of mounts of version 1.
        option: &'static str,
    },
}

impl OracleError {
    pub(super) fn format(path: &Path, what: &'static str, text: &str) -> Self {
        Self::Format { path: path.to_path_buf(), what, text: text.chars().take(200).collect() }
    }

    /// Whether the thread, process or group that was asked about does not exist (any more).
    #[must_use]
    pub fn is_gone(&self) -> bool {
        // A file opened while the thread lived answers ESRCH after its end, ENODEV a cgroup's after its
        // removal.
        let gone = |source: &io::Error| {
            source.kind() == io::ErrorKind::NotFound
                || matches!(source.raw_os_error(), Some(libc::ESRCH | libc::ENODEV))
        };
        match self {
            Self::Read { source, .. } | Self::Change { source, .. } => gone(source),
            Self::Format { .. } | Self::NoController { .. } => false,
        }
    }
}

/// Reads a small text file of the kernel's; bytes that are no UTF-8 become replacement characters.
pub(super) fn read(path: &Path) -> Result<String, OracleError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(source) => Err(OracleError::Read { path: path.to_path_buf(), source }),
    }
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), OracleError> {
    std::fs::write(path, text).map_err(|source| OracleError::Change {
        path: path.to_path_buf(),
        action: "written",
        source,
    })
}
