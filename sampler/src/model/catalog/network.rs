//! Families of a guest's network interfaces.

use super::{Bound, Dimension, Family, Places, Series, Start, Unit, Values};
use crate::model::{DIRECTIONS, Interface};

const DIRECTION: Dimension = Dimension { key: "network.io.direction", values: DIRECTIONS };

const PACKETS: Unit = Unit::Count("{packet}");

pub(super) const SERIES: &[Series<Interface>] = &[
    counted(
        "hypervisor.vm.network.io",
        Unit::Bytes,
        "Bytes that passed the VM's network interface, as the guest sees it.",
        |interface, to| put(&interface.counts.bytes, to),
    ),
    counted(
        "hypervisor.vm.network.packets",
        PACKETS,
        "Packets that passed the VM's network interface, as the guest sees it. What is handed over in one piece to be cut \
         later is one.",
        |interface, to| put(&interface.counts.packets, to),
    ),
    counted(
        "hypervisor.vm.network.dropped",
        PACKETS,
        "Packets to and from the VM that its network interface has dropped.",
        |interface, to| put(&interface.counts.dropped, to),
    ),
    counted(
        "hypervisor.vm.network.errors",
        PACKETS,
        "Packets to and from the VM that had errors at its network interface.",
        |interface, to| put(&interface.counts.errors, to),
    ),
];

const fn counted(
    name: &'static str,
    unit: Unit,
    help: &'static str,
    values: fn(&Interface, &mut Places<'_>),
) -> Series<Interface> {
    Series {
        family: Family::counter(name, unit, Bound::Exact, help),
        attributes: &[DIRECTION],
        start: Start::Own,
        values: Values::Numbers(values),
    }
}

fn put(counts: &[u64], to: &mut Places<'_>) {
    for (place, count) in counts.iter().enumerate() {
        to.set(place, *count);
    }
}
