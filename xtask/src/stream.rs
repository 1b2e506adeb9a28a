//! Counting the results in what a child prints, while it is shown.

use std::{
    io::{self, BufRead as _, BufReader, Read},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    shell,
    tally::{Counts, Tally, Timed},
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
    command.stdout(Stdio::piped());
    let mut child = start(command)?;
    let output = child.stdout.take().context("the child has no standard output")?;
    each_line(output, |line| lines.push(line))?;
    lines.finish(child.wait()?.success())
}

/// Runs `cargo test`, whose own lines between those of its binaries say which of them runs.
pub(crate) fn libtest(command: &mut Command) -> Result<Tally> {
    let (lines, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = start(command)?;
    // The command's own ends of the pipe would keep it open for ever.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut binaries = Binaries::default();
    each_line(lines, |line| binaries.push(line))?;
    let status = child.wait()?;
    if !status.success() && binaries.tally.counts.failed == 0 {
        bail!("`{}` ended with {status}", shell::display(command));
    }
    Ok(binaries.tally)
}

/// Collects the results of `cargo test`, and the time of each of its binaries.
#[derive(Debug, Default)]
struct Binaries {
    tally: Tally,
    running: String,
}

impl Binaries {
    fn push(&mut self, line: &str) {
        if let Some(name) = binary_of(line) {
            self.running = name;
        } else if let Some(counts) = Counts::from_libtest(line) {
            self.tally.counts += counts;
            let time = finished_in(line);
            self.tally.times.extend(time.map(|time| Timed { name: self.running.clone(), time }));
        } else if let Some((_, one)) = Tally::from_runner(line) {
            self.tally.failures.extend(one.failures);
        }
    }
}

/// The name in `Running unittests src/lib.rs (target/debug/deps/hvsampler-0123)` or `Doc-tests hvsampler`.
fn binary_of(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(library) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{library} (documentation)"));
    }
    let (source, binary) = line.strip_prefix("Running ")?.strip_suffix(')')?.split_once(" (")?;
    let (name, _hash) = binary.rsplit('/').next()?.rsplit_once('-')?;
    Some(format!("{name} ({source})"))
}

/// The time in `test result: ok. 3 passed; ...; finished in 0.01s`.
fn finished_in(line: &str) -> Option<Duration> {
    let (_, seconds) = line.rsplit_once("finished in ")?;
    Duration::try_from_secs_f64(seconds.strip_suffix('s')?.parse().ok()?).ok()
}

fn start(command: &mut Command) -> Result<Child> {
    command.stdin(Stdio::null()).spawn().with_context(|| format!("starting `{}`", shell::display(command)))
}

/// Shows each line as it comes.
fn each_line(output: impl Read, mut see: impl FnMut(&str)) -> Result<()> {
    // Guest names in test output may be any bytes.
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        see(&line);
    }
    Ok(())
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

    #[test]
    fn the_time_of_a_binary_is_known_by_its_name() {
        let mut binaries = Binaries::default();
        for line in [
            "   Compiling xtask v0.1.0 (/x)",
            "     Running unittests src/main.rs (target/debug/deps/xtask-0123abcd)",
            "running 2 tests",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.25s",
            "   Doc-tests hvsampler",
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.50s",
        ] {
            binaries.push(line);
        }
        assert_eq!(binaries.tally.counts.passed, 3);
        let timed = |name: &str, ms| Timed { name: name.to_owned(), time: Duration::from_millis(ms) };
        let expected =
            [timed("xtask (unittests src/main.rs)", 1250), timed("hvsampler (documentation)", 500)];
        assert_eq!(binaries.tally.times, expected);
    }

    #[test]
    fn both_streams_of_cargo_are_read_to_their_end() {
        let script = "echo '     Running tests/a/main.rs (target/debug/deps/a-01)' >&2
            echo 'test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; finished in 0.50s'
            exit $0";
        let tally = libtest(Command::new("sh").args(["-c", script, "0"])).unwrap();
        assert_eq!((tally.counts.passed, tally.times[0].name.as_str()), (1, "a (tests/a/main.rs)"));
        libtest(Command::new("sh").args(["-c", script, "7"])).unwrap_err();
    }
}
