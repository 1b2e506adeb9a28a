//! Why a vCPU is blocked: each reason under its name, and the sum as the state.

use std::process;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::model::{Blocked, BlockedTimes, Counter, State, Vcpu};

use super::sampler;
use super::states::{threads_of, vcpu_of};
use crate::exactness::Thread;
use crate::guest::{Guest, GuestConfig};
use crate::oracle::TaskStat;
use crate::runner::{Context, Outcome};
use crate::vmm::{Load, Page, Turns};

/// Time for one of these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// Length of the interval that is judged.
const INTERVAL: Duration = Duration::from_secs(4);
/// Time that a page takes to come.
const TAKES: Duration = Duration::from_millis(100);
/// Times that a page is taken away.
const ROUNDS: u64 = 20;
/// Time within which a guest waits for its page, and has it again.
const SOON: Duration = Duration::from_secs(10);

/// One sleeps in its VMM, one is stopped from the middle of the interval on, one does neither.
pub(super) fn by_why(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let (burn, sleep) = (Duration::from_millis(1), Duration::from_millis(20));
    let start = |name: &str, load| Guest::start(&binary, &GuestConfig::new(name, 1, load));
    let mix = Load::Half { burn, sleep };
    let guests = [start("sleeper", mix)?, start("stopped", mix)?, start("busy", Load::Busy)?];
    let threads: Vec<_> = guests.iter().flat_map(threads_of).collect();
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &threads)?;
    thread::sleep(Duration::from_millis(300));
    source.snapshot()?;
    thread::sleep(INTERVAL / 2);
    guests[1].set_stopped(true)?;
    let stopped = Instant::now();
    thread::sleep(INTERVAL / 2);
    let at_least = stopped.elapsed();
    let snapshot = source.snapshot()?;
    let at_most = stopped.elapsed() + Duration::from_millis(50);
    guests[1].set_stopped(false)?;
    let of = |n: usize| vcpu_of(&snapshot, threads[n]).and_then(parts);
    let [(sleeper, slept_ns), (halves, _), (busy, _)] = [of(0)?, of(1)?, of(2)?];
    let in_vmm_ns = sleeper.get(Blocked::Vmm);
    ensure!(in_vmm_ns > slept_ns / 100 * 99, "one that sleeps in its VMM for {slept_ns} ns: {sleeper:?}");
    let stopped_ns = halves.get(Blocked::Stopped);
    // It may have slept in its VMM when it was stopped, until its signal came.
    let range = (at_least - Duration::from_millis(50)).as_nanos()..=at_most.as_nanos();
    ensure!(
        range.contains(&stopped_ns.into()),
        "stopped for {at_least:?} to {at_most:?}, {stopped_ns} ns by {halves:?}"
    );
    ensure!(halves.get(Blocked::Vmm) > stopped_ns / 4, "it slept in its VMM before: {halves:?}");
    let strange = |times: &BlockedTimes, allowed: &[Blocked]| -> u64 {
        let of_strange = |reason: &Blocked| !allowed.contains(reason);
        let all = [Blocked::FaultIo, Blocked::Fault, Blocked::VmmIo, Blocked::Stopped, Blocked::Other];
        all.iter().filter(|reason| of_strange(reason)).map(|reason| times.get(*reason)).sum()
    };
    ensure!(strange(&halves, &[Blocked::Stopped]) < 20_000_000, "nothing else: {halves:?}");
    ensure!(busy.iter().sum::<u64>() < 20_000_000, "one that is busy is not blocked: {busy:?}");
    Ok(Outcome::Passed(format!(
        "one slept {:.3} s in its VMM; another was stopped for {:.3} s, by us {:.3} s",
        slept_ns as f64 / 1e9,
        at_least.as_secs_f64(),
        stopped_ns as f64 / 1e9
    )))
}

