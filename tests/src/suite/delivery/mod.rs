//! The sampler's numbers on their way to where operators read them: through the official OpenTelemetry
//! Collector, and from there into Prometheus.
//!
//! | module | what it holds |
//! |---|---|
//! | `counted` | what the service printed of each snapshot, and the points that must come of it |
//! | `received` | what the collector's file exporter wrote |
//! | `compare` | the two, point by point; pure |
//! | `verify` | what must hold beyond single points |
//! | `streams` | what must hold of each stream, whoever sends it; pure |
//! | `daemon`, `collector`, `service`, `prometheus`, `guests` | the processes |

mod collector;
mod compare;
mod counted;
mod daemon;
mod guests;
mod outage;
mod point;
mod prometheus;
mod received;
mod restarts;
mod service;
mod streams;
#[cfg(test)]
mod tests;
mod verify;

pub(super) use daemon::Daemon;
pub(super) use outage::{full_collector, losses, outage};
pub(super) use prometheus::prometheus;
pub(super) use restarts::restarts;

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};

use self::collector::Site;
use self::counted::{Object, Snapshot};
use self::guests::{Guests, STARVED};
use self::prometheus::{NativeHistograms, Prometheus};
use self::service::{Record, Service, Settings};
use self::verify::Delivery;
use crate::runner::{Context, Need, Outcome};

/// What the tests cannot do without.
pub(super) const NEEDS: &[Need] =
    &[Need::Kvm, Need::Bpf, Need::Collector, Need::Prometheus, Need::Disk, Need::Tun];
/// Time for one test.
pub(super) const LIMIT: Duration = Duration::from_secs(300);

/// Families of which a guest of these tests has something.
const FAMILIES_OF_DEVICES: [&str; 7] = [
    "hypervisor.vm.disk.operations",
    "hypervisor.vm.disk.io",
    "hypervisor.vm.disk.operation.duration",
    "hypervisor.vm.network.io",
    "hypervisor.vm.network.packets",
    "hypervisor.vm.memory.usage",
    "hypervisor.vm.device.info",
];

pub(super) fn grpc(context: &Context) -> anyhow::Result<Outcome> {
    everything_arrives(context, "grpc")
}

pub(super) fn http(context: &Context) -> anyhow::Result<Outcome> {
    everything_arrives(context, "http/protobuf")
}

/// Births, a death and a last flush: all of it arrives, and nothing else.
fn everything_arrives(context: &Context, protocol: &str) -> anyhow::Result<Outcome> {
    let site = Site::choose(context)?;
    let prometheus = Prometheus::start(context, site.prometheus, NativeHistograms::Refused)?;
    let collector = site.open(context)?;
    let began = now_unix_ns()?;
    let settings = Settings::of(&site, protocol, "500ms");
    let mut service = Service::start(context, &settings)?;
    service.wait_for_more(1)?;
    let mut guests = Guests::start(context)?;
    service.wait_until("all guests are seen", |snapshots| sees(snapshots, &guests))?;
    service.wait_until("the devices of a guest are seen", |snapshots| has_devices(snapshots, &guests))?;
    service.wait_for_more(3)?;
    prometheus.wait_for_guest(STARVED)?;
    let killed = see_death(&mut service, &mut guests)?;
    service.wait_for_more(2)?;
    let record = service.stop()?;
    collector.stop()?;

    let delivery = Delivery::of(&record.snapshots, site.received()?, began)?;
    complete(&record, &delivery)?;
    FAMILIES_OF_DEVICES.iter().try_for_each(|family| delivery.has_family(family))?;
    let ends = delivery.has_ended(&killed)?;
    ensure!(
        delivery.names_of(guests.starved_pid()) == [Some(STARVED)].into(),
        "the hostile name arrived as {:?}",
        delivery.names_of(guests.starved_pid())
    );
    Ok(Outcome::Passed(format!(
        "{} points of {} snapshots over {protocol} are equal, {ends} series of a killed guest ended",
        delivery.received.len(),
        record.snapshots.len()
    )))
}

/// Fails unless everything arrived and the sampler says the same of itself.
fn complete(record: &Record, delivery: &Delivery) -> anyhow::Result<()> {
    delivery.is_exact()?;
    delivery.own_telemetry_agrees(record.snapshots.last().context("no snapshot was taken")?)?;
    ensure!(!record.log.contains("points were dropped"), "the service dropped points: {}", record.log);
    Ok(())
}

fn sees(snapshots: &[Snapshot], guests: &Guests) -> bool {
    snapshots.last().is_some_and(|last| guests.are_in(last))
}

fn has_devices(snapshots: &[Snapshot], guests: &Guests) -> bool {
    snapshots.last().is_some_and(|last| guests.have_devices(last))
}

/// Kills a guest and waits until a snapshot shows it; returns the identity of the VM.
fn see_death(service: &mut Service, guests: &mut Guests) -> anyhow::Result<String> {
    let pid = guests.kill_half()?;
    let known = service.snapshots()?;
    let vm = known.iter().flat_map(|snapshot| &snapshot.vms).find(|vm| vm.pid() == Some(pid.into()));
    let id = vm.and_then(Object::vm_id).context("the killed guest was never seen")?.to_owned();
    service.wait_until("the killed guest has ended", |snapshots| {
        snapshots.iter().flat_map(|snapshot| &snapshot.ended).any(|ended| ended.vm_id() == Some(&*id))
    })?;
    Ok(id)
}

fn now_unix_ns() -> anyhow::Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos())?)
}
