//! The side that is taken for the truth.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::oracle::{OracleError, Schedstat, SchedstatFile, Switches, TaskStat, TaskState};

/// A thread to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thread {
    /// Its process.
    pub pid: u32,
    /// Its id.
    pub tid: u32,
}

/// The kernel's own counts of a thread.
pub trait Oracle {
    /// Run time, run delay and timeslices, now.
    ///
    /// # Errors
    /// When the thread is gone or the kernel's answer is not understood.
    fn schedstat(&self, thread: Thread) -> Result<Schedstat, OracleError>;

    /// Context switches, now.
    ///
    /// # Errors
    /// As [`Oracle::schedstat`].
    fn switches(&self, thread: Thread) -> Result<Switches, OracleError>;

    /// What the thread is doing, now.
    ///
    /// # Errors
    /// As [`Oracle::schedstat`].
    fn state(&self, thread: Thread) -> Result<TaskState, OracleError>;
}

/// `/proc`. Files that are read often stay open.
#[derive(Debug, Default)]
pub struct ProcOracle {
    open: RefCell<HashMap<Thread, SchedstatFile>>,
}

impl Oracle for ProcOracle {
    fn schedstat(&self, thread: Thread) -> Result<Schedstat, OracleError> {
        let mut open = self.open.borrow_mut();
        if let Some(file) = open.get(&thread) {
            return file.read();
        }
        let file = SchedstatFile::open(thread.pid, thread.tid)?;
        let counts = file.read();
        open.insert(thread, file);
        counts
    }

    fn switches(&self, thread: Thread) -> Result<Switches, OracleError> {
        Switches::of(thread.pid, thread.tid)
    }

    fn state(&self, thread: Thread) -> Result<TaskState, OracleError> {
        Ok(TaskStat::of(thread.pid, thread.tid)?.state)
    }
}
