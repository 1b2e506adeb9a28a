//! Families of a guest's own control group.

use super::{
    Bound, Dimension, Family, Series, Start, Unit, Values,
    host::{PRESSURE, PRESSURE_BOUND, put_pressure},
};
use crate::model::{ControlGroup, MEMORY_EVENTS, NumaNode};

pub(super) const SERIES: &[Series<ControlGroup>] = &[
    Series {
        family: Family::counter(
            "hypervisor.vm.pressure.time",
            Unit::Seconds,
            PRESSURE_BOUND,
            "Time for which tasks of the VM's own control group, its vCPUs among them, stood still because a resource was \
             short (PSI). What all stood still for is a part of what some did: do not add the two.",
        ),
        attributes: PRESSURE,
        start: Start::Own,
        values: Values::Numbers(|group, to| put_pressure(&group.pressure, to)),
    },
    Series {
        family: Family::counter(
            "hypervisor.vm.memory.events",
            Unit::Count("{event}"),
            Bound::Exact,
            "What happened to the VM's own control group, and to those inside it, for want of memory.",
        ),
        attributes: &[Dimension { key: "hypervisor.memory.event", values: MEMORY_EVENTS }],
        start: Start::Own,
        values: Values::Numbers(|group, to| {
            for (place, events) in group.events.iter().enumerate() {
                if let Some(events) = events {
                    to.set(place, *events);
                }
            }
        }),
    },
];

pub(super) const NUMA_SERIES: &[Series<NumaNode>] = &[Series::plain(
    Family {
        bound: Bound::By("up to 64 pages of each CPU, which it has not added to the sum yet"),
        ..Family::up_down_counter(
            "hypervisor.vm.memory.numa.usage",
            Unit::Bytes,
            "Memory of the host's NUMA node that is charged to the VM's own control group, without reserved huge pages.",
        )
    },
    Start::Created,
    |node, to| to.set(0, node.bytes),
)];
