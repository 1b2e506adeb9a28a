//! What was exported and is to be ended one day: the streams, each with its encoded attributes.
//!
//! An entry is made when its vCPU or VM is first exported and goes when its end is exported, so that in the
//! steady state nothing here allocates. Ends follow from what was exported before and is missing now, and
//! not from [`Snapshot::ended`] alone: a snapshot that never reached the encoder must not leave series open.

use std::{
    collections::{HashMap, HashSet},
    mem,
    ops::Range,
    sync::Arc,
};

use foldhash::fast::RandomState;
use sampler_ebpf::abi::COUNTERS;

use super::{
    catalog::{POINT_ATTRIBUTES, exit_attributes, occupant_attributes},
    sets::{HelperSet, KvmSet, StateSet},
    wire::{AnyValue, put_attribute},
};
use crate::{
    export::resource::bounded,
    model::{AttributedVm, Ended, ExitKind, Snapshot, StateTimes, Vcpu, VcpuId, Vm, VmKey},
};

/// The series of one vCPU.
struct VcpuStream {
    /// The vCPU's number: a thread that runs another vCPU now is another series.
    index: u32,
    attributes: Arc<[u8]>,
    start_unix_ns: u64,
    states: StateSet,
    generation: u64,
}

impl VcpuStream {
    fn into_end(self) -> VcpuEnd {
        let Self { attributes, start_unix_ns, states, .. } = self;
        VcpuEnd { attributes, start_unix_ns, states, counters: true }
    }
}

/// The series of what one VM took of another.
#[derive(Clone)]
pub(super) struct OccupantStream {
    /// Identity of the occupant.
    by: Arc<str>,
    /// Encoded.
    pub(super) attributes: Arc<[u8]>,
    pub(super) since_unix_ns: u64,
}

/// The series of a VM's exits of one kind.
#[derive(Clone)]
pub(super) struct ExitStream {
    kind: ExitKind,
    /// Encoded, for a number.
    pub(super) attributes: Arc<[u8]>,
    /// The same for a histogram.
    pub(super) histogram_attributes: Arc<[u8]>,
}

/// The series of one VM.
struct VmStream {
    /// `hypervisor.vm.id`, encoded.
    id: Arc<[u8]>,
    /// Attributes of `hypervisor.vm.info`, encoded.
    info: Arc<[u8]>,
    /// What `info` was made from.
    name: Option<Arc<str>>,
    uuid: Option<Arc<str>>,
    platform: &'static str,
    start_unix_ns: u64,
    seen_unix_ns: u64,
    kvm: KvmSet,
    helpers: HelperSet,
    occupants: Vec<OccupantStream>,
    exits: Vec<ExitStream>,
    generation: u64,
}

impl VmStream {
    /// Whether nothing but values has changed.
    fn is_as(&self, vm: &Vm) -> bool {
        self.tells(vm)
            && self.kvm == KvmSet::of(vm.kvm_counts())
            && self.helpers == HelperSet::of(&vm.helpers)
    }

    /// Whether `info` still tells what is known.
    fn tells(&self, vm: &Vm) -> bool {
        self.name == vm.name && self.uuid == vm.uuid && self.platform == vm.platform
    }
}

/// A vCPU to be exported. The passes over the rows, two for each metric, would otherwise stride through the
/// whole snapshot, which on a large host is beyond the caches.
pub(super) struct VcpuRow {
    thread: VcpuId,
    index: u32,
    /// Where its attributes are in [`Streams::attributes`].
    attributes: Range<usize>,
    pub(super) start_unix_ns: u64,
    pub(super) states: StateTimes,
    pub(super) counters: [u64; COUNTERS.len()],
}

/// A VM to be exported, in the order of the snapshot.
pub(super) struct VmRow {
    key: VmKey,
    pub(super) id: Arc<[u8]>,
    pub(super) info: Arc<[u8]>,
    /// vCPUs that are exported.
    pub(super) vcpus: usize,
    /// In the order of the snapshot's VMs that are told apart.
    pub(super) occupants: Vec<OccupantStream>,
    /// In the order of the snapshot's exits.
    pub(super) exits: Vec<ExitStream>,
    helpers: HelperSet,
}

