//! `cargo xtask test`: everything that must hold before a change lands.

pub(crate) mod stream;
pub(crate) mod tally;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use self::tally::Tally;
use crate::{
    build,
    lab::{self, Job},
    setup::{self, Purpose},
    shell, tidy,
    workspace::Workspace,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains this; nothing is linted then.
    filter: Option<String>,
    /// Only what needs no privileges: lints, documentation, licences, `cargo test`.
    #[arg(long)]
    quick: bool,
    /// Boot no kernels.
    #[arg(long)]
    no_lab: bool,
}

/// A group of tests that run together.
struct Part {
    name: &'static str,
    run: fn(&Workspace, &Args) -> Result<Tally>,
    /// Whether it picks tests by name; one that does not is left out when a filter is given.
    filters: bool,
    /// Whether `--quick` keeps it.
    quick: bool,
}

impl Part {
    fn wanted(&self, args: &Args) -> bool {
        (self.filters || args.filter.is_none())
            && (self.quick || !args.quick)
            && !(args.no_lab && self.name == "lab")
    }
}

const PARTS: [Part; 4] = [
    Part { name: "tidy", run: |workspace, _| Ok(tidy::checks(workspace)), filters: false, quick: true },
    Part { name: "cargo", run: cargo, filters: true, quick: true },
    Part { name: "native", run: native, filters: true, quick: false },
    Part { name: "lab", run: lab, filters: true, quick: false },
];

/// A kernel takes about a minute; a machine shared with others gets this much.
const LAB_LIMIT: Duration = Duration::from_secs(15 * 60);

/// The binary that runs the tests which need privileges or guests.
pub(crate) const RUNNER: &str = "sampler-tests";

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
    if total.total() == 0 {
        bail!("no test matches {:?}", args.filter.as_deref().unwrap_or_default());
    }
    print_times(&times);
    println!("{total}");
    Ok(total.exit_code())
}

/// A part that cannot say what it ran counts as one failure, and so does one that ran nothing.
fn outcome(part: &Part, args: &Args, result: Result<Tally>) -> Tally {
    match result {
        Ok(tally) if tally.total() == 0 && args.filter.is_none() => {
            println!("test {} ... FAILED: the part ran no test at all", part.name);
            Tally::FAILED
        }
        Ok(tally) => tally,
        Err(error) => {
            println!("test {} ... FAILED: {error:#}", part.name);
            Tally::FAILED
        }
    }
}

fn print_times(times: &[(&str, Duration)]) {
    println!("== time");
    for (name, time) in times {
        println!("{name:10} {:6.1} s", time.as_secs_f64());
    }
}

fn cargo(workspace: &Workspace, args: &Args) -> Result<Tally> {
    let mut command = workspace.stable();
    command.args(["test", "--locked", "--quiet", "--no-fail-fast", "--workspace"]).args(&args.filter);
    stream::libtest(&mut command)
}

/// The sampler on this machine's own kernel, with guests of the tiny VMM.
fn native(workspace: &Workspace, args: &Args) -> Result<Tally> {
    if !workspace.declares_binary("tests", RUNNER) {
        return Ok(Tally::skip("native", "the tests crate has no binary sampler-tests"));
    }
    if !shell::is_root() {
        return Ok(Tally::skip("native", "needs root; run this command as root"));
    }
    build::binaries(workspace, true)?;
    let mut command = workspace.command(workspace.release_binary(RUNNER));
    stream::runner(command.args(["--set", "native"]).args(&args.filter))
}

/// The sampler on every kernel of the lab, with guests of real QEMU.
fn lab(workspace: &Workspace, args: &Args) -> Result<Tally> {
    if !workspace.declares_binary("tests", RUNNER) {
        return Ok(Tally::skip("lab", "the tests crate has no binary sampler-tests"));
    }
    if let Some(reason) = setup::cannot_install(Purpose::Lab) {
        return Ok(Tally::skip("lab", reason));
    }
    setup::ensure(workspace, &[Purpose::Lab])?;
    build::binaries(workspace, true)?;
    lab::run(workspace, &[], &Job::Tests { filter: args.filter.clone() }, LAB_LIMIT)
}
