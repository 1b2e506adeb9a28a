//! What disks and interfaces of guests add to the service: the same guests first without any, then with two
//! of each.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::fleet::{self, GUESTS, VCPUS};
use super::machine;
use super::service::Service;
use super::sink::Sink;
use crate::guest::Guest;
use crate::host::{self, Disk, dd};
use crate::oracle::{Controller, Group, Hierarchy};
use crate::vmm::Load;

/// So that all values change.
const LOAD: Load = Load::Half { burn: Duration::from_micros(20), sleep: Duration::from_millis(100) };
const INTERVAL: Duration = Duration::from_secs(1);
const WARM_UP: Duration = Duration::from_secs(45);
const LENGTH: Duration = Duration::from_secs(20);
/// Time between two guests' requests: so that some counts change in each snapshot.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs the benchmark and prints its table.
///
/// # Errors
/// When guests, devices or the service do not start.
pub fn run() -> Result<()> {
    println!("{GUESTS} guests of {VCPUS} vCPUs without devices, then with two disks and two interfaces each");
    println!("| | exported: CPU of the service | not exported | sent per export |");
    println!("|---|---|---|---|");
    let without = {
        let _guests = fleet::start(LOAD)?;
        row("without devices")?
    };
    let with = {
        let mut taps = host::taps((0..GUESTS * 2).map(|n| format!("hvs-{n}")).collect())?;
        // The guest has them then, and nobody else.
        let hand_over = |_| -> Result<Vec<File>> {
            let two = taps.split_off(taps.len() - 2);
            two.iter().try_for_each(|tap| host::inherit(tap, true))?;
            Ok(two)
        };
        let guests = fleet::start_each(LOAD, hand_over)?;
        with_disks(&guests, || row("two disks and two interfaces"))?
    };
    let added = |n: usize| with[n] - without[n];
    println!("| added | {:+.3} % of a core | {:+.3} % | |", added(0), added(1));
    println!("{}", machine());
    Ok(())
}

/// Measures while each guest now and then reads from two disks.
fn with_disks<T>(guests: &[Guest], measure: impl FnOnce() -> Result<T>) -> Result<T> {
    let directory = std::env::temp_dir();
    let disks = [Disk::fast(&directory)?, Disk::fast(&directory)?];
    let grouped = guests.iter().map(|guest| {
        let group = Group::create(Hierarchy::find(Controller::Io)?)?;
        group.add_process(guest.pid())?;
        Ok(group)
    });
    let groups = grouped.collect::<Result<Vec<_>>>()?;
    let is_over = AtomicBool::new(false);
    let reads = |group: &Group| {
        let read = |disk: &Disk| {
            dd(Some(group), &format!("if={} of=/dev/null bs=4k count=4 iflag=direct", disk.path().display()))
        };
        disks.iter().try_for_each(read)
    };
    thread::scope(|scope| {
        let all = scope.spawn(|| -> Result<()> {
            for group in groups.iter().cycle() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                reads(group)?;
                thread::sleep(PAUSE);
            }
            Ok(())
        });
        let measured = measure();
        is_over.store(true, Ordering::Relaxed);
        let read = all.join().map_err(|_| anyhow::anyhow!("whoever reads from the disks panicked"))?;
        read.and(measured)
    })
}

/// CPU time of the service in percent of a core, with export and without.
fn row(name: &str) -> Result<[f64; 2]> {
    let (exported, bytes) = measure(true)?;
    let (alone, _) = measure(false)?;
    println!("| {name} | {exported:.3} % of a core | {alone:.3} % | {bytes:.1} KiB |");
    Ok([exported, alone])
}

fn measure(exports: bool) -> Result<(f64, f64)> {
    let sink = Sink::start()?;
    let binary = host::sibling("hvsampler")?.to_string_lossy().into_owned();
    let service = Service::start(&binary, INTERVAL, exports.then(|| sink.url()).as_deref())?;
    thread::sleep(WARM_UP);
    sink.drain();
    let (before, at) = (service.cpu()?, Instant::now());
    thread::sleep(LENGTH);
    let (after, wall) = (service.cpu()?, at.elapsed());
    let received = sink.drain();
    ensure!(received.is_empty() != exports, "{} requests were received", received.len());
    let bytes: u64 = received.iter().map(|request| request.bytes).sum();
    let snapshots = wall.as_secs_f64() / INTERVAL.as_secs_f64();
    let percent = (after.all_ns - before.all_ns) as f64 / wall.as_nanos() as f64 * 100.0;
    Ok((percent, bytes as f64 / 1024.0 / snapshots))
}
