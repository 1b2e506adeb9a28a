//! What the messages have of the host beside its guests, and of the control groups of guests.

use hvsampler::model::{HostState, Pressure, Resource, Stalled, Vm};
use opentelemetry_proto::tonic::{common::v1::KeyValue, metrics::v1::number_data_point::Value};

use super::expected::{Numbers, double, id, int, integer, string};

pub(super) type Point = (&'static str, Vec<KeyValue>, Option<Value>);

const CPU_MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "interrupt", "softirq", "steal"];

/// Series that go on while the host is known, whether a reading is sent or was sent before.
pub(super) fn of_host(host: &HostState) -> Vec<Point> {
    [
        pressure("hypervisor.host.pressure.time", &[], &host.pressure),
        cpus(host),
        memory(host),
        huge_pages(host),
        threads(host),
    ]
    .concat()
}

fn pressure(name: &'static str, of: &[KeyValue], pressure: &Pressure) -> Vec<Point> {
    let resources =
        [(Resource::Cpu, "cpu"), (Resource::Memory, "memory"), (Resource::Io, "io"), (Resource::Irq, "irq")];
    let mut all = Vec::new();
    for (resource, key) in resources {
        for (stalled, which) in [(Stalled::AtLeastOne, "some"), (Stalled::All, "full")] {
            let Some(ns) = pressure.get(resource, stalled) else { continue };
            let attributes = [("hypervisor.pressure.resource", key), ("hypervisor.pressure.stalled", which)];
            let attributes = attributes.map(|(key, value)| string(key, value));
            all.push((name, [of, &attributes].concat(), double(ns)));
        }
    }
    all
}

fn cpus(host: &HostState) -> Vec<Point> {
    let known = CPU_MODES.into_iter().zip(host.cpu_ns);
    let known = known.filter_map(|(mode, ns)| Some((mode, ns?)));
    known.map(|(mode, ns)| ("system.cpu.time", vec![string("cpu.mode", mode)], double(ns))).collect()
}

fn memory(host: &HostState) -> Vec<Point> {
    let states = ["used", "free", "buffers", "cached"].into_iter().zip(host.memory.into_iter().flatten());
    let states = states.map(|(state, bytes)| {
        ("system.memory.usage", vec![string("system.memory.state", state)], integer(bytes))
    });
    let available = host.available.map(|bytes| ("system.memory.linux.available", vec![], integer(bytes)));
    states.chain(available).collect()
}

fn huge_pages(host: &HostState) -> Vec<Point> {
    let mut all = Vec::new();
    for (size, pages) in ["2MiB", "1GiB"].into_iter().zip(host.huge_pages) {
        let Some(pages) = pages else { continue };
        let size = string("hypervisor.huge_page.size", size);
        for (state, pages) in ["used", "free"].into_iter().zip(pages.states) {
            let attributes = vec![size.clone(), string("system.memory.linux.hugepages.state", state)];
            all.push(("system.memory.linux.hugepages.usage", attributes, integer(pages)));
        }
        all.push(("system.memory.linux.hugepages.reserved", vec![size], integer(pages.reserved)));
    }
    all
}

fn threads(host: &HostState) -> Vec<Point> {
    let states = ["runnable", "blocked"].into_iter().zip(host.threads);
    let known = states.filter_map(|(state, threads)| Some((state, threads?)));
    let of = |state| vec![string("hypervisor.host.thread.state", state)];
    known.map(|(state, threads)| ("hypervisor.host.threads", of(state), integer(threads))).collect()
}

/// Where a guest's vCPUs are, and how much of its memory is elsewhere.
pub(super) fn of_placement(vm: &Vm, to: &mut Numbers) {
    let mut all = 0_u128;
    for at in &vm.placement {
        all += u128::from(at.vcpus);
        let attributes = [id(&vm.id), vec![int("hypervisor.numa.node", at.node)]].concat();
        to.put("hypervisor.vm.vcpu.numa.count", attributes, vm.start_unix_ns, integer(at.vcpus.into()));
    }
    if all == 0 || vm.numa.is_empty() {
        return;
    }
    let mut far = 0;
    for memory in &vm.numa {
        let near = vm.placement.iter().filter(|at| at.node == memory.node);
        let near: u128 = near.map(|at| u128::from(at.vcpus)).sum();
        far += u128::from(memory.bytes) * (all - near);
    }
    // Arbitrary nodes may have more than any host: then it is absent.
    if let Ok(remote) = u64::try_from(far / all) {
        to.put("hypervisor.vm.memory.numa.remote", id(&vm.id), vm.start_unix_ns, integer(remote));
    }
}

const EVENTS: [&str; 6] = ["low", "high", "max", "oom", "oom_kill", "oom_group_kill"];

/// A series of a guest's control group: where it starts, when it was read, whether that is sent.
pub(super) type OfGroup = (Point, [u64; 2], bool);

/// Series that go on while the guest's control group is known.
pub(super) fn of_groups(vm: &Vm) -> Vec<OfGroup> {
    let mut all = Vec::new();
    if let Some(group) = &vm.control_group {
        let events = EVENTS.into_iter().zip(group.events).filter_map(|(event, count)| {
            let attributes = [id(&vm.id), vec![string("hypervisor.memory.event", event)]].concat();
            Some(("hypervisor.vm.memory.events", attributes, integer(count?)))
        });
        let points =
            pressure("hypervisor.vm.pressure.time", &id(&vm.id), &group.pressure).into_iter().chain(events);
        all.extend(points.map(|point| (point, [group.since_unix_ns, group.at_unix_ns], group.is_new)));
    }
    for node in &vm.numa {
        let attributes = [id(&vm.id), vec![int("hypervisor.numa.node", node.node)]].concat();
        let point = ("hypervisor.vm.memory.numa.usage", attributes, integer(node.bytes));
        all.push((point, [vm.start_unix_ns, node.at_unix_ns], node.is_new));
    }
    all
}
