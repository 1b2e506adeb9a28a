//! `cargo xtask setup`: says what is missing and why, then installs it.

mod collector;
mod rust;

pub(crate) use self::collector::Backends;

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail};

use crate::{shell, workspace::Workspace};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also what `cargo xtask vm` needs: QEMU and the kernels.
    #[arg(long)]
    lab: bool,
    /// Also what the delivery tests need: the OpenTelemetry Collector and Prometheus.
    #[arg(long)]
    collector: bool,
    /// Install nothing; say what is missing and fail when something is.
    #[arg(long)]
    check: bool,
}

/// One thing the machine must have, and lacks.
pub(crate) struct Need<'a> {
    pub(crate) what: String,
    pub(crate) why: &'static str,
    pub(crate) install: Box<dyn FnOnce() -> Result<()> + 'a>,
}

/// What a room of its own says that it lacks; whoever calls us brings it along.
pub(crate) type Needs = for<'a> fn(&'a Workspace) -> Result<Vec<Need<'a>>>;

/// What a task is going to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Build,
    Tidy,
    Collector,
}

pub(crate) fn main(workspace: &Workspace, args: &Args, lab: Needs) -> Result<ExitCode> {
    let mut needs = missing(workspace, &[Purpose::Build, Purpose::Tidy])?;
    if args.lab {
        needs.extend(lab(workspace)?);
    }
    if args.collector {
        match cannot_have_collector() {
            Some(reason) => println!("setup: the collector is left out: {reason}"),
            None => needs.extend(missing(workspace, &[Purpose::Collector])?),
        }
    }
    if args.check {
        for need in &needs {
            println!("missing: {} ({})", need.what, need.why);
        }
        return Ok(if needs.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    install(needs)?;
    println!("setup: nothing is missing");
    Ok(ExitCode::SUCCESS)
}

/// Installs what the purposes need and the machine lacks; silent and quick when that is nothing.
pub(crate) fn ensure(workspace: &Workspace, purposes: &[Purpose]) -> Result<()> {
    install(missing(workspace, purposes)?)
}

/// Says all that is going to be installed, then installs it.
pub(crate) fn install(needs: Vec<Need<'_>>) -> Result<()> {
    for need in &needs {
        println!("setup: going to install {}: {}", need.what, need.why);
    }
    for need in needs {
        let begun = Instant::now();
        (need.install)()?;
        println!("setup: {} is there ({} s)", need.what, begun.elapsed().as_secs());
    }
    Ok(())
}

/// Why this machine cannot have the collector, by its nature rather than by an accident.
pub(crate) fn cannot_have_collector() -> Option<String> {
    collector::cannot_install()
}

fn missing<'a>(workspace: &'a Workspace, purposes: &[Purpose]) -> Result<Vec<Need<'a>>> {
    if shell::which("rustup").is_none() {
        bail!("rustup is not on the path; install it from https://rustup.rs");
    }
    let mut needs = Vec::new();
    for purpose in purposes {
        match purpose {
            Purpose::Build => needs.extend(rust::for_build(workspace)?),
            Purpose::Tidy => needs.extend(rust::for_tidy(workspace)),
            Purpose::Collector => needs.extend(collector::needs(workspace)?),
        }
    }
    Ok(needs)
}
