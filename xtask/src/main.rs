//! `cargo xtask`: everything a developer does with hvsampler, one file per task.
//!
//! It is compiled by whatever stable Rust the machine has, and calls the pinned
//! toolchains by name for all that follows.

mod apt;
mod bench;
mod bless;
mod build;
mod cache;
mod dist;
mod fuzz;
mod lab;
mod pins;
mod run;
mod setup;
mod shell;
mod soak;
mod stream;
mod tally;
mod test;
mod tidy;
mod units;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// hvsampler's developer tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing: toolchains, linker, and on request the lab and the collector.
    Setup(setup::Args),
    /// Build the sampler and the test programs.
    Build(build::Args),
    /// Build, then show the live table; with demo guests on a host that has none.
    Run(run::Args),
    /// Everything that must hold before a change lands.
    Test(test::Args),
    /// The lab: boot Debian's kernels and run the tests, or a command, inside each.
    Vm(lab::Args),
    /// What holds the house together; formatting, lints, documentation, licences.
    Tidy(tidy::Args),
    /// Rewrite the golden files from what the code prints now.
    Bless(bless::Args),
    /// The packages: Debian's, an RPM and a tarball, into `target/dist`.
    Dist(dist::Args),
    /// Measure: `hooks` or `encode`.
    Bench(bench::Args),
    /// Hostile inputs for whatever reads what others wrote, for as long as one likes.
    Fuzz(fuzz::Args),
    /// The service for a long time, while guests come and go and the collector fails.
    Soak(soak::Args),
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(task: Task) -> Result<ExitCode> {
    let workspace = Workspace::open()?;
    match task {
        Task::Setup(args) => setup::main(&workspace, &args, lab::needs),
        Task::Build(args) => build::main(&workspace, &args),
        Task::Run(args) => run::main(&workspace, &args),
        Task::Test(args) => test::main(&workspace, &args),
        Task::Vm(args) => lab::main(&workspace, &args),
        Task::Tidy(args) => tidy::main(&workspace, &args),
        Task::Bless(args) => bless::main(&workspace, &args),
        Task::Dist(args) => dist::main(&workspace, &args),
        Task::Bench(args) => bench::main(&workspace, &args),
        Task::Fuzz(args) => fuzz::main(&workspace, &args),
        Task::Soak(args) => soak::main(&workspace, &args),
    }
}
