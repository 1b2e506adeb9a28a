//! Sets of CPUs, and putting threads on them.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::pid;

/// A text that is no list of CPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a list of CPUs such as 0,2 or 0-3 with numbers below {}", CpuSet::MAX_CPU)]
pub struct CpuListError {
    text: String,
}

/// A non-empty set of CPU numbers, ascending, written as in `taskset -c`: `0,2` or `0-3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl CpuList {
    /// One CPU.
    ///
    /// # Errors
    /// When `cpu` is beyond what the kernel's affinity mask holds (1,024).
    pub fn one(cpu: usize) -> Result<Self, CpuListError> {
        Self::from_numbers(vec![cpu], &cpu.to_string())
    }

    /// The CPUs that this thread may run on.
    ///
    /// # Errors
    /// When the kernel refuses the question.
    pub fn allowed() -> io::Result<Self> {
        let set = sched_getaffinity(None)?;
        Ok(Self((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()))
    }

    /// The numbers, ascending.
    #[must_use]
    pub fn numbers(&self) -> &[usize] {
        &self.0
    }

    fn from_numbers(mut numbers: Vec<usize>, text: &str) -> Result<Self, CpuListError> {
        numbers.sort_unstable();
        numbers.dedup();
        let representable = numbers.last().is_some_and(|&highest| highest < CpuSet::MAX_CPU);
        if representable { Ok(Self(numbers)) } else { Err(CpuListError { text: text.to_owned() }) }
    }
}

impl FromStr for CpuList {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, CpuListError> {
        let error = || CpuListError { text: text.to_owned() };
        let number = |part: &str| part.trim().parse::<usize>().map_err(|_not_a_number| error());
        let mut numbers = Vec::new();
        for part in text.split(',') {
            match part.split_once('-') {
                Some((first, last)) => {
                    let (first, last) = (number(first)?, number(last)?);
                    if first > last || last >= CpuSet::MAX_CPU {
                        return Err(error());
                    }
                    numbers.extend(first..=last);
                }
                None => numbers.push(number(part)?),
            }
        }
        Self::from_numbers(numbers, text)
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, cpu) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            write!(out, "{comma}{cpu}")?;
        }
        Ok(())
    }
}

/// Allows a thread (0: the calling one) to run on `cpus` only.
///
/// # Errors
/// When the thread is gone, none of the CPUs is online, or the caller may not.
pub fn pin(tid: u32, cpus: &CpuList) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus.numbers() {
        set.set(cpu);
    }
    Ok(sched_setaffinity(pid(tid), &set)?)
}

/// Sets the nice value (-20 to 19) of a thread (0: the calling one).
///
/// # Errors
/// When the thread is gone, or a lower value is asked for without the privilege.
pub fn renice(tid: u32, nice: i32) -> io::Result<()> {
    // On Linux the "process" of setpriority(2) is one thread.
    Ok(rustix::process::setpriority_process(pid(tid), nice)?)
}

/// Puts a thread (0: the calling one) before all that are not real-time on their CPU.
///
/// # Errors
/// When the thread is gone, or the caller may not: in a cgroup of version 1 without real-time budget even
/// root may not.
pub fn real_time(tid: u32) -> io::Result<()> {
    real_time_at(tid, 10)
}

/// The same, with a priority among those: the higher one goes first.
///
/// # Errors
/// As [`real_time`].
pub fn real_time_at(tid: u32, priority: i32) -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: priority };
    let tid = libc::pid_t::try_from(tid).map_err(io::Error::other)?;
    // SAFETY: a valid parameter; nothing but the thread's scheduling changes.
    match unsafe { libc::sched_setscheduler(tid, libc::SCHED_FIFO, &raw const priority) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives a thread so much time in each period and no more: puts it into the deadline class.
///
/// # Errors
/// When the thread is gone or may not run on all CPUs, when too much is promised already, or the caller may
/// not.
pub fn deadline(tid: u32, runtime: Duration, period: Duration) -> io::Result<()> {
    /// `struct sched_attr`, as of its first version.
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let ns = |time: Duration| u64::try_from(time.as_nanos()).map_err(io::Error::other);
    let (runtime, period) = (ns(runtime)?, ns(period)?);
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: libc::SCHED_DEADLINE as u32,
        flags: 0,
        nice: 0,
        priority: 0,
        runtime,
        deadline: period,
        period,
    };
    // SAFETY: valid attributes of the length that they say; nothing but the thread's scheduling changes.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, tid, &raw const attributes, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_read() {
        assert_eq!("0".parse::<CpuList>().unwrap().numbers(), [0]);
        assert_eq!("3,0-1,1".parse::<CpuList>().unwrap().numbers(), [0, 1, 3]);
        assert_eq!("3,0-1".parse::<CpuList>().unwrap().to_string(), "0,1,3");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "a", "1-", "2-1", "0,", "99999", "0-99999", "-1"] {
            assert!(text.parse::<CpuList>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_thread_lands_where_it_is_pinned() {
        let last = *CpuList::allowed().unwrap().numbers().last().unwrap();
        let pinned = std::thread::spawn(move || {
            pin(0, &CpuList::one(last).unwrap()).unwrap();
            (CpuList::allowed().unwrap(), rustix::thread::sched_getcpu())
        });
        assert_eq!(pinned.join().unwrap(), (CpuList::one(last).unwrap(), last));
    }
}
