//! The time in which some vCPUs of a guest ran while others waited, against the kernel's own trace of the
//! same run.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hvsampler::model::{Snapshot, Vm};
use rustix::time::{ClockId, clock_gettime};

use super::sampler;
use super::states::threads_of;
use crate::exactness::Thread;
use crate::guest::{Guest, GuestConfig};
use crate::host::CpuList;
use crate::oracle::{Activity, Change, SchedTrace};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// Time for the test.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(1);
const INTERVALS: u32 = 5;
/// How far an estimate may be from the trace, in percent of the wall time. It is made of some 4,700 ticks,
/// and the states that it looks for last for some milliseconds: seen were 0.8 percent at most.
const APART: f64 = 2.5;

/// Three guests: two busy vCPUs with one CPU between them, which are out of step all the time; three that
/// work and sleep, on two CPUs and in the way of the first; and one that is alone in its guest.
pub(super) fn as_traced(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let allowed = CpuList::allowed().context("cannot read the allowed CPUs")?;
    let last: Vec<String> = allowed.numbers().iter().rev().take(2).map(ToString::to_string).collect();
    let (one, two): (CpuList, CpuList) = (last[0].parse()?, last.join(",").parse()?);
    let mix = Load::Mix { burn: Duration::from_millis(4), sleep: Duration::from_millis(4) };
    let guests = [
        Guest::start(&binary, &GuestConfig::new("torn", 2, Load::Busy).on(&one))?,
        Guest::start(&binary, &GuestConfig::new("mixed", 3, mix).on(&two))?,
        Guest::start(&binary, &GuestConfig::new("single", 1, Load::Busy).on(&two))?,
    ];
    let threads: Vec<Vec<Thread>> = guests.iter().map(threads_of).collect();
    let mut source = sampler::start_as_service()?;
    sampler::follow(&mut source, &threads.concat())?;
    let tids: Vec<u32> = threads.concat().iter().map(|thread| thread.tid).collect();
    let trace = SchedTrace::start(&context.directory().join("tracefs"), &tids)?;
    // Until each has been seen to do something.
    thread::sleep(INTERVAL);
    // The time of the readings is somewhere in that of the snapshots, during which the test may wait for a
    // CPU.
    let mut begin = (0, 0);
    // What could not be read is left to the next interval: the first must begin where the one before it
    // ended, and the last must have all.
    let is_own = |vm: &&Vm| guests.iter().any(|guest| vm.origin.pid() == Some(guest.pid()));
    let is_complete =
        |snapshot: &Snapshot| snapshot.vms.iter().filter(is_own).all(|vm| vm.co_stop.interval_ns.is_some());
    for n in 0.. {
        begin.0 = monotonic_us();
        let snapshot = source.snapshot()?;
        begin.1 = monotonic_us();
        if is_complete(&snapshot) {
            break;
        }
        ensure!(n < 3, "a guest that is known has no interval");
    }
    let mut sums = BTreeMap::new();
    let mut end = (0, 0);
    let mut complete = false;
    for n in 0..INTERVALS + 3 {
        if n >= INTERVALS && complete {
            break;
        }
        thread::sleep(INTERVAL);
        end.0 = monotonic_us();
        let snapshot = source.snapshot()?;
        complete = is_complete(&snapshot);
        for vm in snapshot.vms.iter().filter(is_own) {
            ensure!(vm.co_stop.tick_ns <= 1 << 20, "{:?}", vm.co_stop);
            *sums.entry(vm.origin.number().unwrap_or_default()).or_insert(0) +=
                vm.co_stop.interval_ns.unwrap_or(0);
        }
        end.1 = monotonic_us();
        sampler::nothing_lost(&snapshot.sampler)?;
    }
    ensure!(complete, "a guest that is known has no interval");
    let snapshot = source.snapshot()?;
    let changes = trace.changes()?;
    let mut texts = Vec::new();
    for (guest, threads) in guests.iter().zip(&threads) {
        let ours = sums[&guest.pid()] as f64 / 1e9;
        let [least, most] = [(begin.1, end.0), (begin.0, end.1)]
            .map(|stretch| out_of_step(&changes, threads, stretch) as f64 / 1e6);
        let wall = (end.1 - begin.0) as f64 / 1e6;
        let text = format!("{ours:.3} s, traced {least:.3} to {most:.3} s of {wall:.3} s");
        context.detail(&text);
        let apart = wall * APART / 100.0;
        ensure!((least - apart..=most + apart).contains(&ours), "guest {}: {text}", guest.pid());
        ensure!(whole(&snapshot, guest)? >= sums[&guest.pid()], "the sum is less than its parts");
        texts.push(text);
    }
    ensure!(sums[&guests[0].pid()] > 0 && sums[&guests[2].pid()] == 0, "{sums:?}");
    Ok(Outcome::Passed(texts.join("; ")))
}

fn monotonic_us() -> u64 {
    let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

fn whole(snapshot: &Snapshot, guest: &Guest) -> anyhow::Result<u64> {
    let vm =
        snapshot.vms.iter().find(|vm| vm.origin.pid() == Some(guest.pid())).context("a guest is missing")?;
    Ok(vm.co_stop.ns)
}

/// How long, of a stretch of time, one of the threads ran while another waited, us.
fn out_of_step(changes: &[Change], threads: &[Thread], (begin, end): (u64, u64)) -> u64 {
    let mut doing: BTreeMap<u32, Activity> = BTreeMap::new();
    let mut sum = 0;
    let mut since = begin;
    for change in changes.iter().filter(|change| threads.iter().any(|thread| thread.tid == change.tid)) {
        let now = change.at_us.clamp(begin, end);
        let any = |activity| doing.values().any(|does| *does == activity);
        if any(Activity::Runs) && any(Activity::Waits) {
            sum += now - since;
        }
        since = now;
        let does = doing.entry(change.tid).or_insert(change.to);
        // A thread that is woken while it runs goes on.
        if !(*does == Activity::Runs && change.to == Activity::Waits && change.is_wake_up) {
            *does = change.to;
        }
    }
    let any = |activity| doing.values().any(|does| *does == activity);
    sum + if any(Activity::Runs) && any(Activity::Waits) { end - since } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_out_of_step_is_what_one_runs_while_another_waits() {
        let thread = |tid| Thread { pid: 1, tid };
        let change = |at_us, tid, to, is_wake_up| Change { at_us, tid, to, is_wake_up };
        let changes = [
            change(10, 7, Activity::Runs, false),
            change(20, 8, Activity::Waits, true),
            change(25, 7, Activity::Waits, true),
            change(30, 9, Activity::Runs, false),
            change(50, 7, Activity::Sleeps, false),
            change(60, 8, Activity::Runs, false),
            change(70, 7, Activity::Waits, true),
        ];
        let threads = [thread(7), thread(8)];
        assert_eq!(out_of_step(&changes, &threads, (0, 100)), 30 + 30);
        assert_eq!(out_of_step(&changes, &threads, (40, 80)), 10 + 10);
    }
}
