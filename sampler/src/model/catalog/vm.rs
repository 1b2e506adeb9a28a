//! Families of a VM, and of what it has of several.

use super::{Bound, Dimension, Family, Places, Series, Start, Unit, Values, kvm};
use crate::model::{
    AttributedVm, BLOCKED, BlockedTimes, Counter, Counters, Distribution, ExitKind, ExitTotals, HELPER_KINDS,
    HelperSum, Histogram, KvmCounts, Label, Level, OCCUPANT_KINDS, Vm, remote_memory,
};

const EXITS: Unit = Unit::Count("{exit}");

const DISTRIBUTED: Bound = Bound::By(
    "counts and sums exact at a switch. A quantile is an upper bound, at most twice the true value",
);

const STEAL: Family = Family::counter(
    "hypervisor.vm.steal.time",
    Unit::Seconds,
    Bound::By("the sum over all kinds exact at a switch. What no CPU remembers is of kind unattributed"),
    "Time for which the VM's vCPUs waited for a CPU, by who had it, or by the CPU quota that had run out. Of kind vm, the \
     VMs that take most have series of their own with hypervisor.steal.by.vm; the series without it has the other VMs.",
);

const STEAL_KIND: Dimension = Dimension { key: "hypervisor.steal.by.kind", values: OCCUPANT_KINDS };

const HELPER_STATE: Dimension = Dimension {
    key: "hypervisor.helper.state",
    values: &[
        Label { key: "run", help: "On a CPU." },
        Label { key: "steal", help: "Runnable and waiting for a CPU, also where a CPU quota held it back." },
    ],
};

const HELPER_KIND: Dimension = Dimension { key: "hypervisor.helper.kind", values: HELPER_KINDS };

// Three of which JSON has a vCPU's own, too.
pub(super) const STEAL_DURATION: Family = Family::histogram(
    "hypervisor.vcpu.steal.duration",
    DISTRIBUTED,
    "Wait for a physical CPU before each run stint, as the kernel adds it to the run delay.",
);
pub(super) const WAKEUP_LATENCY: Family = Family::histogram(
    "hypervisor.vcpu.wakeup.latency",
    DISTRIBUTED,
    "Wait for a physical CPU after a sleep: from the wake-up to running.",
);
pub(super) const RUN_DURATION: Family = Family::histogram(
    "hypervisor.vcpu.run.duration",
    DISTRIBUTED,
    "CPU time of each run stint, from being given a physical CPU to leaving it.",
);

// Of these as well.
pub(super) const KVM_EVENTS: Family = Family::counter(
    "hypervisor.vm.kvm.events",
    Unit::Count("{event}"),
    Bound::Exact,
    "What KVM has counted of the VM's vCPUs.",
);
pub(super) const KVM_TIME: Family = Family::counter(
    "hypervisor.vm.kvm.time",
    Unit::Seconds,
    Bound::Exact,
    "Time that KVM has counted of the VM's vCPUs.",
);

pub(super) const BLOCKED_TIME: Family = Family::counter(
    "hypervisor.vcpu.blocked.time",
    Unit::Seconds,
    Bound::By("the sum as state blocked. A single reason by 50 µs of a vCPU in an interval"),
    "Time in state blocked, by why.",
);
pub(super) const PAGE_FAULTS: Family = Family::counter(
    "hypervisor.vcpu.page_faults",
    Unit::Count("{fault}"),
    Bound::By("none up to the last reading of each thread. What one did between that and its end is missing"),
    "Page faults of the vCPUs' threads, on the guest's memory and on the VMM's own.",
);

pub(super) const BLOCKED_REASON: Dimension = Dimension { key: "hypervisor.blocked.reason", values: BLOCKED };
pub(super) const FAULT_TYPE: Dimension = Dimension {
    key: "hypervisor.page_fault.type",
    values: &[
        Label { key: "minor", help: "All others." },
        Label {
            key: "major",
            help: "The page came from swap or a file, or had to be asked for once more after a wait.",
        },
    ],
};

