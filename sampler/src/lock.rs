//! One service on a host: two would count the same threads into two sets of series.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process,
};

use crate::kernel::directory::make_directory_of;

/// Held while the service runs. The kernel lets it go with the process, however that ends.
#[derive(Debug)]
pub struct InstanceLock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another service has it.
    #[error(
        "another hvsampler runs on this host ({holder}, lock {}); stop it first, or give this one another lock_file",
        path.display()
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who has it, as far as the file says.
        holder: String,
    },
    /// The file cannot be made or locked.
    #[error("{}: cannot be locked; make its directory writable or set lock_file", path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl InstanceLock {
    /// Takes the lock and writes this process's pid into the file; the directory is made where it is missing.
    ///
    /// # Errors
    /// [`LockError::Held`] where another process has it, [`LockError::File`] where it cannot be taken.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::File { path: path.to_owned(), source };
        let mut file = open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { path: path.to_owned(), holder: holder(&file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // The file is never removed: a third process could then lock a new one beside a holder of the old.
        file.set_len(0).and_then(|()| writeln!(file, "{}", process::id())).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn open(path: &Path) -> io::Result<File> {
    make_directory_of(path)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        // Root writes here: in a directory that others can write to, the name may be a link to anything.
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// The pid that a holder wrote. It is not there yet while that process is still starting.
fn holder(file: &File) -> String {
    let mut text = String::new();
    let read = file.take(16).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("pid {pid}"),
        _ => "pid not yet known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_error_of_a_second_instance_says_who_and_where() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/here/lock");
        let first = InstanceLock::acquire(&path).unwrap();
        let error = InstanceLock::acquire(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", process::id())), "{error}");
        assert!(error.contains(&path.display().to_string()) && error.contains("lock_file"), "{error}");
        drop(first);
        drop(InstanceLock::acquire(&path).unwrap());
    }

    #[test]
    fn what_an_earlier_holder_wrote_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        fs::write(&path, "999999999999\nmore").unwrap();
        let _lock = InstanceLock::acquire(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", process::id()));
    }

    #[test]
    fn a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        std::os::unix::fs::symlink(dir.path().join("target"), &path).unwrap();
        let error = InstanceLock::acquire(&path).unwrap_err();
        assert!(matches!(error, LockError::File { .. }), "{error}");
        assert!(!dir.path().join("target").exists());
    }

    #[test]
    fn a_holder_that_wrote_nothing_yet_is_reported_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let silent = File::create(&path).unwrap();
        silent.lock().unwrap();
        let error = InstanceLock::acquire(&path).unwrap_err().to_string();
        assert!(error.contains("pid not yet known"), "{error}");
    }
}
