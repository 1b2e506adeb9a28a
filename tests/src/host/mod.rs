//! What the harness asks of the host: CPUs, priorities, signals, the life of its processes.

mod cpus;
mod disk;
mod fuse;
mod hog;
mod lifetime;
mod tap;

pub use cpus::{CpuList, CpuListError, deadline, pin, real_time, real_time_at, renice};
pub(crate) use disk::{Disk, dd};
pub(crate) use fuse::{Storage, mount_memory, own_mounts};
pub use hog::Hog;
pub use lifetime::{StopSignals, end_with_parent, ends_within};

pub(crate) use tap::{LinkStats, Tap, inherit, taps};

use std::io;
use std::path::PathBuf;

use rustix::process::Pid;

/// Whether this is a machine of the lab: everything there is emulated and slow.
#[must_use]
pub fn in_lab() -> bool {
    std::env::var_os("HVS_LAB").is_some()
}

/// A process or thread id as the type that system calls take; `None` for 0 and for what is no id.
#[must_use]
pub fn pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// Version of the running kernel, its first two numbers.
///
/// # Errors
/// When the kernel does not say, or says something else.
pub fn kernel_version() -> io::Result<(u32, u32)> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(['.', '-']).map_while(|number| number.trim().parse().ok());
    numbers
        .next()
        .zip(numbers.next())
        .ok_or_else(|| io::Error::other(format!("{release:?} is no version of a kernel")))
}

/// Path of the binary `name` in the directory of the running binary, whether or not it exists.
///
/// # Errors
/// When the running binary's own path cannot be read.
pub fn sibling(name: &str) -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}
