//! The demo guests: they show what they should, and go when they should.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Signal, kill_process};

use crate::host;
use crate::oracle::{self, Schedstat, TaskStat};
use crate::runner::{Context, Outcome};

const LIMIT: Duration = Duration::from_secs(15);
const NAMES: [&str; 4] = ["demo-busy", "demo-fight", "demo-half", "demo-halted"];

pub(super) fn starts_and_stops(context: &Context) -> anyhow::Result<Outcome> {
    let (mut demo, guests) = start(context)?;
    let steal = fight_share(&guests)?;
    context.detail(format!("the vCPUs of demo-fight waited {:.0} % and {:.0} %", steal[0], steal[1]));
    ensure!(steal.iter().all(|&share| share > 35.0), "demo-fight does not show steal: {steal:?} %");
    signal(&demo, Signal::TERM)?;
    ensure!(host::ends_within(&demo, LIMIT)?, "demo-guests does not end on SIGTERM");
    let status = demo.wait()?;
    ensure!(status.success(), "demo-guests ended with {status}");
    all_gone(&guests).context("after SIGTERM")?;

    let (mut demo, guests) = start(context)?;
    demo.kill()?;
    demo.wait()?;
    all_gone(&guests).context("after demo-guests was killed")?;

    let refused = refuses_without_kvm(context)?;
    Ok(Outcome::Passed(format!("four guests, {:.0} % and {:.0} % steal; {refused}", steal[0], steal[1])))
}

fn start(context: &Context) -> anyhow::Result<(Child, Vec<(u32, String)>)> {
    let mut demo = Command::new(context.binary("demo-guests")?).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(demo.stdout.take().context("no output")?).read_line(&mut line)?;
    ensure!(line == "demo guests ready\n", "demo-guests said {line:?}");
    let mut guests = children(demo.id())?;
    guests.sort_by(|one, other| one.1.cmp(&other.1));
    let names: Vec<&str> = guests.iter().map(|(_, name)| name.as_str()).collect();
    ensure!(names == NAMES, "the guests are called {names:?}");
    Ok((demo, guests))
}

/// Process ids and guest names of a process's children.
fn children(parent: u32) -> anyhow::Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Processes come and go while the directory is read.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        if status.lines().any(|line| line.strip_prefix("PPid:\t") == Some(&parent.to_string())) {
            found.push((pid, name(pid)?));
        }
    }
    Ok(found)
}

fn name(pid: u32) -> anyhow::Result<String> {
    let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
    let name = arguments.split('\0').find_map(|argument| argument.strip_prefix("guest="));
    Ok(name.and_then(|name| name.split(',').next()).context("a guest without a name")?.to_owned())
}

/// Share of the time, in percent, that each vCPU of demo-fight waits for its CPU.
fn fight_share(guests: &[(u32, String)]) -> anyhow::Result<Vec<f64>> {
    let fight = guests.iter().find(|(_, name)| name == "demo-fight").context("demo-fight is missing")?.0;
    let threads = oracle::threads(fight)?.into_iter();
    let vcpus: Vec<u32> = threads.filter(|(_, name)| name.ends_with("/KVM")).map(|(tid, _)| tid).collect();
    ensure!(vcpus.len() == 2, "demo-fight has {} vCPUs", vcpus.len());
    let waited = |tid: &u32| Ok(Schedstat::of(fight, *tid)?.run_delay_ns);
    let begin = Instant::now();
    let before = vcpus.iter().map(waited).collect::<anyhow::Result<Vec<u64>>>()?;
    thread::sleep(Duration::from_secs(2));
    let after = vcpus.iter().map(waited).collect::<anyhow::Result<Vec<u64>>>()?;
    let wall = begin.elapsed().as_nanos() as f64;
    Ok(before.iter().zip(&after).map(|(before, after)| (after - before) as f64 / wall * 100.0).collect())
}

fn all_gone(guests: &[(u32, String)]) -> anyhow::Result<()> {
    let end = Instant::now() + LIMIT;
    for (pid, name) in guests {
        // A pid used again would be another process: then the start differs, which this test is too short
        // for.
        while TaskStat::of_process(*pid).is_ok() {
            ensure!(Instant::now() < end, "{name} (process {pid}) is still there");
            thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

fn signal(child: &Child, signal: Signal) -> anyhow::Result<()> {
    let pid = host::pid(child.id()).context("no process id")?;
    Ok(kill_process(pid, signal)?)
}

/// A user who may not open `/dev/kvm` gets status 3 and one line.
fn refuses_without_kvm(context: &Context) -> anyhow::Result<String> {
    const NOBODY: u32 = 65534;
    const EVERYBODY: u32 = 0o006;
    if fs::metadata("/dev/kvm")?.permissions().mode() & EVERYBODY != 0 {
        context.detail("not checked: refusal without /dev/kvm, because everybody may open it here");
        return Ok("refusal not checked, /dev/kvm is open to everybody".to_owned());
    }
    // Where the binary lies may be closed to others.
    let directory = context.directory();
    let binary = directory.join("demo-guests");
    fs::copy(context.binary("demo-guests")?, &binary)?;
    for open in [Some(directory), directory.parent()].into_iter().flatten() {
        fs::set_permissions(open, fs::Permissions::from_mode(0o755))?;
    }
    let output = Command::new(&binary).uid(NOBODY).gid(NOBODY).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() != Some(3) || said.lines().count() != 1 || !said.contains("/dev/kvm") {
        bail!("without /dev/kvm it ended with {} and said {said:?}", output.status);
    }
    Ok("status 3 without /dev/kvm".to_owned())
}
