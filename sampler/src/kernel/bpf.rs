//! System calls on eBPF programs that are loaded. By hand: aya makes them of what it has loaded itself, and
//! knows no iterator over one process.

use std::{
    ffi::CStr,
    fmt,
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    path::PathBuf,
};

const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
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

/// `info` of `union bpf_attr`. The kernel writes into it how much it has written to `info`.
#[repr(C)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// What the kernel says of a descriptor of eBPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Info {
    /// Of a map.
    Map(MapInfo),
    /// Of a program.
    Program(ProgramInfo),
    /// Of what attaches a program.
    Link(LinkInfo),
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Map(_) => "a map",
            Self::Program(_) => "a program",
            Self::Link(_) => "a link",
        })
    }
}

/// A map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapInfo {
    /// Of `enum bpf_map_type`.
    pub kind: u32,
    /// Its number, which no other map has while the host is up.
    pub id: u32,
    /// Size of a key, bytes.
    pub key_size: u32,
    /// Size of a value, bytes.
    pub value_size: u32,
    /// How many values it has, or may have; of a ring its size in bytes.
    pub entries: u32,
    /// What it was made with.
    pub flags: u32,
}

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Of `enum bpf_prog_type`.
    pub kind: u32,
    /// Its number, which no other program has while the host is up.
    pub id: u32,
    /// The begin of a hash of its instructions.
    pub tag: [u8; 8],
}

/// A link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Of `enum bpf_link_type`.
    pub kind: u32,
    /// Its number, which no other link has while the host is up.
    pub id: u32,
    /// Number of the program that it attaches.
    pub program: u32,
}

/// Why it is not known what a descriptor is.
#[derive(Debug, thiserror::Error)]
pub enum InfoError {
    /// It is nothing of eBPF.
    #[error("it is {}, and neither a map nor a program nor a link of eBPF", .0.display())]
    Foreign(PathBuf),
    /// The kernel does not say.
    #[error("asking the kernel what it is: {0}")]
    System(io::Error),
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

// SAFETY: the members are the kernel's. `info` is set by `first_words` alone, to as much room as `info_len`
// says.
unsafe impl Attributes for InfoByFd {
    const COMMAND: libc::c_int = BPF_OBJ_GET_INFO_BY_FD;
}

/// Attaches a program to a tracepoint, until what is returned is closed. One with typed arguments was loaded
/// for its tracepoint, and is given no name.
///
/// # Errors
/// What the kernel said.
pub fn open_tracepoint(name: Option<&CStr>, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    open(TracepointOpen {
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
    open(LinkCreate {
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
    open(IterCreate { link_fd: number(link), flags: 0 }).map(File::from)
}

/// What a descriptor is. `/proc` says of which kind: the kernel answers for all kinds at the same place with
/// structures of different meaning, and does not say which it has written.
///
/// # Errors
/// It is nothing of eBPF, which is said, or the kernel does not say.
pub fn info(fd: BorrowedFd<'_>) -> Result<Info, InfoError> {
    let file = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(InfoError::System)?;
    let info = match file.to_str() {
        Some("anon_inode:bpf-map") => map_info(fd).map(Info::Map),
        Some("anon_inode:bpf-prog") => program_info(fd).map(Info::Program),
        // The second is the name of descriptors that are asked for by number.
        Some("anon_inode:bpf_link" | "anon_inode:bpf-link") => link_info(fd).map(Info::Link),
        _ => return Err(InfoError::Foreign(file)),
    };
    info.map_err(InfoError::System)
}

fn map_info(fd: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let [kind, id, key_size, value_size, entries, flags] = first_words(fd)?;
    Ok(MapInfo { kind, id, key_size, value_size, entries, flags })
}

fn program_info(fd: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let [kind, id, first, second] = first_words(fd)?;
    Ok(ProgramInfo { kind, id, tag: bytes([first, second]) })
}

fn link_info(fd: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let [kind, id, program] = first_words(fd)?;
    Ok(LinkInfo { kind, id, program })
}

/// The first words of what the kernel says of a descriptor. A kernel that knows more of it keeps that back.
fn first_words<const WORDS: usize>(fd: BorrowedFd<'_>) -> io::Result<[u32; WORDS]> {
    let mut words = [0_u32; WORDS];
    call(InfoByFd {
        bpf_fd: number(fd),
        info_len: size_of_val(&words) as u32,
        // The kernel writes there, which the compiler does not see.
        info: words.as_mut_ptr().expose_provenance() as u64,
    })?;
    Ok(words)
}

/// Two words as they are in memory.
fn bytes([first, second]: [u32; 2]) -> [u8; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    [a, b, c, d, e, f, g, h]
}

/// A command that returns a descriptor.
fn open<A: Attributes>(attributes: A) -> io::Result<OwnedFd> {
    let answer = call(attributes)?;
    let fd = i32::try_from(answer).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: the call has just made it, and it is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<A: Attributes>(mut attributes: A) -> io::Result<libc::c_long> {
    let room = std::ptr::from_mut(&mut attributes);
    // SAFETY: the kernel reads that many bytes there and writes no more, and of what they point to as much as
    // they say.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, A::COMMAND, room, size_of::<A>()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer)
}

/// Descriptors that are open are not negative.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
