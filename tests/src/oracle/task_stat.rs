//! `/proc/PID/task/TID/stat`: state, start and page faults of a thread or process.

use std::path::Path;

use super::error::{OracleError, read};

/// What the kernel says a thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// `R`: on a CPU or waiting for one.
    Runnable,
    /// `S`, `I`: asleep, or about to be.
    Asleep,
    /// `D`: the same, where signals do not wake it up, or only one that ends it.
    Uninterruptible,
    /// `T`, `t`: stopped by a signal or a debugger.
    Stopped,
    /// `Z`, `X`: ended.
    Ended,
}

/// What is read of a thread or process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskStat {
    /// Its state.
    pub state: TaskState,
    /// Page faults served from memory, so far.
    pub minor_faults: u64,
    /// Page faults for which it had to wait, so far.
    pub major_faults: u64,
    /// Its nice value.
    pub nice: i32,
    /// Its creation, in clock ticks (100 a second) since boot.
    pub start_ticks: u64,
    /// CPU that it runs or last ran on, or whose queue it is in.
    pub cpu: u32,
}

// Positions after the name, which may hold any byte: field 3 of proc(5) is the first of them.
const STATE: usize = 0;
const MINOR_FAULTS: usize = 10 - 3;
const MAJOR_FAULTS: usize = 12 - 3;
const NICE: usize = 19 - 3;
const START: usize = 22 - 3;
const PROCESSOR: usize = 39 - 3;

impl TaskStat {
    /// Reads a thread's.
    ///
    /// # Errors
    /// When the thread is gone ([`OracleError::is_gone`]) or the file is not understood.
    pub fn of(pid: u32, tid: u32) -> Result<Self, OracleError> {
        Self::read(Path::new(&format!("/proc/{pid}/task/{tid}/stat")))
    }

    /// Reads a process's.
    ///
    /// # Errors
    /// When the process is gone ([`OracleError::is_gone`]) or the file is not understood.
    pub fn of_process(pid: u32) -> Result<Self, OracleError> {
        Self::read(Path::new(&format!("/proc/{pid}/stat")))
    }

    fn read(path: &Path) -> Result<Self, OracleError> {
        Self::parse(path, &read(path)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, OracleError> {
        let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        let error = |what| OracleError::format(path, what, text);
        let field = |index: usize| fields.get(index).copied().ok_or_else(|| error("too few fields"));
        Ok(Self {
            state: parse_state(field(STATE)?).ok_or_else(|| error("unknown state"))?,
            minor_faults: field(MINOR_FAULTS)?.parse().map_err(|_not_a_number| error("minor faults"))?,
            major_faults: field(MAJOR_FAULTS)?.parse().map_err(|_not_a_number| error("major faults"))?,
            nice: field(NICE)?.parse().map_err(|_not_a_number| error("nice value"))?,
            start_ticks: field(START)?.parse().map_err(|_not_a_number| error("start time"))?,
            cpu: field(PROCESSOR)?.parse().map_err(|_not_a_number| error("processor"))?,
        })
    }
}

fn parse_state(letter: &str) -> Option<TaskState> {
    match letter {
        "R" => Some(TaskState::Runnable),
        "S" | "I" | "P" => Some(TaskState::Asleep),
        "D" => Some(TaskState::Uninterruptible),
        "T" | "t" => Some(TaskState::Stopped),
        "Z" | "X" | "x" => Some(TaskState::Ended),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "1 812 812 0 -1 1077936192 213 0 7 0 12 34 0 0 15 -5 3 0 987654 1234567 300 18446744073709551615 \
        1 1 0 0 0 0 0 4096 0 0 0 0 -1 3 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    #[test]
    fn hostile_names_do_not_move_the_fields() {
        for name in ["CPU 0/KVM", "a) R 1 2 3", "(((", "x)\n", ""] {
            let stat = TaskStat::parse(Path::new("stat"), &format!("815 ({name}) S {TAIL}")).unwrap();
            let expected = TaskStat {
                state: TaskState::Asleep,
                minor_faults: 213,
                major_faults: 7,
                nice: -5,
                start_ticks: 987_654,
                cpu: 3,
            };
            assert_eq!(stat, expected, "{name:?}");
        }
    }

    #[test]
    fn states_are_distinguished() {
        for (letter, state) in [
            ("R", TaskState::Runnable),
            ("S", TaskState::Asleep),
            ("D", TaskState::Uninterruptible),
            ("T", TaskState::Stopped),
            ("t", TaskState::Stopped),
            ("Z", TaskState::Ended),
        ] {
            let stat = TaskStat::parse(Path::new("stat"), &format!("1 (x) {letter} {TAIL}")).unwrap();
            assert_eq!(stat.state, state);
        }
    }

    #[test]
    fn other_texts_are_errors_that_name_the_file() {
        for text in ["", "1 (x) S 1 2 3\n", &format!("1 (x) Q {TAIL}")] {
            let error = TaskStat::parse(Path::new("/proc/9/stat"), text).unwrap_err();
            assert!(error.to_string().starts_with("/proc/9/stat is not understood"), "{error}");
        }
    }

    #[test]
    fn this_very_thread_is_runnable() {
        let tid = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        let stat = TaskStat::of(std::process::id(), tid).unwrap();
        assert_eq!(stat.state, TaskState::Runnable);
    }
}
