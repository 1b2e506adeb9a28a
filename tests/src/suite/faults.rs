//! Page faults of a vCPU's thread are what the kernel counts of it.

use std::process;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::model::Counter;

use super::sampler;
use super::states::vcpu_of;
use crate::exactness::Thread;
use crate::oracle::TaskStat;
use crate::runner::{Context, Outcome};
use crate::vmm::{Load, Vm, VmConfig, take_page_away};

const ROUNDS: u64 = 100;
/// Time within which a guest runs into a page that was taken away.
const SOON: Duration = Duration::from_secs(10);

/// A guest whose one page is taken away again and again faults it in each time, while it runs: no switch has
/// to report it.
pub(super) fn as_the_kernel_counts(_: &Context) -> anyhow::Result<Outcome> {
    let guest = Vm::start(&VmConfig::uniform(1, Load::Io))?;
    let thread = Thread { pid: process::id(), tid: guest.tids()[0] };
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &[thread])?;
    let first = TaskStat::of(thread.pid, thread.tid)?;
    for round in 1..=ROUNDS {
        take_page_away()?;
        let end = Instant::now() + SOON;
        let before = loop {
            let stat = TaskStat::of(thread.pid, thread.tid)?;
            if stat.minor_faults >= first.minor_faults + round {
                break stat;
            }
            ensure!(Instant::now() < end, "the guest does not run into the page: {stat:?} in round {round}");
            thread::sleep(Duration::from_micros(100));
        };
        let snapshot = source.snapshot()?;
        let after = TaskStat::of(thread.pid, thread.tid)?;
        let ours = vcpu_of(&snapshot, thread)?.counters;
        let is_between = |counter: Counter, least: u64, most: u64| {
            let ours = ours[counter as usize];
            ensure!(
                (least..=most).contains(&ours),
                "{counter:?} are {ours}, by the kernel {least} to {most}"
            );
            Ok(())
        };
        is_between(Counter::MinorFaults, before.minor_faults, after.minor_faults)?;
        is_between(Counter::MajorFaults, before.major_faults, after.major_faults)?;
    }
    let last = TaskStat::of(thread.pid, thread.tid).context("the vCPU's thread has ended")?;
    guest.stop()?;
    Ok(Outcome::Passed(format!(
        "{} minor and {} major faults; as many in {ROUNDS} snapshots",
        last.minor_faults, last.major_faults
    )))
}
