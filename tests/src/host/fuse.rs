//! File systems in user space that hang when a test says so, as storage does that is gone. Who waits for one
//! sleeps uninterruptibly. When this process ends, however it does, the kernel gives all requests up.
//!
//! The requests and answers are those of `linux/fuse.h`, of which a file that is mapped takes only some.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};

/// Name and length of the one file, which is one page.
const NAME: &[u8] = b"page";
const LENGTH: usize = 4096;
/// Numbers of the nodes.
const ROOT: u64 = 1;
const PAGE: u64 = 2;
/// Bytes of what is before a request, and of the longest one.
const HEADER: usize = 40;
const LONGEST: usize = 64 << 10;
/// Seconds for which the kernel need not ask again.
const VALID: u64 = 3600;

/// Kinds of requests.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;
/// What takes the place of an error in a message that is no answer: the kernel is to forget a node's pages.
const INVALIDATE_INODE: i32 = 2;
/// Version of the protocol, and what the server can do: reads ahead are asked for without waiting.
const VERSION: [u32; 2] = [7, 31];
const ASYNC_READ: u32 = 1;

/// Gives this thread, and what it starts from then on, mounts of their own: nobody else sees what they mount.
pub(crate) fn own_mounts() -> io::Result<()> {
    // SAFETY: of this thread alone.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// An empty file system in memory, for a thread with mounts of its own.
pub(crate) fn mount_memory(directory: &Path) -> io::Result<()> {
    Ok(mount("tmpfs", directory, "tmpfs", MountFlags::empty(), None)?)
}

/// A file system in user space. When it is dropped all that wait for it get an error.
#[derive(Debug)]
pub(crate) struct Storage {
    directory: PathBuf,
    device: Arc<File>,
    server: Option<Server>,
}

#[derive(Debug)]
struct Server {
    reads: Arc<Mutex<Reads>>,
    thread: JoinHandle<io::Result<()>>,
}

/// Reads of the file.
#[derive(Debug, Default)]
struct Reads {
    hang: bool,
    /// Numbers of those that wait for their answer.
    withheld: Vec<u64>,
}

impl Storage {
    /// One that answers nothing at all.
    pub(crate) fn mute(directory: &Path) -> anyhow::Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0\0", device.as_raw_fd());
        let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes())?;
        mount("storage", directory, "fuse", MountFlags::NODEV, options)
            .context("no file system is mounted")?;
        Ok(Self { directory: directory.to_owned(), device: Arc::new(device), server: None })
    }

    /// One with a file of a page, which is read as it should be until [`Self::hang`].
    pub(crate) fn mount(directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut storage = Self::mute(directory)?;
        let reads = Arc::<Mutex<Reads>>::default();
        let (device, shared) = (Arc::clone(&storage.device), Arc::clone(&reads));
        let thread = thread::Builder::new().name("storage".into()).spawn(move || serve(&device, &shared))?;
        storage.server = Some(Server { reads, thread });
        Ok(storage)
    }

    /// The file.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.join(String::from_utf8_lossy(NAME).as_ref())
    }

    /// From now on reads are not answered, and the kernel has none of the file in memory.
    pub(crate) fn hang(&self) -> io::Result<()> {
        self.reads(|reads| reads.hang = true);
        let whole: [u64; 3] = [PAGE, 0, 0];
        send(&self.device, 0, INVALIDATE_INODE, &whole.map(u64::to_ne_bytes).concat())
    }

    /// Reads are answered, those that wait too.
    pub(crate) fn go_on(&self) -> io::Result<()> {
        let withheld = self.reads(|reads| {
            reads.hang = false;
            std::mem::take(&mut reads.withheld)
        });
        withheld
            .unwrap_or_default()
            .into_iter()
            .try_for_each(|unique| answer(&self.device, unique, &[0; LENGTH]))
    }

    fn reads<T>(&self, with: impl FnOnce(&mut Reads) -> T) -> Option<T> {
        self.server.as_ref().map(|server| with(&mut locked(&server.reads)))
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // By force: what waits for an answer is given up.
        if let Err(error) = unmount(&self.directory, UnmountFlags::FORCE | UnmountFlags::DETACH) {
            eprintln!("{} cannot be unmounted: {error}", self.directory.display());
            return;
        }
        if let Some(Ok(Err(error))) = self.server.take().map(|server| server.thread.join()) {
            eprintln!("a file system in user space: {error}");
        }
    }
}

fn locked(reads: &Mutex<Reads>) -> MutexGuard<'_, Reads> {
    reads.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers requests until the file system is unmounted.
