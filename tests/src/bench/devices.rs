//! What the guests' disks, interfaces and memory, and the host beside the guests, add to the service: guests
//! without any of these, and the same number of guests with two disks and two interfaces each.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use super::fleet::{self, GUESTS, VCPUS};
use super::machine;
use super::service::Run;
use crate::guest::Guest;
use crate::host::{self, Disk, dd};
use crate::oracle::{Controller, Group, Hierarchy};
use crate::vmm::Load;

/// So that all values change.
const LOAD: Load = Load::Half { burn: Duration::from_micros(20), sleep: Duration::from_millis(100) };
const INTERVAL: Duration = Duration::from_secs(1);
/// Time between two guests' requests: so that some counts change in each snapshot.
const PAUSE: Duration = Duration::from_millis(50);
/// Numbers of guests, where none are asked for: how the price grows.
const SIZES: [usize; 2] = [GUESTS / 4, GUESTS];

/// None of it is sent. What changes slowly is read when a guest appears, and then no more.
const OFF: &str = r#"
slow_interval = "24h"

[host]
pressure = false

[export]
families_off = [
    "hypervisor.vm.disk.*",
    "hypervisor.vm.network.*",
    "hypervisor.vm.device.*",
    "hypervisor.vm.memory.*",
    "hypervisor.vm.pressure.*",
    "hypervisor.vm.vcpu.numa.*",
]
"#;

/// All of it is read and sent.
const ON: &str = "[host]\npressure = true\nsystem = true\n";

/// CPU time of the service in percent of a core, and of its sampling thread alone.
type Percent = [f64; 2];

/// Runs the benchmark and prints its tables, for these numbers of guests.
///
/// # Errors
/// When guests, devices or the service do not start.
pub fn run(sizes: &[String]) -> Result<()> {
    let parse = |size: &String| {
        size.parse().ok().filter(|size| *size > 0).with_context(|| format!("{size} is no number of guests"))
    };
    let sizes = sizes.iter().map(parse).collect::<Result<Vec<usize>>>()?;
    let sizes = if sizes.is_empty() { SIZES.to_vec() } else { sizes };
    let added = sizes.into_iter().map(|guests| Ok((guests, of(guests)?))).collect::<Result<Vec<_>>>()?;
    println!("| guests | added, of a core | by its sampling thread | all of it, by 100 guests |");
    println!("|---|---|---|---|");
    for (guests, [all, sampling]) in added {
        let each = all * 100.0 / guests as f64;
        println!("| {guests} | {all:+.3} % | {sampling:+.3} % | {each:+.3} % |");
    }
    println!("{}", machine());
    Ok(())
}

/// What so many guests' devices add.
fn of(guests: usize) -> Result<Percent> {
    println!("{guests} guests of {VCPUS} vCPUs, exported each second");
    println!(
        "| guests have | families | CPU of the service | its sampling thread | memory | sent per export |"
    );
    println!("|---|---|---|---|---|---|");
    let without = {
        let _guests = fleet::start_each(guests, LOAD, |_| Ok(()))?;
        row("no devices", OFF)?
    };
    let mut taps = host::taps((0..guests * 2).map(|n| format!("hvs-{n}")).collect())?;
    // The guest has them then, and nobody else.
    let hand_over = |_| -> Result<Vec<File>> {
        let two = taps.split_off(taps.len() - 2);
        two.iter().try_for_each(|tap| host::inherit(tap, true))?;
        Ok(two)
    };
    let fleet = fleet::start_each(guests, LOAD, hand_over)?;
    let with = with_disks(&fleet, || {
        row("two disks, two interfaces", OFF)?;
        row("two disks, two interfaces", ON)
    })?;
    println!();
    Ok([0, 1].map(|n| with[n] - without[n]))
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
        let read = all.join().map_err(|_| anyhow!("whoever reads from the disks panicked"))?;
        read.and(measured)
    })
}

/// Measures the service with this configuration and prints what it took.
fn row(devices: &str, config: &str) -> Result<Percent> {
    let binary = host::sibling("hvsampler")?.to_string_lossy().into_owned();
    let taken = Run { binary: &binary, interval: INTERVAL, config: Some(config) }.measure(true)?;
    println!(
        "| {devices} | {} | {:.3} % of a core | {:.3} % | {:.1} MiB | {:.1} KiB |",
        if config == ON { "on" } else { "off" },
        taken.percent,
        taken.sampling_percent,
        taken.resident_kib as f64 / 1024.0,
        taken.sent_kib_per_export,
    );
    Ok([taken.percent, taken.sampling_percent])
}
