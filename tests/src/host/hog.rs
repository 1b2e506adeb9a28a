//! A process that is no guest and wants a CPU.

use std::io;
use std::process::{Child, Command};

use super::{CpuList, pin, real_time};

/// Works for about as long as it sleeps.
const HALF: &str = "while :; do i=0; while [ $i -lt 9000 ]; do i=$((i+1)); done; sleep 0.01; done";
const ALL: &str = "while :; do :; done";

/// The process. Dropping it kills it.
#[derive(Debug)]
pub struct Hog(Child);

impl Hog {
    /// One that takes all of one CPU.
    ///
    /// # Errors
    /// When it does not start, or none of the CPUs is online.
    pub fn busy(cpus: &CpuList) -> io::Result<Self> {
        Self::start(ALL, cpus)
    }

    /// One that takes about half of one CPU.
    ///
    /// # Errors
    /// As [`Hog::busy`].
    pub fn half(cpus: &CpuList) -> io::Result<Self> {
        Self::start(HALF, cpus)
    }

    fn start(script: &str, cpus: &CpuList) -> io::Result<Self> {
        let hog = Self(Command::new("sh").args(["-c", script]).spawn()?);
        pin(hog.pid(), cpus)?;
        Ok(hog)
    }

    /// Process id, and id of its one thread.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Puts it before all that are not real-time on its CPU. False where the machine does not let it.
    #[must_use]
    pub fn real_time(&self) -> bool {
        real_time(self.pid()).is_ok()
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
