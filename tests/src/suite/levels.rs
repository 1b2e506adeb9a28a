//! How much is observed of a guest: less where it exits too often, and nothing that would hold KVM's module.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::model::{KvmStat, Level, SamplerStats, Snapshot, State};
use hvsampler::source::{Kvm, Levels};

use super::sampler;
use super::states::{interval_of, threads_of};
use crate::exactness::Thread;
use crate::guest::{Ending, Guest, GuestConfig};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// Time for one of these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(2);
/// Intervals that are tried until one has what was counted at both of its ends.
const ATTEMPTS: u32 = 3;

/// By how much a share of the run time may be off where one exit in sixteen is timed, beside what a machine
/// with other work makes of the same load a moment later.
const SHARE_OFF: f64 = 0.05;

/// Of a guest that leaves for the VMM all the time one exit in sixteen is timed from the first interval on in
/// which it was too much, and each is counted; of its neighbour each is timed.
pub(super) fn too_many_exits(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let (burn, sleep) = (Duration::from_millis(2), Duration::from_millis(50));
    let guests = [
        Guest::start(&binary, &GuestConfig::new("often", 1, Load::Io))?,
        Guest::start(&binary, &GuestConfig::new("seldom", 1, Load::Half { burn, sleep }))?,
    ];
    let threads: Vec<_> = guests.iter().flat_map(threads_of).collect();
    let mut source = sampler::start()?;
    let levels = |most, max_exits| Levels { most, max_exits };
    source.set_levels(levels(Level::Full, u64::MAX));
    sampler::follow(&mut source, &threads)?;
    let full = Times::over(&mut source, threads[0])?;
    source.set_levels(levels(Level::Full, 1000));
    thread::sleep(INTERVAL);
    let snapshot = source.snapshot()?;
    ensure!(
        level(&snapshot, threads[0])? == Level::Sampled && level(&snapshot, threads[1])? == Level::Full,
        "{:?}",
        snapshot.vms
    );
    // Guests of others may be lowered as well.
    let SamplerStats { levels_lowered, vms_lowered, .. } = snapshot.sampler;
    ensure!(levels_lowered >= 1 && vms_lowered >= 1, "{:?}", snapshot.sampler);
    let sampled = Times::over(&mut source, threads[0])?;
    ensure!(
        level(&sampled.snapshot, threads[0])? == Level::Sampled,
        "it is calm: {:?}",
        sampled.snapshot.vms
    );
    let seldom = interval_of(&sampled.snapshot, threads[1])?;
    super::modes::add_up(&seldom)?;
    sampled.agrees_with(&full, context)?;
    sampled.counts_every_exit(context)?;
    // Basic for all, and full again: what an operator may ask for while the sampler runs.
    for most in [Level::Basic, Level::Sampled, Level::Full] {
        source.set_levels(levels(most, u64::MAX));
        let snapshot = source.snapshot()?;
        ensure!(level(&snapshot, threads[1])? == most, "{:?}", snapshot.vms);
    }
    sampler::nothing_lost(&source.snapshot()?.sampler)?;
    Ok(Outcome::Passed(format!(
        "{:.0} exits a second are too many; the guest had {:.1} % of the run time, the VMM {:.1} %; with each exit timed \
         {:.1} % and {:.1} %",
        sampled.exits as f64 / INTERVAL.as_secs_f64(),
        sampled.guest.unwrap_or(0.0) * 100.0,
        sampled.vmm * 100.0,
        full.guest.unwrap_or(0.0) * 100.0,
        full.vmm * 100.0,
    )))
}

/// Of a guest that seldom exits few exits are timed at level sampled, or none: it was in its guest all the
/// same.
pub(super) fn few_exits(context: &Context) -> anyhow::Result<Outcome> {
    let guest = Guest::start(&context.binary("tiny-vmm")?, &GuestConfig::new("busy", 1, Load::Busy))?;
    let thread = threads_of(&guest)[0];
    let mut source = sampler::start()?;
    source.set_levels(Levels { most: Level::Full, max_exits: u64::MAX });
    sampler::follow(&mut source, &[thread])?;
    let full = Times::over(&mut source, thread)?;
    source.set_levels(Levels { most: Level::Sampled, max_exits: u64::MAX });
    let sampled = Times::over(&mut source, thread)?;
    ensure!(level(&sampled.snapshot, thread)? == Level::Sampled, "{:?}", sampled.snapshot.vms);
    sampled.agrees_with(&full, context)?;
    let share = |times: &Times| times.guest.unwrap_or(0.0) * 100.0;
    ensure!(share(&full) > 80.0 || !context.in_lab(), "{full:?}");
    sampler::nothing_lost(&sampled.snapshot.sampler)?;
    Ok(Outcome::Passed(format!(
        "{:.0} exits a second; the guest had {:.1} % of the run time, and {:.1} % with each exit timed",
        sampled.exits as f64 / INTERVAL.as_secs_f64(),
        share(&sampled),
        share(&full),
    )))
}

fn level(snapshot: &Snapshot, thread: Thread) -> anyhow::Result<Level> {
    let vm = snapshot.vms.iter().find(|vm| vm.origin.pid() == Some(thread.pid));
    vm.and_then(|vm| vm.level()).context("a guest is missing")
}

/// What a vCPU did in an interval.
#[derive(Debug)]
struct Times {
    /// Shares of its run time; `None` where KVM reports no entries into guests.
    guest: Option<f64>,
    vmm: f64,
    /// By KVM's own count.
    exits: u64,
    /// By our hooks.
    counted: u64,
    /// Those that the durations stand for.
    timed: u64,
    /// Readings of slots that could not be made at either end.
    torn: u64,
    snapshot: Snapshot,
}

