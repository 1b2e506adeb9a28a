//! What the messages have of a guest, of its vCPUs and of why these left it.

use std::collections::BTreeMap;

use hvsampler::model::{BLOCKED, Counter, ExitKind, Level, OccupantKind, State, Vcpu, Vm};
use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::{
    devices::of_memory,
    expected::{Numbers, double, id, int, integer, string},
};

pub(super) const CPU_TIME: &str = "hypervisor.vcpu.cpu.time";
pub(super) const RUN_DELAY: &str = "hypervisor.vcpu.run_delay";

/// Metrics of what the scheduler counts of a vCPU's thread.
pub(super) const COUNTED: [(&str, Counter); 4] = [
    ("hypervisor.vcpu.yields", Counter::VoluntarySwitches),
    ("hypervisor.vcpu.preemptions", Counter::InvoluntarySwitches),
    ("hypervisor.vcpu.migrations", Counter::Migrations),
    ("hypervisor.vcpu.timeslices", Counter::Timeslices),
];

pub(super) fn of_vcpu(vm: &Vm, vcpu: &Vcpu, to: &mut Numbers) {
    for (state, ns) in vcpu.states.iter() {
        let attributes = time_attributes(&vm.id, vcpu.index, state);
        to.put("hypervisor.vcpu.time", attributes, vcpu.followed_unix_ns, double(ns));
    }
    if vcpu.unused {
        return;
    }
    for (name, ns) in [(CPU_TIME, vcpu.totals.run_ns), (RUN_DELAY, vcpu.totals.run_delay_ns)] {
        to.put(name, vcpu_attributes(&vm.id, vcpu.index), vcpu.start_unix_ns, double(ns));
    }
    for (name, counter) in COUNTED {
        let count = integer(vcpu.counters[counter as usize]);
        to.put(name, vcpu_attributes(&vm.id, vcpu.index), vcpu.start_unix_ns, count);
    }
}

pub(super) fn of_vm(vm: &Vm, to: &mut Numbers) {
    for (key, count) in vm.kvm_counts().iter() {
        let (name, attribute, value, key) = match key.strip_suffix("_ns") {
            Some(key) => ("hypervisor.vm.kvm.time", "hypervisor.kvm.time.kind", double(count), key),
            None => ("hypervisor.vm.kvm.events", "hypervisor.kvm.event", integer(count), key),
        };
        let mut attributes = id(&vm.id);
        attributes.push(string(attribute, key));
        to.put(name, attributes, vm.seen_unix_ns, value);
    }
    for (reason, ns) in BLOCKED.iter().zip(vm.blocked.iter()) {
        let mut attributes = id(&vm.id);
        attributes.push(string("hypervisor.blocked.reason", reason.key));
        to.put("hypervisor.vcpu.blocked.time", attributes, vm.seen_unix_ns, double(ns));
    }
    for (of, counter) in [("minor", Counter::MinorFaults), ("major", Counter::MajorFaults)] {
        let mut attributes = id(&vm.id);
        attributes.push(string("hypervisor.page_fault.type", of));
        let faults = integer(vm.counters[counter as usize]);
        to.put("hypervisor.vcpu.page_faults", attributes, vm.seen_unix_ns, faults);
    }
    const STEAL: &str = "hypervisor.vm.steal.time";
    for (kind, ns) in OccupantKind::ALL.into_iter().zip(vm.attributed.kinds) {
        if kind == OccupantKind::ForcedIdle && ns == 0 {
            continue;
        }
        to.put(STEAL, steal_attributes(&vm.id, kind, None), vm.seen_unix_ns, double(ns));
    }
    for by in &vm.attributed.vms {
        let attributes = steal_attributes(&vm.id, OccupantKind::Vm, Some(&by.id));
        to.put(STEAL, attributes, by.since_unix_ns, double(by.ns));
    }
    to.put("hypervisor.vm.co_stop.time", id(&vm.id), vm.seen_unix_ns, double(vm.co_stop.ns));
    for (kind, sum) in vm.helpers.iter() {
        let mut attributes = id(&vm.id);
        attributes.push(string("hypervisor.helper.kind", kind.key()));
        to.put("hypervisor.vm.helper.count", attributes, vm.seen_unix_ns, integer(sum.threads.into()));
        for (state, ns) in [("run", sum.total.run_ns), ("steal", sum.total.run_delay_ns)] {
            let mut attributes = id(&vm.id);
            attributes.push(string("hypervisor.helper.kind", kind.key()));
            attributes.push(string("hypervisor.helper.state", state));
            to.put("hypervisor.vm.helper.time", attributes, vm.seen_unix_ns, double(ns));
        }
    }
    for (name, attributes, bytes) in of_memory(vm).into_iter().filter(|_| vm.memory.is_some_and(|m| m.is_new))
    {
        let at = std::mem::replace(&mut to.at, vm.memory.map_or(0, |memory| memory.at_unix_ns));
        to.put(name, attributes, vm.start_unix_ns, integer(bytes));
        to.at = at;
    }
    to.put("hypervisor.vm.info", info_attributes(vm), 0, integer(1));
    let vcpus = integer(youngest(vm).len() as u64);
    to.put("hypervisor.vm.vcpu.count", id(&vm.id), vm.start_unix_ns, vcpus);
    match vm.level() {
        Some(Level::Full) => to.put("hypervisor.vm.exit.sampling", id(&vm.id), 0, integer(1)),
        Some(Level::Sampled) => to.put("hypervisor.vm.exit.sampling", id(&vm.id), 0, integer(16)),
        Some(Level::Basic) | None => {}
    }
    to.put("hypervisor.vm.uptime", id(&vm.id), 0, double(vm.uptime_ns));
}

