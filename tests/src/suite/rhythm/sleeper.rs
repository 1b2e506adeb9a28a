//! A VMM that sleeps uninterruptibly, and whose command line cannot be read.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::agent::Schedule;
use hvsampler::model::{Blocked, Snapshot, State};
use rustix::process::{Signal, kill_process};

use super::super::agent::{Agent, schedule};
use super::super::sampler;
use super::{is_named, of_process, watch};
use crate::guest::{Guest, GuestConfig};
use crate::host::{self, Storage, own_mounts};
use crate::oracle::{TaskStat, TaskState, threads};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// So long that a busy machine, too, skips none.
const INTERVAL: Duration = Duration::from_secs(2);
/// All guests are asked about again this often.
const ASKED: Duration = Duration::from_secs(1);
const SNAPSHOTS: u64 = 3;
/// Time for a thread to fall asleep.
const SOON: Duration = Duration::from_secs(20);
const TURNS: Load = Load::Half { burn: Duration::from_millis(1), sleep: Duration::from_millis(2) };
/// Who sleeps all the time may be seen awake for so much of an interval: its clock is some microseconds old.
const AWAKE: f64 = 0.001;

/// What hangs and who waits for it. The storage goes first: then all others can end.
struct Scene {
    storage: Storage,
    looks: Option<Child>,
    hangs: Guest,
    busy: Guest,
}

/// A VMM reads memory in a file whose storage hangs. Somebody else looks there too, and so holds the lock of
/// the VMM's memory; one of the VMM's threads waits for this lock to have more memory, and behind that thread
/// whoever wants to read the command line.
pub(super) fn a_vmm(context: &Context) -> anyhow::Result<Outcome> {
    own_mounts()?;
    let storage = Storage::mount(&context.directory().join("storage"))?;
    let binary = context.binary("tiny-vmm")?;
    let reads =
        GuestConfig { reads: Some(storage.file()), io_threads: 1, ..GuestConfig::new("sleeper", 2, TURNS) };
    let hangs = Guest::start(&binary, &reads)?;
    let busy = Guest::start(&binary, &GuestConfig::new("busy", 1, Load::Busy))?;
    let mut scene = Scene { storage, looks: None, hangs, busy };
    let schedule = Schedule { discovery_interval: ASKED, ..schedule(INTERVAL) };
    let agent = Agent::start(sampler::start()?, schedule)?;
    let (pid, busy) = (scene.hangs.pid(), scene.busy.pid());
    agent.until("both guests have names", |snapshot| {
        is_named(snapshot, pid, "sleeper") && is_named(snapshot, busy, "busy")
    })?;
    let asked = scene.fall_asleep()?;
    let later = Guest::start(&binary, &GuestConfig::new("later", 1, Load::Busy))?;
    agent.until("a guest that comes later has a name, and a question hangs", |snapshot| {
        is_named(snapshot, later.pid(), "later") && snapshot.sampler.questions_waiting > 0
    })?;
    let mut reasons = String::new();
    let kept = watch(&agent, SNAPSHOTS, |snapshot| {
        reasons = sleeps(snapshot, pid)?;
        ensure!(snapshot.sampler.questions_waiting > 0, "the question that hung was answered");
        [busy, later.pid()].into_iter().try_for_each(|pid| runs(snapshot, pid))
    })?;
    ensure!(!asked.is_finished(), "the command line could be read");
    scene.storage.go_on()?;
    let cmdline = asked.join().ok().context("who reads the command line panicked")??;
    ensure!(!cmdline.is_empty(), "the command line is empty");
    agent.until("the VMM goes on, and all questions are answered", |snapshot| {
        runs(snapshot, pid).is_ok() && snapshot.sampler.questions_waiting == 0
    })?;
    agent.stop()?;
    Ok(Outcome::Passed(format!("{reasons}, its command line not to be read; {kept}")))
}