impl Times {
    /// Over an interval that is observed in one way from its begin to its end.
    ///
    /// What the programs are just writing has its next reading in the next snapshot: then two intervals are
    /// off by what one of them lacks, and the sampler counts that. An emulated CPU may stand still in the
    /// middle of a write.
    fn over(source: &mut Kvm, of: Thread) -> anyhow::Result<Self> {
        let mut times = Self::once(source, of)?;
        for _ in 1..ATTEMPTS {
            if times.torn == 0 {
                break;
            }
            times = Self::once(source, of)?;
        }
        Ok(times)
    }

    fn once(source: &mut Kvm, of: Thread) -> anyhow::Result<Self> {
        thread::sleep(Duration::from_millis(200));
        let torn = source.snapshot()?.sampler.slots_torn;
        let before = exits_of(&source.snapshot()?, of)?;
        thread::sleep(INTERVAL);
        let snapshot = source.snapshot()?;
        let after = exits_of(&snapshot, of)?;
        let interval = interval_of(&snapshot, of)?;
        super::modes::add_up(&interval)?;
        let share = |state| Some(interval.states.get(state)? as f64 / interval.run_ns as f64);
        let guest = share(State::Guest);
        ensure!(interval.states.get(State::Run).is_none() == guest.is_some(), "{interval:?}");
        Ok(Self {
            guest,
            vmm: share(State::Vmm).with_context(|| format!("the VMM's part is missing: {interval:?}"))?,
            exits: interval.kvm.and_then(|kvm| kvm.get(KvmStat::Exits)).unwrap_or_default(),
            counted: after.0 - before.0,
            timed: after.1 - before.1,
            torn: snapshot.sampler.slots_torn - torn,
            snapshot,
        })
    }

    /// Where not every exit is timed a vCPU seems to do what it did where each was.
    fn agrees_with(&self, full: &Self, context: &Context) -> anyhow::Result<()> {
        ensure!(self.guest.is_some() || !context.in_lab(), "nothing of the guest: {self:?}");
        ensure!(full.guest.is_some() == self.guest.is_some(), "{full:?}, {self:?}");
        for (what, full, sampled) in
            [("guest", full.guest.unwrap_or(0.0), self.guest.unwrap_or(0.0)), ("vmm", full.vmm, self.vmm)]
        {
            let is_near = (full - sampled).abs() < SHARE_OFF;
            ensure!(is_near, "{what} had {full:.3} of the run time, and {sampled:.3} of it at level sampled");
        }
        Ok(())
    }

    /// Up to what happens between two counts that are read one after the other.
    const fn is_exact(&self) -> bool {
        self.counted.abs_diff(self.exits) <= self.exits / 1000 + 1000
    }

    /// Each exit is counted, and those that are timed stand for all.
    fn counts_every_exit(&self, context: &Context) -> anyhow::Result<()> {
        let &Self { exits, counted, timed, .. } = self;
        let is_exact = self.is_exact() || !context.in_lab();
        ensure!(is_exact, "{counted} exits were counted of {exits}");
        // Chosen at random: for some thousand that are timed three standard deviations are a tenth at most.
        let is_fair = timed.abs_diff(counted) <= counted / 10 + 500;
        ensure!(
            is_fair || self.guest.is_none(),
            "those that were timed stand for {timed} exits of {counted}"
        );
        Ok(())
    }
}

/// How many exits a VM has had by our hooks' count, and how many its durations stand for.
fn exits_of(snapshot: &Snapshot, of: Thread) -> anyhow::Result<(u64, u64)> {
    let vm = snapshot.vms.iter().find(|vm| vm.origin.pid() == Some(of.pid)).context("a guest is missing")?;
    let counts = vm.exits().iter().map(|(_, exits)| (exits.count, exits.latency.counts.iter().sum::<u64>()));
    Ok(counts.fold((0, 0), |sum, add| (sum.0 + add.0, sum.1 + add.1)))
}

/// While there is a guest the hooks hold the module; once the last is gone nothing of the sampler's does.
pub(super) fn kvm_is_let_go(context: &Context) -> anyhow::Result<Outcome> {
    let held = || -> anyhow::Result<u64> {
        Ok(fs::read_to_string("/sys/module/kvm/refcnt").context("kvm is no module here")?.trim().parse()?)
    };
    let mut source = sampler::start()?;
    let before = held()?;
    let mut hooks = Vec::new();
    for _ in 0..3 {
        let guest =
            Guest::start(&context.binary("tiny-vmm")?, &GuestConfig::new("passer-by", 1, Load::Busy))?;
        let by_guest = held()?;
        sampler::follow(&mut source, &threads_of(&guest))?;
        let with_hooks = held()?;
        ensure!(with_hooks > by_guest, "the hooks hold nothing: {with_hooks}, the guest alone {by_guest}");
        guest.end(Ending::Killed)?;
        let end = Instant::now() + Duration::from_secs(10);
        while held()? != before {
            // As the sampling thread does when the ring has news.
            source.drain();
            ensure!(Instant::now() < end, "kvm is held {} times, {before} before", held()?);
            thread::sleep(Duration::from_millis(10));
        }
        hooks.push(with_hooks - by_guest);
    }
    Ok(Outcome::Passed(format!("three times held by {hooks:?} hooks, and by none once the guest is gone")))
}
