//! How much is told of a guest: less where it exits too often, and nothing that would hold KVM's module.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::model::{Level, State};
use hvsampler::source::Levels;

use super::sampler;
use super::states::{interval_of, threads_of};
use crate::guest::{Ending, Guest, GuestConfig};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// Time for one of these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(2);

/// A guest that leaves for the VMM all the time is told of at level basic from the first interval on in which
/// it was too much; its neighbour is not.
pub(super) fn too_many_exits(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let (burn, sleep) = (Duration::from_millis(2), Duration::from_millis(50));
    let guests = [
        Guest::start(&binary, &GuestConfig::new("often", 1, Load::Io))?,
        Guest::start(&binary, &GuestConfig::new("seldom", 1, Load::Half { burn, sleep }))?,
    ];
    let threads: Vec<_> = guests.iter().flat_map(threads_of).collect();
    let mut source = sampler::start()?;
    source.set_levels(Levels { most: Level::Full, max_exits: 1000 });
    sampler::follow(&mut source, &threads)?;
    source.snapshot()?;
    thread::sleep(INTERVAL);
    let snapshot = source.snapshot()?;
    let level = |snapshot: &hvsampler::model::Snapshot, n: usize| {
        let vm = snapshot.vms.iter().find(|vm| vm.origin.pid() == Some(threads[n].pid));
        vm.and_then(|vm| vm.level()).context("a guest is missing")
    };
    ensure!(
        level(&snapshot, 0)? == Level::Basic && level(&snapshot, 1)? == Level::Full,
        "{:?}",
        snapshot.vms
    );
    ensure!(
        snapshot.sampler.levels_lowered == 1 && snapshot.sampler.vms_lowered == 1,
        "{:?}",
        snapshot.sampler
    );
    // The interval in which it is lowered has both; the next has run time alone, and what was told before
    // stays.
    thread::sleep(INTERVAL);
    source.snapshot()?;
    thread::sleep(INTERVAL);
    let snapshot = source.snapshot()?;
    let [often, seldom] = [interval_of(&snapshot, threads[0])?, interval_of(&snapshot, threads[1])?];
    ensure!(
        often.states.get(State::Run) == Some(often.run_ns) && often.states.get(State::Vmm).is_none(),
        "{often:?}"
    );
    // Where KVM tells of no entries what is left is not told apart.
    let is_entered = seldom.states.get(State::Guest).is_some() || context.in_lab();
    ensure!(seldom.states.get(State::Run).is_none() == is_entered, "{seldom:?}");
    ensure!(seldom.states.get(State::Vmm).is_some(), "{seldom:?}");
    for interval in [often, seldom] {
        super::modes::add_up(&interval)?;
    }
    let exits = often.kvm.and_then(|kvm| kvm.get(hvsampler::model::KvmStat::Exits)).unwrap_or_default();
    // Basic for all, and full again: what an operator may ask for while the sampler runs.
    source.set_levels(Levels { most: Level::Basic, max_exits: 1000 });
    let snapshot = source.snapshot()?;
    ensure!(level(&snapshot, 1)? == Level::Basic, "{:?}", snapshot.vms);
    source.set_levels(Levels { most: Level::Full, max_exits: 1000 });
    let snapshot = source.snapshot()?;
    ensure!(level(&snapshot, 1)? == Level::Full, "{:?}", snapshot.vms);
    sampler::nothing_lost(&snapshot.sampler)?;
    Ok(Outcome::Passed(format!(
        "{:.0} exits a second are too many, its neighbour is told of in full",
        exits as f64 * 1e9 / often.wall_ns as f64
    )))
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
