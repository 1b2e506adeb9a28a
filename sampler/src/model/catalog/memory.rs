//! Families of a VM's memory.

use super::{Dimension, Family, Series, Start, Unit, Values};
use crate::model::{Memory, RESIDENT};

pub(super) const SERIES: &[Series<Memory>] = &[
    Series {
        family: Family::up_down_counter(
            "hypervisor.vm.memory.usage",
            Unit::Bytes,
            "Physical memory of the VMM's process, the guest's included, as it was when it was read. The kinds \
             sum to all of it.",
        ),
        attributes: &[Dimension { key: "hypervisor.memory.kind", values: RESIDENT }],
        start: Start::Created,
        values: Values::Numbers(|memory, to| {
            for (place, bytes) in memory.resident.iter().enumerate() {
                if let Some(bytes) = bytes {
                    to.set(place, *bytes);
                }
            }
        }),
    },
    Series::plain(
        Family::up_down_counter(
            "hypervisor.vm.memory.swap",
            Unit::Bytes,
            "Memory of the VMM's process that is swapped out, without shared memory.",
        ),
        Start::Created,
        |memory, to| {
            if let Some(bytes) = memory.swapped {
                to.set(0, bytes);
            }
        },
    ),
];
