//! Reading a thread's `task_struct`, in two ways with one interface.

use aya_ebpf::helpers::{bpf_probe_read_kernel, bpf_probe_read_kernel_buf};
use sampler_ebpf::abi::{ABSENT, Member};

use crate::maps::offset;

/// A pointer to a kernel object that programs may load from.
pub(crate) type Object = *const u8;

/// `TASK_DEAD`, the state of a thread's very last switch. The same from 2.6 to 7.2.
const TASK_DEAD: u64 = 0x80;

/// How members are read: typed loads where the verifier knows the pointer's type, a helper where it does not.
pub(crate) trait Access {
    /// Reads eight bytes of a member.
    fn u64(object: Object, member: Member) -> u64;
    /// Reads four bytes of a member.
    fn u32(object: Object, member: Member) -> u32;
    /// Reads the first byte of a member: on a little-endian machine the value of a flag of any width.
    fn u8(object: Object, member: Member) -> u8;
}

/// Direct loads, for pointers that carry a BTF type: `tp_btf` arguments, iterators, and what is loaded from them.
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
    fn u8(object: Object, member: Member) -> u8 {
        // SAFETY: as above.
        unsafe { core::ptr::read_volatile(object.add(offset(member) as usize)) }
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
    fn u8(object: Object, member: Member) -> u8 {
        probe(object as u64, offset(member))
    }
}

/// Reads a value at an untyped kernel address; a fault reads as zero.
#[inline(always)]
pub(crate) fn probe<T: Default>(address: u64, offset: u32) -> T {
    // SAFETY: the helper itself survives any address.
    unsafe { bpf_probe_read_kernel((address + u64::from(offset)) as *const T) }.unwrap_or_default()
}

/// Copies the thread's name.
#[inline(always)]
pub(crate) fn comm(task: Object, into: &mut [u8; 16]) {
    let from = (task as u64 + u64::from(offset(Member::TaskComm))) as *const u8;
    // SAFETY: the helper itself survives any address. A fault leaves zeroes: an empty name.
    let _ = unsafe { bpf_probe_read_kernel_buf(from, into) };
}

/// This is the thread's very last switch: it will never run again.
#[inline(always)]
pub(crate) fn is_dead<A: Access>(task: Object) -> bool {
    let state = if offset(Member::TaskState) == ABSENT {
        A::u64(task, Member::TaskStateOld)
    } else {
        u64::from(A::u32(task, Member::TaskState))
    };
    state & TASK_DEAD != 0
}