/// Series of a vCPU that end.
pub(super) struct VcpuEnd {
    pub(super) attributes: Arc<[u8]>,
    pub(super) start_unix_ns: u64,
    /// Series of `hypervisor.vcpu.time` that end.
    pub(super) states: StateSet,
    /// Whether the series of the counters end.
    pub(super) counters: bool,
}

/// Series of a VM that end.
pub(super) struct VmEnd {
    /// Attributes of the counts and the uptime, unless those go on.
    pub(super) id: Option<Arc<[u8]>>,
    /// Attributes of `hypervisor.vm.info`, unless that goes on or was never exported.
    pub(super) info: Option<Arc<[u8]>>,
    pub(super) start_unix_ns: u64,
    /// Start of the distributions.
    pub(super) seen_unix_ns: u64,
    /// Series of KVM's counts that end.
    pub(super) kvm: KvmSet,
}

/// Series of what one VM took of another that end.
pub(super) struct OccupantEnd {
    /// The victim, encoded.
    pub(super) id: Arc<[u8]>,
    pub(super) occupant: OccupantStream,
}

/// Series of a VM's exits of one kind that end.
pub(super) struct ExitEnd {
    /// The VM, encoded.
    pub(super) id: Arc<[u8]>,
    pub(super) exit: ExitStream,
    pub(super) seen_unix_ns: u64,
}

/// Series of a VM's helper threads that end.
pub(super) struct HelperEnd {
    /// The VM, encoded.
    pub(super) id: Arc<[u8]>,
    pub(super) seen_unix_ns: u64,
    pub(super) kinds: HelperSet,
}

/// The streams, and what the current snapshot makes of them.
#[derive(Default)]
pub(super) struct Streams {
    /// Kernel-made keys: no need for a hash that withstands an attacker.
    vcpus: HashMap<VcpuId, VcpuStream, RandomState>,
    vms: HashMap<VmKey, VmStream>,
    generation: u64,
    pub(super) vcpu_rows: Vec<VcpuRow>,
    /// Attributes of the rows, one after the other.
    attributes: Vec<u8>,
    pub(super) vm_rows: Vec<VmRow>,
    pub(super) vcpu_ends: Vec<VcpuEnd>,
    pub(super) vm_ends: Vec<VmEnd>,
    pub(super) occupant_ends: Vec<OccupantEnd>,
    pub(super) exit_ends: Vec<ExitEnd>,
    pub(super) helper_ends: Vec<HelperEnd>,
}

impl Streams {
    /// Brings rows and ends in line with a snapshot.
    pub(super) fn update(&mut self, snapshot: &Snapshot) {
        self.vcpu_ends.clear();
        self.vm_ends.clear();
        self.occupant_ends.clear();
        self.exit_ends.clear();
        self.helper_ends.clear();
        if !snapshot.ended.is_empty() || !self.refresh(snapshot) {
            self.rebuild(snapshot);
        }
    }

    /// The steady state: the same VMs with the same threads and states as before get their new values.
    /// False when anything else changed; the rows are then to be made anew.
    fn refresh(&mut self, snapshot: &Snapshot) -> bool {
        if snapshot.vms.len() != self.vm_rows.len() {
            return false;
        }
        let mut rows = self.vcpu_rows.iter_mut();
        for (vm, vm_row) in snapshot.vms.iter().zip(&self.vm_rows) {
            if vm.key != vm_row.key || !self.vms.get(&vm.key).is_some_and(|stream| stream.is_as(vm)) {
                return false;
            }
            let occupants = vm_row.occupants.iter().map(|occupant| (&occupant.by, occupant.since_unix_ns));
            if !occupants.eq(vm.attributed.vms.iter().map(|by| (&by.id, by.since_unix_ns))) {
                return false;
            }
            if !vm_row.exits.iter().map(|exit| exit.kind).eq(vm.exits().iter().map(|(kind, _)| kind)) {
                return false;
            }
            let mut vcpus = 0;
            for vcpu in exported(&vm.vcpus) {
                let Some(row) = rows.next() else { return false };
                let same = row.thread == vcpu.id && row.index == vcpu.index;
                if !same || StateSet::of(&row.states) != StateSet::of(&vcpu.states) {
                    return false;
                }
                row.start_unix_ns = vcpu.start_unix_ns;
                row.states = vcpu.states;
                row.counters = vcpu.counters;
                vcpus += 1;
            }
            if vcpus != vm_row.vcpus {
                return false;
            }
        }
        rows.next().is_none()
    }

