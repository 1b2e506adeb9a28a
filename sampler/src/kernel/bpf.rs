//! System calls on eBPF programs that are loaded. By hand: aya makes them of what it has loaded itself, and
//! knows no iterator over one process.

use std::{
    ffi::CStr,
    fs::File,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_ITER_CREATE: libc::c_int = 33;
/// `enum bpf_attach_type`.
const BPF_TRACE_ITER: u32 = 28;

/// `raw_tracepoint` of `union bpf_attr`. The kernel takes what follows as zeros, as for all of these.
#[repr(C)]
struct TracepointOpen {
    name: u64,
    prog_fd: u32,
    padding: u32,
}

/// The first members of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    iter_info: u64,
    iter_info_len: u32,
    padding: u32,
}

/// `task` of `union bpf_iter_link_info`: all threads of the process `pid`.
#[repr(C)]
struct TaskInfo {
    tid: u32,
    pid: u32,
    pid_fd: u32,
}

/// The first members of `union bpf_attr` for `BPF_ITER_CREATE`.
#[repr(C)]
struct IterCreate {
    link_fd: u32,
    flags: u32,
}

/// Attributes that can be handed to the kernel.
///
/// # Safety
/// The type is what the command takes, without padding. A pointer in it is 0, or valid for the call.
unsafe trait Attributes {
    const COMMAND: libc::c_int;
}

// SAFETY: the members are the kernel's. `name` is set by `open_tracepoint` alone, to what outlives the call.
unsafe impl Attributes for TracepointOpen {
    const COMMAND: libc::c_int = BPF_RAW_TRACEPOINT_OPEN;
}

// SAFETY: the members are the kernel's. `iter_info` is set by `attach_iterator` alone, to what outlives the
// call.
unsafe impl Attributes for LinkCreate {
    const COMMAND: libc::c_int = BPF_LINK_CREATE;
}

// SAFETY: the members are the kernel's.
unsafe impl Attributes for IterCreate {
    const COMMAND: libc::c_int = BPF_ITER_CREATE;
}

/// Attaches a program to a tracepoint, until what is returned is closed. One with typed arguments was loaded
/// for its tracepoint, and is given no name.
///
/// # Errors
/// What the kernel said.
pub fn open_tracepoint(name: Option<&CStr>, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    call(&TracepointOpen {
        name: name.map_or(0, |name| name.as_ptr().addr() as u64),
        prog_fd: number(program),
        padding: 0,
    })
}

/// Attaches an iterator program to all threads of the host, or of a process. That the process exists is
/// asked when the iterator is read.
///
/// # Errors
/// What the kernel said.
pub fn attach_iterator(program: BorrowedFd<'_>, process: Option<u32>) -> io::Result<OwnedFd> {
    let task = process.map(|pid| TaskInfo { tid: 0, pid, pid_fd: 0 });
    call(&LinkCreate {
        prog_fd: number(program),
        target_fd: 0,
        attach_type: BPF_TRACE_ITER,
        flags: 0,
        iter_info: task.as_ref().map_or(0, |task| std::ptr::from_ref(task).addr() as u64),
        iter_info_len: task.as_ref().map_or(0, |_| size_of::<TaskInfo>() as u32),
        padding: 0,
    })
}

/// A new instance of an attached iterator, which is read to its end once.
///
/// # Errors
/// What the kernel said.
pub fn create_iterator(link: BorrowedFd<'_>) -> io::Result<File> {
    call(&IterCreate { link_fd: number(link), flags: 0 }).map(File::from)
}

/// A command that returns a descriptor.
fn call<A: Attributes>(attributes: &A) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads that many bytes there, and of what they point to as much as they say.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, A::COMMAND, std::ptr::from_ref(attributes), size_of::<A>()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(answer).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: the call has just made it, and it is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Descriptors that are open are not negative.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}
