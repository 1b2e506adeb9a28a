//! Pages of their own for guests to run from, which can be taken away: the next instruction then waits until
//! the page is there again.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mm::{Advice, MapFlags, ProtFlags, UserfaultfdFlags, madvise, mmap, mmap_anonymous, munmap};

use super::program;

/// Time within which the thread that brings a page sees that nobody needs it any more.
const NEEDED: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// A page with the guests' code.
#[derive(Debug)]
pub struct Page {
    at: *mut libc::c_void,
    from: From,
}

/// Where it comes from when it is gone.
#[derive(Debug)]
enum From {
    File(File),
    Swap,
    Bringer { bringer: Arc<Bringer>, thread: Option<JoinHandle<io::Result<()>>> },
}

/// Who brings a page that a guest waits for.
#[derive(Debug)]
struct Bringer {
    faults: OwnedFd,
    /// How long each takes.
    takes: Duration,
    brought: AtomicU64,
    waited_ns: AtomicU64,
    is_over: AtomicBool,
}

// SAFETY: the mapping belongs to this value alone, and nobody writes it but the kernel.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// One that is in this file, which is made: a guest waits for the disk.
    ///
    /// # Errors
    /// When the file cannot be written or mapped.
    pub fn in_file(path: &Path) -> io::Result<Self> {
        std::fs::write(path, program::image())?;
        File::open(path)?.sync_all()?;
        Self::of_file(path)
    }

    /// The first page of a file that is there.
    ///
    /// # Errors
    /// When the file cannot be opened or mapped.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: a new mapping, which nobody knows yet.
        let at = unsafe {
            mmap(ptr::null_mut(), program::IMAGE_SIZE, ProtFlags::READ, MapFlags::PRIVATE, file.as_fd(), 0)
        }?;
        Ok(Self { at, from: From::File(file) })
    }

    /// One of this process's own memory: a guest waits for the swap area. It is taken away from a guest that
    /// does not run; from another the kernel may not take it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn in_swap() -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, which nobody knows yet.
        let at = unsafe { mmap_anonymous(ptr::null_mut(), program::IMAGE_SIZE, access, MapFlags::PRIVATE) }?;
        // SAFETY: the mapping is as long, and nobody else knows it.
        unsafe { ptr::copy_nonoverlapping(program::image().as_ptr(), at.cast(), program::IMAGE_SIZE) };
        Ok(Self { at, from: From::Swap })
    }

    /// One that a thread of this process brings when it is asked for, as in post-copy migration. `None` where
    /// this kernel has no `userfaultfd`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn brought(takes: Duration) -> io::Result<Option<Self>> {
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
        // SAFETY: a descriptor that nobody has registered memory with.
        let faults = match unsafe { rustix::mm::userfaultfd(flags) } {
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => return Ok(None),
            faults => faults?,
        };
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, which nobody knows yet.
        let at = unsafe { mmap_anonymous(ptr::null_mut(), program::IMAGE_SIZE, access, MapFlags::PRIVATE) }?;
        ask(&faults, API, &mut [0xaa, 0, 0])?;
        ask(&faults, REGISTER, &mut [at.addr() as u64, program::IMAGE_SIZE as u64, MISSING, 0])?;
        let bringer = Arc::new(Bringer {
            faults,
            takes,
            brought: AtomicU64::new(0),
            waited_ns: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let (brings, address) = (Arc::clone(&bringer), at.addr());
        let thread = thread::Builder::new().name("bringer".into()).spawn(move || brings.work(address))?;
        Ok(Some(Self { at, from: From::Bringer { bringer, thread: Some(thread) } }))
    }

    /// Reads a byte of it: this thread waits until the page is there.
    pub fn look(&self) {
        // SAFETY: the mapping is as long and may be read, and nobody writes it but the kernel.
        std::hint::black_box(unsafe { self.at.cast::<u8>().read_volatile() });
    }

    /// Its address in this process.
    pub(super) fn address(&self) -> u64 {
        self.at.addr() as u64
    }

    /// Takes it out of memory.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take_away(&self) -> io::Result<()> {
        let how = match self.from {
            // Of what is not kept elsewhere the other would leave nothing.
            From::Swap => Advice::LinuxPageOut,
            From::File(_) | From::Bringer { .. } => Advice::LinuxDontNeed,
        };
        // SAFETY: nobody holds a reference into the page, and it comes back as it was.
        unsafe { madvise(self.at, program::IMAGE_SIZE, how) }?;
        if let From::File(file) = &self.from {
            // SAFETY: nothing but the page cache changes.
            let error = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
        }
        Ok(())
    }

    /// Whether it is in memory no more, as the kernel says of this process (`mincore`).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn is_away(&self) -> io::Result<bool> {
        let mut pages = [0_u8; program::IMAGE_SIZE.div_ceil(4096)];
        // SAFETY: the kernel writes a byte for each page of the mapping.
        match unsafe { libc::mincore(self.at, program::IMAGE_SIZE, pages.as_mut_ptr()) } {
            0 => Ok(pages.iter().all(|page| page & 1 == 0)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// How often it was brought, and how long whoever waited for it waited at least.
    #[must_use]
    pub fn waits(&self) -> (u64, Duration) {
        match &self.from {
            From::File(_) | From::Swap => (0, Duration::ZERO),
            From::Bringer { bringer, .. } => {
                let waited_ns = bringer.waited_ns.load(Ordering::Acquire);
                (bringer.brought.load(Ordering::Acquire), Duration::from_nanos(waited_ns))
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let From::Bringer { bringer, thread } = &mut self.from {
            bringer.is_over.store(true, Ordering::Relaxed);
            let ended = thread.take().map(JoinHandle::join);
            if let Some(Ok(Err(error))) = ended {
                eprintln!("tiny VMM: the page of a guest was not brought: {error}");
            }
        }
        // SAFETY: the mapping is this value's own, and whoever runs a guest from it holds the value.
        if let Err(error) = unsafe { munmap(self.at, program::IMAGE_SIZE) } {
            eprintln!("tiny VMM: the page of a guest cannot be unmapped: {error}");
        }
    }
}

/// `UFFDIO_API`, `UFFDIO_REGISTER` and `UFFDIO_COPY` of `linux/userfaultfd.h`: their arguments are three,
/// four and five words.
const API: libc::Ioctl = 0xc018_aa3f;
const REGISTER: libc::Ioctl = 0xc020_aa00;
const COPY: libc::Ioctl = 0xc028_aa03;
/// `UFFDIO_REGISTER_MODE_MISSING`
const MISSING: u64 = 1;

impl Bringer {
    fn work(&self, address: usize) -> io::Result<()> {
        while !self.is_over.load(Ordering::Relaxed) {
            let mut ready = [PollFd::new(&self.faults, PollFlags::IN)];
            if poll(&mut ready, Some(&NEEDED))? == 0 {
                continue;
            }
            let mut message = [0; 32];
            match rustix::io::read(&self.faults, &mut message) {
                Err(rustix::io::Errno::AGAIN) => continue,
                read => read?,
            };
            let begin = Instant::now();
            thread::sleep(self.takes);
            let waited = begin.elapsed();
            let (page, image) = (address as u64, program::image().as_ptr().addr() as u64);
            match ask(&self.faults, COPY, &mut [page, image, program::IMAGE_SIZE as u64, 0, 0]) {
                // Taken away once more meanwhile, or there already.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EEXIST)) => {}
                copied => copied?,
            }
            self.waited_ns.fetch_add(waited.as_nanos() as u64, Ordering::AcqRel);
            self.brought.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }
}

fn ask<const N: usize>(faults: &OwnedFd, request: libc::Ioctl, words: &mut [u64; N]) -> io::Result<()> {
    // SAFETY: the request reads and writes as many words as there are.
    match unsafe { libc::ioctl(faults.as_raw_fd(), request, words.as_mut_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
