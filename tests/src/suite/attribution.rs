//! Who took the time that a vCPU waited: each by name, with what it really ran, and all of it.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hvsampler::collect::procfs::ProcFs;
use hvsampler::model::{OccupantKind, Share, Snapshot, Vm};
use hvsampler::source::{Kvm, TaskFacts, unit_of};

use super::sampler;
use crate::exactness::{Oracle as _, ProcOracle, Thread};
use crate::guest::{Guest, GuestConfig, Guests};
use crate::host::{CpuList, Hog};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// Time for one of these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// How long the three fight.
const FIGHT: Duration = Duration::from_secs(6);
/// Two slices of the scheduler, at the ends of the fight.
const ENDS_NS: u64 = 20_000_000;
/// Snapshots of many guests, and the time between two.
const SNAPSHOTS: usize = 4;
const INTERVAL: Duration = Duration::from_secs(2);

/// A victim, another guest and a hog on one CPU: the victim's wait is what the two others ran, each by its
/// name and to within two percent.
pub(super) fn by_whom(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let allowed = CpuList::allowed().context("cannot read the allowed CPUs")?;
    let cpu = CpuList::one(allowed.numbers()[0])?;
    let start = |name: &str| Guest::start(&binary, &GuestConfig::new(name, 1, Load::Busy).on(&cpu));
    let guests: Guests = [start("victim")?, start("other")?].into_iter().collect();
    let hog = Hog::busy(&cpu)?;
    let [victim, other] = [0, 1].map(|n: usize| Thread { pid: guests[n].pid(), tid: guests[n].tids()[0] });
    let hog_thread = Thread { pid: hog.pid(), tid: hog.pid() };
    let mut source = sampler::start_as_service()?;
    sampler::follow(&mut source, &[victim, other])?;
    thread::sleep(INTERVAL);
    let oracle = ProcOracle::default();
    let ran = || {
        let [other, hog] = [other, hog_thread].map(|thread| oracle.schedstat(thread));
        anyhow::Ok([other?.run_ns, hog?.run_ns])
    };
    // A machine that is busy elsewhere may let time go by between two readings: what a occupant ran from
    // snapshot to snapshot is more than the inner two say, and less than the outer two.
    let outer = ran()?;
    snapshot(&mut source)?;
    let inner = ran()?;
    thread::sleep(FIGHT);
    let inner = (inner, ran()?);
    let taken = snapshot(&mut source)?;
    let outer = (outer, ran()?);
    all_add_up(&taken)?;
    let vm = |pid| taken.vms.iter().find(|vm| vm.origin.pid() == Some(pid)).context("a guest is missing");
    let (victim, other) = (vm(victim.pid)?, vm(other.pid)?);
    let shares = victim.shares.as_deref().context("the victim has no interval")?;
    let by_other = |share: &&Share| {
        share.occupant.kind == OccupantKind::Vm && share.occupant.id == Some(other.id.clone())
    };
    let hog_name = name_of(hog_thread.pid).map(|facts| facts.unit.unwrap_or(facts.comm));
    let by_hog = |share: &&Share| {
        share.occupant.kind == OccupantKind::Host && share.occupant.name.as_deref() == hog_name.as_deref()
    };
    let took = [shares.iter().find(by_other), shares.iter().find(by_hog)];
    let mut seen = Vec::new();
    for (n, name) in ["the other guest", "the hog"].into_iter().enumerate() {
        let took = took[n].with_context(|| format!("{name} is no occupant: {shares:?}"))?.ns;
        let [least, most] = [inner, outer].map(|(before, after)| after[n] - before[n]);
        let apart = most / 50 + ENDS_NS;
        ensure!(
            (least.saturating_sub(apart)..=most + apart).contains(&took),
            "{name} took {took} ns, and ran {least} to {most} ns: {shares:?}"
        );
        seen.push(format!(
            "{name} took {:.3} s of {:.3} s that it ran",
            took as f64 / 1e9,
            least as f64 / 1e9
        ));
    }
    Ok(Outcome::Passed(seen.join(", ")))
}

