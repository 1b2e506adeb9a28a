//! Guests do what their loads say: every other test relies on it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::host::CpuList;
use crate::oracle::Schedstat;
use crate::runner::{Context, Outcome};
use crate::vmm::{HaltIn, Load, VcpuConfig, Vm, VmConfig};

const LENGTH: Duration = Duration::from_secs(1);

/// What a vCPU's thread did in a while, as shares of that while.
struct Shares {
    run: f64,
    delay: f64,
    exits: u64,
}

impl Shares {
    fn asleep(&self) -> f64 {
        1.0 - self.run - self.delay
    }
}

pub(super) fn loads_behave(context: &Context) -> anyhow::Result<Outcome> {
    let length = Duration::from_millis(1);
    let half = Load::Half { burn: length, sleep: length };
    let mix = Load::Mix { burn: length, sleep: length };
    for halt_in in [HaltIn::Kernel, HaltIn::UserSpace] {
        for load in [Load::Busy, half, Load::Halt, Load::Io, mix] {
            let shares = measure(load, halt_in)?;
            let Shares { run, delay, exits } = shares;
            context.detail(format!(
                "{load}, halts in {halt_in:?}: ran {:.1} %, waited {:.1} %, {exits} exits",
                run * 100.0,
                delay * 100.0,
            ));
            judge(load, &shares).with_context(|| format!("load {load}, halts in {halt_in:?}"))?;
        }
    }
    Ok(Outcome::Passed("busy, half, halt, io and mix, halting in the kernel and in the VMM".to_owned()))
}

/// The bounds are wide: they tell loads apart, on a machine that does other things as well.
fn judge(load: Load, shares: &Shares) -> anyhow::Result<()> {
    let Shares { run, delay, exits } = *shares;
    let asleep = shares.asleep();
    match load {
        Load::Busy => {
            ensure!(run + delay > 0.95, "it slept {:.1} % of the time", asleep * 100.0);
            ensure!(run > 0.05, "it ran only {:.1} % of the time", run * 100.0);
            ensure!(exits == 0, "it left the guest {exits} times");
        }
        Load::Io => {
            ensure!(run + delay > 0.95, "it slept {:.1} % of the time", asleep * 100.0);
            ensure!(exits > 1000, "it left the guest only {exits} times");
        }
        Load::Halt => {
            ensure!(run + delay < 0.02, "it was awake {:.1} % of the time", (run + delay) * 100.0);
            ensure!(exits == 0, "it left the guest {exits} times");
        }
        Load::Half { .. } | Load::Mix { .. } => {
            let busy = run / (run + asleep);
            ensure!((0.25..0.75).contains(&busy), "it was busy {:.1} % of the time it had", busy * 100.0);
            ensure!(exits > 50, "it left the guest only {exits} times");
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
        run: share(after.0.run_ns, before.0.run_ns),
        delay: share(after.0.run_delay_ns, before.0.run_delay_ns),
        exits: after.1 - before.1,
    })
}

fn observe(vm: &Vm, tid: u32) -> anyhow::Result<(Schedstat, u64)> {
    Ok((Schedstat::of(std::process::id(), tid)?, vm.vcpus()[0].exits))
}
