//! The process that runs one test.

use std::any::Any;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::Context as _;

use super::verdict::Verdict;
use super::{Context, Test};
use crate::guest::strays;
use crate::host::end_with_parent;

/// File in the test's directory that says how it ended.
const VERDICT: &str = "verdict.json";

/// Runs a test in this process and leaves its verdict in `directory` for the runner.
///
/// # Errors
/// When the verdict cannot be written.
pub fn run_one(test: &Test, directory: &Path, parent: u32) -> anyhow::Result<()> {
    end_with_parent(Some(parent)).context("cannot tie this process to the runner")?;
    let scratch = directory.join("scratch");
    fs::create_dir(&scratch).with_context(|| format!("{} cannot be made", scratch.display()))?;
    let verdict = explained(verdict_of(test, &Context::new(scratch)), strays::noted());
    let path = directory.join(VERDICT);
    fs::write(&path, serde_json::to_vec(&verdict)?)
        .with_context(|| format!("{} cannot be written", path.display()))
}

fn verdict_of(test: &Test, context: &Context) -> Verdict {
    match catch_unwind(AssertUnwindSafe(|| (test.run)(context))) {
        Ok(result) => {
            if let Err(error) = &result {
                // The test's own line has it on one line.
                eprintln!("  {error:#}");
            }
            result.into()
        }
        Err(payload) => Verdict::failed(format!("panicked: {}", message(payload.as_ref()))),
    }
}

/// A test fails for want of a guest that ended by itself, whatever it says.
fn explained(verdict: Verdict, stray: Option<String>) -> Verdict {
    match (verdict, stray) {
        (Verdict::Failed(reason), Some(stray)) => Verdict::Disturbed(format!("{stray}: {reason}")),
        (verdict, _) => verdict,
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// What the process left behind.
pub(super) fn read_verdict(directory: &Path) -> anyhow::Result<Verdict> {
    Ok(serde_json::from_slice(&fs::read(directory.join(VERDICT))?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_ended_by_itself_explains_a_failure_and_nothing_else() {
        let stray = || Some("guest 7 is gone".to_owned());
        let failed = || Verdict::failed("no slot");
        assert_eq!(explained(failed(), None), failed());
        assert_eq!(explained(failed(), stray()), Verdict::Disturbed("guest 7 is gone: no slot".to_owned()));
        let passed = || Verdict::Passed(String::new());
        assert_eq!(explained(passed(), stray()), passed());
    }
}
