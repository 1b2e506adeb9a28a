//! The socket of the service manager.
//!
//! It is written here and not taken from a crate: those read the address from this process's environment
//! alone, and their socket waits for the manager for as long as it takes. This one waits on no thread.

use std::{
    ffi::OsStr,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::BorrowedFd,
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::Interest;

/// How long the manager may have no room for a message.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where messages go.
#[derive(Debug)]
pub(super) struct Address(SocketAddr);

impl Address {
    /// A path from the root, or an abstract name after `@`.
    ///
    /// # Errors
    /// It is neither, or longer than addresses of sockets are.
    pub(super) fn parse(address: &OsStr) -> io::Result<Self> {
        let strange = || {
            let reason = "neither a path from the root nor a name after @";
            io::Error::new(io::ErrorKind::Unsupported, reason)
        };
        let socket = match address.as_bytes() {
            [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(address),
            _ => Err(strange()),
        };
        socket.map(Self)
    }

    /// Sends a message, and a descriptor with it if there is one. Each has a socket of its own: the manager may
    /// have been restarted since the last one.
    ///
    /// # Errors
    /// Nobody is there, or has room for it within [`PATIENCE`].
    pub(super) async fn send(&self, message: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(&self.0)?;
        let socket = tokio::net::UnixDatagram::from_std(socket)?;
        let sending = socket.async_io(Interest::WRITABLE, || send_now(&socket, message, descriptor));
        tokio::time::timeout(PATIENCE, sending).await?
    }
}

fn send_now(
    socket: &tokio::net::UnixDatagram,
    message: &str,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let descriptors = descriptor.as_slice();
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut room);
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("there is no room for a descriptor beside the message"));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(message.as_bytes())], &mut beside, flags)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(address: &str) -> io::Result<Address> {
        Address::parse(OsStr::new(address))
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        for address in ["", "@", "notify", "vsock:2:1234"] {
            assert_eq!(parse(address).unwrap_err().kind(), io::ErrorKind::Unsupported, "{address}");
        }
        assert_eq!(parse(&format!("/{}", "x".repeat(200))).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn a_message_arrives_by_path_and_by_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("hvsampler-test-{}", std::process::id());
        let by_path = SocketAddr::from_pathname(&path).unwrap();
        let by_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (address, bound) in [(path.to_str().unwrap().to_owned(), by_path), (format!("@{name}"), by_name)]
        {
            let manager = UnixDatagram::bind_addr(&bound).unwrap();
            parse(&address).unwrap().send("READY=1", None).await.unwrap();
            let mut message = [0; 64];
            let length = manager.recv(&mut message).unwrap();
            assert_eq!(&message[..length], b"READY=1");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let address = parse(directory.path().join("notify").to_str().unwrap()).unwrap();
        assert_eq!(address.send("READY=1", None).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_manager_that_reads_nothing_is_an_error_and_no_wait_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let address = parse(path.to_str().unwrap()).unwrap();
        // As many as its queue takes, which is a setting of the kernel's.
        let full = loop {
            if let Err(error) = address.send("WATCHDOG=1", None).await {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::TimedOut);
        let mut message = [0; 64];
        manager.recv(&mut message).unwrap();
        address.send("WATCHDOG=1", None).await.unwrap();
    }
}
