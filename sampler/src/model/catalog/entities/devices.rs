//! What a VM has of the host: memory, disks, network interfaces.

use std::sync::Arc;

use super::{
    super::{disk, memory, network},
    Attribute, Entity, Of, Scope, Series, Start, StartWords, VM_ID, VmId, is_vm, put_vm, start_of, vm_id,
};
use crate::model::{Device, Disk, Interface, Memory, Vm};

/// The memory of the process that runs a VM.
#[derive(Debug)]
pub struct MemoryEntity;

impl Entity for MemoryEntity {
    type Data = Memory;
    type Key = VmId;

    const NAME: &'static str = "a VM's memory, which is read from time to time";
    const ATTRIBUTES: &'static [(&'static str, &'static str)] = &[VM_ID];
    const SERIES: &'static [Series<Memory>] = memory::SERIES;
    const SCOPE: Scope = Scope::Vm;
    const OWN_TIME: Option<&'static str> = Some("memory_read_unix_ns");

    fn of_vm(vm: &Vm) -> impl Iterator<Item = &Memory> {
        vm.memory.iter()
    }

    fn key(vm: Of<'_>, _: &Memory) -> VmId {
        vm_id(vm)
    }

    fn has_key(vm: Of<'_>, _: &Memory, id: &VmId) -> bool {
        is_vm(vm, id)
    }

    fn start(vm: Of<'_>, _: &Memory, start: Start) -> u64 {
        start_of(vm, start)
    }

    fn read_unix_ns(memory: &Memory) -> Option<u64> {
        Some(memory.at_unix_ns)
    }

    fn is_new(memory: &Memory) -> bool {
        memory.is_new
    }

    fn attributes(vm: Of<'_>, _: &Memory, put: &mut dyn FnMut(&'static str, Attribute<'_>)) {
        put_vm(vm, put);
    }
}

/// A disk of the host that serves a VM.
#[derive(Debug)]
pub struct DiskEntity;

impl Entity for DiskEntity {
    type Data = Disk;
    /// With the start: counts that began anew are another life.
    type Key = (VmId, Device, Arc<str>, u64);

    const NAME: &'static str = "a VM's disk";
    const ATTRIBUTES: &'static [(&'static str, &'static str)] =
        &[VM_ID, ("system.device", "The disk as the kernel calls it.")];
    const SERIES: &'static [Series<Disk>] = disk::SERIES;
    const SCOPE: Scope = Scope::Part("disks");
    const COMES_AT_ZERO: bool = true;
    const STARTS: StartWords = StartWords {
        own: "the VM's control group was known to be its own, or the disk was replaced",
        ..StartWords::OF_VM
    };

    fn of_vm(vm: &Vm) -> impl Iterator<Item = &Disk> {
        vm.disks.iter()
    }

    fn key(vm: Of<'_>, disk: &Disk) -> Self::Key {
        (vm_id(vm), disk.device, disk.name.clone(), disk.since_unix_ns)
    }

    fn has_key(vm: Of<'_>, disk: &Disk, (id, device, name, since): &Self::Key) -> bool {
        is_vm(vm, id) && disk.device == *device && disk.since_unix_ns == *since && disk.name == *name
    }

    fn start(_: Of<'_>, disk: &Disk, start: Start) -> u64 {
        if start == Start::Own { disk.since_unix_ns } else { 0 }
    }

    fn attributes(vm: Of<'_>, disk: &Disk, put: &mut dyn FnMut(&'static str, Attribute<'_>)) {
        put_vm(vm, put);
        put(Self::ATTRIBUTES[1].0, Attribute::Text(&disk.name));
    }
}

/// A network interface of the host that serves a VM.
#[derive(Debug)]
pub struct InterfaceEntity;

impl Entity for InterfaceEntity {
    type Data = Interface;
    type Key = (VmId, (u64, u32), Arc<str>, u64);

    const NAME: &'static str = "a VM's network interface";
    const ATTRIBUTES: &'static [(&'static str, &'static str)] =
        &[VM_ID, ("network.interface.name", "The interface as the host calls it.")];
    const SERIES: &'static [Series<Interface>] = network::SERIES;
    const SCOPE: Scope = Scope::Part("interfaces");
    const OWN_TIME: Option<&'static str> = Some("read_unix_ns");
    const STARTS: StartWords = StartWords {
        own: "the sampler first read the interface, or a count of it fell",
        ..StartWords::OF_VM
    };

    fn of_vm(vm: &Vm) -> impl Iterator<Item = &Interface> {
        vm.interfaces.iter()
    }

    fn key(vm: Of<'_>, interface: &Interface) -> Self::Key {
        (vm_id(vm), interface.id, interface.name.clone(), interface.since_unix_ns)
    }

    fn has_key(vm: Of<'_>, interface: &Interface, (vm_id, id, name, since): &Self::Key) -> bool {
        is_vm(vm, vm_id)
            && interface.id == *id
            && interface.since_unix_ns == *since
            && interface.name == *name
    }

    fn start(_: Of<'_>, interface: &Interface, start: Start) -> u64 {
        if start == Start::Own { interface.since_unix_ns } else { 0 }
    }

    fn read_unix_ns(interface: &Interface) -> Option<u64> {
        Some(interface.at_unix_ns)
    }

    fn is_new(interface: &Interface) -> bool {
        interface.is_new
    }

    fn attributes(vm: Of<'_>, interface: &Interface, put: &mut dyn FnMut(&'static str, Attribute<'_>)) {
        put_vm(vm, put);
        put(Self::ATTRIBUTES[1].0, Attribute::Text(&interface.name));
    }
}
