//! KVM guests as /proc shows them.
//!
//! Two questions, kept apart because they differ in what they may cost. [`ProcFs::scan`] only reads
//! directories and links, which no process can hold up. [`ProcFs::facts`] reads a command line, which the
//! kernel copies out of the process's memory: it waits for as long as that process holds its memory map
//! locked. So names are asked for on a thread of their own and never on the sampling path.

mod facts;
mod guest_group;
mod hierarchy;
mod io_group;
mod memory;
mod open_files;
mod scan;
mod schedstat;
mod stat;
mod task;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::kernel::Root;
pub use facts::{MAX_ARG, ProcessFacts};
pub use guest_group::{GroupMounts, GuestGroup};
pub use hierarchy::is_login;
pub use io_group::IoGroupPath;
pub use memory::ProcessMemory;
pub use open_files::OpenFile;
pub use scan::{GuestProcess, MAX_FDS, Scan};
pub use schedstat::{Schedstat, SchedstatFile};
pub use stat::TICK_NS;
pub use task::TaskName;

/// Threads of a process that are tried in place of its first. One is enough that has not just ended as well.
const MAX_THREADS: usize = 64;

/// Why a question to /proc has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProcError {
    /// /proc itself cannot be listed.
    #[error("{}: cannot list processes; mount proc there", path.display())]
    List {
        /// What was to be listed.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of a process cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The process ended, or another one has its pid now.
    #[error("process {pid} is gone")]
    Gone {
        /// The process.
        pid: u32,
    },
    /// The kernel wrote something that is not understood.
    #[error("{}: not in the form that proc(5) describes", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// A mounted proc file system.
#[derive(Clone, Debug)]
pub struct ProcFs {
    root: PathBuf,
}

impl ProcFs {
    /// The system's own, at `/proc`.
    #[must_use]
    pub fn system() -> Self {
        Self::at(Root::system().path("proc"))
    }

    /// One that is mounted elsewhere, or a made-up one.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directories of a process's threads but the first, some of them. Where the first has ended its own
    /// has no descriptors and no memory any more, and those of the others still have the process's.
    fn other_threads(&self, pid: u32) -> Vec<PathBuf> {
        let first = pid.to_string();
        let threads = fs::read_dir(self.process(pid).join("task")).into_iter().flatten().flatten();
        let others = threads.filter(|thread| thread.file_name() != *first);
        others.map(|thread| thread.path()).take(MAX_THREADS).collect()
    }

    /// Whether a process has a thread with this id.
    #[must_use]
    pub fn has_thread(&self, pid: u32, tid: u32) -> bool {
        self.process(pid).join("task").join(tid.to_string()).exists()
    }

    /// Whether the process that has this pid was created at this time, `CLOCK_BOOTTIME` in ns, exact or
    /// rounded down to [`TICK_NS`].
    #[must_use]
    pub fn is_process(&self, pid: u32, start_boottime_ns: u64) -> bool {
        self.start_boottime_ns(pid).is_ok_and(|start| start / TICK_NS == start_boottime_ns / TICK_NS)
    }

    pub(in crate::collect) fn process(&self, pid: u32) -> PathBuf {
        self.root.join(pid.to_string())
    }
}

/// A process that ends while it is looked at shows as a missing file or, once reaped, as ESRCH.
fn vanished(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}
