//! Which quotas hold back threads that are not of the fair class: the runtime of a deadline thread does, and
//! a group's `cpu.max` holds back no real-time thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::model::{Interval, OccupantKind, State, Vm};
use hvsampler::source::Kvm;

use super::{attribution, modes, sampler};
use crate::exactness::Thread;
use crate::guest::{Guest, GuestConfig};
use crate::host::{self, CpuList};
use crate::oracle::{CpuGroup, CpuQuota, Hierarchy};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// Time for one of these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// Length of the interval that is judged.
const INTERVAL: Duration = Duration::from_secs(4);
/// What the deadline thread gets of each period.
const RUNTIME: Duration = Duration::from_millis(12);
const PERIOD: Duration = Duration::from_millis(40);

/// A vCPU that wants all of a CPU and is of the deadline class: what it waits is its runtime's, nearly all.
pub(super) fn deadline(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    // Unplaced: the kernel takes no deadline thread that may not run everywhere.
    let guest = Guest::start(&binary, &GuestConfig::new("deadline", 1, Load::Busy))?;
    if let Err(error) = host::deadline(guest.tids()[0], RUNTIME, PERIOD) {
        return Ok(Outcome::Skipped(format!("no thread may be of the deadline class here: {error}")));
    }
    let mut source = sampler::start()?;
    let vm = interval_of(&mut source, &guest)?;
    let interval = vm.vcpus[0].interval.context("no interval")?;
    modes::add_up(&interval)?;
    let Some(throttled) = interval.states.get(State::Throttled) else {
        return Ok(Outcome::Skipped("this kernel keeps no clock of what quotas take".to_owned()));
    };
    ensure!(interval.run_delay_ns > interval.wall_ns / 2, "it did not wait: {interval:?}");
    // Of an emulated machine all that the kernel does meanwhile is slow.
    let others = interval.run_delay_ns / if context.in_lab() { 5 } else { 10 };
    ensure!(throttled + others >= interval.run_delay_ns, "{interval:?}, {:?}", vm.shares);
    let shares = vm.shares.iter().flat_map(|shares| shares.iter());
    let quota: u64 =
        shares.filter(|share| share.occupant.kind == OccupantKind::Quota).map(|share| share.ns).sum();
    ensure!(quota == throttled, "{throttled} ns throttled: {:?}", vm.shares);
    Ok(Outcome::Passed(text(&interval)))
}

/// A real-time vCPU of a group whose quota has run out: it waits for another real-time thread, and the quota
/// is not to blame.
pub(super) fn real_time(context: &Context) -> anyhow::Result<Outcome> {
    const EACH: Load = Load::Half { burn: Duration::from_millis(4), sleep: Duration::from_millis(6) };
    let group = CpuGroup::create(Hierarchy::find_or_mount(&context.directory().join("cgroup"))?)?;
    let allowed = CpuList::allowed().context("cannot read the allowed CPUs")?;
    let cpu = CpuList::one(allowed.numbers()[0])?;
    let guest = Guest::start(&context.binary("tiny-vmm")?, &GuestConfig::new("real-time", 2, EACH).on(&cpu))?;
    group.add_process(guest.pid())?;
    if let Err(error) = host::real_time(guest.tids()[1]) {
        return Ok(Outcome::Skipped(format!("no thread of a group may be real-time here: {error}")));
    }
    group
        .set_quota(Some(CpuQuota { quota: Duration::from_millis(5), period: Duration::from_millis(100) }))?;
    let mut source = sampler::start()?;
    let over = AtomicBool::new(false);
    let vm = thread::scope(|scope| {
        let other = scope.spawn(|| in_its_way(&cpu, &over));
        let vm = interval_of(&mut source, &guest);
        over.store(true, Ordering::Relaxed);
        other.join().unwrap_or_else(|_| anyhow::bail!("the other thread panicked")).and(vm)
    })?;
    let interval = |index: usize| vm.vcpus.get(index).and_then(|vcpu| vcpu.interval).context("no interval");
    let (fair, real_time) = (interval(0)?, interval(1)?);
    modes::add_up(&fair)?;
    modes::add_up(&real_time)?;
    let Some(throttled) = real_time.states.get(State::Throttled) else {
        return Ok(Outcome::Skipped("this kernel keeps no clock of what quotas take".to_owned()));
    };
    ensure!(fair.states.get(State::Throttled) > Some(fair.wall_ns / 20), "the quota lasted: {fair:?}");
    ensure!(real_time.run_delay_ns > real_time.wall_ns / 50, "nobody was in its way: {real_time:?}");
    ensure!(throttled == 0, "a quota that is not for it held it back: {real_time:?}");
    Ok(Outcome::Passed(format!("fair: {}; real-time: {}", text(&fair), text(&real_time))))
}

/// What is said of a guest over one interval.
fn interval_of(source: &mut Kvm, guest: &Guest) -> anyhow::Result<Vm> {
    let threads: Vec<_> = guest.tids().iter().map(|&tid| Thread { pid: guest.pid(), tid }).collect();
    sampler::follow(source, &threads)?;
    attribution::snapshot(source)?;
    thread::sleep(INTERVAL);
    let taken = attribution::snapshot(source)?;
    sampler::nothing_lost(&taken.sampler)?;
    attribution::all_add_up(&taken)?;
    taken.vms.into_iter().find(|vm| vm.origin.pid() == Some(guest.pid())).context("the guest is missing")
}

/// Burns and sleeps in turn on a CPU, as real-time thread that goes first. Two that have the same priority
/// and leave each other room fall into step, and neither waits.
fn in_its_way(cpu: &CpuList, over: &AtomicBool) -> anyhow::Result<()> {
    host::pin(0, cpu)?;
    host::real_time_at(0, 20)?;
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(3) {
            std::hint::spin_loop();
        }
        thread::sleep(Duration::from_millis(4));
    }
    Ok(())
}

fn text(interval: &Interval) -> String {
    let seconds = |ns: u64| ns as f64 / 1e9;
    format!(
        "waited {:.4} s, throttled {:.4} s of {:.3} s",
        seconds(interval.run_delay_ns),
        seconds(interval.states.get(State::Throttled).unwrap_or_default()),
        seconds(interval.wall_ns)
    )
}
