//! The object of an entity, and the lists of those that a VM or a vCPU has several of.

use std::any::Any;

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq as _},
};

use super::metrics::{Before, put_added, put_attributes, put_starts, put_values};
use crate::model::{
    Counter, Vcpu, Vm,
    catalog::{Entity, ForEachEntity, Scope, Series, Start, VmEntity, for_each_entity, has_counters},
};

/// Finds what had a place in the snapshot before. Most often it is the next one.
pub(super) struct Finder<'a, T> {
    all: &'a [T],
    next: usize,
}

impl<'a, T> Finder<'a, T> {
    pub(super) const fn new(all: &'a [T]) -> Self {
        Self { all, next: 0 }
    }

    pub(super) fn find(&mut self, is_it: impl Fn(&T) -> bool) -> Option<&'a T> {
        let (earlier, later) = self.all.split_at(self.next);
        let found = later.iter().position(&is_it).map(|at| self.next + at);
        let found = found.or_else(|| earlier.iter().position(&is_it))?;
        self.next = found + 1;
        Some(&self.all[found])
    }
}

/// An entity's attributes.
pub(super) struct Attributes<'a, E: Entity> {
    pub(super) vm: &'a Vm,
    pub(super) data: &'a E::Data,
    /// What the object has in which it is.
    pub(super) known: &'a [(&'static str, &'static str)],
}

impl<E: Entity> Serialize for Attributes<'_, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_attributes::<E, _>(&mut map, Some(self.vm), self.data, self.known)?;
        map.end()
    }
}

/// When an entity's values were zero.
pub(super) struct Starts<'a, E: Entity> {
    pub(super) vm: &'a Vm,
    pub(super) data: &'a E::Data,
    /// It is in its VM's object: what is not said here is as it is there.
    pub(super) is_part: bool,
}

impl<E: Entity> Serialize for Starts<'_, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let vm = self.vm;
        let known = |start| if self.is_part { VmEntity::start(Some(vm), vm, start) } else { 0 };
        let mut map = serializer.serialize_map(None)?;
        put_starts::<E, _>(&mut map, Some(vm), self.data, known)?;
        map.end()
    }
}

/// An entity's metrics.
pub(super) struct Values<'a, E: Entity> {
    pub(super) data: &'a E::Data,
    pub(super) details: &'static [Series<E::Data>],
}

impl<E: Entity> Serialize for Values<'_, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_values(&mut map, [E::SERIES, self.details], self.data)?;
        map.end()
    }
}

/// What was added to an entity's metrics.
pub(super) struct Added<'a, E: Entity> {
    pub(super) data: &'a E::Data,
    pub(super) before: Before<'a, E::Data>,
    pub(super) details: &'static [Series<E::Data>],
    /// Of values with which start that is known.
    pub(super) is_known: fn(Start) -> bool,
}

impl<E: Entity> Serialize for Added<'_, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_added(&mut map, [E::SERIES, self.details], self.data, self.before, self.is_known)?;
        map.end()
    }
}

/// Writes the lists of what a VM has several of.
pub(super) struct Lists<'a, M: SerializeMap> {
    pub(super) vm: &'a Vm,
    /// The VM when the interval began.
    pub(super) before: Option<&'a Vm>,
    pub(super) map: M,
    pub(super) result: Result<(), M::Error>,
}

impl<M: SerializeMap> ForEachEntity for Lists<'_, M> {
    fn entity<E: Entity>(&mut self) {
        let Scope::Part(name) = E::SCOPE else { return };
        if self.result.is_ok() && (!E::OF_KVM || self.vm.kvm.is_some()) {
            let before = self.before.map(|vm| (vm, E::of_vm(vm).collect()));
            let list = List::<E> { vm: self.vm, all: E::of_vm(self.vm).collect(), before };
            self.result = self.map.serialize_entry(name, &list);
        }
    }
}

/// The same of a vCPU.
struct VcpuLists<'a, 'm, M: SerializeMap> {
    vm: &'a Vm,
    vcpu: &'a Vcpu,
    before: Option<&'a Vcpu>,
    map: &'m mut M,
    result: Result<(), M::Error>,
}

