//! Why a vCPU is blocked: each reason under its name, and the sum as the state.

use std::process::{self, Command};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::model::{Blocked, BlockedTimes, Counter, Snapshot, State, Vcpu};

use super::sampler;
use super::states::{threads_of, vcpu_of};
use crate::exactness::Thread;
use crate::guest::{Guest, GuestConfig};
use crate::host::Disk;
use crate::oracle::{Controller, Diskstats, Group, Hierarchy, TaskStat};
use crate::runner::{Context, Need, Outcome, Set, Test};
use crate::vmm::{Load, Page, Turns};

/// Time for one of these tests.
const LIMIT: Duration = Duration::from_secs(120);
/// Length of the interval that is judged.
const INTERVAL: Duration = Duration::from_secs(4);
/// Time that a page takes to come.
const TAKES: Duration = Duration::from_millis(100);
/// Times that a page is taken away.
const ROUNDS: u64 = 20;
/// The same of one in swap, which takes longer to get away.
const ROUNDS_OF_SWAP: u64 = 3;
/// Time after which a fault is counted whose page is there.
const COUNTED: Duration = Duration::from_millis(50);
/// Time within which a guest waits for its page, and has it again.
const SOON: Duration = Duration::from_secs(10);

/// The tests of it.
pub(super) const TESTS: &[Test] = &[
    Test {
        name: "blocked.by-why",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: LIMIT,
        run: by_why,
    },
    Test {
        name: "blocked.for-a-page-that-is-brought",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: LIMIT,
        run: for_a_page_that_is_brought,
    },
    Test {
        name: "blocked.for-a-page-on-a-disk",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: LIMIT,
        run: for_a_page_on_a_disk,
    },
    Test {
        name: "blocked.for-a-page-in-swap",
        // What is swapped out natively is everybody's.
        sets: &[Set::Lab],
        needs: &[Need::Kvm, Need::Bpf, Need::LabDisks],
        limit: LIMIT,
        run: for_a_page_in_swap,
    },
];

/// One sleeps in its VMM, one is stopped from the middle of the interval on, one does neither.
fn by_why(context: &Context) -> anyhow::Result<Outcome> {
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
fn for_a_page_that_is_brought(_: &Context) -> anyhow::Result<Outcome> {
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
fn for_a_page_on_a_disk(context: &Context) -> anyhow::Result<Outcome> {
    let disk = if context.in_lab() { Some(Disk::of_lab("hvs-kept")?) } else { None };
    let file = disk.as_ref().map_or_else(|| context.directory().join("page"), Disk::path);
    let page = Arc::new(Page::in_file(&file)?);
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
        take_away(&guest, &page, || Ok(()))?;
        guest.run(0);
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

/// A guest whose page is in swap each time.
fn for_a_page_in_swap(_: &Context) -> anyhow::Result<Outcome> {
    let disk = Disk::of_lab("hvs-kept")?;
    let _swap = Swap::on(&disk)?;
    // What is charged to it is little more than the page.
    let group = Group::create(Hierarchy::find(Controller::Memory)?)?;
    group.add_process(process::id())?;
    let page = Arc::new(Page::in_swap()?);
    let guest = Turns::start_from(&page)?;
    let thread = Thread { pid: process::id(), tid: guest.tid() };
    guest.run(0);
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &[thread])?;
    let major = || -> anyhow::Result<u64> { Ok(TaskStat::of(thread.pid, thread.tid)?.major_faults) };
    // Its thread may fault while a snapshot is taken, for all of its memory may be in swap.
    let mut taken = || -> anyhow::Result<(Snapshot, u64, u64)> {
        let before = major()?;
        Ok((source.snapshot()?, before, major()?))
    };
    let (_, first, before) = taken()?;
    for round in 1..=ROUNDS_OF_SWAP {
        let end = Instant::now() + SOON;
        let mut was_waited_for = false;
        while !was_waited_for {
            ensure!(Instant::now() < end, "the page is there each time before the guest asks for it");
            take_away(&guest, &page, || reclaim(&group))?;
            guest.run(0);
            was_waited_for = comes(&page, || Ok(major()? >= before + round))?;
        }
    }
    let served = Diskstats::of(disk.name())?.reads.operations;
    let (snapshot, last, after) = taken()?;
    let vcpu = vcpu_of(&snapshot, thread)?;
    let (parts, _) = parts(vcpu)?;
    let ours = vcpu.interval.context("it was read")?.counters[Counter::MajorFaults as usize];
    guest.stop()?;
    let by_kernel = last - before..=after - first;
    ensure!(by_kernel.contains(&ours), "{ours} major faults, {by_kernel:?} by the kernel");
    let ns = parts.get(Blocked::FaultIo);
    ensure!(ns > 0 && served >= ROUNDS_OF_SWAP, "{ours} faults, {served} reads of the disk: {parts:?}");
    Ok(Outcome::Passed(format!("{ours} faults waited for swap, {:.3} ms", ns as f64 / 1e6)))
}

/// Waits until a guest has its page again. Returns whether its thread `has_waited` for it: what others of
/// this process ask of the swap area brings neighbours along, also between the moment at which a page is away
/// and that at which the guest asks for it.
fn comes(page: &Page, has_waited: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<bool> {
    let end = Instant::now() + SOON;
    while page.is_away()? && !has_waited()? {
        ensure!(Instant::now() < end, "the page does not come");
        thread::sleep(Duration::from_millis(1));
    }
    // The kernel counts a fault when all of it is done.
    thread::sleep(COUNTED);
    has_waited()
}

/// Takes a guest's page out of memory while the guest does not run. `more` is what that takes beside.
fn take_away(guest: &Turns, page: &Page, more: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    guest.rest();
    let end = Instant::now() + SOON;
    // The guest may still be on its way out, and have it again.
    loop {
        page.take_away()?;
        more()?;
        if page.is_away()? {
            return Ok(());
        }
        ensure!(Instant::now() < end, "the kernel keeps the page in memory");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Has the kernel give up what is charged to a group: what was swapped out stays in memory until then. By a
/// process outside of it, for who is in a group beyond its limit sleeps whenever it asks for memory.
fn reclaim(group: &Group) -> anyhow::Result<()> {
    let root = Hierarchy::find(Controller::Memory)?.root().display().to_string();
    let group = group.path().display();
    // The file of 5.19 and later says that less was given up than was asked for, as it always is.
    let command = format!(
        "echo $$ > {root}/cgroup.procs && echo 0 > {group}/memory.high && echo max > {group}/memory.high || exit 1
         echo 64M > {group}/memory.reclaim || true"
    );
    let done = Command::new("sh").arg("-c").arg(&command).output()?;
    ensure!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// A disk that is a swap area.
struct Swap<'a>(&'a Disk);

impl<'a> Swap<'a> {
    fn on(disk: &'a Disk) -> anyhow::Result<Self> {
        for command in ["mkswap", "swapon"] {
            let done = Command::new(command).arg(disk.path()).output()?;
            ensure!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(Self(disk))
    }
}

impl Drop for Swap<'_> {
    fn drop(&mut self) {
        let off = Command::new("swapoff").arg(self.0.path()).status();
        if !off.is_ok_and(|status| status.success()) {
            eprintln!("a swap area is left over: {}", self.0.path().display());
        }
    }
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
