//! `cargo xtask setup`: says what is missing and why, then installs it.

mod rust;

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail};

use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install nothing; say what is missing and fail when something is.
    #[arg(long)]
    check: bool,
}

/// One thing the machine must have.
struct Need<'a> {
    what: String,
    why: &'static str,
    install: Box<dyn FnOnce() -> Result<()> + 'a>,
}

/// What a task is going to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Build,
    Tidy,
}

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let purposes = vec![Purpose::Build, Purpose::Tidy];
    if args.check {
        let missing = missing(workspace, &purposes)?;
        for need in &missing {
            println!("missing: {} ({})", need.what, need.why);
        }
        return Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    ensure(workspace, &purposes)?;
    println!("setup: nothing is missing");
    Ok(ExitCode::SUCCESS)
}

/// Installs what the purposes need and the machine lacks; silent and quick when that is nothing.
pub(crate) fn ensure(workspace: &Workspace, purposes: &[Purpose]) -> Result<()> {
    let missing = missing(workspace, purposes)?;
    for need in &missing {
        println!("setup: going to install {}: {}", need.what, need.why);
    }
    for need in missing {
        let begun = Instant::now();
        (need.install)()?;
        println!("setup: {} is there ({} s)", need.what, begun.elapsed().as_secs());
    }
    Ok(())
}

fn missing<'a>(workspace: &'a Workspace, purposes: &[Purpose]) -> Result<Vec<Need<'a>>> {
    if crate::shell::which("rustup").is_none() {
        bail!("rustup is not on the path; install it from https://rustup.rs");
    }
    let mut needs = Vec::new();
    for purpose in purposes {
        match purpose {
            Purpose::Build => needs.extend(rust::for_build(workspace)?),
            Purpose::Tidy => needs.extend(rust::for_tidy(workspace)),
        }
    }
    Ok(needs)
}