pub(super) fn blocked(times: &BlockedTimes, to: &mut Places<'_>) {
    for (place, ns) in times.iter().enumerate() {
        to.set(place, ns);
    }
}

pub(super) fn page_faults(counters: &Counters, to: &mut Places<'_>) {
    for (place, counter) in [Counter::MinorFaults, Counter::MajorFaults].into_iter().enumerate() {
        to.set(place, counters[counter as usize]);
    }
}

pub(super) const SERIES: &[Series<Vm>] = &[
    distribution(STEAL_DURATION, |vm, _| Some(vm.distributions.get(Distribution::Steal))),
    distribution(WAKEUP_LATENCY, |vm, _| Some(vm.distributions.get(Distribution::WakeupLatency))),
    distribution(RUN_DURATION, |vm, _| Some(vm.distributions.get(Distribution::Stint))),
    Series {
        family: KVM_EVENTS,
        attributes: &[kvm::EVENT],
        start: Start::Seen,
        values: Values::Numbers(|vm, to| kvm::events(counts(vm), to)),
    },
    Series {
        family: KVM_TIME,
        attributes: &[kvm::TIME],
        start: Start::Seen,
        values: Values::Numbers(|vm, to| kvm::times(counts(vm), to)),
    },
    Series {
        family: BLOCKED_TIME,
        attributes: &[BLOCKED_REASON],
        start: Start::Seen,
        values: Values::Numbers(|vm, to| blocked(&vm.blocked, to)),
    },
    Series {
        family: PAGE_FAULTS,
        attributes: &[FAULT_TYPE],
        start: Start::Seen,
        values: Values::Numbers(|vm, to| page_faults(&vm.counters, to)),
    },
    Series {
        family: STEAL,
        attributes: &[STEAL_KIND],
        start: Start::Seen,
        values: Values::Numbers(|vm, to| {
            for (kind, ns) in vm.attributed.iter() {
                to.set(kind as usize, ns);
            }
        }),
    },
    Series::plain(
        Family::counter(
            "hypervisor.vm.co_stop.time",
            Unit::Seconds,
            Bound::By("an estimate. In the tests by at most 0.8 % of the wall time, over five seconds"),
            "Time in which at least one vCPU of the VM ran while at least one other was runnable and waited for a CPU. An \
             estimate: looked at 480 to 960 times in each interval.",
        ),
        Start::Seen,
        |vm, to| to.set(0, vm.co_stop.ns),
    ),
    Series {
        family: Family::counter(
            "hypervisor.vm.helper.time",
            Unit::Seconds,
            Bound::By(
                "exact at a switch, of threads that live. What one did between the last snapshot and its end is missing",
            ),
            "Time of the threads that work for the VM and run no vCPU.",
        ),
        attributes: &[HELPER_KIND, HELPER_STATE],
        start: Start::Seen,
        values: Values::Numbers(|vm, to| {
            for (kind, sum) in vm.helpers.iter() {
                helper(kind as usize, sum, to);
            }
        }),
    },
    Series {
        family: Family::up_down_counter(
            "hypervisor.vm.helper.count",
            Unit::Count("{thread}"),
            "Threads that work for the VM and run no vCPU.",
        ),
        attributes: &[HELPER_KIND],
        start: Start::Seen,
        values: Values::Numbers(|vm, to| {
            for (kind, sum) in vm.helpers.iter() {
                to.set(kind as usize, sum.threads.into());
            }
        }),
    },
    Series::plain(
        Family::up_down_counter("hypervisor.vm.vcpu.count", Unit::Count("{vcpu}"), "vCPUs of the VM."),
        Start::Created,
        |vm, to| to.set(0, vm.vcpus_by_index().count() as u64),
    ),
    Series::plain(
        Family {
            bound: Bound::By("an estimate: which pages a vCPU uses is not known"),
            ..Family::up_down_counter(
                "hypervisor.vm.memory.numa.remote",
                Unit::Bytes,
                "Memory of the VM's own control group that is on another NUMA node than its vCPUs, on the average over \
                 these. Memory as it was when it was read, vCPUs as they are.",
            )
        },
        Start::Created,
        |vm, to| {
            if let Some(bytes) = remote_memory(&vm.placement, &vm.numa) {
                to.set(0, bytes);
            }
        },
    ),
    Series::plain(
        Family::gauge(
            "hypervisor.vm.exit.sampling",
            Unit::Count("{exit}"),
            "How many exits of the VM one stands for that is timed: 1, or 16 at level sampled, as where it exits too often. \
             Then its time in guest and kernel, and how long its exits take, are estimates. Halts are always timed.",
        )
        .at_level_sampled(),
        Start::None,
        |vm, to| {
            if let Some(one_in) = vm.level().and_then(Level::one_timed_in) {
                to.set(0, one_in.into());
            }
        },
    ),
    Series::plain(
        Family::gauge(
            "hypervisor.vm.uptime",
            Unit::Seconds,
            "Time since the VMM's process, or the domain, was created.",
        ),
        Start::None,
        |vm, to| to.set(0, vm.uptime_ns),
    ),
];

