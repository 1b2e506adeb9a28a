//! A process for what cannot be undone.

use std::io::{self, Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use anyhow::{Context as _, anyhow, bail};

const DONE: &str = "done ";

/// Does it in a child of this process, whose only thread does it. What it returns is carried here.
pub(super) fn in_child(work: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
    let (mut reader, writer) = io::pipe()?;
    // SAFETY: the child goes on as this thread; the C library makes its memory usable there.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error().into()),
        0 => {
            drop(reader);
            say(writer, work);
            // SAFETY: ends the child, without what the parent has registered for its own end.
            unsafe { libc::_exit(0) }
        }
        child => {
            drop(writer);
            let mut said = String::new();
            reader.read_to_string(&mut said)?;
            // SAFETY: waits for a child that nobody else waits for.
            unsafe { libc::waitpid(child, ptr::null_mut(), 0) };
            said.strip_prefix(DONE).map(str::to_owned).ok_or_else(|| anyhow!("{said}"))
        }
    }
}

fn say(mut to: io::PipeWriter, work: impl FnOnce() -> anyhow::Result<String>) {
    let said = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(text)) => format!("{DONE}{text}"),
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "the child panicked".to_owned(),
    };
    // Nobody reads where the parent is gone.
    let _ = to.write_all(said.as_bytes());
}

/// A process that has nothing to do with the sampler, and waits. Dropping it ends it.
pub(super) struct Stranger(pub(super) libc::pid_t);

impl Stranger {
    pub(super) fn start() -> io::Result<Self> {
        // SAFETY: the child makes system calls alone.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            },
            child => Ok(Self(child)),
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // SAFETY: ends the child, which nobody has waited for.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        // SAFETY: waits for it.
        unsafe { libc::waitpid(self.0, ptr::null_mut(), 0) };
    }
}

/// Does it on a thread of its own: what becomes of the thread ends with it.
pub(super) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| scope.spawn(work).join()).map_err(|_| anyhow!("it panicked"))
}

/// The error of a system call, or none where it went well.
pub(super) fn error_of(answer: libc::c_long) -> Option<i32> {
    (answer == -1).then(|| io::Error::last_os_error().raw_os_error()).flatten()
}

/// Fails unless the result is that the kernel refuses it.
pub(super) fn refused(what: &str, error: Option<i32>) -> anyhow::Result<()> {
    match error {
        Some(libc::EPERM | libc::EACCES) => Ok(()),
        Some(other) => bail!("{what}: {}", io::Error::from_raw_os_error(other)),
        None => Err(anyhow!("it succeeded")).with_context(|| what.to_owned()),
    }
}
