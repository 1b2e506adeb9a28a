//! `cargo xtask test`: everything that must hold before a change lands.

mod parts;

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, anyhow, bail};

use self::parts::{PARTS, Part};
use crate::{
    setup::{self, Purpose},
    tally::{Tally, Timed},
    workspace::Workspace,
};

/// Tests of a part whose times are printed, the slowest first.
const SLOWEST: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains this; nothing is linted then.
    filter: Option<String>,
    /// Only what needs no privileges: lints, documentation, licences, `cargo test`.
    #[arg(long)]
    quick: bool,
    /// Boot no kernels; said and counted as skipped.
    #[arg(long)]
    no_lab: bool,
    /// Send nothing to a collector; said and counted as skipped.
    #[arg(long)]
    no_delivery: bool,
}

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    setup::ensure(workspace, &[Purpose::Build, Purpose::Tidy])?;
    let mut total = Tally::default();
    let mut times = Vec::new();
    for part in PARTS.iter().filter(|part| part.wanted(args)) {
        println!("== {}", part.name);
        let begun = Instant::now();
        let mut tally = outcome(part, args, (part.run)(workspace, args));
        let tests = std::mem::take(&mut tally.times);
        times.push((Timed { name: part.name.to_owned(), time: begun.elapsed() }, tests));
        total += tally;
    }
    if total.counts.total() == 0 {
        bail!("no test matches {:?}", args.filter.as_deref().unwrap_or_default());
    }
    print_times(&times);
    print_failures(&total);
    println!("{total}");
    Ok(total.exit_code())
}

/// A part that cannot say what it ran counts as one failure, and so does one that ran nothing.
fn outcome(part: &Part, args: &Args, result: Result<Tally>) -> Tally {
    let failed = |error| Tally { times: Vec::new(), ..Tally::of(part.name, || Err(error)) };
    match result {
        Ok(tally) if tally.counts.total() == 0 && args.filter.is_none() => {
            failed(anyhow!("the part ran no test at all"))
        }
        Ok(tally) => tally,
        Err(error) => failed(error),
    }
}

/// Where the time went: each part, and the tests in it that take most.
fn print_times(parts: &[(Timed, Vec<Timed>)]) {
    println!("== time");
    for (part, tests) in parts {
        println!("{:10} {:6.1} s", part.name, part.time.as_secs_f64());
        for test in slowest(tests) {
            println!("  {:6.1} s  {}", test.time.as_secs_f64(), test.name);
        }
    }
}

fn slowest(tests: &[Timed]) -> Vec<&Timed> {
    let mut slowest: Vec<&Timed> = tests.iter().collect();
    slowest.sort_by_key(|test| std::cmp::Reverse(test.time));
    slowest.truncate(SLOWEST);
    slowest
}

fn print_failures(total: &Tally) {
    if !total.failures.is_empty() {
        println!("== failures");
    }
    for failure in &total.failures {
        println!("{failure}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_slowest_come_first_and_the_quick_are_left_out() {
        let tests: Vec<Timed> = (0..=SLOWEST as u64)
            .map(|seconds| Timed { name: format!("t{seconds}"), time: Duration::from_secs(seconds) })
            .collect();
        let names: Vec<&str> = slowest(&tests).into_iter().map(|test| test.name.as_str()).collect();
        assert_eq!((names.len(), names[0]), (SLOWEST, "t20"));
        assert!(!names.contains(&"t0"));
    }
}
