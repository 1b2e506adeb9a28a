//! A guest as operators run them: Linux in QEMU, with the lab's init as its only program.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Signal, kill_process};

use crate::exactness::Thread;
use crate::guest::strays;
use crate::host::{CpuList, pid, pin};
use crate::oracle::{self, TaskStat, TaskState};
use crate::runner::{Disturbed, Need};

/// What a test with such guests cannot do without.
pub(super) const NEEDS: &[Need] = &[Need::Kvm, Need::Bpf, Need::Qemu, Need::InnerGuest];
/// Time for a guest to boot on an emulated machine that is busy.
const BOOT: Duration = Duration::from_secs(120);

/// A guest to be.
#[derive(Clone, Debug)]
pub(super) struct LinuxGuestConfig {
    /// Its name, as `-name guest=` gets it: any bytes; a comma is doubled for QEMU.
    pub(super) name: OsString,
    /// Its UUID, where it is to have one.
    pub(super) uuid: Option<&'static str>,
    /// Number of vCPUs.
    pub(super) vcpus: u32,
    /// What its init does: words of the kernel's command line.
    pub(super) does: &'static str,
    /// Further arguments for QEMU.
    pub(super) devices: &'static [&'static str],
}

/// QEMU with a guest that has booted. Dropping it kills it.
#[derive(Debug)]
pub(super) struct LinuxGuest {
    qemu: Child,
    console: Receiver<String>,
    vcpus: Vec<u32>,
}

impl LinuxGuest {
    /// Starts the guests side by side and waits until all have booted.
    pub(super) fn start(configs: &[LinuxGuestConfig]) -> anyhow::Result<Vec<Self>> {
        let started: Result<Vec<_>, _> = configs.iter().map(Self::spawn).collect();
        let mut guests = started?;
        for (guest, config) in guests.iter_mut().zip(configs) {
            let ready = |line: &str| line.contains("GUEST ready").then_some(());
            if let Err(error) = guest.wait_for(BOOT, ready) {
                return Err(Disturbed(format!("a Linux guest did not boot: {error:#}")).into());
            }
            guest.vcpus = vcpu_threads(guest.pid())?;
            let found = guest.vcpus.len();
            if let Some(status) = guest.qemu.try_wait()? {
                return Err(
                    Disturbed(format!("QEMU ended by itself ({status}) once its guest had booted")).into()
                );
            }
            ensure!(found == config.vcpus as usize, "QEMU has {found} vCPU threads, not {}", config.vcpus);
        }
        Ok(guests)
    }

    /// The VMM's process id.
    pub(super) fn pid(&self) -> u32 {
        self.qemu.id()
    }

    /// Threads of its vCPUs, in the order of their numbers.
    pub(super) fn threads(&self) -> Vec<Thread> {
        self.vcpus.iter().map(|&tid| Thread { pid: self.pid(), tid }).collect()
    }

    /// Stops the whole process and waits until every vCPU thread has left its guest, or lets it go on.
    pub(super) fn set_stopped(&self, stopped: bool) -> anyhow::Result<()> {
        let process = pid(self.pid()).context("no process id")?;
        if !stopped {
            return Ok(kill_process(process, Signal::CONT)?);
        }
        kill_process(process, Signal::STOP)?;
        let end = Instant::now() + Duration::from_secs(20);
        for &tid in &self.vcpus {
            while TaskStat::of(self.pid(), tid)?.state != TaskState::Stopped {
                ensure!(Instant::now() < end, "vCPU thread {tid} does not stop");
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// Pins all vCPUs.
    pub(super) fn pin(&self, cpus: &CpuList) -> anyhow::Result<()> {
        Ok(self.vcpus.iter().try_for_each(|&tid| pin(tid, cpus))?)
    }

    /// The first line, from now on, of which `find` makes something.
    pub(super) fn wait_for<T>(
        &mut self,
        limit: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        let end = Instant::now() + limit;
        let mut last = String::new();
        loop {
            let line = match self.console.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the guest does not go on; its last line was {last:?}")
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("QEMU ended ({:?}); the guest's last line was {last:?}", self.qemu.try_wait()?)
                }
            };
            if let Some(found) = find(&line) {
                return Ok(found);
            }
            last = line;
        }
    }

    fn spawn(config: &LinuxGuestConfig) -> anyhow::Result<Self> {
        let variable = |name| std::env::var_os(name).with_context(|| format!("{name} is not set"));
        let mut append = OsString::from("console=ttyS0 quiet panic=-1 ");
        append.push(config.does);
        let mut name = OsString::from("guest=");
        name.push(&config.name);
        name.push(",debug-threads=on");
        let mut command = Command::new(variable("HVS_QEMU")?);
        command
            .args(["-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults", "-no-reboot"])
            .args(["-display", "none", "-serial", "stdio"])
            .args(["-smp", &config.vcpus.to_string()])
            .args(config.devices)
            .arg("-name")
            .arg(name)
            .arg("-kernel")
            .arg(variable("HVS_INNER_KERNEL")?)
            .arg("-initrd")
            .arg(variable("HVS_INNER_INITRD")?)
            .arg("-append")
            .arg(append)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(uuid) = config.uuid {
            command.args(["-uuid", uuid]);
        }
        let mut qemu = command.spawn().context("QEMU cannot be started")?;
        let output = BufReader::new(qemu.stdout.take().context("QEMU has no output")?);
        let (sender, console) = mpsc::channel();
        thread::spawn(move || {
            // Firmware and terminal settings may be any bytes.
            let lines = output.split(b'\n').map_while(Result::ok);
            let texts = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
            texts.map(|text| sender.send(text)).take_while(Result::is_ok).count()
        });
        Ok(Self { qemu, console, vcpus: Vec::new() })
    }
}

impl Drop for LinuxGuest {
    fn drop(&mut self) {
        if let Ok(Some(status)) = self.qemu.try_wait()
            && !status.success()
        {
            strays::note(format!("QEMU {} ended by itself ({status})", self.pid()));
        }
        // Both fail only when it has powered off and was reaped.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// QEMU names its threads `CPU N/KVM` when asked to.
fn vcpu_threads(pid: u32) -> anyhow::Result<Vec<u32>> {
    let index = |name: &str| name.strip_prefix("CPU ")?.split_once('/')?.0.parse::<u32>().ok();
    let threads = oracle::threads(pid)?.into_iter();
    let mut found: Vec<_> = threads.filter_map(|(tid, name)| Some((index(&name)?, tid))).collect();
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, tid)| tid).collect())
}