pub(super) const EXIT_SERIES: &[Series<(ExitKind, ExitTotals)>] = &[
    Series::plain(
        Family::counter(
            "hypervisor.vm.exits",
            EXITS,
            Bound::Exact,
            "Exits of the VM's vCPUs from the guest, by reason and by the kernel's name for it.",
        )
        .at_level_sampled(),
        Start::Seen,
        |(_, exits), to| to.set(0, exits.count),
    ),
    Series {
        family: Family::histogram(
            "hypervisor.vm.exit.duration",
            Bound::By(
                "counts exact, and estimates at level sampled. The sum by as much as NTP slews CLOCK_MONOTONIC, a tenth at most. \
                 A quantile is an upper bound, at most twice the true value",
            ),
            "Time from an exit to the next entry into the guest, whatever happened in between: halts, waits for a CPU.",
        )
        .at_level_sampled(),
        attributes: &[],
        start: Start::Seen,
        values: Values::Histograms(|(_, exits), _| Some(&exits.latency)),
    },
    Series::plain(
        Family::counter(
            "hypervisor.vm.exit.vmm.time",
            Unit::Seconds,
            Bound::By("by as much as NTP slews CLOCK_MONOTONIC, a tenth at most"),
            "Time outside KVM_RUN between an exit that went on to the VMM and the next entry; sleep and waits for a CPU \
             included.",
        )
        .at_level_sampled(),
        Start::Seen,
        |(_, exits), to| to.set(0, exits.vmm_ns),
    ),
];

pub(super) const EXIT_DETAILS: &[Series<(ExitKind, ExitTotals)>] = &[Series::plain(
    Family::counter("hypervisor.vm.exit.vmm.exits", EXITS, Bound::Exact, "Exits that went on to the VMM.")
        .at_level_sampled(),
    Start::Seen,
    |(_, exits), to| to.set(0, exits.vmm_count),
)];

pub(super) const STEAL_BY_SERIES: &[Series<AttributedVm>] =
    &[Series::plain(STEAL, Start::Own, |by, to| to.set(0, by.ns))];

pub(super) const INFO_SERIES: &[Series<Vm>] = &[Series::plain(
    // Not "1": Prometheus takes a gauge of that unit for a ratio, and puts it into the name.
    Family::gauge("hypervisor.vm.info", Unit::Count("{vm}"), "What is known of the VM; always 1."),
    Start::None,
    |_, to| to.set(0, 1),
)];

const fn distribution(family: Family, values: fn(&Vm, usize) -> Option<&Histogram>) -> Series<Vm> {
    Series { family, attributes: &[], start: Start::Seen, values: Values::Histograms(values) }
}

fn counts(vm: &Vm) -> Option<&KvmCounts> {
    vm.kvm.as_ref().map(|kvm| &kvm.counts)
}

fn helper(kind: usize, sum: &HelperSum, to: &mut Places<'_>) {
    let states = HELPER_STATE.values.len();
    to.set(kind * states, sum.total.run_ns);
    to.set(kind * states + 1, sum.total.run_delay_ns);
}
