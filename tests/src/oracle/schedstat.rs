//! `/proc/PID/task/TID/schedstat`: run time, run delay and timeslices of a thread.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::error::OracleError;

/// A thread's counts, all cumulative since its creation.
///
/// Final while the thread sleeps. While it is on a CPU the run time lags by up to a tick, and while it waits
/// the run delay grows when the thread is moved to another CPU's queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Schedstat {
    /// Time on a CPU, ns (`se.sum_exec_runtime`).
    pub run_ns: u64,
    /// Time runnable and waiting for a CPU, ns (`sched_info.run_delay`).
    pub run_delay_ns: u64,
    /// Times that it got a CPU (`sched_info.pcount`).
    pub timeslices: u64,
}

impl Schedstat {
    /// Reads the counts of a thread.
    ///
    /// # Errors
    /// When the thread is gone ([`OracleError::is_gone`]) or the file is not understood.
    pub fn of(pid: u32, tid: u32) -> Result<Self, OracleError> {
        SchedstatFile::open(pid, tid)?.read()
    }

    fn parse(path: &Path, text: &str) -> Result<Self, OracleError> {
        let mut fields = text.split_ascii_whitespace().map(str::parse);
        let mut next = || match fields.next() {
            Some(Ok(value)) => Ok(value),
            _ => Err(OracleError::format(path, "expected three numbers", text)),
        };
        let counts = Self { run_ns: next()?, run_delay_ns: next()?, timeslices: next()? };
        match fields.next() {
            None => Ok(counts),
            Some(_) => Err(OracleError::format(path, "expected three numbers", text)),
        }
    }
}

/// The file, kept open: reading it again asks the kernel anew, at a third of the price.
#[derive(Debug)]
pub struct SchedstatFile {
    file: File,
    path: PathBuf,
}

impl SchedstatFile {
    /// Opens a thread's file.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn open(pid: u32, tid: u32) -> Result<Self, OracleError> {
        let path = PathBuf::from(format!("/proc/{pid}/task/{tid}/schedstat"));
        match File::open(&path) {
            Ok(file) => Ok(Self { file, path }),
            Err(source) => Err(OracleError::Read { path, source }),
        }
    }

    /// Reads the counts as they are now.
    ///
    /// # Errors
    /// When the thread is gone or the file is not understood.
    pub fn read(&self) -> Result<Schedstat, OracleError> {
        let mut buffer = [0; 128];
        let length = self
            .file
            .read_at(&mut buffer, 0)
            .map_err(|source| OracleError::Read { path: self.path.clone(), source })?;
        Schedstat::parse(&self.path, &String::from_utf8_lossy(&buffer[..length]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Schedstat, OracleError> {
        Schedstat::parse(Path::new("/proc/1/task/1/schedstat"), text)
    }

    #[test]
    fn the_three_counts_are_read() {
        let counts = Schedstat { run_ns: 1_474_599_482, run_delay_ns: u64::MAX, timeslices: 186 };
        assert_eq!(parse("1474599482 18446744073709551615 186\n").unwrap(), counts);
    }

    #[test]
    fn anything_else_is_an_error_that_names_the_file() {
        for text in ["", "1 2\n", "1 2 3 4\n", "1 -2 3\n", "a b c\n", "1 2 18446744073709551616\n"] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().starts_with("/proc/1/task/1/schedstat is not understood"), "{error}");
            assert!(!error.is_gone());
        }
    }

    #[test]
    fn a_thread_that_is_gone_is_recognized_whether_or_not_its_file_was_open() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            sender.send(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()).unwrap();
            ended.recv().unwrap();
        });
        let tid = receiver.recv().unwrap();
        let file = SchedstatFile::open(std::process::id(), tid).unwrap();
        assert!(file.read().unwrap().timeslices > 0);
        end.send(()).unwrap();
        thread.join().unwrap();
        // The joiner is woken before the kernel has taken the thread's entry away.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while file.read().is_ok() && std::time::Instant::now() < end {
            std::thread::yield_now();
        }
        assert!(file.read().unwrap_err().is_gone());
        assert!(Schedstat::of(std::process::id(), tid).unwrap_err().is_gone());
    }
}
