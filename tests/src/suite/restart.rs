//! A sampler that ends and begins again while a guest lives: what the kernel counts goes on with the start
//! that it had, and what the sampler counts begins anew.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use hvsampler::model::Snapshot;
use hvsampler::model::catalog::{Entity, Instrument, Places, Start, Unit, Values, VcpuEntity, VmEntity};

use super::sampler;
use super::states::threads_of;
use crate::exactness::Thread;
use crate::guest::{Guest, GuestConfig};
use crate::host::CpuList;
use crate::oracle::Schedstat;
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// Time for the test.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// The guest has lived for so long before anybody samples: a jump by its life would show.
const LIFE: Duration = Duration::from_secs(3);
/// Time between two snapshots.
const INTERVAL: Duration = Duration::from_secs(2);
/// Time without a sampler.
const PAUSE: Duration = Duration::from_secs(1);
/// Both fight for one CPU, so that each runs, waits and switches.
const VCPUS: u32 = 2;
/// Families of which the guest certainly moves the values.
const MOVE: [&str; 4] = [
    "hypervisor.vcpu.cpu.time",
    "hypervisor.vcpu.run_delay",
    "hypervisor.vcpu.preemptions",
    "hypervisor.vcpu.timeslices",
];

/// Two samplers, one after the other, under one busy guest.
pub(super) fn under_a_living_guest(context: &Context) -> anyhow::Result<Outcome> {
    let allowed = CpuList::allowed().context("cannot read the allowed CPUs")?;
    let cpu = CpuList::one(allowed.numbers()[0])?;
    let config = GuestConfig::new("survivor", VCPUS, Load::Busy).on(&cpu);
    let guest = Guest::start(&context.binary("tiny-vmm")?, &config)?;
    thread::sleep(LIFE);
    let threads = threads_of(&guest);
    let before = Life::of_a_sampler(&threads, &guest)?;
    thread::sleep(PAUSE);
    let after = Life::of_a_sampler(&threads, &guest)?;
    let slack = slack(context);
    let apart = goes_on(&before, &after, slack)?;
    for life in [&before, &after] {
        begins_at_zero(life, slack)?;
    }
    let (created, followed) = (apart.len(), counted(&after.first, Start::Followed).count());
    Ok(Outcome::Passed(format!(
        "{created} series of the kernel's counts went on, their starts {:.3} ms apart at most; {followed} of the \
         sampler's began anew",
        apart.into_iter().max().unwrap_or_default() as f64 / 1e6
    )))
}

/// What the distance between boot time and Unix time may change by from one start of the sampler to the next,
/// ns. It is taken anew at each start between two readings of the clock, so it is off by half of what may
/// happen between them: microseconds, but a time slice of somebody else where the thread loses its CPU there.
/// And the host's clock is slewed meanwhile.
fn slack(context: &Context) -> u64 {
    if context.in_lab() { 500_000_000 } else { 100_000_000 }
}

/// A series of a snapshot.
#[derive(Debug, Clone, Copy)]
struct Seen {
    start: Start,
    start_unix_ns: u64,
    value: u64,
    is_time: bool,
}

/// By name of the family, thread (0: the VM) and place.
type AllSeen = BTreeMap<(&'static str, u32, usize), Seen>;

/// What one sampler showed.
struct Life {
    /// Before it was there, Unix time in ns.
    begin_unix_ns: u64,
    /// What the kernel had counted before the first snapshot, in the order of the threads.
    counted: BTreeMap<u32, Schedstat>,
    first_at: u64,
    first: AllSeen,
    last_at: u64,
    last: AllSeen,
}

impl Life {
    /// Starts a sampler, takes two snapshots with it, and ends it.
    fn of_a_sampler(threads: &[Thread], guest: &Guest) -> anyhow::Result<Self> {
        let begin_unix_ns = unix_ns()?;
        let mut source = sampler::start_as_service()?;
        sampler::follow(&mut source, threads)?;
        let counted = threads.iter().map(|thread| Ok((thread.tid, Schedstat::of(thread.pid, thread.tid)?)));
        let counted = counted.collect::<anyhow::Result<_>>()?;
        let first = source.snapshot()?;
        thread::sleep(INTERVAL);
        let last = source.snapshot()?;
        sampler::nothing_lost(&last.sampler)?;
        Ok(Self {
            begin_unix_ns,
            counted,
            first_at: first.at_unix_ns,
            first: seen(&first, guest)?,
            last_at: last.at_unix_ns,
            last: seen(&last, guest)?,
        })
    }
}

fn unix_ns() -> anyhow::Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}

/// All that only rises, of the guest and its vCPUs.
fn seen(snapshot: &Snapshot, guest: &Guest) -> anyhow::Result<AllSeen> {
    let mut all = AllSeen::new();
    let of_guest = |pid: Option<u32>| pid == Some(guest.pid());
    for (vm, vcpu) in VcpuEntity::each(snapshot).filter(|(vm, _)| of_guest(vm.and_then(|vm| vm.origin.pid())))
    {
        add::<VcpuEntity>(&mut all, vcpu.tid.context("a vCPU without a thread")?, vcpu, |start| {
            VcpuEntity::start(vm, vcpu, start)
        });
    }
    let vcpus = all.keys().map(|(_, tid, _)| *tid).collect::<std::collections::BTreeSet<_>>();
    ensure!(vcpus.into_iter().eq(sorted(guest.tids())), "the vCPUs of the snapshot are others");
    for (of, vm) in VmEntity::each(snapshot).filter(|(_, vm)| of_guest(vm.origin.pid())) {
        add::<VmEntity>(&mut all, 0, vm, |start| VmEntity::start(of, vm, start));
    }
    Ok(all)
}

