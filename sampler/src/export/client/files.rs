//! Files that the settings name: secrets, keys and certificates.

use std::{
    env,
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Longest secret, bytes: receivers refuse headers long before.
const MAX_SECRET: u64 = 16 << 10;
/// Longest file with keys or certificates, bytes: all authorities of a system are a fraction of a MiB.
pub(super) const MAX_PEM: u64 = 8 << 20;

/// Where systemd puts the credentials of a service.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// A file that cannot be used. Never shows what is in it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is a credential of a service that has none.
    #[error(
        "{}: the service has no credentials; give it this one by LoadCredential= of its unit",
        .0.display()
    )]
    NoCredentials(PathBuf),
    /// The kernel refuses it.
    #[error("{}: cannot be read; check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error("{}: is no regular file; give one", .0.display())]
    NotRegular(PathBuf),
    /// It has more than can be right.
    #[error("{}: is longer than {at_most} bytes; check the path", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The bound.
        at_most: u64,
    },
    /// Everybody on this host has access to a secret.
    #[error(
        "{}: others may read or write this secret; take that from them: chmod o= {}",
        .0.display(),
        .0.display()
    )]
    Open(PathBuf),
    /// A header is text.
    #[error("{}: is not UTF-8; give text", .0.display())]
    NotText(PathBuf),
}

/// What is in a file.
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    /// Whether others than its owner and its group may read or write it.
    pub(super) is_open: bool,
}

/// The value of a header, without the line break that editors put at its end.
pub(super) fn secret(named: &Path) -> Result<String, FileError> {
    let path = located(named, env::var_os(CREDENTIALS).map(PathBuf::from).as_deref())?;
    let Content { bytes, is_open } = read_at(&path, MAX_SECRET)?;
    if is_open {
        return Err(FileError::Open(path));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| FileError::NotText(path))?;
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    Ok(text)
}

/// All of a file, if it is no longer than that.
pub(super) fn read(named: &Path, at_most: u64) -> Result<Content, FileError> {
    read_at(&located(named, env::var_os(CREDENTIALS).map(PathBuf::from).as_deref())?, at_most)
}

/// Where a file is that may be a credential.
fn located(named: &Path, credentials: Option<&Path>) -> Result<PathBuf, FileError> {
    match named.strip_prefix(format!("${CREDENTIALS}")) {
        Err(_) => Ok(named.to_owned()),
        Ok(name) => credentials
            .map(|directory| directory.join(name))
            .ok_or_else(|| FileError::NoCredentials(named.to_owned())),
    }
}

fn read_at(path: &Path, at_most: u64) -> Result<Content, FileError> {
    let refused = |source| FileError::Read { path: path.to_owned(), source };
    // Without waiting for who writes into a pipe.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(refused)?;
    let metadata = file.metadata().map_err(refused)?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular(path.to_owned()));
    }
    let bytes = bounded(&file, at_most).map_err(refused)?;
    if bytes.len() as u64 > at_most {
        return Err(FileError::TooLong { path: path.to_owned(), at_most });
    }
    const OTHERS_READ_OR_WRITE: u32 = 0o006;
    Ok(Content { bytes, is_open: metadata.mode() & OTHERS_READ_OR_WRITE != 0 })
}

/// One byte more than there may be shows that there is more.
fn bounded(file: &File, at_most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(at_most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
    };

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn one_line_break_at_the_end_is_no_part_of_a_secret() {
        for (content, expected) in [
            ("Bearer x", "Bearer x"),
            ("Bearer x\n", "Bearer x"),
            ("Bearer x\r\n", "Bearer x"),
            ("Bearer x\n\n", "Bearer x\n"),
            (" x ", " x "),
            ("", ""),
        ] {
            let (_dir, path) = file(content.as_bytes(), 0o640);
            assert_eq!(secret(&path).unwrap(), expected, "{content:?}");
        }
    }

    #[test]
    fn a_secret_that_everybody_may_read_or_write_is_refused() {
        for (mode, is_refused) in [(0o600, false), (0o440, false), (0o604, true), (0o602, true)] {
            let (_dir, path) = file(b"x", mode);
            assert_eq!(secret(&path).is_err(), is_refused, "{mode:o}");
        }
        let (_dir, path) = file(b"s3cret", 0o644);
        let error = secret(&path).unwrap_err().to_string();
        assert!(error.contains("chmod o= /") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn what_is_no_short_text_is_refused() {
        let (_dir, long) = file(&vec![b'x'; MAX_SECRET as usize + 1], 0o600);
        assert!(matches!(secret(&long), Err(FileError::TooLong { .. })));
        let (_dir, longest) = file(&vec![b'x'; MAX_SECRET as usize], 0o600);
        assert_eq!(secret(&longest).unwrap().len(), MAX_SECRET as usize);
        let (_dir, bytes) = file(b"\xff", 0o600);
        assert!(matches!(secret(&bytes), Err(FileError::NotText(_))));
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(secret(dir.path()), Err(FileError::NotRegular(_))));
        assert!(matches!(secret(&dir.path().join("none")), Err(FileError::Read { .. })));
    }

    #[test]
    fn a_credential_is_where_the_service_manager_put_it() {
        let credentials = Some(Path::new("/run/credentials/hvsampler.service"));
        for (named, expected) in [
            ("$CREDENTIALS_DIRECTORY/token", "/run/credentials/hvsampler.service/token"),
            ("/etc/token", "/etc/token"),
            ("$CREDENTIALS_DIRECTORY_/token", "$CREDENTIALS_DIRECTORY_/token"),
        ] {
            assert_eq!(located(Path::new(named), credentials).unwrap(), Path::new(expected));
        }
        let error = located(Path::new("$CREDENTIALS_DIRECTORY/token"), None).unwrap_err().to_string();
        assert!(error.starts_with("$CREDENTIALS_DIRECTORY/token: ") && error.contains("LoadCredential="));
    }
}
