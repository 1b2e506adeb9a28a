//! The interfaces whose other end a process holds: tun and tap devices, and macvtaps.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::Path,
};

use super::{super::procfs::OpenFile, netlink::Netlink};
use crate::kernel::{
    Root,
    calls::{TUNGETDEVNETNS, TUNGETIFF},
};

/// What a descriptor without an interface answers.
const NO_INTERFACE: [i32; 3] = [libc::EBADF, libc::EBADFD, libc::ENOTTY];

/// How an interface reaches the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TapKind {
    /// What the host sends into it the guest receives.
    Tap,
    /// It is an end of its own on another interface: what it receives is for the guest.
    Macvtap,
}

/// A network namespace.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) inode: u64,
    file: File,
}

impl Namespace {
    fn of(file: File) -> io::Result<Self> {
        Ok(Self { inode: file.metadata()?.ino(), file })
    }

    /// Opens a socket in it. That of this process needs no privilege.
    pub(super) fn open(&self) -> io::Result<Netlink> {
        let own = fs::metadata("/proc/thread-self/ns/net");
        if own.is_ok_and(|own| own.ino() == self.inode) {
            return Netlink::open();
        }
        Netlink::open_in(self.file.as_fd())
    }
}

/// An interface.
#[derive(Debug)]
pub(super) struct Tap {
    pub(super) name: String,
    pub(super) kind: TapKind,
    pub(super) namespace: Namespace,
}

/// What was found of a process.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Several may be of the same interface: a queue each.
    pub(super) taps: Vec<Tap>,
    /// Descriptors of interfaces that could not be looked at.
    pub(super) failures: u64,
}

/// The interfaces among a process's files.
pub(super) fn of(pid: u32, files: &[OpenFile]) -> io::Result<Found> {
    let process = Root::system().path("proc").join(pid.to_string());
    let mut found = Found::default();
    let mut pidfd = None;
    for OpenFile { descriptor, path } in files {
        let Some(kind) = kind_of(path) else { continue };
        let Some(number) = descriptor.to_str().and_then(|number| number.parse().ok()) else { continue };
        let pidfd = match &pidfd {
            Some(pidfd) => pidfd,
            None => pidfd.insert(open_process(pid)?),
        };
        match tap(&process, pidfd, number, kind) {
            Ok(tap) => found.taps.push(tap),
            // It was closed meanwhile, is attached to no interface, or is something else.
            Err(error) if error.raw_os_error().is_some_and(|error| NO_INTERFACE.contains(&error)) => {}
            Err(error) => {
                found.failures += 1;
                tracing::debug!(%error, pid, number, "a descriptor of an interface cannot be looked at");
            }
        }
    }
    Ok(found)
}

fn tap(process: &Path, pidfd: &OwnedFd, number: i32, kind: TapKind) -> io::Result<Tap> {
    let descriptor = File::from(descriptor(pidfd, number)?);
    // Anything may have such a name.
    if !descriptor.metadata()?.file_type().is_char_device() {
        return Err(io::Error::from_raw_os_error(libc::ENOTTY));
    }
    let name = name_of(&descriptor)?;
    let namespace = match namespace_of(&descriptor) {
        Ok(namespace) => namespace,
        // A macvtap does not say, nor a tap to one without CAP_NET_ADMIN. It is in the process's own as a
        // rule.
        Err(_) => File::open(process.join("ns/net"))?,
    };
    Ok(Tap { name, kind, namespace: Namespace::of(namespace)? })
}

/// What a descriptor's file is, by its path: in a jail another one may stand before it.
fn kind_of(target: &Path) -> Option<TapKind> {
    if target.ends_with("net/tun") {
        return Some(TapKind::Tap);
    }
    let name = target.file_name()?.to_str()?;
    let digits = name.strip_prefix("tap")?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(TapKind::Macvtap)
}

fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers, makes a descriptor.
    made(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// A copy of a process's descriptor (`pidfd_getfd`, 5.6 and later).
fn descriptor(process: &OwnedFd, number: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers, makes a descriptor.
    made(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

fn name_of(tap: &File) -> io::Result<String> {
    // SAFETY: all bytes zero are such a structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes such a structure.
    if unsafe { libc::ioctl(tap.as_raw_fd(), TUNGETIFF, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let name: Vec<u8> =
        request.ifr_name.iter().map(|byte| byte.cast_unsigned()).take_while(|byte| *byte != 0).collect();
    String::from_utf8(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// The namespace that a tap is in, whichever the process is in, or the descriptor was opened in.
fn namespace_of(tap: &File) -> io::Result<File> {
    // SAFETY: takes no argument, makes a descriptor.
    made(unsafe { libc::ioctl(tap.as_raw_fd(), TUNGETDEVNETNS) }.into()).map(File::from)
}

fn made(answer: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(answer).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made it, and it is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::{super::super::procfs::ProcFs, *};

    #[test]
    fn descriptors_of_interfaces_are_known_by_their_paths() {
        let kind = |path| kind_of(Path::new(path));
        assert_eq!(kind("/dev/net/tun"), Some(TapKind::Tap));
        assert_eq!(kind("/srv/jailer/firecracker/7/root/dev/net/tun"), Some(TapKind::Tap));
        assert_eq!(kind("/dev/tap12"), Some(TapKind::Macvtap));
        for path in ["/dev/tap", "/dev/tapx", "/dev/tape1", "/dev/tun", "socket:[7]", "/", "/x/nettun"] {
            assert_eq!(kind(path), None, "{path}");
        }
    }

    #[test]
    fn a_file_with_the_name_of_an_interface_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let _file = File::create(directory.path().join("tap7")).unwrap();
        let files = ProcFs::system().open_files(std::process::id()).unwrap();
        assert!(files.iter().any(|file| kind_of(&file.path).is_some()));
        let found = of(std::process::id(), &files).unwrap();
        assert!(found.taps.is_empty() && found.failures == 0, "{found:?}");
    }

    #[test]
    fn a_process_that_has_ended_says_so() {
        let file = OpenFile { descriptor: "7".into(), path: "/dev/net/tun".into() };
        assert!(of(u32::MAX, &[file]).is_err());
    }
}
