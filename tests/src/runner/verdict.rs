//! How tests ended, and the lines that say so.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Disturbed, Outcome};

/// How a test ended. Its texts are one line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It passed, with what was seen.
    Passed(String),
    /// It failed, and why.
    Failed(String),
    /// The machine failed under it, and how.
    Disturbed(String),
    /// It did not run, or found that it cannot say anything, and why.
    Skipped(String),
}

impl Verdict {
    pub(super) fn failed(reason: impl fmt::Display) -> Self {
        Self::Failed(one_line(&reason.to_string()))
    }
}

impl From<anyhow::Result<Outcome>> for Verdict {
    fn from(result: anyhow::Result<Outcome>) -> Self {
        match result {
            Ok(Outcome::Passed(detail)) => Self::Passed(one_line(&detail)),
            Ok(Outcome::Skipped(reason)) => Self::Skipped(one_line(&reason)),
            Err(error) if error.is::<Disturbed>() => Self::Disturbed(one_line(&format!("{error:#}"))),
            Err(error) => Self::failed(format!("{error:#}")),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(detail) if detail.is_empty() => out.write_str("ok"),
            Self::Passed(detail) => write!(out, "ok ({detail})"),
            Self::Failed(reason) | Self::Disturbed(reason) => write!(out, "FAILED: {reason}"),
            Self::Skipped(reason) => write!(out, "skipped: {reason}"),
        }
    }
}

/// Whoever reads the runner's output reads it by lines.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u32,
    /// Tests that failed.
    pub failed: u32,
    /// Tests that were skipped.
    pub skipped: u32,
}

impl Tally {
    pub(super) fn add(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Passed(_) => self.passed += 1,
            Verdict::Failed(_) | Verdict::Disturbed(_) => self.failed += 1,
            Verdict::Skipped(_) => self.skipped += 1,
        }
    }

    /// Whether a test failed.
    #[must_use]
    pub const fn has_failures(&self) -> bool {
        self.failed > 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}
