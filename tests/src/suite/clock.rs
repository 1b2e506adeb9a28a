//! The host's clock is set while the sampler runs: that changes what the time is, and not how long anything
//! took.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hvsampler::model::Snapshot;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use super::sampler;
use super::states::{interval_of, threads_of};
use crate::guest::{Guest, GuestConfig};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// Time for the test.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(2);
/// By how much the clock is set forward, and back again.
const STEP_S: i64 = 3600;

/// Intervals are as long as they were, their states come to them, and no series starts anew.
/// The time of a snapshot is the host's.
pub(super) fn steps(context: &Context) -> anyhow::Result<Outcome> {
    let load = Load::Half { burn: Duration::from_millis(2), sleep: Duration::from_millis(3) };
    let guest = Guest::start(&context.binary("tiny-vmm")?, &GuestConfig::new("clock", 2, load))?;
    let threads = threads_of(&guest);
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &threads)?;
    let first = source.snapshot()?;
    let mut before = first.clone();
    let mut told = Vec::new();
    for step in [STEP_S, -STEP_S] {
        thread::sleep(INTERVAL);
        set_by(step)?;
        let snapshot = source.snapshot()?;
        for thread in &threads {
            let interval = interval_of(&snapshot, *thread)?;
            super::modes::add_up(&interval)?;
            let apart = interval.wall_ns.abs_diff(snapshot.interval_ns);
            ensure!(
                interval.wall_ns < 30_000_000_000 && apart < snapshot.interval_ns / 2,
                "{} ns between the readings of a vCPU, {} between the snapshots",
                interval.wall_ns,
                snapshot.interval_ns
            );
        }
        ensure!(starts(&snapshot) == starts(&first), "series start anew: {:?}", starts(&snapshot));
        let moved = i128::from(snapshot.at_unix_ns) - i128::from(before.at_unix_ns);
        let beyond = moved - i128::from(step) * 1_000_000_000;
        ensure!((0..30_000_000_000).contains(&beyond), "set by {step} s, {moved} ns went by");
        context.detail(sampler::nothing_lost(&snapshot.sampler)?);
        told.push(format!("set by {step} s, an interval of {:.3} s", snapshot.interval_ns as f64 / 1e9));
        before = snapshot;
    }
    Ok(Outcome::Passed(told.join("; ")))
}

/// Where every series of a snapshot starts.
fn starts(snapshot: &Snapshot) -> Vec<u64> {
    let of_vm = |vm: &hvsampler::model::Vm| {
        let vcpus = vm.vcpus.iter().flat_map(|vcpu| [vcpu.start_unix_ns, vcpu.seen_unix_ns]);
        [vm.start_unix_ns, vm.seen_unix_ns].into_iter().chain(vcpus).collect::<Vec<_>>()
    };
    snapshot.vms.iter().flat_map(of_vm).collect()
}

fn set_by(seconds: i64) -> anyhow::Result<()> {
    let now = clock_gettime(ClockId::Realtime);
    let then = Timespec { tv_sec: now.tv_sec + seconds, ..now };
    clock_settime(ClockId::Realtime, then).context("the clock cannot be set")
}
