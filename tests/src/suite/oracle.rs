//! The kernel's numbers agree with themselves: the comparisons rely on it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::host::CpuList;
use crate::oracle::{Schedstat, SchedstatFile, Switches};
use crate::runner::{Context, Outcome};
use crate::vmm::{Load, VcpuConfig, Vm, VmConfig};

const LENGTH: Duration = Duration::from_secs(2);

pub(super) fn schedstat_consistent(context: &Context) -> anyhow::Result<Outcome> {
    let fight = fight(context)?;
    let looks = sleeping_threads_stand_still()?;
    Ok(Outcome::Passed(format!("{fight}; {looks} looks at a halted vCPU, all the same")))
}

#[derive(Clone, Copy)]
struct Counts {
    schedstat: Schedstat,
    switches: Switches,
}

fn counts(tid: u32) -> anyhow::Result<Counts> {
    let pid = std::process::id();
    Ok(Counts { schedstat: Schedstat::of(pid, tid)?, switches: Switches::of(pid, tid)? })
}

/// Two busy vCPUs on one CPU: what one gets the other is denied.
fn fight(context: &Context) -> anyhow::Result<String> {
    let cpus = CpuList::allowed().context("cannot read the allowed CPUs")?;
    let cpu = CpuList::one(*cpus.numbers().last().context("no CPU is allowed")?)?;
    let vcpu = |id| VcpuConfig { cpus: Some(cpu.clone()), nice: -20, ..VcpuConfig::new(id, Load::Busy) };
    let vm = Vm::start(&VmConfig { vcpus: vec![vcpu(0), vcpu(1)], ..VmConfig::default() })?;
    let begin = Instant::now();
    let before = vm.tids().into_iter().map(counts).collect::<Result<Vec<_>, _>>()?;
    thread::sleep(LENGTH);
    let after = vm.tids().into_iter().map(counts).collect::<Result<Vec<_>, _>>()?;
    let wall = begin.elapsed().as_nanos() as f64;
    vm.stop()?;
    let mut ran = 0.0;
    for (before, after) in before.iter().zip(&after) {
        let run = (after.schedstat.run_ns - before.schedstat.run_ns) as f64 / wall;
        let delay = (after.schedstat.run_delay_ns - before.schedstat.run_delay_ns) as f64 / wall;
        context.detail(format!("ran {:.1} %, waited {:.1} %", run * 100.0, delay * 100.0));
        // A wait that goes on is not in the count yet, and the run time lags by a tick.
        ensure!((0.9..1.1).contains(&(run + delay)), "run and wait come to {:.3} of the time", run + delay);
        ensure!(delay > 0.25, "it waited only {:.1} % of the time", delay * 100.0);
        let left = total(after.switches) - total(before.switches);
        let arrived = after.schedstat.timeslices - before.schedstat.timeslices;
        ensure!(left.abs_diff(arrived) <= 1, "it left its CPU {left} times and came back {arrived} times");
        ran += run;
    }
    ensure!(ran < 1.02, "two threads ran {ran:.3} of the time of one CPU");
    Ok(format!("two vCPUs on one CPU ran {:.1} % of the time", ran * 100.0))
}

fn total(switches: Switches) -> u64 {
    switches.voluntary + switches.involuntary
}

fn sleeping_threads_stand_still() -> anyhow::Result<u32> {
    const LOOKS: u32 = 1000;
    let vm = Vm::start(&VmConfig::uniform(1, Load::Halt))?;
    // It has run; let it come to rest.
    thread::sleep(Duration::from_millis(100));
    let file = SchedstatFile::open(std::process::id(), vm.tids()[0])?;
    let first = file.read()?;
    for look in 0..LOOKS {
        let now = file.read()?;
        ensure!(now == first, "a halted vCPU's counts moved from {first:?} to {now:?} by look {look}");
    }
    vm.stop()?;
    Ok(LOOKS)
}
