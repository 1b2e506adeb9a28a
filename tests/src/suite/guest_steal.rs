//! The steal that a Linux guest reads in its own `/proc/stat` is the run delay that the sampler counts for it.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hvsampler::source::Kvm;
use sampler_ebpf::abi::Counter;

use super::sampler;
use crate::host::{CpuList, pin};
use crate::oracle::GuestStat;
use crate::runner::{Context, Outcome};
use crate::vmm::{Load, VcpuConfig, Vm, VmConfig};

pub(super) const LIMIT: Duration = Duration::from_secs(240);
/// What the guest does: burn, then sleep and print what it has counted; twice, so that differences are compared as well.
const PHASES: &str = "phases=busy:6,idle:3,busy:5,idle:3";
const FIGHT: Duration = Duration::from_secs(3);
/// A guest's clock tick, 100 a second.
const TICK_NS: i64 = 10_000_000;
const TOLERANCE_TICKS: i64 = 2;
/// Less steal than this would be equal by chance.
const WORTH_COMPARING_NS: u64 = 500_000_000;

pub(super) fn guest_steal(context: &Context) -> anyhow::Result<Outcome> {
    let mut source = sampler::start()?;
    let mut guest = LinuxGuest::start()?;
    guest.wait_for(Duration::from_secs(120), |line| line.contains("GUEST ready").then_some(()))?;
    let tid = vcpu_thread(&mut source, guest.pid())?;
    let cpus = CpuList::allowed().context("cannot read the allowed CPUs")?;
    let cpu = CpuList::one(cpus.numbers()[0])?;
    pin(tid, &cpu)?;
    let mut seen = Vec::new();
    for _ in 0..2 {
        fight(&cpu)?;
        let console = Path::new("the guest's console");
        let stat =
            guest.wait_for(Duration::from_secs(60), |line| GuestStat::parse(console, line).transpose())??;
        // The guest sleeps now and nobody competes with it: its run delay stands still.
        let ours = run_delay(&mut source, tid)?;
        let difference = i64::try_from(ours)? - i64::try_from(stat.ticks.steal)? * TICK_NS;
        context.detail(format!(
            "guest {} ticks of steal, sampler {:.1} ms: {:.1} ms apart",
            stat.ticks.steal,
            ours as f64 / 1e6,
            difference as f64 / 1e6
        ));
        ensure!(ours >= WORTH_COMPARING_NS, "the guest was hardly kept waiting: {ours} ns");
        ensure!(
            difference.abs() <= TOLERANCE_TICKS * TICK_NS,
            "the guest counts {} ticks of steal and the sampler {ours} ns",
            stat.ticks.steal
        );
        seen.push(format!("{} ticks and {:.1} ms", stat.ticks.steal, ours as f64 / 1e6));
    }
    Ok(Outcome::Passed(format!("guest and sampler: {}", seen.join(", then "))))
}

/// Two busy vCPUs take most of the CPU for a while.
fn fight(cpu: &CpuList) -> anyhow::Result<()> {
    let busy = |id| VcpuConfig { cpus: Some(cpu.clone()), ..VcpuConfig::new(id, Load::Busy) };
    let rivals = Vm::start(&VmConfig { vcpus: vec![busy(0), busy(1)], ..VmConfig::default() })?;
    thread::sleep(FIGHT);
    Ok(rivals.stop()?)
}

fn vcpu_thread(source: &mut Kvm, pid: u32) -> anyhow::Result<u32> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        sampler::identify(source);
        let snapshot = source.snapshot()?;
        if let Some(vm) = snapshot.vms.iter().find(|vm| vm.key.pid == pid) {
            ensure!(vm.vcpus.len() == 1, "the guest has {} vCPUs", vm.vcpus.len());
            return Ok(vm.vcpus[0].thread.tid);
        }
        ensure!(Instant::now() < end, "the sampler does not see the guest (process {pid})");
        thread::sleep(Duration::from_millis(50));
    }
}

fn run_delay(source: &mut Kvm, tid: u32) -> anyhow::Result<u64> {
    sampler::identify(source);
    let snapshot = source.snapshot()?;
    let vcpu = snapshot.vms.iter().flat_map(|vm| &vm.vcpus).find(|vcpu| vcpu.thread.tid == tid);
    Ok(vcpu.context("the guest's vCPU is not in the snapshot")?.counters[Counter::RunDelay as usize])
}

/// QEMU with the lab's guest. Dropping it kills it.
struct LinuxGuest {
    qemu: Child,
    console: Receiver<String>,
}

impl LinuxGuest {
    fn start() -> anyhow::Result<Self> {
        let variable = |name| std::env::var_os(name).with_context(|| format!("{name} is not set"));
        let mut append = OsString::from("console=ttyS0 quiet panic=-1 ");
        append.push(PHASES);
        let mut qemu = Command::new(variable("HVS_QEMU")?)
            .args(["-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", "256", "-nodefaults", "-no-reboot"])
            .args(["-display", "none", "-serial", "stdio", "-name", "guest=steal,debug-threads=on"])
            .arg("-kernel")
            .arg(variable("HVS_INNER_KERNEL")?)
            .arg("-initrd")
            .arg(variable("HVS_INNER_INITRD")?)
            .arg("-append")
            .arg(append)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("QEMU cannot be started")?;
        let output = BufReader::new(qemu.stdout.take().context("QEMU has no output")?);
        let (sender, console) = mpsc::channel();
        thread::spawn(move || {
            // Firmware and terminal settings may be any bytes.
            let lines = output.split(b'\n').map_while(Result::ok);
            let texts = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
            texts.map(|text| sender.send(text)).take_while(Result::is_ok).count()
        });
        Ok(Self { qemu, console })
    }

    fn pid(&self) -> u32 {
        self.qemu.id()
    }

    /// The first line, from now on, of which `find` makes something.
    fn wait_for<T>(&mut self, limit: Duration, find: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        let end = Instant::now() + limit;
        let mut last = String::new();
        loop {
            let Ok(line) = self.console.recv_timeout(end.saturating_duration_since(Instant::now())) else {
                bail!("the guest does not go on; its last line was {last:?}");
            };
            if let Some(found) = find(&line) {
                return Ok(found);
            }
            last = line;
        }
    }
}

impl Drop for LinuxGuest {
    fn drop(&mut self) {
        // Both fail only when it has powered off and was reaped.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
