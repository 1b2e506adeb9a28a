//! Running the walk over threads, and the look at vCPUs' descriptors: of the whole host, or of some
//! processes.

mod files;

use std::{
    collections::BTreeSet,
    fmt, fs,
    io::{self, Read as _},
    os::fd::{AsFd as _, BorrowedFd},
    process, thread,
};

use sampler_ebpf::abi::{Control, HelperRecord, WalkStats};

use super::mmap::{MapError, Mapped};
use crate::{kernel::bpf, load::Object};
pub use files::Listed;
pub(super) use files::VcpuList;

/// Name of the program that visits threads.
const THREADS: &str = "walk_tasks";

/// Why a walk could not be run.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The program is not in the kernel.
    #[error("iterator {0} is not loaded")]
    Missing(&'static str),
    /// The kernel refused to attach the program.
    #[error("visiting {1}: attaching iterator {0}: {2}")]
    Attach(&'static str, Whose, io::Error),
    /// The kernel made no iterator of it.
    #[error("visiting {1}: creating iterator {0}: {2}")]
    Create(&'static str, Whose, io::Error),
    /// It ended early.
    #[error("visiting {1}: reading from iterator {0}: {2}")]
    Read(&'static str, Whose, io::Error),
}

impl WalkError {
    /// Whether the kernel does not know what it was asked for.
    fn is_unknown_parameter(&self) -> bool {
        let Self::Attach(_, _, error) = self else { return false };
        matches!(error.raw_os_error(), Some(libc::E2BIG | libc::EINVAL))
    }
}

/// Whose threads or descriptors one iterator visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// All that there are.
    Host,
    /// Those of one process, by its id.
    Process(u32),
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("the host"),
            Self::Process(pid) => write!(f, "process {pid}"),
        }
    }
}

/// Which threads a pass visits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All threads of the host.
    Host,
    /// Those of these processes. A kernel thread is a process of one thread.
    Processes(BTreeSet<u32>),
}

/// What the walks are run with, and what the last one listed.
pub(super) struct Walker {
    control: Mapped<Control>,
    helpers: Mapped<HelperRecord>,
    stats: Mapped<WalkStats>,
    generation: u64,
    passes: u64,
    listed: Vec<HelperRecord>,
    /// Whether the kernel visits single processes, once that is known.
    by_process: Option<bool>,
    host_threads: u64,
}

impl Walker {
    pub(super) fn open(object: &Object) -> Result<Self, MapError> {
        Ok(Self {
            control: Mapped::open(object, "CONTROL")?,
            helpers: Mapped::open(object, "HELPERS")?,
            stats: Mapped::open(object, "WALK_STATS")?,
            generation: 0,
            passes: 0,
            listed: Vec::new(),
            by_process: None,
            host_threads: 0,
        })
    }

    /// Number of the last walk.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// By how much the last walk found the scheduler's clock ahead of `CLOCK_MONOTONIC`, modulo 2^64, ns.
    pub(super) fn clock_offset_ns(&self) -> u64 {
        self.control.read(0).clock_offset_ns
    }

    /// Passes of all walks so far.
    pub(super) const fn passes(&self) -> u64 {
        self.passes
    }

    /// The helper threads that the last walk found.
    pub(super) fn listed(&self) -> &[HelperRecord] {
        &self.listed
    }

    /// Whether the kernel visits single processes; not before the first walk.
    pub(super) fn visits_processes(&self) -> bool {
        self.by_process == Some(true)
    }

    /// Threads that the last pass over the whole host visited.
    pub(super) const fn host_threads(&self) -> u64 {
        self.host_threads
    }

    pub(super) fn stats(&self) -> WalkStats {
        self.stats.read(0)
    }

    /// The first pass of a new walk.
    pub(super) fn walk(&mut self, object: &Object, reach: &Reach) -> Result<(), WalkError> {
        self.generation += 1;
        self.listed.clear();
        self.pass(object, reach)
    }

    /// A pass of the last walk.
    pub(super) fn pass(&mut self, object: &Object, reach: &Reach) -> Result<(), WalkError> {
        let program = Program::of(object, THREADS)?;
        if self.by_process.is_none() {
            self.by_process = self.probe(program);
        }
        self.begin();
        self.passes += 1;
        let before = self.stats().threads;
        match reach {
            Reach::Processes(processes) if self.visits_processes() => {
                let mut is_first = true;
                for pid in processes {
                    program.visit(Whose::Process(*pid), is_first)?;
                    is_first = false;
                }
                let listed = self.newly_listed();
                replace(&mut self.listed, processes, listed);
            }
            _ => {
                program.visit(Whose::Host, true)?;
                self.host_threads = self.stats().threads - before;
                self.listed = self.newly_listed();
            }
        }
        Ok(())
    }

