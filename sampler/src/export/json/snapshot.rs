//! The document of a snapshot: objects that nest as VMs and vCPUs do, and what in them is no metric.
//!
//! What is measured is left out where it is not known: absent, never zero.

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq as _},
};

use super::{
    HostJson, SNAPSHOT_SCHEMA,
    metrics::{Before, put_added, put_starts, put_values},
    object::{Added, Attributes, Finder, Lists, Starts, Values, put_thread},
};
use crate::model::{
    Ended, Share, Snapshot, Vcpu, Vm,
    catalog::{Entity, ForEachEntity, InfoEntity, Scope, VcpuEntity, VmEntity, for_each_entity},
};

/// A snapshot with the one that was written before it.
pub(super) struct Document<'a> {
    now: &'a Snapshot,
    before: Option<&'a Snapshot>,
}

impl<'a> Document<'a> {
    pub(super) const fn new(now: &'a Snapshot, before: Option<&'a Snapshot>) -> Self {
        Self { now, before }
    }

    /// Whether snapshots between the two were never written.
    fn has_gap(&self) -> bool {
        let taken = |before: &Snapshot| self.now.sampler.snapshots.saturating_sub(before.sampler.snapshots);
        self.before.is_some_and(|before| taken(before) > 1)
    }

    /// Length of what the document calls the interval.
    fn interval_ns(&self) -> Option<u64> {
        let before = self.before?;
        let since = self.now.at_unix_ns.saturating_sub(before.at_unix_ns);
        Some(if self.has_gap() { since } else { self.now.interval_ns })
    }
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schema", SNAPSHOT_SCHEMA)?;
        map.serialize_entry("time_unit", "ns")?;
        map.serialize_entry("at_unix_ns", &self.now.at_unix_ns)?;
        if let Some(interval_ns) = self.interval_ns() {
            map.serialize_entry("interval_ns", &interval_ns)?;
        }
        map.serialize_entry("host", &HostJson::of(&self.now.host))?;
        put_own_times(Metrics::Host(self.now), &mut map)?;
        map.serialize_entry("starts_unix_ns", &HostStarts(self.now))?;
        map.serialize_entry("metrics", &Metrics::Host(self.now))?;
        if let Some(before) = self.before {
            map.serialize_entry("interval", &Metrics::HostAdded { now: self.now, before })?;
        }
        map.serialize_entry("vms", &Vms(self))?;
        map.serialize_entry("ended", &AllEnded(self))?;
        map.serialize_entry("sampler", &self.now.sampler)?;
        map.end()
    }
}

struct Vms<'a>(&'a Document<'a>);

impl Serialize for Vms<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Document { now, before } = self.0;
        let mut finder = Finder::new(before.map_or(&[][..], |before| &before.vms));
        let mut list = serializer.serialize_seq(Some(now.vms.len()))?;
        for vm in &now.vms {
            let key = VmEntity::key(Some(vm), vm);
            let before = finder.find(|before| VmEntity::has_key(Some(before), before, &key));
            list.serialize_element(&VmObject { vm, before, has_gap: self.0.has_gap() })?;
        }
        list.end()
    }
}

struct VmObject<'a> {
    vm: &'a Vm,
    before: Option<&'a Vm>,
    has_gap: bool,
}

impl Serialize for VmObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let vm = self.vm;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("attributes", &Attributes::<InfoEntity> { vm, data: vm, known: &[] })?;
        if let Some(level) = vm.level() {
            map.serialize_entry("level", level.key())?;
        }
        if vm.co_stop.tick_ns > 0 {
            map.serialize_entry("co_stop_tick_ns", &vm.co_stop.tick_ns)?;
        }
        put_own_times(Metrics::Vm(vm), &mut map)?;
        map.serialize_entry("starts_unix_ns", &Starts::<VmEntity> { vm, data: vm, is_part: false })?;
        map.serialize_entry("metrics", &Metrics::Vm(vm))?;
        if let Some(before) = self.before {
            map.serialize_entry("interval", &Metrics::Added { vm, before })?;
        }
        // Of the snapshot's own interval alone: who it was is not summed up.
        if let Some(shares) = vm.shares.as_deref().filter(|_| self.before.is_some() && !self.has_gap) {
            map.serialize_entry("occupants", &Occupants(shares))?;
        }
        let mut lists = Lists { vm, before: self.before, map, result: Ok(()) };
        for_each_entity(&mut lists);
        lists.result?;
        lists.map.end()
    }
}

/// Metrics of an object that has those of several entities.
#[derive(Clone, Copy)]
enum Metrics<'a> {
    Host(&'a Snapshot),
    /// What was added since the host was so.
    HostAdded {
        now: &'a Snapshot,
        before: &'a Snapshot,
    },
    Vm(&'a Vm),
    /// What was added since the VM was so.
    Added {
        vm: &'a Vm,
        before: &'a Vm,
    },
}

impl Metrics<'_> {
    fn put<E: Entity, M: SerializeMap>(self, map: &mut M) -> Result<(), M::Error> {
        match (E::SCOPE, self) {
            (Scope::Host, Self::Host(snapshot)) => {
                E::each(snapshot).try_for_each(|(_, data)| put_values(map, [E::SERIES, E::DETAILS], data))
            }
            (Scope::Host, Self::HostAdded { now, before }) => {
                let mut both = E::each(now).zip(E::each(before));
                both.try_for_each(|((_, data), (_, before))| {
                    put_added(map, [E::SERIES, E::DETAILS], data, Before::Had(before), |_| true)
                })
            }
            (Scope::Vm, Self::Vm(vm)) => {
                E::of_vm(vm).try_for_each(|data| put_values(map, [E::SERIES, E::DETAILS], data))
            }
            (Scope::Vm, Self::Added { vm, before }) => {
                let mut both = E::of_vm(vm).zip(E::of_vm(before));
                both.try_for_each(|(data, before)| {
                    put_added(map, [E::SERIES, E::DETAILS], data, Before::Had(before), |_| true)
                })
            }
            _ => Ok(()),
        }
    }
}

