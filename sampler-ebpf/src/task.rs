//! Reading a thread's `task_struct`, in two ways with one interface.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::{bpf_ktime_get_ns, generated};
use sampler_ebpf::abi::{ABSENT, Member};

use crate::{maps::offset, shared::Shared};

/// A pointer to a kernel object that programs may load from.
pub(crate) type Object = *const u8;

/// State of a thread that runs or could run.
pub(crate) const TASK_RUNNING: u64 = 0;
/// Bit of the state of a thread's very last switch: it will never run again. The same from 2.6 to 7.2.
pub(crate) const TASK_DEAD: u64 = 0x80;
/// Bits of the state of a thread that a signal or a debugger has stopped (the same from 2.6 to 7.2), or a
/// freezer (6.1 and later; no kernel before has that bit).
pub(crate) const TASK_STOPPED: u64 = 0x4 | 0x8 | 0x8000;

/// The first priority that is no real-time thread's (`MAX_RT_PRIO`), the same from 2.6 to 7.2. Those below 0
/// are of the deadline class.
pub(crate) const FIRST_FAIR: i32 = 100;

/// How members are read: typed loads where the verifier knows the pointer's type, a helper where it does not.
pub(crate) trait Access {
    /// Reads eight bytes of a member.
    fn u64(object: Object, member: Member) -> u64;
    /// Reads four bytes of a member.
    fn u32(object: Object, member: Member) -> u32;
    /// Reads the byte at an offset.
    fn byte(object: Object, offset: u32) -> u8;

    /// Reads the first byte of a member: on a little-endian machine the value of a flag of any width.
    #[inline(always)]
    fn u8(object: Object, member: Member) -> u8 {
        Self::byte(object, offset(member))
    }

    /// Reads a member that is a single bit; 0 where this kernel does not have it.
    #[inline(always)]
    fn bit(object: Object, member: Member) -> u32 {
        match offset(member) {
            ABSENT => 0,
            at => u32::from(Self::byte(object, at / 8)) >> (at % 8) & 1,
        }
    }
}

/// Direct loads, for pointers that carry a BTF type: `tp_btf` arguments, iterators, and what is loaded from
/// them.
pub(crate) struct Typed;

impl Access for Typed {
    #[inline(always)]
    fn u64(object: Object, member: Member) -> u64 {
        // SAFETY: the verifier checks each such load against the kernel's own types and makes a fault read 0.
        unsafe { core::ptr::read_volatile(object.add(offset(member) as usize).cast()) }
    }

    #[inline(always)]
    fn u32(object: Object, member: Member) -> u32 {
        // SAFETY: as above.
        unsafe { core::ptr::read_volatile(object.add(offset(member) as usize).cast()) }
    }

    #[inline(always)]
    fn byte(object: Object, offset: u32) -> u8 {
        // SAFETY: as above.
        unsafe { core::ptr::read_volatile(object.add(offset as usize)) }
    }
}

/// Loads through `bpf_probe_read_kernel`, for bare addresses: `raw_tracepoint` arguments. A fault reads 0.
pub(crate) struct Probed;

impl Access for Probed {
    #[inline(always)]
    fn u64(object: Object, member: Member) -> u64 {
        probe(object as u64, offset(member))
    }

    #[inline(always)]
    fn u32(object: Object, member: Member) -> u32 {
        probe(object as u64, offset(member))
    }

    #[inline(always)]
    fn byte(object: Object, offset: u32) -> u8 {
        probe(object as u64, offset)
    }
}

/// Reads a value at an untyped kernel address; a fault reads as zero, as the helper itself sees to. Without a
/// branch on its outcome: a row of such reads would double the verifier's paths with each.
#[inline(always)]
pub(crate) fn probe<T: Copy>(address: u64, offset: u32) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper survives any address, and writes all bytes in either case; any bytes are an integer.
    unsafe {
        probe_into(address, offset, value.as_mut_ptr());
        value.assume_init()
    }
}

/// The same, into memory of the caller's.
///
/// # Safety
/// `into` may be written.
#[inline(always)]
pub(crate) unsafe fn probe_into<T>(address: u64, offset: u32, into: *mut T) {
    // SAFETY: the helper itself survives any address, and writes as many bytes as its argument says.
    let _ = unsafe {
        generated::bpf_probe_read_kernel(
            into.cast(),
            size_of::<T>() as u32,
            (address + u64::from(offset)) as *const c_void,
        )
    };
}

/// The same, into shared memory.
#[inline(always)]
pub(crate) fn probe_shared<T>(address: u64, offset: u32, into: Shared<T>) {
    // SAFETY: shared memory may be written.
    unsafe { probe_into(address, offset, into.as_ptr()) };
}

/// `CLOCK_MONOTONIC`, ns.
#[inline(always)]
pub(crate) fn monotonic_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// The thread's state: [`TASK_RUNNING`], or bits that say what it waits for.
#[inline(always)]
pub(crate) fn state<A: Access>(task: Object) -> u64 {
    if offset(Member::TaskState) == ABSENT {
        A::u64(task, Member::TaskStateOld)
    } else {
        u64::from(A::u32(task, Member::TaskState))
    }
}

/// The thread's priority, see [`FIRST_FAIR`].
#[inline(always)]
pub(crate) fn priority<A: Access>(task: Object) -> i32 {
    A::u32(task, Member::TaskPrio) as i32
}

/// The run queue of the thread's CPU.
#[inline(always)]
pub(crate) fn run_queue<A: Access>(task: Object) -> Object {
    let cfs_rq = A::u64(task, Member::TaskCfsRq) as Object;
    A::u64(cfs_rq, Member::CfsRqRq) as Object
}

/// The scheduler's clock of the thread's CPU: at `sched_switch` the very time with which the kernel credits
/// waits.
#[inline(always)]
pub(crate) fn clock<A: Access>(task: Object) -> u64 {
    A::u64(run_queue::<A>(task), Member::RqClock)
}