    fn rebuild(&mut self, snapshot: &Snapshot) {
        self.generation += 1;
        self.vcpu_rows.clear();
        self.attributes.clear();
        self.vm_rows.clear();
        for vm in &snapshot.vms {
            let before = self.vcpu_rows.len();
            for vcpu in exported(&vm.vcpus) {
                self.see_vcpu(vm, vcpu);
            }
            self.see_vm(vm, self.vcpu_rows.len() - before);
        }
        // Those that were exported come first: of two ends of one series the first is kept, and theirs has
        // the start time that the series had.
        self.end_unseen();
        for ended in &snapshot.ended {
            self.end_named(ended);
        }
        self.keep_one_end_each();
    }

    /// A row's encoded attributes.
    pub(super) fn attributes_of(&self, row: &VcpuRow) -> &[u8] {
        &self.attributes[row.attributes.clone()]
    }

    fn see_vm(&mut self, vm: &Vm, vcpus: usize) {
        let generation = self.generation;
        let stream = self.vms.entry(vm.key).or_insert_with(|| VmStream {
            id: vm_id_attribute(&vm.id).into(),
            info: info_attributes(vm),
            name: vm.name.clone(),
            uuid: vm.uuid.clone(),
            platform: vm.platform,
            start_unix_ns: vm.start_unix_ns,
            seen_unix_ns: vm.seen_unix_ns,
            kvm: KvmSet::default(),
            helpers: HelperSet::default(),
            occupants: Vec::new(),
            exits: Vec::new(),
            generation,
        });
        stream.generation = generation;
        // Counts come when KVM was first read, and never go.
        stream.kvm = KvmSet::of(vm.kvm_counts());
        let helpers = HelperSet::of(&vm.helpers);
        let vanished = mem::replace(&mut stream.helpers, helpers).without(helpers);
        if vanished != HelperSet::default() {
            let VmStream { ref id, seen_unix_ns, .. } = *stream;
            self.helper_ends.push(HelperEnd { id: id.clone(), seen_unix_ns, kinds: vanished });
        }
        let occupants = thieves_of(vm, &stream.occupants);
        let before = mem::replace(&mut stream.occupants, occupants.clone());
        self.occupant_ends
            .extend(before.into_iter().map(|occupant| OccupantEnd { id: stream.id.clone(), occupant }));
        let exits = exits_of(vm, &stream.exits);
        let before = mem::replace(&mut stream.exits, exits.clone());
        let seen_unix_ns = stream.seen_unix_ns;
        self.exit_ends.extend(before.into_iter().map(|exit| ExitEnd {
            id: stream.id.clone(),
            exit,
            seen_unix_ns,
        }));
        // Names arrive late. The info series that lacked them is another series, and it ends.
        if !stream.tells(vm) {
            stream.name.clone_from(&vm.name);
            stream.uuid.clone_from(&vm.uuid);
            stream.platform = vm.platform;
            let before = mem::replace(&mut stream.info, info_attributes(vm));
            let VmStream { start_unix_ns, seen_unix_ns, kvm, .. } = *stream;
            self.vm_ends.push(VmEnd { id: None, info: Some(before), start_unix_ns, seen_unix_ns, kvm });
        }
        let (id, info) = (stream.id.clone(), stream.info.clone());
        self.vm_rows.push(VmRow { key: vm.key, id, info, vcpus, occupants, exits, helpers });
    }

