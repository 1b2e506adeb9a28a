//! Bytes that are written.

use std::fmt;

/// Collects bytes in a chunk, and gives it away when it is full: what has just been written is still in the
/// processor's cache when it is summed up and copied to where it is kept.
pub struct Writer<'s> {
    chunk: &'s mut [u8],
    /// Bytes that the chunk holds.
    held: usize,
    sink: &'s mut dyn FnMut(&[u8]),
}

impl fmt::Debug for Writer<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writer").field("held", &self.held).finish_non_exhaustive()
    }
}

impl<'s> Writer<'s> {
    /// Uses this chunk, which is not empty. `sink` gets it each time that it is full, and at the end what is
    /// left.
    pub fn new(chunk: &'s mut [u8], sink: &'s mut dyn FnMut(&[u8])) -> Self {
        debug_assert!(!chunk.is_empty(), "there is room for a byte");
        Self { chunk, held: 0, sink }
    }

    /// Writes bytes.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        match self.room(bytes.len()) {
            Some(room) => room.copy_from_slice(bytes),
            None => self.spill(bytes),
        }
    }

    /// Gives away what is left.
    pub fn end(mut self) {
        self.flush();
    }

    /// Room for so many bytes, which are to be filled; `None` where the chunk has not as much.
    #[inline]
    pub(super) fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        let room = self.chunk.get_mut(self.held..)?.get_mut(..length)?;
        self.held += length;
        Some(room)
    }

    /// Bytes that begin in this chunk and end in a later one.
    #[cold]
    fn spill(&mut self, mut bytes: &[u8]) {
        loop {
            let free = self.chunk.len() - self.held;
            let (now, later) = bytes.split_at(free.min(bytes.len()));
            self.chunk[self.held..][..now.len()].copy_from_slice(now);
            self.held += now.len();
            bytes = later;
            if bytes.is_empty() {
                return;
            }
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.held > 0 {
            (self.sink)(&self.chunk[..self.held]);
            self.held = 0;
        }
    }
}
