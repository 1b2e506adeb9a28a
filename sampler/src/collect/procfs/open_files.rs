//! The files that a process holds open.

use std::{ffi::OsString, fs, io, path::PathBuf};

use super::{MAX_FDS, ProcFs};

/// A file that a process holds open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// Its descriptor's number.
    pub descriptor: OsString,
    /// Its path, as the process sees it. Anything may have any name.
    pub path: PathBuf,
}

impl ProcFs {
    /// The files with a path that a process holds open. Reads a directory and links only.
    ///
    /// # Errors
    /// When the process has ended, or may not be looked into.
    pub fn open_files(&self, pid: u32) -> io::Result<Vec<OpenFile>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.process(pid).join("fd"))?.take(MAX_FDS) {
            let entry = entry?;
            match fs::read_link(entry.path()) {
                Ok(path) if path.is_absolute() => {
                    files.push(OpenFile { descriptor: entry.file_name(), path });
                }
                // One that was closed since the directory was read, or whose path is too long, is none.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_a_path_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let _file = fs::File::create(&path).unwrap();
        let files = ProcFs::system().open_files(std::process::id()).unwrap();
        assert!(files.iter().any(|file| file.path == path), "{files:?}");
        assert!(files.iter().all(|file| file.path.is_absolute()));
        assert!(ProcFs::system().open_files(u32::MAX).is_err(), "there is no such process");
    }
}
