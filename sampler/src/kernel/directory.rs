//! Directories that files of this process's are to be in.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

/// Makes the directory that a file is to be in, where it is missing, and returns it then.
///
/// # Errors
/// What the kernel said.
pub fn make_directory_of(file: &Path) -> io::Result<Option<&Path>> {
    match file.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        Some(directory) if !fs::exists(directory)? => {
            DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
            Ok(Some(directory))
        }
        _ => Ok(None),
    }
}
