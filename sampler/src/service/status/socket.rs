//! The file of the socket: made at the start, where no living service has it, and removed at the end.

use std::{
    fs::{self, Metadata, Permissions},
    io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixStream;

use crate::kernel::directory::make_directory_of;

/// Owner and group may connect, which takes the right to write.
const MODE: u32 = 0o660;

/// A socket that listens. Dropping it removes its file, where the service may.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listener: UnixListener,
    file: PathBuf,
    made: Metadata,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    /// Another service answers there.
    #[error(
        "another hvsampler answers at {} ({holder}); stop it first, or give this one another status_socket",
        path.display()
    )]
    Living {
        /// The socket.
        path: PathBuf,
        /// Who has it, as far as the kernel says.
        holder: String,
    },
    /// Something else has its name.
    #[error("{}: is no socket and stays as it is; remove it, or set another status_socket", path.display())]
    Occupied {
        /// The path.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error(
        "{}: no socket can be made there; make its directory writable, or set another status_socket, or \"\" for none",
        path.display()
    )]
    Make {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Bound {
    /// Makes the socket; the directory is made where it is missing. A file that a service left behind which
    /// is gone is replaced.
    ///
    /// Of two services that begin at the same moment both might find such a file: the lock of instances
    /// (`lock_file`) stands before this.
    ///
    /// # Errors
    /// Says who has it, or what the kernel said.
    pub(super) async fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Make { path: path.to_owned(), source };
        make_directory_of(path).map_err(failed)?;
        clear(path).await?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        // What fails from here on leaves no file behind.
        let made = fs::symlink_metadata(path).map_err(failed)?;
        let bound = Self { listener, file: path.to_owned(), made };
        fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(failed)?;
        bound.listener.set_nonblocking(true).map_err(failed)?;
        Ok(bound)
    }

    /// Its file, as it was made.
    pub(super) const fn made(&self) -> &Metadata {
        &self.made
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let is = |found: &Metadata| (found.dev(), found.ino()) == (self.made.dev(), self.made.ino());
        if !fs::symlink_metadata(&self.file).is_ok_and(|found| is(&found)) {
            return;
        }
        match fs::remove_file(&self.file) {
            Ok(()) => {}
            // A service that has given up removing files leaves it to its manager, or to the next start.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                tracing::debug!(%error, path = %self.file.display(), "the status socket stays behind");
            }
            Err(error) => {
                tracing::warn!(%error, path = %self.file.display(), "the status socket stays behind");
            }
        }
    }
}

/// Removes what a service left behind. A connection shows whether somebody listens; it does not wait for an
/// answer.
async fn clear(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Make { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::Occupied { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    let living = |holder| Err(SocketError::Living { path: path.to_owned(), holder });
    match UnixStream::connect(path).await {
        Ok(stream) => living(holder(&stream)),
        // So many wait for it already: it is busy, or stands still.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => living("pid not known".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// The process that listens, by what the kernel noted when it began to.
fn holder(stream: &UnixStream) -> String {
    match stream.peer_cred().ok().and_then(|noted| noted.pid()) {
        Some(pid) => format!("pid {pid}"),
        None => "pid not known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    #[tokio::test]
    async fn it_is_for_owner_and_group_and_gone_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/here/status");
        let bound = Bound::bind(&path).await.unwrap();
        assert_eq!(mode(&path), MODE);
        UnixStream::connect(&path).await.unwrap();
        drop(bound);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_a_service_left_behind_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("status");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a process that is killed leaves it so");
        let bound = Bound::bind(&path).await.unwrap();
        UnixStream::connect(&path).await.unwrap();
        drop(bound);
    }

    #[tokio::test]
    async fn that_of_a_living_service_is_not_and_the_error_names_both() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("status");
        let _first = Bound::bind(&path).await.unwrap();
        let error = Bound::bind(&path).await.unwrap_err().to_string();
        let named = [path.display().to_string(), format!("pid {}", std::process::id())];
        assert!(named.iter().all(|name| error.contains(name)), "{error}");
        UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_service_that_accepts_nothing_any_more_lives() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("status");
        let bound = Bound::bind(&path).await.unwrap();
        // SAFETY: two numbers are handed over; so few may wait from now on.
        assert_eq!(unsafe { libc::listen(bound.listener.as_raw_fd(), 1) }, 0);
        let mut waiting = Vec::new();
        let full = loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert!(matches!(Bound::bind(&path).await, Err(SocketError::Living { .. })));
        drop(bound);
    }

    #[tokio::test]
    async fn what_is_no_socket_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "mine").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            let error = Bound::bind(path).await.unwrap_err();
            assert!(matches!(error, SocketError::Occupied { .. }), "{error}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }

    #[tokio::test]
    async fn a_file_that_somebody_else_made_meanwhile_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("status");
        let bound = Bound::bind(&path).await.unwrap();
        let mine = directory.path().join("mine");
        fs::rename(&path, &mine).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_said_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x".repeat(120));
        let error = Bound::bind(&path).await.unwrap_err().to_string();
        assert!(error.contains("status_socket") && error.contains("\"\" for none"), "{error}");
    }
}
