//! The entities: whose life series share, and what distinguishes one from another.

mod control_group;
mod devices;
mod host;

use std::sync::Arc;

pub use self::{
    control_group::{ControlGroupEntity, NumaEntity},
    devices::{DiskEntity, InterfaceEntity, MemoryEntity},
    host::{HostEntity, HostStateEntity},
};
use super::{Of, Scope, Series, Start, StartWords, vcpu, vm};
use crate::model::{AttributedVm, ExitKind, ExitTotals, FACTS, Facts, Snapshot, Vcpu, VcpuId, Vm, VmKey};

/// Value of an entity's attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute<'a> {
    /// Text.
    Text(&'a str),
    /// A number.
    Number(u32),
}

/// Whose life series share: they begin and end with it.
///
/// The functions take the VM that the entity is, or that it belongs to, and its data.
pub trait Entity: 'static {
    /// What snapshots have of it.
    type Data: 'static;
    /// Distinguishes it from others of its kind, cheaper than its attributes do. Where it is the same, so are
    /// they.
    type Key: PartialEq;

    /// What it is called, with its article.
    const NAME: &'static str;
    /// Its attributes: keys, and what they hold.
    const ATTRIBUTES: &'static [(&'static str, &'static str)];
    /// What it has series of.
    const SERIES: &'static [Series<Self::Data>];
    /// What documents for one host have beside these: for a receiver of all hosts it is too much.
    const DETAILS: &'static [Series<Self::Data>] = &[];
    /// Where documents that nest have it.
    const SCOPE: Scope;
    /// Whether one that its VM, or its vCPU, did not have before had counted nothing until then.
    const COMES_AT_ZERO: bool = false;
    /// Whether guests of KVM alone have them: of others nothing is known, not even that there are none.
    const OF_KVM: bool = false;
    /// What documents call the time at which its values were read, where that is another than its snapshot's.
    const OWN_TIME: Option<&'static str> = None;
    /// What happens where its values start.
    const STARTS: StartWords = StartWords::OF_VM;

    /// All of them that a VM has, in an order that changes only where one comes or goes.
    fn of_vm(vm: &Vm) -> impl Iterator<Item = &Self::Data>;

    /// All of them that a snapshot has, in such an order.
    fn each(snapshot: &Snapshot) -> impl Iterator<Item = (Of<'_>, &Self::Data)> {
        snapshot.vms.iter().flat_map(|vm| Self::of_vm(vm).map(move |data| (Some(vm), data)))
    }

    /// The part that a single vCPU has in what its VM has of them; `None` where that is not counted.
    fn of_vcpu(_: &Vcpu) -> Option<&[Self::Data]> {
        None
    }

    /// Its key.
    fn key(vm: Of<'_>, data: &Self::Data) -> Self::Key;

    /// Whether it has this key; allocates nothing.
    fn has_key(vm: Of<'_>, data: &Self::Data, key: &Self::Key) -> bool {
        Self::key(vm, data) == *key
    }

    /// When values with this start were zero, Unix time in ns; 0 where that is not the entity's to say.
    fn start(vm: Of<'_>, data: &Self::Data, start: Start) -> u64;

    /// When its values were read, Unix time in ns, where that was at another time than its snapshot was
    /// taken.
    fn read_unix_ns(_: &Self::Data) -> Option<u64> {
        None
    }

    /// Whether its values are sent: each reading is sent once.
    fn is_new(_: &Self::Data) -> bool {
        true
    }

    /// Hands its attributes over, in the order of the table.
    fn attributes(vm: Of<'_>, data: &Self::Data, put: &mut dyn FnMut(&'static str, Attribute<'_>));
}

pub(super) const VM_ID: (&str, &str) = ("hypervisor.vm.id", "Identity of the VM, for as long as it lives.");

const PID: (&str, &str) = ("process.pid", "Process id of the VMM, where a process of the host runs the VM.");

pub(super) const NUMA_NODE: (&str, &str) = ("hypervisor.numa.node", "Number of the host's NUMA node.");

/// Attributes of what is known of a VM: all facts stand between its identity and its process.
const INFO_ATTRIBUTES: [(&str, &str); FACTS.len() + 2] = {
    let mut attributes = [VM_ID; FACTS.len() + 2];
    let mut at = 0;
    while at < FACTS.len() {
        attributes[at + 1] = (FACTS[at].attribute, FACTS[at].help);
        at += 1;
    }
    attributes[at + 1] = PID;
    attributes
};

/// Whether an entity's attribute holds a number; all others hold text.
#[must_use]
pub fn is_number(attribute: &str) -> bool {
    [PID.0, NUMA_NODE.0, "hypervisor.vcpu.id"].contains(&attribute)
}

/// Distinguishes a VM from others by all that its attributes come from.
pub(super) type VmId = Option<(VmKey, Arc<str>)>;

pub(super) fn vm_id(vm: Of<'_>) -> VmId {
    vm.map(|vm| (vm.key, vm.id.clone()))
}

pub(super) fn is_vm(vm: Of<'_>, id: &VmId) -> bool {
    match (vm, id) {
        // The same text most often, and then it need not be compared.
        (Some(vm), Some((key, id))) => vm.key == *key && (Arc::ptr_eq(&vm.id, id) || vm.id == *id),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

pub(super) fn put_vm(vm: Of<'_>, put: &mut dyn FnMut(&'static str, Attribute<'_>)) {
    put(VM_ID.0, Attribute::Text(vm.map_or("", |vm| &*vm.id)));
}

pub(super) fn start_of(vm: Of<'_>, start: Start) -> u64 {
    match (vm, start) {
        (Some(vm), Start::Created) => vm.start_unix_ns,
        (Some(vm), Start::Seen) => vm.seen_unix_ns,
        _ => 0,
    }
}

/// A VM.
#[derive(Debug)]
pub struct VmEntity;

impl Entity for VmEntity {
    type Data = Vm;
    /// With the id: a VM whose threads all ended and began anew in between may have another one.
    type Key = (VmKey, Arc<str>);

    const NAME: &'static str = "a VM";
    const ATTRIBUTES: &'static [(&'static str, &'static str)] = &[VM_ID];
    const SERIES: &'static [Series<Vm>] = vm::SERIES;
    const SCOPE: Scope = Scope::Vm;

    fn of_vm(vm: &Vm) -> impl Iterator<Item = &Vm> {
        std::iter::once(vm)
    }

    fn key(_: Of<'_>, vm: &Vm) -> Self::Key {
        (vm.key, vm.id.clone())
    }

    fn has_key(_: Of<'_>, vm: &Vm, (key, id): &Self::Key) -> bool {
        vm.key == *key && vm.id == *id
    }

    fn start(vm: Of<'_>, _: &Vm, start: Start) -> u64 {
        start_of(vm, start)
    }

    fn attributes(vm: Of<'_>, _: &Vm, put: &mut dyn FnMut(&'static str, Attribute<'_>)) {
        put_vm(vm, put);
    }
}

/// What is known of a VM. Names arrive late: what knew less is another entity, and it ends.
#[derive(Debug)]
pub struct InfoEntity;

impl Entity for InfoEntity {
    type Data = Vm;
    type Key = (VmKey, Arc<str>, Arc<Facts>);

    const NAME: &'static str = "what is known of a VM";
    const ATTRIBUTES: &'static [(&'static str, &'static str)] = &INFO_ATTRIBUTES;
    const SERIES: &'static [Series<Vm>] = vm::INFO_SERIES;
    const SCOPE: Scope = Scope::Vm;

    fn of_vm(vm: &Vm) -> impl Iterator<Item = &Vm> {
        std::iter::once(vm)
    }

    fn key(_: Of<'_>, vm: &Vm) -> Self::Key {
        (vm.key, vm.id.clone(), vm.facts.clone())
    }

    fn has_key(_: Of<'_>, vm: &Vm, (key, id, facts): &Self::Key) -> bool {
        vm.key == *key && vm.id == *id && (Arc::ptr_eq(&vm.facts, facts) || vm.facts == *facts)
    }

    fn start(vm: Of<'_>, _: &Vm, start: Start) -> u64 {
        start_of(vm, start)
    }

    fn attributes(of: Of<'_>, vm: &Vm, put: &mut dyn FnMut(&'static str, Attribute<'_>)) {
        put_vm(of, put);
        for (row, known) in vm.facts.iter() {
            put(row.attribute, Attribute::Text(known));
        }
        for (key, value) in vm.facts.labels() {
            put(key, Attribute::Text(value));
        }
        if let Some(known) = vm.origin.pid() {
            put(PID.0, Attribute::Number(known));
        }
    }
}

/// A vCPU.
#[derive(Debug)]
pub struct VcpuEntity;

impl Entity for VcpuEntity {
    type Data = Vcpu;
    /// With the number and the VM: a thread that runs another vCPU now is another one.
    type Key = (VcpuId, u32, VmId);

    const NAME: &'static str = "a vCPU";
    const ATTRIBUTES: &'static [(&'static str, &'static str)] =
        &[VM_ID, ("hypervisor.vcpu.id", "Number of the vCPU as the VMM chose it.")];
    const SERIES: &'static [Series<Vcpu>] = vcpu::SERIES;
    const DETAILS: &'static [Series<Vcpu>] = vcpu::DETAILS;
    const SCOPE: Scope = Scope::Part("vcpus");
    const STARTS: StartWords = StartWords {
        created: "the vCPU's thread was created",
        seen: "the vCPU was first seen running",
        ..StartWords::OF_VM
    };

    fn of_vm(vm: &Vm) -> impl Iterator<Item = &Vcpu> {
        vm.vcpus_by_index()
    }

    fn key(vm: Of<'_>, vcpu: &Vcpu) -> Self::Key {
        (vcpu.id, vcpu.index, vm_id(vm))
    }

    fn has_key(vm: Of<'_>, vcpu: &Vcpu, (id, index, of): &Self::Key) -> bool {
        vcpu.id == *id && vcpu.index == *index && is_vm(vm, of)
    }

    fn start(_: Of<'_>, vcpu: &Vcpu, start: Start) -> u64 {
        match start {
            Start::Created => vcpu.start_unix_ns,
            Start::Followed => vcpu.followed_unix_ns,
            Start::Seen => vcpu.seen_unix_ns,
            Start::None | Start::Sampler | Start::Boot | Start::Own => 0,
        }
    }

    fn attributes(vm: Of<'_>, vcpu: &Vcpu, put: &mut dyn FnMut(&'static str, Attribute<'_>)) {
        put_vm(vm, put);
        put(Self::ATTRIBUTES[1].0, Attribute::Number(vcpu.index));
    }
}

/// A VM's exits of one kind.
#[derive(Debug)]
pub struct ExitEntity;

impl Entity for ExitEntity {
    type Data = (ExitKind, ExitTotals);
    type Key = (VmId, ExitKind);

    const NAME: &'static str = "a VM's exits of one kind";
    const ATTRIBUTES: &'static [(&'static str, &'static str)] = &[
        VM_ID,
        (
            "hypervisor.exit.reason",
            "Why the guest was left, in words that hold for all processors; meaning.md has them.",
        ),
        ("hypervisor.exit.raw", "The kernel's name for it; absent of those that have no row of their own."),
    ];
    const SERIES: &'static [Series<(ExitKind, ExitTotals)>] = vm::EXIT_SERIES;
    const DETAILS: &'static [Series<(ExitKind, ExitTotals)>] = vm::EXIT_DETAILS;
    const SCOPE: Scope = Scope::Part("exits");
    const COMES_AT_ZERO: bool = true;
    const OF_KVM: bool = true;

    fn of_vm(vm: &Vm) -> impl Iterator<Item = &Self::Data> {
        vm.exits().all().iter()
    }

    fn of_vcpu(vcpu: &Vcpu) -> Option<&[Self::Data]> {
        Some(vcpu.exits().all())
    }

    fn key(vm: Of<'_>, (kind, _): &Self::Data) -> Self::Key {
        (vm_id(vm), *kind)
    }

    fn has_key(vm: Of<'_>, (kind, _): &Self::Data, (id, known): &Self::Key) -> bool {
        is_vm(vm, id) && kind == known
    }

    fn start(vm: Of<'_>, _: &Self::Data, start: Start) -> u64 {
        start_of(vm, start)
    }

    fn attributes(vm: Of<'_>, (kind, _): &Self::Data, put: &mut dyn FnMut(&'static str, Attribute<'_>)) {
        put_vm(vm, put);
        put(Self::ATTRIBUTES[1].0, Attribute::Text(kind.reason));
        if let Some(raw) = kind.raw {
            put(Self::ATTRIBUTES[2].0, Attribute::Text(raw));
        }
    }
}

/// A VM that takes much of another's time, and has a series of its own there.
#[derive(Debug)]
pub struct StealByEntity;

impl Entity for StealByEntity {
    type Data = AttributedVm;
    type Key = (VmId, Arc<str>, u64);

    const NAME: &'static str = "a VM that waited and another that had the CPU";
    const ATTRIBUTES: &'static [(&'static str, &'static str)] = &[
        VM_ID,
        ("hypervisor.steal.by.kind", "Always vm."),
        ("hypervisor.steal.by.vm", "Identity of the VM that had the CPU."),
    ];
    const SERIES: &'static [Series<AttributedVm>] = vm::STEAL_BY_SERIES;
    const SCOPE: Scope = Scope::Part("steal_by");
    const COMES_AT_ZERO: bool = true;
    const STARTS: StartWords =
        StartWords { own: "the VM that had the CPU got a series of its own", ..StartWords::OF_VM };

    fn of_vm(vm: &Vm) -> impl Iterator<Item = &AttributedVm> {
        vm.attributed.vms.iter()
    }

    fn key(vm: Of<'_>, by: &AttributedVm) -> Self::Key {
        (vm_id(vm), by.id.clone(), by.since_unix_ns)
    }

    fn has_key(vm: Of<'_>, by: &AttributedVm, (key, id, since_unix_ns): &Self::Key) -> bool {
        is_vm(vm, key) && by.id == *id && by.since_unix_ns == *since_unix_ns
    }

    fn start(_: Of<'_>, by: &AttributedVm, start: Start) -> u64 {
        if start == Start::Own { by.since_unix_ns } else { 0 }
    }

    fn attributes(vm: Of<'_>, by: &AttributedVm, put: &mut dyn FnMut(&'static str, Attribute<'_>)) {
        put_vm(vm, put);
        put(Self::ATTRIBUTES[1].0, Attribute::Text("vm"));
        put(Self::ATTRIBUTES[2].0, Attribute::Text(&by.id));
    }
}