/// A guest whose page is brought by another thread when it is asked for, as in post-copy migration.
pub(super) fn for_a_page_that_is_brought(_: &Context) -> anyhow::Result<Outcome> {
    let Some(page) = Page::brought(TAKES)? else {
        return Ok(Outcome::Skipped("this kernel has no userfaultfd, or not for us".into()));
    };
    let page = Arc::new(page);
    let guest = Turns::start_from(&page)?;
    let thread = Thread { pid: process::id(), tid: guest.tid() };
    guest.run(0);
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &[thread])?;
    // The first fault has come and gone.
    let once = wait(|| Ok(page.waits().0), 1)?;
    source.snapshot()?;
    let before = page.waits().1;
    for round in 1..=ROUNDS {
        page.take_away()?;
        wait(|| Ok(page.waits().0), once + round)?;
    }
    let waited = (page.waits().1 - before).as_nanos() as u64;
    let snapshot = source.snapshot()?;
    let (parts, blocked_ns) = parts(vcpu_of(&snapshot, thread)?)?;
    guest.stop()?;
    let fault_ns = parts.get(Blocked::Fault);
    ensure!(
        (waited..=waited + waited / 10).contains(&fault_ns),
        "waited {waited} ns at least, {fault_ns} ns by {parts:?}"
    );
    ensure!(blocked_ns - fault_ns < 20_000_000, "nothing else: {parts:?}");
    Ok(Outcome::Passed(format!(
        "the page was brought {ROUNDS} times in {:.3} s, fault is {:.3} s",
        waited as f64 / 1e9,
        fault_ns as f64 / 1e9
    )))
}

/// A guest whose page is read from a disk each time.
pub(super) fn for_a_page_on_a_disk(context: &Context) -> anyhow::Result<Outcome> {
    let page = Arc::new(Page::in_file(&context.directory().join("page"))?);
    let guest = Turns::start_from(&page)?;
    let thread = Thread { pid: process::id(), tid: guest.tid() };
    guest.run(0);
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &[thread])?;
    source.snapshot()?;
    let faults = || -> anyhow::Result<u64> {
        let stat = TaskStat::of(thread.pid, thread.tid)?;
        Ok(stat.major_faults + stat.minor_faults)
    };
    let major = TaskStat::of(thread.pid, thread.tid)?.major_faults;
    for _ in 0..ROUNDS {
        let before = faults()?;
        page.take_away()?;
        wait(faults, before + 1)?;
    }
    let waited = TaskStat::of(thread.pid, thread.tid)?.major_faults - major;
    let snapshot = source.snapshot()?;
    let vcpu = vcpu_of(&snapshot, thread)?;
    let (parts, _) = parts(vcpu)?;
    let ours = vcpu.interval.context("it was read")?.counters[Counter::MajorFaults as usize];
    guest.stop()?;
    ensure!(waited > 0, "the page stays in memory: no fault had to wait");
    ensure!(ours == waited, "{ours} major faults, {waited} by the kernel");
    let ns = parts.get(Blocked::FaultIo);
    ensure!(ns > 0, "{waited} faults waited for a disk: {parts:?}");
    Ok(Outcome::Passed(format!("{waited} of {ROUNDS} faults waited for a disk, {:.3} ms", ns as f64 / 1e6)))
}

/// Why it was blocked in the interval, and for how long; what it is since it is followed is no less.
fn parts(vcpu: &Vcpu) -> anyhow::Result<(BlockedTimes, u64)> {
    let interval = vcpu.interval.context("it was read")?;
    for (parts, states) in [(&interval.blocked, &interval.states), (&vcpu.blocked, &vcpu.states)] {
        let blocked = states.get(State::Blocked).unwrap_or_default();
        ensure!(parts.iter().sum::<u64>() == blocked, "{parts:?} do not come to {blocked} ns");
    }
    Ok((interval.blocked, interval.states.get(State::Blocked).unwrap_or_default()))
}

/// Waits until a count has come to so much.
fn wait(count: impl Fn() -> anyhow::Result<u64>, least: u64) -> anyhow::Result<u64> {
    let end = Instant::now() + SOON;
    loop {
        let count = count()?;
        if count >= least {
            return Ok(count);
        }
        ensure!(Instant::now() < end, "{least} have not come, but {count}");
        thread::sleep(Duration::from_millis(1));
    }
}
