//! The registry of tests: what each test is called, where it belongs, what it needs and how long it may take.

mod agent;
mod attribution;
mod audit;
mod births;
mod blocked;
mod churn;
mod classes;
mod clock;
mod co_stop;
mod cpus;
mod delivery;
mod demo;
mod descriptors;
mod distributions;
mod exact;
mod exits;
mod faults;
mod guest_steal;
mod helpers;
mod host;
mod installed;
mod io;
mod kvm_counts;
mod last_words;
mod levels;
mod linux_guest;
mod modes;
mod oracle;
mod privileges;
mod programs;
mod qemu;
mod relay;
mod reload;
mod restart;
mod rhythm;
mod sampler;
mod segments;
mod soak;
mod states;
mod status;
mod sweep;
mod throttled;
mod vmm;
mod walk;

use std::sync::LazyLock;
use std::time::Duration;

use crate::runner::{Need, Set, Test};

const MINUTE: Duration = Duration::from_secs(60);

/// All tests, in the order in which they run.
pub static TESTS: LazyLock<Vec<Test>> = LazyLock::new(|| {
    [
        GENERAL,
        blocked::TESTS,
        host::TESTS,
        io::TESTS,
        privileges::TESTS,
        rhythm::TESTS,
        status::TESTS,
        soak::TESTS,
        installed::TESTS,
    ]
    .concat()
});

