//! Programs that run beside a test: started, waited for and stopped.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Signal, kill_process};

use crate::host;

/// How long anything may take that is expected to happen: a machine shared with others is slow.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
const STEP: Duration = Duration::from_millis(50);

/// A running program. Dropping it kills it.
pub(in crate::suite) struct Daemon {
    name: &'static str,
    child: Child,
    pub(super) output: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program whose standard output goes to `NAME.out` in the directory, and its standard error to
    /// `NAME.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(in crate::suite) fn start(
        name: &'static str,
        mut command: Command,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let (output, log) = (directory.join(format!("{name}.out")), directory.join(format!("{name}.log")));
        command.stdin(Stdio::null()).stdout(File::create(&output)?).stderr(File::create(&log)?);
        // SAFETY: between fork and exec the closure makes one system call; it allocates nothing and takes no
        // lock.
        unsafe { command.pre_exec(|| host::end_with_parent(None)) };
        let child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { name, child, output, log })
    }

    /// Its process id.
    pub(in crate::suite) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output so far.
    ///
    /// # Errors
    /// When that is not UTF-8.
    pub(in crate::suite) fn output(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.output).with_context(|| format!("reading what {} printed", self.name))
    }

    /// What it wrote to standard error so far.
    pub(in crate::suite) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until something has happened that this program has a part in.
    ///
    /// # Errors
    /// When it does not happen in time, the program ends, or the question itself fails.
    pub(in crate::suite) fn wait_until(
        &mut self,
        what: &str,
        mut happened: impl FnMut(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while !happened(self).with_context(|| format!("waiting until {what}"))? {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} before {what}: {}", self.name, self.last_words());
            }
            ensure!(
                Instant::now() < end,
                "after {} s it is not so that {what}; {} says: {}",
                PATIENCE.as_secs(),
                self.name,
                self.last_words()
            );
            thread::sleep(STEP);
        }
        Ok(())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When that is not possible.
    pub(in crate::suite) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(host::pid(self.child.id()).context("no process id")?, signal)?)
    }

    /// Asks it to end and waits for that; returns its log.
    ///
    /// # Errors
    /// When it does not end in time, or not with status 0.
    pub(in crate::suite) fn stop(mut self) -> anyhow::Result<String> {
        self.signal(Signal::TERM)?;
        let ended = host::ends_within(&self.child, PATIENCE)?;
        ensure!(ended, "{} does not end on SIGTERM: {}", self.name, self.last_words());
        let status = self.child.wait()?;
        ensure!(status.success(), "{} ended with {status}: {}", self.name, self.last_words());
        Ok(self.log())
    }

    fn last_words(&self) -> String {
        const LINES: usize = 5;
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join(" / ")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both calls fail only when it has ended and was reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of the loopback interface that is free now.
///
/// Below the range of ports that the kernel gives out by itself: a client that tries again and again to reach
/// a port of that range, where nobody listens yet, one day gets it as its own and is connected with itself.
///
/// # Errors
/// When none can be found.
pub(super) fn free_port() -> anyhow::Result<u16> {
    const ATTEMPTS: usize = 1000;
    (0..ATTEMPTS)
        .map(|_| fastrand::u16(15_000..32_000))
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .context("no port of the loopback interface is free")
}
