//! `/proc/PID/task/TID/status`: context switches of a thread.

use std::path::{Path, PathBuf};

use super::error::{OracleError, read};

/// A thread's context switches, cumulative since its creation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Switches {
    /// It gave its CPU up to wait for something.
    pub voluntary: u64,
    /// It was preempted.
    pub involuntary: u64,
}

impl Switches {
    /// Reads the counts of a thread.
    ///
    /// # Errors
    /// When the thread is gone ([`OracleError::is_gone`]) or the file is not understood.
    pub fn of(pid: u32, tid: u32) -> Result<Self, OracleError> {
        let path = PathBuf::from(format!("/proc/{pid}/task/{tid}/status"));
        Self::parse(&path, &read(&path)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, OracleError> {
        let count = |key| {
            // The last line of that name: a thread's own name comes earlier and is escaped, but costs nothing
            // to mistrust.
            let value = text.lines().rev().find_map(|line: &str| line.strip_prefix(key));
            let number = value.and_then(|value| value.trim().parse().ok());
            number.ok_or_else(|| OracleError::format(path, "expected counts of context switches", text))
        };
        Ok(Self {
            voluntary: count("voluntary_ctxt_switches:")?,
            involuntary: count("nonvoluntary_ctxt_switches:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tCPU 0/KVM\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t812\nPid:\t815\n\
        Threads:\t3\nCpus_allowed_list:\t0\nvoluntary_ctxt_switches:\t150\n\
        nonvoluntary_ctxt_switches:\t545\n";

    #[test]
    fn the_counts_are_not_mixed_up() {
        let switches = Switches::parse(Path::new("status"), STATUS).unwrap();
        assert_eq!(switches, Switches { voluntary: 150, involuntary: 545 });
    }

    #[test]
    fn a_missing_count_is_an_error_that_names_the_file() {
        let error = Switches::parse(Path::new("/proc/7/task/8/status"), "Name:\tx\n").unwrap_err();
        assert!(error.to_string().starts_with("/proc/7/task/8/status is not understood"), "{error}");
    }
}
