//! The host's clock is set while the sampler runs: that changes what the time is, and not how long anything
//! took.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hvsampler::model::{Level, STATES, Snapshot, State};
use hvsampler::source::{Kvm, Levels};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use sampler_ebpf::abi::{MODES, Mode};

use super::sampler;
use super::states::{interval_of, threads_of};
use crate::guest::{Guest, GuestConfig};
use crate::host::CpuList;
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
    let mut seen = Vec::new();
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
        begins_now(context, &mut source)?;
        context.detail(sampler::nothing_lost(&snapshot.sampler)?);
        seen.push(format!("set by {step} s, an interval of {:.3} s", snapshot.interval_ns as f64 / 1e9));
        before = source.snapshot()?;
    }
    Ok(Outcome::Passed(seen.join("; ")))
}

/// A guest that comes after the clock was set began when it did, by the clock as it is now.
fn begins_now(context: &Context, source: &mut Kvm) -> anyhow::Result<()> {
    let load = Load::Half { burn: Duration::from_millis(2), sleep: Duration::from_millis(3) };
    let guest = Guest::start(&context.binary("tiny-vmm")?, &GuestConfig::new("late", 1, load))?;
    let threads = threads_of(&guest);
    sampler::follow(source, &threads)?;
    sampler::identify(source);
    source.snapshot()?;
    let snapshot = source.snapshot()?;
    let vm = snapshot.vms.iter().find(|vm| vm.origin.pid() == Some(guest.pid())).context("not shown")?;
    let vcpu = vm.vcpus.first().context("it has no vCPU")?;
    for start in [vm.start_unix_ns, vm.seen_unix_ns, vcpu.start_unix_ns, vcpu.followed_unix_ns] {
        let age = i128::from(snapshot.at_unix_ns) - i128::from(start);
        ensure!((0..30_000_000_000).contains(&age), "a start lies {age} ns in the past");
    }
    ensure!(vm.uptime_ns < 30_000_000_000, "up for {} ns", vm.uptime_ns);
    Ok(())
}

/// `CLOCK_MONOTONIC` is made slower and faster by a tenth, as NTP may: what a vCPU's time was for keeps its
/// shares, for run time is by another clock.
pub(super) fn slews(context: &Context) -> anyhow::Result<Outcome> {
    let allowed = CpuList::allowed().context("cannot read the allowed CPUs")?;
    let cpu = CpuList::one(allowed.numbers()[0])?;
    let config = GuestConfig::new("slewed", 1, Load::Io).on(&cpu);
    let guest = Guest::start(&context.binary("tiny-vmm")?, &config)?;
    let thread = threads_of(&guest)[0];
    let mut source = sampler::start()?;
    source.set_levels(Levels { most: Level::Full, max_exits: u64::MAX });
    sampler::follow(&mut source, &[thread])?;
    let mut seen = Vec::new();
    for tick in [Tick::NORMAL, Tick::NORMAL - Tick::NORMAL / 10, Tick::NORMAL + Tick::NORMAL / 10] {
        let _tick = Tick::set(tick)?;
        thread::sleep(Duration::from_millis(500));
        sampler::identify(&mut source);
        let (before, interval, after) = sampler::with_clocks_together(&mut source, |source| {
            source.snapshot()?;
            let before = super::modes::record(source, thread)?;
            thread::sleep(INTERVAL);
            let snapshot = source.snapshot()?;
            let interval = interval_of(&snapshot, thread)?;
            let after = super::modes::record(source, thread)?;
            super::modes::add_up(&interval)?;
            Ok((before, interval, after))
        })?;
        // By the hooks' own clock, whatever that is worth, the parts have the same shares.
        let measured: Vec<u64> =
            (0..MODES).map(|mode| after.modes_ns[mode] - before.modes_ns[mode]).collect();
        let all = measured.iter().sum::<u64>().max(1) as f64;
        let mut shares = Vec::new();
        for (state, mode) in [(State::Guest, Mode::Guest), (State::Vmm, Mode::Vmm)] {
            let ns = interval.states.get(state).with_context(|| format!("no {}", key(state)))?;
            let (share, expected) = (ns as f64 / interval.run_ns as f64, measured[mode.place()] as f64 / all);
            ensure!(
                (share - expected).abs() < 0.01,
                "at a tick of {tick} us {} is {share:.4} of the run time, and {expected:.4} by the hooks: \
                 {interval:?}",
                key(state)
            );
            shares.push(format!("{} {:.1} %", key(state), share * 100.0));
        }
        seen.push(format!("at a tick of {tick} us {}", shares.join(" and ")));
    }
    Ok(Outcome::Passed(seen.join(", ")))
}

const fn key(state: State) -> &'static str {
    STATES[state as usize].key
}

/// How long a tick of the timer is for `CLOCK_MONOTONIC`; as it was once this is dropped.
struct Tick;

impl Tick {
    /// At `USER_HZ`, microseconds.
    const NORMAL: libc::c_long = 10_000;

    fn set(micros: libc::c_long) -> anyhow::Result<Self> {
        // SAFETY: all zeros is a value of it.
        let mut timex: libc::timex = unsafe { std::mem::zeroed() };
        (timex.modes, timex.tick) = (libc::ADJ_TICK, micros);
        // SAFETY: the pointer is valid for the call.
        let state = unsafe { libc::adjtimex(&raw mut timex) };
        ensure!(state >= 0, "adjtimex: {}", std::io::Error::last_os_error());
        Ok(Self)
    }
}

impl Drop for Tick {
    fn drop(&mut self) {
        // Set already is what it gives back.
        if let Ok(normal) = Self::set(Self::NORMAL) {
            std::mem::forget(normal);
        }
    }
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