impl<M: SerializeMap> ForEachEntity for VcpuLists<'_, '_, M> {
    fn entity<E: Entity>(&mut self) {
        let (Scope::Part(name), Some(all)) = (E::SCOPE, E::of_vcpu(self.vcpu)) else { return };
        if self.result.is_ok() && (!E::OF_KVM || self.vcpu.kvm.is_some()) {
            let before = self.before.and_then(E::of_vcpu);
            let before = before.map(|all| (self.vm, all.iter().collect()));
            let list = List::<E> { vm: self.vm, all: all.iter().collect(), before };
            self.result = self.map.serialize_entry(name, &list);
        }
    }
}

struct List<'a, E: Entity> {
    vm: &'a Vm,
    all: Vec<&'a E::Data>,
    before: Option<(&'a Vm, Vec<&'a E::Data>)>,
}

impl<E: Entity> Serialize for List<'_, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { vm, all, before } = self;
        let mut finder = Finder::new(before.as_ref().map_or(&[][..], |(_, all)| all));
        let mut list = serializer.serialize_seq(Some(all.len()))?;
        for data in all {
            let before = before.as_ref().and_then(|(vm_before, _)| {
                let key = E::key(Some(vm), data);
                let found = finder.find(|before| E::has_key(Some(vm_before), before, &key));
                let nothing = || E::COMES_AT_ZERO.then_some(Before::Nothing);
                found.map(|before| Before::Had(*before)).or_else(nothing)
            });
            list.serialize_element(&Part::<E> { vm, data, before })?;
        }
        list.end()
    }
}

/// The object of an entity.
struct Part<'a, E: Entity> {
    vm: &'a Vm,
    data: &'a E::Data,
    before: Option<Before<'a, E::Data>>,
}

impl<E: Entity> Serialize for Part<'_, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { vm, data, before } = *self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("attributes", &Attributes::<E> { vm, data, known: VmEntity::ATTRIBUTES })?;
        let vcpu = as_vcpu(data);
        if let Some(vcpu) = vcpu {
            put_thread(&mut map, vcpu)?;
        }
        if let Some(scheduler) = vcpu.and_then(Scheduler::of) {
            map.serialize_entry("scheduler", &scheduler)?;
        }
        if let (Some(key), Some(at_unix_ns)) = (E::OWN_TIME, E::read_unix_ns(data)) {
            map.serialize_entry(key, &at_unix_ns)?;
        }
        map.serialize_entry("starts_unix_ns", &Starts::<E> { vm, data, is_part: true })?;
        map.serialize_entry("metrics", &Values::<E> { data, details: E::DETAILS })?;
        if let Some(before) = before.filter(|_| has_counters::<E>()) {
            let added = Added::<E> { data, before, details: E::DETAILS, is_known: |_| true };
            map.serialize_entry("interval", &added)?;
        }
        if let Some(vcpu) = vcpu {
            let before = match before {
                Some(Before::Had(before)) => as_vcpu(before),
                Some(Before::Nothing) | None => None,
            };
            let mut lists = VcpuLists { vm, vcpu, before, map: &mut map, result: Ok(()) };
            for_each_entity(&mut lists);
            lists.result?;
        }
        map.end()
    }
}

/// A vCPU has more than its metrics.
fn as_vcpu<D: 'static>(data: &D) -> Option<&Vcpu> {
    (data as &dyn Any).downcast_ref()
}

/// The thread that runs a vCPU, where one of this host does.
pub(super) fn put_thread<M: SerializeMap>(map: &mut M, vcpu: &Vcpu) -> Result<(), M::Error> {
    vcpu.tid.map_or(Ok(()), |tid| map.serialize_entry("tid", &tid))
}

/// What the scheduler counts of a vCPU's thread, as it is in the kernel, and what goes on and is not in it
/// yet.
#[derive(Serialize)]
struct Scheduler {
    run_ns: u64,
    run_delay_ns: u64,
    running_ns: u64,
    waiting_ns: u64,
}

impl Scheduler {
    /// Nothing of a vCPU that no thread of this host runs, or has run yet.
    fn of(vcpu: &Vcpu) -> Option<Self> {
        (vcpu.tid.is_some() && !vcpu.unused).then(|| Self {
            run_ns: vcpu.counters[Counter::Run as usize],
            run_delay_ns: vcpu.counters[Counter::RunDelay as usize],
            running_ns: vcpu.running_ns,
            waiting_ns: vcpu.waiting_ns,
        })
    }
}
