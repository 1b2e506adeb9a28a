//! The service is stopped and started again and again while its guests live on.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::collector::Site;
use super::counted::Snapshot;
use super::now_unix_ns;
use super::point::{Attribute, Point};
use super::prometheus::{NativeHistograms, Prometheus};
use super::received::Batch;
use super::service::{Service, Settings};
use super::streams::{self, Bounds, Compared, check, vms_of};
use crate::guest::{Guest, GuestConfig};
use crate::host::CpuList;
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// The service lives so often: it is stopped and started five times.
const LIVES: usize = 6;
/// Which of them ends by SIGKILL.
const KILLED: usize = 2;
/// Snapshots of each, one a second.
const SNAPSHOTS: usize = 4;
/// Time without a service.
const PAUSE: Duration = Duration::from_millis(700);
/// By how much a value may be older than its point, where the snapshot does not say that it was later than
/// that: the last of a service says nothing.
const READING_NS: u64 = 50_000_000;
/// How far apart the start of what the kernel counts may be by two services: each takes the distance from
/// boot time to Unix time anew, and a host that NTP slews by 500 parts in a million goes 20 ms in 40 s.
const STARTS_NS: u64 = 100_000_000;
/// What two that fight for a CPU certainly have in each second: the kernel's counts, and of the sampler's the
/// steal.
const MOVE: [&str; 4] = [
    "hypervisor.vcpu.cpu.time",
    "hypervisor.vcpu.run_delay",
    "hypervisor.vcpu.timeslices",
    "hypervisor.vcpu.time",
];
/// How many fight.
const FIGHTERS: u32 = 2;

/// When a service lived, Unix time in ns.
struct Life {
    began: u64,
    ended: u64,
}

/// By what the collector wrote no value falls without a later start, and none grows faster than the guest can
/// make it.
pub(in super::super) fn restarts(context: &Context) -> anyhow::Result<Outcome> {
    const PROTOCOL: &str = "grpc";
    let site = Site::choose(context)?;
    let _prometheus = Prometheus::start(context, site.prometheus, NativeHistograms::Refused)?;
    let collector = site.open(context)?;
    let guests = guests(context)?;
    let settings = Settings::of(&site, PROTOCOL, "1s");
    let (mut lives, mut late_ns) = (Vec::new(), BTreeMap::new());
    for n in 0..LIVES {
        let began = now_unix_ns()?;
        let mut service = Service::start(context, &settings)?;
        service.wait_until("all guests are seen", |snapshots| see(snapshots, &guests))?;
        service.wait_for_more(SNAPSHOTS)?;
        let snapshots = if n == KILLED { service.kill()? } else { service.stop()?.snapshots };
        late_ns.extend(snapshots.iter().map(|snapshot| (snapshot.at_unix_ns, lateness_ns(snapshot))));
        lives.push(Life { began, ended: now_unix_ns()? });
        thread::sleep(PAUSE);
    }
    collector.stop()?;

    let received = site.received()?;
    let vcpus = guests.iter().map(|guest| Ok((vm_of(&received, guest)?, guest.vcpus().len() as u32)));
    let vcpus: BTreeMap<String, u32> = vcpus.collect::<anyhow::Result<_>>()?;
    let latest_ns = late_ns.values().max().copied().unwrap_or(0);
    let Compared { streams, points, rates, fell, starts_apart_ns } =
        check(&received, &Bounds { vcpus, reading_ns: READING_NS, late_ns, starts_ns: STARTS_NS })?;
    let lived = in_each(&received, &vm_of(&received, &guests[0])?, &lives)?;
    ensure!(fell > 0, "nothing began anew: were there {LIVES} services?");
    Ok(Outcome::Passed(format!(
        "{points} points of {streams} streams of {LIVES} services, {rates} rates; {fell} values fell, each with a later \
         start; {lived} streams go through all; starts {starts_apart_ns} ns apart at most, snapshots {:.1} ms late",
        latest_ns as f64 / 1e6
    )))
}

/// First the one whose vCPUs fight for a CPU; one that halts for good; one that sleeps now and then.
fn guests(context: &Context) -> anyhow::Result<[Guest; 3]> {
    let binary = context.binary("tiny-vmm")?;
    let allowed = CpuList::allowed().context("the allowed CPUs cannot be read")?;
    let (first, last) =
        allowed.numbers().first().zip(allowed.numbers().last()).context("no CPU is allowed")?;
    let half = Load::Half { burn: Duration::from_millis(1), sleep: Duration::from_millis(9) };
    let start = |name, vcpus, load, cpu| -> anyhow::Result<Guest> {
        Ok(Guest::start(&binary, &GuestConfig::new(name, vcpus, load).on(&CpuList::one(cpu)?))?)
    };
    Ok([
        start("fights", FIGHTERS, Load::Busy, *first)?,
        start("halts", 1, Load::Halt, *last)?,
        start("rests", 1, half, *last)?,
    ])
}

fn see(snapshots: &[Snapshot], guests: &[Guest]) -> bool {
    let is_in =
        |guest: &Guest, last: &Snapshot| last.vms.iter().any(|vm| vm.pid() == Some(guest.pid().into()));
    snapshots.last().is_some_and(|last| guests.iter().all(|guest| is_in(guest, last)))
}

fn lateness_ns(snapshot: &Snapshot) -> u64 {
    snapshot.sampler.get("last_lateness_ns").copied().unwrap_or(0)
}

/// The identity of a guest, which is the same in all lives of the service.
fn vm_of(received: &[Batch], guest: &Guest) -> anyhow::Result<String> {
    let ids = vms_of(received, guest.pid());
    let [id] = ids[..] else { anyhow::bail!("the VM of process {} is {ids:?}", guest.pid()) };
    Ok(id.to_owned())
}

/// Fails unless what certainly moves has two points in each life. Returns how many streams that are.
fn in_each(received: &[Batch], vm: &str, lives: &[Life]) -> anyhow::Result<usize> {
    let mut found = 0;
    for ((_, _, metric, attributes), points) in streams::streams(received) {
        let is = |key, value: &str| match attributes.get(key) {
            Some(Attribute::Text(text)) => Some(text == value),
            _ => None,
        };
        let is_steal = is("hypervisor.vcpu.state", "steal").unwrap_or(true);
        if is("hypervisor.vm.id", vm) != Some(true) || !MOVE.contains(&metric) || !is_steal {
            continue;
        }
        for Life { began, ended } in lives {
            let is_in = |point: &&&Point| (*began..=*ended).contains(&point.at_unix_ns);
            let count = points.iter().filter(is_in).count();
            ensure!(count >= 2, "{} has {count} points between {began} and {ended}", points[0].series);
        }
        found += 1;
    }
    let expected = MOVE.len() * FIGHTERS as usize;
    ensure!(found == expected, "{found} streams of the two that fight, not {expected}");
    Ok(found)
}
