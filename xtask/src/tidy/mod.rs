//! `cargo xtask tidy`: what can be judged without running the product.

mod circles;
mod commands;
mod directions;
mod files;
mod graph;
mod house;
mod length;
mod lexer;
mod parse;
mod pure;
mod words;
mod wrap;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::{
    setup::{self, Purpose},
    shell,
    tally::Tally,
    workspace::Workspace,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only checks whose name contains this.
    filter: Option<String>,
    /// Wrap comments, and let rustfmt and clippy change the code.
    #[arg(long)]
    fix: bool,
}

struct Check {
    name: &'static str,
    run: fn(&Workspace) -> Result<()>,
}

const CHECKS: [Check; 9] = [
    Check { name: "tidy::directions", run: house::directions },
    Check { name: "tidy::circles", run: house::circles },
    Check { name: "tidy::length", run: house::length },
    Check { name: "tidy::words", run: house::words },
    Check { name: "tidy::fmt", run: |workspace| shell::run(&mut commands::fmt(workspace)) },
    Check { name: "tidy::clippy", run: |workspace| shell::run(&mut commands::clippy(workspace)) },
    Check { name: "tidy::clippy-ebpf", run: |workspace| shell::run(&mut commands::clippy_ebpf(workspace)) },
    Check { name: "tidy::doc", run: |workspace| shell::run(&mut commands::doc(workspace)) },
    Check { name: "tidy::deny", run: |workspace| shell::run(&mut commands::deny(workspace)) },
];

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    setup::ensure(workspace, &[Purpose::Build, Purpose::Tidy])?;
    if args.fix {
        fix(workspace)?;
    }
    let tally = checks(workspace, args.filter.as_deref().unwrap_or_default());
    if tally.counts.total() == 0 {
        bail!("no check matches {:?}", args.filter.as_deref().unwrap_or_default());
    }
    println!("{tally}");
    Ok(tally.exit_code())
}

/// Runs every check whose name contains the filter, and prints a line for each, as the tests do.
pub(crate) fn checks(workspace: &Workspace, filter: &str) -> Tally {
    let mut tally = Tally::default();
    for check in CHECKS.iter().filter(|check| check.name.contains(filter)) {
        tally += Tally::of(check.name, || (check.run)(workspace));
    }
    tally
}

fn fix(workspace: &Workspace) -> Result<()> {
    house::wrap(workspace)?;
    let mut clippy = workspace.stable();
    clippy.args(["clippy", "--fix", "--allow-dirty", "--allow-staged", "--workspace", "--all-targets"]);
    shell::run(&mut clippy)?;
    shell::run(workspace.stable().args(["fmt", "--all"]))
}
