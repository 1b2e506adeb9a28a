//! Families of the host.

use super::{Bound, Dimension, Family, Places, Series, Start, Unit, Values};
use crate::model::{
    CPU_MODES, HUGE_PAGE_SIZES, HUGE_PAGE_STATES, HostState, MEMORY_STATES, Pressure, RESOURCES, STALLED,
    Snapshot, THREAD_STATES,
};

pub(super) const SERIES: &[Series<Snapshot>] = &[Series::plain(
    Family::up_down_counter("hypervisor.vm.count", Unit::Count("{vm}"), "VMs on the host."),
    Start::Sampler,
    |snapshot, to| to.set(0, snapshot.vms.len() as u64),
)];

/// Attributes of pressure, in the order of [`Pressure::iter`].
pub(super) const PRESSURE: &[Dimension] = &[
    Dimension { key: "hypervisor.pressure.resource", values: RESOURCES },
    Dimension { key: "hypervisor.pressure.stalled", values: STALLED },
];

/// The kernel counts pressure in nanoseconds, and shows microseconds.
pub(super) const PRESSURE_BOUND: Bound =
    Bound::By("cut to a microsecond. The kernel weighs CPUs by how long each had something to do");

const HUGE_PAGE_SIZE: Dimension = Dimension { key: "hypervisor.huge_page.size", values: HUGE_PAGE_SIZES };

const PAGES: Unit = Unit::Count("{page}");

pub(super) const STATE_SERIES: &[Series<HostState>] = &[
    Series {
        family: Family::counter(
            "hypervisor.host.pressure.time",
            Unit::Seconds,
            PRESSURE_BOUND,
            "Time for which tasks of the host stood still because a resource was short (PSI). Of CPUs the kernel has no full of \
             a whole host. What all stood still for is a part of what some did: do not add the two.",
        ),
        attributes: PRESSURE,
        start: Start::Boot,
        values: Values::Numbers(|host, to| put_pressure(&host.pressure, to)),
    },
    Series {
        family: Family::counter(
            "system.cpu.time",
            Unit::Seconds,
            Bound::By(
                "10 ms of each CPU and mode, in which the kernel shows it. How it divides them depends on its configuration: \
                 with CONFIG_TICK_CPU_ACCOUNTING a whole tick is what the CPU did at its end",
            ),
            "Time of all CPUs of the host together, by what they spent it on. With host.system alone.",
        ),
        attributes: &[Dimension { key: "cpu.mode", values: CPU_MODES }],
        start: Start::Boot,
        values: Values::Numbers(|host, to| put(host.cpu_ns.into_iter(), to)),
    },
    Series {
        family: Family::up_down_counter(
            "system.memory.usage",
            Unit::Bytes,
            "Memory of the host, by what it is used for; the states sum to all of it. With host.system \
             alone.",
        ),
        attributes: &[Dimension { key: "system.memory.state", values: MEMORY_STATES }],
        start: Start::Boot,
        values: Values::Numbers(|host, to| put(host.memory.into_iter().flatten().map(Some), to)),
    },
    Series::plain(
        Family {
            bound: Bound::By("an estimate of the kernel's"),
            ..Family::up_down_counter(
                "system.memory.linux.available",
                Unit::Bytes,
                "Memory that new processes could have without swap, as the kernel estimates it. With host.system alone.",
            )
        },
        Start::Boot,
        |host, to| put([host.available].into_iter(), to),
    ),
    Series {
        family: Family::up_down_counter(
            "system.memory.linux.hugepages.usage",
            PAGES,
            "Reserved huge pages (hugetlbfs), by size and by whether they hold something. With host.system alone.",
        ),
        attributes: &[
            HUGE_PAGE_SIZE,
            Dimension { key: "system.memory.linux.hugepages.state", values: HUGE_PAGE_STATES },
        ],
        start: Start::Boot,
        values: Values::Numbers(|host, to| {
            let pages = host.huge_pages.iter().map(|pages| pages.map(|pages| pages.states.map(Some)));
            put(pages.flat_map(Option::unwrap_or_default), to);
        }),
    },
    Series {
        family: Family::up_down_counter(
            "system.memory.linux.hugepages.reserved",
            PAGES,
            "Free huge pages that are promised to somebody: a guest that has not touched them yet. With host.system alone.",
        ),
        attributes: &[HUGE_PAGE_SIZE],
        start: Start::Boot,
        values: Values::Numbers(|host, to| {
            put(host.huge_pages.iter().map(|pages| pages.map(|pages| pages.reserved)), to);
        }),
    },
    Series {
        family: Family::up_down_counter(
            "hypervisor.host.threads",
            Unit::Count("{thread}"),
            "Threads of the host that have something to do, the guests' included. With host.system alone.",
        ),
        attributes: &[Dimension { key: "hypervisor.host.thread.state", values: THREAD_STATES }],
        start: Start::Boot,
        values: Values::Numbers(|host, to| put(host.threads.into_iter(), to)),
    },
];

/// Sets the times of pressure.
pub(super) fn put_pressure(pressure: &Pressure, to: &mut Places<'_>) {
    put(pressure.iter(), to);
}

fn put(values: impl Iterator<Item = Option<u64>>, to: &mut Places<'_>) {
    for (place, value) in values.enumerate() {
        if let Some(value) = value {
            to.set(place, value);
        }
    }
}
