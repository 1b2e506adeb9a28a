//! The collector is away for a while.

use std::collections::BTreeMap;

use anyhow::ensure;

use super::collector::Site;
use super::compare::{Deviation, summary};
use super::guests::Guests;
use super::point::Point;
use super::prometheus::{NativeHistograms, Prometheus};
use super::service::{Service, Settings};
use super::verify::Delivery;
use super::{complete, now_unix_ns, see_death, sees};
use crate::runner::{Context, Outcome};

/// Nobody listens at first; what the queue holds arrives later, in order, a guest's end among it.
pub(in super::super) fn outage(context: &Context) -> anyhow::Result<Outcome> {
    const PROTOCOL: &str = "grpc";
    let site = Site::choose(context)?;
    let _prometheus = Prometheus::start(context, site.prometheus, NativeHistograms::Refused)?;
    let mut guests = Guests::start(context)?;
    let began = now_unix_ns()?;
    let settings = Settings::of(&site, PROTOCOL, "500ms");
    let mut service = Service::start(context, &settings)?;
    service.wait_until("all guests are seen", |snapshots| sees(snapshots, &guests))?;
    service.wait_for_log("fails and is tried again")?;
    let killed = see_death(&mut service, &mut guests)?;
    service.wait_for_more(4)?;
    let away = service.snapshots()?.len();
    let collector = site.open(context)?;
    service.wait_for_more(3)?;
    let record = service.stop()?;
    collector.stop()?;

    let delivery = Delivery::of(&record.snapshots, site.received()?, began)?;
    complete(&record, &delivery)?;
    delivery.has_ended(&killed)?;
    let (failures, retries) =
        (delivery.own_value("export.failures", None)?, delivery.own_value("export.retries", None)?);
    ensure!(failures > 0 && retries == failures, "{failures} failures, {retries} retries");
    Ok(Outcome::Passed(format!(
        "{away} of {} snapshots waited for the collector, {} points are equal and in order after {failures} failures",
        record.snapshots.len(),
        delivery.received.len()
    )))
}

/// Nobody listens for longer than the queue lasts: what is lost is whole snapshots, and the sampler counts
/// them.
pub(in super::super) fn losses(context: &Context) -> anyhow::Result<Outcome> {
    const PROTOCOL: &str = "http/protobuf";
    // Some snapshots of this test's guests, and one at least where others run beside them.
    const FEW_BYTES: usize = 24 << 10;
    let site = Site::choose(context)?;
    let _prometheus = Prometheus::start(context, site.prometheus, NativeHistograms::Refused)?;
    let guests = Guests::start(context)?;
    let began = now_unix_ns()?;
    let settings = Settings { queue_bytes: FEW_BYTES, ..Settings::of(&site, PROTOCOL, "200ms") };
    let mut service = Service::start(context, &settings)?;
    service.wait_until("all guests are seen", |snapshots| sees(snapshots, &guests))?;
    service.wait_for_log("drops data (queue_full)")?;
    service.wait_for_more(2)?;
    let collector = site.open(context)?;
    service.wait_for_log("works again")?;
    service.wait_for_more(3)?;
    let record = service.stop()?;
    collector.stop()?;

    let delivery = Delivery::of(&record.snapshots, site.received()?, began)?;
    let lost = lost(&delivery)?;
    whole_snapshots(&delivery.counted, &lost)?;
    let ends = lost.iter().filter(|point| point.is_end()).count();
    let counted = |row: &str| delivery.own_value(&format!("export.dropped.{row}"), Some("queue_full"));
    ensure!(
        (counted("points")?, counted("ends")?) == (lost.len() as u64, ends as u64),
        "the sampler counts {} points lost, of these {} ends; missing are {} and {ends}",
        counted("points")?,
        counted("ends")?,
        lost.len()
    );
    for reason in ["refused", "too_large", "expired", "encoder_busy", "shutdown"] {
        let others = delivery.own_value("export.dropped.points", Some(reason))?;
        ensure!(others == 0, "{others} points were dropped for the reason {reason}");
    }
    let said = format!("points={}", lost.len());
    ensure!(record.log.contains(&said), "the service does not say {said}: {}", record.log);
    Ok(Outcome::Passed(format!(
        "{} points were lost and counted, the other {} are equal and in order",
        lost.len(),
        delivery.received.len()
    )))
}

/// Prometheus is away and the collector's queue for it is full: the collector refuses what it has no room
/// for, and the sampler keeps it.
pub(in super::super) fn full_collector(context: &Context) -> anyhow::Result<Outcome> {
    const PROTOCOL: &str = "grpc";
    let site = Site::choose(context)?;
    let _collector = site.open_with(context, &[("HVS_QUEUE", "1")])?;
    let settings = Settings::of(&site, PROTOCOL, "200ms");
    let mut service = Service::start(context, &settings)?;
    service.wait_for_log("fails and is tried again: gRPC UNAVAILABLE: ")?;
    // Both are killed: they would send what waits for as long as they may.
    let snapshots = service.kill()?;
    Ok(Outcome::Passed(format!("refused after {} snapshots, which the sampler keeps", snapshots.len())))
}

/// The points that did not arrive; fails when there are none, or other deviations.
fn lost(delivery: &Delivery) -> anyhow::Result<Vec<&Point>> {
    let missing = delivery.deviations.iter().filter_map(|deviation| match deviation {
        Deviation::Missing(point) => Some(point),
        _ => None,
    });
    let lost: Vec<&Point> = missing.collect();
    ensure!(!lost.is_empty(), "the queue was full, and yet nothing is missing");
    ensure!(lost.len() == delivery.deviations.len(), "{}", summary(&delivery.deviations));
    Ok(lost)
}

/// Fails unless each snapshot is lost as a whole or not at all, and not the last.
fn whole_snapshots(counted: &[Point], lost: &[&Point]) -> anyhow::Result<()> {
    let mut snapshots: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for point in counted {
        snapshots.entry(point.at_unix_ns).or_default().0 += 1;
    }
    for point in lost {
        snapshots.entry(point.at_unix_ns).or_default().1 += 1;
    }
    for (at, (points, lost)) in &snapshots {
        ensure!(
            *lost == 0 || lost == points,
            "{lost} of the {points} points of the snapshot at {at} are lost"
        );
    }
    let last = snapshots.last_key_value().map_or(0, |(_, (_, lost))| *lost);
    ensure!(last == 0, "the last snapshot is lost though the collector was there");
    Ok(())
}