fn sorted(mut tids: Vec<u32>) -> Vec<u32> {
    tids.sort_unstable();
    tids
}

fn add<E: Entity>(all: &mut AllSeen, tid: u32, data: &E::Data, start: impl Fn(Start) -> u64) {
    for series in E::SERIES.iter().filter(|series| series.family.instrument == Instrument::Counter) {
        let Values::Numbers(values) = series.values else { continue };
        let mut numbers = vec![0; series.places()];
        let mut places = Places::new(&mut numbers);
        values(data, &mut places);
        let present = places.present();
        for (place, value) in numbers.into_iter().enumerate().filter(|(place, _)| present >> place & 1 != 0) {
            let seen = Seen {
                start: series.start,
                start_unix_ns: start(series.start),
                value,
                is_time: series.family.unit == Unit::Seconds,
            };
            all.insert((series.family.name, tid, place), seen);
        }
    }
}

fn counted(all: &AllSeen, start: Start) -> impl Iterator<Item = (&(&'static str, u32, usize), &Seen)> {
    all.iter().filter(move |(_, seen)| seen.start == start)
}

/// What the kernel counts has the same start under both samplers and never falls, and is not behind what the
/// kernel says. Returns how far apart the starts are, ns.
fn goes_on(before: &Life, after: &Life, slack: u64) -> anyhow::Result<Vec<u64>> {
    let mut apart = Vec::new();
    for (key @ (name, tid, _), then) in counted(&before.last, Start::Created) {
        let all = [&before.first, &before.last, &after.first, &after.last].map(|all| all.get(key).copied());
        let [Some(first), Some(last), Some(again), Some(end)] = all else {
            anyhow::bail!("{key:?} is not in all snapshots: {all:?}");
        };
        let values = [first, last, again, end].map(|seen| seen.value);
        ensure!(values.is_sorted(), "{key:?} falls: {values:?}");
        ensure!(
            !MOVE.contains(name) || (last.value < again.value && again.value < end.value),
            "{key:?}: {values:?}"
        );
        ensure!(
            first.start_unix_ns == then.start_unix_ns && again.start_unix_ns == end.start_unix_ns,
            "{all:?}"
        );
        let starts = then.start_unix_ns.abs_diff(again.start_unix_ns);
        ensure!(starts <= slack, "{key:?} begins {starts} ns apart: {all:?}");
        ensure!(
            again.start_unix_ns + LIFE.as_nanos() as u64 <= before.begin_unix_ns + slack,
            "{key:?}: {again:?}"
        );
        apart.push(starts);
        let kernel = after.counted.get(tid);
        let least = kernel.map(|kernel| match *name {
            "hypervisor.vcpu.cpu.time" => kernel.run_ns,
            "hypervisor.vcpu.run_delay" => kernel.run_delay_ns,
            "hypervisor.vcpu.timeslices" => kernel.timeslices,
            _ => 0,
        });
        ensure!(
            least.is_none_or(|least| least <= again.value),
            "{key:?}: {again:?}, the kernel had {kernel:?}"
        );
    }
    for name in MOVE {
        let vcpus = before.last.keys().filter(|(family, ..)| *family == name).count();
        ensure!(vcpus == VCPUS as usize, "{name} of {vcpus} vCPUs");
    }
    Ok(apart)
}

/// What the sampler counts has its start within the sampler's life, and no more time than has passed since.
/// The states of a vCPU come to just that.
fn begins_at_zero(life: &Life, slack: u64) -> anyhow::Result<()> {
    let mut states: BTreeMap<u32, [u64; 2]> = BTreeMap::new();
    for (at, all, n) in [(life.first_at, &life.first, 0), (life.last_at, &life.last, 1)] {
        for (key @ (name, tid, _), seen) in counted(all, Start::Followed) {
            ensure!(
                (life.begin_unix_ns..=at + slack).contains(&(seen.start_unix_ns + slack)),
                "{key:?} begins at {}, its sampler at {}",
                seen.start_unix_ns,
                life.begin_unix_ns
            );
            let threads = if *tid == 0 { u64::from(VCPUS) } else { 1 };
            let most = (at.saturating_sub(seen.start_unix_ns) + slack) * threads;
            ensure!(!seen.is_time || seen.value <= most, "{key:?}: {} ns in {most} ns", seen.value);
            if *name == "hypervisor.vcpu.time" {
                let sums = states.entry(*tid).or_default();
                sums[n] += seen.value;
                let since = at.saturating_sub(seen.start_unix_ns);
                ensure!(since < life.last_at - life.begin_unix_ns + slack, "{key:?} since {since} ns");
            }
        }
    }
    ensure!(states.len() == VCPUS as usize, "states of {} vCPUs", states.len());
    let since = |tid: u32, all: &AllSeen, at: u64| {
        let own = all.iter().find(|((name, of, _), _)| *name == "hypervisor.vcpu.time" && *of == tid);
        own.map_or(0, |(_, seen)| at.saturating_sub(seen.start_unix_ns))
    };
    for (tid, [first, last]) in states {
        let expected = [since(tid, &life.first, life.first_at), since(tid, &life.last, life.last_at)];
        ensure!(
            first.abs_diff(expected[0]) <= slack && last.abs_diff(expected[1]) <= slack,
            "the states of {tid} come to {first} and {last} ns, {expected:?} ns after their start"
        );
    }
    Ok(())
}