fn serve(device: &File, reads: &Mutex<Reads>) -> io::Result<()> {
    let mut room = vec![0; LONGEST];
    loop {
        let mut from = device;
        match from.read(&mut room) {
            Ok(length) => {
                if let Some(request) = Request::parse(&room[..length]) {
                    request.serve(device, reads)?;
                }
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::ENODEV | libc::ECONNABORTED) => return Ok(()),
                // A signal, or a request that was taken back.
                Some(libc::EINTR | libc::ENOENT | libc::EAGAIN) => {}
                _ => return Err(error),
            },
        }
    }
}

struct Request<'a> {
    kind: u32,
    unique: u64,
    node: u64,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    /// `None` of what is shorter than its header.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let body = bytes.get(HEADER..)?;
        Some(Self { kind: number(bytes, 4)?, unique: long(bytes, 8)?, node: long(bytes, 16)?, body })
    }

    fn serve(&self, device: &File, reads: &Mutex<Reads>) -> io::Result<()> {
        let unique = self.unique;
        match self.kind {
            INIT => answer(device, unique, &initial(number(self.body, 8).unwrap_or_default())),
            LOOKUP if self.body.strip_suffix(b"\0") == Some(NAME) => answer(device, unique, &entry()),
            LOOKUP => send(device, unique, -libc::ENOENT, &[]),
            GETATTR => answer(device, unique, &attributes(self.node)),
            // The server's own number of the open file, and flags: none of either.
            OPEN => answer(device, unique, &[0; 16]),
            READ => {
                let mut reads = locked(reads);
                if reads.hang {
                    reads.withheld.push(unique);
                    return Ok(());
                }
                drop(reads);
                let from = long(self.body, 8).map_or(LENGTH, |at| usize::try_from(at).unwrap_or(LENGTH));
                answer(device, unique, &[0; LENGTH][from.min(LENGTH)..])
            }
            RELEASE | FLUSH => answer(device, unique, &[]),
            // Nobody waits for an answer.
            FORGET | BATCH_FORGET | INTERRUPT => Ok(()),
            _ => send(device, unique, -libc::ENOSYS, &[]),
        }
    }
}

fn answer(device: &File, unique: u64, body: &[u8]) -> io::Result<()> {
    send(device, unique, 0, body)
}

fn send(device: &File, unique: u64, error: i32, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(16 + body.len()).map_err(io::Error::other)?;
    let header = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes()].concat();
    let mut to = device;
    match to.write(&[&header, body].concat()) {
        // Who asked has given up.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        written => written.map(drop),
    }
}

/// The answer to the first request: version, bytes that are read ahead as the kernel wants them, what the
/// server can do, a bound of writes, and the precision of times, ns.
fn initial(read_ahead: u32) -> Vec<u8> {
    let mut words = [0_u32; 16];
    [words[0], words[1]] = VERSION;
    (words[2], words[3], words[5], words[6]) = (read_ahead, ASYNC_READ, 4096, 1);
    words.map(u32::to_ne_bytes).concat()
}

/// What the name of the file leads to.
fn entry() -> Vec<u8> {
    let head = [PAGE, 0, VALID, VALID, 0].map(u64::to_ne_bytes).concat();
    [head, node(PAGE)].concat()
}

fn attributes(of: u64) -> Vec<u8> {
    [[VALID, 0].map(u64::to_ne_bytes).concat(), node(of)].concat()
}

fn node(of: u64) -> Vec<u8> {
    let (mode, length) =
        if of == ROOT { (libc::S_IFDIR | 0o755, 0) } else { (libc::S_IFREG | 0o444, LENGTH as u64) };
    let longs = [of, length, length.div_ceil(512), 0, 0, 0].map(u64::to_ne_bytes).concat();
    let numbers = [0, 0, 0, mode, 1, 0, 0, 0, LENGTH as u32, 0].map(u32::to_ne_bytes).concat();
    [longs, numbers].concat()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_as_long_as_the_kernel_wants_them() {
        assert_eq!((initial(1).len(), entry().len(), attributes(ROOT).len()), (64, 128, 104));
    }

    #[test]
    fn what_is_no_request_is_none() {
        assert!(Request::parse(&[0; HEADER - 1]).is_none());
        let mut bytes = [0; HEADER + 1];
        (bytes[4], bytes[8], bytes[16]) = (3, 5, 7);
        let request = Request::parse(&bytes).unwrap();
        assert_eq!((request.kind, request.unique, request.node, request.body.len()), (GETATTR, 5, 7, 1));
    }
}