impl Scene {
    /// Returns who reads the VMM's command line.
    fn fall_asleep(&mut self) -> anyhow::Result<JoinHandle<std::io::Result<Vec<u8>>>> {
        let pid = self.hangs.pid();
        // Later nobody can read it.
        let address = address(pid, &self.storage.file())?;
        let io = threads(pid)?.into_iter().find(|(_, name)| name.starts_with("IO thread"));
        let (io, _) = io.context("the VMM has no I/O thread")?;
        self.storage.hang()?;
        self.hangs.tids().into_iter().try_for_each(|tid| sleeps_soon(pid, tid))?;
        let looks = look_into(pid, address)?;
        let looking = looks.id();
        self.looks = Some(looks);
        sleeps_soon(looking, looking)?;
        kill_process(host::pid(pid).context("no process id")?, Signal::USR1)?;
        sleeps_soon(pid, io)?;
        Ok(thread::spawn(move || fs::read(format!("/proc/{pid}/cmdline"))))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // It ends once nothing hangs any more.
        let _ = self.storage.go_on();
        if let Some(mut looks) = self.looks.take() {
            let _ = looks.kill();
            let _ = looks.wait();
        }
    }
}

/// Where a process has a file in its memory.
fn address(pid: u32, file: &Path) -> anyhow::Result<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let file = file.to_string_lossy();
    let line = maps.lines().find(|line| line.ends_with(&*file)).context("the file is not mapped")?;
    Ok(u64::from_str_radix(line.split('-').next().unwrap_or_default(), 16)?)
}

/// A process that reads a byte of another's memory, as a debugger does. This one must not: nothing ends it
/// before the storage answers.
fn look_into(pid: u32, address: u64) -> anyhow::Result<Child> {
    let mut command = Command::new("dd");
    command.args([format!("if=/proc/{pid}/mem"), format!("skip={address}"), "of=/dev/null".to_owned()]);
    command.args(["bs=1", "count=1", "status=none"]);
    Ok(command.stdin(Stdio::null()).spawn()?)
}

/// Waits until a thread sleeps uninterruptibly.
fn sleeps_soon(pid: u32, tid: u32) -> anyhow::Result<()> {
    let end = Instant::now() + SOON;
    while TaskStat::of(pid, tid)?.state != TaskState::Uninterruptible {
        ensure!(Instant::now() < end, "thread {tid} of process {pid} does not sleep uninterruptibly");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// That a process's vCPUs were blocked all the time, and why.
fn sleeps(snapshot: &Snapshot, pid: u32) -> anyhow::Result<String> {
    let vm = of_process(snapshot, pid).context("the VMM that sleeps is missing")?;
    ensure!(vm.vcpus.len() == 2 && is_named(snapshot, pid, "sleeper"), "not all of it is shown: {vm:?}");
    let mut reasons = [0; 2];
    for vcpu in &vm.vcpus {
        let interval = vcpu.interval.context("a vCPU that sleeps was not read")?;
        let blocked = interval.states.get(State::Blocked).unwrap_or_default();
        let awake = interval.wall_ns.abs_diff(blocked) as f64;
        ensure!(awake <= interval.wall_ns as f64 * AWAKE, "it was awake for {awake} ns: {interval:?}");
        for (sum, reason) in reasons.iter_mut().zip([Blocked::VmmIo, Blocked::Vmm]) {
            *sum += interval.blocked.get(reason);
        }
    }
    let [with_io, without] = reasons.map(|ns| ns as f64 / 1e9);
    Ok(format!(
        "two vCPUs blocked all the time, in the last interval {with_io:.2} s for I/O and {without:.2} s not"
    ))
}

/// That a process's vCPUs have run in the interval, or wanted to.
fn runs(snapshot: &Snapshot, pid: u32) -> anyhow::Result<()> {
    let vm = of_process(snapshot, pid).with_context(|| format!("the VMM {pid} is missing"))?;
    let intervals = vm.vcpus.iter().filter_map(|vcpu| vcpu.interval);
    let runnable_ns: u64 = intervals.map(|interval| interval.run_ns + interval.run_delay_ns).sum();
    ensure!(runnable_ns > 0, "the VMM {pid} does not run: {vm:?}");
    Ok(())
}