impl Serialize for Metrics<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Walk<'a, M: SerializeMap> {
            of: Metrics<'a>,
            map: M,
            result: Result<(), M::Error>,
        }
        impl<M: SerializeMap> ForEachEntity for Walk<'_, M> {
            fn entity<E: Entity>(&mut self) {
                if self.result.is_ok() {
                    self.result = self.of.put::<E, M>(&mut self.map);
                }
            }
        }
        let mut walk = Walk { of: *self, map: serializer.serialize_map(None)?, result: Ok(()) };
        for_each_entity(&mut walk);
        walk.result?;
        walk.map.end()
    }
}

/// When the host's values were zero.
struct HostStarts<'a>(&'a Snapshot);

impl Serialize for HostStarts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Walk<'a, M: SerializeMap> {
            of: &'a Snapshot,
            map: M,
            result: Result<(), M::Error>,
        }
        impl<M: SerializeMap> ForEachEntity for Walk<'_, M> {
            fn entity<E: Entity>(&mut self) {
                if self.result.is_ok() && E::SCOPE == Scope::Host {
                    let Self { of, map, .. } = self;
                    self.result =
                        E::each(of).try_for_each(|(_, data)| put_starts::<E, _>(map, None, data, |_| 0));
                }
            }
        }
        let mut walk = Walk { of: self.0, map: serializer.serialize_map(None)?, result: Ok(()) };
        for_each_entity(&mut walk);
        walk.result?;
        walk.map.end()
    }
}

/// When what an object has was read, where that is another time than its snapshot's.
fn put_own_times<M: SerializeMap>(of: Metrics<'_>, map: &mut M) -> Result<(), M::Error> {
    struct Walk<'a, 'm, M: SerializeMap> {
        of: Metrics<'a>,
        map: &'m mut M,
        result: Result<(), M::Error>,
    }
    impl<M: SerializeMap> ForEachEntity for Walk<'_, '_, M> {
        fn entity<E: Entity>(&mut self) {
            let (Some(key), true) = (E::OWN_TIME, self.result.is_ok()) else { return };
            let data = match (E::SCOPE, self.of) {
                (Scope::Host, Metrics::Host(snapshot)) => E::each(snapshot).next().map(|(_, data)| data),
                (Scope::Vm, Metrics::Vm(vm)) => E::of_vm(vm).next(),
                _ => None,
            };
            if let Some(at_unix_ns) = data.and_then(E::read_unix_ns) {
                self.result = self.map.serialize_entry(key, &at_unix_ns);
            }
        }
    }
    let mut walk = Walk { of, map, result: Ok(()) };
    for_each_entity(&mut walk);
    walk.result
}

/// Who had the CPUs while a VM's vCPUs waited for one.
struct Occupants<'a>(&'a [Share]);

impl Serialize for Occupants<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|share| OccupantJson {
            kind: share.occupant.kind.key(),
            name: share.occupant.name.as_deref(),
            id: share.occupant.id.as_deref(),
            ns: share.ns,
        }))
    }
}

#[derive(Serialize)]
struct OccupantJson<'a> {
    kind: &'static str,
    name: Option<&'a str>,
    id: Option<&'a str>,
    ns: u64,
}

/// What of a snapshot ended.
struct AllEnded<'a>(&'a Document<'a>);

impl Serialize for AllEnded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Document { now, before } = self.0;
        let last = now.ended_vcpus();
        let mut list = serializer.serialize_seq(Some(now.ended.len()))?;
        for (ended, vm) in now.ended.iter().zip(&last.vms) {
            let Some(vcpu) = vm.vcpus.first() else { continue };
            let before = before.and_then(|before| vcpu_before(ended, before));
            list.serialize_element(&EndedObject { ended, vm, vcpu, before })?;
        }
        list.end()
    }
}

fn vcpu_before<'a>(ended: &Ended, before: &'a Snapshot) -> Option<&'a Vcpu> {
    let vm = before.vms.iter().find(|vm| vm.id == ended.vm_id)?;
    vm.vcpus_by_index().find(|vcpu| vcpu.id == ended.id && vcpu.index == ended.index)
}

struct EndedObject<'a> {
    ended: &'a Ended,
    /// As it was at last, as far as that is known, with the vCPU alone.
    vm: &'a Vm,
    vcpu: &'a Vcpu,
    before: Option<&'a Vcpu>,
}

impl Serialize for EndedObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { ended, vm, vcpu, before } = *self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("attributes", &Attributes::<VcpuEntity> { vm, data: vcpu, known: &[] })?;
        map.serialize_entry("vm_gone", &ended.vm_gone)?;
        put_thread(&mut map, vcpu)?;
        map.serialize_entry("starts_unix_ns", &Starts::<VcpuEntity> { vm, data: vcpu, is_part: false })?;
        // Its details ended with its slot.
        map.serialize_entry("metrics", &Values::<VcpuEntity> { data: vcpu, details: &[] })?;
        if let Some(before) = before {
            // What the sampler counts stands as in the snapshot before: the last part of it is not known.
            let added = Added::<VcpuEntity> {
                data: vcpu,
                before: Before::Had(before),
                details: &[],
                is_known: |start| !start.is_of_sampler(),
            };
            map.serialize_entry("interval", &added)?;
        }
        map.end()
    }
}
