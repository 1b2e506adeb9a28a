//! Disks and network interfaces of guests, as tables below that of the guests.

use std::fmt::Write as _;

use super::{Row, bound, dash, number};
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
pub(super) fn write(rows: &[Row<'_>], interval_ns: u64, text: &mut String) {
    let disks = rows.iter().flat_map(|row| row.vm.disks.iter().map(move |disk| (row, disk)));
    write_disks(&disks.collect::<Vec<_>>(), interval_ns, text);
    let interfaces =
        rows.iter().flat_map(|row| row.vm.interfaces.iter().map(move |interface| (row, interface)));
    write_interfaces(&interfaces.collect::<Vec<_>>(), text);
}

fn write_disks(disks: &[(&Row<'_>, &Disk)], interval_ns: u64, text: &mut String) {
    if disks.is_empty() {
        text.push_str("\nNo disk request of a guest was counted; docs/meaning.md says which are.\n");
        return;
    }
    let names = Names::of(disks.iter().map(|(row, disk)| (&*row.name, &*disk.name)), "DISK");
    text.push('\n');
    names.write(text, "GUEST", "DISK");
    let _ = writeln!(
        text,
        " {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}",
        "READS/s", "WRITES/s", "READ/s", "WRITTEN/s", "P99 READ", "P99 WRITE", "FLUSHES/s", "ERRORS/s"
    );
    for (row, disk) in disks {
        names.write(text, &row.name, &disk.name);
        let rates = DiskRates::of(disk, interval_ns);
        let of = |value: fn(&DiskRates) -> f64| rates.as_ref().map(value);
        let p99 = |operation: usize| {
            let durations = rates.as_ref().map(|rates| &rates.durations[operation]);
            durations
                .and_then(|durations| distribution::quantile_bound(durations, 0.99))
                .map_or_else(dash, bound)
        };
        let _ = writeln!(
            text,
            " {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}",
            number(of(|rates| rates.operations[READ]), 0),
            number(of(|rates| rates.operations[WRITE]), 0),
            bytes(of(|rates| rates.bytes[READ])),
            bytes(of(|rates| rates.bytes[WRITE])),
            p99(READ),
            p99(WRITE),
            number(of(|rates| rates.operations[FLUSH]), 0),
            number(of(|rates| rates.errors), 0),
        );
    }
}

fn write_interfaces(interfaces: &[(&Row<'_>, &Interface)], text: &mut String) {
    if interfaces.is_empty() {
        text.push_str("\nNo network interface of a guest was found; docs/meaning.md says which are.\n");
        return;
    }
    let names =
        Names::of(interfaces.iter().map(|(row, interface)| (&*row.name, &*interface.name)), "INTERFACE");
    text.push('\n');
    names.write(text, "GUEST", "INTERFACE");
    let _ = writeln!(
        text,
        " {:>9} {:>9} {:>10} {:>11} {:>12} {:>8}",
        "IN/s", "OUT/s", "PACKETS IN", "PACKETS OUT", "DROPPED IN/s", "ERRORS/s"
    );
    for (row, interface) in interfaces {
        names.write(text, &row.name, &interface.name);
        let rates = InterfaceRates::of(interface);
        let of = |value: fn(&InterfaceRates) -> f64| rates.as_ref().map(value);
        let _ = writeln!(
            text,
            " {:>9} {:>9} {:>10} {:>11} {:>12} {:>8}",
            bytes(of(|rates| rates.bytes[IN])),
            bytes(of(|rates| rates.bytes[OUT])),
            number(of(|rates| rates.packets[IN]), 0),
            number(of(|rates| rates.packets[OUT]), 0),
            number(of(|rates| rates.dropped[IN]), 0),
            number(of(|rates| rates.errors[IN] + rates.errors[OUT]), 0),
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

/// Bytes in the unit that leaves one to three digits before the point.
fn bytes(value: Option<f64>) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let Some(mut value) = value else { return dash() };
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_unit_that_is_read_at_once() {
        let shown =
            [0.0, 999.0, 999.6, 1536.0, 999_949.0, 3e6, 7.25e12, 2e18].map(|value| bytes(Some(value)));
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "1.5 kB", "1.0 MB", "3.0 MB", "7.2 TB", "2000000.0 TB"]);
        assert_eq!(bytes(None), "-");
    }
}
