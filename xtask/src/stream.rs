//! Counting the results in what a child prints, while it is shown.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    shell,
    tally::{Counts, Tally},
};

/// Collects the result lines of the test runner and holds its sum and exit status against them,
/// so that a runner which died half-way never passes.
#[derive(Debug, Default)]
pub(crate) struct RunnerLines {
    counted: Tally,
    names: Vec<String>,
    sum: Option<Counts>,
}

impl RunnerLines {
    pub(crate) fn push(&mut self, line: &str) {
        if let Some((name, one)) = Tally::from_runner(line) {
            self.counted += one;
            self.names.push(name.to_owned());
        } else if let Some(sum) = Counts::from_sum(line) {
            self.sum = Some(sum);
        }
    }

    /// The tests that have their results, of a runner that did not come to its end.
    pub(crate) fn so_far(&self) -> (&[String], &Tally) {
        (&self.names, &self.counted)
    }

    pub(crate) fn finish(self, success: bool) -> Result<Tally> {
        let Some(sum) = self.sum else {
            bail!("the test runner ended without its sum, after {}", self.counted);
        };
        if sum != self.counted.counts {
            bail!("the test runner says {sum}, its lines say {}", self.counted);
        }
        if success != (sum.failed == 0) {
            bail!("the test runner's exit status contradicts its sum of {sum}");
        }
        Ok(self.counted)
    }
}

/// Runs the test runner.
pub(crate) fn runner(command: &mut Command) -> Result<Tally> {
    let mut lines = RunnerLines::default();
    let status = each_line(command, |line| lines.push(line))?;
    lines.finish(status.success())
}

/// Runs `cargo test`.
pub(crate) fn libtest(command: &mut Command) -> Result<Tally> {
    let mut tally = Tally::default();
    let status = each_line(command, |line| {
        if let Some(binary) = Counts::from_libtest(line) {
            tally.counts += binary;
        } else if let Some((_, one)) = Tally::from_runner(line) {
            tally.failures.extend(one.failures);
        }
    })?;
    if !status.success() && tally.counts.failed == 0 {
        bail!("`{}` ended with {status}", shell::display(command));
    }
    Ok(tally)
}

fn each_line(command: &mut Command, mut see: impl FnMut(&str)) -> Result<ExitStatus> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting `{}`", shell::display(command)))?;
    let output = child.stdout.take().context("the child has no standard output")?;
    // Guest names in test output may be any bytes.
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        see(&line);
    }
    Ok(child.wait()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(lines: &[&str], success: bool) -> Result<Tally> {
        let mut seen = RunnerLines::default();
        lines.iter().for_each(|line| seen.push(line));
        seen.finish(success)
    }

    #[test]
    fn a_runner_that_dies_half_way_does_not_pass() {
        let error = finish(&["test a ... ok"], true).unwrap_err();
        assert!(error.to_string().contains("without its sum, after 1 passed"), "{error}");
    }

    #[test]
    fn sum_lines_and_status_must_agree() {
        let all = ["test a ... ok", "test b ... FAILED: no", "1 passed, 1 failed, 0 skipped"];
        let tally = finish(&all, false).unwrap();
        assert_eq!(tally.counts, Counts { passed: 1, failed: 1, skipped: 0 });
        assert_eq!(tally.failures, ["b: no"]);
        finish(&all, true).unwrap_err();
        finish(&all[1..], false).unwrap_err();
    }
}