    fn see_vcpu(&mut self, vm: &Vm, vcpu: &Vcpu) {
        let generation = self.generation;
        let states = StateSet::of(&vcpu.states);
        if self.vcpus.get(&vcpu.id).is_some_and(|stream| stream.index != vcpu.index) {
            let other = self.vcpus.remove(&vcpu.id);
            self.vcpu_ends.extend(other.map(VcpuStream::into_end));
        }
        let stream = self.vcpus.entry(vcpu.id).or_insert_with(|| VcpuStream {
            index: vcpu.index,
            attributes: vcpu_attributes(&vm.id, vcpu.index),
            start_unix_ns: vcpu.start_unix_ns,
            states,
            generation,
        });
        stream.generation = generation;
        let vanished = mem::replace(&mut stream.states, states).without(states);
        if vanished != StateSet::default() {
            self.vcpu_ends.push(VcpuEnd {
                attributes: stream.attributes.clone(),
                start_unix_ns: stream.start_unix_ns,
                states: vanished,
                counters: false,
            });
        }
        let from = self.attributes.len();
        self.attributes.extend_from_slice(&stream.attributes);
        self.vcpu_rows.push(VcpuRow {
            thread: vcpu.id,
            index: vcpu.index,
            attributes: from..self.attributes.len(),
            start_unix_ns: vcpu.start_unix_ns,
            states: vcpu.states,
            counters: vcpu.counters,
        });
    }

    /// Ends every stream that the snapshot no longer has.
    fn end_unseen(&mut self) {
        let generation = self.generation;
        let Self { vcpus, vms, vcpu_ends, vm_ends, occupant_ends, exit_ends, helper_ends, .. } = self;
        vcpus.retain(|_, stream| {
            let live = stream.generation == generation;
            if !live {
                vcpu_ends.push(VcpuEnd {
                    attributes: stream.attributes.clone(),
                    start_unix_ns: stream.start_unix_ns,
                    states: stream.states,
                    counters: true,
                });
            }
            live
        });
        vms.retain(|_, stream| {
            let live = stream.generation == generation;
            if !live {
                let (id, info) = (Some(stream.id.clone()), Some(stream.info.clone()));
                let VmStream { start_unix_ns, seen_unix_ns, kvm, helpers, .. } = *stream;
                helper_ends.push(HelperEnd { id: stream.id.clone(), seen_unix_ns, kinds: helpers });
                vm_ends.push(VmEnd { id, info, start_unix_ns, seen_unix_ns, kvm });
                let occupants = mem::take(&mut stream.occupants).into_iter();
                occupant_ends
                    .extend(occupants.map(|occupant| OccupantEnd { id: stream.id.clone(), occupant }));
                let exits = mem::take(&mut stream.exits).into_iter();
                exit_ends.extend(exits.map(|exit| ExitEnd { id: stream.id.clone(), exit, seen_unix_ns }));
            }
            live
        });
    }

    /// Ends what the snapshot names as ended, exported before or not.
    fn end_named(&mut self, ended: &Ended) {
        self.vcpu_ends.push(VcpuEnd {
            attributes: vcpu_attributes(&ended.vm_id, ended.index),
            start_unix_ns: ended.start_unix_ns,
            states: StateSet::of(&ended.states),
            counters: true,
        });
        if ended.vm_gone {
            let id = Some(vm_id_attribute(&ended.vm_id).into());
            let start_unix_ns = ended.start_unix_ns;
            let kvm = KvmSet::default();
            self.vm_ends.push(VmEnd { id, info: None, start_unix_ns, seen_unix_ns: start_unix_ns, kvm });
        }
    }

