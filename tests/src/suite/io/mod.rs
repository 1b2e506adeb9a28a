//! What guests do with devices and memory.

mod attached;
mod disks;
mod groups;
mod linux_disk;
mod many_disks;
mod memory;
mod network;
mod unseen;

use self::unseen::apart_from_the_first_process;
use super::MINUTE;
use crate::runner::{Need, Set, Test};

/// The tests of it.
pub(super) const TESTS: &[Test] = &[
    Test {
        name: "memory.as-the-kernel-counts",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf],
        limit: MINUTE,
        run: memory::as_the_kernel_counts,
    },
    Test {
        name: "groups.as-the-kernel-counts",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf, Need::MemoryGroups],
        limit: MINUTE,
        run: groups::as_the_kernel_counts,
    },
    Test {
        name: "groups.of-several-guests",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf, Need::MemoryGroups],
        limit: MINUTE,
        run: groups::of_several_guests,
    },
    Test {
        name: "disks.as-the-kernel-counts",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf, Need::Disk],
        limit: disks::LIMIT,
        run: |context| apart_from_the_first_process(context, disks::as_the_kernel_counts),
    },
    Test {
        name: "disks.of-many-guests",
        // To start so many guests takes an emulated machine half a minute.
        sets: &[Set::Native],
        needs: &[Need::Kvm, Need::Bpf, Need::Disk],
        limit: disks::LIMIT_MANY,
        run: |context| apart_from_the_first_process(context, disks::of_many_guests),
    },
    Test {
        name: "disks.64-of-a-guest",
        // The lab has no such number of disks.
        sets: &[Set::Native],
        needs: &[Need::Kvm, Need::Bpf, Need::Disk],
        limit: disks::LIMIT_MANY,
        run: |context| apart_from_the_first_process(context, many_disks::of_a_guest),
    },
    Test {
        name: "devices.are-named-with-why-they-are-not-counted",
        sets: &[Set::Native],
        needs: &[Need::Kvm, Need::Bpf, Need::Disk, Need::Zram],
        limit: MINUTE,
        run: attached::by_device,
    },
    Test {
        name: "disks.slow-and-broken",
        sets: &[Set::Lab],
        needs: &[Need::Kvm, Need::Bpf, Need::Disk, Need::LabDisks],
        limit: disks::LIMIT,
        run: disks::slow_and_broken,
    },
    Test {
        name: "disks.of-a-linux-guest",
        sets: &[Set::Lab],
        needs: &[Need::Kvm, Need::Bpf, Need::Qemu, Need::InnerGuest, Need::Disk, Need::LabDisks],
        limit: disks::LIMIT_LINUX,
        run: linux_disk::of_a_linux_guest,
    },
    Test {
        name: "network.as-the-kernel-counts",
        sets: &[Set::Native, Set::Lab],
        needs: &[Need::Kvm, Need::Bpf, Need::Tun],
        limit: network::LIMIT,
        run: network::as_the_kernel_counts,
    },
    Test {
        name: "network.of-two-guests-on-a-bridge",
        // The lab's machines have no bridges.
        sets: &[Set::Native],
        needs: &[Need::Kvm, Need::Bpf, Need::Tun],
        limit: network::LIMIT,
        run: network::of_two_guests,
    },
    Test {
        name: "network.of-a-linux-guest",
        sets: &[Set::Lab],
        needs: &[Need::Kvm, Need::Bpf, Need::Qemu, Need::InnerGuest, Need::VhostNet],
        limit: network::LIMIT_LINUX,
        run: network::of_a_linux_guest,
    },
];
