//! The one way to touch memory that several sides share: values of maps, and variables that user space or
//! another CPU reads or writes meanwhile.
//!
//! A [`Shared`] can be made from nothing but a map look-up, or a variable of the object's own, and gives
//! further ones for its fields and elements. So all that a hook does with shared memory is safe, and the one
//! argument for that stands here:
//!
//! - **It may be accessed.** The memory outlives every run of a program. The verifier has followed the
//!   pointer from the look-up and checks each access: a program that reaches outside of the value is refused.
//! - **Accesses are whole, and stay where they are.** They are volatile and at most eight bytes wide and
//!   aligned, so none is torn, folded or moved over another volatile one. What is wider is read and written
//!   word by word, under a sequence number.
//! - **There is one writer.** A slot and what belongs to it is written with its thread's run queue locked, or
//!   by the thread itself; a CPU's memory and totals with its run queue locked; a block of statistics by its
//!   CPU; a walk's records by the one walk. Readers use the sequence number, or the count of what was
//!   written. For how long a CPU remembers has several writers, of which any may win. Counts of disks have
//!   several, which add to them with atomic operations.

use core::ptr::NonNull;

/// A pointer to shared memory. Never null, so that one which may be missing is a single word: of a word
/// beside it the compiler may leave the content open, and the verifier refuses programs that so much as
/// spill it.
#[repr(transparent)]
pub struct Shared<T>(NonNull<T>);

impl<T> Clone for Shared<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

impl<T> Shared<T> {
    /// # Safety
    /// `at` points to a value of a map, to a static of the object or to a part of either, which is accessed
    /// through [`Shared`] alone.
    #[inline(always)]
    pub const unsafe fn new(at: *mut T) -> Self {
        // SAFETY: by the contract it points to something.
        Self(unsafe { NonNull::new_unchecked(at) })
    }

    /// The bare pointer, for helpers that write memory.
    #[inline(always)]
    pub const fn as_ptr(self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T: Copy> Shared<T> {
    /// Reads it.
    #[inline(always)]
    pub fn load(self) -> T {
        // SAFETY: by the contract of `new`.
        unsafe { self.as_ptr().read_volatile() }
    }

    /// Writes it.
    #[inline(always)]
    pub fn store(self, value: T) {
        // SAFETY: by the contract of `new`.
        unsafe { self.as_ptr().write_volatile(value) };
    }
}

impl<T, const N: usize> Shared<[T; N]> {
    /// An element; beyond the end those from the first on again.
    #[inline(always)]
    pub const fn element(self, index: usize) -> Shared<T> {
        // SAFETY: inside the array by the remainder.
        let at = unsafe { self.as_ptr().cast::<T>().add(index % N) };
        // SAFETY: a part of what is shared is shared.
        unsafe { Shared::new(at) }
    }
}

impl Shared<u64> {
    /// Adds to it. Without an atomic operation: there is one writer.
    #[inline(always)]
    pub fn bump(self, by: u64) {
        self.store(self.load().wrapping_add(by));
    }
}

#[cfg(target_arch = "bpf")]
impl Shared<u64> {
    /// Adds to it with an atomic operation: where there are several writers.
    ///
    /// By the instruction itself (`BPF_XADD`): the target has no atomic operations to Rust, for kernels
    /// before 5.12 have none that return what was there.
    #[inline(always)]
    pub fn add(self, by: u64) {
        // SAFETY: the verifier checks the access, as any other; by the contract of `new` it is shared memory.
        unsafe {
            core::arch::asm!(
                "lock *(u64 *)({at} + 0) += {by}",
                at = in(reg) self.as_ptr(),
                by = in(reg) by,
                options(nostack, preserves_flags),
            );
        }
    }
}

impl Shared<u32> {
    /// Adds to it, as above.
    #[inline(always)]
    pub fn bump(self, by: u32) {
        self.store(self.load().wrapping_add(by));
    }
}

/// Lets `write` write what belongs to a sequence number, which is odd meanwhile: a reader that finds it odd,
/// or changed, reads again.
#[inline(always)]
pub fn written<R>(seq: Shared<u64>, write: impl FnOnce() -> R) -> R {
    seq.store(seq.load() | 1);
    let result = write();
    seq.store((seq.load() | 1) + 1);
    result
}

/// A field of a shared structure, as shared memory of its own.
#[macro_export]
macro_rules! field {
    ($shared:ident . $($field:tt)+) => {{
        let at = $crate::shared::Shared::as_ptr($shared);
        // SAFETY: a part of what is shared is shared.
        unsafe { $crate::shared::Shared::new(&raw mut (*at).$($field)+) }
    }};
}

/// Reads a field of a shared structure.
#[macro_export]
macro_rules! load {
    ($shared:ident . $($field:tt)+) => { $crate::field!($shared.$($field)+).load() };
}

/// Writes a field of a shared structure.
#[macro_export]
macro_rules! store {
    ($shared:ident . $($field:ident).+ $([$index:expr])?, $value:expr) => {{
        let value = $value;
        $crate::field!($shared.$($field).+ $([$index])?).store(value);
    }};
}

/// Adds to a field of a shared structure.
#[macro_export]
macro_rules! bump {
    ($shared:ident . $($field:ident).+ $([$index:expr])?, $by:expr) => {{
        let by = $by;
        $crate::field!($shared.$($field).+ $([$index])?).bump(by);
    }};
}

pub use crate::{bump, field, load, store};
