//! A thread that stands still while its process goes on.

use std::fs;
use std::io;

use anyhow::Context as _;

/// Holds a thread, as a debugger does. Dropping it lets the thread go on, if it still lives.
#[derive(Debug)]
pub(super) struct Held(libc::pid_t);

impl Held {
    /// Holds the thread of a process that has this name.
    ///
    /// # Errors
    /// When there is none, or the kernel does not let it be held.
    pub(super) fn of(pid: u64, name: &str) -> anyhow::Result<Self> {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?;
            if fs::read_to_string(task.path().join("comm"))?.trim_end() == name {
                let tid = task.file_name().to_string_lossy().parse()?;
                return Self::hold(tid).with_context(|| format!("holding thread {tid}"));
            }
        }
        anyhow::bail!("process {pid} has no thread {name}")
    }

    fn hold(tid: libc::pid_t) -> io::Result<Self> {
        ptrace(libc::PTRACE_SEIZE, tid)?;
        let held = Self(tid);
        ptrace(libc::PTRACE_INTERRUPT, tid)?;
        held.wait()?;
        Ok(held)
    }

    /// Waits until it stands still, or has ended: nobody else can take its end in.
    pub(super) fn wait(&self) -> io::Result<()> {
        // SAFETY: no status is asked for.
        match unsafe { libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It fails where the thread has ended.
        let _ = ptrace(libc::PTRACE_DETACH, self.0);
    }
}

fn ptrace(request: libc::c_uint, tid: libc::pid_t) -> io::Result<()> {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: none of these requests reads or writes memory of this process.
    match unsafe { libc::ptrace(request, tid, none, none) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
