//! Families of a vCPU.

use super::{Bound, Dimension, Family, Places, Series, Start, Unit, Values, kvm, vm};
use crate::model::{Counter, Distribution, Histogram, KvmCounts, STATES, Vcpu};

const STATE: Dimension = Dimension { key: "hypervisor.vcpu.state", values: STATES };

pub(super) const SERIES: &[Series<Vcpu>] = &[
    Series {
        family: Family::counter(
            "hypervisor.vcpu.time",
            Unit::Seconds,
            Bound::By(
                "the sum on a CPU, and that of steal and throttled, exact at a switch. A single state by 50 µs in an \
                 interval; those on a CPU by a ten-thousandth of it more. At level sampled guest and kernel are estimates",
            ),
            "Wall time of the vCPU by state, since the sampler follows it.",
        ),
        attributes: &[STATE],
        start: Start::Followed,
        values: Values::Numbers(|vcpu, to| {
            for (state, ns) in vcpu.states.iter() {
                to.set(state as usize, ns);
            }
        }),
    },
    Series::plain(
        Family::counter(
            "hypervisor.vcpu.cpu.time",
            Unit::Seconds,
            Bound::AtSwitch,
            "CPU time of the vCPU's thread since its creation, as the scheduler counts it.",
        ),
        Start::Created,
        |vcpu, to| total(vcpu, to, vcpu.totals.run_ns),
    ),
    Series::plain(
        Family::counter(
            "hypervisor.vcpu.run_delay",
            Unit::Seconds,
            Bound::AtSwitch,
            "Time that the vCPU's thread was runnable and waited for a CPU since its creation, also where a CPU quota held \
             it back: what the guest reads as steal.",
        ),
        Start::Created,
        |vcpu, to| total(vcpu, to, vcpu.totals.run_delay_ns),
    ),
    Series::plain(
        Family::counter(
            "hypervisor.vcpu.yields",
            Unit::Count("{yield}"),
            Bound::Exact,
            "Times the vCPU thread gave its CPU up to wait for something.",
        ),
        Start::Created,
        |vcpu, to| count(vcpu, to, Counter::VoluntarySwitches),
    ),
    Series::plain(
        Family::counter(
            "hypervisor.vcpu.preemptions",
            Unit::Count("{preemption}"),
            Bound::Exact,
            "Times the vCPU thread was preempted while it could have gone on.",
        ),
        Start::Created,
        |vcpu, to| count(vcpu, to, Counter::InvoluntarySwitches),
    ),
    Series::plain(
        Family::counter(
            "hypervisor.vcpu.migrations",
            Unit::Count("{migration}"),
            Bound::Exact,
            "Times the vCPU thread was moved to another physical CPU.",
        ),
        Start::Created,
        |vcpu, to| count(vcpu, to, Counter::Migrations),
    ),
    Series::plain(
        Family::counter(
            "hypervisor.vcpu.timeslices",
            Unit::Count("{timeslice}"),
            Bound::Exact,
            "Times the vCPU thread was given a physical CPU.",
        ),
        Start::Created,
        |vcpu, to| count(vcpu, to, Counter::Timeslices),
    ),
];

pub(super) const DETAILS: &[Series<Vcpu>] = &[
    distribution(vm::STEAL_DURATION, |vcpu, _| Some(vcpu.distributions.get(Distribution::Steal))),
    distribution(vm::WAKEUP_LATENCY, |vcpu, _| Some(vcpu.distributions.get(Distribution::WakeupLatency))),
    distribution(vm::RUN_DURATION, |vcpu, _| Some(vcpu.distributions.get(Distribution::Stint))),
    Series {
        family: vm::KVM_EVENTS,
        attributes: &[kvm::EVENT],
        start: Start::Created,
        values: Values::Numbers(|vcpu, to| kvm::events(counts(vcpu), to)),
    },
    Series {
        family: vm::KVM_TIME,
        attributes: &[kvm::TIME],
        start: Start::Created,
        values: Values::Numbers(|vcpu, to| kvm::times(counts(vcpu), to)),
    },
    Series {
        family: vm::BLOCKED_TIME,
        attributes: &[vm::BLOCKED_REASON],
        start: Start::Followed,
        values: Values::Numbers(|vcpu, to| vm::blocked(&vcpu.blocked, to)),
    },
    Series {
        family: vm::PAGE_FAULTS,
        attributes: &[vm::FAULT_TYPE],
        start: Start::Created,
        values: Values::Numbers(|vcpu, to| {
            if !vcpu.unused {
                vm::page_faults(&vcpu.counters, to);
            }
        }),
    },
];

const fn distribution(family: Family, values: fn(&Vcpu, usize) -> Option<&Histogram>) -> Series<Vcpu> {
    Series { family, attributes: &[], start: Start::Seen, values: Values::Histograms(values) }
}

fn counts(vcpu: &Vcpu) -> Option<&KvmCounts> {
    vcpu.kvm.as_ref()?.counts.as_ref()
}

fn count(vcpu: &Vcpu, to: &mut Places<'_>, counter: Counter) {
    total(vcpu, to, vcpu.counters[counter as usize]);
}

/// Absent where there is no thread that the kernel could count.
fn total(vcpu: &Vcpu, to: &mut Places<'_>, value: u64) {
    if !vcpu.unused {
        to.set(0, value);
    }
}