pub(super) fn of_exits(vm: &Vm, to: &mut Numbers) {
    for (kind, totals) in vm.exits().iter() {
        let attributes = || exit_attributes(&vm.id, kind);
        to.put("hypervisor.vm.exits", attributes(), vm.seen_unix_ns, integer(totals.count));
        to.put("hypervisor.vm.exit.vmm.time", attributes(), vm.seen_unix_ns, double(totals.vmm_ns));
    }
}

/// One thread for each vCPU number: the one created last.
pub(super) fn youngest(vm: &Vm) -> Vec<&Vcpu> {
    let mut by_index: BTreeMap<u32, &Vcpu> = BTreeMap::new();
    for vcpu in &vm.vcpus {
        let age = |vcpu: &Vcpu| (vcpu.start_unix_ns, vcpu.id);
        let chosen = by_index.entry(vcpu.index).or_insert(vcpu);
        if age(vcpu) > age(chosen) {
            *chosen = vcpu;
        }
    }
    by_index.into_values().collect()
}

pub(super) fn vcpu_attributes(vm_id: &str, index: u32) -> Vec<KeyValue> {
    vec![string("hypervisor.vm.id", vm_id), int("hypervisor.vcpu.id", index)]
}

pub(super) fn time_attributes(vm_id: &str, index: u32, state: State) -> Vec<KeyValue> {
    let mut attributes = vcpu_attributes(vm_id, index);
    attributes.push(string("hypervisor.vcpu.state", state.row().key));
    attributes
}

pub(super) fn steal_attributes(vm_id: &str, kind: OccupantKind, by: Option<&str>) -> Vec<KeyValue> {
    let mut attributes =
        vec![string("hypervisor.vm.id", vm_id), string("hypervisor.steal.by.kind", kind.key())];
    attributes.extend(by.map(|by| string("hypervisor.steal.by.vm", by)));
    attributes
}

pub(super) fn exit_attributes(vm_id: &str, kind: ExitKind) -> Vec<KeyValue> {
    let mut attributes =
        vec![string("hypervisor.vm.id", vm_id), string("hypervisor.exit.reason", kind.reason)];
    attributes.extend(kind.raw.map(|raw| string("hypervisor.exit.raw", raw)));
    attributes
}

fn info_attributes(vm: &Vm) -> Vec<KeyValue> {
    let mut attributes = vec![string("hypervisor.vm.id", &vm.id)];
    attributes.extend(vm.facts.iter().map(|(row, value)| string(row.attribute, value)));
    attributes.extend(vm.origin.pid().map(|pid| int("process.pid", pid)));
    attributes
}
