//! `cargo xtask test`: everything that must hold before a change lands.

mod parts;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};

use self::parts::{PARTS, Part};
use crate::{
    setup::{self, Purpose},
    tally::Tally,
    workspace::Workspace,
};

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
        total += outcome(part, args, (part.run)(workspace, args));
        times.push((part.name, begun.elapsed()));
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
    match result {
        Ok(tally) if tally.counts.total() == 0 && args.filter.is_none() => {
            Tally::of(part.name, Err(anyhow!("the part ran no test at all")))
        }
        Ok(tally) => tally,
        Err(error) => Tally::of(part.name, Err(error)),
    }
}

fn print_times(times: &[(&str, Duration)]) {
    println!("== time");
    for (name, time) in times {
        println!("{name:10} {:6.1} s", time.as_secs_f64());
    }
}

fn print_failures(total: &Tally) {
    if !total.failures.is_empty() {
        println!("== failures");
    }
    for failure in &total.failures {
        println!("{failure}");
    }
}
