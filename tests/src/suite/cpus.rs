//! CPUs beyond those of which the kernel said, when the programs were loaded, that they may come online.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::source::Kvm;
use sampler_ebpf::abi::{Counter, VcpuSlot};

use super::sampler::{self, SlotReader};
use super::states::threads_of;
use crate::exactness::Thread;
use crate::guest::{Ending, Guest, GuestConfig};
use crate::host::{CpuList, pin};
use crate::oracle::{Schedstat, Switches};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// Time for the test.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// Time in which the threads switch.
const INTERVAL: Duration = Duration::from_millis(500);
/// Switches in that time that prove something.
const FEW: u64 = 20;
/// Time for a slot to become what the kernel has counted.
const PATIENCE: Duration = Duration::from_secs(10);
const LOAD: Load = Load::Half { burn: Duration::from_millis(2), sleep: Duration::from_millis(5) };

/// Each switch on such a CPU is counted, and no other. Elsewhere all is counted as ever, and a thread that
/// comes back from there is exact from its next switch on.
pub(super) fn beyond_what_the_kernel_said(context: &Context) -> anyhow::Result<Outcome> {
    let allowed = CpuList::allowed()?;
    let (Some(&known), Some(&beyond)) = (allowed.numbers().first(), allowed.numbers().last()) else {
        anyhow::bail!("there is no CPU to run on");
    };
    let (known, beyond, possible) = (CpuList::one(known)?, CpuList::one(beyond)?, u32::try_from(beyond)?);
    let binary = context.binary("tiny-vmm")?;
    let here = Guest::start(&binary, &GuestConfig::new("here", 1, LOAD).on(&known))?;
    let there = Guest::start(&binary, &GuestConfig::new("there", 1, LOAD).on(&beyond))?;
    // Where no switch reports a thread, the look at what runs already finds it.
    let mut source = sampler::start_with_cpus(possible)?;
    let (on_known, on_beyond) = (only(&here)?, only(&there)?);
    sampler::follow(&mut source, &[on_known, on_beyond])?;

    let (counted, made) = switches_during_interval(&source, on_beyond)?;
    ensure!(made.least >= FEW, "the kernel made {} switches in {INTERVAL:?}", made.least);
    // Of the kernel's switches the first and the last may be under way while they are read.
    let bounds = made.least.saturating_sub(1)..=made.most + 1;
    ensure!(bounds.contains(&counted), "{counted} switches were counted, the kernel made {bounds:?}");
    let stats = source.snapshot()?.sampler;
    let said = sampler::nothing_lost(&stats).err().map_or_else(String::new, |error| error.to_string());
    ensure!(said.contains("switches_on_unknown_cpus"), "that is not said to be a loss: `{said}`");

    exact_at_rest(&source, &here, on_known).context("of the guest on a known CPU")?;
    pin(on_beyond.tid, &known)?;
    exact_at_rest(&source, &there, on_beyond).context("of the guest that came back")?;
    let (counted_after, _) = switches_during_interval(&source, on_known)?;
    ensure!(counted_after == 0, "{counted_after} switches on known CPUs were counted as on unknown ones");
    here.end(Ending::Killed)?;
    there.end(Ending::Killed)?;
    Ok(Outcome::Passed(format!("{counted} switches on CPU {possible}, the kernel made {bounds:?}")))
}

/// How many switches the kernel made, at least and at most, while something else was read.
struct Made {
    least: u64,
    most: u64,
}

/// Switches on unknown CPUs that the programs count in an interval, and those that the thread made meanwhile.
fn switches_during_interval(source: &Kvm, thread: Thread) -> anyhow::Result<(u64, Made)> {
    let switches = || -> anyhow::Result<u64> {
        let Switches { voluntary, involuntary } = Switches::of(thread.pid, thread.tid)?;
        Ok(voluntary + involuntary)
    };
    let counted = || source.collector().switches_on_unknown_cpus();
    let (before, counted_before, least_from) = (switches()?, counted(), switches()?);
    thread::sleep(INTERVAL);
    let (least_to, counted_after, after) = (switches()?, counted(), switches()?);
    let made = Made { least: least_to - least_from, most: after - before };
    Ok((counted_after - counted_before, made))
}

/// Lets the guest run, and stops it: what its slot holds then is what the kernel has counted.
fn exact_at_rest(source: &Kvm, guest: &Guest, thread: Thread) -> anyhow::Result<()> {
    thread::sleep(INTERVAL);
    guest.set_stopped(true)?;
    let end = Instant::now() + PATIENCE;
    loop {
        let kernel = Schedstat::of(thread.pid, thread.tid)?;
        let slot = SlotReader(source.collector()).slot(thread.tid).map(|slot| counts(&slot));
        if slot == Some(kernel) {
            guest.set_stopped(false)?;
            return Ok(());
        }
        ensure!(Instant::now() < end, "thread {}: {slot:?}, the kernel has {kernel:?}", thread.tid);
        thread::sleep(Duration::from_millis(10));
    }
}

const fn counts(slot: &VcpuSlot) -> Schedstat {
    Schedstat {
        run_ns: slot.counters[Counter::Run as usize],
        run_delay_ns: slot.counters[Counter::RunDelay as usize],
        timeslices: slot.counters[Counter::Timeslices as usize],
    }
}

fn only(guest: &Guest) -> anyhow::Result<Thread> {
    threads_of(guest).first().copied().context("the guest has no vCPU")
}
