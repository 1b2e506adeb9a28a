//! Reading all of a hash map with few system calls (`BPF_MAP_LOOKUP_BATCH`, 5.6 and later).

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use super::mmap::Plain;

/// `enum bpf_cmd`
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;

/// Entries that are read with one call at first.
const ENTRIES: usize = 64;

/// `union bpf_attr` of a batch.
#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Room for entries, which is used again.
#[derive(Debug)]
pub(super) struct Batches<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K: Plain, V: Plain> Batches<K, V> {
    /// Room; nothing is read yet.
    pub(super) const fn new() -> Self {
        Self { keys: Vec::new(), values: Vec::new() }
    }

    /// Hands every entry of a map to `each`, in no order. One that comes or goes meanwhile may be missing.
    ///
    /// `map` has keys and values of these types.
    pub(super) fn read(&mut self, map: BorrowedFd<'_>, mut each: impl FnMut(&K, &V)) -> io::Result<()> {
        let (mut from, mut to, mut is_first) = (0_u32, 0_u32, true);
        let mut room = self.keys.capacity().max(ENTRIES);
        loop {
            self.keys.clear();
            self.values.clear();
            self.keys.reserve(room);
            self.values.reserve(room);
            let mut batch = Batch {
                in_batch: if is_first { 0 } else { std::ptr::from_ref(&from).expose_provenance() as u64 },
                out_batch: std::ptr::from_mut(&mut to).expose_provenance() as u64,
                keys: self.keys.as_mut_ptr().expose_provenance() as u64,
                values: self.values.as_mut_ptr().expose_provenance() as u64,
                count: u32::try_from(room).unwrap_or(u32::MAX),
                map_fd: map.as_raw_fd().cast_unsigned(),
                ..Batch::default()
            };
            let outcome = lookup(&mut batch);
            let is_over = match outcome {
                Ok(()) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                // A bucket has more entries than there is room for: nothing of it was read.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    room *= 2;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let read = (batch.count as usize).min(room);
            // SAFETY: the kernel has written so many, any bytes are a key, and there is room for more.
            unsafe { self.keys.set_len(read) };
            // SAFETY: the same of values.
            unsafe { self.values.set_len(read) };
            self.keys.iter().zip(&self.values).for_each(|(key, value)| each(key, value));
            if is_over {
                return Ok(());
            }
            (from, is_first) = (to, false);
        }
    }
}

fn lookup(batch: &mut Batch) -> io::Result<()> {
    // SAFETY: the kernel reads the attributes, and writes as many entries as their `count` says to where they
    // point, where there is room for them, and the count.
    let answer = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_BATCH, std::ptr::from_mut(batch), size_of::<Batch>())
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