/// Many guests on two CPUs, free to move between them, with a real-time process that comes and goes: every
/// interval's parts come to its steal, and next to nothing is nobody's.
pub(super) fn many(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let allowed = CpuList::allowed().context("cannot read the allowed CPUs")?;
    let few: Vec<String> = allowed.numbers().iter().take(2).map(ToString::to_string).collect();
    let cpus: CpuList = few.join(",").parse()?;
    let (burn, sleep) = (Duration::from_millis(2), Duration::from_millis(3));
    let load = |n: u32| if n.is_multiple_of(3) { Load::Half { burn, sleep } } else { Load::Busy };
    let begin = |n: u32| Guest::begin(&binary, &GuestConfig::new(format!("many-{n}"), 1, load(n)).on(&cpus));
    let guests = Guests::together((0..if context.in_lab() { 8 } else { 40 }).map(begin))?;
    let threads: Vec<_> =
        guests.iter().map(|guest| Thread { pid: guest.pid(), tid: guest.tids()[0] }).collect();
    let hog = Hog::half(&cpus)?;
    let hog_is = if hog.real_time() { "a real-time" } else { "no real-time, but a common" };
    // Where the sampling thread starves among the guests, up to 0.25 % of the waits that go on were nobody's.
    let mut source = sampler::start_as_service()?;
    sampler::follow(&mut source, &threads)?;
    thread::sleep(INTERVAL);
    snapshot(&mut source)?;
    let before = source.collector().hook_stats();
    let (mut stolen, mut nobodys) = (0, 0);
    let mut by_name = BTreeMap::new();
    for _ in 0..SNAPSHOTS {
        thread::sleep(INTERVAL);
        let taken = snapshot(&mut source)?;
        let (all, unattributed) = all_add_up(&taken)?;
        (stolen, nobodys) = (stolen + all, nobodys + unattributed);
        for share in taken.vms.iter().flat_map(|vm| vm.shares.iter().flat_map(|shares| shares.iter())) {
            let name = share.occupant.name.as_deref().filter(|_| share.occupant.kind != OccupantKind::Vm);
            *by_name.entry((share.occupant.kind.key(), name.map(str::to_owned))).or_insert(0) += share.ns;
        }
    }
    ensure!(stolen > 0, "nothing was stolen");
    let last = snapshot(&mut source)?.sampler;
    sampler::nothing_lost(&last)?;
    // A machine with other tracers may call no program for some moves, and the count says for how long then;
    // in a kernel of its own there is nothing but us.
    let after = source.collector().hook_stats();
    let missed_ns = if context.in_lab() { 0 } else { after.missed_ns - before.missed_ns };
    ensure!(
        nobodys.saturating_sub(missed_ns) * 1000 <= stolen,
        "of {stolen} ns {nobodys} are nobody's, {missed_ns} of them for what was missed: {by_name:?}"
    );
    let missed = format!(
        "{} switches and {} moves missed, for {:.3} s",
        after.missed_switches - before.missed_switches,
        after.missed_moves - before.missed_moves,
        (after.missed_ns - before.missed_ns) as f64 / 1e9
    );
    Ok(Outcome::Passed(format!(
        "{} guests and {hog_is} process: {:.1} s stolen, {:.4} % of it by nobody; {missed}",
        guests.len(),
        stolen as f64 / 1e9,
        nobodys as f64 * 100.0 / stolen as f64
    )))
}

/// A snapshot, with the names that it asks for answered at once.
pub(super) fn snapshot(source: &mut Kvm) -> anyhow::Result<Snapshot> {
    sampler::identify(source);
    source.read()?;
    for pid in source.take_unnamed() {
        source.name_task(pid, name_of(pid));
    }
    Ok(source.compose())
}

fn name_of(pid: u32) -> Option<TaskFacts> {
    let name = ProcFs::system().task_name(pid).ok()?;
    Some(TaskFacts { comm: name.comm, unit: name.cgroup.as_deref().and_then(unit_of) })
}

/// Fails where the parts of an interval do not come to the steal of its vCPUs. Returns all steal of the
/// interval, and how much of it nobody is known to have taken, ns.
pub(super) fn all_add_up(snapshot: &Snapshot) -> anyhow::Result<(u64, u64)> {
    let (mut all, mut unattributed) = (0, 0);
    for vm in &snapshot.vms {
        let intervals = || vm.vcpus.iter().filter_map(|vcpu| vcpu.interval);
        let steal: u64 = intervals().map(|interval| interval.run_delay_ns).sum();
        let Some(shares) = &vm.shares else {
            ensure!(intervals().next().is_none(), "{}: nobody is said to have taken {steal} ns", name(vm));
            continue;
        };
        let parts: u64 = shares.iter().map(|share| share.ns).sum();
        ensure!(
            parts == steal,
            "{}: the parts come to {parts} ns, the steal is {steal} ns: {shares:?}",
            name(vm)
        );
        all += steal;
        let nobodys = shares.iter().filter(|share| share.occupant.kind == OccupantKind::Unattributed);
        unattributed += nobodys.map(|share| share.ns).sum::<u64>();
    }
    Ok((all, unattributed))
}

fn name(vm: &Vm) -> &str {
    vm.name().unwrap_or(&vm.id)
}