    /// Leaves one end for each series, and none for a series that goes on because another thread or VM has
    /// taken its attributes over: the new start time tells of the change.
    fn keep_one_end_each(&mut self) {
        if !self.vcpu_ends.is_empty() {
            let live = self.vcpus.values().map(|stream| (stream.attributes.clone(), (stream.states, true)));
            let mut settled: HashMap<Arc<[u8]>, (StateSet, bool)> = live.collect();
            for end in &mut self.vcpu_ends {
                let (states, counters) = settled.entry(end.attributes.clone()).or_default();
                end.states = end.states.without(*states);
                end.counters &= !*counters;
                states.insert(end.states);
                *counters |= end.counters;
            }
        }
        if !self.vm_ends.is_empty() {
            let live = self.vm_rows.iter().flat_map(|row| [row.id.clone(), row.info.clone()]);
            let mut settled: HashSet<Arc<[u8]>> = live.collect();
            for end in &mut self.vm_ends {
                end.id.take_if(|id| !settled.insert(id.clone()));
                end.info.take_if(|info| !settled.insert(info.clone()));
            }
        }
        if !self.occupant_ends.is_empty() {
            let series =
                |id: &Arc<[u8]>, occupant: &OccupantStream| (id.clone(), occupant.attributes.clone());
            let live = self
                .vm_rows
                .iter()
                .flat_map(|row| row.occupants.iter().map(|occupant| series(&row.id, occupant)));
            let mut settled: HashSet<_> = live.collect();
            self.occupant_ends.retain(|end| settled.insert(series(&end.id, &end.occupant)));
        }
        if !self.exit_ends.is_empty() {
            let live =
                self.vm_rows.iter().flat_map(|row| row.exits.iter().map(|exit| (row.id.clone(), exit.kind)));
            let mut settled: HashSet<_> = live.collect();
            self.exit_ends.retain(|end| settled.insert((end.id.clone(), end.exit.kind)));
        }
        if !self.helper_ends.is_empty() {
            let mut settled: HashMap<Arc<[u8]>, HelperSet> =
                self.vm_rows.iter().map(|row| (row.id.clone(), row.helpers)).collect();
            for end in &mut self.helper_ends {
                let kinds = settled.entry(end.id.clone()).or_default();
                end.kinds = end.kinds.without(*kinds);
                kinds.insert(end.kinds);
            }
        }
    }
}

/// The occupants that are told apart, with the attributes that were encoded for them before.
fn thieves_of(vm: &Vm, before: &[OccupantStream]) -> Vec<OccupantStream> {
    let stream = |by: &AttributedVm| {
        let known =
            before.iter().find(|occupant| occupant.by == by.id).map(|occupant| occupant.attributes.clone());
        OccupantStream {
            by: by.id.clone(),
            attributes: known.unwrap_or_else(|| occupant_attributes(bounded(&by.id)).into()),
            since_unix_ns: by.since_unix_ns,
        }
    };
    vm.attributed.vms.iter().map(stream).collect()
}

/// The exits, with the attributes that were encoded for them before.
fn exits_of(vm: &Vm, before: &[ExitStream]) -> Vec<ExitStream> {
    let stream = |kind: ExitKind| {
        before.iter().find(|exit| exit.kind == kind).cloned().unwrap_or_else(|| {
            let [attributes, histogram_attributes] = exit_attributes(kind).map(Into::into);
            ExitStream { kind, attributes, histogram_attributes }
        })
    };
    vm.exits().iter().map(|(kind, _)| stream(kind)).collect()
}

/// The vCPUs to be exported. Where two threads served the same vCPU, the younger alone: two points with the
/// same attributes in one export contradict each other, and the one that set the vCPU up is the older.
fn exported(vcpus: &[Vcpu]) -> impl Iterator<Item = &Vcpu> {
    vcpus
        .chunk_by(|a, b| a.index == b.index)
        .filter_map(|same| same.iter().max_by_key(|vcpu| (vcpu.start_unix_ns, vcpu.id)))
}

fn vm_id_attribute(id: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_attribute(&mut bytes, POINT_ATTRIBUTES, "hypervisor.vm.id", AnyValue::String(bounded(id)));
    bytes
}

fn vcpu_attributes(vm_id: &str, index: u32) -> Arc<[u8]> {
    let mut bytes = vm_id_attribute(vm_id);
    put_attribute(&mut bytes, POINT_ATTRIBUTES, "hypervisor.vcpu.id", AnyValue::Int(index.into()));
    bytes.into()
}

fn info_attributes(vm: &Vm) -> Arc<[u8]> {
    let mut bytes = vm_id_attribute(&vm.id);
    let mut put = |key, value| put_attribute(&mut bytes, POINT_ATTRIBUTES, key, value);
    if let Some(name) = &vm.name {
        put("hypervisor.vm.name", AnyValue::String(bounded(name)));
    }
    if let Some(uuid) = &vm.uuid {
        put("hypervisor.vm.uuid", AnyValue::String(bounded(uuid)));
    }
    put("hypervisor.vm.platform", AnyValue::String(bounded(vm.platform)));
    put("process.pid", AnyValue::Int(vm.origin.number().into()));
    bytes.into()
}
