//! The host beside its guests, guests' control groups, and at which NUMA nodes guests are.

use hvsampler::model::{ControlGroup, Host, HostState, HugePages, NodeVcpus, NumaNode};
use proptest::{collection, option, prelude::*, sample};

use super::{number, text};

pub(super) fn host() -> BoxedStrategy<Host> {
    let os = (option::of(text()), option::of(text()));
    let hypervisor = option::of(sample::select(vec!["kvm", "xen"]));
    let all = (option::of(text()), text(), text(), text(), any::<u32>(), os, hypervisor);
    all.prop_map(|(id, name, kernel, arch, cpus, (os_version, os_build), hypervisor)| Host {
        id,
        name,
        kernel,
        os_version,
        os_build,
        arch,
        cpus,
        hypervisor,
    })
    .boxed()
}

/// Some of it is not known, some was sent before, and nodes come and go.
pub(super) fn groups() -> impl Strategy<Value = (Option<ControlGroup>, Vec<NumaNode>)> {
    let counts = collection::vec(option::of(number()), 14);
    let group =
        (0_u64..3, number(), any::<bool>(), counts).prop_map(|(since, at_unix_ns, is_new, counts)| {
            let mut group =
                ControlGroup { at_unix_ns, since_unix_ns: since * 1_000, is_new, ..ControlGroup::default() };
            group.pressure.iter_mut().zip(&counts).for_each(|(place, value)| *place = *value);
            group.events.copy_from_slice(&counts[8..]);
            group
        });
    let node = (number(), number(), any::<bool>());
    let nodes = collection::vec(option::of(node), 3).prop_map(|nodes| {
        let numbered = (0..).zip(nodes).filter_map(|(node, known)| Some((node, known?)));
        numbered
            .map(|(node, (bytes, at_unix_ns, is_new))| NumaNode { node, bytes, at_unix_ns, is_new })
            .collect()
    });
    (option::of(group), nodes)
}

/// Some of it is not known, and some was sent before.
pub(super) fn host_state() -> impl Strategy<Value = HostState> {
    let numbers = || collection::vec(option::of(number()), 8);
    let huge_pages =
        (number(), number()).prop_map(|(used, free)| HugePages { states: [used, free], reserved: 3 });
    (number(), numbers(), numbers(), option::of(huge_pages), any::<bool>()).prop_map(
        |(at_unix_ns, cpus, pressure, huge_pages, is_new)| {
            let mut state = HostState { at_unix_ns, booted_unix_ns: 77, is_new, ..HostState::default() };
            state.cpu_ns.copy_from_slice(&cpus);
            state.pressure.iter_mut().zip(&pressure).for_each(|(place, value)| *place = *value);
            state.memory = cpus[0].map(|bytes| [bytes, 5, 6, 7]);
            state.available = cpus[1];
            state.huge_pages = [None, huge_pages];
            state.threads = [cpus[2], cpus[3]];
            state
        },
    )
}

/// vCPUs are at two nodes, or nobody knows where.
pub(super) fn placement() -> impl Strategy<Value = Vec<NodeVcpus>> {
    collection::vec(0..9_u32, 0..3)
        .prop_map(|vcpus| (0..).zip(vcpus).map(|(node, vcpus)| NodeVcpus { node, vcpus }).collect())
}
