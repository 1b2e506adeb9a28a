//! What the messages have of a VM's memory, disks, network interfaces and other devices.

use hvsampler::model::{ATTACHED_KINDS, Disk, Histogram, Interface, UNSEEN, Vm};
use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::expected::{Numbers, id, integer, string};

/// Series that go on while the VM's memory is known, whether a reading is sent or was sent before.
pub(super) fn of_memory(vm: &Vm) -> Vec<(&'static str, Vec<KeyValue>, u64)> {
    let Some(memory) = &vm.memory else { return Vec::new() };
    let parts = ["anonymous", "file", "shared", "huge"].into_iter().zip(memory.resident);
    let resident = parts.filter_map(|(part, bytes)| {
        let attributes = [id(&vm.id), vec![string("hypervisor.memory.kind", part)]].concat();
        Some(("hypervisor.vm.memory.usage", attributes, bytes?))
    });
    let swapped = memory.swapped.map(|bytes| ("hypervisor.vm.memory.swap", id(&vm.id), bytes));
    resident.chain(swapped).collect()
}

const OPERATIONS: [&str; 4] = ["read", "write", "flush", "discard"];

fn disk_attributes(vm: &Vm, disk: &Disk, operation: &str) -> Vec<KeyValue> {
    let own = vec![string("system.device", &disk.name), string("hypervisor.disk.operation", operation)];
    [id(&vm.id), own].concat()
}

pub(super) fn of_disks(vm: &Vm, to: &mut Numbers) {
    for disk in &vm.disks {
        for (n, operation) in OPERATIONS.into_iter().enumerate() {
            let mut put = |name, count| {
                to.put(name, disk_attributes(vm, disk, operation), disk.since_unix_ns, integer(count));
            };
            put("hypervisor.vm.disk.operations", disk.counts.operations[n]);
            if operation != "flush" {
                put("hypervisor.vm.disk.io", disk.counts.bytes[n]);
            }
            put("hypervisor.vm.disk.errors", disk.counts.errors[n]);
        }
    }
}

pub(super) fn of_attached(vm: &Vm, to: &mut Numbers) {
    for device in vm.attached.iter() {
        let mut own = vec![
            string("hypervisor.device.kind", ATTACHED_KINDS[device.kind as usize].key),
            string("hypervisor.device.path", &device.path),
        ];
        if !device.seen_at.is_empty() {
            own.push(string("hypervisor.device.seen_at", &device.seen_at.join(",")));
        }
        own.extend(device.unseen.map(|why| string("hypervisor.device.unseen", UNSEEN[why as usize].key)));
        to.put("hypervisor.vm.device.info", [id(&vm.id), own].concat(), 0, integer(1));
    }
}

/// Series that go on while the VM has the interface, whether a reading is sent or was sent before.
pub(super) fn of_interfaces(vm: &Vm) -> Vec<(&'static str, Vec<KeyValue>, &Interface, u64)> {
    let mut all = Vec::new();
    for interface in &vm.interfaces {
        let counts = &interface.counts;
        let families = [
            ("hypervisor.vm.network.io", counts.bytes),
            ("hypervisor.vm.network.packets", counts.packets),
            ("hypervisor.vm.network.dropped", counts.dropped),
            ("hypervisor.vm.network.errors", counts.errors),
        ];
        for (name, counts) in families {
            for (direction, count) in ["receive", "transmit"].into_iter().zip(counts) {
                let own = [("network.interface.name", &*interface.name), ("network.io.direction", direction)];
                let own = own.map(|(key, value)| string(key, value));
                all.push((name, [id(&vm.id), own.to_vec()].concat(), interface, count));
            }
        }
    }
    all
}

/// Distributions of a VM's disks that have something in them.
pub(super) fn times_of_disks(vm: &Vm) -> Vec<(&'static str, Vec<KeyValue>, u64, Histogram)> {
    let of = |disk: &Disk| {
        let times: [(_, &[Histogram]); 3] = [
            ("hypervisor.vm.disk.operation.duration", &disk.counts.durations),
            ("hypervisor.vm.disk.queue.duration", &disk.counts.queued),
            ("hypervisor.vm.disk.service.duration", &disk.counts.served),
        ];
        let mut all = Vec::new();
        for (name, histograms) in times {
            let known = OPERATIONS.iter().zip(histograms).filter(|(_, times)| **times != Histogram::EMPTY);
            let since = disk.since_unix_ns;
            all.extend(
                known.map(|(operation, times)| (name, disk_attributes(vm, disk, operation), since, *times)),
            );
        }
        all
    };
    vm.disks.iter().flat_map(of).collect()
}