    /// Lets the programs begin a new list of helpers.
    fn begin(&mut self) {
        let mut control = self.control.read(0);
        control.generation = self.generation;
        control.helpers = 0;
        self.control.write(0, control);
    }

    fn newly_listed(&self) -> Vec<HelperRecord> {
        let listed = usize::try_from(self.control.read(0).helpers).unwrap_or(usize::MAX);
        let records = (0..listed.min(self.helpers.len())).map(|index| self.helpers.read(index));
        records.filter(|record| record.generation == self.generation).collect()
    }

    /// Whether the kernel visits the threads of one process where it is asked to. Linux 6.1 and later do.
    /// Those before refuse, for they do not know the parameter; or they know another that is as long, and
    /// visit the whole host. `None` where it failed for another reason: the next pass tries again.
    fn probe(&mut self, program: Program<'_>) -> Option<bool> {
        self.begin();
        let before = self.stats().threads;
        let own = own_threads();
        match program.visit(Whose::Process(process::id()), true) {
            Ok(()) => {
                let visited = self.stats().threads - before;
                Some((1..=own.max(own_threads())).contains(&visited))
            }
            Err(error) => {
                tracing::debug!(%error, "this walk visits the whole host");
                error.is_unknown_parameter().then_some(false)
            }
        }
    }
}

/// Puts what a pass listed of these processes in the place of what was listed of them before. What was listed
/// of others still holds: the pass did not visit them.
fn replace(listed: &mut Vec<HelperRecord>, visited: &BTreeSet<u32>, newly: Vec<HelperRecord>) {
    listed.retain(|helper| !visited.contains(&helper.tgid));
    listed.extend(newly);
}

fn own_threads() -> u64 {
    fs::read_dir("/proc/self/task").map_or(0, |threads| threads.count() as u64)
}

/// An iterator program in the kernel.
#[derive(Clone, Copy)]
struct Program<'a> {
    name: &'static str,
    fd: BorrowedFd<'a>,
}

impl<'a> Program<'a> {
    fn of(object: &'a Object, name: &'static str) -> Result<Self, WalkError> {
        let fd = object.program(name).ok_or(WalkError::Missing(name))?;
        Ok(Self { name, fd })
    }

    /// A new instance of the iterator, read to its end. It prints nothing; what it finds lies in the maps.
    ///
    /// The link is not kept for the next pass. To attach and to detach takes a quarter of the time that a VMM
    /// of three threads takes, 1.3 of 5 us on Linux 6.18; and a kept link is a descriptor for each VMM, of
    /// which there may be thousands.
    fn visit(self, whose: Whose, is_first: bool) -> Result<(), WalkError> {
        let process = match whose {
            Whose::Host => None,
            Whose::Process(pid) => Some(pid),
        };
        let link = bpf::attach_iterator(self.fd, process)
            .map_err(|error| WalkError::Attach(self.name, whose, error))?;
        let mut file =
            bpf::create_iterator(link.as_fd()).map_err(|error| WalkError::Create(self.name, whose, error))?;
        if is_first {
            // The walk takes the scheduler's clock from the run queue of the CPU that it runs on: make it a
            // fresh one.
            thread::yield_now();
        }
        let mut nothing = [0; 64];
        loop {
            match file.read(&mut nothing) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // A very long walk asks to be continued.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(error) => return Err(WalkError::Read(self.name, whose, error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_says_nothing_of_helpers_that_it_did_not_visit() {
        let helper = |tgid, tid, run_ns| HelperRecord { tgid, tid, run_ns, ..HelperRecord::default() };
        let mut listed = vec![helper(10, 10, 1), helper(10, 11, 1), helper(20, 20, 1), helper(50, 50, 1)];
        let (again, new) = (helper(10, 10, 2), helper(30, 30, 2));
        replace(&mut listed, &BTreeSet::from([10, 30]), vec![again, new]);
        assert_eq!(listed, [helper(20, 20, 1), helper(50, 50, 1), again, new], "11 has ended, 20 and 50 not");
    }

    #[test]
    fn errors_name_whose_threads_were_visited() {
        let error = WalkError::Attach(THREADS, Whose::Process(7), io::Error::from_raw_os_error(libc::ENOSPC));
        let text = error.to_string();
        assert!(text.starts_with("visiting process 7: attaching iterator walk_tasks: "), "{text}");
        assert!(WalkError::Missing(THREADS).to_string().contains(THREADS));
        assert!(!error.is_unknown_parameter(), "there was no room, this time");
        let refused = io::Error::from_raw_os_error(libc::E2BIG);
        assert!(WalkError::Attach(THREADS, Whose::Process(7), refused).is_unknown_parameter());
    }
}
