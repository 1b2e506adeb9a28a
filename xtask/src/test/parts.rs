//! What `cargo xtask test` consists of.

use std::time::Duration;

use anyhow::Result;

use super::Args;
use crate::{
    build::{self, RUNNER},
    dist::{self, trial},
    lab::{self, Job},
    setup::{self, Backends, Purpose},
    shell, stream,
    tally::Tally,
    tidy, units,
    workspace::Workspace,
};

/// A kernel takes about a minute; a machine shared with others gets this much.
const LAB_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Kernels whose machines have the package installed: the newest in each run, the oldest when these tests are
/// asked for.
const INSTALLED_ON: [&str; 2] = ["7.2", "5.10"];
/// What operators start from is what the delivery tests run.
const NODE_CONFIG: &str = "otel-config/node.yaml";

/// A group of tests that run together.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) run: fn(&Workspace, &Args) -> Result<Tally>,
    /// Whether it picks tests by name; one that does not is left out when a filter is given.
    filters: bool,
    /// Whether `--quick` keeps it.
    quick: bool,
}

impl Part {
    pub(super) fn wanted(&self, args: &Args) -> bool {
        (self.filters || args.filter.is_none()) && (self.quick || !args.quick)
    }
}

pub(super) const PARTS: [Part; 8] = [
    Part { name: "tidy", run: |workspace, _| Ok(tidy::checks(workspace, "")), filters: false, quick: true },
    Part { name: "units", run: |workspace, _| Ok(units::tests(workspace)), filters: false, quick: true },
    Part { name: "cargo", run: cargo, filters: true, quick: true },
    Part { name: "native", run: native, filters: true, quick: false },
    Part { name: "packages", run: |workspace, _| packages(workspace), filters: false, quick: false },
    Part { name: "lab", run: lab, filters: true, quick: false },
    Part { name: "installed", run: installed, filters: true, quick: false },
    Part { name: "delivery", run: delivery, filters: true, quick: false },
];

fn cargo(workspace: &Workspace, args: &Args) -> Result<Tally> {
    let mut command = workspace.stable();
    command.args(["test", "--locked", "--no-fail-fast", "--workspace"]).args(&args.filter);
    // Names of binaries are cargo's to print, names of tests would be thousands of lines.
    command.args(["--", "--quiet"]);
    stream::libtest(&mut command)
}

/// The sampler on this machine's own kernel, with guests of the tiny VMM.
fn native(workspace: &Workspace, args: &Args) -> Result<Tally> {
    if !shell::is_root() {
        return Ok(Tally::skip("native", "needs root; run this command as root"));
    }
    build::binaries(workspace, true)?;
    if !selects_any(workspace, "native", args)? {
        return Ok(Tally::default());
    }
    runner(workspace, "native", args, &[])
}

/// The packages under the package managers, in a copy of this machine's file system.
fn packages(workspace: &Workspace) -> Result<Tally> {
    if let Some(reason) = trial::cannot_run() {
        return Ok(Tally::skip("packages", reason));
    }
    // Without what makes the RPM the Debian package is tried out all the same, and the other is said to be
    // skipped.
    if shell::which("apt-get").is_some()
        && let Err(error) = setup::install(dist::needs())
    {
        println!("setup: {error:#}");
    }
    build::binaries(workspace, true)?;
    trial::tests(workspace)
}

/// The sampler on every kernel of the lab, with guests of real QEMU.
fn lab(workspace: &Workspace, args: &Args) -> Result<Tally> {
    if args.no_lab {
        return Ok(Tally::skip("lab", "--no-lab was given"));
    }
    if let Some(reason) = lab::cannot_install() {
        return Ok(Tally::skip("lab", reason));
    }
    build::binaries(workspace, true)?;
    if !selects_any(workspace, "lab", args)? {
        return Ok(Tally::default());
    }
    setup::install(lab::needs(workspace)?)?;
    lab::run(workspace, &[], &Job::Tests { filter: args.filter.clone() }, LAB_LIMIT)
}

/// The package under systemd and dpkg, on the newest kernel of the lab, and with a filter on the oldest too:
/// each takes some six minutes.
fn installed(workspace: &Workspace, args: &Args) -> Result<Tally> {
    const PART: &str = "installed";
    if args.no_lab {
        return Ok(Tally::skip(PART, "--no-lab was given"));
    }
    if let Some(reason) = lab::cannot_install().or_else(|| trial::cannot_run().map(str::to_owned)) {
        return Ok(Tally::skip(PART, reason));
    }
    build::binaries(workspace, true)?;
    if !selects_any(workspace, PART, args)? {
        return Ok(Tally::default());
    }
    let mut needs = lab::needs(workspace)?;
    needs.extend(lab::needs_of_systemd());
    setup::install(needs)?;
    let packages = trial::two_debs(workspace, &workspace.target.join("lab").join(PART))?;
    let job = Job::Installed { filter: args.filter.clone(), packages };
    let kernels = if args.filter.is_some() { &INSTALLED_ON[..] } else { &INSTALLED_ON[..1] };
    let kernels: Vec<_> = kernels.iter().copied().map(str::to_owned).collect();
    let mut tally = lab::run(workspace, &kernels, &job, LAB_LIMIT)?;
    if args.filter.is_none() {
        let oldest = INSTALLED_ON[1];
        tally += Tally::skip(
            &format!("{PART}.{oldest}"),
            format_args!("takes six minutes; `cargo xtask test {PART}.` has it on {oldest} too"),
        );
    }
    Ok(tally)
}

/// The sampler sending to the official collector, and that to Prometheus.
fn delivery(workspace: &Workspace, args: &Args) -> Result<Tally> {
    if args.no_delivery {
        return Ok(Tally::skip("delivery", "--no-delivery was given"));
    }
    if let Some(reason) = setup::cannot_have_collector() {
        return Ok(Tally::skip("delivery", reason));
    }
    if !shell::is_root() {
        return Ok(Tally::skip("delivery", "needs root; run this command as root"));
    }
    build::binaries(workspace, true)?;
    if !selects_any(workspace, "delivery", args)? {
        return Ok(Tally::default());
    }
    setup::ensure(workspace, &[Purpose::Collector])?;
    let backends = Backends::of(workspace)?;
    let config = workspace.root.join(NODE_CONFIG);
    let mut validate = workspace.command(&backends.collector);
    validate.args(["validate", "--config"]).arg(&config);
    let mut tally = Tally::of("delivery.node-config-is-valid", || shell::run(&mut validate));
    tally += runner(
        workspace,
        "delivery",
        args,
        &[
            ("HVS_COLLECTOR", backends.collector.as_os_str()),
            ("HVS_COLLECTOR_CONFIG", config.as_os_str()),
            ("HVS_PROMETHEUS", backends.prometheus.as_os_str()),
        ],
    )?;
    Ok(tally)
}

fn runner(
    workspace: &Workspace,
    set: &str,
    args: &Args,
    variables: &[(&str, &std::ffi::OsStr)],
) -> Result<Tally> {
    let mut command = workspace.command(workspace.release_binary(RUNNER));
    command.args(["--set", set]).envs(variables.iter().copied());
    if let Some(filter) = &args.filter {
        command.args(["--filter", filter]);
    }
    stream::runner(&mut command)
}

fn selects_any(workspace: &Workspace, set: &str, args: &Args) -> Result<bool> {
    args.filter.as_ref().map_or(Ok(true), |filter| build::selects_any(workspace, set, filter))
}
