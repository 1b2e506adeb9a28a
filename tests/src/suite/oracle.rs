//! The kernel's numbers agree with themselves: the comparisons rely on it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

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

/// A thread's counts just after it was given its CPU: the wait before is credited then, and no other has
/// begun.
struct Arrival {
    at: Instant,
    schedstat: Schedstat,
    switches: Switches,
}

/// Waits for the thread's next arrival.
fn arrival(tid: u32) -> anyhow::Result<Arrival> {
    const LIMIT: Duration = Duration::from_secs(30);
    /// This thread has to wait for a CPU as well. What it saw late it did not see.
    const SHARP: Duration = Duration::from_millis(5);
    let (begin, file) = (Instant::now(), SchedstatFile::open(std::process::id(), tid)?);
    let (mut looked, mut last) = (Instant::now(), file.read()?);
    while begin.elapsed() < LIMIT {
        thread::sleep(Duration::from_micros(200));
        let schedstat = file.read()?;
        let at = Instant::now();
        if schedstat.timeslices > last.timeslices && at.duration_since(looked) < SHARP {
            return Ok(Arrival { at, schedstat, switches: Switches::of(std::process::id(), tid)? });
        }
        (looked, last) = (at, schedstat);
    }
    bail!("thread {tid} was never seen to arrive on its CPU")
}

/// Two busy vCPUs on one CPU: each waits while the other runs, and neither sleeps.
fn fight(context: &Context) -> anyhow::Result<String> {
    let cpus = CpuList::allowed().context("cannot read the allowed CPUs")?;
    let cpu = CpuList::one(*cpus.numbers().last().context("no CPU is allowed")?)?;
    let vcpu = |id| VcpuConfig { cpus: Some(cpu.clone()), ..VcpuConfig::new(id, Load::Busy) };
    let vm = Vm::start(&VmConfig { vcpus: vec![vcpu(0), vcpu(1)], ..VmConfig::default() })?;
    let before = vm.tids().into_iter().map(arrival).collect::<Result<Vec<_>, _>>()?;
    thread::sleep(LENGTH);
    let after = vm.tids().into_iter().map(arrival).collect::<Result<Vec<_>, _>>()?;
    vm.stop()?;
    let mut ran = 0.0;
    for (before, after) in before.iter().zip(&after) {
        let wall = after.at.duration_since(before.at).as_nanos() as f64;
        let run = (after.schedstat.run_ns - before.schedstat.run_ns) as f64 / wall;
        let delay = (after.schedstat.run_delay_ns - before.schedstat.run_delay_ns) as f64 / wall;
        context.detail(format!("ran {:.1} %, waited {:.1} %", run * 100.0, delay * 100.0));
        // The scheduler's clock and ours go apart where the machine itself has to wait, most in an emulated
        // one.
        ensure!((0.8..1.1).contains(&(run + delay)), "run and wait come to {:.3} of the time", run + delay);
        ensure!(delay > 0.25, "it waited only {:.1} % of the time", delay * 100.0);
        let left = total(after.switches) - total(before.switches);
        let arrived = after.schedstat.timeslices - before.schedstat.timeslices;
        ensure!(left.abs_diff(arrived) <= 1, "it left its CPU {left} times and came back {arrived} times");
        ran += run;
    }
    ensure!(ran < 1.1, "two threads ran {ran:.3} of the time of one CPU");
    Ok(format!("two vCPUs on one CPU ran {:.1} % of the time", ran * 100.0))
}

fn total(switches: Switches) -> u64 {
    switches.voluntary + switches.involuntary
}

fn sleeping_threads_stand_still() -> anyhow::Result<u32> {
    const LOOKS: u32 = 1000;
    let vm = Vm::start(&VmConfig::uniform(1, Load::Halt))?;
    // It has run; let it come to rest. A tenth of a second after a vCPU's creation KVM kicks all vCPUs once
    // more, to bring their clocks in line (KVMCLOCK_UPDATE_DELAY), and on an emulated machine that may be
    // late.
    thread::sleep(Duration::from_millis(600));
    let file = SchedstatFile::open(std::process::id(), vm.tids()[0])?;
    let first = file.read()?;
    for look in 0..LOOKS {
        let now = file.read()?;
        ensure!(now == first, "a halted vCPU's counts moved from {first:?} to {now:?} by look {look}");
    }
    vm.stop()?;
    Ok(LOOKS)
}
