//! The ring of lifecycle events.

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use sampler_ebpf::abi::Event;

use super::MapError;

pub(super) fn open(ebpf: &mut Ebpf, name: &'static str) -> Result<RingBuf<MapData>, MapError> {
    let map = ebpf.take_map(name).ok_or(MapError::Missing(name))?;
    RingBuf::try_from(map).map_err(|_| MapError::Missing(name))
}

/// Records of another length than [`Event`] do not exist: one type travels here, checked by its size.
pub(super) fn drain(ring: &mut RingBuf<MapData>, mut each: impl FnMut(Event)) {
    while let Some(item) = ring.next() {
        if let Some(event) = decode(&item) {
            each(event);
        }
    }
}

fn decode(bytes: &[u8]) -> Option<Event> {
    let bytes: &[u8; size_of::<Event>()] = bytes.try_into().ok()?;
    let u32_at = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    Some(Event {
        kind: u32_at(std::mem::offset_of!(Event, kind))?,
        tid: u32_at(std::mem::offset_of!(Event, tid))?,
        tgid: u32_at(std::mem::offset_of!(Event, tgid))?,
        vcpu_id: u32_at(std::mem::offset_of!(Event, vcpu_id))?,
        task: u64_at(std::mem::offset_of!(Event, task))?,
        kvm: u64_at(std::mem::offset_of!(Event, kvm))?,
        start_time_ns: u64_at(std::mem::offset_of!(Event, start_time_ns))?,
        start_boottime_ns: u64_at(std::mem::offset_of!(Event, start_boottime_ns))?,
        leader_start_boottime_ns: u64_at(std::mem::offset_of!(Event, leader_start_boottime_ns))?,
        comm: bytes.get(std::mem::offset_of!(Event, comm)..)?.get(..16)?.try_into().ok()?,
    })
}
