//! Guests do what their loads say: every other test relies on it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::host::CpuList;
use crate::oracle::{Schedstat, Switches};
use crate::runner::{Context, Outcome};
use crate::vmm::{HaltIn, Load, VcpuConfig, Vm, VmConfig};

const LENGTH: Duration = Duration::from_secs(1);

/// What a vCPU's thread did in a while: shares of that while, and counts.
struct Shares {
    run: f64,
    delay: f64,
    exits: u64,
    sleeps: u64,
}

impl Shares {
    fn asleep(&self) -> f64 {
        (1.0 - self.run - self.delay).max(0.0)
    }
}

pub(super) fn loads_behave(context: &Context) -> anyhow::Result<Outcome> {
    let length = Duration::from_millis(1);
    let half = Load::Half { burn: length, sleep: length };
    let mix = Load::Mix { burn: length, sleep: length };
    for halt_in in [HaltIn::Kernel, HaltIn::UserSpace] {
        for load in [Load::Busy, half, Load::Halt, Load::Io, mix] {
            let shares = measure(load, halt_in)?;
            let Shares { run, delay, exits, sleeps } = shares;
            context.detail(format!(
                "{load}, halts in {halt_in:?}: ran {:.1} %, waited {:.1} %, {exits} exits, {sleeps} sleeps",
                run * 100.0,
                delay * 100.0,
            ));
            judge(load, &shares).with_context(|| format!("load {load}, halts in {halt_in:?}"))?;
        }
    }
    Ok(Outcome::Passed("busy, half, halt, io and mix, halting in the kernel and in the VMM".to_owned()))
}

/// The bounds are wide: they distinguish loads on a machine that does other things as well, emulated ones
/// included.
fn judge(load: Load, shares: &Shares) -> anyhow::Result<()> {
    let Shares { run, delay, exits, sleeps } = *shares;
    match load {
        Load::Busy | Load::Io => {
            ensure!(sleeps <= 5, "it slept {sleeps} times");
            ensure!(run > 0.05, "it ran only {:.1} % of the time", run * 100.0);
            ensure!((exits > 500) == (load == Load::Io), "it left the guest {exits} times");
        }
        Load::Halt => {
            ensure!(run + delay < 0.02, "it was awake {:.1} % of the time", (run + delay) * 100.0);
            ensure!(exits == 0, "it left the guest {exits} times");
        }
        Load::Half { .. } | Load::Mix { .. } => {
            let busy = run / (run + shares.asleep());
            ensure!((0.15..0.85).contains(&busy), "it was busy {:.1} % of the time it had", busy * 100.0);
            ensure!(exits > 20 && sleeps > 20, "it left the guest {exits} times and slept {sleeps} times");
        }
    }
    Ok(())
}

fn measure(load: Load, halt_in: HaltIn) -> anyhow::Result<Shares> {
    let cpus = CpuList::allowed().context("cannot read the allowed CPUs")?;
    let cpu = *cpus.numbers().last().context("no CPU is allowed")?;
    let vcpu = VcpuConfig { cpus: Some(CpuList::one(cpu)?), nice: -20, ..VcpuConfig::new(0, load) };
    let vm = Vm::start(&VmConfig { vcpus: vec![vcpu], halt_in, ..VmConfig::default() })?;
    let tid = vm.tids()[0];
    // The pacing of loads that burn has to find out first how fast this CPU is.
    thread::sleep(LENGTH / 4);
    let (begin, before) = (Instant::now(), observe(&vm, tid)?);
    thread::sleep(LENGTH);
    let (after, wall) = (observe(&vm, tid)?, begin.elapsed().as_nanos() as f64);
    vm.stop()?;
    let share = |after: u64, before: u64| (after - before) as f64 / wall;
    Ok(Shares {
        run: share(after.schedstat.run_ns, before.schedstat.run_ns),
        delay: share(after.schedstat.run_delay_ns, before.schedstat.run_delay_ns),
        exits: after.exits - before.exits,
        sleeps: after.switches.voluntary - before.switches.voluntary,
    })
}

struct Counts {
    schedstat: Schedstat,
    switches: Switches,
    exits: u64,
}

fn observe(vm: &Vm, tid: u32) -> anyhow::Result<Counts> {
    let pid = std::process::id();
    let (schedstat, switches) = (Schedstat::of(pid, tid)?, Switches::of(pid, tid)?);
    Ok(Counts { schedstat, switches, exits: vm.vcpus()[0].exits })
}
