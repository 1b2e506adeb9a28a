//! Disks and network interfaces of guests, as tables below that of the guests.

use std::fmt::Write as _;

use super::{
    cells::{self, ABSENT, bound},
    guests::Table,
};
use crate::{
    export::terminal,
    model::{
        Direction, Disk, DiskOperation, Interface, distribution,
        view::{DiskRates, InterfaceRates},
    },
};

const READ: usize = DiskOperation::Read as usize;
const WRITE: usize = DiskOperation::Write as usize;
const FLUSH: usize = DiskOperation::Flush as usize;
const IN: usize = Direction::Receive as usize;
const OUT: usize = Direction::Transmit as usize;

/// Columns that a device's name may take; the kernel's own are at most 31 characters long.
const MAX_DEVICE_COLUMNS: usize = 31;

/// Writes the devices of these guests, in their order.
pub(super) fn write(table: &Table<'_>, interval_ns: u64, text: &mut String) {
    let disks = table.guests().flat_map(|(vm, guest)| vm.disks.iter().map(move |disk| (guest, disk)));
    write_disks(&disks.collect::<Vec<_>>(), interval_ns, text);
    let interfaces =
        table.guests().flat_map(|(vm, guest)| vm.interfaces.iter().map(move |interface| (guest, interface)));
    write_interfaces(&interfaces.collect::<Vec<_>>(), text);
}

fn write_disks(disks: &[(&str, &Disk)], interval_ns: u64, text: &mut String) {
    if disks.is_empty() {
        text.push_str("\nNo disk request of a guest was counted; docs/meaning.md says which are.\n");
        return;
    }
    let names = Names::of(disks.iter().map(|(guest, disk)| (*guest, &*disk.name)), "DISK");
    text.push('\n');
    names.write(text, "GUEST", "DISK");
    let _ = writeln!(
        text,
        " {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}",
        "READS/s", "WRITES/s", "READ/s", "WRITTEN/s", "P99 READ", "P99 WRITE", "FLUSHES/s", "ERRORS/s"
    );
    for (guest, disk) in disks {
        names.write(text, guest, &disk.name);
        let rates = DiskRates::of(disk, interval_ns);
        let of = |value: fn(&DiskRates) -> f64| rates.as_ref().map(value);
        let p99 = |operation: usize| {
            let durations = rates.as_ref().map(|rates| &rates.durations[operation]);
            durations
                .and_then(|durations| distribution::quantile_bound(durations, 0.99))
                .map_or_else(|| ABSENT.to_owned(), bound)
        };
        let _ = writeln!(
            text,
            " {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}",
            number(of(|rates| rates.operations[READ])),
            number(of(|rates| rates.operations[WRITE])),
            bytes(of(|rates| rates.bytes[READ])),
            bytes(of(|rates| rates.bytes[WRITE])),
            p99(READ),
            p99(WRITE),
            number(of(|rates| rates.operations[FLUSH])),
            number(of(|rates| rates.errors)),
        );
    }
}

fn write_interfaces(interfaces: &[(&str, &Interface)], text: &mut String) {
    if interfaces.is_empty() {
        text.push_str("\nNo network interface of a guest was found; docs/meaning.md says which are.\n");
        return;
    }
    let names =
        Names::of(interfaces.iter().map(|(guest, interface)| (*guest, &*interface.name)), "INTERFACE");
    text.push('\n');
    names.write(text, "GUEST", "INTERFACE");
    let _ = writeln!(
        text,
        " {:>9} {:>9} {:>10} {:>11} {:>12} {:>8}",
        "IN/s", "OUT/s", "PACKETS IN", "PACKETS OUT", "DROPPED IN/s", "ERRORS/s"
    );
    for (guest, interface) in interfaces {
        names.write(text, guest, &interface.name);
        let rates = InterfaceRates::of(interface);
        let of = |value: fn(&InterfaceRates) -> f64| rates.as_ref().map(value);
        let _ = writeln!(
            text,
            " {:>9} {:>9} {:>10} {:>11} {:>12} {:>8}",
            bytes(of(|rates| rates.bytes[IN])),
            bytes(of(|rates| rates.bytes[OUT])),
            number(of(|rates| rates.packets[IN])),
            number(of(|rates| rates.packets[OUT])),
            number(of(|rates| rates.dropped[IN])),
            number(of(|rates| rates.errors[IN] + rates.errors[OUT])),
        );
    }
}

/// The first two columns.
struct Names {
    guests: usize,
    devices: usize,
}

impl Names {
    fn of<'a>(names: impl Iterator<Item = (&'a str, &'a str)>, heading: &str) -> Self {
        names.fold(Self { guests: "GUEST".len(), devices: heading.len() }, |widest, (guest, device)| Self {
            guests: widest.guests.max(terminal::columns_of(guest)),
            devices: widest.devices.max(terminal::columns_of(&terminal::fit(device, MAX_DEVICE_COLUMNS))),
        })
    }

    fn write(&self, text: &mut String, guest: &str, device: &str) {
        let device = terminal::fit(device, MAX_DEVICE_COLUMNS);
        // Padding by hand: the formatter counts characters, a terminal columns.
        let padding = |shown: &str, columns: usize| columns.saturating_sub(terminal::columns_of(shown));
        let (guests, devices) = (padding(guest, self.guests), padding(&device, self.devices));
        let _ = write!(text, "{guest}{:guests$} {device}{:devices$}", "", "");
    }
}

fn number(value: Option<f64>) -> String {
    cells::number(value, 0).unwrap_or_else(|| ABSENT.to_owned())
}

fn bytes(value: Option<f64>) -> String {
    value.map_or_else(|| ABSENT.to_owned(), cells::bytes)
}
