//! `cargo xtask bench`: what the hooks and the encoder cost on this machine.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    build,
    setup::{self, Purpose},
    shell,
    workspace::Workspace,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    name: Name,
    /// Handed to the benchmark.
    #[arg(last = true)]
    options: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Name {
    /// ns per event of each eBPF hook, against an empty program of the same type.
    Hooks,
    /// The part of `hooks` that is of an exit from the guest and the entry after it, alone.
    Exits,
    /// The part of `hooks` that is of disk requests, alone.
    Requests,
    /// What disks, interfaces and memory of guests and the host beside them add to the CPU time of the
    /// service, with 50 and with 200 guests; `-- GUESTS...` says how many.
    Devices,
    /// CPU, memory and start-up time of the whole service on a host with 200 guests.
    Agent,
    /// CPU time of the eBPF programs of a host whose 1,600 vCPUs switch all the time, as the kernel measures
    /// it.
    Host,
    /// For how long the programs keep interrupts off at a switch, and at a move to another CPU, on the same
    /// host.
    Interrupts,
    /// A snapshot that visits the whole host, and one that visits the VMMs alone, on a host with many idle
    /// threads; `-- THREADS` says how many.
    Walk,
    /// How soon the service is at work, and how late its exports are, on a host where it hardly gets a CPU.
    Start,
    /// Points per second of the OTLP encoder.
    Encode,
}

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    setup::ensure(workspace, &[Purpose::Build])?;
    match args.name {
        Name::Hooks => kernel(workspace, "hooks", args)?,
        Name::Exits => kernel(workspace, "exits", args)?,
        Name::Requests => kernel(workspace, "requests", args)?,
        Name::Devices => kernel(workspace, "devices", args)?,
        Name::Agent => kernel(workspace, "agent", args)?,
        Name::Host => kernel(workspace, "host", args)?,
        Name::Interrupts => kernel(workspace, "interrupts", args)?,
        Name::Walk => kernel(workspace, "walk", args)?,
        Name::Start => kernel(workspace, "start", args)?,
        Name::Encode => {
            let mut cargo = workspace.stable();
            cargo.args(["bench", "--locked", "--package", "hvsampler", "--bench", "encode"]);
            shell::run(cargo.arg("--").args(&args.options))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The benchmarks that load programs and start guests.
fn kernel(workspace: &Workspace, name: &str, args: &Args) -> Result<()> {
    build::binaries(workspace, true)?;
    let bench = workspace.release_binary("sampler-bench");
    shell::run(workspace.command(bench).arg(name).args(&args.options))
}
