//! The life of a helper process: it ends when it is asked to and never outlives its parent.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, getppid, pidfd_open, set_parent_process_death_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::pid;

/// Has the kernel kill this process when its parent ends.
///
/// "Parent" is the very thread that started this process: a harness must start its helpers from a thread
/// that outlives them. `expected` is the parent's process id where the parent passed it; it closes the gap
/// in which the parent ended before this call.
///
/// # Errors
/// When the parent is gone already.
pub fn end_with_parent(expected: Option<u32>) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if expected.is_some_and(|expected| getppid() != pid(expected)) {
        return Err(io::Error::other("the process that started this one is gone"));
    }
    Ok(())
}

/// SIGTERM, SIGINT and SIGHUP as something to wait for.
#[derive(Debug)]
pub struct StopSignals {
    arrivals: UnixStream,
}

impl StopSignals {
    /// Catches the three signals from now on.
    ///
    /// # Errors
    /// When file descriptors have run out.
    pub fn catch() -> io::Result<Self> {
        let (arrivals, sender) = UnixStream::pair()?;
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        Ok(Self { arrivals })
    }

    /// Waits for one of them; `false` when `timeout` passed without one. `None` waits for ever.
    ///
    /// # Errors
    /// When the pipe that the handler writes to fails.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        self.arrivals.set_read_timeout(timeout.map(|timeout| timeout.max(Duration::from_millis(1))))?;
        match (&self.arrivals).read(&mut [0]) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether a child ends within `limit`. It is not reaped: its id stays its own.
///
/// # Errors
/// When the child was reaped already, or file descriptors have run out. Needs Linux 5.3.
pub fn ends_within(child: &Child, limit: Duration) -> io::Result<bool> {
    let pid = pid(child.id()).ok_or_else(|| io::Error::other("the child has no process id"))?;
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_child_is_waited_for_no_longer_than_allowed() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        assert!(!ends_within(&child, Duration::from_millis(5)).unwrap());
        child.kill().unwrap();
        assert!(ends_within(&child, Duration::from_secs(20)).unwrap());
        assert!(ends_within(&child, Duration::ZERO).unwrap(), "it is not reaped yet");
        child.wait().unwrap();
    }
}
