//! Programs that are loaded: what the kernel has counted of them, and running one on request.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr,
    time::Duration,
};

use anyhow::{Context as _, Result};
use hvsampler::load::Loaded;

const BPF_PROG_TEST_RUN: libc::c_int = 10;
/// Arguments that a tracepoint may have.
const ARGUMENTS: usize = 12;

/// Runs of a program, and their time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Runs {
    pub(super) count: u64,
    pub(super) time: Duration,
}

impl Runs {
    pub(super) fn of(program: BorrowedFd<'_>) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))?;
        let number = |key: &str| -> Result<u64> {
            let value = text.lines().find_map(|line| line.strip_prefix(key));
            Ok(value.with_context(|| format!("the kernel does not say {key}"))?.trim().parse()?)
        };
        Ok(Self { count: number("run_cnt:")?, time: Duration::from_nanos(number("run_time_ns:")?) })
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self { count: self.count - before.count, time: self.time - before.time }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.count += other.count;
        self.time += other.time;
    }

    pub(super) fn ns(self) -> f64 {
        self.time.as_nanos() as f64 / self.count.max(1) as f64
    }
}

/// A program of these.
pub(super) fn program<'a>(loaded: &'a Loaded, name: &str) -> Result<BorrowedFd<'a>> {
    loaded.object.program(name).with_context(|| format!("program {name} is not loaded"))
}

/// `test` of `union bpf_attr`, up to what the kernels of all versions know.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
}

/// Has the kernel call a program of a bare tracepoint with these first arguments.
pub(super) fn run(program: BorrowedFd<'_>, first: [u64; 2]) -> io::Result<()> {
    let mut arguments = [0_u64; ARGUMENTS];
    arguments[..2].copy_from_slice(&first);
    let request = TestRun {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        ctx_size_in: size_of_val(&arguments) as u32,
        ctx_in: arguments.as_ptr().addr() as u64,
        ..TestRun::default()
    };
    // SAFETY: the kernel reads the request, and the arguments that it points to, which both outlive the call.
    let answer = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, ptr::from_ref(&request), size_of::<TestRun>())
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
