//! The steal that a Linux guest reads in its own `/proc/stat` is the run delay that the sampler counts for
//! it.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hvsampler::model::Counter;
use hvsampler::source::Kvm;

use super::linux_guest::{LinuxGuest, LinuxGuestConfig};
use super::sampler;
use crate::host::CpuList;
use crate::oracle::GuestStat;
use crate::runner::{Context, Outcome};
use crate::vmm::{Load, VcpuConfig, Vm, VmConfig};

pub(super) const LIMIT: Duration = Duration::from_secs(240);
/// What the guest does: burn, then sleep and print what it has counted; twice, so that differences are
/// compared as well.
const PHASES: &str = "phases=busy:4,idle:2,busy:4,idle:2";
const FIGHT: Duration = Duration::from_secs(2);
/// A guest's clock tick, 100 a second.
const TICK_NS: i64 = 10_000_000;
const TOLERANCE_TICKS: i64 = 2;
/// Less steal than this would be equal by chance.
const WORTH_COMPARING_NS: u64 = 500_000_000;

pub(super) fn guest_steal(context: &Context) -> anyhow::Result<Outcome> {
    let mut source = sampler::start()?;
    let config = LinuxGuestConfig { name: "steal".into(), uuid: None, vcpus: 1, does: PHASES, devices: &[] };
    let mut guests = LinuxGuest::start(&[config])?;
    let guest = &mut guests[0];
    let threads = guest.threads();
    sampler::follow(&mut source, &threads)?;
    let tid = threads[0].tid;
    let cpus = CpuList::allowed().context("cannot read the allowed CPUs")?;
    let cpu = CpuList::one(cpus.numbers()[0])?;
    guest.pin(&cpu)?;
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

fn run_delay(source: &mut Kvm, tid: u32) -> anyhow::Result<u64> {
    sampler::identify(source);
    let snapshot = source.snapshot()?;
    let vcpu = snapshot.vms.iter().flat_map(|vm| &vm.vcpus).find(|vcpu| vcpu.tid == Some(tid));
    Ok(vcpu.context("the guest's vCPU is not in the snapshot")?.counters[Counter::RunDelay as usize])
}
