//! Running tests one after the other, each in its own process.

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process_group};

use super::autopsy::describe;
use super::child::read_verdict;
use super::verdict::{Tally, Verdict};
use super::{Set, Test};
use crate::host;
use crate::oracle;

/// How often a test is run again when the lab's machine failed under it.
const RERUNS: u32 = 2;

/// Which tests to run.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The set.
    pub set: Set,
    /// Only tests whose name contains this.
    pub filter: Option<String>,
    /// Not these tests.
    pub except: Vec<String>,
}

impl Selection {
    /// The tests of the selection, in the order of the registry.
    pub fn of<'tests>(&self, tests: &'tests [Test]) -> impl Iterator<Item = &'tests Test> {
        let named =
            |test: &Test| self.filter.as_ref().is_none_or(|filter| test.name.contains(filter.as_str()));
        let excepted = |test: &Test| self.except.iter().any(|name| name == test.name);
        tests.iter().filter(move |test| test.sets.contains(&self.set) && named(test) && !excepted(test))
    }
}

/// Runs the selected tests and prints their lines, each with the time that it took, to `out`. `command` makes
/// the command that runs one test, given its name and directory.
///
/// # Errors
/// When nothing can be printed.
pub fn run(
    tests: &[Test],
    selection: &Selection,
    command: &dyn Fn(&Test, &Path) -> Command,
    out: &mut dyn Write,
) -> io::Result<Tally> {
    let mut tally = Tally::default();
    for test in selection.of(tests) {
        out.flush()?;
        let missing: Vec<String> = test.needs.iter().filter_map(|need| need.missing()).collect();
        let begun = Instant::now();
        let verdict = if missing.is_empty() {
            run_until_undisturbed(test, selection.set, command, out)?
        } else {
            Verdict::Skipped(missing.join("; "))
        };
        writeln!(out, "test {} ... {verdict} [{:.1} s]", test.name, begun.elapsed().as_secs_f64())?;
        tally.add(&verdict);
    }
    writeln!(out, "{tally}")?;
    out.flush()?;
    Ok(tally)
}

/// Runs a test, and again where the emulated machine of the lab failed under it.
fn run_until_undisturbed(
    test: &Test,
    set: Set,
    command: &dyn Fn(&Test, &Path) -> Command,
    out: &mut dyn Write,
) -> io::Result<Verdict> {
    let reruns = if set.is_emulated() { RERUNS } else { 0 };
    for rerun in 1..=reruns {
        match run_in_process(test, command) {
            Verdict::Disturbed(reason) => {
                writeln!(out, "  {} runs again ({rerun} of {reruns} times at most): {reason}", test.name)?;
                out.flush()?;
            }
            verdict => return Ok(verdict),
        }
    }
    Ok(run_in_process(test, command))
}

fn run_in_process(test: &Test, command: &dyn Fn(&Test, &Path) -> Command) -> Verdict {
    let directory = match TestDirectory::create(test.name) {
        Ok(directory) => directory,
        Err(error) => return Verdict::failed(format!("its directory cannot be made: {error}")),
    };
    let mut command = command(test, &directory.0);
    // A group of its own: what the test leaves running can be killed with it.
    command.stdin(Stdio::null()).process_group(0);
    match command.spawn() {
        Ok(child) => supervise(child, test.limit, &directory.0),
        Err(error) => Verdict::failed(format!("its process cannot be started: {error}")),
    }
}

fn supervise(mut child: Child, limit: Duration, directory: &Path) -> Verdict {
    let ended = host::ends_within(&child, limit);
    if matches!(ended, Ok(false)) {
        print!("{}", describe(child.id()));
    }
    // Before the leader is reaped: until then nobody else can have its group's id.
    let group_killed = kill_group(&child);
    let status = child.wait();
    sweep();
    match (ended, group_killed, status) {
        (Err(error), _, _) | (_, _, Err(error)) => {
            Verdict::failed(format!("its process cannot be waited for: {error}"))
        }
        (_, Err(error), _) => Verdict::failed(format!("its processes cannot be killed: {error}")),
        (Ok(false), _, _) => {
            Verdict::failed(format!("no result after {} s; its processes were killed", limit.as_secs()))
        }
        (Ok(true), Ok(()), Ok(status)) if !status.success() => {
            Verdict::failed(format!("its process ended with {status}"))
        }
        (Ok(true), Ok(()), Ok(_)) => read_verdict(directory)
            .unwrap_or_else(|error| Verdict::failed(format!("it left no verdict: {error}"))),
    }
}

fn kill_group(child: &Child) -> io::Result<()> {
    let Some(group) = host::pid(child.id()) else { return Ok(()) };
    match kill_process_group(group, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What was killed could not remove its groups of the cpu hierarchy.
fn sweep() {
    match oracle::sweep_groups() {
        Ok(swept) => swept.iter().for_each(|path| eprintln!("  {} was left over", path.display())),
        Err(error) => eprintln!("  groups are left over: {error}"),
    }
}

/// A test's directory; removed with everything in it when the test is over.
struct TestDirectory(PathBuf);

impl TestDirectory {
    fn create(test: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("hvsampler-tests-{}-{test}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} is left over: {error}", self.0.display());
        }
    }
}
