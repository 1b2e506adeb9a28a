//! `cargo xtask setup`: says what is missing and why, then installs it.

mod collector;
mod debian;
mod rust;

pub(crate) use self::collector::Backends;

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail};

use crate::{lab, workspace::Workspace};

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
    Lab,
    Collector,
}

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let mut purposes = vec![Purpose::Build, Purpose::Tidy];
    purposes.extend(args.lab.then_some(Purpose::Lab));
    if args.collector {
        match cannot_install(Purpose::Collector) {
            Some(reason) => println!("setup: the collector is left out: {reason}"),
            None => purposes.push(Purpose::Collector),
        }
    }
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

/// Why this machine cannot have what the purpose needs, by its nature rather than by an accident.
pub(crate) fn cannot_install(purpose: Purpose) -> Option<String> {
    match purpose {
        Purpose::Build | Purpose::Tidy => None,
        Purpose::Lab => debian::cannot_install(),
        Purpose::Collector => collector::cannot_install(),
    }
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
            Purpose::Lab => {
                needs.extend(debian::for_lab());
                needs.extend(lab_downloads(workspace)?);
            }
            Purpose::Collector => needs.extend(collector::needs(workspace)?),
        }
    }
    Ok(needs)
}

fn lab_downloads(workspace: &Workspace) -> Result<Option<Need<'_>>> {
    Ok((!lab::is_fetched(workspace)?).then(|| Need {
        what: format!("the lab's kernels, QEMU and busybox into {}", workspace.cache.path("lab").display()),
        why: "boots Debian's kernels with a KVM inside (about 350 MB are downloaded, 70 MB kept)",
        install: Box::new(|| lab::fetch(workspace)),
    }))
}
