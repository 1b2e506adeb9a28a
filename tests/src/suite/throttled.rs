//! Time for which a CPU quota holds a vCPU back: shown apart from what others take, and as long as its group
//! counts it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::model::{OccupantKind, Snapshot, State, Vm};
use hvsampler::source::Kvm;

use super::{attribution, modes, sampler};
use crate::exactness::Thread;
use crate::guest::{Guest, GuestConfig};
use crate::host::CpuList;
use crate::oracle::{CpuGroup, CpuQuota, Hierarchy};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// Time for one of these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
const PERIOD: Duration = Duration::from_millis(50);
const QUOTA: Duration = Duration::from_millis(15);
/// Length of the interval that is judged.
const INTERVAL: Duration = Duration::from_secs(5);
/// The group counts a time when it is over.
const ENDS_NS: u64 = 2_000_000;

/// A guest whose quota runs out in every period: alone on its CPU under a quota of its own, then beside
/// another guest and under a quota of the group above. What the quota held back is what its group counts, to
/// two percent, and what it waited beyond that is the other's.
pub(super) fn by_a_quota(context: &Context) -> anyhow::Result<Outcome> {
    let above = CpuGroup::create(Hierarchy::find_or_mount(&context.directory().join("cgroup"))?)?;
    let own = above.create_inside()?;
    let alone = judge(context, &own, &own, false)?;
    own.set_quota(None)?;
    let beside = judge(context, &above, &own, true)?;
    Ok(Outcome::Passed(format!("alone, own quota: {alone}; beside another, quota above: {beside}")))
}

fn judge(context: &Context, limited: &CpuGroup, of_guest: &CpuGroup, beside: bool) -> anyhow::Result<String> {
    let binary = context.binary("tiny-vmm")?;
    let allowed = CpuList::allowed().context("cannot read the allowed CPUs")?;
    let cpu = CpuList::one(allowed.numbers()[0])?;
    let start = |name: &str| Guest::start(&binary, &GuestConfig::new(name, 1, Load::Busy).on(&cpu));
    let guest = start("limited")?;
    let other = beside.then(|| start("other")).transpose()?;
    of_guest.add_process(guest.pid())?;
    limited.set_quota(Some(CpuQuota { quota: QUOTA, period: PERIOD }))?;
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &[Thread { pid: guest.pid(), tid: guest.tids()[0] }])?;
    let (_, before) = at_the_end_of_a_throttling(&mut source, limited)?;
    thread::sleep(INTERVAL);
    let (taken, after) = at_the_end_of_a_throttling(&mut source, limited)?;
    sampler::nothing_lost(&taken.sampler)?;
    attribution::all_add_up(&taken)?;
    let vm =
        taken.vms.iter().find(|vm| vm.origin.pid() == Some(guest.pid())).context("the guest is missing")?;
    let interval = vm.vcpus[0].interval.context("no interval")?;
    modes::add_up(&interval)?;
    for share in vm.shares.iter().flat_map(|shares| shares.iter()) {
        let name = share.occupant.name.as_deref().unwrap_or("-");
        context.detail(format!("{} {name} took {:.4} s", share.occupant.kind.key(), share.ns as f64 / 1e9));
    }
    let throttled =
        interval.states.get(State::Throttled).context("this kernel keeps no clock of what quotas take")?;
    let steal = interval.states.get(State::Steal).unwrap_or_default();
    let counted = after - before;
    ensure!(
        throttled.abs_diff(counted) <= counted / 50 + ENDS_NS,
        "throttled {throttled} ns, the group counts {counted} ns: {interval:?}"
    );
    ensure!(taken_by(vm, |kind, _| kind == OccupantKind::Quota) == throttled, "{:?}", vm.shares);
    if let Some(other) = &other {
        let id = taken.vms.iter().find(|vm| vm.origin.pid() == Some(other.pid())).map(|vm| vm.id.clone());
        let by_other = taken_by(vm, |kind, by| kind == OccupantKind::Vm && by == id.as_deref());
        ensure!(steal > interval.wall_ns / 10, "the other guest took {steal} ns alone: {interval:?}");
        // Other processes of the machine want the CPU as well, and more of it where it is emulated.
        let rest = steal / if context.in_lab() { 20 } else { 50 };
        ensure!(steal.abs_diff(by_other) <= rest, "of {steal} ns {by_other}: {:?}", vm.shares);
        let nobodys = taken_by(vm, |kind, _| kind == OccupantKind::Unattributed);
        ensure!(nobodys <= steal / 100, "of {steal} ns {nobodys} are nobody's: {:?}", vm.shares);
    } else {
        // An emulated machine is slow in all that its kernel does meanwhile.
        let near_nothing = interval.wall_ns / if context.in_lab() { 20 } else { 50 };
        ensure!(steal < near_nothing, "nobody else wants the CPU: {interval:?}, {:?}", vm.shares);
    }
    Ok(format!(
        "throttled {:.4} s, counted {:.4} s, stolen {:.4} s of {:.3} s",
        throttled as f64 / 1e9,
        counted as f64 / 1e9,
        steal as f64 / 1e9,
        interval.wall_ns as f64 / 1e9
    ))
}

/// A snapshot right after the group was let go, and what it counts by then, ns: what goes on it does not
/// count.
fn at_the_end_of_a_throttling(source: &mut Kvm, group: &CpuGroup) -> anyhow::Result<(Snapshot, u64)> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let before = group.throttling()?.throttled_ns;
    let start = Instant::now();
    loop {
        let counted = group.throttling()?.throttled_ns;
        if counted != before {
            return Ok((attribution::snapshot(source)?, counted));
        }
        ensure!(start.elapsed() < PATIENCE, "the quota did not run out in {PATIENCE:?}");
        thread::sleep(Duration::from_micros(200));
    }
}

fn taken_by(vm: &Vm, is: impl Fn(OccupantKind, Option<&str>) -> bool) -> u64 {
    let shares = vm.shares.iter().flat_map(|shares| shares.iter());
    shares.filter(|share| is(share.occupant.kind, share.occupant.id.as_deref())).map(|share| share.ns).sum()
}