const GENERAL: &[Test] = &[
    Test {
        name: "vmm.loads-behave",
        // It is of our own VMM; on each kernel of the lab it would take 13 s, and nothing else.
        sets: &[Set::Native],
        needs: &[Need::Kvm, Need::Root],
        limit: MINUTE,
        run: vmm::loads_behave,
    },
    Test {
        name: "oracle.schedstat-consistent",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Root],
        limit: MINUTE,
        run: oracle::schedstat_consistent,
    },
    Test {
        name: "runner.sweeps-groups-of-what-it-killed",
        sets: &[Set::Native],
        needs: &[Need::Root, Need::CpuQuota],
        limit: MINUTE,
        run: sweep::of_what_was_killed,
    },
    Test {
        name: "demo.starts-and-stops",
        sets: &[Set::Native],
        needs: &[Need::Kvm, Need::Root],
        limit: MINUTE,
        run: demo::starts_and_stops,
    },
    Test {
        name: "programs.all-load",
        sets: &[Set::Native, Set::Lab, Set::LabRt],
        needs: &[Need::Bpf],
        limit: MINUTE,
        run: programs::all_load,
    },
    Test {
        name: "births.as-the-ring-s-lock-lets",
        sets: &[Set::Native, Set::Lab, Set::LabRt],
        needs: &[Need::Bpf],
        limit: births::LIMIT,
        run: births::lock,
    },
    Test {
        name: "births.by-walks-alone",
        sets: &[Set::Native, Set::LabRt],
        needs: &[Need::Kvm, Need::Bpf],
        limit: births::LIMIT,
        run: births::by_walks_alone,
    },
    Test {
        name: "exact.contention",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: exact::LIMIT,
        run: exact::contention,
    },
    Test {
        name: "exact.quota",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf, Need::CpuQuota],
        limit: exact::LIMIT,
        run: exact::quota,
    },
    Test {
        name: "exact.affinity",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf, Need::Cpus(2)],
        limit: exact::LIMIT,
        run: exact::affinity,
    },
    Test {
        name: "exact.stop-continue",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: exact::LIMIT,
        run: exact::stop_continue,
    },
    Test {
        name: "exact.nice",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: exact::LIMIT,
        run: exact::nice,
    },
    Test {
        name: "exact.snapshots",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: exact::LIMIT,
        run: exact::snapshots,
    },
    Test {
        name: "exact.fallback",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: exact::LIMIT,
        run: exact::fallback,
    },
    Test {
        name: "faults.as-the-kernel-counts",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: MINUTE,
        run: faults::as_the_kernel_counts,
    },
    Test {
        name: "steal.as-the-guest-sees-it",
        sets: &[Set::Lab],
        needs: linux_guest::NEEDS,
        limit: guest_steal::LIMIT,
        run: guest_steal::guest_steal,
    },
    Test {
        name: "qemu.exact",
        sets: &[Set::Lab],
        needs: linux_guest::NEEDS,
        limit: qemu::LIMIT,
        run: qemu::exact,
    },
    Test {
        name: "qemu.identity-and-end",
        sets: &[Set::Lab],
        needs: linux_guest::NEEDS,
        limit: qemu::LIMIT,
        run: qemu::identity_and_end,
    },
    Test {
        name: "kvm.counts-of-halted-vcpus",
        // A kernel that is locked down shows nobody its debugfs.
        sets: &[Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: kvm_counts::LIMIT,
        run: kvm_counts::halted,
    },
    Test {
        name: "kvm.counts-of-a-linux-guest",
        sets: &[Set::Lab],
        needs: linux_guest::NEEDS,
        limit: kvm_counts::LIMIT,
        run: kvm_counts::of_linux,
    },
    Test {
        name: "helpers.as-the-kernel-counts",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: helpers::LIMIT,
        run: helpers::of_tiny_vmm,
    },
    Test {
        name: "helpers.of-qemu",
        sets: &[Set::Lab],
        needs: &[Need::Kvm, Need::Bpf, Need::Qemu, Need::InnerGuest, Need::VhostNet],
        limit: helpers::LIMIT,
        run: helpers::of_qemu,
    },
    Test {
        name: "walk.by-vmm",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: walk::LIMIT,
        run: walk::by_vmm,
    },
    Test {
        name: "walk.with-vhost",
        sets: &[Set::Lab],
        needs: &[Need::Kvm, Need::Bpf, Need::Qemu, Need::InnerGuest, Need::VhostNet],
        limit: walk::LIMIT,
        run: walk::with_vhost,
    },
    Test {
        name: "states.asleep",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: states::LIMIT,
        run: states::asleep,
    },
    Test {
        name: "states.halted-as-kvm-counts",
        sets: &[Set::Lab],
        needs: linux_guest::NEEDS,
        limit: states::LIMIT,
        run: states::halted_as_kvm_counts,
    },
    Test {
        name: "states.on-cpu",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: modes::LIMIT,
        run: modes::on_cpu,
    },
    Test {
        name: "exits.as-the-kernel-traces-them",
        // Only where guests run on a processor of their own, emulated as it is, are there exits of one.
        sets: &[Set::Lab],
        needs: linux_guest::NEEDS,
        limit: exits::LIMIT,
        run: exits::as_traced,
    },
    Test {
        name: "levels.too-many-exits",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: levels::LIMIT,
        run: levels::too_many_exits,
    },
    Test {
        name: "levels.few-exits",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: levels::LIMIT,
        run: levels::few_exits,
    },
    Test {
        name: "levels.kvm-is-let-go",
        sets: &[Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: levels::LIMIT,
        run: levels::kvm_is_let_go,
    },
    Test {
        name: "states.throttled",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf, Need::CpuQuota],
        limit: throttled::LIMIT,
        run: throttled::by_a_quota,
    },
    Test {
        name: "states.throttled-deadline",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: classes::LIMIT,
        run: classes::deadline,
    },
    Test {
        name: "states.throttled-not-real-time",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf, Need::CpuQuota],
        limit: classes::LIMIT,
        run: classes::real_time,
    },
    Test {
        name: "steal.by-whom",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: attribution::LIMIT,
        run: attribution::by_whom,
    },
    Test {
        name: "steal.many-guests",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: attribution::LIMIT,
        run: attribution::many,
    },
    Test {
        name: "co-stop.as-the-kernel-traces-it",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: co_stop::LIMIT,
        run: co_stop::as_traced,
    },
    Test {
        name: "clock.is-set-while-we-sample",
        // Of the lab's machine nobody else needs the clock.
        sets: &[Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: clock::LIMIT,
        run: clock::steps,
    },
    Test {
        name: "churn.the-end-is-reported-last",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf, Need::Cpus(2)],
        limit: last_words::LIMIT,
        run: last_words::the_end,
    },
    Test {
        name: "clock.is-slewed-while-we-sample",
        sets: &[Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: clock::LIMIT,
        run: clock::slews,
    },
    Test {
        name: "descriptors.of-what-does-not-run",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::NoOwnVm, Need::Kvm, Need::Bpf],
        limit: descriptors::LIMIT,
        run: descriptors::of_what_does_not_run,
    },
    Test {
        name: "descriptors.of-two-vms-of-one-thread",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::NoOwnVm, Need::Kvm, Need::Bpf],
        limit: descriptors::LIMIT,
        run: descriptors::of_two_vms_of_one_thread,
    },
    Test {
        name: "relay.one-vcpu-of-two-threads",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::NoOwnVm, Need::Kvm, Need::Bpf],
        limit: relay::LIMIT,
        run: relay::one_vcpu_of_two_threads,
    },
    Test {
        name: "restart.under-a-living-guest",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: restart::LIMIT,
        run: restart::under_a_living_guest,
    },
    Test {
        name: "audit.finds-nothing-wrong",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: audit::LIMIT,
        run: audit::finds_nothing,
    },
    Test {
        name: "audit.finds-a-falsified-number",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: audit::LIMIT,
        run: audit::finds_a_falsified_number,
    },
    Test {
        name: "audit.says-its-last-hour",
        sets: &[Set::Native],
        needs: &[Need::Kvm, Need::Bpf],
        limit: audit::LIMIT,
        run: audit::says_its_last_hour,
    },
    Test {
        name: "kvm.is-reloaded-while-we-sample",
        // The lab's machine lets KVM go, and uses no other module for it. Last, for a failure may leave it
        // without.
        sets: &[Set::Lab],
        needs: &[Need::IdleKvm, Need::Kvm, Need::Bpf],
        limit: reload::LIMIT,
        run: reload::while_we_sample,
    },
    Test {
        name: "churn.500-guests",
        sets: &[Set::Native],
        needs: &[Need::Kvm, Need::Bpf],
        limit: churn::LIMIT,
        run: churn::five_hundred_guests,
    },
    Test {
        name: "cpus.beyond-what-the-kernel-said",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf, Need::Cpus(2)],
        limit: cpus::LIMIT,
        run: cpus::beyond_what_the_kernel_said,
    },
    Test {
        name: "segments.grow-with-what-is-followed",
        sets: &[Set::Native],
        needs: &[Need::Kvm, Need::Bpf],
        limit: segments::LIMIT,
        run: segments::grow,
    },
    Test {
        name: "delivery.grpc",
        sets: &[Set::Delivery],
        needs: delivery::NEEDS,
        limit: delivery::LIMIT,
        run: delivery::grpc,
    },
    Test {
        name: "delivery.http",
        sets: &[Set::Delivery],
        needs: delivery::NEEDS,
        limit: delivery::LIMIT,
        run: delivery::http,
    },
    Test {
        name: "delivery.outage",
        sets: &[Set::Delivery],
        needs: delivery::NEEDS,
        limit: delivery::LIMIT,
        run: delivery::outage,
    },
    Test {
        name: "delivery.losses-are-counted",
        sets: &[Set::Delivery],
        needs: delivery::NEEDS,
        limit: delivery::LIMIT,
        run: delivery::losses,
    },
    Test {
        name: "delivery.a-full-collector-refuses",
        sets: &[Set::Delivery],
        needs: delivery::NEEDS,
        limit: delivery::LIMIT,
        run: delivery::full_collector,
    },
    Test {
        name: "delivery.restarts",
        sets: &[Set::Delivery],
        needs: delivery::NEEDS,
        limit: delivery::LIMIT,
        run: delivery::restarts,
    },
    Test {
        name: "delivery.prometheus",
        sets: &[Set::Delivery],
        needs: &[Need::Kvm, Need::Bpf, Need::Collector, Need::Prometheus, Need::Cpus(2)],
        limit: delivery::LIMIT,
        run: delivery::prometheus,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_say_their_area() {
        for (position, test) in TESTS.iter().enumerate() {
            assert!(test.name.contains('.') && !test.name.contains(' '), "{}", test.name);
            assert!(!TESTS[..position].iter().any(|other| other.name == test.name), "{} twice", test.name);
            assert!(!test.sets.is_empty() && !test.limit.is_zero(), "{}", test.name);
        }
    }
}
