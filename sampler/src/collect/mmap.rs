//! Reading and writing the memory that is shared with the programs. The one file here with `unsafe` in it.

use std::{
    cell::OnceCell,
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{Ordering, compiler_fence, fence},
    time::Duration,
};

use aya::maps::{Map, MapData};
use sampler_ebpf::abi::{
    BlockStats, Control, DiskCounts, DiskKey, Event, ExitCounts, FirstDisk, Followed, HelperRecord,
    HookStats, IoGroup, Modes, Occupancy, Shares, SlotShares, Timeline, VcpuFile, VcpuFiles, VcpuSlot,
    WalkRecord, WalkStats,
};
use sampler_ebpf::histogram::Histogram;

use crate::load::Object;

/// How often a slot is read again that is being written. A write takes some ten stores; but the CPU that
/// writes may be a virtual one that has just lost its own CPU.
const ATTEMPTS: u32 = 64;

/// Why a map could not be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The object has no such map, or one of another type.
    #[error(
        "the eBPF object has no {0} map of the expected type; program and loader were built from different sources"
    )]
    Missing(&'static str),
    /// The map's values are not of the size that this side knows.
    #[error(
        "map {name}: values of {kernel} bytes, expected {ours}; program and loader were built from different sources"
    )]
    Size {
        /// The map.
        name: &'static str,
        /// Size in the kernel.
        kernel: u32,
        /// Size here.
        ours: usize,
    },
    /// A system call failed.
    #[error("map {name}: {call}: {source}")]
    System {
        /// The map.
        name: &'static str,
        /// What was tried.
        call: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Types that may lie in shared memory: any bytes are a value, there is no padding that is not initialised.
///
/// # Safety
/// The type is `repr(C)` or an array, made of integers only.
pub unsafe trait Plain: Copy {}

// SAFETY: `repr(C)` structs of integers (and an array of them), with explicit padding.
unsafe impl Plain for Followed {}
// SAFETY: as above.
unsafe impl Plain for VcpuSlot {}
// SAFETY: as above.
unsafe impl Plain for WalkRecord {}
// SAFETY: as above.
unsafe impl Plain for Control {}
// SAFETY: as above.
unsafe impl Plain for HookStats {}
// SAFETY: as above.
unsafe impl Plain for WalkStats {}
// SAFETY: as above.
unsafe impl Plain for Shares {}
// SAFETY: as above.
unsafe impl Plain for SlotShares {}
// SAFETY: as above.
unsafe impl Plain for Timeline {}
// SAFETY: as above.
unsafe impl Plain for Modes {}
// SAFETY: as above.
unsafe impl Plain for Occupancy {}
// SAFETY: as above.
unsafe impl Plain for Event {}
// SAFETY: as above.
unsafe impl Plain for HelperRecord {}
// SAFETY: as above.
unsafe impl Plain for VcpuFile {}
// SAFETY: as above.
unsafe impl Plain for VcpuFiles {}
// SAFETY: as above.
unsafe impl Plain for Histogram {}
// SAFETY: as above.
unsafe impl Plain for ExitCounts {}
// SAFETY: as above.
unsafe impl Plain for DiskKey {}
// SAFETY: as above.
unsafe impl Plain for DiskCounts {}
// SAFETY: as above.
unsafe impl Plain for IoGroup {}
// SAFETY: as above.
unsafe impl Plain for FirstDisk {}
// SAFETY: as above.
unsafe impl Plain for BlockStats {}
// SAFETY: integers.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: an array of such values has no padding between them.
unsafe impl<P: Plain, const N: usize> Plain for [P; N] {}

/// A value from its bytes; `None` when they are more or fewer.
pub(super) fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: so many bytes are there, they need no alignment, and any bytes are a value of `T`.
    (bytes.len() == size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Values of a window. So many come to whole pages of 4 KiB, whatever their size: a multiple of 8 bytes.
const WINDOW: usize = 512;

/// An array map, mapped into this process window by window, each when something in it is first wanted. The
/// kernel maps all pages of a mapping at once, and maps are made for more vCPUs and thread ids than most
/// hosts have.
#[derive(Debug)]
pub struct Mapped<T> {
    name: &'static str,
    fd: OwnedFd,
    windows: Box<[OnceCell<Mapping>]>,
    len: usize,
    _values: PhantomData<T>,
}

/// A mapping of this process.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone, and all access goes through volatile reads and writes.
unsafe impl Send for Mapping {}

impl<T: Plain> Mapped<T> {
    /// Distance of two values: the kernel rounds up to 8 bytes.
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    /// Opens an array map of the object, and maps its first window.
    ///
    /// # Errors
    /// When it does not exist, has values of another size or cannot be mapped.
    pub fn open(object: &Object, name: &'static str) -> Result<Self, MapError> {
        let Some(Map::Array(map)) = object.map(name) else {
            return Err(MapError::Missing(name));
        };
        Self::of(map, name)
    }

    /// The same with an array map at hand.
    ///
    /// # Errors
    /// When it has values of another size or cannot be mapped.
    pub fn of(map: &MapData, name: &'static str) -> Result<Self, MapError> {
        let system = |call, source| MapError::System { name, call, source };
        let info =
            map.info().map_err(|error| system("bpf(BPF_OBJ_GET_INFO_BY_FD)", io::Error::other(error)))?;
        if info.value_size() as usize != size_of::<T>() {
            return Err(MapError::Size { name, kernel: info.value_size(), ours: size_of::<T>() });
        }
        let len = info.max_entries() as usize;
        let fd = map.fd().as_fd().try_clone_to_owned().map_err(|source| system("dup", source))?;
        let windows = (0..len.div_ceil(WINDOW)).map(|_| OnceCell::new()).collect();
        let opened = Self { name, fd, windows, len, _values: PhantomData };
        if let Some(first) = opened.windows.first() {
            let mapping = opened.map_window(0).map_err(|source| system("mmap", source))?;
            first.get_or_init(|| mapping);
        }
        Ok(opened)
    }

    /// The indices of which something may have been written or read here: those of windows that are mapped.
    pub fn touched(&self) -> Vec<usize> {
        let mapped = (0..self.windows.len()).filter(|window| self.windows[*window].get().is_some());
        mapped.flat_map(|window| window * WINDOW..self.len.min((window + 1) * WINDOW)).collect()
    }

    /// Maps all values now: they are looked at where nothing may fail.
    ///
    /// # Errors
    /// When there is no room for them.
    pub fn map_all(&self) -> Result<(), MapError> {
        for (number, window) in self.windows.iter().enumerate() {
            if window.get().is_none() {
                let system = |source| MapError::System { name: self.name, call: "mmap", source };
                let mapping = self.map_window(number).map_err(system)?;
                window.get_or_init(|| mapping);
            }
        }
        Ok(())
    }

    fn map_window(&self, window: usize) -> io::Result<Mapping> {
        let first = window * WINDOW;
        let bytes = WINDOW.min(self.len - first) * Self::STRIDE;
        let base = map_shared(self.fd.as_fd(), first * Self::STRIDE, bytes)?;
        Ok(Mapping { base, bytes })
    }

    /// Number of values.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the map has no values.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies a value out. The programs may be writing it: each aligned word is whole, the value may be
    /// mixed.
    ///
    /// # Panics
    /// When the index is beyond the end, or its window cannot be mapped.
    #[must_use]
    pub fn read(&self, index: usize) -> T {
        // SAFETY: the pointer is inside the mapping, aligned, and any bytes are a value of `T`.
        unsafe { self.at(index).read_volatile() }
    }

    /// Copies a part of a value out, `at` bytes from its begin, as [`Self::read`] would copy all of it: to
    /// touch memory is most of what a reading costs.
    ///
    /// # Panics
    /// When the index is beyond the end, or the part is not inside the value and aligned.
    #[must_use]
    pub fn read_part<P: Plain>(&self, index: usize, at: usize) -> P {
        // SAFETY: inside the mapping and aligned, and any bytes are a value of `P`.
        unsafe { self.part::<P>(index, at).read_volatile() }
    }

    /// Reads a value's first eight bytes.
    ///
    /// # Panics
    /// When the index is beyond the end, or values are shorter.
    #[must_use]
    pub fn first_word(&self, index: usize) -> u64 {
        assert!(size_of::<T>() >= size_of::<u64>(), "values of {} bytes have no first word", size_of::<T>());
        // SAFETY: the pointer is inside the mapping, aligned to pages and multiples of eight bytes, and any
        // bytes are a number.
        unsafe { self.at(index).cast::<u64>().read_volatile() }
    }

    /// Reads what programs write under a sequence number, which is odd while they do; that number is `seq`
    /// bytes from the value's begin. `None` while it is being written.
    ///
    /// # Panics
    /// When the index is beyond the end, or the number is not inside the value and aligned.
    pub fn read_with<U>(&self, index: usize, seq: usize, read: impl Fn() -> U) -> Option<U> {
        let seq: *mut u64 = self.part(index, seq);
        (0..ATTEMPTS).find_map(|_| {
            // SAFETY: inside the mapping and aligned, here and below.
            let before = unsafe { seq.read_volatile() };
            fence(Ordering::Acquire);
            let value = read();
            fence(Ordering::Acquire);
            // SAFETY: as above.
            let after = unsafe { seq.read_volatile() };
            if before == after && before.is_multiple_of(2) {
                return Some(value);
            }
            std::hint::spin_loop();
            None
        })
    }

    /// Writes a value.
    ///
    /// # Panics
    /// When the index is beyond the end, or its window cannot be mapped.
    pub fn write(&mut self, index: usize, value: T) {
        self.write_part(index, 0, value);
    }

    /// Writes a part of a value, `at` bytes from its begin, and leaves the others to the programs, which may
    /// write them at any time.
    ///
    /// # Panics
    /// When the index is beyond the end, or the part is not inside the value and aligned.
    pub fn write_part<P: Plain>(&mut self, index: usize, at: usize, value: P) {
        // SAFETY: inside the mapping and aligned.
        unsafe { self.part::<P>(index, at).write_volatile(value) };
        // What is written next must not become visible first: x86 keeps the order of stores, so the compiler
        // is all there is to hold back.
        compiler_fence(Ordering::Release);
        fence(Ordering::Release);
    }

    /// A part of a value: inside of it, and so inside the mapping, and aligned.
    fn part<P: Plain>(&self, index: usize, at: usize) -> *mut P {
        assert!(at + size_of::<P>() <= size_of::<T>() && at.is_multiple_of(align_of::<P>()), "no such part");
        const { assert!(align_of::<P>() <= align_of::<T>(), "a part is aligned no more than the whole") };
        self.at(index).cast::<u8>().wrapping_add(at).cast()
    }

    fn at(&self, index: usize) -> *mut T {
        assert!(index < self.len, "index {index} is beyond the map's {} entries", self.len);
        let window = index / WINDOW;
        let mapping = self.windows[window].get_or_init(|| match self.map_window(window) {
            Ok(mapping) => mapping,
            Err(error) => panic!("map {}: mmap of its values from {}: {error}", self.name, window * WINDOW),
        });
        // SAFETY: below `len`, so inside the window's mapping, whose base is aligned to a page.
        unsafe { mapping.base.as_ptr().add(index % WINDOW * Self::STRIDE).cast() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those of the mapping, which nobody uses any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// `offset` is a multiple of a page's size.
fn map_shared(fd: BorrowedFd<'_>, offset: usize, bytes: usize) -> io::Result<NonNull<u8>> {
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            fd.as_raw_fd(),
            offset,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))
}

pub(super) fn poll_readable(fd: BorrowedFd<'_>, at_most: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(at_most.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(at_most.subsec_nanos()),
    };
    // SAFETY: one valid entry, a valid time-out, no signal mask.
    let ready = unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) };
    match ready {
        -1 => {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) }
        }
        ready => Ok(ready > 0),
    }
}
