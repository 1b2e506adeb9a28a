//! The running service is asked how it is, as an operator does.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use aya::sys::{Stats, enable_stats};
use hvsampler::service::status::{ProgramCost, Status};

use super::delivery::Daemon;
use crate::guest::{Guest, GuestConfig};
use crate::oracle::{OracleError, Schedstat};
use crate::runner::{Context, Need, Outcome, Set, Test};
use crate::vmm::Load;

/// The tests of it.
pub(super) const TESTS: &[Test] = &[Test {
    name: "status.as-the-kernel-counts",
    sets: &[Set::Native],
    needs: &[Need::Kvm, Need::Bpf, Need::Root],
    limit: Duration::from_secs(120),
    run: as_the_kernel_counts,
}];

const VCPUS: u64 = 2;
/// The user who is nobody on every host.
const NOBODY: u32 = 65_534;
/// Programs that certainly run: on every switch of the host.
const SWITCHES: &str = "sched_switch";

/// A service with a guest answers, by what the kernel counts of its threads and of its programs, and a
/// stranger gets no answer. A service that was killed leaves a socket behind, which the next one replaces.
pub(super) fn as_the_kernel_counts(context: &Context) -> anyhow::Result<Outcome> {
    let config = GuestConfig::new("asked", VCPUS as u32, Load::Busy);
    let _guest = Guest::start(&context.binary("tiny-vmm")?, &config)?;
    let socket = context.directory().join("status");
    let killed = start(context, &socket)?;
    let first = wait_for(killed, &socket, context, "it answers", |_| true)?;
    drop(first.service);
    ensure!(socket.exists(), "a process that is killed cannot remove its socket");
    let service = start(context, &socket)?;
    let follows = |status: &Status| status.follows.is_some_and(|it| it.guests >= 1 && it.vcpus >= VCPUS);
    let Asked { service, status } = wait_for(service, &socket, context, "the guest is followed", follows)?;
    ensure!(status.pid != first.status.pid, "the first service still answers");
    ensure!(status.follows.is_some_and(|it| it.vcpu_threads >= VCPUS), "{:?}", status.follows);
    threads(context, &socket)?;
    let refused = ask(context, &socket, Some(NOBODY))?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(1) && said.contains("its group may ask"),
        "to nobody it says: {said}"
    );
    let (service, runs) = programs(service, &socket, context, &status)?;
    let page = ask(context, &socket, None)?;
    let page = String::from_utf8(page.stdout)?;
    ensure!(page.starts_with("hvsampler ") && page.contains("\nthreads "), "{page}");
    service.stop()?;
    ensure!(!socket.exists(), "the service ended, and its socket is still there");
    Ok(Outcome::Passed(format!("{} threads as the kernel says; {runs}", status.cost.threads.len())))
}

struct Asked {
    service: Daemon,
    status: Status,
}

fn start(context: &Context, socket: &Path) -> anyhow::Result<Daemon> {
    let directory = context.directory();
    let config = directory.join("config.toml");
    let (lock, socket) = (directory.join("lock"), socket.display());
    let files = format!("lock_file = '{}'\nstatus_socket = '{socket}'\n", lock.display());
    fs::write(&config, format!("interval = '200ms'\nstart_delay = '0s'\n{files}"))?;
    let mut command = Command::new(context.binary("hvsampler")?);
    command.args(["run", "--config"]).arg(&config).env("OTEL_SDK_DISABLED", "true");
    Daemon::start("hvsampler", command, directory)
}

/// The page, as another user where one is given.
fn ask(context: &Context, socket: &Path, user: Option<u32>) -> anyhow::Result<Output> {
    // By its descriptor: that user may not look into the directory that it is in.
    let binary = File::open(context.binary("hvsampler")?)?;
    let mut command = Command::new(format!("/proc/self/fd/{}", binary.as_raw_fd()));
    command.args(["status", "--socket"]).arg(socket);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    Ok(command.output()?)
}

fn status(context: &Context, socket: &Path) -> anyhow::Result<Option<Status>> {
    let output = Command::new(context.binary("hvsampler")?)
        .args(["status", "--json", "--socket"])
        .arg(socket)
        .output()?;
    if !output.status.success() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&output.stdout)?))
}

fn wait_for(
    mut service: Daemon,
    socket: &Path,
    context: &Context,
    what: &str,
    wanted: impl Fn(&Status) -> bool,
) -> anyhow::Result<Asked> {
    let mut found = None;
    service.wait_until(what, |_| {
        found = status(context, socket)?.filter(&wanted);
        Ok(found.is_some())
    })?;
    Ok(Asked { service, status: found.context("no answer")? })
}

/// CPU time of each thread lies between two readings of the kernel's file around the answer.
fn threads(context: &Context, socket: &Path) -> anyhow::Result<()> {
    let pid = status(context, socket)?.context("no answer")?.pid;
    let before = counted(pid)?;
    let status = status(context, socket)?.context("no answer")?;
    let after = counted(pid)?;
    let mut compared = 0;
    for thread in &status.cost.threads {
        // One that was started or has ended in between is in one reading alone.
        let (Some(from), Some(to)) = (before.get(&thread.tid), after.get(&thread.tid)) else { continue };
        ensure!((*from..=*to).contains(&thread.cpu_ns), "{thread:?} is not in {from}..={to}");
        compared += 1;
    }
    ensure!(compared > 1 && status.cost.threads.iter().any(|thread| thread.name == "sampling"), "{status:?}");
    Ok(())
}

fn counted(pid: u32) -> anyhow::Result<BTreeMap<u32, u64>> {
    let mut counted = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let tid: u32 = task?.file_name().to_string_lossy().parse()?;
        match Schedstat::of(pid, tid) {
            Ok(counts) => {
                counted.insert(tid, counts.run_ns);
            }
            // It has ended.
            Err(OracleError::Read { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(counted)
}

/// Runs of programs are absent until the kernel counts them, and then they grow.
fn programs(
    service: Daemon,
    socket: &Path,
    context: &Context,
    before: &Status,
) -> anyhow::Result<(Daemon, String)> {
    let programs = &before.cost.programs;
    ensure!(!programs.loaded.is_empty(), "no program is loaded");
    let is_on = programs.counting == Some(true);
    ensure!(is_on != programs.fix.is_some(), "{programs:?}");
    let are_absent = programs.loaded.iter().all(|program| program.runs.is_none());
    ensure!(is_on || are_absent, "nobody has them counted: {programs:?}");
    let _counting = enable_stats(Stats::RunTime).context("BPF_ENABLE_STATS")?;
    let runs = |status: &Status| {
        let of = |program: &&ProgramCost| program.name.starts_with(SWITCHES) && program.runs > Some(0);
        status.cost.programs.loaded.iter().find(of).cloned()
    };
    let Asked { service, status } =
        wait_for(service, socket, context, "switches are counted", |status| runs(status).is_some())?;
    let switches = runs(&status).context("no switch")?;
    let (count, time_ns) = switches.runs.zip(switches.time_ns).context("no switch")?;
    let each = time_ns.checked_div(count).unwrap_or_default();
    // Less than a millisecond, and no clock's resolution.
    ensure!((1..1_000_000).contains(&each), "a run of {} takes {each} ns: {switches:?}", switches.name);
    Ok((service, format!("{}: {count} runs of {each} ns", switches.name)))
}
