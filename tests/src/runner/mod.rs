//! A runner for tests that need privileges: one process, one line and one deadline for each.
//!
//! Each test runs in a process of its own, which leads a process group: a test that panics, hangs or dies
//! takes nothing with it, and whatever it started is killed when it is over. What a test prints comes above
//! its line:
//!
//! ```text
//! test NAME ... ok (detail)
//! test NAME ... FAILED: reason
//! test NAME ... skipped: reason
//! N passed, N failed, N skipped
//! ```
//!
//! In the lab a test under which the emulated machine itself failed runs again, twice at most, and a line
//! says so each time.

mod autopsy;
mod child;
mod context;
mod needs;
mod run;
mod verdict;

pub use child::run_one;
pub use context::Context;
pub use needs::{LAB_MODULES, Need, required_file};
pub use run::{Selection, run};
pub use verdict::{Tally, Verdict};

use std::time::Duration;

/// Where a test belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Set {
    /// On the machine at hand.
    Native,
    /// Inside a lab kernel.
    Lab,
    /// Inside a lab kernel of PREEMPT_RT: what may be different there.
    LabRt,
    /// Inside a lab kernel whose first process is systemd.
    Installed,
    /// With a collector.
    Delivery,
    /// For as long as it is asked to take.
    Soak,
}

impl Set {
    /// Whether its machine is emulated.
    const fn is_emulated(self) -> bool {
        matches!(self, Self::Lab | Self::LabRt | Self::Installed)
    }
}

/// How a test ended that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It passed; the text says what was seen.
    Passed(String),
    /// It found that it cannot say anything here; the text says why.
    Skipped(String),
}

/// The machine failed, and not what is tested: a guest died by itself. An emulated machine does that now and
/// then, so in the lab such a test is run again, said aloud, twice at most. Anywhere else it is a failure
/// like any other.
#[derive(Debug, thiserror::Error)]
#[error("the machine failed: {0}")]
pub struct Disturbed(pub String);

/// A test.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// `area.what-holds`.
    pub name: &'static str,
    /// Where it belongs.
    pub sets: &'static [Set],
    /// What it cannot do without: where something is missing, the test is skipped and says so.
    pub needs: &'static [Need],
    /// After this time its processes are killed, and it has failed.
    pub limit: Duration,
    /// The test.
    pub run: fn(&Context) -> Result<Outcome, anyhow::Error>,
}

#[cfg(test)]
mod tests;
